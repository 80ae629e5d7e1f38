/*
 * power_log.c - a library for LD_PRELOAD that notes what a program does to the disk, for
 * tests/fault/power_loss.py, which makes of it what a power loss at some moment would leave.
 *
 * Notes go to a file that all processes map (POWER_LOG, made by the test): no system call is made
 * for one, so a process that is confined or has closed its descriptors goes on noting.  A note is
 * written when the call has returned, so what a client was told of is noted before the client can
 * note it (power_log_ack()).  Noted are only files on the file system of POWER_ROOT.  Files are
 * named by their inode, folder entries by the folder's inode and the name.  A sync counts for what
 * was noted before it was called.
 *
 * Not seen: writes through a mapping, raw system calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTE_NEW = 1, NOTE_ENTRY, NOTE_DATA, NOTE_SIZE, NOTE_SYNC, NOTE_ACK };

typedef struct {
    _Atomic uint64_t at; /* where the next note goes; more than size: some are lost */
    uint64_t size, dev;
} head_t;

typedef struct {
    uint32_t kind, bytes; /* of what follows */
    uint64_t a, b;
    _Atomic uint32_t ready;
    uint32_t flag;
} note_t;

static head_t *head;

#define FDS 4096
static unsigned char synced_fd[FDS]; /* O_DSYNC or O_SYNC */

#define REAL(name, ret, ...)                                                                       \
    static ret (*real_##name)(__VA_ARGS__);                                                        \
    if (real_##name == NULL)                                                                       \
    real_##name = (ret(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("POWER_LOG"), *root = getenv("POWER_ROOT");
    struct stat st;
    int fd;

    if (path == NULL || root == NULL || stat(root, &st) != 0)
        return;
    uint64_t dev = st.st_dev;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    head = map;
    head->size = (uint64_t)st.st_size;
    head->dev = dev;
}

static void note(uint32_t kind, uint64_t a, uint64_t b, uint32_t flag, const struct iovec *iov,
                 int n, size_t bytes)
{
    uint64_t need = (sizeof(note_t) + bytes + 7) & ~(uint64_t)7;
    uint64_t at = atomic_fetch_add(&head->at, need);

    if (at + need > head->size)
        return; /* the reader sees it by head->at */
    note_t *to = (note_t *)(uintptr_t)((char *)head + at);
    char *data = (char *)(to + 1);

    to->kind = kind;
    to->bytes = (uint32_t)bytes;
    to->a = a;
    to->b = b;
    to->flag = flag;
    for (int i = 0; i < n && bytes > 0; i++) {
        size_t piece = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;

        memcpy(data, iov[i].iov_base, piece);
        data += piece;
        bytes -= piece;
    }
    atomic_store(&to->ready, 1);
}

static void note_text(uint32_t kind, uint64_t a, uint64_t b, const char *text)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

    note(kind, a, b, 0, &iov, 1, iov.iov_len);
}

/* For the test itself: a client has been told something. */
void power_log_ack(const char *text);
void power_log_ack(const char *text)
{
    if (head != NULL)
        note_text(NOTE_ACK, 0, 0, text);
}

static bool ours(int fd, struct stat *st)
{
    int saved = errno;
    bool yes = head != NULL && fstat(fd, st) == 0 && st->st_dev == head->dev;

    errno = saved;
    return yes;
}

/* ---- entries ---- */

/* The folder's inode (0: not ours) and the name in it. */
static uint64_t parent(int dirfd, const char *path, const char **leaf)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];
    struct stat st;
    int saved = errno, rc;

    *leaf = slash != NULL ? slash + 1 : path;
    if (head == NULL)
        return 0;
    if (slash == NULL) {
        rc = dirfd == AT_FDCWD ? stat(".", &st) : fstat(dirfd, &st);
    } else {
        snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
        rc = fstatat(dirfd, dir, &st, 0);
    }
    errno = saved;
    return rc == 0 && st.st_dev == head->dev ? st.st_ino : 0;
}

