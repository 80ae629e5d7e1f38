/*
 * status.c - `skillbox status`: what runs in a state folder, and is it ready.
 */
#include <string.h>

#include "cli.h"
#include "client.h"
#include "output.h"
#include "state.h"

#define CALL_MS 5000

static const sb_option_t status_options[] = {
    {"state", "DIR", "state folder of the gateway (default: $SKILLBOX_STATE, else\n./.skillbox)",
     false},
    {"json", NULL, "print {\"running\",\"url\",\"nginx_pid\",\"helper_pid\",\"ready\"}", false},
    {"env", NULL,
     "print SKILLBOX_SERVER_URL and SKILLBOX_API_KEY as a shell sets them, nothing else", false},
    {NULL, NULL, NULL, false},
};

/* For `eval`: neither text can hold a quote, the URL is ours and the key is base64url. */
static int print_env(const sb_args_t *args, const sb_state_t *state)
{
    char key[SB_APIKEY_LEN + 1];

    sb_state_key_load(sb_state_folder(args), key);
    if (key[0] == '\0' || !sb_state_running(state)) {
        sb_say_error(key[0] == '\0' ? "there is no key in the state folder that can be read"
                                    : "the gateway is not running");
        return EXIT_NOT_FOUND;
    }
    printf("export SKILLBOX_SERVER_URL='%s' SKILLBOX_API_KEY='%s'\n", state->url, key);
    return EXIT_OK;
}

/* /ready's own words: an object, JSON null when there was no answer. */
static json_t *ask_ready(const sb_state_t *state)
{
    sb_server_t server = {.key = NULL};
    sb_call_t call = SB_CALL("GET", "/ready");
    sb_reply_t reply;
    json_t *answer = NULL;

    memcpy(server.url, state->url, sizeof(state->url));
    call.timeout_ms = CALL_MS;
    if (sb_call(&server, &call, &reply, NULL) == SB_OK) {
        answer = sb_reply_json(&reply, NULL);
    }
    sb_reply_free(&reply);
    return answer != NULL ? answer : json_null();
}

static void print_process(const char *name, const sb_proc_t *p)
{
    if (sb_proc_alive(p)) {
        printf("%-8s running, pid %d\n", name, (int)p->pid);
    } else {
        printf("%-8s not running\n", name);
    }
}

static void print_checks(const json_t *ready)
{
    json_t *checks = json_object_get(ready, "checks"), *v;
    const char *name;

    json_object_foreach(checks, name, v)
    {
        const char *s = json_string_value(v);

        printf("  %-6s ", name);
        sb_print_safe(stdout, s != NULL ? s : "?", strlen(s != NULL ? s : "?"), false);
        putchar('\n');
    }
}

static int run_status(const sb_args_t *args)
{
    sb_state_t state;
    sb_err_t err;

    if (sb_state_load(sb_state_folder(args), &state, &err) != SB_OK) {
        sb_say_err(&err);
        return err.code == SB_ENOTFOUND ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    if (sb_args_flag(args, "env")) {
        return print_env(args, &state);
    }
    bool running = sb_state_running(&state);
    json_t *ready = sb_proc_alive(&state.nginx) ? ask_ready(&state) : json_null();
    const char *word = json_string_value(json_object_get(ready, "status"));
    bool is_ready = word != NULL && strcmp(word, "ready") == 0;

    if (sb_args_flag(args, "json")) {
        json_t *o = json_pack("{s:b, s:s, s:i, s:i, s:O}", "running", (int)running, "url",
                              state.url, "nginx_pid", (int)state.nginx.pid, "helper_pid",
                              (int)state.helper.pid, "ready", ready);
        sb_print_json(stdout, o);
        json_decref(o);
    } else {
        printf("url      %s\n", state.url);
        print_process("nginx", &state.nginx);
        print_process("helper", &state.helper);
        printf("ready    %s\n", is_ready ? "yes" : "no");
        print_checks(ready);
    }
    json_decref(ready);
    if (!running) {
        return EXIT_NOT_FOUND;
    }
    return is_ready ? EXIT_OK : EXIT_FAILED;
}

const sb_command_t cmd_status = {
    .name = "status",
    .operands = "",
    .summary = "say whether the gateway that `up` started is running and ready",
    .details =
        "Looks at the processes of a state folder and asks the gateway whether it is ready.\n"
        "Exit status 0: running and ready; 1: running, not ready; 3: not running.",
    .options = status_options,
    .examples = "skillbox status\n"
                "eval \"$(skillbox status --env)\"    # then curl \"$SKILLBOX_SERVER_URL/ready\"\n"
                "skillbox status --state /tmp/box --json",
    .run = run_status,
};
