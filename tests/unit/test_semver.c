/* test_semver.c - the promises of semver.h. */
#include "cmocka_all.h"

#include <string.h>

#include "../../libskillbox/limits.h"
#include "../../libskillbox/semver.h"

static void recognised(void **state)
{
    static const char *const good[] = {"0.0.0",
                                       "1.2.3",
                                       "1",
                                       "1.2",
                                       "10.20.30",
                                       "1.0.0-alpha",
                                       "1.0.0-alpha.1",
                                       "1.0.0-0.3.7",
                                       "1.0.0-x-y-z.-",
                                       "1.0.0+001",
                                       "1.0.0-beta+exp.sha.5114f85",
                                       "1.2-rc1",
                                       "1.0.0-0a",
                                       "99999999999999999999.1.1"};
    static const char *const bad[] = {
        "",           "v1.0.0",     "01.0.0",         "1.02.3",    "1.0.0-", "1.0.0+", "1.0.0-01",
        "1.0.0-a..b", "1.0.0+a..b", "1.0.0.0",        "1.",        "1..2",   ".1",     "a",
        "1.0.0 ",     " 1",         "1.0.0-\xc3\xa9", "1.0.0+a+b", "-1",     "latest", "1.0.0-a.",
        "1.2.3/../x"};
    char text[SB_VERSION_MAX + 2];

    for (size_t i = 0; i < COUNT(good); i++) {
        if (!sb_semver_valid(good[i], strlen(good[i])))
            fail_msg("\"%s\" was refused", good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (sb_semver_valid(bad[i], strlen(bad[i])))
            fail_msg("\"%s\" was accepted", bad[i]);
    }
    memset(text, '1', sizeof(text));
    assert_true(sb_semver_valid(text, SB_VERSION_MAX));
    assert_false(sb_semver_valid(text, SB_VERSION_MAX + 1));
    assert_false(sb_semver_valid("1.0.0\0x", 7));
}

static void ordered(void **state)
{
    /* ascending; ties of precedence (build metadata, left out numbers) by bytes */
    static const char *const list[] = {"0.9.9",
                                       "1.0.0-alpha",
                                       "1.0.0-alpha.1",
                                       "1.0.0-alpha.beta",
                                       "1.0.0-beta",
                                       "1.0.0-beta.2",
                                       "1.0.0-beta.11",
                                       "1.0.0-rc.1",
                                       "1",
                                       "1.0",
                                       "1.0.0",
                                       "1.0.0+a",
                                       "1.0.0+b",
                                       "1.0.1",
                                       "1.2",
                                       "1.10.0",
                                       "2.0.0-1",
                                       "2.0.0-2",
                                       "2.0.0-10",
                                       "2.0.0-a",
                                       "2.0.0-ab",
                                       "2.0.0",
                                       "99999999999999999998.0.0",
                                       "99999999999999999999.0.0"};

    for (size_t i = 0; i < COUNT(list); i++) {
        for (size_t j = 0; j < COUNT(list); j++) {
            int c = sb_semver_cmp(list[i], list[j]);
            int want = (i > j) - (i < j);
            if ((c > 0) - (c < 0) != want)
                fail_msg("%s against %s gave %d", list[i], list[j], c);
        }
    }
}

static void next_patch(void **state)
{
    static const struct {
        const char *from;
        const char *want; /* NULL: does not fit */
    } cases[] = {
        {"1.2.3", "1.2.4"},
        {"1.2.3-rc.1", "1.2.4"},
        {"1.2.3+b", "1.2.4"},
        {"1.2.9", "1.2.10"},
        {"0.0.999", "0.0.1000"},
        {"1", "1.0.1"},
        {"1.2", "1.2.1"},
        {"v1", NULL},
        {"", NULL},
        {"1.0.99999999999999999999", "1.0.100000000000000000000"},
    };
    char out[SB_VERSION_MAX + 1], text[SB_VERSION_MAX + 1], small[6];

    for (size_t i = 0; i < COUNT(cases); i++) {
        bool fits = sb_semver_next_patch(cases[i].from, out, sizeof(out));
        assert_int_equal(fits, cases[i].want != NULL);
        if (fits) {
            assert_string_equal(out, cases[i].want);
            assert_true(sb_semver_valid(out, strlen(out)));
            assert_true(sb_semver_cmp(out, cases[i].from) > 0);
        }
    }
    memset(text, '9', SB_VERSION_MAX);
    text[SB_VERSION_MAX] = '\0';
    text[1] = text[3] = '.';
    assert_false(sb_semver_next_patch(text, out, sizeof(out)));
    text[SB_VERSION_MAX - 1] = '8';
    assert_true(sb_semver_next_patch(text, out, sizeof(out)));
    assert_int_equal(strlen(out), SB_VERSION_MAX);
    assert_true(sb_semver_next_patch("1.2.3", small, sizeof(small)));
    assert_false(sb_semver_next_patch("1.2.9", small, sizeof(small)));
}

static void latest_prefers_releases(void **state)
{
    /* lowest first */
    static const char *const list[] = {"1.0.0-alpha", "9.0.0-rc.1", "9.0.0-rc.2", "0.1.0",
                                       "1.10.0"};
    int n = (int)(sizeof(list) / sizeof(list[0]));

    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            int c = sb_semver_cmp_latest(list[i], list[j]);
            assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognised),
        cmocka_unit_test(ordered),
        cmocka_unit_test(latest_prefers_releases),
        cmocka_unit_test(next_patch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
