/*
 * probe_memory.c - taking memory in every way there is: item 40 of the catalogue.
 *
 *   memory WAY MIB    takes up to MIB in steps, tells how much it got, holds it for a moment
 *   ways MIB WAY ...  one way after another, in a process each
 *   many WAY MIB      the same in as many child processes as there can be
 *   hiding WAY MIB    the same, not dumpable
 *   orphan-threads MIB  in a thread that outlives the first
 *   cow MIB N         not an attack: N children that share their parent's memory
 *   vforks MIB MS     not an attack: a large process that starts one program after another
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB       (1LL << 20)
#define HOLD_MS   600
#define STRIDE    (2 * MIB)     /* one page of page tables */
#define TABLES_AT (512LL * MIB) /* mapped at once by take_tables() */
#define CHILDREN  64

static void sleep_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static long long map_steps(long long max, int prot, int flags, int fd)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        char *p = mmap(NULL, MIB, prot, flags, fd, 0);

        if (p == MAP_FAILED) {
            break;
        }
        memset(p, 1, MIB);
    }
    return got;
}

static long long take_private(long long max)
{
    return map_steps(max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

static long long take_malloc(long long max)
{
    long long got = 0;
    char *p;

    for (; got < max && (p = malloc(MIB)) != NULL; got += MIB) {
        memset(p, 1, MIB);
    }
    return got; /* NOLINT(clang-analyzer-unix.Malloc): that is the point */
}

static long long take_populate(long long max)
{
    return map_steps(max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
}

static long long take_executable(long long max)
{
    return map_steps(max, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* First mapped without a right, and made writable later: is it counted then? */
static long long take_protect(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        char *p = mmap(NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED || mprotect(p, MIB, PROT_READ | PROT_WRITE) != 0) {
            break;
        }
        memset(p, 1, MIB);
    }
    return got;
}

/* Written, then made read-only: no longer data to RLIMIT_DATA. */
static long long take_readonly(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED) {
            break;
        }
        memset(p, 1, MIB);
        if (mprotect(p, MIB, PROT_READ) != 0) {
            break;
        }
    }
    return got;
}

/* Grown downwards, as a stack is. */
static long long take_growsdown(long long max)
{
    return map_steps(max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1);
}

static long long take_mremap(long long max)
{
    long long got = MIB;
    char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (; p != MAP_FAILED && got < max; got += MIB) {
        char *q = mremap(p, (size_t)got, (size_t)(got + MIB), MREMAP_MAYMOVE);

        if (q == MAP_FAILED) {
            break;
        }
        p = q;
        memset(p + got, 1, MIB);
    }
    return got;
}

static long long take_shared(long long max)
{
    return map_steps(max, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

/* The older way to shared memory without a file. */
static long long take_zero(long long max)
{
    int fd = open("/dev/zero", O_RDWR);

    return fd < 0 ? 0 : map_steps(max, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
}

/* Each as large as a file may be at least. */
static long long take_memfd(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        int fd = (int)syscall(SYS_memfd_create, "x", 0);
        char *p = MAP_FAILED;

        if (fd >= 0 && ftruncate(fd, MIB) == 0) {
            p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        }
        if (p == MAP_FAILED) {
            break;
        }
        memset(p, 1, MIB);
        close(fd);
    }
    return got;
}

static long long take_sysv(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        int id = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
        char *p = id < 0 ? (char *)-1 : shmat(id, NULL, 0);

        if (p == (char *)-1) {
            break;
        }
        memset(p, 1, MIB);
    }
    return got;
}

static long long fill_file(const char *path, long long max)
{
    static char block[65536];
    long long got = 0;
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    ssize_t n;

    signal(SIGXFSZ, SIG_IGN);
    memset(block, 1, sizeof(block));
    while (fd >= 0 && got < max && (n = write(fd, block, sizeof(block))) > 0) {
        got += n;
    }
    return got;
}

/* Deleted at once: nothing to be seen but the memory. */
static long long take_tmpfs(long long max)
{
    static const char *const dirs[] = {"/tmp", "/dev/shm", "/sandbox/work"};
    long long got = 0;

    for (size_t i = 0; i < COUNT(dirs); i++) {
        char path[64];

        snprintf(path, sizeof(path), "%s/" MARK "%d", dirs[i], (int)getpid());
        got += fill_file(path, max - got);
        unlink(path);
    }
    return got;
}

/* Pages of page tables: the zero page is mapped once in every 2 MiB. */
static long long take_tables(long long max)
{
    long long got = 0;

    while (got < max) {
        char *p =
            mmap(NULL, TABLES_AT, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED) {
            break;
        }
        for (long long at = 0; at < TABLES_AT; at += STRIDE, got += 4096) {
            (void)*(volatile char *)(p + at);
        }
    }
    return got;
}

static long long take_brk(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        char *p = sbrk(MIB);

        if (p == (char *)-1) {
            break;
        }
        memset(p, 1, MIB);
    }
    return got;
}

static long long dig(long long left)
{
    volatile char frame[65536];

    memset((char *)frame, 1, sizeof(frame));
    return left <= 0 ? frame[7] : dig(left - (long long)sizeof(frame)) + frame[9];
}

static int dig_in_child(void *arg)
{
    return dig(*(long long *)arg) == 0;
}

/* 128 + SIGSEGV from the child: the stack ended. */
static long long take_stack(long long max)
{
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    int rc = setrlimit(RLIMIT_STACK, &more);

    tried(rc, "a stack without a limit");
    rc = in_child(dig_in_child, &max);
    errno = ENOMEM;
    tried(rc == 128 + SIGSEGV ? -1 : rc, "a deep stack");
    return rc == 128 + SIGSEGV ? 0 : max;
}

static long long take_mlock(long long max)
{
    long long got = 0;

    for (; got < max; got += MIB) {
        char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED || mlock(p, MIB) != 0) {
            break;
        }
    }
    return got;
}

/* What lies in sockets that nobody reads. */
static long long take_sockets(long long max)
{
    static char block[32768];
    long long got = 0;
    int pair[2];
    ssize_t n;

    while (got < max && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0) {
        for (int end = 0; end < 2; end++) {
            while ((n = write(pair[end], block, sizeof(block))) > 0) {
                got += n;
            }
        }
    }
    return got;
}

typedef long long take_t(long long max);

static const struct {
    const char *name;
    take_t *take;
} ways[] = {{"malloc", take_malloc},
            {"private", take_private},
            {"populate", take_populate},
            {"executable", take_executable},
            {"protect", take_protect},
            {"readonly", take_readonly},
            {"growsdown", take_growsdown},
            {"mremap", take_mremap},
            {"shared", take_shared},
            {"zero", take_zero},
            {"memfd", take_memfd},
            {"sysv", take_sysv},
            {"tmpfs", take_tmpfs},
            {"tables", take_tables},
            {"brk", take_brk},
            {"stack", take_stack},
            {"mlock", take_mlock},
            {"sockets", take_sockets}};

static take_t *find_way(const char *name)
{
    for (size_t i = 0; i < COUNT(ways); i++) {
        if (strcmp(ways[i].name, name) == 0) {
            return ways[i].take;
        }
    }
    fprintf(stderr, "no way %s\n", name);
    exit(2);
}

typedef struct {
    take_t *take;
    long long max;
    long hold_ms;
} taking_t;

/* How much it was, in MiB, as far as an exit status goes. */
static int take_in_child(void *arg)
{
    const taking_t *t = arg;
    long long got = t->take(t->max) / MIB;

    sleep_ms(t->hold_ms);
    return got > 127 ? 127 : (int)got;
}

static int take_in_grandchild(void *arg)
{
    return in_child(take_in_child, arg);
}

static void attack_memory(int argc, char **argv)
{
    long long max = atoll(argv[1]) * MIB, got = find_way(argv[0])(max);

    tried(got < max ? -1 : 0, "%s", argv[0]);
    noted_number("bytes", got);
    sleep_ms(HOLD_MS);
}

/* One way after the other, in a process each. */
static void attack_ways(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        taking_t t = {find_way(argv[i]), atoll(argv[0]) * MIB, 50};

        noted_number(argv[i], in_child(take_in_child, &t));
    }
}

