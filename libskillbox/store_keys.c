/*
 * store_keys.c - API keys, found by the hash of their secret, and the tenants
 * they belong to.
 *
 * Promises that no secret is stored, only its SHA-256, and that a revoked key is
 * unknown from the commit on.  Memory and map only; reads in the reading thread,
 * sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#include "names.h"

#define KEY_PARTS 7
#define HASH_LEN  32

static const char *const role_names[] = {
    [SB_ROLE_READER] = "reader",
    [SB_ROLE_RUNNER] = "runner",
    [SB_ROLE_PUBLISHER] = "publisher",
    [SB_ROLE_ADMIN] = "admin",
};
#define ROLES (sizeof(role_names) / sizeof(role_names[0]))

const char *sb_role_name(sb_role_t role)
{
    return (size_t)role < ROLES ? role_names[role] : "unknown";
}

bool sb_role_parse(const char *s, size_t len, sb_role_t *role)
{
    for (size_t i = 0; i < ROLES; i++) {
        if (strlen(role_names[i]) == len && memcmp(role_names[i], s, len) == 0) {
            *role = (sb_role_t)i;
            return true;
        }
    }
    return false;
}

static bool unpack_key(const MDB_val *val, sb_key_t *key)
{
    uint64_t role, service, created, expires;
    sb_str_t parts[KEY_PARTS];

    if (!sb_unpack(val, SB_KIND_KEY, parts, KEY_PARTS) ||
        !sb_str_copy(parts[0], key->id, sizeof(key->id)) ||
        !sb_str_copy(parts[1], key->tenant, sizeof(key->tenant)) ||
        !sb_str_copy(parts[2], key->name, sizeof(key->name)) || !sb_num_read(parts[3], &role) ||
        !sb_num_read(parts[4], &service) || !sb_num_read(parts[5], &created) ||
        !sb_num_read(parts[6], &expires) || role >= ROLES || service > 1)
        return false;
    key->role = (sb_role_t)role;
    key->service = service == 1;
    key->created_ms = (int64_t)created;
    key->expires_ms = (int64_t)expires;
    return true;
}

static MDB_val hash_val(const unsigned char sha256[HASH_LEN])
{
    return (MDB_val){HASH_LEN, (void *)(uintptr_t)sha256};
}

static MDB_val text_val(const char *s)
{
    return (MDB_val){strlen(s), (void *)(uintptr_t)s};
}

/* ---- reads ---- */

sb_code_t sb_store_key_find(sb_store_t *st, const unsigned char sha256[32], sb_key_t *key,
                            sb_err_t *err)
{
    MDB_val hash = hash_val(sha256), val;
    sb_code_t code = sb_store_read_begin(st, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = mdb_get(st->read, st->dbi[SB_DBI_KEYS], &hash, &val);
    if (rc == MDB_NOTFOUND)
        code = sb_err_set(err, SB_EAUTH, "the API key is unknown or was revoked");
    else if (rc != 0)
        code = sb_store_fail(st, rc, "reading an API key", err);
    else if (!unpack_key(&val, key))
        code = sb_store_corrupt("the record of an API key", err);
    sb_store_read_end(st);
    return code;
}

static sb_code_t each_key(sb_store_t *st, MDB_cursor *cur, sb_key_cb cb, void *ctx, sb_err_t *err)
{
    MDB_val id, hash, val;
    int rc;

    for (rc = mdb_cursor_get(cur, &id, &hash, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &id, &hash, MDB_NEXT)) {
        sb_key_t key;
        sb_code_t code;

        if (mdb_get(st->read, st->dbi[SB_DBI_KEYS], &hash, &val) != 0 || !unpack_key(&val, &key))
            return sb_store_corrupt("the record of an API key", err);
        code = cb(ctx, &key, err);
        if (code != SB_OK)
            return code;
    }
    return rc == MDB_NOTFOUND ? SB_OK : sb_store_fail(st, rc, "listing API keys", err);
}

sb_code_t sb_store_key_each(sb_store_t *st, sb_key_cb cb, void *ctx, sb_err_t *err)
{
    MDB_cursor *cur;
    sb_code_t code = sb_store_read_begin(st, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_KEYIDS], &cur);
    if (rc == 0) {
        code = each_key(st, cur, cb, ctx, err);
        mdb_cursor_close(cur);
    } else {
        code = sb_store_fail(st, rc, "listing API keys", err);
    }
    sb_store_read_end(st);
    return code;
}

/* ---- writes ---- */

static bool printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    }
    return sb_utf8_valid(s, len);
}

static sb_code_t check_key(const sb_key_t *key, sb_err_t *err)
{
    size_t name_len = strnlen(key->name, sizeof(key->name));
    size_t id_len = strnlen(key->id, sizeof(key->id));

    if (!sb_tenant_valid(key->tenant, strnlen(key->tenant, sizeof(key->tenant))))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is not valid");
    if (name_len == sizeof(key->name) || !printable(key->name, name_len))
        return sb_err_set(err, SB_EINVAL, "the API key's name is not valid");
    if (id_len != 0 && !sb_uuid_parse(key->id, id_len, NULL))
        return sb_err_set(err, SB_EINVAL, "the API key's id is not a UUID");
    if ((size_t)key->role >= ROLES)
        return sb_err_set(err, SB_EINVAL, "the API key's role is not valid");
    return SB_OK;
}

