/*
 * cli.h - what all commands share: exit statuses and the command table.
 *
 * `skillbox` is an ordinary single-threaded program that runs with the caller's
 * rights.  Two commands may start as root and give that up where it is not
 * needed: `up` (nginx workers and helper run as service users) and `key` (the
 * store is opened as its owner).
 */
#ifndef SB_CLI_H
#define SB_CLI_H

#include "options.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,       /* the run or the call failed */
    EXIT_USAGE = 2,        /* the command line is wrong; nothing was done */
    EXIT_NOT_FOUND = 3,    /* no such skill, version, execution, key, gateway */
    EXIT_UNREACHABLE = 4,  /* no answer from the server */
    EXIT_UNAUTHORIZED = 5, /* no key, a wrong key, or a key that may not do this */
    EXIT_CONFLICT = 6,     /* the version exists with other content; the skill can't be run */
    EXIT_BUSY = 7,         /* overloaded or rate limited: try again later */
};

/* All commands, in the overview's order; ends with NULL.  A group ("skill") is a first word. */
extern const sb_command_t *const sb_commands[];

/* The command that argv begins with (one word or two; *used is how many), or NULL. */
const sb_command_t *sb_command_find(int argc, char *const *argv, int *used);

extern const sb_command_t cmd_backup, cmd_restore, cmd_gc, cmd_doctor;
extern const sb_command_t cmd_up, cmd_down, cmd_status;
extern const sb_command_t cmd_key_create, cmd_key_list, cmd_key_rotate, cmd_key_revoke;
extern const sb_command_t cmd_tenant_create, cmd_tenant_list, cmd_tenant_limit, cmd_tenant_delete;
extern const sb_command_t cmd_skill_push, cmd_skill_list, cmd_skill_show, cmd_skill_delete,
    cmd_skill_lint, cmd_skill_package, cmd_skill_validate, cmd_skill_versions, cmd_skill_activate;
extern const sb_command_t cmd_file_put, cmd_file_get, cmd_file_list, cmd_file_versions,
    cmd_file_delete;
extern const sb_command_t cmd_runtime_list, cmd_runtime_check, cmd_runtime_import;
extern const sb_command_t cmd_run, cmd_exec_list, cmd_exec_show, cmd_exec_get, cmd_exec_logs,
    cmd_exec_cancel, cmd_exec_delete, cmd_health, cmd_completion;

#endif
