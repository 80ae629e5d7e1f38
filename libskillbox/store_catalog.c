/*
 * store_catalog.c - the two lists of the catalog: a tenant's skills, and the
 * versions of one skill.
 *
 * Promises: a page and the versions are each made inside one read, so they show one moment;
 * elements are copies of what was rendered at upload; a page costs what it shows, however
 * many skills there are.  In the reading thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include "store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fold.h"
#include "names.h"
#include "semver.h"

#define DESCRIPTION   ",\"description\":\""
#define STATUS_ROOM   48
#define FOLDED_MAX    (64 * 1024)
#define LOOKED_AT_MAX 2000 /* names a page looks at */

/* ---- the skills of a tenant ---- */

typedef struct {
    sb_buf_t words;           /* folded; empty: any */
    char status[STATUS_ROOM]; /* as it stands in an element; empty: any */
    sb_buf_t plain, text;     /* of the element that is looked at, as it is and folded */
} matcher_t;

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* Appends the content of a JSON string of ours (sb_json_str: \u only for control characters). */
static void unescape(sb_buf_t *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char *escape = memchr(s + i, '\\', len - i);
        size_t run = escape != NULL ? (size_t)(escape - s) - i : len - i;

        sb_buf_add(out, s + i, run);
        i += run + 1;
        if (i >= len)
            return; /* there is no escape left, or one cut off, which is none of ours */
        if (s[i] == 'u' && i + 4 < len) {
            sb_buf_char(out, (char)(hex_value(s[i + 3]) << 4 | hex_value(s[i + 4])));
            i += 4;
        } else {
            sb_buf_char(out, strchr("\"\\/", s[i]) != NULL ? s[i] : ' ');
        }
    }
}

/* Length of the string's content up to its closing quote. */
static size_t string_len(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len && s[i] != '"')
        i += s[i] == '\\' ? 2 : 1;
    return i < len ? i : len;
}

static bool matches_words(matcher_t *m, const char *name, size_t name_len, sb_str_t element)
{
    const char *d = memmem(element.data, element.len, DESCRIPTION, strlen(DESCRIPTION));

    sb_buf_clear(&m->plain);
    sb_buf_add(&m->plain, name, name_len);
    sb_buf_char(&m->plain, '\n');
    if (d != NULL) {
        d += strlen(DESCRIPTION);
        unescape(&m->plain, d, string_len(d, element.len - (size_t)(d - element.data)));
    }
    sb_buf_clear(&m->text);
    if (sb_buf_ok(&m->plain))
        sb_fold(&m->text, m->plain.data, m->plain.len);
    return sb_buf_ok(&m->plain) && sb_buf_ok(&m->text) &&
           sb_fold_has_words(m->text.data, m->text.len, m->words.data, m->words.len);
}

static bool matches(matcher_t *m, const char *name, size_t name_len, sb_str_t element)
{
    size_t n = strlen(m->status);

    if (n != 0 && memmem(element.data, element.len, m->status, n) == NULL)
        return false;
    return m->words.len == 0 || matches_words(m, name, name_len, element);
}

typedef struct {
    matcher_t match;
    sb_skey_t prefix, from; /* of the tenant's names; where the page begins */
    unsigned limit;
    char *next; /* SB_NAME_MAX + 1 bytes */
} page_t;

/* The first name that counts: page->from itself is one that was shown. */
static int first_head(MDB_cursor *cur, const page_t *page, MDB_val *key, MDB_val *val)
{
    MDB_val from = sb_skey_val(&page->from);
    int rc;

    *key = from;
    rc = mdb_cursor_get(cur, key, val, MDB_SET_RANGE);
    if (rc == 0 && key->mv_size == from.mv_size &&
        memcmp(key->mv_data, page->from.data, from.mv_size) == 0)
        rc = mdb_cursor_get(cur, key, val, MDB_NEXT);
    return rc;
}

