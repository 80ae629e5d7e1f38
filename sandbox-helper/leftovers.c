/*
 * leftovers.c - see leftovers.h.  Runs in the main process.
 */
#include "leftovers.h"

#include <stdlib.h>

#include "fault.h"
#include "log.h"

#define RETRY_MS  20
#define RETRY_MAX 500 /* ten seconds */
#define IDLE_MS   200

/* A busy group, on its own after its sandbox. */
typedef struct leftover_s leftover_t;

struct leftover_s {
    leftover_t *next;
    leftovers_t *all;
    cgroup_leaf_t leaf;
    loop_timer_t timer;
    int tries;
};

/* Out of the list already. */
static void release(leftover_t *left)
{
    left->all->count--;
    loop_timer_clear(left->all->loop, &left->timer);
    free(left);
}

static void forget(leftover_t *left)
{
    leftover_t **p = &left->all->first;

    while (*p != left)
        p = &(*p)->next;
    *p = left->next;
    release(left);
}

static void on_retry(void *ctx)
{
    leftover_t *left = ctx;
    leftovers_t *all = left->all;
    bool gone = cgroup_remove(all->cgroups, &left->leaf);

    if (!gone && ++left->tries < RETRY_MAX) {
        cgroup_kill(all->cgroups, &left->leaf);
        loop_timer_set(all->loop, &left->timer, RETRY_MS);
        return;
    }
    if (!gone)
        log_event(LOG_ERROR, "a control group could not be removed", "group", left->leaf.name);
    forget(left);
    all->gone(all->ctx);
}

void leftovers_remove(leftovers_t *l, cgroup_leaf_t *leaf)
{
    SB_FAULT_POINT("control group to be removed");
    if (cgroup_remove(l->cgroups, leaf))
        return;
    leftover_t *left = calloc(1, sizeof *left);
    if (left != NULL) { /* else the next start sweeps it */
        left->all = l;
        left->next = l->first;
        l->first = left;
        left->leaf = *leaf;
        left->timer = (loop_timer_t){.fn = on_retry, .ctx = left};
        l->count++;
        loop_timer_set(l->loop, &left->timer, RETRY_MS);
    }
    leaf->name[0] = '\0';
}

/* ---- spares ---- */

static void remove_spares(void *ctx)
{
    leftovers_t *l = ctx;

    loop_timer_clear(l->loop, &l->idle);
    while (l->spares > 0)
        leftovers_remove(l, &l->spare[--l->spares]);
}

static void put_off_idle(leftovers_t *l)
{
    l->idle.fn = remove_spares;
    l->idle.ctx = l;
    loop_timer_set(l->loop, &l->idle, IDLE_MS);
}

sb_code_t leftovers_group(leftovers_t *l, cgroup_leaf_t *leaf, sb_err_t *err)
{
    if (l->spares == 0)
        return cgroup_make(l->cgroups, leaf, err);
    *leaf = l->spare[--l->spares];
    put_off_idle(l);
    return SB_OK;
}

void leftovers_keep(leftovers_t *l, cgroup_leaf_t *leaf)
{
    if (l->spares == SPARES_MAX || !cgroup_renew(l->cgroups, leaf)) {
        leftovers_remove(l, leaf);
        return;
    }
    l->spare[l->spares++] = *leaf;
    leaf->name[0] = '\0';
    put_off_idle(l);
}

void leftovers_close(leftovers_t *l)
{
    leftover_t *left;

    remove_spares(l);
    while ((left = l->first) != NULL) {
        cgroup_kill(l->cgroups, &left->leaf);
        (void)cgroup_remove(l->cgroups, &left->leaf); /* else the next start sweeps it */
        l->first = left->next;
        release(left);
    }
}
