/*
 * store_retention.c - see store.h: the removal of executions, one that is asked for and
 * those that are old or too many.  In small steps: the writer's lock is everybody's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#define ID_LEN       16
#define TENANTS_MAX  100000 /* looked through for one archive */
#define LIVE_SKIPPED 1000   /* of a tenant in one call */

/* ---- one ---- */

/* The record and what points to it; SB_ECONFLICT: it is live. */
static sb_code_t remove_exec(sb_batch_t *b, MDB_txn *txn, const char *tenant, const sb_skey_t *key,
                             uint32_t *files, sb_err_t *err)
{
    MDB_val k = sb_skey_val(key);
    sb_exec_value_t value = {0};
    sb_code_t code = sb_exec_get(b, txn, key, &value, err);
    int64_t bytes;
    int rc;

    if (code == SB_ENOTFOUND)
        return sb_err_set(err, SB_ENOTFOUND, "there is no such execution");
    if (code != SB_OK)
        return code;
    if (sb_exec_is_live(value.status))
        return sb_err_set(err, SB_ECONFLICT, "the execution has not ended");
    *files = (uint32_t)value.files;
    bytes = sb_exec_bytes(&value);
    code = sb_exec_index(b, txn, key, &value, NULL, err);
    if (code == SB_OK)
        code = sb_usage_archive(b, txn, tenant, key, 0, err);
    if (code == SB_OK)
        code = sb_usage_add(b, txn, tenant, SB_USE_RECORDS, -bytes, err);
    if (code != SB_OK)
        return code;
    rc = mdb_del(txn, b->st->dbi[SB_DBI_EXECUTIONS], &k, NULL);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "removing an execution", err);
}

sb_code_t sb_batch_execution_delete(sb_batch_t *b, const char *tenant, const char *id,
                                    uint32_t *files, sb_err_t *err)
{
    unsigned char binary[ID_LEN];
    uint32_t n = 0;
    sb_skey_t key;
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), binary) || !sb_exec_key(&key, tenant, binary))
        return sb_err_set(err, SB_ENOTFOUND, "there is no such execution");
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = remove_exec(b, txn, tenant, &key, &n, err);
    if (code == SB_OK)
        code = sb_grave_dig(b, txn, &key, err);
    code = sb_batch_op_end(b, txn, code, err);
    if (code == SB_OK && files != NULL)
        *files = n;
    return code;
}

/* ---- retention ---- */

/* The tenant behind r->tenant, the first again behind the last; *n: what it has. */
static sb_code_t next_tenant(sb_batch_t *b, MDB_txn *txn, sb_retention_t *r, uint64_t *n,
                             sb_err_t *err)
{
    MDB_val key = {strlen(r->tenant), r->tenant}, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_COUNTS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing tenants", err);
    if (r->tenant[0] == '\0') {
        rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST);
    } else {
        rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
        if (rc == 0 && !r->again && key.mv_size == strlen(r->tenant) &&
            memcmp(key.mv_data, r->tenant, key.mv_size) == 0)
            rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT);
    }
    if (rc == 0 &&
        (!sb_str_copy(sb_str_of(key.mv_data, key.mv_size), r->tenant, sizeof(r->tenant)) ||
         !sb_num_read(sb_str_of(val.mv_data, val.mv_size), n)))
        rc = MDB_CORRUPTED;
    mdb_cursor_close(cur);
    if (rc == MDB_NOTFOUND) {
        r->tenant[0] = '\0';
        r->round = true;
        return SB_OK;
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "listing tenants", err);
}

