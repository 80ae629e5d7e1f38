/* test_store_executions.c - the promises of store.h about executions and damaged records. */
#include "store_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libskillbox/store_internal.h"

#define NOW 1700000000000

static sb_execution_t get(fixture_t *f, const char *tenant, const char *id)
{
    sb_execution_t e;
    sb_err_t err;

    assert_ok(sb_store_execution_get(f->st, tenant, id, &e, &err), &err);
    return e;
}

static int sweep(fixture_t *f, int64_t started_ms)
{
    sb_buf_t ended = SB_BUF_INIT(SB_INTERRUPTED_MAX * sizeof(sb_interrupted_t));
    sb_batch_t *b;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    assert_ok(sb_batch_execution_sweep(b, getpid(), started_ms, &ended, &err), &err);
    assert_ok(sb_batch_commit(b, &err), &err);
    for (size_t at = 0; at < ended.len; at += sizeof(sb_interrupted_t)) {
        sb_interrupted_t one;

        memcpy(&one, ended.data + at, sizeof(one));
        assert_string_equal(one.tenant, "acme");
        assert_true(strlen(one.skill) > 0);
        assert_int_equal(strlen(one.id), SB_UUID_LEN);
    }
    int swept = (int)(ended.len / sizeof(sb_interrupted_t));
    sb_buf_free(&ended);
    return swept;
}

static void a_run_is_seen_running_then_finished(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1], want[400], log[] = "line\n\0binary\xff";
    sb_execution_t e;

    sb_uuid7(id);
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_OK);
    e = get(f, "acme", id);
    snprintf(want, sizeof(want),
             "{\"execution_id\":\"%s\",\"status\":\"running\",\"error\":null,\"skill_name\":\"data-"
             "analysis\","
             "\"skill_version\":\"1.0.0\",\"created_at\":\"2023-11-14T22:13:20.000Z\"}",
             id);
    assert_string_equal(e.json.data, want);
    assert_string_equal(e.status.data, "running");
    assert_int_equal(e.logs.len, 0);
    assert_int_equal(e.files, 0);
    check_consistency(f->st);

    assert_int_equal(finish_execution(f, "acme", id, "failed",
                                      "{\"status\":\"failed\",\"error\":\"x\"}", log, sizeof(log)),
                     SB_OK);
    e = get(f, "acme", id);
    snprintf(want, sizeof(want),
             "{\"execution_id\":\"%s\",\"status\":\"failed\",\"error\":\"x\",\"created_at\":"
             "\"1970-01-01T00:00:01.000Z\",\"finished_at\":\"1970-01-01T00:00:02.000Z\"}",
             id);
    assert_string_equal(e.json.data, want);
    assert_string_equal(e.status.data, "failed");
    assert_int_equal(e.logs.len, sizeof(log));
    assert_memory_equal(e.logs.data, log, sizeof(log));
    assert_int_equal(e.files, 3);
    check_consistency(f->st);
}

/* Both kinds of record can be spliced at the documented place. */
static void the_splice_point_is_behind_the_id(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];

    sb_uuid7(id);
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_OK);
    for (int i = 0; i < 2; i++) {
        sb_execution_t e = get(f, "acme", id);
        assert_int_equal(e.json.data[SB_EXECUTION_SPLICE_AT - 1], ',');
        assert_int_equal(e.json.data[SB_EXECUTION_SPLICE_AT], '"');
        assert_int_equal(finish_execution(f, "acme", id, "success", "{}", "", 0), SB_OK);
    }
}

static void finishing_is_idempotent(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1], before[300];

    sb_uuid7(id); /* never begun: that batch may have failed */
    assert_int_equal(finish_execution(f, "acme", id, "success", "{\"status\":\"success\"}", "a", 1),
                     SB_OK);
    snprintf(before, sizeof(before), "%s", get(f, "acme", id).json.data);
    assert_int_equal(finish_execution(f, "acme", id, "failed", "{\"status\":\"failed\"}", "b", 1),
                     SB_OK);
    assert_string_equal(get(f, "acme", id).json.data, before);
    assert_string_equal(get(f, "acme", id).logs.data, "a");
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_ECONFLICT);
    check_consistency(f->st);
}

