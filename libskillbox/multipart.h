/*
 * multipart.h - finds the part named "file" in a multipart/form-data body
 * (RFC 7578, RFC 2046 5.1.1) that lies in memory.  Bounded: at most 64 parts,
 * 8 KiB of headers a part, 70 characters of boundary.  No allocation.
 * Runs in the intake child only.
 */
#ifndef SB_MULTIPART_H
#define SB_MULTIPART_H

#include <stddef.h>

#include "err.h"

/* Is it multipart/form-data at all (by media type, parameters ignored, case-insensitive)? */
int sb_multipart_is(const char *content_type);

/* *data, *len: the content of the first part with `name="file"`; points into body.
 * SB_EINVAL: no or bad boundary, malformed part, no such part, missing end. */
sb_code_t sb_multipart_file(const char *content_type, const unsigned char *body, size_t body_len,
                            const unsigned char **data, size_t *len, sb_err_t *err);

#endif
