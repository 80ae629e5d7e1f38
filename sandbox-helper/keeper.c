/*
 * keeper.c - see keeper.h.  keep() and what it calls run in the keeper, on a stack of its own but
 * with pid 2's memory, its errno included: pid 2 waits until the keeper is confined.  From then on
 * the keeper touches nothing.
 */
#include "keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "filter.h"
#include "privileges.h"
#include "rlimits.h"
#include "sys.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define STACK      16384
#define CONFINE_MS 5000 /* it takes a tenth of one */

#ifdef ARCH

enum { STARTING, CONFINED, FAILED };

static char stack[STACK] __attribute__((aligned(16)));
static uint32_t state; /* what pid 2 waits for; then what the keeper sleeps on */

#define ARG(n)             (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))
#define LOAD(at)           BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(at))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)

/* clang-format off: one instruction a line */
static struct sock_filter code[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    IF(ARCH, 0, 9),
    LOAD(offsetof(struct seccomp_data, nr)),
    IF(SYS_futex, 0, 7),
    LOAD(ARG(1)),
    IF(FUTEX_WAKE_PRIVATE, 6, 0),
    IF(FUTEX_WAIT_PRIVATE, 0, 4),
    LOAD(ARG(3)), /* the time limit's address, half by half */
    IF(0, 0, 2),
    LOAD(ARG(3) + sizeof(uint32_t)),
    IF(0, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
/* clang-format on */

static const filter_t filter = {.code = code, .len = sizeof(code) / sizeof(code[0])};

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

/* The same without errno, which is the script's by then. */
static void wait_for_ever(void)
{
#if defined(__x86_64__)
    register const void *timeout __asm__("r10") = NULL;
    long rc = SYS_futex;

    __asm__ volatile("syscall"
                     : "+a"(rc)
                     : "D"(&state), "S"(FUTEX_WAIT_PRIVATE), "d"(CONFINED), "r"(timeout)
                     : "rcx", "r11", "memory");
#else
    register long number __asm__("x8") = SYS_futex;
    register long word __asm__("x0") = (long)&state;
    register long op __asm__("x1") = FUTEX_WAIT_PRIVATE;
    register long value __asm__("x2") = CONFINED;
    register long timeout __asm__("x3") = 0;

    __asm__ volatile("svc 0"
                     : "+r"(word)
                     : "r"(number), "r"(op), "r"(value), "r"(timeout)
                     : "memory");
#endif
}

static int block_signals(void)
{
    const uint64_t all = ~0ull; /* the C library leaves two out */

    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
}

static int limit_cpu(void)
{
    const struct rlimit second = {1, 1};

    return setrlimit(RLIMIT_CPU, &second);
}

static int confine(const stage_config_t *config)
{
    (void)prctl(PR_SET_NAME, "sandbox-keeper", 0, 0, 0);
    if (block_signals() != 0 || sys_close_range(0, ~0u, 0) != 0 ||
        rlimits_apply_init(config) != 0 || limit_cpu() != 0 || privileges_drop_caps() != 0 ||
        privileges_no_new() != 0)
        return -1;
    return filter_load(&filter);
}

static void say(uint32_t word)
{
    __atomic_store_n(&state, word, __ATOMIC_RELEASE);
    (void)futex(&state, FUTEX_WAKE_PRIVATE, 1, NULL);
}

static int keep(void *config)
{
    if (confine(config) != 0) {
        say(FAILED);
        _exit(1);
    }
    say(CONFINED);
    for (;;)
        wait_for_ever();
}

pid_t keeper_make(const stage_config_t *config)
{
    const struct timespec limit = {.tv_sec = CONFINE_MS / 1000};
    pid_t pid;

    state = STARTING;
    pid = clone(keep, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | SIGCHLD, (void *)config);
    if (pid < 0)
        return 0;
    while (__atomic_load_n(&state, __ATOMIC_ACQUIRE) == STARTING)
        if (futex(&state, FUTEX_WAIT_PRIVATE, STARTING, &limit) != 0 && errno == ETIMEDOUT)
            return -1;
    return state == CONFINED ? pid : 0;
}

#else /* no filter for this architecture: no keeper */

pid_t keeper_make(const stage_config_t *config)
{
    return 0;
}

#endif

/* ---- pid 1 ---- */

static long number_in(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? strtol(text, NULL, 10) : -1;
}

static bool listed(pid_t keeper)
{
    DIR *proc = opendir("/proc");
    const struct dirent *e;
    bool found = proc == NULL;

    while (!found && (e = readdir(proc)) != NULL) {
        const long pid = strtol(e->d_name, NULL, 10);

        found = pid > 0 && pid != keeper && pid != getpid();
    }
    if (proc != NULL)
        closedir(proc);
    return found;
}

/*
 * Is there another process?  Not if none was ever made behind the keeper.  Else those that live are
 * listed; one that is missing would have been made meanwhile, by one that was there.
 */
static bool others(pid_t keeper, int last_pid)
{
    const long last = number_in(last_pid);

    return last < 0 || (last != keeper && (listed(keeper) || number_in(last_pid) != last));
}

static bool sleeps(pid_t keeper)
{
    char path[32], text[256];
    const char *letter;
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)keeper);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    letter = strrchr(text, ')'); /* behind its name */
    return letter != NULL && strncmp(letter, ") S", 3) == 0;
}

bool keeper_alone(pid_t keeper, int last_pid)
{
    return !others(keeper, last_pid) && sleeps(keeper);
}

uint64_t keeper_cpu_usec(pid_t keeper)
{
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(keeper, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}
