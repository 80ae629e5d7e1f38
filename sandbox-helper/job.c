/*
 * job.c - see job.h: a run before its sandbox exists, and its end in memory.
 * Runs in the main process; the job's STDIN is kept in a memfd that it never
 * reads.
 */
#include "job_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../libskillbox/protocol.h"
#include "fault.h"
#include "log.h"

#define WAITING_INPUT_MAX (256 * SB_MIB)
#define STARTS_MAX        3

static void on_complete(void *owner, uint64_t stdin_len);
static void on_gone(void *owner);
static void on_queue_timeout(void *ctx);

static const connection_owner_t owner_ops = {.complete = on_complete, .gone = on_gone};

job_t *job_next(const job_t *job)
{
    return job->next;
}

job_t *job_new(helper_t *h, connection_t *conn, const request_t *request)
{
    job_t *job = calloc(1, sizeof *job);

    if (job == NULL)
        return NULL;
    job->h = h;
    job->conn = conn;
    job->req = *request;
    job->entry.tenant = job->req.tenant;
    job->entry.running_cap = (size_t)request->tenant_running;
    job->entry.waiting_cap = (size_t)(request->tenant_waiting + 1);
    job->job_fd = job->out_dir = job->work_dir = job->answer_fd = job->archive_fd = -1;
    job->out.fd = job->out.source.fd = job->err.fd = job->err.source.fd = -1;
    job->timer = (loop_timer_t){.fn = on_queue_timeout, .ctx = job};
    job->announce = (loop_timer_t){.ctx = job};
    sb_buf_init(&job->params, SB_PARAMS_MAX);
    sb_buf_init(&job->result, 2 * SB_CGI_HEADER_MAX);
    runlog_init(&job->log);
    job->next = h->jobs;
    if (h->jobs != NULL)
        h->jobs->prev = job;
    h->jobs = job;
    return job;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void list_remove(job_t *job)
{
    if (job->prev != NULL)
        job->prev->next = job->next;
    else
        job->h->jobs = job->next;
    if (job->next != NULL)
        job->next->prev = job->prev;
}

void job_free_run(job_t *job)
{
    helper_t *h = job->h;
    int *fds[] = {&job->job_fd, &job->out.fd, &job->err.fd, &job->out_dir, &job->work_dir};

    if (job->placed)
        queue_done(&h->runs, &job->entry);
    job->placed = false;
    loop_timer_clear(&h->loop, &job->timer);
    loop_task_clear(&h->loop, &job->end);
    loop_del(&h->loop, &job->out.source);
    loop_del(&h->loop, &job->err.source);
    stage_child_release(&job->child);
    if (job->collector != NULL)
        collector_done(job->collector);
    job->collector = NULL;
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close_fd(fds[i]);
}

void job_free(job_t *job)
{
    helper_t *h = job->h;

    if (job->conn != NULL)
        connection_set_owner(job->conn, NULL, NULL);
    attach_end(job);
    if (job->state == JOB_WAITING)
        h->waiting_input -= job->held;
    queue_remove(&h->runs, &job->entry);
    job_free_run(job);
    loop_timer_clear(&h->loop, &job->announce);
    if (job->sync != NULL)
        job->sync->ctx = NULL;
    job_drop_archive(job);
    close_fd(&job->answer_fd);
    close_fd(&job->archive_fd);
    sb_buf_free(&job->params);
    sb_buf_free(&job->result);
    runlog_free(&job->log);
    list_remove(job);
    free(job);
    helper_ended(h);
}

/* ---- accept ---- */

/* NULL: it can run here. */
static const char *refusal(helper_t *h, const request_t *r, int *status, const char **slug,
                           char *text, size_t len)
{
    const char *missing = helper_runtime_missing(h, r->runtime);

    if (h->stopping) {
        *status = 503;
        *slug = "overloaded";
        return "The sandbox helper is stopping.";
    }
    if (missing != NULL) {
        *status = 409;
        *slug = "skill_not_available";
        if (r->image[0] == '\0')
            snprintf(text, len, "This host has no %s runtime: %s.", config_lang_name(r->lang),
                     missing);
        else
            snprintf(text, len, "The runtime image \"%.128s\" can't be used on this host.",
                     r->image);
        return text;
    }
    if (!package_cache_has(&h->packages, r->digest)) {
        *status = 404;
        *slug = SB_SLUG_UNKNOWN_PACKAGE;
        return "The sandbox helper does not have this package.";
    }
    if (queue_full(&h->runs, r->op == OP_SUBMIT)) {
        *status = 503;
        *slug = "overloaded";
        return "Too many runs are waiting for their turn.";
    }
    return NULL;
}

static job_t *accept_run(helper_t *h, connection_t *conn, const request_t *request)
{
    char text[300];
    int status = 0;
    const char *slug = NULL;
    const char *why = refusal(h, request, &status, &slug, text, sizeof text);

    if (why != NULL) {
        connection_refuse(conn, status, slug, why);
        return NULL;
    }
    job_t *job = job_new(h, conn, request);
    if (job != NULL)
        job->job_fd = memfd_create("job", MFD_CLOEXEC);
    if (job == NULL || job->job_fd < 0) {
        log_event(LOG_ERROR, "a run could not be accepted", "error", strerror(errno));
        connection_refuse(conn, 503, "overloaded", "The sandbox helper is out of memory.");
        if (job != NULL) {
            job->conn = NULL;
            job_free(job);
        }
        return NULL;
    }
    connection_set_owner(conn, &owner_ops, job);
    SB_FAULT_POINT("run accepted");
    connection_stdin(conn, job->job_fd,
                     RUN_STDIN_MAX - SB_INPUT_FILES_BYTES_MAX + request->files_length);
    return job;
}

void job_accept(helper_t *h, connection_t *conn, const request_t *request)
{
    accept_run(h, conn, request);
}

job_t *job_find(helper_t *h, const char *execution)
{
    for (job_t *job = h->jobs; job != NULL; job = job->next) {
        if (strcmp(job->req.execution, execution) == 0)
            return job;
    }
    return NULL;
}

bool job_needs_package(void *helper, const char *digest)
{
    for (job_t *job = ((helper_t *)helper)->jobs; job != NULL; job = job->next) {
        if (strcmp(job->req.digest, digest) == 0)
            return true;
    }
    return false;
}

/* One that came before, by a gateway that did not hear the answer, or just now, by another. */
static bool submitted_before(helper_t *h, connection_t *conn, const request_t *request)
{
    job_t *job = job_find(h, request->execution);

    if (job != NULL && !job->accepted) {
        attach_submit(job, conn);
        return true;
    }
    if (job == NULL && !deliver_has(&h->deliver, request->execution))
        return false;
    connection_answer(conn, 202, "", SUBMITTED, sizeof SUBMITTED - 1);
    return true;
}

void job_submit(helper_t *h, connection_t *conn, const request_t *request, const char *params,
                size_t len)
{
    if (h->config.completion[0] == '\0') {
        connection_refuse(conn, 409, "skill_not_available",
                          "Asynchronous runs are not set up: the sandbox helper has no "
                          "\"completion\" address.");
        return;
    }
    if (submitted_before(h, conn, request))
        return;
    job_t *job = accept_run(h, conn, request);
    if (job == NULL)
        return;
    job->async = job->entry.background = true;
    sb_buf_add(&job->params, params, len);
}

/* ---- wait ---- */

static void refuse_now(job_t *job, int status, const char *slug, const char *message)
{
    job_fail(job, status, slug, "%s", message);
    job_refuse(job);
}

bool job_lengths(job_t *job, uint64_t stdin_len)
{
    job->job_len = (uint64_t)job->req.job_length;
    job->files_len = (uint64_t)job->req.files_length;
    if (stdin_len < job->job_len + job->files_len)
        return false;
    job->input_len = stdin_len - job->job_len - job->files_len;
    return true;
}

static void on_complete(void *owner, uint64_t stdin_len)
{
    job_t *job = owner;
    helper_t *h = job->h;

    if (!job_lengths(job, stdin_len)) {
        refuse_now(job, 400, "bad_request",
                   SB_P_JOB_LENGTH " and " SB_P_FILES_LENGTH " are more than STDIN brought");
        return;
    }
    job->queued_us = loop_now_us();
    if (h->stopping) {
        refuse_now(job, 503, "overloaded", "The sandbox helper is stopping.");
        return;
    }
    if (queue_tenant_full(&h->runs, &job->entry)) {
        refuse_now(job, 429, "rate_limited", "The tenant has as many runs waiting as it may.");
        return;
    }
    if (h->waiting_input + stdin_len > WAITING_INPUT_MAX ||
        !queue_has_place(&h->runs, &job->entry)) {
        refuse_now(job, 503, "overloaded", "Too many runs are waiting for their turn.");
        return;
    }
    if (job->async) {
        job_journal(job);
        return;
    }
    job->held = stdin_len;
    job_wait(job);
}

void job_wait(job_t *job)
{
    helper_t *h = job->h;

    queue_restore(&h->runs, &job->entry, job);
    job->state = JOB_WAITING;
    h->waiting_input += job->held;
    SB_FAULT_POINT("run queued");
    if (!job->async)
        loop_timer_set(&h->loop, &job->timer, h->config.queue_timeout_ms);
    helper_dispatch(h);
}

bool job_refuse_waiting(job_t *job, const char *message)
{
    if (job->state != JOB_RECEIVING && job->state != JOB_JOURNALING && job->state != JOB_WAITING)
        return false;
    if (job->accepted) {
        job_free(job);
        return true;
    }
    if (job->state == JOB_JOURNALING)
        spool_remove(&job->h->spool, job->req.execution, SPOOL_JOB);
    refuse_now(job, 503, "overloaded", message);
    return true;
}

static void on_queue_timeout(void *ctx)
{
    job_refuse_waiting(ctx, "The run waited too long for its turn.");
}

/* The gateway hung up. */
static void on_gone(void *owner)
{
    job_t *job = owner;

    job->conn = NULL;
    /* Submitted: it may have heard the answer; it may ask again. */
    if (job->state == JOB_JOURNALING || job->accepted)
        return;
    job->cancelled = true;
    switch (job->state) {
    case JOB_JOURNALING:
    case JOB_SPOOLING:
        break;
    case JOB_RECEIVING:
    case JOB_WAITING:
    case JOB_COLLECTING:
        job_free(job);
        break;
    case JOB_SETUP:
    case JOB_RUNNING:
    case JOB_ENDING:
        job_kill(job); /* job_dead() frees it */
        break;
    }
}

void job_stop(job_t *job)
{
    if (job_refuse_waiting(job, "The sandbox helper is stopping."))
        return;
    if (job->state == JOB_SPOOLING && job->sync == NULL) { /* no room for its result */
        job_free(job);
        return;
    }
    if (job->state == JOB_SETUP || job->state == JOB_RUNNING) {
        if (job->state == JOB_SETUP)
            job_fail(job, 503, "overloaded", "The sandbox helper is stopping.");
        job->cancelled = true;
        job_kill(job);
    }
}

/* ---- start ---- */

static stage_request_t run_request(const job_t *job)
{
    const config_t *c = &job->h->config;
    const request_t *r = &job->req;
    stage_request_t q = {
        .magic = STAGE_MAGIC,
        .kind = STAGE_RUN,
        .cgroup = (uint32_t)job->h->cgroups.version,
        .lang = r->lang,
        .runtime = (uint32_t)r->runtime,
        .mode = r->mode,
        .cpu_seconds = job->cpu_seconds,
        .memory_bytes = (uint64_t)r->memory,
        .job_len = job->job_len,
        .input_len = job->input_len,
    };
    const int64_t sizes[] = {c->tmp_bytes, c->out_bytes, c->work_bytes, c->shm_bytes};

    /* No file can be larger than the largest place it could lie in. */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if ((uint64_t)sizes[i] > q.file_bytes)
            q.file_bytes = (uint64_t)sizes[i];
    }
    memcpy(q.digest, r->digest, sizeof q.digest);
    memcpy(q.target, r->target, sizeof q.target);
    return q;
}

