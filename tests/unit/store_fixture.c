/* store_fixture.c - see store_fixture.h. */
#include "store_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libskillbox/semver.h"
#include "../../libskillbox/store_internal.h"

int folder_setup(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    snprintf(f->top, sizeof(f->top), "/tmp/skillbox-store.XXXXXX");
    if (mkdtemp(f->top) == NULL) {
        free(f);
        return -1;
    }
    snprintf(f->path, sizeof(f->path), "%s/store", f->top);
    *state = f;
    return 0;
}

int store_setup(void **state)
{
    if (folder_setup(state) != 0)
        return -1;
    store_reopen(*state);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

int store_teardown(void **state)
{
    fixture_t *f = *state;
    int rc;

    sb_store_close(f->st);
    rc = nftw(f->top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return rc;
}

void store_reopen(fixture_t *f)
{
    sb_err_t err;

    sb_store_close(f->st);
    f->st = NULL;
    assert_ok(sb_store_open(f->path, 64 << 20, true, &f->st, &err), &err);
}

const char *digest_of(unsigned n)
{
    static char digests[8][SB_DIGEST_LEN + 1]; /* several in one expression */
    static unsigned turn;
    char *d = digests[turn++ % 8];

    snprintf(d, SB_DIGEST_LEN + 1, "%064x", n);
    return d;
}

const char *upload(fixture_t *f, const char *name, const char *text)
{
    static char path[160];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", f->top, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    return path;
}

bool file_exists(const char *dir, const char *name)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

int count_files(const char *dir, const char *sub)
{
    char path[400];
    struct dirent *e;
    int n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", dir, sub);
    d = opendir(path);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- operations ---- */

static sb_batch_t *batch(fixture_t *f)
{
    sb_batch_t *b;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    return b;
}

static void commit(sb_batch_t *b)
{
    sb_err_t err;

    assert_ok(sb_batch_commit(b, &err), &err);
}

sb_code_t put_skill(fixture_t *f, sb_skill_put_t *put, sb_err_t *err)
{
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_skill_put(b, put, err);

    commit(b);
    return rc;
}

sb_code_t delete_skill(fixture_t *f, const char *tenant, const char *name, const char *version)
{
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_skill_delete(b, tenant, name, version, NULL);

    commit(b);
    return rc;
}

sb_code_t begin_execution(fixture_t *f, const char *tenant, const char *id, int32_t owner,
                          int64_t created_ms)
{
    sb_execution_begin_t e = {tenant, id, "data-analysis", "1.0.0", created_ms, owner, false, NULL};
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_execution_begin(b, &e, NULL);

    commit(b);
    return rc;
}

sb_code_t finish_execution(fixture_t *f, const char *tenant, const char *id, const char *status,
                           const char *result, const char *logs, size_t logs_len)
{
    sb_execution_finish_t e = {.tenant = tenant,
                               .id = id,
                               .status = status,
                               .result = result,
                               .result_len = strlen(result),
                               .logs = logs,
                               .logs_len = logs_len,
                               .files = 3,
                               .created_ms = 1000,
                               .finished_ms = 2000};
    sb_batch_t *b = batch(f);
    sb_code_t rc = sb_batch_execution_finish(b, &e, NULL);

    commit(b);
    return rc;
}

sb_skill_put_t skill_of(fixture_t *f, const char *tenant, const char *name, const char *version,
                        unsigned n)
{
    char text[32];

    snprintf(text, sizeof(text), "package %u", n);
    return (sb_skill_put_t){.tenant = tenant,
                            .name = name,
                            .version = version,
                            .description = "what it does",
                            .lang = "python",
                            .mode = "executable",
                            .digest = digest_of(n),
                            .detail = "\"entrypoint\":\"main.py\"",
                            .run = "{\"lang\":\"python\"}",
                            .package_tmp = upload(f, "upload", text),
                            .package_type = "application/zip"};
}

/* ---- the checker ---- */

typedef void (*visit_t)(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                        void *ctx);

static uint64_t each(sb_store_t *st, MDB_txn *txn, int dbi, visit_t visit, void *ctx)
{
    MDB_cursor *cur;
    MDB_val key, val;
    uint64_t n = 0;
    int rc;

    assert_int_equal(mdb_cursor_open(txn, st->dbi[dbi], &cur), 0);
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT), n++)
        visit(st, txn, &key, &val, ctx);
    assert_int_equal(rc, MDB_NOTFOUND);
    mdb_cursor_close(cur);
    return n;
}

/* The NUL-separated fields of a key, copied. */
typedef struct {
    char text[512];
    const char *field[4];
} fields_t;

static void split(const MDB_val *key, fields_t *f, int want)
{
    int n = 0;

    memcpy(f->text, key->mv_data, key->mv_size);
    f->text[key->mv_size] = '\0';
    for (size_t at = 0; at <= key->mv_size && n < 4; at += strlen(f->text + at) + 1)
        f->field[n++] = f->text + at;
    assert_int_equal(n, want);
}

static MDB_val lookup(sb_store_t *st, MDB_txn *txn, int dbi, const sb_skey_t *key)
{
    MDB_val k = sb_skey_val(key), val;

    assert_int_equal(mdb_get(txn, st->dbi[dbi], &k, &val), 0);
    return val;
}

static void visit_log(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                      void *ctx)
{
    uint64_t rev, *last = ctx;
    char want[32];

    assert_true(sb_num_read(sb_str_of(key->mv_data, key->mv_size), &rev));
    assert_int_equal(rev, *last + 1);
    *last = rev;
    snprintf(want, sizeof(want), "{\"rev\":%llu,", (unsigned long long)rev);
    assert_true(val->mv_size > strlen(want));
    assert_memory_equal(val->mv_data, want, strlen(want));
}

static void visit_skill(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                        void *ctx)
{
    char digest[SB_DIGEST_LEN + 1], origin[SB_VERSION_MAX + 1];
    sb_str_t parts[5];
    sb_head_t head;
    sb_skey_t k;
    fields_t f;
    MDB_val v;

    split(key, &f, 3);
    assert_true(sb_unpack(val, SB_KIND_SKILL, parts, 5));
    assert_true(sb_str_copy(parts[0], digest, sizeof(digest)));
    assert_true(sb_str_copy(parts[1], origin, sizeof(origin)));

    assert_true(sb_skey(&k, f.field[0], f.field[1], NULL, NULL));
    v = lookup(st, txn, SB_DBI_HEADS, &k);
    assert_true(sb_head_unpack(&v, &head));
    assert_true(head.pinned || sb_semver_cmp_latest(head.version, f.field[2]) >= 0);

    assert_true(sb_skey(&k, f.field[0], f.field[1], origin, digest));
    v = lookup(st, txn, SB_DBI_ORIGINS, &k);
    assert_int_equal(v.mv_size, strlen(f.field[2]));
    assert_memory_equal(v.mv_data, f.field[2], v.mv_size);

    assert_true(sb_skey(&k, digest, NULL, NULL, NULL));
    lookup(st, txn, SB_DBI_PACKAGES, &k);
}

static void visit_head(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                       void *ctx)
{
    sb_head_t head;
    sb_skey_t k;
    fields_t f;

    split(key, &f, 2);
    assert_true(sb_head_unpack(val, &head));
    assert_true(sb_skey(&k, f.field[0], f.field[1], head.version, NULL));
    lookup(st, txn, SB_DBI_SKILLS, &k);
}

static void visit_file(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                       void *ctx)
{
    const char *tenant = key->mv_data;
    sb_str_t parts[8];
    sb_skey_t k;
    MDB_val v;

    assert_true(sb_unpack(val, SB_KIND_FILE, parts, 8));
    assert_true(sb_skey(&k, tenant, "", NULL, NULL));
    assert_int_equal(key->mv_size, k.len + 16);
    assert_true(sb_skey_add(&k, parts[1].data, 16));
    assert_true(sb_skey_add(&k, parts[2].data, 8));
    v = lookup(st, txn, SB_DBI_FILEVERSIONS, &k);
    assert_int_equal(v.mv_size, 16);
    assert_memory_equal(v.mv_data, (const char *)key->mv_data + key->mv_size - 16, 16);
}

static void visit_package(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                          void *ctx)
{
    uint64_t refs, *sum = ctx;
    char dir[200], digest[SB_DIGEST_LEN + 1];
    sb_str_t parts[2];

    assert_true(sb_unpack(val, SB_KIND_PACKAGE, parts, 2));
    assert_true(sb_num_read(parts[1], &refs));
    assert_true(refs != 0);
    *sum += refs;
    snprintf(dir, sizeof(dir), "%s/packages", st->path);
    assert_true(sb_str_copy(sb_str_of(key->mv_data, key->mv_size), digest, sizeof(digest)));
    assert_true(file_exists(dir, digest));
}

static void visit_key(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                      void *ctx)
{
    sb_str_t parts[7];
    MDB_val id, hash;

    assert_true(sb_unpack(val, SB_KIND_KEY, parts, 7));
    id = (MDB_val){parts[0].len, (void *)(uintptr_t)parts[0].data};
    assert_int_equal(mdb_get(txn, st->dbi[SB_DBI_KEYIDS], &id, &hash), 0);
    assert_int_equal(hash.mv_size, key->mv_size);
    assert_memory_equal(hash.mv_data, key->mv_data, key->mv_size);
}

typedef struct {
    uint64_t all, live, with_skill;
} execution_counts_t;

static void visit_execution(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                            void *ctx)
{
    execution_counts_t *n = ctx;
    sb_exec_value_t e = {0};
    MDB_val k = *key, v;
    const char *tenant = key->mv_data;
    char skill[SB_NAME_MAX + 1], letter;
    sb_skey_t index;
    bool is_live;

    assert_true(sb_exec_unpack(val, &e));
    is_live = sb_exec_is_live(e.status);
    assert_int_equal(mdb_get(txn, st->dbi[SB_DBI_LIVE], &k, &v), is_live ? 0 : MDB_NOTFOUND);
    n->live += is_live;
    n->all++;
    /* queued running success failed timeout cancelled: their first letters differ */
    letter = e.status.data[0];
    assert_true(sb_skey(&index, tenant, "", NULL, NULL));
    assert_true(sb_skey_add(&index, &letter, 1));
    assert_true(sb_skey_add(&index, tenant + key->mv_size - 16, 16));
    lookup(st, txn, SB_DBI_BYSTATUS, &index);
    assert_true(sb_str_copy(e.skill, skill, sizeof(skill)));
    if (skill[0] == '\0')
        return;
    n->with_skill++;
    assert_true(sb_skey(&index, tenant, skill, "", NULL));
    assert_true(sb_skey_add(&index, tenant + key->mv_size - 16, 16));
    v = lookup(st, txn, SB_DBI_BYSKILL, &index);
    assert_int_equal(v.mv_size, 1);
    assert_int_equal(*(char *)v.mv_data, letter);
}

static void visit_count(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                        void *ctx)
{
    uint64_t *sum = ctx, n;

    assert_true(sb_num_read(sb_str_of(val->mv_data, val->mv_size), &n));
    *sum += n;
}

static void visit_nothing(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                          void *ctx)
{
    assert_true(key->mv_size != 0);
}

typedef struct {
    char tenant[8][SB_TENANT_MAX + 1];
    int64_t use[8][SB_USE_COUNT];
    size_t count;
} accounts_t;

/* Tenants that keep nothing may have an account or not. */
static void visit_usage(sb_store_t *st, MDB_txn *txn, const MDB_val *key, const MDB_val *val,
                        void *ctx)
{
    accounts_t *a = ctx;
    int64_t *use = a->use[a->count];
    char *tenant = a->tenant[a->count];

    assert_true(a->count < 8);
    assert_true(sb_str_copy(sb_str_of(key->mv_data, key->mv_size), tenant, SB_TENANT_MAX + 1));
    assert_int_equal(sb_usage_get(st, txn, tenant, use, NULL), SB_OK);
    a->count += sb_use_total(use) != 0;
}

/* What is counted by and by is what there is. */
static void check_accounts(sb_store_t *st)
{
    accounts_t kept = {.count = 0}, anew = {.count = 0};
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(st->env, NULL, 0, &txn), 0);
    each(st, txn, SB_DBI_USAGE, visit_usage, &kept);
    assert_int_equal(sb_usage_recount(st, txn), 0);
    each(st, txn, SB_DBI_USAGE, visit_usage, &anew);
    mdb_txn_abort(txn);
    assert_int_equal(kept.count, anew.count);
    for (size_t i = 0; i < kept.count; i++) {
        assert_string_equal(kept.tenant[i], anew.tenant[i]);
        assert_memory_equal(kept.use[i], anew.use[i], sizeof(kept.use[i]));
    }
}

