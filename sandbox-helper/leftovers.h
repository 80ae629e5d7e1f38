/*
 * leftovers.h - control groups whose sandbox is dead.  Most are as good as new and wait for the
 * next sandbox, until 200 ms after the last came or went; the others are removed.  Those
 * that the kernel still calls busy are tried again from the loop, for ten seconds at most.
 */
#ifndef SB_LEFTOVERS_H
#define SB_LEFTOVERS_H

#include <stddef.h>

#include "cgroup.h"
#include "loop.h"

#define SPARES_MAX 16

typedef struct {
    loop_t *loop;
    cgroups_t *cgroups;
    struct leftover_s *first;
    size_t count;            /* groups that are still there */
    void (*gone)(void *ctx); /* one less */
    void *ctx;
    cgroup_leaf_t spare[SPARES_MAX];
    size_t spares;
    loop_timer_t idle; /* then the spares are removed */
} leftovers_t;

/* A group for a sandbox: a spare one, or made.  version 0: SB_OK, and no leaf. */
sb_code_t leftovers_group(leftovers_t *l, cgroup_leaf_t *leaf, sb_err_t *err);
/* Keeps the group of a sandbox that is dead and reaped as a spare one, or removes it. */
void leftovers_keep(leftovers_t *l, cgroup_leaf_t *leaf);

/* Removes a group, now or as soon as it can be; leaf is empty afterwards. */
void leftovers_remove(leftovers_t *l, cgroup_leaf_t *leaf);
/* Removes the spares, tries each of the others once more and forgets it, without a call of gone().
 */
void leftovers_close(leftovers_t *l);

#endif
