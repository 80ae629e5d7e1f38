/*
 * read_child.h - what a package holds, for people: sandbox-packer's child for
 * STAGE_READ.  Confined to one unpacked package, which it may only read.
 */
#ifndef SB_READ_CHILD_H
#define SB_READ_CHILD_H

#include "stage.h"

/* Answers request (protocol.h, `files`) and ends the process. */
void read_child(const stage_request_t *request, const int *fds, int nfds) __attribute__((noreturn));

#endif