void check_consistency(sb_store_t *st)
{
    execution_counts_t executions = {0};
    uint64_t files, last = 0, refs = 0, sum = 0, rev, n;
    sb_skey_t k;
    MDB_txn *txn;
    MDB_val v;

    assert_int_equal(mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn), 0);
    each(st, txn, SB_DBI_LOG, visit_log, &last);
    assert_true(sb_skey(&k, "rev", NULL, NULL, NULL));
    v = lookup(st, txn, SB_DBI_META, &k);
    assert_true(sb_num_read(sb_str_of(v.mv_data, v.mv_size), &rev));
    assert_int_equal(rev, last);

    n = each(st, txn, SB_DBI_SKILLS, visit_skill, NULL);
    assert_int_equal(each(st, txn, SB_DBI_ORIGINS, visit_nothing, NULL), n);
    each(st, txn, SB_DBI_HEADS, visit_head, NULL);
    files = each(st, txn, SB_DBI_FILES, visit_file, NULL);
    assert_int_equal(each(st, txn, SB_DBI_FILEVERSIONS, visit_nothing, NULL), files);
    assert_int_equal(each(st, txn, SB_DBI_PACKAGES, visit_package, &refs),
                     count_files(st->path, "packages"));
    assert_int_equal(refs, n + files);
    assert_int_equal(count_files(st->path, "tmp"), 0);

    n = each(st, txn, SB_DBI_KEYS, visit_key, NULL);
    assert_int_equal(each(st, txn, SB_DBI_KEYIDS, visit_nothing, NULL), n);
    each(st, txn, SB_DBI_EXECUTIONS, visit_execution, &executions);
    assert_int_equal(each(st, txn, SB_DBI_LIVE, visit_nothing, NULL), executions.live);
    assert_int_equal(each(st, txn, SB_DBI_BYSTATUS, visit_nothing, NULL), executions.all);
    assert_int_equal(each(st, txn, SB_DBI_BYSKILL, visit_nothing, NULL), executions.with_skill);
    each(st, txn, SB_DBI_COUNTS, visit_count, &sum);
    assert_int_equal(sum, executions.all);
    assert_int_equal(each(st, txn, SB_DBI_IDEMTIMES, visit_nothing, NULL),
                     each(st, txn, SB_DBI_IDEMPOTENCY, visit_nothing, NULL));
    mdb_txn_abort(txn);
    check_accounts(st);
}

/* ---- processes ---- */

int wait_for(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

pid_t fork_or_fail(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    return pid;
}
