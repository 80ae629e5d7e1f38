/*
 * skill.c - `skillbox skill list|show|delete`: the gateway's catalog.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "client.h"
#include "output.h"

#define DESCRIPTION_COLUMNS 60
#define CALL_MS             60000
#define PAGE                1000 /* the most the gateway gives at a time */
#define LIST_PATH           "/v1/skills?limit=1000"

static const sb_option_t format_options[] = {
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

/* Path of a skill, of one version when it is not NULL. */
static bool skill_path(char *out, size_t size, const char *name, const char *version)
{
    char head[SB_URL_MAX];

    if (version == NULL) {
        return sb_path_build(out, size, "/v1/skills/", name, "");
    }
    return sb_path_build(head, sizeof(head), "/v1/skills/", name, "/") &&
           sb_path_build(out, size, head, version, "");
}

/* ---- list ---- */

/* The first line of a description, cut to fit a table. */
static void short_description(const char *text, char *out, size_t size)
{
    size_t len = text != NULL ? strcspn(text, "\r\n") : 0, cut = 0, columns = 0;

    while (cut < len && cut < size - 4 && columns < DESCRIPTION_COLUMNS) {
        size_t n = sb_utf8_len((const unsigned char *)text + cut, len - cut);

        cut += n > 0 ? n : 1;
        columns++;
    }
    snprintf(out, size, "%.*s%s", (int)cut, text != NULL ? text : "", cut < len ? "..." : "");
}

static bool print_skills(const json_t *skills)
{
    char description[DESCRIPTION_COLUMNS * 4 + 8];
    const json_t *s;
    sb_table_t t;
    size_t i;

    sb_table_init(&t, 4);
    sb_table_cell(&t, "NAME");
    sb_table_cell(&t, "VERSION");
    sb_table_cell(&t, "LANG");
    sb_table_cell(&t, "DESCRIPTION");
    json_array_foreach(skills, i, s)
    {
        const char *lang = json_string_value(json_object_get(s, "lang"));

        short_description(json_string_value(json_object_get(s, "description")), description,
                          sizeof(description));
        sb_table_cell(&t, json_string_value(json_object_get(s, "name")));
        sb_table_cell(&t, json_string_value(json_object_get(s, "version")));
        sb_table_cell(&t, lang != NULL && lang[0] != '\0' ? lang : NULL);
        sb_table_cell(&t, description);
    }
    return sb_table_print(&t, stdout);
}

/* GETs the page behind a name ("": the first), appends it to list; *count: how many it had. */
static int add_page(const sb_server_t *server, const char *after, json_t *list, size_t *count)
{
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("GET", path);
    json_t *page = NULL;
    sb_reply_t reply;
    int rc;

    if (!sb_path_build(path, sizeof(path), LIST_PATH "&cursor=", after, "")) {
        return EXIT_FAILED;
    }
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(server, &call, &reply);
    if (rc == EXIT_OK) {
        page = sb_reply_json(&reply, NULL);
        rc = page != NULL ? EXIT_OK : EXIT_FAILED;
    }
    if (rc == EXIT_OK && (!json_is_array(page) || json_array_extend(list, page) != 0)) {
        sb_say_error("the answer of the gateway is no list of skills");
        rc = EXIT_FAILED;
    }
    *count = json_array_size(page);
    json_decref(page);
    sb_reply_free(&reply);
    return rc;
}

static const char *last_name(const json_t *list)
{
    const json_t *last = json_array_get(list, json_array_size(list) - 1);

    return json_string_value(json_object_get(last, "name"));
}

/* All pages: a full one may have a next.  Names grow from page to page, or it would never end. */
static int fetch_list(const sb_server_t *server, json_t *list)
{
    const char *after = "";
    size_t count;
    int rc;

    for (;;) {
        rc = add_page(server, after, list, &count);
        if (rc != EXIT_OK || count != PAGE) {
            return rc;
        }
        if (last_name(list) == NULL || strcmp(last_name(list), after) <= 0) {
            sb_say_error("the gateway's pages of skills do not follow each other");
            return EXIT_FAILED;
        }
        after = last_name(list);
    }
}

static int run_list(const sb_args_t *args)
{
    json_t *list = json_array();
    sb_server_t server;
    bool json = sb_args_flag(args, "json");
    int rc;

    rc = sb_server_checked(args, &server);
    if (rc == EXIT_OK) {
        rc = fetch_list(&server, list);
    }
    if (rc == EXIT_OK && json) {
        sb_print_json(stdout, list);
    } else if (rc == EXIT_OK) {
        rc = print_skills(list) ? EXIT_OK : EXIT_FAILED;
    }
    json_decref(list);
    return rc;
}

const sb_command_t cmd_skill_list = {
    .name = "skill list",
    .operands = "",
    .summary = "list the skills of the tenant",
    .details = "Lists the tenant's skills, one line a name, with the version `latest` means.",
    .options = format_options,
    .remote = true,
    .examples = "skillbox skill list\n"
                "skillbox skill list --output json",
    .run = run_list,
};

/* ---- show ---- */

static void print_text(const char *label, const json_t *value)
{
    const char *s = json_string_value(value);

    if (s != NULL && s[0] != '\0') {
        printf("%-12s ", label);
        sb_print_safe(stdout, s, strlen(s), true);
        putchar('\n');
    }
}

static bool print_skill(const json_t *skill)
{
    static const char *const members[] = {"name",          "version", "description", "lang",
                                          "mode",          "status",  "entrypoint",  "license",
                                          "compatibility", "digest",  NULL};
    const json_t *scripts = json_object_get(skill, "scripts"), *s;
    size_t i;

    for (const char *const *m = members; *m != NULL; m++) {
        print_text(*m, json_object_get(skill, *m));
    }
    json_array_foreach(scripts, i, s)
    {
        print_text(i == 0 ? "scripts" : "", json_object_get(s, "path"));
    }
    const char *text = json_string_value(json_object_get(skill, "instructions"));
    if (text != NULL && text[0] != '\0') {
        putchar('\n');
        sb_print_log(stdout, text, strlen(text));
    }
    return true;
}

static int run_show(const sb_args_t *args)
{
    const char *version = sb_args_operand(args, 1);
    char path[SB_URL_MAX];
    bool json = sb_args_flag(args, "json");

    if (!skill_path(path, sizeof(path), sb_args_operand(args, 0),
                    version != NULL ? version : "latest")) {
        return EXIT_USAGE;
    }
    return sb_get_and_print(args, path, json, print_skill);
}

const sb_command_t cmd_skill_show = {
    .name = "skill show",
    .operands = "<skill> [version]",
    .summary = "show a skill: what it is, its scripts, its instructions",
    .details = "Shows one version of a skill (`latest` when none is named) with its instructions.",
    .options = format_options,
    .remote = true,
    .examples = "skillbox skill show data-analysis\n"
                "skillbox skill show data-analysis 1.0.0 --json",
    .min_operands = 1,
    .max_operands = 2,
    .run = run_show,
};

/* ---- delete ---- */

static const sb_option_t delete_options[] = {
    {"all", NULL, "delete every version", false},
    {NULL, NULL, NULL, false},
};

static int run_delete(const sb_args_t *args)
{
    const char *name = sb_args_operand(args, 0), *version = sb_args_operand(args, 1);
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("DELETE", path);
    sb_server_t server;
    sb_reply_t reply;
    int rc;

    if ((version != NULL) == sb_args_flag(args, "all")) {
        sb_say_error("name either a version or --all");
        return EXIT_USAGE;
    }
    if (!skill_path(path, sizeof(path), name, version)) {
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(&server, &call, &reply);
    sb_reply_free(&reply);
    if (rc == EXIT_OK) {
        sb_say("deleted %s%s%s", name, version != NULL ? " " : ", all versions",
               version != NULL ? version : "");
    }
    return rc;
}

const sb_command_t cmd_skill_delete = {
    .name = "skill delete",
    .operands = "<skill> <version> | <skill> --all",
    .summary = "delete a version of a skill, or all of them",
    .details = "Deletes one version of a skill, or with --all every version.",
    .options = delete_options,
    .remote = true,
    .examples = "skillbox skill delete data-analysis 1.0.0\n"
                "skillbox skill delete data-analysis --all",
    .min_operands = 1,
    .max_operands = 2,
    .run = run_delete,
};
