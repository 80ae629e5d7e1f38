/*
 * test_intake.c - taking packages apart through the real sandbox-packer: what is on
 * the disk afterwards, what the answer says, and that hostile packages leave nothing
 * outside the staging folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>

#include "../../libskillbox/limits.h"
#include "../../sandbox-helper/sys.h"
#include "packer_peer.h"

#define ZIP_MAX (4 << 20)

static peer_t peer;

static struct {
    char top[64];
    int topfd, staging, package, answer;
    packer_report_t report;
    char *text;
    json_t *json;
} in;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int make_writable(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return flag == FTW_D ? chmod(path, 0700) : 0;
}

static void make_folders(void)
{
    memset(&in, 0, sizeof(in));
    snprintf(in.top, sizeof(in.top), "/tmp/sbintake.XXXXXX");
    assert_non_null(mkdtemp(in.top));
    in.topfd = open(in.top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(in.topfd, "staging", 0700), 0);
    in.staging = openat(in.topfd, "staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    in.package = memfd_create("package", MFD_CLOEXEC);
    in.answer = memfd_create("answer", MFD_CLOEXEC);
    assert_true(in.staging >= 0 && in.package >= 0 && in.answer >= 0);
}

static void remove_folders(void)
{
    close(in.topfd);
    close(in.staging);
    close(in.package);
    close(in.answer);
    json_decref(in.json);
    free(in.text);
    assert_int_equal(nftw(in.top, make_writable, 16, FTW_PHYS), 0);
    assert_int_equal(nftw(in.top, remove_one, 16, FTW_PHYS | FTW_DEPTH), 0);
}

static int set_up(void **state)
{
    make_folders();
    peer_start(&peer, NULL);
    return 0;
}

static int tear_down(void **state)
{
    peer_stop(&peer);
    remove_folders();
    return 0;
}

/* ---- zips ---- */

typedef struct {
    const char *name;
    const char *data; /* of a symlink: its target */
    mode_t mode;      /* 0: 0644 regular */
} entry_t;

static size_t make_zip(const entry_t *entries, size_t n, char *out)
{
    struct archive *zip = archive_write_new();
    size_t used = 0;

    assert_int_equal(archive_write_set_format_zip(zip), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(zip, out, ZIP_MAX, &used), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        struct archive_entry *e = archive_entry_new();
        mode_t mode = entries[i].mode != 0 ? entries[i].mode : S_IFREG | 0644;

        archive_entry_set_pathname(e, entries[i].name);
        archive_entry_set_mode(e, mode);
        if (S_ISLNK(mode)) {
            archive_entry_set_symlink(e, entries[i].data);
        } else {
            archive_entry_set_size(e, (la_int64_t)strlen(entries[i].data));
        }
        assert_int_equal(archive_write_header(zip, e), ARCHIVE_OK);
        if (!S_ISLNK(mode)) {
            archive_write_data(zip, entries[i].data, strlen(entries[i].data));
        }
        archive_entry_free(e);
    }
    assert_int_equal(archive_write_free(zip), ARCHIVE_OK);
    return used;
}

static void upload(const void *data, size_t len)
{
    assert_int_equal(sys_write_all(in.package, data, len), 0);
}

static void upload_zip(const entry_t *entries, size_t n)
{
    char *zip = malloc(ZIP_MAX);

    assert_non_null(zip);
    upload(zip, make_zip(entries, n, zip));
    free(zip);
}

/* ---- the child ---- */

