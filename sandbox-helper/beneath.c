/*
 * beneath.c - see beneath.h.  Runs in the confined collect child; opens nothing
 * but what lies below the descriptors it is given, and only for reading.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "beneath.h"
#include "sys.h"

static int open_beneath(int dirfd, const char *path, int flags)
{
    flags |= O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    return sys_openat2(dirfd, path, (uint64_t)flags, 0,
                       SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_MAGICLINKS |
                           SYS_RESOLVE_NO_XDEV);
}

int beneath_open_file(int dirfd, const char *path, struct stat *st)
{
    int fd = open_beneath(dirfd, path, 0);

    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode)) {
        return fd;
    }
    close(fd);
    errno = EFTYPE_NOT_REGULAR;
    return -1;
}

int beneath_open_dir(int dirfd, const char *path)
{
    return open_beneath(dirfd, path, O_DIRECTORY);
}
