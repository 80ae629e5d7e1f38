/*
 * exec.c - `skillbox exec ...`: executions, live and kept.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../libskillbox/uuid7.h"
#include "cli.h"
#include "client.h"
#include "output.h"

#define CALL_MS 60000

/* GETs the execution, or what is below it; EXIT_OK and a reply to free, or the exit status. */
static int get(const sb_args_t *args, const char *suffix, sb_reply_t *reply)
{
    const char *id = sb_args_operand(args, 0);
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("GET", path);
    sb_server_t server;
    int rc;

    sb_buf_init(&reply->body, 0);
    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of an execution", id);
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    snprintf(path, sizeof(path), "/v1/executions/%s%s", id, suffix);
    call.timeout_ms = CALL_MS;
    return sb_call_checked(&server, &call, reply);
}

static const sb_option_t show_options[] = {
    {.name = "json", .help = "the same as --output json"},
    {.name = NULL},
};

static void print_field(const char *label, const json_t *value)
{
    char *text = json_is_string(value) || json_is_null(value)
                     ? NULL
                     : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    const char *s = json_is_string(value) ? json_string_value(value) : text;

    if (s != NULL) {
        printf("%-14s ", label);
        sb_print_safe(stdout, s, strlen(s), false);
        putchar('\n');
    }
    free(text);
}

/* What a person looks for first; the log is at the end. */
static bool print_record(const json_t *record)
{
    static const char *const members[] = {
        "execution_id", "skill_name",  "skill_version", "status",      "error",
        "exit_code",    "duration_ms", "created_at",    "finished_at", "output",
        "files_list",   "files_url",   "usage",         "warnings",    NULL};
    const char *logs = json_string_value(json_object_get(record, "logs"));

    for (const char *const *m = members; *m != NULL; m++) {
        print_field(*m, json_object_get(record, *m));
    }
    if (logs != NULL) {
        putchar('\n');
        sb_print_log(stdout, logs, strlen(logs));
    }
    return true;
}

static int run_show(const sb_args_t *args)
{
    sb_reply_t reply;
    json_t *record = NULL;
    int rc = get(args, "", &reply);

    if (rc == EXIT_OK && sb_args_flag(args, "json")) {
        rc = sb_reply_print(&reply) ? EXIT_OK : EXIT_FAILED;
    } else if (rc == EXIT_OK) {
        record = sb_reply_json(&reply, NULL);
        rc = record != NULL && print_record(record) ? EXIT_OK : EXIT_FAILED;
    }
    json_decref(record);
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_exec_show = {
    .name = "exec show",
    .operands = "<execution>",
    .summary = "show the record of an execution",
    .details =
        "Prints the stored record: status, output, error, usage, artifacts, and a freshly signed\n"
        "files_url.  As JSON, unless told --output table.",
    .options = show_options,
    .remote = true,
    .json_first = true,
    .examples = "skillbox exec show 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11\n"
                "skillbox exec show 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11 --output table",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_show,
};

const sb_command_t cmd_exec_get = {
    .name = "exec get",
    .operands = "<execution>",
    .summary = "the same as exec show",
    .details = "Prints the stored record, as `skillbox exec show` does.",
    .options = show_options,
    .remote = true,
    .json_first = true,
    .examples = "skillbox exec get 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_show,
};

/* ---- list ---- */

static const sb_option_t list_options[] = {
    {.name = "skill", .arg = "SKILL", .help = "of this skill only"},
    {.name = "status",
     .arg = "queued|running|success|failed|timeout|cancelled",
     .help = "only those"},
    {.name = "limit", .arg = "N", .help = "at most so many, up to 200 (default: 50)"},
    {.name = "cursor",
     .arg = "EXECUTION",
     .help = "go on behind this one, which a page before ended with"},
    {.name = "json", .help = "the same as --output json"},
    {.name = NULL},
};

static void list_cell(sb_table_t *t, const json_t *e, const char *member)
{
    sb_table_cell(t, json_string_value(json_object_get(e, member)));
}

static bool print_executions(const json_t *list)
{
    const json_t *e;
    sb_table_t t;
    size_t i;

    sb_table_init(&t, 6);
    sb_table_cell(&t, "ID");
    sb_table_cell(&t, "STATUS");
    sb_table_cell(&t, "SKILL");
    sb_table_cell(&t, "VERSION");
    sb_table_cell(&t, "CREATED");
    sb_table_cell(&t, "MS");
    json_array_foreach(list, i, e)
    {
        const json_t *ms = json_object_get(e, "duration_ms");
        char text[32];

        list_cell(&t, e, "execution_id");
        list_cell(&t, e, "status");
        list_cell(&t, e, "skill_name");
        list_cell(&t, e, "skill_version");
        list_cell(&t, e, "created_at");
        snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(ms));
        sb_table_cell(&t, ms != NULL ? text : NULL);
    }
    return sb_table_print(&t, stdout);
}

/* The query's path; false after a message. */
static bool list_path(const sb_args_t *args, char path[SB_URL_MAX])
{
    static const char *const names[] = {"skill", "status", "limit", "cursor"};
    char before[SB_URL_MAX], prefix[SB_URL_MAX];

    snprintf(path, SB_URL_MAX, "/v1/executions");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = sb_args_get(args, names[i]);

        if (value == NULL) {
            continue;
        }
        memcpy(before, path, sizeof(before));
        if (snprintf(prefix, sizeof(prefix), "%s%c%s=", before,
                     strchr(before, '?') != NULL ? '&' : '?', names[i]) >= (int)sizeof(prefix) ||
            !sb_path_build(path, SB_URL_MAX, prefix, value, "")) {
            return false;
        }
    }
    return true;
}

