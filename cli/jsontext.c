/* jsontext.c - see jsontext.h. */
#include "jsontext.h"

#include <string.h>

typedef struct {
    const char *p;
    const char *end;
    int depth;
} scan_t;

static bool skip_value(scan_t *s);

static void skip_blanks(scan_t *s)
{
    while (s->p < s->end && memchr(" \t\r\n", *s->p, 4) != NULL) {
        s->p++;
    }
}

static bool take(scan_t *s, char c)
{
    if (s->p < s->end && *s->p == c) {
        s->p++;
        return true;
    }
    return false;
}

static bool skip_hex4(scan_t *s)
{
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end || *s->p == '\0' || strchr("0123456789abcdefABCDEF", *s->p) == NULL) {
            return false;
        }
    }
    return true;
}

static bool skip_string(scan_t *s)
{
    if (!take(s, '"')) {
        return false;
    }
    while (s->p < s->end && *s->p != '"') {
        size_t n = sb_utf8_len((const unsigned char *)s->p, (size_t)(s->end - s->p));

        if (n == 0 || (unsigned char)*s->p < 0x20) {
            return false;
        }
        if (!take(s, '\\')) {
            s->p += n;
        } else if (take(s, 'u')) {
            if (!skip_hex4(s)) {
                return false;
            }
        } else if (s->p == s->end || *s->p == '\0' || strchr("\"\\/bfnrt", *s->p++) == NULL) {
            return false;
        }
    }
    return take(s, '"');
}

static bool skip_digits(scan_t *s)
{
    const char *from = s->p;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return s->p > from;
}

static bool skip_number(scan_t *s)
{
    take(s, '-');
    if (!take(s, '0') && !skip_digits(s)) {
        return false;
    }
    if (take(s, '.') && !skip_digits(s)) {
        return false;
    }
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+')) {
            take(s, '-');
        }
        return skip_digits(s);
    }
    return true;
}

static bool skip_word(scan_t *s, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return false;
    }
    s->p += n;
    return true;
}

/* Behind the opening bracket. */
static bool skip_members(scan_t *s, char close)
{
    skip_blanks(s);
    if (take(s, close)) {
        return true;
    }
    do {
        skip_blanks(s);
        if (close == '}') {
            if (!skip_string(s)) {
                return false;
            }
            skip_blanks(s);
            if (!take(s, ':')) {
                return false;
            }
        }
        if (!skip_value(s)) {
            return false;
        }
        skip_blanks(s);
    } while (take(s, ','));
    return take(s, close);
}

static bool skip_nested(scan_t *s)
{
    char close = *s->p++ == '{' ? '}' : ']';

    if (++s->depth > SB_JTEXT_DEPTH_MAX || !skip_members(s, close)) {
        return false;
    }
    s->depth--;
    return true;
}

static bool skip_value(scan_t *s)
{
    skip_blanks(s);
    if (s->p == s->end) {
        return false;
    }
    switch (*s->p) {
    case '{':
    case '[':
        return skip_nested(s);
    case '"':
        return skip_string(s);
    case 't':
        return skip_word(s, "true");
    case 'f':
        return skip_word(s, "false");
    case 'n':
        return skip_word(s, "null");
    default:
        return skip_number(s);
    }
}

bool sb_jtext_valid(const char *text, size_t len)
{
    scan_t s = {.p = text, .end = text + len};

    if (!skip_value(&s)) {
        return false;
    }
    skip_blanks(&s);
    return s.p == s.end;
}

bool sb_jtext_member(const char *text, size_t len, const char *name, const char **value,
                     size_t *value_len)
{
    scan_t s = {.p = text, .end = text + len};
    size_t name_len = strlen(name);

    skip_blanks(&s);
    if (!take(&s, '{')) {
        return false;
    }
    do {
        skip_blanks(&s);
        const char *key = s.p;
        if (!skip_string(&s)) {
            return false;
        }
        bool found = (size_t)(s.p - key) == name_len + 2 && memcmp(key + 1, name, name_len) == 0;
        skip_blanks(&s);
        take(&s, ':');
        skip_blanks(&s);
        *value = s.p;
        if (!skip_value(&s)) {
            return false;
        }
        *value_len = (size_t)(s.p - *value);
        if (found) {
            return true;
        }
        skip_blanks(&s);
    } while (take(&s, ','));
    return false;
}

static void new_line(sb_buf_t *out, int depth)
{
    sb_buf_fmt(out, "\n%*s", 2 * depth, "");
}

/* An opening bracket; an empty pair stays together. */
static void indent_open(sb_buf_t *out, scan_t *s)
{
    char open = *s->p++;

    sb_buf_char(out, open);
    skip_blanks(s);
    if (s->p < s->end && *s->p == (open == '{' ? '}' : ']')) {
        sb_buf_char(out, *s->p++);
        return;
    }
    new_line(out, ++s->depth);
}

void sb_jtext_indent(sb_buf_t *out, const char *text, size_t len)
{
    scan_t s = {.p = text, .end = text + len};

    for (skip_blanks(&s); s.p < s.end && sb_buf_ok(out); skip_blanks(&s)) {
        const char *from = s.p;

        switch (*s.p) {
        case '{':
        case '[':
            indent_open(out, &s);
            break;
        case '}':
        case ']':
            new_line(out, --s.depth);
            sb_buf_char(out, *s.p++);
            break;
        case ',':
            sb_buf_char(out, *s.p++);
            new_line(out, s.depth);
            break;
        case ':':
            s.p++;
            sb_buf_str(out, ": ");
            break;
        case '"':
            if (!skip_string(&s)) {
                return;
            }
            sb_buf_add(out, from, (size_t)(s.p - from));
            break;
        default:
            s.p += strcspn(s.p, " \t\r\n,:{}[]\"");
            sb_buf_add(out, from, (size_t)(s.p - from));
            break;
        }
    }
}
