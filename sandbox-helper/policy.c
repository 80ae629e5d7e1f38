/*
 * policy.c - see policy.h.  To be read as a document: group by group what a run may
 * ask of the kernel, what it may not, and for each call that is more than harmless why
 * it is allowed all the same.  `sandbox-helper --print-policy` prints it with this
 * machine's numbers.
 *
 * What the reasons lean on: a run has namespaces of its own and no nested ones, one
 * uid, no capability, no_new_privs, mounts that are read-only or tmpfs with a size,
 * nosuid and nodev, Landlock, and rlimits that it can't raise.
 */
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "the tests below have the argument places and constants of x86_64 and aarch64"
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LOW32        0xffffffffu

/* ---- rows: a name, alone or with its reason, or with tests ---- */

#define ROW(name, number, verdict, variants, tests, ntests, reason)                                \
    {                                                                                              \
        name, number, verdict, variants, tests, ntests, reason                                     \
    }
#define OK(name)                 ROW(name, -1, POLICY_ALLOW, POLICY_BOTH, NULL, 0, NULL)
#define OK_NEW(name, number)     ROW(name, number, POLICY_ALLOW, POLICY_BOTH, NULL, 0, NULL)
#define WHY(name, why)           ROW(name, -1, POLICY_ALLOW, POLICY_BOTH, NULL, 0, why)
#define WHY_NEW(name, nr, why)   ROW(name, nr, POLICY_ALLOW, POLICY_BOTH, NULL, 0, why)
#define TESTED(name, tests, why) TESTED_IN(name, POLICY_BOTH, tests, why)
#define TESTED_IN(name, variant, tests, why)                                                       \
    ROW(name, -1, POLICY_EPERM, variant, tests, COUNT(tests), why)
#define ABSENT(name, nr, why)     ROW(name, nr, POLICY_ENOSYS, POLICY_BOTH, NULL, 0, why)
#define UNSUPPORTED(name)         ROW(name, -1, POLICY_EOPNOTSUPP, POLICY_BOTH, NULL, 0, NULL)
#define NO(name)                  ROW(name, -1, POLICY_EPERM, POLICY_BOTH, NULL, 0, NULL)
#define NO_NEW(name, number)      ROW(name, number, POLICY_EPERM, POLICY_BOTH, NULL, 0, NULL)
#define NO_WHY(name, why)         ROW(name, -1, POLICY_EPERM, POLICY_BOTH, NULL, 0, why)
#define NO_IN(name, variant, why) ROW(name, -1, POLICY_EPERM, variant, NULL, 0, why)

/* ---- tests: words, and what must hold for the call to be allowed ---- */

#define COMPARE(arg, mask, value)                                                                  \
    {                                                                                              \
        arg, (uint32_t)(mask), (uint32_t)(value)                                                   \
    }
