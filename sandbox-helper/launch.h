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
 * What goes to pid 1 over the pipe: run_report_t messages; RUN_SETUP_FAILED, or this
 * right before execve(2).
 */
#define LAUNCH_EXEC 1000

void launch_script(const run_t *run, int to_init) __attribute__((noreturn));

#endif
