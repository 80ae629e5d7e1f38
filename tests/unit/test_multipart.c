/*
 * test_multipart.c - the part named "file" is found, and nothing that two
 * readers could read in two ways is accepted.
 */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/multipart.h"

#define CT       "multipart/form-data; boundary=b"
#define DISP(n)  "Content-Disposition: form-data; name=" n "\r\n"
#define FILEPART "--b\r\n" DISP("\"file\"; filename=\"x.zip\"") "Content-Type: any/thing\r\n\r\n"
#define ZEROS16  "0000000000000000"

static sb_code_t find(const char *type, const char *body, size_t len, char *out, size_t cap)
{
    /* in a block of exactly that size, so that a sanitizer sees every read too far */
    unsigned char *exact = malloc(len > 0 ? len : 1);
    const unsigned char *data = NULL;
    size_t n = 0;

    assert_non_null(exact);
    memcpy(exact, body, len);
    sb_code_t rc = sb_multipart_file(type, exact, len, &data, &n, NULL);
    if (rc == SB_OK) {
        assert_true(data >= exact && data + n <= exact + len && n < cap);
        memcpy(out, data, n);
        out[n] = '\0';
    }
    free(exact);
    return rc;
}

static void test_media_type(void **state)
{
    assert_true(sb_multipart_is("multipart/form-data; boundary=x"));
    assert_true(sb_multipart_is(" Multipart/Form-Data"));
    assert_true(sb_multipart_is("multipart/form-data ;boundary=x"));
    assert_false(sb_multipart_is("multipart/form-database; boundary=x"));
    assert_false(sb_multipart_is("multipart/mixed; boundary=x"));
    assert_false(sb_multipart_is("application/zip"));
    assert_false(sb_multipart_is(""));
}

static const struct {
    const char *type, *body, *content; /* content NULL: refused */
} cases[] = {
    {CT, FILEPART "PK\r\n--b--\r\n", "PK"},
    {CT, FILEPART "PK\r\n--b--", "PK"},
    {CT, "preamble\r\n" FILEPART "PK\r\n--b  \r\nx", "PK"},
    {CT, FILEPART "\r\n--b--", ""},
    {CT, FILEPART "--b--", ""}, /* an empty part whose headers' last line end is the delimiter's */
    {CT, FILEPART "a\r\n--bc\r\n--b--", "a\r\n--bc"}, /* looks like the boundary, is longer */
    {CT, FILEPART "a\n--b--\r\n\r\n--b--", "a\n--b--\r\n"},
    {CT, "--b\r\n" DISP("\"name\"") "\r\nx\r\n" FILEPART "PK\r\n--b--", "PK"},
    {CT, "--b\r\n" DISP("name") "\r\nx\r\n--b\r\n" DISP("file") "\r\nPK\r\n--b--", "PK"},
    {CT, "--b\r\ncontent-disposition:FORM-DATA;NAME=\"file\"\r\n\r\nPK\r\n--b--", "PK"},
    {CT, FILEPART "one\r\n" FILEPART "two\r\n--b--", "one"},
    {"multipart/form-data; x=\"; boundary=q\"; boundary=\"b\"", FILEPART "PK\r\n--b--", "PK"},
    {"multipart/form-data; boundary=\"a b\"", "--a b\r\n" DISP("file") "\r\nPK\r\n--a b--", "PK"},
    {CT, "--b\r\n" DISP("\"file\"; filename=\"C:\\dir\\a \\\"q\\\".zip\"") "\r\nPK\r\n--b--", "PK"},

    {CT, "", NULL},
    {CT, "PK", NULL},
    {CT, "--b--\r\n", NULL},
    {CT, FILEPART "PK", NULL},          /* not ended */
    {CT, FILEPART "PK\r\n--c--", NULL}, /* ended by another boundary */
    {CT, "--b\r\n" DISP("\"files\"") "\r\nPK\r\n--b--", NULL},
    {CT, "--b\r\n" DISP("\"File\"") "\r\nPK\r\n--b--", NULL},
    {CT, "--b\r\n\r\nPK\r\n--b--", NULL},
    {CT, "--b\n" DISP("\"file\"") "\r\nPK\r\n--b--", NULL},
    {CT, "--b\r\nContent-Disposition: form-data; name=\"file\n\r\nPK\r\n--b--", NULL},
    {CT, "--b\r\nContent-Disposition: form-data; name=\r\n\r\nPK\r\n--b--", NULL},
    {CT, "--b\r\nContent-Disposition: attachment; name=file\r\n\r\nPK\r\n--b--", NULL},
    {"multipart/form-data", FILEPART "PK\r\n--b--", NULL},
    {"multipart/form-data; boundary=", FILEPART "PK\r\n--b--", NULL},
    {"multipart/form-data; boundary=\"b", FILEPART "PK\r\n--b--", NULL},
    {"multipart/form-data; boundary=\"b \"", "--b \r\n" DISP("file") "\r\nPK\r\n--b --", NULL},
    {"multipart/form-data; boundary=\"b\r\n\"", FILEPART "PK\r\n--b--", NULL},
    {"multipart/form-data; boundary=" ZEROS16 ZEROS16 ZEROS16 ZEROS16 "1234567",
     "--" ZEROS16 ZEROS16 ZEROS16 ZEROS16
     "1234567\r\n" DISP("file") "\r\nPK\r\n"
                                "--" ZEROS16 ZEROS16 ZEROS16 ZEROS16 "1234567--",
     NULL},
};

