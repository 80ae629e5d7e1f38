/*
 * test_package.c - what a package may hold, zips that lie, and that nothing is
 * written outside of the folder it is unpacked to.
 */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "../../libskillbox/names.h"
#include "../../libskillbox/package.h"
#include "zipmake.h"

#define SKILL "---\nname: a\ndescription: d\n---\n"
#define SKILLMD                                                                                    \
    {                                                                                              \
        .name = "SKILL.md", .data = SKILL, .mode = S_IFREG | 0644                                  \
    }
#define FILE_(n)                                                                                   \
    {                                                                                              \
        .name = (n), .data = "x", .mode = S_IFREG | 0644                                           \
    }
#define LINK(n, target)                                                                            \
    {                                                                                              \
        .name = (n), .data = (target), .mode = S_IFLNK | 0777                                      \
    }

typedef struct {
    sb_package_t p;
    sb_err_t err;
    sb_code_t rc;
    char list[4096]; /* "code path; code path": the errors */
} result_t;

static void render(result_t *r)
{
    size_t used = 0;

    r->list[0] = '\0';
    for (size_t i = 0; i < r->p.findings.count && used < sizeof(r->list); i++) {
        const sb_finding_t *f = &r->p.findings.items[i];
        if (f->severity == SB_FINDING_ERROR) {
            used += (size_t)snprintf(r->list + used, sizeof(r->list) - used, "%s%s %s",
                                     used > 0 ? "; " : "", f->code, f->path);
        }
    }
    assert_int_equal(r->rc == SB_OK, r->p.findings.errors == 0);
    assert_int_equal(strlen(r->p.digest), r->rc == SB_OK ? 64 : 0);
}

static void unpack_limited(result_t *r, const void *zip, size_t len, int dirfd,
                           const sb_package_limits_t *limits)
{
    /* in a block of exactly that size, so that a sanitizer sees every read too far */
    void *exact = malloc(len > 0 ? len : 1);

    assert_non_null(exact);
    memcpy(exact, zip, len);
    memset(r, 0, sizeof(*r));
    r->rc = sb_package_unpack(exact, len, dirfd, limits, &r->p, &r->err);
    free(exact);
    render(r);
}

static void unpack(result_t *r, const zm_zip_t *z)
{
    unpack_limited(r, z->data, z->len, -1, NULL);
}

static void done(result_t *r)
{
    sb_package_free(&r->p);
}

/* SKILL.md and these entries: are exactly these errors found? */
static void check(const zm_entry_t *more, size_t n, const char *errors)
{
    zm_entry_t entries[8] = {SKILLMD};
    zm_zip_t z;
    result_t r;

    assert_true(n < COUNT(entries));
    memcpy(entries + 1, more, n * sizeof(*more));
    zm_make(&z, entries, n + 1);
    unpack(&r, &z);
    assert_string_equal(r.list, errors);
    done(&r);
    zm_free(&z);
}

/* ---- folders on disk ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static char temp_path[64];

static int make_temp(void **state)
{
    snprintf(temp_path, sizeof(temp_path), "/tmp/test_package.XXXXXX");
    return mkdtemp(temp_path) == NULL;
}

static int remove_temp(void **state)
{
    return nftw(temp_path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_dir(const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", temp_path, name);
    assert_true(mkdir(path, 0700) == 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void put_file(int dir, const char *name, const char *data, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, strlen(data)), strlen(data));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_file(int dir, const char *path, const char *data, mode_t mode)
{
    char text[256] = "";
    struct stat st;
    int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(data));
    assert_string_equal(text, data);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
    close(fd);
}

static int entries_in(int dir)
{
    DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n - 2;
}

/* ---- what is accepted ---- */

static void test_a_package_is_listed_sorted_and_without_its_top_folder(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "__MACOSX/top/._x", .data = "junk"},
        {.name = "top/", .mode = S_IFDIR | 0755},
        {.name = "top/tool", .data = "#!/bin/bash\n", .mode = S_IFREG | 04755},
        {.name = "top/scripts/", .mode = S_IFDIR | 0755},
        {.name = "./top/scripts/main.py", .data = "print(1)\n", .mode = S_IFREG | 0600},
        {.name = "top/empty/", .mode = S_IFDIR | 0755},
        {.name = "top/SKILL.md", .data = SKILL},
        {.name = "top/.git/config", .data = "x"},
        {.name = "top/a/.DS_Store", .data = "x"},
        {.name = "top/Thumbs.db", .data = "x"},
    };
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, COUNT(entries));
    unpack(&r, &z);
    assert_string_equal(r.list, "");
    assert_int_equal(r.p.nfiles, 3);
    assert_string_equal(r.p.files[0].path, "SKILL.md");
    assert_string_equal(r.p.files[1].path, "scripts/main.py");
    assert_int_equal(r.p.files[1].mode, 0644);
    assert_string_equal(r.p.files[1].lang, "python");
    assert_string_equal(r.p.files[2].path, "tool");
    assert_int_equal(r.p.files[2].mode, 0755);
    assert_string_equal(r.p.files[2].lang, "bash");
    assert_int_equal(r.p.total, strlen(SKILL) + 9 + 12);
    assert_string_equal(r.p.manifest.entrypoint, "scripts/main.py");
    assert_int_equal(r.p.findings.count, 1);
    assert_string_equal(r.p.findings.items[0].code, "git-dropped");
    done(&r);
    zm_free(&z);
}

