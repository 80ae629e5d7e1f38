/*
 * job_async.c - the asynchronous run beside the synchronous one: its way to the spool
 * before the gateway hears that it is accepted, its way back after a restart, its result's
 * way to the spool; and the end that is asked for (cancel), of any run.
 */
#include "job_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../libskillbox/protocol.h"
#include "fault.h"
#include "log.h"

#define ANNOUNCE_MS 100  /* a run that ends before is not worth a write of the gateway's */
#define RESPOOL_MS  1000 /* until a full disk is tried again */
#define FACTS_MAX   8192

/* ---- the syncer's requests; they may outlive the job ---- */

static int sync_for(job_t *job, int fd, void (*done)(syncer_request_t *r, int errnum))
{
    syncer_request_t *r = calloc(1, sizeof *r);

    if (r == NULL)
        return -1;
    r->done = done;
    r->ctx = job;
    job->sync = r;
    if (syncer_sync(&job->h->spool.syncer, r, fd) == 0)
        return 0;
    job->sync = NULL;
    free(r);
    return -1;
}

/* NULL: nobody waits for it any more. */
static job_t *synced(syncer_request_t *r)
{
    job_t *job = r->ctx;

    free(r);
    if (job != NULL)
        job->sync = NULL;
    return job;
}

/* ---- in ---- */

static void not_journaled(job_t *job, int errnum)
{
    if (log_begin(LOG_ERROR, "a run can't be spooled")) {
        log_str("execution", job->req.execution);
        log_errno(errnum);
        log_end();
    }
    spool_discard(&job->h->spool, job->req.execution);
    spool_remove(&job->h->spool, job->req.execution, SPOOL_JOB);
    job_fail(job, 503, "overloaded", "The sandbox helper has no room for the run.");
    job_refuse(job);
}

static void on_journaled(syncer_request_t *r, int errnum);

static int write_job(job_t *job)
{
    spool_t *s = &job->h->spool;
    const char *id = job->req.execution;
    uint64_t len = job->job_len + job->input_len + job->files_len;
    int rc = -1, fd = spool_create(s, id);

    if (fd < 0)
        return -1;
    if (sb_buf_ok(&job->params) && spool_add_file(fd, job->job_fd, len) == 0 &&
        spool_seal(fd, len, job->params.data, job->params.len) == 0 &&
        spool_keep(s, id, SPOOL_JOB) == 0)
        rc = sync_for(job, fd, on_journaled);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

void job_journal(job_t *job)
{
    job->state = JOB_JOURNALING;
    SB_FAULT_POINT("run to be spooled");
    if (write_job(job) != 0)
        not_journaled(job, errno);
}

/* On disk: the gateway is owed a result from here on. */
static void on_journaled(syncer_request_t *r, int errnum)
{
    job_t *job = synced(r);

    if (job == NULL)
        return;
    if (errnum != 0) {
        not_journaled(job, errnum);
        return;
    }
    job->accepted = job->unstarted = true;
    sb_buf_free(&job->params);
    close(job->job_fd);
    job->job_fd = -1;
    SB_FAULT_POINT("run spooled");
    if (job->conn != NULL)
        connection_answer(job->conn, 202, "", SUBMITTED, sizeof SUBMITTED - 1);
    job->conn = NULL;
    attach_accepted(job);
    job_wait(job);
}

sb_code_t job_unspool(job_t *job, sb_err_t *err)
{
    spool_t *s = &job->h->spool;
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);
    uint64_t len = 0;
    int rc = -1, fd = spool_read(s, job->req.execution, SPOOL_JOB, &facts, &len);

    sb_buf_free(&facts);
    if (fd >= 0 && !job_lengths(job, len)) {
        close(fd);
        fd = -1;
        errno = EBADMSG;
    }
    if (fd < 0)
        return sb_err_errno(err, errno, "the spooled run can't be read");
    job->job_fd = memfd_create("job", MFD_CLOEXEC);
    if (job->job_fd >= 0 && spool_add_file(job->job_fd, fd, len) == 0)
        rc = spool_started(s, job->req.execution);
    int saved = errno;
    close(fd);
    if (rc != 0)
        return sb_err_errno(err, saved, "the spooled run can't be taken");
    job->unstarted = false;
    SB_FAULT_POINT("spooled run taken");
    return SB_OK;
}

/* ---- what the gateway is told ---- */

static void fact(sb_buf_t *b, const char *name, const char *value)
{
    sb_buf_fmt(b, "%s: %s\r\n", name, value);
}

static void fact_int(sb_buf_t *b, const char *name, int64_t value)
{
    sb_buf_fmt(b, "%s: %lld\r\n", name, (long long)value);
}

/* The request was checked: no value can hold a line's end. */
static void identity_facts(const request_t *r, const char *status, sb_buf_t *b)
{
    fact(b, SB_H_TENANT, r->tenant);
    fact(b, SB_H_SKILL, r->skill);
    fact(b, SB_H_VERSION, r->version);
    fact(b, SB_H_STATUS, status);
    fact_int(b, SB_H_CREATED, r->created_ms);
    if (r->input_files[0] != '\0')
        fact(b, SB_H_INPUT_FILES, r->input_files);
    if (r->digest[0] != '\0')
        fact(b, SB_H_DIGEST, r->digest);
}

