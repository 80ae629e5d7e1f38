/*
 * store_skills.c - skill versions: stored once, found by name.  What `latest`
 * means and the lists are in store_heads.c.
 *
 * Promises: a stored version never changes; the same content under the same
 * declared version is the same version; `latest` in the list and in a look-up is
 * one and the same (the head).  The list element of a version is the start of
 * its record, so that both are rendered once, at upload.
 * Reads in the reading thread, sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#include "names.h"
#include "semver.h"

#define SKILL_PARTS 5
#define BUMPS_MAX   10000 /* patches that are tried for a free one */
#define RECORD_MAX  (16 * SB_MIB)
#define TYPE_MAX    255

bool sb_skill_unpack(const MDB_val *val, sb_skill_value_t *out)
{
    sb_str_t parts[SKILL_PARTS];

    if (!sb_unpack(val, SB_KIND_SKILL, parts, SKILL_PARTS) || !sb_num_read(parts[3], &out->element))
        return false;
    out->digest = parts[0];
    out->origin = parts[1];
    out->run = parts[2];
    out->json = parts[4];
    return out->digest.len == SB_DIGEST_LEN && out->origin.len <= SB_VERSION_MAX &&
           out->element < out->json.len;
}

sb_code_t sb_skill_not_found(const char *name, const char *version, sb_err_t *err)
{
    if (version == NULL)
        return sb_err_set(err, SB_ENOTFOUND, "there is no skill \"%.128s\"", name);
    return sb_err_set(err, SB_ENOTFOUND, "there is no version %.64s of the skill \"%.128s\"",
                      version, name);
}

/* ---- reads ---- */

static bool wants_latest(const char *version)
{
    return version == NULL || version[0] == '\0' || strcmp(version, "latest") == 0;
}

sb_code_t sb_skill_version_get(sb_store_t *st, MDB_txn *txn, const char *tenant, const char *name,
                               const char *version, sb_skill_value_t *out, sb_err_t *err)
{
    sb_skey_t key;
    MDB_val k, val;
    int rc;

    if (!sb_skey(&key, tenant, name, version, NULL))
        return SB_ENOTFOUND;
    k = sb_skey_val(&key);
    rc = mdb_get(txn, st->dbi[SB_DBI_SKILLS], &k, &val);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(st, rc, "reading a skill", err);
    return sb_skill_unpack(&val, out) ? SB_OK : sb_store_corrupt("the record of a skill", err);
}

static sb_code_t read_skill(sb_store_t *st, const char *tenant, const char *name,
                            const char *version, sb_skill_t *out, sb_err_t *err)
{
    sb_str_t *const keep[] = {&out->json, &out->version, &out->digest, &out->run};
    sb_skill_value_t value = {0};
    sb_head_t head;
    sb_code_t code;

    if (wants_latest(version)) {
        code = sb_head_get(st, st->read, tenant, name, &head, err);
        if (code != SB_OK)
            return code;
        version = head.version;
    }
    code = sb_skill_version_get(st, st->read, tenant, name, version, &value, err);
    if (code != SB_OK)
        return code;
    out->json = value.json;
    out->version = sb_str_of(version, strlen(version));
    out->digest = value.digest;
    out->run = value.run;
    return sb_store_keep(st, keep, 4, err);
}

sb_code_t sb_store_skill_get(sb_store_t *st, const char *tenant, const char *name,
                             const char *version, sb_skill_t *out, sb_err_t *err)
{
    sb_code_t code;

    if (!sb_name_valid(name, strlen(name)))
        return sb_skill_not_found(name, NULL, err);
    if (!wants_latest(version) && !sb_semver_valid(version, strlen(version)))
        return sb_skill_not_found(name, version, err);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    code = read_skill(st, tenant, name, version, out, err);
    sb_store_read_end(st);
    if (code == SB_ENOTFOUND)
        return sb_skill_not_found(name, wants_latest(version) ? NULL : version, err);
    return code;
}

/* ---- put ---- */

