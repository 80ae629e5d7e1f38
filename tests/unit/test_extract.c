/* test_extract.c - one file out of an archive of artifacts, whatever the archive is. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "../../sandbox-helper/sys.h"
#include "packer_peer.h"

typedef struct {
    const char *name, *data; /* of a link: its target */
    mode_t type;             /* 0: a regular file */
} entry_t;

static peer_t peer;

static struct {
    int archive, out, answer;
    packer_report_t report;
    char text[4096], content[4096];
} ex;

static int set_up(void **state)
{
    memset(&ex, 0, sizeof(ex));
    ex.archive = memfd_create("archive", MFD_CLOEXEC);
    ex.out = memfd_create("out", MFD_CLOEXEC);
    ex.answer = memfd_create("answer", MFD_CLOEXEC);
    assert_true(ex.archive >= 0 && ex.out >= 0 && ex.answer >= 0);
    peer_start(&peer, NULL);
    return 0;
}

static int tear_down(void **state)
{
    peer_stop(&peer);
    close(ex.archive);
    close(ex.out);
    close(ex.answer);
    return 0;
}

static void write_entry(struct archive *tar, const entry_t *entry)
{
    struct archive_entry *e = archive_entry_new();

    archive_entry_set_pathname(e, entry->name);
    archive_entry_set_filetype(e, entry->type != 0 ? entry->type : AE_IFREG);
    archive_entry_set_perm(e, 0644);
    if (entry->type == AE_IFLNK)
        archive_entry_set_symlink(e, entry->data);
    else
        archive_entry_set_size(e, entry->type == 0 ? (la_int64_t)strlen(entry->data) : 0);
    assert_int_equal(archive_write_header(tar, e), ARCHIVE_OK);
    if (entry->type == 0 && entry->data[0] != '\0')
        archive_write_data(tar, entry->data, strlen(entry->data));
    archive_entry_free(e);
}

static void make_archive(const entry_t *entries, size_t n)
{
    struct archive *tar = archive_write_new();

    assert_int_equal(archive_write_set_format_pax_restricted(tar), ARCHIVE_OK);
    assert_int_equal(archive_write_add_filter_gzip(tar), ARCHIVE_OK);
    assert_int_equal(archive_write_open_fd(tar, ex.archive), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++)
        write_entry(tar, &entries[i]);
    assert_int_equal(archive_write_free(tar), ARCHIVE_OK);
}

/* The status; ex.text is the answer, ex.content what was written. */
static int extract(const char *path)
{
    stage_request_t request = {.kind = STAGE_EXTRACT};
    const int fds[] = {ex.archive, ex.out, ex.answer};
    peer_child_t child;
    ssize_t n;

    assert_int_equal(lseek(ex.archive, 0, SEEK_SET), 0);
    snprintf(request.target, sizeof(request.target), "%s", path);
    peer_spawn(&peer, &request, fds, 3, &child);
    assert_int_equal(peer_receive(child.status, &ex.report, sizeof(ex.report)), sizeof(ex.report));
    assert_int_equal(peer_reap(&peer, &child), 0);
    assert_int_equal(ex.report.magic, STAGE_MAGIC);
    n = pread(ex.answer, ex.text, sizeof(ex.text) - 1, 0);
    assert_int_equal(n, ex.report.answer_len);
    ex.text[n] = '\0';
    n = pread(ex.out, ex.content, sizeof(ex.content) - 1, 0);
    assert_true(n >= 0);
    ex.content[n] = '\0';
    return ex.report.http_status;
}

static const entry_t good[] = {
    {"a.txt", "content of a", 0},
    {"deep/er/\xc3\xa4 \"b\".csv", "x,y\n", 0},
    {"empty", "", 0},
    {"z", "the last", 0},
};

static void the_file_of_that_path_is_written_and_no_other(void **state)
{
    make_archive(good, COUNT(good));
    assert_int_equal(extract("deep/er/\xc3\xa4 \"b\".csv"), 200);
    assert_string_equal(ex.content, "x,y\n");
    assert_string_equal(ex.text, "{\"size_bytes\":4}");
}

