/*
 * test_package.c - what a package may hold, and that nothing is written outside
 * of the folder it is unpacked to.  test_zip.c has the zips that lie.
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

#include "package_check.h"

/* SKILL.md and these entries: are exactly these errors found? */
static void check(const zm_entry_t *more, size_t n, const char *errors)
{
    zm_entry_t entries[8] = {skillmd()};
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
    const zm_entry_t entries[] = {skillmd(), file("run.sh"), symlink_to("x.py", "run.sh")};
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
    const zm_entry_t entries[] = {skillmd()};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, 1);
    unpack(&r, &z);
    assert_string_equal(r.p.digest,
                        "d3300110bd22996192d902e717fdca6e076f2a5122646476bc66d8e33536d494");
    done(&r);
    zm_free(&z);
}

static void test_a_symlink_is_not_a_file_with_its_target(void **state)
{
    const zm_entry_t linked[] = {skillmd(), symlink_to("l", "SKILL.md")};
    const zm_entry_t plain[] = {skillmd(),
                                {.name = "l", .data = "SKILL.md", .mode = S_IFREG | 0755}};
    zm_zip_t z;
    result_t one, two;

    zm_make(&z, linked, 2);
    unpack(&one, &z);
    zm_free(&z);
    zm_make(&z, plain, 2);
    unpack(&two, &z);
    assert_string_not_equal(one.p.digest, two.p.digest);
    done(&one);
    done(&two);
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
        {"main.py;1", 0, "path-version main.py;1"},
        {"a/main.py;", 0, "path-version a/main.py;"},
        {"a;1/main.py", 0, ""},
        {"main.py;1a", 0, ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t e = {
            .name = cases[i].name, .name_len = cases[i].len, .data = "x", .mode = S_IFREG | 0644};
        check(&e, 1, cases[i].errors);
    }
}

