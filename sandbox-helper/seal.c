/*
 * seal.c - see seal.h.  Runs in the confined intake child; opens what it has just
 * unpacked, below the tree's descriptor.
 */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

typedef int (*visit_t)(int fd, mode_t mode);

static int open_in(int tree, const char *path, int flags)
{
    return sys_openat2(tree, path, (uint64_t)(O_RDONLY | O_NOFOLLOW | O_CLOEXEC | flags), 0,
                       SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS);
}

static int visit_path(int tree, const char *path, int flags, mode_t mode, visit_t visit)
{
    int fd = open_in(tree, path, flags);
    int rc, err;

    if (fd < 0) {
        return -1;
    }
    rc = visit(fd, mode);
    err = errno;
    close(fd);
    errno = err;
    return rc;
}

/*
 * The folders on path's way that were not on the way of `before`, the path sorted in
 * front of it: over a sorted list this meets every folder at least once.
 */
static int visit_folders(int tree, const char *path, const char *before, visit_t visit)
{
    char folder[SB_PATH_MAX + 1];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        size_t len = (size_t)(slash - path);

        if (len > SB_PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        if (strncmp(path, before, len + 1) == 0) {
            continue;
        }
        memcpy(folder, path, len);
        folder[len] = '\0';
        if (visit_path(tree, folder, O_DIRECTORY, 0555, visit) != 0) {
            return -1;
        }
    }
    return 0;
}

static int visit_all(int tree, const sb_package_t *pkg, visit_t visit)
{
    const char *before = "";

    for (size_t i = 0; i < pkg->nfiles; i++) {
        const sb_package_file_t *file = &pkg->files[i];

        if (visit_folders(tree, file->path, before, visit) != 0) {
            return -1;
        }
        before = file->path;
        if (file->link != NULL) {
            continue; /* a name in its folder, which is visited */
        }
        if (visit_path(tree, file->path, 0, file->mode & 0100 ? 0555 : 0444, visit) != 0) {
            return -1;
        }
    }
    return visit(tree, 0555);
}

/* Writing begins for all of them before any is waited for. */
static int set_mode(int fd, mode_t mode)
{
    if (fchmod(fd, mode) != 0) {
        return -1;
    }
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a head start, no promise */
    return 0;
}

static int sync_one(int fd, mode_t mode)
{
    return fsync(fd);
}

int seal_tree(int staging, int tree, const sb_package_t *pkg)
{
    if (visit_all(tree, pkg, set_mode) != 0 || visit_all(tree, pkg, sync_one) != 0) {
        return -1;
    }
    return fsync(staging);
}
