/*
 * without.c - a sandbox-stage with layers missing, to see whether the others hold.
 *
 * Never shipped and never installed: the real objects are linked once more with this file
 * and the linker's --wrap (layers.mk), so that calls between source files come here first.
 * sandbox-helper/ has no switch for any of this, and is the same object by object.
 * SB_TEST_WITHOUT, given by the Makefile, is the set of layers this program lacks; each
 * __wrap_ function below leaves out one thing, or calls the __real_ one.
 *
 * Where leaving out one step would make a later one fail (no user namespace means no
 * capabilities to mount with), that is helped: what is looked for is what the remaining
 * layers do, not that a broken set-up stops, which it would.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../sandbox-helper/filter.h"
#include "../../sandbox-helper/idmap.h"
#include "../../sandbox-helper/landlock.h"
#include "../../sandbox-helper/memwatch.h"
#include "../../sandbox-helper/mounts.h"
#include "../../sandbox-helper/nursery.h"
#include "../../sandbox-helper/privileges.h"
#include "../../sandbox-helper/rlimits.h"
#include "../../sandbox-helper/sandbox.h"
#include "../../sandbox-helper/sys.h"
#include "../../sandbox-helper/template.h"

/* In the order of layers.py. */
enum {
    SECCOMP,
    LANDLOCK,
    CAPABILITIES,
    NOT_ROOT,
    NO_NEW_PRIVS,
    NAMESPACE_LIMITS,
    USER_NS,
    PID_NS,
    NET_NS,
    STAGE_NET_NS,
    IPC_NS,
    STAGE_IPC_NS,
    UTS_NS,
    CGROUP_NS,
    HOST_ROOT,
    READ_ONLY,
    READ_ONLY_RUN,
    NOEXEC,
    NOSUID_NODEV,
    PACKAGES_HIDDEN,
    PROC_SUBSET,
    PROC_READ_ONLY,
    DUMPABLE,
    CLOSE_RANGE,
    CLOSE_ON_EXEC,
    ENVIRONMENT,
    STAGE_ENVIRONMENT,
    RLIMITS,
};

#ifndef SB_TEST_WITHOUT /* static checks give none */
#define SB_TEST_WITHOUT 0UL
#endif

/* Attached to the root when the host's is to stay visible. */
#define HOST "host"
/* What stands for a secret in the stage's own environment; layers.py looks for it. */
#define STAGE_SECRET "SBCANARY-0123456789abcdef0123456789abcdef"

static bool without(int layer)
{
    return (SB_TEST_WITHOUT >> layer & 1UL) != 0;
}

static bool in_run;        /* in a child, which becomes a run; else in the stage itself */
static int host_root = -1; /* a clone of the host's mount tree */

/* Declared as the function itself is: one whose parameters change does not compile here. */
#define WRAPPED(type, name, ...)                                                                   \
    extern __typeof__(name) __real_##name, __wrap_##name;                                          \
    type __wrap_##name(__VA_ARGS__)

/* ---- namespaces ---- */

WRAPPED(pid_t, sys_clone, uint64_t flags, int cgroup, int *pidfd)
{
    pid_t pid;

    if (without(USER_NS))
        flags &= ~(uint64_t)CLONE_NEWUSER;
    if (without(PID_NS))
        flags &= ~(uint64_t)CLONE_NEWPID;
    if (without(NET_NS))
        flags &= ~(uint64_t)CLONE_NEWNET;
    if (without(IPC_NS))
        flags &= ~(uint64_t)CLONE_NEWIPC;
    if (without(UTS_NS))
        flags &= ~(uint64_t)CLONE_NEWUTS;
    pid = __real_sys_clone(flags, cgroup, pidfd);
    if (pid == 0)
        in_run = true;
    return pid;
}

WRAPPED(int, unshare, int flags)
{
    if (without(STAGE_NET_NS))
        flags &= ~CLONE_NEWNET;
    if (without(STAGE_IPC_NS))
        flags &= ~CLONE_NEWIPC;
    if (without(CGROUP_NS))
        flags &= ~CLONE_NEWCGROUP;
    return flags == 0 ? 0 : __real_unshare(flags);
}

/*
 * What pid 1 says to all of its namespace must never be heard by the host: this is the one
 * thing that a missing layer may not be tried with.  The same for what it counts.
 */
