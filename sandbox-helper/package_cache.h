/*
 * package_cache.h - unpacked packages that nothing has used for a long time go.
 *
 * The gateway keeps the packages themselves, and sends one again to a helper that says it does not
 * have it (SB_SLUG_UNKNOWN_PACKAGE).  So what goes too early costs the next run an upload, no more:
 * a clock that is wrong does no harm.  When one was last used its folder's mtime tells.
 * For the main process; nothing here waits.
 */
#ifndef SB_PACKAGE_CACHE_H
#define SB_PACKAGE_CACHE_H

#include <dirent.h>
#include <stdbool.h>

#include "loop.h"
#include "state.h"

typedef struct {
    state_t *state;
    loop_t *loop;
    int64_t idle_ms;
    loop_timer_t timer;
    DIR *dir; /* a round that goes on; NULL: none */
    bool (*in_use)(void *ctx, const char *digest);
    void *ctx;
} package_cache_t;

/* idle_ms: how long without a use; 0: for ever, nothing is removed.  in_use: is there a run for it,
 * waiting or begun? */
void package_cache_start(package_cache_t *p, state_t *state, loop_t *loop, int64_t idle_ms,
                         bool (*in_use)(void *ctx, const char *digest), void *ctx);
void package_cache_stop(package_cache_t *p); /* idempotent */
/* Is it here?  Then it counts as used now. */
bool package_cache_has(const package_cache_t *p, const char *digest);

#endif
