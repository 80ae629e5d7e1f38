/*
 * queue.c - see queue.h.  Memory only.
 *
 * A tenant's record is made by its first entry and goes with its last one, so
 * there are never more of them than entries that wait or run.  When none can be
 * made, the entry waits in the spare one: out of memory costs fairness, no job.
 */
#include "queue.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RESERVED_PART 8 /* of the waiting places: for tenants of which nobody waits */

static void init_tenant(queue_tenant_t *t)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < 2; i++)
        t->line[i].tenant = t;
}

void queue_init(queue_t *q, size_t max_waiting, size_t max_background, size_t max_running)
{
    memset(q, 0, sizeof *q);
    init_tenant(&q->spare);
    q->max_waiting = max_waiting;
    q->max_background = max_background;
    q->max_running = max_running;
}

static size_t free_places(const queue_t *q)
{
    return q->max_running > q->running ? q->max_running - q->running : 0;
}

static size_t *count_of(queue_t *q, const queue_entry_t *e)
{
    return e->background ? &q->background : &q->waiting;
}

bool queue_full(const queue_t *q, bool background)
{
    return background ? q->background >= q->max_background + free_places(q)
                      : q->waiting >= q->max_waiting + free_places(q);
}

/* ---- tenants ---- */

static size_t bucket_of(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a: few names, and who picks them gains little */

    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash % QUEUE_BUCKETS;
}

static const char *name_of(const queue_entry_t *e)
{
    return e->tenant != NULL ? e->tenant : "";
}

static queue_tenant_t *find_tenant(const queue_t *q, const char *name)
{
    queue_tenant_t *t = q->bucket[bucket_of(name)];

    while (t != NULL && strcmp(t->name, name) != 0)
        t = t->next_in_bucket;
    return t;
}

static queue_tenant_t *make_tenant(queue_t *q, const char *name)
{
    queue_tenant_t **bucket = &q->bucket[bucket_of(name)];
    size_t len = strlen(name);
    queue_tenant_t *t = len <= SB_TENANT_MAX ? malloc(sizeof *t) : NULL;

    if (t == NULL)
        return &q->spare;
    init_tenant(t);
    memcpy(t->name, name, len);
    t->next_in_bucket = *bucket;
    *bucket = t;
    q->tenants++;
    return t;
}

static void drop_if_idle(queue_t *q, queue_tenant_t *t)
{
    queue_tenant_t **p = &q->bucket[bucket_of(t->name)];

    if (t == &q->spare || t->line[0].waiting != 0 || t->line[1].waiting != 0 || t->running != 0)
        return;
    while (*p != t)
        p = &(*p)->next_in_bucket;
    *p = t->next_in_bucket;
    free(t);
    q->tenants--;
}

/* ---- the rings ---- */

/* Behind all others: just before the one whose turn is next. */
static void join_ring(queue_line_t **turn, queue_line_t *l)
{
    if (*turn == NULL) {
        l->next = l->prev = l;
        *turn = l;
        return;
    }
    l->next = *turn;
    l->prev = (*turn)->prev;
    l->prev->next = l;
    l->next->prev = l;
}

static void leave_ring(queue_line_t **turn, queue_line_t *l)
{
    if (*turn == l)
        *turn = l->next != l ? l->next : NULL;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->next = l->prev = NULL;
}

/* ---- entries ---- */

static queue_line_t *line_of(const queue_entry_t *e)
{
    return &e->of->line[e->background];
}

static void count_in(queue_t *q, queue_entry_t *e)
{
    queue_line_t *l = line_of(e);

    *count_of(q, e) += 1;
    if (l->waiting++ == 0)
        join_ring(&q->turn[e->background], l);
}

/* An entry that waits has a `prev`: the first one's is itself. */
static void append(queue_t *q, queue_entry_t *e)
{
    queue_line_t *l = line_of(e);

    e->next = NULL;
    e->prev = l->last != NULL ? l->last : e;
    if (l->last != NULL)
        l->last->next = e;
    else
        l->first = e;
    l->last = e;
    count_in(q, e);
}

static void prepend(queue_t *q, queue_entry_t *e)
{
    queue_line_t *l = line_of(e);

    e->next = l->first;
    e->prev = e;
    if (l->first != NULL)
        l->first->prev = e;
    else
        l->last = e;
    l->first = e;
    count_in(q, e);
}

