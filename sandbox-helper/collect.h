/*
 * collect.h - the children that pack runs' results (STAGE_COLLECT).  One is
 * asked for ahead, so that the end of a run does not wait for a fork; it is
 * replaced when nobody waits.
 */
#ifndef SB_COLLECT_H
#define SB_COLLECT_H

#include "loop.h"
#include "stage.h"
#include "stagelink.h"

typedef struct collector_s collector_t;

typedef struct {
    loop_t *loop;
    stagelink_t *link;
    collector_t *spare;
} collectors_t;

typedef struct {
    /* The answer file is written.  The owner calls collector_sync() or collector_done(). */
    void (*report)(void *owner, const packer_report_t *report);
    /* After collector_sync(): the folder is on disk.  The owner calls collector_done(). */
    void (*synced)(void *owner);
    /* No result will come; the collector is gone. */
    void (*failed)(void *owner, const char *why);
} collector_ops_t;

void collectors_init(collectors_t *p, loop_t *loop, stagelink_t *link);
/* Asks for the spare one, when there is none and the packer is ready. */
void collectors_refill(collectors_t *p);
void collectors_close(collectors_t *p);

/* Gives the task with its descriptors (they stay the caller's) to the spare child or a new one. */
sb_code_t collector_start(collectors_t *p, const collect_task_t *task, const int *fds, int nfds,
                          const collector_ops_t *ops, void *owner, collector_t **out,
                          sb_err_t *err);
/* Has it sync the archive's folder (stage.h); dir_fd stays the caller's.  False: it is gone or
 * going; `failed` has been or will be called. */
bool collector_sync(collector_t *c, int dir_fd);
/* The owner needs it no more; it ends by itself, or is killed. */
void collector_done(collector_t *c);

#endif
