/*
 * unicode.c - see unicode.h.
 */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "unicode.h"

static char *map(const char *s, size_t len, unsigned options)
{
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len, &out,
                                      (utf8proc_option_t)options);

    /* valid UTF-8 leaves no other error than a lack of memory */
    return n >= 0 ? (char *)out : NULL;
}

bool sb_is_ascii(const char *s)
{
    while (*s != '\0' && (*s & 0x80) == 0)
        s++;
    return *s == '\0';
}

char *sb_unicode_decomposed(const char *s, size_t len)
{
    return map(s, len, UTF8PROC_DECOMPOSE);
}

char *sb_unicode_visible(const char *s, size_t len)
{
    return map(s, len, UTF8PROC_DECOMPOSE | UTF8PROC_IGNORE);
}

static char *ascii_folded(const char *s)
{
    char *folded = strdup(s);

    for (char *p = folded; p != NULL && *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 0x20;
    return folded;
}

char *sb_unicode_folded(const char *s)
{
    char *visible, *folded;

    if (sb_is_ascii(s))
        return ascii_folded(s);
    /* decomposed first: folding turns one combining character into a letter */
    visible = sb_unicode_visible(s, strlen(s));
    folded = visible != NULL ? map(visible, strlen(visible), UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD)
                             : NULL;
    free(visible);
    return folded;
}