/* A second more: the wall clock is to win, and says more. */
static uint32_t cpu_seconds(const request_t *r)
{
    int64_t cores = (r->cpu_milli + 999) / 1000;

    return (uint32_t)((r->timeout_ms + 999) / 1000 * cores + 1);
}

static root_t *root_of(const job_t *job)
{
    return &job->h->roots.root[job->h->roots.of[job->req.runtime]];
}

/* One whose stage is gone for good is started, and fails. */
bool job_can_start(const void *owner)
{
    const stagelink_t *stage = &root_of(owner)->stage;

    return stage->state == LINK_READY || stage->given_up;
}

static void drop_sandbox(job_t *job)
{
    stage_child_release(&job->child);
    leftovers_remove(&job->h->leftovers, &job->leaf);
}

/* From where the run's process comes: an interpreter that waits, a zygote, or neither. */
static sb_code_t take_sandbox(job_t *job, bool *started, sb_err_t *err)
{
    helper_t *h = job->h;
    warm_t *prestarted = prestarts_pool(&h->prestarts, &job->req);
    warm_t *zygote = zygotes_pool(&h->zygotes, &job->req);
    warm_t *pool = zygote != NULL ? zygote : &root_of(job)->sandboxes;
    int logs[RUN_LOGS];
    sb_code_t rc;

    *started = prestarted != NULL;
    if (prestarted == NULL) {
        job->start = zygote == NULL ? START_PLAIN : pool->count > 0 ? START_READY : START_FORKED;
        return warm_take(pool, &job->child, &job->leaf, &job_child_ops, job, err);
    }
    job->start = START_READY;
    rc = warm_take_started(prestarted, &job->child, &job->leaf, &job_child_ops, job, logs, err);
    if (rc == SB_OK) {
        job->out.fd = logs[0];
        job->err.fd = logs[1];
    }
    return rc;
}