static int intake(const char *content_type)
{
    stage_request_t request = {.kind = STAGE_INTAKE, .package_max = SB_PACKAGE_UNPACKED_MAX};
    const int fds[] = {in.package, in.staging, in.answer};
    peer_child_t child;
    struct stat st;
    int wstatus;

    snprintf(request.content_type, sizeof(request.content_type), "%s", content_type);
    peer_spawn(&peer, &request, fds, 3, &child);
    assert_int_equal(peer_receive(child.status, &in.report, sizeof(in.report)), sizeof(in.report));
    wstatus = peer_reap(&peer, &child);
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 0);
    assert_int_equal(in.report.magic, STAGE_MAGIC);
    assert_int_equal(fstat(in.answer, &st), 0);
    assert_int_equal(st.st_size, in.report.answer_len);
    in.text = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(pread(in.answer, in.text, (size_t)st.st_size, 0), st.st_size);
    in.json = json_loads(in.text, 0, NULL);
    return in.report.http_status;
}

static const char *str(const char *key)
{
    assert_non_null(in.json);
    return json_string_value(json_object_get(in.json, key));
}

static void assert_mode(const char *path, mode_t expected)
{
    struct stat st;

    assert_int_equal(fstatat(in.staging, path, &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, expected);
}

static void assert_content(const char *path, const char *expected)
{
    char got[256] = "";
    int fd = openat(in.staging, path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(read(fd, got, sizeof(got) - 1) >= 0);
    close(fd);
    assert_string_equal(got, expected);
}

#define SKILL_MD "---\nname: probe\ndescription: A probe.\nversion: 2.0.1\n---\nDo *this*.\n"

static const entry_t good[] = {
    {"probe/SKILL.md", SKILL_MD, 0},
    {"probe/main.py", "print('hi')\n", 0},
    {"probe/scripts/run.sh", "#!/bin/bash\necho hi\n", S_IFREG | 04775},
    {"probe/assets/deep/er/data.txt", "data", S_IFREG | 0600},
    {"probe/latest.txt", "assets/deep/er/data.txt", S_IFLNK | 0777},
    {"probe/h\xc3\xa9.txt", "caf\xc3\xa9", 0},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void assert_accepted(void)
{
    if (in.report.http_status != 200) {
        fail_msg("refused: %d %s %s", in.report.http_status, in.report.text, in.text);
    }
    assert_int_equal(strlen(in.report.digest), 64);
    assert_string_equal(str("digest"), in.report.digest);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(in.json, "manifest"), "name")), "probe");
}

static void a_package_becomes_a_read_only_tree(void **state)
{
    upload_zip(good, COUNT(good));
    intake("application/zip");
    assert_accepted();
    assert_content("tree/main.py", "print('hi')\n");
    assert_content("tree/assets/deep/er/data.txt", "data");
    assert_content("tree/h\xc3\xa9.txt", "caf\xc3\xa9");
    assert_content("instructions", "Do *this*.\n");
    assert_mode("tree", S_IFDIR | 0555);
    assert_mode("tree/assets", S_IFDIR | 0555);
    assert_mode("tree/assets/deep", S_IFDIR | 0555);
    assert_mode("tree/assets/deep/er", S_IFDIR | 0555);
    assert_mode("tree/scripts", S_IFDIR | 0555);
    assert_mode("tree/SKILL.md", S_IFREG | 0444);
    assert_mode("tree/assets/deep/er/data.txt", S_IFREG | 0444);
    assert_mode("tree/scripts/run.sh", S_IFREG | 0555); /* no set-user-id */
    assert_mode("tree/latest.txt", S_IFLNK | 0777);
    assert_mode("instructions", S_IFREG | 0444);
}

static void multipart_is_taken_apart(void **state)
{
    static const char head[] =
        "--XyZ\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n"
        "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; "
        "filename=\"../../evil.zip\"\r\nContent-Type: text/html\r\n\r\n";
    static const char tail[] = "\r\n--XyZ--\r\n";
    char *zip = malloc(ZIP_MAX), digest[65];
    size_t len = make_zip(good, COUNT(good), zip);

    upload(head, sizeof(head) - 1);
    upload(zip, len);
    upload(tail, sizeof(tail) - 1);
    intake("multipart/form-data; boundary=XyZ");
    assert_accepted();
    memcpy(digest, in.report.digest, sizeof(digest));
    remove_folders();
    make_folders();
    upload(zip, len);
    free(zip);
    intake("application/octet-stream");
    assert_accepted();
    assert_string_equal(in.report.digest, digest);
}

