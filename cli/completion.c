/*
 * completion.c - `skillbox completion`: what the last word of a command line may
 * become.  Everything comes from the tables that drive parser and help: commands,
 * options, the names of their values and operands.  Names of skills, versions and
 * ids are asked of the gateway, for a second at most and without a word when it
 * does not answer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../libskillbox/names.h"
#include "../libskillbox/semver.h"
#include "../libskillbox/uuid7.h"
#include "cli.h"
#include "client.h"
#include "completion.h"
#include "output.h"

#define ASK_MS     1000
#define HELP_BYTES 60
#define OPERANDS   2   /* no command has more */
#define WORDS      128 /* of a command line */

/* The command line under way: words behind the command's name, the last one unfinished. */
typedef struct {
    const sb_command_t *cmd;
    int argc;
    char *const *argv;
    const char *word;   /* the unfinished one, or its value behind "--name=" */
    const char *before; /* "--name=", "" otherwise: goes before what is offered */
    size_t before_len;
    const char *operands[OPERANDS]; /* those that are finished */
    size_t noperands;
} line_t;

/* Offers a word; `help` may be a server's text. */
static void offer_text(const line_t *l, const char *text, size_t len, const char *help)
{
    size_t about = help != NULL ? strcspn(help, "\r\n") : 0;

    if (strncmp(text, l->word, strlen(l->word)) == 0) {
        printf("%.*s%.*s\t", (int)l->before_len, l->before, (int)len, text);
        sb_print_safe(stdout, help, about < HELP_BYTES ? about : HELP_BYTES, false);
        putchar('\n');
    }
}

static void offer(const line_t *l, const char *text, const char *help)
{
    offer_text(l, text, strlen(text), help);
}

/* ---- what the gateway knows ---- */

/* The remote options of the line, for sb_server_find(); NULL: out of memory. */
static sb_args_t *remote_args(const line_t *l)
{
    static const sb_command_t remote = {.name = "completion", .operands = "", .remote = true};
    char **argv = calloc((size_t)l->argc + 1, sizeof(*argv));
    sb_args_t *args = NULL;
    int n = 0;

    for (int i = 0; argv != NULL && i + 1 < l->argc; i++) {
        const char *w = l->argv[i];

        for (const sb_option_t *o = sb_remote_options; o->name != NULL; o++) {
            size_t len = strlen(o->name);

            if (strncmp(w, "--", 2) != 0 || strncmp(w + 2, o->name, len) != 0) {
                continue;
            }
            if (w[2 + len] == '=') {
                argv[n++] = l->argv[i];
            } else if (w[2 + len] == '\0' && i + 2 < l->argc) {
                argv[n++] = l->argv[i];
                argv[n++] = l->argv[++i];
            }
            break;
        }
    }
    if (argv != NULL) {
        args = sb_args_parse(&remote, n, argv);
    }
    free(argv);
    return args;
}

/* A list of the gateway, NULL when there is none. */
static json_t *ask(const line_t *l, const char *path)
{
    sb_call_t call = SB_CALL("GET", path);
    sb_args_t *args = remote_args(l);
    sb_server_t server;
    sb_reply_t reply;
    json_t *list = NULL;

    if (args != NULL && sb_server_find(args, &server, NULL) == SB_OK) {
        call.timeout_ms = ASK_MS;
        if (sb_call(&server, &call, &reply, NULL) == SB_OK && reply.status == 200) {
            list = json_loadb(reply.body.data, reply.body.len, 0, NULL);
        }
        sb_reply_free(&reply);
    }
    sb_args_free(args);
    return list;
}

static bool is_uuid(const char *s, size_t len)
{
    return sb_uuid_parse(s, len, NULL);
}

