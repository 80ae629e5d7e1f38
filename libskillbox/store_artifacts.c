/*
 * store_artifacts.c - see store.h: the artifacts of executions as files of the tenant.
 *
 * Nothing is stored for them.  An artifact's id is made of its execution's and of its place in
 * "files_list": the twelve bits that tell ids of one millisecond apart are moved on by one more
 * than that place (there are no more places than files in an archive may be).  The 62 random bits
 * are the execution's, so no kept file has such an id, and that execution is found by them among
 * those of its millisecond.  What else there is to know is in its record. Reads in the reading
 * thread, sb_artifact_exists() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"

#define TIME_LEN    6    /* of an id: milliseconds */
#define TAIL_AT     8    /* the random half behind the counter */
#define PLACES      4096 /* twelve bits */
#define SAME_MS_MAX 4096 /* executions of a tenant in one millisecond */
#define RECORD_MAX  (16 * SB_KIB)

/* One artifact, pointing into a record. */
typedef struct {
    unsigned char execution[16];
    uint32_t index;
    char name[SB_PATH_MAX + 1];
    int64_t size;
    sb_str_t when; /* of the execution's end */
} artifact_t;

/* ---- ids ---- */

static uint32_t counter_of(const unsigned char id[16])
{
    return (uint32_t)(id[6] & 15) << 8 | id[7];
}

static uint32_t index_of(const unsigned char id[16], const unsigned char execution[16])
{
    return (counter_of(id) - counter_of(execution) - 1) % PLACES;
}

static void make_id(const unsigned char execution[16], uint32_t index, char out[SB_UUID_LEN + 1])
{
    unsigned char id[16];

    uint32_t counter = (counter_of(execution) + 1 + index) % PLACES;

    memcpy(id, execution, sizeof(id));
    id[6] = (unsigned char)((id[6] & 0xf0) | counter >> 8);
    id[7] = (unsigned char)counter;
    sb_uuid_format(id, out);
}

/* ---- records ---- */

/* The next element of an array of strings or numbers: its text, quotes included; false at the end.
 */
static bool next_element(const char **at, const char *end, sb_str_t *element)
{
    const char *p = *at, *start;

    if (p < end && (*p == '[' || *p == ','))
        p++;
    if (p >= end || *p == ']')
        return false;
    start = p;
    if (*p == '"') {
        for (p++; p < end && *p != '"'; p++)
            p += *p == '\\';
        p++;
    } else {
        while (p < end && *p != ',' && *p != ']')
            p++;
    }
    if (p > end)
        return false;
    *element = sb_str_of(start, (size_t)(p - start));
    *at = p;
    return true;
}

/* Of a name only the quote is ever escaped: what else would be, no artifact's name has. */
static bool unquote(sb_str_t text, char name[SB_PATH_MAX + 1])
{
    size_t n = 0;

    if (text.len < 2)
        return false;
    for (size_t i = 1; i + 1 < text.len; i++) {
        i += text.data[i] == '\\';
        if (n == SB_PATH_MAX)
            return false;
        name[n++] = text.data[i];
    }
    name[n] = '\0';
    return sb_path_valid(name, n);
}

/* Goes through the artifacts of a record; look() says when to stop. */
typedef struct {
    const char *names, *names_end, *sizes, *sizes_end;
    uint32_t index;
} walk_t;

static void walk_begin(walk_t *w, sb_str_t json)
{
    sb_str_t names = sb_exec_array(json, "files_list"), sizes = sb_exec_array(json, "files_sizes");

    *w = (walk_t){names.data, names.data + names.len, sizes.data, sizes.data + sizes.len, 0};
}

/* False: there are no more. */
static bool walk_next(walk_t *w, artifact_t *a)
{
    sb_str_t name, size;
    char digits[24];

    if (!next_element(&w->names, w->names_end, &name) || !unquote(name, a->name))
        return false;
    a->size = 0;
    if (next_element(&w->sizes, w->sizes_end, &size) && sb_str_copy(size, digits, sizeof(digits)))
        a->size = strtoll(digits, NULL, 10);
    a->index = w->index++;
    return true;
}

