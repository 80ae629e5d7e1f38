/*
 * package_twins.c - names of a package that a file system would take for one: the same
 * name twice, a file where a folder is, and names that differ only in case or in the way
 * Unicode writes them.
 *
 * Here every byte counts, but a package goes on to people's machines.  There "Readme"
 * is "readme" on APFS, NTFS and ext4's case-folding folders, and "\u00e9" is "e\u0301": which
 * of two such files wins depends on the order of unpacking, so what was reviewed need not
 * be what runs.  A name's key is what ext4 compares, the most tolerant of them
 * (sb_unicode_folded).  No file system takes compatibility forms (a wide A, a raised 2) for
 * the same, so neither do we.
 *
 * Names have passed sb_path_valid: UTF-8, at most SB_PATH_MAX bytes.  A key is at most a
 * few times as long.  Touches memory only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "package_build.h"
#include "unicode.h"

/* A path, or the folder that a path begins with. */
typedef struct {
    const char *path;
    size_t len;
    const char *key; /* a folder's is where the key of a path in it begins */
    size_t key_len;
    bool dir;
} name_t;

/* ---- the list ---- */

typedef struct {
    name_t *names; /* most + 1 */
    size_t count, most;
    char **keys; /* one for each entry of the package */
    size_t nkeys;
} list_t;

/* Adds the folders that path begins with and the path before it (sorted) does not. */
static void add_folders(list_t *l, const char *path, const char *key, const char *before)
{
    const char *slash = path, *key_slash = key;

    while ((slash = strchr(slash, '/')) != NULL && l->count <= l->most) {
        size_t len = (size_t)(slash - path);

        key_slash = strchr(key_slash, '/');
        if (before == NULL || strncmp(before, path, len + 1) != 0) {
            l->names[l->count++] = (name_t){path, len, key, (size_t)(key_slash - key), true};
        }
        slash++;
        key_slash++;
    }
}

/* All files and folders; what does not fit is not looked at. */
static sb_code_t fill(list_t *l, const sb_builder_t *b, sb_err_t *err)
{
    for (size_t i = 0; i < b->count && l->count <= l->most; i++) {
        const char *path = b->entries[i].file.path;
        char *key = sb_unicode_folded(path);

        if (key == NULL) {
            return sb_err_errno(err, ENOMEM, "reading the package");
        }
        l->keys[l->nkeys++] = key;
        add_folders(l, path, key, i > 0 ? b->entries[i - 1].file.path : NULL);
        if (l->count <= l->most) {
            l->names[l->count++] = (name_t){path, strlen(path), key, strlen(key), false};
        }
    }
    return SB_OK;
}

static void list_free(list_t *l)
{
    for (size_t i = 0; i < l->nkeys; i++) {
        free(l->keys[i]);
    }
    free(l->keys);
    free(l->names);
}

/* ---- the judgement ---- */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int by_key(const void *a, const void *b)
{
    const name_t *x = a, *y = b;
    int order = compare_bytes(x->key, x->key_len, y->key, y->key_len);

    if (order == 0) {
        order = compare_bytes(x->path, x->len, y->path, y->len);
    }
    return order != 0 ? order : x->dir - y->dir;
}

/* Do they differ in the way they are written, and in nothing else? */
static bool only_written_otherwise(const name_t *x, const name_t *y)
{
    char *a = sb_unicode_visible(x->path, x->len), *b = sb_unicode_visible(y->path, y->len);
    bool same = a != NULL && b != NULL && strcmp(a, b) == 0;

    free(a);
    free(b);
    return same;
}

static void judge_pair(sb_builder_t *b, const name_t *x, const name_t *y)
{
    char path[SB_PATH_MAX + 1];
    sb_findings_t *findings = &b->p->findings;

    if (compare_bytes(x->key, x->key_len, y->key, y->key_len) != 0) {
        return;
    }
    snprintf(path, sizeof(path), "%.*s", (int)y->len, y->path);
    if (compare_bytes(x->path, x->len, y->path, y->len) != 0) {
        if (only_written_otherwise(x, y)) {
            sb_findings_add(findings, SB_FINDING_ERROR, "path-unicode-twin", path, 0,
                            "is '%.*s' written with other Unicode characters", (int)x->len,
                            x->path);
        } else {
            sb_findings_add(findings, SB_FINDING_ERROR, "path-case-twin", path, 0,
                            "differs from '%.*s' in upper and lower case only", (int)x->len,
                            x->path);
        }
    } else if (x->dir != y->dir) {
        sb_findings_add(findings, SB_FINDING_ERROR, "path-conflict", path, 0,
                        "is a file and a folder");
    } else {
        sb_findings_add(findings, SB_FINDING_ERROR, "path-duplicate", path, 0,
                        "is in the package twice");
    }
}

static void judge(sb_builder_t *b, list_t *l)
{
    if (l->count > l->most) {
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "too-many-entries", "", 0,
                        "the package has more than %zu files and folders", l->most);
    }
    if (l->count > 0) {
        qsort(l->names, l->count, sizeof(*l->names), by_key);
    }
    for (size_t i = 1; i < l->count; i++) {
        judge_pair(b, &l->names[i - 1], &l->names[i]);
    }
}

sb_code_t sb_rules_twins(sb_builder_t *b, sb_err_t *err)
{
    list_t l = {.most = 2 * (size_t)b->limits.entries_max};
    sb_code_t rc;

    l.names = calloc(l.most + 1, sizeof(*l.names));
    l.keys = calloc(b->count + 1, sizeof(*l.keys));
    rc = l.names != NULL && l.keys != NULL ? fill(&l, b, err)
                                           : sb_err_errno(err, ENOMEM, "reading the package");
    if (rc == SB_OK) {
        judge(b, &l);
    }
    list_free(&l);
    return rc;
}
