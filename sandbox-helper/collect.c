/*
 * collect.c - see collect.h.  Holds the children's status sockets and pidfds;
 * descriptors of a run only pass through.
 */
#include "collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "log.h"

#define COLLECT_MS 120000 /* 256 MiB of artifacts through gzip take some seconds */
#define EXIT_MS    5000   /* after its work */

struct collector_s {
    collectors_t *pool;
    stage_child_t child;
    loop_timer_t timer;
    const collector_ops_t *ops;
    void *owner; /* NULL: a spare one, or one that is done */
    bool reported, syncing;
};

static void collector_free(collector_t *c)
{
    if (c->pool->spare == c)
        c->pool->spare = NULL;
    loop_timer_clear(c->pool->loop, &c->timer);
    stage_child_release(&c->child);
    free(c);
}

/* It is dead.  An owner that still waits learns why, after it has been let go. */
static void gone(collector_t *c, const char *why)
{
    void *owner = c->owner;
    const collector_ops_t *ops = c->ops;

    collector_free(c);
    if (owner != NULL)
        ops->failed(owner, why);
}

static void on_failed(void *ctx, const char *step, int errnum)
{
    if (log_begin(LOG_ERROR, "a collect child failed")) {
        log_str("step", step);
        log_errno(errnum);
        log_end();
    }
    gone(ctx, "it could not be started");
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    collector_t *c = ctx;

    if (c->owner != NULL && log_begin(LOG_ERROR, "a collect child died")) {
        log_int("wait_status", event->wstatus);
        log_end();
    }
    gone(c, "it died");
}

static void on_timer(void *ctx)
{
    collector_t *c = ctx;

    stage_child_kill(&c->child); /* its death is reported in turn */
    if (c->child.pidfd < 0)
        gone(c, "it was not born in time");
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    collector_t *c = ctx;
    packer_report_t report;

    (void)fds;
    (void)nfds;
    if (c->owner == NULL)
        return;
    if (c->syncing && len == 1 && *(const char *)data == 'd') {
        c->syncing = false;
        c->ops->synced(c->owner);
        return;
    }
    if (c->reported || len != sizeof report) {
        stage_child_kill(&c->child);
        return;
    }
    memcpy(&report, data, sizeof report);
    report.digest[sizeof report.digest - 1] = '\0';
    report.text[sizeof report.text - 1] = '\0';
    if (report.magic != STAGE_MAGIC) {
        stage_child_kill(&c->child);
        return;
    }
    c->reported = true;
    c->ops->report(c->owner, &report);
}

static const stage_child_ops_t child_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

static sb_code_t collector_new(collectors_t *p, collector_t **out, sb_err_t *err)
{
    stage_request_t request = {.kind = STAGE_COLLECT};
    collector_t *c = calloc(1, sizeof *c);

    if (c == NULL)
        return sb_err_set(err, SB_ESYSTEM, "out of memory");
    c->pool = p;
    c->timer = (loop_timer_t){.fn = on_timer, .ctx = c};
    SB_FAULT_POINT("collector to be made");
    sb_code_t rc = stagelink_request(p->link, &c->child, &child_ops, c, &request, NULL, 0, err);
    if (rc != SB_OK) {
        free(c);
        return rc;
    }
    *out = c;
    return SB_OK;
}

void collectors_init(collectors_t *p, loop_t *loop, stagelink_t *link)
{
    *p = (collectors_t){.loop = loop, .link = link};
}

void collectors_refill(collectors_t *p)
{
    if (p->spare == NULL && p->link->state == LINK_READY)
        collector_new(p, &p->spare, NULL); /* without it the next run's end asks for one */
}

void collectors_close(collectors_t *p)
{
    if (p->spare != NULL)
        collector_free(p->spare);
}

sb_code_t collector_start(collectors_t *p, const collect_task_t *task, const int *fds, int nfds,
                          const collector_ops_t *ops, void *owner, collector_t **out, sb_err_t *err)
{
    collector_t *c = p->spare;

    p->spare = NULL;
    if (c == NULL) {
        sb_code_t rc = collector_new(p, &c, err);
        if (rc != SB_OK)
            return rc;
    }
    /* One that is not born yet finds the task in its socket. */
    if (stage_child_send(&c->child, task, sizeof *task, fds, nfds) != 0) {
        int saved = errno;
        collector_free(c);
        return sb_err_errno(err, saved, "the collect child takes no task");
    }
    SB_FAULT_POINT("task given");
    c->ops = ops;
    c->owner = owner;
    loop_timer_set(p->loop, &c->timer, COLLECT_MS);
    *out = c;
    return SB_OK;
}

bool collector_sync(collector_t *c, int dir_fd)
{
    c->syncing = true;
    SB_FAULT_POINT("folder to be synced");
    if (stage_child_send(&c->child, "s", 1, &dir_fd, 1) == 0)
        return true;
    stage_child_kill(&c->child);
    return false;
}

void collector_done(collector_t *c)
{
    c->owner = NULL;
    if (!c->reported || c->syncing)
        stage_child_kill(&c->child); /* its work is wanted no more */
    loop_timer_set(c->pool->loop, &c->timer, EXIT_MS);
}
