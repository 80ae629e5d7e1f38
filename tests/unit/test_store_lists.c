/* test_store_lists.c - the promises of store.h about lists, removal and retention of executions,
 * and about idempotency keys. */
#include "store_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../libskillbox/store_internal.h"

#define NOW 1700000000000

static const char *id_of(unsigned n)
{
    static char ids[8][SB_UUID_LEN + 1];
    static unsigned turn;
    char *id = ids[turn++ % 8];

    snprintf(id, SB_UUID_LEN + 1, "01890000-%04x-7000-8000-%012x", n, n);
    return id;
}

/* One operation in a batch of its own. */
#define BATCH(f, code_, call)                                                                      \
    do {                                                                                           \
        sb_batch_t *b;                                                                             \
        sb_err_t err;                                                                              \
        assert_ok(sb_batch_begin((f)->st, &b, &err), &err);                                        \
        assert_int_equal(call, code_);                                                             \
        assert_ok(sb_batch_commit(b, &err), &err);                                                 \
    } while (0)

static void finish(fixture_t *f, const char *tenant, unsigned n, const char *skill,
                   const char *status, uint32_t files)
{
    sb_execution_finish_t e = {.tenant = tenant,
                               .id = id_of(n),
                               .skill = skill,
                               .status = status,
                               .result =
                                   "{\"status\":\"x\",\"output\":{\"a\":\"},{\\\"\"},\"error\":"
                                   "null,\"files_list\":[\"a\"]}",
                               .logs = "log",
                               .logs_len = 3,
                               .files = files,
                               .created_ms = NOW + n,
                               .finished_ms = NOW + n + 1};

    e.result_len = strlen(e.result);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, &err));
}

static void begin(fixture_t *f, const char *tenant, unsigned n, const char *skill, bool queued)
{
    sb_execution_begin_t e = {tenant,  id_of(n),        skill,  "1.0.0",
                              NOW + n, SB_OWNER_HELPER, queued, NULL};

    BATCH(f, SB_OK, sb_batch_execution_begin(b, &e, &err));
}

/* The numbers of the executions on a page, "3 2 1", then "+" when there are more. */
static const char *list(fixture_t *f, const char *tenant, const char *skill, const char *status,
                        const char *after, unsigned limit, char next[SB_UUID_LEN + 1])
{
    static char text[4096];
    sb_execution_query_t q = {tenant, skill, status, after, limit};
    sb_buf_t out = SB_BUF_INIT(1 << 20);
    sb_err_t err;
    size_t used = 0;

    assert_ok(sb_store_execution_list(f->st, &q, &out, next, &err), &err);
    text[0] = '\0';
    for (const char *p = out.data; (p = strstr(p, "\"execution_id\":\"")) != NULL; p++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%ld", used ? " " : "",
                                 strtol(p + 40, NULL, 16));
    snprintf(text + used, sizeof text - used, "%s", next[0] != '\0' ? "+" : "");
    sb_buf_free(&out);
    return text;
}

static void lists_are_newest_first_and_filtered_from_indexes(void **state)
{
    fixture_t *f = *state;
    char next[SB_UUID_LEN + 1], after[SB_UUID_LEN + 1];

    for (unsigned n = 1; n <= 9; n++)
        finish(f, "acme", n, n % 3 == 0 ? "three" : "other", n % 2 ? "success" : "failed", 0);
    finish(f, "acm", 5, "three", "success", 0);
    finish(f, "acmes", 5, "three", "success", 0);
    begin(f, "acme", 10, "three", true);
    begin(f, "acme", 11, "three", false);
    check_consistency(f->st);

    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 50, next), "11 10 9 8 7 6 5 4 3 2 1");
    assert_string_equal(list(f, "acme", "three", NULL, NULL, 50, next), "11 10 9 6 3");
    assert_string_equal(list(f, "acme", NULL, "failed", NULL, 50, next), "8 6 4 2");
    assert_string_equal(list(f, "acme", "three", "success", NULL, 50, next), "9 3");
    assert_string_equal(list(f, "acme", NULL, "queued", NULL, 50, next), "10");
    assert_string_equal(list(f, "acme", NULL, "running", NULL, 50, next), "11");
    assert_string_equal(list(f, "acme", "thre", NULL, NULL, 50, next), "");
    assert_string_equal(list(f, "acm", NULL, NULL, NULL, 50, next), "5");
    assert_string_equal(list(f, "nobody", NULL, NULL, NULL, 50, next), "");

    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 4, after), "11 10 9 8+");
    assert_string_equal(list(f, "acme", NULL, NULL, after, 4, next), "7 6 5 4+");
    assert_string_equal(list(f, "acme", NULL, NULL, next, 4, after), "3 2 1");
    assert_string_equal(list(f, "acme", "three", "success", NULL, 1, after), "9+");
    assert_string_equal(list(f, "acme", "three", "success", after, 1, next), "3");
}

