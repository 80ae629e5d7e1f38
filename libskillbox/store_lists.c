/*
 * store_lists.c - see store.h: the indexes of executions, and the lists made from them.
 * A page costs what it shows, however many executions there are.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#define LOOKED_AT_MAX 10000 /* entries of an index a page looks at */
#define ID_LEN        16

/* ---- the letters of the statuses ---- */

static const struct {
    const char *status;
    char letter;
} letters[] = {{"queued", 'q'}, {"running", 'r'}, {"success", 's'},
               {"failed", 'f'}, {"timeout", 't'}, {"cancelled", 'c'}};

/* 0: none of them */
static char letter_of(const char *status, size_t len)
{
    for (size_t i = 0; i < sizeof(letters) / sizeof(*letters); i++) {
        if (strlen(letters[i].status) == len && memcmp(letters[i].status, status, len) == 0)
            return letters[i].letter;
    }
    return 0;
}

bool sb_execution_status_valid(const char *status)
{
    return letter_of(status, strlen(status)) != 0;
}

/* ---- the list's element ---- */

/* Behind the string at p, whose quote is at p[0]. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\')
            p++;
    }
    return p < end ? p + 1 : end;
}

/* Behind the value at p; the text is valid and compact. */
static const char *value_end(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        if (*p == '"') {
            p = string_end(p, end);
            if (depth == 0)
                return p;
            continue;
        }
        if (*p == '{' || *p == '[')
            depth++;
        else if ((*p == '}' || *p == ']') && depth-- <= 1)
            return depth == 0 ? p + 1 : p;
        else if (*p == ',' && depth == 0)
            return p;
        p++;
    }
    return end;
}

static bool is_large(const char *key, size_t len)
{
    static const char *const names[] = {"\"output\"", "\"files_list\"", "\"files_sizes\"",
                                        "\"warnings\"", "\"input_files\""};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strlen(names[i]) == len && memcmp(names[i], key, len) == 0)
            return true;
    }
    return false;
}

static bool is_member(const char *key, const char *colon, const char *name)
{
    size_t len = strlen(name);

    return (size_t)(colon - key) == len + 2 && memcmp(key + 1, name, len) == 0;
}

void sb_exec_element(sb_str_t json, sb_buf_t *out)
{
    const char *p = json.data + 1, *end = json.data + json.len;
    bool first = true;

    sb_buf_char(out, '{');
    while (p < end && *p == '"') {
        const char *key = p, *colon = string_end(p, end);

        p = value_end(colon + 1, end);
        if (!is_large(key, (size_t)(colon - key))) {
            if (!first)
                sb_buf_char(out, ',');
            sb_buf_add(out, key, (size_t)(p - key));
            first = false;
        }
        if (p < end && *p == ',')
            p++;
    }
    sb_buf_char(out, '}');
}

void sb_result_without_files(const char *result, size_t len, const char *why, sb_buf_t *out)
{
    const char *p = result + 1, *end = result + len - 1;
    bool first = true, warned = false;

    sb_buf_char(out, '{');
    while (p < end && *p == '"') {
        const char *key = p, *colon = string_end(p, end);

        p = value_end(colon + 1 < end ? colon + 1 : end, end);
        if (!is_member(key, colon, "files_list") && !is_member(key, colon, "files_sizes")) {
            if (!first)
                sb_buf_char(out, ',');
            sb_buf_add(out, key, (size_t)(p - key));
            first = false;
        }
        if (is_member(key, colon, "warnings") && p[-1] == ']' && sb_buf_ok(out)) {
            out->len--; /* the bracket */
            if (out->data[out->len - 1] != '[')
                sb_buf_char(out, ',');
            sb_json_cstr(out, why);
            sb_buf_char(out, ']');
            warned = true;
        }
        if (p < end && *p == ',')
            p++;
    }
    if (!warned) {
        sb_buf_str(out, first ? "\"warnings\":[" : ",\"warnings\":[");
        sb_json_cstr(out, why);
        sb_buf_char(out, ']');
    }
    sb_buf_char(out, '}');
}

sb_str_t sb_exec_array(sb_str_t json, const char *name)
{
    const char *p = json.data + 1, *end = json.data + json.len;

    while (p < end && *p == '"') {
        const char *key = p, *colon = string_end(p, end);

        p = value_end(colon + 1, end);
        if (is_member(key, colon, name) && p - colon >= 3 && colon[1] == '[')
            return sb_str_of(colon + 1, (size_t)(p - colon) - 1);
        if (p < end && *p == ',')
            p++;
    }
    return sb_str_of("", 0);
}

sb_str_t sb_exec_member(sb_str_t json, const char *name)
{
    const char *p = json.data + 1, *end = json.data + json.len;
    size_t len = strlen(name);

    while (p < end && *p == '"') {
        const char *key = p, *colon = string_end(p, end);

        p = value_end(colon + 1, end);
        if ((size_t)(colon - key) == len + 2 && memcmp(key + 1, name, len) == 0 && p - colon >= 3 &&
            colon[1] == '"')
            return sb_str_of(colon + 2, (size_t)(p - colon) - 3);
        if (p < end && *p == ',')
            p++;
    }
    return sb_str_of("", 0);
}

