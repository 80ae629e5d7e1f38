/*
 * packer_peer.h - main's side of stage.h for tests of sandbox-packer: starts a
 * nursery (the real program, or one of the test's own making), asks for children,
 * reads what comes back.  Every wait is bounded; failures end the test.
 */
#ifndef PACKER_PEER_H
#define PACKER_PEER_H

#include <sys/types.h>

#include "../../sandbox-helper/nursery.h"
#include "../../sandbox-helper/stage.h"

#define PEER_WAIT_SECONDS 60

typedef struct {
    int sock;
    pid_t pid;
    uint64_t seq;
    stage_hello_t hello;
} peer_t;

/* A child, as main sees it. */
typedef struct {
    int status; /* our end of its status socket */
    int pidfd;
    pid_t pid;
    uint64_t seq;
} peer_child_t;

/* Started as root: become nobody for good (the packer refuses to map root). */
void peer_drop_root(void);

/* ops NULL: $SB_BINDIR/sandbox-packer, else nursery_run(ops) in a forked process. */
void peer_start(peer_t *p, const nursery_ops_t *ops);
void peer_stop(peer_t *p); /* closes the control socket and waits for the end */

/* Sends the request (magic and seq are filled in) with a fresh status socket before fds. */
void peer_spawn(peer_t *p, stage_request_t *request, const int *fds, int nfds, peer_child_t *child);
/* The child's STAGE_EXITED; closes the child's descriptors.  Returns wstatus. */
int peer_reap(peer_t *p, peer_child_t *child);

/* One datagram within PEER_WAIT_SECONDS; its length, 0 at the end, -1 on timeout. */
ssize_t peer_receive(int sock, void *msg, size_t len);
void peer_send(int sock, const void *msg, size_t len, const int *fds, int nfds);

#endif
