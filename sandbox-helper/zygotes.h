/*
 * zygotes.h - the main process's end of zygote.h: one started interpreter for each Python runtime,
 * its children that wait for a run, and when which of them serves.
 *
 * A zygote that can't be had is no error: whoever asks is told to take the plain way.  One that
 * dies is started again as any program (stagelink.h), and given up when it never gets ready.  After
 * so many runs or so long a new one takes its place, whose addresses and hash seeds are others; the
 * old one goes when its last run has ended.
 */
#ifndef SB_ZYGOTES_H
#define SB_ZYGOTES_H

#include <stdbool.h>
#include <stdint.h>

#include "../libskillbox/buf.h"
#include "config.h"
#include "request.h"
#include "root.h"
#include "stagelink.h"
#include "warm.h"

typedef struct zygote_s zygote_t;

/* How a run's process came to be; for the log and the counters. */
typedef enum { START_PLAIN, START_FORKED, START_READY, START_EXECUTED } start_t;

/* "plain", "zygote", "ready"; "executed": the zygote's child found that this script needs an
 * interpreter of its own. */
const char *start_name(start_t start);

typedef struct {
    const config_t *config;
    loop_t *loop;
    cgroups_t *cgroups;
    leftovers_t *leftovers;
    zygote_t *of[STAGE_RUNTIMES]; /* NULL: none, the runtime is no Python or is not offered */
    void (*changed)(void *ctx);   /* one got ready or went: zygotes_tend() is to be called soon */
    void *ctx;
} zygotes_t;

/* After roots_make().  Whatever is missing is told by the status. */
void zygotes_init(zygotes_t *z, const config_t *c, const roots_t *roots, const runtime_t *runtimes,
                  loop_t *loop, cgroups_t *cgroups, leftovers_t *leftovers,
                  void (*changed)(void *ctx), void *ctx);
void zygotes_start(zygotes_t *z);
/* Successors and predecessors. */
void zygotes_tend(zygotes_t *z);
/* Asks for children that wait, where some are missing: between two runs. */
void zygotes_refill(zygotes_t *z);
/* One has no child that waits, and should. */
bool zygotes_dry(const zygotes_t *z);
void zygotes_close(zygotes_t *z);

/* The zygote's sandboxes for that run, or NULL: the plain way, which is counted. */
warm_t *zygotes_pool(zygotes_t *z, const request_t *r);
/* A run was started that way; START_EXECUTED, later and besides: so it turned out. */
void zygotes_count(zygotes_t *z, const request_t *r, start_t start);

/* A JSON list of objects. */
void zygotes_status(const zygotes_t *z, sb_buf_t *out);

#endif
