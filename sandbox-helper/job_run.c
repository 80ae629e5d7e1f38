/*
 * job_run.c - a run while its sandbox lives: what it prints, what its set-up and
 * its init report, its limits in time.  The bytes of the script are counted and
 * copied, never looked at.
 */
#include "job_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "log.h"

#define SETUP_MS    15000 /* from the request to RUN_READY */
#define STOP_MS     300   /* from RUN_STOP to SIGKILL: on a busy machine, too, pid 1 is faster */
#define KILL_MS     15000 /* from SIGKILL to the sandbox's death */
#define READ_CHUNK  65536
#define DRAIN_BYTES (4 * SB_MIB) /* more than a script can make a pipe hold */

static char chunk[READ_CHUNK];

/* ---- the log ---- */

/* Reads once.  Bytes read; 0: nothing there, or the end. */
static size_t pipe_read(job_t *job, job_pipe_t *p)
{
    ssize_t n = read(p->fd, chunk, sizeof chunk);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) { /* every writer has closed it: no sign that the run has ended */
        loop_del(&job->h->loop, &p->source);
        close(p->fd);
        p->fd = -1;
        return 0;
    }
    size_t live = runlog_add(&job->log, chunk, (size_t)n);
    if (p == &job->out)
        runlog_add_stdout(&job->log, chunk, (size_t)n);
    if (live > 0 && job->conn != NULL)
        connection_log(job->conn, chunk, live);
    if (live > 0)
        attach_log(job, chunk, live);
    return (size_t)n;
}

static void on_out(void *ctx, uint32_t events)
{
    job_t *job = ctx;

    (void)events;
    pipe_read(job, &job->out);
}

static void on_err(void *ctx, uint32_t events)
{
    job_t *job = ctx;

    (void)events;
    pipe_read(job, &job->err);
}

/* After the sandbox's death: what lies in the pipe, without waiting for an end. */
static void pipe_drain(job_t *job, job_pipe_t *p)
{
    size_t total = 0, n = 1;

    while (p->fd >= 0 && n > 0 && total < DRAIN_BYTES) {
        n = pipe_read(job, p);
        total += n;
    }
}

/* ---- limits in time ---- */

void job_fail(job_t *job, int status, const char *slug, const char *fmt, ...)
{
    va_list args;

    if (job->fail_status != 0)
        return; /* the first reason is the reason */
    job->fail_status = status;
    job->fail_slug = slug;
    va_start(args, fmt);
    vsnprintf(job->fail_message, sizeof job->fail_message, fmt, args);
    va_end(args);
}

void job_kill(job_t *job)
{
    if (job->state == JOB_RUNNING || job->state == JOB_SETUP)
        job->state = JOB_ENDING;
    job->killed = true;
    SB_FAULT_POINT("sandbox to be killed");
    stage_child_kill(&job->child);
    cgroup_kill(&job->h->cgroups, &job->leaf);
    loop_timer_set(&job->h->loop, &job->timer, KILL_MS);
}

static void script_timed_out(job_t *job)
{
    stage_child_poll(&job->child);
    if (job->state != JOB_RUNNING)
        return; /* it ended in time; the news was on its way */
    const char stop = RUN_STOP;

    job->timed_out = true;
    job->ended_us = loop_now_us();
    /* pid 1 ends the others: killed with it, their CPU time would be nobody's */
    if (stage_child_send(&job->child, &stop, sizeof stop, NULL, 0) != 0) {
        job_kill(job);
        return;
    }
    job->state = JOB_ENDING;
    loop_timer_set(&job->h->loop, &job->timer, STOP_MS);
}

static void on_timer(void *ctx)
{
    job_t *job = ctx;

    switch (job->state) {
    case JOB_SETUP:
        job_fail(job, 500, "internal_error", "The sandbox did not get ready in time.");
        job_kill(job);
        break;
    case JOB_RUNNING:
        script_timed_out(job);
        break;
    case JOB_ENDING:
        if (!job->killed)
            job_kill(job);
        else /* SIGKILL has not helped: only the stage's own end can */
            stagelink_restart(job->child.link, "a sandbox could not be killed");
        break;
    default:
        break;
    }
}

static void on_end(void *ctx);

void job_watch(job_t *job)
{
    loop_t *loop = &job->h->loop;

    job->out.source = (loop_source_t){.fd = -1, .fn = on_out, .ctx = job};
    job->err.source = (loop_source_t){.fd = -1, .fn = on_err, .ctx = job};
    job->timer.fn = on_timer;
    job->end = (loop_task_t){.fn = on_end, .ctx = job};
    loop_timer_set(loop, &job->timer, SETUP_MS);
    if (loop_add(loop, &job->out.source, job->out.fd, EPOLLIN) != 0 ||
        loop_add(loop, &job->err.source, job->err.fd, EPOLLIN) != 0) {
        job_fail(job, 500, "internal_error", "The sandbox's output could not be watched.");
        job_kill(job);
    }
}

/* ---- reports of the run's child ---- */

