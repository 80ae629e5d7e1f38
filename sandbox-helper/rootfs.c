/*
 * rootfs.c - see rootfs.h.  Runs in the confined import child; touches what is
 * below two descriptors.
 */
#include "rootfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

#define MODE_KEPT    0755
#define SHOWN_MAX    120 /* bytes of a name in a sentence */
#define CHILDREN_MAX 1000000

/* An entry's place: the folder it lies in, and its last component. */
typedef struct {
    char path[ROOTFS_PATH_MAX + 1]; /* checked; "" = the tree itself */
    const char *base;
    int dir; /* -1: the tree itself */
} place_t;

int rootfs_fail(rootfs_t *r, const char *name, const char *fmt, ...)
{
    char shown[SHOWN_MAX + 4], what[160];
    size_t n = 0;
    int err = errno;
    va_list ap;

    for (; n < SHOWN_MAX && name[n] != '\0'; n++)
        shown[n] = (char)(name[n] >= 0x20 && name[n] < 0x7f ? name[n] : '?');
    snprintf(shown + n, sizeof(shown) - n, "%s", name[n] != '\0' ? "..." : "");
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    snprintf(r->why, sizeof(r->why), "entry '%s' %s", shown, what);
    errno = err;
    return -1;
}

static int broken(rootfs_t *r, const char *name, const char *what)
{
    return rootfs_fail(r, name, "%s: %s", what, strerror(errno));
}

/* ---- names ---- */

/* "./a//b/" becomes "a/b"; "" and "." the tree itself. */
static int check_name(rootfs_t *r, const char *name, char out[ROOTFS_PATH_MAX + 1])
{
    size_t used = 0;
    int depth = 0;

    out[0] = '\0';
    if (name[0] == '/')
        return rootfs_fail(r, name, "has an absolute name");
    while (*name != '\0') {
        size_t len = strcspn(name, "/");

        if (len == 2 && name[0] == '.' && name[1] == '.')
            return rootfs_fail(r, name, "has '..' in its name");
        if (len > 0 && !(len == 1 && name[0] == '.')) {
            if (used + len + 1 > ROOTFS_PATH_MAX || ++depth > ROOTFS_DEPTH_MAX)
                return rootfs_fail(r, name, "has too long or too deep a name");
            if (used > 0)
                out[used++] = '/';
            memcpy(out + used, name, len);
            used += len;
        }
        name += len;
        name += strspn(name, "/");
    }
    out[used] = '\0';
    return 0;
}

static int open_in_tree(const rootfs_t *r, const char *path)
{
    return sys_openat2(r->tree, path[0] == '\0' ? "." : path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                       SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS | SYS_RESOLVE_NO_XDEV);
}

static int open_parent(const rootfs_t *r, const char *path, size_t len)
{
    char parent[ROOTFS_PATH_MAX + 1];

    memcpy(parent, path, len);
    parent[len] = '\0';
    return open_in_tree(r, parent);
}

/* The folders on the way that no entry has made. */
static int make_parents(const rootfs_t *r, const char *path)
{
    size_t start = 0;

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        size_t len = (size_t)(slash - path);
        char name[ROOTFS_PATH_MAX + 1];
        int fd = open_parent(r, path, len);
        int dir, rc;

        if (fd >= 0) {
            close(fd);
        } else {
            if (errno != ENOENT)
                return -1;
            dir = open_parent(r, path, start > 0 ? start - 1 : 0);
            if (dir < 0)
                return -1;
            memcpy(name, path + start, len - start);
            name[len - start] = '\0';
            rc = mkdirat(dir, name, 0755); /* EEXIST: a link that leads nowhere */
            close(dir);
            if (rc != 0)
                return -1;
        }
        start = len + 1;
    }
    return 0;
}

