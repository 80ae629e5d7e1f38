/* test_store_tenants.c - the promises of store.h about tenants, their limits, the rotation and the
 * use of keys, and of store_upgrade.c. */
#include <stdio.h>
#include <string.h>

#include "../../libskillbox/signature.h"
#include "../../libskillbox/store_internal.h"
#include "store_fixture.h"

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)

static sb_batch_t *batch(fixture_t *f)
{
    sb_batch_t *b;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    return b;
}

static void commit(sb_batch_t *b)
{
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
}

static sb_key_t make_key(fixture_t *f, const char *tenant, const char *secret)
{
    sb_key_t key = {.role = SB_ROLE_RUNNER, .name = "a key"};
    unsigned char hash[32];
    sb_batch_t *b = batch(f);

    snprintf(key.tenant, sizeof(key.tenant), "%s", tenant);
    sb_sha256(secret, strlen(secret), hash);
    assert_int_equal(sb_batch_key_put(b, hash, &key, NULL), SB_OK);
    commit(b);
    return key;
}

static sb_code_t find_key(fixture_t *f, const char *secret, sb_key_t *key)
{
    unsigned char hash[32];

    sb_sha256(secret, strlen(secret), hash);
    return sb_store_key_find(f->st, hash, key, NULL);
}

static sb_code_t rotate(fixture_t *f, const char *id, const char *secret, int64_t grace,
                        sb_key_t *next, int64_t *until)
{
    unsigned char hash[32];
    sb_batch_t *b = batch(f);
    sb_code_t rc;

    sb_sha256(secret, strlen(secret), hash);
    rc = sb_batch_key_rotate(b, id, hash, grace, next, until, NULL);
    commit(b);
    return rc;
}

static sb_tenant_t unlimited(const char *id)
{
    sb_tenant_t t = {.created_ms = 0};

    snprintf(t.id, sizeof(t.id), "%s", id);
    for (int i = 0; i < SB_LIMIT_COUNT; i++)
        t.limit[i] = SB_UNLIMITED;
    return t;
}

static sb_code_t create(fixture_t *f, sb_tenant_t *t)
{
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_tenant_create(b, t, NULL);

    commit(b);
    return rc;
}

static sb_code_t update(fixture_t *f, sb_tenant_t *t)
{
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_tenant_update(b, t, NULL);

    commit(b);
    return rc;
}

static sb_code_t delete_tenant(fixture_t *f, const char *id, int *revoked)
{
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_tenant_delete(b, id, revoked, NULL);

    commit(b);
    return rc;
}

/* ---- tenants ---- */

static void limits_are_kept_and_changed_one_by_one(void **state)
{
    fixture_t *f = *state;
    sb_tenant_t t = unlimited("acme"), got;
    int64_t limit[SB_LIMIT_COUNT];

    t.limit[SB_LIMIT_CONCURRENT_RUNS] = 0; /* nothing at all is a limit, too */
    t.limit[SB_LIMIT_PACKAGE_BYTES] = SB_LIMIT_MAX;
    assert_int_equal(create(f, &t), SB_OK);
    assert_true(t.created_ms > 0);
    assert_int_equal(create(f, &t), SB_ECONFLICT);

    for (int i = 0; i < SB_LIMIT_COUNT; i++)
        t.limit[i] = SB_LIMIT_KEEP;
    t.limit[SB_LIMIT_RUNS_PER_MINUTE] = 7;
    t.limit[SB_LIMIT_PACKAGE_BYTES] = SB_UNLIMITED;
    assert_int_equal(update(f, &t), SB_OK);
    assert_int_equal(t.limit[SB_LIMIT_CONCURRENT_RUNS], 0);

    store_reopen(f);
    assert_int_equal(sb_store_tenant_get(f->st, "acme", &got, NULL), SB_OK);
    assert_int_equal(got.created_ms, t.created_ms);
    assert_int_equal(got.limit[SB_LIMIT_CONCURRENT_RUNS], 0);
    assert_int_equal(got.limit[SB_LIMIT_RUNS_PER_MINUTE], 7);
    assert_int_equal(got.limit[SB_LIMIT_PACKAGE_BYTES], SB_UNLIMITED);
    assert_int_equal(sb_store_tenant_limits(f->st, "nobody", limit, NULL), SB_OK);
    for (int i = 0; i < SB_LIMIT_COUNT; i++)
        assert_int_equal(limit[i], SB_UNLIMITED);
    check_consistency(f->st);
}