static void assert_refused(const char *content_type, const char *slug)
{
    int status = intake(content_type);

    assert_true(status == 400 || status == 413 || status == 422);
    assert_string_equal(str("error"), slug);
    assert_true(strlen(str("message")) > 0);
    assert_string_equal(in.report.digest, "");
    assert_int_equal(faccessat(in.staging, "instructions", F_OK, 0), -1);
    remove_folders();
    make_folders();
}

static void bodies_that_are_no_package_are_refused(void **state)
{
    assert_refused("application/zip", "invalid_skill"); /* empty */
    upload("this is no zip", 14);
    assert_refused("application/zip", "invalid_skill");
    upload("--a\r\n\r\nx", 8);
    assert_refused("multipart/form-data; boundary=a", "bad_request");
    upload("PK\5\6", 4);
    assert_refused("multipart/form-data", "bad_request");
}

static void hostile_entries_are_refused_and_nothing_gets_out(void **state)
{
    static const entry_t cases[][2] = {
        {{"SKILL.md", SKILL_MD, 0}, {"../escaped", "x", 0}},
        {{"SKILL.md", SKILL_MD, 0}, {"a/../../../escaped", "x", 0}},
        {{"SKILL.md", SKILL_MD, 0}, {"/tmp/sbintake-escaped", "x", 0}},
        {{"SKILL.md", SKILL_MD, 0}, {"link", "/etc/passwd", S_IFLNK | 0777}},
        {{"SKILL.md", SKILL_MD, 0}, {"link", "../..", S_IFLNK | 0777}},
        {{"SKILL.md", SKILL_MD, 0}, {"back\\slash", "x", 0}},
        {{"SKILL.md", SKILL_MD, 0}, {"skill.MD", "twin", 0}},
        {{"SKILL.md", "no frontmatter", 0}, {"main.py", "x", 0}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        upload_zip(cases[i], 2);
        assert_refused("application/zip", "invalid_skill");
        assert_int_equal(access("/tmp/sbintake-escaped", F_OK), -1);
        assert_int_equal(access("/tmp/escaped", F_OK), -1);
        assert_int_equal(faccessat(in.topfd, "escaped", F_OK, 0), -1);
    }
}

static void every_finding_is_listed(void **state)
{
    static const entry_t bad[] = {{"SKILL.md", "---\nname: probe\ntimeout: soon\n---\n", 0},
                                  {"../a", "x", 0},
                                  {"../b", "x", 0}};

    upload_zip(bad, COUNT(bad));
    assert_int_equal(intake("application/zip"), 400);
    assert_true(json_array_size(json_object_get(in.json, "details")) >= 2);
    assert_non_null(json_string_value(
        json_object_get(json_array_get(json_object_get(in.json, "details"), 0), "message")));
}

static void the_operator_s_size_limit_holds(void **state)
{
    char *zeros = calloc(1, SB_MIB + 1);
    entry_t big[] = {{"SKILL.md", SKILL_MD, 0}, {"a.txt", zeros, 0}};
    stage_request_t request = {.kind = STAGE_INTAKE, .package_max = SB_MIB};
    const int fds[] = {in.package, in.staging, in.answer};
    peer_child_t child;

    memset(zeros, 'a', SB_MIB);
    upload_zip(big, 2);
    free(zeros);
    snprintf(request.content_type, sizeof(request.content_type), "application/zip");
    peer_spawn(&peer, &request, fds, 3, &child);
    assert_int_equal(peer_receive(child.status, &in.report, sizeof(in.report)), sizeof(in.report));
    peer_reap(&peer, &child);
    assert_int_equal(in.report.http_status, 413);
}

static void long_instructions_are_not_handed_to_scripts(void **state)
{
    size_t head = strlen(SKILL_MD), len = head + 121 * 1024;
    char *text = malloc(len + 1);
    entry_t files[] = {{"SKILL.md", text, 0}, {"main.py", "", 0}};

    memset(text, 'x', len);
    memcpy(text, SKILL_MD, head);
    text[len] = '\0';
    upload_zip(files, 2);
    free(text);
    intake("application/zip");
    assert_accepted();
    assert_content("instructions", "");
    assert_true(in.report.answer_len > 121 * 1024); /* the catalogue has them */
}

static void five_hundred_files_are_fine(void **state)
{
    static char names[499][64];
    static entry_t many[500];

    many[0] = (entry_t){"SKILL.md", SKILL_MD, 0};
    for (size_t i = 0; i < 499; i++) {
        snprintf(names[i], sizeof(names[i]), "d%zu/e%zu/file%zu.txt", i % 7, i % 11, i);
        many[i + 1] = (entry_t){names[i], names[i], 0};
    }
    upload_zip(many, 400);
    intake("application/zip");
    assert_accepted();
    assert_content("tree/d6/e10/file384.txt", "d6/e10/file384.txt");
    assert_mode("tree/d6/e10", S_IFDIR | 0555);
    assert_mode("tree/d6", S_IFDIR | 0555);
}

static void a_staging_folder_that_can_not_be_written_is_our_fault(void **state)
{
    upload_zip(good, COUNT(good));
    assert_int_equal(mkdirat(in.staging, "tree", 0700), 0);
    assert_int_equal(intake("application/zip"), 500);
    assert_non_null(strstr(in.report.text, "staging folder"));
    assert_int_equal(in.report.answer_len, 0);
}

static void a_request_without_descriptors_ends_the_child(void **state)
{
    stage_request_t request = {.kind = STAGE_INTAKE};
    peer_child_t child;
    int wstatus;

    peer_spawn(&peer, &request, NULL, 0, &child);
    wstatus = peer_reap(&peer, &child);
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 125);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* ---- examining only, and reading what was unpacked ---- */

static void what_is_only_examined_is_not_made_durable(void **state)
{
    stage_request_t request = {
        .kind = STAGE_INTAKE, .package_max = SB_PACKAGE_UNPACKED_MAX, .check_only = 1};
    const int fds[] = {in.package, in.staging, in.answer};
    peer_child_t child;

    upload_zip(good, COUNT(good));
    snprintf(request.content_type, sizeof(request.content_type), "application/zip");
    peer_spawn(&peer, &request, fds, 3, &child);
    assert_int_equal(peer_receive(child.status, &in.report, sizeof(in.report)), sizeof(in.report));
    assert_int_equal(peer_reap(&peer, &child), 0);
    assert_int_equal(in.report.http_status, 200);
    assert_int_equal(strlen(in.report.digest), 64);
    assert_int_equal(faccessat(in.staging, "instructions", F_OK, 0), -1);
}

/* STAGE_READ of what intake() has unpacked; the status, in.json is the answer. */
static int read_package(const char *path)
{
    stage_request_t request = {.kind = STAGE_READ};
    int tree = openat(in.staging, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int answer = memfd_create("answer", MFD_CLOEXEC);
    const int fds[] = {tree, answer};
    peer_child_t child;

    assert_true(tree >= 0 && answer >= 0);
    snprintf(request.target, sizeof(request.target), "%s", path);
    peer_spawn(&peer, &request, fds, 2, &child);
    assert_int_equal(peer_receive(child.status, &in.report, sizeof(in.report)), sizeof(in.report));
    assert_int_equal(peer_reap(&peer, &child), 0);
    json_decref(in.json);
    free(in.text);
    in.text = calloc(1, in.report.answer_len + 1);
    assert_int_equal(pread(answer, in.text, in.report.answer_len, 0), in.report.answer_len);
    in.json = json_loads(in.text, 0, NULL);
    close(tree);
    close(answer);
    if (in.report.http_status == 500) {
        fail_msg("%s", in.report.text);
    }
    return in.report.http_status;
}

static const char *member(size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(in.json, i), key));
}

