/*
 * template.h - the root that every run shares: built once, read-only, in a user
 * and mount namespace of the stage's own.
 *
 *   /usr           the host's, with its bin, sbin, lib* (links, or binds where they are folders)
 *   /etc           hand-made; of the host only what programs can't do without
 *   /dev           null zero full random urandom, std links, shm
 *   /proc          the host's: needed to write id maps and to be allowed a new procfs; each run
 *                  covers it with its own
 *   /.packages     the host's folder of unpacked packages, read-only; each run covers it
 *   /sandbox /skill /tmp /dev/shm   where a run mounts its own
 * and the operator's extra read-only paths.  With an image as root, /usr and the other
 * folders are the image's, and /etc has what the image's has besides.
 */
#ifndef SB_TEMPLATE_H
#define SB_TEMPLATE_H

#include "stage.h"

#define TEMPLATE_PACKAGES "/.packages"

/*
 * Moves the calling (single-threaded) process into the finished template: no host
 * path is reachable afterwards.  0, or -1 with errno and *step, the failing step's
 * name, valid until the next call.
 */
int template_enter(const stage_config_t *config, const char **step);

#endif
