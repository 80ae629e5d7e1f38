/*
 * extract_child.h - the child of sandbox-packer that takes one file out of an archive of artifacts.
 */
#ifndef SB_EXTRACT_CHILD_H
#define SB_EXTRACT_CHILD_H

#include "stage.h"

/* Answers request (protocol.h, `artifact`) and ends the process. */
void extract_child(const stage_request_t *request, const int *fds, int nfds)
    __attribute__((noreturn));

#endif
