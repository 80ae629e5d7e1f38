/*
 * check.h - `sandbox-helper --check`: what this host offers, what is missing,
 * and what to do about it.
 */
#ifndef SB_CHECK_H
#define SB_CHECK_H

#include "helper.h"

enum { CHECK_OK = 0, CHECK_DEGRADED = 1, CHECK_UNUSABLE = 2 };

/*
 * Prints a line for each thing looked at (json: one object with all of it) and returns one of
 * CHECK_*.  h has its configuration; privileges have been dropped.  Starts both programs with it,
 * as serving would, and ends them again.
 */
int check_run(helper_t *h, bool json);

#endif