static void entry(int dirfd, const char *path, uint64_t ino)
{
    const char *leaf;
    uint64_t dir = parent(dirfd, path, &leaf);

    if (dir != 0)
        note_text(NOTE_ENTRY, dir, ino, leaf);
}

/* The other half of a rename: the name, a NUL, the inode in digits. */
static void moved(int dirfd, const char *path, uint64_t ino)
{
    const char *leaf;
    uint64_t dir = parent(dirfd, path, &leaf);
    char text[300], digits[24];
    struct iovec iov[] = {{text, 0}, {digits, 0}};

    if (dir == 0)
        return;
    snprintf(text, sizeof(text), "%s", leaf);
    iov[0].iov_len = strlen(text) + 1;
    iov[1].iov_len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)ino);
    note(NOTE_ENTRY, dir, 0, 0, iov, 2, iov[0].iov_len + iov[1].iov_len);
}

/* 0: there is nothing, or it is not ours. */
static uint64_t inode_at(int dirfd, const char *path)
{
    struct stat st;
    int saved = errno;
    int rc = head != NULL ? fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) : -1;

    errno = saved;
    return rc == 0 && st.st_dev == head->dev ? st.st_ino : 0;
}

static void opened(int dirfd, const char *path, int flags, int fd, uint64_t before)
{
    struct stat st;

    if (fd >= 0 && fd < FDS)
        synced_fd[fd] = (flags & (O_DSYNC | O_SYNC)) != 0;
    if (fd < 0 || (flags & (O_CREAT | O_TRUNC)) == 0 || !ours(fd, &st) || !S_ISREG(st.st_mode))
        return;
    if (before == 0 && (flags & O_CREAT) != 0) {
        note(NOTE_NEW, st.st_ino, 0, 0, NULL, 0, 0);
        entry(dirfd, path, st.st_ino);
    } else if ((flags & O_TRUNC) != 0) {
        note(NOTE_SIZE, st.st_ino, 0, 0, NULL, 0, 0);
    }
}

static mode_t mode_of(int flags, va_list ap)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(ap, unsigned)
                                                                      : 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        REAL(name, int, const char *, int, ...);                                                   \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = mode_of(flags, ap);                                                          \
        va_end(ap);                                                                                \
        uint64_t before = (flags & O_CREAT) != 0 ? inode_at(AT_FDCWD, path) : 0;                   \
        int fd = real_##name(path, flags, mode);                                                   \
        opened(AT_FDCWD, path, flags, fd, before);                                                 \
        return fd;                                                                                 \
    }
