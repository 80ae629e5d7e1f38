/*
 * health.c - `skillbox health`: does the gateway answer, and can it work?
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "client.h"
#include "output.h"

#define CALL_MS 10000

static const sb_option_t health_options[] = {
    {"json", NULL, "print the answer of /ready", false},
    {NULL, NULL, NULL, false},
};

static void print_check(const char *name, const json_t *value)
{
    const char *s = json_string_value(value);

    printf("%-8s ", name);
    sb_print_safe(stdout, s != NULL ? s : "?", strlen(s != NULL ? s : "?"), false);
    putchar('\n');
}

static int run_health(const sb_args_t *args)
{
    sb_call_t call = SB_CALL("GET", "/ready");
    sb_server_t server;
    sb_reply_t reply;
    sb_err_t err;
    json_t *answer, *v;
    const char *name;
    int rc = sb_server_checked(args, &server);

    if (rc != EXIT_OK) {
        return rc;
    }
    call.timeout_ms = CALL_MS;
    server.key = NULL; /* /ready asks for none */
    if (sb_call(&server, &call, &reply, &err) != SB_OK) {
        sb_say_err(&err);
        sb_reply_free(&reply);
        return EXIT_UNREACHABLE;
    }
    answer = sb_reply_json(&reply, NULL);
    if (answer != NULL && sb_args_flag(args, "json")) {
        sb_reply_print(&reply);
    } else if (answer != NULL) {
        print_check("status", json_object_get(answer, "status"));
        json_object_foreach(json_object_get(answer, "checks"), name, v)
        {
            print_check(name, v);
        }
    }
    rc = answer != NULL && reply.status == 200 ? EXIT_OK : EXIT_FAILED;
    json_decref(answer);
    sb_reply_free(&reply);
    return rc;
}

const sb_command_t cmd_health = {
    .name = "health",
    .operands = "",
    .summary = "ask a gateway whether it is ready",
    .details =
        "Asks a gateway's /ready.  Exit status 0: ready; 1: it answers but is not ready; 4: no\n"
        "answer.",
    .options = health_options,
    .remote = true,
    .examples = "skillbox health\n"
                "skillbox health --server https://skills.example.com --json",
    .run = run_health,
};
