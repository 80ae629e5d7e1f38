/*
 * result.h - a run's result as protocol.h words it: one JSON object of what main
 * says about the end, the output, the artifacts and the warnings.
 */
#ifndef SB_RESULT_H
#define SB_RESULT_H

#include <stdbool.h>

#include "artifacts.h"
#include "output.h"
#include "stage.h"
#include "warnings.h"

/*
 * Appends {"status",...} to b.  *failed: the script itself ended well, yet the
 * status is "failed" (its output was bad, its artifacts could not be stored).
 * Faults that did not decide the status become warnings.
 */
void result_render(const collect_task_t *task, const output_t *output, const artifacts_t *artifacts,
                   warnings_t *w, sb_buf_t *b, bool *failed);

#endif
