/*
 * store_files.c - files that tenants keep between runs, and their versions.
 *
 * Promises: a version never changes; its content is whole and synced before its
 * record can be read, and goes after the last record that has it.  Contents lie
 * beside the packages under a digest of their own kind, so that no file can be taken
 * for a package.  Reads in the reading thread, sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include "store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "names.h"

#define FILE_PARTS  8
#define RECORD_MAX  (64 * 1024)
#define MEMBER_ROOM (SB_UUID_LEN + 32)

/* A file's value, taken apart. */
typedef struct {
    sb_str_t digest, root, name, type, json;
    uint64_t version, created, size;
} value_t;

static sb_code_t not_found(sb_err_t *err)
{
    return sb_err_set(err, SB_ENOTFOUND, "there is no such file");
}

static bool unpack_file(const MDB_val *val, value_t *v)
{
    sb_str_t parts[FILE_PARTS];

    if (!sb_unpack(val, SB_KIND_FILE, parts, FILE_PARTS) || !sb_num_read(parts[2], &v->version) ||
        !sb_num_read(parts[3], &v->created) || !sb_num_read(parts[6], &v->size))
        return false;
    v->digest = parts[0];
    v->root = parts[1];
    v->name = parts[4];
    v->type = parts[5];
    v->json = parts[7];
    return v->digest.len == SB_DIGEST_LEN && v->root.len == 16;
}

bool sb_file_size(const MDB_val *val, int64_t *size)
{
    value_t v = {0};

    if (!unpack_file(val, &v) || v.size > INT64_MAX)
        return false;
    *size = (int64_t)v.size;
    return true;
}

static bool file_key(sb_skey_t *key, const char *tenant, const unsigned char id[16])
{
    return sb_skey(key, tenant, "", NULL, NULL) && sb_skey_add(key, id, 16);
}

/* Versions of a file: all that begin with its first id; the number makes one of them. */
static bool version_key(sb_skey_t *key, const char *tenant, sb_str_t root, const uint64_t *number)
{
    sb_num_t num = sb_num(number != NULL ? *number : 0);

    return sb_skey(key, tenant, "", NULL, NULL) && sb_skey_add(key, root.data, root.len) &&
           (number == NULL || sb_skey_add(key, num.data, sizeof(num.data)));
}

/* SB_ENOTFOUND leaves err alone. */
static sb_code_t get_file(sb_store_t *st, MDB_txn *txn, const char *tenant,
                          const unsigned char id[16], value_t *v, sb_err_t *err)
{
    sb_skey_t key;
    MDB_val k, val;
    int rc;

    if (!file_key(&key, tenant, id))
        return SB_ENOTFOUND;
    k = sb_skey_val(&key);
    rc = mdb_get(txn, st->dbi[SB_DBI_FILES], &k, &val);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(st, rc, "reading a file's record", err);
    return unpack_file(&val, v) ? SB_OK : sb_store_corrupt("the record of a file", err);
}

/* ---- reads ---- */

sb_code_t sb_store_file_get(sb_store_t *st, const char *tenant, const char *id, sb_file_t *out,
                            sb_err_t *err)
{
    sb_str_t *const keep[] = {&out->json, &out->digest, &out->name, &out->content_type};
    unsigned char uuid[16];
    value_t v = {0};
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), uuid))
        return not_found(err);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    out->execution[0] = '\0';
    out->index = 0;
    code = get_file(st, st->read, tenant, uuid, &v, err);
    if (code == SB_ENOTFOUND) {
        code = sb_artifact_get(st, tenant, uuid, out, err);
    } else if (code == SB_OK) {
        out->json = v.json;
        out->digest = v.digest;
        out->name = v.name;
        out->content_type = v.type;
        out->size = (int64_t)v.size;
        code = sb_store_keep(st, keep, 4, err);
    }
    sb_store_read_end(st);
    return code == SB_ENOTFOUND ? not_found(err) : code;
}

/* A member as it stands in a record, where quotes inside of strings are escaped; "" when id is. */
static bool member_of(char out[MEMBER_ROOM], const char *name, const char *id)
{
    unsigned char uuid[16];
    char text[SB_UUID_LEN + 1];

    out[0] = '\0';
    if (id == NULL || id[0] == '\0')
        return true;
    if (!sb_uuid_parse(id, strlen(id), uuid))
        return false;
    sb_uuid_format(uuid, text);
    snprintf(out, MEMBER_ROOM, "\"%s\":\"%s\"", name, text);
    return true;
}