static void test_the_intake_answer(void **state)
{
    const zm_entry_t entries[] = {SKILLMD, FILE_("run.sh"), LINK("x.py", "run.sh")};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, COUNT(entries));
    unpack(&r, &z);
    json_t *o = sb_package_to_json(&r.p);
    json_t *manifest = json_object_get(o, "manifest");
    assert_string_equal(json_string_value(json_object_get(o, "digest")), r.p.digest);
    assert_string_equal(json_string_value(json_object_get(manifest, "entrypoint")), "run.sh");
    assert_int_equal(json_integer_value(json_object_get(o, "size_bytes")), strlen(SKILL) + 1 + 6);
    assert_int_equal(json_object_del(o, "manifest"), 0);
    assert_int_equal(json_object_del(o, "digest"), 0);
    char *text = json_dumps(o, JSON_COMPACT);
    assert_string_equal(text, "{\"scripts\":[{\"path\":\"run.sh\",\"lang\":\"bash\"},"
                              "{\"path\":\"x.py\",\"lang\":\"bash\"}],"
                              "\"files\":[{\"path\":\"SKILL.md\",\"size_bytes\":31},"
                              "{\"path\":\"run.sh\",\"size_bytes\":1},"
                              "{\"path\":\"x.py\",\"size_bytes\":6}],"
                              "\"size_bytes\":38,\"findings\":[]}");
    free(text);
    json_decref(o);
    done(&r);
    zm_free(&z);
}

static void test_the_documented_digest(void **state)
{
    /* printf of package.h's form piped through sha256sum, once, by hand */
    const zm_entry_t entries[] = {SKILLMD};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, 1);
    unpack(&r, &z);
    assert_string_equal(r.p.digest,
                        "d3300110bd22996192d902e717fdca6e076f2a5122646476bc66d8e33536d494");
    done(&r);
    zm_free(&z);
}

/* ---- names ---- */

