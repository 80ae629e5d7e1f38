/*
 * probe_policy.c - the system call policy as the kernel applies it: items 20, 22, 24,
 * 32 to 34 of the catalogue.  Each call is made in a child of its own, which writes
 * what it got into a pipe; a child that does not answer in time is killed.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL_MS 2000
#define X32_BIT 0x40000000L

/* ---- a call in a child ---- */

typedef struct {
    long number;
    long args[6];
} call_t;

static void __attribute__((noreturn)) make_call(const call_t *c, int out)
{
    pid_t me = getpid();
    long rc;
    int err;

    signal(SIGSYS, SIG_DFL);
    errno = 0;
    rc = syscall(c->number, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4], c->args[5]);
    err = rc < 0 ? errno : 0;
    if (getpid() == me && write(out, &err, sizeof(err)) != sizeof(err)) {
        _exit(1);
    }
    _exit(0); /* the child of a fork that succeeded ends here, too */
}

/* The errno, 0 for success, -N when a signal killed it, -1000 when it did not come back. */
static int answer_of(const call_t *c)
{
    int ends[2], err = -1000, wstatus = 0;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
        return -1001;
    }
    if (pid == 0) {
        close(ends[0]);
        make_call(c, ends[1]);
    }
    close(ends[1]);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    if (poll(&p, 1, CALL_MS) != 1 || read(ends[0], &err, sizeof(err)) != sizeof(err)) {
        err = -1000;
        kill(pid, SIGKILL);
    }
    close(ends[0]);
    waitpid(pid, &wstatus, 0);
    if (err == -1000 && WIFSIGNALED(wstatus) && WTERMSIG(wstatus) != SIGKILL) {
        return -WTERMSIG(wstatus);
    }
    return err;
}

static void note_answer(const char *key, int err)
{
    char text[32];

    if (err == 0) {
        noted(key, "done");
    } else if (err == -1000) {
        noted(key, "no answer");
    } else if (err < 0 && err > -65) {
        snprintf(text, sizeof(text), "SIG%s", sigabbrev_np(-err));
        noted(key, text);
    } else if (strerrorname_np(err) != NULL) {
        noted(key, strerrorname_np(err));
    } else {
        snprintf(text, sizeof(text), "%d", err);
        noted(key, text);
    }
}

static void call_and_note(const char *key, long number, const long *args)
{
    call_t c = {.number = number};

    memcpy(c.args, args, sizeof(c.args));
    note_answer(key, answer_of(&c));
}

/*
 * argv: FROM TO ARGUMENT [NUMBER ...]: every number from FROM up to TO, all arguments
 * the same, without the numbers listed.  What it got goes into the notes by number.
 */
static void attack_sweep(int argc, char **argv)
{
    long from = strtol(argv[0], NULL, 0), to = strtol(argv[1], NULL, 0);
    long a = strtol(argv[2], NULL, 0), args[6] = {a, a, a, a, a, a};

    for (long number = from; number < to; number++) {
        char key[32];
        int skip = 0;

        for (int i = 3; i < argc && !skip; i++) {
            skip = strtol(argv[i], NULL, 0) == number;
        }
        if (!skip) {
            snprintf(key, sizeof(key), "%ld", number);
            call_and_note(key, number, args);
        }
    }
}

/* argv: one call each, "NUMBER,ARG,ARG,..."; the notes have the same text. */
static void attack_calls(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        call_t c = {0};
        char *end;

        c.number = (long)strtoull(argv[i], &end, 0);
        for (int k = 0; k < 6 && *end == ','; k++) {
            c.args[k] = (long)strtoull(end + 1, &end, 0);
        }
        note_answer(argv[i], answer_of(&c));
    }
}

/* ---- 22: other doors into the kernel ---- */

#if defined(__x86_64__)
/* getpid, mount and socketcall by their 32-bit numbers, through the 32-bit gate */
static int int80(void *arg)
{
    long rc;

    __asm__ volatile("int $0x80"
                     : "=a"(rc)
                     : "a"(*(const long *)arg), "b"(0L), "c"(0L), "d"(0L)
                     : "memory", "r8", "r9", "r10", "r11");
    return 42; /* came back */
}

