/* test_names.c - the promises of names.h. */
#include "cmocka_all.h"

#include <stdbool.h>
#include <string.h>

#include "../../libskillbox/limits.h"
#include "../../libskillbox/names.h"

typedef bool (*rule_t)(const char *s, size_t len);

static void each(rule_t rule, const char *const *list, bool want)
{
    for (; *list != NULL; list++) {
        if (rule(*list, strlen(*list)) != want)
            fail_msg("\"%s\" should be %s", *list, want ? "accepted" : "refused");
    }
}

/* Exactly max bytes pass, one more does not; bytes behind len are not looked at. */
static void bounded(rule_t rule, size_t max)
{
    char text[2048];

    memset(text, 'a', sizeof(text));
    assert_true(rule(text, max));
    assert_false(rule(text, max + 1));
    assert_false(rule(text, 0));
    text[3] = '\n';
    assert_true(rule(text, 3));
    assert_false(rule(text, 4));
}

static void skill_names(void **state)
{
    static const char *const good[] = {"a", "data-analysis", "A.b_c-9", "0x", "a..b", NULL};
    static const char *const bad[] = {"",    ".",   "..",       "-a",  "_a",
                                      "a/b", "a b", "\xc3\xa9", "a\\", NULL};

    each(sb_name_valid, good, true);
    each(sb_name_valid, bad, false);
    bounded(sb_name_valid, SB_NAME_MAX);
    assert_false(sb_name_valid("a\0b", 3));
}

static void strict_names(void **state)
{
    static const char *const good[] = {"a", "a-b", "pdf-2-text", "9", NULL};
    static const char *const bad[] = {"", "-a", "a-", "a--b", "A", "a.b", "a_b", "-", NULL};

    each(sb_name_strict, good, true);
    each(sb_name_strict, bad, false);
    bounded(sb_name_strict, 64);
}

static void tenants(void **state)
{
    static const char *const good[] = {"default", "a.b-c_d", "1", NULL};
    static const char *const bad[] = {"", ".", "..", "a/b", "a:b", " a", NULL};

    each(sb_tenant_valid, good, true);
    each(sb_tenant_valid, bad, false);
    bounded(sb_tenant_valid, SB_TENANT_MAX);
}

static void environment_names(void **state)
{
    static const char *const good[] = {"A",          "_",    "API_KEY", "path",    "LDAP",
                                       "NODE",       "PS",   "ENVIRON", "MY_PATH", "HOMEDIR",
                                       "http_proxy", "IFS2", NULL};
    static const char *const bad[] = {
        "",           "1A",       "A-B",          "A B",        "A=B",           "A.B",
        "\xc3\xa9",   "PATH",     "HOME",         "IFS",        "ENV",           "BASH_ENV",
        "SHELLOPTS",  "BASHOPTS", "BASH_FUNC_x",  "PS4",        "LD_PRELOAD",    "LD_",
        "PYTHONPATH", "PYTHON",   "NODE_OPTIONS", "GCONV_PATH", "SANDBOX_INPUT", "SKILL_DIR",
        NULL};

    each(sb_env_name_allowed, good, true);
    each(sb_env_name_allowed, bad, false);
    bounded(sb_env_name_allowed, 128);
}

static void module_names(void **state)
{
    static const char *const good[] = {"a", "scripts.main", "_x.y_1.Z", "__main__", NULL};
    static const char *const bad[] = {"",     ".",   "a.",  ".a",  "a..b",     "1a",
                                      "a.1b", "a-b", "a b", "a/b", "\xc3\xa9", NULL};

    each(sb_module_valid, good, true);
    each(sb_module_valid, bad, false);
    bounded(sb_module_valid, 256);
}

static void paths(void **state)
{
    static const char *const good[] = {
        "a",    "scripts/main.py",          "a/b/c",      "...",   "a..b", ".hidden",
        "d/.x", "\xc3\xa9/\xe2\x82\xac.md", "with space", "a/-rf", NULL};
    static const char *const bad[] = {
        "",     "/",    "/etc/passwd", "a/",           "a//b",     ".",     "..",   "./a",
        "../a", "a/..", "a/../b",      "a/./b",        "a\\b",     "C:\\x", "a\nb", "a\x7f",
        "\x01", "\xff", "a/\xc0\xaf",  "\xed\xa0\x80", "\xc2\x85", NULL};

    each(sb_path_valid, good, true);
    each(sb_path_valid, bad, false);
    bounded(sb_path_valid, SB_PATH_MAX);
    assert_false(sb_path_valid("a\0b", 3));
}

