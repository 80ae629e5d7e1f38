/*
 * package.h - a skill package as a zip (libarchive) or a folder: the rules of
 * the contract's 2.2, unpacking below a directory descriptor, and the digest.
 *
 * Hostile input is expected; every loop is bounded by limits.h.  Unpacking
 * writes only below dirfd, each component of a path opened with O_NOFOLLOW, each
 * file created with O_EXCL, symlinks made last, and never sets setuid, setgid or
 * sticky bits.  System calls it needs: openat, mkdirat, fchmod, write, symlinkat, close (and
 * for a folder: fstat, newfstatat, getdents64, read, readlinkat).
 * Runs in the confined intake child, in the CLI (lint, package) and in tests.
 */
#ifndef SB_PACKAGE_H
#define SB_PACKAGE_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "err.h"
#include "manifest.h"

typedef struct {
    char *path;       /* relative, top folder stripped, junk dropped */
    int64_t size;     /* bytes; of a symlink: of its target's name */
    unsigned mode;    /* 0644 or 0755 */
    char *link;       /* symlink target when it is one (stays inside the package), else NULL */
    const char *lang; /* static; by extension, or by shebang for 0755 files without one */
    unsigned char sha256[32]; /* of the content; of a symlink: of its target's name */
} sb_package_file_t;

/*
 * The digest is the SHA-256, as 64 lower-case hex digits, of
 *   "skillbox-tree-1\n"
 *   and for every file and symlink, sorted by the bytes of its path:
 *   "0644" | "0755" | "link", a space, the path, a NUL byte, 32 bytes of SHA-256
 * over what the package is once junk, .git, empty folders and one common top folder are gone.
 * So a folder, its zip, and the zip made again by another tool have the same one.
 */

typedef struct {
    sb_package_file_t *files; /* sorted by path, bytewise */
    size_t nfiles;
    int64_t total;   /* bytes unpacked */
    char digest[65]; /* see below; "" when the package is refused */
    sb_manifest_t manifest;
    sb_findings_t findings; /* of the rules */
    sb_findings_t security; /* of the scan, where there was one (scan.h) */
} sb_package_t;

void sb_package_free(sb_package_t *p);

typedef struct {
    int64_t unpacked_max; /* 0 = SB_PACKAGE_UNPACKED_MAX */
    int entries_max;      /* 0 = SB_PACKAGE_ENTRIES_MAX */
    sb_manifest_limits_t manifest;
} sb_package_limits_t;

/*
 * Reads a zip in memory, checks it and unpacks it below dirfd (an empty
 * directory; directories 0755, files 0644/0755: the caller makes them read-only
 * and syncs).  Findings collect everything that is wrong, not only the first.
 * SB_ESKILL: refused; what was unpacked so far is left for the caller to remove.
 * SB_ETOOLARGE: over a size limit.  dirfd < 0: check only, write nothing.
 */
sb_code_t sb_package_unpack(const void *zip, size_t len, int dirfd,
                            const sb_package_limits_t *limits, sb_package_t *p, sb_err_t *err);

/* The same rules for a folder on disk (CLI): nothing is copied, no top folder is stripped. */
sb_code_t sb_package_scan_dir(int dirfd, const sb_package_limits_t *limits, sb_package_t *p,
                              sb_err_t *err);

/* Writes the folder's accepted files as a zip to fd: sorted, deterministic times, exec bits kept.
 * p comes from sb_package_scan_dir of the same dirfd. */
sb_code_t sb_package_write_zip(int dirfd, const sb_package_t *p, int fd, sb_err_t *err);

/*
 * The answer of `intake` (protocol.h): {"digest","manifest","scripts":[{"path","lang"}],
 * "files":[{"path","size_bytes"}],"size_bytes","findings","security"?}; new reference, NULL out of
 * memory.
 */
json_t *sb_package_to_json(const sb_package_t *p);

#endif
