/*
 * store_tenants.c - tenants, and what each may take.
 *
 * Promises: limits are read in well under a microsecond (every run and upload asks);
 * a tenant that has anything worth keeping is never deleted.  Memory and map only;
 * reads in the reading thread, sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#include "names.h"
#include "units.h"

#define CREATED_AT "\"created_at\":\""

static const char *const limit_names[SB_LIMIT_COUNT] = {
    [SB_LIMIT_CONCURRENT_RUNS] = "concurrent_runs", [SB_LIMIT_QUEUED_RUNS] = "queued_runs",
    [SB_LIMIT_RUNS_PER_MINUTE] = "runs_per_minute", [SB_LIMIT_PACKAGE_BYTES] = "package_bytes",
    [SB_LIMIT_ARTIFACT_BYTES] = "artifact_bytes",   [SB_LIMIT_DISK_BYTES] = "disk_bytes",
};

const char *sb_limit_name(sb_limit_t limit)
{
    return (size_t)limit < SB_LIMIT_COUNT ? limit_names[limit] : "unknown";
}

static MDB_val text_val(const char *s)
{
    return (MDB_val){strlen(s), (void *)(uintptr_t)s};
}

static sb_code_t not_found(sb_err_t *err)
{
    return sb_err_set(err, SB_ENOTFOUND, "there is no such tenant");
}

/* ---- limits ---- */

/* Kept plus one: "no limit", -1, is then 0, and a number that is not there is none. */
static bool unpack_limits(const MDB_val *val, int64_t limit[SB_LIMIT_COUNT])
{
    sb_str_t part;

    if (!sb_unpack(val, SB_KIND_LIMITS, &part, 1) || part.len % 8 != 0)
        return false;
    for (size_t i = 0; i < SB_LIMIT_COUNT; i++) {
        uint64_t n = 0;

        if (i * 8 < part.len && !sb_num_read(sb_str_of(part.data + i * 8, 8), &n))
            return false;
        if (n > SB_LIMIT_MAX + 1)
            return false;
        limit[i] = (int64_t)n - 1;
    }
    return true;
}

sb_code_t sb_limits_get(sb_store_t *st, MDB_txn *txn, const char *id, int64_t limit[SB_LIMIT_COUNT],
                        sb_err_t *err)
{
    MDB_val key = text_val(id), val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_LIMITS], &key, &val);

    if (rc == MDB_NOTFOUND) {
        for (size_t i = 0; i < SB_LIMIT_COUNT; i++)
            limit[i] = SB_UNLIMITED;
        return SB_OK;
    }
    if (rc != 0)
        return sb_store_fail(st, rc, "reading a tenant's limits", err);
    return unpack_limits(&val, limit) ? SB_OK : sb_store_corrupt("the record of a tenant", err);
}

static sb_code_t put_limits(sb_batch_t *b, MDB_txn *txn, const sb_tenant_t *t, sb_err_t *err)
{
    sb_num_t num[SB_LIMIT_COUNT];
    sb_str_t part = sb_str_of((const char *)num, sizeof(num));
    MDB_val key = text_val(t->id);
    int rc;

    for (size_t i = 0; i < SB_LIMIT_COUNT; i++)
        num[i] = sb_num((uint64_t)(t->limit[i] + 1));
    rc = sb_pack_put(txn, b->st->dbi[SB_DBI_LIMITS], &key, SB_KIND_LIMITS, &part, 1);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing a tenant's limits", err);
}

/* ---- records ---- */

/* {"id":"..","created_at":".."}: ids and times hold nothing that JSON would escape. */
static bool read_created(const MDB_val *val, int64_t *ms)
{
    const char *text = val->mv_data, *at;

    at = memmem(text, val->mv_size, CREATED_AT, sizeof(CREATED_AT) - 1);
    if (at == NULL)
        return false;
    at += sizeof(CREATED_AT) - 1;
    return (size_t)(at - text) + SB_TIME_LEN < val->mv_size && sb_time_parse(at, SB_TIME_LEN, ms);
}

/* Limits and use. */
static sb_code_t get_numbers(sb_store_t *st, MDB_txn *txn, sb_tenant_t *t, sb_err_t *err)
{
    sb_code_t code = sb_limits_get(st, txn, t->id, t->limit, err);

    return code == SB_OK ? sb_usage_get(st, txn, t->id, t->use, err) : code;
}