static int find_place(rootfs_t *r, const char *name, bool make, place_t *p)
{
    char *slash;

    if (check_name(r, name, p->path) != 0)
        return -1;
    p->dir = -1;
    p->base = p->path;
    if (p->path[0] == '\0')
        return 0;
    slash = strrchr(p->path, '/');
    if (slash != NULL)
        p->base = slash + 1;
    p->dir = open_parent(r, p->path, slash == NULL ? 0 : (size_t)(slash - p->path));
    if (p->dir < 0 && errno == ENOENT && make && slash != NULL && make_parents(r, p->path) == 0)
        p->dir = open_parent(r, p->path, (size_t)(slash - p->path));
    return p->dir < 0 ? broken(r, name, "can't be placed") : 0;
}

/* The same for what has to be inside the tree. */
static int find_inside(rootfs_t *r, const char *name, bool make, place_t *p)
{
    if (find_place(r, name, make, p) != 0)
        return -1;
    return p->dir >= 0 ? 0 : rootfs_fail(r, name, "would replace the root");
}

/* ---- what is there already ---- */

static int discard(rootfs_t *r, int dir, const char *base)
{
    char fresh[32];

    snprintf(fresh, sizeof(fresh), "%llu", (unsigned long long)r->moved++);
    return renameat(dir, base, r->trash, fresh);
}