static bool has_member(sb_str_t json, const char *member)
{
    return member[0] == '\0' || memmem(json.data, json.len, member, strlen(member)) != NULL;
}

/* From the last key below prefix backwards: newest first.  *left: what is still to be left out and
 * to be given. */
static sb_code_t list_backwards(sb_store_t *st, MDB_cursor *cur, const sb_skey_t *prefix,
                                const sb_file_filter_t *filter, sb_file_filter_t *left,
                                sb_buf_t *out, sb_err_t *err)
{
    char session[MEMBER_ROOM], execution[MEMBER_ROOM];
    sb_skey_t above = *prefix;
    MDB_val key, val;
    uint32_t skipped = 0, given = 0;
    int rc;

    if (!member_of(session, "session_id", filter->session) ||
        !member_of(execution, "execution_id", filter->execution))
        return SB_OK; /* nothing has such an id */
    if (!sb_skey_add(&above, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                     16))
        return sb_err_set(err, SB_EINTERNAL, "the tenant's id is too long");
    key = sb_skey_val(&above);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    rc = mdb_cursor_get(cur, &key, &val, rc == 0 ? MDB_PREV : MDB_LAST);
    for (; rc == 0 && given < filter->limit && sb_skey_prefix(&key, prefix);
         rc = mdb_cursor_get(cur, &key, &val, MDB_PREV)) {
        value_t v = {0};

        if (!unpack_file(&val, &v))
            return sb_store_corrupt("the record of a file", err);
        if (!has_member(v.json, session) || !has_member(v.json, execution))
            continue;
        if (skipped < filter->offset) {
            skipped++;
            continue;
        }
        if (given++ > 0)
            sb_buf_char(out, ',');
        sb_buf_add(out, v.json.data, v.json.len);
    }
    left->limit = filter->limit - given;
    left->offset = filter->offset - skipped;
    return rc == 0 || rc == MDB_NOTFOUND ? SB_OK : sb_store_fail(st, rc, "listing files", err);
}

static bool given_id(const char *id)
{
    return id != NULL && id[0] != '\0';
}

sb_code_t sb_store_file_list(sb_store_t *st, const char *tenant, const sb_file_filter_t *filter,
                             sb_buf_t *out, sb_err_t *err)
{
    sb_file_filter_t left = *filter;
    sb_skey_t prefix;
    MDB_cursor *cur;
    sb_code_t code;
    int rc;

    if (!sb_skey(&prefix, tenant, "", NULL, NULL))
        return sb_err_set(err, SB_EINTERNAL, "the tenant's id is too long");
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    sb_buf_char(out, '[');
    rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_FILES], &cur);
    if (rc == 0) {
        code = list_backwards(st, cur, &prefix, filter, &left, out, err);
        mdb_cursor_close(cur);
    } else {
        code = sb_store_fail(st, rc, "listing files", err);
    }
    if (code == SB_OK && given_id(filter->execution) && !given_id(filter->session))
        code = sb_artifact_list(st, tenant, filter->execution, left.offset, left.limit,
                                left.limit == filter->limit, out, err);
    sb_store_read_end(st);
    sb_buf_char(out, ']');
    return code == SB_OK && !sb_buf_ok(out) ? sb_err_errno(err, ENOMEM, "listing files") : code;
}