static sb_code_t get_tenant(sb_store_t *st, MDB_txn *txn, const char *id, sb_tenant_t *t,
                            sb_err_t *err)
{
    MDB_val key = text_val(id), val;
    int rc;

    if (!sb_tenant_valid(id, strlen(id)))
        return not_found(err);
    rc = mdb_get(txn, st->dbi[SB_DBI_TENANTS], &key, &val);
    if (rc == MDB_NOTFOUND)
        return not_found(err);
    if (rc != 0)
        return sb_store_fail(st, rc, "reading a tenant", err);
    memcpy(t->id, id, strlen(id) + 1);
    if (!read_created(&val, &t->created_ms))
        return sb_store_corrupt("the record of a tenant", err);
    return get_numbers(st, txn, t, err);
}

static sb_code_t put_tenant(sb_batch_t *b, MDB_txn *txn, const char *id, int64_t created_ms,
                            sb_err_t *err)
{
    MDB_val key = text_val(id), val;
    char when[SB_TIME_LEN + 1];
    sb_buf_t json = SB_BUF_INIT(1024);
    int rc = ENOMEM;

    sb_time_format(created_ms, when);
    sb_buf_char(&json, '{');
    sb_json_key_str(&json, "id", id);
    sb_json_key_str(&json, "created_at", when);
    sb_buf_char(&json, '}');
    if (sb_buf_ok(&json)) {
        val = (MDB_val){json.len, json.data};
        rc = mdb_put(txn, b->st->dbi[SB_DBI_TENANTS], &key, &val, MDB_NOOVERWRITE);
    }
    sb_buf_free(&json);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "making a tenant", err);
}

static sb_code_t log_tenant(sb_batch_t *b, MDB_txn *txn, const char *op, const char *id,
                            sb_err_t *err)
{
    sb_buf_t entry;
    sb_code_t code = sb_log_start(b, txn, &entry, op, id, err);

    return code == SB_OK ? sb_log_put(b, txn, &entry, err) : code;
}

/* ---- reads ---- */

sb_code_t sb_store_tenant_get(sb_store_t *st, const char *id, sb_tenant_t *tenant, sb_err_t *err)
{
    sb_code_t code = sb_store_read_begin(st, err);

    if (code != SB_OK)
        return code;
    code = get_tenant(st, st->read, id, tenant, err);
    sb_store_read_end(st);
    return code;
}

sb_code_t sb_store_tenant_limits(sb_store_t *st, const char *id, int64_t limit[SB_LIMIT_COUNT],
                                 sb_err_t *err)
{
    sb_code_t code = sb_store_read_begin(st, err);

    if (code != SB_OK)
        return code;
    code = sb_limits_get(st, st->read, id, limit, err);
    sb_store_read_end(st);
    return code;
}

static sb_code_t each_tenant(sb_store_t *st, MDB_cursor *cur, sb_tenant_cb cb, void *ctx,
                             sb_err_t *err)
{
    MDB_val key, val;
    int rc;

    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        sb_tenant_t t;
        sb_code_t code;

        if (!sb_str_copy(sb_str_of(key.mv_data, key.mv_size), t.id, sizeof(t.id)) ||
            !read_created(&val, &t.created_ms))
            return sb_store_corrupt("the record of a tenant", err);
        code = get_numbers(st, st->read, &t, err);
        if (code == SB_OK)
            code = cb(ctx, &t, err);
        if (code != SB_OK)
            return code;
    }
    return rc == MDB_NOTFOUND ? SB_OK : sb_store_fail(st, rc, "listing tenants", err);
}

sb_code_t sb_store_tenant_each(sb_store_t *st, sb_tenant_cb cb, void *ctx, sb_err_t *err)
{
    MDB_cursor *cur;
    sb_code_t code = sb_store_read_begin(st, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_TENANTS], &cur);
    if (rc == 0) {
        code = each_tenant(st, cur, cb, ctx, err);
        mdb_cursor_close(cur);
    } else {
        code = sb_store_fail(st, rc, "listing tenants", err);
    }
    sb_store_read_end(st);
    return code;
}

/* ---- writes ---- */

sb_code_t sb_tenant_make(sb_batch_t *b, MDB_txn *txn, const char *tenant, int64_t now,
                         sb_err_t *err)
{
    MDB_val key = text_val(tenant), val;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_TENANTS], &key, &val);
    sb_code_t code;

    if (rc == 0)
        return SB_OK;
    if (rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "reading a tenant", err);
    code = put_tenant(b, txn, tenant, now, err);
    return code == SB_OK ? log_tenant(b, txn, "tenant.put", tenant, err) : code;
}

static sb_code_t check_limits(const sb_tenant_t *t, int64_t least, sb_err_t *err)
{
    for (size_t i = 0; i < SB_LIMIT_COUNT; i++) {
        if (t->limit[i] < least || t->limit[i] > SB_LIMIT_MAX)
            return sb_err_set(err, SB_EINVAL, "the limit \"%s\" is out of range", limit_names[i]);
    }
    return SB_OK;
}