static void test_bad_names_are_refused(void **state)
{
    static const struct {
        const char *name;
        size_t len;
        const char *errors;
    } cases[] = {
        {"../evil", 0, "path-traversal ../evil"},
        {"a/../../evil", 0, "path-traversal a/../../evil"},
        {"a/..", 0, "path-traversal a/.."},
        {"..", 0, "path-traversal .."},
        {"../", 0, "path-traversal .."},
        {"/etc/passwd", 0, "path-absolute /etc/passwd"},
        {"//x", 0, "path-absolute //x"},
        {"C:/x", 0, "path-absolute C:/x"},
        {"a\\..\\b", 0, "path-backslash a\\..\\b"},
        {"\\\\host\\x", 0, "path-backslash \\\\host\\x"},
        {"\xff\xfe", 0, "path-not-utf8 ??"},
        {"a\xc0\xaf", 0, "path-not-utf8 a??"}, /* an overlong '/' */
        {"a\xed\xa0\x80", 0, "path-not-utf8 a???"},
        {"a\nb", 0, "path-invalid a?b"},
        {"a\0b", 3, "path-invalid a"},
        {"a//b", 0, "path-invalid a//b"},
        {"a/./b", 0, "path-invalid a/./b"},
        {"a//", 0, "path-invalid a/"},
        {".", 0, "path-invalid ."},
        {"\x7f", 0, "path-invalid ?"},
        {"...", 0, ""},
        {"a..b/..c", 0, ""},
        {"1:2", 0, ""},
        {"\xc3\xa9/\xe2\x82\xac", 0, ""},
        {"./ok", 0, ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t e = {.name = cases[i].name, .name_len = cases[i].len, .data = "x"};
        check(&e, 1, cases[i].errors);
    }
}

static void test_long_and_deep_names_are_refused(void **state)
{
    char name[600];
    zm_entry_t e = {.name = name, .data = "x"};
    result_t r;

    for (int len = 512; len <= 513; len++) {
        const zm_entry_t both[] = {SKILLMD, e};
        zm_zip_t z;
        memset(name, 'n', (size_t)len);
        name[len] = '\0';
        zm_make(&z, both, 2);
        unpack(&r, &z);
        assert_int_equal(r.p.findings.errors, len == 512 ? 0 : 1);
        assert_true(len == 512 || strncmp(r.list, "path-too-long nnn", 17) == 0);
        done(&r);
        zm_free(&z);
    }
    for (int depth = 32; depth <= 33; depth++) {
        char errors[640];
        for (int i = 0; i < depth; i++) {
            strcpy(name + 2 * i, i < depth - 1 ? "d/" : "d");
        }
        snprintf(errors, sizeof(errors), "path-too-deep %s", name);
        check(&e, 1, depth == 32 ? "" : errors);
    }
}

static void test_twins_are_refused(void **state)
{
    static const struct {
        const char *one, *two, *errors;
    } cases[] = {
        {"a", "a", "path-duplicate a"},
        {"a", "./a", "path-duplicate a"},
        {"Readme", "readme", "path-case-twin readme"},
        {"Lib/a", "lib/b", "path-case-twin lib"},
        {"x/Lib/a", "x/lib", "path-case-twin x/lib"},
        {"\xc3\x89", "\xc3\xa9", "path-case-twin \xc3\xa9"},
        {"\xd0\x96", "\xd0\xb6", "path-case-twin \xd0\xb6"},
        {"\xce\xa3", "\xcf\x83", "path-case-twin \xcf\x83"},
        {"\xc5\xb8", "\xc3\xbf", "path-case-twin \xc5\xb8"},
        {"a", "a/b", "path-conflict a"},
        {"a/b/c", "a/b", "path-conflict a/b"},
        {"skill.md", "x", "path-case-twin skill.md"},
        {"a-", "a/b", ""},
        {"a/b", "a.b", ""},
        {"\xc3\x97", "\xc3\xb7", ""}, /* multiplication and division sign are no pair */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t pair[] = {FILE_(cases[i].one), FILE_(cases[i].two)};
        const zm_entry_t swapped[] = {FILE_(cases[i].two), FILE_(cases[i].one)};
        check(pair, 2, cases[i].errors);
        check(swapped, 2, cases[i].errors);
    }
}

static void test_only_files_folders_and_symlinks(void **state)
{
    static const struct {
        unsigned mode;
        const char *name, *errors;
    } cases[] = {
        {S_IFIFO | 0644, "f", "special-file f"},
        {S_IFCHR | 0644, "f", "special-file f"},
        {S_IFBLK | 0644, "f", "special-file f"},
        {S_IFSOCK | 0644, "f", "special-file f"},
        {S_IFLNK | 0644, "f/", "special-file f"},
        {S_IFREG | 0644, "f/", "special-file f"},
        {S_IFDIR | 0755, "f", "zip-mismatch f"}, /* a folder with content */
        {0, "f/", "zip-mismatch f"},
        {0644, "f", ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t e = {.name = cases[i].name, .data = "x", .mode = cases[i].mode};
        check(&e, 1, cases[i].errors);
    }
}

static void test_hard_links_are_refused(void **state)
{
    /* PKWARE's Unix field: times and ids (12 bytes), then the file linked to */
    const zm_entry_t e = {.name = "l",
                          .data = "x",
                          .extra = "\x0d\x00\x0d\x00"
                                   "............/",
                          .extra_len = 17};

    check(&e, 1, "hard-link l; hard-link l");
}

static void test_symlinks_stay_inside(void **state)
{
    static const struct {
        const char *link, *target, *errors;
    } cases[] = {
        {"l", "d/f", ""},
        {"l", "./d//f", ""},
        {"l", "d", ""},
        {"l", "d/", ""},
        {"d/e/l", "../f", ""},
        {"d/e/l", "../../SKILL.md", ""},
        {"d/l", "e/../f", ""},
        {"l", "/etc/passwd", "symlink l"},
        {"l", "../x", "symlink l"},
        {"d/l", "../../x", "symlink d/l"},
        {"d/l", "../d/../../x", "symlink d/l"},
        {"l", "gone", "symlink l"},
        {"l", "d/f/", "symlink l"},
        {"l", "d/f/../f", "symlink l"},
        {"l", "gone/../d/f", "symlink l"},
        {"l", "l", "symlink l"},
        {"l", ".", "symlink l"},
        {"d/l", "..", "symlink d/l"},
        {"d/l", ".", "symlink d/l"},
        {"d/e/l", "../../d", "symlink d/e/l"},
        {"l", "other", "symlink l"}, /* a symlink itself */
        {"l", "other/f", "symlink l"},
        {"l", "other/../d/f", "symlink l"},
        {"l", "d\\f", "symlink l"},
        {"l", "d/f\n", "symlink l"},
        {"l", "\xff", "symlink l"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t tree[] = {FILE_("d/f"), FILE_("d/e/g"), LINK("other", "d"),
                                   LINK(cases[i].link, cases[i].target)};
        check(tree, 4, cases[i].errors);
    }
    const zm_entry_t empty = {.name = "l", .mode = S_IFLNK | 0777};
    const zm_entry_t nul = {
        .name = "l", .data = "SKILL.md\0/..", .len = 12, .mode = S_IFLNK | 0777};
    const zm_entry_t through[] = {LINK("l", "SKILL.md"), FILE_("l/x")};
    const zm_entry_t skill[] = {LINK("SKILL.md", "x"), FILE_("x")};
    check(&empty, 1, "symlink l");
    check(&nul, 1, "symlink l");
    check(through, 2, "path-conflict l");

    zm_zip_t z;
    result_t r;
    zm_make(&z, skill, 2);
    unpack(&r, &z);
    assert_string_equal(r.list, "skill-md-link SKILL.md");
    done(&r);
    zm_free(&z);
}

/* ---- one skill a package ---- */

static void test_a_package_is_one_skill(void **state)
{
    static const struct {
        const char *names[3];
        const char *errors;
    } cases[] = {
        {{"x"}, "skill-md-missing SKILL.md"},
        {{"skill.md"}, "skill-md-missing SKILL.md"},
        {{"one/SKILL.md", "one/a", "one/two/x"}, ""},
        {{"one/SKILL.md", "two/SKILL.md"}, "skill-nested one/SKILL.md; skill-nested two/SKILL.md"},
        {{"one/SKILL.md", "readme"}, "skill-nested one/SKILL.md"},
        {{"SKILL.md", "two/SKILL.md"}, "skill-nested two/SKILL.md"},
        {{"SKILL.md", "assets/SKILL.md", "a/b/SKILL.md"}, ""},
        {{"SKILL.md", "references/SKILL.md"}, ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        zm_entry_t entries[3];
        size_t n = 0;
        zm_zip_t z;
        result_t r;
        for (; n < 3 && cases[i].names[n] != NULL; n++) {
            entries[n] = (zm_entry_t){.name = cases[i].names[n], .data = SKILL};
        }
        zm_make(&z, entries, n);
        unpack(&r, &z);
        assert_string_equal(r.list, cases[i].errors);
        done(&r);
        zm_free(&z);
    }
}

static void test_everything_wrong_is_listed_at_once(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "SKILL.md", .data = "---\nname: a\ntimeout: x\n---\n"},
        FILE_("../a"),
        FILE_("b"),
        FILE_("B"),
    };
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, COUNT(entries));
    unpack(&r, &z);
    assert_string_equal(r.list, "path-traversal ../a; path-case-twin b; timeout-invalid SKILL.md; "
                                "description-missing SKILL.md");
    assert_int_equal(r.rc, SB_ESKILL);
    assert_string_equal(r.err.message, "../a: the name contains '..' (and 3 more)");
    done(&r);
    zm_free(&z);
}

/* ---- limits ---- */

static void make_many(zm_zip_t *z, size_t files, const char *format)
{
    zm_entry_t *entries = calloc(files, sizeof(*entries));
    char(*names)[32] = calloc(files, sizeof(*names));

    assert_true(entries != NULL && names != NULL);
    entries[0] = (zm_entry_t)SKILLMD;
    for (size_t i = 1; i < files; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%zu%s", format, i, format[0] != '\0' ? "/f" : "");
        entries[i] = (zm_entry_t)FILE_(names[i]);
    }
    zm_make(z, entries, files);
    free(entries);
    free(names);
}

static void test_number_of_entries(void **state)
{
    static const struct {
        size_t files;
        const char *prefix, *errors;
    } cases[] = {
        {500, "", ""},
        {501, "", "too-many-entries "},
        {500, "d/", ""},
        {500, "d", ""},
        {4000, "", "too-many-entries ; too-many-entries "},
        {4001, "", "too-many-entries "}, /* not even looked at */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        zm_zip_t z;
        result_t r;
        make_many(&z, cases[i].files, cases[i].prefix);
        unpack(&r, &z);
        assert_string_equal(r.list, cases[i].errors);
        assert_int_equal(r.rc, cases[i].errors[0] != '\0' ? SB_ESKILL : SB_OK);
        done(&r);
        zm_free(&z);
    }
}

/* A zip made by libarchive: deflated, with sizes and CRC behind the data.  Freed by the caller. */
static void *deflated(const char *name, const void *data, size_t len, size_t *zip_len)
{
    struct archive *a = archive_write_new();
    size_t cap = len + 65536;
    void *zip = malloc(cap);
    const char *names[] = {"SKILL.md", name};
    const void *contents[] = {SKILL, data};
    size_t lengths[] = {strlen(SKILL), len};

    assert_non_null(zip);
    assert_int_equal(archive_write_set_format_zip(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, zip, cap, zip_len), ARCHIVE_OK);
    for (int i = 0; i < 2; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, names[i]);
        archive_entry_set_mode(e, S_IFREG | 0644);
        archive_entry_set_size(e, (int64_t)lengths[i]);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, contents[i], lengths[i]), lengths[i]);
        archive_entry_free(e);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    return zip;
}

