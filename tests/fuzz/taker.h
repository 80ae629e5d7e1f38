/*
 * taker.h - a fuzz input as a sequence of numbers and byte strings; beyond its end
 * everything is 0 or empty.
 */
#ifndef TAKER_H
#define TAKER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *data;
    size_t left;
} taker_t;

static inline uint64_t take_number(taker_t *t, int bytes)
{
    uint64_t n = 0;

    for (int i = 0; i < bytes && t->left > 0; i++, t->left--) {
        n = n << 8 | *t->data++;
    }
    return n;
}

/* A length byte and that many bytes, as far as there are any. */
static inline const uint8_t *take_bytes(taker_t *t, size_t *len)
{
    size_t n = (size_t)take_number(t, 1);
    const uint8_t *taken = t->data;

    *len = n < t->left ? n : t->left;
    t->data += *len;
    t->left -= *len;
    return taken;
}

#endif