static sb_code_t check_put(const sb_skill_put_t *put, sb_err_t *err)
{
    if (!sb_tenant_valid(put->tenant, strlen(put->tenant)))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is not valid");
    if (!sb_name_valid(put->name, strlen(put->name)))
        return sb_err_set(err, SB_EINVAL, "the skill's name is not valid");
    if (!sb_semver_valid(put->version, strlen(put->version)))
        return sb_err_set(err, SB_EINVAL, "the skill's version is not valid");
    if (!sb_digest_valid(put->digest))
        return sb_err_set(err, SB_EINVAL, "the package's digest is not valid");
    if (put->package_type != NULL && strlen(put->package_type) > TYPE_MAX)
        return sb_err_set(err, SB_EMEDIA, "the package's media type is too long");
    return SB_OK;
}

static bool origin_key(sb_skey_t *key, const char *tenant, const char *name, const char *origin,
                       const char *digest)
{
    return sb_skey(key, tenant, name, origin, digest);
}

/*
 * Was this content uploaded as this version before?  Then stored_version is
 * where it went.  SB_ENOTFOUND when not.
 */
static sb_code_t find_same(sb_batch_t *b, MDB_txn *txn, sb_skill_put_t *put, sb_err_t *err)
{
    sb_skill_value_t value = {0};
    sb_skey_t key;
    MDB_val k, val;
    sb_code_t code =
        sb_skill_version_get(b->st, txn, put->tenant, put->name, put->version, &value, err);
    int rc;

    if (code == SB_OK && value.digest.len == SB_DIGEST_LEN &&
        memcmp(value.digest.data, put->digest, SB_DIGEST_LEN) == 0) {
        memcpy(put->stored_version, put->version, strlen(put->version) + 1);
        return SB_OK;
    }
    if (code != SB_OK && code != SB_ENOTFOUND)
        return code;
    if (!origin_key(&key, put->tenant, put->name, put->version, put->digest))
        return SB_ENOTFOUND;
    k = sb_skey_val(&key);
    rc = mdb_get(txn, b->st->dbi[SB_DBI_ORIGINS], &k, &val);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(b->st, rc, "reading where a version went", err);
    if (!sb_str_copy(sb_str_of(val.mv_data, val.mv_size), put->stored_version,
                     sizeof(put->stored_version)))
        return sb_store_corrupt("where a version went", err);
    return SB_OK;
}

/* The declared version when it is free, else the next free patch or SB_ECONFLICT. */
static sb_code_t choose_version(sb_batch_t *b, MDB_txn *txn, sb_skill_put_t *put, sb_err_t *err)
{
    char next[SB_VERSION_MAX + 1];
    sb_skill_value_t value = {0};

    memcpy(put->stored_version, put->version, strlen(put->version) + 1);
    for (int i = 0; i < BUMPS_MAX; i++) {
        sb_code_t code = sb_skill_version_get(b->st, txn, put->tenant, put->name,
                                              put->stored_version, &value, err);
        if (code == SB_ENOTFOUND)
            return SB_OK;
        if (code != SB_OK)
            return code;
        if (put->on_conflict == SB_ON_CONFLICT_ERROR)
            return sb_err_set(err, SB_ECONFLICT,
                              "version %s of the skill \"%s\" exists with other content",
                              put->version, put->name);
        if (!sb_semver_next_patch(put->stored_version, next, sizeof(next)))
            break;
        memcpy(put->stored_version, next, sizeof(next));
    }
    return sb_err_set(err, SB_ECONFLICT, "no free patch version after %s of the skill \"%s\"",
                      put->version, put->name);
}

/* The record; *element is how much of it, with a brace, is the list element. */
static void render(const sb_skill_put_t *put, sb_buf_t *json, size_t *element)
{
    char when[SB_TIME_LEN + 1];

    sb_time_format(sb_time_now_ms(), when);
    sb_buf_init(json, RECORD_MAX);
    sb_buf_char(json, '{');
    sb_json_key_str(json, "name", put->name);
    sb_json_key_str(json, "version", put->stored_version);
    sb_json_key_str(json, "description", put->description != NULL ? put->description : "");
    if (put->lang != NULL && put->lang[0] != '\0')
        sb_json_key_str(json, "lang", put->lang);
    sb_json_key_str(json, "mode", put->mode);
    sb_json_key_str(json, "status", "available");
    sb_json_key_str(json, "digest", put->digest);
    sb_json_key_str(json, "uploaded_at", when);
    *element = json->len;
    if (put->detail != NULL && put->detail[0] != '\0') {
        sb_buf_char(json, ',');
        sb_buf_str(json, put->detail);
    }
    sb_buf_char(json, '}');
}

