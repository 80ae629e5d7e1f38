/*
 * job_end.c - a run after its sandbox's death: what its control group knows, the
 * collect child packs what it left, the gateway is answered.  Descriptors of the
 * run's folders only pass through to the collect child.
 */
#include "job_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../libskillbox/protocol.h"
#include "fault.h"
#include "grave.h"
#include "log.h"
#include "sys.h"

#define COLLECT_AGAIN_MS 100
#define COLLECT_TRIES    600 /* a minute */

/* ---- facts ---- */

static int exit_signal(const job_t *job)
{
    if (job->exited)
        return WIFSIGNALED(job->wstatus) ? WTERMSIG(job->wstatus) : 0;
    return SIGKILL; /* ours, or the kernel's for memory: init took all with it */
}

int job_exit_code(const job_t *job)
{
    return job->exited && WIFEXITED(job->wstatus) ? WEXITSTATUS(job->wstatus) : -1;
}

const char *job_status_name(const job_t *job)
{
    if (job->timed_out)
        return "timeout";
    if (job->cancelled)
        return "cancelled";
    return job_exit_code(job) == 0 && !job->report.failed ? "success" : "failed";
}

static uint64_t milliseconds(int64_t from_us, int64_t to_us)
{
    int64_t ms = (to_us - from_us + 999) / 1000;

    return ms < 1 ? 1 : (uint64_t)ms;
}

/* What the run's control group said; nothing of what it did not. */
static void log_groups(const cgroup_facts_t *facts)
{
    if (facts->memory_peak > 0)
        log_int("memory_peak", (int64_t)facts->memory_peak);
    if (facts->oom || facts->host_oom)
        log_str("oom", facts->oom ? "limit" : "host");
    if (facts->pids_hit > 0)
        log_int("pids_hit", (int64_t)facts->pids_hit);
    if (facts->throttled_us > 0)
        log_int("throttled_us", (int64_t)facts->throttled_us);
}

static void log_run(const job_t *job, const char *outcome)
{
    const request_t *r = &job->req;

    if (!log_begin(LOG_INFO, "run"))
        return;
    log_str("request_id", r->request_id);
    log_str("execution", r->execution);
    log_str("tenant", r->tenant);
    log_str("skill", r->skill);
    log_str("version", r->version);
    log_str("status", outcome);
    if (job->fail_status != 0) {
        log_int("answer", job->fail_status);
        log_str("reason", job->fail_message);
    } else if (exit_signal(job) != 0) {
        log_int("signal", exit_signal(job));
    } else {
        log_int("exit_code", job_exit_code(job));
    }
    if (job->started_us != 0) {
        log_str("start", start_name(job->start));
        log_int("queue_us", job->started_us - job->queued_us);
        log_int("run_us", job->ended_us - job->started_us);
    }
    log_int("cpu_us", (int64_t)job->cpu_usec);
    log_int("max_rss", (int64_t)job->maxrss);
    log_groups(&job->facts);
    log_int("log_bytes", (int64_t)job->log.total);
    log_int("files", job->report.files);
    log_end();
}

/* ---- the answer ---- */

void job_drop_archive(job_t *job)
{
    if (job->archive_fd < 0 || job->answered)
        return;
    state_archive_discard(&job->h->state, job->req.execution, job->archive_kept);
    close(job->archive_fd);
    job->archive_fd = -1;
}

/* What the gateway is told is true by then: whatever is to go is gone before it hears. */
void job_refuse(job_t *job)
{
    job_drop_archive(job);
    if (job->cancel_asked || job->accepted)
        log_run(job, job->cancel_asked ? "cancelled" : "refused");
    if (job->cancel_asked) {
        job_end_without_run(job, "cancelled", "cancelled");
        return;
    }
    if (job->accepted) {
        job_end_without_run(job, "failed", job->fail_message);
        return;
    }
    if (job->conn != NULL)
        connection_refuse(job->conn, job->fail_status, job->fail_slug, job->fail_message);
    log_run(job, job->conn == NULL ? "cancelled" : "refused");
    job->conn = NULL;
    job_free(job);
}

static void send_log_tail(job_t *job)
{
    sb_buf_t tail = SB_BUF_INIT(RUNLOG_TAIL + SB_KIB);

    runlog_finish(&job->log, &tail);
    if (sb_buf_ok(&tail) && tail.len > 0) {
        if (job->conn != NULL)
            connection_log(job->conn, tail.data, tail.len);
        attach_log(job, tail.data, tail.len);
    }
    sb_buf_free(&tail);
}

