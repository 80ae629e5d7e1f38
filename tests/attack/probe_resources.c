/*
 * probe_resources.c - floods, bombs and scripts that do not end: items 39, 41 to 44
 * and 46 to 50 of the catalogue.  What never returns leaves an artifact "refused" when
 * it meets a limit, so that the host sees that it had come so far.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_MAX 20000
#define STACK     16384

/* An artifact, once. */
static void leave(const char *name, const char *text)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), FILES "/%s", name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

static void wait_for_ever(void)
{
    for (;;) {
        pause();
    }
}

static void ignore_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++) {
        signal(sig, SIG_IGN);
    }
}

/* ---- 39: processes ---- */

static void attack_forks(int argc, char **argv)
{
    for (;;) {
        if (fork() < 0) {
            leave("refused", strerrorname_np(errno));
            usleep(20000);
        }
    }
}

/* Each ends as soon as there is its successor: none lives long enough to be hit by its pid. */
static void attack_respawn(int argc, char **argv)
{
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            leave("refused", "running");
            for (;;) {
                pid_t pid = fork();

                if (pid > 0) {
                    _exit(0);
                }
            }
        }
    }
    wait_for_ever();
}

static void attack_daemons(int argc, char **argv)
{
    int stay = argc > 0 && strcmp(argv[0], "stay") == 0;

    for (int i = 0; i < 8; i++) {
        if (fork() == 0) {
            setsid();
            ignore_signals();
            if (fork() != 0) {
                _exit(0);
            }
            leave("refused", "running");
            for (;;) {
                if (fork() < 0) {
                    usleep(20000);
                }
            }
        }
    }
    while (access(FILES "/refused", F_OK) != 0) {
        usleep(1000);
    }
    if (stay) {
        wait_for_ever();
    }
}

static volatile int chain_depth, chain_errno;

/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): it is tried */
/* Each waits in the kernel for the next, which has its memory. */
static void chain(void)
{
    pid_t pid;

    chain_depth++;
    pid = vfork();
    if (pid < 0) {
        chain_errno = errno;
        leave("refused", strerrorname_np(chain_errno));
        wait_for_ever();
    }
    if (pid == 0) {
        chain();
        _exit(0);
    }
}

/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */

static void attack_vfork_chain(int argc, char **argv)
{
    chain();
}

static int sleeping_thread(void *arg)
{
    wait_for_ever();
    return 0;
}

static void attack_threads(int argc, char **argv)
{
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int made = 0;

    for (; made < FLOOD_MAX; made++) {
        char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (stack == MAP_FAILED || clone(sleeping_thread, stack + STACK, flags, NULL) < 0) {
            break;
        }
    }
    tried(made < FLOOD_MAX ? -1 : 0, "threads");
    noted_number("threads", made);
}

/* ---- 41: time of the processors ---- */

static int spin(void *arg)
{
    for (volatile unsigned long n = 0;; n++) {
    }
    return 0;
}

static void attack_spin(int argc, char **argv)
{
    int many = argc > 0 ? atoi(argv[0]) : 1;

    leave("refused", "spinning");
    for (int i = 1; i < many; i++) {
        if (fork() == 0) {
            spin(NULL);
        }
    }
    spin(NULL);
}

static void attack_spin_threads(int argc, char **argv)
{
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    static char stacks[8][STACK];

    leave("refused", "spinning");
    for (size_t i = 0; i < COUNT(stacks); i++) {
        clone(spin, stacks[i] + STACK, flags, NULL);
    }
    spin(NULL);
}

/* A CPU limit of its own is its own: the answer must not take it for the operator's. */
static void attack_own_cpu_limit(int argc, char **argv)
{
    struct rlimit second = {1, 1};

    setrlimit(RLIMIT_CPU, &second);
    spin(NULL);
}

/* ---- 42: scripts that do not end ---- */

/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): it is tried */
static void hang_in_vfork(void)
{
    if (vfork() == 0) {
        wait_for_ever();
    }
}
/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */

static void attack_hang(int argc, char **argv)
{
    const char *how = argv[0];
    int pair[2];
    char byte;

    leave("refused", how);
    if (strcmp(how, "read") == 0) {
        (void)!(pipe(pair) == 0 && read(pair[0], &byte, 1));
    } else if (strcmp(how, "stopped") == 0) {
        kill(getpid(), SIGSTOP);
    } else if (strcmp(how, "all-stopped") == 0) {
        if (fork() == 0) {
            wait_for_ever();
        }
        kill(-1, SIGSTOP);
        kill(1, SIGSTOP);
        kill(getpid(), SIGSTOP);
    } else if (strcmp(how, "ignoring") == 0) {
        ignore_signals();
    } else if (strcmp(how, "vfork") == 0) {
        hang_in_vfork();
    }
    wait_for_ever();
}

/* ---- 43: output ---- */