static sb_code_t list_versions(sb_store_t *st, const char *tenant, const unsigned char id[16],
                               sb_buf_t *out, sb_err_t *err)
{
    const uint64_t last = UINT64_MAX;
    sb_skey_t prefix, above;
    MDB_val key, val;
    MDB_cursor *cur;
    value_t v = {0};
    sb_code_t code = get_file(st, st->read, tenant, id, &v, err);
    bool first = true;
    int rc;

    if (code != SB_OK)
        return code;
    if (!version_key(&prefix, tenant, v.root, NULL) || !version_key(&above, tenant, v.root, &last))
        return SB_ENOTFOUND;
    rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_FILEVERSIONS], &cur);
    if (rc != 0)
        return sb_store_fail(st, rc, "listing a file's versions", err);
    key = sb_skey_val(&above);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    for (rc = mdb_cursor_get(cur, &key, &val, rc == 0 ? MDB_PREV : MDB_LAST);
         code == SB_OK && rc == 0 && sb_skey_prefix(&key, &prefix);
         rc = mdb_cursor_get(cur, &key, &val, MDB_PREV)) {
        code =
            val.mv_size == 16 ? get_file(st, st->read, tenant, val.mv_data, &v, err) : SB_ENOTFOUND;
        if (code == SB_ENOTFOUND)
            code = sb_store_corrupt("the list of a file's versions", err);
        if (code == SB_OK) {
            sb_buf_str(out, first ? "" : ",");
            sb_buf_add(out, v.json.data, v.json.len);
            first = false;
        }
    }
    mdb_cursor_close(cur);
    if (code == SB_OK && rc != 0 && rc != MDB_NOTFOUND)
        code = sb_store_fail(st, rc, "listing a file's versions", err);
    return code;
}

sb_code_t sb_store_file_versions(sb_store_t *st, const char *tenant, const char *id, sb_buf_t *out,
                                 sb_err_t *err)
{
    unsigned char uuid[16];
    sb_file_t artifact;
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), uuid))
        return not_found(err);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    sb_buf_char(out, '[');
    code = list_versions(st, tenant, uuid, out, err);
    if (code == SB_ENOTFOUND) { /* an artifact has one */
        code = sb_artifact_get(st, tenant, uuid, &artifact, err);
        if (code == SB_OK)
            sb_buf_add(out, artifact.json.data, artifact.json.len);
    }
    sb_buf_char(out, ']');
    sb_store_read_end(st);
    if (code == SB_OK && !sb_buf_ok(out))
        code = sb_err_errno(err, ENOMEM, "listing a file's versions");
    return code == SB_ENOTFOUND ? not_found(err) : code;
}

/* ---- writes ---- */

/* The highest version of a file that there is. */
static sb_code_t last_version(sb_batch_t *b, MDB_txn *txn, const char *tenant, sb_str_t root,
                              uint64_t *number, sb_err_t *err)
{
    const uint64_t last = UINT64_MAX;
    sb_skey_t prefix, above;
    MDB_val key, val;
    MDB_cursor *cur;
    sb_code_t code = SB_OK;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_FILEVERSIONS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "looking for a file's versions", err);
    if (!version_key(&prefix, tenant, root, NULL) || !version_key(&above, tenant, root, &last)) {
        mdb_cursor_close(cur);
        return SB_ENOTFOUND;
    }
    key = sb_skey_val(&above);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    rc = mdb_cursor_get(cur, &key, &val, rc == 0 ? MDB_PREV : MDB_LAST);
    if (rc != 0 && rc != MDB_NOTFOUND)
        code = sb_store_fail(b->st, rc, "looking for a file's versions", err);
    else if (rc == MDB_NOTFOUND || !sb_skey_prefix(&key, &prefix) ||
             !sb_num_read(
                 sb_str_of((const char *)key.mv_data + prefix.len, key.mv_size - prefix.len),
                 number))
        code = sb_store_corrupt("the list of a file's versions", err);
    mdb_cursor_close(cur);
    return code;
}

/* An artifact is its execution's: it has one version, and goes with it. */
static sb_code_t fixed_artifact(sb_batch_t *b, MDB_txn *txn, const char *tenant,
                                const unsigned char id[16], sb_err_t *err)
{
    sb_code_t code = sb_artifact_exists(b, txn, tenant, id, err);

    return code == SB_OK ? sb_err_set(err, SB_ECONFLICT,
                                      "an artifact stays as it is, and goes with its execution")
                         : code;
}

/* What a new version takes over from the file it is one of. */
typedef struct {
    unsigned char root[16];
    uint64_t version;
    int64_t created_ms, now_ms;
    char name[SB_FILE_NAME_MAX + 1];
} lineage_t;

