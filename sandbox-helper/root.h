/*
 * root.h - the roots that sandboxes have: the host's /usr, or the folder of an
 * unpacked image.  Each is a sandbox-stage of its own, with its own waiting sandboxes: what
 * one root shows, no run of another can see.
 *
 * Runtimes with the same folder and the same extra read-only paths share one.
 */
#ifndef SB_ROOT_H
#define SB_ROOT_H

#include "config.h"
#include "runtime.h"
#include "stagelink.h"
#include "warm.h"

#define ROOT_HOST 0
#define ROOTS_MAX (1 + CONFIG_ROOTS)

typedef struct {
    stage_config_t config; /* what its stage is told */
    stagelink_t stage;
    warm_t sandboxes;
    size_t warm; /* how many sandboxes are kept waiting */
} root_t;

typedef struct {
    root_t root[ROOTS_MAX]; /* the first is the host's and always there */
    size_t count;
    size_t of[STAGE_RUNTIMES]; /* runtime -> root */
} roots_t;

/*
 * Groups the runtimes that are offered and fills in config.  One that finds no room is not offered
 * any more, and its reason says so.
 */
void roots_make(roots_t *roots, const config_t *c, runtime_t runtimes[STAGE_RUNTIMES],
                const char *packages);

#endif
