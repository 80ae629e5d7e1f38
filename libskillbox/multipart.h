/*
 * multipart.h - finds the part named "file" in a multipart/form-data body
 * (RFC 7578, RFC 2046 5.1.1) that lies in memory.  Bounded: at most 64 parts,
 * 8 KiB of headers a part, 70 characters of boundary.  No allocation.
 * Packages are taken apart in the intake child only; kept files, of which nothing but
 * this framing is read, in a thread of a worker.
 */
#ifndef SB_MULTIPART_H
#define SB_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* Is it multipart/form-data at all (by media type, parameters ignored, case-insensitive)? */
int sb_multipart_is(const char *content_type);

/* *data, *len: the content of the first part with `name="file"`; points into body.
 * SB_EINVAL: no or bad boundary, malformed part, no such part, missing end. */
sb_code_t sb_multipart_file(const char *content_type, const unsigned char *body, size_t body_len,
                            const unsigned char **data, size_t *len, sb_err_t *err);

#define SB_MULTIPART_NAME_MAX 255
#define SB_MULTIPART_TYPE_MAX 127

typedef struct {
    const unsigned char *data; /* of the first part named "file"; points into body */
    size_t len;
    char filename[SB_MULTIPART_NAME_MAX + 1]; /* as it was sent; "": none, or too long */
    char type[SB_MULTIPART_TYPE_MAX + 1];     /* its Content-Type; "": none, or too long */
    bool has_name;
    char name[SB_MULTIPART_NAME_MAX + 1]; /* content of the part named "name"; "": too long */
} sb_multipart_form_t;

/* The same, to the body's end, with what is said about the file.  Strings are bytes as they came.
 */
sb_code_t sb_multipart_form(const char *content_type, const unsigned char *body, size_t body_len,
                            sb_multipart_form_t *form, sb_err_t *err);

#endif
