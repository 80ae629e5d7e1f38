/*
 * filter.c - see filter.h.  filter_compile() runs in the stage before there is any
 * run, filter_load() as the last step of a run's pid 1, which the script inherits.
 *
 * Reading the tables: a call is allowed by its name, or by its name and a test of
 * arguments.  The kernel reads most arguments as 32 bits wide, so the tests compare
 * those 32 bits (CVE-2019-7303: a 64-bit comparison was passed by setting the upper
 * half).  Names that the architecture or libseccomp's version does not have fall
 * back to the number given, or are left out: left out is refused.
 */
#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LOW32        0xffffffffu

/* ---- allowed whatever the arguments ---- */

static const char *const allowed[] = {
    /* files, all bounded by mounts, Landlock and the size limits; openat2 because it can only be
       stricter */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
    "pwritev2", "open", "openat", "openat2", "creat", "close", "close_range", "lseek", "dup",
    "dup2", "dup3", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "getcwd",
    "chdir", "fchdir", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat",
    "renameat2", "link", "linkat", "symlink", "symlinkat", "umask", "utime", "utimes", "utimensat",
    "futimesat", "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range",
    "flock", "fadvise64", "readahead", "getxattr", "lgetxattr", "fgetxattr", "listxattr",
    "llistxattr", "flistxattr", "inotify_init", "inotify_init1", "inotify_add_watch",
    "inotify_rm_watch",
    /* modes and owners: there is one id, mounts are nosuid, so tar and install may try */
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat",
    /* libuv's copyFile has no way without these two; unlike splice, tee and vmsplice (Dirty Pipe,
     * Copy Fail) they do not hand page cache pages to a caller's socket or gift pages of its own */
    "sendfile", "copy_file_range",

    /* waiting and events */
    "pipe", "pipe2", "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd",
    "signalfd4", "timerfd_create", "timerfd_settime", "timerfd_gettime", "nanosleep",
    "clock_nanosleep", "alarm", "getitimer", "setitimer", "timer_create", "timer_settime",
    "timer_gettime", "timer_getoverrun", "timer_delete", "pause", "restart_syscall",

    /* memory; executable mappings stay possible, node's JIT needs them; mlock is bounded by
       RLIMIT_MEMLOCK */
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mincore", "mlock", "mlock2",
    "munlock", "pkey_alloc", "pkey_free", "pkey_mprotect", "membarrier", "get_mempolicy",

    /* processes and threads; clone with its flags below.  execve gains nothing: no_new_privs */
    "fork", "vfork", "execve", "exit", "exit_group", "wait4", "waitid", "getpid", "getppid",
    "gettid", "getpgrp", "getpgid", "setpgid", "getsid", "setsid", "set_tid_address",
    "set_robust_list", "get_robust_list", "futex", "rseq", "sched_yield", "sched_getaffinity",
    "sched_getparam", "sched_getscheduler", "sched_getattr", "sched_get_priority_max",
    "sched_get_priority_min", "sched_rr_get_interval", "getcpu", "getpriority", "arch_prctl",

    /* signals reach only the run's own pid namespace */
    "kill", "tkill", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait",
    "rt_sigsuspend", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack",
    "pidfd_open", "pidfd_send_signal",

    /* facts; setrlimit can only lower: the hard limits are set and CAP_SYS_RESOURCE is gone */
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "capget",
    "getrlimit", "setrlimit", "getrusage", "times", "time", "gettimeofday", "clock_gettime",
    "clock_getres", "sysinfo", "uname", "getrandom",

    /* sockets; families below.  The network namespace has nothing but its own loopback */
    "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt",
    "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown"};

/* The same, newer than libseccomp 2.5's tables: their numbers are the same everywhere. */
static const struct {
    const char *name;
    int number;
} allowed_new[] = {{"futex_waitv", 449}, {"fchmodat2", 452},     {"futex_wake", 454},
                   {"futex_wait", 455},  {"futex_requeue", 456}, {"mseal", 462}};

/* ---- answered with ENOSYS: libraries try them and know another way ---- */

