/*
 * rlimits.h - what the kernel bounds for each process of a run, with or without cgroups.
 */
#ifndef SB_RLIMITS_H
#define SB_RLIMITS_H

#include "stage.h"

/* Hard and soft limits of the calling process and its descendants; 0 or -1 with errno. */
int rlimits_apply(const stage_config_t *config, const stage_request_t *request);

#endif