static void end_facts(const request_t *r, const char *status, uint64_t log_len, sb_buf_t *b)
{
    identity_facts(r, status, b);
    fact_int(b, SB_H_FINISHED, sb_time_now_ms());
    fact_int(b, SB_H_LOG_LENGTH, (int64_t)log_len);
}

static void empty_result(const request_t *r, const char *status, const char *error, sb_buf_t *b)
{
    sb_buf_char(b, '{');
    sb_json_key_str(b, "status", status);
    sb_json_key_int(b, "duration_ms", 1);
    sb_json_key_str(b, "error", error);
    sb_json_key_str(b, "skill_name", r->skill);
    sb_json_key_str(b, "skill_version", r->version);
    sb_buf_char(b, '}');
}

static void on_announce(void *ctx)
{
    job_t *job = ctx;
    sb_buf_t facts = SB_BUF_INIT(FACTS_MAX);

    identity_facts(&job->req, "running", &facts);
    if (sb_buf_ok(&facts))
        deliver_running(&job->h->deliver, job->req.execution, facts.data);
    sb_buf_free(&facts);
}

void job_announce(job_t *job)
{
    if (!job->accepted)
        return;
    job->announce.fn = on_announce;
    loop_timer_set(&job->h->loop, &job->announce, ANNOUNCE_MS);
}

/* ---- out ---- */

static void on_respool(void *ctx);
static void on_spooled(syncer_request_t *r, int errnum);

static int write_log(const job_t *job, int fd, uint64_t *len)
{
    sb_buf_t tail = SB_BUF_INIT(RUNLOG_TAIL + SB_KIB);
    int rc;

    runlog_finish(&job->log, &tail);
    *len = job->log.head.len + tail.len;
    rc = spool_add(fd, job->log.head.data, job->log.head.len);
    if (rc == 0)
        rc = spool_add(fd, tail.data, tail.len);
    sb_buf_free(&tail);
    return rc;
}

static int write_body(const job_t *job, int fd, uint64_t *result_len, uint64_t *log_len)
{
    *result_len = job->result.len > 0 ? job->result.len : job->report.answer_len;
    if (job->result.len > 0 ? spool_add(fd, job->result.data, job->result.len) != 0
                            : spool_add_file(fd, job->answer_fd, *result_len) != 0)
        return -1;
    return write_log(job, fd, log_len);
}

static int write_result(job_t *job, int fd)
{
    sb_buf_t facts = SB_BUF_INIT(FACTS_MAX);
    uint64_t result_len, log_len;
    int rc = write_body(job, fd, &result_len, &log_len);

    if (rc == 0) {
        end_facts(&job->req, job->end_status, log_len, &facts);
        fact_int(&facts, SB_H_FILES, job->archive_kept ? job->report.files : 0);
        if (job->started_us != 0) {
            fact_int(&facts, SB_H_QUEUE_USEC, job->started_us - job->queued_us);
            fact_int(&facts, SB_H_RUN_USEC, job->ended_us - job->started_us);
            fact_int(&facts, SB_H_START_USEC,
                     (job->ready_us != 0 ? job->ready_us : job->ended_us) - job->started_us);
            fact_int(&facts, SB_H_COLLECT_USEC, loop_now_us() - job->ended_us);
        }
        rc = sb_buf_ok(&facts) ? spool_seal(fd, result_len + log_len, facts.data, facts.len) : -1;
    }
    sb_buf_free(&facts);
    return rc;
}

/* The disk is full: the result stays in memory until it is not. */
static void spool_later(job_t *job, int errnum)
{
    if (job->timer.fn != on_respool && log_begin(LOG_ERROR, "a result can't be spooled yet")) {
        log_str("execution", job->req.execution);
        log_errno(errnum);
        log_end();
    }
    spool_discard(&job->h->spool, job->req.execution);
    if (job->h->stopping) { /* the next start says "interrupted" */
        job_free(job);
        return;
    }
    job->timer.fn = on_respool;
    loop_timer_set(&job->h->loop, &job->timer, RESPOOL_MS);
}

static void write_out(job_t *job)
{
    int rc = -1, fd = spool_create(&job->h->spool, job->req.execution);

    SB_FAULT_POINT("result to be spooled");
    if (fd >= 0 && write_result(job, fd) == 0)
        rc = sync_for(job, fd, on_spooled);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (rc != 0)
        spool_later(job, saved);
}

static void on_respool(void *ctx)
{
    write_out(ctx);
}

static void on_spooled(syncer_request_t *r, int errnum)
{
    job_t *job = synced(r);

    if (job == NULL)
        return;
    helper_t *h = job->h;
    if (errnum == 0 && spool_keep(&h->spool, job->req.execution, SPOOL_DONE) != 0)
        errnum = errno;
    if (errnum != 0) {
        spool_later(job, errnum);
        return;
    }
    SB_FAULT_POINT("result spooled");
    spool_replace(&h->spool, job->req.execution, job->unstarted ? SPOOL_JOB : SPOOL_RUN);
    deliver_result(&h->deliver, job->req.execution);
    job->answered = job->archive_kept;
    job_free(job);
}

