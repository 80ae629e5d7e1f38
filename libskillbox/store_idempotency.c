/*
 * store_idempotency.c - see store.h: which execution an Idempotency-Key stands for.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#define HASH_LEN   32
#define ID_LEN     16
#define IDEM_PARTS 3

static bool idem_key(sb_skey_t *k, const char *tenant, const unsigned char key[HASH_LEN])
{
    return sb_skey(k, tenant, "", NULL, NULL) && sb_skey_add(k, key, HASH_LEN);
}

static bool time_key(sb_skey_t *k, int64_t created_ms, const sb_skey_t *key)
{
    sb_num_t num = sb_num((uint64_t)created_ms);

    k->len = 0;
    return sb_skey_add(k, num.data, sizeof(num.data)) && sb_skey_add(k, key->data, key->len);
}

static bool unpack(const MDB_val *val, sb_idempotency_t *out)
{
    sb_str_t parts[IDEM_PARTS];
    uint64_t created;

    if (!sb_unpack(val, SB_KIND_IDEMPOTENCY, parts, IDEM_PARTS) || parts[0].len != ID_LEN ||
        parts[1].len != HASH_LEN || !sb_num_read(parts[2], &created))
        return false;
    sb_uuid_format((const unsigned char *)parts[0].data, out->execution);
    memcpy(out->body, parts[1].data, HASH_LEN);
    out->created_ms = (int64_t)created;
    return true;
}

/* SB_ENOTFOUND leaves err alone. */
static sb_code_t find(sb_store_t *st, MDB_txn *txn, const sb_skey_t *key, sb_idempotency_t *out,
                      sb_err_t *err)
{
    MDB_val k = sb_skey_val(key), val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_IDEMPOTENCY], &k, &val);

    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(st, rc, "reading an idempotency key", err);
    return unpack(&val, out) ? SB_OK : sb_store_corrupt("an idempotency key", err);
}

sb_code_t sb_store_idempotency_find(sb_store_t *st, const char *tenant, const unsigned char key[32],
                                    sb_idempotency_t *out, sb_err_t *err)
{
    sb_skey_t k = {.len = 0};
    sb_code_t code;

    if (!idem_key(&k, tenant, key))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is too long");
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    code = find(st, st->read, &k, out, err);
    sb_store_read_end(st);
    return code == SB_ENOTFOUND ? sb_err_set(err, code, "the key was not used") : code;
}

/* ---- writes ---- */

static sb_code_t drop(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, int64_t created_ms,
                      sb_err_t *err)
{
    const MDB_dbi *dbi = b->st->dbi;
    sb_skey_t when = {.len = 0};
    MDB_val k = sb_skey_val(key);
    int rc = mdb_del(txn, dbi[SB_DBI_IDEMPOTENCY], &k, NULL);

    if (rc == 0 && time_key(&when, created_ms, key)) {
        k = sb_skey_val(&when);
        rc = mdb_del(txn, dbi[SB_DBI_IDEMTIMES], &k, NULL);
    }
    return rc == 0 || rc == MDB_NOTFOUND
               ? SB_OK
               : sb_store_fail(b->st, rc, "forgetting an idempotency key", err);
}

static sb_code_t put(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, const sb_idempotency_t *in,
                     sb_err_t *err)
{
    sb_num_t created = sb_num((uint64_t)in->created_ms);
    unsigned char id[ID_LEN];
    sb_skey_t when = {.len = 0};
    MDB_val k = sb_skey_val(key), none = {0, (void *)(uintptr_t) ""};

    if (!sb_uuid_parse(in->execution, strlen(in->execution), id) ||
        !time_key(&when, in->created_ms, key))
        return sb_err_set(err, SB_EINVAL, "the execution's id is not a UUID");
    sb_str_t parts[IDEM_PARTS] = {sb_str_of((const char *)id, ID_LEN),
                                  sb_str_of((const char *)in->body, HASH_LEN),
                                  sb_num_part(&created)};
    int rc = sb_pack_put(txn, b->st->dbi[SB_DBI_IDEMPOTENCY], &k, SB_KIND_IDEMPOTENCY, parts,
                         IDEM_PARTS);
    if (rc == 0) {
        k = sb_skey_val(&when);
        rc = mdb_put(txn, b->st->dbi[SB_DBI_IDEMTIMES], &k, &none, 0);
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "keeping an idempotency key", err);
}

sb_code_t sb_batch_idempotency_put(sb_batch_t *b, const char *tenant, const unsigned char key[32],
                                   const sb_idempotency_t *in, sb_idempotency_t *taken,
                                   sb_err_t *err)
{
    sb_skey_t k = {.len = 0};
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!idem_key(&k, tenant, key))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is too long");
    code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = find(b->st, txn, &k, taken, err);
    if (code == SB_OK)
        code = sb_err_set(err, SB_ECONFLICT, "the idempotency key is in use");
    else if (code == SB_ENOTFOUND)
        code = put(b, txn, &k, in, err);
    return sb_batch_op_end(b, txn, code, err);
}

sb_code_t sb_batch_idempotency_remove(sb_batch_t *b, const char *tenant,
                                      const unsigned char key[32], const char *execution,
                                      sb_err_t *err)
{
    sb_idempotency_t there = {.created_ms = 0};
    sb_skey_t k = {.len = 0};
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!idem_key(&k, tenant, key))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is too long");
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = find(b->st, txn, &k, &there, err);
    if (code == SB_OK && strcmp(there.execution, execution) == 0)
        code = drop(b, txn, &k, there.created_ms, err);
    else if (code == SB_ENOTFOUND)
        code = SB_OK;
    return sb_batch_op_end(b, txn, code, err);
}

/* The oldest key, when it was taken before before_ms; SB_ENOTFOUND: there is none. */
static sb_code_t oldest(sb_batch_t *b, MDB_txn *txn, int64_t before_ms, sb_skey_t *key,
                        int64_t *created_ms, sb_err_t *err)
{
    MDB_val k, val;
    MDB_cursor *cur;
    uint64_t created = 0;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_IDEMTIMES], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing idempotency keys", err);
    rc = mdb_cursor_get(cur, &k, &val, MDB_FIRST);
    key->len = 0;
    if (rc == 0 && (k.mv_size <= 8 || !sb_num_read(sb_str_of(k.mv_data, 8), &created) ||
                    !sb_skey_add(key, (const char *)k.mv_data + 8, k.mv_size - 8)))
        rc = MDB_CORRUPTED;
    mdb_cursor_close(cur);
    *created_ms = (int64_t)created;
    if (rc == MDB_NOTFOUND || (rc == 0 && *created_ms >= before_ms))
        return SB_ENOTFOUND;
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "listing idempotency keys", err);
}

sb_code_t sb_batch_idempotency_sweep(sb_batch_t *b, int64_t before_ms, unsigned max, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    for (unsigned i = 0; code == SB_OK && i < max; i++) {
        int64_t created_ms = 0;
        sb_skey_t key = {.len = 0};

        code = oldest(b, txn, before_ms, &key, &created_ms, err);
        if (code == SB_OK)
            code = drop(b, txn, &key, created_ms, err);
    }
    return sb_batch_op_end(b, txn, code == SB_ENOTFOUND ? SB_OK : code, err);
}