/* fds: of the job, then of the pipes' write ends, to be closed. */
static sb_code_t make_pipes(job_t *job, int fds[RUN_FDS], sb_err_t *err)
{
    if (warm_pipe(&job->out.fd, &fds[1]) != 0 || warm_pipe(&job->err.fd, &fds[2]) != 0)
        return sb_err_errno(err, errno, "pipe");
    return SB_OK;
}

/* again: the sandbox has died, another may not have. */
static sb_code_t send_once(job_t *job, bool *again, sb_err_t *err)
{
    helper_t *h = job->h;
    stage_request_t run = run_request(job);
    int fds[RUN_FDS] = {job->job_fd, -1, -1};
    bool started;

    *again = false;
    sb_code_t rc = take_sandbox(job, &started, err);
    SB_FAULT_POINT("sandbox taken");
    if (rc == SB_OK && !started)
        rc = make_pipes(job, fds, err);
    if (rc == SB_OK)
        rc = cgroup_limit(&h->cgroups, &job->leaf, job->req.memory, job->req.cpu_milli, err);
    if (started)
        run.interpreter = (uint32_t)job->req.runtime + 1;
    if (rc == SB_OK && stage_child_send(&job->child, &run, sizeof run, fds,
                                        started ? RUN_FDS - RUN_LOGS : RUN_FDS) != 0) {
        rc = sb_err_errno(err, errno, "the sandbox takes no run");
        *again = rc != SB_ENOSPACE;
    }
    for (int i = 1; i < RUN_FDS; i++)
        close_fd(&fds[i]);
    if (rc != SB_OK) {
        drop_sandbox(job);
        close_fd(&job->out.fd);
        close_fd(&job->err.fd);
    }
    return rc;
}