static void nobody_sees_anothers(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1], upper[SB_UUID_LEN + 1];
    sb_execution_t e;

    sb_uuid7(id);
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_OK);
    assert_int_equal(sb_store_execution_get(f->st, "acm", id, &e, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_execution_get(f->st, "acme2", id, &e, NULL), SB_ENOTFOUND);
    for (size_t i = 0; i <= SB_UUID_LEN; i++)
        upper[i] = (char)(id[i] >= 'a' ? id[i] - 32 : id[i]);
    assert_int_equal(sb_store_execution_get(f->st, "acme", upper, &e, NULL), SB_OK);
    assert_int_equal(sb_store_execution_get(f->st, "acme", "", &e, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_execution_get(f->st, "acme", "x", &e, NULL), SB_ENOTFOUND);
    id[0] = id[0] == '0' ? '1' : '0';
    assert_int_equal(sb_store_execution_get(f->st, "acme", id, &e, NULL), SB_ENOTFOUND);
}

static void bad_writes_are_refused(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];
    char *big = calloc(1, 2 * SB_LOG_MAX + 1);

    assert_non_null(big);
    sb_uuid7(id);
    assert_int_equal(begin_execution(f, "a/b", id, 1, NOW), SB_EINVAL);
    assert_int_equal(begin_execution(f, "acme", "1", 1, NOW), SB_EINVAL);
    assert_int_equal(finish_execution(f, "acme", id, "running", "{}", "", 0), SB_EINVAL);
    assert_int_equal(finish_execution(f, "acme", id, "success", "", "", 0), SB_EINVAL);
    assert_int_equal(finish_execution(f, "acme", id, "success", "[]", "", 0), SB_EINVAL);
    assert_int_equal(finish_execution(f, "acme", id, "success", "{}\n", "", 0), SB_EINVAL);
    assert_int_equal(finish_execution(f, "acme", id, "success", "{}", big, 2 * SB_LOG_MAX + 1),
                     SB_ETOOLARGE);
    assert_int_equal(finish_execution(f, "acme", id, "success", "{}", big, 2 * SB_LOG_MAX), SB_OK);
    check_consistency(f->st);
    free(big);
}

static void a_large_result_survives(void **state)
{
    fixture_t *f = *state;
    size_t len = 8 << 20;
    char *result = malloc(len + 1), id[SB_UUID_LEN + 1];
    sb_execution_t e;

    assert_non_null(result);
    memset(result, 'x', len);
    memcpy(result, "{\"output\":\"", 11);
    memcpy(result + len - 2, "\"}", 3);
    sb_uuid7(id);
    assert_int_equal(finish_execution(f, "acme", id, "success", result, "", 0), SB_OK);
    e = get(f, "acme", id);
    assert_memory_equal(e.json.data + SB_EXECUTION_SPLICE_AT, result + 1, len - 2);
    free(result);
    sb_uuid7(id); /* memory of the large answer is given back */
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_OK);
    get(f, "acme", id);
    assert_true(f->st->kept.cap < 1 << 20);
}

/* ---- the sweep ---- */

static pid_t dead_process(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return pid;
}

static void what_a_dead_worker_left_is_marked(void **state)
{
    fixture_t *f = *state;
    char gone[SB_UUID_LEN + 1], mine[SB_UUID_LEN + 1], done[SB_UUID_LEN + 1], want[400];
    int64_t created = sb_time_now_ms() - 5000;
    long long duration;
    sb_execution_t e;

    sb_uuid7(gone);
    sb_uuid7(mine);
    sb_uuid7(done);
    assert_int_equal(begin_execution(f, "acme", gone, dead_process(), created), SB_OK);
    assert_int_equal(begin_execution(f, "acme", mine, getpid(), created), SB_OK);
    assert_int_equal(begin_execution(f, "acme", done, dead_process(), created), SB_OK);
    assert_int_equal(finish_execution(f, "acme", done, "success", "{}", "", 0), SB_OK);
    assert_int_equal(sweep(f, created), 1);
    assert_int_equal(sweep(f, created), 0);
    assert_string_equal(get(f, "acme", mine).status.data, "running");
    assert_string_equal(get(f, "acme", done).status.data, "success");
    e = get(f, "acme", gone);
    assert_string_equal(e.status.data, "failed");
    snprintf(want, sizeof(want),
             "{\"execution_id\":\"%s\",\"status\":\"failed\",\"duration_ms\":", gone);
    assert_memory_equal(e.json.data, want, strlen(want));
    duration = strtoll(e.json.data + strlen(want), NULL, 10);
    assert_in_range(duration, 5000, 60000);
    assert_non_null(strstr(e.json.data,
                           ",\"error\":\"interrupted\",\"skill_name\":\"data-analysis\","
                           "\"skill_version\":\"1.0.0\",\"created_at\":\"20"));
    assert_non_null(strstr(e.json.data, "Z\",\"finished_at\":\"20"));
    check_consistency(f->st);

    /* a result that comes after all changes nothing */
    assert_int_equal(finish_execution(f, "acme", gone, "success", "{}", "", 0), SB_OK);
    assert_string_equal(get(f, "acme", gone).status.data, "failed");
}

