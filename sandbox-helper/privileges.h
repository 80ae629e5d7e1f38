/*
 * privileges.h - giving up for good what a user namespace gave.
 *
 * A process that enters a new user namespace holds every capability in it, and
 * a full bounding set again.  These steps take them away in the order the kernel
 * needs: the bounding set and the securebits want CAP_SETPCAP, capset(2) comes
 * last.  All return 0, or -1 with errno; single-threaded callers only.
 */
#ifndef SB_PRIVILEGES_H
#define SB_PRIVILEGES_H

#include <stdbool.h>

/* Set-user-id files and file capabilities have no effect from here on; also what lets an
 * ordinary process install seccomp filters and Landlock rules. */
int privileges_no_new(void);

/* Empties the bounding set alone, which children inherit: no execve(2) of theirs can gain one. */
int privileges_drop_bounding(void);

/*
 * Empties the bounding and ambient sets, locks the securebits so that uid 0 and
 * execve(2) can never bring anything back, then empties the other three sets.
 */
int privileges_drop_caps(void);

/* false: nobody but real root may ptrace this process or read its memory (until its next execve).
 */
int privileges_dumpable(bool on);

#endif