static void test_bodies(void **state)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        char out[256] = "";
        sb_code_t rc = find(cases[i].type, cases[i].body, strlen(cases[i].body), out, sizeof(out));
        if ((rc == SB_OK) != (cases[i].content != NULL)) {
            print_error("case %zu: %s\n", i, cases[i].body);
        }
        assert_int_equal(rc, cases[i].content != NULL ? SB_OK : SB_EINVAL);
        assert_string_equal(out, cases[i].content != NULL ? cases[i].content : "");
    }
}

static void test_every_truncation_is_refused(void **state)
{
    const char *body = "pre\r\n--b\r\n" DISP("\"x\"") "\r\n1\r\n" FILEPART "PK\r\n--b--";
    char out[256];

    assert_int_equal(find(CT, body, strlen(body), out, sizeof(out)), SB_OK);
    for (size_t n = 0; n < strlen(body); n++) {
        assert_int_equal(find(CT, body, n, out, sizeof(out)), SB_EINVAL);
    }
}

static void test_parts_and_headers_are_bounded(void **state)
{
    static const char part[] = "--b\r\n" DISP("\"x\"") "\r\n1\r\n";
    static const char end[] = FILEPART "PK\r\n--b--";
    char *body = malloc(65 * sizeof(part) + 10000 + sizeof(end));
    char out[64];

    assert_non_null(body);
    for (size_t parts = 63; parts <= 64; parts++) {
        char *p = body;
        for (size_t i = 0; i < parts; i++) {
            p = stpcpy(p, part);
        }
        strcpy(p, end);
        assert_int_equal(find(CT, body, strlen(body), out, sizeof(out)),
                         parts == 63 ? SB_OK : SB_EINVAL);
    }

    char *p = stpcpy(body, "--b\r\nX-Long: ");
    memset(p, 'x', 8192);
    strcpy(p + 8192, "\r\n" DISP("file") "\r\nPK\r\n--b--");
    assert_int_equal(find(CT, body, strlen(body), out, sizeof(out)), SB_EINVAL);
    strcpy(p + 4000, "\r\n" DISP("file") "\r\nPK\r\n--b--");
    assert_int_equal(find(CT, body, strlen(body), out, sizeof(out)), SB_OK);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_type),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_parts_and_headers_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
