/*
 * options.c - the option parser and the help text; see options.h.
 * Allocates one block a command line, touches nothing but stdout and stderr.
 */
#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "output.h"

const sb_option_t sb_remote_options[] = {
    {"server", "URL",
     "the gateway (default: $SKILLBOX_SERVER_URL, else the one started\n"
     "by `skillbox up`)",
     false},
    {"key", "KEY",
     "API key (default: $SKILLBOX_API_KEY, else, for the gateway of\n"
     "`skillbox up`, the key it made)",
     false},
    {"tenant", "ID", "act for this tenant; needs a service key", false},
    {"state", "DIR",
     "state folder of `skillbox up` (default: $SKILLBOX_STATE, else\n"
     "./.skillbox)",
     false},
    {NULL, NULL, NULL, false},
};

static const sb_option_t output_options[] = {
    {"output", "json|table", "how to print it (default: table)", false},
    {"output", "json|table", "how to print it (default: json)", false},
};

static const sb_option_t help_option = {"help", NULL, "this text", false};

typedef struct {
    const sb_option_t *option;
    const char *value; /* NULL for flags; points into argv */
} given_t;

struct sb_args_s {
    const sb_command_t *cmd;
    bool help;
    size_t ngiven;
    int noperands;
    const char **operands;
    given_t given[];
};

static const sb_option_t *find_in(const sb_option_t *table, const char *name, size_t len)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0) {
            return table;
        }
    }
    return NULL;
}

/* --output, of a command that has --json; else NULL. */
static const sb_option_t *output_option(const sb_command_t *cmd)
{
    return find_in(cmd->options, "json", 4) != NULL ? &output_options[cmd->json_first] : NULL;
}

static size_t count(const sb_option_t *table)
{
    size_t n = 0;

    while (table != NULL && table[n].name != NULL) {
        n++;
    }
    return n;
}

const sb_option_t *sb_command_option(const sb_command_t *cmd, size_t i)
{
    size_t own = count(cmd->options), remote = cmd->remote ? count(sb_remote_options) : 0;
    const sb_option_t *output = output_option(cmd);

    if (i < own) {
        return &cmd->options[i];
    }
    i -= own;
    if (output != NULL && i-- == 0) {
        return output;
    }
    if (i < remote) {
        return &sb_remote_options[i];
    }
    return i == remote ? &help_option : NULL;
}

