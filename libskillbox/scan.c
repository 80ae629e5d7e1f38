/*
 * scan.c - see scan.h.  Finds the words of a rule, and only there tries its pattern,
 * on one line and with few steps: what a text costs is bounded, however it was made.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem, memrchr */
#endif
#define PCRE2_CODE_UNIT_WIDTH 8

#include "scan_internal.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <pcre2.h>

#include "package_build.h"

#define RULES_MAX   64
#define TRIES_MAX   500  /* lines a rule is tried on in one file */
#define BEFORE_MAX  1024 /* bytes of a line before the word, and from it on */
#define AFTER_MAX   2048
#define MATCH_STEPS 20000
#define MATCH_DEPTH 200
#define MATCH_HEAP  256 /* KiB */

static pcre2_code *compiled[RULES_MAX];
static pcre2_match_data *match_data;
static pcre2_match_context *match_context;

sb_code_t sb_scan_init(sb_err_t *err)
{
    int number;
    PCRE2_SIZE where;

    if (match_data != NULL) {
        return SB_OK;
    }
    if (sb_scan_rules_count > RULES_MAX) {
        return sb_err_set(err, SB_EINTERNAL, "there are too many rules");
    }
    for (size_t i = 0; i < sb_scan_rules_count; i++) {
        const scan_rule_t *rule = &sb_scan_rules[i];
        uint32_t options = PCRE2_DOTALL | PCRE2_NEVER_UTF | (rule->exact ? 0 : PCRE2_CASELESS);
        compiled[i] = pcre2_compile((PCRE2_SPTR)rule->pattern, PCRE2_ZERO_TERMINATED, options,
                                    &number, &where, NULL);
        if (compiled[i] == NULL) {
            return sb_err_set(err, SB_EINTERNAL, "the rule %s is broken at %zu", rule->id, where);
        }
    }
    match_context = pcre2_match_context_create(NULL);
    match_data = pcre2_match_data_create(1, NULL);
    if (match_context == NULL || match_data == NULL) {
        return sb_err_errno(err, ENOMEM, "preparing the scan");
    }
    pcre2_set_match_limit(match_context, MATCH_STEPS);
    pcre2_set_depth_limit(match_context, MATCH_DEPTH);
    pcre2_set_heap_limit(match_context, MATCH_HEAP);
    return SB_OK;
}

/* ---- reporting ---- */

int sb_scan_line(const scan_file_t *f, size_t at)
{
    int line = 1;

    for (const char *p = f->text; (p = memchr(p, '\n', at - (size_t)(p - f->text))) != NULL; p++) {
        line++;
    }
    return line;
}

void sb_scan_report(const scan_file_t *f, const scan_rule_t *rule, size_t at)
{
    size_t same = 0, had = f->out->count;
    int line = sb_scan_line(f, at);

    for (size_t i = 0; i < had; i++) {
        const sb_finding_t *x = &f->out->items[i];
        if (strcmp(x->code, rule->id) == 0) {
            same++;
            if (x->line == line && strcmp(x->path, f->path) == 0) {
                return; /* said of this line */
            }
        }
    }
    if (same >= SB_SCAN_RULE_MAX) {
        f->out->truncated = true;
        return;
    }
    sb_findings_add(f->out, rule->severity, rule->id, f->path, line, "%s", rule->message);
    if (f->out->count > had) {
        f->out->items[had].category = rule->category;
        f->out->items[had].remediation = rule->remediation;
    }
}

/* ---- the rules ---- */

static bool name_matches(const char *patterns, const char *name)
{
    char pattern[64];

    while (*patterns != '\0') {
        size_t n = strcspn(patterns, "|");
        if (n < sizeof(pattern)) {
            memcpy(pattern, patterns, n);
            pattern[n] = '\0';
            if (fnmatch(pattern, name, 0) == 0) {
                return true;
            }
        }
        patterns += n + (patterns[n] == '|');
    }
    return false;
}

/* The line around text[at]; one that ends in a backslash goes on, and a key's header does, too. */
static void line_around(const scan_file_t *f, size_t at, size_t *start, size_t *end)
{
    size_t low = at > BEFORE_MAX ? at - BEFORE_MAX : 0;
    size_t high = f->len - at > AFTER_MAX ? at + AFTER_MAX : f->len;

    *start = at;
    while (*start > low &&
           (f->text[*start - 1] != '\n' || (*start - 1 > low && f->text[*start - 2] == '\\'))) {
        (*start)--;
    }
    *end = at;
    while (*end < high &&
           (f->text[*end] != '\n' ||
            (*end > 0 && (f->text[*end - 1] == '\\' ||
                          (*end >= 4 && memcmp(f->text + *end - 4, "----", 4) == 0))))) {
        (*end)++;
    }
}

