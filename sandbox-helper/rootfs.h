/*
 * rootfs.h - making a root file system below one descriptor, from entries that
 * somebody hostile may have chosen.
 *
 * Nothing is ever made, changed or followed outside the tree: a name is checked, its
 * folder is looked up by openat2(RESOLVE_IN_ROOT), so links in it mean what they
 * would mean to a process whose root the tree is, and the last component is never followed.
 * Everything belongs to the caller; set-user-id, set-group-id and sticky bits and the
 * right of others to write are dropped.  There are no device nodes.
 *
 * System calls it needs: openat2, openat, mkdirat, symlinkat, linkat, unlinkat, renameat2,
 * newfstatat, fchmod, utimensat, getdents64, pwrite64, ftruncate, close.
 */
#ifndef SB_ROOTFS_H
#define SB_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define ROOTFS_PATH_MAX  4000 /* bytes of an entry's name */
#define ROOTFS_DEPTH_MAX 100  /* folders on its way */
#define ROOTFS_WHY_MAX   300

typedef struct {
    int tree;  /* what becomes the root */
    int trash; /* a folder beside it: what a later layer replaces is moved there */
    uint64_t bytes_max, entries_max;
    uint64_t bytes, entries;  /* made so far, also what was replaced since */
    uint64_t left_out;        /* device nodes and other things that are no files */
    uint64_t moved;           /* makes names in the trash */
    char why[ROOTFS_WHY_MAX]; /* after a failure: a sentence that names the entry */
} rootfs_t;

/*
 * Each returns 0, or -1 with r->why.  Names are as an archive has them ("./usr/bin/x"); a name that
 * is absolute, empty, too long or deep, or has ".." in it, is refused.
 */
int rootfs_folder(rootfs_t *r, const char *name, mode_t mode);
/* A regular file, in three calls.  The descriptor is the caller's between them. */
int rootfs_file_begin(rootfs_t *r, const char *name, int64_t size, int *fd);
int rootfs_file_write(rootfs_t *r, const char *name, int fd, const void *data, size_t len,
                      int64_t offset, int64_t size);
int rootfs_file_end(rootfs_t *r, const char *name, int fd, mode_t mode, int64_t size, time_t mtime);
int rootfs_symlink(rootfs_t *r, const char *name, const char *target, time_t mtime);
int rootfs_hardlink(rootfs_t *r, const char *name, const char *target);
/* Something that is no file, folder or link. */
int rootfs_leave_out(rootfs_t *r, const char *name);

/* Whiteouts of a layer: an entry goes; all that is in a folder goes.  What is not there is fine. */
int rootfs_remove(rootfs_t *r, const char *name);
int rootfs_empty(rootfs_t *r, const char *name);

/* Fails with a sentence about `name` (shown as printable ASCII); always -1. */
int rootfs_fail(rootfs_t *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