static void answer(job_t *job)
{
    char headers[512], code[64] = "";
    int signum = exit_signal(job);

    if (job->accepted) {
        send_log_tail(job);
        log_run(job, job_status_name(job));
        job_spool(job, job_status_name(job));
        return;
    }

    if (signum == 0)
        snprintf(code, sizeof code, SB_H_EXIT_CODE ": %d\r\n", job_exit_code(job));
    snprintf(
        headers, sizeof headers,
        SB_H_STATUS ": %s\r\n%s" SB_H_FILES ": %u\r\n" SB_H_QUEUE_USEC ": %lld\r\n" SB_H_RUN_USEC
                    ": %lld\r\n" SB_H_START_USEC ": %lld\r\n" SB_H_COLLECT_USEC ": %lld\r\n",
        job_status_name(job), code, job->report.files,
        (long long)(job->started_us - job->queued_us), (long long)(job->ended_us - job->started_us),
        (long long)((job->ready_us != 0 ? job->ready_us : job->ended_us) - job->started_us),
        (long long)(loop_now_us() - job->ended_us));
    job->answered = job->archive_kept;
    job_drop_archive(job);
    send_log_tail(job);
    SB_FAULT_POINT("run to be answered");
    connection_answer_file(job->conn, 200, headers, job->answer_fd, job->report.answer_len,
                           (uint32_t)(signum != 0 ? 128 + signum : job_exit_code(job)));
    SB_FAULT_POINT("run answered");
    log_run(job, job_status_name(job)); /* the gateway need not wait for it */
    job->answer_fd = -1;                /* the connection's now */
    job->conn = NULL;
    job_free(job);
}

/* ---- collecting ---- */

static void no_result(job_t *job, const char *why)
{
    if (log_begin(LOG_ERROR, "a run's result could not be collected")) {
        log_str("execution", job->req.execution);
        log_str("reason", why);
        log_end();
    }
    job_fail(job, 500, "internal_error", "The run's result could not be collected.");
    job_refuse(job);
}

static bool report_sane(const job_t *job, const packer_report_t *report)
{
    struct stat st;

    return report->http_status == 200 && report->answer_len > 0 &&
           report->answer_len <= SB_RESULT_MAX && report->files <= SB_ARTIFACT_FILES_MAX &&
           (report->files == 0 || job->archive_fd >= 0) && fstat(job->answer_fd, &st) == 0 &&
           (uint64_t)st.st_size >= report->answer_len;
}

/* Runs inside the collector's message: the job may be freed, the collector is not. */
static void on_report(void *owner, const packer_report_t *report)
{
    job_t *job = owner;
    sb_err_t err = {0};
    int dir_fd;

    if (!report_sane(job, report)) {
        no_result(job, report->text[0] != '\0' ? report->text : "the report makes no sense");
        return;
    }
    job->report = *report;
    SB_FAULT_POINT("result collected");
    if (report->files == 0) {
        answer(job);
        return;
    }
    if (state_archive_keep(&job->h->state, job->req.execution, &dir_fd, &err) != SB_OK) {
        no_result(job, err.message);
        return;
    }
    job->archive_kept = true;
    SB_FAULT_POINT("archive has its name");
    collector_sync(job->collector, dir_fd); /* on_synced or on_collect_failed follows */
    close(dir_fd);
}

static void on_synced(void *owner)
{
    answer(owner);
}

static void on_collect_failed(void *owner, const char *why)
{
    job_t *job = owner;

    job->collector = NULL;
    no_result(job, why);
}

static const collector_ops_t collector_ops = {
    .report = on_report, .synced = on_synced, .failed = on_collect_failed};