static void attack_grandchild(int argc, char **argv)
{
    taking_t t = {find_way(argv[0]), atoll(argv[1]) * MIB, HOLD_MS};

    noted_number("ended", in_child(take_in_grandchild, &t));
}

/* All begin when all are there: the host has the time to see how many they are before two of them
 * are too much. */
static void take_many(taking_t t)
{
    long long total = 0;
    int children = 0, wstatus;

    for (; children < CHILDREN; children++) {
        pid_t pid = fork();

        if (pid == 0) {
            sleep_ms(HOLD_MS / 2);
            _exit(take_in_child(&t));
        }
        if (pid < 0) {
            break;
        }
    }
    noted_number("children", children);
    while (wait(&wstatus) > 0) {
        if (WIFEXITED(wstatus)) {
            total += WEXITSTATUS(wstatus);
        }
    }
    noted_number("mib", total);
}

static void attack_many(int argc, char **argv)
{
    take_many((taking_t){find_way(argv[0]), atoll(argv[1]) * MIB, 2 * HOLD_MS});
}

/* The same with memory that nobody else may look at. */
static void attack_hiding(int argc, char **argv)
{
    tried(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "hide");
    attack_many(argc, argv);
}

static int take_in_thread(void *arg)
{
    const taking_t *t = arg;

    take_readonly(t->max);
    sleep_ms(t->hold_ms);
    _exit(0);
}