WRAPPED(int, kill, pid_t pid, int sig)
{
    if (pid <= 0 && without(PID_NS)) {
        errno = EPERM;
        return -1;
    }
    return __real_kill(pid, sig);
}

WRAPPED(bool, memwatch_over, memwatch_t *memory)
{
    return without(PID_NS) ? false : __real_memwatch_over(memory);
}

/* A name or an interface of a namespace that is not the run's own is not for it to change. */
WRAPPED(int, sethostname, const char *name, size_t len)
{
    return in_run && without(UTS_NS) ? 0 : __real_sethostname(name, len);
}

WRAPPED(int, ioctl, int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    return in_run && without(NET_NS) ? 0 : __real_ioctl(fd, request, arg);
}

static int map_to_root(uid_t outer_uid, gid_t outer_gid)
{
    char line[48];

    if (sys_write_text(AT_FDCWD, "/proc/self/setgroups", "deny") != 0)
        return -1;
    snprintf(line, sizeof(line), "0 %u 1\n", outer_uid);
    if (sys_write_text(AT_FDCWD, "/proc/self/uid_map", line) != 0)
        return -1;
    snprintf(line, sizeof(line), "0 %u 1\n", outer_gid);
    return sys_write_text(AT_FDCWD, "/proc/self/gid_map", line);
}

WRAPPED(int, idmap_write, uid_t outer_uid, gid_t outer_gid, const char **step)
{
    if (in_run && without(USER_NS))
        return 0;
    if (in_run && without(NOT_ROOT))
        return map_to_root(outer_uid, outer_gid);
    return __real_idmap_write(outer_uid, outer_gid, step);
}

/* The limits would be the stage's when the run has no user namespace of its own. */
WRAPPED(int, sys_write_text, int dirfd, const char *path, const char *text)
{
    if (strncmp(path, "max_", 4) == 0 && (without(NAMESPACE_LIMITS) || without(USER_NS)))
        return 0;
    return __real_sys_write_text(dirfd, path, text);
}

/* ---- files ---- */

/* The template's first mount(2): all of the host's mounts are there, and nothing else yet. */
WRAPPED(int, mount, const char *source, const char *target, const char *type, unsigned long flags,
        const void *data)
{
    int rc = __real_mount(source, target, type, flags, data);

    if (rc == 0 && without(HOST_ROOT)) {
        host_root = sys_open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | AT_RECURSIVE);
        if (host_root < 0)
            return -1;
        rc = sys_mount_set(host_root, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY);
    }
    return rc;
}

WRAPPED(int, sys_pivot_root, const char *new_root, const char *put_old)
{
    if (without(HOST_ROOT) &&
        (mkdir(HOST, 0755) != 0 || sys_move_mount(host_root, AT_FDCWD, HOST) != 0))
        return -1;
    return __real_sys_pivot_root(new_root, put_old);
}

static uint64_t weaker(uint64_t attr)
{
    if (in_run ? without(READ_ONLY_RUN) : without(READ_ONLY))
        attr &= ~(uint64_t)MOUNT_ATTR_RDONLY;
    if (without(NOSUID_NODEV))
        attr &= ~(uint64_t)(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return attr;
}

WRAPPED(int, sys_mount_set, int dirfd, const char *path, unsigned flags, uint64_t attr_set)
{
    return __real_sys_mount_set(dirfd, path, flags, weaker(attr_set));
}

WRAPPED(int, mounts_tmpfs_at, const mounts_tmpfs_t *spec, const char *at)
{
    mounts_tmpfs_t own = *spec;

    own.attr = weaker(own.attr);
    if (without(NOEXEC))
        own.attr &= ~(uint64_t)MOUNT_ATTR_NOEXEC;
    return __real_mounts_tmpfs_at(&own, at);
}

WRAPPED(int, sys_move_mount, int from_fd, int to_dirfd, const char *to)
{
    if (in_run && without(PACKAGES_HIDDEN) && strcmp(to, TEMPLATE_PACKAGES) == 0)
        return 0;
    return __real_sys_move_mount(from_fd, to_dirfd, to);
}

/* Of the run's own processes and of the kernel, nothing masked. */
static int mount_whole_proc(uint64_t attr)
{
    int fs = sys_fsopen("proc"), mnt;

    if (fs < 0 || sys_fsconfig_create(fs) != 0)
        return -1;
    mnt = sys_fsmount(fs, attr);
    close(fs);
    return mnt < 0 ? -1 : sys_move_mount(mnt, AT_FDCWD, "/proc");
}

WRAPPED(int, mounts_proc, int full)
{
    const uint64_t attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    struct {
        uint64_t set, clr, propagation, userns;
    } clear = {0, MOUNT_ATTR_RDONLY, 0, 0};

    if (without(PID_NS)) /* the template's view stays: the host's */
        return 0;
    if (without(PROC_SUBSET))
        return mount_whole_proc(attr | (without(PROC_READ_ONLY) ? 0 : MOUNT_ATTR_RDONLY));
    if (__real_mounts_proc(full) != 0)
        return -1;
    if (!without(PROC_READ_ONLY))
        return 0;
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, "/proc", 0, &clear, sizeof(clear));
}

