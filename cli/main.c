/*
 * main.c - the command line `skillbox`: finds the command, parses its options,
 * runs it.  See cli.h for exit statuses and privileges.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "cli.h"
#include "output.h"

const sb_command_t *const sb_commands[] = {
    &cmd_up,
    &cmd_down,
    &cmd_status,
    &cmd_key_create,
    &cmd_key_list,
    &cmd_key_revoke,
    &cmd_key_rotate,
    &cmd_tenant_create,
    &cmd_tenant_list,
    &cmd_tenant_limit,
    &cmd_tenant_delete,
    &cmd_skill_push,
    &cmd_skill_list,
    &cmd_skill_show,
    &cmd_skill_delete,
    &cmd_skill_lint,
    &cmd_skill_package,
    &cmd_skill_validate,
    &cmd_skill_versions,
    &cmd_skill_activate,
    &cmd_run,
    &cmd_exec_list,
    &cmd_exec_get,
    &cmd_exec_show,
    &cmd_exec_logs,
    &cmd_exec_cancel,
    &cmd_exec_delete,
    &cmd_file_put,
    &cmd_file_get,
    &cmd_file_list,
    &cmd_file_versions,
    &cmd_file_delete,
    &cmd_backup,
    &cmd_restore,
    &cmd_gc,
    &cmd_doctor,
    &cmd_health,
    &cmd_runtime_list,
    &cmd_runtime_check,
    &cmd_runtime_import,
    &cmd_completion,
    NULL,
};

/* A group may be said in the plural ("keys rotate"): the length of what counts of the word. */
static size_t group_length(const char *word)
{
    size_t len = strlen(word);

    return len > 1 && word[len - 1] == 's' ? len - 1 : len;
}

/* The overview; of one group ("skill") when it is not NULL. */
static void print_overview(FILE *out, const char *group)
{
    size_t len = group != NULL ? group_length(group) : 0;

    fprintf(out, "Usage: skillbox <command> [options]\n\n");
    for (const sb_command_t *const *c = sb_commands; *c != NULL; c++) {
        if (group == NULL || (strncmp((*c)->name, group, len) == 0 && (*c)->name[len] == ' ')) {
            fprintf(out, "  %-14s %s\n", (*c)->name, (*c)->summary);
        }
    }
    if (group == NULL) {
        fprintf(out, "  %-14s %s\n", "version", "print this program's version");
    }
    fprintf(out,
            "\n`skillbox <command> --help` tells a command's options, examples and exit status.\n");
}

static bool is_group(const char *word)
{
    size_t len = group_length(word);

    for (const sb_command_t *const *c = sb_commands; *c != NULL; c++) {
        if (strncmp((*c)->name, word, len) == 0 && (*c)->name[len] == ' ') {
            return true;
        }
    }
    return false;
}

const sb_command_t *sb_command_find(int argc, char *const *argv, int *used)
{
    for (const sb_command_t *const *c = sb_commands; *c != NULL; c++) {
        const char *space = strchr((*c)->name, ' ');
        size_t first = space != NULL ? (size_t)(space - (*c)->name) : strlen((*c)->name);

        if (argc < 1 || strncmp(argv[0], (*c)->name, first) != 0 ||
            (space != NULL ? group_length(argv[0]) : strlen(argv[0])) != first) {
            continue;
        }
        *used = space != NULL ? 2 : 1;
        if (space == NULL || (argc > 1 && strcmp(argv[1], space + 1) == 0)) {
            return *c;
        }
    }
    return NULL;
}

static bool asks_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* What to do about words that name no command. */
static int no_command(int argc, char **argv)
{
    if (argc == 0) {
        print_overview(stderr, NULL);
        return EXIT_USAGE;
    }
    if (asks_help(argv[0])) {
        print_overview(stdout, NULL);
        return EXIT_OK;
    }
    if (strcmp(argv[0], "version") == 0 || strcmp(argv[0], "--version") == 0) {
        printf("skillbox %s\n", SB_VERSION);
        return EXIT_OK;
    }
    if (is_group(argv[0])) {
        bool help = argc > 1 && asks_help(argv[1]);

        if (argc > 1 && !help) {
            sb_say_error("unknown command '%s %s'", argv[0], argv[1]);
        }
        print_overview(help ? stdout : stderr, argv[0]);
        return help ? EXIT_OK : EXIT_USAGE;
    }
    sb_say_error("unknown command '%s'", argv[0]);
    print_overview(stderr, NULL);
    return EXIT_USAGE;
}

static int run_command(const sb_command_t *cmd, int argc, char **argv)
{
    sb_args_t *args = sb_args_parse(cmd, argc, argv);
    int rc = EXIT_OK;

    if (args == NULL) {
        return EXIT_USAGE;
    }
    if (sb_args_help(args)) {
        sb_command_help(cmd, stdout);
    } else {
        rc = cmd->run(args);
    }
    sb_args_free(args);
    return rc;
}

int main(int argc, char **argv)
{
    const sb_command_t *cmd;
    int used = 0, rc;

    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, told by the exit status */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    cmd = sb_command_find(argc - 1, argv + 1, &used);
    if (cmd != NULL) {
        rc = run_command(cmd, argc - 1 - used, argv + 1 + used);
    } else {
        rc = no_command(argc - 1, argv + 1);
    }
    if (fflush(stdout) != 0 && rc == EXIT_OK) {
        rc = EXIT_FAILED;
    }
    curl_global_cleanup();
    return rc;
}
