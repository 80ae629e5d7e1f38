/*
 * attach.c - see attach.h.  Runs in the main process; the log's bytes are passed on, never
 * looked at.
 */
#include "attach.h"

#include <stdlib.h>
#include <string.h>

#include "helper.h"
#include "job_internal.h"

struct attach_s {
    attach_t *next, *prev; /* in job->attached */
    helper_t *h;
    job_t *job; /* NULL: not found yet */
    connection_t *conn;
    request_t req;
    uint64_t skip; /* bytes of the log to come that are left out */
    bool submit;   /* waits for the spool instead */
};

static void on_complete(void *owner, uint64_t stdin_len);
static void on_gone(void *owner);

static const connection_owner_t owner_ops = {.complete = on_complete, .gone = on_gone};

void attach_accept(helper_t *h, connection_t *conn, const request_t *request)
{
    attach_t *a = h->followers < ATTACH_MAX ? calloc(1, sizeof *a) : NULL;

    if (a == NULL) {
        connection_refuse(conn, 503, "overloaded", "Too many follow executions.");
        return;
    }
    h->followers++;
    a->h = h;
    a->conn = conn;
    a->req = *request;
    connection_set_owner(conn, &owner_ops, a);
}

/* Out of its run's list, and away. */
static void attach_free(attach_t *a)
{
    if (a->job != NULL) {
        if (a->prev != NULL)
            a->prev->next = a->next;
        else
            a->job->attached = a->next;
        if (a->next != NULL)
            a->next->prev = a->prev;
    }
    if (!a->submit)
        a->h->followers--;
    free(a);
}

static void on_gone(void *owner)
{
    attach_free(owner);
}

static void say(attach_t *a, const char *status)
{
    sb_buf_t line = SB_BUF_INIT(64);

    sb_buf_fmt(&line, "{\"status\":\"%s\"}\n", status);
    connection_stream_data(a->conn, line.data, line.len);
    sb_buf_free(&line);
}

static void end(attach_t *a, const char *status)
{
    if (status != NULL)
        say(a, status);
    connection_stream_end(a->conn);
    attach_free(a);
}

/* What does not lie before the offset. */
static void send_log(attach_t *a, const char *data, size_t len)
{
    size_t skip = a->skip < len ? (size_t)a->skip : len;

    a->skip -= skip;
    if (len > skip)
        connection_log(a->conn, data + skip, len - skip);
}

static const char *state_of(const job_t *job)
{
    switch (job->state) {
    case JOB_RECEIVING:
    case JOB_JOURNALING:
    case JOB_WAITING:
        return "queued";
    default:
        return "running";
    }
}

static void join(attach_t *a, job_t *job)
{
    a->job = job;
    a->next = job->attached;
    if (a->next != NULL)
        a->next->prev = a;
    job->attached = a;
}

static void on_complete(void *owner, uint64_t stdin_len)
{
    attach_t *a = owner;
    job_t *job = job_find(a->h, a->req.execution);

    (void)stdin_len;
    if (job != NULL && strcmp(job->req.tenant, a->req.tenant) != 0)
        job = NULL;
    if (job == NULL && !deliver_has(&a->h->deliver, a->req.execution)) {
        connection_refuse(a->conn, 404, SB_SLUG_UNKNOWN_EXECUTION,
                          "The sandbox helper does not have this execution.");
        attach_free(a);
        return;
    }
    connection_stream(a->conn, 200, "");
    if (job == NULL || job->state == JOB_SPOOLING) { /* the gateway is about to have all of it */
        end(a, "ended");
        return;
    }
    a->skip = (uint64_t)a->req.offset;
    say(a, state_of(job));
    if (job->log.head.len > 0)
        send_log(a, job->log.head.data, job->log.head.len);
    if (!a->req.follow) {
        end(a, NULL);
        return;
    }
    join(a, job);
}

static void on_submit_complete(void *owner, uint64_t stdin_len)
{
    (void)owner;
    (void)stdin_len; /* the first one's counts */
}

static const connection_owner_t submit_ops = {.complete = on_submit_complete, .gone = on_gone};

void attach_submit(job_t *job, connection_t *conn)
{
    attach_t *a = calloc(1, sizeof *a);

    if (a == NULL) {
        connection_refuse(conn, 503, "overloaded", "The sandbox helper is out of memory.");
        return;
    }
    a->conn = conn;
    a->submit = true;
    join(a, job);
    connection_set_owner(conn, &submit_ops, a);
}

void attach_accepted(job_t *job)
{
    for (attach_t *a = job->attached, *next; a != NULL; a = next) {
        next = a->next;
        if (!a->submit)
            continue;
        connection_answer(a->conn, 202, "", SUBMITTED, sizeof SUBMITTED - 1);
        attach_free(a);
    }
}

void attach_log(job_t *job, const char *data, size_t len)
{
    for (attach_t *a = job->attached; a != NULL; a = a->next) {
        if (!a->submit)
            send_log(a, data, len);
    }
}

void attach_state(job_t *job)
{
    for (attach_t *a = job->attached; a != NULL; a = a->next) {
        if (!a->submit)
            say(a, state_of(job));
    }
}

void attach_end(job_t *job)
{
    for (attach_t *a = job->attached, *next; a != NULL; a = next) {
        next = a->next;
        if (!a->submit) {
            end(a, "ended");
            continue;
        }
        connection_refuse(a->conn, 503, "overloaded", "The execution could not be submitted.");
        attach_free(a);
    }
}