static sb_code_t find_lineage(sb_batch_t *b, MDB_txn *txn, const sb_file_put_t *put, lineage_t *l,
                              sb_err_t *err)
{
    unsigned char of[16];
    value_t v = {0};
    sb_code_t code;

    l->now_ms = l->created_ms = sb_time_now_ms();
    l->version = 1;
    snprintf(l->name, sizeof(l->name), "%s", put->name != NULL ? put->name : "");
    if (put->of == NULL)
        return SB_OK;
    if (!sb_uuid_parse(put->of, strlen(put->of), of))
        return SB_ENOTFOUND;
    code = get_file(b->st, txn, put->tenant, of, &v, err);
    if (code == SB_ENOTFOUND)
        code = fixed_artifact(b, txn, put->tenant, of, err);
    if (code == SB_OK && put->name == NULL && !sb_str_copy(v.name, l->name, sizeof(l->name)))
        code = sb_store_corrupt("the record of a file", err);
    if (code == SB_OK)
        code = last_version(b, txn, put->tenant, v.root, &l->version, err);
    if (code != SB_OK)
        return code;
    if (v.root.len != sizeof(l->root))
        return sb_store_corrupt("the record of a file", err);
    memcpy(l->root, v.root.data, sizeof(l->root));
    l->created_ms = (int64_t)v.created;
    l->version++;
    return SB_OK;
}

static void render(const sb_file_put_t *put, const lineage_t *l, sb_buf_t *json)
{
    char when[SB_TIME_LEN + 1], root[SB_UUID_LEN + 1];

    sb_buf_char(json, '{');
    sb_json_key_str(json, "id", put->id);
    sb_json_key_str(json, "tenant_id", put->tenant);
    sb_json_key_str(json, "session_id", put->session);
    sb_json_key_str(json, "execution_id", put->execution);
    sb_json_key_str(json, "name", l->name);
    sb_json_key_str(json, "content_type", put->content_type);
    sb_json_key_int(json, "size_bytes", put->size);
    sb_json_key_int(json, "version", (int64_t)l->version);
    if (put->of != NULL) {
        sb_uuid_format(l->root, root);
        sb_json_key_str(json, "parent_id", root);
    }
    sb_time_format(l->created_ms, when);
    sb_json_key_str(json, "created_at", when);
    sb_time_format(l->now_ms, when);
    sb_json_key_str(json, "updated_at", when);
    sb_buf_char(json, '}');
}

