/* test_store.c - the promises of store.h: opening, keys, skills, executions. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../libskillbox/signature.h"
#include "../../libskillbox/store_internal.h"

static unsigned mode_of(const char *dir, const char *name)
{
    char path[200];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

/* ---- opening ---- */

static void it_is_made_for_its_user_alone(void **state)
{
    fixture_t *f = *state;
    mode_t old = umask(0);
    sb_err_t err;

    assert_ok(sb_store_open(f->path, 1 << 20, true, &f->st, &err), &err);
    umask(old);
    assert_int_equal(mode_of(f->path, "."), 0700);
    assert_int_equal(mode_of(f->path, "packages"), 0700);
    assert_int_equal(mode_of(f->path, "tmp"), 0700);
    assert_int_equal(mode_of(f->path, "data.mdb"), 0600);
    assert_int_equal(mode_of(f->path, "lock.mdb"), 0600);
    assert_ok(sb_store_ping(f->st, &err), &err);
    check_consistency(f->st);
}

static void without_create_nothing_is_made(void **state)
{
    fixture_t *f = *state;
    sb_err_t err;

    assert_int_equal(sb_store_open(f->path, 0, false, &f->st, &err), SB_ENOTFOUND);
    assert_null(f->st);
    assert_false(file_exists(f->top, "store"));
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(sb_store_open(f->path, 0, false, &f->st, &err), SB_ENOTFOUND);
    assert_int_equal(count_files(f->top, "store"), 0);
}

static void an_impossible_place_is_a_system_error(void **state)
{
    fixture_t *f = *state;
    sb_err_t err;

    assert_int_equal(sb_store_open("/nonexistent/a/b", 0, true, &f->st, &err), SB_ESYSTEM);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(sb_store_open(upload(f, "file", "x"), 0, true, &f->st, &err), SB_ESYSTEM);
    assert_null(f->st);
}

static void a_second_opening_in_a_process_is_refused(void **state)
{
    fixture_t *f = *state;
    sb_store_t *other = f->st;
    char link[100];
    sb_err_t err;

    assert_int_equal(sb_store_open(f->path, 0, true, &other, &err), SB_EINTERNAL);
    assert_null(other);
    snprintf(link, sizeof(link), "%s/link", f->top); /* the file counts, not its name */
    assert_int_equal(symlink(f->path, link), 0);
    assert_int_equal(sb_store_open(link, 0, false, &other, &err), SB_EINTERNAL);
    assert_ok(sb_store_ping(f->st, &err), &err);
    sb_store_close(f->st);
    assert_ok(sb_store_open(link, 0, false, &f->st, &err), &err);
}

static void the_creator_fixes_the_size(void **state)
{
    fixture_t *f = *state;
    MDB_envinfo info;
    sb_err_t err;

    assert_ok(sb_store_open(f->path, (8 << 20) - 100, true, &f->st, &err), &err);
    sb_store_close(f->st);
    assert_ok(sb_store_open(f->path, 32 << 20, true, &f->st, &err), &err);
    assert_int_equal(mdb_env_info(f->st->env, &info), 0);
    assert_int_equal(info.me_mapsize, 8 << 20);
}

