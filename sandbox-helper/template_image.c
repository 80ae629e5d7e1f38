/*
 * template_image.c - see template_image.h.  Runs once in sandbox-stage, before the
 * new root is entered: `image` is a path of the host, all below it goes by descriptors.
 */
#include "template_image.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mounts.h"

#define ENTRIES_MAX   1024 /* of a folder that is walked; the root's tmpfs has room for them */
#define READ_ONLY     (MOUNTS_BASE | MOUNT_ATTR_RDONLY)
#define READ_ONLY_BIN (MOUNTS_BASE | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC)

typedef struct {
    int image; /* the folder that is walked */
    int root;
    int dirs;
} walk_t;

typedef int (*visit_t)(walk_t *w, const char *name);

/* Calls visit for each entry of w->image; on failure `what` is the entry's name. */
static int walk(walk_t *w, visit_t visit, char *what, size_t len)
{
    int fd = openat(w->image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *e;
    int rc = 0, n = 0, err;

    if (dir == NULL)
        return fd < 0 ? -1 : sys_close_with(fd, -1);
    while (rc == 0 && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        errno = E2BIG;
        rc = ++n > ENTRIES_MAX ? -1 : visit(w, e->d_name);
        if (rc != 0)
            snprintf(what, len, "%s", e->d_name);
    }
    err = errno;
    closedir(dir);
    errno = err;
    return rc;
}

int template_image_shows(const char *name)
{
    static const char *const own[] = {"etc", "dev", "proc",    "sys",
                                      "run", "tmp", "sandbox", "skill"};

    if (name[0] == '.')
        return 0;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strcmp(own[i], name) == 0)
            return 0;
    return 1;
}

static int add_link(const walk_t *w, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(w->image, name, target, sizeof(target) - 1);

    if (n < 0)
        return -1;
    target[n] = '\0';
    return symlinkat(target, w->root, name);
}

static int show(int from, const char *name, int root, const char *to, uint64_t attr)
{
    int fd = sys_openat2(from, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                         SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS | SYS_RESOLVE_NO_XDEV);

    if (fd < 0)
        return -1;
    if (mkdirat(root, to, 0755) != 0)
        return sys_close_with(fd, -1);
    return sys_close_with(fd, mounts_bind_one(fd, root, to, attr));
}

static int visit_folder(walk_t *w, const char *name)
{
    struct stat st;

    if (!template_image_shows(name))
        return 0;
    if (fstatat(w->image, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (S_ISLNK(st.st_mode))
        return add_link(w, name);
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (++w->dirs > TEMPLATE_IMAGE_DIRS) {
        errno = E2BIG;
        return -1;
    }
    return show(w->image, name, w->root, name, READ_ONLY);
}

int template_image_folders(const char *image, int root, char *what, size_t len)
{
    walk_t w = {.image = open(image, O_PATH | O_DIRECTORY | O_CLOEXEC), .root = root};

    if (w.image < 0)
        return -1;
    return sys_close_with(w.image, walk(&w, visit_folder, what, len));
}

static int visit_etc(walk_t *w, const char *name)
{
    char target[sizeof("/" TEMPLATE_IMAGE_ETC "/") + NAME_MAX];

    snprintf(target, sizeof(target), "/" TEMPLATE_IMAGE_ETC "/%s", name);
    return symlinkat(target, w->root, name) == 0 || errno == EEXIST ? 0 : -1;
}

static int link_etc(int root, char *what, size_t len)
{
    walk_t w = {.image = openat(root, TEMPLATE_IMAGE_ETC, O_PATH | O_DIRECTORY | O_CLOEXEC),
                .root = openat(root, "etc", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    int rc = w.image < 0 || w.root < 0 ? -1 : walk(&w, visit_etc, what, len);

    if (w.image >= 0)
        rc = sys_close_with(w.image, rc);
    return w.root >= 0 ? sys_close_with(w.root, rc) : rc;
}

int template_image_etc(const char *image, int root, char *what, size_t len)
{
    int fd = open(image, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    if (show(fd, "etc", root, TEMPLATE_IMAGE_ETC, READ_ONLY_BIN) != 0)
        return sys_close_with(fd, errno == ENOENT || errno == ENOTDIR ? 0 : -1);
    close(fd);
    return link_etc(root, what, len);
}
