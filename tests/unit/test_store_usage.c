/*
 * test_store_usage.c - what tenants keep, in bytes, and the limit on it: the account follows every
 * write, and nothing goes above the limit but a run's result.
 */
#include "store_fixture.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../libskillbox/store_internal.h"

#define T(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)
#define BATCH(f, want, call)                                                                       \
    do {                                                                                           \
        sb_batch_t *b;                                                                             \
        assert_int_equal(sb_batch_begin((f)->st, &b, NULL), SB_OK);                                \
        assert_int_equal(call, want);                                                              \
        assert_int_equal(sb_batch_commit(b, NULL), SB_OK);                                         \
        check_consistency((f)->st);                                                                \
    } while (0)

#define RUN    "01890000-0000-7000-8000-000000000001"
#define OTHER  "01890000-0000-7000-8000-000000000002"
#define RESULT "{\"status\":\"success\",\"files_list\":[\"a\",\"b\"],\"error\":null}"

static sb_tenant_t tenant(fixture_t *f, const char *id)
{
    sb_tenant_t t;

    assert_int_equal(sb_store_tenant_get(f->st, id, &t, NULL), SB_OK);
    return t;
}

static void create(fixture_t *f, const char *id, int64_t disk_bytes)
{
    sb_tenant_t t = {.created_ms = 0};

    for (int i = 0; i < SB_LIMIT_COUNT; i++)
        t.limit[i] = SB_UNLIMITED;
    t.limit[SB_LIMIT_DISK_BYTES] = disk_bytes;
    snprintf(t.id, sizeof(t.id), "%s", id);
    BATCH(f, SB_OK, sb_batch_tenant_create(b, &t, NULL));
}

static void set_limit(fixture_t *f, const char *id, int64_t disk_bytes)
{
    sb_tenant_t t = {.created_ms = 0};

    for (int i = 0; i < SB_LIMIT_COUNT; i++)
        t.limit[i] = SB_LIMIT_KEEP;
    t.limit[SB_LIMIT_DISK_BYTES] = disk_bytes;
    snprintf(t.id, sizeof(t.id), "%s", id);
    BATCH(f, SB_OK, sb_batch_tenant_update(b, &t, NULL));
}

static sb_execution_finish_t finished(const char *id, const char *result, int64_t archive)
{
    return (sb_execution_finish_t){.tenant = "acme",
                                   .id = id,
                                   .status = "success",
                                   .result = result,
                                   .result_len = strlen(result),
                                   .logs = "a log",
                                   .logs_len = 5,
                                   .files = 2,
                                   .archive_bytes = archive,
                                   .created_ms = 1000};
}

static sb_file_put_t file_of(fixture_t *f, unsigned n, int64_t size)
{
    static char path[200];

    snprintf(path, sizeof(path), "%s", upload(f, "file", "content"));
    return (sb_file_put_t){.tenant = "acme",
                           .name = "x",
                           .content_type = "text/plain",
                           .digest = digest_of(n),
                           .size = size,
                           .tmp = path};
}

