/*
 * jsontext.c - see jsontext.h.  Pure: touches nothing but its arguments.  Copies in the
 * confined collect child, over bytes that the script chose; checks in the gateway's store
 * thread, over what the helper made of them.
 */
#include <string.h>

#include "jsontext.h"

typedef struct {
    const unsigned char *start, *p, *end;
    sb_buf_t *out;    /* NULL: it is checked only */
    const char *what; /* why it failed */
    unsigned depth;
    unsigned char closers[SB_JSON_DEPTH_MAX + 1]; /* '}' or ']' of each open object or array */
} scan_t;

static void put(scan_t *s, const void *text, size_t len)
{
    if (s->out != NULL) {
        sb_buf_add(s->out, text, len);
    }
}

static void put_char(scan_t *s, char c)
{
    put(s, &c, 1);
}

static bool fail(scan_t *s, const char *what)
{
    s->what = what;
    return false;
}

static void skip_space(scan_t *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')) {
        s->p++;
    }
}

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of "\uXXXX" at p, -1 when there is none. */
static int unicode_escape(const unsigned char *p, const unsigned char *end)
{
    int unit = 0;

    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    for (int i = 2; i < 6; i++) {
        int v = hex_value(p[i]);
        if (v < 0) {
            return -1;
        }
        unit = unit * 16 + v;
    }
    return unit;
}

/* Consumes one escape; *copied is where the text not yet copied to out begins. */
static bool scan_escape(scan_t *s, const unsigned char **copied)
{
    int unit;

    if (s->end - s->p < 2) {
        return fail(s, "a string is not closed");
    }
    if (s->p[1] != 'u') {
        if (strchr("\"\\/bfnrt", s->p[1]) == NULL || s->p[1] == '\0') {
            return fail(s, "an unknown escape in a string");
        }
        s->p += 2;
        return true;
    }
    unit = unicode_escape(s->p, s->end);
    if (unit < 0) {
        return fail(s, "\\u is not followed by four hex digits");
    }
    if (unit < 0xd800 || unit > 0xdfff) {
        s->p += 6;
        return true;
    }
    if (unit < 0xdc00) {
        int low = unicode_escape(s->p + 6, s->end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            s->p += 12;
            return true;
        }
    }
    if (s->out == NULL) {
        return fail(s, "a lone surrogate");
    }
    put(s, *copied, (size_t)(s->p - *copied));
    put(s, "\\ufffd", 6);
    s->p += 6;
    *copied = s->p;
    return true;
}

/* s->p is at the opening quote. */
static bool scan_string(scan_t *s)
{
    const unsigned char *copied = s->p++;

    while (s->p < s->end) {
        size_t n = 1;

        if (*s->p == '"') {
            s->p++;
            put(s, copied, (size_t)(s->p - copied));
            return true;
        }
        if (*s->p < 0x20) {
            return fail(s, "a control character in a string");
        }
        if (*s->p == '\\') {
            if (!scan_escape(s, &copied)) {
                return false;
            }
            continue;
        }
        if (*s->p >= 0x80 && (n = sb_utf8_len(s->p, (size_t)(s->end - s->p))) == 0) {
            return fail(s, "not UTF-8");
        }
        s->p += n;
    }
    return fail(s, "a string is not closed");
}

static bool scan_digits(scan_t *s)
{
    const unsigned char *first = s->p;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return s->p > first;
}

static bool scan_number(scan_t *s)
{
    const unsigned char *first = s->p;
    bool good;

    if (*s->p == '-') {
        s->p++;
    }
    if (s->p < s->end && *s->p == '0') {
        s->p++;
        good = true;
    } else {
        good = scan_digits(s);
    }
    if (good && s->p < s->end && *s->p == '.') {
        s->p++;
        good = scan_digits(s);
    }
    if (good && s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) {
            s->p++;
        }
        good = scan_digits(s);
    }
    if (!good) {
        return fail(s, "a malformed number");
    }
    if (s->p - first > SB_JSON_NUMBER_MAX) {
        return fail(s, "a number is too long");
    }
    put(s, first, (size_t)(s->p - first));
    return true;
}