static void test_unpacked_size(void **state)
{
    static const struct {
        size_t len;
        int64_t max;
        sb_code_t rc;
        const char *errors;
    } cases[] = {
        {1000, 1031, SB_OK, ""},
        {1000, 1030, SB_ETOOLARGE, "too-large "},
        {50 * 1024 * 1024, 0, SB_ETOOLARGE, "too-large "},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const sb_package_limits_t limits = {.unpacked_max = cases[i].max};
        char *data = malloc(cases[i].len);
        unsigned seed = 1;
        zm_zip_t z;
        result_t r;
        assert_non_null(data);
        for (size_t k = 0; k < cases[i].len; k++) {
            data[k] = (char)((seed = seed * 1103515245 + 12345) >> 24); /* does not compress */
        }
        const zm_entry_t entries[] = {SKILLMD, {.name = "big", .data = data, .len = cases[i].len}};
        zm_make(&z, entries, 2);
        unpack_limited(&r, z.data, z.len, -1, &limits);
        assert_string_equal(r.list, cases[i].errors);
        assert_int_equal(r.rc, cases[i].rc);
        done(&r);
        zm_free(&z);
        free(data);
    }
}

static void test_ratio(void **state)
{
    size_t len = 4 * 1024 * 1024, zip_len;
    char *zeros = calloc(1, len);
    result_t r;

    assert_non_null(zeros);
    void *zip = deflated("zeros", zeros, len, &zip_len);
    assert_true(zip_len * 100 < len);
    unpack_limited(&r, zip, zip_len, -1, NULL);
    assert_string_equal(r.list, "zip-ratio ");
    assert_int_equal(r.rc, SB_ESKILL);
    assert_true(r.p.total < 2 * 1024 * 1024); /* it was noticed on the way, not at the end */
    done(&r);
    free(zip);

    zip = deflated("zeros", zeros, 1024 * 1024 - 64, &zip_len); /* small enough to be harmless */
    unpack_limited(&r, zip, zip_len, -1, NULL);
    assert_string_equal(r.list, "");
    done(&r);
    free(zip);
    free(zeros);
}

static void test_the_headers_sizes_are_not_believed(void **state)
{
    char *zeros = calloc(1, 100000);
    size_t zip_len, at = 0;
    result_t r;

    assert_non_null(zeros);
    unsigned char *zip = deflated("zeros", zeros, 100000, &zip_len);
    for (size_t i = 0; i + 4 < zip_len; i++) {
        if (memcmp(zip + i, "PK\x01\x02", 4) == 0) {
            at = i; /* the last central record: zeros */
        }
    }
    zip[at + 24] = 100; /* says that it unpacks to 100 bytes */
    zip[at + 25] = zip[at + 26] = 0;
    unpack_limited(&r, zip, zip_len, -1, NULL);
    assert_int_equal(r.rc, SB_ESKILL);
    assert_true(strstr(r.list, "zeros") != NULL);
    done(&r);
    free(zip);
    free(zeros);
}