#define TEST(words, verdict, n, ...)                                                               \
    {                                                                                              \
        words, verdict, n,                                                                         \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define IS(arg, value)         COMPARE(arg, LOW32, value)
#define BITS(arg, mask, value) COMPARE(arg, mask, value)
#define ABOVE(arg, value)      COMPARE(arg, 0, value)
#define ALLOW_IF(words, a)     TEST(words, POLICY_ALLOW, 1, a)
#define COMMAND(arg, cmd)      ALLOW_IF(#cmd, IS(arg, cmd))
#define NO_FAMILY(family)      TEST(#family, POLICY_EAFNOSUPPORT, 1, IS(0, family))
#define SOCKET(family, type)                                                                       \
    TEST(#family ", " #type, POLICY_ALLOW, 3, IS(0, family), BITS(1, SOCKET_TYPE, type), IS(2, 0))
#define SOCKET_FOR(family, type, protocol)                                                         \
    TEST(#family ", " #type ", " #protocol, POLICY_ALLOW, 3, IS(0, family),                        \
         BITS(1, SOCKET_TYPE, type), IS(2, protocol))

/* ---- files ---- */

/* Kernel words that headers of older distributions lack. */
enum { CMD_TCGETS2 = 0x802c542a, OPTION_SET_VMA = 0x53564d41 };

static const policy_test_t fcntl_tests[] = {
    COMMAND(1, F_DUPFD),      COMMAND(1, F_DUPFD_CLOEXEC), COMMAND(1, F_GETFD),
    COMMAND(1, F_SETFD),      COMMAND(1, F_GETFL),         COMMAND(1, F_SETFL),
    COMMAND(1, F_GETLK),      COMMAND(1, F_SETLK),         COMMAND(1, F_SETLKW),
    COMMAND(1, F_OFD_GETLK),  COMMAND(1, F_OFD_SETLK),     COMMAND(1, F_OFD_SETLKW),
    COMMAND(1, F_SETOWN),     COMMAND(1, F_GETOWN),        COMMAND(1, F_SETOWN_EX),
    COMMAND(1, F_GETOWN_EX),  COMMAND(1, F_SETSIG),        COMMAND(1, F_GETSIG),
    COMMAND(1, F_GETPIPE_SZ), COMMAND(1, F_ADD_SEALS),     COMMAND(1, F_GET_SEALS),
};

static const policy_test_t ioctl_tests[] = {
    /* a terminal that is not there must be seen not to be */
    COMMAND(1, TCGETS),
    ALLOW_IF("TCGETS2", IS(1, CMD_TCGETS2)),
    COMMAND(1, TCSETS),
    COMMAND(1, TCSETSW),
    COMMAND(1, TCSETSF),
    COMMAND(1, TIOCGPGRP),
    COMMAND(1, TIOCSPGRP),
    COMMAND(1, TIOCGWINSZ),
    COMMAND(1, TIOCNOTTY),
    /* descriptors */
    COMMAND(1, TIOCOUTQ),
    COMMAND(1, FIONREAD),
    COMMAND(1, FIONBIO),
    COMMAND(1, FIONCLEX),
    COMMAND(1, FIOCLEX),
    COMMAND(1, FIOASYNC),
    /* loopback's name and addresses */
    COMMAND(1, SIOCGIFNAME),
    COMMAND(1, SIOCGIFCONF),
    COMMAND(1, SIOCGIFFLAGS),
    COMMAND(1, SIOCGIFADDR),
    COMMAND(1, SIOCGIFBRDADDR),
    COMMAND(1, SIOCGIFNETMASK),
    COMMAND(1, SIOCGIFMTU),
    COMMAND(1, SIOCGIFHWADDR),
    COMMAND(1, SIOCGIFINDEX),
    /* cp and ls ask file systems */
    COMMAND(1, FICLONE),
    COMMAND(1, FICLONERANGE),
    COMMAND(1, FS_IOC_FIEMAP),
    COMMAND(1, FS_IOC_GETFLAGS),
};

static const policy_test_t mknod_tests[] = {ALLOW_IF("S_IFIFO", BITS(1, S_IFMT, S_IFIFO))};
static const policy_test_t mknodat_tests[] = {ALLOW_IF("S_IFIFO", BITS(2, S_IFMT, S_IFIFO))};

static const policy_call_t file_calls[] = {
    OK("read"),
    OK("write"),
    OK("readv"),
    OK("writev"),
    OK("pread64"),
    OK("pwrite64"),
    OK("preadv"),
    OK("pwritev"),
    OK("preadv2"),
    OK("pwritev2"),
    OK("lseek"),
    OK("open"),
    OK("openat"),
    OK("creat"),
    OK("close"),
    OK("dup"),
    OK("dup2"),
    OK("dup3"),
    OK("stat"),
    OK("fstat"),
    OK("lstat"),
    OK("newfstatat"),
    OK("statx"),
    OK("statfs"),
    OK("fstatfs"),
    OK("access"),
    OK("faccessat"),
    OK_NEW("faccessat2", 439),
    OK("readlink"),
    OK("readlinkat"),
    OK("getdents"),
    OK("getdents64"),
    OK("getcwd"),
    OK("chdir"),
    OK("fchdir"),
    OK("mkdir"),
    OK("mkdirat"),
    OK("rmdir"),
    OK("unlink"),
    OK("unlinkat"),
    OK("rename"),
    OK("renameat"),
    OK("renameat2"),
    OK("link"),
    OK("linkat"),
    OK("symlink"),
    OK("symlinkat"),
    OK("umask"),
    OK("utime"),
    OK("utimes"),
    OK("utimensat"),
    OK("futimesat"),
    OK("truncate"),
    OK("ftruncate"),
    OK("fadvise64"),
    OK("readahead"),
    OK("getxattr"),
    OK("lgetxattr"),
    OK("fgetxattr"),
    OK("listxattr"),
    OK("llistxattr"),
    OK("flistxattr"),
    WHY_NEW("openat2", 437, "can only be stricter than openat"),
    WHY_NEW("close_range", 436,
            "closes descriptors, cheaper than a loop; CLOSE_RANGE_UNSHARE "
            "only leaves a thread with fewer in common"),
    WHY("fallocate", "takes room of the run's own tmpfs at most; RLIMIT_FSIZE holds"),
    WHY("fsync", "nothing to do on a tmpfs; on a file of /usr a flush of the disk's cache at "
                 "worst. sqlite and git can't do without"),
    WHY("fdatasync", "as fsync"),
    WHY("sync_file_range", "as fsync, of clean pages only"),
    WHY("flock", "two runs that agree on a file of /usr can signal one another by its lock; no "
                 "data of others is reached, and sqlite, apt and git need locks"),
    WHY("chmod", "of files the run made: everything else is read-only, and set-id bits are void "
                 "(nosuid, no_new_privs)"),
    WHY("fchmod", "as chmod"),
    WHY("fchmodat", "as chmod"),
    WHY_NEW("fchmodat2", 452, "as chmod"),
    WHY("chown", "only one uid and gid are mapped: succeeds only when it changes nothing, as tar "
                 "and install want it"),
    WHY("fchown", "as chown"),
    WHY("lchown", "as chown"),
    WHY("fchownat", "as chown"),
    WHY("sendfile", "libuv's copyFile needs it; unlike splice it does not leave page cache pages "
                    "where somebody may write to them"),
    WHY("copy_file_range", "as sendfile"),
    TESTED("fcntl", fcntl_tests,
           "not F_SETLEASE and F_NOTIFY (they reach whoever else opens a file of /usr), nor "
           "F_SETPIPE_SZ (pipe memory is counted per user of the host, common to all runs). Locks: "
           "see flock"),
    TESTED("ioctl", ioctl_tests,
           "not TIOCSTI and TIOCLINUX, which type into terminals, and no driver's own commands"),
    TESTED("mknod", mknod_tests, "mkfifo(3); no devices, no sockets"),
    TESTED("mknodat", mknodat_tests, "as mknod"),
    ABSENT("inotify_init", -1,
           "would tell a run which files of /usr the host and other runs open; instances and "
           "watches are counted per user of the host, common to all runs. tail and glib poll then"),
    ABSENT("inotify_init1", -1, "as inotify_init"),
    ABSENT("inotify_add_watch", -1, "as inotify_init"),
    ABSENT("inotify_rm_watch", -1, "as inotify_init"),
};

/* ---- waiting ---- */

static const policy_test_t timerfd_tests[] = {
    ALLOW_IF("no TFD_TIMER_CANCEL_ON_SET", BITS(1, TFD_TIMER_CANCEL_ON_SET, 0)),
};

static const policy_call_t waiting_calls[] = {
    OK("pipe"),
    OK("pipe2"),
    OK("poll"),
    OK("ppoll"),
    OK("select"),
    OK("pselect6"),
    OK("epoll_create"),
    OK("epoll_create1"),
    OK("epoll_ctl"),
    OK("epoll_wait"),
    OK("epoll_pwait"),
    OK_NEW("epoll_pwait2", 441),
    OK("eventfd"),
    OK("eventfd2"),
    OK("signalfd"),
    OK("signalfd4"),
    OK("nanosleep"),
    OK("clock_nanosleep"),
    OK("alarm"),
    OK("getitimer"),
    OK("setitimer"),
    OK("pause"),
    OK("restart_syscall"),
    OK("timerfd_create"),
    OK("timerfd_gettime"),
    OK("timer_gettime"),
    OK("timer_getoverrun"),
    OK("timer_delete"),
    TESTED("timerfd_settime", timerfd_tests,
           "alarm clocks need a capability; a change of the host's clock is nothing to wait for"),
    WHY("timer_create", "as many as RLIMIT_SIGPENDING lets there be"),
    WHY("timer_settime", "as timer_create"),
};

/* ---- memory ---- */

#define NOT_COUNTED (MAP_GROWSDOWN | MAP_HUGETLB)

static const policy_test_t mmap_tests[] = {
    ALLOW_IF("neither MAP_GROWSDOWN nor MAP_HUGETLB", BITS(3, NOT_COUNTED, 0)),
};
/* MAP_SHARED and MAP_SHARED_VALIDATE have this bit, MAP_PRIVATE has not */
static const policy_test_t mmap_counted_tests[] = {
    ALLOW_IF("of a file, neither MAP_GROWSDOWN nor MAP_HUGETLB",
             BITS(3, NOT_COUNTED | MAP_ANONYMOUS, 0)),
    ALLOW_IF("MAP_PRIVATE, neither MAP_GROWSDOWN nor MAP_HUGETLB",
             BITS(3, NOT_COUNTED | MAP_SHARED, 0)),
};
static const policy_test_t memfd_tests[] = {ALLOW_IF("no MFD_HUGETLB", BITS(1, MFD_HUGETLB, 0))};

static const policy_call_t memory_calls[] = {
    OK("brk"),
    OK("munmap"),
    OK("mremap"),
    OK("madvise"),
    OK("msync"),
    OK("pkey_alloc"),
    OK("pkey_free"),
    OK_NEW("mseal", 462),
    TESTED_IN("mmap", POLICY_MEMORY_CGROUP, mmap_tests,
              "executable mappings are what loaders and JITs make; of noexec mounts there are "
              "none. Huge pages come from the host's pool, which no control group counts; "
              "growing mappings escape RLIMIT_DATA"),
    TESTED_IN("mmap", POLICY_NO_MEMORY_CGROUP, mmap_counted_tests,
              "as above; and without a memory control group nothing at all counts shared "
              "anonymous memory, so there is none: a file in /dev/shm does the same, within its "
              "size"),
    WHY("mprotect", "JITs write code, then execute it; a script may compute what it likes anyway"),
    WHY("pkey_mprotect", "as mprotect"),
    WHY("mlock", "RLIMIT_MEMLOCK holds: 64 KiB"),
    WHY("mlock2", "as mlock"),
    WHY("munlock", "as mlock"),
    WHY("mincore", "tells residency of pages of own files only, since Linux 5.2"),
    WHY("membarrier", "interrupts only CPUs that run processes which asked for it"),
    WHY("get_mempolicy", "a question; numpy's and OpenMP's libraries ask it"),
    TESTED_IN("memfd_create", POLICY_MEMORY_CGROUP, memfd_tests,
              "charged to the run's control group; executing one is no more than the script may "
              "do. Huge pages: see mmap"),
    NO_IN("memfd_create", POLICY_NO_MEMORY_CGROUP,
          "without a memory control group nothing counts its pages"),
};

/* ---- processes ---- */

#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

/* CLONE_NEWTIME can't be said to clone(2): its bit is part of the exit signal there. */
static const policy_test_t clone_tests[] = {ALLOW_IF("no CLONE_NEW* flag", BITS(0, NAMESPACES, 0))};

static const policy_test_t prctl_tests[] = {
    COMMAND(0, PR_SET_PDEATHSIG),
    COMMAND(0, PR_GET_PDEATHSIG),
    COMMAND(0, PR_GET_DUMPABLE),
    COMMAND(0, PR_SET_DUMPABLE),
    COMMAND(0, PR_GET_KEEPCAPS),
    COMMAND(0, PR_SET_NAME),
    COMMAND(0, PR_GET_NAME),
    COMMAND(0, PR_GET_SECCOMP),
    COMMAND(0, PR_CAPBSET_READ),
    COMMAND(0, PR_GET_SECUREBITS),
    COMMAND(0, PR_SET_TIMERSLACK),
    COMMAND(0, PR_GET_TIMERSLACK),
    COMMAND(0, PR_SET_CHILD_SUBREAPER),
    COMMAND(0, PR_GET_CHILD_SUBREAPER),
    COMMAND(0, PR_SET_NO_NEW_PRIVS),
    COMMAND(0, PR_GET_NO_NEW_PRIVS),
    COMMAND(0, PR_GET_TID_ADDRESS),
    COMMAND(0, PR_SET_THP_DISABLE),
    COMMAND(0, PR_GET_THP_DISABLE),
    COMMAND(0, PR_CAP_AMBIENT),
    ALLOW_IF("PR_SET_VMA", IS(0, OPTION_SET_VMA)),
};

static const policy_test_t prlimit_tests[] = {ALLOW_IF("of itself (pid 0)", IS(0, 0))};
static const policy_test_t personality_tests[] = {
    ALLOW_IF("the question (0xffffffff)", IS(0, LOW32)),
    ALLOW_IF("the default (0)", IS(0, 0)),
};

static const policy_call_t process_calls[] = {
    OK("fork"),
    OK("vfork"),
    OK("exit"),
    OK("exit_group"),
    OK("wait4"),
    OK("waitid"),
    OK("getpid"),
    OK("getppid"),
    OK("gettid"),
    OK("getpgrp"),
    OK("getpgid"),
    OK("setpgid"),
    OK("getsid"),
    OK("setsid"),
    OK("set_tid_address"),
    OK("set_robust_list"),
    OK("futex"),
    OK_NEW("futex_waitv", 449),
    OK_NEW("futex_wake", 454),
    OK_NEW("futex_wait", 455),
    OK_NEW("futex_requeue", 456),
    OK("rseq"),
    OK("sched_yield"),
    OK("sched_getaffinity"),
    OK("sched_getparam"),
    OK("sched_getscheduler"),
    OK("sched_getattr"),
    OK("sched_get_priority_max"),
    OK("sched_get_priority_min"),
    OK("sched_rr_get_interval"),
    OK("getcpu"),
    OK("getpriority"),
    OK("getuid"),
    OK("geteuid"),
    OK("getgid"),
    OK("getegid"),
    OK("getresuid"),
    OK("getresgid"),
    OK("getgroups"),
    OK("capget"),
    OK("getrlimit"),
    OK("getrusage"),
    OK("times"),
    OK("time"),
    OK("gettimeofday"),
    OK("clock_gettime"),
    OK("clock_getres"),
    OK("getrandom"),
    TESTED("clone", clone_tests,
           "threads and processes, as many as RLIMIT_NPROC and the control group let there be; no "
           "namespaces, where a kernel's privileged code could be reached"),
    WHY("execve", "of what the mounts let be executed; nothing is gained by it (no_new_privs, "
                  "nosuid), and the filter stays"),
    WHY("get_robust_list", "of processes that could be traced: none but itself"),
    WHY("arch_prctl", "registers and features of its own processor state"),
    WHY("setrlimit", "can only lower: hard limits are set and CAP_SYS_RESOURCE is gone"),
    TESTED("prlimit64", prlimit_tests, "as setrlimit; never those of pid 1"),
    TESTED("prctl", prctl_tests,
           "names, death signals, subreapers, questions; PR_CAP_AMBIENT can raise nothing, nothing "
           "is inheritable; PR_SET_NO_NEW_PRIVS can't be undone. Not PR_SET_MM, PR_SET_SECCOMP, "
           "PR_SET_SECUREBITS, PR_CAPBSET_DROP, PR_SET_KEEPCAPS"),
    TESTED("personality", personality_tests,
           "not READ_IMPLIES_EXEC and ADDR_NO_RANDOMIZE, which make exploits easier"),
    WHY("sysinfo", "tells the host's memory and uptime, as /proc would"),
    WHY("uname", "tells the kernel's version; the host name is the sandbox's"),
};

/* ---- signals ---- */

static const policy_call_t signal_calls[] = {
    OK("rt_sigaction"),
    OK("rt_sigprocmask"),
    OK("rt_sigpending"),
    OK("rt_sigtimedwait"),
    OK("rt_sigsuspend"),
    OK("rt_sigreturn"),
    OK("sigaltstack"),
    WHY("kill", "there is nobody in the pid namespace but the run, and its pid 1 is immune to it"),
    WHY("tkill", "as kill"),
    WHY("tgkill", "as kill"),
    WHY("rt_sigqueueinfo", "as kill"),
    WHY("rt_tgsigqueueinfo", "as kill"),
    WHY_NEW("pidfd_open", 434,
            "of processes of the same pid namespace; subprocess and asyncio "
            "wait with it"),
    WHY_NEW("pidfd_send_signal", 424, "as kill"),
};

/* ---- sockets ---- */

#define SOCKET_TYPE 0xfu /* the rest of that argument is SOCK_CLOEXEC and SOCK_NONBLOCK */

/* A family that is refused must seem absent: resolvers then go on without netlink. */
static const policy_test_t socket_tests[] = {
    ALLOW_IF("AF_UNIX", IS(0, AF_UNIX)),
    SOCKET(AF_INET, SOCK_STREAM),
    SOCKET_FOR(AF_INET, SOCK_STREAM, IPPROTO_TCP),
    SOCKET(AF_INET, SOCK_DGRAM),
    SOCKET_FOR(AF_INET, SOCK_DGRAM, IPPROTO_UDP),
    SOCKET(AF_INET6, SOCK_STREAM),
    SOCKET_FOR(AF_INET6, SOCK_STREAM, IPPROTO_TCP),
    SOCKET(AF_INET6, SOCK_DGRAM),
    SOCKET_FOR(AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
    NO_FAMILY(AF_UNSPEC),
    NO_FAMILY(AF_AX25),
    NO_FAMILY(AF_IPX),
    NO_FAMILY(AF_APPLETALK),
    NO_FAMILY(AF_NETROM),
    NO_FAMILY(AF_BRIDGE),
    NO_FAMILY(AF_ATMPVC),
    NO_FAMILY(AF_X25),
    TEST("any family above AF_INET6", POLICY_EAFNOSUPPORT, 1, ABOVE(0, AF_INET6)),
};
static const policy_test_t socketpair_tests[] = {ALLOW_IF("AF_UNIX", IS(0, AF_UNIX))};

static const policy_call_t socket_calls[] = {
    OK("bind"),
    OK("connect"),
    OK("listen"),
    OK("accept"),
    OK("accept4"),
    OK("getsockname"),
    OK("getpeername"),
    OK("getsockopt"),
    OK("sendto"),
    OK("recvfrom"),
    OK("recvmsg"),
    OK("recvmmsg"),
    OK("shutdown"),
    TESTED("socket", socket_tests,
           "TCP, UDP and UNIX, for servers and clients of the run itself. No raw sockets; no "
           "protocol that makes the kernel load a module (SCTP, DCCP, MPTCP, L2TP); no netlink, "
           "vsock, packet, alg and other families: kernel code that few have looked at"),
    TESTED("socketpair", socketpair_tests, "pipes in both directions"),
    WHY("sendmsg", "descriptors go to processes of the run only: nobody else can be reached"),
    WHY("sendmmsg", "as sendmsg"),
    WHY("setsockopt", "without capabilities over any namespace, on the families above"),
};

/* ---- seemingly absent ---- */

static const policy_call_t absent_calls[] = {
    ABSENT("clone3", 435,
           "its flags are in memory, out of a filter's sight; C libraries use clone "
           "then. EPERM would break threads"),
    ABSENT("execveat", -1, "executes a descriptor past the path; fexecve(3) uses /proc then"),
    ABSENT("io_uring_setup", 425, "opens files and sockets without a call that a filter sees"),
    ABSENT("io_uring_enter", 426, "see io_uring_setup"),
    ABSENT("io_uring_register", 427, "see io_uring_setup"),
    ABSENT("landlock_create_ruleset", 444, NULL),
    ABSENT("landlock_add_rule", 445, NULL),
    ABSENT("landlock_restrict_self", 446, NULL),
    ABSENT("memfd_secret", 447, "memory that the host can't look at"),
    ABSENT("cachestat", 451, "tells which files others use"),
    ABSENT("map_shadow_stack", 453, NULL),
    ABSENT("statmount", 457, NULL),
    ABSENT("listmount", 458, NULL),
    ABSENT("lsm_get_self_attr", 459, NULL),
    ABSENT("lsm_set_self_attr", 460, NULL),
    ABSENT("lsm_list_modules", 461, NULL),
    ABSENT("setxattrat", 463, NULL),
    ABSENT("getxattrat", 464, NULL),
    ABSENT("listxattrat", 465, NULL),
    ABSENT("removexattrat", 466, NULL),
    ABSENT("file_getattr", 468, NULL),
    ABSENT("file_setattr", 469, NULL),
};

/* ---- refused ---- */

static const policy_call_t other_process_calls[] = {
    NO("ptrace"),
    NO("process_vm_readv"),
    NO("process_vm_writev"),
    NO_NEW("pidfd_getfd", 438),
    NO("kcmp"),
    NO_NEW("process_madvise", 440),
    NO_NEW("process_mrelease", 448),
};

static const policy_call_t mount_calls[] = {
    NO("mount"),
    NO("umount2"),
    NO("pivot_root"),
    NO("chroot"),
    NO_NEW("open_tree", 428),
    NO_NEW("open_tree_attr", 467),
    NO_NEW("move_mount", 429),
    NO_NEW("fsopen", 430),
    NO_NEW("fsconfig", 431),
    NO_NEW("fsmount", 432),
    NO_NEW("fspick", 433),
    NO_NEW("mount_setattr", 442),
    NO("setns"),
    NO("unshare"),
    NO("name_to_handle_at"),
    NO("open_by_handle_at"),
};

static const policy_call_t identity_calls[] = {
    NO("setuid"),
    NO("setgid"),
    NO("setreuid"),
    NO("setregid"),
    NO("setresuid"),
    NO("setresgid"),
    NO("setfsuid"),
    NO("setfsgid"),
    NO("setgroups"),
    NO("capset"),
    NO_WHY("add_key", "keyrings outlive the run and are common to a user's processes"),
    NO_WHY("request_key", "see add_key; it starts a program of the host"),
    NO_WHY("keyctl", "see add_key"),
};

static const policy_call_t kernel_calls[] = {
    NO("bpf"),
    NO("perf_event_open"),
    NO("userfaultfd"),
    NO("fanotify_init"),
    NO("fanotify_mark"),
    NO("init_module"),
    NO("finit_module"),
    NO("delete_module"),
    NO("create_module"),
    NO("query_module"),
    NO("get_kernel_syms"),
    NO("kexec_load"),
    NO("kexec_file_load"),
    NO("reboot"),
    NO("swapon"),
    NO("swapoff"),
    NO("acct"),
    NO("syslog"),
    NO("quotactl"),
    NO_NEW("quotactl_fd", 443),
    NO("vhangup"),
    NO("lookup_dcookie"),
    NO("nfsservctl"),
    NO("iopl"),
    NO("ioperm"),
    NO("modify_ldt"),
    NO("uselib"),
    NO("sysfs"),
    NO("_sysctl"),
    NO("ustat"),
    NO("io_setup"),
    NO("io_destroy"),
    NO("io_submit"),
    NO("io_cancel"),
    NO("io_getevents"),
    NO("io_pgetevents"),
    NO("remap_file_pages"),
    NO("set_thread_area"),
    NO("get_thread_area"),
    NO("epoll_ctl_old"),
    NO("epoll_wait_old"),
    NO("getpmsg"),
    NO("putpmsg"),
    NO("afs_syscall"),
    NO("tuxcall"),
    NO("security"),
    NO("vserver"),
    NO_WHY("seccomp", "more filters only slow the run down, and their compiler is kernel surface; "
                      "one with a listener stops its processes"),
};

static const policy_call_t page_calls[] = {NO("splice"), NO("tee"), NO("vmsplice")};

static const policy_call_t disk_calls[] = {NO("sync"), NO("syncfs")};

static const policy_call_t ipc_calls[] = {
    NO("shmget"),    NO("shmat"),         NO("shmdt"),        NO("shmctl"),
    NO("semget"),    NO("semop"),         NO("semtimedop"),   NO("semctl"),
    NO("msgget"),    NO("msgsnd"),        NO("msgrcv"),       NO("msgctl"),
    NO("mq_open"),   NO("mq_unlink"),     NO("mq_timedsend"), NO("mq_timedreceive"),
    NO("mq_notify"), NO("mq_getsetattr"),
};

static const policy_call_t share_calls[] = {
    NO("sched_setaffinity"), NO("sched_setparam"), NO("sched_setscheduler"),
    NO("sched_setattr"),     NO("setpriority"),    NO("ioprio_set"),
    NO("ioprio_get"),        NO("set_mempolicy"),  NO("mbind"),
    NO("migrate_pages"),     NO("move_pages"),     NO_NEW("set_mempolicy_home_node", 450),
    NO("mlockall"),          NO("munlockall"),
};

static const policy_call_t host_calls[] = {
    NO("settimeofday"),  NO("clock_settime"), NO("adjtimex"),
    NO("clock_adjtime"), NO("sethostname"),   NO("setdomainname"),
};

static const policy_call_t xattr_calls[] = {
    UNSUPPORTED("setxattr"),    UNSUPPORTED("lsetxattr"),    UNSUPPORTED("fsetxattr"),
    UNSUPPORTED("removexattr"), UNSUPPORTED("lremovexattr"), UNSUPPORTED("fremovexattr"),
};

#define GROUP(reason, calls)                                                                       \
    {                                                                                              \
        reason, calls, COUNT(calls)                                                                \
    }

const policy_group_t policy_groups[] = {
    GROUP("files: the mounts, Landlock and sizes bound them", file_calls),
    GROUP("waiting: on the run's own descriptors and clocks", waiting_calls),
    GROUP("memory: bounded by the control group or by RLIMIT_DATA", memory_calls),
    GROUP("its own processes and threads, and questions", process_calls),
    GROUP("signals: they reach the run's own pid namespace", signal_calls),
    GROUP("sockets: the network namespace has nothing but its own loopback", socket_calls),
    GROUP("not needed in a run; who knows the call knows its absence", absent_calls),
    GROUP("other processes of the run, above all its pid 1", other_process_calls),
    GROUP("mounts and namespaces, and files past the root", mount_calls),
    GROUP("who the run is", identity_calls),
    GROUP("the kernel itself: administration, and code that a run has no need to reach",
          kernel_calls),
    GROUP("hands pages of read-only files to where they may be written (Dirty Pipe, Copy Fail)",
          page_calls),
    GROUP("the host's disks", disk_calls),
    GROUP("memory that no rlimit counts, in objects that outlive processes", ipc_calls),
    GROUP("the share of CPU and memory among runs", share_calls),
    GROUP("clock and name of the host", host_calls),
    GROUP("attributes and ACLs: cp -a, mv, tar and shutil take it that the file system has none",
          xattr_calls),
};
const size_t policy_ngroups = COUNT(policy_groups);

/* ---- what setting up a sandbox needs besides ---- */

static const policy_test_t setup_ioctl_tests[] = {COMMAND(1, SIOCSIFFLAGS)};
static const policy_test_t setup_prctl_tests[] = {COMMAND(0, PR_CAPBSET_DROP),
                                                  COMMAND(0, PR_SET_SECUREBITS)};

const policy_setup_t policy_setup[] = {
    /* its processes, in namespaces of their own */
    {"clone3", NULL, 0},
    {"clone", NULL, 0},
    {"unshare", NULL, 0},
    {"sethostname", NULL, 0},
    {"ioctl", setup_ioctl_tests, COUNT(setup_ioctl_tests)},
    /* its mounts */
    {"open_tree", NULL, 0},
    {"move_mount", NULL, 0},
    {"fsopen", NULL, 0},
    {"fsconfig", NULL, 0},
    {"fsmount", NULL, 0},
    {"mount_setattr", NULL, 0},
    /* what confines it */
    {"prlimit64", NULL, 0},
    {"capset", NULL, 0},
    {"prctl", setup_prctl_tests, COUNT(setup_prctl_tests)},
    {"landlock_create_ruleset", NULL, 0},
    {"landlock_add_rule", NULL, 0},
    {"landlock_restrict_self", NULL, 0},
    {"seccomp", NULL, 0},
};
const size_t policy_nsetup = COUNT(policy_setup);

const policy_setup_t *policy_setup_of(const policy_call_t *call)
{
    for (size_t i = 0; i < COUNT(policy_setup); i++)
        if (strcmp(policy_setup[i].name, call->name) == 0)
            return &policy_setup[i];
    return NULL;
}

static const policy_call_t *find_in(const policy_group_t *group, const char *name,
                                    enum filter_variant variant)
{
    for (size_t i = 0; i < group->ncalls; i++)
        if (strcmp(group->calls[i].name, name) == 0 &&
            (group->calls[i].variants & (1u << variant)) != 0)
            return &group->calls[i];
    return NULL;
}

const policy_call_t *policy_find(const char *name, enum filter_variant variant)
{
    const policy_call_t *found = NULL;

    for (size_t i = 0; found == NULL && i < COUNT(policy_groups); i++)
        found = find_in(&policy_groups[i], name, variant);
    return found;
}

int policy_number(uint32_t arch, const policy_call_t *call)
{
    int nr =
        seccomp_syscall_resolve_name_arch(arch != 0 ? arch : seccomp_arch_native(), call->name);

    if (nr == __NR_SCMP_ERROR) /* libseccomp is older than the call */
        return call->number;
    return nr < 0 ? -1 : nr; /* other negative numbers: calls of other architectures */
}