static void the_account_follows_every_write(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t one, two;
    sb_buf_t json = SB_BUF_INIT(65536);
    sb_file_put_t file;
    sb_execution_finish_t e = finished(RUN, RESULT, 700);
    int64_t package, queued;

    create(f, "acme", SB_UNLIMITED);
    assert_int_equal(sb_use_total(tenant(f, "acme").use), 0);
    one = skill_of(f, "acme", "a", "1.0.0", 1);
    assert_int_equal(put_skill(f, &one, NULL), SB_OK);
    package = tenant(f, "acme").use[SB_USE_PACKAGES];
    assert_true(package > 0);
    assert_int_equal(put_skill(f, &one, NULL), SB_OK); /* the same again */
    assert_int_equal(tenant(f, "acme").use[SB_USE_PACKAGES], package);
    two = skill_of(f, "acme", "b", "1.0.0", 1); /* the same file once more */
    assert_int_equal(put_skill(f, &two, NULL), SB_OK);
    assert_int_equal(tenant(f, "acme").use[SB_USE_PACKAGES], 2 * package);

    file = file_of(f, 50, 7);
    BATCH(f, SB_OK, sb_batch_file_put(b, &file, &json, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_FILES], 7);

    assert_int_equal(begin_execution(f, "acme", RUN, SB_OWNER_HELPER, 1000), SB_OK);
    queued = tenant(f, "acme").use[SB_USE_RECORDS];
    assert_true(queued > 0);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL));
    assert_false(e.dropped);
    assert_true(tenant(f, "acme").use[SB_USE_RECORDS] > queued);
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 700);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL)); /* reported once more */
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 700);

    /* the other tenant's is its own */
    assert_int_equal(begin_execution(f, "else", RUN, SB_OWNER_HELPER, 1000), SB_OK);
    BATCH(f, SB_OK, sb_batch_execution_delete(b, "acme", RUN, NULL, NULL));
    BATCH(f, SB_OK, sb_batch_file_delete(b, "acme", file.id, NULL));
    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    assert_int_equal(sb_use_total(tenant(f, "acme").use), package);
    assert_int_equal(delete_skill(f, "acme", "b", "1.0.0"), SB_OK);
    assert_int_equal(sb_use_total(tenant(f, "acme").use), 0);
    check_consistency(f->st);
    sb_buf_free(&json);
}

static void retention_gives_the_room_back(void **state)
{
    fixture_t *f = *state;
    sb_execution_finish_t e = finished(RUN, RESULT, 700), other = finished(OTHER, RESULT, 30);
    sb_retention_t r = {.keep = 1, .max = 10, .archives = SB_BUF_INIT(1000)};

    create(f, "acme", SB_UNLIMITED);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL));
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &other, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 730);
    BATCH(f, SB_OK, sb_batch_execution_retain(b, &r, NULL));
    assert_int_equal(r.removed, 1);
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 30);
    sb_buf_free(&r.archives);
}