/* ---- the container ---- */

typedef void (*lie_t)(zm_zip_t *z);

static void lie_encrypted(zm_zip_t *z)
{
    zm_put16(z, z->local[1] + 6, 1);
    zm_put16(z, z->central[1] + 8, 1);
}
static void lie_encrypted_in_one(zm_zip_t *z)
{
    zm_put16(z, z->local[1] + 6, 1);
}
static void lie_strong(zm_zip_t *z)
{
    zm_put16(z, z->central[1] + 8, 0x2000);
}
static void lie_method(zm_zip_t *z)
{
    zm_put16(z, z->local[1] + 8, 12);
    zm_put16(z, z->central[1] + 10, 12);
}
static void lie_method_in_one(zm_zip_t *z)
{
    zm_put16(z, z->central[1] + 10, 8);
}
static void lie_stored_sizes(zm_zip_t *z)
{
    zm_put32(z, z->local[1] + 22, 5);
    zm_put32(z, z->central[1] + 24, 5);
}
static void lie_local_size(zm_zip_t *z)
{
    zm_put32(z, z->local[1] + 22, 5);
}
static void lie_local_crc(zm_zip_t *z)
{
    zm_put32(z, z->local[1] + 14, 5);
}
static void lie_both_crc(zm_zip_t *z)
{
    zm_put32(z, z->local[1] + 14, 5);
    zm_put32(z, z->central[1] + 16, 5);
}
static void lie_data(zm_zip_t *z)
{
    z->data[z->local[2] - 1] ^= 1; /* the last byte of entry 1's content */
}
static void lie_no_deflate(zm_zip_t *z)
{
    zm_put16(z, z->local[1] + 8, 8);
    zm_put16(z, z->central[1] + 10, 8);
}
static void lie_local_name(zm_zip_t *z)
{
    z->data[z->local[1] + 30] = 'z';
}
static void lie_same_place(zm_zip_t *z)
{
    zm_put32(z, z->central[1] + 42, (uint32_t)z->local[2]);
}
static void lie_far_away(zm_zip_t *z)
{
    zm_put32(z, z->central[1] + 42, 0xfffffff0u);
}
static void lie_no_header(zm_zip_t *z)
{
    zm_put32(z, z->central[1] + 42, (uint32_t)z->local[1] + 1);
}
static void lie_too_long(zm_zip_t *z)
{
    zm_put32(z, z->local[1] + 18, 0x7fffffff);
    zm_put32(z, z->central[1] + 20, 0x7fffffff);
    zm_put32(z, z->local[1] + 22, 0x7fffffff);
    zm_put32(z, z->central[1] + 24, 0x7fffffff);
}
static void lie_zip64_size(zm_zip_t *z)
{
    zm_put32(z, z->central[1] + 24, 0xffffffffu); /* sends the reader to a field that isn't there */
}
static void lie_extra_len(zm_zip_t *z)
{
    zm_put16(z, z->local[1] + 28, 0xffff);
}
static void lie_other_disk(zm_zip_t *z)
{
    zm_put16(z, z->central[1] + 34, 1);
}
static void lie_count_more(zm_zip_t *z)
{
    zm_put16(z, z->end + 8, 4);
    zm_put16(z, z->end + 10, 4);
}
static void lie_count_less(zm_zip_t *z)
{
    zm_put16(z, z->end + 8, 2);
    zm_put16(z, z->end + 10, 2);
}
static void lie_count_zero(zm_zip_t *z)
{
    zm_put16(z, z->end + 8, 0);
    zm_put16(z, z->end + 10, 0);
}
static void lie_disks(zm_zip_t *z)
{
    zm_put16(z, z->end + 4, 1);
}
static void lie_dir_offset(zm_zip_t *z)
{
    zm_put32(z, z->end + 16, (uint32_t)z->local[3] - 1);
}
static void lie_dir_size(zm_zip_t *z)
{
    zm_put32(z, z->end + 12, 0xfffffff0u);
}
static void lie_record_len(zm_zip_t *z)
{
    zm_put16(z, z->central[2] + 32, 0xffff);
}
static void lie_comment(zm_zip_t *z)
{
    zm_put16(z, z->end + 20, 1);
}
static void lie_marks(zm_zip_t *z)
{
    zm_put32(z, z->end + 12, 0xffffffffu); /* zip64's marks, without zip64's record */
    zm_put32(z, z->end + 16, 0xffffffffu);
}

