/*
 * helper.h - the main process as a whole: its parts, and the few things that
 * several of them need.  main.c makes it; the stations of a request (server, job,
 * intake, status) get it as their first argument.
 */
#ifndef SB_HELPER_H
#define SB_HELPER_H

#include <stdbool.h>
#include <stdint.h>

#include "cgroup.h"
#include "collect.h"
#include "config.h"
#include "connection.h"
#include "deliver.h"
#include "leftovers.h"
#include "loop.h"
#include "queue.h"
#include "root.h"
#include "runtime.h"
#include "package_cache.h"
#include "prestart.h"
#include "server.h"
#include "spool.h"
#include "stagelink.h"
#include "state.h"
#include "zygotes.h"

struct job_s;
struct intake_s;

typedef struct helper_s {
    config_t config;
    loop_t loop;
    state_t state;
    package_cache_t packages;
    spool_t spool;
    deliver_t deliver;
    cgroups_t cgroups;
    runtime_t runtimes[STAGE_RUNTIMES];
    roots_t roots;
    zygotes_t zygotes;
    prestarts_t prestarts;
    stagelink_t packer;
    collectors_t collectors;
    server_t server;

    queue_t runs, intakes;
    loop_task_t dispatch;  /* starts what can be started */
    loop_timer_t refill;   /* makes what is to wait for the next */
    int64_t refill_due_us; /* when it may be put off no longer; 0: it was not */
    struct job_s *jobs;    /* all that live, newest first */
    struct intake_s *uploads;
    size_t followers;       /* connections of `attach`: they take no place of others */
    uint64_t waiting_input; /* bytes of STDIN held in memory for jobs that wait */

    leftovers_t leftovers;
    size_t graves; /* sandboxes that are being taken down, their runs are over (grave.h) */

    bool ready;    /* was so once: both programs have said hello */
    bool stopping; /* SIGTERM came */
    int64_t started_ms;
    uint64_t runs_total, intakes_total;
} helper_t;

/* Have the queues looked at, once the current events are handled. */
void helper_dispatch(helper_t *h);
/* A job or an upload has ended: the place it had is free, and a stop may be complete. */
void helper_ended(helper_t *h);

/* Is every part there that a run needs?  reason (may be NULL) gets a sentence if not. */
bool helper_available(const helper_t *h, char *reason, size_t len);
/* "full", "full without cgroup", ... */
void helper_tier(const helper_t *h, char *out, size_t len);

/* The program that makes sandboxes with the host's root: nothing works without it. */
static inline stagelink_t *helper_stage(helper_t *h)
{
    return &h->roots.root[ROOT_HOST].stage;
}

/* Finds the runtimes and their roots; h->config is there.  packages: the folder stages show. */
void helper_find_runtimes(helper_t *h, const char *packages);
/* Prepares the links to all programs; both are started by helper_start_programs(). */
sb_code_t helper_init_programs(helper_t *h, void (*on_change)(void *ctx, stagelink_t *link),
                               void *ctx, sb_err_t *err);
void helper_start_programs(helper_t *h);
/* The root whose stage that is; NULL: it is the packer. */
root_t *helper_root_of(helper_t *h, const stagelink_t *link);

/* NULL: that runtime can run here; else why not. */
const char *helper_runtime_missing(const helper_t *h, size_t runtime);

#endif
