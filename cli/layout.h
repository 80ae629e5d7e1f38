/*
 * layout.h - the folders of a state, and which user owns what.
 *
 * As an ordinary user everything is that user's, 0700.  As root three users take part:
 *
 *   .           root    0755   nginx.conf helper.yaml (0644), the rest 0600
 *   logs/ tmp/  root    0755   nginx's master and `up` open the files
 *   store/      worker  0700   nginx's workers only
 *   helper/     helper  0700   sandbox-helper only
 *   artifacts/  helper  2750   group worker: written by the helper, served by nginx
 *   run/        helper  2750   group worker: the helper's socket, and nginx's for results
 *   runtimes/   helper  0755   what `skillbox runtime import` made
 */
#ifndef SB_CLI_LAYOUT_H
#define SB_CLI_LAYOUT_H

#include <stdbool.h>
#include <sys/types.h>

#include "../libskillbox/err.h"
#include "install.h"
#include "state.h"

#define SB_USER_MAX    32
#define SB_SOCKET_NAME "run/helper.sock"
#define SB_DONE_NAME   "run/done.sock" /* nginx's, for results; not longer than the helper's */

typedef struct {
    char name[SB_USER_MAX + 1];
    uid_t uid;
    gid_t gid;
} sb_user_t;

typedef struct {
    char dir[SB_STATE_PATH_MAX]; /* absolute */
    bool root;
    sb_user_t worker; /* nginx's workers */
    sb_user_t helper; /* sandbox-helper */
} sb_layout_t;

/*
 * Makes the state folder itself (its parent must exist) and fills in dir.  Refuses a folder that
 * is somebody else's, that others can write to or that holds other things, a path nginx.conf can't
 * hold and one too long for a UNIX socket in it.
 */
sb_code_t sb_layout_open(const char *dir, sb_layout_t *layout, sb_err_t *err);

/* Chooses the users and makes the folders; checks that the users can get at them. */
sb_code_t sb_layout_make(sb_layout_t *layout, sb_err_t *err);

/*
 * As root: when the helper's user can't run the programs where they are (a build
 * tree below a closed home folder), copies them to <dir>/bin and points install there.
 */
sb_code_t sb_layout_place_helper(const sb_layout_t *layout, sb_install_t *install, sb_err_t *err);

#endif
