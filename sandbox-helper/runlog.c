/*
 * runlog.c - see runlog.h.  Memory only.
 */
#include "runlog.h"

#include <stdlib.h>
#include <string.h>

#define RING_FIRST 4096

void ring_init(ring_t *r, size_t max)
{
    memset(r, 0, sizeof *r);
    r->max = max;
}

void ring_free(ring_t *r)
{
    free(r->data);
    r->data = NULL;
    r->cap = r->len = r->start = 0;
}

/* Only while the ring has not wrapped: the content starts at 0 then. */
static void ring_grow(ring_t *r, size_t want)
{
    size_t cap = r->cap ? r->cap : RING_FIRST;

    while (cap < want && cap < r->max)
        cap *= 2;
    if (cap > r->max)
        cap = r->max;
    if (cap <= r->cap)
        return;
    char *data = realloc(r->data, cap);
    if (data == NULL) {
        r->max = r->cap; /* keep what there is, as a smaller ring */
        return;
    }
    r->data = data;
    r->cap = cap;
}

void ring_add(ring_t *r, const char *data, size_t len)
{
    if (r->start == 0 && r->len + len > r->cap)
        ring_grow(r, r->len + len);
    if (len > r->cap) { /* only its end can stay */
        r->lost += len - r->cap;
        data += len - r->cap;
        len = r->cap;
    }
    if (len == 0)
        return;
    if (r->len + len > r->cap) {
        size_t drop = r->len + len - r->cap;
        r->start = (r->start + drop) % r->cap;
        r->len -= drop;
        r->lost += drop;
    }
    size_t end = (r->start + r->len) % r->cap;
    size_t first = len < r->cap - end ? len : r->cap - end;
    memcpy(r->data + end, data, first);
    memcpy(r->data, data + first, len - first);
    r->len += len;
}

void ring_pieces(const ring_t *r, const char *piece[2], size_t len[2])
{
    size_t first = r->cap - r->start;

    if (first > r->len)
        first = r->len;
    piece[0] = r->data + r->start;
    len[0] = first;
    piece[1] = r->data;
    len[1] = r->len - first;
}

void runlog_init(runlog_t *l)
{
    l->total = 0;
    sb_buf_init(&l->head, RUNLOG_HEAD);
    ring_init(&l->tail, RUNLOG_TAIL);
    ring_init(&l->out, RUNLOG_STDOUT);
}

void runlog_free(runlog_t *l)
{
    sb_buf_free(&l->head);
    ring_free(&l->tail);
    ring_free(&l->out);
}

size_t runlog_add(runlog_t *l, const char *data, size_t len)
{
    size_t live = l->total < RUNLOG_HEAD ? RUNLOG_HEAD - (size_t)l->total : 0;

    if (live > len)
        live = len;
    sb_buf_add(&l->head, data, live);
    if (len > live)
        ring_add(&l->tail, data + live, len - live);
    l->total += len;
    return live;
}

void runlog_add_stdout(runlog_t *l, const char *data, size_t len)
{
    ring_add(&l->out, data, len);
}

void runlog_finish(const runlog_t *l, sb_buf_t *out)
{
    const char *piece[2];
    size_t len[2];

    if (l->tail.lost > 0)
        sb_buf_fmt(out, "\n[... %llu bytes left out ...]\n", (unsigned long long)l->tail.lost);
    if (l->tail.len == 0)
        return;
    ring_pieces(&l->tail, piece, len);
    sb_buf_add(out, piece[0], len[0]);
    sb_buf_add(out, piece[1], len[1]);
}
