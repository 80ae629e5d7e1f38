/*
 * confine.c - see confine.h.  confine_nursery() runs once in the packer's nursery,
 * the rest in its children.  Changes nothing but the calling process.
 */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "idmap.h"
#include "landlock.h"
#include "privileges.h"
#include "report.h"
#include "sys.h"

#define FIRST_FD  3
#define PARK_FD   64 /* descriptors wait above it while the low numbers are handed out */
#define NOFILE    128
#define CHILD_CPU 60 /* seconds: 256 MiB of artifacts that do not shrink take 6 */

#define CHILD_DATA (256 * SB_MIB)

/*
 * The largest file a child may write: an archive's content may not shrink at all, and
 * every file has a header of its own.
 */
#define CHILD_FSIZE (SB_ARTIFACT_BYTES_MAX + SB_ARTIFACT_FILES_MAX * 4LL * SB_KIB)

/* An image's layers take minutes to decompress, and some of xz's need a lot of memory. */
#define IMPORT_CPU  3600
#define IMPORT_DATA (1 * SB_GIB)

static packer_filter_t filters[4]; /* by role */
static int landlock_abi;

static packer_filter_t *filter_of(enum packer_role role)
{
    switch (role) {
    case PACKER_INTAKE:
        return &filters[0];
    case PACKER_COLLECT:
        return &filters[1];
    case PACKER_IMPORT:
        return &filters[2];
    default:
        return &filters[3];
    }
}

/* ---- the nursery ---- */

static int nursery_filters(void *ctx)
{
    return packer_filter_compile(PACKER_INTAKE, filter_of(PACKER_INTAKE)) == 0 &&
                   packer_filter_compile(PACKER_COLLECT, filter_of(PACKER_COLLECT)) == 0 &&
                   packer_filter_compile(PACKER_IMPORT, filter_of(PACKER_IMPORT)) == 0 &&
                   packer_filter_compile(PACKER_READ, filter_of(PACKER_READ)) == 0
               ? 0
               : -1;
}

static int nursery_landlock(void *ctx)
{
    const stage_config_t *config = ctx;

    landlock_abi = sys_landlock_abi();
    if (landlock_abi <= 0 && !config->allow_no_landlock) {
        errno = ENOSYS;
        return -1;
    }
    return 0;
}

/* Children need no namespaces of these kinds of their own: none of them can reach anything in ours.
 */
static int nursery_namespaces(void *ctx)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                CLONE_NEWCGROUP) != 0) {
        return -1;
    }
    /* an unmapped process may not make the user namespaces of its children */
    return idmap_write(uid, gid, NULL);
}

/* Nothing of the host is below the new root; nothing is at all. */
static int nursery_root(void *ctx)
{
    int fs, root, rc;

    if (sys_mount_set(AT_FDCWD, "/", AT_RECURSIVE, 0) != 0) {
        return -1;
    }
    fs = sys_fsopen("tmpfs");
    if (fs < 0) {
        return -1;
    }
    rc = sys_fsconfig_string(fs, "mode", "0555");
    if (rc == 0) {
        rc = sys_fsconfig_string(fs, "nr_inodes", "2");
    }
    if (rc == 0) {
        rc = sys_fsconfig_create(fs);
    }
    root = rc == 0 ? sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                         MOUNT_ATTR_NOEXEC)
                   : -1;
    close(fs);
    if (root < 0) {
        return -1;
    }
    rc = sys_move_mount(root, AT_FDCWD, "/");
    if (rc == 0) {
        rc = fchdir(root);
    }
    close(root);
    return rc;
}

/* The old root, with the host's whole mount table, goes on top of the new one and is let go. */
static int nursery_pivot(void *ctx)
{
    if (sys_pivot_root(".", ".") != 0 || umount2(".", MNT_DETACH) != 0) {
        return -1;
    }
    return chdir("/");
}

static int nursery_privileges(void *ctx)
{
    if (privileges_no_new() != 0 || privileges_drop_caps() != 0) {
        return -1;
    }
    return privileges_dumpable(false);
}

