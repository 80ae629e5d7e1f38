/*
 * intake.c - see intake.h.  Holds the upload's file, the staging folder and the
 * answer's memfd; reads none of them.
 */
#include "intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/limits.h"
#include "../libskillbox/protocol.h"
#include "fault.h"
#include "log.h"

#define MULTIPART_EXTRA (1 * SB_MIB) /* boundaries, headers and other fields around the file */
#define WALL_MS         30000
#define KILL_MS         10000
#define ANSWER_MAX      SB_RESULT_MAX

typedef enum { INTAKE_RECEIVING, INTAKE_WAITING, INTAKE_WORKING } intake_state_t;

struct intake_s {
    helper_t *h;
    intake_t *next, *prev; /* in h->uploads */
    connection_t *conn;    /* NULL: the gateway has gone */
    request_t req;
    intake_state_t state;
    queue_entry_t entry;
    bool placed;
    int upload_rw, upload_ro;
    uint64_t upload_len;
    char staging[SB_UUID_LEN + 1]; /* "": none, or no longer ours */
    int staging_fd, answer_fd;
    int source_fd; /* what is read: a package's tree, an archive */
    int extract_fd;
    char extract[SB_UUID_LEN + 1]; /* "": none, or no longer ours */
    stage_child_t child;
    loop_timer_t timer;
    bool killed;
    bool reported;
    packer_report_t report;
    int64_t started_us;
    int fail_status; /* not 0: the answer will be this */
    const char *fail_slug, *fail_message;
};

static void on_complete(void *owner, uint64_t stdin_len);
static void on_gone(void *owner);
static void on_timer(void *ctx);

static const connection_owner_t owner_ops = {.complete = on_complete, .gone = on_gone};

