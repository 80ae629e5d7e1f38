/*
 * rmtree.c - see rmtree.h.  Runs in the main process; touches only what lies
 * below the trash folder.
 */
#include "rmtree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void rmtree_begin(rmtree_t *rt, int trash_fd)
{
    memset(rt, 0, sizeof *rt);
    rt->trash_fd = trash_fd;
    rt->depth = -1;
}

void rmtree_end(rmtree_t *rt)
{
    for (; rt->depth >= 0; rt->depth--)
        closedir(rt->open[rt->depth]);
}

static int parent_fd(const rmtree_t *rt)
{
    return rt->depth >= 0 ? dirfd(rt->open[rt->depth]) : rt->trash_fd;
}

/*
 * Opens a folder in the current one.  Its mode is ours to set (we own it), but
 * chmod(2) by name would follow a link put there meanwhile: O_PATH, then chmod of
 * exactly that inode through /proc/self/fd.
 */
static DIR *open_folder(int parent, const char *name)
{
    char self[40];
    int path = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (path < 0)
        return NULL;
    snprintf(self, sizeof self, "/proc/self/fd/%d", path);
    (void)!chmod(self, 0700); /* the open below tells */
    int fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int saved = errno;
    close(path);
    if (fd < 0) {
        errno = saved;
        return NULL;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL)
        close(fd);
    return dir;
}

static bool push(rmtree_t *rt, int parent, const char *name)
{
    DIR *dir = open_folder(parent, name);

    if (dir == NULL) {
        rt->failed_errno = errno;
        return false;
    }
    rt->depth++;
    rt->open[rt->depth] = dir;
    snprintf(rt->name[rt->depth], sizeof rt->name[rt->depth], "%s", name);
    return true;
}

static void move_up(rmtree_t *rt, int parent, const char *name)
{
    char fresh[48];
    DIR *dir = open_folder(parent, name); /* its mode must let ".." be changed */

    if (dir != NULL)
        closedir(dir);
    snprintf(fresh, sizeof fresh, "deep-%d-%lu", (int)getpid(), rt->moved++);
    if (renameat(parent, name, rt->trash_fd, fresh) != 0)
        rt->failed_errno = errno;
}

/* One entry of the folder on top of the stack. */
static void remove_entry(rmtree_t *rt, const char *name)
{
    int parent = parent_fd(rt);

    if (unlinkat(parent, name, 0) == 0)
        return;
    if (errno != EISDIR && errno != EPERM) {
        rt->failed_errno = errno;
        return;
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return;
    if (errno != ENOTEMPTY && errno != EEXIST) {
        rt->failed_errno = errno;
        return;
    }
    if (rt->depth + 1 < RMTREE_DEPTH)
        push(rt, parent, name);
    else
        move_up(rt, parent, name);
}

/* The folder on top, which is not the bottom, has been read to its end. */
static void pop(rmtree_t *rt)
{
    closedir(rt->open[rt->depth]);
    rt->depth--;
    if (unlinkat(parent_fd(rt), rt->name[rt->depth + 1], AT_REMOVEDIR) != 0)
        rt->failed_errno = errno;
}

static bool dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* The bottom has been read to its end: what was moved up meanwhile may not have been seen. */
static bool again(rmtree_t *rt)
{
    if (rt->moved == rt->moved_before || rt->failed_errno != 0)
        return false;
    rt->moved_before = rt->moved;
    rewinddir(rt->open[0]);
    return true;
}

bool rmtree_step(rmtree_t *rt, int budget)
{
    if (rt->depth < 0 && !push(rt, rt->trash_fd, "."))
        return false;
    for (; budget > 0; budget--) {
        struct dirent *e = readdir(rt->open[rt->depth]);
        if (e != NULL) {
            if (!dots(e->d_name))
                remove_entry(rt, e->d_name);
            continue;
        }
        if (rt->depth > 0)
            pop(rt);
        else if (!again(rt))
            return false;
    }
    return true;
}
