/*
 * attach.h - connections of the gateway that follow a run (protocol.h, `attach`): its log
 * from an offset on, the states it enters, its end.  Any number for a run; none of them
 * has an influence on it.
 */
#ifndef SB_ATTACH_H
#define SB_ATTACH_H

#include <stddef.h>

#include "connection.h"
#include "request.h"

struct helper_s;
struct job_s;

typedef struct attach_s attach_t;

#define ATTACH_MAX 1024 /* followers at once; more are refused, and come again */

void attach_accept(struct helper_s *h, connection_t *conn, const request_t *request);

/*
 * A submit of a run that is just being submitted: answered as that is, when it is.  The others of
 * this file leave it alone but for the end.
 */
void attach_submit(struct job_s *job, connection_t *conn);
/* The run is in the spool. */
void attach_accepted(struct job_s *job);

/* The next piece of the run's log; what lies before a follower's offset is left out for it. */
void attach_log(struct job_s *job, const char *data, size_t len);
/* The run has entered another state. */
void attach_state(struct job_s *job);
/* It has ended, and its log is complete: lets all of them go. */
void attach_end(struct job_s *job);

#endif
