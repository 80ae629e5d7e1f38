/*
 * zipmake.c - see zipmake.h.  Touches memory only.
 */
#include <stdlib.h>
#include <string.h>

#include "zipmake.h"

uint32_t zm_crc32(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

void zm_put16(zm_zip_t *z, size_t at, unsigned v)
{
    z->data[at] = (unsigned char)v;
    z->data[at + 1] = (unsigned char)(v >> 8);
}

void zm_put32(zm_zip_t *z, size_t at, uint32_t v)
{
    zm_put16(z, at, v & 0xffff);
    zm_put16(z, at + 2, v >> 16);
}

/* Room for len more bytes, zeroed; the offset of the first. */
static size_t grow(zm_zip_t *z, size_t len)
{
    size_t at = z->len;
    unsigned char *grown = realloc(z->data, z->len + len + 1);

    if (grown == NULL) {
        abort();
    }
    z->data = grown;
    z->len += len;
    memset(z->data + at, 0, len + 1);
    return at;
}

static void append(zm_zip_t *z, const void *data, size_t len)
{
    size_t at = grow(z, len);

    if (len > 0) {
        memcpy(z->data + at, data, len);
    }
}

static size_t data_len(const zm_entry_t *e)
{
    return e->data != NULL && e->len == 0 ? strlen(e->data) : e->len;
}

static size_t name_len(const zm_entry_t *e)
{
    return e->name_len > 0 ? e->name_len : strlen(e->name);
}

/* What both headers have in common, from the flags on. */
static void put_common(zm_zip_t *z, size_t at, const zm_entry_t *e)
{
    size_t len = data_len(e);

    zm_put16(z, at, e->flags);
    zm_put16(z, at + 2, e->method);
    zm_put32(z, at + 8, zm_crc32(e->data, len));
    zm_put32(z, at + 12, (uint32_t)len);
    zm_put32(z, at + 16, (uint32_t)len);
    zm_put16(z, at + 20, (unsigned)name_len(e));
    zm_put16(z, at + 22, (unsigned)e->extra_len);
}

static void put_local(zm_zip_t *z, const zm_entry_t *e)
{
    size_t at = grow(z, 30);

    zm_put32(z, at, 0x04034b50);
    zm_put16(z, at + 4, 20);
    put_common(z, at + 6, e);
    append(z, e->local_name != NULL ? e->local_name : e->name, name_len(e));
    append(z, e->extra, e->extra_len);
    append(z, e->data, data_len(e));
}

static void put_central(zm_zip_t *z, const zm_entry_t *e, size_t local)
{
    size_t at = grow(z, 46);

    zm_put32(z, at, 0x02014b50);
    zm_put16(z, at + 4, e->mode != 0 ? 3 << 8 | 20 : 20);
    zm_put16(z, at + 6, 20);
    put_common(z, at + 8, e);
    zm_put32(z, at + 38, (uint32_t)e->mode << 16);
    zm_put32(z, at + 42, (uint32_t)local);
    append(z, e->name, name_len(e));
    append(z, e->extra, e->extra_len);
}

static void put_end64(zm_zip_t *z, size_t n, size_t dir, size_t size)
{
    size_t at = grow(z, 56 + 20);

    zm_put32(z, at, 0x06064b50);
    zm_put32(z, at + 4, 44);
    zm_put16(z, at + 12, 45);
    zm_put16(z, at + 14, 45);
    zm_put32(z, at + 24, (uint32_t)n);
    zm_put32(z, at + 32, (uint32_t)n);
    zm_put32(z, at + 40, (uint32_t)size);
    zm_put32(z, at + 48, (uint32_t)dir);
    zm_put32(z, at + 56, 0x07064b50);
    zm_put32(z, at + 64, (uint32_t)at);
    zm_put32(z, at + 72, 1);
}

static void make(zm_zip_t *z, const zm_entry_t *entries, size_t n, int with64)
{
    memset(z, 0, sizeof(*z));
    z->local = calloc(n + 1, sizeof(*z->local));
    z->central = calloc(n + 1, sizeof(*z->central));
    if (z->local == NULL || z->central == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        z->local[i] = z->len;
        put_local(z, &entries[i]);
    }
    size_t dir = z->local[n] = z->len;
    for (size_t i = 0; i < n; i++) {
        z->central[i] = z->len;
        put_central(z, &entries[i], z->local[i]);
    }
    size_t size = z->len - dir;
    if (with64) {
        put_end64(z, n, dir, size);
    }
    z->end = grow(z, 22);
    zm_put32(z, z->end, 0x06054b50);
    zm_put16(z, z->end + 8, with64 ? 0xffff : (unsigned)n);
    zm_put16(z, z->end + 10, with64 ? 0xffff : (unsigned)n);
    zm_put32(z, z->end + 12, with64 ? 0xffffffffu : (uint32_t)size);
    zm_put32(z, z->end + 16, with64 ? 0xffffffffu : (uint32_t)dir);
}

void zm_make(zm_zip_t *z, const zm_entry_t *entries, size_t n)
{
    make(z, entries, n, 0);
}

void zm_make64(zm_zip_t *z, const zm_entry_t *entries, size_t n)
{
    make(z, entries, n, 1);
}

void zm_free(zm_zip_t *z)
{
    free(z->data);
    free(z->local);
    free(z->central);
    memset(z, 0, sizeof(*z));
}
