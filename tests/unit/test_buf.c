/* test_buf.c - the promises of buf.h: bounds, JSON text, UTF-8, time stamps. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../libskillbox/buf.h"

static void it_grows_and_stays_terminated(void **state)
{
    sb_buf_t b = SB_BUF_INIT(100000);

    for (int i = 0; i < 10000; i++) {
        sb_buf_char(&b, (char)('a' + i % 26));
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_true(sb_buf_ok(&b));
    assert_int_equal(b.len, 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(b.data[i], 'a' + i % 26);
    sb_buf_free(&b);
    assert_null(b.data);
    sb_buf_str(&b, "again");
    assert_string_equal(b.data, "again");
    sb_buf_free(&b);
}

static void the_bound_is_exact_and_failure_sticks(void **state)
{
    sb_buf_t b = SB_BUF_INIT(5);

    sb_buf_str(&b, "12345");
    assert_true(sb_buf_ok(&b));
    sb_buf_str(&b, "");
    assert_true(sb_buf_ok(&b));
    sb_buf_char(&b, '6');
    assert_false(sb_buf_ok(&b));
    assert_string_equal(b.data, "12345");
    sb_buf_clear(&b);
    assert_true(sb_buf_ok(&b));
    sb_buf_str(&b, "123456");
    assert_false(sb_buf_ok(&b));
    sb_buf_str(&b, "1"); /* would fit, but something is missing already */
    assert_int_equal(b.len, 0);
    sb_buf_fmt(&b, "%d", 1);
    assert_int_equal(b.len, 0);
    assert_null(sb_buf_steal(&b, NULL));
    assert_true(sb_buf_ok(&b));
    assert_null(b.data);

    sb_buf_init(&b, 0);
    sb_buf_char(&b, 'x');
    assert_false(sb_buf_ok(&b));
    sb_buf_free(&b);
    sb_buf_init(&b, SIZE_MAX);
    sb_buf_add(&b, "x", 1);
    sb_buf_add(&b, "", SIZE_MAX - 1);
    assert_false(sb_buf_ok(&b));
    sb_buf_free(&b);
}

static void formatted_text_of_any_length_is_whole(void **state)
{
    sb_buf_t b = SB_BUF_INIT(2000);
    char text[1000];

    for (size_t len = 120; len < 136; len++) { /* around the small buffer inside */
        memset(text, 'x', len);
        text[len] = '\0';
        sb_buf_clear(&b);
        sb_buf_fmt(&b, "<%s>", text);
        assert_int_equal(b.len, len + 2);
        assert_int_equal(strlen(b.data), len + 2);
        assert_int_equal(b.data[len + 1], '>');
    }
    sb_buf_clear(&b);
    sb_buf_fmt(&b, "%3000d", 1);
    assert_false(sb_buf_ok(&b));
    sb_buf_free(&b);
}

static void steal_gives_the_data_away(void **state)
{
    sb_buf_t b = SB_BUF_INIT(100);
    size_t len = 1;
    char *s = sb_buf_steal(&b, &len);

    assert_string_equal(s, "");
    assert_int_equal(len, 0);
    free(s);
    sb_buf_str(&b, "abc");
    s = sb_buf_steal(&b, &len);
    assert_string_equal(s, "abc");
    assert_int_equal(len, 3);
    assert_null(b.data);
    free(s);
}

static void json_is(const char *in, size_t len, const char *want)
{
    sb_buf_t b = SB_BUF_INIT(1000);

    sb_json_str(&b, in, len);
    assert_true(sb_buf_ok(&b));
    assert_string_equal(b.data, want);
    assert_true(sb_utf8_valid(b.data, b.len));
    sb_buf_free(&b);
}

