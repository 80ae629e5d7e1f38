/*
 * job.h - a run, from its request to its answer.
 *
 *   job_accept   PARAMS are known: refuse at once, or make the job and take STDIN
 *   (complete)   STDIN is there: wait for a turn
 *   job_start    its turn: control group, pipes, request to sandbox-stage
 *   (events)     log, readiness, end, death, the collect child's report: job_run.c
 *   (end)        answer, clean up: job_end.c
 *
 * An asynchronous one (submit) is written to the spool and answered before it waits for its turn;
 * its result goes to the spool and from there to the gateway: job_async.c.
 *
 * Whatever happens, everything ends in the death of the sandbox (STAGE_EXITED or
 * the stage's own end), and only then is the run's place free again.
 */
#ifndef SB_JOB_H
#define SB_JOB_H

#include <stdint.h>

#include "helper.h"
#include "request.h"

typedef struct job_s job_t;

void job_accept(helper_t *h, connection_t *conn, const request_t *request);
/* An asynchronous one; params: the request's PARAMS, kept with it on disk. */
void job_submit(helper_t *h, connection_t *conn, const request_t *request, const char *params,
                size_t len);
/* What an earlier life left in the spool: queued again, interrupted, or delivered. */
void job_restore(helper_t *h);
void job_cancel(helper_t *h, connection_t *conn, const request_t *request);
/* NULL: there is none of that id. */
job_t *job_find(helper_t *h, const char *execution);
/* For package_cache_start(): is there a job, waiting or begun, whose package that is? */
bool job_needs_package(void *helper, const char *digest);
void job_start(job_t *job);
/* The helper stops: answers 503 to one that waits (1), kills one that runs. */
void job_stop(job_t *job);
/* Refuses one that waits, for its turn or for its STDIN; false: it runs already.  One that was
 * submitted stays in the spool, for the next start. */
bool job_refuse_waiting(job_t *job, const char *message);

/* For queue_next(): is the program there that makes its sandbox? */
bool job_can_start(const void *job);

job_t *job_next(const job_t *job); /* in helper_t.jobs */

#endif
