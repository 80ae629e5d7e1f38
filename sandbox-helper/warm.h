/*
 * warm.h - sandboxes made ahead: children of sandbox-stage that have everything
 * that needs no job (a control group, namespaces, mounts, loopback) and wait for their one
 * run; with an interpreter that has started, or without.
 * Single use: one that was sent a run is the job's, and never comes back.
 */
#ifndef SB_WARM_H
#define SB_WARM_H

#include <stdbool.h>
#include <stddef.h>

#include "cgroup.h"
#include "leftovers.h"
#include "stagelink.h"

#define WARM_MAX 16 /* some 0.5 MB of kernel memory each, the network namespace above all */

typedef struct warm_sandbox_s warm_sandbox_t;

typedef struct {
    stagelink_t *link;
    cgroups_t *cgroups;
    leftovers_t *leftovers;
    warm_sandbox_t *idle; /* oldest last */
    size_t count, want;
    bool keepers; /* their processes have one (keeper.h) */
    /* With an interpreter (stage_request_t.interpreter): */
    uint32_t interpreter;       /* 0: without */
    size_t waiting;             /* of count; the others' interpreters are still on their way */
    uint64_t failures;          /* sandboxes that ended by themselves before they had a run */
    void (*changed)(void *ctx); /* NULL, or called when one waits or has failed */
    void *ctx;
} warm_t;

/* want: how many are kept waiting, cut to WARM_MAX. */
void warm_init(warm_t *w, stagelink_t *link, cgroups_t *cgroups, leftovers_t *leftovers,
               size_t want);
/* Asks for what is missing, when the stage is ready: between two runs.  Of those with an
 * interpreter for one at a time. */
void warm_refill(warm_t *w);
/* Asks for one more. */
void warm_add(warm_t *w);
/* Some should wait, and none does. */
bool warm_dry(const warm_t *w);
/* Ends all that wait above `keep`, the oldest first, and their groups. */
void warm_cut(warm_t *w, size_t keep);
/* Ends all that wait, and their groups; none is made any more. */
void warm_drain(warm_t *w);
/* The same at the helper's end: groups are swept then. */
void warm_close(warm_t *w);

/*
 * Gives a waiting sandbox to `child`, whose callbacks it has from then on, and its control group to
 * `leaf`, to be limited before the run is sent; asks for a new one when none waits.  The run may be
 * sent at once in either case.  On failure there is neither.  SB_EBUSY: the stage is down, for now.
 */
sb_code_t warm_take(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                    const stage_child_ops_t *ops, void *ctx, sb_err_t *err);

/*
 * The same for one whose interpreter waits; w->waiting must not be 0.  logs: the read ends of its
 * stdout and stderr pipes, the caller's then.
 */
sb_code_t warm_take_started(warm_t *w, stage_child_t *child, cgroup_leaf_t *leaf,
                            const stage_child_ops_t *ops, void *ctx, int logs[RUN_LOGS],
                            sb_err_t *err);

/* The pipe of a run's stdout or stderr: only the read end does not block.  0 or -1 with errno. */
int warm_pipe(int *read_end, int *write_end);

#endif
