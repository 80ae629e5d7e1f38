/*
 * queue.c - see queue.h.  Memory only.
 */
#include "queue.h"

#include <string.h>

void queue_init(queue_t *q, size_t max_waiting, size_t max_running)
{
    memset(q, 0, sizeof *q);
    q->head.next = q->head.prev = &q->head;
    q->max_waiting = max_waiting;
    q->max_running = max_running;
}

bool queue_full(const queue_t *q)
{
    size_t free_places = q->max_running > q->running ? q->max_running - q->running : 0;

    return q->waiting >= q->max_waiting + free_places;
}

static void insert_before(queue_t *q, queue_entry_t *place, queue_entry_t *e)
{
    e->prev = place->prev;
    e->next = place;
    place->prev->next = e;
    place->prev = e;
    q->waiting++;
}

bool queue_push(queue_t *q, queue_entry_t *e, void *owner)
{
    if (queue_full(q))
        return false;
    e->owner = owner;
    insert_before(q, &q->head, e);
    return true;
}

void queue_remove(queue_t *q, queue_entry_t *e)
{
    if (e->next == NULL)
        return;
    e->prev->next = e->next;
    e->next->prev = e->prev;
    e->next = e->prev = NULL;
    q->waiting--;
}

void *queue_next(queue_t *q, bool (*can_start)(const void *owner))
{
    queue_entry_t *e = q->head.next;

    if (q->running >= q->max_running)
        return NULL;
    while (e != &q->head && can_start != NULL && !can_start(e->owner))
        e = e->next;
    if (e == &q->head)
        return NULL;
    queue_remove(q, e);
    q->running++;
    return e->owner;
}

void queue_done(queue_t *q)
{
    q->running--;
}

void queue_return(queue_t *q, queue_entry_t *e)
{
    queue_done(q);
    insert_before(q, q->head.next, e);
}