static void test_zips_that_lie_are_refused(void **state)
{
    static const struct {
        lie_t lie;
        const char *errors;
    } cases[] = {
        {lie_encrypted, "zip-encrypted one"},    {lie_encrypted_in_one, "zip-mismatch one"},
        {lie_strong, "zip-encrypted one"},       {lie_method, "zip-method one"},
        {lie_method_in_one, "zip-mismatch one"}, {lie_stored_sizes, "zip-mismatch one"},
        {lie_local_size, "zip-mismatch one"},    {lie_local_crc, "zip-mismatch one"},
        {lie_both_crc, "zip-corrupt one"},       {lie_data, "zip-corrupt one"},
        {lie_no_deflate, "zip-corrupt one"},     {lie_local_name, "zip-mismatch one"},
        {lie_same_place, "zip-mismatch one"},    {lie_far_away, "zip-malformed one"},
        {lie_no_header, "zip-malformed one"},    {lie_too_long, "zip-malformed one"},
        {lie_zip64_size, "zip-malformed one"},   {lie_extra_len, "zip-malformed one"},
        {lie_other_disk, "zip-malformed one"},   {lie_count_more, "zip-malformed "},
        {lie_count_less, "zip-malformed "},      {lie_count_zero, "zip-malformed "},
        {lie_disks, "zip-malformed "},           {lie_dir_offset, "zip-malformed "},
        {lie_dir_size, "zip-malformed "},        {lie_record_len, "zip-malformed "},
        {lie_comment, "zip-malformed "},         {lie_marks, "zip-malformed "},
    };
    const zm_entry_t entries[] = {SKILLMD, FILE_("one"), FILE_("two")};

    for (size_t i = 0; i < COUNT(cases); i++) {
        zm_zip_t z;
        result_t r;
        zm_make(&z, entries, COUNT(entries));
        cases[i].lie(&z);
        unpack(&r, &z);
        if (strcmp(r.list, cases[i].errors) != 0) {
            print_error("case %zu\n", i);
        }
        assert_string_equal(r.list, cases[i].errors);
        done(&r);
        zm_free(&z);
    }
}

static void test_overlapping_entries_are_refused(void **state)
{
    /* "outer" holds the whole of "inner" as its content: both are consistent in themselves */
    const zm_entry_t inner = {.name = "inner", .data = "x"};
    zm_zip_t one, z;
    result_t r;

    zm_make(&one, &inner, 1);
    const zm_entry_t entries[] = {
        SKILLMD, {.name = "outer", .data = (char *)one.data, .len = one.local[1]}, inner};
    zm_make(&z, entries, COUNT(entries));
    zm_put32(&z, z.central[2] + 42, (uint32_t)(z.local[1] + 30 + strlen("outer")));
    unpack(&r, &z);
    assert_string_equal(r.list, "zip-overlap inner");
    done(&r);
    zm_free(&z);
    zm_free(&one);
}

static void test_two_end_records_are_refused(void **state)
{
    const zm_entry_t entries[] = {SKILLMD};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, 1);
    unsigned char *twice = malloc(z.len + 22);
    assert_non_null(twice);
    memcpy(twice, z.data, z.len);
    memcpy(twice + z.len, z.data + z.end, 22);
    twice[z.end + 20] = 22; /* the first one calls the second its comment */
    unpack_limited(&r, twice, z.len + 22, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);

    memset(twice + z.len, 'c', 22); /* a comment that is one is fine */
    unpack_limited(&r, twice, z.len + 22, -1, NULL);
    assert_string_equal(r.list, "");
    done(&r);
    unpack_limited(&r, twice, z.len + 21, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);
    free(twice);
    zm_free(&z);
}

static void test_zip64_is_read_and_may_not_contradict(void **state)
{
    /* zip64's size, packed size and offset, which the marks send the reader to */
    static const char extra[] = "\x01\x00\x10\x00"
                                "\x01\0\0\0\0\0\0\0"
                                "\x01\0\0\0\0\0\0\0";
    const zm_entry_t entries[] = {SKILLMD,
                                  {.name = "f", .data = "x", .extra = extra, .extra_len = 20}};
    static const struct {
        size_t at; /* counted from the end record; 4 bytes there become 7 */
        const char *errors;
    } cases[] = {
        {0, ""},                /* nothing */
        {12, "zip-malformed "}, /* locator: offset */
        {16, "zip-malformed "}, /* locator: disk */
        {28, "zip-malformed "}, /* offset of the directory */
        {36, "zip-malformed "}, /* its size */
        {44, "zip-malformed "}, /* records */
        {60, "zip-malformed "}, /* disk */
        {72, "zip-malformed "}, /* length of this record */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        zm_zip_t z;
        result_t r;
        zm_make64(&z, entries, 2);
        zm_put32(&z, z.local[1] + 18, 0xffffffffu);
        zm_put32(&z, z.local[1] + 22, 0xffffffffu);
        zm_put32(&z, z.central[1] + 20, 0xffffffffu);
        zm_put32(&z, z.central[1] + 24, 0xffffffffu);
        if (cases[i].at != 0) {
            zm_put32(&z, z.end - cases[i].at, 7);
        }
        unpack(&r, &z);
        if (strcmp(r.list, cases[i].errors) != 0) {
            print_error("case %zu\n", i);
        }
        assert_string_equal(r.list, cases[i].errors);
        done(&r);
        zm_put32(&z, z.end + 12, 7); /* now the plain record says something else */
        unpack(&r, &z);
        assert_string_equal(r.list, "zip-malformed ");
        done(&r);
        zm_free(&z);
    }
}

/* Whatever comes back, it keeps the promises of package.h. */
static void assert_sound(const result_t *r)
{
    for (size_t i = 0; r->rc == SB_OK && i < r->p.nfiles; i++) {
        assert_true(sb_path_valid(r->p.files[i].path, strlen(r->p.files[i].path)));
        assert_true(i == 0 || strcmp(r->p.files[i - 1].path, r->p.files[i].path) < 0);
    }
}

