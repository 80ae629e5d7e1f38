/*
 * uuid7.c - time-ordered ids.
 *
 * 48 bits of milliseconds, 12 bits of counter started at random, 62 random
 * bits.  Touches getrandom(2) and the clock; state is per thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "uuid7.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "buf.h"

#define COUNTER_MAX  0x0fff
#define COUNTER_SEED 0x07ff /* starts in the lower half: at least 2048 ids fit a millisecond */
#define TIME_MASK    0xffffffffffffULL

static const char hex_digits[] = "0123456789abcdef";

/* Without randomness an id could repeat: there is no sensible way on. */
static void random_bytes(unsigned char *out, size_t len)
{
    ssize_t n;

    do {
        n = getrandom(out, len, 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)len)
        abort(); /* up to 256 bytes come whole */
}

void sb_uuid7(char out[SB_UUID_LEN + 1])
{
    static _Thread_local uint64_t last_ms;
    static _Thread_local unsigned counter;
    uint64_t now = (uint64_t)sb_time_now_ms() & TIME_MASK;
    unsigned char id[16];

    random_bytes(id + 6, sizeof(id) - 6);
    if (now > last_ms) {
        last_ms = now;
        counter = (unsigned)(id[6] << 8 | id[7]) & COUNTER_SEED;
    } else if (++counter > COUNTER_MAX) {
        /* same millisecond, or the clock went back: borrow from the future */
        last_ms++;
        counter = (unsigned)(id[6] << 8 | id[7]) & COUNTER_SEED;
    }

    for (int i = 0; i < 6; i++)
        id[i] = (unsigned char)(last_ms >> (40 - 8 * i));
    id[6] = (unsigned char)(0x70 | counter >> 8);
    id[7] = (unsigned char)counter;
    id[8] = (unsigned char)(0x80 | (id[8] & 0x3f));
    sb_uuid_format(id, out);
}

static bool is_dash(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool sb_uuid_parse(const char *s, size_t len, unsigned char out[16])
{
    unsigned char id[16];
    size_t n = 0;

    if (len != SB_UUID_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (is_dash(i)) {
            if (s[i] != '-')
                return false;
            continue;
        }
        int v = hex_value(s[i]);
        if (v < 0)
            return false;
        id[n / 2] = (unsigned char)(n % 2 == 0 ? v << 4 : id[n / 2] | v);
        n++;
    }
    if (out != NULL) {
        for (size_t i = 0; i < sizeof(id); i++)
            out[i] = id[i];
    }
    return true;
}

void sb_uuid_format(const unsigned char in[16], char out[SB_UUID_LEN + 1])
{
    size_t n = 0;

    for (size_t i = 0; i < SB_UUID_LEN; i++) {
        if (is_dash(i)) {
            out[i] = '-';
            continue;
        }
        out[i] = hex_digits[n % 2 == 0 ? in[n / 2] >> 4 : in[n / 2] & 15];
        n++;
    }
    out[SB_UUID_LEN] = '\0';
}
