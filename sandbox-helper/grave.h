/*
 * grave.h - sandboxes whose run is over: every process but pid 1 is dead, and pid 1 is about to be.
 * What the kernel then takes down (namespaces, mounts, a control group) nobody waits for: the run
 * is answered meanwhile.
 */
#ifndef SB_GRAVE_H
#define SB_GRAVE_H

#include "helper.h"

/* Takes the child, which may be dead already, and its group over; both are the caller's no more.
 * One that does not end by itself is killed.  helper_ended() is called when it is gone; h->graves
 * counts them. */
void grave_bury(helper_t *h, stage_child_t *child, cgroup_leaf_t *leaf);

#endif
