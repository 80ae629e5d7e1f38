/*
 * runlog.h - what a run prints, kept within fixed bounds whatever it prints.
 *
 * The log is stdout and stderr merged as they arrive: its first SB_LOG_MAX / 2
 * bytes are handed on at once (and kept, for whoever comes later), after that a ring keeps the last
 * SB_LOG_MAX / 2. Beside it a second ring keeps the end of stdout alone, where the SkillLite
 * dialect leaves its result.  The bytes are never looked at.
 */
#ifndef SB_RUNLOG_H
#define SB_RUNLOG_H

#include <stddef.h>
#include <stdint.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/limits.h"

#define RUNLOG_HEAD   (SB_LOG_MAX / 2)
#define RUNLOG_TAIL   (SB_LOG_MAX / 2)
#define RUNLOG_STDOUT (1 * SB_MIB)

/* The last `max` bytes of a stream; memory grows with the stream up to that. */
typedef struct {
    char *data;
    size_t cap, max;
    size_t start, len;
    uint64_t lost; /* bytes that no longer fit (or could not be allocated) */
} ring_t;

void ring_init(ring_t *r, size_t max);
void ring_free(ring_t *r);
void ring_add(ring_t *r, const char *data, size_t len);
/* The content in order, as at most two pieces; the second may have length 0. */
void ring_pieces(const ring_t *r, const char *piece[2], size_t len[2]);

typedef struct {
    uint64_t total; /* bytes of the log, all of them */
    sb_buf_t head;  /* the live part */
    ring_t tail;
    ring_t out;
} runlog_t;

void runlog_init(runlog_t *l);
void runlog_free(runlog_t *l);

/* Takes a piece of the log; returns how many of its first bytes belong to the live part. */
size_t runlog_add(runlog_t *l, const char *data, size_t len);
void runlog_add_stdout(runlog_t *l, const char *data, size_t len); /* in addition */

/* What follows the live part at the end: the line that says how much was left out, and the tail. */
void runlog_finish(const runlog_t *l, sb_buf_t *out);

#endif