static void test_no_damaged_byte_does_harm(void **state)
{
    const zm_entry_t entries[] = {SKILLMD, FILE_("d/f"), LINK("l", "d/f")};
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    zm_zip_t z;
    result_t r;

    zm_make64(&z, entries, COUNT(entries));
    for (size_t at = 0; at < z.len; at++) {
        for (size_t k = 0; k < COUNT(flips); k++) {
            z.data[at] ^= flips[k];
            unpack(&r, &z);
            assert_sound(&r);
            done(&r);
            z.data[at] ^= flips[k];
        }
        unpack_limited(&r, z.data, at, -1, NULL);
        assert_string_equal(r.list, "zip-malformed ");
        done(&r);
    }
    zm_free(&z);
}

/* ---- unpacking ---- */

static void test_unpacking_writes_the_tree(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "top/SKILL.md", .data = SKILL, .mode = S_IFREG | 0666},
        {.name = "top/a/b/run.sh", .data = "echo\n", .mode = S_IFREG | 07755},
        {.name = "top/a/x", .data = "", .mode = S_IFREG | 0444},
        {.name = "top/a/empty/", .mode = S_IFDIR | 01777},
        LINK("top/a/l", "b/run.sh"),
    };
    int dir = open_dir("out");
    char target[64] = "";
    struct stat st;
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, COUNT(entries));
    mode_t mask = umask(077);
    unpack_limited(&r, z.data, z.len, dir, NULL);
    umask(mask);
    assert_string_equal(r.list, "");
    assert_file(dir, "SKILL.md", SKILL, 0644);
    assert_file(dir, "a/b/run.sh", "echo\n", 0755);
    assert_file(dir, "a/x", "", 0644);
    assert_int_equal(readlinkat(dir, "a/l", target, sizeof(target)), 8);
    assert_string_equal(target, "b/run.sh");
    assert_int_equal(fstatat(dir, "a/b", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(entries_in(dir), 2);
    assert_true(faccessat(dir, "a/empty", F_OK, 0) != 0);
    done(&r);
    zm_free(&z);
    close(dir);
}

static void test_a_refused_package_is_not_written(void **state)
{
    const zm_entry_t entries[] = {SKILLMD, FILE_("a"), FILE_("../evil")};
    int dir = open_dir("refused");
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, COUNT(entries));
    unpack_limited(&r, z.data, z.len, dir, NULL);
    assert_int_equal(r.rc, SB_ESKILL);
    assert_int_equal(entries_in(dir), 0);
    assert_true(faccessat(dir, "../evil", F_OK, AT_SYMLINK_NOFOLLOW) != 0);
    done(&r);
    zm_free(&z);
    close(dir);
}

static void test_what_is_in_the_way_is_neither_followed_nor_overwritten(void **state)
{
    const zm_entry_t through[] = {SKILLMD, FILE_("d/f")}, over[] = {SKILLMD, FILE_("f")};
    int outside = open_dir("outside"), dir = open_dir("planted");
    zm_zip_t z;
    result_t r;

    assert_int_equal(symlinkat("../outside", dir, "d"), 0);
    assert_int_equal(symlinkat("../outside/f", dir, "f"), 0);
    zm_make(&z, through, 2);
    memset(&r, 0, sizeof(r));
    assert_int_equal(sb_package_unpack(z.data, z.len, dir, NULL, &r.p, &r.err), SB_ESYSTEM);
    done(&r);
    zm_free(&z);
    assert_int_equal(unlinkat(dir, "SKILL.md", 0), 0);
    zm_make(&z, over, 2);
    assert_int_equal(sb_package_unpack(z.data, z.len, dir, NULL, &r.p, &r.err), SB_ESYSTEM);
    done(&r);
    zm_free(&z);
    assert_int_equal(entries_in(outside), 0);
    close(outside);
    close(dir);
}

/* ---- folders ---- */

static void make_folder(int dir)
{
    assert_int_equal(mkdirat(dir, "scripts", 0700), 0);
    assert_int_equal(mkdirat(dir, "empty", 0700), 0);
    assert_int_equal(mkdirat(dir, ".git", 0700), 0);
    put_file(dir, "SKILL.md", SKILL, 0600);
    put_file(dir, "scripts/\xc3\xa9.py", "print()\n", 0700);
    put_file(dir, ".git/config", "x", 0644);
    put_file(dir, ".DS_Store", "x", 0644);
    assert_int_equal(symlinkat("../SKILL.md", dir, "scripts/doc.md"), 0);
}

static void scan(result_t *r, int dir)
{
    memset(r, 0, sizeof(*r));
    r->rc = sb_package_scan_dir(dir, NULL, &r->p, &r->err);
    render(r);
}

/* The folder's zip in memory; freed by the caller. */
static void *pack(int dir, const sb_package_t *p, size_t *len)
{
    FILE *f = tmpfile();
    sb_err_t err;

    assert_non_null(f);
    assert_int_equal(sb_package_write_zip(dir, p, fileno(f), &err), SB_OK);
    *len = (size_t)lseek(fileno(f), 0, SEEK_END);
    void *zip = malloc(*len);
    assert_non_null(zip);
    assert_int_equal(pread(fileno(f), zip, *len, 0), *len);
    fclose(f);
    return zip;
}