/* The end of stdout as a file; -1 without one (nothing was printed, or no memory for it). */
static int stdout_file(const job_t *job)
{
    const char *piece[2];
    size_t len[2];

    if (job->log.out.len == 0)
        return -1;
    int fd = memfd_create("stdout", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    ring_pieces(&job->log.out, piece, len);
    if (sys_write_all(fd, piece[0], len[0]) != 0 || sys_write_all(fd, piece[1], len[1]) != 0) {
        close(fd);
        return -1;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/*
 * By RLIMIT_CPU: its signals, and the time for them.  The kernel counts for the limit in ticks of
 * the clock; on a busy host that can be far from what it reports.
 */
static bool cpu_limited(const job_t *job)
{
    uint64_t limit = (uint64_t)job->cpu_seconds * 1000000;

    if (!job->exited)
        return false;
    return (exit_signal(job) == SIGXCPU && job->cpu_usec >= limit / 2) ||
           (exit_signal(job) == SIGKILL && job->cpu_usec >= limit);
}

static collect_task_t make_task(const job_t *job)
{
    const request_t *r = &job->req;
    collect_task_t t = {
        .magic = STAGE_MAGIC,
        .have_work = r->mode != STAGE_ENTRYPOINT,
        .exit_code = job_exit_code(job),
        .signal = exit_signal(job),
        .timed_out = job->timed_out,
        .cancelled = job->cancelled && !job->timed_out,
        .cpu_seconds = cpu_limited(job) ? job->cpu_seconds : 0,
        .memory_limit = (uint64_t)r->memory,
        .pids_hit = job->facts.pids_hit,
        .pids_limit = (uint32_t)job->h->cgroups.pids,
        .timeout_ms = (uint64_t)r->timeout_ms,
        .wall_ms = milliseconds(job->ready_us, job->ended_us),
        .cpu_ms = job->cpu_usec / 1000,
        .max_rss = job->maxrss,
        .artifact_bytes = (uint64_t)r->artifact_bytes,
    };

    /* A script that came through although the kernel killed a process of it was not stopped by it.
     */
    if (job_exit_code(job) != 0) {
        t.oom = job->facts.oom;
        t.host_oom = job->facts.host_oom;
    }
    memcpy(t.skill, r->skill, sizeof t.skill);
    memcpy(t.version, r->version, sizeof t.version);
    return t;
}

static sb_code_t prepare_result(job_t *job, sb_err_t *err)
{
    sb_code_t rc = SB_OK;

    /* most runs leave no file, and making one on the host's disk costs more than many a script */
    if (job->archive_fd < 0 && !job_left_no_files(job))
        rc = state_archive_open(&job->h->state, job->req.execution, &job->archive_fd, err);
    if (rc != SB_OK || job->answer_fd >= 0)
        return rc;
    job->answer_fd = memfd_create("answer", MFD_CLOEXEC);
    return job->answer_fd >= 0 ? SB_OK : sb_err_errno(err, errno, "memfd_create");
}

static sb_code_t collect(job_t *job, sb_err_t *err)
{
    collect_task_t task = make_task(job);
    int fds[5], nfds = 0, out = stdout_file(job);
    sb_code_t rc = prepare_result(job, err);

    fds[nfds++] = job->out_dir;
    if (task.have_work)
        fds[nfds++] = job->work_dir;
    task.have_stdout = out >= 0;
    if (out >= 0)
        fds[nfds++] = out;
    fds[nfds++] = job->answer_fd;
    task.have_archive = job->archive_fd >= 0;
    if (task.have_archive)
        fds[nfds++] = job->archive_fd;
    SB_FAULT_POINT("result to be collected");
    if (rc == SB_OK)
        rc = collector_start(&job->h->collectors, &task, fds, nfds, &collector_ops, job,
                             &job->collector, err);
    if (out >= 0)
        close(out);
    return rc;
}

static void on_collect_again(void *ctx);

/*
 * A script's result must not be lost to another run that has all the descriptors under way that
 * the kernel grants this user: it waits for the end of that.
 */
static void wait_or_give_up(job_t *job, const sb_err_t *err)
{
    if (err->sys_errno != ETOOMANYREFS || ++job->collect_tries == COLLECT_TRIES) {
        no_result(job, err->message);
        return;
    }
    job->timer.fn = on_collect_again;
    loop_timer_set(&job->h->loop, &job->timer, COLLECT_AGAIN_MS);
}

static void on_collect_again(void *ctx)
{
    job_t *job = ctx;
    sb_err_t err = {0};

    if (collect(job, &err) != SB_OK)
        wait_or_give_up(job, &err);
}

/* True: that was all, and the job is gone. */
static bool answer_plainly(job_t *job)
{
    const collect_task_t task = make_task(job);
    sb_err_t err = {0};

    if (!job_left_nothing(job) || job_plain_result(job, &task, &err) != SB_OK)
        return false;
    cgroup_usage(&job->h->cgroups, &job->leaf, &job->facts);
    grave_bury(job->h, &job->child, &job->leaf);
    SB_FAULT_POINT("result known");
    answer(job);
    return true;
}

void job_dead(job_t *job)
{
    sb_err_t err = {0};

    cgroup_verdict(&job->h->cgroups, &job->leaf, &job->facts);
    job->facts.oom |= job->over_memory;
    loop_timer_clear(&job->h->loop, &job->timer);
    bool wanted = job->conn != NULL || job->accepted;
    if (wanted && job->fail_status == 0 && job->ready_us != 0) {
        sb_code_t rc;

        job->state = JOB_COLLECTING;
        if (answer_plainly(job))
            return;
        rc = collect(job, &err);
        /* while the collect child works: */
        cgroup_usage(&job->h->cgroups, &job->leaf, &job->facts);
        grave_bury(job->h, &job->child, &job->leaf);
        if (rc != SB_OK)
            wait_or_give_up(job, &err);
        return;
    }
    cgroup_usage(&job->h->cgroups, &job->leaf, &job->facts);
    grave_bury(job->h, &job->child, &job->leaf);
    if (!wanted) {
        job_fail(job, 499, "cancelled", "The gateway hung up.");
        job_refuse(job);
        return;
    }
    send_log_tail(job);
    job_refuse(job);
}