static sb_code_t write_version(sb_batch_t *b, MDB_txn *txn, const sb_skill_put_t *put,
                               const sb_buf_t *json, size_t element, sb_err_t *err)
{
    const char *run = put->run != NULL ? put->run : "";
    sb_num_t num = sb_num(element);
    sb_str_t parts[SKILL_PARTS] = {
        sb_str_of(put->digest, SB_DIGEST_LEN), sb_str_of(put->version, strlen(put->version)),
        sb_str_of(run, strlen(run)), sb_num_part(&num), sb_str_of(json->data, json->len)};
    MDB_val k, val = {strlen(put->stored_version), (void *)(uintptr_t)put->stored_version};
    sb_skey_t key;
    int rc = MDB_BAD_VALSIZE;

    if (sb_skey(&key, put->tenant, put->name, put->stored_version, NULL)) {
        k = sb_skey_val(&key);
        rc = sb_pack_put(txn, b->st->dbi[SB_DBI_SKILLS], &k, SB_KIND_SKILL, parts, SKILL_PARTS);
    }
    if (rc == 0 && origin_key(&key, put->tenant, put->name, put->version, put->digest)) {
        k = sb_skey_val(&key);
        rc = mdb_put(txn, b->st->dbi[SB_DBI_ORIGINS], &k, &val, 0);
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing a skill", err);
}

sb_code_t sb_skill_log(sb_batch_t *b, MDB_txn *txn, const char *op, const char *tenant,
                       const char *name, const char *version, const char *digest, sb_err_t *err)
{
    sb_buf_t entry;
    sb_code_t code = sb_log_start(b, txn, &entry, op, tenant, err);

    if (code != SB_OK)
        return code;
    sb_json_key_str(&entry, "name", name);
    sb_json_key_str(&entry, "version", version);
    sb_json_key_str(&entry, "digest", digest);
    return sb_log_put(b, txn, &entry, err);
}

/* Only when its file is in place is it known how large that is: another upload may have made it. */
static sb_code_t count_package(sb_batch_t *b, MDB_txn *txn, const sb_skill_put_t *put,
                               sb_err_t *err)
{
    int64_t bytes = sb_package_bytes(b->st, put->digest);
    sb_code_t code = sb_usage_room(b, txn, put->tenant, bytes, err);

    return code == SB_OK ? sb_usage_add(b, txn, put->tenant, SB_USE_PACKAGES, bytes, err) : code;
}

static sb_code_t add_version(sb_batch_t *b, MDB_txn *txn, sb_skill_put_t *put, sb_err_t *err)
{
    sb_buf_t json = SB_BUF_INIT(RECORD_MAX);
    size_t element = 0;
    sb_code_t code = choose_version(b, txn, put, err);

    if (code == SB_OK)
        code = sb_package_ref(b, txn, put->digest, put->package_tmp, put->package_type, err);
    if (code == SB_OK)
        code = count_package(b, txn, put, err);
    if (code != SB_OK)
        return code;
    render(put, &json, &element);
    if (!sb_buf_ok(&json))
        code = sb_err_set(err, SB_ETOOLARGE, "the skill's record is too large");
    if (code == SB_OK)
        code = write_version(b, txn, put, &json, element, err);
    if (code == SB_OK)
        code = sb_head_raise(b, txn, put->tenant, put->name, put->stored_version, err);
    if (code == SB_OK)
        code = sb_skill_log(b, txn, "skill.put", put->tenant, put->name, put->stored_version,
                            put->digest, err);
    sb_buf_free(&json);
    return code;
}

sb_code_t sb_batch_skill_put(sb_batch_t *b, sb_skill_put_t *put, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code = check_put(put, err);

    put->created = put->bumped = false;
    put->stored_version[0] = '\0';
    if (code == SB_OK)
        code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = find_same(b, txn, put, err);
    if (code == SB_ENOTFOUND) {
        code = add_version(b, txn, put, err);
        put->created = code == SB_OK;
    }
    code = sb_batch_op_end(b, txn, code, err);
    if (code != SB_OK) {
        put->created = false;
        return code;
    }
    put->bumped = strcmp(put->stored_version, put->version) != 0;
    if (put->package_tmp != NULL)
        sb_buf_add(&b->used, put->package_tmp, strlen(put->package_tmp) + 1);
    return SB_OK;
}

/* ---- delete ---- */

static sb_code_t delete_version(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                                const char *version, sb_err_t *err)
{
    char digest[SB_DIGEST_LEN + 1], origin[SB_VERSION_MAX + 1];
    sb_skill_value_t value = {0};
    sb_skey_t key;
    MDB_val k;
    sb_code_t code = sb_skill_version_get(b->st, txn, tenant, name, version, &value, err);
    int rc = MDB_BAD_VALSIZE;

    if (code != SB_OK)
        return code;
    /* copies: the next write may reuse the page */
    if (!sb_str_copy(value.digest, digest, sizeof(digest)) ||
        !sb_str_copy(value.origin, origin, sizeof(origin)))
        return sb_store_corrupt("the record of a skill", err);
    if (sb_skey(&key, tenant, name, version, NULL)) {
        k = sb_skey_val(&key);
        rc = mdb_del(txn, b->st->dbi[SB_DBI_SKILLS], &k, NULL);
    }
    if (rc == 0 && origin_key(&key, tenant, name, origin, digest)) {
        k = sb_skey_val(&key);
        rc = mdb_del(txn, b->st->dbi[SB_DBI_ORIGINS], &k, NULL);
    }
    if (rc != 0)
        return sb_store_fail(b->st, rc, "deleting a skill", err);
    code = sb_usage_add(b, txn, tenant, SB_USE_PACKAGES, -sb_package_bytes(b->st, digest), err);
    if (code == SB_OK)
        code = sb_package_unref(b, txn, digest, err);
    return code == SB_OK ? sb_skill_log(b, txn, "skill.delete", tenant, name, version, digest, err)
                         : code;
}

/* Any one version; SB_ENOTFOUND when there is none. */
static sb_code_t first_version(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *prefix,
                               char version[SB_VERSION_MAX + 1], sb_err_t *err)
{
    MDB_val key = sb_skey_val(prefix), val;
    MDB_cursor *cur;
    sb_code_t code = SB_OK;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_SKILLS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "looking for versions", err);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND || (rc == 0 && !sb_skey_prefix(&key, prefix)))
        code = SB_ENOTFOUND;
    else if (rc != 0)
        code = sb_store_fail(b->st, rc, "looking for versions", err);
    else if (!sb_str_copy(
                 sb_str_of((const char *)key.mv_data + prefix->len, key.mv_size - prefix->len),
                 version, SB_VERSION_MAX + 1))
        code = sb_store_corrupt("the key of a skill", err);
    mdb_cursor_close(cur);
    return code;
}