static void an_element_is_the_record_without_what_is_large(void **state)
{
    fixture_t *f = *state;
    sb_execution_query_t q = {"acme", NULL, NULL, NULL, 1};
    sb_buf_t out = SB_BUF_INIT(1 << 20);
    char next[SB_UUID_LEN + 1], want[300];
    sb_err_t err;

    finish(f, "acme", 7, "three", "success", 1);
    assert_ok(sb_store_execution_list(f->st, &q, &out, next, &err), &err);
    snprintf(want, sizeof want,
             "[{\"execution_id\":\"%s\",\"status\":\"x\",\"error\":null,\"created_at\":\"2023-11-"
             "14T22:13:20.007Z\",\"finished_at\":\"2023-11-14T22:13:20.008Z\"}]",
             id_of(7));
    assert_string_equal(out.data, want);
    sb_buf_free(&out);
}

static void an_unknown_status_is_refused(void **state)
{
    fixture_t *f = *state;
    sb_execution_query_t q = {"acme", NULL, "done", NULL, 1};
    sb_buf_t out = SB_BUF_INIT(1000);
    char next[SB_UUID_LEN + 1];

    assert_int_equal(sb_store_execution_list(f->st, &q, &out, next, NULL), SB_EINVAL);
    sb_buf_free(&out);
}

static const char *status_of(fixture_t *f, unsigned n)
{
    sb_execution_t e;
    sb_err_t err;

    assert_ok(sb_store_execution_get(f->st, "acme", id_of(n), &e, &err), &err);
    return e.status.data;
}

/* Whatever the order in which a submit, an announcement and a completion arrive. */
static void reports_of_a_helper_may_overtake_each_other(void **state)
{
    fixture_t *f = *state;
    sb_execution_begin_t e = {"acme", id_of(1), "three", "1.0.0", NOW, 0, false, NULL};

    BATCH(f, SB_OK, sb_batch_execution_running(b, &e, &err));
    assert_string_equal(status_of(f, 1), "running");
    begin(f, "acme", 1, "three", true);
    assert_string_equal(status_of(f, 1), "running");
    check_consistency(f->st);
    finish(f, "acme", 1, "three", "success", 0);
    e.id = id_of(1);
    BATCH(f, SB_OK, sb_batch_execution_running(b, &e, &err));
    begin(f, "acme", 1, "three", true);
    finish(f, "acme", 1, "three", "failed", 0);
    assert_string_equal(status_of(f, 1), "success");
    check_consistency(f->st);

    begin(f, "acme", 2, "three", true);
    assert_string_equal(status_of(f, 2), "queued");
    e.id = id_of(2);
    BATCH(f, SB_OK, sb_batch_execution_running(b, &e, &err));
    assert_string_equal(status_of(f, 2), "running");
    check_consistency(f->st);
}

static void what_a_helper_answers_for_is_not_swept(void **state)
{
    fixture_t *f = *state;
    sb_buf_t ended = SB_BUF_INIT(sizeof(sb_interrupted_t));

    begin(f, "acme", 1, "three", true);
    BATCH(f, SB_OK, sb_batch_execution_sweep(b, getpid(), NOW + 100000, &ended, &err));
    assert_int_equal(ended.len, 0);
    assert_string_equal(status_of(f, 1), "queued");
}