/* Offers a member of each element if it is what it should be: a server is not to be trusted. */
static void offer_list(const line_t *l, const char *path, const char *member, const char *help,
                       bool (*valid)(const char *, size_t))
{
    json_t *list = ask(l, path), *e;
    size_t i;

    json_array_foreach(list, i, e)
    {
        const char *text = json_string_value(json_object_get(e, member));

        if (text != NULL && valid(text, strlen(text))) {
            offer(l, text, json_string_value(json_object_get(e, help)));
        }
    }
    json_decref(list);
}

/* ---- values and operands ---- */

static void offer_files(const line_t *l)
{
    (void)l;
    printf(":files\n");
}

static void offer_skills(const line_t *l)
{
    offer_list(l, "/v1/skills?limit=1000", "name", "description", sb_name_valid);
}

/* Of the skill that the line names. */
static void offer_versions(const line_t *l)
{
    char path[SB_URL_MAX];

    if (l->operands[0] != NULL &&
        sb_path_build(path, sizeof(path), "/v1/skills/", l->operands[0], "/versions")) {
        offer_list(l, path, "version", "uploaded_at", sb_semver_valid);
    }
}

static void offer_executions(const line_t *l)
{
    offer_list(l, "/v1/executions?limit=50", "execution_id", "skill_name", is_uuid);
}

static void offer_file_ids(const line_t *l)
{
    offer_list(l, "/v1/files?limit=50", "id", "name", is_uuid);
}

/* What a word stands for that help calls so; capitals are options', others operands'. */
static const struct {
    const char *name;
    void (*offer)(const line_t *l);
} kinds[] = {
    {"FILE", offer_files},         {"PATH", offer_files},       {"DIR", offer_files},
    {"JSON|@FILE|-", offer_files}, {"dir|zip", offer_files},    {"archive", offer_files},
    {"folder", offer_files},       {"backup", offer_files},     {"skill", offer_skills},
    {"version", offer_versions},   {"file-id", offer_file_ids}, {"execution", offer_executions},
};

/* Kind or values: "FILE", "json|table". */
static void offer_meant(const line_t *l, const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i].name) == len && strncasecmp(kinds[i].name, name, len) == 0) {
            kinds[i].offer(l);
            return;
        }
    }
    if (memchr(name, '|', len) == NULL || strcspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ@") < len) {
        return;
    }
    for (size_t at = 0, n; at < len; at += n + 1) {
        n = strcspn(name + at, "|>]");
        n = n < len - at ? n : len - at;
        offer_text(l, name + at, n, "");
    }
}

/* The operand at its place: "<skill> [version]", of "a | b" the first. */
static void offer_operand(const line_t *l)
{
    const char *p = l->cmd->operands;

    for (size_t i = 0; i <= l->noperands; i++) {
        p += strcspn(p, "<[");
        if (*p == '\0') {
            return;
        }
        p++;
        if (i == l->noperands) {
            offer_meant(l, p, strcspn(p, ">]"));
        }
    }
}

/* ---- the line ---- */

static void offer_options(const line_t *l)
{
    const sb_option_t *o;

    for (size_t i = 0; (o = sb_command_option(l->cmd, i)) != NULL; i++) {
        char text[64];
        bool given = false;

        snprintf(text, sizeof(text), "--%s", o->name);
        for (int w = 0; w + 1 < l->argc; w++) {
            given = given || strcmp(l->argv[w], text) == 0;
        }
        if (!given || o->repeat) {
            offer(l, text, o->help);
        }
    }
}

/* The option that a word names with or without "=value"; NULL: none, or a flag. */
static const sb_option_t *valued(const sb_command_t *cmd, const char *word)
{
    const sb_option_t *o;

    if (strncmp(word, "--", 2) != 0) {
        return NULL;
    }
    for (size_t i = 0; (o = sb_command_option(cmd, i)) != NULL; i++) {
        if (strlen(o->name) == strcspn(word + 2, "=") &&
            strncmp(o->name, word + 2, strlen(o->name)) == 0) {
            return o->arg != NULL ? o : NULL;
        }
    }
    return NULL;
}

