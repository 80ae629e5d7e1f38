/*
 * test_keeper.c - a keeper (sandbox-helper/keeper.h) holds the script's memory and can do nothing
 * with it, whatever the script writes there.
 *
 * Each test is pid 1 of a pid namespace with a process that stands for the script: it makes
 * the keeper and then, as its like could, overwrites the code that the keeper will go on with.
 */
#include "cmocka_all.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../sandbox-helper/idmap.h"
#include "../../sandbox-helper/keeper.h"
#include "../../sandbox-helper/sys.h"

#define WAIT_MS 10000
#define NOBODY  65534

/* In a process of the namespace: no cmocka there. */
#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

typedef struct {
    pid_t keeper;
    int last_pid;
    volatile int word; /* what hijacked code sets */
} shared_t;

static shared_t *shared;

static void nap(void)
{
    const struct timespec ms = {.tv_nsec = 1000000};

    nanosleep(&ms, NULL);
}

/* What the kernel says of the keeper in that file; "" when it is gone. */
static const char *proc(const char *name)
{
    static char text[4096];
    char path[64];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)shared->keeper, name);
    file = fopen(path, "re");
    n = file == NULL ? 0 : fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    if (file != NULL)
        fclose(file);
    return text;
}

static bool asleep(void)
{
    const char *letter = strrchr(proc("stat"), ')');

    return letter != NULL && letter[2] == 'S';
}

static void await_sleep(void)
{
    for (int ms = 0; !asleep(); ms++) {
        CHECK(ms < WAIT_MS);
        nap();
    }
}

/* ---- the namespace ---- */

static void mount_proc(void)
{
    CHECK(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
    shared->last_pid = open(KEEPER_LAST_PID, O_RDONLY | O_CLOEXEC);
    CHECK(shared->last_pid >= 0);
}

static void __attribute__((noreturn)) script(void (*body)(void))
{
    static stage_config_t config;

    config.nofile = 64;
    config.nproc = 64;
    shared->keeper = keeper_make(&config);
    CHECK(shared->keeper > 0);
    await_sleep();
    if (body != NULL)
        body();
    _exit(0);
}

/* test() runs in pid 1, with the script dead and reaped. */
static void in_namespace(void (*body)(void), void (*test)(void))
{
    /* as the helper's: root is never mapped */
    const uid_t uid = geteuid() == 0 ? NOBODY : geteuid();
    const gid_t gid = geteuid() == 0 ? NOBODY : getegid();
    int pidfd, wstatus = -1;
    pid_t pid;

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    if (geteuid() == 0) {
        assert_int_equal(setegid(gid), 0);
        assert_int_equal(seteuid(uid), 0);
        assert_int_equal(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    pid = sys_clone(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS, -1, &pidfd);
    assert_true(pid >= 0);
    if (pid == 0) {
        CHECK(idmap_write(uid, gid, NULL) == 0);
        mount_proc();
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            script(body);
        CHECK(waitpid(pid, &wstatus, 0) == pid && wstatus == 0);
        test();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &wstatus, 0), pid);
    assert_int_equal(wstatus, 0);
    if (getuid() == 0) {
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(setegid(0), 0);
    }
    close(pidfd);
    munmap(shared, sizeof(*shared));
}

/* ---- what it is ---- */

static void has(const char *line)
{
    if (strstr(proc("status"), line) != NULL)
        return;
    fprintf(stderr, "not \"%s\" in %s\n", line, proc("status"));
    _exit(1);
}

static void has_nothing(void)
{
    char path[64], target[64];

    has("PPid:\t1\n");
    has("CapPrm:\t0000000000000000\n");
    has("CapEff:\t0000000000000000\n");
    has("CapBnd:\t0000000000000000\n");
    has("CapAmb:\t0000000000000000\n");
    has("NoNewPrivs:\t1\n");
    has("Seccomp:\t2\n");
    has("SigBlk:\tfffffffffffbfeff\n"); /* all but SIGKILL and SIGSTOP */
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)shared->keeper, fd);
        CHECK(readlink(path, target, sizeof(target)) < 0 && errno == ENOENT);
    }
    CHECK(strstr(proc("limits"), "Max cpu time              1 ") != NULL);
    CHECK(strstr(proc("limits"), "Max core file size        1 ") != NULL);
}

static void a_keeper_has_nothing_but_memory(void **state)
{
    in_namespace(NULL, has_nothing);
}

static void holds_memory(void)
{
    unsigned long size = 0, resident = 0;

    CHECK(sscanf(proc("statm"), "%lu %lu", &size, &resident) == 2);
    CHECK(resident > 0);
    CHECK(keeper_alone(shared->keeper, shared->last_pid));
}

static void the_memory_of_a_dead_script_is_still_there(void **state)
{
    in_namespace(NULL, holds_memory);
}

/* ---- who else is there ---- */

static void leave_one(void)
{
    if (fork() == 0)
        for (;;)
            pause();
}

static void one_is_left(void)
{
    CHECK(!keeper_alone(shared->keeper, shared->last_pid));
    CHECK(kill(shared->keeper + 1, SIGKILL) == 0);
    CHECK(waitpid(shared->keeper + 1, NULL, 0) == shared->keeper + 1);
    CHECK(keeper_alone(shared->keeper, shared->last_pid));
}

