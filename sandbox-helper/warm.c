/*
 * warm.c - see warm.h.  Holds the waiting children's status sockets, pidfds and control groups.
 * Runs in the main process.
 */
#include "warm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "log.h"

struct warm_sandbox_s {
    warm_t *pool;
    warm_sandbox_t *next;
    stage_child_t child;
    cgroup_leaf_t leaf;
};

static void unlink_idle(warm_sandbox_t *s)
{
    for (warm_sandbox_t **p = &s->pool->idle; *p != NULL; p = &(*p)->next) {
        if (*p != s)
            continue;
        *p = s->next;
        s->pool->count--;
        return;
    }
}

static void forget(warm_sandbox_t *s)
{
    unlink_idle(s);
    leftovers_remove(s->pool->leftovers, &s->leaf);
    free(s);
}

/* Idle ones that die are not replaced at once: what killed them may kill the next, and the next
 * run's own sandbox will tell its caller. */
static void on_failed(void *ctx, const char *step, int errnum)
{
    warm_sandbox_t *s = ctx;

    if (errnum != 0 && log_begin(LOG_WARN, "a sandbox could not be made ahead")) {
        log_str("step", step);
        log_errno(errnum);
        log_end();
    }
    forget(s);
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    warm_sandbox_t *s = ctx;

    if (log_begin(LOG_WARN, "a waiting sandbox ended")) {
        log_int("wait_status", event->wstatus);
        log_end();
    }
    forget(s);
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    run_report_t report;

    (void)ctx;
    (void)fds;
    (void)nfds;
    if (len != sizeof report)
        return;
    memcpy(&report, data, sizeof report);
    report.failed_step[sizeof report.failed_step - 1] = '\0';
    if (log_begin(LOG_WARN, "a sandbox could not be made ahead")) {
        log_str("step", report.failed_step);
        log_errno(report.failed_errno);
        log_end();
    }
}

static const stage_child_ops_t idle_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

static sb_code_t ask(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                     const stage_child_ops_t *ops, void *ctx, sb_err_t *err)
{
    stage_request_t request = {.kind = STAGE_RUN, .cgroup = (uint32_t)w->cgroups->version};
    int fds[CG_CONTROLLERS], nfds;
    sb_code_t rc = cgroup_make(w->cgroups, leaf, fds, &nfds, err);

    if (rc != SB_OK)
        return rc;
    SB_FAULT_POINT("control group made");
    rc = stagelink_request(w->link, child, ops, ctx, &request, fds, nfds, err);
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    if (rc != SB_OK)
        leftovers_remove(w->leftovers, leaf);
    SB_FAULT_POINT("sandbox asked for");
    return rc;
}

void warm_init(warm_t *w, stagelink_t *link, cgroups_t *cgroups, leftovers_t *leftovers,
               size_t want)
{
    *w = (warm_t){.link = link,
                  .cgroups = cgroups,
                  .leftovers = leftovers,
                  .want = want < WARM_MAX ? want : WARM_MAX};
}

void warm_refill(warm_t *w)
{
    while (w->count < w->want && w->link->state == LINK_READY) {
        warm_sandbox_t *s = calloc(1, sizeof *s);

        if (s == NULL)
            return;
        s->pool = w;
        if (ask(w, &s->child, &s->leaf, &idle_ops, s, NULL) != SB_OK) {
            free(s);
            return;
        }
        s->next = w->idle;
        w->idle = s;
        w->count++;
    }
}

/* NULL: there is none. */
static warm_sandbox_t *pop(warm_t *w)
{
    warm_sandbox_t *s = w->idle;

    if (s != NULL) {
        w->idle = s->next;
        w->count--;
        stage_child_release(&s->child);
    }
    return s;
}

void warm_drain(warm_t *w)
{
    warm_sandbox_t *s;

    w->want = 0;
    while ((s = pop(w)) != NULL) {
        leftovers_remove(w->leftovers, &s->leaf);
        free(s);
    }
}

void warm_close(warm_t *w)
{
    warm_sandbox_t *s;

    w->want = 0;
    while ((s = pop(w)) != NULL)
        free(s);
}

/* The oldest: the one that is surely done. */
static warm_sandbox_t *oldest(const warm_t *w)
{
    warm_sandbox_t *s = w->idle;

    while (s != NULL && s->next != NULL)
        s = s->next;
    return s;
}

sb_code_t warm_take(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                    const stage_child_ops_t *ops, void *ctx, sb_err_t *err)
{
    warm_sandbox_t *s = oldest(w);

    leaf->name[0] = '\0';
    if (s == NULL || w->link->state != LINK_READY)
        return ask(w, child, leaf, ops, ctx, err);
    unlink_idle(s);
    sb_code_t rc = stage_child_move(&s->child, child, ops, ctx, err);
    if (rc == SB_OK)
        *leaf = s->leaf;
    else
        leftovers_remove(w->leftovers, &s->leaf);
    free(s);
    return rc;
}
