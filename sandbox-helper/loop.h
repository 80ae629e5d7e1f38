/*
 * loop.h - the event loop of sandbox-helper's main process: epoll for
 * descriptors, one timerfd below a heap of timers, and tasks that run once the
 * current batch of events is handled.
 *
 * Everything here is for one thread.  Sources, timers and tasks live inside
 * their owners' structs; the loop never owns or frees them.  A source may be
 * removed, and its owner freed, from any handler: events of the same batch that
 * still wait for it are dropped.
 */
#ifndef SB_LOOP_H
#define SB_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "../libskillbox/err.h"

#define LOOP_BATCH 64

typedef struct {
    int fd;          /* -1: not in the loop */
    uint32_t events; /* what is waited for (EPOLLIN, EPOLLOUT); HUP and ERR
                        are always reported */
    void (*fn)(void *ctx, uint32_t events);
    void *ctx;
} loop_source_t;

typedef struct {
    int64_t due_us; /* CLOCK_MONOTONIC */
    size_t pos;     /* 1-based place in the heap; 0: not set */
    void (*fn)(void *ctx);
    void *ctx;
} loop_timer_t;

typedef struct loop_task_s {
    struct loop_task_s *next, *prev; /* NULL: not queued */
    void (*fn)(void *ctx);
    void *ctx;
} loop_task_t;

typedef struct {
    int epfd;
    int timerfd;
    bool stop;
    int64_t now_us;   /* CLOCK_MONOTONIC when the current batch began */
    int64_t armed_us; /* what the timerfd is set to; 0: disarmed */
    loop_timer_t **heap;
    size_t nheap, heap_cap;
    loop_task_t tasks; /* list head */
    struct epoll_event batch[LOOP_BATCH];
    int nbatch, at;
} loop_t;

sb_code_t loop_init(loop_t *l, sb_err_t *err);
void loop_free(loop_t *l);

/* Runs until loop_stop(); tasks queued by then have run. */
void loop_run(loop_t *l);
void loop_stop(loop_t *l);

int64_t loop_now_us(void); /* CLOCK_MONOTONIC, read now */

/* Waits for `events` on fd.  Not idempotent: s must not be in the loop.  0 or -1 with errno. */
int loop_add(loop_t *l, loop_source_t *s, int fd, uint32_t events);
/* Changes what is waited for; nothing when s is not in the loop or has these events already. */
void loop_set(loop_t *l, loop_source_t *s, uint32_t events);
/* Takes s out of the loop (idempotent); the caller closes the descriptor afterwards. */
void loop_del(loop_t *l, loop_source_t *s);

/*
 * (Re)starts a timer.  It fires once; the handler may start it again.  An
 * allocation that fails ends the process: a limit that is never enforced is
 * worse than a restart.
 */
void loop_timer_set(loop_t *l, loop_timer_t *t, int64_t after_ms);
void loop_timer_clear(loop_t *l, loop_timer_t *t); /* idempotent */

/* Runs t->fn after the current batch; a second call before that changes nothing. */
void loop_task(loop_t *l, loop_task_t *t);
void loop_task_clear(loop_t *l, loop_task_t *t);

#endif
