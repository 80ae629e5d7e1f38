/*
 * version.c - `skillbox skill versions|activate`: what `latest` means.
 */
#include <stdio.h>

#include "../libskillbox/buf.h"
#include "cli.h"
#include "client.h"
#include "output.h"

#define CALL_MS 60000

static const sb_option_t format_options[] = {
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

static bool print_versions(const json_t *versions)
{
    const json_t *v;
    sb_table_t t;
    size_t i;

    sb_table_init(&t, 4);
    sb_table_cell(&t, "VERSION");
    sb_table_cell(&t, "STATUS");
    sb_table_cell(&t, "LATEST");
    sb_table_cell(&t, "UPLOADED");
    json_array_foreach(versions, i, v)
    {
        bool active = json_is_true(json_object_get(v, "active"));
        bool pinned = json_is_true(json_object_get(v, "pinned"));

        sb_table_cell(&t, json_string_value(json_object_get(v, "version")));
        sb_table_cell(&t, json_string_value(json_object_get(v, "status")));
        sb_table_cell(&t, !active ? NULL : pinned ? "pinned" : "yes");
        sb_table_cell(&t, json_string_value(json_object_get(v, "uploaded_at")));
    }
    return sb_table_print(&t, stdout);
}

static int run_versions(const sb_args_t *args)
{
    char path[SB_URL_MAX];
    bool json = sb_args_flag(args, "json");

    if (!sb_path_build(path, sizeof(path), "/v1/skills/", sb_args_operand(args, 0), "/versions")) {
        return EXIT_USAGE;
    }
    return sb_get_and_print(args, path, json, print_versions);
}

const sb_command_t cmd_skill_versions = {
    .name = "skill versions",
    .operands = "<skill>",
    .summary = "list the versions of a skill",
    .details = "Lists the versions of a skill, the newest first, and which of them `latest` means.",
    .options = format_options,
    .remote = true,
    .examples = "skillbox skill versions data-analysis",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_versions,
};

static int run_activate(const sb_args_t *args)
{
    const char *name = sb_args_operand(args, 0), *version = sb_args_operand(args, 1);
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("PUT", path);
    sb_buf_t body = SB_BUF_INIT(4096);
    sb_server_t server;
    sb_reply_t reply;
    int rc;

    if (!sb_path_build(path, sizeof(path), "/v1/skills/", name, "/active")) {
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    sb_buf_char(&body, '{');
    sb_json_key_str(&body, "version", version);
    sb_buf_char(&body, '}');
    if (!sb_buf_ok(&body)) {
        sb_buf_free(&body);
        sb_say_error("the version is too long");
        return EXIT_USAGE;
    }
    call.content_type = "application/json";
    call.body = body.data;
    call.body_len = (int64_t)body.len;
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK) {
        json_t *answer = sb_reply_json(&reply, NULL);
        const char *active = json_string_value(json_object_get(answer, "active"));

        sb_say("latest of %s is %s", name, active != NULL ? active : "?");
        json_decref(answer);
    }
    sb_reply_free(&reply);
    sb_buf_free(&body);
    return rc;
}

const sb_command_t cmd_skill_activate = {
    .name = "skill activate",
    .operands = "<skill> <version>",
    .summary = "say which version `latest` means",
    .details = "From now on `latest` means this version, whatever is uploaded later, until it is\n"
               "deleted.  With `latest` as the version it follows the uploads again.",
    .remote = true,
    .examples = "skillbox skill activate data-analysis 1.0.0\n"
                "skillbox skill activate data-analysis latest",
    .min_operands = 2,
    .max_operands = 2,
    .run = run_activate,
};
