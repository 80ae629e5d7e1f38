/*
 * package_rules.c - what names, trees and symlinks a package may have.
 * Everything wrong becomes a finding.  Touches memory only.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest_internal.h"
#include "names.h"
#include "package_build.h"

/* ---- one name ---- */

static bool has_parent_part(const char *s, size_t len)
{
    return (len >= 2 && memcmp(s, "..", 2) == 0 && (len == 2 || s[2] == '/')) ||
           (len > 3 && memcmp(s + len - 3, "/..", 3) == 0) || memmem(s, len, "/../", 4) != NULL;
}

/* No file system has such a name. */
static bool has_long_part(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n = s[i] == '/' ? 0 : n + 1;
        if (n > NAME_MAX) {
            return true;
        }
    }
    return false;
}

/* As VMS has them: "main.py;1" becomes "main.py". */
static bool has_version(const char *s, size_t len)
{
    while (len > 0 && s[len - 1] >= '0' && s[len - 1] <= '9') {
        len--;
    }
    return len > 0 && s[len - 1] == ';';
}

/* Calls it what it is, for the finding; NULL when the name is fine. */
static const char *name_fault(const char *s, size_t len, const char **message)
{
    static const struct {
        const char *code, *message;
    } faults[] = {
        {"path-not-utf8", "the name is not UTF-8"},
        {"path-backslash", "the name contains a backslash"},
        {"path-absolute", "the name is absolute"},
        {"path-traversal", "the name contains '..'"},
        {"path-too-long", "the name is over 512 bytes, or a part of it over 255"},
        {"path-version", "the name ends with a ';' and digits, which unzip would cut off"},
        {"path-invalid", "the name is empty, or has control characters, an empty or a '.' part"},
    };
    int fault;

    if (len == 0) {
        fault = 6;
    } else if (!sb_utf8_valid(s, len)) {
        fault = 0;
    } else if (memchr(s, '\\', len) != NULL) {
        fault = 1;
    } else if (s[0] == '/' || sb_path_has_drive(s, len)) {
        fault = 2;
    } else if (has_parent_part(s, len)) {
        fault = 3;
    } else if (len > SB_PATH_MAX || has_long_part(s, len)) {
        fault = 4;
    } else if (has_version(s, len)) {
        fault = 5;
    } else if (!sb_path_valid(s, len)) {
        fault = 6;
    } else {
        return NULL;
    }
    *message = faults[fault].message;
    return faults[fault].code;
}

/* Is one part of the path this word? */
static bool has_part(const char *path, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = path; (p = strstr(p, word)) != NULL; p += n) {
        if ((p == path || p[-1] == '/') && (p[n] == '\0' || p[n] == '/')) {
            return true;
        }
    }
    return false;
}

sb_name_verdict_t sb_rules_name(sb_builder_t *b, const char *raw, size_t len,
                                char out[SB_PATH_MAX + 1])
{
    const char *message = NULL;
    char shown[SB_PATH_MAX + 1];

    if (len > 2 && raw[0] == '.' && raw[1] == '/') {
        raw += 2;
        len -= 2;
    }
    if (len > 1 && raw[len - 1] == '/') {
        len--;
    }
    const char *code = name_fault(raw, len, &message);
    if (code != NULL) {
        size_t n = len < SB_PATH_MAX ? len : SB_PATH_MAX;
        memcpy(shown, raw, n);
        shown[n] = '\0';
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, code, shown, 0, "%s", message);
        return SB_NAME_BAD;
    }
    memcpy(out, raw, len);
    out[len] = '\0';
    if (has_part(out, "__MACOSX") || has_part(out, ".DS_Store") || has_part(out, "Thumbs.db")) {
        return SB_NAME_JUNK;
    }
    if (!has_part(out, ".git")) {
        return SB_NAME_KEEP;
    }
    if (!b->git_noted) {
        sb_findings_add(&b->p->findings, SB_FINDING_NOTE, "git-dropped", out, 0,
                        ".git is not part of the package");
        b->git_noted = true;
    }
    return SB_NAME_JUNK;
}

/* ---- the tree ---- */

void sb_rules_strip_top(sb_builder_t *b)
{
    const char *slash = b->count > 0 ? strchr(b->entries[0].file.path, '/') : NULL;
    size_t len = slash != NULL ? (size_t)(slash - b->entries[0].file.path) + 1 : 0;

    for (size_t i = 0; i < b->count; i++) {
        if (len == 0 || strncmp(b->entries[i].file.path, b->entries[0].file.path, len) != 0) {
            return;
        }
    }
    for (size_t i = 0; i < b->count; i++) {
        char *path = b->entries[i].file.path;
        memmove(path, path + len, strlen(path + len) + 1);
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const sb_entry_t *)a)->file.path, ((const sb_entry_t *)b)->file.path);
}

static int compare_prefix(const char *path, size_t len, const char *other)
{
    int order = strncmp(path, other, len);

    return order != 0 ? order : -(other[len] != '\0');
}

/* The entry of that path, len bytes of it; NULL when there is none. */
static const sb_entry_t *find(const sb_builder_t *b, const char *path, size_t len)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare_prefix(path, len, b->entries[mid].file.path);
        if (order == 0) {
            return &b->entries[mid];
        }
        if (order < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return NULL;
}