static const struct {
    const char *name;
    int number;
} absent[] = {
    /* its flags are in memory, out of a filter's sight; EPERM would break thread creation */
    {"clone3", 435},
    /* opens files and sockets without a system call that a filter sees */
    {"io_uring_setup", 425},
    {"io_uring_enter", 426},
    {"io_uring_register", 427},
    /* nothing below is needed; programs that know them know their absence */
    {"landlock_create_ruleset", 444},
    {"landlock_add_rule", 445},
    {"landlock_restrict_self", 446},
    {"memfd_secret", 447},
    {"cachestat", 451},
    {"map_shadow_stack", 453},
    {"statmount", 457},
    {"listmount", 458},
    {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},
    {"setxattrat", 463},
    {"getxattrat", 464},
    {"listxattrat", 465},
    {"removexattrat", 466},
    {"file_getattr", 468},
    {"file_setattr", 469}};

static const char *const absent_old[] = {"execveat" /* fexecve(3) falls back to /proc/self/fd */};

/*
 * Never allowed, by being in no table above, and why: ptrace, process_vm_*, pidfd_getfd, kcmp
 * (other processes of the run, above all its pid 1); mount and its new API, pivot_root, chroot,
 * setns, unshare (namespaces); name_to_handle_at, open_by_handle_at (files past the root);
 * set*id, setgroups, capset, keyctl and kin (identity, and keyrings that outlive a run); bpf,
 * perf_event_open, userfaultfd, fanotify, quotactl, module, kexec, reboot, swap, acct, syslog,
 * modify_ldt, iopl (kernel surface); splice, tee, vmsplice (page cache of read-only binds);
 * sync, syncfs (the host's disks); SysV and POSIX message queues and shared memory (memory that
 * no rlimit counts); sched_set*, setpriority, ioprio_set (other runs' share); set_mempolicy,
 * mbind, mlockall; settimeofday, clock_settime, adjtimex; sethostname; setxattr (EPERM is what
 * shutil expects); seccomp itself.
 */

/* ---- allowed by their arguments ---- */

typedef struct {
    const char *name;
    unsigned nargs;
    struct scmp_arg_cmp args[3];
} argument_rule_t;

#define EQUALS(arg, value)       SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, LOW32, value)
#define MASKED(arg, mask, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, value)
#define ONE(name, a)                                                                               \
    {                                                                                              \
        name, 1,                                                                                   \
        {                                                                                          \
            a                                                                                      \
        }                                                                                          \
    }
#define FCNTL(cmd)    ONE("fcntl", EQUALS(1, cmd))
#define IOCTL(cmd)    ONE("ioctl", EQUALS(1, cmd))
#define PRCTL(option) ONE("prctl", EQUALS(0, option))
#define SOCKET(family, type, protocol)                                                             \
    {                                                                                              \
        "socket", 3,                                                                               \
        {                                                                                          \
            EQUALS(0, family), MASKED(1, SOCKET_TYPE, type), EQUALS(2, protocol)                   \
        }                                                                                          \
    }

#define SOCKET_TYPE 0xfu /* the rest of that argument is SOCK_CLOEXEC and SOCK_NONBLOCK */
#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)
enum { TCP = 6, UDP = 17 };

