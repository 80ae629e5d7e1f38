/*
 * units.c - durations and quantities in exact integer arithmetic: a limit that
 * an operator or a skill wrote down must not be rounded by a float.
 *
 * Pure functions over bytes; no allocation, no locale.  Any thread or process.
 */
#include "units.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DAY_NS    (24ULL * 3600 * 1000000000)
#define PIB       (1ULL << 50)
#define CORES_MAX 1024ULL

/* A suffix means: multiply by mul, then divide by div. */
typedef struct {
    const char *suffix;
    uint64_t mul;
    uint64_t div;
} unit_t;

static const unit_t duration_units[] = {
    {"ns", 1, 1},
    {"us", 1000, 1},
    {"\xc2\xb5s", 1000, 1}, /* the two micro signs of Unicode: Go writes the first */
    {"\xce\xbcs", 1000, 1},
    {"ms", 1000000, 1},
    {"s", 1000000000, 1},
    {"m", 60000000000, 1},
    {"h", 3600000000000, 1},
};

static const unit_t memory_units[] = {
    {"", 1, 1},
    {"m", 1, 1000},
    {"k", 1000, 1},
    {"M", 1000000, 1},
    {"G", 1000000000, 1},
    {"T", 1000000000000, 1},
    {"P", 1000000000000000, 1},
    {"Ki", 1ULL << 10, 1},
    {"Mi", 1ULL << 20, 1},
    {"Gi", 1ULL << 30, 1},
    {"Ti", 1ULL << 40, 1},
    {"Pi", 1ULL << 50, 1},
};

/* in thousandths of a core */
static const unit_t cpu_units[] = {
    {"", 1000, 1}, {"n", 1, 1000000}, {"u", 1, 1000}, {"m", 1, 1}, {"k", 1000000, 1},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A decimal number as written: digits before and after the point. */
typedef struct {
    const char *whole;
    size_t whole_len;
    const char *frac;
    size_t frac_len;
} number_t;

static size_t take_digits(const char **p, const char *end)
{
    const char *start = *p;

    while (*p < end && is_digit(**p))
        (*p)++;
    return (size_t)(*p - start);
}

static bool take_number(const char **p, const char *end, number_t *n)
{
    n->whole = *p;
    n->whole_len = take_digits(p, end);
    n->frac = *p;
    n->frac_len = 0;
    if (*p < end && **p == '.') {
        n->frac = ++*p;
        n->frac_len = take_digits(p, end);
    }
    return n->whole_len + n->frac_len != 0;
}

/* number * mul, rounded up; false above max (10 * mul and 10 * max fit 64 bits). */
static bool scale(const number_t *n, uint64_t mul, uint64_t max, uint64_t *out)
{
    uint64_t whole = 0, frac = 0;
    bool rest = false;

    for (size_t i = 0; i < n->whole_len; i++) {
        whole = whole * 10 + (uint64_t)(n->whole[i] - '0');
        if (whole > max / mul)
            return false;
    }
    /* Horner's rule from the last digit; what a division drops can only matter for rounding up. */
    for (size_t i = n->frac_len; i > 0; i--) {
        uint64_t acc = frac + (uint64_t)(n->frac[i - 1] - '0') * mul;
        rest = rest || acc % 10 != 0;
        frac = acc / 10;
    }
    *out = whole * mul + frac + (rest ? 1 : 0);
    return *out <= max;
}

static const unit_t *find_unit(const unit_t *table, size_t n, const char *s, size_t len)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].suffix) == len && memcmp(table[i].suffix, s, len) == 0)
            return &table[i];
    }
    return NULL;
}

#define FIND_UNIT(table, s, len) find_unit(table, sizeof(table) / sizeof((table)[0]), s, len)

static int shown(size_t len)
{
    return len > 64 ? 64 : (int)len;
}