static bool scan_word(scan_t *s, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return fail(s, "a value was expected");
    }
    s->p += n;
    put(s, word, n);
    return true;
}

/* "key": of an object's member */
static bool scan_key(scan_t *s)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"') {
        return fail(s, "a key in quotes was expected");
    }
    if (!scan_string(s)) {
        return false;
    }
    skip_space(s);
    if (s->p == s->end || *s->p != ':') {
        return fail(s, "':' was expected");
    }
    s->p++;
    put_char(s, ':');
    return true;
}

/* '{' or '['; *complete: it was empty and is closed already. */
static bool scan_open(scan_t *s, bool *complete)
{
    unsigned char closer = *s->p == '{' ? '}' : ']';

    if (s->depth == (s->out != NULL ? SB_JSON_DEPTH_MAX : SB_JSON_DEPTH_MAX + 1)) {
        return fail(s, "nested too deeply");
    }
    put_char(s, (char)*s->p++);
    skip_space(s);
    if (s->p < s->end && *s->p == closer) {
        s->p++;
        put_char(s, (char)closer);
        *complete = true;
        return true;
    }
    s->closers[s->depth++] = closer;
    *complete = false;
    return closer == ']' || scan_key(s);
}

static bool scan_value(scan_t *s, bool *complete)
{
    skip_space(s);
    *complete = true;
    if (s->p == s->end) {
        return fail(s, "it ends too early");
    }
    switch (*s->p) {
    case '{':
    case '[':
        return scan_open(s, complete);
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9')) {
            return scan_number(s);
        }
        return fail(s, "a value was expected");
    }
}

/* Behind a complete value: closers and the comma before the next one.  *more: a value follows. */
static bool scan_after(scan_t *s, bool *more)
{
    *more = false;
    while (s->depth > 0) {
        unsigned char closer = s->closers[s->depth - 1];

        skip_space(s);
        if (s->p == s->end) {
            return fail(s, "it ends too early");
        }
        if (*s->p == ',') {
            s->p++;
            put_char(s, ',');
            *more = true;
            return closer == ']' || scan_key(s);
        }
        if (*s->p != closer) {
            return fail(s, closer == ']' ? "',' or ']' was expected" : "',' or '}' was expected");
        }
        s->p++;
        s->depth--;
        put_char(s, (char)closer);
    }
    return true;
}

static bool scan_text(scan_t *s)
{
    bool more = true;

    if (s->end - s->p >= 3 && memcmp(s->p, "\xef\xbb\xbf", 3) == 0) {
        s->p += 3;
    }
    while (more) {
        bool complete;

        if (!scan_value(s, &complete) || (complete && !scan_after(s, &more))) {
            return false;
        }
    }
    skip_space(s);
    return s->p == s->end || fail(s, "something follows the value");
}

static void locate(const scan_t *s, sb_json_error_t *err)
{
    err->what = s->what;
    err->line = err->column = 1;
    for (const unsigned char *p = s->start; p < s->p; p++) {
        err->column++;
        if (*p == '\n') {
            err->line++;
            err->column = 1;
        }
    }
}

bool sb_json_compact(const char *text, size_t len, sb_buf_t *out, sb_json_error_t *err)
{
    scan_t s = {.out = out};

    s.start = s.p = (const unsigned char *)text;
    s.end = s.start + len;
    if (scan_text(&s)) {
        return true;
    }
    locate(&s, err);
    return false;
}

bool sb_json_valid_object(const char *text, size_t len)
{
    scan_t s = {.out = NULL};

    s.start = s.p = (const unsigned char *)text;
    s.end = s.start + len;
    return len > 0 && text[0] == '{' && scan_text(&s);
}
