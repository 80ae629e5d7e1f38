/*
 * intake_child.h - one package: from the upload's bytes to a checked, read-only
 * tree and the answer for the gateway.
 */
#ifndef SB_INTAKE_CHILD_H
#define SB_INTAKE_CHILD_H

#include "stage.h"

/* The life of an intake child; fds as stage.h says for STAGE_INTAKE. */
void intake_child(const stage_config_t *config, const stage_request_t *request, const int *fds,
                  int nfds) __attribute__((noreturn));

#endif