static void fill_block(char *block, size_t size, const char *kind)
{
    static const char binary[] =
        "\0\xff\xfe\xc3(\xed\xa0\x80\xf5\x1b[2J\x1b]0;title\a\"\\\x7f\xe2\x80\xa8";
    static const char line[] = "a line of some output\n";

    for (size_t i = 0; i < size; i++) {
        if (strcmp(kind, "lines") == 0) {
            block[i] = line[i % (sizeof(line) - 1)];
        } else if (strcmp(kind, "binary") == 0) {
            block[i] = binary[i % (sizeof(binary) - 1)];
        } else {
            block[i] = 'x';
        }
    }
}

/* argv: to stdout and how many MiB, to stderr and how many, what. */
static void attack_output(int argc, char **argv)
{
    static char block[65536];
    long long left[2] = {atoll(argv[0]) << 20, atoll(argv[1]) << 20};

    fill_block(block, sizeof(block), argv[2]);
    while (left[0] > 0 || left[1] > 0) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = left[i] > 0 ? write(i + 1, block, sizeof(block)) : 0;

            if (n < 0) {
                tried(n, "write");
                return;
            }
            left[i] -= n;
        }
    }
    noted("written", "all");
}

/* ---- 44: descriptors of the log ---- */

static void attack_close_log(int argc, char **argv)
{
    close(1);
    close(2);
    usleep(300000);
}

static void attack_keep_log(int argc, char **argv)
{
    if (fork() == 0) {
        setsid();
        ignore_signals();
        wait_for_ever();
    }
    printf("main is done\n");
    fflush(stdout);
}

/* ---- 46: floods ---- */

static int flood_files(void)
{
    return open("/dev/null", O_RDONLY);
}

static int flood_pipes(void)
{
    int pair[2];

    return pipe2(pair, O_CLOEXEC);
}

/* As large as they may be, and filled. */
static int flood_full_pipes(void)
{
    static char block[65536];
    int pair[2], rc = pipe2(pair, O_CLOEXEC | O_NONBLOCK);

    while (rc == 0 && write(pair[1], block, sizeof(block)) > 0) {
    }
    return rc;
}

static int flood_epolls(void)
{
    return epoll_create1(0);
}

/* Half of the descriptors watch the other half: as many watches as there can be. */
static int flood_watches(void)
{
    enum { WATCHED = 120 };
    static int watched[WATCHED], epoll, next = WATCHED;
    struct epoll_event event = {.events = EPOLLIN};

    for (int i = 0; watched[WATCHED - 1] == 0 && i < WATCHED; i++) {
        watched[i] = eventfd(0, 0);
    }
    if (next == WATCHED) {
        next = 0;
        epoll = epoll_create1(0);
    }
    return epoll < 0 ? -1 : epoll_ctl(epoll, EPOLL_CTL_ADD, watched[next++], &event);
}

static int flood_inotify(void)
{
    return inotify_init1(IN_CLOEXEC);
}

/* One instance, and as many files to watch as a run can make. */
static int flood_inotify_watches(void)
{
    static int fd = -1, n;
    char path[64];

    if (fd < 0) {
        fd = inotify_init1(IN_CLOEXEC);
    }
    snprintf(path, sizeof(path), "/tmp/" MARK "watched-%d", n++);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    return inotify_add_watch(fd, path, IN_ALL_EVENTS);
}

static int flood_timerfds(void)
{
    struct itimerspec soon = {{0, 1000000}, {0, 1000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);

    return fd < 0 ? fd : timerfd_settime(fd, 0, &soon, NULL);
}

static int flood_eventfds(void)
{
    return eventfd(0, 0);
}

static int flood_timers(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    timer_t timer;

    return timer_create(CLOCK_MONOTONIC, &event, &timer);
}

/* Blocked, so that each of them waits in the kernel. */
static int flood_signals(void)
{
    union sigval value = {0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigqueue(getpid(), SIGRTMIN + 1, value);
}

static int flood_sockets(void)
{
    int pair[2];

    return socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
}

static int send_descriptor(int via, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
    return (int)sendmsg(via, &msg, MSG_DONTWAIT);
}

static const struct {
    const char *name;
    int (*one)(void);
} floods[] = {{"files", flood_files},
              {"pipes", flood_pipes},
              {"full-pipes", flood_full_pipes},
              {"epolls", flood_epolls},
              {"watches", flood_watches},
              {"inotify", flood_inotify},
              {"inotify-watches", flood_inotify_watches},
              {"timerfds", flood_timerfds},
              {"eventfds", flood_eventfds},
              {"timers", flood_timers},
              {"signals", flood_signals},
              {"sockets", flood_sockets}};

static int flood(size_t which, int *error)
{
    int n = 0;

    while (n < FLOOD_MAX && floods[which].one() >= 0) {
        n++;
    }
    *error = n < FLOOD_MAX ? errno : 0;
    return n;
}

typedef struct {
    int count, error;
} flooded_t;

/* In processes of their own, which hold on to what they have until the run has ended. */
static void flood_in_children(size_t which, int processes)
{
    flooded_t result = {0, 0};
    long long total = 0;
    int ready[2];

    if (pipe(ready) != 0) {
        return;
    }
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            result.count = flood(which, &result.error);
            (void)!write(ready[1], &result, sizeof(result));
            wait_for_ever();
        }
        if (pid < 0 || read(ready[0], &result, sizeof(result)) != (ssize_t)sizeof(result)) {
            break;
        }
        total += result.count;
    }
    close(ready[0]);
    close(ready[1]);
    errno = result.error;
    tried(result.error != 0 ? -1 : 0, "%s", floods[which].name);
    noted_number(floods[which].name, total);
}

