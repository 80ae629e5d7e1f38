/*
 * cgroup.h - a control group for each run, where the host lets us.
 *
 * A sandbox is in its group from its birth on, long before it gets its run: v2 by clone3
 * (CLONE_INTO_CGROUP), v1 by its first step.  Moving a process later takes the kernel's lock over
 * all thread groups, 10 ms and more on a quiet host.
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

/* What is read at the end of each run, and again when a group serves again. */
enum {
    CG_FILE_PIDS,
    CG_FILE_PIDS_EVENTS,
    CG_FILE_MEMORY,
    CG_FILE_MEMORY_EVENTS,
    CG_FILE_MEMORY_PEAK,
    CG_FILE_CPU_STAT,
    CG_FILES
};

/* Moves by assignment; whoever has it last hands it to cgroup_remove(). */
typedef struct {
    char name[40];             /* "run-<pid>-<n>"; "": none was made, and the rest means nothing */
    int enter[CG_CONTROLLERS]; /* what a child is put into it by, in the order of stage.h; its own
                                */
    int nenter;
    int64_t memory, cpu_milli; /* the limits that are surely set; 0: none */
    bool keeper;               /* pids.max has its place */
    int file[CG_FILES];        /* kept open; -1: there is none, or not yet */
} cgroup_leaf_t;

typedef struct {
    int version; /* 0: none; 1, 2 */
    /* v1: a folder for each controller; v2: the first one for all.  -1: not there. */
    int base[CG_CONTROLLERS];
    char path[CG_CONTROLLERS][PATH_MAX]; /* for people */
    bool cpu;
    int64_t pids;  /* of a run: the init and what the script may make */
    char why[400]; /* version 0: what is in the way */
} cgroups_t;

/* What a run's group knows of it at its end. */
typedef struct {
    bool oom;              /* its memory limit was reached, and the kernel killed in it */
    bool host_oom;         /* the kernel killed in it, below its limit: the host's or a slice's */
    uint64_t pids_hit;     /* processes and threads refused for pids.max */
    uint64_t memory_peak;  /* bytes; 0: this kernel does not say (v2 before Linux 5.19) */
    uint64_t throttled_us; /* time it waited for its share of the CPU */
} cgroup_facts_t;

/*
 * Finds out and prepares; before identity_drop() when started as root, so that the folders can be
 * given to c->user.  Never fails: without groups version is 0 and why tells.  Sweeps what dead
 * helpers left.  probe: look only, for --check; this process is not moved.
 */
void cgroups_open(cgroups_t *cg, const config_t *c, bool probe);
void cgroups_close(cgroups_t *cg);

/*
 * Makes the group of a sandbox that may not have a run yet: with all that is the same for every
 * run, above all pids.max, but no limit of memory and CPU.  version 0: SB_OK, and no leaf.
 */
sb_code_t cgroup_make(cgroups_t *cg, cgroup_leaf_t *leaf, sb_err_t *err);
/*
 * May the group of a sandbox that is dead, reaped and all, serve another one?  Making and removing
 * a group takes longer than a sandbox's own steps.  Only when it is as good as a new one: it is
 * empty, nobody was killed, refused or throttled in it (those counters can't be set back), what it
 * is still charged for, memory that the kernel frees in a moment and page cache, is less than
 * 1 MiB, and its peak can be set back (v1; v2 since Linux 6.12).  Its limits, which it must have
 * had, stay until the next cgroup_limit(): with less than half a CPU it does not serve again, or
 * that would hold up what is done ahead in it.
 */
bool cgroup_renew(const cgroups_t *cg, cgroup_leaf_t *leaf);
/* One more place under pids.max, for what is not the script's (keeper.h), or no more; for a sandbox
 * that is not there yet. */
sb_code_t cgroup_places(const cgroups_t *cg, cgroup_leaf_t *leaf, bool keeper, sb_err_t *err);
/* The limits of the run that a sandbox is now given; what is in it already counts. */
sb_code_t cgroup_limit(const cgroups_t *cg, cgroup_leaf_t *leaf, int64_t memory, int64_t cpu_milli,
                       sb_err_t *err);
/* What the answer needs; of all 0 without a group. */
void cgroup_verdict(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts);
/* What the log wants to know beside that. */
void cgroup_usage(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts);
/* Kills all in it, where the kernel can do that by itself (v2). */
void cgroup_kill(const cgroups_t *cg, const cgroup_leaf_t *leaf);
/* False: still busy, to be tried again.  True when it is gone or there was none. */
bool cgroup_remove(const cgroups_t *cg, cgroup_leaf_t *leaf);

#endif
