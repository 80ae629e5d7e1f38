/*
 * spool.h - what asynchronous runs leave on disk until the gateway has it.
 *
 *   <state_dir>/spool/<id>.job    accepted, waits for its turn; body: STDIN, facts: PARAMS
 *   <state_dir>/spool/<id>.run    the same, once it was started
 *   <state_dir>/spool/<id>.done   ended; body: result and log, facts: the completion's headers
 *   <state_dir>/spool/<id>.tmp    being written
 *
 * A file is a body, then facts, then a trailer that tells both lengths: one without a
 * valid trailer was never finished.  A .job and a .run become .done when their run has
 * ended; the .done goes when the gateway has committed it.  After a crash a .job is
 * queued again, a .run has been interrupted (its script may have begun: it is not
 * started twice), a .done is delivered again.
 *
 * Written by the main process, made durable by the syncer.
 */
#ifndef SB_SPOOL_H
#define SB_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "../libskillbox/protocol.h"
#include "../libskillbox/uuid7.h"
#include "loop.h"
#include "syncer.h"

#define SPOOL_FACTS_MAX SB_PARAMS_MAX
#define SPOOL_NAME_LEN  (SB_UUID_LEN + 5)

typedef struct {
    int dir_fd;
    syncer_t syncer;
} spool_t;

typedef enum { SPOOL_JOB, SPOOL_RUN, SPOOL_DONE } spool_kind_t;

/* Makes and opens spool/ below state_fd, forks the syncer.  s->dir_fd is -1 before. */
sb_code_t spool_open(spool_t *s, int state_fd, loop_t *loop, sb_err_t *err);
void spool_close(spool_t *s);

/* ---- writing: create, add..., seal, then spool_keep() under its name ---- */

/* Opens <id>.tmp anew.  -1: errno says why. */
int spool_create(spool_t *s, const char *id);
/* Appends to the body: bytes, or len bytes of a file from its start.  -1 with errno. */
int spool_add(int fd, const void *data, size_t len);
int spool_add_file(int fd, int from, uint64_t len);
/* Appends facts and trailer. */
int spool_seal(int fd, uint64_t body_len, const void *facts, size_t facts_len);
/* Gives <id>.tmp its name.  Durable only after a syncer_sync(). */
int spool_keep(spool_t *s, const char *id, spool_kind_t kind);
void spool_discard(spool_t *s, const char *id); /* <id>.tmp */

/* ---- what is there ---- */

/*
 * Opens a finished file: its facts are appended to `facts` (cleared before), *body_len is how much
 * stands before them.  The descriptor, at offset 0; -1: errno, EBADMSG for one without a trailer.
 */
int spool_read(spool_t *s, const char *id, spool_kind_t kind, sb_buf_t *facts, uint64_t *body_len);
bool spool_has(const spool_t *s, const char *id, spool_kind_t kind);
/* <id>.job becomes <id>.run.  -1 with errno. */
int spool_started(spool_t *s, const char *id);
void spool_remove(spool_t *s, const char *id, spool_kind_t kind);
/*
 * A newer file of id has its name: the old one goes as soon as that is durable.  Not before: a disk
 * may keep the removal and lose the name.
 */
void spool_replace(spool_t *s, const char *id, spool_kind_t old);
/* Has removals and names synced, some time. */
void spool_settle(spool_t *s);

/* Calls fn for every finished file, and removes the others; at start only.  fn may remove it. */
void spool_each(spool_t *s, void (*fn)(void *ctx, const char *id, spool_kind_t kind), void *ctx);

#endif
