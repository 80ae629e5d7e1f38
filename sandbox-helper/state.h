/*
 * state.h - the helper's folders.
 *
 *   <state_dir>/packages/<digest>/   unpacked packages: tree/ and instructions
 *   <state_dir>/tmp/<uuid>/          an intake's staging folder
 *   <state_dir>/tmp/trash/           what is being removed
 *   <artifacts>/<xx>/<id>.tar.gz     archives, shared with the gateway
 *   <artifacts>/<xx>/<id>.d/<n>      files taken out of them, which the gateway removes
 *   <artifacts>/tmp/<id>             an archive or such a file being written; locked (flock)
 * meanwhile
 *
 * One helper a state_dir: the folder is locked while it lives.  Everything below
 * its tmp/, and below the artifacts' tmp/ what nobody has locked, is an earlier life's
 * and is removed at start.  Helpers may share an artifacts folder.
 */
#ifndef SB_STATE_H
#define SB_STATE_H

#include <dirent.h>
#include <stdbool.h>

#include "../libskillbox/err.h"
#include "../libskillbox/uuid7.h"
#include "config.h"
#include "loop.h"
#include "rmtree.h"

#define STATE_SHARDS 256

typedef struct {
    loop_t *loop;
    int dir_fd, packages_fd, tmp_fd, artifacts_fd, begun_fd;
    int trash_fd; /* -1: nothing is being removed */
    rmtree_t trash;
    bool removing;
    loop_timer_t trash_timer;
    unsigned discarded;
    loop_timer_t sweep_timer; /* for begun archives that were still locked */
    int sweeps;
} state_t;

/* As root, before privileges are dropped: makes missing folders and gives them to the user. */
sb_code_t state_prepare(const config_t *c, sb_err_t *err);

/* As the user: opens, checks ownership, locks, sweeps.  May take a while; before serving. */
sb_code_t state_open(state_t *s, const config_t *c, loop_t *loop, sb_err_t *err);
/* Finishes removals and closes. */
void state_close(state_t *s);

/* Removes a package that no run needs, in steps from the loop; false: it is still there. */
bool state_package_discard(state_t *s, const char *digest);

/* The package's unpacked tree, as a folder's descriptor; SB_ENOTFOUND. */
sb_code_t state_package_open(const state_t *s, const char *digest, int *fd, sb_err_t *err);

/* An unlinked file below tmp/ for an upload; *rw is written, *ro is a descriptor of its own. */
sb_code_t state_upload_open(state_t *s, int *rw, int *ro, sb_err_t *err);

/* Makes tmp/<name>/ (a fresh name) and opens it. */
sb_code_t state_staging_make(state_t *s, char name[SB_UUID_LEN + 1], int *fd, sb_err_t *err);
/* The staging folder becomes the package; when it is there already the staging folder is discarded.
 */
sb_code_t state_staging_keep(state_t *s, const char *name, const char *digest, sb_err_t *err);
/* Removes the staging folder, in steps from the loop. */
void state_staging_discard(state_t *s, const char *name);

/* Opens <artifacts>/tmp/<id>, locked, for writing. */
sb_code_t state_archive_open(state_t *s, const char *id, int *fd, sb_err_t *err);
/* Gives it its name; *dir_fd: the folder, to be synced (the caller's to close). */
sb_code_t state_archive_keep(state_t *s, const char *id, int *dir_fd, sb_err_t *err);
/* A finished one, to be read; SB_ENOTFOUND. */
sb_code_t state_archive_read(const state_t *s, const char *id, int *fd, sb_err_t *err);

/* A file on its way out of an archive: <artifacts>/tmp/<name>, a fresh name, locked. */
sb_code_t state_extract_open(state_t *s, char name[SB_UUID_LEN + 1], int *fd, sb_err_t *err);
/* Gives it its name, in the place of an earlier one, and the archive's time: an ETag made of that
 * stays the same when it is taken out again. */
sb_code_t state_extract_keep(state_t *s, const char *name, const char *id, unsigned index,
                             int archive_fd, sb_err_t *err);
void state_extract_discard(state_t *s, const char *name);

/* Removes it; kept: it has its name already. */
void state_archive_discard(state_t *s, const char *id, bool kept);

#endif