/* ---- keys ---- */

bool sb_exec_split_key(const sb_skey_t *key, char tenant[SB_TENANT_MAX + 1], const void **id)
{
    size_t len;

    if (key->len <= ID_LEN)
        return false;
    len = key->len - ID_LEN - 1;
    if (!sb_str_copy(sb_str_of((const char *)key->data, len), tenant, SB_TENANT_MAX + 1))
        return false;
    *id = key->data + len + 1;
    return key->data[len] == '\0';
}

static bool status_prefix(sb_skey_t *key, const char *tenant, char letter)
{
    return sb_skey(key, tenant, "", NULL, NULL) && sb_skey_add(key, &letter, 1);
}

static bool skill_prefix(sb_skey_t *key, const char *tenant, const char *skill)
{
    return sb_skey(key, tenant, skill, "", NULL);
}

/* ---- writes ---- */

static int add_count(sb_store_t *st, MDB_txn *txn, const char *tenant, int by)
{
    MDB_val key = {strlen(tenant), (void *)(uintptr_t)tenant}, val;
    uint64_t n = 0;
    int rc = mdb_get(txn, st->dbi[SB_DBI_COUNTS], &key, &val);

    if (rc == 0 && !sb_num_read(sb_str_of(val.mv_data, val.mv_size), &n))
        return MDB_CORRUPTED;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    sb_num_t num = sb_num(by < 0 && n == 0 ? 0 : n + (uint64_t)(int64_t)by);
    val = (MDB_val){sizeof(num.data), num.data};
    return mdb_put(txn, st->dbi[SB_DBI_COUNTS], &key, &val, 0);
}

static int put_entry(MDB_txn *txn, MDB_dbi dbi, const sb_skey_t *key, const void *value, size_t len)
{
    MDB_val k = sb_skey_val(key), val = {len, (void *)(uintptr_t)value};

    return mdb_put(txn, dbi, &k, &val, 0);
}

static int del_entry(MDB_txn *txn, MDB_dbi dbi, const sb_skey_t *key)
{
    MDB_val k = sb_skey_val(key);
    int rc = mdb_del(txn, dbi, &k, NULL);

    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int index_put(sb_store_t *st, MDB_txn *txn, const sb_skey_t *key,
                     const sb_exec_value_t *before, const sb_exec_value_t *after)
{
    const MDB_dbi *dbi = st->dbi;
    char tenant[SB_TENANT_MAX + 1], skill[SB_NAME_MAX + 1];
    const sb_exec_value_t *any = after != NULL ? after : before;
    const void *id;
    sb_skey_t k;
    int rc = 0;

    if (!sb_exec_split_key(key, tenant, &id) || !sb_str_copy(any->skill, skill, sizeof(skill)))
        return MDB_CORRUPTED;
    /* letters first: what was read is gone once something is written */
    char was = before != NULL ? letter_of(before->status.data, before->status.len) : 0;
    char is = after != NULL ? letter_of(after->status.data, after->status.len) : 0;

    if (was != 0 && was != is && status_prefix(&k, tenant, was) && sb_skey_add(&k, id, ID_LEN))
        rc = del_entry(txn, dbi[SB_DBI_BYSTATUS], &k);
    if (rc == 0 && is != 0 && was != is && status_prefix(&k, tenant, is) &&
        sb_skey_add(&k, id, ID_LEN))
        rc = put_entry(txn, dbi[SB_DBI_BYSTATUS], &k, "", 0);
    if (rc == 0 && skill[0] != '\0' && skill_prefix(&k, tenant, skill) &&
        sb_skey_add(&k, id, ID_LEN))
        rc = is != 0 ? put_entry(txn, dbi[SB_DBI_BYSKILL], &k, &is, 1)
                     : del_entry(txn, dbi[SB_DBI_BYSKILL], &k);
    if (rc == 0 && (was == 0) != (is == 0))
        rc = add_count(st, txn, tenant, was == 0 ? 1 : -1);
    return rc;
}

sb_code_t sb_exec_index(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key,
                        const sb_exec_value_t *before, const sb_exec_value_t *after, sb_err_t *err)
{
    int rc = index_put(b->st, txn, key, before, after);

    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "indexing an execution", err);
}