static sb_code_t make_tenant(sb_batch_t *b, MDB_txn *txn, const char *tenant, int64_t now,
                             sb_err_t *err)
{
    MDB_val key = text_val(tenant), val;
    char when[SB_TIME_LEN + 1];
    sb_buf_t json, entry;
    sb_code_t code;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_TENANTS], &key, &val);

    if (rc == 0)
        return SB_OK;
    if (rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "reading a tenant", err);

    sb_time_format(now, when);
    sb_buf_init(&json, 1024);
    sb_buf_char(&json, '{');
    sb_json_key_str(&json, "id", tenant);
    sb_json_key_str(&json, "created_at", when);
    sb_buf_char(&json, '}');
    rc = ENOMEM;
    if (sb_buf_ok(&json)) {
        val = (MDB_val){json.len, json.data};
        rc = mdb_put(txn, b->st->dbi[SB_DBI_TENANTS], &key, &val, MDB_NOOVERWRITE);
    }
    sb_buf_free(&json);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "making a tenant", err);
    code = sb_log_start(b, txn, &entry, "tenant.put", tenant, err);
    return code == SB_OK ? sb_log_put(b, txn, &entry, err) : code;
}

static sb_code_t write_key(sb_batch_t *b, MDB_txn *txn, const unsigned char sha256[HASH_LEN],
                           const sb_key_t *key, sb_err_t *err)
{
    sb_num_t role = sb_num((uint64_t)key->role), service = sb_num(key->service ? 1 : 0);
    sb_num_t created = sb_num((uint64_t)key->created_ms),
             expires = sb_num((uint64_t)key->expires_ms);
    sb_str_t parts[KEY_PARTS] = {sb_str_of(key->id, strlen(key->id)),
                                 sb_str_of(key->tenant, strlen(key->tenant)),
                                 sb_str_of(key->name, strlen(key->name)),
                                 sb_num_part(&role),
                                 sb_num_part(&service),
                                 sb_num_part(&created),
                                 sb_num_part(&expires)};
    MDB_val hash = hash_val(sha256), id = text_val(key->id), val;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_KEYS], &hash, &val);

    if (rc == 0)
        return sb_err_set(err, SB_ECONFLICT, "this API key is stored already");
    if (rc == MDB_NOTFOUND)
        rc = mdb_put(txn, b->st->dbi[SB_DBI_KEYIDS], &id, &hash, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST)
        return sb_err_set(err, SB_ECONFLICT, "an API key with this id is stored already");
    if (rc == 0)
        rc = sb_pack_put(txn, b->st->dbi[SB_DBI_KEYS], &hash, SB_KIND_KEY, parts, KEY_PARTS);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing an API key", err);
}

static sb_code_t log_key(sb_batch_t *b, MDB_txn *txn, const char *op, const sb_key_t *key,
                         sb_err_t *err)
{
    sb_buf_t entry;
    sb_code_t code = sb_log_start(b, txn, &entry, op, key->tenant, err);

    if (code != SB_OK)
        return code;
    sb_json_key_str(&entry, "id", key->id);
    sb_json_key_str(&entry, "name", key->name);
    sb_json_key_str(&entry, "role", sb_role_name(key->role));
    return sb_log_put(b, txn, &entry, err);
}

sb_code_t sb_batch_key_put(sb_batch_t *b, const unsigned char sha256[32], sb_key_t *key,
                           sb_err_t *err)
{
    int64_t now = sb_time_now_ms();
    MDB_txn *txn = NULL;
    sb_code_t code = check_key(key, err);

    if (code != SB_OK)
        return code;
    if (key->id[0] == '\0')
        sb_uuid7(key->id);
    if (key->created_ms == 0)
        key->created_ms = now;
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = make_tenant(b, txn, key->tenant, now, err);
    if (code == SB_OK)
        code = write_key(b, txn, sha256, key, err);
    if (code == SB_OK)
        code = log_key(b, txn, "key.put", key, err);
    return sb_batch_op_end(b, txn, code, err);
}

static sb_code_t revoke(sb_batch_t *b, MDB_txn *txn, const char *id, sb_err_t *err)
{
    unsigned char sha256[HASH_LEN];
    MDB_val key = text_val(id), hash, val;
    sb_key_t found;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_KEYIDS], &key, &hash);

    if (rc == MDB_NOTFOUND)
        return sb_err_set(err, SB_ENOTFOUND, "there is no API key with this id");
    if (rc != 0)
        return sb_store_fail(b->st, rc, "reading an API key", err);
    if (hash.mv_size != sizeof(sha256))
        return sb_store_corrupt("the record of an API key", err);
    memcpy(sha256, hash.mv_data, sizeof(sha256)); /* the map may move under a write */
    hash = hash_val(sha256);
    if (mdb_get(txn, b->st->dbi[SB_DBI_KEYS], &hash, &val) != 0 || !unpack_key(&val, &found))
        return sb_store_corrupt("the record of an API key", err);
    rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYIDS], &key, NULL);
    if (rc == 0)
        rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYS], &hash, NULL);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "revoking an API key", err);
    return log_key(b, txn, "key.revoke", &found, err);
}

sb_code_t sb_batch_key_revoke(sb_batch_t *b, const char *id, sb_err_t *err)
{
    char canonical[SB_UUID_LEN + 1];
    unsigned char binary[16];
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), binary))
        return sb_err_set(err, SB_ENOTFOUND, "there is no API key with this id");
    sb_uuid_format(binary, canonical);
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    return sb_batch_op_end(b, txn, revoke(b, txn, canonical, err), err);
}
