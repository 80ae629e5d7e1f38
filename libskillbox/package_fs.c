/*
 * package_fs.c - opening, creating and linking below a directory descriptor.
 *
 * Every path is walked one component at a time with O_NOFOLLOW, from names that
 * passed sb_path_valid (no "..", no "/" first).  So nothing outside is reached
 * and no symlink is followed, by the same code on every kernel and under every
 * seccomp filter: what openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) would
 * give, without a fallback that is never exercised.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "package_build.h"

void sb_cursor_init(sb_cursor_t *c, int root)
{
    c->root = root;
    c->dir = -1;
    c->dir_path[0] = '\0';
}

void sb_cursor_close(sb_cursor_t *c)
{
    if (c->dir >= 0) {
        close(c->dir);
    }
    c->dir = -1;
    c->dir_path[0] = '\0';
}

/* Opens one folder below dir, making it first when asked to; -1 with errno. */
static int step(int dir, const char *name, bool make)
{
    bool made = make && mkdirat(dir, name, 0755) == 0;

    if (make && !made && errno != EEXIST) {
        return -1;
    }
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && made && fchmod(fd, 0755) != 0) { /* whatever the umask */
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* The folder of path as a descriptor that the cursor owns, and the name in it; -1 with errno. */
static int parent(sb_cursor_t *c, const char *path, bool make, const char **name)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL) {
        *name = path;
        return c->root;
    }
    *name = slash + 1;
    size_t len = (size_t)(slash - path);
    if (c->dir >= 0 && strncmp(c->dir_path, path, len) == 0 && c->dir_path[len] == '\0') {
        return c->dir;
    }
    sb_cursor_close(c);

    char walked[SB_PATH_MAX + 1];
    int dir = c->root;
    memcpy(walked, path, len);
    walked[len] = '\0';
    for (char *rest = walked, *part; (part = strsep(&rest, "/")) != NULL;) {
        int next = step(dir, part, make);
        int saved = errno;
        if (dir != c->root) {
            close(dir);
        }
        if (next < 0) {
            errno = saved;
            return -1;
        }
        dir = next;
    }
    c->dir = dir;
    memcpy(c->dir_path, path, len);
    c->dir_path[len] = '\0';
    return dir;
}

sb_code_t sb_fs_create(sb_cursor_t *c, const char *path, int *fd, sb_err_t *err)
{
    const char *name;
    int dir = parent(c, path, true, &name);

    *fd = dir < 0 ? -1
                  : openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *fd >= 0 ? SB_OK : sb_err_errno(err, errno, "creating %s", path);
}

sb_code_t sb_fs_symlink(sb_cursor_t *c, const char *path, const char *target, sb_err_t *err)
{
    const char *name;
    int dir = parent(c, path, true, &name);

    if (dir < 0 || symlinkat(target, dir, name) != 0) {
        return sb_err_errno(err, errno, "creating the symlink %s", path);
    }
    return SB_OK;
}

sb_code_t sb_fs_open(sb_cursor_t *c, const char *path, int *fd, sb_err_t *err)
{
    const char *name;
    struct stat st;
    int dir = parent(c, path, false, &name);

    /* O_NONBLOCK: a fifo that was put there meanwhile must not hold us */
    *fd =
        dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (*fd < 0) {
        return sb_err_errno(err, errno, "opening %s", path);
    }
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        *fd = -1;
        return sb_err_set(err, SB_EINVAL, "%s is no regular file any more", path);
    }
    return SB_OK;
}

sb_code_t sb_fs_readlink(sb_cursor_t *c, const char *path, char out[SB_PATH_MAX + 2], sb_err_t *err)
{
    const char *name;
    int dir = parent(c, path, false, &name);
    ssize_t n = dir < 0 ? -1 : readlinkat(dir, name, out, SB_PATH_MAX + 1);

    if (n < 0) {
        return sb_err_errno(err, errno, "reading the symlink %s", path);
    }
    out[n] = '\0';
    return SB_OK;
}

sb_code_t sb_fs_write(int fd, const void *data, size_t len, sb_err_t *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return sb_err_errno(err, errno, "writing the package");
        }
        p += n;
        len -= (size_t)n;
    }
    return SB_OK;
}
