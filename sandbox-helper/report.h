/*
 * report.h - a set-up as a list of named steps, and telling main which one failed.
 */
#ifndef SB_REPORT_H
#define SB_REPORT_H

#include <stddef.h>

#include "stage.h"

/* One step: 0, or -1 with errno, which ends the set-up.  ctx is the set-up's own struct. */
typedef struct {
    const char *name; /* as main, logs and documentation call it */
    int (*run)(void *ctx);
} step_t;

/* Runs them in order.  NULL, or the name of the step that failed with errno as it left it. */
const char *steps_run(const step_t *steps, size_t nsteps, void *ctx);

/* Fills a hello that says why the program can't work here; err is an errno.  Returns -1. */
int report_hello(stage_hello_t *hello, const char *step, int err);

/* Fills and sends RUN_SETUP_FAILED over a run's status socket; text may be NULL. */
void report_run_failed(int sock, const char *step, int err, const char *text);

#endif