static void take_out(queue_t *q, queue_entry_t *e)
{
    queue_line_t *l = line_of(e);

    if (e == l->last)
        l->last = e != l->first ? e->prev : NULL;
    if (e == l->first) {
        l->first = e->next;
        if (l->first != NULL)
            l->first->prev = l->first;
    } else {
        e->prev->next = e->next;
        if (e->next != NULL)
            e->next->prev = e->prev;
    }
    e->next = e->prev = NULL;
    *count_of(q, e) -= 1;
    if (--l->waiting == 0)
        leave_ring(&q->turn[e->background], l);
}

static bool at_cap(const queue_tenant_t *t)
{
    return t->running_cap != 0 && t->running >= t->running_cap;
}

bool queue_tenant_full(const queue_t *q, const queue_entry_t *e)
{
    const queue_tenant_t *t = find_tenant(q, name_of(e));
    size_t waiting = t != NULL ? t->line[0].waiting + t->line[1].waiting : 0;
    size_t running = t != NULL ? t->running : 0, can_start = free_places(q);

    if (e->waiting_cap == 0)
        return false;
    if (e->running_cap != 0) {
        size_t own = e->running_cap > running ? e->running_cap - running : 0;
        can_start = own < can_start ? own : can_start;
    }
    return waiting >= e->waiting_cap - 1 + can_start;
}

bool queue_has_place(const queue_t *q, const queue_entry_t *e)
{
    const queue_tenant_t *t = find_tenant(q, name_of(e));
    size_t max = e->background ? q->max_background : q->max_waiting;
    size_t waiting = e->background ? q->background : q->waiting;

    if (queue_full(q, e->background))
        return false;
    return t == NULL || t->line[e->background].waiting == 0 ||
           waiting + max / RESERVED_PART < max + free_places(q);
}

bool queue_push(queue_t *q, queue_entry_t *e, void *owner)
{
    if (!queue_has_place(q, e) || queue_tenant_full(q, e))
        return false;
    queue_restore(q, e, owner);
    return true;
}

void queue_restore(queue_t *q, queue_entry_t *e, void *owner)
{
    queue_tenant_t *t = find_tenant(q, name_of(e));

    e->owner = owner;
    e->of = t != NULL ? t : make_tenant(q, name_of(e));
    if (e->of != &q->spare)
        e->of->running_cap = e->running_cap;
    append(q, e);
}

void queue_remove(queue_t *q, queue_entry_t *e)
{
    if (e->prev == NULL)
        return;
    take_out(q, e);
    drop_if_idle(q, e->of);
    e->of = NULL;
}

/* Gives the line's first entry that can start its turn. */
static void *start_one(queue_t *q, queue_line_t *l, bool (*can_start)(const void *owner))
{
    queue_entry_t *e = l->first;

    while (e != NULL && can_start != NULL && !can_start(e->owner))
        e = e->next;
    if (e == NULL)
        return NULL;
    q->turn[e->background] = l->next; /* the others first; itself when there are none */
    take_out(q, e);
    e->of->running++;
    q->running++;
    q->turns = e->background ? 0 : q->turns + 1;
    return e->owner;
}

static void *next_of(queue_t *q, bool background, bool (*can_start)(const void *owner))
{
    queue_line_t *l = q->turn[background], *end = l;

    if (l == NULL)
        return NULL;
    do {
        void *owner = at_cap(l->tenant) ? NULL : start_one(q, l, can_start);

        if (owner != NULL)
            return owner;
        l = l->next;
    } while (l != end);
    return NULL;
}

void *queue_next(queue_t *q, bool (*can_start)(const void *owner))
{
    bool preferred = q->turns >= QUEUE_SHARE - 1; /* the background? */
    void *owner;

    if (q->running >= q->max_running)
        return NULL;
    owner = next_of(q, preferred, can_start);
    return owner != NULL ? owner : next_of(q, !preferred, can_start);
}

void queue_done(queue_t *q, queue_entry_t *e)
{
    q->running--;
    e->of->running--;
    drop_if_idle(q, e->of);
    e->of = NULL;
}

void queue_return(queue_t *q, queue_entry_t *e)
{
    q->running--;
    e->of->running--;
    prepend(q, e);
    q->turn[e->background] = line_of(e);
}
