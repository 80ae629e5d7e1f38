/*
 * state.h - the state folder of `skillbox up`: where it is, who runs in it.
 *
 *   state.json   0600  {"url","port","nginx":{pid,start,boot},"helper":{...}}
 *   api-key      0600  the admin key that `up` made
 *   skillbox.lock      held (flock) while `up` or `down` work on the folder
 *   nginx.conf helper.yaml sign.key logs/ store/ artifacts/ helper/ run/ runtimes/ tmp/
 *
 * state.json names processes to be signalled and a server to send keys to, so
 * it is only believed when it belongs to the caller (or to root).
 */
#ifndef SB_CLI_STATE_H
#define SB_CLI_STATE_H

#include <limits.h>

#include "../libskillbox/err.h"
#include "../libskillbox/signature.h"
#include "options.h"
#include "process.h"

#define SB_STATE_PATH_MAX 512
#define SB_STATE_LOCK     "skillbox.lock"

typedef struct {
    char url[64];
    int port;
    sb_proc_t nginx;
    sb_proc_t helper;
} sb_state_t;

/* --state, else $SKILLBOX_STATE, else ".skillbox". */
const char *sb_state_folder(const sb_args_t *args);

/* "<dir>/<name>"; SB_EINVAL when it does not fit. */
sb_code_t sb_state_path(const char *dir, const char *name, char out[SB_STATE_PATH_MAX],
                        sb_err_t *err);

/* SB_ENOTFOUND: `up` was never run there; SB_EFORBIDDEN: somebody else's. */
sb_code_t sb_state_load(const char *dir, sb_state_t *state, sb_err_t *err);
sb_code_t sb_state_save(const char *dir, const sb_state_t *state, sb_err_t *err);
/* Both of its processes run. */
bool sb_state_running(const sb_state_t *state);

/* The key in api-key, "" when there is none that can be read. */
void sb_state_key_load(const char *dir, char key[SB_APIKEY_LEN + 1]);

/* Writes a file 0600 under a temporary name and renames it. */
sb_code_t sb_state_write_file(const char *dir, const char *name, const void *data, size_t len,
                              sb_err_t *err);

/* Takes the folder's lock, waiting at most some seconds; a descriptor to close, or -1. */
int sb_state_lock(const char *dir, sb_err_t *err);

#endif