static const sb_option_t *find_option(const sb_command_t *cmd, const char *name, size_t len)
{
    const sb_option_t *o;

    for (size_t i = 0; (o = sb_command_option(cmd, i)) != NULL; i++) {
        if (o != &help_option && strlen(o->name) == len && memcmp(o->name, name, len) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool was_given(const sb_args_t *a, const sb_option_t *o)
{
    for (size_t i = 0; i < a->ngiven; i++) {
        if (a->given[i].option == o) {
            return true;
        }
    }
    return false;
}

/* The value of an option that may be given once; NULL: it was not. */
static const char *given_value(const sb_args_t *a, const sb_option_t *o)
{
    for (size_t i = 0; o != NULL && i < a->ngiven; i++) {
        if (a->given[i].option == o) {
            return a->given[i].value;
        }
    }
    return NULL;
}

/* Takes the option at argv[*i], and its value; *i is left on the last word used. */
static bool take_option(sb_args_t *a, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2;
    const char *eq = strchr(name, '=');
    size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
    const sb_option_t *o = find_option(a->cmd, name, len);
    const char *value = NULL;

    if (o == NULL) {
        sb_say_error("unknown option --%.*s", (int)len, name);
        return false;
    }
    if (o->arg == NULL && eq != NULL) {
        sb_say_error("--%s takes no value", o->name);
        return false;
    }
    if (o->arg != NULL) {
        value = eq != NULL ? eq + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (value == NULL) {
            sb_say_error("--%s needs a value: %s", o->name, o->arg);
            return false;
        }
    }
    if (!o->repeat && o->arg != NULL && was_given(a, o)) {
        sb_say_error("--%s was given twice", o->name);
        return false;
    }
    if (value != NULL && o == output_option(a->cmd) && strcmp(value, "json") != 0 &&
        strcmp(value, "table") != 0) {
        sb_say_error("--output is either json or table");
        return false;
    }
    a->given[a->ngiven].option = o;
    a->given[a->ngiven++].value = value;
    return true;
}

/* The one flag that everybody types by its letter, where a command has it. */
static bool take_letter(sb_args_t *a, const char *word)
{
    const sb_option_t *o = strcmp(word, "-f") == 0 ? find_option(a->cmd, "follow", 6) : NULL;

    if (o == NULL) {
        sb_say_error("unknown option %s", word);
        return false;
    }
    a->given[a->ngiven].option = o;
    a->given[a->ngiven++].value = NULL;
    return true;
}

static bool take_words(sb_args_t *a, int argc, char **argv)
{
    bool options = true;

    for (int i = 0; i < argc; i++) {
        const char *w = argv[i];

        if (options && (strcmp(w, "--help") == 0 || strcmp(w, "-h") == 0)) {
            a->help = true;
            return true;
        }
        if (options && strcmp(w, "--") == 0) {
            options = false;
        } else if (options && strncmp(w, "--", 2) == 0) {
            if (!take_option(a, argc, argv, &i)) {
                return false;
            }
        } else if (options && w[0] == '-' && w[1] != '\0') {
            if (!take_letter(a, w)) {
                return false;
            }
        } else {
            a->operands[a->noperands++] = w;
        }
    }
    const char *format = given_value(a, output_option(a->cmd));
    if (format != NULL && strcmp(format, "table") == 0 &&
        was_given(a, find_option(a->cmd, "json", 4))) {
        sb_say_error("--json and --output table exclude each other");
        return false;
    }
    if (a->noperands < a->cmd->min_operands) {
        sb_say_error("an operand is missing: %s", a->cmd->operands);
        return false;
    }
    if (a->noperands > a->cmd->max_operands) {
        sb_say_error("unexpected operand '%s'", a->operands[a->cmd->max_operands]);
        return false;
    }
    return true;
}

sb_args_t *sb_args_parse(const sb_command_t *cmd, int argc, char **argv)
{
    size_t n = (size_t)argc + 1;
    sb_args_t *a = calloc(1, sizeof(*a) + n * sizeof(given_t));
    const char **operands = calloc(n, sizeof(*operands));

    if (a == NULL || operands == NULL) {
        sb_say_error("out of memory");
        free(a);
        free(operands);
        return NULL;
    }
    a->cmd = cmd;
    a->operands = operands;
    if (!take_words(a, argc, argv)) {
        fprintf(stderr, "Try: skillbox %s --help\n", cmd->name);
        sb_args_free(a);
        return NULL;
    }
    return a;
}

void sb_args_free(sb_args_t *args)
{
    if (args != NULL) {
        free(args->operands);
        free(args);
    }
}

bool sb_args_help(const sb_args_t *args)
{
    return args->help;
}

static const sb_option_t *must_find(const sb_args_t *args, const char *name)
{
    const sb_option_t *o = find_option(args->cmd, name, strlen(name));

    if (o == NULL) {
        fprintf(stderr, "skillbox: %s has no option --%s in its table\n", args->cmd->name, name);
        abort();
    }
    return o;
}

bool sb_args_flag(const sb_args_t *args, const char *name)
{
    const char *format = given_value(args, output_option(args->cmd));

    if (strcmp(name, "json") == 0 && !was_given(args, must_find(args, name))) {
        return format != NULL ? strcmp(format, "json") == 0 : args->cmd->json_first;
    }
    return was_given(args, must_find(args, name));
}

size_t sb_args_count(const sb_args_t *args, const char *name)
{
    const sb_option_t *o = must_find(args, name);
    size_t n = 0;

    for (size_t i = 0; i < args->ngiven; i++) {
        n += args->given[i].option == o;
    }
    return n;
}

const char *sb_args_at(const sb_args_t *args, const char *name, size_t at)
{
    const sb_option_t *o = must_find(args, name);

    for (size_t i = 0; i < args->ngiven; i++) {
        if (args->given[i].option == o && at-- == 0) {
            return args->given[i].value;
        }
    }
    return NULL;
}

const char *sb_args_get(const sb_args_t *args, const char *name)
{
    return sb_args_at(args, name, 0);
}

const char *sb_args_operand(const sb_args_t *args, int i)
{
    return i < args->noperands ? args->operands[i] : NULL;
}

/* ---- help ---- */

/* Every line of text, indented. */
static void put_indented(FILE *out, const char *text, int indent)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        fprintf(out, "%*s%.*s\n", len > 0 ? indent : 0, "", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

#define HELP_COLUMN 24

static void put_option(FILE *out, const sb_option_t *o)
{
    int width = fprintf(out, "  --%s%s%s%s", o->name, o->arg != NULL ? " " : "",
                        o->arg != NULL ? o->arg : "", o->repeat ? " ..." : "");
    size_t first = strcspn(o->help, "\n");

    if (width >= HELP_COLUMN) {
        fprintf(out, "\n");
        width = 0;
    }
    fprintf(out, "%*s%.*s\n", HELP_COLUMN - width, "", (int)first, o->help);
    put_indented(out, o->help + first + (o->help[first] == '\n'), HELP_COLUMN);
}

void sb_command_help(const sb_command_t *cmd, FILE *out)
{
    fprintf(out, "Usage: skillbox %s%s%s%s\n\n%s\n", cmd->name, cmd->operands[0] ? " " : "",
            cmd->operands, cmd->options != NULL || cmd->remote ? " [options]" : "", cmd->details);
    fprintf(out, "\nOptions:\n");
    for (const sb_option_t *o = cmd->options; o != NULL && o->name != NULL; o++) {
        put_option(out, o);
    }
    if (output_option(cmd) != NULL) {
        put_option(out, output_option(cmd));
    }
    put_option(out, &help_option);
    if (cmd->remote) {
        fprintf(out, "\nServer:\n");
        for (const sb_option_t *o = sb_remote_options; o->name != NULL; o++) {
            put_option(out, o);
        }
    }
    fprintf(out, "\nExamples:\n");
    put_indented(out, cmd->examples, 2);
    fprintf(out, "\nExit status:\n"
                 "  0  it worked               4  the server can't be reached\n"
                 "  1  the run or call failed  5  not authorised\n"
                 "  2  wrong command line      6  conflict, or the skill can't be run\n"
                 "  3  not found               7  overloaded, try again later\n");
}
