/*
 * leftovers.h - control groups whose sandbox is dead but which the kernel still
 * calls busy for a moment: tried again from the loop, for ten seconds at most.
 */
#ifndef SB_LEFTOVERS_H
#define SB_LEFTOVERS_H

#include <stddef.h>

#include "cgroup.h"
#include "loop.h"

typedef struct {
    loop_t *loop;
    const cgroups_t *cgroups;
    struct leftover_s *first;
    size_t count;            /* groups that are still there */
    void (*gone)(void *ctx); /* one less */
    void *ctx;
} leftovers_t;

/* Removes a group, now or as soon as it can be; leaf is empty afterwards. */
void leftovers_remove(leftovers_t *l, cgroup_leaf_t *leaf);
/* Tries each once more and forgets it, without a call of gone(). */
void leftovers_close(leftovers_t *l);

#endif
