/*
 * loop.c - see loop.h.  Touches its two descriptors only.
 */
#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int64_t loop_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

sb_code_t loop_init(loop_t *l, sb_err_t *err)
{
    memset(l, 0, sizeof *l);
    l->tasks.next = l->tasks.prev = &l->tasks;
    l->now_us = loop_now_us();
    l->timerfd = -1;
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0)
        return sb_err_errno(err, errno, "epoll_create1");
    l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->timerfd < 0)
        return sb_err_errno(err, errno, "timerfd_create");

    /* The timerfd is known by its NULL pointer: it has no source of its own. */
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->timerfd, &ev) != 0)
        return sb_err_errno(err, errno, "epoll_ctl");
    return SB_OK;
}

void loop_free(loop_t *l)
{
    if (l->epfd >= 0)
        close(l->epfd);
    if (l->timerfd >= 0)
        close(l->timerfd);
    free(l->heap);
    l->heap = NULL;
    l->epfd = l->timerfd = -1;
}

void loop_stop(loop_t *l)
{
    l->stop = true;
}

/* ---- sources ---- */

int loop_add(loop_t *l, loop_source_t *s, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};

    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        s->fd = -1;
        return -1;
    }
    s->fd = fd;
    s->events = events;
    return 0;
}

void loop_set(loop_t *l, loop_source_t *s, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};

    if (s->fd < 0 || s->events == events)
        return;
    if (epoll_ctl(l->epfd, EPOLL_CTL_MOD, s->fd, &ev) == 0)
        s->events = events;
}

void loop_del(loop_t *l, loop_source_t *s)
{
    if (s->fd < 0)
        return;
    epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
    s->fd = -1;
    for (int i = l->at + 1; i < l->nbatch; i++) {
        if (l->batch[i].data.ptr == s)
            l->batch[i].events = 0;
    }
}

/* ---- timers: a binary heap, 1-based, the earliest at the top ---- */

static void heap_put(loop_t *l, size_t pos, loop_timer_t *t)
{
    l->heap[pos - 1] = t;
    t->pos = pos;
}

static void heap_up(loop_t *l, loop_timer_t *t)
{
    size_t pos = t->pos;

    while (pos > 1 && l->heap[pos / 2 - 1]->due_us > t->due_us) {
        heap_put(l, pos, l->heap[pos / 2 - 1]);
        pos /= 2;
    }
    heap_put(l, pos, t);
}

static void heap_down(loop_t *l, loop_timer_t *t)
{
    size_t pos = t->pos;

    for (;;) {
        size_t child = pos * 2;
        if (child > l->nheap)
            break;
        if (child < l->nheap && l->heap[child]->due_us < l->heap[child - 1]->due_us)
            child++;
        if (l->heap[child - 1]->due_us >= t->due_us)
            break;
        heap_put(l, pos, l->heap[child - 1]);
        pos = child;
    }
    heap_put(l, pos, t);
}

/* Sets the timerfd for the earliest timer.  One that is set too early wakes us for nothing, so a
 * timer that is pushed back (every read does that) costs no system call. */
static void timers_arm(loop_t *l)
{
    struct itimerspec its = {0};

    if (l->nheap == 0)
        return;
    int64_t due = l->heap[0]->due_us;
    if (l->armed_us != 0 && l->armed_us <= due)
        return;
    its.it_value.tv_sec = due / 1000000;
    its.it_value.tv_nsec = due % 1000000 * 1000;
    timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
    l->armed_us = due;
}

void loop_timer_set(loop_t *l, loop_timer_t *t, int64_t after_ms)
{
    loop_timer_clear(l, t);
    if (l->nheap == l->heap_cap) {
        size_t cap = l->heap_cap ? l->heap_cap * 2 : 64;
        loop_timer_t **heap = realloc(l->heap, cap * sizeof(loop_timer_t *));
        if (heap == NULL) {
            fputs("sandbox-helper: out of memory for timers\n", stderr);
            abort();
        }
        l->heap = heap;
        l->heap_cap = cap;
    }
    t->due_us = loop_now_us() + after_ms * 1000;
    l->nheap++;
    heap_put(l, l->nheap, t);
    heap_up(l, t);
    timers_arm(l);
}

void loop_timer_clear(loop_t *l, loop_timer_t *t)
{
    if (t->pos == 0)
        return;
    loop_timer_t *last = l->heap[l->nheap - 1];
    size_t pos = t->pos;
    l->nheap--;
    t->pos = 0;
    if (last == t)
        return;
    heap_put(l, pos, last);
    heap_up(l, last);
    heap_down(l, last);
}

static void timers_run(loop_t *l)
{
    uint64_t ticks;

    if (read(l->timerfd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
        return;
    l->armed_us = 0;
    int64_t now = loop_now_us();
    while (l->nheap > 0 && l->heap[0]->due_us <= now) {
        loop_timer_t *t = l->heap[0];
        loop_timer_clear(l, t);
        t->fn(t->ctx);
    }
    timers_arm(l);
}

/* ---- tasks ---- */

void loop_task(loop_t *l, loop_task_t *t)
{
    if (t->next != NULL)
        return;
    t->prev = l->tasks.prev;
    t->next = &l->tasks;
    l->tasks.prev->next = t;
    l->tasks.prev = t;
}

void loop_task_clear(loop_t *l, loop_task_t *t)
{
    (void)l;
    if (t->next == NULL)
        return;
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->next = t->prev = NULL;
}

/* Tasks may queue further tasks; those run too. */
static void tasks_run(loop_t *l)
{
    while (l->tasks.next != &l->tasks) {
        loop_task_t *t = l->tasks.next;
        loop_task_clear(l, t);
        t->fn(t->ctx);
    }
}

void loop_run(loop_t *l)
{
    tasks_run(l);
    while (!l->stop) {
        int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, -1);
        if (n < 0 && errno != EINTR)
            abort(); /* EBADF, EFAULT, EINVAL: a fault of ours */
        l->nbatch = n > 0 ? n : 0;
        l->now_us = loop_now_us();
        for (l->at = 0; l->at < l->nbatch; l->at++) {
            loop_source_t *s = l->batch[l->at].data.ptr;
            uint32_t events = l->batch[l->at].events;
            if (events == 0)
                continue; /* removed by an earlier handler of this batch */
            if (s == NULL)
                timers_run(l);
            else
                s->fn(s->ctx, events);
        }
        l->nbatch = 0;
        tasks_run(l);
    }
}