static void only_ended_executions_are_deleted(void **state)
{
    fixture_t *f = *state;
    char next[SB_UUID_LEN + 1];
    uint32_t files = 0;

    finish(f, "acme", 1, "three", "success", 4);
    begin(f, "acme", 2, "three", true);
    BATCH(f, SB_OK, sb_batch_execution_delete(b, "acme", id_of(1), &files, &err));
    assert_int_equal(files, 4);
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_delete(b, "acme", id_of(1), NULL, &err));
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_delete(b, "other", id_of(2), NULL, &err));
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_delete(b, "acme", "nonsense", NULL, &err));
    BATCH(f, SB_ECONFLICT, sb_batch_execution_delete(b, "acme", id_of(2), NULL, &err));
    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 9, next), "2");
    check_consistency(f->st);
}

/* Runs the sweep until it has been round; what was removed. */
static unsigned retain(fixture_t *f, sb_retention_t *r)
{
    unsigned removed = 0;

    for (int i = 0; i < 100; i++) {
        BATCH(f, SB_OK, sb_batch_execution_retain(b, r, &err));
        assert_true(r->removed <= r->max);
        removed += r->removed;
        check_consistency(f->st);
        if (r->round)
            return removed;
    }
    fail_msg("it never comes round");
    return 0;
}

static void retention_goes_by_age_and_number_for_each_tenant(void **state)
{
    fixture_t *f = *state;
    sb_retention_t r = {.before_ms = NOW + 4, .max = 2};
    char next[SB_UUID_LEN + 1];

    sb_buf_init(&r.archives, 1 << 16);
    for (unsigned n = 1; n <= 9; n++) {
        finish(f, "acme", n, "three", "success", n % 2);
        finish(f, "zeta", n + 16, "three", "success", 0);
    }
    begin(f, "acme", 0, "three", true); /* old, but live */
    assert_int_equal(retain(f, &r), 3);
    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 50, next), "9 8 7 6 5 4 0");
    assert_int_equal(r.archives.len, 2 * (SB_UUID_LEN + 1));
    assert_string_equal(r.archives.data, id_of(1));

    r.before_ms = 0;
    r.keep = 4;
    assert_int_equal(retain(f, &r), 2 + 5);
    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 50, next), "9 8 7 6 0");
    assert_string_equal(list(f, "zeta", NULL, NULL, NULL, 50, next), "25 24 23 22");
    assert_int_equal(retain(f, &r), 0);
    sb_buf_free(&r.archives);
}

static void archives_without_a_record_are_told_from_others(void **state)
{
    fixture_t *f = *state;

    finish(f, "acme", 1, "three", "success", 1);
    finish(f, "zeta", 2, "three", "success", 0);
    begin(f, "zeta", 3, "three", false);
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, id_of(1), 10, &err));
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_has_archive(b, id_of(2), 10, &err));
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, id_of(3), 10, &err)); /* it may come */
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_has_archive(b, id_of(4), 10, &err));
}

/* A record as schema 1 had it, whose program knew no lists. */
static void put_old(fixture_t *f, unsigned n, const char *status)
{
    sb_num_t files = sb_num(1), created = sb_num(NOW);
    unsigned char id[16];
    char json[300];
    sb_batch_t *b;
    sb_skey_t key;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    snprintf(json, sizeof json,
             "{\"execution_id\":\"%s\",\"status\":\"%s\",\"output\":[\"skill_name\"],"
             "\"skill_name\":\"old-one\"}",
             id_of(n), status);
    sb_str_t parts[5] = {sb_str_of(status, strlen(status)), sb_num_part(&files),
                         sb_num_part(&created), sb_str_of(json, strlen(json)), sb_str_of("log", 3)};
    assert_true(sb_uuid_parse(id_of(n), SB_UUID_LEN, id));
    assert_true(sb_exec_key(&key, "acme", id));
    MDB_val k = sb_skey_val(&key);
    assert_int_equal(
        sb_pack_put(b->txn, f->st->dbi[SB_DBI_EXECUTIONS], &k, SB_KIND_EXECUTION, parts, 5), 0);
    assert_int_equal(sb_store_meta_put(f->st, b->txn, "schema", 1), 0);
    assert_ok(sb_batch_commit(b, &err), &err);
}

