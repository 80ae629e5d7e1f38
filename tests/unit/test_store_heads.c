/*
 * test_store_heads.c - what `latest` means, and the lists that show it.
 */
#include "store_fixture.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "../../libskillbox/store_internal.h"

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

static void add(fixture_t *f, const char *name, const char *version, unsigned n)
{
    sb_skill_put_t put = skill_of(f, "acme", name, version, n);
    sb_err_t err;

    assert_int_equal(put_skill(f, &put, &err), SB_OK);
}

static sb_code_t activate(fixture_t *f, const char *tenant, const char *name, const char *version,
                          char active[SB_VERSION_MAX + 1])
{
    sb_batch_t *b = NULL;
    sb_err_t err;
    sb_code_t code;

    assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_OK);
    code = sb_batch_skill_activate(b, tenant, name, version, active, &err);
    assert_int_equal(sb_batch_commit(b, &err), SB_OK);
    check_consistency(f->st);
    return code;
}

/* Look-up, list and the list of versions must have one opinion. */
static void latest_is(fixture_t *f, const char *name, const char *version)
{
    char want[128];
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_skill_t skill;
    sb_err_t err;

    assert_int_equal(sb_store_skill_get(f->st, "acme", name, "latest", &skill, &err), SB_OK);
    assert_string_equal(skill.version.data, version);
    assert_int_equal(sb_store_skill_list(f->st, "acme", NULL, &b, NULL, &err), SB_OK);
    snprintf(want, sizeof(want), "{\"name\":\"%s\",\"version\":\"%s\",", name, version);
    assert_non_null(strstr(b.data, want));
    sb_buf_clear(&b);
    assert_int_equal(sb_store_skill_versions(f->st, "acme", name, &b, &err), SB_OK);
    snprintf(want, sizeof(want), "{\"version\":\"%s\",\"status\":\"available\",\"active\":true,",
             version);
    assert_non_null(strstr(b.data, want));
    assert_null(strstr(strstr(b.data, want) + strlen(want), "\"active\":true"));
    sb_buf_free(&b);
}

static void a_pinned_version_stays_whatever_is_uploaded(void **state)
{
    char active[SB_VERSION_MAX + 1];
    fixture_t *f = *state;

    add(f, "tool", "1.0.0", 1);
    add(f, "tool", "2.0.0", 2);
    latest_is(f, "tool", "2.0.0");
    assert_int_equal(activate(f, "acme", "tool", "1.0.0", active), SB_OK);
    assert_string_equal(active, "1.0.0");
    latest_is(f, "tool", "1.0.0");
    add(f, "tool", "3.0.0", 3);
    latest_is(f, "tool", "1.0.0");
    store_reopen(f);
    latest_is(f, "tool", "1.0.0");
    assert_int_equal(activate(f, "acme", "tool", "2.0.0", active), SB_OK);
    latest_is(f, "tool", "2.0.0");
}

static void a_pin_can_be_let_go(void **state)
{
    char active[SB_VERSION_MAX + 1];
    fixture_t *f = *state;

    add(f, "tool", "1.0.0", 1);
    add(f, "tool", "1.2.0", 2);
    add(f, "tool", "2.0.0-rc.1", 3);
    assert_int_equal(activate(f, "acme", "tool", "2.0.0-rc.1", active), SB_OK);
    latest_is(f, "tool", "2.0.0-rc.1");
    assert_int_equal(activate(f, "acme", "tool", NULL, active), SB_OK);
    assert_string_equal(active, "1.2.0");
    latest_is(f, "tool", "1.2.0");
    add(f, "tool", "1.3.0", 4);
    latest_is(f, "tool", "1.3.0");
}

static void a_deleted_active_version_gives_way_to_the_highest(void **state)
{
    char active[SB_VERSION_MAX + 1];
    fixture_t *f = *state;

    add(f, "tool", "1.0.0", 1);
    add(f, "tool", "2.0.0", 2);
    add(f, "tool", "3.0.0", 3);
    assert_int_equal(activate(f, "acme", "tool", "1.0.0", active), SB_OK);
    assert_int_equal(delete_skill(f, "acme", "tool", "3.0.0"), SB_OK);
    latest_is(f, "tool", "1.0.0"); /* another one's end changes nothing */
    assert_int_equal(delete_skill(f, "acme", "tool", "1.0.0"), SB_OK);
    latest_is(f, "tool", "2.0.0");
    add(f, "tool", "1.0.0", 1); /* the pin went with the version */
    add(f, "tool", "2.1.0", 4);
    latest_is(f, "tool", "2.1.0");
    check_consistency(f->st);
}