static void attack_foreign(int argc, char **argv)
{
    static const long gates[] = {1000, 20 /* getpid */, 21 /* mount */, 102 /* socketcall */};
    static const long x32[] = {0, 39, 41, 59, 165, 435, 512, 520, 0x3fffffff};
    long none[6] = {0};
    char key[32];

    for (size_t i = 0; i < COUNT(gates); i++) {
        long number = gates[i];

        snprintf(key, sizeof(key), "int80 %ld", number);
        noted_number(key, in_child(int80, &number));
    }
    for (size_t i = 0; i < COUNT(x32); i++) {
        snprintf(key, sizeof(key), "x32 %ld", x32[i]);
        call_and_note(key, X32_BIT | x32[i], none);
    }
    tried(syscall(SYS_modify_ldt, 1, none, sizeof(none)), "modify_ldt");
    tried(syscall(SYS_modify_ldt, 0x11, none, sizeof(none)), "modify_ldt, new way");
    tried(syscall(SYS_iopl, 3), "iopl");
    tried(syscall(SYS_ioperm, 0, 1, 1), "ioperm");
}
#else
static void attack_foreign(int argc, char **argv)
{
    noted("none", "this architecture has no second gate that the probe knows");
}
#endif

static void attack_personality(int argc, char **argv)
{
    static const unsigned long bad[] = {
        READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC,
        MMAP_PAGE_ZERO,    PER_LINUX32,       0x100000000ul | READ_IMPLIES_EXEC};

    for (size_t i = 0; i < COUNT(bad); i++) {
        tried(syscall(SYS_personality, bad[i]), "personality %#lx", bad[i]);
    }
    noted_number("now", syscall(SYS_personality, 0xffffffff));
}

/* ---- 24: families ---- */

static void attack_families(int argc, char **argv)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM,
                                SOCK_RAW,    SOCK_SEQPACKET,
                                SOCK_PACKET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK};

    for (int i = 0; i <= 53; i++) {
        int family = i == 51 ? 255 : i == 52 ? -1 : i == 53 ? 0x7fffffff : i;

        for (size_t k = 0; k < COUNT(types); k++) {
            char key[32];
            long args[6] = {family, types[k], 0};

            snprintf(key, sizeof(key), "%d %d", family, types[k]);
            call_and_note(key, SYS_socket, args);
        }
    }
}

/* ---- 34: what needs a proper set-up to be a proper try ---- */

static int sleeper(void *arg)
{
    pause();
    return 0;
}

static pid_t sibling(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        _exit(sleeper(NULL));
    }
    return pid;
}

static void attack_surface(int argc, char **argv)
{
    static char mine[16] = "mine", theirs[16] = "theirs";
    struct iovec local = {mine, sizeof(mine)}, remote = {theirs, sizeof(theirs)};
    pid_t pid = sibling();
    long ring[64] = {0}, attr[16] = {0};
    int pidfd = (int)syscall(434 /* pidfd_open */, pid, 0);

    noted_number("a pidfd of its own child", pidfd >= 0);
    tried(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace TRACEME");
    tried(ptrace(PTRACE_ATTACH, pid, 0, 0), "ptrace ATTACH");
    tried(ptrace(PTRACE_SEIZE, pid, 0, 0), "ptrace SEIZE");
    tried(ptrace(PTRACE_SEIZE, 1, 0, 0), "ptrace SEIZE of pid 1");
    tried(process_vm_readv(pid, &local, 1, &remote, 1, 0), "process_vm_readv");
    tried(process_vm_writev(pid, &local, 1, &remote, 1, 0), "process_vm_writev");
    tried(syscall(438 /* pidfd_getfd */, pidfd, 1, 0), "pidfd_getfd");
    tried(syscall(SYS_kcmp, getpid(), pid, 0, 0, 0), "kcmp");
    tried(syscall(440 /* process_madvise */, pidfd, &remote, 1, 4, 0), "process_madvise");
    tried(syscall(448 /* process_mrelease */, pidfd, 0), "process_mrelease");
    tried(syscall(425 /* io_uring_setup */, 4, ring), "io_uring_setup");
    tried(syscall(426 /* io_uring_enter */, 3, 1, 1, 0, 0, 0), "io_uring_enter");
    tried(syscall(427 /* io_uring_register */, 3, 0, 0, 0), "io_uring_register");
    tried(syscall(SYS_userfaultfd, 1 /* user mode only */), "userfaultfd");
    attr[0] = 2 | 4ul << 32; /* an array map, 4-byte keys */
    attr[1] = 4 | 1ul << 32;
    tried(syscall(SYS_bpf, 0, attr, sizeof(attr)), "bpf map");
    attr[0] = 1 /* software */ | 64ul << 32;
    tried(syscall(SYS_perf_event_open, attr, 0, -1, -1, 0), "perf_event_open of itself");
    tried(syscall(SYS_kexec_load, 0, 0, 0, 0), "kexec_load");
    tried(syscall(SYS_init_module, mine, 4, ""), "init_module");
    tried(syscall(SYS_finit_module, 0, "", 0), "finit_module");
    tried(syscall(SYS_delete_module, "none", O_NONBLOCK), "delete_module");
    tried(syscall(SYS_fanotify_init, 0, 0), "fanotify_init");
    tried(syscall(SYS_fanotify_mark, 0, 1, 1, AT_FDCWD, "/"), "fanotify_mark");
    tried(syscall(SYS_quotactl, 0x80000100, "/dev/vda", 0, attr), "quotactl");
    tried(syscall(SYS_syslog, 3, mine, sizeof(mine)), "syslog");
    tried(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0), "reboot CAD off");
    tried(syscall(SYS_vhangup), "vhangup");
    tried(syscall(SYS_io_setup, 1, ring), "io_setup");
    noted("a sibling's memory", theirs); /* its own copy: what counts are the tries */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- 20: filters, once more: by threads, by what is inherited ---- */

static void attack_filter_stays(int argc, char **argv)
{
    char *const unshare[] = {"unshare", "--user", "true", NULL};
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    static const unsigned flags[] = {
        0,     1 /* TSYNC */, 2 /* LOG */, 4 /* SPEC_ALLOW */, 8 /* NEW_LISTENER */,
        16 | 1 /* TSYNC_ESRCH */};
    unsigned action = SECCOMP_RET_ALLOW;

    for (size_t i = 0; i < COUNT(flags); i++) {
        tried(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &program),
              "filter with flags %#x", flags[i]);
    }
    tried(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL), "strict");
    tried(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action), "ask for an action");
    tried(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &program), "ask for sizes");
    tried(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), "strict by prctl");
    tried(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "filter by prctl");
    tried(syscall(SYS_prctl, 0x100000000ul | PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program),
          "filter by prctl, upper bits set");
    for (long value = 0; value < 4; value++) { /* 1 is what it is already */
        if (value != 1) {
            tried(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, value, 0, 0, 0), "no_new_privs = %ld",
                  value);
        }
    }
    tried(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0x100000000ul, 0, 0, 0),
          "no_new_privs = 0 with upper bits");
    noted_number("seccomp", prctl(PR_GET_SECCOMP)); /* 2: filters */
    noted_number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    noted_number("unshare after execve", run_program("/usr/bin/unshare", unshare));
}