static void what_is_taken_out_of_an_archive_counts_until_the_two_are_looked_at(void **state)
{
    fixture_t *f = *state;
    sb_execution_finish_t e = finished(RUN, RESULT, 700);

    create(f, "acme", SB_UNLIMITED);
    BATCH(f, SB_ENOTFOUND, sb_batch_artifact_taken(b, "acme", RUN, 5, NULL));
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL));
    BATCH(f, SB_OK, sb_batch_artifact_taken(b, "acme", RUN, 5000, NULL));
    BATCH(f, SB_OK, sb_batch_artifact_taken(b, "acme", RUN, 3, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 5703);
    BATCH(f, SB_ENOTFOUND, sb_batch_artifact_taken(b, "else", RUN, 5, NULL));
    BATCH(f, SB_ENOTFOUND, sb_batch_artifact_taken(b, "acme", "nonsense", 5, NULL));
    BATCH(f, SB_ENOTFOUND, sb_batch_artifact_taken(b, "acme", RUN, -1, NULL));
    BATCH(f, SB_ESYSTEM, sb_batch_artifact_taken(b, "acme", RUN, INT64_MAX, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 5703);
    BATCH(f, SB_OK, sb_batch_usage_recount(b, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 5703);
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, RUN, 703, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 703);
    BATCH(f, SB_OK, sb_batch_execution_delete(b, "acme", RUN, NULL, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 0);
    check_consistency(f->st);
}

static void nothing_is_stored_above_the_limit(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t put = skill_of(f, "acme", "a", "1.0.0", 1), next;
    sb_buf_t json = SB_BUF_INIT(65536);
    int64_t package;
    sb_file_put_t file;
    sb_err_t err;

    create(f, "acme", 1);
    assert_int_equal(put_skill(f, &put, &err), SB_EQUOTA);
    assert_non_null(strstr(err.message, "disk_bytes of 1:"));
    assert_int_equal(access(put.package_tmp, F_OK), 0); /* the upload is as it was */
    check_consistency(f->st);
    set_limit(f, "acme", 1000);
    put = skill_of(f, "acme", "a", "1.0.0", 1);
    assert_int_equal(put_skill(f, &put, &err), SB_OK);
    package = tenant(f, "acme").use[SB_USE_PACKAGES];

    set_limit(f, "acme", package + 7);
    file = file_of(f, 50, 8);
    BATCH(f, SB_EQUOTA, sb_batch_file_put(b, &file, &json, &err));
    assert_int_equal(json.len, 0);
    file = file_of(f, 50, 7);
    BATCH(f, SB_OK, sb_batch_file_put(b, &file, &json, &err));
    assert_int_equal(sb_store_tenant_room(f->st, "acme", 0, &err), SB_EQUOTA);
    assert_non_null(strstr(err.message, "used up"));
    /* what is there already takes nothing */
    put = skill_of(f, "acme", "a", "1.0.0", 1);
    assert_int_equal(put_skill(f, &put, &err), SB_OK);
    assert_false(put.created);
    next = skill_of(f, "acme", "a", "2.0.0", 2);
    assert_int_equal(put_skill(f, &next, &err), SB_EQUOTA);
    /* another tenant has no limit */
    next = skill_of(f, "else", "a", "2.0.0", 2);
    assert_int_equal(put_skill(f, &next, &err), SB_OK);
    BATCH(f, SB_OK, sb_batch_file_delete(b, "acme", file.id, NULL));
    assert_int_equal(sb_store_tenant_room(f->st, "acme", 7, &err), SB_OK);
    assert_int_equal(sb_store_tenant_room(f->st, "acme", 8, &err), SB_EQUOTA);
    check_consistency(f->st);
    sb_buf_free(&json);
}

static void a_result_is_kept_where_its_artifacts_have_no_room(void **state)
{
    fixture_t *f = *state;
    sb_execution_finish_t e = finished(RUN, RESULT, 5000), again = e;
    sb_execution_t got;
    sb_err_t err;

    create(f, "acme", 4000);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, &err));
    assert_true(e.dropped);
    assert_int_equal(sb_store_execution_get(f->st, "acme", RUN, &got, &err), SB_OK);
    assert_int_equal(got.files, 0);
    assert_null(strstr(got.json.data, "files_list"));
    assert_non_null(strstr(got.json.data,
                           "\"error\":null,\"warnings\":[\"the artifacts are left out: "
                           "50"));
    assert_non_null(strstr(got.json.data, "\"created_at\""));
    assert_int_equal(got.logs.len, 5);
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 0);
    /* a helper that did not hear of it: the archive is still to go */
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &again, &err));
    assert_true(again.dropped);
    e = finished(OTHER, RESULT, 100);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, &err));
    assert_false(e.dropped);
    /* full: a record goes in all the same */
    set_limit(f, "acme", 0);
    e = finished("01890000-0000-7000-8000-000000000003", "{}", 0);
    e.files = 0;
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, &err));
}

static void without(const char *result, const char *want)
{
    sb_buf_t out = SB_BUF_INIT(4096);

    sb_result_without_files(result, strlen(result), "no \"room\"", &out);
    sb_buf_char(&out, '\0');
    assert_true(sb_buf_ok(&out));
    assert_string_equal(out.data, want);
    sb_buf_free(&out);
}

static void a_result_without_files_is_valid_json(void **state)
{
    without("{}", "{\"warnings\":[\"no \\\"room\\\"\"]}");
    without("{\"files_list\":[\"a]\\\"\"]}", "{\"warnings\":[\"no \\\"room\\\"\"]}");
    without("{\"status\":\"x\",\"files_list\":[],\"warnings\":[\"w\"],\"z\":{\"files_list\":1}}",
            "{\"status\":\"x\",\"warnings\":[\"w\",\"no \\\"room\\\"\"],\"z\":{\"files_list\":1}}");
    without("{\"warnings\":[],\"a\":[1]}", "{\"warnings\":[\"no \\\"room\\\"\"],\"a\":[1]}");
}

