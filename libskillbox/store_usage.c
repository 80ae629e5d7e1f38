/*
 * store_usage.c - what each tenant keeps, in bytes, and the limit on it.
 *
 * Promises: a tenant's account changes in the transaction that changes what it
 * counts, so the two never differ by a crash; a request reads one small record,
 * however much there is.  Counted are, for each tenant: the package file of each
 * skill version (a file that several versions share counts for each of them), the
 * content of each version of a file, the record of each execution with its log, and
 * its archive, whose size the caller has looked up, with the copies of artifacts that were
 * taken out of it.  Memory and map, and stat(2) of
 * package files.  Reads in the reading thread, sb_usage_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 4096

static const char *const use_names[SB_USE_COUNT] = {
    [SB_USE_PACKAGES] = "package_bytes",
    [SB_USE_FILES] = "file_bytes",
    [SB_USE_RECORDS] = "record_bytes",
    [SB_USE_ARTIFACTS] = "artifact_bytes",
};

const char *sb_use_name(sb_use_t use)
{
    return (size_t)use < SB_USE_COUNT ? use_names[use] : "unknown";
}

int64_t sb_use_total(const int64_t use[SB_USE_COUNT])
{
    int64_t total = 0;

    for (size_t i = 0; i < SB_USE_COUNT; i++)
        total += use[i];
    return total;
}

/* ---- the account's record ---- */

/* Zeroes for a tenant that has nothing; a shorter record is of a program that counted less. */
static int get_use(sb_store_t *st, MDB_txn *txn, const char *tenant, int64_t use[SB_USE_COUNT])
{
    MDB_val key = {strlen(tenant), (void *)(uintptr_t)tenant}, val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_USAGE], &key, &val);
    sb_str_t part;

    memset(use, 0, SB_USE_COUNT * sizeof(*use));
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (!sb_unpack(&val, SB_KIND_USAGE, &part, 1) || part.len % 8 != 0)
        return MDB_CORRUPTED;
    for (size_t i = 0; i < SB_USE_COUNT && i * 8 < part.len; i++) {
        uint64_t n;

        if (!sb_num_read(sb_str_of(part.data + i * 8, 8), &n) || n > INT64_MAX / SB_USE_COUNT)
            return MDB_CORRUPTED;
        use[i] = (int64_t)n;
    }
    return 0;
}

static int put_use(sb_store_t *st, MDB_txn *txn, const char *tenant,
                   const int64_t use[SB_USE_COUNT])
{
    MDB_val key = {strlen(tenant), (void *)(uintptr_t)tenant};
    sb_num_t num[SB_USE_COUNT];
    sb_str_t part = sb_str_of((const char *)num, sizeof(num));

    for (size_t i = 0; i < SB_USE_COUNT; i++)
        num[i] = sb_num((uint64_t)use[i]);
    return sb_pack_put(txn, st->dbi[SB_DBI_USAGE], &key, SB_KIND_USAGE, &part, 1);
}

/* Never below nothing: a program that did not count yet may have written what goes now. */
static int add_use(sb_store_t *st, MDB_txn *txn, const char *tenant, sb_use_t which, int64_t by)
{
    int64_t use[SB_USE_COUNT];
    int rc = by != 0 ? get_use(st, txn, tenant, use) : 0;

    if (rc != 0 || by == 0)
        return rc;
    use[which] = by < -use[which] ? 0 : use[which] + by;
    return put_use(st, txn, tenant, use);
}

sb_code_t sb_usage_get(sb_store_t *st, MDB_txn *txn, const char *tenant, int64_t use[SB_USE_COUNT],
                       sb_err_t *err)
{
    int rc = get_use(st, txn, tenant, use);

    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "reading what a tenant keeps", err);
}

sb_code_t sb_usage_add(sb_batch_t *b, MDB_txn *txn, const char *tenant, sb_use_t which, int64_t by,
                       sb_err_t *err)
{
    int rc = add_use(b->st, txn, tenant, which, by);

    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "counting what a tenant keeps", err);
}