static void an_earlier_life_of_this_process_id_is_marked(void **state)
{
    fixture_t *f = *state;
    char before[SB_UUID_LEN + 1], after[SB_UUID_LEN + 1];

    sb_uuid7(before);
    sb_uuid7(after);
    assert_int_equal(begin_execution(f, "acme", before, getpid(), NOW - 1), SB_OK);
    assert_int_equal(begin_execution(f, "acme", after, getpid(), NOW), SB_OK);
    assert_int_equal(sweep(f, NOW), 1);
    assert_string_equal(get(f, "acme", before).status.data, "failed");
    assert_string_equal(get(f, "acme", after).status.data, "running");
}

/* The owner's id is that of a living process, which was started at another time than the owner. */
static void a_process_id_given_to_another_process_is_no_owner(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];
    sb_num_t owner = sb_num((uint64_t)getpid()), ticks = sb_num(1);
    sb_str_t parts[] = {sb_num_part(&owner), sb_num_part(&ticks)};
    unsigned char binary[16];
    sb_skey_t key;
    MDB_txn *txn;
    MDB_val k;

    sb_uuid7(id);
    assert_int_equal(begin_execution(f, "acme", id, getpid(), NOW), SB_OK);
    assert_int_equal(sweep(f, NOW), 0);
    assert_true(sb_uuid_parse(id, SB_UUID_LEN, binary));
    assert_true(sb_skey(&key, "acme", "", NULL, NULL) && sb_skey_add(&key, binary, 16));
    k = sb_skey_val(&key);
    assert_int_equal(mdb_txn_begin(f->st->env, NULL, 0, &txn), 0);
    assert_int_equal(sb_pack_put(txn, f->st->dbi[SB_DBI_LIVE], &k, SB_KIND_LIVE, parts, 2), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    assert_int_equal(sweep(f, NOW), 1);
    assert_string_equal(get(f, "acme", id).status.data, "failed");
    check_consistency(f->st);
}

/* ---- damaged records ---- */

/* Replaces the only record of a database by the first len bytes of text, in a block of exactly that
 * size. */
