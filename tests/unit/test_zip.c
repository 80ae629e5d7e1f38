/*
 * test_zip.c - zips that are too large or lie about themselves, and zips of
 * other makers.
 */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "../../libskillbox/names.h"
#include "package_check.h"

/* ---- limits ---- */

static void make_many(zm_zip_t *z, size_t files, const char *format)
{
    zm_entry_t *entries = calloc(files, sizeof(*entries));
    char(*names)[32] = calloc(files, sizeof(*names));

    assert_true(entries != NULL && names != NULL);
    entries[0] = skillmd();
    for (size_t i = 1; i < files; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%zu%s", format, i, format[0] != '\0' ? "/f" : "");
        entries[i] = file(names[i]);
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
        const zm_entry_t entries[] = {skillmd(),
                                      {.name = "big", .data = data, .len = cases[i].len}};
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

/* Bytes overwritten in the zip of SKILL.md, "one" and "two". */
typedef struct {
    enum { NONE, LOCAL, CENTRAL, LAST, END } record; /* of "one"; LAST: central record of "two" */
    size_t at;
    int bytes;
    uint32_t value;
} patch_t;

typedef struct {
    const char *lie;
    patch_t patches[4];
    const char *errors;
} lie_t;

/* clang-format off */
static const lie_t lies[] = {
    {"encrypted", {{LOCAL, 6, 2, 1}, {CENTRAL, 8, 2, 1}}, "zip-encrypted one"},
    {"encrypted in one header", {{LOCAL, 6, 2, 1}}, "zip-mismatch one"},
    {"masked headers", {{CENTRAL, 8, 2, 0x2000}}, "zip-encrypted one"},
    {"bzip2", {{LOCAL, 8, 2, 12}, {CENTRAL, 10, 2, 12}}, "zip-method one"},
    {"deflated in one header", {{CENTRAL, 10, 2, 8}}, "zip-mismatch one"},
    {"deflated, but is not", {{LOCAL, 8, 2, 8}, {CENTRAL, 10, 2, 8}}, "zip-corrupt one"},
    {"stored, two sizes", {{LOCAL, 22, 4, 5}, {CENTRAL, 24, 4, 5}}, "zip-mismatch one"},
    {"other size in one header", {{LOCAL, 22, 4, 5}}, "zip-mismatch one"},
    {"other packed size in one header", {{LOCAL, 18, 4, 5}}, "zip-mismatch one"},
    {"other CRC in one header", {{LOCAL, 14, 4, 5}}, "zip-mismatch one"},
    {"wrong CRC", {{LOCAL, 14, 4, 5}, {CENTRAL, 16, 4, 5}}, "zip-corrupt one"},
    {"damaged content", {{LOCAL, 33, 1, 'y'}}, "zip-corrupt one"},
    {"other name in one header", {{LOCAL, 30, 1, 'z'}}, "zip-mismatch one"},
    {"another entry's place", {{CENTRAL, 42, 4, 0}}, "zip-mismatch one"},
    {"place behind the end", {{CENTRAL, 42, 4, 0xfffffff0u}}, "zip-malformed one"},
    {"place without a header", {{CENTRAL, 42, 4, 1}}, "zip-malformed one"},
    {"longer than the file", {{LOCAL, 18, 4, 0x7fffffff}, {CENTRAL, 20, 4, 0x7fffffff},
                              {LOCAL, 22, 4, 0x7fffffff}, {CENTRAL, 24, 4, 0x7fffffff}},
     "zip-malformed one"},
    {"zip64's mark without its field", {{CENTRAL, 24, 4, 0xffffffffu}}, "zip-malformed one"},
    {"extra field too long", {{LOCAL, 28, 2, 0xffff}}, "zip-malformed one"},
    {"on another disk", {{CENTRAL, 34, 2, 1}}, "zip-malformed one"},
    {"made on OpenVMS", {{CENTRAL, 5, 1, 2}}, "zip-mismatch one"},
    {"made on a system that nobody knows", {{CENTRAL, 5, 1, 200}}, "zip-mismatch one"},
    {"a folder to DOS", {{CENTRAL, 5, 1, 0}, {CENTRAL, 38, 4, 0x10}}, "zip-mismatch one"},
    {"a folder to DOS, a file to Unix", {{CENTRAL, 38, 4, 0x81a40010u}}, ""},
    {"for a newer reader", {{CENTRAL, 6, 1, 63}}, "zip-method one"},
    {"a symlink with attributes of another kind",
     {{CENTRAL, 36, 2, 4}, {CENTRAL, 38, 4, 0xa1ff0000u}}, "zip-mismatch one"},
    {"a symlink of macOS", {{CENTRAL, 5, 1, 19}, {CENTRAL, 38, 4, 0xa1ff0000u}}, "zip-mismatch one"},
    {"no descriptor behind the data", {{LOCAL, 6, 2, 8}, {CENTRAL, 8, 2, 8}}, "zip-mismatch one"},
    {"one record more", {{END, 8, 2, 4}, {END, 10, 2, 4}}, "zip-malformed "},
    {"one record less", {{END, 8, 2, 2}, {END, 10, 2, 2}}, "zip-malformed "},
    {"no records", {{END, 8, 2, 0}, {END, 10, 2, 0}}, "zip-malformed "},
    {"two numbers of records", {{END, 8, 2, 2}}, "zip-malformed "},
    {"second disk", {{END, 4, 2, 1}}, "zip-malformed "},
    {"directory elsewhere", {{END, 16, 4, 7}}, "zip-malformed "},
    {"directory too long", {{END, 12, 4, 0xfffffff0u}}, "zip-malformed "},
    {"record too long", {{LAST, 32, 2, 0xffff}}, "zip-malformed "},
    {"no record", {{LAST, 0, 4, 0}}, "zip-malformed "},
    {"comment cut off", {{END, 20, 2, 1}}, "zip-malformed "},
    {"zip64's marks without its record", {{END, 12, 4, 0xffffffffu}, {END, 16, 4, 0xffffffffu}},
     "zip-malformed "},
};
/* clang-format on */

static void apply(zm_zip_t *z, const patch_t *p)
{
    const size_t base[] = {
        [LOCAL] = z->local[1], [CENTRAL] = z->central[1], [LAST] = z->central[2], [END] = z->end};

    for (int i = 0; p->record != NONE && i < p->bytes; i++) {
        z->data[base[p->record] + p->at + (size_t)i] = (unsigned char)(p->value >> 8 * i);
    }
}

static void test_zips_that_lie_are_refused(void **state)
{
    const zm_entry_t entries[] = {skillmd(), file("one"), file("two")};

    for (size_t i = 0; i < COUNT(lies); i++) {
        zm_zip_t z;
        result_t r;
        zm_make(&z, entries, COUNT(entries));
        for (size_t k = 0; k < COUNT(lies[i].patches); k++) {
            apply(&z, &lies[i].patches[k]);
        }
        unpack(&r, &z);
        if (strcmp(r.list, lies[i].errors) != 0) {
            print_error("%s\n", lies[i].lie);
        }
        assert_string_equal(r.list, lies[i].errors);
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
        skillmd(), {.name = "outer", .data = (char *)one.data, .len = one.local[1]}, inner};
    zm_make(&z, entries, COUNT(entries));
    zm_put32(&z, z.central[2] + 42, (uint32_t)(z.local[1] + 30 + strlen("outer")));
    unpack(&r, &z);
    assert_string_equal(r.list, "zip-overlap inner");
    done(&r);
    zm_free(&z);
    zm_free(&one);
}

static void test_the_name_is_what_others_take_for_it(void **state)
{
    const char *same = "\x75\x70\x08\0\x01\1\2\3\4one", *other = "\x75\x70\x08\0\x01\1\2\3\4two";
    const struct {
        const char *name, *extra;
        unsigned mode, flags;
        const char *errors;
    } cases[] = {
        {"one", same, S_IFREG | 0644, 0, ""},
        {"one", other, S_IFREG | 0644, 0, "zip-mismatch one"},
        {"one", other, S_IFREG | 0644, 0x800, "zip-mismatch one"},
        {"\xc3\xa9", NULL, 0, 0, "path-not-utf8 \xc3\xa9"}, /* DOS: another code page */
        {"\xc3\xa9", NULL, 0, 0x800, ""},
        {"\xc3\xa9", NULL, S_IFREG | 0644, 0, ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const zm_entry_t entries[] = {skillmd(),
                                      {.name = cases[i].name,
                                       .data = "x",
                                       .mode = cases[i].mode,
                                       .flags = cases[i].flags,
                                       .extra = cases[i].extra,
                                       .extra_len = cases[i].extra != NULL ? 12 : 0}};
        zm_zip_t z;
        result_t r;
        zm_make(&z, entries, 2);
        unpack(&r, &z);
        assert_string_equal(r.list, cases[i].errors);
        done(&r);
        zm_free(&z);
    }
}

/* z and `more` bytes behind its end record, called its comment.  Freed by the caller. */
static unsigned char *with_comment(const zm_zip_t *z, const void *comment, size_t more)
{
    unsigned char *zip = malloc(z->len + more);

    assert_non_null(zip);
    memcpy(zip, z->data, z->len);
    memcpy(zip + z->len, comment, more);
    zip[z->end + 20] = (unsigned char)more;
    return zip;
}

static void test_a_comment_is_not_a_second_directory(void **state)
{
    const zm_entry_t entries[] = {skillmd()};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, 1);
    size_t dir = z.central[0], more = z.len - dir;
    assert_true(more < 256);

    unsigned char *zip = with_comment(&z, "PK\x05 a comment", 13);
    unpack_limited(&r, zip, z.len + 13, -1, NULL);
    assert_string_equal(r.list, "");
    done(&r);
    unpack_limited(&r, zip, z.len + 12, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);
    free(zip);

    /* what Python's zipfile takes for the end record, and fails */
    zip = with_comment(&z, "PK\x05\x06 not one", 12);
    unpack_limited(&r, zip, z.len + 12, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);
    free(zip);

    /* a directory and an end record, both sound: another reader would take this one */
    unsigned char *second = malloc(more);
    assert_non_null(second);
    memcpy(second, z.data + dir, more);
    second[z.end - dir + 16] = (unsigned char)z.len;
    assert_true(z.len < 256);
    zip = with_comment(&z, second, more);
    unpack_limited(&r, zip, z.len + more, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);
    free(second);
    free(zip);
    zm_free(&z);
}

static void test_the_directory_ends_where_the_end_record_begins(void **state)
{
    const zm_entry_t entries[] = {skillmd()};
    zm_zip_t z;
    result_t r;

    zm_make(&z, entries, 1);
    unsigned char *zip = malloc(z.len + 1);
    assert_non_null(zip);
    memcpy(zip, z.data, z.end);
    zip[z.end] = 'x';
    memcpy(zip + z.end + 1, z.data + z.end, z.len - z.end);
    unpack_limited(&r, zip, z.len + 1, -1, NULL);
    assert_string_equal(r.list, "zip-malformed ");
    done(&r);
    free(zip);
    zm_free(&z);
}

static void test_a_huge_skill_md_is_refused(void **state)
{
    size_t len = SB_SKILLMD_MAX + 1;
    char *text = malloc(len);
    result_t r;

    assert_non_null(text);
    for (int more = 0; more <= 1; more++) {
        const zm_entry_t e = {.name = "SKILL.md", .data = text, .len = len - 1 + (size_t)more};
        zm_zip_t z;
        memset(text, 'x', len);
        memcpy(text, SKILL, strlen(SKILL));
        zm_make(&z, &e, 1);
        unpack(&r, &z);
        assert_string_equal(r.list, more ? "skill-md-too-large SKILL.md" : "");
        done(&r);
        zm_free(&z);
    }
    free(text);
}

static void test_zip64_is_read_and_may_not_contradict(void **state)
{
    /* zip64's size, packed size and offset, which the marks send the reader to */
    static const char extra[] = "\x01\x00\x10\x00"
                                "\x01\0\0\0\0\0\0\0"
                                "\x01\0\0\0\0\0\0\0";
    const zm_entry_t entries[] = {skillmd(),
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
        {52, "zip-malformed "}, /* records here */
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
    const zm_entry_t entries[] = {skillmd(), file("d/f"), symlink_to("l", "d/f")};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_of_entries),
        cmocka_unit_test(test_unpacked_size),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_the_headers_sizes_are_not_believed),
        cmocka_unit_test(test_zips_that_lie_are_refused),
        cmocka_unit_test(test_overlapping_entries_are_refused),
        cmocka_unit_test(test_the_name_is_what_others_take_for_it),
        cmocka_unit_test(test_a_comment_is_not_a_second_directory),
        cmocka_unit_test(test_the_directory_ends_where_the_end_record_begins),
        cmocka_unit_test(test_a_huge_skill_md_is_refused),
        cmocka_unit_test(test_zip64_is_read_and_may_not_contradict),
        cmocka_unit_test(test_no_damaged_byte_does_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
