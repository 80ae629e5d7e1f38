/*
 * collect_child.h - one run's results: output, artifacts, and the result object.
 */
#ifndef SB_COLLECT_CHILD_H
#define SB_COLLECT_CHILD_H

#include "stage.h"

/* The life of a collect child; fds as stage.h says for STAGE_COLLECT. */
void collect_child(const int *fds, int nfds) __attribute__((noreturn));

#endif
