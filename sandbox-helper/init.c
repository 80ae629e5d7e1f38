/*
 * init.c - see init.h.  Confined before the script's process gets its run (same filter, no
 * capability, not dumpable), holding one descriptor that matters: the status socket.  Beside the
 * script's processes it may have one more child, their keeper (keeper.h).
 * What pid 2 says about its start comes over a socket of its own once it reads the
 * caller's bytes: the socket to main is never in such a process.
 */
#include "init.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "keeper.h"
#include "launch.h"
#include "memwatch.h"
#include "report.h"
#include "sys.h"

#define REAP_AT_ONCE 256
#define LINGER_MS    1 /* an answer has left by then, durable record included */

/* Our end of the socket to pid 2; what keeper_alone() reads. */
enum { FD_LAUNCH = FD_STATUS + 1, FD_LAST_PID };

typedef enum { REAPED_ALL, REAPED_MANY, REAPED_SCRIPT } reaped_t; /* MANY: there may be more */

typedef struct {
    pid_t script;
    pid_t keeper; /* 0: none, or reaped */
    bool ending;  /* the keeper was killed */
    bool executed;
    int signals;
    int64_t started_ms;
    memwatch_t memory; /* where there is no keeper */
} watch_t;

static void __attribute__((noreturn)) fail(const char *step, int err, const char *text)
{
    report_run_failed(FD_STATUS, step, err, text);
    _exit(EXIT_SETUP);
}

/* Of all descriptors only the two sockets and that file stay: no log pipe is held open.  All of
 * ours have higher numbers before: see step_descriptors() in sandbox.c. */
static int keep_descriptors(int from_launch, int last_pid)
{
    if (dup3(from_launch, FD_LAUNCH, O_CLOEXEC) < 0)
        return -1;
    if (last_pid >= 0 && dup3(last_pid, FD_LAST_PID, O_CLOEXEC) < 0)
        return -1;
    if (sys_close_range(0, FD_STATUS - 1, 0) != 0)
        return -1;
    return sys_close_range(last_pid >= 0 ? FD_LAST_PID + 1 : FD_LAST_PID, ~0u, 0);
}

/* One message of pid 2; 0 when there are no more. */
static ssize_t read_launch(run_report_t *report)
{
    ssize_t n;

    do
        n = read(FD_LAUNCH, report, sizeof(*report));
    while (n < 0 && errno == EINTR);
    report->failed_step[sizeof(report->failed_step) - 1] = '\0';
    report->text[sizeof(report->text) - 1] = '\0';
    return n;
}

/* It has ended before it was the script, without saying why over this socket. */
static void __attribute__((noreturn)) died(pid_t script)
{
    int wstatus = 0;
    char text[64];

    if (waitpid(script, &wstatus, 0) != script)
        wstatus = 0;
    if (WIFEXITED(wstatus)) /* it has told main, or main has no use for it */
        _exit(WEXITSTATUS(wstatus));
    snprintf(text, sizeof(text), "the request's process ended with wait status 0x%x", wstatus);
    fail("prepare", ECHILD, text);
}

/*
 * Until pid 2 has said all: its end of the socket goes with its start, and with its death.  A look
 * at each message as it comes would take a processor from the run for nothing.
 */
static void await_launch(void)
{
    struct pollfd launch = {.fd = FD_LAUNCH, .events = POLLRDHUP};

    while (poll(&launch, 1, -1) < 0 && errno == EINTR)
        ;
}

/* pid 2 has its run and is confined, but had read nothing of it: its word is still ours. */
static void take_limits(pid_t script, launch_limits_t *limits)
{
    ssize_t n;

    do
        n = read(FD_LAUNCH, limits, sizeof(*limits));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(*limits))
        died(script);
}

/*
 * Returns the script's process when it has started; *executed: in an interpreter of its own
 * although there was one.  pid 2 announces that, then its end of the socket is closed, by execve(2)
 * or by itself; anything else is a set-up that failed, not a script.
 */
static pid_t take_start(pid_t script, pid_t ready, bool *executed)
{
    run_report_t report;
    ssize_t n = read_launch(&report);

    if (n == 0)
        died(script); /* the end without the announcement */
    if (n == (ssize_t)sizeof(report) && report.kind == LAUNCH_START) {
        *executed = report.executed != 0;
        n = read_launch(&report);
    }
    if (n == 0 && ready > 0 && !*executed)
        return ready;
    if (n == 0) {
        if (ready > 0)
            (void)kill(ready, SIGKILL); /* it is of no use for this run */
        return script;
    }
    if (n == (ssize_t)sizeof(report) && report.kind == RUN_SETUP_FAILED)
        fail(report.failed_step, report.failed_errno, report.text);
    died(script);
}

/* ---- while the script runs ---- */

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Orphans become pid 1's children; the script's own end is everybody's.  A bounded number at
 * once, so that a script can't keep us from the rest with them.
 */
static reaped_t reap(watch_t *w, int *wstatus)
{
    for (int i = 0; i < REAP_AT_ONCE; i++) {
        pid_t pid = waitpid(-1, wstatus, WNOHANG);

        if (pid == w->script)
            return REAPED_SCRIPT;
        if (pid <= 0)
            return REAPED_ALL;
        if (pid == w->keeper)
            w->keeper = 0;
    }
    return REAPED_MANY;
}

