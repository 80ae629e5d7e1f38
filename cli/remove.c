/*
 * remove.c - see remove.h.  As root it works in folders that belong to service
 * users: everything goes by descriptors opened without following links.
 */
#include "remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64 /* a package may be SB_PACKAGE_DEPTH_MAX deep, a few folders above it */

static sb_code_t remove_content(int fd, int depth, sb_err_t *err);

static sb_code_t remove_folder(int parent, const char *name, int depth, sb_err_t *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    sb_code_t code;

    if (fd < 0) {
        return sb_err_errno(err, errno, "can't remove %s", name);
    }
    code = remove_content(fd, depth, err);
    close(fd);
    if (code == SB_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0) {
        code = sb_err_errno(err, errno, "can't remove %s", name);
    }
    return code;
}

static sb_code_t remove_entry(int parent, const char *name, int depth, sb_err_t *err)
{
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return sb_err_errno(err, errno, "can't remove %s", name);
    }
    if (S_ISDIR(st.st_mode)) {
        return remove_folder(parent, name, depth, err);
    }
    return unlinkat(parent, name, 0) == 0 ? SB_OK
                                          : sb_err_errno(err, errno, "can't remove %s", name);
}

/* The descriptor stays the caller's. */
static sb_code_t remove_content(int fd, int depth, sb_err_t *err)
{
    sb_code_t code = SB_OK;
    struct dirent *e;
    int copy;

    if (depth > DEPTH_MAX) {
        return sb_err_set(err, SB_EINVAL, "can't remove folders nested more than %d deep",
                          DEPTH_MAX);
    }
    fchmod(fd, 0700); /* where that fails removing fails, too, and says so */
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL) {
        code = sb_err_errno(err, errno, "can't read a folder");
        if (copy >= 0) {
            close(copy);
        }
        return code;
    }
    while (code == SB_OK && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            code = remove_entry(fd, e->d_name, depth + 1, err);
        }
    }
    closedir(d);
    return code;
}

sb_code_t sb_state_remove(const char *dir, sb_err_t *err)
{
    return remove_folder(AT_FDCWD, dir, 0, err);
}