void job_spool(job_t *job, const char *status)
{
    job->state = JOB_SPOOLING;
    job->end_status = status;
    loop_timer_clear(&job->h->loop, &job->announce);
    attach_end(job);
    queue_remove(&job->h->runs, &job->entry);
    job_free_run(job); /* another may have its place while the disk works */
    helper_dispatch(job->h);
    write_out(job);
}

void job_end_without_run(job_t *job, const char *status, const char *error)
{
    connection_t *conn = job->conn;

    empty_result(&job->req, status, error, &job->result);
    if (job->accepted) {
        job_spool(job, status);
        return;
    }
    job->conn = NULL;
    if (conn != NULL && sb_buf_ok(&job->result)) {
        char headers[256];

        snprintf(headers, sizeof headers,
                 SB_H_STATUS ": %s\r\n" SB_H_FILES ": 0\r\n" SB_H_QUEUE_USEC ": 0\r\n" SB_H_RUN_USEC
                             ": 0\r\n",
                 status);
        connection_answer(conn, 200, headers, job->result.data, job->result.len);
    } else if (conn != NULL) {
        connection_refuse(conn, 500, "internal_error", "out of memory");
    }
    job_free(job);
}

/* ---- cancel ---- */

static void cancel_now(job_t *job)
{
    job->cancel_asked = true;
    switch (job->state) {
    case JOB_WAITING:
        job->h->waiting_input -= job->held;
        job->held = 0;
        job->cancelled = true;
        loop_timer_clear(&job->h->loop, &job->timer);
        job_refuse(job);
        break;
    case JOB_SETUP:
    case JOB_RUNNING:
        job->cancelled = true;
        job_kill(job);
        break;
    default:
        break; /* what it is has been decided */
    }
}

void job_cancel(helper_t *h, connection_t *conn, const request_t *request)
{
    static const char cancelled[] = "{\"status\":\"cancelled\"}",
                      ended[] = "{\"status\":\"ended\"}";
    job_t *job = job_find(h, request->execution);

    if (job != NULL && strcmp(job->req.tenant, request->tenant) != 0)
        job = NULL;
    if (job == NULL && !deliver_has(&h->deliver, request->execution)) {
        connection_refuse(conn, 404, SB_SLUG_UNKNOWN_EXECUTION,
                          "The sandbox helper does not have this execution.");
        return;
    }
    if (job != NULL && (job->state == JOB_RECEIVING || job->state == JOB_JOURNALING)) {
        connection_refuse(conn, 503, "overloaded", "The execution is just being submitted.");
        return;
    }
    bool live = job != NULL &&
                (job->state == JOB_WAITING || job->state == JOB_SETUP || job->state == JOB_RUNNING);
    if (live)
        cancel_now(job);
    if (live)
        connection_answer(conn, 202, "", cancelled, sizeof cancelled - 1);
    else
        connection_answer(conn, 202, "", ended, sizeof ended - 1);
}

/* ---- after a restart ---- */

/* Whatever is wrong with the rest of them, the gateway must hear of it. */
static bool identify(helper_t *h, const char *id, spool_kind_t kind, request_t *r, sb_err_t *err)
{
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);
    uint64_t len = 0;
    int fd = spool_read(&h->spool, id, kind, &facts, &len);
    bool known = false;

    if (fd >= 0) {
        close(fd);
        known = request_parse(facts.data, facts.len, &h->config, r, err) == SB_OK ||
                request_identify(facts.data, facts.len, r) == SB_OK;
    } else {
        sb_err_errno(err, errno, "its file can't be read");
    }
    sb_buf_free(&facts);
    return known && strcmp(r->execution, id) == 0;
}

static void restore(void *ctx, const char *id, spool_kind_t kind)
{
    helper_t *h = ctx;
    request_t request;
    sb_err_t err = {0};
    job_t *job;

    if (kind == SPOOL_DONE) {
        /* killed between the result's name and the removal of what it replaces */
        spool_remove(&h->spool, id, SPOOL_JOB);
        spool_remove(&h->spool, id, SPOOL_RUN);
        deliver_result(&h->deliver, id);
        return;
    }
    if (spool_has(&h->spool, id, SPOOL_DONE) || !spool_has(&h->spool, id, kind))
        return;
    if (!identify(h, id, kind, &request, &err) || (job = job_new(h, NULL, &request)) == NULL) {
        if (log_begin(LOG_ERROR, "a spooled run can't be restored")) {
            log_str("execution", id);
            log_err(&err);
            log_end();
        }
        return;
    }
    job->async = job->entry.background = job->accepted = true;
    job->unstarted = kind == SPOOL_JOB;
    job->queued_us = loop_now_us();
    if (kind == SPOOL_RUN)
        job_end_without_run(job, "failed", "interrupted");
    else if (err.code != SB_OK)
        job_end_without_run(job, "failed", err.message);
    else
        job_wait(job);
}

void job_restore(helper_t *h)
{
    spool_each(&h->spool, restore, h);
}
