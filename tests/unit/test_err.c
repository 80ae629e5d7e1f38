/* test_err.c - the promises of err.h. */
#include "cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/err.h"

static void set_fills_everything(void **state)
{
    sb_err_t err;

    memset(&err, 0x55, sizeof(err));
    assert_int_equal(sb_err_set(&err, SB_ENOTFOUND, "no %s here", "skill"), SB_ENOTFOUND);
    assert_int_equal(err.code, SB_ENOTFOUND);
    assert_int_equal(err.sys_errno, 0);
    assert_int_equal(err.line, 0);
    assert_string_equal(err.message, "no skill here");

    assert_int_equal(sb_err_at(&err, SB_ESKILL, 12, "bad"), SB_ESKILL);
    assert_int_equal(err.line, 12);
}

static void null_is_allowed(void **state)
{
    assert_int_equal(sb_err_set(NULL, SB_EINVAL, "x"), SB_EINVAL);
    assert_int_equal(sb_err_at(NULL, SB_ESKILL, 1, "x"), SB_ESKILL);
    assert_int_equal(sb_err_errno(NULL, EACCES, "x"), SB_ESYSTEM);
    assert_int_equal(sb_err_errno(NULL, ENOSPC, "x"), SB_ENOSPACE);
    assert_int_equal(sb_err_errno(NULL, ETOOMANYREFS, "x"), SB_ENOSPACE);
    assert_int_equal(sb_err_context(NULL, "x"), SB_EINTERNAL);
}

static void errno_gives_reason_and_code(void **state)
{
    sb_err_t err;

    assert_int_equal(sb_err_errno(&err, EACCES, "opening %s", "f"), SB_ESYSTEM);
    assert_string_equal(err.message, "opening f: Permission denied");
    assert_int_equal(err.sys_errno, EACCES);
    assert_int_equal(sb_err_errno(&err, ENOSPC, "writing"), SB_ENOSPACE);
    assert_int_equal(sb_err_errno(&err, EDQUOT, "writing"), SB_ENOSPACE);
    assert_int_equal(sb_err_errno(&err, 99999, "odd"), SB_ESYSTEM);
    assert_string_equal(err.message, "odd: error 99999");
}

static void context_stands_before_the_message(void **state)
{
    sb_err_t err;

    sb_err_at(&err, SB_ESKILL, 7, "bad key");
    assert_int_equal(sb_err_context(&err, "SKILL.md of %s", "x"), SB_ESKILL);
    assert_string_equal(err.message, "SKILL.md of x: bad key");
    assert_int_equal(err.line, 7);
}

static void an_argument_may_be_the_message_itself(void **state)
{
    sb_err_t err;

    sb_err_set(&err, SB_EINVAL, "inner");
    sb_err_set(&err, SB_EINVAL, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void long_text_is_cut_to_valid_utf8(void **state)
{
    sb_err_t err;
    char text[600];

    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        sb_err_set(&err, SB_EINVAL, "%s", text);
        assert_true(strlen(err.message) < sizeof(err.message));
        assert_true(strlen(err.message) > sizeof(err.message) - 8);
        assert_true(strstr(err.message, "\xe2\x82\xac") != NULL);

        for (int i = 0; i < 5; i++)
            sb_err_context(&err, "%s", text);
        assert_true(strlen(err.message) < sizeof(err.message));
    }
}

static void the_message_is_one_line_of_utf8(void **state)
{
    sb_err_t err;

    sb_err_set(&err, SB_EINVAL, "a\nb\rc\td\x1b[31m \x7f \xff\xfe ok \xc3\xa9");
    assert_string_equal(err.message, "a b c d [31m   ?? ok \xc3\xa9");
    assert_true(sb_utf8_valid(err.message, strlen(err.message)));
}

static void every_code_has_slug_and_status(void **state)
{
    static const struct {
        sb_code_t code;
        int status;
        const char *slug;
    } want[] = {
        {SB_EINVAL, 400, "bad_request"},
        {SB_ESKILL, 400, "invalid_skill"},
        {SB_EAUTH, 401, "unauthorized"},
        {SB_EFORBIDDEN, 403, "forbidden"},
        {SB_ENOTFOUND, 404, "not_found"},
        {SB_ENOTAVAIL, 409, "skill_not_available"},
        {SB_ECONFLICT, 409, "conflict"},
        {SB_ETOOLARGE, 413, "too_large"},
        {SB_EMEDIA, 415, "unsupported_media_type"},
        {SB_EBUSY, 503, "overloaded"},
        {SB_ETIMEOUT, 504, "timeout"},
        {SB_EGATEWAY, 502, "bad_gateway"},
        {SB_ENOSPACE, 503, "overloaded"},
        {SB_EREADONLY, 503, "overloaded"},
        {SB_EQUOTA, 507, "quota_exceeded"},
        {SB_ESYSTEM, 500, "internal_error"},
        {SB_EINTERNAL, 500, "internal_error"},
    };

    assert_int_equal(COUNT(want), SB_EINTERNAL);
    for (size_t i = 0; i < COUNT(want); i++) {
        assert_int_equal(sb_code_status(want[i].code), want[i].status);
        assert_string_equal(sb_code_slug(want[i].code), want[i].slug);
    }
    assert_int_equal(sb_code_status((sb_code_t)1000), 500);
}

static void statuses_have_the_contracts_slugs(void **state)
{
    assert_string_equal(sb_status_slug(400), "bad_request");
    assert_string_equal(sb_status_slug(404), "not_found");
    assert_string_equal(sb_status_slug(405), "method_not_allowed");
    assert_string_equal(sb_status_slug(409), "conflict");
    assert_string_equal(sb_status_slug(413), "too_large");
    assert_string_equal(sb_status_slug(422), "security_scan_failed");
    assert_string_equal(sb_status_slug(429), "rate_limited");
    assert_string_equal(sb_status_slug(503), "overloaded");
    assert_string_equal(sb_status_slug(418), "error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_everything),
        cmocka_unit_test(null_is_allowed),
        cmocka_unit_test(errno_gives_reason_and_code),
        cmocka_unit_test(context_stands_before_the_message),
        cmocka_unit_test(an_argument_may_be_the_message_itself),
        cmocka_unit_test(long_text_is_cut_to_valid_utf8),
        cmocka_unit_test(the_message_is_one_line_of_utf8),
        cmocka_unit_test(every_code_has_slug_and_status),
        cmocka_unit_test(statuses_have_the_contracts_slugs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
