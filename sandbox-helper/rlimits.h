/*
 * rlimits.h - what the kernel bounds for each process of a run, with or without cgroups.
 */
#ifndef SB_RLIMITS_H
#define SB_RLIMITS_H

#include <stdbool.h>
#include <sys/types.h>

#include "stage.h"

/* Hard and soft limits of the calling process and its descendants; 0 or -1 with errno. */
int rlimits_apply(const stage_config_t *config, const stage_request_t *request);

/* Those that need no run, for pid 1: it makes no file, and neither its time nor its memory is the
 * script's. */
int rlimits_apply_init(const stage_config_t *config);

/*
 * For an interpreter that is started before there is a run: first what needs none, to the calling
 * process; with the run the rest, to that process.
 */
int rlimits_apply_ahead(const stage_config_t *config, bool groups);
int rlimits_complete(pid_t pid, const stage_request_t *request);

/*
 * What rlimits_apply() had to leave to the last moment before execve(2): nothing, but
 * AddressSanitizer's own terabytes of mappings are over any memory limit.
 */
int rlimits_before_exec(const stage_request_t *request);

#endif