/* 0: nothing is there (any more); 1: a folder is, and folders are kept; -1: errno. */
static int make_way(rootfs_t *r, const place_t *p, bool keep_folder)
{
    struct stat st;

    if (fstatat(p->dir, p->base, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(p->dir, p->base, 0);
    return keep_folder ? 1 : discard(r, p->dir, p->base);
}

static int count(rootfs_t *r, const char *name, int64_t size)
{
    if (r->entries >= r->entries_max)
        return rootfs_fail(r, name, "is one more than the %llu entries that are allowed",
                           (unsigned long long)r->entries_max);
    if (size < 0 || (uint64_t)size > r->bytes_max - r->bytes)
        return rootfs_fail(r, name, "makes it larger than the %llu bytes that are allowed",
                           (unsigned long long)r->bytes_max);
    r->entries++;
    r->bytes += (uint64_t)size;
    return 0;
}

/* ---- entries ---- */

/* The importer must be able to remove what he made: folders stay his to change. */
static int set_folder_mode(int dir, const char *base, mode_t mode)
{
    int fd = openat(dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -1 : sys_close_with(fd, fchmod(fd, (mode & MODE_KEPT) | 0700));
}

int rootfs_folder(rootfs_t *r, const char *name, mode_t mode)
{
    place_t p;
    int rc;

    if (count(r, name, 0) != 0 || find_place(r, name, true, &p) != 0)
        return -1;
    if (p.dir < 0)
        return 0; /* the tree's own mode is not the archive's to choose */
    rc = make_way(r, &p, true);
    if (rc == 0)
        rc = mkdirat(p.dir, p.base, 0700);
    if (rc >= 0)
        rc = set_folder_mode(p.dir, p.base, mode);
    rc = rc == 0 ? 0 : broken(r, name, "can't be made");
    return sys_close_with(p.dir, rc);
}

int rootfs_file_begin(rootfs_t *r, const char *name, int64_t size, int *fd)
{
    place_t p;

    *fd = -1;
    if (count(r, name, size) != 0 || find_inside(r, name, true, &p) != 0)
        return -1;
    if (make_way(r, &p, false) == 0)
        *fd = openat(p.dir, p.base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return sys_close_with(p.dir, *fd >= 0 ? 0 : broken(r, name, "can't be made"));
}

int rootfs_file_write(rootfs_t *r, const char *name, int fd, const void *data, size_t len,
                      int64_t offset, int64_t size)
{
    const char *bytes = data;

    if (offset < 0 || offset > size || len > (uint64_t)(size - offset))
        return rootfs_fail(r, name, "has more content than it says");
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return broken(r, name, "can't be written");
        bytes += n;
        offset += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Times are kept: Python's compiled files carry those of their sources. */
int rootfs_file_end(rootfs_t *r, const char *name, int fd, mode_t mode, int64_t size, time_t mtime)
{
    const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};

    if (ftruncate(fd, size) != 0 || fchmod(fd, (mode & MODE_KEPT) | 0400) != 0 ||
        futimens(fd, times) != 0)
        return broken(r, name, "can't be finished");
    return 0;
}

int rootfs_symlink(rootfs_t *r, const char *name, const char *target, time_t mtime)
{
    const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};
    place_t p;
    int rc;

    if (target[0] == '\0' || strlen(target) > ROOTFS_PATH_MAX)
        return rootfs_fail(r, name, "is a link with too long a target, or none");
    if (count(r, name, 0) != 0 || find_inside(r, name, true, &p) != 0)
        return -1;
    rc = make_way(r, &p, false);
    if (rc == 0)
        rc = symlinkat(target, p.dir, p.base);
    if (rc == 0)
        rc = utimensat(p.dir, p.base, times, AT_SYMLINK_NOFOLLOW);
    return sys_close_with(p.dir, rc == 0 ? 0 : broken(r, name, "can't be made"));
}

static int link_places(rootfs_t *r, const char *name, const place_t *to, const place_t *from)
{
    struct stat st;

    if (strcmp(to->path, from->path) == 0)
        return rootfs_fail(r, name, "is a link to itself");
    if (fstatat(from->dir, from->base, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return broken(r, name, "is a link to what is not there");
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return rootfs_fail(r, name, "is a hard link to a folder");
    if (make_way(r, to, false) != 0 || linkat(from->dir, from->base, to->dir, to->base, 0) != 0)
        return broken(r, name, "can't be linked");
    return 0;
}

int rootfs_hardlink(rootfs_t *r, const char *name, const char *target)
{
    place_t to, from;
    int rc;

    if (count(r, name, 0) != 0 || find_inside(r, name, true, &to) != 0)
        return -1;
    if (find_inside(r, target, false, &from) != 0)
        return sys_close_with(to.dir, -1);
    rc = link_places(r, name, &to, &from);
    close(from.dir);
    return sys_close_with(to.dir, rc);
}

int rootfs_leave_out(rootfs_t *r, const char *name)
{
    char path[ROOTFS_PATH_MAX + 1];

    r->left_out++;
    return count(r, name, 0) != 0 ? -1 : check_name(r, name, path);
}

/* ---- whiteouts ---- */

/* Looks a place up that may not be there: 1. */
static int find_old(rootfs_t *r, const char *name, place_t *p)
{
    char path[ROOTFS_PATH_MAX + 1];

    if (check_name(r, name, path) != 0)
        return -1;
    if (find_place(r, name, false, p) == 0)
        return 0;
    return errno == ENOENT || errno == ENOTDIR ? 1 : -1;
}

int rootfs_remove(rootfs_t *r, const char *name)
{
    place_t p;
    int rc = find_old(r, name, &p);

    if (rc != 0)
        return rc > 0 ? 0 : -1;
    if (p.dir < 0)
        return rootfs_fail(r, name, "would remove the root");
    rc = make_way(r, &p, false);
    return sys_close_with(p.dir, rc == 0 ? 0 : broken(r, name, "can't be removed"));
}

static int empty_folder(rootfs_t *r, int fd)
{
    DIR *dir = fdopendir(fd);
    const struct dirent *e;
    int rc = 0, n = 0;

    if (dir == NULL)
        return sys_close_with(fd, -1);
    while (rc == 0 && n++ < CHILDREN_MAX && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = discard(r, fd, e->d_name);
    }
    int err = errno;
    closedir(dir);
    errno = err;
    return rc;
}

int rootfs_empty(rootfs_t *r, const char *name)
{
    place_t p;
    struct stat st;
    int rc = find_old(r, name, &p), fd;

    if (rc != 0)
        return rc > 0 ? 0 : -1;
    if (p.dir < 0) {
        fd = openat(r->tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else {
        /* a link or file in its place is another layer's business: that folder is no more */
        rc = fstatat(p.dir, p.base, &st, AT_SYMLINK_NOFOLLOW);
        if (rc != 0 || !S_ISDIR(st.st_mode))
            return sys_close_with(p.dir, 0);
        fd = openat(p.dir, p.base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        sys_close_with(p.dir, 0);
    }
    if (fd < 0 || empty_folder(r, fd) != 0)
        return broken(r, name, "can't be emptied");
    return 0;
}
