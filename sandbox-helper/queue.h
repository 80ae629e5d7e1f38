/*
 * queue.h - who waits for a turn, and how many have one.  First come, first
 * served, bounded at both ends.  The order is decided in queue_next() alone:
 * fairness between tenants is to be added there.
 *
 * Two classes wait, each with a bound of its own: in the foreground are those that somebody
 * waits for, in the background those that can take their time.  The foreground goes first, but
 * every QUEUE_SHARE-th turn is the background's.
 */
#ifndef SB_QUEUE_H
#define SB_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct queue_entry_s {
    struct queue_entry_s *next, *prev; /* NULL: does not wait */
    void *owner;
    bool background; /* set before it is pushed */
} queue_entry_t;

#define QUEUE_SHARE 4

typedef struct {
    queue_entry_t head[2]; /* foreground, background; each in the order they came */
    size_t waiting, max_waiting;
    size_t background, max_background; /* waiting does not count these */
    unsigned turns;                    /* of the foreground since the background had one */
    size_t running, max_running;
} queue_t;

void queue_init(queue_t *q, size_t max_waiting, size_t max_background, size_t max_running);

/* False: full.  An entry that could start at once is never refused. */
bool queue_push(queue_t *q, queue_entry_t *e, void *owner);
/* The same for one that has been accepted before: never refused. */
void queue_restore(queue_t *q, queue_entry_t *e, void *owner);
bool queue_full(const queue_t *q, bool background);
/* Takes out an entry that waits (idempotent). */
void queue_remove(queue_t *q, queue_entry_t *e);

/*
 * The owner whose turn it is, now counted as running; NULL: nobody waits that can start, or no
 * place is free.  can_start may be NULL: all can.
 */
void *queue_next(queue_t *q, bool (*can_start)(const void *owner));
/* One that queue_next() gave has ended. */
void queue_done(queue_t *q);
/* One that queue_next() gave could not start: it gives its place back and is the next in turn. */
void queue_return(queue_t *q, queue_entry_t *e);

#endif