/* argv: which of them or "all", in how many processes each. */
static void attack_floods(int argc, char **argv)
{
    for (size_t i = 0; i < COUNT(floods); i++) {
        if (strcmp(argv[0], "all") == 0 || strcmp(argv[0], floods[i].name) == 0) {
            flood_in_children(i, atoi(argv[1]));
        }
    }
}

static int nothing(void *arg)
{
    return 0;
}

/* What an ordinary program needs and a flood beside it could have used up. */
static void attack_bystander(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    int pair[2], pipes[2], epoll;
    timer_t timer;

    tried(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    tried(send_descriptor(pair[0], 0), "a descriptor over a socket");
    tried(epoll = epoll_create1(0), "epoll");
    tried(pipe(pipes), "pipe");
    tried(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event), "epoll watch");
    noted_number("pipe size", fcntl(pipes[0], F_GETPIPE_SZ));
    tried(timer_create(CLOCK_MONOTONIC, &none, &timer), "timer");
    tried(flood_signals(), "signal");
    tried(in_child(nothing, NULL), "process");
    tried(inotify_init1(0), "inotify");
}

/* ---- 47: priorities and limits ---- */

typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
} scheduling_t;

static void try_limits(void)
{
    static const int resources[] = {
        RLIMIT_AS,         RLIMIT_CORE,   RLIMIT_CPU,   RLIMIT_DATA,    RLIMIT_FSIZE,
        RLIMIT_STACK,      RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE,
        RLIMIT_SIGPENDING, RLIMIT_RTPRIO, RLIMIT_NICE};

    for (size_t i = 0; i < COUNT(resources); i++) {
        struct rlimit limit;

        if (getrlimit(resources[i], &limit) != 0 || limit.rlim_max == RLIM_INFINITY) {
            continue; /* address space where a control group counts instead */
        }
        limit.rlim_max++;
        tried(setrlimit(resources[i], &limit), "setrlimit %d", resources[i]);
        tried(prlimit(0, resources[i], &limit, NULL), "prlimit %d", resources[i]);
        tried(prlimit(getpid(), resources[i], &limit, NULL), "prlimit %d of its pid", resources[i]);
        tried(prlimit(1, resources[i], &limit, NULL), "prlimit %d of pid 1", resources[i]);
    }
}

static void attack_priorities(int argc, char **argv)
{
    struct sched_param high = {.sched_priority = 1}, zero = {.sched_priority = 0};
    scheduling_t deadline = {.size = sizeof(deadline),
                             .policy = 6,
                             .runtime = 1000000,
                             .deadline = 2000000,
                             .period = 2000000};
    scheduling_t clamp = {.size = sizeof(clamp), .flags = 0x60, .util_min = 1024, .util_max = 1024};
    cpu_set_t all;

    CPU_ZERO(&all);
    CPU_SET(0, &all);
    try_limits();
    tried(sched_setaffinity(0, sizeof(all), &all), "affinity");
    tried(sched_setaffinity(1, sizeof(all), &all), "affinity of pid 1");
    tried(setpriority(PRIO_PROCESS, 0, -5), "nice");
    tried(setpriority(PRIO_USER, 0, -5), "nice of all");
    tried(sched_setscheduler(0, SCHED_FIFO, &high), "SCHED_FIFO");
    tried(sched_setscheduler(0, SCHED_RR, &high), "SCHED_RR");
    tried(sched_setscheduler(0, SCHED_IDLE, &zero), "SCHED_IDLE");
    tried(sched_setparam(0, &high), "sched_setparam");
    tried(syscall(SYS_sched_setattr, 0, &deadline, 0), "SCHED_DEADLINE");
    tried(syscall(SYS_sched_setattr, 0, &clamp, 0), "uclamp");
    tried(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0)),
          "ioprio");
    tried(try_open("/proc/self/oom_score_adj", O_WRONLY), "oom_score_adj");
    tried(try_open("/proc/self/autogroup", O_WRONLY), "autogroup");
    tried(try_open("/proc/self/timerslack_ns", O_WRONLY), "timerslack");
}

