/*
 * queue.c - see queue.h.  Memory only.
 */
#include "queue.h"

#include <string.h>

void queue_init(queue_t *q, size_t max_waiting, size_t max_background, size_t max_running)
{
    memset(q, 0, sizeof *q);
    for (int i = 0; i < 2; i++)
        q->head[i].next = q->head[i].prev = &q->head[i];
    q->max_waiting = max_waiting;
    q->max_background = max_background;
    q->max_running = max_running;
}

bool queue_full(const queue_t *q, bool background)
{
    size_t free_places = q->max_running > q->running ? q->max_running - q->running : 0;

    return background ? q->background >= q->max_background + free_places
                      : q->waiting >= q->max_waiting + free_places;
}

static size_t *class_of(queue_t *q, const queue_entry_t *e)
{
    return e->background ? &q->background : &q->waiting;
}

static void insert_before(queue_t *q, queue_entry_t *place, queue_entry_t *e)
{
    e->prev = place->prev;
    e->next = place;
    place->prev->next = e;
    place->prev = e;
    *class_of(q, e) += 1;
}

bool queue_push(queue_t *q, queue_entry_t *e, void *owner)
{
    if (queue_full(q, e->background))
        return false;
    queue_restore(q, e, owner);
    return true;
}

void queue_restore(queue_t *q, queue_entry_t *e, void *owner)
{
    e->owner = owner;
    insert_before(q, &q->head[e->background], e);
}

void queue_remove(queue_t *q, queue_entry_t *e)
{
    if (e->next == NULL)
        return;
    e->prev->next = e->next;
    e->next->prev = e->prev;
    e->next = e->prev = NULL;
    *class_of(q, e) -= 1;
}

static queue_entry_t *first_of(queue_t *q, bool background, bool (*can_start)(const void *owner))
{
    queue_entry_t *head = &q->head[background];

    for (queue_entry_t *e = head->next; e != head; e = e->next) {
        if (can_start == NULL || can_start(e->owner))
            return e;
    }
    return NULL;
}

void *queue_next(queue_t *q, bool (*can_start)(const void *owner))
{
    bool preferred = q->turns >= QUEUE_SHARE - 1; /* the background? */
    queue_entry_t *e;

    if (q->running >= q->max_running)
        return NULL;
    e = first_of(q, preferred, can_start);
    if (e == NULL)
        e = first_of(q, !preferred, can_start);
    if (e == NULL)
        return NULL;
    q->turns = e->background ? 0 : q->turns + 1;
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
    insert_before(q, q->head[e->background].next, e);
}