sb_code_t sb_usage_forget(sb_batch_t *b, MDB_txn *txn, const char *tenant, sb_err_t *err)
{
    MDB_val key = {strlen(tenant), (void *)(uintptr_t)tenant};
    int rc = mdb_del(txn, b->st->dbi[SB_DBI_USAGE], &key, NULL);

    return rc == 0 || rc == MDB_NOTFOUND
               ? SB_OK
               : sb_store_fail(b->st, rc, "forgetting what a tenant kept", err);
}

/* ---- the limit ---- */

static sb_code_t check_room(sb_store_t *st, MDB_txn *txn, const char *tenant, int64_t more,
                            sb_err_t *err)
{
    int64_t limit[SB_LIMIT_COUNT], use[SB_USE_COUNT], most, used;
    sb_code_t code = sb_limits_get(st, txn, tenant, limit, err);

    if (code != SB_OK || limit[SB_LIMIT_DISK_BYTES] == SB_UNLIMITED)
        return code;
    code = sb_usage_get(st, txn, tenant, use, err);
    if (code != SB_OK)
        return code;
    most = limit[SB_LIMIT_DISK_BYTES];
    used = sb_use_total(use);
    if (used < most && more <= most - used)
        return SB_OK;
    if (used >= most)
        return sb_err_set(err, SB_EQUOTA,
                          "the tenant's limit disk_bytes of %lld is used up: it keeps %lld bytes",
                          (long long)most, (long long)used);
    return sb_err_set(err, SB_EQUOTA,
                      "%lld bytes do not fit in the tenant's limit disk_bytes of %lld: "
                      "it keeps %lld bytes already",
                      (long long)more, (long long)most, (long long)used);
}

sb_code_t sb_usage_room(sb_batch_t *b, MDB_txn *txn, const char *tenant, int64_t more,
                        sb_err_t *err)
{
    return check_room(b->st, txn, tenant, more, err);
}

sb_code_t sb_store_tenant_room(sb_store_t *st, const char *id, int64_t more, sb_err_t *err)
{
    sb_code_t code = sb_store_read_begin(st, err);

    if (code != SB_OK)
        return code;
    code = check_room(st, st->read, id, more, err);
    sb_store_read_end(st);
    return code;
}

/* ---- sizes ---- */

int64_t sb_package_bytes(sb_store_t *st, const char *digest)
{
    char path[PATH_BYTES];
    struct stat sb;

    if (sb_store_package_path(st, digest, path, sizeof(path), NULL) != SB_OK ||
        stat(path, &sb) != 0)
        return 0;
    return (int64_t)sb.st_size;
}

int64_t sb_exec_bytes(const sb_exec_value_t *value)
{
    return (int64_t)(value->element.len + value->json.len + value->logs.len);
}

/* ---- archives ---- */

static int get_archive(sb_store_t *st, MDB_txn *txn, const sb_skey_t *key, uint64_t *bytes)
{
    MDB_val k = sb_skey_val(key), val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_ARCHIVES], &k, &val);

    *bytes = 0;
    if (rc == 0 && (!sb_num_read(sb_str_of(val.mv_data, val.mv_size), bytes) || *bytes > INT64_MAX))
        return MDB_CORRUPTED;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

sb_code_t sb_usage_archive(sb_batch_t *b, MDB_txn *txn, const char *tenant, const sb_skey_t *key,
                           int64_t bytes, sb_err_t *err)
{
    MDB_val k = sb_skey_val(key), val;
    sb_num_t num = sb_num((uint64_t)bytes);
    uint64_t before;
    int rc = get_archive(b->st, txn, key, &before);

    if (rc == 0 && before == (uint64_t)bytes)
        return SB_OK;
    val = (MDB_val){sizeof(num.data), num.data};
    if (rc == 0)
        rc = bytes != 0 ? mdb_put(txn, b->st->dbi[SB_DBI_ARCHIVES], &k, &val, 0)
                        : mdb_del(txn, b->st->dbi[SB_DBI_ARCHIVES], &k, NULL);
    if (rc == 0)
        rc = add_use(b->st, txn, tenant, SB_USE_ARTIFACTS, bytes - (int64_t)before);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "counting an archive", err);
}

