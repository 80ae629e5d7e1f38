/*
 * queue.h - who waits for a turn, and how many have one.
 *
 * Two classes wait, each with a bound of its own: in the foreground are those that somebody
 * waits for, in the background those that can take their time.  The foreground goes first, but
 * every QUEUE_SHARE-th turn is the background's.
 *
 * Within a class turns go round among the tenants that wait, first come, first served within each:
 * one tenant's thousand jobs and another's one share the places as one and one.  Bounded at both
 * ends; beside the entries, which are their owners', there is one small record for each tenant that
 * waits or runs.  The last eighth of a class's waiting places is for tenants of which nobody waits
 * there yet: one tenant can fill the rest, but not shut out the others.
 */
#ifndef SB_QUEUE_H
#define SB_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "../libskillbox/limits.h"

struct queue_tenant_s;

typedef struct queue_entry_s {
    struct queue_entry_s *next, *prev; /* prev NULL: does not wait */
    void *owner;
    /* To be set before the push, and left alone from then on. */
    bool background;
    const char *tenant; /* good for as long as the entry is; NULL: "" */
    size_t running_cap; /* of its tenant: so many run at a time; 0: no limit */
    size_t waiting_cap; /* so many less one may wait beside those that could start; 0: no limit */
    struct queue_tenant_s *of; /* the queue's own: while it waits or runs */
} queue_entry_t;

/* The entries of a tenant in one class. */
typedef struct queue_line_s {
    struct queue_line_s *next, *prev; /* in the ring; NULL: nobody waits here */
    queue_entry_t *first, *last;
    size_t waiting;
    struct queue_tenant_s *tenant;
} queue_line_t;

typedef struct queue_tenant_s {
    struct queue_tenant_s *next_in_bucket;
    queue_line_t line[2]; /* foreground, background */
    size_t running;
    size_t running_cap; /* as the entry that came last says */
    char name[SB_TENANT_MAX + 1];
} queue_tenant_t;

#define QUEUE_SHARE   4
#define QUEUE_BUCKETS 256

typedef struct {
    queue_tenant_t *bucket[QUEUE_BUCKETS]; /* those that wait or run, by name */
    queue_tenant_t spare;                  /* of those whose record can't be had */
    queue_line_t *turn[2]; /* ring of those that wait in a class; whose turn is next */
    size_t waiting, max_waiting;
    size_t background, max_background; /* waiting does not count these */
    unsigned turns;                    /* of the foreground since the background had one */
    size_t running, max_running;
    size_t tenants; /* that wait or run */
} queue_t;

void queue_init(queue_t *q, size_t max_waiting, size_t max_background, size_t max_running);

/* False: full, for everyone or for this tenant.  An entry that could start at once is refused for
 * the latter only. */
bool queue_push(queue_t *q, queue_entry_t *e, void *owner);
/* The same for one that has been accepted before: never refused. */
void queue_restore(queue_t *q, queue_entry_t *e, void *owner);
bool queue_full(const queue_t *q, bool background);
/* Is there a place for the entry, its tenant's own limit aside? */
bool queue_has_place(const queue_t *q, const queue_entry_t *e);
/* Would the entry be refused for its own waiting_cap? */
bool queue_tenant_full(const queue_t *q, const queue_entry_t *e);
/* Takes out an entry that waits (idempotent). */
void queue_remove(queue_t *q, queue_entry_t *e);

/*
 * The owner whose turn it is, now counted as running; NULL: nobody waits that can start, or no
 * place is free.  can_start may be NULL: all can.
 */
void *queue_next(queue_t *q, bool (*can_start)(const void *owner));
/* One that queue_next() gave has ended. */
void queue_done(queue_t *q, queue_entry_t *e);
/* One that queue_next() gave could not start: it gives its place back and is the next in turn. */
void queue_return(queue_t *q, queue_entry_t *e);

#endif
