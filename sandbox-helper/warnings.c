/*
 * warnings.c - see warnings.h.  Pure memory; runs in the confined collect child.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "warnings.h"

void warnings_init(warnings_t *w)
{
    /* an escaped character takes six bytes at most */
    sb_buf_init(&w->json, (size_t)WARNINGS_MAX * (6 * WARNING_BYTES_MAX + 3));
    w->kept = 0;
    w->left_out = 0;
}

void warnings_add(warnings_t *w, const char *fmt, ...)
{
    char text[WARNING_BYTES_MAX];
    va_list ap;

    if (w->kept == WARNINGS_MAX) {
        w->left_out++;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (w->kept++ > 0) {
        sb_buf_char(&w->json, ',');
    }
    sb_json_cstr(&w->json, text);
}

void warnings_to_json(const warnings_t *w, sb_buf_t *b)
{
    if (w->kept == 0) {
        return;
    }
    sb_json_key(b, "warnings");
    sb_buf_char(b, '[');
    sb_buf_add(b, w->json.data, w->json.len);
    if (w->left_out > 0) {
        sb_buf_fmt(b, ",\"%lu more warnings\"", w->left_out);
    }
    sb_buf_char(b, ']');
}

const char *warnings_name(const char *name)
{
    static char shown[204];
    size_t len = strlen(name);

    if (len <= 200) {
        return name;
    }
    memcpy(shown, name, 200);
    memcpy(shown + 200, "...", 4);
    return shown;
}
