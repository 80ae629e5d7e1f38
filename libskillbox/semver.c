/*
 * semver.c - semantic versions, without converting a number: components may be
 * longer than any integer type.
 *
 * Pure functions over bytes; no allocation.  Any thread or process.
 */
#include "semver.h"

#include <string.h>

#include "limits.h"

/* A run of characters inside a version. */
typedef struct {
    const char *s;
    size_t len;
} span_t;

typedef struct {
    span_t num[3]; /* missing ones are "0" */
    span_t pre;    /* empty when there is none */
    span_t build;
} version_t;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_ident(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

static bool all_digits(span_t v)
{
    for (size_t i = 0; i < v.len; i++) {
        if (!is_digit(v.s[i]))
            return false;
    }
    return v.len != 0;
}

/* Digits without a leading zero, from *p; false when there are none. */
static bool take_number(const char **p, const char *end, span_t *out)
{
    const char *start = *p;

    while (*p < end && is_digit(**p))
        (*p)++;
    *out = (span_t){start, (size_t)(*p - start)};
    return out->len == 1 || (out->len > 1 && *start != '0');
}

/* Dot-separated identifiers up to `stop` or the end; numeric ones without leading zero when strict.
 */
static bool take_idents(const char **p, const char *end, char stop, bool strict, span_t *out)
{
    const char *start = *p, *id = *p;

    for (;; (*p)++) {
        bool at_end = *p == end || **p == stop;
        if (!at_end && **p != '.') {
            if (!is_ident(**p))
                return false;
            continue;
        }
        span_t one = {id, (size_t)(*p - id)};
        if (one.len == 0 || (strict && one.len > 1 && one.s[0] == '0' && all_digits(one)))
            return false;
        if (at_end)
            break;
        id = *p + 1;
    }
    *out = (span_t){start, (size_t)(*p - start)};
    return true;
}

static bool parse(const char *s, size_t len, version_t *v)
{
    const char *p = s, *end = s + len;
    int n = 0;

    if (len == 0 || len > SB_VERSION_MAX)
        return false;
    for (int i = 0; i < 3; i++)
        v->num[i] = (span_t){"0", 1};
    v->pre = v->build = (span_t){"", 0};

    do {
        if (!take_number(&p, end, &v->num[n++]))
            return false;
    } while (n < 3 && p < end && *p == '.' && p++);

    if (p < end && *p == '-') {
        p++;
        if (!take_idents(&p, end, '+', true, &v->pre))
            return false;
    }
    if (p < end && *p == '+') {
        p++;
        if (!take_idents(&p, end, '\0', false, &v->build))
            return false;
    }
    return p == end;
}

bool sb_semver_valid(const char *s, size_t len)
{
    version_t v;

    return parse(s, len, &v);
}

static int cmp_number(span_t a, span_t b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return memcmp(a.s, b.s, a.len);
}

static int cmp_ident(span_t a, span_t b)
{
    bool na = all_digits(a), nb = all_digits(b);
    size_t n = a.len < b.len ? a.len : b.len;
    int c;

    if (na && nb)
        return cmp_number(a, b);
    if (na != nb)
        return na ? -1 : 1; /* numbers before words */
    c = memcmp(a.s, b.s, n);
    if (c != 0)
        return c;
    return (a.len > b.len) - (a.len < b.len);
}

static span_t pop_ident(span_t *list)
{
    const char *dot = memchr(list->s, '.', list->len);
    span_t first = {list->s, dot != NULL ? (size_t)(dot - list->s) : list->len};
    size_t used = first.len + (dot != NULL ? 1 : 0);

    list->s += used;
    list->len -= used;
    return first;
}

static int cmp_pre(span_t a, span_t b)
{
    if (a.len == 0 || b.len == 0)
        return (a.len == 0) - (b.len == 0); /* a release is above its pre-releases */
    while (a.len != 0 && b.len != 0) {
        int c = cmp_ident(pop_ident(&a), pop_ident(&b));
        if (c != 0)
            return c;
    }
    return (a.len != 0) - (b.len != 0);
}

int sb_semver_cmp(const char *a, const char *b)
{
    version_t va, vb;
    int c;

    if (!parse(a, strlen(a), &va) || !parse(b, strlen(b), &vb))
        return strcmp(a, b); /* against the contract; still an order */
    for (int i = 0; i < 3; i++) {
        c = cmp_number(va.num[i], vb.num[i]);
        if (c != 0)
            return c;
    }
    c = cmp_pre(va.pre, vb.pre);
    return c != 0 ? c : strcmp(a, b);
}

int sb_semver_cmp_latest(const char *a, const char *b)
{
    version_t va, vb;

    if (parse(a, strlen(a), &va) && parse(b, strlen(b), &vb) &&
        (va.pre.len == 0) != (vb.pre.len == 0))
        return (va.pre.len == 0) - (vb.pre.len == 0);
    return sb_semver_cmp(a, b);
}

bool sb_semver_next_patch(const char *s, char *out, size_t outlen)
{
    char patch[SB_VERSION_MAX + 2];
    version_t v;
    size_t n, len, i;

    if (!parse(s, strlen(s), &v))
        return false;

    /* patch + 1 in decimal, one digit of room in front for the carry */
    n = v.num[2].len;
    patch[0] = '0';
    memcpy(patch + 1, v.num[2].s, n);
    for (i = n; patch[i] == '9'; i--)
        patch[i] = '0';
    patch[i]++;
    span_t next = patch[0] == '0' ? (span_t){patch + 1, n} : (span_t){patch, n + 1};

    len = v.num[0].len + 1 + v.num[1].len + 1 + next.len;
    if (len > SB_VERSION_MAX || len >= outlen)
        return false;
    memcpy(out, v.num[0].s, v.num[0].len);
    out += v.num[0].len;
    *out++ = '.';
    memcpy(out, v.num[1].s, v.num[1].len);
    out += v.num[1].len;
    *out++ = '.';
    memcpy(out, next.s, next.len);
    out[next.len] = '\0';
    return true;
}
