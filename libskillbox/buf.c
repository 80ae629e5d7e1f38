/*
 * buf.c - the bounded growable buffer, JSON text, UTF-8 and time stamps.
 *
 * Promises that a failed buffer stays failed and keeps its data NUL-terminated,
 * and that everything sb_json_*() writes is valid JSON in valid UTF-8.
 * Heap only: no descriptors, no locale; any thread, one thread a buffer.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "buf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUF_FIRST 256 /* first allocation */

void sb_buf_init(sb_buf_t *b, size_t max)
{
    *b = (sb_buf_t)SB_BUF_INIT(max);
}

void sb_buf_free(sb_buf_t *b)
{
    free(b->data);
    sb_buf_init(b, b->max);
}

void sb_buf_clear(sb_buf_t *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

/* Room for extra bytes and the NUL; false (and failed) when that is over the bound. */
static bool reserve(sb_buf_t *b, size_t extra)
{
    size_t need, cap;
    char *data;

    if (b->failed)
        return false;
    if (b->len > b->max || extra > b->max - b->len || b->len + extra == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    need = b->len + extra + 1;
    if (need <= b->cap)
        return true;
    cap = b->cap > SIZE_MAX / 2 ? need : 2 * b->cap;
    if (cap < BUF_FIRST)
        cap = BUF_FIRST;
    if (cap > b->max)
        cap = b->max + 1; /* b->max < SIZE_MAX here, or cap could not be above it */
    if (cap < need)
        cap = need;
    data = realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void sb_buf_add(sb_buf_t *b, const void *data, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len != 0)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void sb_buf_str(sb_buf_t *b, const char *s)
{
    sb_buf_add(b, s, strlen(s));
}

void sb_buf_char(sb_buf_t *b, char c)
{
    sb_buf_add(b, &c, 1);
}

void sb_buf_fmt(sb_buf_t *b, const char *fmt, ...)
{
    char small[128];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return;
    }
    if ((size_t)n < sizeof(small)) {
        sb_buf_add(b, small, (size_t)n);
        return;
    }
    if (!reserve(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

char *sb_buf_steal(sb_buf_t *b, size_t *len)
{
    char *data = NULL;
    size_t n = 0;

    sb_buf_add(b, "", 0); /* an empty buffer too gives away a string */
    if (sb_buf_ok(b)) {
        data = b->data;
        n = b->len;
        b->data = NULL;
    }
    if (len != NULL)
        *len = n;
    sb_buf_free(b);
    return data;
}

/* ---- UTF-8 ---- */

/* The second byte's range depends on the first (Unicode table 3-7): no overlong form, no surrogate.
 */
static size_t utf8_shape(unsigned char first, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef) {
        if (first == 0xe0)
            *lo = 0xa0;
        if (first == 0xed)
            *hi = 0x9f;
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (first == 0xf0)
            *lo = 0x90;
        if (first == 0xf4)
            *hi = 0x8f;
        return 4;
    }
    return 0;
}

/* How many bytes at s are a well-formed sequence or the start of one; *want is its full length, 0 =
 * none. */
static size_t utf8_prefix(const unsigned char *s, size_t avail, size_t *want)
{
    unsigned char lo, hi;
    size_t i;

    *want = 0;
    if (avail == 0)
        return 0;
    *want = utf8_shape(s[0], &lo, &hi);
    if (*want == 0)
        return 0;
    for (i = 1; i < *want && i < avail; i++) {
        if (s[i] < lo || s[i] > hi)
            break;
        lo = 0x80;
        hi = 0xbf;
    }
    return i;
}

size_t sb_utf8_len(const unsigned char *s, size_t avail)
{
    size_t want;
    size_t have = utf8_prefix(s, avail, &want);

    return have == want ? have : 0;
}

bool sb_utf8_valid(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = sb_utf8_len((const unsigned char *)s + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* ---- JSON ---- */

static bool json_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void json_escape(sb_buf_t *b, unsigned char c)
{
    switch (c) {
    case '"':
        sb_buf_add(b, "\\\"", 2);
        break;
    case '\\':
        sb_buf_add(b, "\\\\", 2);
        break;
    case '\b':
        sb_buf_add(b, "\\b", 2);
        break;
    case '\f':
        sb_buf_add(b, "\\f", 2);
        break;
    case '\n':
        sb_buf_add(b, "\\n", 2);
        break;
    case '\r':
        sb_buf_add(b, "\\r", 2);
        break;
    case '\t':
        sb_buf_add(b, "\\t", 2);
        break;
    default:
        sb_buf_fmt(b, "\\u%04x", c);
        break;
    }
}

/* One sequence above ASCII, or U+FFFD for a maximal ill-formed part; returns the bytes taken. */
static size_t json_multibyte(sb_buf_t *b, const unsigned char *s, size_t avail)
{
    size_t want;
    size_t have = utf8_prefix(s, avail, &want);

    if (have != 0 && have == want) {
        sb_buf_add(b, s, have);
        return have;
    }
    sb_buf_add(b, "\xef\xbf\xbd", 3);
    return have != 0 ? have : 1;
}

void sb_json_str(sb_buf_t *b, const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;

    sb_buf_char(b, '"');
    while (i < len && sb_buf_ok(b)) {
        size_t start = i;
        while (i < len && json_plain(p[i]))
            i++;
        if (i != start) {
            sb_buf_add(b, p + start, i - start);
            continue;
        }
        if (p[i] < 0x80)
            json_escape(b, p[i++]);
        else
            i += json_multibyte(b, p + i, len - i);
    }
    sb_buf_char(b, '"');
}

void sb_json_cstr(sb_buf_t *b, const char *s)
{
    sb_json_str(b, s, strlen(s));
}

void sb_json_key(sb_buf_t *b, const char *key)
{
    char last = b->len != 0 ? b->data[b->len - 1] : '{';

    if (last != '{' && last != '[')
        sb_buf_char(b, ',');
    sb_json_cstr(b, key);
    sb_buf_char(b, ':');
}

void sb_json_key_str(sb_buf_t *b, const char *key, const char *val)
{
    if (val == NULL)
        return;
    sb_json_key(b, key);
    sb_json_cstr(b, val);
}

void sb_json_key_int(sb_buf_t *b, const char *key, int64_t val)
{
    sb_json_key(b, key);
    sb_buf_fmt(b, "%" PRId64, val);
}

void sb_json_key_bool(sb_buf_t *b, const char *key, bool val)
{
    sb_json_key(b, key);
    sb_buf_str(b, val ? "true" : "false");
}

/* ---- time ---- */

#define MS_PER_DAY  86400000LL
#define TIME_MIN_MS (-62167219200000LL) /* 0000-01-01T00:00:00.000Z */
#define TIME_MAX_MS 253402300799999LL   /* 9999-12-31T23:59:59.999Z */

/*
 * Day number (0 = 1970-01-01) to a date of the Gregorian calendar.  Done here
 * because gmtime_r() takes the C library's time-zone lock, which a child forked
 * from a threaded process may find held.  Years are counted from 1 March, so
 * that the leap day is the last of its year.
 */
static void date_of_day(int64_t day, int *year, int *month, int *mday)
{
    int64_t n = day + 719468; /* days since 0000-03-01 */
    int64_t era = (n >= 0 ? n : n - 146096) / 146097;
    int64_t in_era = n - era * 146097;
    int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * y + y / 4 - y / 100);
    int64_t march_month = (5 * in_year + 2) / 153;

    *mday = (int)(in_year - (153 * march_month + 2) / 5 + 1);
    *month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
    *year = (int)(y + era * 400 + (*month <= 2 ? 1 : 0));
}

static void put_digits(char *out, int width, int value)
{
    while (width-- > 0) {
        out[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

void sb_time_format(int64_t unix_ms, char out[SB_TIME_LEN + 1])
{
    int64_t day, rest;
    int year, month, mday, ms;

    if (unix_ms < TIME_MIN_MS)
        unix_ms = TIME_MIN_MS;
    if (unix_ms > TIME_MAX_MS)
        unix_ms = TIME_MAX_MS;
    day = unix_ms / MS_PER_DAY;
    rest = unix_ms % MS_PER_DAY;
    if (rest < 0) {
        rest += MS_PER_DAY;
        day--;
    }
    date_of_day(day, &year, &month, &mday);
    ms = (int)rest;

    memcpy(out, "0000-00-00T00:00:00.000Z", SB_TIME_LEN + 1);
    put_digits(out, 4, year);
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, mday);
    put_digits(out + 11, 2, ms / 3600000);
    put_digits(out + 14, 2, ms / 60000 % 60);
    put_digits(out + 17, 2, ms / 1000 % 60);
    put_digits(out + 20, 3, ms % 1000);
}

int64_t sb_time_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
