/*
 * zip_make.h - a small zip of stored (uncompressed) files in memory.
 *
 * For packages that are made of fields: names and contents are the caller's, no
 * time is in it, the same files give the same bytes.  Pure; any thread.
 */
#ifndef SB_ZIP_MAKE_H
#define SB_ZIP_MAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

typedef struct {
    const char *name; /* a path inside the zip */
    const void *data;
    size_t len;
    bool executable; /* 0755 instead of 0644 */
} sb_zip_file_t;

/* Appends the zip to out; sb_buf_ok(out) tells whether all of it fit.  At most 65,535 files of less
 * than 4 GiB together. */
void sb_zip_make(const sb_zip_file_t *files, size_t n, sb_buf_t *out);

#endif