static void overwrite(fixture_t *f, int dbi, const MDB_val *key, const unsigned char *text,
                      size_t len)
{
    MDB_val k = *key, v = {len, (void *)(uintptr_t)text};
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(f->st->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, f->st->dbi[dbi], &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

typedef struct {
    unsigned char key[512], val[2048];
    size_t key_len, val_len;
} record_t;

static void take_record(fixture_t *f, int dbi, record_t *r)
{
    MDB_cursor *cur;
    MDB_val k, v;
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(f->st->env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_cursor_open(txn, f->st->dbi[dbi], &cur), 0);
    assert_int_equal(mdb_cursor_get(cur, &k, &v, MDB_FIRST), 0);
    assert_true(k.mv_size <= sizeof(r->key) && v.mv_size <= sizeof(r->val));
    memcpy(r->key, k.mv_data, r->key_len = k.mv_size);
    memcpy(r->val, v.mv_data, r->val_len = v.mv_size);
    mdb_cursor_close(cur);
    mdb_txn_abort(txn);
}

typedef sb_code_t (*reading_t)(fixture_t *f, const char *id);

/* Cuts the record at every length, and sets each byte of its header to the extremes. */
static void damage(fixture_t *f, int dbi, size_t header, reading_t read, const char *id)
{
    record_t r;
    MDB_val key;

    take_record(f, dbi, &r);
    key = (MDB_val){r.key_len, r.key};
    assert_int_equal(read(f, id), SB_OK);
    mdb_env_set_flags(f->st->env, MDB_NOSYNC, 1); /* only here: hundreds of commits */
    for (size_t len = 0; len < r.val_len; len += len < header + 8 ? 1 : 13) {
        overwrite(f, dbi, &key, r.val, len);
        assert_int_equal(read(f, id), SB_EINTERNAL);
    }
    for (size_t i = 0; i < header; i++) {
        unsigned char was = r.val[i];
        for (int c = 0; c < 3; c++) {
            r.val[i] = c == 0 ? 0xff : c == 1 ? 0x7f : (unsigned char)(was + 1);
            overwrite(f, dbi, &key, r.val, r.val_len);
            assert_int_equal(read(f, id), SB_EINTERNAL);
        }
        r.val[i] = was;
    }
    overwrite(f, dbi, &key, r.val, r.val_len);
    mdb_env_set_flags(f->st->env, MDB_NOSYNC, 0);
    assert_int_equal(read(f, id), SB_OK);
}

static sb_code_t read_execution(fixture_t *f, const char *id)
{
    sb_execution_t e;

    return sb_store_execution_get(f->st, "acme", id, &e, NULL);
}

static sb_code_t read_skill(fixture_t *f, const char *id)
{
    sb_skill_t s;

    return sb_store_skill_get(f->st, "acme", "a", "1.0.0", &s, NULL);
}

static sb_code_t read_list(fixture_t *f, const char *id)
{
    sb_buf_t b = SB_BUF_INIT(10000);
    sb_code_t rc = sb_store_skill_list(f->st, "acme", NULL, &b, NULL, NULL);

    sb_buf_free(&b);
    return rc;
}

static sb_code_t read_key(fixture_t *f, const char *id)
{
    static const unsigned char hash[32] = "a hash";
    sb_key_t key;

    return sb_store_key_find(f->st, hash, &key, NULL);
}

static sb_code_t read_type(fixture_t *f, const char *id)
{
    sb_str_t type;

    return sb_store_package_type(f->st, digest_of(1), &type, NULL);
}

static void damaged_records_are_errors(void **state)
{
    fixture_t *f = *state;
    static const unsigned char hash[32] = "a hash";
    sb_skill_put_t p = skill_of(f, "acme", "a", "1.0.0", 1);
    sb_key_t key = {.tenant = "acme", .name = "k"};
    char id[SB_UUID_LEN + 1];
    sb_batch_t *b;

    sb_uuid7(id);
    assert_int_equal(put_skill(f, &p, NULL), SB_OK);
    assert_int_equal(
        finish_execution(f, "acme", id, "success", "{\"status\":\"success\"}", "log", 3), SB_OK);
    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    assert_int_equal(sb_batch_key_put(b, hash, &key, NULL), SB_OK);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);

    damage(f, SB_DBI_EXECUTIONS, 2 + 4 * 5, read_execution, id);
    damage(f, SB_DBI_SKILLS, 2 + 4 * 5, read_skill, id);
    damage(f, SB_DBI_HEADS, 2 + 4 * 2, read_list, id);
    damage(f, SB_DBI_KEYS, 2 + 4 * 7, read_key, id);
    damage(f, SB_DBI_PACKAGES, 2 + 4 * 2, read_type, id);
    check_consistency(f->st);
}

/* ---- after their deletion ---- */

static sb_code_t report(fixture_t *f, const char *tenant, const char *id, bool running)
{
    sb_execution_begin_t e = {tenant, id, "s", "1.0.0", NOW, SB_OWNER_HELPER, !running, NULL};
    sb_batch_t *b;
    sb_code_t code;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    code =
        running ? sb_batch_execution_running(b, &e, NULL) : sb_batch_execution_begin(b, &e, NULL);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
    return code;
}

static bool there(fixture_t *f, const char *tenant, const char *id)
{
    sb_execution_t e;

    return sb_store_execution_get(f->st, tenant, id, &e, NULL) == SB_OK;
}

static void delete_it(fixture_t *f, const char *tenant, const char *id)
{
    sb_batch_t *b;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    assert_int_equal(sb_batch_execution_delete(b, tenant, id, NULL, NULL), SB_OK);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
}

static void sweep_graves(fixture_t *f, int64_t before_ms)
{
    sb_batch_t *b;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    assert_int_equal(sb_batch_grave_sweep(b, before_ms, 10, NULL), SB_OK);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
}

#define OK "{\"status\":\"success\"}"

static void what_was_deleted_is_not_made_again_by_a_late_report(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];

    sb_uuid7(id);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    delete_it(f, "acme", id);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    assert_int_equal(report(f, "acme", id, true), SB_OK);
    assert_int_equal(report(f, "acme", id, false), SB_OK);
    assert_false(there(f, "acme", id));
    store_reopen(f);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    assert_false(there(f, "acme", id));
    assert_int_equal(finish_execution(f, "other", id, "success", OK, "", 0), SB_OK);
    assert_true(there(f, "other", id));
    check_consistency(f->st);
}