/* Sandboxes that waited may have died since: then the next one, or a new one. */
static sb_code_t start(job_t *job, sb_err_t *err)
{
    bool again = true;
    sb_code_t rc = SB_ESYSTEM;

    lseek(job->job_fd, 0, SEEK_SET);
    for (int i = 0; i <= 2 * WARM_MAX && again; i++) {
        SB_FAULT_POINT("sandbox to be taken");
        rc = send_once(job, &again, err);
    }
    return rc;
}

bool job_wait_again(job_t *job)
{
    helper_t *h = job->h;

    if (job->starts == STARTS_MAX || (job->conn == NULL && !job->accepted) || job->cancel_asked ||
        h->stopping)
        return false;
    drop_sandbox(job);
    loop_del(&h->loop, &job->out.source);
    loop_del(&h->loop, &job->err.source);
    close_fd(&job->out.fd);
    close_fd(&job->err.fd);
    job->placed = false;
    queue_return(&h->runs, &job->entry);
    job->state = JOB_WAITING;
    h->waiting_input += job->held;
    job->timer.fn = on_queue_timeout;
    if (!job->async)
        loop_timer_set(&h->loop, &job->timer, h->config.queue_timeout_ms);
    return true;
}

void job_start(job_t *job)
{
    helper_t *h = job->h;
    sb_err_t err = {0};

    job->placed = true;
    job->starts++;
    job->state = JOB_SETUP;
    h->waiting_input -= job->held;
    job->started_us = loop_now_us();
    job->cpu_seconds = cpu_seconds(&job->req);
    loop_timer_clear(&h->loop, &job->timer);
    SB_FAULT_POINT("run to be started");
    sb_code_t rc = job->job_fd < 0 ? job_unspool(job, &err) : SB_OK;
    if (rc == SB_OK)
        rc = start(job, &err);
    if (rc == SB_OK) {
        SB_FAULT_POINT("run sent");
        h->runs_total++;
        zygotes_count(&h->zygotes, &job->req, job->start);
        prestarts_count(&h->prestarts, &job->req, job->start);
        job_watch(job);
        attach_state(job);
        job_announce(job);
        return;
    }
    if (rc == SB_EBUSY && job_wait_again(job))
        return;
    if (log_begin(LOG_ERROR, "a run could not be started")) {
        log_str("execution", job->req.execution);
        log_err(&err);
        log_end();
    }
    job->ended_us = loop_now_us();
    if (rc == SB_ENOSPACE)
        job_fail(job, 503, "overloaded", "The sandbox helper has no room for the run.");
    else
        job_fail(job, 500, "internal_error", "The sandbox could not be started.");
    job_refuse(job);
}
