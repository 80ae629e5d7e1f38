/*
 * gzip.h - a gzip stream (RFC 1952) into a descriptor, made for results that somebody waits for:
 * level 1, and bytes that deflate could not make fewer are stored.  No time and no name in it: the
 * same bytes in the same pieces give the same stream.
 */
#ifndef SB_GZIP_H
#define SB_GZIP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gzip_s gzip_t;

/* NULL: out of memory.  fd stays the caller's.  Freed by gzip_free(). */
gzip_t *gzip_open(int fd);

/* False: errno says why nothing more can be written.  What is stored is decided for each call: some
 * 64 KiB at a time, 1 MiB at most. */
bool gzip_write(gzip_t *g, const void *data, size_t len);

/* Ends the stream and writes what is left of it.  False: as above. */
bool gzip_end(gzip_t *g);

/* NULL is fine. */
void gzip_free(gzip_t *g);

#endif