sb_code_t sb_batch_tenant_create(sb_batch_t *b, sb_tenant_t *tenant, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_tenant_t there;
    sb_code_t code = check_limits(tenant, SB_UNLIMITED, err);

    if (code == SB_OK && !sb_tenant_valid(tenant->id, strnlen(tenant->id, sizeof(tenant->id))))
        code = sb_err_set(err, SB_EINVAL, "the tenant's id is not valid");
    if (code == SB_OK)
        code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    if (tenant->created_ms == 0)
        tenant->created_ms = sb_time_now_ms();
    memset(tenant->use, 0, sizeof(tenant->use));
    code = get_tenant(b->st, txn, tenant->id, &there, err);
    if (code == SB_OK)
        code = sb_err_set(err, SB_ECONFLICT, "there is a tenant \"%s\" already", tenant->id);
    else if (code == SB_ENOTFOUND)
        code = put_tenant(b, txn, tenant->id, tenant->created_ms, err);
    if (code == SB_OK)
        code = put_limits(b, txn, tenant, err);
    if (code == SB_OK)
        code = log_tenant(b, txn, "tenant.put", tenant->id, err);
    return sb_batch_op_end(b, txn, code, err);
}

sb_code_t sb_batch_tenant_update(sb_batch_t *b, sb_tenant_t *tenant, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_tenant_t t;
    sb_code_t code = check_limits(tenant, SB_LIMIT_KEEP, err);

    if (code == SB_OK)
        code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = get_tenant(b->st, txn, tenant->id, &t, err);
    if (code == SB_OK) {
        for (size_t i = 0; i < SB_LIMIT_COUNT; i++) {
            if (tenant->limit[i] != SB_LIMIT_KEEP)
                t.limit[i] = tenant->limit[i];
        }
        code = put_limits(b, txn, &t, err);
    }
    if (code == SB_OK)
        code = log_tenant(b, txn, "tenant.limits", t.id, err);
    code = sb_batch_op_end(b, txn, code, err);
    if (code == SB_OK)
        *tenant = t;
    return code;
}

/* Is there a key that begins with the tenant? */
static sb_code_t check_empty(sb_batch_t *b, MDB_txn *txn, const char *id, int dbi, const char *what,
                             sb_err_t *err)
{
    MDB_val key, val;
    MDB_cursor *cur;
    sb_skey_t prefix;
    int rc;

    if (!sb_skey(&prefix, id, "", NULL, NULL))
        return not_found(err);
    rc = mdb_cursor_open(txn, b->st->dbi[dbi], &cur);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "looking for what a tenant has", err);
    key = sb_skey_val(&prefix);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    mdb_cursor_close(cur);
    if (rc == 0 && sb_skey_prefix(&key, &prefix))
        return sb_err_set(err, SB_ECONFLICT, "the tenant still has %s: delete them first", what);
    return rc == 0 || rc == MDB_NOTFOUND
               ? SB_OK
               : sb_store_fail(b->st, rc, "looking for what a tenant has", err);
}

static sb_code_t delete_tenant(sb_batch_t *b, MDB_txn *txn, const char *id, int *revoked,
                               sb_err_t *err)
{
    MDB_val key = text_val(id);
    sb_tenant_t t;
    sb_code_t code = get_tenant(b->st, txn, id, &t, err);
    int rc;

    if (code == SB_OK)
        code = check_empty(b, txn, id, SB_DBI_SKILLS, "skills", err);
    if (code == SB_OK)
        code = check_empty(b, txn, id, SB_DBI_EXECUTIONS, "executions", err);
    if (code == SB_OK)
        code = check_empty(b, txn, id, SB_DBI_FILES, "files", err);
    if (code == SB_OK)
        code = sb_keys_revoke_all(b, txn, id, revoked, err);
    if (code == SB_OK)
        code = sb_usage_forget(b, txn, id, err);
    if (code != SB_OK)
        return code;
    rc = mdb_del(txn, b->st->dbi[SB_DBI_TENANTS], &key, NULL);
    if (rc == 0) {
        rc = mdb_del(txn, b->st->dbi[SB_DBI_LIMITS], &key, NULL);
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    if (rc != 0)
        return sb_store_fail(b->st, rc, "deleting a tenant", err);
    return log_tenant(b, txn, "tenant.delete", id, err);
}

sb_code_t sb_batch_tenant_delete(sb_batch_t *b, const char *id, int *revoked, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    int count = 0;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    code = sb_batch_op_end(b, txn, delete_tenant(b, txn, id, &count, err), err);
    if (code == SB_OK && revoked != NULL)
        *revoked = count;
    return code;
}