/* ---- finding ---- */

/* The record whose id an artifact's was made of; SB_ENOTFOUND leaves err alone. */
static sb_code_t find_record(sb_store_t *st, MDB_txn *txn, const char *tenant,
                             const unsigned char id[16], unsigned char execution[16],
                             sb_exec_value_t *value, sb_err_t *err)
{
    MDB_val key, val;
    sb_skey_t prefix;
    MDB_cursor *cur;
    sb_code_t code = SB_ENOTFOUND;
    int rc;

    if (!sb_skey(&prefix, tenant, "", NULL, NULL) || !sb_skey_add(&prefix, id, TIME_LEN))
        return SB_ENOTFOUND;
    rc = mdb_cursor_open(txn, st->dbi[SB_DBI_EXECUTIONS], &cur);
    if (rc != 0)
        return sb_store_fail(st, rc, "looking for an execution", err);
    key = sb_skey_val(&prefix);
    rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
    for (int i = 0; rc == 0 && i < SAME_MS_MAX && sb_skey_prefix(&key, &prefix);
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT), i++) {
        const unsigned char *there = (const unsigned char *)key.mv_data + prefix.len - TIME_LEN;

        if (key.mv_size != prefix.len - TIME_LEN + 16 ||
            memcmp(there + TAIL_AT, id + TAIL_AT, 16 - TAIL_AT) != 0)
            continue;
        memcpy(execution, there, 16);
        code = sb_exec_unpack(&val, value) ? SB_OK
                                           : sb_store_corrupt("the record of an execution", err);
        break;
    }
    mdb_cursor_close(cur);
    return rc == 0 || rc == MDB_NOTFOUND ? code
                                         : sb_store_fail(st, rc, "looking for an execution", err);
}

/* By place (name NULL) or by name. */
static bool find_in(const sb_exec_value_t *value, uint32_t index, const char *name, artifact_t *a)
{
    walk_t w;

    if (value->files == 0 || sb_exec_is_live(value->status))
        return false;
    a->when = sb_exec_member(value->json, "finished_at");
    walk_begin(&w, value->json);
    while (walk_next(&w, a)) {
        if (name != NULL ? strcmp(name, a->name) == 0 : index == a->index)
            return true;
    }
    return false;
}

sb_code_t sb_artifact_exists(sb_batch_t *b, MDB_txn *txn, const char *tenant,
                             const unsigned char id[16], sb_err_t *err)
{
    sb_exec_value_t value = {0};
    artifact_t a = {.index = 0};
    sb_code_t code = find_record(b->st, txn, tenant, id, a.execution, &value, err);

    if (code != SB_OK)
        return code;
    return find_in(&value, index_of(id, a.execution), NULL, &a) ? SB_OK : SB_ENOTFOUND;
}

/* ---- objects ---- */