sb_code_t sb_batch_artifact_taken(sb_batch_t *b, const char *tenant, const char *execution,
                                  int64_t bytes, sb_err_t *err)
{
    unsigned char binary[16];
    sb_exec_value_t value = {0};
    MDB_txn *txn = NULL;
    uint64_t before;
    sb_skey_t key;
    sb_code_t code;
    int rc;

    if (bytes < 0 || !sb_uuid_parse(execution, strlen(execution), binary) ||
        !sb_exec_key(&key, tenant, binary))
        return sb_err_set(err, SB_ENOTFOUND, "there is no such execution");
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = sb_exec_get(b, txn, &key, &value, err);
    if (code == SB_OK) {
        rc = get_archive(b->st, txn, &key, &before);
        if (rc == 0 && bytes > INT64_MAX / SB_USE_COUNT - (int64_t)before)
            rc = EOVERFLOW;
        code = rc == 0 ? sb_usage_archive(b, txn, tenant, &key, (int64_t)before + bytes, err)
                       : sb_store_fail(b->st, rc, "counting an artifact", err);
    }
    return sb_batch_op_end(b, txn, code, err);
}

/* ---- counting anew ---- */

typedef struct {
    sb_store_t *st;
    MDB_txn *txn;
} recount_t;

/* What one record counts for; its key begins with the tenant. */
static int count_skill(recount_t *r, const char *tenant, const MDB_val *val)
{
    char digest[SB_DIGEST_LEN + 1];
    sb_skill_value_t value = {0};

    if (!sb_skill_unpack(val, &value) || !sb_str_copy(value.digest, digest, sizeof(digest)))
        return MDB_CORRUPTED;
    return add_use(r->st, r->txn, tenant, SB_USE_PACKAGES, sb_package_bytes(r->st, digest));
}

static int count_file(recount_t *r, const char *tenant, const MDB_val *val)
{
    int64_t size;

    if (!sb_file_size(val, &size))
        return MDB_CORRUPTED;
    return add_use(r->st, r->txn, tenant, SB_USE_FILES, size);
}

static int count_exec(recount_t *r, const char *tenant, const MDB_val *val)
{
    sb_exec_value_t value = {0};

    if (!sb_exec_unpack(val, &value))
        return MDB_CORRUPTED;
    return add_use(r->st, r->txn, tenant, SB_USE_RECORDS, sb_exec_bytes(&value));
}

static int count_archive(recount_t *r, const char *tenant, const MDB_val *val)
{
    uint64_t bytes;

    if (!sb_num_read(sb_str_of(val->mv_data, val->mv_size), &bytes) || bytes > INT64_MAX)
        return MDB_CORRUPTED;
    return add_use(r->st, r->txn, tenant, SB_USE_ARTIFACTS, (int64_t)bytes);
}

static int count_all(recount_t *r, int dbi,
                     int (*count)(recount_t *r, const char *tenant, const MDB_val *val))
{
    MDB_val key, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(r->txn, r->st->dbi[dbi], &cur);

    if (rc != 0)
        return rc;
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        char tenant[SB_TENANT_MAX + 1];
        const char *end = memchr(key.mv_data, '\0', key.mv_size);

        if (end == NULL ||
            !sb_str_copy(sb_str_of(key.mv_data, (size_t)(end - (const char *)key.mv_data)), tenant,
                         sizeof(tenant)))
            rc = MDB_CORRUPTED;
        else
            rc = count(r, tenant, &val);
        if (rc != 0)
            break;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int sb_usage_recount(sb_store_t *st, MDB_txn *txn)
{
    recount_t r = {st, txn};
    int rc = mdb_drop(txn, st->dbi[SB_DBI_USAGE], 0);

    if (rc == 0)
        rc = count_all(&r, SB_DBI_SKILLS, count_skill);
    if (rc == 0)
        rc = count_all(&r, SB_DBI_FILES, count_file);
    if (rc == 0)
        rc = count_all(&r, SB_DBI_EXECUTIONS, count_exec);
    if (rc == 0)
        rc = count_all(&r, SB_DBI_ARCHIVES, count_archive);
    return rc;
}

sb_code_t sb_batch_usage_recount(sb_batch_t *b, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = sb_usage_recount(b->st, txn);
    if (rc != 0)
        code = sb_store_fail(b->st, rc, "counting what tenants keep", err);
    return sb_batch_op_end(b, txn, code, err);
}
