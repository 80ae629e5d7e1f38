/*
 * remedy.c - see remedy.h.  The first row that fits is the answer: rows go from the special to
 * the general.  An errno tells more than a step: ENOSPC from a namespace is a sysctl at its limit,
 * EPERM a filter or a sysctl, EACCES a security module.
 */
#include "remedy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define ANY NULL

#define APPARMOR                                                                                   \
    "a security module lets namespaces be made but not used: on Ubuntu "                           \
    "(kernel.apparmor_restrict_unprivileged_userns) load the AppArmor profile of "                 \
    "docs/operations.md; "
#define CONTAINER                                                                                  \
    "in a container allow unshare, clone, mount and pivot_root in the seccomp profile, and use "   \
    "an AppArmor profile that lets mounts through (docs/operations.md)"

static const struct {
    const char *step; /* ANY: whatever step */
    int errnum;       /* 0: whatever errno */
    const char *remedy;
} remedies[] = {
    {"landlock", 0,
     "boot with Landlock (lsm=landlock,... on the kernel's command line, Linux 5.13 or later), or "
     "add no_landlock to `allow`"},
    {"mount proc", EPERM,
     "something is mounted over parts of /proc (a container, or systemd's "
     "ProtectKernelTunables= or ProtectKernelLogs=): lift that (container engines: "
     "systempaths=unconfined, procMount: Unmasked), or add no_procfs to `allow`"},
    {"identity", 0, "the helper must not be mapped to root outside: give it a user of its own"},
    {"seccomp filter", ENOMEM, "more memory for the service"},
    {"seccomp filter", 0, "a kernel with CONFIG_SECCOMP_FILTER"},
    {"seccomp", 0, "a kernel with CONFIG_SECCOMP_FILTER"},
    {"packages", 0, "state_dir must be reachable and readable by the helper's user"},
    {"namespaces", ENOSPC,
     "sysctl user.max_user_namespaces and the other user.max_*_namespaces must be above 0: "
     "sysctl -w user.max_user_namespaces=10000"},
    {"clone", ENOSPC,
     "sysctl user.max_*_namespaces must be above 0 for user, mnt, pid, net, ipc, uts and cgroup "
     "namespaces: sysctl -w user.max_pid_namespaces=10000 and so on"},
    {"clone", EAGAIN, "a higher limit of processes for the helper's user (TasksMax=, ulimit -u)"},
    {"namespaces", EACCES,
     "a security module refuses user namespaces: where that is AppArmor (Ubuntu's "
     "kernel.apparmor_restrict_unprivileged_userns), load the AppArmor profile of "
     "docs/operations.md"},
    {"namespaces", EINVAL, "a kernel with user, mount, pid, net, ipc and uts namespaces"},
    {"namespaces", 0,
     "user namespaces are refused: sysctl kernel.unprivileged_userns_clone=1 where it exists; on "
     "Ubuntu the AppArmor profile of docs/operations.md; under systemd no RestrictNamespaces=; "
     "a container's seccomp profile must allow unshare, clone, mount and pivot_root"},
    {"packer child", ENOSYS,
     "openat2 is missing: Linux 5.6 or later, and no RestrictSUIDSGID= in the unit, which hides "
     "it"},
    {ANY, ENOSYS,
     "Linux 5.12 or later is needed (mount_setattr), and no seccomp profile that hides it"},
    {"setgroups", 0, APPARMOR CONTAINER},
    {"uid_map", 0, APPARMOR CONTAINER},
    {"gid_map", 0, APPARMOR CONTAINER},
    {"private mounts", 0, APPARMOR CONTAINER},
    {"root tmpfs", 0, APPARMOR CONTAINER},
    {"system folders", EPERM, APPARMOR CONTAINER},
    {"empty root", 0, APPARMOR CONTAINER},
    {"pivot_root", 0, CONTAINER},
    {"run id map", 0, APPARMOR CONTAINER},
    {"loopback", 0, APPARMOR CONTAINER},
    {"mount tmp", 0, CONTAINER},
};

const char *remedy_for(const char *step, int errnum)
{
    for (size_t i = 0; i < sizeof(remedies) / sizeof(*remedies); i++) {
        if (remedies[i].step != ANY && strcmp(remedies[i].step, step) != 0)
            continue;
        if (remedies[i].errnum == 0 || remedies[i].errnum == errnum)
            return remedies[i].remedy;
    }
    return "";
}