static void test_folder_zip_and_other_zips_have_one_digest(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "any/", .mode = S_IFDIR | 0755},
        LINK("any/scripts/doc.md", "../SKILL.md"),
        {.name = "any/scripts/\xc3\xa9.py", .data = "print()\n", .mode = S_IFREG | 0711},
        {.name = "any/SKILL.md", .data = SKILL}, /* made on DOS */
        {.name = "any/.DS_Store", .data = "y"},
    };
    int dir = open_dir("folder");
    result_t folder, zipped, other;
    size_t len, again_len;
    zm_zip_t z;

    make_folder(dir);
    scan(&folder, dir);
    assert_string_equal(folder.list, "");
    void *zip = pack(dir, &folder.p, &len);
    void *again = pack(dir, &folder.p, &again_len);
    assert_int_equal(len, again_len);
    assert_memory_equal(zip, again, len);
    unpack_limited(&zipped, zip, len, -1, NULL);
    assert_string_equal(zipped.list, "");
    assert_string_equal(zipped.p.digest, folder.p.digest);
    assert_string_equal(zipped.p.files[2].path, "scripts/\xc3\xa9.py");
    zm_make(&z, entries, COUNT(entries));
    unpack(&other, &z);
    assert_string_equal(other.p.digest, folder.p.digest);
    done(&zipped);
    done(&other);
    zm_free(&z);

    put_file(dir, "scripts/\xc3\xa9.py", "print()\n", 0600); /* the mode is part of it */
    scan(&other, dir);
    assert_string_not_equal(other.p.digest, folder.p.digest);
    done(&other);
    done(&folder);
    free(zip);
    free(again);
    close(dir);
}

static void test_a_folder_is_judged_like_a_zip(void **state)
{
    int dir = open_dir("bad-folder");
    result_t r;

    put_file(dir, "SKILL.md", "---\nname: a b\ndescription: d\n---\n", 0644);
    put_file(dir, "Twin", "x", 0644);
    put_file(dir, "twin", "x", 0644);
    put_file(dir, "a\\b", "x", 0644);
    assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
    scan(&r, dir);
    assert_non_null(strstr(r.list, "special-file fifo"));
    assert_non_null(strstr(r.list, "path-backslash a\\b"));
    assert_non_null(strstr(r.list, "path-case-twin twin"));
    assert_non_null(strstr(r.list, "name-invalid SKILL.md"));
    assert_int_equal(r.p.findings.errors, 4);
    done(&r);
    close(dir);
}

static void test_symlinks_out_of_a_folder_are_not_followed(void **state)
{
    int dir = open_dir("linked");
    result_t r;

    put_file(dir, "SKILL.md", SKILL, 0644);
    assert_int_equal(symlinkat("/etc", dir, "etc"), 0);
    assert_int_equal(symlinkat("..", dir, "up"), 0);
    scan(&r, dir);
    assert_string_equal(r.list, "symlink etc; symlink up");
    assert_int_equal(r.p.nfiles, 3);
    done(&r);
    close(dir);
}

static void test_a_file_that_changed_is_not_packed(void **state)
{
    int dir = open_dir("changing");
    FILE *out = tmpfile();
    result_t r;

    assert_non_null(out);
    make_folder(dir);
    scan(&r, dir);
    put_file(dir, "scripts/\xc3\xa9.py", "print(2)\n", 0700); /* longer */
    assert_int_equal(sb_package_write_zip(dir, &r.p, fileno(out), &r.err), SB_ECONFLICT);
    put_file(dir, "scripts/\xc3\xa9.py", "PRINT()\n", 0700); /* other bytes */
    assert_int_equal(sb_package_write_zip(dir, &r.p, fileno(out), &r.err), SB_ECONFLICT);
    assert_int_equal(unlinkat(dir, "scripts/\xc3\xa9.py", 0), 0);
    assert_int_equal(mkfifoat(dir, "scripts/\xc3\xa9.py", 0600), 0);
    assert_int_equal(sb_package_write_zip(dir, &r.p, fileno(out), &r.err), SB_EINVAL);
    fclose(out);
    done(&r);
    close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_package_is_listed_sorted_and_without_its_top_folder),
        cmocka_unit_test(test_the_intake_answer),
        cmocka_unit_test(test_the_documented_digest),
        cmocka_unit_test(test_bad_names_are_refused),
        cmocka_unit_test(test_long_and_deep_names_are_refused),
        cmocka_unit_test(test_twins_are_refused),
        cmocka_unit_test(test_only_files_folders_and_symlinks),
        cmocka_unit_test(test_hard_links_are_refused),
        cmocka_unit_test(test_symlinks_stay_inside),
        cmocka_unit_test(test_a_package_is_one_skill),
        cmocka_unit_test(test_everything_wrong_is_listed_at_once),
        cmocka_unit_test(test_number_of_entries),
        cmocka_unit_test(test_unpacked_size),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_the_headers_sizes_are_not_believed),
        cmocka_unit_test(test_zips_that_lie_are_refused),
        cmocka_unit_test(test_overlapping_entries_are_refused),
        cmocka_unit_test(test_two_end_records_are_refused),
        cmocka_unit_test(test_zip64_is_read_and_may_not_contradict),
        cmocka_unit_test(test_no_damaged_byte_does_harm),
        cmocka_unit_test(test_unpacking_writes_the_tree),
        cmocka_unit_test(test_a_refused_package_is_not_written),
        cmocka_unit_test(test_what_is_in_the_way_is_neither_followed_nor_overwritten),
        cmocka_unit_test(test_folder_zip_and_other_zips_have_one_digest),
        cmocka_unit_test(test_a_folder_is_judged_like_a_zip),
        cmocka_unit_test(test_symlinks_out_of_a_folder_are_not_followed),
        cmocka_unit_test(test_a_file_that_changed_is_not_packed),
    };

    return cmocka_run_group_tests(tests, make_temp, remove_temp);
}
