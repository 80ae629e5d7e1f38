/*
 * launch.h - the process that becomes the script.
 *
 * Already confined exactly as the script will be, it is the first to parse bytes of
 * the caller: the job JSON (protocol.h).  It puts the caller's files in place, makes
 * argv and the environment from nothing and executes the interpreter.
 */
#ifndef SB_LAUNCH_H
#define SB_LAUNCH_H

#include "sandbox.h"

/*
 * What goes to pid 1 over run->to_init: launch_limits_t, before anything of the caller is read;
 * then run_report_t: RUN_SETUP_FAILED, or LAUNCH_START right before execve(2) or the script.
 */
#define LAUNCH_START 1000

typedef struct {
    uint64_t memory_bytes; /* what pid 1 watches where no control group does */
    int32_t ready_pid;     /* an interpreter that waits (ready.h), or 0 */
    int32_t keeper_pid;    /* keeper.h, or 0 */
} launch_limits_t;

void launch_script(const run_t *run) __attribute__((noreturn));

/* What the environment of every run of that runtime begins with; for an interpreter that starts
 * before there is one.  NULL with errno; for a process that executes it and does nothing else here.
 */
char **launch_interpreter_env(const stage_t *stage, uint32_t runtime);

#endif