static void check_depth(sb_builder_t *b, const char *path)
{
    int depth = 1;

    for (const char *p = path; (p = strchr(p, '/')) != NULL; p++) {
        depth++;
    }
    if (depth > SB_PACKAGE_DEPTH_MAX) {
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "path-too-deep", path, 0,
                        "it lies more than %d folders deep", SB_PACKAGE_DEPTH_MAX);
    }
}

/* <folder>/SKILL.md is another skill; an example among assets or references is not. */
static bool is_other_skill(const char *path)
{
    const char *slash = strchr(path, '/');

    return slash != NULL && strcmp(slash + 1, SB_SKILLMD) == 0 &&
           strncmp(path, "assets/", 7) != 0 && strncmp(path, "references/", 11) != 0;
}

static void check_skillmd(sb_builder_t *b)
{
    const sb_entry_t *e = find(b, SB_SKILLMD, strlen(SB_SKILLMD));
    bool others = false;

    for (size_t i = 0; i < b->count; i++) {
        if (is_other_skill(b->entries[i].file.path)) {
            others = true;
            sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "skill-nested",
                            b->entries[i].file.path, 0,
                            "is another skill: a package holds one, with its SKILL.md at the root");
        }
    }
    if (e == NULL && !others) {
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "skill-md-missing", SB_SKILLMD, 0,
                        "there is no SKILL.md at the root of the package");
    } else if (e != NULL && e->is_link) {
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "skill-md-link", SB_SKILLMD, 0,
                        "SKILL.md must be a file, not a symlink");
    }
}

sb_code_t sb_rules_tree(sb_builder_t *b, sb_err_t *err)
{
    if (b->count > 0) {
        qsort(b->entries, b->count, sizeof(*b->entries), by_path);
    }
    for (size_t i = 0; i < b->count; i++) {
        check_depth(b, b->entries[i].file.path);
    }
    if (b->count > (size_t)b->limits.entries_max) {
        sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "too-many-entries", "", 0,
                        "the package has more than %d files", b->limits.entries_max);
    }
    check_skillmd(b);
    return sb_rules_twins(b, err);
}

/* ---- symlinks ---- */

/* Does some entry lie in the folder path[0..len)? */
static bool is_folder(const sb_builder_t *b, const char *path, size_t len)
{
    size_t low = 0, high = b->count;

    while (low < high) { /* the first entry that is not before "<path>/" */
        size_t mid = low + (high - low) / 2;
        const char *other = b->entries[mid].file.path;
        int order = strncmp(other, path, len);
        if (order == 0) {
            order = (unsigned char)other[len] < '/' ? -1 : 1;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < b->count && strncmp(b->entries[low].file.path, path, len) == 0 &&
           b->entries[low].file.path[len] == '/';
}

/* Applies one part of a link's target to at (its length in *len); NULL, or what is wrong. */
static const char *follow(char at[2 * SB_PATH_MAX + 2], size_t *len, const char *part)
{
    if (part[0] == '\0' || strcmp(part, ".") == 0) {
        return NULL;
    }
    if (strcmp(part, "..") == 0) {
        if (*len == 0) {
            return "the symlink leaves the package";
        }
        while (*len > 0 && at[--*len] != '/') {
        }
        return NULL;
    }
    *len +=
        (size_t)snprintf(at + *len, 2 * SB_PATH_MAX + 2 - *len, "%s%s", *len > 0 ? "/" : "", part);
    return NULL;
}

/*
 * Resolves a link the way the kernel would.  Since every part on the way must be
 * a real folder and the end no link, that is exact, and there are no loops.
 * Returns what is wrong, or NULL and *file: NULL when the end is a folder.
 */
static const char *resolve(const sb_builder_t *b, const sb_entry_t *e, const sb_entry_t **file)
{
    const char *link = e->file.path, *slash = strrchr(link, '/');
    char at[2 * SB_PATH_MAX + 2], target[SB_PATH_MAX + 1];
    size_t len = slash != NULL ? (size_t)(slash - link) : 0;
    const char *fault;

    if (e->file.link[0] == '/') {
        return "the symlink leaves the package";
    }
    memcpy(at, link, len);
    snprintf(target, sizeof(target), "%s", e->file.link);
    for (char *rest = target, *part; (part = strsep(&rest, "/")) != NULL;) {
        if (len > 0 && !is_folder(b, at, len)) {
            return "the symlink points through something that is no folder of the package";
        }
        if ((fault = follow(at, &len, part)) != NULL) {
            return fault;
        }
    }
    if (len == 0 || (len <= strlen(link) && strncmp(link, at, len) == 0 && link[len] == '/')) {
        return "the symlink points to a folder that it lies in";
    }
    const sb_entry_t *end = find(b, at, len);
    if (end != NULL && end->is_link) {
        return "the symlink points to another symlink";
    }
    if (end == NULL && !is_folder(b, at, len)) {
        return "the symlink points to nothing in the package";
    }
    *file = end;
    return NULL;
}

void sb_rules_links(sb_builder_t *b)
{
    for (size_t i = 0; i < b->count; i++) {
        sb_entry_t *e = &b->entries[i];
        const sb_entry_t *target = NULL;
        if (!e->is_link || e->file.link == NULL) {
            continue;
        }
        const char *fault = resolve(b, e, &target);
        if (fault != NULL) {
            sb_findings_add(&b->p->findings, SB_FINDING_ERROR, "symlink", e->file.path, 0, "%s",
                            fault);
        } else if (target != NULL) {
            e->file.lang = target->file.lang; /* a link to a script is a script */
        }
    }
}
