/*
 * intake.h - an upload, from its request to its answer: the body goes to an
 * unlinked file, a confined child takes it apart into a staging folder, and
 * what it approved becomes a package by one rename.  The main process sees
 * a digest and a status; the rest it passes on unread.
 */
#ifndef SB_INTAKE_H
#define SB_INTAKE_H

#include <stdint.h>

#include "helper.h"
#include "request.h"

typedef struct intake_s intake_t;

void intake_accept(helper_t *h, connection_t *conn, const request_t *request);
void intake_start(intake_t *in);
/* The helper stops: one that waits is answered 503, one that runs is killed and answered so. */
void intake_stop(intake_t *in);
bool intake_refuse_waiting(intake_t *in, const char *message);

intake_t *intake_next(const intake_t *in); /* in helper_t.uploads */

#endif
