/*
 * nursery.h - the loop that sandbox-stage and sandbox-packer share: take the
 * configuration, prepare, say hello, then make one child a request and report
 * its birth and death.  Single-threaded; one poll over the control socket and a
 * signalfd for SIGCHLD.  Nothing here looks at attacker-made bytes.
 */
#ifndef SB_NURSERY_H
#define SB_NURSERY_H

#include <stdint.h>

#include "stage.h"

typedef struct {
    const char *name; /* "sandbox-stage": for messages on stderr */
    /*
     * Once, after the configuration arrived: confine the nursery itself and fill
     * hello->missing and landlock_abi.  0, or -1 with failed_step and failed_errno set.
     */
    int (*prepare)(const stage_config_t *config, stage_hello_t *hello);
    /* Flags (CLONE_NEW*) of clone3(2) for this request's child.  A run whose groups are of version
     * 2 is born in its own (stage.h) where clone3 can do that. */
    uint64_t (*clone_flags)(const stage_request_t *request);
    /* Around each fork, in the parent; NULL: nothing. */
    void (*before_fork)(void);
    void (*after_fork)(void);
    /*
     * The child's life, as pid 1 of its namespace when clone_flags has CLONE_NEWPID.
     * PR_SET_PDEATHSIG is set, signal mask and handlers are the default, the control
     * socket is closed; the request's descriptors are fds[0..nfds-1], all close-on-exec; the
     * folder of a group it was born in is not among them.
     */
    __attribute__((noreturn)) void (*child)(const stage_request_t *request, const int *fds,
                                            int nfds);
} nursery_ops_t;

/* Runs until the control socket closes; the return value is the exit status. */
int nursery_run(const nursery_ops_t *ops);

/*
 * The same for a program that was configured and has prepared itself (ops->prepare is not called).
 * Signal handlers are left as they are; SIGCHLD must be blocked in all threads.
 */
int nursery_serve(const nursery_ops_t *ops, const stage_hello_t *hello);

#endif
