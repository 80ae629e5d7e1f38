/*
 * import_image.h - image archives: their files are spooled, their digests
 * verified, their layers laid over one another.
 */
#ifndef SB_IMPORT_IMAGE_H
#define SB_IMPORT_IMAGE_H

#include "rootfs.h"

typedef struct {
    int archive, blobs; /* the archive; an empty folder for its files */
    const char *format; /* what it was: "oci" or "docker" */
    int layers;
} import_image_t;

/* Is it an image archive?  1, 0 (then it is a root file system), or -1 with r->why. */
int import_is_image(rootfs_t *r, int archive);

/* Lays its layers into r.  0, or -1 with r->why. */
int import_image(rootfs_t *r, import_image_t *image);

#endif
