/*
 * mounts.c - see mounts.h.
 */
#include "mounts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Closes fd, keeps errno, returns rc: for the ends of functions. */
static int close_with(int fd, int rc)
{
    int err = errno;

    close(fd);
    errno = err;
    return rc;
}

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
    return close_with(fs, mnt);
}

int mounts_tmpfs_at(const mounts_tmpfs_t *spec, const char *at)
{
    int mnt = mounts_tmpfs(spec);

    if (mnt < 0 || sys_move_mount(mnt, AT_FDCWD, at) == 0)
        return mnt;
    return close_with(mnt, -1);
}

static int attach(int mnt, int to_dirfd, const char *to, uint64_t attr)
{
    int rc;

    if (mnt < 0)
        return -1;
    rc = sys_mount_set(mnt, "", AT_EMPTY_PATH | AT_RECURSIVE, attr);
    if (rc == 0)
        rc = sys_move_mount(mnt, to_dirfd, to);
    return close_with(mnt, rc);
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

    if (mnt < 0)
        return -1;
    close(mnt);
    return 0;
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

/* What a full procfs says about the host: its kernel's addresses, keys, hardware, command line. */
static const char *const proc_masked[] = {
    "acpi",     "asound",        "buddyinfo",   "bus",           "cmdline",      "config.gz",
    "consoles", "diskstats",     "driver",      "dynamic_debug", "fs",           "interrupts",
    "iomem",    "ioports",       "irq",         "kallsyms",      "kcore",        "key-users",
    "keys",     "kmsg",          "kpagecgroup", "kpagecount",    "kpageflags",   "latency_stats",
    "locks",    "mdstat",        "modules",     "mtrr",          "pagetypeinfo", "partitions",
    "pressure", "sched_debug",   "schedstat",   "scsi",          "slabinfo",     "softirqs",
    "swaps",    "sysrq-trigger", "timer_list",  "timer_stats",   "tty",          "vmallocinfo",
    "vmstat",   "zoneinfo"};

static int mask_proc(void)
{
    for (size_t i = 0; i < sizeof(proc_masked) / sizeof(proc_masked[0]); i++) {
        char path[64];
        struct stat st;
        int rc;

        snprintf(path, sizeof(path), "/proc/%s", proc_masked[i]);
        if (lstat(path, &st) != 0) {
            if (errno == ENOENT)
                continue;
            return -1;
        }
        rc = S_ISDIR(st.st_mode)
                 ? mounts_hide(path)
                 : mounts_bind("/dev/null", AT_FDCWD, path, MOUNTS_BASE | MOUNT_ATTR_RDONLY);
        if (rc != 0)
            return -1;
    }
    return 0;
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
        return close_with(fs, -1);
    close(fs);
    rc = close_with(mnt, sys_move_mount(mnt, AT_FDCWD, "/proc"));
    return rc == 0 && full ? mask_proc() : rc;
}
