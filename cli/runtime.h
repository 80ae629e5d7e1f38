/*
 * runtime.h - what the commands of `skillbox runtime` share.
 */
#ifndef SB_CLI_RUNTIME_H
#define SB_CLI_RUNTIME_H

#include <stdbool.h>

#include <jansson.h>

#include "options.h"
#include "state.h"

/* --dir, else <state folder>/runtimes, as an absolute path.  False: told on stderr. */
bool sb_runtime_dir(const sb_args_t *args, char out[SB_STATE_PATH_MAX]);

/* One of the helper's programs, beside this one or installed; O_PATH.  An exit status. */
int sb_runtime_program(const char *name, int *fd);

/* What `sandbox-helper --check --json` prints (new reference), or NULL and a message.  The command
 * has the options --config and --state. */
json_t *sb_runtime_report(const sb_args_t *args);

#endif
