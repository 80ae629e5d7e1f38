/*
 * memwatch.h - the memory of all processes of a run together, where no control group
 * counts it.
 *
 * RLIMIT_DATA bounds a process, not a run, and not all that a process can hold (shared
 * mappings of /dev/zero, pages made read-only, page tables).  So pid 1 of such a run looks
 * at its own procfs from time to time.  A look is short: a read of /proc/<pid>/status for
 * each process.  Only when their sum is over the limit the exact figures are read, which
 * count a page that many share once; and only when a second such look agrees it is said.
 *
 * Between two looks a run can take what it can fill in that time.  What the kernel holds
 * for it (sockets, pipes, locks) is not seen: docs/helper.md says what follows from that.
 */
#ifndef SB_MEMWATCH_H
#define SB_MEMWATCH_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int proc; /* the run's procfs; -1: nothing is watched */
    uint64_t limit;
    int64_t due_us; /* CLOCK_MONOTONIC */
} memwatch_t;

/* Without a procfs nothing is watched. */
void memwatch_start(memwatch_t *w, uint64_t limit);
/* Milliseconds until the next look, as poll(2) takes them. */
int memwatch_timeout(const memwatch_t *w);
/* Looks, when it is time: is there more than the limit? */
bool memwatch_over(memwatch_t *w);

#endif
