/*
 * grave.c - see grave.h.  Runs in the main process.
 */
#include "grave.h"

#include <stdlib.h>

#include "fault.h"

#define EXIT_MS 2000  /* from the burial to the sandbox's death */
#define KILL_MS 15000 /* from SIGKILL to it */

typedef struct {
    helper_t *h;
    stage_child_t child;
    cgroup_leaf_t leaf;
    loop_timer_t timer;
    bool killed;
} grave_t;

/* Its group is what is left of it, if anything. */
static void close_grave(grave_t *g)
{
    helper_t *h = g->h;

    loop_timer_clear(&h->loop, &g->timer);
    leftovers_remove(&h->leftovers, &g->leaf);
    free(g);
    h->graves--;
    helper_ended(h);
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    grave_t *g = ctx;

    (void)event;
    SB_FAULT_POINT("sandbox dead");
    if (g->h->stopping)
        leftovers_remove(&g->h->leftovers, &g->leaf);
    else
        leftovers_keep(&g->h->leftovers, &g->leaf);
    close_grave(g);
}

static void on_failed(void *ctx, const char *step, int errnum)
{
    (void)step;
    (void)errnum;
    close_grave(ctx);
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    (void)ctx; /* pid 1 has said all that it has to say */
    (void)data;
    (void)len;
    (void)fds;
    (void)nfds;
}

static const stage_child_ops_t ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

static void on_timer(void *ctx)
{
    grave_t *g = ctx;

    if (g->killed) { /* SIGKILL has not helped: only the stage's own end can */
        stagelink_restart(g->child.link, "a sandbox could not be killed");
        return;
    }
    g->killed = true;
    stage_child_kill(&g->child);
    cgroup_kill(&g->h->cgroups, &g->leaf);
    loop_timer_set(&g->h->loop, &g->timer, KILL_MS);
}

void grave_bury(helper_t *h, stage_child_t *child, cgroup_leaf_t *leaf)
{
    grave_t *g;

    if (child->next == NULL) { /* no link knows it any more: it is dead */
        leftovers_remove(&h->leftovers, leaf);
        return;
    }
    g = calloc(1, sizeof *g);
    if (g == NULL || stage_child_move(child, &g->child, &ops, g, NULL) != SB_OK) {
        stage_child_release(child); /* killed; its group goes as soon as it is empty */
        leftovers_remove(&h->leftovers, leaf);
        free(g);
        return;
    }
    g->h = h;
    g->leaf = *leaf;
    g->timer = (loop_timer_t){.fn = on_timer, .ctx = g};
    leaf->name[0] = '\0';
    h->graves++;
    loop_timer_set(&h->loop, &g->timer, EXIT_MS);
}