static void a_pin_ends_with_its_skill(void **state)
{
    char active[SB_VERSION_MAX + 1];
    fixture_t *f = *state;

    add(f, "tool", "1.0.0", 1);
    assert_int_equal(activate(f, "acme", "tool", "1.0.0", active), SB_OK);
    assert_int_equal(delete_skill(f, "acme", "tool", NULL), SB_OK);
    add(f, "tool", "0.1.0", 2);
    add(f, "tool", "0.2.0", 3);
    latest_is(f, "tool", "0.2.0");
}

static void only_what_is_there_can_be_activated(void **state)
{
    char active[SB_VERSION_MAX + 1];
    fixture_t *f = *state;

    add(f, "tool", "1.0.0", 1);
    assert_int_equal(activate(f, "acme", "tool", "1.0.1", active), SB_ENOTFOUND);
    assert_int_equal(activate(f, "acme", "tool", "latest", active), SB_ENOTFOUND);
    assert_int_equal(activate(f, "acme", "other", "1.0.0", active), SB_ENOTFOUND);
    assert_int_equal(activate(f, "acme", "other", NULL, active), SB_ENOTFOUND);
    assert_int_equal(activate(f, "acme", "..", NULL, active), SB_ENOTFOUND);
    assert_int_equal(activate(f, "beta", "tool", "1.0.0", active), SB_ENOTFOUND);
    latest_is(f, "tool", "1.0.0");
}

static void versions_are_listed_newest_first(void **state)
{
    static const char *const order[] = {"1.5.0", "0.9.0", "2.0.0"}; /* as uploaded, last first */
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    fixture_t *f = *state;
    sb_err_t err;

    for (unsigned i = 3; i-- > 0;) {
        int64_t now = sb_time_now_ms();
        add(f, "tool", order[i], i + 1);
        while (sb_time_now_ms() == now) {
        }
    }
    add(f, "tool-2", "9.0.0", 9); /* a name that goes on is another name */
    assert_int_equal(sb_store_skill_versions(f->st, "acme", "tool", &b, &err), SB_OK);
    json_t *list = json_loads(b.data, 0, NULL);
    assert_int_equal(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *row = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(row, "version")), order[i]);
        assert_int_equal(json_is_true(json_object_get(row, "active")), i == 2);
        assert_int_equal(json_string_length(json_object_get(row, "uploaded_at")), SB_TIME_LEN);
    }
    json_decref(list);
    sb_buf_free(&b);
    assert_int_equal(sb_store_skill_versions(f->st, "acme", "none", &b, &err), SB_ENOTFOUND);
    assert_int_equal(sb_store_skill_versions(f->st, "beta", "tool", &b, &err), SB_ENOTFOUND);
}

/* Which skills are found, as "a b " in the list's order. */
static void found(fixture_t *f, const char *words, const char *status, const char *want)
{
    sb_skill_filter_t filter = {.words = {words, strlen(words)}, .status = status};
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    char names[256] = "";
    json_t *list, *row;
    sb_err_t err;
    size_t i;

    assert_int_equal(sb_store_skill_list(f->st, "acme", &filter, &b, NULL, &err), SB_OK);
    list = json_loads(b.data, 0, NULL);
    assert_non_null(list);
    json_array_foreach(list, i, row)
    {
        strcat(names, json_string_value(json_object_get(row, "name")));
        strcat(names, " ");
    }
    assert_string_equal(names, want);
    json_decref(list);
    sb_buf_free(&b);
}

