/*
 * exec.c - `skillbox exec show|logs`: what is kept of an execution.
 */
#include <stdio.h>
#include <string.h>

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

static int run_show(const sb_args_t *args)
{
    sb_reply_t reply;
    int rc = get(args, "", &reply);

    if (rc == EXIT_OK && !sb_reply_print(&reply)) {
        rc = EXIT_FAILED;
    }
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_exec_show = {
    .name = "exec show",
    .operands = "<id>",
    .summary = "show the record of an execution",
    .details =
        "Prints the stored record as JSON: status, output, error, usage, artifacts, and a freshly\n"
        "signed files_url.",
    .remote = true,
    .examples = "skillbox exec show 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_show,
};

static int run_logs(const sb_args_t *args)
{
    sb_reply_t reply;
    int rc = get(args, "/logs", &reply);

    if (rc == EXIT_OK) {
        sb_print_log(stdout, reply.body.data, reply.body.len);
    }
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_exec_logs = {
    .name = "exec logs",
    .operands = "<id>",
    .summary = "print the log of an execution",
    .details = "Prints what the script wrote to stdout and stderr, as it was kept.  Control "
               "characters are\n"
               "made visible when the output is a terminal.",
    .remote = true,
    .examples = "skillbox exec logs 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_logs,
};