static void end_keeper(watch_t *w)
{
    if (w->keeper > 0 && !w->ending)
        (void)kill(w->keeper, SIGKILL);
    w->ending = true;
}

/*
 * The end by our own hand: what was not waited for would be missing in the CPU time, and what lives
 * could still write to what is read afterwards.  With no child left there is no process left: each
 * orphan becomes ours before its parent is gone.
 */
static void end_all(watch_t *w)
{
    end_keeper(w);
    if (getpid() == 1) /* else "all" would be every process of this user on the host */
        (void)kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    w->keeper = 0;
}

/* The script is reaped: a keeper that sleeps writes nothing, and ends with us. */
static void end_others(watch_t *w)
{
    pid_t pid = 0;

    for (int i = 0; i < REAP_AT_ONCE && (pid = waitpid(-1, NULL, WNOHANG)) > 0; i++)
        if (pid == w->keeper)
            w->keeper = 0;
    if (pid < 0 && errno == ECHILD)
        return;
    if (w->keeper == 0 || w->ending || !keeper_alone(w->keeper, FD_LAST_PID))
        end_all(w);
}

static uint64_t microseconds(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
}

static void add_usage(run_report_t *report, pid_t keeper)
{
    struct rusage usage;

    if (getrusage(RUSAGE_CHILDREN, &usage) != 0)
        return;
    report->cpu_usec = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
    if (keeper > 0)
        report->cpu_usec += keeper_cpu_usec(keeper);
    report->maxrss = (uint64_t)usage.ru_maxrss * 1024;
}

static void tell_main(const watch_t *w, uint32_t kind, int wstatus)
{
    run_report_t report = {
        .magic = STAGE_MAGIC, .kind = kind, .wstatus = wstatus, .executed = w->executed};

    add_usage(&report, w->keeper);
    (void)sys_send_fds(FD_STATUS, &report, sizeof(report), NULL, 0); /* main may have gone */
}

/* Until there is something to be done. */
static int timeout(const watch_t *w)
{
    int64_t left;

    if (w->keeper == 0)
        return memwatch_timeout(&w->memory);
    if (w->ending)
        return -1; /* its death is a signal */
    left = w->started_ms + KEEPER_MS - now_ms();
    return left <= 0 ? 0 : (int)left;
}

/*
 * The end of a namespace, with all the memory that a keeper holds, takes a processor half a
 * millisecond in the kernel, which does not let go of it: whoever is woken there meanwhile to
 * answer the client waits for that. Main's word, or its death, is enough.
 */
static void linger(const watch_t *w)
{
    struct pollfd main = {.fd = FD_STATUS, .events = POLLIN};

    if (w->keeper > 0)
        (void)poll(&main, 1, LINGER_MS);
}

static void watch_over(watch_t *w)
{
    struct pollfd fds[] = {{.fd = FD_STATUS, .events = POLLIN},
                           {.fd = w->signals, .events = POLLIN}};
    struct signalfd_siginfo info;
    reaped_t reaped = REAPED_MANY; /* who ended before the signal was blocked */
    int wstatus = 0;

    for (;;) {
        if (reaped == REAPED_MANY)
            reaped = reap(w, &wstatus);
        if (reaped == REAPED_SCRIPT) {
            end_others(w);
            SB_FAULT_POINT("script reaped");
            tell_main(w, RUN_EXITED, wstatus);
            SB_FAULT_POINT("end reported");
            linger(w);
            return;
        }
        if (memwatch_over(&w->memory)) {
            tell_main(w, RUN_OUT_OF_MEMORY, 0);
            end_all(w);
            return;
        }
        if (w->keeper > 0 && timeout(w) == 0)
            end_keeper(w);
        if (poll(fds, 2, reaped == REAPED_MANY ? 0 : timeout(w)) <= 0)
            continue;
        if (fds[0].revents != 0) { /* a word from main means one thing, and so does its death */
            end_all(w);
            return;
        }
        if (read(w->signals, &info, sizeof(info)) > 0)
            reaped = REAPED_MANY;
    }
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void init_run(run_t *run)
{
    watch_t watch = {.memory = {.proc = -1}};
    launch_limits_t limits;
    int pair[2];
    const char *step;
    pid_t script;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        fail("launch socket", errno, NULL);
    script = fork();
    if (script < 0)
        fail("fork", errno, NULL);
    if (script == 0) {
        close(pair[0]);
        run->to_init = pair[1];
        sandbox_script(run);
    }
    if (keep_descriptors(pair[0], run->last_pid) != 0)
        fail("init descriptors", errno, NULL);
    SB_FAULT_POINT("script forked");
    watch.signals = open_signals();
    if (watch.signals < 0)
        fail("init signals", errno, NULL);
    step = sandbox_confine_init(run);
    if (step != NULL)
        fail(step, errno, NULL);
    if (write(FD_LAUNCH, "", 1) != 1)
        fail("init confined", errno, NULL);
    await_launch();
    take_limits(script, &limits);
    watch.script = take_start(script, limits.ready_pid, &watch.executed);
    watch.keeper = limits.keeper_pid;
    watch.started_ms = now_ms();
    if (watch.executed)
        end_keeper(&watch); /* of a memory that nothing has any more */
    if (run->cgroup == 0)
        memwatch_start(&watch.memory, limits.memory_bytes);
    watch_over(&watch);
    _exit(0);
}
