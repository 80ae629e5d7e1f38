/*
 * layer.h - a tar archive (plain, or compressed by gzip, bzip2, xz or zstd) read by
 * libarchive and laid out by rootfs.h.
 */
#ifndef SB_LAYER_H
#define SB_LAYER_H

#include <archive.h>

#include "rootfs.h"

enum layer_pass {
    LAYER_ALONE,     /* a root file system in one archive: no name means more than it says */
    LAYER_WHITEOUTS, /* of several layers: what this one takes away from those below */
    LAYER_CONTENT,   /* then what it brings */
};

/* A reader at the descriptor's beginning; NULL with r->why.  raw: one entry, the bytes
 * uncompressed.
 */
struct archive *layer_open(rootfs_t *r, int fd, bool raw);

/*
 * The next entry, within what r allows to be read: 1; 0 at the end; -1 with r->why.
 * Its name, which is the reader's, in *name.
 */
int layer_next(rootfs_t *r, struct archive *a, struct archive_entry **entry, const char **name);

/* All entries of the archive at fd, in one pass.  0, or -1 with r->why. */
int layer_apply(rootfs_t *r, int fd, enum layer_pass pass);

#endif
