/*
 * zip_make.c - see zip_make.h.  The format is PKWARE's APPNOTE 4.3: a local header
 * before each file, the central directory behind all, its end.
 */
#include "zip_make.h"

#include <stdint.h>
#include <string.h>

#define LOCAL_MAGIC   0x04034b50u
#define CENTRAL_MAGIC 0x02014b50u
#define END_MAGIC     0x06054b50u
#define MADE_BY_UNIX  (3u << 8 | 20)
#define NEEDS         10 /* version 1.0: stored files */
#define UTF8_NAMES    0x0800u
#define DOS_DAY       0x21u /* 1980-01-01, the format's first */

static uint32_t crc32_of(const unsigned char *p, size_t len)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static void put(sb_buf_t *out, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        sb_buf_char(out, (char)(value >> 8 * i));
}

/* What local header and directory have in common: from flags to the name's length. */
static void put_common(sb_buf_t *out, const sb_zip_file_t *f, uint32_t crc)
{
    put(out, UTF8_NAMES, 2);
    put(out, 0, 2); /* stored */
    put(out, 0, 2);
    put(out, DOS_DAY, 2);
    put(out, crc, 4);
    put(out, (uint32_t)f->len, 4);
    put(out, (uint32_t)f->len, 4);
    put(out, (uint32_t)strlen(f->name), 2);
    put(out, 0, 2); /* no extra field */
}

static void put_central(sb_buf_t *out, const sb_zip_file_t *f, uint32_t crc, uint32_t at)
{
    put(out, CENTRAL_MAGIC, 4);
    put(out, MADE_BY_UNIX, 2);
    put(out, NEEDS, 2);
    put_common(out, f, crc);
    put(out, 0, 2); /* no comment */
    put(out, 0, 2); /* first disk */
    put(out, 0, 2);
    put(out, (f->executable ? 0100755u : 0100644u) << 16, 4);
    put(out, at, 4);
    sb_buf_str(out, f->name);
}

void sb_zip_make(const sb_zip_file_t *files, size_t n, sb_buf_t *out)
{
    size_t start = out->len;
    sb_buf_t directory = SB_BUF_INIT(out->max);

    for (size_t i = 0; i < n; i++) {
        uint32_t crc = crc32_of(files[i].data, files[i].len);

        put_central(&directory, &files[i], crc, (uint32_t)(out->len - start));
        put(out, LOCAL_MAGIC, 4);
        put(out, NEEDS, 2);
        put_common(out, &files[i], crc);
        sb_buf_str(out, files[i].name);
        sb_buf_add(out, files[i].data, files[i].len);
    }
    uint32_t at = (uint32_t)(out->len - start);
    if (sb_buf_ok(&directory))
        sb_buf_add(out, directory.data, directory.len);
    else
        out->failed = true;
    put(out, END_MAGIC, 4);
    put(out, 0, 4); /* this disk, the directory's disk */
    put(out, (uint32_t)n, 2);
    put(out, (uint32_t)n, 2);
    put(out, (uint32_t)directory.len, 4);
    put(out, at, 4);
    put(out, 0, 2); /* no comment */
    sb_buf_free(&directory);
}