/* The ids that have to go, oldest first, ID_LEN bytes each. */
static int collect_old(sb_batch_t *b, MDB_txn *txn, sb_retention_t *r, uint64_t n, sb_buf_t *ids)
{
    uint64_t surplus = r->keep != 0 && n > r->keep ? n - r->keep : 0;
    unsigned skipped = 0, found = 0;
    sb_skey_t prefix;
    MDB_cursor *cur;
    MDB_val key, val;
    int rc;

    if (!sb_skey(&prefix, r->tenant, "", NULL, NULL))
        return MDB_CORRUPTED;
    rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_EXECUTIONS], &cur);
    if (rc != 0)
        return rc;
    key = sb_skey_val(&prefix);
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        sb_exec_value_t value = {0};

        if (!sb_skey_prefix(&key, &prefix))
            break;
        if (key.mv_size != prefix.len + ID_LEN || !sb_exec_unpack(&val, &value)) {
            rc = MDB_CORRUPTED;
            break;
        }
        bool old = r->before_ms != 0 && (int64_t)value.created_ms < r->before_ms;
        if (!old && surplus == 0)
            break;
        r->again = found == r->max;
        if (r->again)
            break;
        surplus -= surplus > 0;
        if (sb_exec_is_live(value.status)) {
            if (++skipped == LIVE_SKIPPED)
                break;
            continue;
        }
        sb_buf_add(ids, (const char *)key.mv_data + prefix.len, ID_LEN);
        found++;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static sb_code_t remove_all(sb_batch_t *b, MDB_txn *txn, sb_retention_t *r, const sb_buf_t *ids,
                            sb_err_t *err)
{
    sb_code_t code = SB_OK;

    for (size_t at = 0; code == SB_OK && at < ids->len; at += ID_LEN) {
        const unsigned char *binary = (const unsigned char *)ids->data + at;
        char id[SB_UUID_LEN + 1];
        uint32_t files = 0;
        sb_skey_t key;

        if (!sb_exec_key(&key, r->tenant, binary))
            return sb_store_corrupt("an execution's key", err);
        code = remove_exec(b, txn, r->tenant, &key, &files, err);
        if (code != SB_OK)
            break;
        r->removed++;
        if (files > 0) {
            sb_uuid_format(binary, id);
            sb_buf_add(&r->archives, id, sizeof(id));
        }
    }
    if (code == SB_OK && !sb_buf_ok(&r->archives))
        code = sb_err_errno(err, ENOMEM, "store: removing executions");
    return code;
}

sb_code_t sb_batch_execution_retain(sb_batch_t *b, sb_retention_t *r, sb_err_t *err)
{
    sb_buf_t ids = SB_BUF_INIT((size_t)r->max * ID_LEN);
    MDB_txn *txn = NULL;
    uint64_t n = 0;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    r->removed = 0;
    r->round = false;
    code = next_tenant(b, txn, r, &n, err);
    if (code == SB_OK && !r->round) {
        r->again = false;
        int rc = collect_old(b, txn, r, n, &ids);
        if (rc == 0 && !sb_buf_ok(&ids))
            rc = ENOMEM;
        code = rc == 0 ? remove_all(b, txn, r, &ids, err)
                       : sb_store_fail(b->st, rc, "removing executions", err);
    }
    sb_buf_free(&ids);
    code = sb_batch_op_end(b, txn, code, err);
    if (code != SB_OK) {
        r->removed = 0;
        sb_buf_clear(&r->archives);
    }
    return code;
}

/* ---- archives without a record ---- */

static sb_code_t archive_of(sb_batch_t *b, MDB_txn *txn, const MDB_val *tenant,
                            const unsigned char id[ID_LEN], int64_t bytes, sb_err_t *err)
{
    char name[SB_TENANT_MAX + 1];
    sb_exec_value_t value = {0};
    sb_skey_t key;
    sb_code_t code;

    if (!sb_str_copy(sb_str_of(tenant->mv_data, tenant->mv_size), name, sizeof(name)) ||
        !sb_exec_key(&key, name, id))
        return sb_store_corrupt("a tenant's count", err);
    code = sb_exec_get(b, txn, &key, &value, err);
    if (code != SB_OK || sb_exec_is_live(value.status))
        return code;
    return value.files == 0 ? SB_ENOTFOUND : sb_usage_archive(b, txn, name, &key, bytes, err);
}

static sb_code_t find_archive(sb_batch_t *b, MDB_txn *txn, const unsigned char id[ID_LEN],
                              int64_t bytes, sb_err_t *err)
{
    sb_code_t code = SB_ENOTFOUND;
    MDB_val key, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_COUNTS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing tenants", err);
    rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST);
    for (int i = 0; rc == 0 && code == SB_ENOTFOUND && i < TENANTS_MAX; i++) {
        code = archive_of(b, txn, &key, id, bytes, err);
        rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT);
    }
    mdb_cursor_close(cur);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "listing tenants", err);
    return code;
}

sb_code_t sb_batch_execution_has_archive(sb_batch_t *b, const char *id, int64_t bytes,
                                         sb_err_t *err)
{
    unsigned char binary[ID_LEN];
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (bytes < 0 || !sb_uuid_parse(id, strlen(id), binary))
        return SB_ENOTFOUND;
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    return sb_batch_op_end(b, txn, find_archive(b, txn, binary, bytes, err), err);
}