static sb_code_t delete_all(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                            sb_err_t *err)
{
    char version[SB_VERSION_MAX + 1];
    sb_skey_t prefix;
    bool any = false;

    if (!sb_skey(&prefix, tenant, name, "", NULL))
        return SB_ENOTFOUND;
    for (;;) { /* ends: each round deletes one */
        sb_code_t code = first_version(b, txn, &prefix, version, err);
        if (code == SB_ENOTFOUND)
            return any ? SB_OK : SB_ENOTFOUND;
        if (code == SB_OK)
            code = delete_version(b, txn, tenant, name, version, err);
        if (code != SB_OK)
            return code;
        any = true;
    }
}

sb_code_t sb_batch_skill_delete(sb_batch_t *b, const char *tenant, const char *name,
                                const char *version, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!sb_name_valid(name, strlen(name)))
        return sb_skill_not_found(name, NULL, err);
    if (version != NULL && !sb_semver_valid(version, strlen(version)))
        return sb_skill_not_found(name, version, err);
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = version != NULL ? delete_version(b, txn, tenant, name, version, err)
                           : delete_all(b, txn, tenant, name, err);
    if (code == SB_ENOTFOUND)
        sb_skill_not_found(name, version, err);
    if (code == SB_OK)
        code = sb_head_lower(b, txn, tenant, name, err);
    return sb_batch_op_end(b, txn, code, err);
}