int sb_exec_reindex(sb_store_t *st, MDB_txn *txn)
{
    MDB_val key, val;
    MDB_cursor *cur;
    int rc = 0;

    for (int i = SB_DBI_BYSTATUS; rc == 0 && i <= SB_DBI_COUNTS; i++)
        rc = mdb_drop(txn, st->dbi[i], 0);
    if (rc == 0)
        rc = mdb_cursor_open(txn, st->dbi[SB_DBI_EXECUTIONS], &cur);
    if (rc != 0)
        return rc;
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        sb_exec_value_t value = {0};
        sb_skey_t k = {.len = 0};

        if (!sb_skey_add(&k, key.mv_data, key.mv_size) || !sb_exec_unpack(&val, &value))
            rc = MDB_CORRUPTED;
        else
            rc = index_put(st, txn, &k, NULL, &value);
        if (rc != 0)
            break;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- reads ---- */

typedef struct {
    sb_store_t *st;
    const sb_execution_query_t *q;
    MDB_dbi dbi;
    sb_skey_t prefix; /* all entries that count have it; the id follows */
    char letter;      /* entries with another value don't count; 0: all do */
    MDB_cursor *cur;
} lister_t;

static sb_code_t choose_index(lister_t *l, sb_err_t *err)
{
    const sb_execution_query_t *q = l->q;
    char letter = q->status != NULL ? letter_of(q->status, strlen(q->status)) : 0;
    bool ok;

    if (q->status != NULL && letter == 0)
        return sb_err_set(err, SB_EINVAL, "there is no status \"%.32s\"", q->status);
    if (q->skill != NULL) {
        l->dbi = l->st->dbi[SB_DBI_BYSKILL];
        l->letter = letter;
        ok = skill_prefix(&l->prefix, q->tenant, q->skill);
    } else if (letter != 0) {
        l->dbi = l->st->dbi[SB_DBI_BYSTATUS];
        ok = status_prefix(&l->prefix, q->tenant, letter);
    } else {
        l->dbi = l->st->dbi[SB_DBI_EXECUTIONS];
        ok = sb_skey(&l->prefix, q->tenant, "", NULL, NULL);
    }
    return ok ? SB_OK : sb_err_set(err, SB_EINVAL, "a name is too long");
}

/* The newest entry that counts: the last with the prefix, or before the one of q->after. */
static int seek(lister_t *l, MDB_val *key, MDB_val *val)
{
    unsigned char id[ID_LEN];
    sb_skey_t from = l->prefix;
    int rc;

    memset(id, 0xff, sizeof(id));
    if (l->q->after != NULL && !sb_uuid_parse(l->q->after, strlen(l->q->after), id))
        return MDB_NOTFOUND;
    if (!sb_skey_add(&from, id, ID_LEN))
        return MDB_NOTFOUND;
    *key = sb_skey_val(&from);
    rc = mdb_cursor_get(l->cur, key, val, MDB_SET_RANGE);
    return mdb_cursor_get(l->cur, key, val, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
}

static bool fits(const lister_t *l, const MDB_val *val)
{
    return l->letter == 0 || (val->mv_size == 1 && *(const char *)val->mv_data == l->letter);
}

static int add_element(lister_t *l, const void *id, sb_buf_t *out)
{
    sb_exec_value_t value;
    sb_skey_t key;
    MDB_val val;

    if (!sb_exec_key(&key, l->q->tenant, id))
        return MDB_CORRUPTED;
    MDB_val k = sb_skey_val(&key);
    int rc = mdb_get(l->st->read, l->st->dbi[SB_DBI_EXECUTIONS], &k, &val);
    if (rc == 0 && !sb_exec_unpack(&val, &value))
        rc = MDB_CORRUPTED;
    if (rc != 0)
        return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc; /* an index without its record */
    if (out->len > 0 && out->data[out->len - 1] == '}')
        sb_buf_char(out, ',');
    if (value.element.len > 0)
        sb_buf_add(out, value.element.data, value.element.len);
    else
        sb_exec_element(value.json, out);
    return 0;
}

/* The page, and in next where it goes on. */
static int walk(lister_t *l, sb_buf_t *out, char next[SB_UUID_LEN + 1])
{
    unsigned char last[ID_LEN] = {0};
    unsigned looked = 0, found = 0;
    MDB_val key, val;
    int rc;

    for (rc = seek(l, &key, &val); rc == 0; rc = mdb_cursor_get(l->cur, &key, &val, MDB_PREV)) {
        if (!sb_skey_prefix(&key, &l->prefix) || key.mv_size != l->prefix.len + ID_LEN)
            return 0;
        if (found == l->q->limit || looked++ == LOOKED_AT_MAX) {
            sb_uuid_format(last, next);
            return 0;
        }
        memcpy(last, (const char *)key.mv_data + l->prefix.len, ID_LEN);
        if (!fits(l, &val))
            continue;
        rc = add_element(l, last, out);
        if (rc != 0)
            return rc;
        found++;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

sb_code_t sb_store_execution_list(sb_store_t *st, const sb_execution_query_t *q, sb_buf_t *out,
                                  char next[SB_UUID_LEN + 1], sb_err_t *err)
{
    lister_t l = {.st = st, .q = q};
    sb_code_t code = choose_index(&l, err);
    int rc;

    next[0] = '\0';
    if (code == SB_OK)
        code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    sb_buf_char(out, '[');
    rc = mdb_cursor_open(st->read, l.dbi, &l.cur);
    if (rc == 0) {
        rc = walk(&l, out, next);
        mdb_cursor_close(l.cur);
    }
    sb_buf_char(out, ']');
    sb_store_read_end(st);
    if (rc != 0)
        return sb_store_fail(st, rc, "listing executions", err);
    return sb_buf_ok(out) ? SB_OK : sb_err_errno(err, ENOMEM, "listing executions");
}