/* ---- privileges ---- */

WRAPPED(int, filter_load, const filter_t *filter)
{
    return without(SECCOMP) ? 0 : __real_filter_load(filter);
}

WRAPPED(int, filter_load_second, const filter_t *filter)
{
    return without(SECCOMP) ? 0 : __real_filter_load_second(filter);
}

WRAPPED(int, landlock_apply, int abi, unsigned flags, const landlock_rule_t *rules, size_t nrules)
{
    return without(LANDLOCK) ? 0 : __real_landlock_apply(abi, flags, rules, nrules);
}

WRAPPED(int, landlock_finish, int ruleset, int abi, const landlock_rule_t *rules, size_t nrules)
{
    return without(LANDLOCK) ? close(ruleset) : __real_landlock_finish(ruleset, abi, rules, nrules);
}

WRAPPED(int, privileges_no_new, void)
{
    return without(NO_NEW_PRIVS) ? 0 : __real_privileges_no_new();
}

WRAPPED(int, privileges_dumpable, bool on)
{
    return !on && without(DUMPABLE) ? 0 : __real_privileges_dumpable(on);
}

WRAPPED(int, privileges_drop_bounding, void)
{
    return in_run && without(CAPABILITIES) ? 0 : __real_privileges_drop_bounding();
}

/*
 * Without no_new_privs only CAP_SYS_ADMIN may load what comes next, so the permitted set
 * stays until execve(2) takes it from whoever is not root; the bounding set goes.
 */
WRAPPED(int, privileges_drop_caps, void)
{
    if (!in_run) /* the stage's: a run without a user namespace of its own lives on them */
        return without(USER_NS) ? 0 : __real_privileges_drop_caps();
    if (without(CAPABILITIES))
        return 0;
    return without(NO_NEW_PRIVS) ? __real_privileges_drop_bounding()
                                 : __real_privileges_drop_caps();
}

WRAPPED(int, rlimits_apply, const stage_config_t *config, const stage_request_t *request)
{
    return without(RLIMITS) ? 0 : __real_rlimits_apply(config, request);
}

/* ---- descriptors and environment ---- */

/* Where a sandbox begins, and before the script; what pid 1 keeps for itself it could not run with.
 */
WRAPPED(int, sys_close_range, unsigned first, unsigned last, unsigned flags)
{
    if (without(CLOSE_RANGE) && (first == FD_FREE || flags == CLOSE_RANGE_CLOEXEC))
        return 0;
    return __real_sys_close_range(first, last, flags);
}

WRAPPED(int, dup3, int from, int to, int flags)
{
    return __real_dup3(from, to, without(CLOSE_ON_EXEC) ? flags & ~O_CLOEXEC : flags);
}

WRAPPED(int, nursery_run, const nursery_ops_t *ops)
{
    if (without(STAGE_ENVIRONMENT) && setenv("SKILLBOX_CANARY", STAGE_SECRET, 1) != 0)
        return 1;
    return __real_nursery_run(ops);
}

WRAPPED(int, execve, const char *path, char *const argv[], char *const envp[])
{
    enum { MORE = 8, ALL = 512 };
    static char *all[ALL];
    size_t n = 0;

    if (!without(ENVIRONMENT))
        return __real_execve(path, argv, envp);
    while (n < ALL - MORE - 1 && envp[n] != NULL) {
        all[n] = envp[n];
        n++;
    }
    for (size_t i = 0; i < MORE && environ[i] != NULL; i++)
        all[n++] = environ[i];
    return __real_execve(path, argv, all);
}
