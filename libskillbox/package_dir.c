/*
 * package_dir.c - a folder on disk as a package's source (the command line's
 * lint, push and package).
 *
 * Symlinks are read, never followed; fifos, sockets and devices are findings.
 * Opens only what lies below the given descriptor.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "package_build.h"

#define CHUNK 65536

typedef struct {
    sb_source_t source;
    sb_cursor_t *cursor;
} dir_source_t;

typedef struct {
    sb_builder_t *b;
    sb_err_t *err;
    size_t seen, seen_max;
} walk_t;

static sb_code_t walk(walk_t *w, int dir, const char *prefix, int depth);

static void add_fault(walk_t *w, const char *path, const char *code, const char *message)
{
    sb_findings_add(&w->b->p->findings, SB_FINDING_ERROR, code, path, 0, "%s", message);
}

static sb_code_t walk_below(walk_t *w, int dir, const char *name, const char *path, int depth)
{
    if (depth > SB_PACKAGE_DEPTH_MAX) {
        add_fault(w, path, "path-too-deep", "it lies too many folders deep");
        return SB_OK;
    }
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return sb_err_errno(w->err, errno, "opening %s", path);
    }
    return walk(w, fd, path, depth);
}

static sb_code_t walk_entry(walk_t *w, int dir, const char *prefix, const char *name, int depth)
{
    char raw[SB_PATH_MAX + NAME_MAX + 2], path[SB_PATH_MAX + 1];
    struct stat st;

    int n = snprintf(raw, sizeof(raw), "%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", name);
    if (sb_rules_name(w->b, raw, (size_t)n, path) != SB_NAME_KEEP) {
        return SB_OK;
    }
    if (++w->seen > w->seen_max) {
        add_fault(w, "", "too-many-entries", "the folder has far too many entries");
        return SB_ESKILL;
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return sb_err_errno(w->err, errno, "looking at %s", path);
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
        return walk_below(w, dir, name, path, depth + 1);
    case S_IFREG:
    case S_IFLNK:
        return sb_builder_add(w->b, path, (st.st_mode & 0111) != 0 ? 0755 : 0644,
                              S_ISLNK(st.st_mode), NULL, w->err);
    default:
        add_fault(w, path, "special-file", "only files, folders and symlinks are allowed");
        return SB_OK;
    }
}

/* Takes over fd, an open folder.  Recursion is bounded by SB_PACKAGE_DEPTH_MAX. */
static sb_code_t walk(walk_t *w, int fd, const char *prefix, int depth)
{
    sb_code_t rc = SB_OK;
    DIR *d = fdopendir(fd);

    if (d == NULL) {
        rc = sb_err_errno(w->err, errno, "reading the folder %s", prefix);
        close(fd);
        return rc;
    }
    while (rc == SB_OK) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL) {
            rc = errno == 0 ? SB_OK : sb_err_errno(w->err, errno, "reading the folder %s", prefix);
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            rc = walk_entry(w, dirfd(d), prefix, e->d_name, depth);
        }
    }
    closedir(d);
    return rc;
}

static sb_code_t dir_list(const sb_source_t *source, sb_builder_t *b, sb_err_t *err)
{
    const dir_source_t *s = (const dir_source_t *)source;
    walk_t w = {.b = b, .err = err};

    w.seen_max = (size_t)b->limits.entries_max * SB_SEEN_FACTOR;
    /* a descriptor of its own: reading a folder moves its offset */
    int fd = openat(s->cursor->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return sb_err_errno(err, errno, "opening the folder");
    }
    return walk(&w, fd, "", 0);
}

static sb_code_t pour(int fd, const char *path, sb_sink_t *sink, sb_err_t *err)
{
    char chunk[CHUNK];

    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return sb_err_errno(err, errno, "reading %s", path);
        }
        sb_code_t rc = n > 0 ? sb_sink_write(sink, chunk, (size_t)n, err) : SB_OK;
        if (rc != SB_OK || n == 0) {
            return rc;
        }
    }
}

static sb_code_t dir_content(const sb_source_t *source, const sb_entry_t *e, sb_sink_t *sink,
                             sb_err_t *err)
{
    const dir_source_t *s = (const dir_source_t *)source;
    char target[SB_PATH_MAX + 2];
    int fd;
    sb_code_t rc;

    if (e->is_link) {
        rc = sb_fs_readlink(s->cursor, e->file.path, target, err);
        return rc == SB_OK ? sb_sink_write(sink, target, strlen(target), err) : rc;
    }
    rc = sb_fs_open(s->cursor, e->file.path, &fd, err);
    if (rc == SB_OK) {
        rc = pour(fd, e->file.path, sink, err);
        close(fd);
    }
    return rc;
}

sb_code_t sb_package_scan_dir(int dirfd, const sb_package_limits_t *limits, sb_package_t *p,
                              sb_err_t *err)
{
    sb_cursor_t cursor;
    const dir_source_t source = {{dir_list, dir_content}, &cursor};

    sb_cursor_init(&cursor, dirfd);
    sb_code_t rc = sb_build(&source.source, limits, 0, -1, p, err);
    sb_cursor_close(&cursor);
    return rc;
}