static void offer_in_command(line_t *l)
{
    const sb_option_t *value = NULL; /* the one whose value comes next */

    for (int i = 0; i + 1 < l->argc; i++) {
        if (value != NULL) {
            value = NULL;
        } else if (l->argv[i][0] == '-') {
            value = strchr(l->argv[i], '=') == NULL ? valued(l->cmd, l->argv[i]) : NULL;
        } else if (l->noperands < OPERANDS) {
            l->operands[l->noperands++] = l->argv[i];
        }
    }
    if (value == NULL && strchr(l->word, '=') != NULL) {
        value = valued(l->cmd, l->word);
        l->before = l->word;
        l->before_len = strcspn(l->word, "=") + 1;
        l->word += l->before_len;
    }
    if (value != NULL) {
        offer_meant(l, value->arg, strlen(value->arg));
    } else if (l->word[0] == '-') {
        offer_options(l);
    } else if (l->noperands < OPERANDS) {
        offer_operand(l);
    }
}

/* The first words, or of the group `argv[0]` the second ones. */
static void offer_commands(const line_t *l, const char *group)
{
    const char *last = "";
    size_t last_len = 0;

    for (const sb_command_t *const *c = sb_commands; *c != NULL; c++) {
        const char *name = (*c)->name;
        size_t len = strcspn(name, " ");

        if (group != NULL && strlen(group) == len && strncmp(name, group, len) == 0 &&
            name[len] == ' ') {
            offer(l, name + len + 1, (*c)->summary);
        } else if (group == NULL && (len != last_len || strncmp(name, last, len) != 0)) {
            offer_text(l, name, len, name[len] == ' ' ? "" : (*c)->summary);
        }
        last = name;
        last_len = len;
    }
    if (group == NULL) {
        offer(l, "version", "print this program's version");
    }
}

/* argv: the words behind `skillbox`, the last one unfinished. */
static void offer_words(int argc, char *const *argv)
{
    line_t l = {.word = argc > 0 ? argv[argc - 1] : "", .before = ""};
    int used = 0;

    if (argc <= 1) {
        offer_commands(&l, NULL);
        return;
    }
    l.cmd = sb_command_find(argc - 1, argv, &used);
    if (l.cmd == NULL) {
        if (argc == 2) {
            offer_commands(&l, argv[0]);
        }
        return;
    }
    l.argc = argc - used;
    l.argv = argv + used;
    offer_in_command(&l);
}

static int run_completion(const sb_args_t *args)
{
    const char *what = sb_args_operand(args, 0);
    const char *script = sb_completion_script(what);
    char *words[WORDS] = {NULL};
    int n = 0;

    if (strcmp(what, "words") == 0) {
        while (n < WORDS && sb_args_operand(args, n + 1) != NULL) {
            words[n] = (char *)(uintptr_t)sb_args_operand(args, n + 1);
            n++;
        }
        offer_words(n, words);
        return EXIT_OK;
    }
    if (script == NULL || sb_args_operand(args, 1) != NULL) {
        sb_say_error("completion is there for bash, zsh and fish");
        return EXIT_USAGE;
    }
    fputs(script, stdout);
    return EXIT_OK;
}

const sb_command_t cmd_completion = {
    .name = "completion",
    .operands = "<bash|zsh|fish>",
    .summary = "print the completion script of a shell",
    .details =
        "Prints a script after which the shell completes commands, options, their values, and "
        "names\n"
        "and ids that the gateway knows.  The script asks this program, by `skillbox completion "
        "words\n"
        "-- WORD...`, what the last word may become; so it needs no change when commands do.",
    .examples =
        "source <(skillbox completion bash)                                  # in ~/.bashrc\n"
        "skillbox completion zsh > ~/.zfunc/_skillbox                        # in $fpath\n"
        "skillbox completion fish > ~/.config/fish/completions/skillbox.fish",
    .min_operands = 1,
    .max_operands = WORDS,
    .run = run_completion,
};
