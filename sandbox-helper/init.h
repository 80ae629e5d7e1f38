/*
 * init.h - pid 1 of a run: forks the script's process ahead, reaps what it leaves, says how
 * it ended.  The script is pid 2 because the kernel shields a namespace's pid 1 from
 * signals that scripts rely on (abort, SIGXCPU, SIGTERM to oneself).
 */
#ifndef SB_INIT_H
#define SB_INIT_H

#include "sandbox.h"

/* All that needs no job is made; exits when the script's main process has, and so ends the
 * namespace. */
void init_run(run_t *run) __attribute__((noreturn));

#endif