static const argument_rule_t by_arguments[] = {
    /* threads and processes, no namespaces; CLONE_NEWTIME is not reachable through clone(2) */
    ONE("clone", MASKED(0, NAMESPACES, 0)),

    /* inside its own empty network namespace; no raw sockets, and no protocol that would make the
     * kernel load a module (SCTP, DCCP, L2TP, MPTCP...) */
    ONE("socket", EQUALS(0, AF_UNIX)), SOCKET(AF_INET, SOCK_STREAM, 0),
    SOCKET(AF_INET, SOCK_STREAM, TCP), SOCKET(AF_INET, SOCK_DGRAM, 0),
    SOCKET(AF_INET, SOCK_DGRAM, UDP), SOCKET(AF_INET6, SOCK_STREAM, 0),
    SOCKET(AF_INET6, SOCK_STREAM, TCP), SOCKET(AF_INET6, SOCK_DGRAM, 0),
    SOCKET(AF_INET6, SOCK_DGRAM, UDP), ONE("socketpair", EQUALS(0, AF_UNIX)),

    /* mkfifo(3), no devices */
    ONE("mknod", MASKED(1, S_IFMT, S_IFIFO)), ONE("mknodat", MASKED(2, S_IFMT, S_IFIFO)),

    /* its own limits, never those of pid 1 */
    ONE("prlimit64", EQUALS(0, 0)),

    /* the query, and the default */
    ONE("personality", EQUALS(0, LOW32)), ONE("personality", EQUALS(0, 0)),

    /* not F_SETLEASE and F_NOTIFY (they reach whoever else opens a file of /usr), not
     * F_SETPIPE_SZ (pipe memory is counted per user of the host, shared by all runs) */
    FCNTL(F_DUPFD), FCNTL(F_GETFD), FCNTL(F_SETFD), FCNTL(F_GETFL), FCNTL(F_SETFL), FCNTL(F_GETLK),
    FCNTL(F_SETLK), FCNTL(F_SETLKW), FCNTL(F_SETOWN), FCNTL(F_GETOWN), FCNTL(F_SETSIG),
    FCNTL(F_GETSIG), FCNTL(F_SETOWN_EX), FCNTL(F_GETOWN_EX), FCNTL(F_OFD_GETLK), FCNTL(F_OFD_SETLK),
    FCNTL(F_OFD_SETLKW), FCNTL(F_DUPFD_CLOEXEC), FCNTL(F_GETPIPE_SZ), FCNTL(F_ADD_SEALS),
    FCNTL(F_GET_SEALS),

    /* terminals that are not there must be seen not to be (TIOCSTI and TIOCLINUX, which type
     * into a terminal, are not among them), descriptors, and asking loopback its name */
    IOCTL(0x5401) /* TCGETS */, IOCTL(0x5402) /* TCSETS */, IOCTL(0x5403) /* TCSETSW */,
    IOCTL(0x5404) /* TCSETSF */, IOCTL(0x540f) /* TIOCGPGRP */, IOCTL(0x5410) /* TIOCSPGRP */,
    IOCTL(0x5411) /* TIOCOUTQ */, IOCTL(0x5413) /* TIOCGWINSZ */, IOCTL(0x541b) /* FIONREAD */,
    IOCTL(0x5421) /* FIONBIO */, IOCTL(0x5422) /* TIOCNOTTY */, IOCTL(0x5450) /* FIONCLEX */,
    IOCTL(0x5451) /* FIOCLEX */, IOCTL(0x5452) /* FIOASYNC */, IOCTL(0x8910) /* SIOCGIFNAME */,
    IOCTL(0x8912) /* SIOCGIFCONF */, IOCTL(0x8913) /* SIOCGIFFLAGS */,
    IOCTL(0x8915) /* SIOCGIFADDR */, IOCTL(0x8919) /* SIOCGIFBRDADDR */,
    IOCTL(0x891b) /* SIOCGIFNETMASK */, IOCTL(0x8921) /* SIOCGIFMTU */,
    IOCTL(0x8927) /* SIOCGIFHWADDR */, IOCTL(0x8933) /* SIOCGIFINDEX */,
    IOCTL(0x40049409) /* FICLONE */, IOCTL(0x4020940d) /* FICLONERANGE */,
    IOCTL(0xc020660b) /* FS_IOC_FIEMAP */, IOCTL(0x80086601) /* FS_IOC_GETFLAGS */,

    /* names, death signals, subreapers, questions; not PR_SET_MM, PR_SET_SECCOMP, PR_SET_SECUREBITS
     */
    PRCTL(1) /* SET_PDEATHSIG */, PRCTL(2) /* GET_PDEATHSIG */, PRCTL(3) /* GET_DUMPABLE */,
    PRCTL(4) /* SET_DUMPABLE */, PRCTL(7) /* GET_KEEPCAPS */, PRCTL(15) /* SET_NAME */,
    PRCTL(16) /* GET_NAME */, PRCTL(21) /* GET_SECCOMP */, PRCTL(23) /* CAPBSET_READ */,
    PRCTL(27) /* GET_SECUREBITS */, PRCTL(29) /* SET_TIMERSLACK */, PRCTL(30) /* GET_TIMERSLACK */,
    PRCTL(36) /* SET_CHILD_SUBREAPER */, PRCTL(37) /* GET_CHILD_SUBREAPER */,
    PRCTL(38) /* SET_NO_NEW_PRIVS */, PRCTL(39) /* GET_NO_NEW_PRIVS */,
    PRCTL(40) /* GET_TID_ADDRESS */, PRCTL(41) /* SET_THP_DISABLE */,
    PRCTL(42) /* GET_THP_DISABLE */,
    PRCTL(47) /* CAP_AMBIENT: can't raise, nothing is inheritable */,
    PRCTL(0x53564d41) /* SET_VMA: names of anonymous memory */
};

/* Only where a memory cgroup counts it. */
static const char *const allowed_with_memory_cgroup[] = {"memfd_create"};

