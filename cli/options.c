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

static const sb_option_t *find_option(const sb_command_t *cmd, const char *name, size_t len)
{
    const sb_option_t *o = find_in(cmd->options, name, len);

    if (o == NULL && cmd->remote) {
        o = find_in(sb_remote_options, name, len);
    }
    return o;
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

static void put_options(FILE *out, const sb_option_t *o)
{
    for (; o != NULL && o->name != NULL; o++) {
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
}

void sb_command_help(const sb_command_t *cmd, FILE *out)
{
    fprintf(out, "Usage: skillbox %s%s%s%s\n\n%s\n", cmd->name, cmd->operands[0] ? " " : "",
            cmd->operands, cmd->options != NULL || cmd->remote ? " [options]" : "", cmd->details);
    fprintf(out, "\nOptions:\n");
    put_options(out, cmd->options);
    fprintf(out, "  --help%*sthis text\n", HELP_COLUMN - 8, "");
    if (cmd->remote) {
        fprintf(out, "\nServer:\n");
        put_options(out, sb_remote_options);
    }
    fprintf(out, "\nExamples:\n");
    put_indented(out, cmd->examples, 2);
    fprintf(out, "\nExit status:\n"
                 "  0  it worked               4  the server can't be reached\n"
                 "  1  the run or call failed  5  not authorised\n"
                 "  2  wrong command line      6  conflict, or the skill can't be run\n"
                 "  3  not found               7  overloaded, try again later\n");
}
