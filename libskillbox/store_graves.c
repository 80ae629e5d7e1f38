/*
 * store_graves.c - see store.h: what is remembered of executions that were deleted.
 *
 * A helper reports an end until it has heard that it is kept.  When that answer was lost and the
 * record is deleted before the helper comes again, the second report must not make it anew.
 * Promises: a report finds the grave for SB_GRAVE_AGE_MS, and at most SB_GRAVES_MAX take room, the
 * youngest.  Runs where batches run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#define TIME_LEN 8

static bool time_key(sb_skey_t *k, uint64_t deleted_ms, const sb_skey_t *key)
{
    sb_num_t num = sb_num(deleted_ms);

    k->len = 0;
    return sb_skey_add(k, num.data, sizeof(num.data)) && sb_skey_add(k, key->data, key->len);
}

sb_code_t sb_grave_find(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err)
{
    MDB_val k = sb_skey_val(key), val;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_GRAVES], &k, &val);

    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "looking for a deleted execution", err);
}

/* The oldest; SB_ENOTFOUND: there is none. */
static sb_code_t oldest(sb_batch_t *b, MDB_txn *txn, sb_skey_t *key, uint64_t *deleted_ms,
                        sb_err_t *err)
{
    MDB_val k, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_GRAVETIMES], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing deleted executions", err);
    rc = mdb_cursor_get(cur, &k, &val, MDB_FIRST);
    key->len = 0;
    if (rc == 0 &&
        (k.mv_size <= TIME_LEN || !sb_num_read(sb_str_of(k.mv_data, TIME_LEN), deleted_ms) ||
         !sb_skey_add(key, (const char *)k.mv_data + TIME_LEN, k.mv_size - TIME_LEN)))
        rc = MDB_CORRUPTED;
    mdb_cursor_close(cur);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "listing deleted executions", err);
}

static sb_code_t fill(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, uint64_t deleted_ms,
                      sb_err_t *err)
{
    sb_skey_t when = {.len = 0};
    MDB_val k = sb_skey_val(key);
    int rc = mdb_del(txn, b->st->dbi[SB_DBI_GRAVES], &k, NULL);

    if ((rc == 0 || rc == MDB_NOTFOUND) && time_key(&when, deleted_ms, key)) {
        k = sb_skey_val(&when);
        rc = mdb_del(txn, b->st->dbi[SB_DBI_GRAVETIMES], &k, NULL);
    }
    return rc == 0 || rc == MDB_NOTFOUND
               ? SB_OK
               : sb_store_fail(b->st, rc, "forgetting a deleted execution", err);
}

static sb_code_t put(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, uint64_t now, sb_err_t *err)
{
    sb_num_t num = sb_num(now);
    sb_skey_t when = {.len = 0};
    MDB_val k = sb_skey_val(key), val = {sizeof(num.data), num.data}, none = {0, num.data};
    int rc = mdb_put(txn, b->st->dbi[SB_DBI_GRAVES], &k, &val, 0);

    if (rc == 0 && !time_key(&when, now, key))
        rc = MDB_BAD_VALSIZE;
    if (rc == 0) {
        k = sb_skey_val(&when);
        rc = mdb_put(txn, b->st->dbi[SB_DBI_GRAVETIMES], &k, &none, 0);
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "remembering a deleted execution", err);
}

sb_code_t sb_grave_dig(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err)
{
    sb_skey_t first = {.len = 0};
    uint64_t deleted_ms = 0;
    MDB_stat stat;
    int rc = mdb_stat(txn, b->st->dbi[SB_DBI_GRAVETIMES], &stat);
    sb_code_t code = SB_OK;

    if (rc != 0)
        return sb_store_fail(b->st, rc, "counting deleted executions", err);
    if (stat.ms_entries >= SB_GRAVES_MAX) {
        code = oldest(b, txn, &first, &deleted_ms, err);
        if (code == SB_OK)
            code = fill(b, txn, &first, deleted_ms, err);
    }
    return code == SB_OK || code == SB_ENOTFOUND ? put(b, txn, key, (uint64_t)sb_time_now_ms(), err)
                                                 : code;
}

sb_code_t sb_batch_grave_sweep(sb_batch_t *b, int64_t before_ms, unsigned max, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    for (unsigned i = 0; code == SB_OK && i < max; i++) {
        sb_skey_t key = {.len = 0};
        uint64_t deleted_ms = 0;

        code = oldest(b, txn, &key, &deleted_ms, err);
        if (code == SB_OK && (int64_t)deleted_ms >= before_ms)
            break;
        if (code == SB_OK)
            code = fill(b, txn, &key, deleted_ms, err);
    }
    return sb_batch_op_end(b, txn, code == SB_ENOTFOUND ? SB_OK : code, err);
}