static void lang_is(const char *got, const char *want)
{
    if (want == NULL)
        assert_null(got);
    else
        assert_string_equal(got != NULL ? got : "(none)", want);
}

static void languages_by_extension(void **state)
{
    lang_is(sb_lang_of_path("scripts/main.py"), "python");
    lang_is(sb_lang_of_path("a.js"), "node");
    lang_is(sb_lang_of_path("a.mjs"), "node");
    lang_is(sb_lang_of_path("a.b.cjs"), "node");
    lang_is(sb_lang_of_path("run.sh"), "bash");
    lang_is(sb_lang_of_path("run.bash"), "bash");
    lang_is(sb_lang_of_path("run"), NULL);
    lang_is(sb_lang_of_path("dir.py/run"), NULL);
    lang_is(sb_lang_of_path(".py"), NULL);
    lang_is(sb_lang_of_path("a/.sh"), NULL);
    lang_is(sb_lang_of_path("a.pyc"), NULL);
    lang_is(sb_lang_of_path(""), NULL);
}

static void shebang_is(const char *line, const char *want)
{
    lang_is(sb_lang_of_shebang(line, strlen(line)), want);
}

static void languages_by_first_line(void **state)
{
    char longline[600];

    shebang_is("#!/usr/bin/python3\nprint()", "python");
    shebang_is("#!/usr/bin/python3.11 -u\r\n", "python");
    shebang_is("#!/usr/bin/env python3", "python");
    shebang_is("#! /usr/bin/env  -S  A=1 node --no-warnings\n", "node");
    shebang_is("#!/bin/sh -e\n", "bash");
    shebang_is("#!/bin/bash\n", "bash");
    shebang_is("#!bash\n", "bash");
    shebang_is("#!/usr/bin/perl\n", NULL);
    shebang_is("#!/usr/bin/python2\n", NULL);
    shebang_is("#!/usr/bin/env\npython", NULL);
    shebang_is("#!\n/bin/bash", NULL);
    shebang_is("#!", NULL);
    shebang_is("#", NULL);
    shebang_is("", NULL);
    shebang_is("/bin/bash", NULL);
    assert_null(sb_lang_of_shebang("#!/bin/bash", 8)); /* "#!/bin/b": only what is there counts */
    memset(longline, ' ', sizeof(longline));
    memcpy(longline, "#!", 2);
    memcpy(longline + 580, "bash", 4);
    assert_null(sb_lang_of_shebang(longline, sizeof(longline)));
}

static void language_names(void **state)
{
    static const struct {
        const char *alias;
        const char *lang;
    } table[] = {
        {"python", "python"},
        {"Python", "python"},
        {"py", "python"},
        {"python3", "python"},
        {"python3.12", "python"},
        {"node", "node"},
        {"nodejs", "node"},
        {"node20", "node"},
        {"js", "node"},
        {"JavaScript", "node"},
        {"bash", "bash"},
        {"sh", "bash"},
        {"shell", "bash"},
        {"python2", NULL},
        {"python2.7", NULL},
        {"perl", NULL},
        {"", NULL},
        {"3", NULL},
        {"js3", NULL},
        {"pythonx", NULL},
        {"a-very-long-name-of-some-unknown-language", NULL},
    };

    for (size_t i = 0; i < COUNT(table); i++)
        lang_is(sb_lang_canonical(table[i].alias, strlen(table[i].alias)), table[i].lang);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(skill_names),
        cmocka_unit_test(strict_names),
        cmocka_unit_test(tenants),
        cmocka_unit_test(environment_names),
        cmocka_unit_test(module_names),
        cmocka_unit_test(paths),
        cmocka_unit_test(languages_by_extension),
        cmocka_unit_test(languages_by_first_line),
        cmocka_unit_test(language_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