int confine_nursery(const stage_config_t *config, stage_hello_t *hello)
{
    static const step_t steps[] = {
        {"seccomp filter", nursery_filters}, {"landlock", nursery_landlock},
        {"namespaces", nursery_namespaces},  {"empty root", nursery_root},
        {"pivot_root", nursery_pivot},       {"privileges", nursery_privileges},
    };
    const char *failed = steps_run(steps, sizeof(steps) / sizeof(steps[0]), (void *)config);

    if (failed != NULL) {
        return report_hello(hello, failed, errno);
    }
    hello->landlock_abi = landlock_abi;
    hello->missing = landlock_missing(landlock_abi);
    return 0;
}

/* ---- a child ---- */

/* fds[0], fds[1], ... become 3, 4, ...; all else above stderr is closed. */
static int child_descriptors(int *fds, int nfds)
{
    for (int i = 0; i < nfds; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, PARK_FD);
        if (fds[i] < 0) {
            return -1;
        }
    }
    for (int i = 0; i < nfds; i++) {
        if (dup3(fds[i], FIRST_FD + i, O_CLOEXEC) < 0) {
            return -1;
        }
        fds[i] = FIRST_FD + i;
    }
    return sys_close_range((unsigned)(FIRST_FD + nfds), ~0U, 0);
}

/* main's log is not for the bytes of a package; a sanitizer's report is */
static int child_stderr(void)
{
#if PACKER_SANITIZED
    return 0;
#else
    return dup2(STDOUT_FILENO, STDERR_FILENO) < 0 ? -1 : 0;
#endif
}

static int child_limits(enum packer_role role)
{
    const bool import = role == PACKER_IMPORT;
    const struct {
        int resource;
        rlim_t value;
    } limits[] = {
        {RLIMIT_CPU, import ? IMPORT_CPU : CHILD_CPU},
        {RLIMIT_FSIZE, import ? IMPORT_BYTES_MAX : CHILD_FSIZE},
        {RLIMIT_NOFILE, NOFILE},
        {RLIMIT_CORE, 1}, /* not 0: a piped core pattern runs for 0, for 1 it does not */
        {RLIMIT_NPROC, 0},
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
#if !PACKER_SANITIZED /* whose shadow memory alone is terabytes */
        {RLIMIT_DATA, import ? IMPORT_DATA : CHILD_DATA},
#endif
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct rlimit both;

        if (getrlimit((__rlimit_resource_t)limits[i].resource, &both) != 0) {
            return -1;
        }
        if (limits[i].value < both.rlim_max) { /* a service's may be lower than ours */
            both.rlim_max = limits[i].value;
        }
        both.rlim_cur = both.rlim_max;
        if (setrlimit((__rlimit_resource_t)limits[i].resource, &both) != 0) {
            return -1;
        }
    }
    return 0;
}

int confine_paths(const int *dirs, int ndirs, uint64_t access)
{
    landlock_rule_t rules[4];

    if (landlock_abi <= 0) {
        return 0;
    }
    if (ndirs > (int)(sizeof(rules) / sizeof(rules[0]))) {
        errno = EINVAL;
        return -1;
    }
    for (int i = 0; i < ndirs; i++) {
        rules[i] = (landlock_rule_t){.path = "", .fd = dirs[i], .access = access};
    }
    return landlock_apply(landlock_abi, LANDLOCK_DENY_TCP, rules, (size_t)ndirs);
}

int confine_child(enum packer_role role, int *fds, int nfds, const char **step)
{
    *step = "descriptors";
    if (child_descriptors(fds, nfds) != 0 || child_stderr() != 0) {
        return -1;
    }
    umask(077); /* final modes are set by fchmod; until then nobody else looks in */
    *step = "limits";
    if (child_limits(role) != 0) {
        return -1;
    }
    *step = "privileges";
    if (privileges_no_new() != 0 || privileges_drop_caps() != 0) {
        return -1;
    }
    return privileges_dumpable(false);
}

int confine_syscalls(enum packer_role role)
{
    return packer_filter_load(filter_of(role));
}