static void a_package_is_read_sorted_and_whole(void **state)
{
    upload_zip(good, COUNT(good));
    intake("application/zip");
    assert_accepted();
    assert_int_equal(read_package(""), 200);
    assert_int_equal(json_array_size(in.json), 6);
    assert_string_equal(member(0, "path"), "SKILL.md");
    assert_string_equal(member(0, "content"), SKILL_MD);
    assert_string_equal(member(1, "path"), "assets/deep/er/data.txt");
    assert_string_equal(member(2, "content"), "caf\xc3\xa9");
    assert_string_equal(member(3, "path"), "latest.txt");
    assert_string_equal(member(3, "content"), "");
    assert_string_equal(member(3, "link"), "assets/deep/er/data.txt");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(in.json, 4), "size_bytes")),
                     strlen("print('hi')\n"));
}

static void one_file_is_read_by_its_path(void **state)
{
    upload_zip(good, COUNT(good));
    intake("application/zip");
    assert_int_equal(read_package("scripts/run.sh"), 200);
    assert_int_equal(json_array_size(in.json), 1);
    assert_string_equal(member(0, "content"), "#!/bin/bash\necho hi\n");
    assert_int_equal(read_package("scripts"), 404);
    assert_int_equal(read_package("../instructions"), 404);
    assert_int_equal(read_package("/etc/passwd"), 404);
    assert_string_equal(str("error"), "not_found");
}