static void a_deletion_is_forgotten_after_its_time(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1];

    sb_uuid7(id);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    delete_it(f, "acme", id);
    sweep_graves(f, sb_time_now_ms() - 60000);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    assert_false(there(f, "acme", id));
    sweep_graves(f, sb_time_now_ms() + 1);
    assert_int_equal(finish_execution(f, "acme", id, "success", OK, "", 0), SB_OK);
    assert_true(there(f, "acme", id));
}

/* ---- of helpers ---- */

static unsigned unended(fixture_t *f, int64_t before_ms, sb_live_t *after, sb_live_t *out,
                        unsigned max)
{
    sb_batch_t *b;
    unsigned n = 99;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    assert_int_equal(sb_batch_execution_unended(b, before_ms, after, out, max, &n, NULL), SB_OK);
    sb_batch_abort(b);
    return n;
}

static void the_living_of_helpers_are_listed_in_pieces(void **state)
{
    fixture_t *f = *state;
    char ids[5][SB_UUID_LEN + 1];
    int64_t later = sb_time_now_ms() + 1000;
    sb_live_t after = {"", ""}, out[8];

    assert_int_equal(unended(f, later, &after, out, 8), 0);
    for (int i = 0; i < 5; i++) {
        sb_uuid7(ids[i]);
        if (i == 2) /* a worker's */
            assert_int_equal(begin_execution(f, "acme", ids[i], getpid(), NOW), SB_OK);
        else
            assert_int_equal(report(f, i < 3 ? "acme" : "zeta", ids[i], i % 2 == 0), SB_OK);
    }
    assert_int_equal(unended(f, later, &after, out, 2), 2);
    assert_string_equal(out[0].id, ids[0]);
    assert_string_equal(out[1].id, ids[1]);
    assert_string_equal(after.id, ids[1]);
    assert_int_equal(unended(f, later, &after, out, 2), 1);
    assert_string_equal(out[0].tenant, "zeta");
    assert_string_equal(out[0].id, ids[3]);
    assert_int_equal(unended(f, later, &after, out, 2), 1);
    assert_string_equal(out[0].id, ids[4]);
    assert_string_equal(after.id, "");
    assert_int_equal(unended(f, later - 3600000, &after, out, 8), 0); /* they are too young */
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_run_is_seen_running_then_finished),
        WITH_STORE(the_splice_point_is_behind_the_id),
        WITH_STORE(finishing_is_idempotent),
        WITH_STORE(nobody_sees_anothers),
        WITH_STORE(bad_writes_are_refused),
        WITH_STORE(a_large_result_survives),
        WITH_STORE(what_a_dead_worker_left_is_marked),
        WITH_STORE(an_earlier_life_of_this_process_id_is_marked),
        WITH_STORE(a_process_id_given_to_another_process_is_no_owner),
        WITH_STORE(damaged_records_are_errors),
        WITH_STORE(what_was_deleted_is_not_made_again_by_a_late_report),
        WITH_STORE(a_deletion_is_forgotten_after_its_time),
        WITH_STORE(the_living_of_helpers_are_listed_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
