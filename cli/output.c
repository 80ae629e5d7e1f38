/*
 * output.c - messages, tables, JSON and progress; see output.h.
 * Writes to stdout and stderr only.
 */
#include "output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/units.h"
#include "jsontext.h"
#include "options.h"

__attribute__((format(printf, 2, 0))) static void say(const char *prefix, const char *fmt,
                                                      va_list ap)
{
    char text[2048];

    vsnprintf(text, sizeof(text), fmt, ap);
    fputs(prefix, stderr);
    sb_print_safe(stderr, text, strlen(text), true);
    fputc('\n', stderr);
}

void sb_say_error(const char *fmt, ...)
{
    bool colour = isatty(STDERR_FILENO) && getenv("NO_COLOR") == NULL;
    va_list ap;

    va_start(ap, fmt);
    say(colour ? "\033[31mskillbox:\033[0m " : "skillbox: ", fmt, ap);
    va_end(ap);
}

void sb_say_err(const sb_err_t *err)
{
    sb_say_error("%s", err->message);
}

void sb_say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
}

/* C0, DEL, and C1 (as UTF-8: C2 80..9F), which terminals obey too. */
static bool is_control(const unsigned char *p, size_t left, size_t *len)
{
    *len = 1;
    if (p[0] < 0x20 || p[0] == 0x7f) {
        return true;
    }
    if (p[0] == 0xc2 && left > 1 && p[1] >= 0x80 && p[1] < 0xa0) {
        *len = 2;
        return true;
    }
    return false;
}

void sb_print_safe(FILE *out, const char *s, size_t len, bool lines)
{
    const unsigned char *p = (const unsigned char *)s;

    while (len > 0) {
        size_t n = sb_utf8_len(p, len), control;

        if (lines && (*p == '\n' || *p == '\t')) {
            fputc(*p, out);
            n = 1;
        } else if (n == 0 || is_control(p, len, &control)) {
            n = n == 0 ? 1 : control;
            for (size_t i = 0; i < n; i++) {
                fprintf(out, "\\x%02x", p[i]);
            }
        } else {
            fwrite(p, 1, n, out);
        }
        p += n;
        len -= n;
    }
}

void sb_print_log(FILE *out, const char *s, size_t len)
{
    if (len == 0) {
        return;
    }
    if (isatty(fileno(out))) {
        sb_print_safe(out, s, len, true);
    } else {
        fwrite(s, 1, len, out);
    }
    if (s[len - 1] != '\n') {
        fputc('\n', out);
    }
}

void sb_print_json_text(FILE *out, const char *text, size_t len)
{
    sb_buf_t pretty = SB_BUF_INIT(SIZE_MAX);

    if (!isatty(fileno(out))) {
        fwrite(text, 1, len, out);
        fputc('\n', out);
        return;
    }
    sb_jtext_indent(&pretty, text, len);
    if (sb_buf_ok(&pretty) && pretty.data != NULL) {
        /* JSON escapes C0, but neither DEL nor C1 */
        sb_print_safe(out, pretty.data, pretty.len, true);
        fputc('\n', out);
    }
    sb_buf_free(&pretty);
}

void sb_print_json(FILE *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    if (text != NULL) {
        sb_print_json_text(out, text, strlen(text));
    }
    free(text);
}

/* ---- tables ---- */

void sb_table_init(sb_table_t *t, size_t ncols)
{
    *t = (sb_table_t){.ncols = ncols};
}

/* A copy without control characters, so that a cell is one line and its width is known. */
static char *clean_copy(const char *text)
{
    char *copy = NULL;
    size_t len;
    FILE *f = open_memstream(&copy, &len);

    if (f == NULL) {
        return NULL;
    }
    sb_print_safe(f, text, strlen(text), false);
    return fclose(f) == 0 ? copy : NULL;
}

void sb_table_cell(sb_table_t *t, const char *text)
{
    if (t->ncells == t->cap) {
        size_t cap = t->cap > 0 ? 2 * t->cap : 32;
        char **cells = reallocarray(t->cells, cap, sizeof(*cells));

        if (cells == NULL) {
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->cap = cap;
    }
    char *copy = clean_copy(text != NULL ? text : "-");
    if (copy == NULL) {
        t->failed = true;
        return;
    }
    t->cells[t->ncells++] = copy;
}

/* Characters, not bytes: good enough for names and descriptions. */
static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

static void column_widths(const sb_table_t *t, size_t *widths)
{
    for (size_t i = 0; i < t->ncells; i++) {
        size_t w = width_of(t->cells[i]);

        if (w > widths[i % t->ncols]) {
            widths[i % t->ncols] = w;
        }
    }
}

bool sb_table_print(sb_table_t *t, FILE *out)
{
    size_t *widths = calloc(t->ncols, sizeof(*widths));
    bool ok = !t->failed && widths != NULL;

    if (ok) {
        column_widths(t, widths);
    }
    for (size_t i = 0; ok && i < t->ncells; i++) {
        size_t col = i % t->ncols;

        fputs(t->cells[i], out);
        if (col + 1 < t->ncols) {
            fprintf(out, "%*s", (int)(widths[col] - width_of(t->cells[i]) + 2), "");
        } else {
            fputc('\n', out);
        }
    }
    for (size_t i = 0; i < t->ncells; i++) {
        free(t->cells[i]);
    }
    free(t->cells);
    free(widths);
    if (!ok) {
        sb_say_error("out of memory");
    }
    return ok;
}

void sb_print_findings(FILE *out, const sb_findings_t *findings)
{
    static const char *const severities[] = {"note", "warning", "error"};

    for (size_t i = 0; i < findings->count; i++) {
        const sb_finding_t *f = &findings->items[i];
        const char *path = f->path[0] != '\0' ? f->path : "package";

        sb_print_safe(out, path, strlen(path), false);
        if (f->line > 0) {
            fprintf(out, ":%d", f->line);
        }
        fprintf(out, ": %s: ", severities[f->severity]);
        sb_print_safe(out, f->message, strlen(f->message), false);
        fprintf(out, " [%s]\n", f->code);
        if (f->remediation != NULL) {
            fprintf(out, "    %s\n", f->remediation);
        }
    }
    if (findings->truncated) {
        fprintf(out, "package: note: more findings were left out\n");
    }
}

/* ---- progress ---- */

#define PROGRESS_EVERY_MS 100
#define PROGRESS_AFTER_MS 300 /* what is done sooner needs no progress */

static int64_t monotonic_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void sb_progress_start(sb_progress_t *p)
{
    p->on = isatty(STDERR_FILENO);
    p->started_ms = monotonic_ms();
    p->drawn_ms = 0;
}

void sb_progress_show(sb_progress_t *p, const char *what, int64_t done, int64_t total)
{
    int64_t now = monotonic_ms();
    int64_t age = now - p->started_ms;

    if (!p->on || age < PROGRESS_AFTER_MS || now - p->drawn_ms < PROGRESS_EVERY_MS) {
        return;
    }
    p->drawn_ms = now;
    if (total > 0) {
        char have[32], all[32];

        sb_bytes_format(done, have);
        sb_bytes_format(total, all);
        fprintf(stderr, "\r\033[K%s %s of %s (%d%%)", what, have, all, (int)(done * 100 / total));
    } else {
        fprintf(stderr, "\r\033[K%s %lld.%lld s", what, (long long)(age / 1000),
                (long long)(age % 1000 / 100));
    }
    fflush(stderr);
}

void sb_progress_end(sb_progress_t *p)
{
    if (p->on && p->drawn_ms != 0) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    p->on = false;
}