/* Puts a file into the tree behind the intake's back, as large as one can be. */
static void grow(const char *path, const void *data, size_t len, size_t times)
{
    int fd;

    assert_int_equal(fchmodat(in.staging, "tree", 0700, 0), 0);
    fd = openat(in.staging, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < times; i++) {
        assert_int_equal(sys_write_all(fd, data, len), 0);
    }
    close(fd);
}

static void binary_is_base64_and_too_much_is_left_out(void **state)
{
    static char chunk[1 << 20];

    upload_zip(good, COUNT(good));
    intake("application/zip");
    grow("tree/bin", "\0\xff\x01", 3, 1);
    assert_int_equal(read_package("bin"), 200);
    assert_string_equal(member(0, "content"), "AP8B");
    assert_string_equal(member(0, "encoding"), "base64");

    memset(chunk, 1, sizeof(chunk)); /* six bytes each, when escaped */
    grow("tree/bin", chunk, sizeof(chunk), 4);
    assert_int_equal(read_package(""), 200);
    assert_string_equal(member(2, "path"), "bin");
    assert_true(json_is_true(json_object_get(json_array_get(in.json, 2), "truncated")));
    assert_string_equal(member(2, "content"), "");
    assert_string_equal(member(5, "content"), "print('hi')\n"); /* those behind it are there */

    grow("tree/bin", chunk, sizeof(chunk), 9);
    assert_int_equal(read_package("bin"), 413);
    assert_int_equal(read_package("main.py"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_package_becomes_a_read_only_tree),
        T(binary_is_base64_and_too_much_is_left_out),
        T(one_file_is_read_by_its_path),
        T(a_package_is_read_sorted_and_whole),
        T(what_is_only_examined_is_not_made_durable),
        T(multipart_is_taken_apart),
        T(bodies_that_are_no_package_are_refused),
        T(hostile_entries_are_refused_and_nothing_gets_out),
        T(every_finding_is_listed),
        T(the_operator_s_size_limit_holds),
        T(long_instructions_are_not_handed_to_scripts),
        T(five_hundred_files_are_fine),
        T(a_staging_folder_that_can_not_be_written_is_our_fault),
        T(a_request_without_descriptors_ends_the_child),
    };

    setlocale(LC_CTYPE, "C.UTF-8"); /* for libarchive's names */
    peer_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
