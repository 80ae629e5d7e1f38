/*
 * prestart.h - how many interpreters wait for a run that can't be forked once they have started:
 * Node.js.  One pool for each such runtime, of sandboxes whose interpreter is there already
 * (warm.h).
 *
 * Sized by demand: nothing is kept before the first run, one more for each run that found none, up
 * to the configured maximum; what nobody used for the configured time goes.  New ones are
 * made when no run is in the way, one after the other.  A run that finds none takes the plain way,
 * with the same result.  Where one can't be started (a version that does not come to where it
 * should wait), that is tried again after a pause that grows.
 */
#ifndef SB_PRESTART_H
#define SB_PRESTART_H

#include <stdbool.h>
#include <stdint.h>

#include "../libskillbox/buf.h"
#include "config.h"
#include "loop.h"
#include "request.h"
#include "root.h"
#include "warm.h"
#include "zygotes.h"

typedef struct prestart_s prestart_t;

typedef struct {
    const config_t *config;
    loop_t *loop;
    prestart_t *of[STAGE_RUNTIMES]; /* NULL: none, the runtime is no Node.js or is not offered */
    void (*changed)(void *ctx);     /* prestarts_tend() is to be called soon */
    void *ctx;
} prestarts_t;

/* After roots_make().  Runs in the main process, as all of it. */
void prestarts_init(prestarts_t *p, const config_t *c, roots_t *roots, const runtime_t *runtimes,
                    loop_t *loop, cgroups_t *cgroups, leftovers_t *leftovers,
                    void (*changed)(void *ctx), void *ctx);
/* Between two runs.  busy: all cores have one. */
void prestarts_tend(prestarts_t *p, bool busy);
void prestarts_close(prestarts_t *p);

/* Those that wait for a run like that, at least one, or NULL. */
warm_t *prestarts_pool(prestarts_t *p, const request_t *r);
/* A run was started: START_READY, from the pool, or START_PLAIN; START_EXECUTED, with the end of
 * one from the pool: it was none for a node that waits. */
void prestarts_count(prestarts_t *p, const request_t *r, start_t start);

/* A JSON list of objects. */
void prestarts_status(const prestarts_t *p, sb_buf_t *out);

#endif