static void set_schema(fixture_t *f, uint64_t schema)
{
    MDB_val key = {6, "schema"}, val;
    sb_num_t num = sb_num(schema);
    MDB_txn *txn;

    val = (MDB_val){8, num.data};
    assert_int_equal(mdb_txn_begin(f->st->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, f->st->dbi[SB_DBI_META], &key, &val, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void hash_file(fixture_t *f, unsigned char out[32])
{
    static char data[4 << 20];
    char path[120];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%s/data.mdb", f->path);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    n = read(fd, data, sizeof(data));
    assert_true(n > 0 && (size_t)n < sizeof(data));
    close(fd);
    sb_sha256(data, (size_t)n, out);
}

static void a_newer_schema_is_refused_and_untouched(void **state)
{
    fixture_t *f = *state;
    unsigned char before[32], after[32];
    char leftover[120];
    sb_err_t err;

    set_schema(f, SB_STORE_SCHEMA + 1);
    sb_store_close(f->st);
    f->st = NULL;
    snprintf(leftover, sizeof(leftover), "store/packages/%s", digest_of(1));
    upload(f, leftover, "of the newer program"); /* not ours to sweep */
    hash_file(f, before);
    assert_int_equal(sb_store_open(f->path, 0, true, &f->st, &err), SB_ECONFLICT);
    assert_null(f->st);
    hash_file(f, after);
    assert_memory_equal(before, after, 32);
    assert_true(file_exists(f->top, leftover));
}

/* ---- keys ---- */

static sb_key_t key_of(const char *tenant, const char *name, sb_role_t role)
{
    sb_key_t key = {.role = role};

    snprintf(key.tenant, sizeof(key.tenant), "%s", tenant);
    snprintf(key.name, sizeof(key.name), "%s", name);
    return key;
}

static sb_code_t put_key(fixture_t *f, const char *secret, sb_key_t *key)
{
    unsigned char hash[32];
    sb_batch_t *b;
    sb_code_t rc;

    sb_sha256(secret, strlen(secret), hash);
    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    rc = sb_batch_key_put(b, hash, key, NULL);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
    return rc;
}

static sb_code_t find_key(fixture_t *f, const char *secret, sb_key_t *key)
{
    unsigned char hash[32];

    sb_sha256(secret, strlen(secret), hash);
    return sb_store_key_find(f->st, hash, key, NULL);
}

static sb_code_t revoke_key(fixture_t *f, const char *id)
{
    sb_batch_t *b;
    sb_code_t rc;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    rc = sb_batch_key_revoke(b, id, NULL);
    assert_int_equal(sb_batch_commit(b, NULL), SB_OK);
    return rc;
}

static void a_key_is_found_by_its_hash_until_revoked(void **state)
{
    fixture_t *f = *state;
    sb_key_t key = key_of("acme", "ci \xc3\xa9", SB_ROLE_PUBLISHER), got;
    char upper[SB_UUID_LEN + 1];

    key.service = true;
    key.expires_ms = 123456789;
    assert_int_equal(find_key(f, "one", &got), SB_EAUTH);
    assert_int_equal(put_key(f, "one", &key), SB_OK);
    assert_true(sb_uuid_parse(key.id, strlen(key.id), NULL));
    assert_true(key.created_ms > 1600000000000);
    store_reopen(f);
    assert_int_equal(find_key(f, "one", &got), SB_OK);
    assert_memory_equal(&got.id, &key.id, sizeof(key.id));
    assert_string_equal(got.tenant, "acme");
    assert_string_equal(got.name, "ci \xc3\xa9");
    assert_int_equal(got.role, SB_ROLE_PUBLISHER);
    assert_true(got.service);
    assert_int_equal(got.created_ms, key.created_ms);
    assert_int_equal(got.expires_ms, 123456789);
    assert_int_equal(find_key(f, "two", &got), SB_EAUTH);
    check_consistency(f->st);

    for (size_t i = 0; i <= SB_UUID_LEN; i++)
        upper[i] = (char)(key.id[i] >= 'a' ? key.id[i] - 32 : key.id[i]);
    assert_int_equal(revoke_key(f, upper), SB_OK);
    assert_int_equal(find_key(f, "one", &got), SB_EAUTH);
    assert_int_equal(revoke_key(f, key.id), SB_ENOTFOUND);
    assert_int_equal(revoke_key(f, "nonsense"), SB_ENOTFOUND);
    check_consistency(f->st);
}

static void a_key_is_never_overwritten(void **state)
{
    fixture_t *f = *state;
    sb_key_t a = key_of("acme", "a", SB_ROLE_READER), b = key_of("evil", "b", SB_ROLE_ADMIN), got;

    assert_int_equal(put_key(f, "one", &a), SB_OK);
    assert_int_equal(put_key(f, "one", &b), SB_ECONFLICT);
    memcpy(b.id, a.id, sizeof(a.id));
    assert_int_equal(put_key(f, "two", &b), SB_ECONFLICT);
    assert_int_equal(find_key(f, "one", &got), SB_OK);
    assert_string_equal(got.tenant, "acme");
    assert_int_equal(find_key(f, "two", &got), SB_EAUTH);
    check_consistency(f->st);
}

static void bad_keys_are_refused(void **state)
{
    fixture_t *f = *state;
    sb_key_t key = key_of("a/b", "x", SB_ROLE_READER);

    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("", "x", SB_ROLE_READER);
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("t", "x\n", SB_ROLE_READER);
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("t", "\xff", SB_ROLE_READER);
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("t", "x", (sb_role_t)4);
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("t", "x", SB_ROLE_READER);
    snprintf(key.id, sizeof(key.id), "not-a-uuid");
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
    key = key_of("t", "x", SB_ROLE_READER);
    memset(key.tenant, 'a', sizeof(key.tenant)); /* no NUL */
    assert_int_equal(put_key(f, "s", &key), SB_EINVAL);
}

typedef struct {
    char names[100];
    int stop_after;
} key_list_t;

static sb_code_t add_name(void *ctx, const sb_key_t *key, sb_err_t *err)
{
    key_list_t *l = ctx;

    strcat(l->names, key->name);
    return --l->stop_after == 0 ? sb_err_set(err, SB_EBUSY, "enough") : SB_OK;
}

static void keys_are_listed_oldest_first(void **state)
{
    fixture_t *f = *state;
    key_list_t all = {"", 100}, some = {"", 2};

    for (int i = 0; i < 9; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        sb_key_t key = key_of(i % 2 ? "t1" : "t2", name, SB_ROLE_READER);
        assert_int_equal(put_key(f, name, &key), SB_OK);
    }
    assert_int_equal(sb_store_key_each(f->st, add_name, &all, NULL), SB_OK);
    assert_string_equal(all.names, "abcdefghi");
    assert_int_equal(sb_store_key_each(f->st, add_name, &some, NULL), SB_EBUSY);
    assert_string_equal(some.names, "ab");
    check_consistency(f->st);
}

static void roles_have_names(void **state)
{
    sb_role_t role = SB_ROLE_READER;

    for (int i = SB_ROLE_READER; i <= SB_ROLE_ADMIN; i++) {
        const char *name = sb_role_name((sb_role_t)i);
        assert_true(sb_role_parse(name, strlen(name), &role));
        assert_int_equal(role, i);
    }
    assert_false(sb_role_parse("root", 4, &role));
    assert_false(sb_role_parse("admi", 4, &role));
    assert_false(sb_role_parse("", 0, &role));
}

/* ---- skills ---- */

static sb_code_t put(fixture_t *f, const char *tenant, const char *name, const char *version,
                     unsigned n, char stored[SB_VERSION_MAX + 1])
{
    sb_skill_put_t p = skill_of(f, tenant, name, version, n);
    sb_code_t rc = put_skill(f, &p, NULL);

    memcpy(stored, p.stored_version, sizeof(p.stored_version));
    return rc;
}

static void must_put(fixture_t *f, const char *tenant, const char *name, const char *version,
                     unsigned n)
{
    char stored[SB_VERSION_MAX + 1];

    assert_int_equal(put(f, tenant, name, version, n, stored), SB_OK);
    assert_string_equal(stored, version);
}

static void latest_is(fixture_t *f, const char *tenant, const char *name, const char *want)
{
    static const char *const words[] = {NULL, "", "latest"};

    for (size_t i = 0; i < COUNT(words); i++) {
        sb_skill_t s;
        sb_code_t rc = sb_store_skill_get(f->st, tenant, name, words[i], &s, NULL);

        if (want == NULL) {
            assert_int_equal(rc, SB_ENOTFOUND);
            continue;
        }
        assert_int_equal(rc, SB_OK);
        assert_string_equal(s.version.data, want);
    }
}

static void list_is(fixture_t *f, const char *tenant, const char *want)
{
    sb_buf_t b = SB_BUF_INIT(1 << 20);
    char *p, *names;

    /* only the names and versions, in order: "a 1.0.0,b 2.0.0" */
    assert_int_equal(sb_store_skill_list(f->st, tenant, NULL, &b, NULL, NULL), SB_OK);
    names = calloc(1, b.len + 1);
    assert_non_null(names);
    for (p = b.data; (p = strstr(p, "{\"name\":\"")) != NULL;) {
        char name[130], version[70];
        assert_int_equal(
            sscanf(p, "{\"name\":\"%129[^\"]\",\"version\":\"%69[^\"]\"", name, version), 2);
        sprintf(names + strlen(names), "%s%s %s", names[0] != '\0' ? "," : "", name, version);
        p++;
    }
    assert_int_equal(b.data[0], '[');
    assert_int_equal(b.data[b.len - 1], ']');
    assert_string_equal(names, want);
    free(names);
    sb_buf_free(&b);
}

static void records_are_rendered_as_the_contract_says(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t p = skill_of(f, "acme", "demo", "1.2.3", 7);
    sb_buf_t list = SB_BUF_INIT(10000);
    char want[600];
    const char *when;
    sb_skill_t s;
    sb_err_t err;

    p.description = "quote \" backslash \\ newline \n bad \xff";
    assert_ok(put_skill(f, &p, &err), &err);
    assert_true(p.created);
    assert_false(p.bumped);
    assert_ok(sb_store_skill_get(f->st, "acme", "demo", "1.2.3", &s, &err), &err);
    when = strstr(s.json.data, "\"uploaded_at\":\"2");
    assert_non_null(when);
    snprintf(
        want, sizeof(want),
        "{\"name\":\"demo\",\"version\":\"1.2.3\",\"description\":\"quote \\\" backslash \\\\ "
        "newline \\n "
        "bad \xef\xbf\xbd\",\"lang\":\"python\",\"mode\":\"executable\",\"status\":\"available\","
        "\"digest\":\"%s\",%.40s,\"entrypoint\":\"main.py\"}",
        digest_of(7), when);
    assert_string_equal(s.json.data, want);
    assert_int_equal(s.json.len, strlen(want));
    assert_string_equal(s.version.data, "1.2.3");
    assert_string_equal(s.digest.data, digest_of(7));
    assert_string_equal(s.run.data, "{\"lang\":\"python\"}");

    strcpy(strstr(want, ",\"entrypoint\""), "}]");
    memmove(want + 1, want, strlen(want) + 1);
    want[0] = '[';
    assert_ok(sb_store_skill_list(f->st, "acme", NULL, &list, NULL, &err), &err);
    assert_string_equal(list.data, want);
    sb_buf_free(&list);
}

static void a_record_without_extras_is_whole(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t p = skill_of(f, "acme", "notes", "1.0.0", 1);
    sb_skill_t s;

    p.lang = "";
    p.mode = "instructions";
    p.detail = "";
    p.run = NULL;
    p.description = NULL;
    assert_int_equal(put_skill(f, &p, NULL), SB_OK);
    assert_int_equal(sb_store_skill_get(f->st, "acme", "notes", "", &s, NULL), SB_OK);
    assert_null(strstr(s.json.data, "\"lang\""));
    assert_non_null(strstr(s.json.data, "\"description\":\"\",\"mode\":\"instructions\""));
    assert_string_equal(s.json.data + s.json.len - 3, "Z\"}");
    assert_int_equal(s.run.len, 0);
}

static void latest_is_the_highest_and_the_list_agrees(void **state)
{
    fixture_t *f = *state;

    latest_is(f, "acme", "a", NULL);
    list_is(f, "acme", "");
    must_put(f, "acme", "a", "1.9.0", 1);
    must_put(f, "acme", "a", "1.10.0", 2);
    must_put(f, "acme", "a", "1.2.0", 3);
    must_put(f, "acme", "a", "1.10.0-rc.1", 4);
    latest_is(f, "acme", "a", "1.10.0");
    must_put(f, "acme", "ab", "1.0.0", 5);
    must_put(f, "acme", "B", "0.1.0", 6);
    must_put(f, "acme2", "z", "3.0.0", 7);
    list_is(f, "acme", "B 0.1.0,a 1.10.0,ab 1.0.0");
    list_is(f, "acme2", "z 3.0.0");
    list_is(f, "acm", "");
    latest_is(f, "acme2", "a", NULL);
    check_consistency(f->st);

    assert_int_equal(delete_skill(f, "acme", "a", "1.10.0"), SB_OK);
    latest_is(f, "acme", "a", "1.9.0");
    assert_int_equal(delete_skill(f, "acme", "a", "1.2.0"), SB_OK);
    assert_int_equal(delete_skill(f, "acme", "a", "1.9.0"), SB_OK);
    latest_is(f, "acme", "a", "1.10.0-rc.1");
    assert_int_equal(delete_skill(f, "acme", "a", "1.2.0"), SB_ENOTFOUND);
    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    latest_is(f, "acme", "a", NULL);
    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_ENOTFOUND);
    assert_int_equal(delete_skill(f, "acme2", "ab", NULL), SB_ENOTFOUND);
    list_is(f, "acme", "B 0.1.0,ab 1.0.0");
    check_consistency(f->st);
}

static void the_same_content_is_the_same_version(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t p;

    must_put(f, "acme", "a", "1.0.0", 1);
    p = skill_of(f, "acme", "a", "1.0.0", 1);
    assert_int_equal(put_skill(f, &p, NULL), SB_OK);
    assert_false(p.created);
    assert_false(p.bumped);
    assert_string_equal(p.stored_version, "1.0.0");
    assert_false(file_exists(f->top, "upload")); /* taken over all the same */

    /* other content: bumped, and found again under where it went */
    for (int i = 0; i < 2; i++) {
        p = skill_of(f, "acme", "a", "1.0.0", 2);
        p.on_conflict = i == 0 ? SB_ON_CONFLICT_BUMP : SB_ON_CONFLICT_ERROR;
        assert_int_equal(put_skill(f, &p, NULL), SB_OK);
        assert_int_equal(p.created, i == 0);
        assert_true(p.bumped);
        assert_string_equal(p.stored_version, "1.0.1");
    }
    p = skill_of(f, "acme", "a", "1.0.1", 2);
    assert_int_equal(put_skill(f, &p, NULL), SB_OK);
    assert_false(p.created);
    assert_false(p.bumped);

    /* under a version that is free it is a version of its own */
    must_put(f, "acme", "a", "2.0.0", 2);
    check_consistency(f->st);

    /* a deleted one is forgotten */
    assert_int_equal(delete_skill(f, "acme", "a", "1.0.1"), SB_OK);
    p = skill_of(f, "acme", "a", "1.0.0", 2);
    assert_int_equal(put_skill(f, &p, NULL), SB_OK);
    assert_true(p.created);
    assert_string_equal(p.stored_version, "1.0.1");
    check_consistency(f->st);
}

static void other_content_never_overwrites(void **state)
{
    fixture_t *f = *state;
    char stored[SB_VERSION_MAX + 1];
    sb_skill_put_t p;
    sb_skill_t s;
    sb_err_t err;

    must_put(f, "acme", "a", "1.0.0", 1);
    must_put(f, "acme", "a", "1.0.1", 2);
    must_put(f, "acme", "a", "1.0.2", 3);
    p = skill_of(f, "acme", "a", "1.0.0", 4);
    p.on_conflict = SB_ON_CONFLICT_ERROR;
    assert_int_equal(put_skill(f, &p, &err), SB_ECONFLICT);
    assert_false(p.created);
    assert_true(file_exists(f->top, "upload"));
    assert_int_equal(put(f, "acme", "a", "1.0.0", 4, stored), SB_OK);
    assert_string_equal(stored, "1.0.3");
    assert_int_equal(sb_store_skill_get(f->st, "acme", "a", "1.0.0", &s, NULL), SB_OK);
    assert_string_equal(s.digest.data, digest_of(1));
    check_consistency(f->st);
}

static void bad_puts_and_gets_are_refused(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t good = skill_of(f, "acme", "a", "1.0.0", 1), p;
    static char long_type[300];
    sb_skill_t s;

    p = good;
    p.tenant = "a/b";
    assert_int_equal(put_skill(f, &p, NULL), SB_EINVAL);
    p = good;
    p.name = "../x";
    assert_int_equal(put_skill(f, &p, NULL), SB_EINVAL);
    p = good;
    p.version = "latest";
    assert_int_equal(put_skill(f, &p, NULL), SB_EINVAL);
    p = good;
    p.digest = "../../../../etc/passwd";
    assert_int_equal(put_skill(f, &p, NULL), SB_EINVAL);
    p = good;
    memset(long_type, 'x', sizeof(long_type) - 1);
    p.package_type = long_type;
    assert_int_equal(put_skill(f, &p, NULL), SB_EMEDIA);
    p = good;
    p.package_tmp = NULL;
    assert_int_equal(put_skill(f, &p, NULL), SB_EINTERNAL);
    p = good;
    p.package_tmp = "/nonexistent";
    assert_int_equal(put_skill(f, &p, NULL), SB_ESYSTEM);
    list_is(f, "acme", "");
    assert_true(file_exists(f->top, "upload"));
    assert_int_equal(put_skill(f, &good, NULL), SB_OK);

    assert_int_equal(sb_store_skill_get(f->st, "acme", "../x", "", &s, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_skill_get(f->st, "acme", "a", "x", &s, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_skill_get(f->st, "acme", "", "", &s, NULL), SB_ENOTFOUND);
    assert_int_equal(delete_skill(f, "acme", "a", "latest"), SB_ENOTFOUND);
    assert_int_equal(delete_skill(f, "acme", "", NULL), SB_ENOTFOUND);
    check_consistency(f->st);
}

static void names_of_the_greatest_length_fit(void **state)
{
    fixture_t *f = *state;
    char tenant[SB_TENANT_MAX + 1], name[SB_NAME_MAX + 1], version[SB_VERSION_MAX + 1];

    memset(tenant, 't', SB_TENANT_MAX);
    memset(name, 'n', SB_NAME_MAX);
    memset(version, '1', SB_VERSION_MAX);
    tenant[SB_TENANT_MAX] = name[SB_NAME_MAX] = version[SB_VERSION_MAX] = '\0';
    must_put(f, tenant, name, version, 1);
    latest_is(f, tenant, name, version);
    check_consistency(f->st);
    assert_int_equal(delete_skill(f, tenant, name, version), SB_OK);
}

/* ---- packages ---- */

static void package_files_live_as_long_as_their_skills(void **state)
{
    fixture_t *f = *state;
    char packages[100], path[300], text[16] = "";
    sb_str_t type;
    FILE *file;

    snprintf(packages, sizeof(packages), "%s/packages", f->path);
    must_put(f, "acme", "a", "1.0.0", 1);
    assert_false(file_exists(f->top, "upload"));
    must_put(f, "other", "b", "1.0.0", 1); /* another tenant, the same content */
    assert_int_equal(mode_of(packages, digest_of(1)), 0600);
    assert_int_equal(sb_store_package_path(f->st, digest_of(1), path, sizeof(path), NULL), SB_OK);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    assert_string_equal(text, "package 1");
    assert_int_equal(sb_store_package_type(f->st, digest_of(1), &type, NULL), SB_OK);
    assert_string_equal(type.data, "application/zip");

    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    assert_true(file_exists(packages, digest_of(1)));
    check_consistency(f->st);
    assert_int_equal(delete_skill(f, "other", "b", "1.0.0"), SB_OK);
    assert_false(file_exists(packages, digest_of(1)));
    assert_int_equal(sb_store_package_type(f->st, digest_of(1), &type, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_package_type(f->st, "nonsense", &type, NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_package_path(f->st, "../x", path, sizeof(path), NULL), SB_ENOTFOUND);
    assert_int_equal(sb_store_package_path(f->st, digest_of(1), path, 10, NULL), SB_EINTERNAL);
    check_consistency(f->st);
}

static void a_package_comes_from_another_file_system_too(void **state)
{
    fixture_t *f = *state;
    char path[] = "/dev/shm/skillbox-store.XXXXXX", packages[200];
    sb_skill_put_t p = skill_of(f, "acme", "a", "1.0.0", 1);
    struct stat here, there;
    static char big[600000]; /* more than one round of copying */
    sb_err_t err;
    int fd = mkstemp(path);

    if (fd < 0 || fstat(fd, &there) != 0 || stat(f->top, &here) != 0 ||
        here.st_dev == there.st_dev) {
        if (fd >= 0)
            unlink(path);
        skip();
    }
    memset(big, 'b', sizeof(big));
    assert_int_equal(write(fd, big, sizeof(big)), sizeof(big));
    close(fd);
    p.package_tmp = path;
    assert_ok(put_skill(f, &p, &err), &err);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(packages, sizeof(packages), "%s/packages/%s", f->path, digest_of(1));
    assert_int_equal(stat(packages, &here), 0);
    assert_int_equal(here.st_size, sizeof(big));
    assert_int_equal(here.st_mode & 0777, 0600);
    check_consistency(f->st);
}

static void what_a_crash_left_is_swept_at_opening(void **state)
{
    fixture_t *f = *state;
    char name[120];

    must_put(f, "acme", "a", "1.0.0", 1);
    snprintf(name, sizeof(name), "store/packages/%s", digest_of(99));
    upload(f, name, "orphan");
    upload(f, "store/tmp/pkg-123", "half a copy");
    upload(f, "store/tmp/notes", "not ours");
    store_reopen(f);
    assert_false(file_exists(f->top, name));
    assert_false(file_exists(f->top, "store/tmp/pkg-123"));
    assert_true(file_exists(f->top, "store/tmp/notes"));
    assert_int_equal(count_files(f->path, "packages"), 1);
}

/* ---- batches ---- */

static void a_failed_operation_leaves_no_trace_of_itself(void **state)
{
    fixture_t *f = *state;
    char first[200];
    sb_skill_put_t a = skill_of(f, "acme", "a", "1.0.0", 1), b = a, c;
    sb_batch_t *batch;
    sb_err_t err;

    snprintf(first, sizeof(first), "%s", a.package_tmp);
    a.package_tmp = first;
    b.name = "b";
    b.digest = digest_of(2);
    b.package_tmp = "/nonexistent";
    assert_ok(sb_batch_begin(f->st, &batch, &err), &err);
    assert_ok(sb_batch_skill_put(batch, &a, &err), &err);
    assert_int_equal(sb_batch_skill_put(batch, &b, &err), SB_ESYSTEM);
    assert_int_equal(sb_batch_skill_delete(batch, "acme", "b", NULL, &err), SB_ENOTFOUND);
    c = skill_of(f, "acme", "c", "1.0.0", 3);
    assert_ok(sb_batch_skill_put(batch, &c, &err), &err);
    list_is(f, "acme", ""); /* nothing is visible before the commit */
    assert_ok(sb_batch_commit(batch, &err), &err);
    list_is(f, "acme", "a 1.0.0,c 1.0.0");
    check_consistency(f->st);
}

static void an_aborted_batch_never_was(void **state)
{
    fixture_t *f = *state;
    sb_skill_put_t p = skill_of(f, "acme", "a", "1.0.0", 1);
    sb_key_t key = key_of("acme", "k", SB_ROLE_ADMIN), got;
    unsigned char hash[32];
    sb_batch_t *b;
    sb_err_t err;

    sb_sha256("one", 3, hash);
    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    assert_ok(sb_batch_skill_put(b, &p, &err), &err);
    assert_ok(sb_batch_key_put(b, hash, &key, &err), &err);
    sb_batch_abort(b);
    list_is(f, "acme", "");
    assert_int_equal(find_key(f, "one", &got), SB_EAUTH);
    assert_int_equal(count_files(f->path, "packages"), 0);
    assert_true(file_exists(f->top, "upload"));
    check_consistency(f->st);
    assert_ok(put_skill(f, &p, &err), &err);
}

static void one_batch_at_a_time(void **state)
{
    fixture_t *f = *state;
    sb_batch_t *a, *b = NULL;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &a, &err), &err);
    assert_int_equal(sb_batch_begin(f->st, &b, &err), SB_EINTERNAL);
    assert_null(b);
    sb_batch_abort(a);
    assert_ok(sb_batch_begin(f->st, &a, &err), &err);
    assert_ok(sb_batch_commit(a, &err), &err);
}

static void results_are_stable_until_the_next_read(void **state)
{
    fixture_t *f = *state;
    char id[SB_UUID_LEN + 1], json[300];
    sb_execution_t e;

    sb_uuid7(id);
    assert_int_equal(
        finish_execution(f, "acme", id, "success", "{\"status\":\"success\"}", "the log", 7),
        SB_OK);
    assert_int_equal(sb_store_execution_get(f->st, "acme", id, &e, NULL), SB_OK);
    snprintf(json, sizeof(json), "%s", e.json.data);
    for (unsigned i = 0; i < 50; i++) { /* pages that the read looked at are used again */
        must_put(f, "acme", "a", "1.0.0", i);
        assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    }
    assert_string_equal(e.json.data, json);
    assert_string_equal(e.logs.data, "the log");
    assert_string_equal(e.status.data, "success");
}

/* ---- the change log ---- */

static void every_change_is_logged_in_order(void **state)
{
    static const char *const want[] = {
        "{\"rev\":1,\"op\":\"tenant.put\",\"tenant\":\"acme\"}",
        "{\"rev\":2,\"op\":\"key.put\",\"tenant\":\"acme\",\"id\":\"",
        "{\"rev\":3,\"op\":\"skill.put\",\"tenant\":\"acme\",\"name\":\"a\",\"version\":\"1.0.0\","
        "\"digest\":\"",
        "{\"rev\":4,\"op\":\"skill.delete\",\"tenant\":\"acme\",\"name\":\"a\",\"version\":\"1.0."
        "0\",\"digest\":\"",
        "{\"rev\":5,\"op\":\"key.revoke\",\"tenant\":\"acme\",\"id\":\"",
    };
    fixture_t *f = *state;
    sb_key_t key = key_of("acme", "k", SB_ROLE_ADMIN);
    char id[SB_UUID_LEN + 1];
    MDB_txn *txn;

    assert_int_equal(put_key(f, "one", &key), SB_OK);
    must_put(f, "acme", "a", "1.0.0", 1);
    must_put(f, "acme", "a", "1.0.0", 1); /* the same content: no change */
    sb_uuid7(id);
    assert_int_equal(finish_execution(f, "acme", id, "success", "{}", "", 0),
                     SB_OK); /* not the catalog's */
    assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    assert_int_equal(revoke_key(f, key.id), SB_OK);
    check_consistency(f->st);

    assert_int_equal(mdb_txn_begin(f->st->env, NULL, MDB_RDONLY, &txn), 0);
    for (size_t i = 0; i < COUNT(want); i++) {
        sb_num_t rev = sb_num(i + 1);
        MDB_val k = {8, rev.data}, v;
        assert_int_equal(mdb_get(txn, f->st->dbi[SB_DBI_LOG], &k, &v), 0);
        assert_true(v.mv_size >= strlen(want[i]));
        assert_memory_equal(v.mv_data, want[i], strlen(want[i]));
    }
    mdb_txn_abort(txn);
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, store_teardown)
#define WITH_STORE(test)  cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(it_is_made_for_its_user_alone),
        WITH_FOLDER(without_create_nothing_is_made),
        WITH_FOLDER(an_impossible_place_is_a_system_error),
        WITH_STORE(a_second_opening_in_a_process_is_refused),
        WITH_FOLDER(the_creator_fixes_the_size),
        WITH_STORE(a_newer_schema_is_refused_and_untouched),
        WITH_STORE(a_key_is_found_by_its_hash_until_revoked),
        WITH_STORE(a_key_is_never_overwritten),
        WITH_STORE(bad_keys_are_refused),
        WITH_STORE(keys_are_listed_oldest_first),
        cmocka_unit_test(roles_have_names),
        WITH_STORE(records_are_rendered_as_the_contract_says),
        WITH_STORE(a_record_without_extras_is_whole),
        WITH_STORE(latest_is_the_highest_and_the_list_agrees),
        WITH_STORE(the_same_content_is_the_same_version),
        WITH_STORE(other_content_never_overwrites),
        WITH_STORE(bad_puts_and_gets_are_refused),
        WITH_STORE(names_of_the_greatest_length_fit),
        WITH_STORE(package_files_live_as_long_as_their_skills),
        WITH_STORE(a_package_comes_from_another_file_system_too),
        WITH_STORE(what_a_crash_left_is_swept_at_opening),
        WITH_STORE(a_failed_operation_leaves_no_trace_of_itself),
        WITH_STORE(an_aborted_batch_never_was),
        WITH_STORE(one_batch_at_a_time),
        WITH_STORE(results_are_stable_until_the_next_read),
        WITH_STORE(every_change_is_logged_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
