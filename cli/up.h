/*
 * up.h - starting and stopping the gateway of a state folder; shared by `up` and `down`.
 */
#ifndef SB_CLI_UP_H
#define SB_CLI_UP_H

#include <stdbool.h>

#include "../libskillbox/err.h"
#include "install.h"
#include "layout.h"
#include "state.h"

/* How long requests and runs in flight are given by `down`, and by `up` that failed. */
#define SB_STOP_GRACE_MS 35000

/*
 * Writes the configuration, starts helper and nginx, waits until /ready says so.
 * port 0: the one used before, when free, else any free one.  state is kept in
 * state.json as processes come up, so that `down` can stop whatever there is.
 * On failure everything started was stopped, and the reason with the last log
 * lines was printed.
 */
bool sb_up_start(const sb_layout_t *layout, sb_install_t *install, int port, sb_state_t *state);

/*
 * Stops both: gracefully, then not.  True when nothing is left; pids in state are 0 then
 * and state.json is rewritten.
 */
bool sb_up_stop(const char *dir, sb_state_t *state, int grace_ms);

/* Makes sure api-key holds a key that works; makes an admin key when not. */
sb_code_t sb_up_ensure_key(const sb_layout_t *layout, const sb_state_t *state,
                           char key[SB_APIKEY_LEN + 1], sb_err_t *err);

#endif
