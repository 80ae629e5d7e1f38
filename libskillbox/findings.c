/*
 * findings.c - the list of everything that is wrong with a package.
 *
 * Promises that what it stores is printable, valid UTF-8 and bounded, whatever
 * an attacker put into names and values.  Touches memory only.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "manifest.h"

/*
 * Copies s into out: control characters and ill-formed bytes become '?', what
 * does not fit is replaced by "..." at a character boundary.
 */
static void copy_printable(char *out, size_t cap, const char *s)
{
    size_t len = strlen(s), used = 0, at = 0, cut = 0;

    while (at < len) {
        size_t n = sb_utf8_len((const unsigned char *)s + at, len - at);
        bool plain = n > 1 || (n == 1 && s[at] >= 0x20 && s[at] != 0x7f);

        /* U+0080..U+009F are control characters too: C2 80..C2 9F */
        if (n == 2 && (unsigned char)s[at] == 0xc2 && (unsigned char)s[at + 1] < 0xa0) {
            plain = false;
        }
        if (n == 0) {
            n = 1;
        }
        size_t need = plain ? n : 1;
        if (used + need >= cap) {
            memcpy(out + cut, "...", 4);
            return;
        }
        if (plain) {
            memcpy(out + used, s + at, n);
        } else {
            out[used] = '?';
        }
        used += need;
        at += n;
        if (used + 4 <= cap) {
            cut = used; /* the last place where the dots would fit */
        }
    }
    out[used] = '\0';
}

void sb_findings_free(sb_findings_t *f)
{
    free(f->items);
    memset(f, 0, sizeof(*f));
}

/* Room for one more; false at the cap or out of memory: the count of errors still grows. */
static bool make_room(sb_findings_t *f)
{
    if (f->count == SB_FINDINGS_MAX) {
        return false;
    }
    if (f->count % 16 != 0) {
        return true;
    }
    sb_finding_t *grown = realloc(f->items, (f->count + 16) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    f->items = grown;
    return true;
}

void sb_findings_add(sb_findings_t *f, sb_severity_t severity, const char *code, const char *path,
                     int line, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (severity == SB_FINDING_ERROR) {
        f->errors++;
    }
    if (!make_room(f)) {
        f->truncated = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    sb_finding_t *item = &f->items[f->count++];
    item->category = item->remediation = NULL;
    item->severity = severity;
    item->line = line;
    copy_printable(item->code, sizeof(item->code), code);
    copy_printable(item->path, sizeof(item->path), path);
    copy_printable(item->message, sizeof(item->message), text);
}

sb_code_t sb_findings_verdict(const sb_findings_t *f, sb_err_t *err)
{
    const sb_finding_t *first = NULL;
    char more[48] = "";

    if (f->errors == 0) {
        return SB_OK;
    }
    for (size_t i = 0; i < f->count && first == NULL; i++) {
        first = f->items[i].severity == SB_FINDING_ERROR ? &f->items[i] : NULL;
    }
    if (first == NULL) {
        return sb_err_set(err, SB_ESKILL, "the package has %zu errors", f->errors);
    }
    if (f->errors > 1) {
        snprintf(more, sizeof(more), " (and %zu more)", f->errors - 1);
    }
    return sb_err_at(err, SB_ESKILL, first->line, "%s%s%s%s", first->path,
                     first->path[0] != '\0' ? ": " : "", first->message, more);
}

static json_t *finding_to_json(const sb_finding_t *item)
{
    static const char *const severities[] = {"note", "warning", "error"};
    json_t *o = json_pack("{s:s, s:s, s:s}", "severity", severities[item->severity], "code",
                          item->code, "message", item->message);

    if (o != NULL && item->path[0] != '\0' &&
        json_object_set_new(o, "file", json_string(item->path)) != 0) {
        json_decref(o);
        return NULL;
    }
    if (o != NULL && item->line > 0 &&
        json_object_set_new(o, "line", json_integer(item->line)) != 0) {
        json_decref(o);
        return NULL;
    }
    if (o != NULL && item->category != NULL &&
        (json_object_set_new(o, "category", json_string(item->category)) != 0 ||
         json_object_set_new(o, "remediation", json_string(item->remediation)) != 0)) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *sb_findings_to_json(const sb_findings_t *f)
{
    json_t *list = json_array();

    for (size_t i = 0; list != NULL && i < f->count; i++) {
        if (json_array_append_new(list, finding_to_json(&f->items[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
