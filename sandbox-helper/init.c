/*
 * init.c - see init.h.  Confined like the script (same filter, Landlock, limits, no
 * capability), not dumpable, holding one descriptor that matters: the status socket.
 * What pid 2 says about its start comes over a pipe of its own, because pid 2 reads the
 * caller's bytes: the socket to main is never in such a process.
 */
#include "init.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "launch.h"
#include "report.h"
#include "sys.h"

enum { FD_LAUNCH = FD_STATUS + 1 }; /* read end of the pipe from pid 2 */

static void __attribute__((noreturn)) fail(const char *step, int err, const char *text)
{
    report_run_failed(FD_STATUS, step, err, text);
    _exit(EXIT_SETUP);
}

/* Of all descriptors only the status socket and the pipe stay: no log pipe is held open. */
static int keep_two(int from_launch)
{
    if (dup3(from_launch, FD_LAUNCH, O_CLOEXEC) < 0)
        return -1;
    if (sys_close_range(0, FD_STATUS - 1, 0) != 0)
        return -1;
    return sys_close_range(FD_LAUNCH + 1, ~0u, 0);
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

/*
 * Returns when the interpreter has been executed.  pid 2 announces the attempt, then
 * execve(2) closes its end; anything else is a set-up that failed, not a script.
 */
static void await_exec(pid_t script)
{
    run_report_t report;
    ssize_t n = read_launch(&report);
    int wstatus;
    char text[64];

    if (n == (ssize_t)sizeof(report) && report.kind == LAUNCH_EXEC)
        n = read_launch(&report);
    else if (n == 0)
        n = -1; /* the end without the announcement */
    if (n == 0)
        return;
    if (n == (ssize_t)sizeof(report) && report.kind == RUN_SETUP_FAILED)
        fail(report.failed_step, report.failed_errno, report.text);
    if (waitpid(script, &wstatus, 0) != script)
        wstatus = 0;
    snprintf(text, sizeof(text), "the request's process ended with wait status 0x%x", wstatus);
    fail("prepare", ECHILD, text);
}

/* Orphans become pid 1's children; the script's own end is everybody's. */
static int reap_until(pid_t script)
{
    int wstatus;
    pid_t pid;

    do
        pid = waitpid(-1, &wstatus, 0);
    while (pid != script && (pid > 0 || errno == EINTR));
    return wstatus;
}

void init_run(const run_t *run)
{
    run_report_t report = {.magic = STAGE_MAGIC, .kind = RUN_EXITED};
    int pipefd[2];
    pid_t script;

    if (pipe2(pipefd, O_CLOEXEC) != 0)
        fail("launch pipe", errno, NULL);
    script = fork();
    if (script < 0)
        fail("fork", errno, NULL);
    if (script == 0) {
        close(FD_STATUS);
        close(pipefd[0]);
        launch_script(run, pipefd[1]);
    }
    if (keep_two(pipefd[0]) != 0)
        fail("init descriptors", errno, NULL);
    SB_FAULT_POINT("script forked");
    await_exec(script);
    report.wstatus = reap_until(script);
    SB_FAULT_POINT("script reaped");
    (void)sys_send_fds(FD_STATUS, &report, sizeof(report), NULL, 0); /* main may have gone */
    SB_FAULT_POINT("end reported");
    _exit(0);
}