static sb_code_t bad_duration(const char *s, size_t len, sb_err_t *err)
{
    return sb_err_set(err, SB_EINVAL, "\"%.*s\" is not a duration such as 30s, 1m30s or 500ms",
                      shown(len), s);
}

sb_code_t sb_duration_parse(const char *s, size_t len, int64_t *ms, sb_err_t *err)
{
    const char *p = s, *end = s + len;
    uint64_t total = 0;
    bool bare = false;

    if (len == 0)
        return bad_duration(s, len, err);
    while (p < end) {
        const char *suffix, *first = p;
        const unit_t *unit;
        number_t n;
        uint64_t ns;

        if (!take_number(&p, end, &n))
            return bad_duration(s, len, err);
        suffix = p;
        while (p < end && !is_digit(*p) && *p != '.')
            p++;
        unit = FIND_UNIT(duration_units, suffix, (size_t)(p - suffix));
        if (unit == NULL && suffix == end && first == s) {
            bare = true; /* a plain number of seconds */
            unit = FIND_UNIT(duration_units, "s", 1);
        }
        if (unit == NULL)
            return bad_duration(s, len, err);
        if (!scale(&n, unit->mul, DAY_NS, &ns) || total + ns > DAY_NS)
            return sb_err_set(err, SB_EINVAL, "\"%.*s\"%s is longer than 24 hours", shown(len), s,
                              bare ? " seconds" : "");
        total += ns;
    }
    *ms = (int64_t)((total + 999999) / 1000000);
    return SB_OK;
}

/* number with one of the table's suffixes -> rounded up; 1 = fine, 0 = no such form, -1 = above max
 */
static int quantity(const char *s, size_t len, const unit_t *table, size_t nunits, uint64_t max,
                    uint64_t *out)
{
    const char *p = s, *end = s + len;
    const unit_t *unit;
    number_t n;
    uint64_t scaled;

    if (!take_number(&p, end, &n))
        return 0;
    unit = find_unit(table, nunits, p, (size_t)(end - p));
    if (unit == NULL)
        return 0;
    if (!scale(&n, unit->mul, max * unit->div, &scaled))
        return -1;
    *out = scaled / unit->div + (scaled % unit->div != 0 ? 1 : 0);
    return *out <= max ? 1 : -1;
}

sb_code_t sb_memory_parse(const char *s, size_t len, int64_t *bytes, sb_err_t *err)
{
    uint64_t value;

    switch (quantity(s, len, memory_units, sizeof(memory_units) / sizeof(memory_units[0]), PIB,
                     &value)) {
    case 1:
        *bytes = (int64_t)value;
        return SB_OK;
    case -1:
        return sb_err_set(err, SB_EINVAL, "\"%.*s\" is more than 1 PiB of memory", shown(len), s);
    default:
        return sb_err_set(err, SB_EINVAL, "\"%.*s\" is not an amount of memory such as 256Mi or 1G",
                          shown(len), s);
    }
}

sb_code_t sb_cpu_parse(const char *s, size_t len, int32_t *milli, sb_err_t *err)
{
    uint64_t value;

    switch (quantity(s, len, cpu_units, sizeof(cpu_units) / sizeof(cpu_units[0]), CORES_MAX * 1000,
                     &value)) {
    case 1:
        *milli = (int32_t)value;
        return SB_OK;
    case -1:
        return sb_err_set(err, SB_EINVAL, "\"%.*s\" is more than 1024 cores", shown(len), s);
    default:
        return sb_err_set(err, SB_EINVAL, "\"%.*s\" is not a number of cores such as 0.5 or 500m",
                          shown(len), s);
    }
}