static void skills_are_found_by_words_of_name_and_description(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t put = skill_of(f, "acme", "csv-tool", "1.0.0", 1);
    sb_skill_filter_t long_one;
    char text[SB_QUERY_MAX + 1];
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    sb_err_t err;

    put.description = "Reads \"quoted\"\nÄrger, \\backslash\\ \x01 and status";
    put.detail = "\"instructions\":\"not searched\"";
    assert_int_equal(put_skill(f, &put, &err), SB_OK);
    put = skill_of(f, "acme", "Other", "1.0.0", 2);
    put.description = "";
    assert_int_equal(put_skill(f, &put, &err), SB_OK);

    found(f, "", NULL, "Other csv-tool ");
    found(f, "CSV", NULL, "csv-tool ");
    found(f, "other", NULL, "Other ");
    found(f, "ärger", NULL, "csv-tool ");
    found(f, "tool \"QUOTED\"", NULL, "csv-tool ");
    found(f, "\\backslash\\", NULL, "csv-tool ");
    found(f, "nÄrger", NULL, ""); /* the escape of a newline is no letter */
    found(f, "u0001", NULL, "");
    found(f, "available", NULL, "");
    found(f, "searched", NULL, "");
    found(f, "csv other", NULL, "");
    found(f, "", "available", "Other csv-tool ");
    found(f, "csv", "available", "csv-tool ");
    found(f, "", "pending", "");

    memset(text, 'x', sizeof(text));
    long_one = (sb_skill_filter_t){.words = {text, sizeof(text)}};
    assert_int_equal(sb_store_skill_list(f->st, "acme", &long_one, &b, NULL, &err), SB_EINVAL);
    long_one = (sb_skill_filter_t){.words = {"", 0}, .status = "a\",\""};
    assert_int_equal(sb_store_skill_list(f->st, "acme", &long_one, &b, NULL, &err), SB_EINVAL);
    sb_buf_free(&b);
}

/* A page of `limit` after a name: its names joined by blanks, and where it goes on. */
static void page(fixture_t *f, const char *words, const char *after, unsigned limit,
                 const char *want, const char *want_next)
{
    sb_skill_filter_t filter = {.words = {words, strlen(words)}, .after = after, .limit = limit};
    char names[256] = "", next[SB_NAME_MAX + 1];
    sb_buf_t b = SB_BUF_INIT(SB_MIB);
    json_t *list, *row;
    sb_err_t err;
    size_t i;

    assert_int_equal(sb_store_skill_list(f->st, "acme", &filter, &b, next, &err), SB_OK);
    list = json_loads(b.data, 0, NULL);
    assert_non_null(list);
    json_array_foreach(list, i, row)
    {
        strcat(names, json_string_value(json_object_get(row, "name")));
        strcat(names, " ");
    }
    assert_string_equal(names, want);
    assert_string_equal(next, want_next);
    json_decref(list);
    sb_buf_free(&b);
}

static void a_list_comes_in_pages_that_follow_each_other(void **state)
{
    static const char *const names[] = {"a", "a-b", "b", "c"};
    fixture_t *f = *state;
    sb_skill_put_t put;
    sb_err_t err;

    for (size_t i = 0; i < 4; i++) {
        put = skill_of(f, "acme", names[i], "1.0.0", (int)i + 1);
        assert_int_equal(put_skill(f, &put, &err), SB_OK);
    }
    put = skill_of(f, "beta", "z", "1.0.0", 9);
    assert_int_equal(put_skill(f, &put, &err), SB_OK);
    page(f, "", NULL, 0, "a a-b b c ", "");
    page(f, "", NULL, 2, "a a-b ", "a-b");
    page(f, "", "a-b", 2, "b c ", ""); /* full, and yet the last */
    page(f, "", "a", 1, "a-b ", "a-b");
    page(f, "", "aa", 3, "b c ", ""); /* one that is no more there */
    page(f, "", "c", 3, "", "");
    page(f, "c", NULL, 1, "c ", "");
}

static void a_search_looks_at_so_many_names_and_tells_where_it_stopped(void **state)
{
    fixture_t *f = *state;
    char name[16] = "";
    sb_skill_put_t put = skill_of(f, "acme", name, "1.0.0", 1);
    sb_err_t err;

    for (int i = 0; i < 2002; i += 500) { /* in batches: a commit each would take seconds */
        sb_batch_t *b;
        assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_OK);
        for (int n = i; n < i + 500 && n < 2002; n++) {
            snprintf(name, sizeof(name), "s%04d", n);
            assert_int_equal(sb_batch_skill_put(b, &put, &err), SB_OK);
            put.package_tmp = NULL; /* it is there */
        }
        assert_int_equal(sb_batch_commit(b, &err), SB_OK);
    }
    page(f, "s2001", NULL, 10, "", "s1999");
    page(f, "s2001", "s1999", 10, "s2001 ", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_list_comes_in_pages_that_follow_each_other),
        T(a_search_looks_at_so_many_names_and_tells_where_it_stopped),
        T(a_pinned_version_stays_whatever_is_uploaded),
        T(a_pin_can_be_let_go),
        T(a_deleted_active_version_gives_way_to_the_highest),
        T(a_pin_ends_with_its_skill),
        T(only_what_is_there_can_be_activated),
        T(versions_are_listed_newest_first),
        T(skills_are_found_by_words_of_name_and_description),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