/* ---- 48: core dumps ---- */

static int crash(void *arg)
{
    const int *sig = arg;

    signal(*sig, SIG_DFL);
    raise(*sig);
    return 0;
}

static void attack_crash(int argc, char **argv)
{
    static const int deadly[] = {SIGSEGV, SIGABRT, SIGQUIT, SIGBUS, SIGSYS, SIGXCPU};
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

    tried(setrlimit(RLIMIT_CORE, &unlimited), "core dumps without a limit");
    (void)!chdir("/sandbox/out/files");
    for (size_t i = 0; i < COUNT(deadly); i++) {
        noted_number(sigabbrev_np(deadly[i]), in_child(crash, (void *)&deadly[i]));
    }
}

/* ---- 49: clocks ---- */

/* A timer that is cancelled when somebody sets the clock tells of it. */
static void wait_for_a_set_clock(void)
{
    const struct itimerspec later = {.it_value = {time(NULL) + 3600, 0}};
    const int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);

    noted_number("control: timer", timerfd_settime(fd, TFD_TIMER_ABSTIME, &later, NULL));
    tried(timerfd_settime(fd, flags, &later, NULL), "timerfd TFD_TIMER_CANCEL_ON_SET");
    tried(syscall(SYS_timerfd_settime, fd, 0xffffffff00000000L | flags, &later, NULL),
          "timerfd TFD_TIMER_CANCEL_ON_SET below set bits");
    close(fd);
}

static void attack_clocks(int argc, char **argv)
{
    struct timespec epoch = {0, 0};
    struct timeval second = {1, 0};
    struct timex frequency = {.modes = ADJ_FREQUENCY},
                 step = {.modes = ADJ_SETOFFSET, .time = {1, 0}};

    tried(clock_settime(CLOCK_REALTIME, &epoch), "clock_settime");
    tried(clock_settime(CLOCK_MONOTONIC, &epoch), "clock_settime monotonic");
    tried(settimeofday(&second, NULL), "settimeofday");
    tried(adjtimex(&frequency), "adjtimex");
    tried(clock_adjtime(CLOCK_REALTIME, &step), "clock_adjtime");
    tried(adjtime(&second, NULL), "adjtime");
    tried(try_open("/dev/rtc0", O_RDWR), "/dev/rtc0");
    wait_for_a_set_clock();
}

/* ---- 50: file sizes ---- */

static int write_past_the_limit(void *arg)
{
    struct rlimit limit;
    int fd = open("/sandbox/work/" MARK "large", O_RDWR | O_CREAT, 0600);

    getrlimit(RLIMIT_FSIZE, &limit);
    return pwrite(fd, "xy", 2, (off_t)limit.rlim_max - 1) == 1 && write(fd, "x", 1) == 1 &&
           pwrite(fd, "x", 1, (off_t)limit.rlim_max) < 0;
}

static void attack_large_file(int argc, char **argv)
{
    int fd = open("/sandbox/work/" MARK "large", O_RDWR | O_CREAT, 0600);
    struct rlimit limit;

    getrlimit(RLIMIT_FSIZE, &limit);
    noted_number("limit", (long long)limit.rlim_max);
    noted_number("default action", in_child(write_past_the_limit, NULL));
    signal(SIGXFSZ, SIG_IGN);
    noted_number("up to the limit", pwrite(fd, "xy", 2, (off_t)limit.rlim_max - 1));
    tried(pwrite(fd, "x", 1, (off_t)limit.rlim_max), "write past the limit");
    tried(ftruncate(fd, (off_t)limit.rlim_max + 1), "ftruncate past the limit");
    tried(fallocate(fd, 0, 0, (off_t)limit.rlim_max + 1), "fallocate past the limit");
    noted_number("size", lseek(fd, 0, SEEK_END));
    close(fd);
    unlink("/sandbox/work/" MARK "large");
}

const attack_t resource_attacks[] = {{"forks", attack_forks},
                                     {"respawn", attack_respawn},
                                     {"daemon-bomb", attack_daemons},
                                     {"vfork-chain", attack_vfork_chain},
                                     {"threads", attack_threads},
                                     {"spin", attack_spin},
                                     {"spin-threads", attack_spin_threads},
                                     {"own-cpu-limit", attack_own_cpu_limit},
                                     {"hang", attack_hang},
                                     {"output", attack_output},
                                     {"close-log", attack_close_log},
                                     {"keep-log", attack_keep_log},
                                     {"floods", attack_floods},
                                     {"bystander", attack_bystander},
                                     {"priorities", attack_priorities},
                                     {"crash", attack_crash},
                                     {"clocks", attack_clocks},
                                     {"large-file", attack_large_file},
                                     {NULL, NULL}};