static int run_list(const sb_args_t *args)
{
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("GET", path);
    sb_server_t server;
    sb_reply_t reply;
    bool json = sb_args_flag(args, "json");
    int rc;

    if (!list_path(args, path)) {
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK && json) {
        rc = sb_reply_print(&reply) ? EXIT_OK : EXIT_FAILED;
    } else if (rc == EXIT_OK) {
        json_t *list = sb_reply_json(&reply, NULL);
        rc = list != NULL && print_executions(list) ? EXIT_OK : EXIT_FAILED;
        json_decref(list);
    }
    if (rc == EXIT_OK && reply.next[0] != '\0') {
        fflush(stdout);
        sb_say("there are more: --cursor %s", reply.next);
    }
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_exec_list = {
    .name = "exec list",
    .operands = "",
    .summary = "list executions, the newest first",
    .details =
        "Lists the tenant's executions, live and ended ones.  A line on stderr says how to go on\n"
        "when there are more.",
    .options = list_options,
    .remote = true,
    .examples = "skillbox exec list\n"
                "skillbox exec list --status running\n"
                "skillbox exec list --skill data-analysis --limit 200 --json",
    .run = run_list,
};

/* ---- logs ---- */

static const sb_option_t logs_options[] = {
    {.name = "follow", .help = "print it as it is written, until the run ends (-f)"},
    {.name = NULL},
};

/* Pieces have no line's end added, as sb_print_log() would. */
static bool print_piece(void *ctx, const char *data, size_t len)
{
    bool *newline = ctx;

    if (isatty(STDOUT_FILENO)) {
        sb_print_safe(stdout, data, len, true);
    } else {
        fwrite(data, 1, len, stdout);
    }
    *newline = len > 0 ? data[len - 1] == '\n' : *newline;
    return fflush(stdout) == 0;
}

static int follow_logs(const sb_args_t *args)
{
    const char *id = sb_args_operand(args, 0);
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("GET", path);
    sb_server_t server;
    sb_reply_t reply;
    bool newline = true;
    int rc;

    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of an execution", id);
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    snprintf(path, sizeof(path), "/v1/executions/%s/logs?follow=1", id);
    call.on_piece = print_piece;
    call.ctx = &newline;
    rc = sb_call_checked(&server, &call, &reply);
    if (!newline) {
        putchar('\n');
    }
    sb_reply_free(&reply);
    return rc;
}

static int run_logs(const sb_args_t *args)
{
    sb_reply_t reply;
    int rc;

    if (sb_args_flag(args, "follow")) {
        return follow_logs(args);
    }
    rc = get(args, "/logs", &reply);
    if (rc == EXIT_OK) {
        sb_print_log(stdout, reply.body.data, reply.body.len);
    }
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_exec_logs = {
    .name = "exec logs",
    .operands = "<execution>",
    .summary = "print the log of an execution",
    .details =
        "Prints what the script wrote to stdout and stderr, as it was kept; of a live one, what\n"
        "there is so far.  Control characters are made visible when the output is a terminal.",
    .options = logs_options,
    .remote = true,
    .examples = "skillbox exec logs 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11\n"
                "skillbox exec logs -f 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_logs,
};

/* ---- cancel, delete ---- */

/* DELETE; *status is the answer's. */
static int delete_call(const sb_args_t *args, const char *query, long *status)
{
    const char *id = sb_args_operand(args, 0);
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("DELETE", path);
    sb_server_t server;
    sb_reply_t reply;
    int rc;

    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of an execution", id);
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    snprintf(path, sizeof(path), "/v1/executions/%s%s", id, query);
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(&server, &call, &reply);
    *status = reply.status;
    sb_reply_free(&reply);
    return rc;
}

static int run_cancel(const sb_args_t *args)
{
    long status;
    int rc = delete_call(args, "?cancel=1", &status);

    if (rc == EXIT_OK) {
        sb_say("%s is being cancelled", sb_args_operand(args, 0));
    }
    return rc;
}

const sb_command_t cmd_exec_cancel = {
    .name = "exec cancel",
    .operands = "<execution>",
    .summary = "cancel an execution that waits or runs",
    .details = "Ends an execution; its record, with what it had printed, stays.  Exit status 6 "
               "when it has\n"
               "ended already.",
    .remote = true,
    .examples = "skillbox exec cancel 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_cancel,
};

static int run_delete(const sb_args_t *args)
{
    long status = 0;
    int rc = delete_call(args, "", &status);

    if (rc == EXIT_OK && status == 202) {
        sb_say_error("%s was live: it is being cancelled, delete it again",
                     sb_args_operand(args, 0));
        return EXIT_CONFLICT;
    }
    if (rc == EXIT_OK) {
        sb_say("deleted %s", sb_args_operand(args, 0));
    }
    return rc;
}

const sb_command_t cmd_exec_delete = {
    .name = "exec delete",
    .operands = "<execution>",
    .summary = "delete the record, log and artifacts of an execution",
    .details =
        "Deletes what is kept of an execution that has ended.  One that is live is cancelled, and\n"
        "the exit status is 6.",
    .remote = true,
    .examples = "skillbox exec delete 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_delete,
};
