/*
 * confine.h - the two cages of sandbox-packer.
 *
 * The nursery's: own user, mount, network, IPC, UTS and cgroup namespaces, an empty
 * read-only folder as root, no capabilities.  It looks at no attacker-made byte; its
 * cage is what every child starts in.
 *
 * A child's, on top: own user and pid namespace, the descriptors it needs and no
 * others, resource limits, no capabilities in its namespace either, not dumpable,
 * Landlock, and a system call filter.  All of it before the first byte of a package
 * or of a script's results is looked at.
 */
#ifndef SB_CONFINE_H
#define SB_CONFINE_H

#include "packer_filter.h"
#include "stage.h"

/* nursery_ops_t.prepare: the nursery's cage.  Everything libraries load must be loaded before. */
int confine_nursery(const stage_config_t *config, stage_hello_t *hello);

/*
 * A child's cage, in three calls.  The first, with the limits of the role: fds[0..nfds-1] are moved
 * to 3, 4, ... (the array is updated), everything else is closed; limits; no privileges.  *step
 * names what failed.  All return 0, or -1 with errno.
 */
int confine_child(enum packer_role role, int *fds, int nfds, const char **step);

/*
 * Landlock: the rights `access` (LL_* of landlock.h) below dirs[0..ndirs-1], at most 4,
 * and no others anywhere.  Does nothing where the kernel has no Landlock and the operator
 * allowed that (else the nursery would not have come up).
 */
int confine_paths(const int *dirs, int ndirs, uint64_t access);

/* The system call filter. */
int confine_syscalls(enum packer_role role);

#endif