static void another_process_is_seen(void **state)
{
    in_namespace(leave_one, one_is_left);
}

static void had_others(void)
{
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        CHECK(waitpid(pid, NULL, 0) == pid);
    }
}

static void none_is_left(void)
{
    CHECK(keeper_alone(shared->keeper, shared->last_pid));
    CHECK(!keeper_alone(shared->keeper, -1));
}

static void processes_that_are_gone_do_not_count(void **state)
{
    in_namespace(had_others, none_is_left);
}

static void kill_it(void)
{
    CHECK(kill(shared->keeper, SIGKILL) == 0);
}

static void is_killed(void)
{
    int wstatus = 0;

    CHECK(waitpid(shared->keeper, &wstatus, 0) == shared->keeper);
    CHECK(WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL);
    CHECK(!keeper_alone(shared->keeper, shared->last_pid));
}

static void a_keeper_that_is_killed_is_none(void **state)
{
    in_namespace(kill_it, is_killed);
}

static void stop_it(void)
{
    CHECK(kill(shared->keeper, SIGSTOP) == 0);
    while (asleep())
        nap();
}

static void is_stopped(void)
{
    CHECK(!keeper_alone(shared->keeper, shared->last_pid));
}

static void a_keeper_that_is_stopped_does_not_sleep(void **state)
{
    in_namespace(stop_it, is_stopped);
}

/* ---- taken over ---- */

/* Machine code: an endless loop, a harmless call, a wait of the allowed kind with a time limit;
 * behind the calls the loop. */
#if defined(__x86_64__)
static const unsigned char loop[] = {0xeb, 0xfe};
static const unsigned char call[] = {0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xfe};
static const unsigned char limited[] = {0x49, 0xc7,
                                        0xc2, 1,
                                        0,    0,
                                        0, /* r10: the address of a time */
                                        0xbe, FUTEX_WAIT_PRIVATE,
                                        0,    0,
                                        0, /* esi */
                                        0xb8, SYS_futex,
                                        0,    0,
                                        0, /* eax */
                                        0x0f, 0x05,
                                        0xeb, 0xfe};
#else
static const uint32_t loop[] = {0x14000000};
static const uint32_t call[] = {0xd2800008 | (SYS_getpid << 5), 0xd4000001, 0x14000000};
static const uint32_t limited[] = {0xd2800023, 0xd2800001 | (FUTEX_WAIT_PRIVATE << 5),
                                   0xd2800008 | (SYS_futex << 5), 0xd4000001, 0x14000000};
#endif

/* Writes it to where the keeper goes on, and wakes it. */
static void take_over(const void *code, size_t len)
{
    unsigned long word, op, value, rest, sp, pc = 0;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int number = 0;

    CHECK(sscanf(proc("syscall"), "%d %lx %lx %lx %lx %lx %lx %lx %lx", &number, &word, &op, &value,
                 &rest, &rest, &rest, &sp, &pc) == 9);
    CHECK(number == SYS_futex && op == FUTEX_WAIT_PRIVATE);
    CHECK(mprotect((void *)(pc / page * page), 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    memcpy((void *)pc, code, len);
    __builtin___clear_cache((char *)pc, (char *)pc + len);
    CHECK(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
}

static void make_it_loop(void)
{
    take_over(loop, sizeof(loop));
    for (int ms = 0; keeper_cpu_usec(shared->keeper) < 20000; ms++) {
        CHECK(ms < WAIT_MS);
        nap();
    }
}

static void is_awake(void)
{
    CHECK(!keeper_alone(shared->keeper, shared->last_pid));
    CHECK(keeper_cpu_usec(shared->keeper) >= 20000);
}

static void one_that_was_taken_over_is_seen_and_its_time_counts(void **state)
{
    in_namespace(make_it_loop, is_awake);
}

static void make_it_call(void)
{
    take_over(call, sizeof(call));
}

static void make_it_wait_for_a_time(void)
{
    take_over(limited, sizeof(limited));
}

static void died_of_its_call(void)
{
    int wstatus = 0;

    CHECK(waitpid(shared->keeper, &wstatus, 0) == shared->keeper);
    CHECK(WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGSYS);
}

static void any_call_ends_it(void **state)
{
    in_namespace(make_it_call, died_of_its_call);
}

static void a_wait_that_ends_by_itself_ends_it(void **state)
{
    in_namespace(make_it_wait_for_a_time, died_of_its_call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keeper_has_nothing_but_memory),
        cmocka_unit_test(the_memory_of_a_dead_script_is_still_there),
        cmocka_unit_test(another_process_is_seen),
        cmocka_unit_test(processes_that_are_gone_do_not_count),
        cmocka_unit_test(a_keeper_that_is_killed_is_none),
        cmocka_unit_test(a_keeper_that_is_stopped_does_not_sleep),
        cmocka_unit_test(one_that_was_taken_over_is_seen_and_its_time_counts),
        cmocka_unit_test(any_call_ends_it),
        cmocka_unit_test(a_wait_that_ends_by_itself_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