/* ---- compiling ---- */

/* The number on this architecture; -1: there is none. */
static int resolve(const char *name, int fallback)
{
    int nr = seccomp_syscall_resolve_name(name);

    if (nr == __NR_SCMP_ERROR) /* libseccomp is older than the call */
        return fallback;
    return nr < 0 ? -1 : nr; /* other negative numbers: calls of other architectures */
}

static int add_names(scmp_filter_ctx ctx, uint32_t action, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int nr = resolve(names[i], -1);
        int rc = nr < 0 ? 0 : seccomp_rule_add(ctx, action, nr, 0);

        if (rc != 0)
            return rc;
    }
    return 0;
}

static int add_numbered(scmp_filter_ctx ctx)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < COUNT(allowed_new); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW,
                              resolve(allowed_new[i].name, allowed_new[i].number), 0);
    for (size_t i = 0; rc == 0 && i < COUNT(absent); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS),
                              resolve(absent[i].name, absent[i].number), 0);
    return rc;
}

static int add_by_arguments(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < COUNT(by_arguments); i++) {
        const argument_rule_t *rule = &by_arguments[i];
        int nr = resolve(rule->name, -1);
        int rc =
            nr < 0 ? 0 : seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr, rule->nargs, rule->args);

        if (rc != 0)
            return rc;
    }
    return 0;
}

/* A family that is refused must say EAFNOSUPPORT: resolvers then go on without netlink. */
static int add_refused_families(scmp_filter_ctx ctx)
{
    int nr = resolve("socket", -1);
    uint32_t action = SCMP_ACT_ERRNO(EAFNOSUPPORT);
    int rc = seccomp_rule_add(ctx, action, nr, 1, SCMP_CMP(0, SCMP_CMP_GT, AF_INET6, 0));

    for (int family = AF_INET + 1; rc == 0 && family < AF_INET6; family++)
        rc = seccomp_rule_add(ctx, action, nr, 1, SCMP_CMP(0, SCMP_CMP_EQ, (unsigned)family, 0));
    return rc;
}

static int add_rules(scmp_filter_ctx ctx, enum filter_variant variant)
{
    /* KILL_PROCESS: 32-bit entry points have numbers of their own, and socketcall(2) */
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (rc == 0) /* a binary tree instead of 300 comparisons in a row */
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = add_names(ctx, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
    if (rc == 0 && variant == FILTER_MEMORY_CGROUP)
        rc = add_names(ctx, SCMP_ACT_ALLOW, allowed_with_memory_cgroup,
                       COUNT(allowed_with_memory_cgroup));
    if (rc == 0)
        rc = add_names(ctx, SCMP_ACT_ERRNO(ENOSYS), absent_old, COUNT(absent_old));
    if (rc == 0)
        rc = add_numbered(ctx);
    if (rc == 0)
        rc = add_by_arguments(ctx);
    if (rc == 0)
        rc = add_refused_families(ctx);
    return rc;
}

/* Reads the exported program back from its memfd. */
static int read_program(int fd, filter_t *out)
{
    off_t size = lseek(fd, 0, SEEK_END);

    if (size <= 0 || size % (off_t)sizeof(*out->code) != 0 ||
        size / (off_t)sizeof(*out->code) > BPF_MAXINSNS) {
        errno = size < 0 ? errno : E2BIG;
        return -1;
    }
    out->code = malloc((size_t)size);
    if (out->code == NULL)
        return -1;
    out->len = (unsigned short)((size_t)size / sizeof(*out->code));
    return sys_pread_all(fd, out->code, (size_t)size, 0);
}

static int export_program(scmp_filter_ctx ctx, filter_t *out)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    int rc;

    if (fd < 0)
        return -1;
    rc = seccomp_export_bpf(ctx, fd);
    if (rc != 0)
        errno = -rc;
    else
        rc = read_program(fd, out);
    close(fd);
    return rc == 0 ? 0 : -1;
}

int filter_compile(enum filter_variant variant, filter_t *out)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc;

    if (ctx == NULL) {
        errno = ENOMEM;
        return -1;
    }
    rc = add_rules(ctx, variant);
    if (rc != 0)
        errno = -rc;
    else
        rc = export_program(ctx, out);
    seccomp_release(ctx);
    return rc == 0 ? 0 : -1;
}

int filter_load(const filter_t *filter)
{
    struct sock_fprog program = {.len = filter->len, .filter = filter->code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