static sb_code_t list_heads(sb_store_t *st, MDB_cursor *cur, page_t *page, sb_buf_t *out,
                            sb_err_t *err)
{
    unsigned looked = 0, found = 0;
    sb_str_t name = {"", 0};
    MDB_val key, val;
    int rc;

    for (rc = first_head(cur, page, &key, &val); rc == 0 && sb_skey_prefix(&key, &page->prefix);
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        sb_head_t head;

        if (found == page->limit || looked++ == LOOKED_AT_MAX)
            return sb_str_copy(name, page->next, SB_NAME_MAX + 1)
                       ? SB_OK
                       : sb_store_corrupt("a skill's head", err);
        name =
            sb_str_of((const char *)key.mv_data + page->prefix.len, key.mv_size - page->prefix.len);
        if (!sb_head_unpack(&val, &head))
            return sb_store_corrupt("a skill's head", err);
        if (!matches(&page->match, name.data, name.len, head.element))
            continue;
        if (found++ > 0)
            sb_buf_char(out, ',');
        sb_buf_add(out, head.element.data, head.element.len);
    }
    return rc == 0 || rc == MDB_NOTFOUND ? SB_OK : sb_store_fail(st, rc, "listing skills", err);
}

static sb_code_t list_page(sb_store_t *st, page_t *page, sb_buf_t *out, sb_err_t *err)
{
    MDB_cursor *cur;
    sb_code_t code = sb_store_read_begin(st, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_HEADS], &cur);
    if (rc == 0) {
        code = list_heads(st, cur, page, out, err);
        mdb_cursor_close(cur);
    } else {
        code = sb_store_fail(st, rc, "listing skills", err);
    }
    sb_store_read_end(st);
    return code;
}

static bool status_valid(const char *s)
{
    return strlen(s) < STATUS_ROOM - 16 && strspn(s, "abcdefghijklmnopqrstuvwxyz_-") == strlen(s);
}

static sb_code_t take_filter(page_t *page, const char *tenant, const sb_skill_filter_t *filter,
                             sb_err_t *err)
{
    const char *after = filter->after != NULL ? filter->after : "";
    matcher_t *m = &page->match;

    page->limit =
        filter->limit > 0 && filter->limit < SB_SKILL_PAGE ? filter->limit : SB_SKILL_PAGE;
    if (!sb_skey(&page->prefix, tenant, "", NULL, NULL) ||
        !sb_skey(&page->from, tenant, after, NULL, NULL))
        return sb_err_set(err, SB_EINVAL, "a name is too long");
    if (filter->status != NULL && filter->status[0] != '\0') {
        if (!status_valid(filter->status))
            return sb_err_set(err, SB_EINVAL, "\"status\": there is no such status");
        /* quotes inside of strings are escaped: this can only be the member itself */
        snprintf(m->status, sizeof(m->status), ",\"status\":\"%s\",", filter->status);
    }
    sb_fold(&m->words, filter->words.data, filter->words.len);
    return sb_buf_ok(&m->words)
               ? SB_OK
               : sb_err_set(err, SB_EINVAL, "\"q\": it may have %d bytes", SB_QUERY_MAX);
}

sb_code_t sb_store_skill_list(sb_store_t *st, const char *tenant, const sb_skill_filter_t *filter,
                              sb_buf_t *out, char next[SB_NAME_MAX + 1], sb_err_t *err)
{
    static const sb_skill_filter_t all = {.words = {"", 0}};
    char unwanted[SB_NAME_MAX + 1];
    page_t page = {.match = {.words = SB_BUF_INIT(SB_QUERY_MAX),
                             .plain = SB_BUF_INIT(FOLDED_MAX),
                             .text = SB_BUF_INIT(FOLDED_MAX)},
                   .next = next != NULL ? next : unwanted};
    sb_code_t code = take_filter(&page, tenant, filter != NULL ? filter : &all, err);

    page.next[0] = '\0';
    if (code == SB_OK) {
        sb_buf_char(out, '[');
        code = list_page(st, &page, out, err);
        sb_buf_char(out, ']');
    }
    sb_buf_free(&page.match.words);
    sb_buf_free(&page.match.plain);
    sb_buf_free(&page.match.text);
    if (code == SB_OK && !sb_buf_ok(out))
        code = sb_err_set(err, SB_ESYSTEM, "the list of skills does not fit in memory");
    return code;
}

/* ---- the versions of a skill ---- */

typedef struct {
    char version[SB_VERSION_MAX + 1];
    char when[SB_TIME_LEN + 1];
    char digest[SB_DIGEST_LEN + 1];
} row_t;

typedef struct {
    row_t *rows;
    size_t count, cap;
} rows_t;

/* Newest first; of one millisecond the higher version. */
static int newer(const void *a, const void *b)
{
    const row_t *x = a, *y = b;
    int order = strcmp(y->when, x->when);

    return order != 0 ? order : sb_semver_cmp(y->version, x->version);
}

