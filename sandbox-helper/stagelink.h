/*
 * stagelink.h - the main process's end of stage.h: starts sandbox-stage or
 * sandbox-packer, configures it, sends requests and follows each request's child
 * from birth to death.
 *
 * A link that dies (or talks nonsense) takes its children with it: each is
 * killed through its pidfd and reported as failed; then the program is started
 * again, after a pause that grows while it keeps dying.  One thread; callbacks
 * come from the event loop only.
 */
#ifndef SB_STAGELINK_H
#define SB_STAGELINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../libskillbox/err.h"
#include "loop.h"
#include "stage.h"

#define STAGE_CHILD_FDS 4 /* descriptors a child may send with one message */

typedef struct stagelink_s stagelink_t;
typedef struct stage_child_s stage_child_t;

typedef struct {
    /* It never lived, or its link died: no further callback comes.  step is for people. */
    void (*failed)(void *ctx, const char *step, int errnum);
    /* It is dead and reaped, all it ever sent has been delivered: no further callback. */
    void (*exited)(void *ctx, const stage_event_t *event);
    /* A datagram on its status socket.  fds it takes are to be set to -1; the rest is closed.
     * Must not free the child's struct. */
    void (*message)(void *ctx, const void *data, size_t len, int *fds, int nfds);
} stage_child_ops_t;

/* A request's child; lives in its owner's struct. */
struct stage_child_s {
    stage_child_t *next, *prev; /* NULL: not known to a link */
    stagelink_t *link;
    uint64_t seq;
    pid_t pid;   /* 0: not born yet */
    int pidfd;   /* -1: not born yet */
    bool doomed; /* to be dead as soon as can be */
    int status;  /* our end of the status socket */
    loop_source_t source;
    loop_timer_t spawn_timer;
    const stage_child_ops_t *ops;
    void *ctx;
};

typedef enum { LINK_DOWN, LINK_STARTING, LINK_READY } link_state_t;

struct stagelink_s {
    loop_t *loop;
    const char *name; /* "sandbox-stage" */
    char path[4096];  /* its program */
    const stage_config_t *config;
    link_state_t state;
    pid_t pid; /* 0: none */
    int pidfd, sock;
    loop_source_t process, control;
    loop_timer_t timer; /* STARTING: hello is late; DOWN: time to start again */
    stage_child_t children;
    uint64_t seq;
    int64_t pause_ms, ready_us;
    bool closing;
    bool one_try;        /* a hello that says no is the end: it is not started again */
    bool given_up;       /* so it happened */
    stage_hello_t hello; /* the last one */
    char down_reason[128];
    void (*on_change)(void *ctx, stagelink_t *link); /* became READY, or went DOWN */
    void *ctx;
};

/* Looks beside our own program, then in SB_LIBEXECDIR; SB_ENOTFOUND. */
sb_code_t stagelink_find_program(const char *name, char *path, size_t len, sb_err_t *err);

/*
 * Finds the program; SB_ENOTFOUND.  config and name must outlive the link.
 */
sb_code_t stagelink_init(stagelink_t *l, loop_t *loop, const char *name,
                         const stage_config_t *config,
                         void (*on_change)(void *ctx, stagelink_t *link), void *ctx, sb_err_t *err);
void stagelink_start(stagelink_t *l);
/* Ends it (it no longer does what it should) and starts it again as after a death. */
void stagelink_restart(stagelink_t *l, const char *reason);
/* Ends the program and what it made, waits for it (it dies at once: SIGKILL). */
void stagelink_close(stagelink_t *l);

/*
 * Sends a request for a child.  fds follow the status socket's end, which is
 * made here; they stay the caller's.  On failure nothing was sent, and no
 * callback comes; SB_EBUSY: the link is down, for now.  request's magic and seq are filled in.
 */
sb_code_t stagelink_request(stagelink_t *l, stage_child_t *child, const stage_child_ops_t *ops,
                            void *ctx, stage_request_t *request, const int *fds, int nfds,
                            sb_err_t *err);

/*
 * Hands a child over to another struct and owner; what it says from now on goes to the
 * new ops.  `from` is free afterwards in every case.  On failure the child is released.
 */
sb_code_t stage_child_move(stage_child_t *from, stage_child_t *to, const stage_child_ops_t *ops,
                           void *ctx, sb_err_t *err);

/* A datagram to the child.  0, or -1 with errno. */
int stage_child_send(stage_child_t *child, const void *data, size_t len, const int *fds, int nfds);
/* Delivers what its status socket already holds, now instead of from the loop. */
void stage_child_poll(stage_child_t *child);
/* SIGKILL through its pidfd: it and, for a run, all in its pid namespace.  Harmless when dead. */
void stage_child_kill(stage_child_t *child);
/* Forgets it (killing it if it may live): no callback comes any more.  Idempotent. */
void stage_child_release(stage_child_t *child);

#endif
