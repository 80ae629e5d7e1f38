/*
 * fold.c - see fold.h.  Pure.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include "fold.h"

#include <stdint.h>
#include <string.h>

/* The small letter of a character of two UTF-8 bytes. */
static uint32_t fold_char(uint32_t c)
{
    if (c >= 0xc0 && c <= 0xde && c != 0xd7)
        return c + 32; /* Latin-1 */
    if ((c >= 0x100 && c <= 0x137) || (c >= 0x14a && c <= 0x177))
        return c | 1; /* Latin Extended-A: pairs, the capital even */
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
        return c % 2 != 0 ? c + 1 : c; /* there the capital is odd */
    if (c == 0x178)
        return 0xff;
    if (c >= 0x391 && c <= 0x3ab && c != 0x3a2)
        return c + 32; /* Greek */
    if (c >= 0x410 && c <= 0x42f)
        return c + 32; /* Cyrillic */
    if (c >= 0x400 && c <= 0x40f)
        return c + 80;
    return c;
}

/* How many bytes of ASCII s begins with. */
static size_t ascii_len(const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && (unsigned char)s[n] < 0x80)
        n++;
    return n;
}

/* Most text is this: at once, not by the byte. */
static void fold_ascii(sb_buf_t *out, const char *s, size_t len)
{
    size_t from = out->len;

    sb_buf_add(out, s, len);
    for (size_t i = from; i < out->len; i++) {
        char c = out->data[i];
        out->data[i] = (char)(c | (c >= 'A' && c <= 'Z') << 5);
    }
}

void sb_fold(sb_buf_t *out, const char *s, size_t len)
{
    for (size_t at = 0; at < len;) {
        unsigned char c = (unsigned char)s[at];
        size_t n = ascii_len(s + at, len - at);

        if (n > 0) {
            fold_ascii(out, s + at, n);
            at += n;
            continue;
        }
        n = sb_utf8_len((const unsigned char *)s + at, len - at);

        if (n == 2) {
            uint32_t f = fold_char((uint32_t)(c & 0x1f) << 6 | ((unsigned char)s[at + 1] & 0x3f));
            sb_buf_char(out, (char)(0xc0 | f >> 6));
            sb_buf_char(out, (char)(0x80 | (f & 0x3f)));
        } else if (n > 2) {
            sb_buf_add(out, s + at, n);
        } else {
            sb_buf_char(out, (char)c); /* no UTF-8 */
        }
        at += n > 0 ? n : 1;
    }
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool sb_fold_has_words(const char *text, size_t text_len, const char *words, size_t words_len)
{
    for (size_t at = 0; at < words_len;) {
        size_t end = at;

        while (end < words_len && !is_space(words[end]))
            end++;
        if (end > at && memmem(text, text_len, words + at, end - at) == NULL)
            return false;
        at = end + 1;
    }
    return true;
}
