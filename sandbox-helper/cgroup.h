/*
 * cgroup.h - a control group for each run, where the host lets us.
 *
 *   v2  the helper's own group, when it was delegated to us (systemd:
 *       Delegate=yes) or we are root, and holds nobody but the helper: it moves
 *       itself to <own>/helper and runs get <own>/run-<pid>-<n>.
 *   v1  <own>/skillbox-<user>/run-<pid>-<n> in the memory, pids and cpu
 *       hierarchies that can be written: made as root before privileges are dropped
 *       and given to the user, or made by the user where its own group is writable.
 *
 * Both limits that matter, memory and pids, or none: with one alone a run would
 * look limited and not be.  cpu is used when it is there.
 */
#ifndef SB_CGROUP_H
#define SB_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../libskillbox/err.h"
#include "config.h"

enum { CG_MEMORY, CG_PIDS, CG_CPU, CG_CONTROLLERS };

typedef struct {
    char name[40]; /* "": none was made */
} cgroup_leaf_t;

typedef struct {
    int version; /* 0: none; 1, 2 */
    /* v1: a folder for each controller; v2: the first one for all.  -1: not there. */
    int base[CG_CONTROLLERS];
    char path[CG_CONTROLLERS][PATH_MAX]; /* for people */
    bool cpu;
    cgroup_leaf_t spare; /* made ahead for the next run */
    char why[400];       /* version 0: what is in the way */
} cgroups_t;

typedef struct {
    int64_t memory;
    int64_t pids;
    int64_t cpu_milli;
} cgroup_limits_t;

/*
 * Finds out and prepares; before identity_drop() when started as root, so that the folders can be
 * given to c->user.  Never fails: without groups version is 0 and why tells.  Sweeps what dead
 * helpers left.  probe: look only, for --check; this process is not moved.
 */
void cgroups_open(cgroups_t *cg, const config_t *c, bool probe);
void cgroups_close(cgroups_t *cg);

/*
 * Makes the next run's folders ahead, between two runs, so that no run waits for
 * them.  What goes wrong here is found again, and reported, by cgroup_make().
 */
void cgroup_prepare(cgroups_t *cg);
/*
 * Makes a run's group (or takes the one made ahead) with its limits; procs[0..*nprocs-1] are the
 * files to enter it by (write "0"), the caller's to close, at most CG_CONTROLLERS.
 */
sb_code_t cgroup_make(cgroups_t *cg, cgroup_leaf_t *leaf, const cgroup_limits_t *limits, int *procs,
                      int *nprocs, sb_err_t *err);
/* Did the kernel kill for memory in it? */
bool cgroup_oom(const cgroups_t *cg, const cgroup_leaf_t *leaf);
/* Kills all in it, where the kernel can do that by itself (v2). */
void cgroup_kill(const cgroups_t *cg, const cgroup_leaf_t *leaf);
/* False: still busy, to be tried again.  True when it is gone or there was none. */
bool cgroup_remove(const cgroups_t *cg, cgroup_leaf_t *leaf);

#endif
