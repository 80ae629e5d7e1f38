/*
 * jsontext.h - checks JSON text, and copies it without insignificant white space.
 *
 * A tree is never built: 8 MiB of "[[],[],..." would become gigabytes of nodes,
 * and a tree loses what it can't hold.  Here key order, duplicate keys and numbers
 * of any size stay as the script wrote them, memory is the text's own size, and
 * time is one pass.
 */
#ifndef SB_JSONTEXT_H
#define SB_JSONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define SB_JSON_DEPTH_MAX  256
#define SB_JSON_NUMBER_MAX 1024 /* characters of one number */

typedef struct {
    size_t line, column; /* 1-based, in bytes */
    const char *what;    /* static text */
} sb_json_error_t;

/*
 * One value of RFC 8259, of any type, with white space around it and a byte order
 * mark before it tolerated.  Escapes of lone surrogates become \ufffd: many readers
 * refuse a whole text for one of them.  false: *err says where and why, out is
 * partly written.  Growth of out is checked by the caller (sb_buf_ok).
 */
bool sb_json_compact(const char *text, size_t len, sb_buf_t *out, sb_json_error_t *err);

/*
 * Is it one object of RFC 8259, without an escape of a lone surrogate?  For what a peer says is
 * one: a text from sb_json_compact() may be a member of it.
 */
bool sb_json_valid_object(const char *text, size_t len);

#endif