static void bad_limits_and_unknown_tenants_are_refused(void **state)
{
    fixture_t *f = *state;
    sb_tenant_t t = unlimited("acme");

    assert_int_equal(update(f, &t), SB_ENOTFOUND);
    t.limit[SB_LIMIT_DISK_BYTES] = SB_LIMIT_MAX + 1;
    assert_int_equal(create(f, &t), SB_EINVAL);
    t.limit[SB_LIMIT_DISK_BYTES] = SB_LIMIT_KEEP; /* nothing is there to be kept */
    assert_int_equal(create(f, &t), SB_EINVAL);
    t = unlimited("no/name");
    assert_int_equal(create(f, &t), SB_EINVAL);
    assert_int_equal(delete_tenant(f, "nobody", NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_tenant_get(f->st, "", &t, NULL), SB_ENOTFOUND);
}

static sb_code_t append_id(void *ctx, const sb_tenant_t *tenant, sb_err_t *err)
{
    strcat(ctx, tenant->id);
    strcat(ctx, " ");
    return SB_OK;
}

static void tenants_made_by_their_first_key_are_listed_too(void **state)
{
    fixture_t *f = *state;
    sb_tenant_t t = unlimited("beta");
    char ids[100] = "";

    make_key(f, "gamma", "one");
    make_key(f, "alpha", "two");
    assert_int_equal(create(f, &t), SB_OK);
    assert_int_equal(sb_store_tenant_each(f->st, append_id, ids, NULL), SB_OK);
    assert_string_equal(ids, "alpha beta gamma ");
}

static void a_tenant_with_skills_or_executions_is_not_deleted(void **state)
{
    fixture_t *f = *state;
    static const char id[] = "01890000-0000-7000-8000-000000000001";
    sb_skill_put_t put = skill_of(f, "acme", "a", "1.0.0", 1);
    sb_key_t key, other = make_key(f, "acme2", "of another");
    sb_tenant_t got;
    int revoked = 0;

    make_key(f, "acme", "one");
    key = make_key(f, "acme", "two");
    assert_int_equal(put_skill(f, &put, NULL), SB_OK);
    assert_int_equal(delete_tenant(f, "acme", &revoked), SB_ECONFLICT);
    assert_int_equal(find_key(f, "two", &key), SB_OK);
    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    assert_int_equal(begin_execution(f, "acme", id, 1, 1), SB_OK);
    assert_int_equal(delete_tenant(f, "acme", &revoked), SB_ECONFLICT);

    assert_int_equal(begin_execution(f, "acme2x", id, 1, 1), SB_OK); /* not acme2's */
    assert_int_equal(delete_tenant(f, "acme2", &revoked), SB_OK);
    assert_int_equal(revoked, 1);
    assert_int_equal(find_key(f, "of another", &other), SB_EAUTH);
    assert_int_equal(find_key(f, "one", &key), SB_OK);
    assert_int_equal(sb_store_tenant_get(f->st, "acme2", &got, NULL), SB_ENOTFOUND);
}

static void all_keys_of_a_deleted_tenant_are_revoked(void **state)
{
    fixture_t *f = *state;
    char secret[16];
    sb_key_t key;
    int revoked = 0;

    for (int i = 0; i < 40; i++) {
        snprintf(secret, sizeof(secret), "s%d", i);
        make_key(f, i % 2 ? "odd" : "even", secret);
    }
    assert_int_equal(delete_tenant(f, "odd", &revoked), SB_OK);
    assert_int_equal(revoked, 20);
    for (int i = 0; i < 40; i++) {
        snprintf(secret, sizeof(secret), "s%d", i);
        assert_int_equal(find_key(f, secret, &key), i % 2 ? SB_EAUTH : SB_OK);
    }
    check_consistency(f->st);
}

/* ---- keys ---- */

static void a_rotated_key_goes_on_for_its_grace_time(void **state)
{
    fixture_t *f = *state;
    sb_key_t old = make_key(f, "acme", "old"), next, got;
    int64_t now = sb_time_now_ms(), until = 0;

    assert_int_equal(rotate(f, old.id, "new", 60000, &next, &until), SB_OK);
    assert_string_not_equal(next.id, old.id);
    assert_string_equal(next.tenant, "acme");
    assert_string_equal(next.name, "a key");
    assert_int_equal(next.role, SB_ROLE_RUNNER);
    assert_int_equal(next.expires_ms, 0);
    assert_true(until >= now + 60000 && until < now + 90000);
    assert_int_equal(find_key(f, "new", &got), SB_OK);
    assert_string_equal(got.id, next.id);
    assert_int_equal(find_key(f, "old", &got), SB_OK);
    assert_int_equal(got.expires_ms, until);

    /* Again, with more grace: the old one's end is not put off. */
    assert_int_equal(rotate(f, old.id, "third", 600000, &next, &got.expires_ms), SB_OK);
    assert_int_equal(got.expires_ms, until);
    check_consistency(f->st);
}

static void a_key_rotated_without_grace_is_unknown_at_once(void **state)
{
    fixture_t *f = *state;
    sb_key_t old = make_key(f, "acme", "old"), next, got;

    assert_int_equal(rotate(f, old.id, "new", 0, &next, NULL), SB_OK);
    assert_int_equal(find_key(f, "old", &got), SB_EAUTH);
    assert_int_equal(find_key(f, "new", &got), SB_OK);
    assert_int_equal(rotate(f, old.id, "more", 0, &next, NULL), SB_ENOTFOUND);
    assert_int_equal(rotate(f, next.id, "new", 0, &next, NULL), SB_ECONFLICT); /* the same secret */
    assert_int_equal(find_key(f, "new", &got), SB_OK);
    check_consistency(f->st);
}

static void an_expired_key_is_not_rotated(void **state)
{
    fixture_t *f = *state;
    sb_key_t key = {.role = SB_ROLE_READER, .tenant = "acme", .expires_ms = 1000}, next;
    unsigned char hash[32] = {1};
    sb_batch_t *b = batch(f);

    assert_int_equal(sb_batch_key_put(b, hash, &key, NULL), SB_OK);
    commit(b);
    assert_int_equal(rotate(f, key.id, "new", 60000, &next, NULL), SB_ECONFLICT);
    assert_int_equal(find_key(f, "new", &next), SB_EAUTH);
}

static int64_t used(fixture_t *f, const char *id)
{
    sb_key_t key;

    assert_int_equal(sb_store_key_get(f->st, id, &key, NULL), SB_OK);
    return key.used_ms;
}

static void the_last_use_never_goes_back(void **state)
{
    fixture_t *f = *state;
    sb_key_t a = make_key(f, "acme", "a"), b = make_key(f, "acme", "b"), got;
    sb_key_use_t uses[3] = {{.used_ms = 5000}, {.used_ms = 6000}, {.used_ms = 7000}};
    sb_batch_t *batch_ = batch(f);

    memcpy(uses[0].id, a.id, sizeof(a.id));
    memcpy(uses[1].id, "01890000-0000-7000-8000-000000000001", SB_UUID_LEN + 1); /* unknown */
    memcpy(uses[2].id, b.id, sizeof(b.id));
    assert_int_equal(used(f, a.id), 0);
    assert_int_equal(sb_batch_key_used(batch_, uses, 3, NULL), SB_OK);
    uses[0].used_ms = 4000; /* of another worker, later */
    assert_int_equal(sb_batch_key_used(batch_, uses, 1, NULL), SB_OK);
    commit(batch_);
    assert_int_equal(used(f, a.id), 5000);
    assert_int_equal(used(f, b.id), 7000);

    batch_ = batch(f);
    assert_int_equal(sb_batch_key_revoke(batch_, a.id, NULL), SB_OK);
    commit(batch_);
    assert_int_equal(sb_store_key_get(f->st, a.id, &got, NULL), SB_ENOTFOUND);
}

/* ---- schema ---- */

static void make_old(fixture_t *f)
{
    MDB_val key = {6, "schema"}, val;
    sb_num_t num = sb_num(1);
    MDB_txn *txn;

    val = (MDB_val){8, num.data};
    assert_int_equal(mdb_txn_begin(f->st->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, f->st->dbi[SB_DBI_META], &key, &val, 0), 0);
    assert_int_equal(mdb_drop(txn, f->st->dbi[SB_DBI_LIMITS], 1), 0);
    assert_int_equal(mdb_drop(txn, f->st->dbi[SB_DBI_KEYUSED], 1), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void a_store_of_schema_1_is_upgraded_with_all_it_holds(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t put = skill_of(f, "acme", "a", "1.0.0", 1);
    sb_skill_t skill;
    sb_tenant_t t;
    sb_key_t key = make_key(f, "acme", "one"), got;
    sb_err_t err;

    assert_int_equal(put_skill(f, &put, NULL), SB_OK);
    make_old(f);
    sb_store_close(f->st);
    f->st = NULL;
    for (int i = 0; i < 2; i++) { /* the CLI, which makes no store, and again */
        sb_store_close(f->st);
        assert_ok(sb_store_open(f->path, 0, false, &f->st, &err), &err);
        assert_int_equal(find_key(f, "one", &got), SB_OK);
        assert_string_equal(got.id, key.id);
        assert_int_equal(sb_store_skill_get(f->st, "acme", "a", NULL, &skill, NULL), SB_OK);
        assert_int_equal(sb_store_tenant_get(f->st, "acme", &t, NULL), SB_OK);
        assert_int_equal(t.limit[0], SB_UNLIMITED);
    }
    t.limit[0] = 3;
    assert_int_equal(update(f, &t), SB_OK);
    check_consistency(f->st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(limits_are_kept_and_changed_one_by_one),
        WITH_STORE(bad_limits_and_unknown_tenants_are_refused),
        WITH_STORE(tenants_made_by_their_first_key_are_listed_too),
        WITH_STORE(a_tenant_with_skills_or_executions_is_not_deleted),
        WITH_STORE(all_keys_of_a_deleted_tenant_are_revoked),
        WITH_STORE(a_rotated_key_goes_on_for_its_grace_time),
        WITH_STORE(a_key_rotated_without_grace_is_unknown_at_once),
        WITH_STORE(an_expired_key_is_not_rotated),
        WITH_STORE(the_last_use_never_goes_back),
        WITH_STORE(a_store_of_schema_1_is_upgraded_with_all_it_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