/* Tries a rule on the lines that hold the word; folded is the text in small letters. */
static void try_word(const scan_file_t *f, size_t number, const char *folded, const char *word,
                     size_t len)
{
    size_t at = 0, start, end;

    for (int tries = 0; tries < TRIES_MAX && at < f->len; tries++) {
        const char *hit = memmem(folded + at, f->len - at, word, len);
        if (hit == NULL) {
            return;
        }
        line_around(f, (size_t)(hit - folded), &start, &end);
        if (pcre2_match(compiled[number], (PCRE2_SPTR)(f->text + start), end - start, 0, 0,
                        match_data, match_context) >= 0) {
            sb_scan_report(f, &sb_scan_rules[number],
                           start + pcre2_get_ovector_pointer(match_data)[0]);
        }
        at = end > (size_t)(hit - folded) ? end : (size_t)(hit - folded) + len;
    }
}

static void try_rule(const scan_file_t *f, size_t number, const char *folded)
{
    const scan_rule_t *rule = &sb_scan_rules[number];

    if ((rule->where & f->kind) == 0 ||
        (rule->only != NULL && !name_matches(rule->only, f->name))) {
        return;
    }
    for (const char *word = rule->words; *word != '\0';) {
        size_t n = strcspn(word, ",");
        try_word(f, number, folded, word, n);
        word += n + (word[n] == ',');
    }
}

static unsigned kind_of(const char *name)
{
    static const char *const docs[] = {".md", ".markdown", ".txt", ".rst", ".html", ".htm"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(docs) / sizeof(docs[0]); i++) {
        if (strcasecmp(dot, docs[i]) == 0) {
            return SCAN_DOC;
        }
    }
    return SCAN_CODE;
}

void sb_scan_text(const char *path, const char *text, size_t len, sb_findings_t *out)
{
    const char *slash = strrchr(path, '/');
    scan_file_t f = {.path = path, .text = text, .len = len, .out = out};
    char *folded;

    f.name = slash != NULL ? slash + 1 : path;
    f.kind = kind_of(f.name);
    folded = len > 0 && memchr(text, '\0', len) == NULL ? malloc(len) : NULL;
    if (folded == NULL) {
        return; /* empty, or no text */
    }
    for (size_t i = 0; i < len; i++) {
        folded[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
    }
    for (size_t i = 0; i < sb_scan_rules_count; i++) {
        try_rule(&f, i, folded);
    }
    free(folded);
    sb_scan_chars(&f);
    sb_scan_names(&f);
}

/* ---- a package ---- */

static sb_code_t load(sb_cursor_t *cursor, const sb_package_file_t *file, sb_buf_t *text,
                      sb_err_t *err)
{
    char chunk[64 * 1024];
    int fd;
    sb_code_t rc = sb_fs_open(cursor, file->path, &fd, err);

    if (rc != SB_OK) {
        return rc;
    }
    sb_buf_clear(text);
    while (text->len < SB_SCAN_FILE_MAX) {
        size_t room = SB_SCAN_FILE_MAX - text->len;
        ssize_t n = read(fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = sb_err_errno(err, errno, "reading %s", file->path);
        }
        if (n <= 0) {
            break;
        }
        sb_buf_add(text, chunk, (size_t)n);
    }
    close(fd);
    return rc == SB_OK && !sb_buf_ok(text) ? sb_err_errno(err, ENOMEM, "scanning %s", file->path)
                                           : rc;
}

static void add_incomplete(sb_package_t *p, const char *path)
{
    sb_findings_add(&p->security, SB_FINDING_NOTE, "scan-incomplete", path, 0,
                    "it is too large to be scanned to its end");
    if (p->security.count > 0) {
        sb_finding_t *last = &p->security.items[p->security.count - 1];
        last->category = "scan";
        last->remediation = "Keep large data out of the package.";
    }
}

sb_code_t sb_scan_package(int dirfd, sb_package_t *p, sb_err_t *err)
{
    sb_buf_t text = SB_BUF_INIT(SB_SCAN_FILE_MAX);
    sb_code_t rc = sb_scan_init(err);
    int64_t total = 0;
    sb_cursor_t cursor;

    sb_cursor_init(&cursor, dirfd);
    for (size_t i = 0; i < p->nfiles && rc == SB_OK; i++) {
        const sb_package_file_t *file = &p->files[i];

        if (file->link != NULL) {
            continue;
        }
        if (total >= SB_SCAN_TOTAL_MAX) {
            add_incomplete(p, "");
            break;
        }
        rc = load(&cursor, file, &text, err);
        if (rc == SB_OK && text.len > 0) {
            bool is_text = memchr(text.data, '\0', text.len) == NULL;
            sb_scan_text(file->path, text.data, text.len, &p->security);
            total += (int64_t)text.len;
            if (is_text && file->size > SB_SCAN_FILE_MAX) {
                add_incomplete(p, file->path);
            }
        }
    }
    sb_cursor_close(&cursor);
    sb_buf_free(&text);
    return rc;
}
