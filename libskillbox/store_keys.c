/*
 * store_keys.c - API keys, found by the hash of their secret.
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
    key->used_ms = 0;
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

static int64_t last_use(sb_store_t *st, MDB_txn *txn, const char *id)
{
    MDB_val key = text_val(id), val;
    uint64_t ms = 0;

    if (mdb_get(txn, st->dbi[SB_DBI_KEYUSED], &key, &val) != 0 ||
        !sb_num_read(sb_str_of(val.mv_data, val.mv_size), &ms))
        return 0;
    return (int64_t)ms;
}

static sb_code_t unknown_id(sb_err_t *err)
{
    return sb_err_set(err, SB_ENOTFOUND, "there is no API key with this id");
}

/* The hash and the record that belong to a (canonical) id. */
static sb_code_t find_by_id(sb_store_t *st, MDB_txn *txn, const char *id,
                            unsigned char sha256[HASH_LEN], sb_key_t *key, sb_err_t *err)
{
    MDB_val k = text_val(id), hash, val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_KEYIDS], &k, &hash);

    if (rc == MDB_NOTFOUND)
        return unknown_id(err);
    if (rc != 0)
        return sb_store_fail(st, rc, "reading an API key", err);
    if (hash.mv_size != HASH_LEN)
        return sb_store_corrupt("the record of an API key", err);
    memcpy(sha256, hash.mv_data, HASH_LEN); /* the map may move under a write */
    hash = hash_val(sha256);
    if (mdb_get(txn, st->dbi[SB_DBI_KEYS], &hash, &val) != 0 || !unpack_key(&val, key))
        return sb_store_corrupt("the record of an API key", err);
    return SB_OK;
}

sb_code_t sb_store_key_get(sb_store_t *st, const char *id, sb_key_t *key, sb_err_t *err)
{
    unsigned char binary[16], sha256[HASH_LEN];
    char canonical[SB_UUID_LEN + 1];
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), binary))
        return unknown_id(err);
    sb_uuid_format(binary, canonical);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    code = find_by_id(st, st->read, canonical, sha256, key, err);
    if (code == SB_OK)
        key->used_ms = last_use(st, st->read, canonical);
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
        key.used_ms = last_use(st, st->read, key.id);
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
    code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = sb_tenant_make(b, txn, key->tenant, now, err);
    if (code == SB_OK)
        code = write_key(b, txn, sha256, key, err);
    if (code == SB_OK)
        code = log_key(b, txn, "key.put", key, err);
    return sb_batch_op_end(b, txn, code, err);
}

/* Takes a key that was found out of the databases. */
static sb_code_t remove_key(sb_batch_t *b, MDB_txn *txn, const unsigned char sha256[HASH_LEN],
                            const sb_key_t *found, sb_err_t *err)
{
    MDB_val key = text_val(found->id), hash = hash_val(sha256);
    int rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYIDS], &key, NULL);

    if (rc == 0)
        rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYS], &hash, NULL);
    if (rc == 0) {
        rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYUSED], &key, NULL);
        rc = rc == MDB_NOTFOUND ? 0 : rc; /* it was never used */
    }
    if (rc != 0)
        return sb_store_fail(b->st, rc, "revoking an API key", err);
    return log_key(b, txn, "key.revoke", found, err);
}

/* Begins an operation on the key with that id; SB_OK: *txn is to be ended. */
static sb_code_t begin_on_key(sb_batch_t *b, const char *id, MDB_txn **txn,
                              char canonical[SB_UUID_LEN + 1], sb_err_t *err)
{
    unsigned char binary[16];

    if (!sb_uuid_parse(id, strlen(id), binary))
        return unknown_id(err);
    sb_uuid_format(binary, canonical);
    return sb_batch_op_begin(b, txn, err);
}

sb_code_t sb_batch_key_revoke(sb_batch_t *b, const char *id, sb_err_t *err)
{
    char canonical[SB_UUID_LEN + 1];
    unsigned char sha256[HASH_LEN];
    MDB_txn *txn = NULL;
    sb_key_t found;
    sb_code_t code = begin_on_key(b, id, &txn, canonical, err);

    if (code != SB_OK)
        return code;
    code = find_by_id(b->st, txn, canonical, sha256, &found, err);
    if (code == SB_OK)
        code = remove_key(b, txn, sha256, &found, err);
    return sb_batch_op_end(b, txn, code, err);
}