/* A browser is never shown one: the type is a hint for the client. */
static const char *type_of(const char *name)
{
    static const struct {
        const char *ext, *type;
    } types[] = {
        {".txt", "text/plain"},        {".md", "text/markdown"},    {".csv", "text/csv"},
        {".json", "application/json"}, {".html", "text/html"},      {".xml", "application/xml"},
        {".pdf", "application/pdf"},   {".png", "image/png"},       {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},       {".svg", "image/svg+xml"},   {".gif", "image/gif"},
        {".zip", "application/zip"},   {".gz", "application/gzip"},
    };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(dot, types[i].ext) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

static void render(const char *tenant, const artifact_t *a, sb_buf_t *out)
{
    char id[SB_UUID_LEN + 1], execution[SB_UUID_LEN + 1];

    make_id(a->execution, a->index, id);
    sb_uuid_format(a->execution, execution);
    sb_buf_char(out, '{');
    sb_json_key_str(out, "id", id);
    sb_json_key_str(out, "tenant_id", tenant);
    sb_json_key_str(out, "execution_id", execution);
    sb_json_key_str(out, "name", a->name);
    sb_json_key_str(out, "content_type", type_of(a->name));
    sb_json_key_int(out, "size_bytes", a->size);
    sb_json_key_int(out, "version", 1);
    sb_json_key(out, "created_at");
    sb_json_str(out, a->when.data, a->when.len);
    sb_json_key(out, "updated_at");
    sb_json_str(out, a->when.data, a->when.len);
    sb_buf_char(out, '}');
}

static sb_code_t fill(sb_store_t *st, const char *tenant, const artifact_t *a, sb_file_t *out,
                      sb_err_t *err)
{
    sb_str_t *const keep[] = {&out->json, &out->digest, &out->name, &out->content_type};
    const char *type = type_of(a->name);
    sb_buf_t json = SB_BUF_INIT(RECORD_MAX);
    sb_code_t code;

    render(tenant, a, &json);
    if (!sb_buf_ok(&json)) {
        sb_buf_free(&json);
        return sb_err_errno(err, ENOMEM, "reading an artifact");
    }
    out->json = sb_str_of(json.data, json.len);
    out->digest = sb_str_of("", 0);
    out->name = sb_str_of(a->name, strlen(a->name));
    out->content_type = sb_str_of(type, strlen(type));
    out->size = a->size;
    out->index = a->index;
    sb_uuid_format(a->execution, out->execution);
    code = sb_store_keep(st, keep, 4, err);
    sb_buf_free(&json);
    return code;
}

sb_code_t sb_artifact_get(sb_store_t *st, const char *tenant, const unsigned char id[16],
                          sb_file_t *out, sb_err_t *err)
{
    sb_exec_value_t value = {0};
    artifact_t a = {.index = 0};
    sb_code_t code = find_record(st, st->read, tenant, id, a.execution, &value, err);

    if (code != SB_OK)
        return code;
    return find_in(&value, index_of(id, a.execution), NULL, &a) ? fill(st, tenant, &a, out, err)
                                                                : SB_ENOTFOUND;
}

sb_code_t sb_store_artifact_find(sb_store_t *st, const char *tenant, const char *execution,
                                 const char *path, sb_file_t *out, sb_err_t *err)
{
    sb_exec_value_t value = {0};
    artifact_t a = {.index = 0};
    sb_code_t code = SB_ENOTFOUND;

    if (sb_uuid_parse(execution, strlen(execution), a.execution)) {
        code = sb_store_read_begin(st, err);
        if (code != SB_OK)
            return code;
        code = sb_exec_read(st, tenant, a.execution, &value, err);
        if (code == SB_OK)
            code = find_in(&value, 0, path, &a) ? fill(st, tenant, &a, out, err) : SB_ENOTFOUND;
        sb_store_read_end(st);
    }
    return code == SB_ENOTFOUND
               ? sb_err_set(err, SB_ENOTFOUND, "the execution has no such artifact")
               : code;
}

sb_code_t sb_artifact_list(sb_store_t *st, const char *tenant, const char *execution,
                           uint32_t offset, uint32_t limit, bool first, sb_buf_t *out,
                           sb_err_t *err)
{
    sb_exec_value_t value = {0};
    artifact_t a = {.index = 0};
    sb_code_t code;
    walk_t w;

    if (!sb_uuid_parse(execution, strlen(execution), a.execution))
        return SB_OK;
    code = sb_exec_read(st, tenant, a.execution, &value, err);
    if (code != SB_OK)
        return code == SB_ENOTFOUND ? SB_OK : code;
    if (value.files == 0 || sb_exec_is_live(value.status))
        return SB_OK;
    a.when = sb_exec_member(value.json, "finished_at");
    walk_begin(&w, value.json);
    for (uint32_t given = 0; given < limit && walk_next(&w, &a);) {
        if (a.index < offset)
            continue;
        if (!first)
            sb_buf_char(out, ',');
        first = false;
        render(tenant, &a, out);
        given++;
    }
    return SB_OK;
}
