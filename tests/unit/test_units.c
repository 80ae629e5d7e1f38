/* test_units.c - the promises of units.h: exact values, rounding up, bounds. */
#include "cmocka_all.h"

#include <inttypes.h>
#include <string.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/units.h"

#define BAD INT64_MIN

typedef struct {
    const char *text;
    int64_t want; /* BAD: refused with SB_EINVAL and a message that shows the text */
} case_t;

static void durations(void **state)
{
    static const case_t cases[] = {
        {"30s", 30000},
        {"1m30s", 90000},
        {"500ms", 500},
        {"1.5h", 5400000},
        {"120", 120000},
        {"1.5", 1500},
        {"0", 0},
        {"0s", 0},
        {".5s", 500},
        {"5.s", 5000},
        {"24h", 86400000},
        {"1ns", 1},
        {"1us", 1},
        {"1\xc2\xb5s", 1},
        {"1\xce\xbcs", 1},
        {"1000001ns", 2},
        {"0.0001ms", 1},
        {"1s1s", 2000},
        {"0.1s", 100},
        {"0.3s", 300},
        {"1h0.000000000000000001s", 3600001},
        {"24h1ns", BAD},
        {"25h", BAD},
        {"86401", BAD},
        {"99999999999999999999s", BAD},
        {"", BAD},
        {"s", BAD},
        {".s", BAD},
        {"-1s", BAD},
        {"+1s", BAD},
        {"1 s", BAD},
        {" 1s", BAD},
        {"1d", BAD},
        {"1S", BAD},
        {"1m30", BAD},
        {"1e3s", BAD},
        {"1..5s", BAD},
        {"one", BAD},
        {"1s\n", BAD},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t got = -1;
        sb_err_t err = {0};
        sb_code_t rc = sb_duration_parse(cases[i].text, strlen(cases[i].text), &got, &err);

        if (cases[i].want == BAD) {
            assert_int_equal(rc, SB_EINVAL);
            assert_int_equal(got, -1);
            assert_non_null(strchr(err.message, '"'));
        } else if (rc != SB_OK || got != cases[i].want) {
            fail_msg("\"%s\" gave %" PRId64 ", not %" PRId64, cases[i].text, got, cases[i].want);
        }
    }
    assert_int_equal(sb_duration_parse("1s", 2, &(int64_t){0}, NULL), SB_OK);
    assert_int_equal(sb_duration_parse("1sx", 2, &(int64_t){0}, NULL), SB_OK); /* len counts */
}

static void memory(void **state)
{
    static const case_t cases[] = {
        {"1024", 1024},
        {"256Mi", 268435456},
        {"1G", 1000000000},
        {"1.5Gi", 1610612736},
        {"1k", 1000},
        {"1Ki", 1024},
        {"128974848000m", 128974848},
        {"1m", 1},
        {"1001m", 2},
        {"0.1", 1},
        {"0", 0},
        {"1Pi", 1125899906842624},
        {"1P", 1000000000000000},
        {"0.5Ti", 549755813888},
        {"1125899906842624000m", 1125899906842624},
        {"1125899906842624001m", BAD},
        {"1125899906842625", BAD},
        {"2Pi", BAD},
        {"1.0000000000000001Pi", BAD},
        {"99999999999999999999999999", BAD},
        {"", BAD},
        {"Mi", BAD},
        {"256MB", BAD},
        {"256mi", BAD},
        {"-1", BAD},
        {"1 Gi", BAD},
        {"1e9", BAD},
        {"1K", BAD},
        {"0x10", BAD},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t got = -1;
        sb_err_t err = {0};
        sb_code_t rc = sb_memory_parse(cases[i].text, strlen(cases[i].text), &got, &err);

        if (cases[i].want == BAD)
            assert_int_equal(rc, SB_EINVAL);
        else if (rc != SB_OK || got != cases[i].want)
            fail_msg("\"%s\" gave %" PRId64 ", not %" PRId64, cases[i].text, got, cases[i].want);
    }
}

static void cpu(void **state)
{
    static const case_t cases[] = {
        {"0.5", 500}, {"2", 2000},        {"500m", 500},     {"0.0001", 1},   {"0.5m", 1},
        {"1500u", 2}, {"1n", 1},          {"1024", 1024000}, {"1k", 1000000}, {"0", 0},
        {"0.1", 100}, {"1024.0001", BAD}, {"1025", BAD},     {"", BAD},       {"m", BAD},
        {"-1", BAD},  {"1M", BAD},        {"half", BAD},     {"1,5", BAD},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        int32_t got = -1;
        sb_err_t err = {0};
        sb_code_t rc = sb_cpu_parse(cases[i].text, strlen(cases[i].text), &got, &err);

        if (cases[i].want == BAD)
            assert_int_equal(rc, SB_EINVAL);
        else if (rc != SB_OK || got != cases[i].want)
            fail_msg("\"%s\" gave %" PRId32 ", not %" PRId64, cases[i].text, got, cases[i].want);
    }
}

static void sizes_for_people(void **state)
{
    static const struct {
        int64_t bytes;
        const char *want;
    } cases[] = {
        {0, "0 B"},
        {512, "512 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {268435456, "256 MiB"},
        {1610612736, "1.5 GiB"},
        {1048575, "1 MiB"},
        {1048524, "1023.9 KiB"},
        {-2048, "-2 KiB"},
        {INT64_MAX, "8 EiB"},
        {INT64_MIN, "-8 EiB"},
    };
    char out[32];

    for (size_t i = 0; i < COUNT(cases); i++) {
        sb_bytes_format(cases[i].bytes, out);
        assert_string_equal(out, cases[i].want);
    }
}

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-20T12:00:00.000Z", 1795176000000},
        {"2026-11-20T12:00:00.1239Z", 1795176000123},
        {"2026-11-20t13:30:00+01:30", 1795176000000},
        {"2026-11-20T11:00:00-01:00", 1795176000000},
        {"2024-02-29T00:00:00Z", 1709164800000},
        {"2100-03-01T00:00:00Z", 4107542400000},
        {"9999-12-31T23:59:60Z", 253402300800000},
        {"2023-02-29T00:00:00Z", -1},
        {"2100-02-29T00:00:00Z", -1},
        {"2026-13-01T00:00:00Z", -1},
        {"2026-04-31T00:00:00Z", -1},
        {"1969-12-31T23:59:59Z", -1},
        {"1970-01-01T00:00:00+00:01", -1},
        {"2026-11-20T24:00:00Z", -1},
        {"2026-11-20T12:00:00", -1},
        {"2026-11-20T12:00:00.Z", -1},
        {"2026-11-20T12:00:00Zx", -1},
        {"2026-11-20", -1},
        {"", -1},
    };
    char text[SB_TIME_LEN + 1];
    int64_t ms;

    for (size_t i = 0; i < COUNT(cases); i++) {
        ms = -1;
        assert_int_equal(sb_time_parse(cases[i].text, strlen(cases[i].text), &ms),
                         cases[i].ms != -1);
        assert_int_equal(ms, cases[i].ms);
    }
    for (ms = 0; ms < 253402300800000; ms += 86400000LL * 97 + 12345) { /* as it is printed */
        int64_t back = -1;

        sb_time_format(ms, text);
        assert_true(sb_time_parse(text, SB_TIME_LEN, &back));
        assert_int_equal(back, ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),        cmocka_unit_test(memory), cmocka_unit_test(cpu),
        cmocka_unit_test(sizes_for_people), cmocka_unit_test(times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
