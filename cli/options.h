/*
 * options.h - what a command accepts, told once: the table drives the parser
 * the help text and the completion of shells (completion.c).  Long options, `--name
 * value` or `--name=value`, flags without a value, `--` ends the options; -f is
 * --follow.  A command with a flag --json takes --output json|table as well.
 * Nothing here prints but help.
 */
#ifndef SB_CLI_OPTIONS_H
#define SB_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    const char *name; /* without dashes */
    /* What the value is called in the help: its kind ("FILE"), or all values ("json|table"), which
     * shells then offer.  NULL: a flag. */
    const char *arg;
    const char *help; /* may hold newlines; the default belongs into it */
    bool repeat;      /* may be given more than once, all values count */
} sb_option_t;

typedef struct sb_args_s sb_args_t;

typedef struct {
    const char *name;           /* "skill push" */
    const char *operands;       /* "<skill> [version]", "" for none; words as in sb_option_t.arg */
    const char *summary;        /* one line for the overview */
    const char *details;        /* paragraphs of the command's own help */
    const sb_option_t *options; /* ends with a NULL name; NULL for none */
    bool remote;                /* also takes sb_remote_options */
    bool json_first;            /* prints JSON unless told --output table */
    const char *examples;       /* lines, without indentation */
    int min_operands, max_operands;
    int (*run)(const sb_args_t *args); /* returns the exit status */
} sb_command_t;

/* --server, --key, --tenant, --state: every command that talks to a gateway. */
extern const sb_option_t sb_remote_options[];

/*
 * Takes argv apart (argv[0] is the first word behind the command's name).
 * NULL with a message on stderr when it does not fit the command.  --help gives
 * an sb_args_t whose sb_args_help() is true and nothing else is checked.
 */
sb_args_t *sb_args_parse(const sb_command_t *cmd, int argc, char **argv);
void sb_args_free(sb_args_t *args);

bool sb_args_help(const sb_args_t *args);
/* The name must be in the command's table: anything else is a bug and aborts.  "json" is what to
 * print, whichever way it was said, or the command's default. */
bool sb_args_flag(const sb_args_t *args, const char *name);
const char *sb_args_get(const sb_args_t *args, const char *name); /* last value given, or NULL */
size_t sb_args_count(const sb_args_t *args, const char *name);
const char *sb_args_at(const sb_args_t *args, const char *name, size_t i); /* in order given */
/* Operand i, NULL past the last. */
const char *sb_args_operand(const sb_args_t *args, int i);

void sb_command_help(const sb_command_t *cmd, FILE *out);

/* Option i of all that the command takes, those of others included; NULL behind the last. */
const sb_option_t *sb_command_option(const sb_command_t *cmd, size_t i);

#endif
