/*
 * import_child.h - one archive of a runtime: from its bytes to a root file system.
 *
 * Takes a tar of a root file system, an OCI image layout in a tar, or what
 * `docker save` writes; compressed or not.  Answers
 * {"format","layers","entries","bytes","left_out"}, or {"error","message"}.
 */
#ifndef SB_IMPORT_CHILD_H
#define SB_IMPORT_CHILD_H

#include "stage.h"

/* The life of an import child; fds as stage.h says for STAGE_IMPORT. */
void import_child(const stage_request_t *request, const int *fds, int nfds)
    __attribute__((noreturn));

#endif