intake_t *intake_next(const intake_t *in)
{
    return in->next;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static intake_t *intake_new(helper_t *h, connection_t *conn, const request_t *request)
{
    intake_t *in = calloc(1, sizeof *in);

    if (in == NULL)
        return NULL;
    in->h = h;
    in->conn = conn;
    in->req = *request;
    in->upload_rw = in->upload_ro = in->staging_fd = in->answer_fd = -1;
    in->source_fd = in->extract_fd = -1;
    in->timer = (loop_timer_t){.fn = on_timer, .ctx = in};
    in->next = h->uploads;
    if (h->uploads != NULL)
        h->uploads->prev = in;
    h->uploads = in;
    return in;
}

static void intake_free(intake_t *in)
{
    helper_t *h = in->h;

    if (in->conn != NULL)
        connection_set_owner(in->conn, NULL, NULL);
    queue_remove(&h->intakes, &in->entry);
    if (in->placed)
        queue_done(&h->intakes, &in->entry);
    loop_timer_clear(&h->loop, &in->timer);
    stage_child_release(&in->child);
    close_fd(&in->upload_rw);
    close_fd(&in->upload_ro);
    close_fd(&in->staging_fd);
    close_fd(&in->answer_fd);
    close_fd(&in->source_fd);
    close_fd(&in->extract_fd);
    if (in->extract[0] != '\0')
        state_extract_discard(&h->state, in->extract);
    if (in->staging[0] != '\0')
        state_staging_discard(&h->state, in->staging);
    if (in->prev != NULL)
        in->prev->next = in->next;
    else
        h->uploads = in->next;
    if (in->next != NULL)
        in->next->prev = in->prev;
    free(in);
    helper_ended(h);
}

static void log_intake(const intake_t *in, int status, const char *why)
{
    static const char *const names[] = {
        [OP_INTAKE] = "intake", [OP_FILES] = "read", [OP_ARTIFACT] = "artifact"};

    if (!log_begin(LOG_INFO, names[in->req.op]))
        return;
    log_str("request_id", in->req.request_id);
    log_str("tenant", in->req.tenant);
    log_int("answer", status);
    if (in->req.op == OP_ARTIFACT)
        log_str("execution", in->req.execution);
    else
        log_str("digest", in->req.op == OP_FILES ? in->req.digest : in->report.digest);
    log_str("reason", why);
    log_int("bytes", (int64_t)in->upload_len);
    if (in->started_us != 0)
        log_int("took_us", loop_now_us() - in->started_us);
    log_end();
}

static void refuse(intake_t *in, int status, const char *slug, const char *message)
{
    log_intake(in, in->conn == NULL ? 499 : status, message);
    if (in->conn != NULL)
        connection_refuse(in->conn, status, slug, message);
    in->conn = NULL;
    intake_free(in);
}

static void fail(intake_t *in, int status, const char *slug, const char *message)
{
    if (in->fail_status != 0)
        return;
    in->fail_status = status;
    in->fail_slug = slug;
    in->fail_message = message;
}

/* ---- accept and wait ---- */

/* What the operation needs before anything else; an answer has been given when it is false. */
static bool can_begin(helper_t *h, connection_t *conn, const request_t *request)
{
    if (h->stopping)
        connection_refuse(conn, 503, "overloaded", "The sandbox helper is stopping.");
    else if (queue_full(&h->intakes, false))
        connection_refuse(conn, 503, "overloaded", "Too many uploads are waiting.");
    else if (request->op == OP_FILES && !package_cache_has(&h->packages, request->digest))
        connection_refuse(conn, 404, SB_SLUG_UNKNOWN_PACKAGE,
                          "There is no package of that digest here.");
    else
        return true;
    return false;
}

void intake_accept(helper_t *h, connection_t *conn, const request_t *request)
{
    sb_err_t err = {0};

    if (!can_begin(h, conn, request))
        return;
    intake_t *in = intake_new(h, conn, request);
    if (in == NULL)
        sb_err_set(&err, SB_ESYSTEM, "out of memory");
    else
        state_upload_open(&h->state, &in->upload_rw, &in->upload_ro, &err);
    if (err.code != SB_OK) {
        log_event(LOG_ERROR, "an upload could not be accepted", "error", err.message);
        connection_refuse(conn, 503, "overloaded", "The sandbox helper has no room for an upload.");
        if (in != NULL) {
            in->conn = NULL;
            in->upload_rw = in->upload_ro = -1;
            intake_free(in);
        }
        return;
    }
    connection_set_owner(conn, &owner_ops, in);
    SB_FAULT_POINT("upload accepted");
    connection_stdin(conn, in->upload_rw,
                     request->op == OP_INTAKE ? (uint64_t)h->config.package_bytes + MULTIPART_EXTRA
                                              : 0);
}

static void on_complete(void *owner, uint64_t stdin_len)
{
    intake_t *in = owner;
    helper_t *h = in->h;

    in->upload_len = stdin_len;
    close_fd(&in->upload_rw);
    if (stdin_len == 0 && in->req.op == OP_INTAKE) {
        refuse(in, 400, "bad_request", "The upload is empty.");
        return;
    }
    if (h->stopping) {
        refuse(in, 503, "overloaded", "The sandbox helper is stopping.");
        return;
    }
    if (!queue_push(&h->intakes, &in->entry, in)) {
        refuse(in, 503, "overloaded", "Too many uploads are waiting.");
        return;
    }
    in->state = INTAKE_WAITING;
    SB_FAULT_POINT("upload queued");
    loop_timer_set(&h->loop, &in->timer, h->config.queue_timeout_ms);
    helper_dispatch(h);
}

bool intake_refuse_waiting(intake_t *in, const char *message)
{
    if (in->state == INTAKE_WORKING)
        return false;
    refuse(in, 503, "overloaded", message);
    return true;
}

static void intake_kill(intake_t *in)
{
    in->killed = true;
    stage_child_kill(&in->child);
    loop_timer_set(&in->h->loop, &in->timer, KILL_MS);
}

void intake_stop(intake_t *in)
{
    if (intake_refuse_waiting(in, "The sandbox helper is stopping.") || in->state != INTAKE_WORKING)
        return;
    fail(in, 503, "overloaded", "The sandbox helper is stopping.");
    intake_kill(in);
}

static void on_gone(void *owner)
{
    intake_t *in = owner;

    in->conn = NULL;
    if (in->state != INTAKE_WORKING) {
        intake_free(in);
        return;
    }
    fail(in, 499, "cancelled", "The gateway hung up.");
    intake_kill(in); /* its death frees it */
}

static void on_timer(void *ctx)
{
    intake_t *in = ctx;

    if (intake_refuse_waiting(in, "The upload waited too long for its turn."))
        return;
    if (in->killed) {
        stagelink_restart(&in->h->packer, "an intake child could not be killed");
        return;
    }
    if (in->req.op == OP_ARTIFACT)
        fail(in, 503, "overloaded", "The artifact could not be read in time.");
    else
        fail(in, 400, "invalid_skill",
             in->req.op == OP_FILES ? "The package takes too long to read."
                                    : "The package takes too long to unpack.");
    intake_kill(in);
}

/* ---- work ---- */

static const char *could_not(const intake_t *in)
{
    return in->req.op == OP_ARTIFACT ? "The artifact could not be read."
                                     : "The package could not be examined.";
}

/* The child is dead, or never lived. */
static void finish(intake_t *in)
{
    const packer_report_t *r = &in->report;
    sb_err_t err = {0};

    if (in->fail_status != 0) {
        refuse(in, in->fail_status, in->fail_slug, in->fail_message);
        return;
    }
    if (!in->reported) {
        refuse(in, 500, "internal_error", could_not(in));
        return;
    }
    SB_FAULT_POINT("package to be kept");
    if (r->http_status == 200 && in->req.op == OP_INTAKE && !in->req.check) {
        if (state_staging_keep(&in->h->state, in->staging, r->digest, &err) != SB_OK) {
            log_event(LOG_ERROR, "a package could not be kept", "error", err.message);
            refuse(in, 500, "internal_error", "The package could not be stored.");
            return;
        }
        in->staging[0] = '\0';
    }
    if (r->http_status == 200 && in->req.op == OP_ARTIFACT) {
        if (state_extract_keep(&in->h->state, in->extract, in->req.execution,
                               (unsigned)in->req.index, in->source_fd, &err) != SB_OK) {
            log_event(LOG_ERROR, "an artifact could not be kept", "error", err.message);
            refuse(in, 500, "internal_error", could_not(in));
            return;
        }
        in->extract[0] = '\0';
    }
    SB_FAULT_POINT("upload to be answered");
    log_intake(in, r->http_status, r->text);
    connection_answer_file(in->conn, r->http_status, "", in->answer_fd, r->answer_len, 0);
    in->answer_fd = -1;
    in->conn = NULL;
    intake_free(in);
}

static bool digest_valid(const char *digest)
{
    return strlen(digest) == 64 && strspn(digest, "0123456789abcdef") == 64;
}

static bool report_sane(const intake_t *in, const packer_report_t *r)
{
    struct stat st;
    bool known = r->http_status == 200 || r->http_status == 400 || r->http_status == 404 ||
                 r->http_status == 413 || r->http_status == 415 || r->http_status == 422;
    bool needs_digest = r->http_status == 200 && in->req.op == OP_INTAKE;

    return r->magic == STAGE_MAGIC && known && r->answer_len > 0 && r->answer_len <= ANSWER_MAX &&
           (!needs_digest || digest_valid(r->digest)) && fstat(in->answer_fd, &st) == 0 &&
           (uint64_t)st.st_size >= r->answer_len;
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    intake_t *in = ctx;
    packer_report_t report;

    (void)fds;
    (void)nfds;
    if (in->reported || len != sizeof report)
        return;
    memcpy(&report, data, sizeof report);
    report.digest[sizeof report.digest - 1] = '\0';
    report.text[sizeof report.text - 1] = '\0';
    if (!report_sane(in, &report)) {
        log_event(LOG_ERROR, "an intake child's report makes no sense", "text", report.text);
        return;
    }
    in->report = report;
    in->reported = true;
    SB_FAULT_POINT("upload examined");
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    intake_t *in = ctx;

    if (!in->reported && in->fail_status == 0 && log_begin(LOG_ERROR, "an intake child died")) {
        log_str("request_id", in->req.request_id);
        log_int("wait_status", event->wstatus);
        log_end();
    }
    finish(in);
}

static void on_failed(void *ctx, const char *step, int errnum)
{
    intake_t *in = ctx;

    if (log_begin(LOG_ERROR, "an intake failed")) {
        log_str("request_id", in->req.request_id);
        log_str("step", step);
        log_errno(errnum);
        log_end();
    }
    fail(in, 500, "internal_error", could_not(in));
    finish(in);
}

static const stage_child_ops_t child_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

static sb_code_t start_read(intake_t *in, sb_err_t *err)
{
    stage_request_t q = {.kind = STAGE_READ};
    sb_code_t rc = state_package_open(&in->h->state, in->req.digest, &in->source_fd, err);

    if (rc != SB_OK)
        return rc;
    in->answer_fd = memfd_create("answer", MFD_CLOEXEC);
    if (in->answer_fd < 0)
        return sb_err_errno(err, errno, "memfd_create");
    memcpy(q.target, in->req.target, sizeof q.target);
    const int fds[] = {in->source_fd, in->answer_fd};
    return stagelink_request(&in->h->packer, &in->child, &child_ops, in, &q, fds, 2, err);
}

static sb_code_t start_extract(intake_t *in, sb_err_t *err)
{
    stage_request_t q = {.kind = STAGE_EXTRACT};
    sb_code_t rc = state_archive_read(&in->h->state, in->req.execution, &in->source_fd, err);

    if (rc == SB_OK) {
        rc = state_extract_open(&in->h->state, in->extract, &in->extract_fd, err);
        if (rc != SB_OK)
            in->extract[0] = '\0';
    }
    if (rc != SB_OK)
        return rc;
    SB_FAULT_POINT("file for an artifact made");
    in->answer_fd = memfd_create("answer", MFD_CLOEXEC);
    if (in->answer_fd < 0)
        return sb_err_errno(err, errno, "memfd_create");
    memcpy(q.target, in->req.target, sizeof q.target);
    const int fds[] = {in->source_fd, in->extract_fd, in->answer_fd};
    return stagelink_request(&in->h->packer, &in->child, &child_ops, in, &q, fds, 3, err);
}

static sb_code_t start_intake(intake_t *in, sb_err_t *err)
{
    const config_t *c = &in->h->config;
    stage_request_t q = {
        .kind = STAGE_INTAKE,
        .check_only = in->req.check,
        .scan = in->req.scan,
        .package_max = (uint64_t)c->unpacked_bytes,
    };
    sb_code_t rc = state_staging_make(&in->h->state, in->staging, &in->staging_fd, err);

    if (rc != SB_OK) {
        in->staging[0] = '\0';
        return rc;
    }
    SB_FAULT_POINT("staging folder made");
    in->answer_fd = memfd_create("answer", MFD_CLOEXEC);
    if (in->answer_fd < 0)
        return sb_err_errno(err, errno, "memfd_create");
    memcpy(q.content_type, in->req.content_type, sizeof q.content_type);
    const int fds[] = {in->upload_ro, in->staging_fd, in->answer_fd};
    return stagelink_request(&in->h->packer, &in->child, &child_ops, in, &q, fds, 3, err);
}

static sb_code_t start(intake_t *in, sb_err_t *err)
{
    switch (in->req.op) {
    case OP_FILES:
        return start_read(in, err);
    case OP_ARTIFACT:
        return start_extract(in, err);
    default:
        return start_intake(in, err);
    }
}

void intake_start(intake_t *in)
{
    sb_err_t err = {0};

    in->placed = true;
    in->state = INTAKE_WORKING;
    in->h->intakes_total++;
    in->started_us = loop_now_us();
    loop_timer_set(&in->h->loop, &in->timer, WALL_MS);
    if (start(in, &err) == SB_OK) {
        SB_FAULT_POINT("upload sent");
        return;
    }
    if (err.code == SB_ENOTFOUND) {
        refuse(in, 404, "not_found", "There are no artifacts of this execution.");
        return;
    }
    log_event(LOG_ERROR, "an intake could not be started", "error", err.message);
    refuse(in, err.code == SB_ENOSPACE ? 503 : 500,
           err.code == SB_ENOSPACE ? "overloaded" : "internal_error", could_not(in));
}