void sb_bytes_format(int64_t bytes, char out[32])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    const char *sign = bytes < 0 ? "-" : "";
    uint64_t left = bytes < 0 ? 0 - (uint64_t)bytes : (uint64_t)bytes;
    uint64_t tenths = 0; /* of a unit, 0..10239 */
    int unit = 0;

    if (left < 1024) {
        snprintf(out, 32, "%s%u B", sign, (unsigned)left);
        return;
    }
    for (uint64_t size = 1024; unit == 0 || tenths >= 10240; size *= 1024) {
        unit++;
        tenths = left / size * 10 + (left % size * 10 + size / 2) / size;
        if (unit == 6)
            break;
    }
    if (tenths % 10 == 0)
        snprintf(out, 32, "%s%u %s", sign, (unsigned)(tenths / 10), names[unit]);
    else
        snprintf(out, 32, "%s%u.%u %s", sign, (unsigned)(tenths / 10), (unsigned)(tenths % 10),
                 names[unit]);
}

/* ---- times ---- */

typedef struct {
    const char *at, *end;
    bool ok;
} text_t;

static int digits(text_t *t, int n, int min, int max)
{
    int v = 0;

    for (int i = 0; i < n; i++) {
        if (t->at == t->end || *t->at < '0' || *t->at > '9') {
            t->ok = false;
            return min;
        }
        v = v * 10 + (*t->at++ - '0');
    }
    if (v < min || v > max) {
        t->ok = false;
        return min;
    }
    return v;
}

static bool take_one_of(text_t *t, const char *chars, char *which)
{
    if (t->at == t->end || *t->at == '\0' || strchr(chars, *t->at) == NULL) {
        t->ok = false;
        return false;
    }
    *which = *t->at++;
    return true;
}

/* Days from 1970-01-01 in the Gregorian calendar, year >= 1970. */
static int64_t days_to(int year, int month, int day)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t y = year - 1; /* whole years before this one */
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    int64_t leaps = y / 4 - y / 100 + y / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);

    return (year - 1970) * 365LL + leaps + before[(unsigned)(month - 1) % 12] +
           (leap && month > 2) + day - 1;
}

static bool day_exists(int year, int month, int day)
{
    int next_year = month == 12 ? year + 1 : year, next_month = month == 12 ? 1 : month + 1;

    return days_to(year, month, day) < days_to(next_year, next_month, 1);
}

static int fraction(text_t *t)
{
    int ms = 0, scale = 100;

    if (t->at == t->end || *t->at != '.')
        return 0;
    t->at++;
    if (t->at == t->end || *t->at < '0' || *t->at > '9')
        t->ok = false;
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++, scale /= 10)
        ms += (*t->at - '0') * scale;
    return ms;
}

static int64_t offset_ms(text_t *t)
{
    char sign = 'Z', c;
    int hours, minutes;

    if (!take_one_of(t, "Zz+-", &sign) || sign == 'Z' || sign == 'z')
        return 0;
    hours = digits(t, 2, 0, 23);
    take_one_of(t, ":", &c);
    minutes = digits(t, 2, 0, 59);
    return (sign == '-' ? -1 : 1) * (hours * 60LL + minutes) * 60000;
}

bool sb_time_parse(const char *s, size_t len, int64_t *unix_ms)
{
    text_t t = {s, s + len, true};
    int year, month, day, hour, minute, second;
    int64_t ms;
    char c;

    year = digits(&t, 4, 1970, 9999);
    take_one_of(&t, "-", &c);
    month = digits(&t, 2, 1, 12);
    take_one_of(&t, "-", &c);
    day = digits(&t, 2, 1, 31);
    take_one_of(&t, "Tt ", &c);
    hour = digits(&t, 2, 0, 23);
    take_one_of(&t, ":", &c);
    minute = digits(&t, 2, 0, 59);
    take_one_of(&t, ":", &c);
    second = digits(&t, 2, 0, 60);
    if (!t.ok || !day_exists(year, month, day))
        return false;
    ms = fraction(&t);
    ms += (days_to(year, month, day) * 86400LL + hour * 3600LL + minute * 60LL + second) * 1000;
    ms -= offset_ms(&t);
    if (!t.ok || t.at != t.end || ms < 0)
        return false;
    *unix_ms = ms;
    return true;
}
