/*
 * status.h - what the `status` operation answers: can this helper run skills,
 * how well is a run confined here, what is going on.
 */
#ifndef SB_STATUS_H
#define SB_STATUS_H

#include "../libskillbox/buf.h"
#include "helper.h"

void status_json(const helper_t *h, sb_buf_t *out);

#endif
