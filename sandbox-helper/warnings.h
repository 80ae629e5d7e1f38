/*
 * warnings.h - what a run's owner should know about its results: a bounded list
 * of sentences, kept as the JSON array's elements they will become.
 */
#ifndef SB_WARNINGS_H
#define SB_WARNINGS_H

#include "../libskillbox/buf.h"

#define WARNINGS_MAX      32 /* sentences kept; the rest is counted */
#define WARNING_BYTES_MAX 1024

typedef struct {
    sb_buf_t json; /* "text","text" */
    unsigned kept;
    unsigned long left_out;
} warnings_t;

void warnings_init(warnings_t *w);
void warnings_add(warnings_t *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends ,"warnings":[...] to b; nothing when there are none. */
void warnings_to_json(const warnings_t *w, sb_buf_t *b);

/*
 * A file's name for a message: at most 200 bytes of it; sb_json_str() makes the
 * rest harmless.  static storage, one use at a time.
 */
const char *warnings_name(const char *name);

#endif