static void test_long_and_deep_names_are_refused(void **state)
{
    char name[600];
    zm_entry_t e = {.name = name, .data = "x"};
    result_t r;

    for (int len = 512; len <= 513; len++) {
        const zm_entry_t both[] = {skillmd(), e};
        zm_zip_t z;
        memset(name, 'n', (size_t)len);
        name[len] = '\0';
        name[200] = name[400] = '/';
        zm_make(&z, both, 2);
        unpack(&r, &z);
        assert_int_equal(r.p.findings.errors, len == 512 ? 0 : 1);
        assert_true(len == 512 || strncmp(r.list, "path-too-long nnn", 17) == 0);
        done(&r);
        zm_free(&z);
    }
    for (size_t len = 255; len <= 256; len++) { /* of one part */
        char path[300] = "dir/";
        memset(path + 4, 'n', len);
        strcpy(path + 4 + len, "/f");
        for (int way = 0; way < 3; way++) { /* in the middle, at the end, alone */
            const zm_entry_t both[] = {skillmd(), {.name = way < 2 ? path : path + 4, .data = "x"}};
            zm_zip_t z;
            path[4 + len] = way == 0 ? '/' : '\0';
            zm_make(&z, both, 2);
            unpack(&r, &z);
            assert_int_equal(strncmp(r.list, "path-too-long ", 14) == 0, len == 256);
            assert_int_equal(r.p.findings.errors, len == 256);
            done(&r);
            zm_free(&z);
        }
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
        {"\xcf\x82", "\xce\xa3", "path-case-twin \xcf\x82"},    /* final sigma */
        {"gro\xc3\x9f", "GROSS", "path-case-twin gro\xc3\x9f"}, /* sharp s */
        {"\xc4\x90", "\xc4\x91", "path-case-twin \xc4\x91"},
        {"\xe1\x82\xa0", "\xe2\xb4\x80", "path-case-twin \xe2\xb4\x80"},             /* Georgian */
        {"\xf0\x90\x90\x80", "\xf0\x90\x90\xa8", "path-case-twin \xf0\x90\x90\xa8"}, /* Deseret */
        /* one letter, or a letter and what is put on it */
        {"\xc3\xa9", "e\xcc\x81", "path-unicode-twin \xc3\xa9"},
        {"\xc3\xa9/a", "e\xcc\x81/b", "path-unicode-twin \xc3\xa9"},
        {"x/\xc3\xa9/a", "x/e\xcc\x81", "path-unicode-twin x/\xc3\xa9"},
        {"\xc3\x89", "e\xcc\x81", "path-case-twin \xc3\x89"},
        {"\xea\xb0\x80", "\xe1\x84\x80\xe1\x85\xa1", "path-unicode-twin \xea\xb0\x80"}, /* Hangul */
        {"\xe2\x84\xab", "\xc3\x85", "path-unicode-twin \xe2\x84\xab"}, /* Angstrom, A with ring */
        {"a\xcc\xa3\xcc\x81", "a\xcc\x81\xcc\xa3",
         "path-unicode-twin a\xcc\xa3\xcc\x81"}, /* order */
        {"\xe1\xbe\xb4", "\xce\xb1\xcd\x85\xcc\x81", "path-unicode-twin \xe1\xbe\xb4"},
        {"ab",
         "a\xe2\x80\x8d"
         "b",
         "path-unicode-twin a\xe2\x80\x8d"
         "b"}, /* joined, invisibly */
        {"a", "a/b", "path-conflict a"},
        {"a/b/c", "a/b", "path-conflict a/b"},
        {"skill.md", "x", "path-case-twin skill.md"},
        {"a-", "a/b", ""},
        {"a/b", "a.b", ""},
        {"\xc3\x97", "\xc3\xb7", ""}, /* multiplication and division sign are no pair */
        {"\xc3\xa9", "e", ""},
        {"\xef\xbc\xa1", "a", ""}, /* a wide letter */
        {"\xc2\xb2", "2", ""},     /* a raised digit */
        {"\xd0\xb0", "a", ""},     /* a Cyrillic letter that looks the same */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t pair[] = {file(cases[i].one), file(cases[i].two)};
        const zm_entry_t swapped[] = {file(cases[i].two), file(cases[i].one)};
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
        {S_IFDIR | 0755, "f", "zip-mismatch f"}, /* unzip makes a file of it */
        {0, "f/", "zip-mismatch f"},             /* a folder with content */
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

    check(&e, 1, "hard-link l");
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
        {"l", "/SKILL.md", "symlink l"},
        {"l", "../x", "symlink l"},
        {"l", "../SKILL.md", "symlink l"},
        {"d/l", "../../SKILL.md", "symlink d/l"},
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
        const zm_entry_t tree[] = {file("d/f"), file("d/e/g"), symlink_to("other", "d"),
                                   symlink_to(cases[i].link, cases[i].target)};
        check(tree, 4, cases[i].errors);
    }
    const zm_entry_t empty = {.name = "l", .mode = S_IFLNK | 0777};
    const zm_entry_t nul = {
        .name = "l", .data = "SKILL.md\0/..", .len = 12, .mode = S_IFLNK | 0777};
    const zm_entry_t through[] = {symlink_to("l", "SKILL.md"), file("l/x")};
    const zm_entry_t skill[] = {symlink_to("SKILL.md", "x"), file("x")};
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
        file("../a"),
        file("b"),
        file("B"),
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

/* ---- unpacking ---- */

static void test_unpacking_writes_the_tree(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "top/SKILL.md", .data = SKILL, .mode = S_IFREG | 0666},
        {.name = "top/a/b/run.sh", .data = "echo\n", .mode = S_IFREG | 07755},
        {.name = "top/a/x", .data = "", .mode = S_IFREG | 0444},
        {.name = "top/a/empty/", .mode = S_IFDIR | 01777},
        symlink_to("top/a/l", "b/run.sh"),
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
    const zm_entry_t entries[] = {skillmd(), file("a"), file("../evil")};
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
    const zm_entry_t through[] = {skillmd(), file("d/f")}, over[] = {skillmd(), file("f")};
    const zm_entry_t again[] = {skillmd(), file("g")};
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

    assert_int_equal(unlinkat(dir, "SKILL.md", 0), 0);
    put_file(dir, "g", "mine", 0600);
    zm_make(&z, again, 2);
    assert_int_equal(sb_package_unpack(z.data, z.len, dir, NULL, &r.p, &r.err), SB_ESYSTEM);
    assert_file(dir, "g", "mine", 0600);
    done(&r);
    zm_free(&z);
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

/* Other tools take a name for what the flag says. */
static void assert_name_marked_utf8(const unsigned char *zip, size_t len, const char *name)
{
    const unsigned char *p = memmem(zip, len, name, strlen(name));

    assert_non_null(p);
    assert_true(p - zip >= 30 && memcmp(p - 30, "PK\x03\x04", 4) == 0);
    assert_true(p[-30 + 7] & 0x08);
}

/* Into a pipe goes the zip as long as it is, without padding. */
static void assert_pipe_gives(int dir, const sb_package_t *p, size_t len)
{
    char zip[8192];
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(sb_package_write_zip(dir, p, fds[1], NULL), SB_OK);
    close(fds[1]);
    assert_int_equal(read(fds[0], zip, sizeof(zip)), len);
    close(fds[0]);
}

static void test_folder_zip_and_other_zips_have_one_digest(void **state)
{
    const zm_entry_t entries[] = {
        {.name = "any/", .mode = S_IFDIR | 0755},
        symlink_to("any/scripts/doc.md", "../SKILL.md"),
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
    assert_name_marked_utf8(zip, len, "scripts/\xc3\xa9.py");
    assert_pipe_gives(dir, &folder.p, len);
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
    char big[65538];
    result_t r;

    assert_non_null(out);
    memset(big, 'x', sizeof(big));
    big[65536] = '\0';
    make_folder(dir);
    put_file(dir, "big", big, 0644);
    scan(&r, dir);
    big[65536] = 'x';
    big[65537] = '\0';
    put_file(dir, "big", big, 0644); /* the same and more */
    assert_int_equal(sb_package_write_zip(dir, &r.p, fileno(out), &r.err), SB_ECONFLICT);
    big[65536] = '\0';
    put_file(dir, "big", big, 0644);
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
        cmocka_unit_test(test_a_symlink_is_not_a_file_with_its_target),
        cmocka_unit_test(test_bad_names_are_refused),
        cmocka_unit_test(test_long_and_deep_names_are_refused),
        cmocka_unit_test(test_twins_are_refused),
        cmocka_unit_test(test_only_files_folders_and_symlinks),
        cmocka_unit_test(test_hard_links_are_refused),
        cmocka_unit_test(test_symlinks_stay_inside),
        cmocka_unit_test(test_a_package_is_one_skill),
        cmocka_unit_test(test_everything_wrong_is_listed_at_once),
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