/* The old key is revoked, or ends with the grace time. */
static sb_code_t retire(sb_batch_t *b, MDB_txn *txn, const unsigned char sha256[HASH_LEN],
                        sb_key_t *old, int64_t now, int64_t grace_ms, sb_err_t *err)
{
    MDB_val id = text_val(old->id), hash = hash_val(sha256);
    int rc;

    if (grace_ms <= 0) {
        old->expires_ms = now;
        return remove_key(b, txn, sha256, old, err);
    }
    if (old->expires_ms == 0 || old->expires_ms > now + grace_ms)
        old->expires_ms = now + grace_ms;
    rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYIDS], &id, NULL);
    if (rc == 0)
        rc = mdb_del(txn, b->st->dbi[SB_DBI_KEYS], &hash, NULL);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "rotating an API key", err);
    sb_code_t code = write_key(b, txn, sha256, old, err);
    return code == SB_OK ? log_key(b, txn, "key.retire", old, err) : code;
}

sb_code_t sb_batch_key_rotate(sb_batch_t *b, const char *id, const unsigned char sha256[32],
                              int64_t grace_ms, sb_key_t *next, int64_t *old_until_ms,
                              sb_err_t *err)
{
    char canonical[SB_UUID_LEN + 1];
    unsigned char old_hash[HASH_LEN];
    int64_t now = sb_time_now_ms();
    MDB_txn *txn = NULL;
    sb_key_t old = {.expires_ms = 0};
    sb_code_t code = begin_on_key(b, id, &txn, canonical, err);

    if (code != SB_OK)
        return code;
    code = find_by_id(b->st, txn, canonical, old_hash, &old, err);
    if (code == SB_OK && old.expires_ms != 0 && old.expires_ms <= now)
        code = sb_err_set(err, SB_ECONFLICT, "the API key has expired: make a new one");
    if (code == SB_OK) {
        *next = old;
        sb_uuid7(next->id);
        next->created_ms = now;
        code = write_key(b, txn, sha256, next, err);
    }
    if (code == SB_OK)
        code = log_key(b, txn, "key.put", next, err);
    if (code == SB_OK)
        code = retire(b, txn, old_hash, &old, now, grace_ms, err);
    if (code == SB_OK && old_until_ms != NULL)
        *old_until_ms = old.expires_ms;
    return sb_batch_op_end(b, txn, code, err);
}

static sb_code_t note_use(sb_batch_t *b, MDB_txn *txn, const sb_key_use_t *use, sb_err_t *err)
{
    sb_num_t ms = sb_num((uint64_t)use->used_ms);
    MDB_val key = text_val(use->id), val = {sizeof(ms.data), ms.data}, hash;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_KEYIDS], &key, &hash);

    if (rc == MDB_NOTFOUND) /* revoked since */
        return SB_OK;
    if (rc == 0 && last_use(b->st, txn, use->id) < use->used_ms)
        rc = mdb_put(txn, b->st->dbi[SB_DBI_KEYUSED], &key, &val, 0);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "noting an API key's use", err);
}

sb_code_t sb_batch_key_used(sb_batch_t *b, const sb_key_use_t *uses, size_t n, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    for (size_t i = 0; code == SB_OK && i < n; i++)
        code = note_use(b, txn, &uses[i], err);
    return sb_batch_op_end(b, txn, code, err);
}

/* The next key of the tenant behind the id `after` ("" : the first); SB_ENOTFOUND leaves err
 * alone. */
static sb_code_t next_of_tenant(sb_batch_t *b, MDB_txn *txn, const char *tenant, char *after,
                                unsigned char sha256[HASH_LEN], sb_key_t *found, sb_err_t *err)
{
    MDB_val id = text_val(after), hash;
    MDB_cursor *cur;
    sb_code_t code = SB_ENOTFOUND;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_KEYIDS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing API keys", err);
    rc = after[0] != '\0' ? mdb_cursor_get(cur, &id, &hash, MDB_SET_RANGE)
                          : mdb_cursor_get(cur, &id, &hash, MDB_FIRST);
    for (; rc == 0 && code == SB_ENOTFOUND; rc = mdb_cursor_get(cur, &id, &hash, MDB_NEXT)) {
        if (!sb_str_copy(sb_str_of(id.mv_data, id.mv_size), after, SB_UUID_LEN + 1)) {
            code = sb_store_corrupt("the record of an API key", err);
            break;
        }
        code = find_by_id(b->st, txn, after, sha256, found, err);
        if (code == SB_OK && strcmp(found->tenant, tenant) != 0)
            code = SB_ENOTFOUND;
    }
    mdb_cursor_close(cur);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "listing API keys", err);
    return code;
}

sb_code_t sb_keys_revoke_all(sb_batch_t *b, MDB_txn *txn, const char *tenant, int *revoked,
                             sb_err_t *err)
{
    char at[SB_UUID_LEN + 1] = "";
    unsigned char sha256[HASH_LEN];
    sb_key_t found;
    sb_code_t code;

    while ((code = next_of_tenant(b, txn, tenant, at, sha256, &found, err)) == SB_OK) {
        code = remove_key(b, txn, sha256, &found, err);
        if (code != SB_OK)
            return code;
        (*revoked)++;
    }
    return code == SB_ENOTFOUND ? SB_OK : code;
}