static sb_code_t write_file(sb_batch_t *b, MDB_txn *txn, const sb_file_put_t *put,
                            const lineage_t *l, const unsigned char id[16], sb_str_t json,
                            sb_err_t *err)
{
    sb_num_t version = sb_num(l->version), created = sb_num((uint64_t)l->created_ms),
             size = sb_num((uint64_t)put->size);
    sb_str_t root = sb_str_of((const char *)(put->of != NULL ? l->root : id), 16);
    sb_str_t parts[FILE_PARTS] = {sb_str_of(put->digest, SB_DIGEST_LEN),
                                  root,
                                  sb_num_part(&version),
                                  sb_num_part(&created),
                                  sb_str_of(l->name, strlen(l->name)),
                                  sb_str_of(put->content_type, strlen(put->content_type)),
                                  sb_num_part(&size),
                                  json};
    MDB_val k, val = {16, (void *)(uintptr_t)id};
    sb_skey_t key;
    int rc = MDB_BAD_VALSIZE;

    if (file_key(&key, put->tenant, id)) {
        k = sb_skey_val(&key);
        rc = sb_pack_put(txn, b->st->dbi[SB_DBI_FILES], &k, SB_KIND_FILE, parts, FILE_PARTS);
    }
    if (rc == 0 && version_key(&key, put->tenant, root, &l->version)) {
        k = sb_skey_val(&key);
        rc = mdb_put(txn, b->st->dbi[SB_DBI_FILEVERSIONS], &k, &val, MDB_NOOVERWRITE);
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing a file's record", err);
}

static sb_code_t log_file(sb_batch_t *b, MDB_txn *txn, const char *op, const char *tenant,
                          const char *id, const char *digest, sb_err_t *err)
{
    sb_buf_t entry;
    sb_code_t code = sb_log_start(b, txn, &entry, op, tenant, err);

    if (code != SB_OK)
        return code;
    sb_json_key_str(&entry, "id", id);
    sb_json_key_str(&entry, "digest", digest);
    return sb_log_put(b, txn, &entry, err);
}

static sb_code_t add_file(sb_batch_t *b, MDB_txn *txn, sb_file_put_t *put, sb_buf_t *json,
                          sb_err_t *err)
{
    unsigned char id[16];
    lineage_t l = {{0}, 0, 0, 0, ""};
    size_t start = json->len;
    sb_code_t code = find_lineage(b, txn, put, &l, err);

    if (code == SB_OK && !sb_file_name_valid(l.name, strlen(l.name)))
        code = sb_err_set(err, SB_EINVAL, "the file's name is not valid");
    if (code != SB_OK)
        return code;
    code = sb_usage_room(b, txn, put->tenant, put->size, err);
    if (code != SB_OK)
        return code;
    sb_uuid7(put->id);
    if (!sb_uuid_parse(put->id, SB_UUID_LEN, id))
        return sb_err_set(err, SB_EINTERNAL, "a new id is none");
    render(put, &l, json);
    if (!sb_buf_ok(json))
        return sb_err_errno(err, ENOMEM, "store: making a file's record");
    code = sb_usage_add(b, txn, put->tenant, SB_USE_FILES, put->size, err);
    if (code == SB_OK)
        code = sb_package_ref(b, txn, put->digest, put->tmp, "file", err);
    if (code == SB_OK)
        code =
            write_file(b, txn, put, &l, id, sb_str_of(json->data + start, json->len - start), err);
    return code == SB_OK ? log_file(b, txn, "file.put", put->tenant, put->id, put->digest, err)
                         : code;
}

sb_code_t sb_batch_file_put(sb_batch_t *b, sb_file_put_t *put, sb_buf_t *json, sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!sb_tenant_valid(put->tenant, strlen(put->tenant)) || !sb_digest_valid(put->digest))
        return sb_err_set(err, SB_EINVAL, "the tenant or the digest is not valid");
    code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = add_file(b, txn, put, json, err);
    if (code == SB_ENOTFOUND)
        not_found(err);
    code = sb_batch_op_end(b, txn, code, err);
    if (code == SB_OK)
        sb_buf_add(&b->used, put->tmp, strlen(put->tmp) + 1);
    return code;
}

static sb_code_t remove_file(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *id,
                             const unsigned char uuid[16], sb_err_t *err)
{
    char digest[SB_DIGEST_LEN + 1];
    sb_skey_t key, version;
    MDB_val k;
    value_t v = {0};
    sb_code_t code = get_file(b->st, txn, tenant, uuid, &v, err);
    int rc = MDB_BAD_VALSIZE;

    if (code == SB_ENOTFOUND)
        code = fixed_artifact(b, txn, tenant, uuid, err);
    if (code != SB_OK)
        return code;
    const int64_t size = (int64_t)v.size;

    if (!sb_str_copy(v.digest, digest, sizeof(digest)))
        return sb_store_corrupt("the record of a file", err);
    if (file_key(&key, tenant, uuid) && version_key(&version, tenant, v.root, &v.version)) {
        k = sb_skey_val(&version);
        rc = mdb_del(txn, b->st->dbi[SB_DBI_FILEVERSIONS], &k, NULL);
    }
    if (rc == 0) {
        k = sb_skey_val(&key);
        rc = mdb_del(txn, b->st->dbi[SB_DBI_FILES], &k, NULL);
    }
    if (rc != 0)
        return sb_store_fail(b->st, rc, "deleting a file's record", err);
    code = sb_usage_add(b, txn, tenant, SB_USE_FILES, -size, err);
    if (code == SB_OK)
        code = sb_package_unref(b, txn, digest, err);
    return code == SB_OK ? log_file(b, txn, "file.delete", tenant, id, digest, err) : code;
}

sb_code_t sb_batch_file_delete(sb_batch_t *b, const char *tenant, const char *id, sb_err_t *err)
{
    unsigned char uuid[16];
    MDB_txn *txn = NULL;
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), uuid))
        return not_found(err);
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = remove_file(b, txn, tenant, id, uuid, err);
    if (code == SB_ENOTFOUND)
        not_found(err);
    return sb_batch_op_end(b, txn, code, err);
}
