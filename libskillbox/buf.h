/*
 * buf.h - a growable byte buffer with an upper bound, and JSON text written
 * straight into it.
 *
 * The buffer remembers the first failure (out of memory, over its bound): all
 * later appends are no-ops, so a caller checks sb_buf_ok() once at the end.
 * The data is always followed by a NUL that is not counted.  Not shared
 * between threads.
 */
#ifndef SB_BUF_H
#define SB_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data;  /* malloc'ed, NULL while nothing was appended */
    size_t len;  /* bytes used, without the trailing NUL */
    size_t cap;  /* bytes allocated */
    size_t max;  /* upper bound of len */
    bool failed; /* an append did not fit or could not be allocated */
} sb_buf_t;

#define SB_BUF_INIT(max_)                                                                          \
    {                                                                                              \
        NULL, 0, 0, (max_), false                                                                  \
    }

void sb_buf_init(sb_buf_t *b, size_t max);
void sb_buf_free(sb_buf_t *b);  /* frees the data; the buffer may be used again */
void sb_buf_clear(sb_buf_t *b); /* len = 0, failure forgotten, memory kept */
static inline bool sb_buf_ok(const sb_buf_t *b)
{
    return !b->failed;
}

void sb_buf_add(sb_buf_t *b, const void *data, size_t len);
void sb_buf_str(sb_buf_t *b, const char *s);
void sb_buf_char(sb_buf_t *b, char c);
void sb_buf_fmt(sb_buf_t *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Gives the data away (caller frees with free()); NULL after a failure.  len may be NULL.  The
 * buffer is empty and usable afterwards, failed or not: there is nothing left to free. */
char *sb_buf_steal(sb_buf_t *b, size_t *len);

/*
 * JSON (RFC 8259).  A string is written with its quotes; control characters,
 * quote and backslash are escaped; bytes that are not valid UTF-8 become
 * U+FFFD, one for each maximal ill-formed part (Unicode 3.9, as browsers do).
 */
void sb_json_str(sb_buf_t *b, const char *s, size_t len);
void sb_json_cstr(sb_buf_t *b, const char *s);
/* "key": or ,"key": - the comma comes from what stands before (not after '{', '[' or at start). */
void sb_json_key(sb_buf_t *b, const char *key);
void sb_json_key_str(sb_buf_t *b, const char *key, const char *val); /* nothing when val is NULL */
void sb_json_key_int(sb_buf_t *b, const char *key, int64_t val);
void sb_json_key_bool(sb_buf_t *b, const char *key, bool val);

/* RFC 3339 UTC with milliseconds: "2026-11-20T12:00:00.000Z"; out has SB_TIME_LEN + 1 bytes. */
#define SB_TIME_LEN 24
void sb_time_format(int64_t unix_ms, char out[SB_TIME_LEN + 1]);
int64_t sb_time_now_ms(void); /* CLOCK_REALTIME */

/* Length of the valid UTF-8 sequence at s, 0 when it is ill-formed (RFC 3629). */
size_t sb_utf8_len(const unsigned char *s, size_t avail);
bool sb_utf8_valid(const char *s, size_t len);

#endif
