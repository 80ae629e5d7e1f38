/*
 * idmap.h - the id map of a new user namespace: one uid, one gid, nothing else.
 */
#ifndef SB_IDMAP_H
#define SB_IDMAP_H

#include <sys/types.h>

/* The only uid and gid there are inside every namespace of ours; never 0. */
#define SB_INNER_ID 1000

/*
 * To be called in the new user namespace, before anything else that needs ids:
 * setgroups(2) is switched off (an ordinary user may only map its gid then), and
 * SB_INNER_ID is mapped to outer_uid and outer_gid, the caller's effective ids as
 * seen in the parent namespace.  A host procfs must be at /proc, and the process
 * dumpable, else its own map files belong to root.
 * Refuses outer 0 with EPERM: root of the namespace above is never handed in.
 * *step (may be NULL) names the failing step.  0 or -1 with errno.
 */
int idmap_write(uid_t outer_uid, gid_t outer_gid, const char **step);

#endif