static void an_empty_file_is_one_too(void **state)
{
    make_archive(good, COUNT(good));
    assert_int_equal(extract("empty"), 200);
    assert_string_equal(ex.content, "");
    assert_string_equal(ex.text, "{\"size_bytes\":0}");
}

static void another_path_is_not_found(void **state)
{
    make_archive(good, COUNT(good));
    assert_int_equal(extract("deep/er"), 404);
    assert_non_null(strstr(ex.text, "\"error\":\"not_found\""));
    assert_string_equal(ex.content, "");
}

/* An archive of ours has none; whoever could have put another in its place could not get out. */
static void only_regular_files_count(void **state)
{
    const entry_t odd[] = {{"a", "/etc/passwd", AE_IFLNK}, {"a", "", AE_IFIFO}, {"b", "b", 0}};

    make_archive(odd, COUNT(odd));
    assert_int_equal(extract("a"), 404);
    assert_string_equal(ex.content, "");
}

static void no_more_entries_are_looked_at_than_an_archive_may_have(void **state)
{
    entry_t *many = calloc(SB_ARTIFACT_FILES_MAX + 1, sizeof(*many));

    assert_non_null(many);
    for (int i = 0; i < SB_ARTIFACT_FILES_MAX; i++)
        many[i] = (entry_t){"x", "", 0};
    many[SB_ARTIFACT_FILES_MAX] = (entry_t){"last", "l", 0};
    make_archive(many, SB_ARTIFACT_FILES_MAX + 1);
    free(many);
    assert_int_equal(extract("last"), 404);
}

static void what_is_no_archive_is_said_to_be_broken(void **state)
{
    assert_int_equal(sys_write_all(ex.archive, "this is no archive at all, it is text", 37), 0);
    assert_int_equal(extract("a.txt"), 500);
    assert_string_not_equal(ex.report.text, "");
}

static void one_that_is_cut_off_gives_no_half_file(void **state)
{
    struct stat st;
    entry_t large = {"large", NULL, 0};
    char *data = malloc(200001);

    assert_non_null(data);
    for (uint32_t i = 0, x = 1; i < 200000; i++) { /* does not shrink */
        x = x * 1664525 + 1013904223;
        data[i] = (char)('!' + (x >> 24) % 90);
    }
    data[200000] = '\0';
    large.data = data;
    make_archive(&large, 1);
    free(data);
    assert_int_equal(fstat(ex.archive, &st), 0);
    assert_int_equal(ftruncate(ex.archive, st.st_size / 2), 0);
    assert_int_equal(extract("large"), 500);
    assert_int_equal(ex.report.answer_len, 0);
}

static void garbage_anywhere_ends_the_child_and_nothing_else(void **state)
{
    unsigned char byte;
    struct stat st;

    make_archive(good, COUNT(good));
    assert_int_equal(fstat(ex.archive, &st), 0);
    for (off_t at = 0; at < st.st_size; at += 7) {
        assert_int_equal(pread(ex.archive, &byte, 1, at), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(ex.archive, &byte, 1, at), 1);
        assert_int_equal(ftruncate(ex.out, 0), 0);
        assert_int_equal(ftruncate(ex.answer, 0), 0);
        assert_int_equal(lseek(ex.out, 0, SEEK_SET), 0);
        assert_int_equal(lseek(ex.answer, 0, SEEK_SET), 0);
        int status = extract("z");
        assert_true(status == 200 || status == 404 || status == 500);
        byte ^= 0x55;
        assert_int_equal(pwrite(ex.archive, &byte, 1, at), 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_file_of_that_path_is_written_and_no_other),
        TEST(an_empty_file_is_one_too),
        TEST(another_path_is_not_found),
        TEST(only_regular_files_count),
        TEST(no_more_entries_are_looked_at_than_an_archive_may_have),
        TEST(what_is_no_archive_is_said_to_be_broken),
        TEST(one_that_is_cut_off_gives_no_half_file),
        TEST(garbage_anywhere_ends_the_child_and_nothing_else),
    };

    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        return 1;
    peer_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