static void executions_of_an_older_store_are_listed_and_removed_too(void **state)
{
    fixture_t *f = *state;
    char next[SB_UUID_LEN + 1];
    sb_execution_t e;
    uint32_t files = 0;
    sb_err_t error;

    put_old(f, 1, "success");
    put_old(f, 2, "failed");
    store_reopen(f);
    check_consistency(f->st);
    assert_string_equal(list(f, "acme", "old-one", NULL, NULL, 9, next), "2 1");
    assert_string_equal(list(f, "acme", NULL, "failed", NULL, 9, next), "2");
    assert_ok(sb_store_execution_get(f->st, "acme", id_of(2), &e, &error), &error);
    assert_string_equal(e.logs.data, "log");
    BATCH(f, SB_OK, sb_batch_execution_delete(b, "acme", id_of(1), &files, &err));
    assert_int_equal(files, 1);
    assert_string_equal(list(f, "acme", NULL, NULL, NULL, 9, next), "2");
    check_consistency(f->st);
}

/* ---- idempotency ---- */

static void a_key_stands_for_one_execution_until_it_is_swept(void **state)
{
    fixture_t *f = *state;
    const unsigned char key[32] = "key", other[32] = "other";
    sb_idempotency_t in = {.body = "body", .created_ms = NOW}, out;
    sb_err_t e;

    snprintf(in.execution, sizeof in.execution, "%s", id_of(1));
    assert_int_equal(sb_store_idempotency_find(f->st, "acme", key, &out, &e), SB_ENOTFOUND);
    BATCH(f, SB_OK, sb_batch_idempotency_put(b, "acme", key, &in, &out, &err));
    snprintf(in.execution, sizeof in.execution, "%s", id_of(2));
    BATCH(f, SB_ECONFLICT, sb_batch_idempotency_put(b, "acme", key, &in, &out, &err));
    assert_string_equal(out.execution, id_of(1));
    in.created_ms = NOW + 10;
    BATCH(f, SB_OK, sb_batch_idempotency_put(b, "other", key, &in, &out, &err));
    BATCH(f, SB_OK, sb_batch_idempotency_put(b, "acme", other, &in, &out, &err));
    check_consistency(f->st);

    assert_ok(sb_store_idempotency_find(f->st, "acme", key, &out, &e), &e);
    assert_string_equal(out.execution, id_of(1));
    assert_memory_equal(out.body, "body", 4);
    assert_int_equal(out.created_ms, NOW);

    BATCH(f, SB_OK, sb_batch_idempotency_remove(b, "acme", other, id_of(1), &err)); /* not its */
    assert_ok(sb_store_idempotency_find(f->st, "acme", other, &out, &e), &e);
    BATCH(f, SB_OK, sb_batch_idempotency_remove(b, "acme", other, id_of(2), &err));
    assert_int_equal(sb_store_idempotency_find(f->st, "acme", other, &out, &e), SB_ENOTFOUND);

    BATCH(f, SB_OK, sb_batch_idempotency_sweep(b, NOW + 5, 10, &err));
    assert_int_equal(sb_store_idempotency_find(f->st, "acme", key, &out, &e), SB_ENOTFOUND);
    assert_ok(sb_store_idempotency_find(f->st, "other", key, &out, &e), &e);
    check_consistency(f->st);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, store_setup, store_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(lists_are_newest_first_and_filtered_from_indexes),
        STORE_TEST(an_element_is_the_record_without_what_is_large),
        STORE_TEST(an_unknown_status_is_refused),
        STORE_TEST(reports_of_a_helper_may_overtake_each_other),
        STORE_TEST(what_a_helper_answers_for_is_not_swept),
        STORE_TEST(only_ended_executions_are_deleted),
        STORE_TEST(retention_goes_by_age_and_number_for_each_tenant),
        STORE_TEST(archives_without_a_record_are_told_from_others),
        STORE_TEST(executions_of_an_older_store_are_listed_and_removed_too),
        STORE_TEST(a_key_stands_for_one_execution_until_it_is_swept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
