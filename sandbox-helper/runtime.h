/*
 * runtime.h - the interpreters of the host: which languages can run here, and
 * why the others can't.
 */
#ifndef SB_RUNTIME_H
#define SB_RUNTIME_H

#include <stdbool.h>

#include "config.h"
#include "stage.h"

typedef struct {
    char path[STAGE_PATH_LEN]; /* as the sandbox sees it, too; "" = not offered */
    char reason[200];          /* why not */
} runtime_t;

/* Looks for each language's interpreter, as the user the helper runs as. */
void runtimes_find(const config_t *c, runtime_t runtimes[STAGE_RUNTIMES]);

static inline bool runtime_offered(const runtime_t *r)
{
    return r->path[0] != '\0';
}

#endif