static void json_strings_are_escaped(void **state)
{
    json_is("", 0, "\"\"");
    json_is("plain", 5, "\"plain\"");
    json_is("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    json_is("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
    json_is("\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"");
    json_is("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

#define FFFD "\xef\xbf\xbd"

static void ill_formed_parts_become_one_replacement_each(void **state)
{
    json_is("\xff", 1, "\"" FFFD "\"");
    json_is("\x80\x80", 2, "\"" FFFD FFFD "\"");
    json_is("\xc0\xaf", 2, "\"" FFFD FFFD "\"");          /* overlong */
    json_is("\xe0\x80\x80", 3, "\"" FFFD FFFD FFFD "\""); /* overlong */
    json_is("\xed\xa0\x80", 3, "\"" FFFD FFFD FFFD "\""); /* surrogate */
    json_is("\xf4\x90\x80\x80", 4, "\"" FFFD FFFD FFFD FFFD "\"");
    json_is("\xe2\x82", 2, "\"" FFFD "\""); /* cut: one maximal part */
    json_is("\xe2\x82x", 3, "\"" FFFD "x\"");
    json_is("\xf0\x9f\x98x", 4, "\"" FFFD "x\"");
    /* the example of the Unicode standard, table 3-8 */
    json_is("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", 13,
            "\"a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d\"");
}

static void commas_come_by_themselves(void **state)
{
    sb_buf_t b = SB_BUF_INIT(1000);

    sb_buf_char(&b, '{');
    sb_json_key_str(&b, "a", "{");
    sb_json_key_str(&b, "none", NULL);
    sb_json_key_int(&b, "b", INT64_MIN);
    sb_json_key(&b, "c");
    sb_buf_char(&b, '[');
    sb_buf_str(&b, "{");
    sb_json_key_bool(&b, "d", true);
    sb_buf_str(&b, "}]");
    sb_json_key_bool(&b, "e", false);
    sb_buf_char(&b, '}');
    assert_string_equal(
        b.data, "{\"a\":\"{\",\"b\":-9223372036854775808,\"c\":[{\"d\":true}],\"e\":false}");
    sb_buf_clear(&b);
    sb_json_key_int(&b, "first", 1);
    assert_string_equal(b.data, "\"first\":1");
    sb_buf_free(&b);
}

static void utf8_is_told_from_other_bytes(void **state)
{
    static const char *const good[] = {"a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xc2\x41"};

    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(sb_utf8_len((const unsigned char *)good[i], strlen(good[i])),
                         strlen(good[i]));
        assert_true(sb_utf8_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(sb_utf8_len((const unsigned char *)bad[i], strlen(bad[i])), 0);
        assert_false(sb_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_int_equal(sb_utf8_len((const unsigned char *)"", 0), 0);
    assert_true(sb_utf8_valid("", 0));
}

/* Against the C library, over a span with all leap year rules. */
static void times_agree_with_the_c_library(void **state)
{
    char ours[SB_TIME_LEN + 1], theirs[64];

    for (int64_t day = -719000; day < 2900000; day += 97) {
        time_t t = (time_t)(day * 86400 + (day * 7919) % 86400);
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        strftime(theirs, sizeof(theirs), "%Y-%m-%dT%H:%M:%S", &tm);
        sb_time_format((int64_t)t * 1000 + 7, ours);
        assert_int_equal(strlen(ours), SB_TIME_LEN);
        assert_memory_equal(ours + 4, theirs + strlen(theirs) - 15, 15);
        assert_int_equal(atoi(ours), tm.tm_year + 1900);
        assert_string_equal(ours + 19, ".007Z");
    }
}

static void odd_times_are_right(void **state)
{
    char out[SB_TIME_LEN + 1];

    sb_time_format(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    sb_time_format(-1, out);
    assert_string_equal(out, "1969-12-31T23:59:59.999Z");
    sb_time_format(951782400000, out);
    assert_string_equal(out, "2000-02-29T00:00:00.000Z");
    sb_time_format(INT64_MAX, out);
    assert_string_equal(out, "9999-12-31T23:59:59.999Z");
    sb_time_format(INT64_MIN, out);
    assert_string_equal(out, "0000-01-01T00:00:00.000Z");
    assert_true(sb_time_now_ms() > 1600000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_grows_and_stays_terminated),
        cmocka_unit_test(the_bound_is_exact_and_failure_sticks),
        cmocka_unit_test(formatted_text_of_any_length_is_whole),
        cmocka_unit_test(steal_gives_the_data_away),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(ill_formed_parts_become_one_replacement_each),
        cmocka_unit_test(commas_come_by_themselves),
        cmocka_unit_test(utf8_is_told_from_other_bytes),
        cmocka_unit_test(times_agree_with_the_c_library),
        cmocka_unit_test(odd_times_are_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
