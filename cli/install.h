/*
 * install.h - where the programs and nginx's module are: named on the command
 * line, beside this program (build tree), where `make install` puts them, or
 * where the distribution does.
 */
#ifndef SB_CLI_INSTALL_H
#define SB_CLI_INSTALL_H

#include "../libskillbox/err.h"
#include "state.h"

typedef struct {
    char nginx[SB_STATE_PATH_MAX];
    char helper[SB_STATE_PATH_MAX]; /* sandbox-stage and sandbox-packer are in the same folder */
    char module[SB_STATE_PATH_MAX]; /* "" when nginx was built with it */
} sb_install_t;

/* Each argument may be NULL; module "static": nginx was built with the module.  Absolute paths come
 * out. */
sb_code_t sb_install_find(const char *nginx, const char *helper, const char *module,
                          sb_install_t *out, sb_err_t *err);

/* One of the helper's programs, in the same places; the absolute path comes out. */
sb_code_t sb_install_program(const char *name, char out[SB_STATE_PATH_MAX], sb_err_t *err);

/* The programs that make up the helper, names inside helper's folder; NULL ends the list. */
extern const char *const sb_helper_programs[];

#endif