static void an_archive_that_is_found_is_counted(void **state)
{
    fixture_t *f = *state;
    sb_execution_finish_t e = finished(RUN, RESULT, 0);

    create(f, "acme", SB_UNLIMITED);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL)); /* as an upgraded store has it */
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, RUN, 300, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 300);
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, RUN, 200, NULL));
    BATCH(f, SB_ENOTFOUND, sb_batch_execution_has_archive(b, OTHER, 200, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 200);
}

/* As a program of schema 4 left it. */
static void make_old(fixture_t *f)
{
    MDB_val key = {6, "schema"}, val;
    sb_num_t num = sb_num(4);
    MDB_txn *txn;

    val = (MDB_val){8, num.data};
    assert_int_equal(mdb_txn_begin(f->st->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, f->st->dbi[SB_DBI_META], &key, &val, 0), 0);
    assert_int_equal(mdb_drop(txn, f->st->dbi[SB_DBI_USAGE], 1), 0);
    assert_int_equal(mdb_drop(txn, f->st->dbi[SB_DBI_ARCHIVES], 1), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void an_older_store_is_counted(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t put = skill_of(f, "acme", "a", "1.0.0", 1);
    sb_execution_finish_t e = finished(RUN, RESULT, 700);
    sb_buf_t json = SB_BUF_INIT(65536);
    sb_tenant_t before, after;
    sb_file_put_t file;

    create(f, "acme", SB_UNLIMITED);
    assert_int_equal(put_skill(f, &put, NULL), SB_OK);
    BATCH(f, SB_OK, sb_batch_execution_finish(b, &e, NULL));
    file = file_of(f, 50, 7);
    BATCH(f, SB_OK, sb_batch_file_put(b, &file, &json, NULL));
    before = tenant(f, "acme");
    make_old(f);
    store_reopen(f);
    after = tenant(f, "acme");
    before.use[SB_USE_ARTIFACTS] = 0; /* until they are found */
    assert_memory_equal(before.use, after.use, sizeof(before.use));
    check_consistency(f->st);
    BATCH(f, SB_OK, sb_batch_execution_has_archive(b, RUN, 700, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 700);
    BATCH(f, SB_OK, sb_batch_usage_recount(b, NULL));
    assert_int_equal(tenant(f, "acme").use[SB_USE_ARTIFACTS], 700);
    sb_buf_free(&json);
}

static void a_tenant_with_files_is_not_deleted(void **state)
{
    fixture_t *f = *state;
    sb_file_put_t file = file_of(f, 50, 7);
    sb_buf_t json = SB_BUF_INIT(65536);
    sb_err_t err;

    create(f, "acme", SB_UNLIMITED);
    BATCH(f, SB_OK, sb_batch_file_put(b, &file, &json, NULL));
    BATCH(f, SB_ECONFLICT, sb_batch_tenant_delete(b, "acme", NULL, &err));
    assert_non_null(strstr(err.message, "files"));
    BATCH(f, SB_OK, sb_batch_file_delete(b, "acme", file.id, NULL));
    BATCH(f, SB_OK, sb_batch_tenant_delete(b, "acme", NULL, NULL));
    sb_buf_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_account_follows_every_write),
        T(retention_gives_the_room_back),
        T(what_is_taken_out_of_an_archive_counts_until_the_two_are_looked_at),
        T(nothing_is_stored_above_the_limit),
        T(a_result_is_kept_where_its_artifacts_have_no_room),
        cmocka_unit_test(a_result_without_files_is_valid_json),
        T(an_archive_that_is_found_is_counted),
        T(an_older_store_is_counted),
        T(a_tenant_with_files_is_not_deleted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
