/*
 * mounts.c - see mounts.h.
 */
#include "mounts.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int configure_tmpfs(int fs, const mounts_tmpfs_t *spec)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64, spec->bytes);
    if (sys_fsconfig_string(fs, "size", text) != 0)
        return -1;
    snprintf(text, sizeof(text), "%" PRIu32, spec->inodes);
    if (sys_fsconfig_string(fs, "nr_inodes", text) != 0)
        return -1;
    snprintf(text, sizeof(text), "%o", spec->mode);
    if (sys_fsconfig_string(fs, "mode", text) != 0)
        return -1;
    return sys_fsconfig_create(fs);
}

int mounts_tmpfs(const mounts_tmpfs_t *spec)
{
    int fs = sys_fsopen("tmpfs");
    int mnt;

    if (fs < 0)
        return -1;
    mnt = configure_tmpfs(fs, spec) == 0 ? sys_fsmount(fs, spec->attr) : -1;
    return sys_close_with(fs, mnt);
}

int mounts_tmpfs_at(const mounts_tmpfs_t *spec, const char *at)
{
    int mnt = mounts_tmpfs(spec);

    if (mnt < 0 || sys_move_mount(mnt, AT_FDCWD, at) == 0)
        return mnt;
    return sys_close_with(mnt, -1);
}

static int attach(int mnt, int to_dirfd, const char *to, uint64_t attr)
{
    int rc;

    if (mnt < 0)
        return -1;
    rc = sys_mount_set(mnt, "", AT_EMPTY_PATH | AT_RECURSIVE, attr);
    if (rc == 0)
        rc = sys_move_mount(mnt, to_dirfd, to);
    return sys_close_with(mnt, rc);
}

int mounts_bind(const char *from, int to_dirfd, const char *to, uint64_t attr)
{
    return attach(sys_open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | AT_RECURSIVE), to_dirfd, to,
                  attr);
}

int mounts_bind_one(int from_fd, int to_dirfd, const char *to, uint64_t attr)
{
    return attach(sys_open_tree(from_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE), to_dirfd, to, attr);
}

int mounts_hide(const char *at)
{
    static const mounts_tmpfs_t empty = {4096, 1, 0555,
                                         MOUNTS_BASE | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY};
    int mnt = mounts_tmpfs_at(&empty, at);

    return mnt < 0 ? -1 : close(mnt);
}

/*
 * The kernel lets a user namespace mount procfs only as visible as the one it was
 * given, access time mode included (mnt_already_visible in fs/namespace.c).
 */
static uint64_t proc_atime(void)
{
    struct statvfs vfs;

    return statvfs("/proc", &vfs) == 0 && (vfs.f_flag & ST_NOATIME) != 0 ? MOUNT_ATTR_NOATIME : 0;
}

/*
 * What a run may see of the host in a full procfs: what programs size themselves by.  All else is
 * covered, known or not: the kernel's addresses, keys, hardware, command line, and whatever the
 * next kernel adds.
 */
static const char *const proc_shown[] = {"cpuinfo", "filesystems", "loadavg", "meminfo", "stat",
                                         "sys",     "sysvipc",     "uptime",  "version"};

static bool proc_hidden(const struct dirent *entry)
{
    if (entry->d_type == DT_LNK || strspn(entry->d_name, "0123456789.") > 0)
        return false; /* links lead to the process's own; the folders of processes */
    for (size_t i = 0; i < sizeof(proc_shown) / sizeof(proc_shown[0]); i++)
        if (strcmp(entry->d_name, proc_shown[i]) == 0)
            return false;
    return true;
}

static int mask(const struct dirent *entry)
{
    char path[sizeof("/proc/") + sizeof(entry->d_name)];

    snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
    if (entry->d_type == DT_DIR)
        return mounts_hide(path);
    return mounts_bind("/dev/null", AT_FDCWD, path, MOUNTS_BASE | MOUNT_ATTR_RDONLY);
}

static int mask_proc(void)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    int rc = dir == NULL ? -1 : 0, err;

    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
        if (proc_hidden(entry))
            rc = mask(entry);
    if (rc == 0 && errno != 0)
        rc = -1;
    err = errno;
    if (dir != NULL)
        closedir(dir);
    errno = err;
    return rc;
}

int mounts_proc(int full)
{
    uint64_t attr = MOUNTS_BASE | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY | proc_atime();
    int fs = sys_fsopen("proc");
    int mnt = -1, rc;

    if (fs < 0)
        return -1;
    if ((full || sys_fsconfig_string(fs, "subset", "pid") == 0) && sys_fsconfig_create(fs) == 0)
        mnt = sys_fsmount(fs, attr);
    if (mnt < 0)
        return sys_close_with(fs, -1);
    close(fs);
    rc = sys_close_with(mnt, sys_move_mount(mnt, AT_FDCWD, "/proc"));
    return rc == 0 && full ? mask_proc() : rc;
}
