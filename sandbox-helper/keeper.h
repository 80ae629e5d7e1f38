/*
 * keeper.h - a process that has the script's memory, so that nobody waits for its end.
 *
 * The kernel gives back a process's memory before its parent hears of its death: half a millisecond
 * for an interpreter.  As long as another process has the same memory there is nothing to be given
 * back yet.  So a child that waits for a run makes one: pid 1's child, asleep for ever.  pid 1
 * reports the run's end when that is all that lives beside itself, and exits; the kernel ends the
 * keeper then, and its memory with it.
 *
 * A hostile script can write to the keeper's stack and code, and wake it.  So it is less than the
 * script from the start, before anything of a caller's is read: no descriptor, no capability,
 * no new privileges, a filter that kills it for anything but to wait on a futex without a time
 * limit and to wake one, one second of CPU.  What it could still do is write to memory, and that
 * may be a file's: therefore keeper_alone() asks the kernel whether it sleeps, which it then does
 * until it is killed, for nobody is left who could wake it.
 *
 * Without a keeper all is as it was: where one can't be made or confined, or the script has killed
 * it, pid 1 kills and waits for all.
 */
#ifndef SB_KEEPER_H
#define SB_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "stage.h"

/* Which number a process or thread of the reader's pid namespace was given last; where the kernel
 * has no such file (CONFIG_CHECKPOINT_RESTORE) there are no keepers. */
#define KEEPER_LAST_PID "/proc/sys/kernel/ns_last_pid"

/* Longer runs have no use for one: what a millisecond is to them is less than the memory of a
 * script that has executed something else is worth. */
#define KEEPER_MS 50

/*
 * In pid 2 of a run, single-threaded, before it has anything of a run: makes a sibling of the
 * caller's.  Returns its number when it is confined; 0: there is none; -1 with errno: neither came
 * to be true in time, and the caller must not go on.
 */
pid_t keeper_make(const stage_config_t *config);

/*
 * In pid 1, its parent, once the script is reaped and all that had died: is there nothing in this
 * pid namespace but the caller, which has one thread, and the keeper, and does that sleep?  Then
 * nothing of the run's is ever executed again.  last_pid: KEEPER_LAST_PID, open.
 */
bool keeper_alone(pid_t keeper, int last_pid);

/* The CPU time it has used, which is in no sum before it is reaped. */
uint64_t keeper_cpu_usec(pid_t keeper);

#endif
