/*
 * ready.h - an interpreter that is executed before there is a run, and waits for it.
 *
 * For interpreters that can't be forked once they have started: Node.js.  The process is pid 2's
 * sibling and pid 1's child from its birth; confined for good before it is executed, it never has
 * a capability, and of descriptors only 0, 1, 2 and one end of a socket.  A preload
 * (node_ready.cjs) has it wait there, where it has done all that does not depend on its script.
 *
 * With the run pid 2 mounts the package and puts the caller's files in place as always, parses the
 * job, confines itself, and sends over the socket words, each with a NUL behind it:
 *
 *     number of arguments, number of variables, working folder,
 *     script, further arguments, variables ("NAME=value"), end
 *
 * The end of the stream follows; what is incomplete is not run.  Then pid 2 has done its work.
 */
#ifndef SB_READY_H
#define SB_READY_H

#include <stdbool.h>

#include "sandbox.h"

#define READY_FOLDER                                                                               \
    "/.ready" /* in each root, for those who may not wait themselves: worker threads */
#define READY_NODE READY_FOLDER "/node.cjs"

/* node_ready.cjs */
extern const char ready_node_script[];

/* pid 2, with all capabilities still: executes run->interpreter's and returns when it waits, with
 * run->ready and run->ready_pid.  Main is told.  0, or -1 with errno. */
int ready_start(run_t *run);

/* Waits for main's next word over FD_STATUS; -1 when the interpreter dies before that.  It must be
 * noticed: runs that are sent there would be slow ones. */
int ready_await_run(const run_t *run);

/* Is there one, alive? */
bool ready_waits(const run_t *run);

/* A variable of the caller's that steers what has been done by then (Node or its libraries read it
 * at their start; NODE_* none may set): such a run takes the plain way. */
bool ready_too_late_for(const char *name);

/*
 * Has it become the script; the stdio is its own, the working folder the caller's.  argv[0] is the
 * interpreter.  Does not return; from here on the script's own end says how it went.
 */
void ready_become(const run_t *run, char *const argv[], char *const env[])
    __attribute__((noreturn));

#endif
