/*
 * trial.h - does a runtime work?  Runs a line of its language in a sandbox with its
 * root, as a skill would be run, and keeps what it says of itself.  For --check.
 */
#ifndef SB_TRIAL_H
#define SB_TRIAL_H

#include <stdbool.h>

#include "helper.h"

typedef struct {
    helper_t *h;
    size_t runtime;
    void (*done)(void *ctx);
    void *ctx;
    stage_child_t child;
    loop_timer_t timer;
    int out; /* what the script prints */
    bool works;
    char text[160]; /* the version; or why not */
} trial_t;

/* The scripts, as a package below the folder that the stages show.  0 or -1. */
int trial_prepare(const char *packages);
void trial_remove(const char *packages);

/* done() is called once, from the loop. */
void trial_start(trial_t *t, helper_t *h, size_t runtime, void (*done)(void *ctx), void *ctx);

#endif
