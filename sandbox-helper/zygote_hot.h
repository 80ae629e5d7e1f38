/*
 * zygote_hot.h - the pages that every run of a zygote writes.
 *
 * A forked interpreter has its parent's pages until it writes to one: reference counts alone make
 * that some hundred faults, each an exception, on a run's way.  Which pages they are hardly depends
 * on the script.  They are found out once, by a child that rehearses a run and is thrown away;
 * each child that waits for a run then has them copied by madvise(2), range by range.
 */
#ifndef SB_ZYGOTE_HOT_H
#define SB_ZYGOTE_HOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOT_RANGES_MAX 1024

typedef struct {
    uintptr_t start;
    size_t len;
} hot_range_t;

typedef struct {
    size_t count;
    size_t pages;
    hot_range_t ranges[HOT_RANGES_MAX];
} hot_t;

/* Zero, in memory that a child shares; NULL without any. */
hot_t *hot_share(void);
/* What the child noted, in memory of one's own, to be free()d; no run may find the shared one.
 * NULL when there is nothing. */
hot_t *hot_keep(hot_t *shared);
/*
 * In that child, after the rehearsal: notes the pages that are its own by now.  The process has to
 * be dumpable, /proc to be there.  0, or -1: nothing is noted then.
 */
int hot_note(hot_t *hot);
/* Has those pages copied; false when none were noted or the kernel can't (before Linux 5.14). */
bool hot_touch(const hot_t *hot);

#endif
