/*
 * warm.c - see warm.h.  Holds the waiting children's status sockets, pidfds and control groups.
 * Runs in the main process.
 */
#include "warm.h"

#include <fcntl.h>
#include <stdbool.h>
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
    bool waiting;       /* its interpreter does */
    int logs[RUN_LOGS]; /* read ends of its pipes, or -1 */
};

static void unlink_idle(warm_sandbox_t *s)
{
    for (warm_sandbox_t **p = &s->pool->idle; *p != NULL; p = &(*p)->next) {
        if (*p != s)
            continue;
        *p = s->next;
        s->pool->count--;
        s->pool->waiting -= s->waiting;
        return;
    }
}

static void close_logs(warm_sandbox_t *s)
{
    for (size_t i = 0; i < RUN_LOGS; i++)
        if (s->logs[i] >= 0)
            close(s->logs[i]);
}

static void forget(warm_sandbox_t *s)
{
    unlink_idle(s);
    close_logs(s);
    leftovers_remove(s->pool->leftovers, &s->leaf);
    free(s);
}

static void tell(const warm_t *w)
{
    if (w->changed != NULL)
        w->changed(w->ctx);
}

static void failed(warm_sandbox_t *s)
{
    warm_t *w = s->pool;

    w->failures++;
    forget(s);
    tell(w);
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
    failed(s);
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    warm_sandbox_t *s = ctx;

    if (log_begin(LOG_WARN, "a waiting sandbox ended")) {
        log_int("wait_status", event->wstatus);
        log_end();
    }
    failed(s);
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    warm_sandbox_t *s = ctx;
    run_report_t report;

    (void)fds;
    (void)nfds;
    if (len != sizeof report)
        return;
    memcpy(&report, data, sizeof report);
    if (report.kind == RUN_WAITING) {
        s->pool->waiting += !s->waiting;
        s->waiting = true;
        tell(s->pool);
        return;
    }
    report.failed_step[sizeof report.failed_step - 1] = '\0';
    if (log_begin(LOG_WARN, "a sandbox could not be made ahead")) {
        log_str("step", report.failed_step);
        log_errno(report.failed_errno);
        log_end();
    }
}

static const stage_child_ops_t idle_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

int warm_pipe(int *read_end, int *write_end)
{
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) != 0)
        return -1;
    *read_end = pair[0];
    *write_end = pair[1];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK); /* ours alone: scripts expect to block */
}

/* logs: write ends for the interpreter, or NULL: there is none. */
static sb_code_t ask(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                     const stage_child_ops_t *ops, void *ctx, const int *logs, sb_err_t *err)
{
    stage_request_t request = {.kind = STAGE_RUN,
                               .cgroup = (uint32_t)w->cgroups->version,
                               .interpreter = logs != NULL ? w->interpreter : 0};
    int fds[CG_CONTROLLERS + RUN_LOGS], nfds;
    sb_code_t rc = leftovers_group(w->leftovers, leaf, err);

    if (rc != SB_OK)
        return rc;
    rc = cgroup_places(w->cgroups, leaf, w->keepers, err);
    if (rc != SB_OK) {
        leftovers_remove(w->leftovers, leaf);
        return rc;
    }
    SB_FAULT_POINT("control group made");
    nfds = leaf->nenter;
    memcpy(fds, leaf->enter, (size_t)nfds * sizeof *fds);
    if (logs != NULL) {
        memcpy(fds + nfds, logs, RUN_LOGS * sizeof *logs);
        nfds += RUN_LOGS;
    }
    rc = stagelink_request(w->link, child, ops, ctx, &request, fds, nfds, err);
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

static sb_code_t ask_started(warm_sandbox_t *s)
{
    int writes[RUN_LOGS] = {-1, -1};
    sb_code_t rc = SB_ESYSTEM;

    if (warm_pipe(&s->logs[0], &writes[0]) == 0 && warm_pipe(&s->logs[1], &writes[1]) == 0)
        rc = ask(s->pool, &s->child, &s->leaf, &idle_ops, s, writes, NULL);
    for (size_t i = 0; i < RUN_LOGS; i++)
        if (writes[i] >= 0)
            close(writes[i]);
    return rc;
}

static bool add(warm_t *w)
{
    warm_sandbox_t *s = calloc(1, sizeof *s);
    sb_code_t rc;

    if (s == NULL)
        return false;
    s->pool = w;
    s->logs[0] = s->logs[1] = -1;
    rc = w->interpreter != 0 ? ask_started(s)
                             : ask(w, &s->child, &s->leaf, &idle_ops, s, NULL, NULL);
    if (rc != SB_OK) {
        close_logs(s);
        free(s);
        return false;
    }
    s->next = w->idle;
    w->idle = s;
    w->count++;
    return true;
}

void warm_refill(warm_t *w)
{
    while (w->count < w->want && w->link->state == LINK_READY) {
        if (w->interpreter != 0 && w->count > w->waiting)
            return; /* a core's worth of work each */
        if (!add(w))
            return;
    }
}

void warm_add(warm_t *w)
{
    (void)add(w);
}

bool warm_dry(const warm_t *w)
{
    return w->count == 0 && w->want > 0 && w->link->state == LINK_READY;
}

void warm_close(warm_t *w)
{
    w->want = 0;
    while (w->idle != NULL) {
        warm_sandbox_t *s = w->idle;

        w->idle = s->next;
        stage_child_release(&s->child);
        close_logs(s);
        free(s);
    }
    w->count = w->waiting = 0;
}

/* The oldest: the one that is surely done. */
static warm_sandbox_t *oldest(const warm_t *w, bool waiting)
{
    warm_sandbox_t *found = NULL;

    for (warm_sandbox_t *s = w->idle; s != NULL; s = s->next)
        if (s->waiting || !waiting)
            found = s;
    return found;
}

void warm_cut(warm_t *w, size_t keep)
{
    while (w->count > keep) {
        warm_sandbox_t *s = oldest(w, false);

        stage_child_release(&s->child);
        forget(s);
    }
}

void warm_drain(warm_t *w)
{
    w->want = 0;
    warm_cut(w, 0);
}

static sb_code_t move(warm_sandbox_t *s, stage_child_t *child, cgroup_leaf_t *leaf,
                      const stage_child_ops_t *ops, void *ctx, sb_err_t *err)
{
    sb_code_t rc;

    unlink_idle(s);
    rc = stage_child_move(&s->child, child, ops, ctx, err);
    if (rc == SB_OK)
        *leaf = s->leaf;
    else
        leftovers_remove(s->pool->leftovers, &s->leaf);
    return rc;
}

sb_code_t warm_take(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                    const stage_child_ops_t *ops, void *ctx, sb_err_t *err)
{
    warm_sandbox_t *s = oldest(w, false);
    sb_code_t rc;

    leaf->name[0] = '\0';
    if (s == NULL || w->link->state != LINK_READY)
        return ask(w, child, leaf, ops, ctx, NULL, err);
    rc = move(s, child, leaf, ops, ctx, err);
    free(s);
    return rc;
}

sb_code_t warm_take_started(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                            const stage_child_ops_t *ops, void *ctx, int logs[RUN_LOGS],
                            sb_err_t *err)
{
    warm_sandbox_t *s = oldest(w, true);
    sb_code_t rc = move(s, child, leaf, ops, ctx, err);

    if (rc == SB_OK)
        memcpy(logs, s->logs, sizeof s->logs);
    else
        close_logs(s);
    free(s);
    return rc;
}