/* The first thread ends, another goes on: what /proc shows of the process is the first's. */
static void attack_orphan_threads(int argc, char **argv)
{
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    static char stack[65536] __attribute__((aligned(16)));
    static taking_t t;

    t = (taking_t){NULL, atoll(argv[0]) * MIB, HOLD_MS};
    if (clone(take_in_thread, stack + sizeof(stack), flags, &t) > 0) {
        syscall(SYS_exit, 0);
    }
    perror("clone");
}

/* ---- what looks like too much, and is not ---- */

static int hold_and_read(void *arg)
{
    const char *p = arg;
    volatile long sum = 0;

    for (long at = 0; at < 32 * MIB; at += 4096) {
        sum += p[at];
    }
    sleep_ms(HOLD_MS);
    return 0;
}

static char *large(long long bytes)
{
    char *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(3);
    }
    memset(p, 1, (size_t)bytes);
    return p;
}

static void attack_cow(int argc, char **argv)
{
    char *p = large(atoll(argv[0]) * MIB);
    int many = atoi(argv[1]), ended = 0;

    for (int i = 0; i < many; i++) {
        if (fork() == 0) {
            _exit(hold_and_read(p));
        }
    }
    while (wait(NULL) > 0) {
        ended++;
    }
    noted_number("children", ended);
}

/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): it is tried */
/* 1 when the program was started and has ended. */
static int vfork_and_wait(void)
{
    static char *const env[] = {NULL};
    static char *const program[] = {"probe", "mark", "vfork", NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        usleep(3000); /* as when the program's file must be read from a disk */
        execve("/sandbox/scripts/probe", program, env);
        _exit(1);
    }
    return waitpid(pid, NULL, 0) == pid;
}

/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void attack_vforks(int argc, char **argv)
{
    long long started = 0, end = now_ms() + atoll(argv[1]);

    large(atoll(argv[0]) * MIB);
    while (now_ms() < end) {
        started += vfork_and_wait();
    }
    noted_number("started", started);
}

const attack_t memory_attacks[] = {
    {"memory", attack_memory}, {"ways", attack_ways},     {"grandchild", attack_grandchild},
    {"many", attack_many},     {"hiding", attack_hiding}, {"orphan-threads", attack_orphan_threads},
    {"cow", attack_cow},       {"vforks", attack_vforks}, {NULL, NULL},
};
