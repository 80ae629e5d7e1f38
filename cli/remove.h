/* remove.h - removing a state folder with everything in it. */
#ifndef SB_CLI_REMOVE_H
#define SB_CLI_REMOVE_H

#include "../libskillbox/err.h"

/*
 * Removes the folder (made by `up`, nothing running in it, lock held).  Links are
 * removed, never followed; folders that were closed to writing (unpacked packages)
 * are opened first.
 */
sb_code_t sb_state_remove(const char *dir, sb_err_t *err);

#endif