#define OPENAT(name)                                                                               \
    int name(int dirfd, const char *path, int flags, ...)                                          \
    {                                                                                              \
        REAL(name, int, int, const char *, int, ...);                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = mode_of(flags, ap);                                                          \
        va_end(ap);                                                                                \
        uint64_t before = (flags & O_CREAT) != 0 ? inode_at(dirfd, path) : 0;                      \
        int fd = real_##name(dirfd, path, flags, mode);                                            \
        opened(dirfd, path, flags, fd, before);                                                    \
        return fd;                                                                                 \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int mkdirat(int dirfd, const char *path, mode_t mode)
{
    REAL(mkdirat, int, int, const char *, mode_t);
    int rc = real_mkdirat(dirfd, path, mode);
    uint64_t ino = rc == 0 ? inode_at(dirfd, path) : 0;

    if (ino != 0) {
        note(NOTE_NEW, ino, 1, 0, NULL, 0, 0);
        entry(dirfd, path, ino);
    }
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dirfd, const char *path, int flags)
{
    REAL(unlinkat, int, int, const char *, int);
    int rc = real_unlinkat(dirfd, path, flags);

    if (rc == 0)
        entry(dirfd, path, 0);
    return rc;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
    REAL(linkat, int, int, const char *, int, const char *, int);
    int rc = real_linkat(from, path, to, name, flags);

    if (rc == 0)
        entry(to, name, inode_at(to, name));
    return rc;
}

int link(const char *path, const char *name)
{
    return linkat(AT_FDCWD, path, AT_FDCWD, name, 0);
}

int renameat2(int from, const char *path, int to, const char *name, unsigned flags)
{
    REAL(renameat2, int, int, const char *, int, const char *, unsigned);
    uint64_t target = inode_at(to, name);
    int rc = real_renameat2(from, path, to, name, flags);
    uint64_t ino = rc == 0 ? inode_at(to, name) : 0;

    /* two names of one file: rename(2) does nothing */
    if (ino != 0 && !(ino == target && inode_at(from, path) == ino)) {
        entry(to, name, ino);
        moved(from, path, ino);
    }
    return rc;
}

int renameat(int from, const char *path, int to, const char *name)
{
    return renameat2(from, path, to, name, 0);
}

int rename(const char *path, const char *name)
{
    return renameat2(AT_FDCWD, path, AT_FDCWD, name, 0);
}

/* ---- data ---- */

static void wrote(int fd, const struct iovec *iov, int n, ssize_t bytes, off_t offset)
{
    struct stat st;
    int saved = errno;

    if (bytes <= 0 || !ours(fd, &st) || !S_ISREG(st.st_mode))
        return;
    if (offset < 0) { /* at the descriptor's own place, which has moved on */
        offset = lseek(fd, 0, SEEK_CUR) - bytes;
        if (offset < 0)
            offset = st.st_size - bytes;
    }
    note(NOTE_DATA, st.st_ino, (uint64_t)offset, fd < FDS && synced_fd[fd], iov, n, (size_t)bytes);
    errno = saved;
}

ssize_t write(int fd, const void *data, size_t len)
{
    REAL(write, ssize_t, int, const void *, size_t);
    struct iovec iov = {(void *)(uintptr_t)data, len};
    ssize_t n = real_write(fd, data, len);

    wrote(fd, &iov, 1, n, -1);
    return n;
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    REAL(writev, ssize_t, int, const struct iovec *, int);
    ssize_t n = real_writev(fd, iov, count);

    wrote(fd, iov, count, n, -1);
    return n;
}

#define PWRITE(name)                                                                               \
    ssize_t name(int fd, const void *data, size_t len, off_t offset)                               \
    {                                                                                              \
        REAL(name, ssize_t, int, const void *, size_t, off_t);                                     \
        struct iovec iov = {(void *)(uintptr_t)data, len};                                         \
        ssize_t n = real_##name(fd, data, len, offset);                                            \
        wrote(fd, &iov, 1, n, offset);                                                             \
        return n;                                                                                  \
    }
#define PWRITEV(name)                                                                              \
    ssize_t name(int fd, const struct iovec *iov, int count, off_t offset)                         \
    {                                                                                              \
        REAL(name, ssize_t, int, const struct iovec *, int, off_t);                                \
        ssize_t n = real_##name(fd, iov, count, offset);                                           \
        wrote(fd, iov, count, n, offset);                                                          \
        return n;                                                                                  \
    }

PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define TRUNCATE(name)                                                                             \
    int name(int fd, off_t size)                                                                   \
    {                                                                                              \
        REAL(name, int, int, off_t);                                                               \
        struct stat st;                                                                            \
        int rc = real_##name(fd, size);                                                            \
        if (rc == 0 && ours(fd, &st))                                                              \
            note(NOTE_SIZE, st.st_ino, (uint64_t)size, 0, NULL, 0, 0);                             \
        return rc;                                                                                 \
    }

TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name)                                                                                 \
    int name(int fd)                                                                               \
    {                                                                                              \
        REAL(name, int, int);                                                                      \
        struct stat st;                                                                            \
        uint64_t begun = head != NULL ? atomic_load(&head->at) : 0;                                \
        int rc = real_##name(fd);                                                                  \
        if (rc == 0 && ours(fd, &st))                                                              \
            note(NOTE_SYNC, st.st_ino, begun, 0, NULL, 0, 0);                                      \
        return rc;                                                                                 \
    }

SYNC(fsync)
SYNC(fdatasync)