static void run_ready(job_t *job, int *fds, int nfds)
{
    if (job->state != JOB_SETUP || nfds != 2)
        return; /* killed meanwhile, or nonsense: then the set-up limit ends it */
    job->out_dir = fds[0];
    job->work_dir = fds[1];
    fds[0] = fds[1] = -1;
    close(job->job_fd);
    job->job_fd = -1;
    job->state = JOB_RUNNING;
    SB_FAULT_POINT("script may start");
    job->ready_us = loop_now_us();
    loop_timer_set(&job->h->loop, &job->timer, job->req.timeout_ms);
}

static void run_exited(job_t *job, const run_report_t *report)
{
    if (job->state != JOB_RUNNING)
        return; /* a kill was faster: its reason stands */
    if (report->executed) {
        job->start = START_EXECUTED;
        zygotes_count(&job->h->zygotes, &job->req, job->start);
        prestarts_count(&job->h->prestarts, &job->req, job->start);
    }
    job->exited = true;
    job->wstatus = report->wstatus;
    job->cpu_usec = report->cpu_usec;
    job->maxrss = report->maxrss;
    job->ended_us = loop_now_us();
    job->state = JOB_ENDING;
    loop_timer_clear(&job->h->loop, &job->timer);
    SB_FAULT_POINT("script ended");
    /* not from here: a message of the child must not end the child's struct */
    loop_task(&job->h->loop, &job->end);
}

/* Every process of the script's is dead: its result is final, whatever pid 1 still has to do. */
static void on_end(void *ctx)
{
    job_t *job = ctx;

    pipe_drain(job, &job->out);
    pipe_drain(job, &job->err);
    job_dead(job);
}

/* pid 1 has measured it, and ends all. */
static void run_out_of_memory(job_t *job)
{
    if (job->state != JOB_RUNNING)
        return;
    job->over_memory = true;
    job->ended_us = loop_now_us();
    job->state = JOB_ENDING;
    loop_timer_set(&job->h->loop, &job->timer, STOP_MS);
}

/* The steps that read the job, when they say what is wrong with it. */
static bool callers_fault(const run_report_t *report)
{
    static const char *const steps[] = {"job", "environment", "files"};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (strcmp(steps[i], report->failed_step) == 0)
            return report->text[0] != '\0';
    }
    return false;
}

static void setup_failed(job_t *job, run_report_t *report)
{
    report->failed_step[sizeof report->failed_step - 1] = '\0';
    report->text[sizeof report->text - 1] = '\0';
    if (log_begin(LOG_WARN, "a sandbox could not be made")) {
        log_str("execution", job->req.execution);
        log_str("step", report->failed_step);
        log_str("text", report->text);
        log_errno(report->failed_errno);
        log_end();
    }
    if (strcmp(report->failed_step, "target") == 0)
        job_fail(job, 400, "bad_request", "The package has no such script.");
    else if (callers_fault(report))
        job_fail(job, 400, "bad_request", "%s", report->text);
    else
        job_fail(job, 500, "internal_error", "The sandbox could not be made (%s).",
                 report->failed_step);
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    job_t *job = ctx;
    run_report_t report;

    if (len != sizeof report)
        return;
    memcpy(&report, data, sizeof report);
    if (report.magic != STAGE_MAGIC)
        return;
    switch (report.kind) {
    case RUN_READY:
        run_ready(job, fds, nfds);
        break;
    case RUN_EXITED:
        run_exited(job, &report);
        break;
    case RUN_OUT_OF_MEMORY:
        run_out_of_memory(job);
        break;
    case RUN_SETUP_FAILED:
        setup_failed(job, &report);
        break;
    default:
        break;
    }
}

/* ---- its death ---- */

static void on_exited(void *ctx, const stage_event_t *event)
{
    job_t *job = ctx;

    loop_task_clear(&job->h->loop, &job->end);
    if (job->ended_us == 0)
        job->ended_us = loop_now_us();
    job->cpu_usec = event->cpu_usec;
    job->maxrss = event->maxrss;
    pipe_drain(job, &job->out);
    pipe_drain(job, &job->err);
    if (job->ready_us == 0 && !job->cancel_asked)
        job_fail(job, 500, "internal_error", "The sandbox ended before it was ready.");
    job_dead(job);
}

static void on_failed(void *ctx, const char *step, int errnum)
{
    job_t *job = ctx;

    if (job->end.next != NULL)
        return; /* its end was on the way: the result is there all the same */
    if (log_begin(LOG_ERROR, "a run failed")) {
        log_str("execution", job->req.execution);
        log_str("step", step);
        log_errno(errnum);
        log_end();
    }
    if (errnum == 0 && job->state == JOB_SETUP && job_wait_again(job))
        return;
    if (job->ended_us == 0)
        job->ended_us = loop_now_us();
    if (errnum == ETOOMANYREFS)
        job_fail(job, 503, "overloaded", "The sandbox helper has no room for the run.");
    job_fail(job, 500, "internal_error", "The sandbox failed: %s.", step);
    job_dead(job);
}

const stage_child_ops_t job_child_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};