/* An element ends with ,"uploaded_at":"<time>" */
static bool uploaded_at(const sb_skill_value_t *value, char when[SB_TIME_LEN + 1])
{
    static const char member[] = "\"uploaded_at\":\"";
    size_t tail = sizeof(member) - 1 + SB_TIME_LEN + 1;
    const char *p;

    if (value->element < tail)
        return false;
    p = value->json.data + value->element - tail;
    return memcmp(p, member, sizeof(member) - 1) == 0 &&
           sb_str_copy(sb_str_of(p + sizeof(member) - 1, SB_TIME_LEN), when, SB_TIME_LEN + 1);
}

static sb_code_t add_row(rows_t *rows, sb_str_t version, const MDB_val *val, sb_err_t *err)
{
    sb_skill_value_t value;
    row_t *row;

    if (rows->count == rows->cap) {
        size_t cap = rows->cap != 0 ? 2 * rows->cap : 16;
        row = realloc(rows->rows, cap * sizeof(*row));
        if (row == NULL)
            return sb_err_errno(err, ENOMEM, "listing versions");
        rows->rows = row;
        rows->cap = cap;
    }
    row = &rows->rows[rows->count++];
    return sb_skill_unpack(val, &value) &&
                   sb_str_copy(version, row->version, sizeof(row->version)) &&
                   sb_str_copy(value.digest, row->digest, sizeof(row->digest)) &&
                   uploaded_at(&value, row->when)
               ? SB_OK
               : sb_store_corrupt("the record of a skill", err);
}

static sb_code_t collect_rows(sb_store_t *st, const sb_skey_t *prefix, rows_t *rows, sb_err_t *err)
{
    MDB_val key = sb_skey_val(prefix), val;
    sb_code_t code = SB_OK;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(st->read, st->dbi[SB_DBI_SKILLS], &cur);

    if (rc != 0)
        return sb_store_fail(st, rc, "listing versions", err);
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
         code == SB_OK && rc == 0 && sb_skey_prefix(&key, prefix);
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT))
        code = add_row(
            rows, sb_str_of((const char *)key.mv_data + prefix->len, key.mv_size - prefix->len),
            &val, err);
    mdb_cursor_close(cur);
    if (code == SB_OK && rc != 0 && rc != MDB_NOTFOUND)
        code = sb_store_fail(st, rc, "listing versions", err);
    return code;
}

static void render_rows(const rows_t *rows, const sb_head_t *head, sb_buf_t *out)
{
    sb_buf_char(out, '[');
    for (size_t i = 0; i < rows->count; i++) {
        const row_t *row = &rows->rows[i];
        bool active = strcmp(row->version, head->version) == 0;

        if (i != 0)
            sb_buf_char(out, ',');
        sb_buf_char(out, '{');
        sb_json_key_str(out, "version", row->version);
        sb_json_key_str(out, "status", "available");
        sb_json_key_bool(out, "active", active);
        if (active)
            sb_json_key_bool(out, "pinned", head->pinned);
        sb_json_key_str(out, "digest", row->digest);
        sb_json_key_str(out, "uploaded_at", row->when);
        sb_buf_char(out, '}');
    }
    sb_buf_char(out, ']');
}

sb_code_t sb_store_skill_versions(sb_store_t *st, const char *tenant, const char *name,
                                  sb_buf_t *out, sb_err_t *err)
{
    rows_t rows = {0};
    sb_head_t head;
    sb_skey_t prefix;
    sb_code_t code;

    if (!sb_name_valid(name, strlen(name)) || !sb_skey(&prefix, tenant, name, "", NULL))
        return sb_skill_not_found(name, NULL, err);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    code = sb_head_get(st, st->read, tenant, name, &head, err);
    if (code == SB_OK)
        code = collect_rows(st, &prefix, &rows, err);
    sb_store_read_end(st);
    if (code == SB_ENOTFOUND)
        sb_skill_not_found(name, NULL, err);
    if (code == SB_OK) {
        if (rows.count > 1)
            qsort(rows.rows, rows.count, sizeof(*rows.rows), newer);
        render_rows(&rows, &head, out);
        if (!sb_buf_ok(out))
            code = sb_err_errno(err, ENOMEM, "listing versions");
    }
    free(rows.rows);
    return code;
}