/* ---- 40: memory that no rlimit counts ---- */

#define MAPPING (16l << 20)

static void try_mapping(const char *what, long size, int protection, int flags, int fd)
{
    volatile char *p = mmap(NULL, (size_t)size, protection, flags, fd, 0);

    tried(p == MAP_FAILED ? -1 : 0, "%s", what);
    /* kept, and used from its end (a stack grows downwards), until the host has looked */
    for (long at = p == MAP_FAILED ? 0 : size; at > 0; at -= 4096) {
        if (protection & PROT_WRITE) {
            p[at - 4096] = 1;
        } else {
            (void)p[at - 4096];
        }
    }
}

static int sized(int fd, long size)
{
    return fd >= 0 && ftruncate(fd, size) == 0 ? fd : -1;
}

static void attack_mappings(int argc, char **argv)
{
    const int rw = PROT_READ | PROT_WRITE, anonymous = MAP_SHARED | MAP_ANONYMOUS;
    int file = sized(open("/dev/shm/" MARK "m", O_RDWR | O_CREAT, 0600), 1 << 20), fd;

    try_mapping("control: private", MAPPING, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    try_mapping("control: a file in /dev/shm", 1 << 20, rw, MAP_SHARED, file);
    try_mapping("shared", MAPPING, rw, anonymous, -1);
    try_mapping("shared, validated", MAPPING, rw, 3 | MAP_ANONYMOUS, -1);
    try_mapping("shared, of a descriptor", MAPPING, rw, anonymous, file);
    try_mapping("/dev/zero", MAPPING, rw, MAP_SHARED, open("/dev/zero", O_RDWR));
    try_mapping("/dev/zero, to be read", MAPPING, PROT_READ, MAP_SHARED,
                open("/dev/zero", O_RDONLY));
    try_mapping("growing", MAPPING, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1);
    try_mapping("huge", MAPPING, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    try_mapping("huge and shared", MAPPING, rw, anonymous | MAP_HUGETLB, -1);
    fd = sized((int)syscall(SYS_memfd_create, "m", 0), 1 << 20); /* files have a size limit */
    try_mapping("memfd", 1 << 20, rw, MAP_SHARED, fd);
    tried(syscall(SYS_memfd_create, "m", MFD_HUGETLB), "huge memfd");
    tried(syscall(SYS_shmget, 0 /* IPC_PRIVATE */, MAPPING, 0600), "SysV");
    unlink("/dev/shm/" MARK "m");
}

const attack_t policy_attacks[] = {
    {"sweep", attack_sweep},
    {"calls", attack_calls},
    {"foreign", attack_foreign},
    {"personality", attack_personality},
    {"families", attack_families},
    {"surface", attack_surface},
    {"filter-stays", attack_filter_stays},
    {"mappings", attack_mappings},
    {NULL, NULL},
};
