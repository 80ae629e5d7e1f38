/*
 * mounts.h - building a mount tree with the new mount API: everything by
 * descriptors, flags set before a mount becomes visible, whole subtrees at once.
 *
 * For a process with CAP_SYS_ADMIN over its mount namespace (template and run).
 * Mount points are only ever made on tmpfs of our own, before anything hostile
 * can be there (bubblewrap CVE-2026-87766: a mount point made through a symlink).
 */
#ifndef SB_MOUNTS_H
#define SB_MOUNTS_H

#include <stdint.h>

#include "sys.h"

/* what every mount of ours has at least */
#define MOUNTS_BASE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

typedef struct {
    uint64_t bytes;
    uint32_t inodes;
    unsigned mode; /* of its root directory, owned by the caller */
    uint64_t attr; /* MOUNT_ATTR_* */
} mounts_tmpfs_t;

/* A detached tmpfs; its descriptor, or -1. */
int mounts_tmpfs(const mounts_tmpfs_t *spec);

/* The same, attached at `at`: the descriptor stays usable as the mount's root, the caller closes
 * it. */
int mounts_tmpfs_at(const mounts_tmpfs_t *spec, const char *at);

/*
 * Binds `from` (an absolute path, symlinks followed) with all that is mounted
 * below it to `to` below to_dirfd; attr is set on the whole subtree (what the host's
 * mounts already forbid stays forbidden).  0 or -1.
 */
int mounts_bind(const char *from, int to_dirfd, const char *to, uint64_t attr);

/* The same of the folder open as from_fd, without what is mounted below it: EINVAL where something
 * is, since a user namespace may not uncover what such a mount hides. */
int mounts_bind_one(int from_fd, int to_dirfd, const char *to, uint64_t attr);

/* Covers `at` with an empty, read-only folder: for inherited mounts, which can't be unmounted. */
int mounts_hide(const char *at);

/*
 * A new procfs for the caller's pid namespace at /proc.  full: processes and
 * what they size themselves by, the rest is covered; else subset=pid.  Read-only: nothing in it
 * is a run's to change (processes write to descriptors through /proc/self/fd all the
 * same).
 */
int mounts_proc(int full);

#endif
