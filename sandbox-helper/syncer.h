/*
 * syncer.h - makes files durable without stopping the event loop: a child process
 * that calls fsync(2) on the descriptors it is sent.
 *
 * The child is forked at the start, holds nothing but its socket, sees nothing of the
 * files' contents and dies with the main process.  Requests are answered in their
 * order; many at once cost the folder one fsync.  A child that dies is replaced and
 * asked again.
 */
#ifndef SB_SYNCER_H
#define SB_SYNCER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../libskillbox/err.h"
#include "loop.h"

/* A request, in its owner's memory until done() was called or the syncer closed. */
typedef struct syncer_request_s {
    struct syncer_request_s *next;
    int fd; /* a duplicate; -1: the folder alone */
    void (*done)(struct syncer_request_s *r, int errnum);
    void *ctx;
} syncer_request_t;

typedef struct {
    loop_t *loop;
    int dir_fd; /* the folder all files lie in */
    pid_t pid;
    loop_source_t source;
    loop_timer_t retry;
    syncer_request_t *first, **last;
    size_t count, sent; /* the first `sent` of the list are under way */
} syncer_t;

/* Forks the child.  The process must be single-threaded.  dir_fd stays the caller's. */
sb_code_t syncer_open(syncer_t *s, loop_t *loop, int dir_fd, sb_err_t *err);
/* Ends the child; done() of what it has not finished is called with ECANCELED. */
void syncer_close(syncer_t *s);

/*
 * Syncs fd (-1: nothing) and then the folder.  r->done and r->ctx are the caller's to set; done
 * comes from the event loop, with 0 or an errno.  fd stays the caller's.  -1: errno says why, done
 * will not be called.
 */
int syncer_sync(syncer_t *s, syncer_request_t *r, int fd);
#endif
