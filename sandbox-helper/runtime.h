/*
 * runtime.h - the interpreters: which runtimes can run here, in which root, and
 * why the others can't.
 */
#ifndef SB_RUNTIME_H
#define SB_RUNTIME_H

#include <stdbool.h>

#include "config.h"
#include "stage.h"

typedef struct {
    char path[STAGE_PATH_LEN]; /* as the sandbox sees it; "" = not offered */
    char reason[200];          /* why not; names no path of the host outside the root */
} runtime_t;

/*
 * Adds a runtime for each language of each folder in runtimes_dir, under the
 * folder's name, behind those of the file.  What there is no room for is left out and told in *err
 * (SB_ETOOLARGE).
 */
sb_code_t runtimes_scan(config_t *c, sb_err_t *err);

/* Looks for each runtime's interpreter, as the user the helper runs as. */
void runtimes_find(const config_t *c, runtime_t runtimes[STAGE_RUNTIMES]);

static inline bool runtime_offered(const runtime_t *r)
{
    return r->path[0] != '\0';
}

#endif
