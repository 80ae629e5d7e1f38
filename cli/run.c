/*
 * run.c - `skillbox run`: one execution.  Closing the connection (Ctrl-C) of a synchronous one
 * cancels it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "../libskillbox/units.h"
#include "cli.h"
#include "client.h"
#include "download.h"
#include "jsontext.h"
#include "output.h"

static const sb_option_t run_options[] = {
    {"version", "VERSION", "which version (default: latest)", false},
    {"input", "JSON|@FILE|-", "the input: JSON text, a file, or stdin (default: {})", false},
    {"script", "SCRIPT", "run this script of the package instead of its entrypoint", false},
    {"module", "NAME", "run this Python module of the package (python -m)", false},
    {"arg", "A", "an argument for the script", true},
    {"env", "NAME=VALUE", "an environment variable for the script", true},
    {"timeout", "DURATION", "stop it after this time, e.g. 30s; can only shorten", false},
    {"stdin", "@FILE|-|TEXT", "what the script reads from stdin (default: the input)", false},
    {"file", "[NAME=]PATH", "a file for the script's working folder", true},
    {"input-file", "[PATH=]ID", "a kept file or artifact for it, by id", true},
    {"download", "DIR", "unpack the artifacts there", false},
    {"force", NULL, "let --download replace files", false},
    {.name = "async", .help = "do not wait: print the execution's id"},
    {.name = "idempotency-key",
     .arg = "KEY",
     .help = "run once, however often the same request comes with this key"},
    {.name = "json", .help = "print the server's whole answer"},
    {NULL, NULL, NULL, false},
};

#define BODY_MAX (64 * SB_MIB) /* the server has a bound of its own */

/* ---- the request ---- */

/* Reads a file ("-": stdin) up to the request's bound; NULL after a message. */
static char *read_file(const char *path, size_t *len)
{
    sb_buf_t b = SB_BUF_INIT(SB_INPUT_MAX);
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char block[65536];
    ssize_t n = -1;

    sb_buf_str(&b, "");
    while (fd >= 0 && sb_buf_ok(&b) &&
           ((n = read(fd, block, sizeof(block))) > 0 || (n < 0 && errno == EINTR))) {
        sb_buf_add(&b, block, n > 0 ? (size_t)n : 0);
    }
    if (n < 0) {
        sb_say_error("%s: %s", path, strerror(errno));
    } else if (!sb_buf_ok(&b)) {
        sb_say_error("%s is larger than a request may be", path);
    }
    if (fd > STDIN_FILENO) {
        close(fd);
    }
    if (n < 0 || !sb_buf_ok(&b)) {
        sb_buf_free(&b);
        return NULL;
    }
    char *data = sb_buf_steal(&b, len);
    return data != NULL ? data : calloc(1, 1);
}

/* A value that is text, "@file" or "-". */
static char *read_value(const char *value, size_t *len)
{
    if (strcmp(value, "-") == 0) {
        return read_file("-", len);
    }
    if (value[0] == '@') {
        return read_file(value + 1, len);
    }
    *len = strlen(value);
    return strdup(value);
}

/* Appends the input to the body (text of an object), as it was written. */
static bool add_input(sb_buf_t *body, const char *value)
{
    size_t len;
    char *text;
    bool ok;

    if (value == NULL) {
        return true;
    }
    text = read_value(value, &len);
    if (text == NULL) {
        return false;
    }
    ok = sb_jtext_valid(text, len);
    if (ok) {
        body->data[--body->len] = '\0'; /* the closing brace */
        sb_json_key(body, "input");
        sb_buf_add(body, text, len);
        sb_buf_char(body, '}');
    } else {
        sb_say_error("--input is not JSON");
    }
    free(text);
    return ok;
}

static bool put_stdin(json_t *body, const char *value)
{
    size_t len;
    char *text;
    json_t *s;

    if (value == NULL) {
        return true;
    }
    text = read_value(value, &len);
    if (text == NULL) {
        return false;
    }
    s = json_stringn(text, len);
    free(text);
    if (s == NULL) {
        sb_say_error("--stdin must be UTF-8 text; give bytes as a --file");
        return false;
    }
    return json_object_set_new(body, "stdin", s) == 0;
}

static bool put_args(json_t *body, const sb_args_t *args)
{
    size_t n = sb_args_count(args, "arg");
    json_t *list;

    if (n == 0) {
        return true;
    }
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_string(sb_args_at(args, "arg", i))) != 0) {
            sb_say_error("--arg must be UTF-8 text");
            json_decref(list);
            return false;
        }
    }
    return json_object_set_new(body, "args", list) == 0;
}

static bool put_env(json_t *body, const sb_args_t *args)
{
    size_t n = sb_args_count(args, "env");
    json_t *env;

    if (n == 0) {
        return true;
    }
    env = json_object();
    for (size_t i = 0; i < n; i++) {
        const char *pair = sb_args_at(args, "env", i), *eq = strchr(pair, '=');

        if (eq == NULL || eq == pair ||
            json_object_setn_new(env, pair, (size_t)(eq - pair), json_string(eq + 1)) != 0) {
            sb_say_error("--env is NAME=VALUE, UTF-8 text: '%s'", pair);
            json_decref(env);
            return false;
        }
    }
    return json_object_set_new(body, "env", env) == 0;
}

static json_t *base64_json(const char *data, size_t len)
{
    size_t size = (len + 2) / 3 * 4;
    unsigned char *text = malloc(size + 1);
    json_t *s = NULL;

    if (text != NULL) {
        EVP_EncodeBlock(text, (const unsigned char *)data, (int)len); /* SB_INPUT_MAX bounds len */
        s = json_stringn((const char *)text, size);
    }
    free(text);
    return s;
}

/* "[NAME=]PATH": the name is the path's last part when none is given. */
static bool put_file(json_t *files, const char *spec)
{
    const char *eq = strchr(spec, '='), *path = eq != NULL ? eq + 1 : spec;
    const char *slash = strrchr(path, '/');
    const char *name = eq != NULL ? spec : slash != NULL ? slash + 1 : path;
    size_t name_len = eq != NULL ? (size_t)(eq - spec) : strlen(name), len;
    char *data;
    bool ok;

    if (name_len == 0 || path[0] == '\0') {
        sb_say_error("--file is PATH or NAME=PATH: '%s'", spec);
        return false;
    }
    data = read_file(path, &len);
    if (data == NULL) {
        return false;
    }
    ok = json_object_setn_new(files, name, name_len, base64_json(data, len)) == 0;
    free(data);
    if (!ok) {
        sb_say_error("--file: the name must be UTF-8 text: '%s'", spec);
    }
    return ok;
}

static bool put_files(json_t *body, const sb_args_t *args)
{
    size_t n = sb_args_count(args, "file");
    json_t *files;

    if (n == 0) {
        return true;
    }
    files = json_object();
    for (size_t i = 0; i < n; i++) {
        if (!put_file(files, sb_args_at(args, "file", i))) {
            json_decref(files);
            return false;
        }
    }
    return json_object_set_new(body, "files", files) == 0;
}

/* "[PATH=]ID": under its own name when no path is given. */
static bool put_input_file(json_t *inputs, const char *spec)
{
    const char *eq = strrchr(spec, '='), *id = eq != NULL ? eq + 1 : spec;
    json_t *input;

    if (eq == spec || !sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("--input-file is ID or PATH=ID, with the id of a file: '%s'", spec);
        return false;
    }
    input = eq == NULL ? json_string(id)
                       : json_pack("{s:s, s:s%}", "id", id, "path", spec, (size_t)(eq - spec));
    if (input == NULL || json_array_append_new(inputs, input) != 0) {
        sb_say_error("--input-file: the path must be UTF-8 text: '%s'", spec);
        return false;
    }
    return true;
}

static bool put_input_files(json_t *body, const sb_args_t *args)
{
    size_t n = sb_args_count(args, "input-file");
    json_t *inputs;

    if (n == 0) {
        return true;
    }
    inputs = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!put_input_file(inputs, sb_args_at(args, "input-file", i))) {
            json_decref(inputs);
            return false;
        }
    }
    return json_object_set_new(body, "input_files", inputs) == 0;
}

static bool put_string(json_t *body, const char *member, const char *value)
{
    if (value == NULL || json_object_set_new(body, member, json_string(value)) == 0) {
        return true;
    }
    sb_say_error("%s must be UTF-8 text", member);
    return false;
}

static bool put_timeout(json_t *body, const char *value)
{
    int64_t ms;
    sb_err_t err;

    if (value == NULL) {
        return true;
    }
    if (sb_duration_parse(value, strlen(value), &ms, &err) != SB_OK) {
        sb_say_error("--timeout: %s", err.message);
        return false;
    }
    return json_object_set_new(body, "timeout_ms", json_integer(ms)) == 0;
}

static bool put_async(json_t *body, const sb_args_t *args)
{
    return !sb_args_flag(args, "async") || json_object_set_new(body, "async", json_true()) == 0;
}

/* Everything but the input. */
static json_t *request_object(const sb_args_t *args)
{
    json_t *body = json_object();

    if (put_string(body, "skill", sb_args_operand(args, 0)) &&
        put_string(body, "version", sb_args_get(args, "version")) &&
        put_string(body, "script", sb_args_get(args, "script")) &&
        put_string(body, "module", sb_args_get(args, "module")) &&
        put_timeout(body, sb_args_get(args, "timeout")) && put_args(body, args) &&
        put_env(body, args) && put_stdin(body, sb_args_get(args, "stdin")) &&
        put_files(body, args) && put_input_files(body, args) && put_async(body, args)) {
        return body;
    }
    json_decref(body);
    return NULL;
}

/* The request's body; false after a message. */
static bool request_body(const sb_args_t *args, sb_buf_t *out)
{
    const char *input = sb_args_get(args, "input"), *in = sb_args_get(args, "stdin");
    json_t *object;
    char *text;

    if (input != NULL && in != NULL && strcmp(input, "-") == 0 && strcmp(in, "-") == 0) {
        sb_say_error("--input and --stdin can't both be read from stdin");
        return false;
    }
    if (sb_args_get(args, "script") != NULL && sb_args_get(args, "module") != NULL) {
        sb_say_error("name either --script or --module");
        return false;
    }
    object = request_object(args);
    if (object == NULL) {
        return false;
    }
    text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    sb_buf_str(out, text != NULL ? text : "");
    free(text);
    return out->len > 0 && add_input(out, input) && sb_buf_ok(out);
}

/* ---- the answer ---- */

static void print_files(const json_t *files)
{
    const json_t *f;
    size_t i;

    json_array_foreach(files, i, f)
    {
        if (json_is_string(f)) {
            sb_say("  %s", json_string_value(f));
        }
    }
}

/* answer: all but the output, which is printed as it came. */
static void print_answer(const sb_reply_t *reply, const json_t *answer)
{
    const json_t *logs = json_object_get(answer, "logs");
    const char *status = json_string_value(json_object_get(answer, "status"));
    const char *error = json_string_value(json_object_get(answer, "error"));
    const char *id = json_string_value(json_object_get(answer, "execution_id"));
    const json_t *files = json_object_get(answer, "files_list");
    const char *output;
    size_t output_len;

    sb_print_log(stderr, json_string_value(logs), json_string_length(logs));
    if (sb_jtext_member(reply->body.data, reply->body.len, "output", &output, &output_len)) {
        sb_print_json_text(stdout, output, output_len);
        fflush(stdout);
    }
    sb_say("%s in %lld ms%s%s, execution %s", status != NULL ? status : "?",
           (long long)json_integer_value(json_object_get(answer, "duration_ms")),
           error != NULL ? ": " : "", error != NULL ? error : "", id != NULL ? id : "?");
    if (json_array_size(files) > 0) {
        sb_say("%zu artifact%s:", json_array_size(files), json_array_size(files) == 1 ? "" : "s");
        print_files(files);
    }
}

static int use_answer(const sb_args_t *args, const sb_reply_t *reply, const json_t *answer)
{
    const char *status = json_string_value(json_object_get(answer, "status"));
    const char *url = json_string_value(json_object_get(answer, "files_url"));
    const char *dir = sb_args_get(args, "download");
    int rc = status != NULL && strcmp(status, "success") == 0 ? EXIT_OK : EXIT_FAILED;

    if (sb_args_flag(args, "json")) {
        sb_reply_print(reply);
        fflush(stdout);
    } else {
        print_answer(reply, answer);
    }
    if (dir != NULL && url != NULL) {
        int got = sb_download(url, dir, sb_args_flag(args, "force"));

        rc = rc == EXIT_OK ? got : rc;
    } else if (dir != NULL) {
        sb_say("there are no artifacts to download");
    }
    return rc;
}

/* 202: it was accepted, or a run with the same key is under way. */
static int use_acceptance(const sb_args_t *args, const sb_reply_t *reply, const json_t *answer)
{
    const char *id = json_string_value(json_object_get(answer, "execution_id"));
    const char *status = json_string_value(json_object_get(answer, "status"));

    if (sb_args_flag(args, "json")) {
        sb_reply_print(reply);
        return EXIT_OK;
    }
    if (id == NULL || !sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("the server's answer names no execution");
        return EXIT_FAILED;
    }
    printf("%s\n", id);
    fflush(stdout);
    sb_say("%s; its log: skillbox exec logs -f %s", status != NULL ? status : "accepted", id);
    return EXIT_OK;
}

static int run_run(const sb_args_t *args)
{
    sb_call_t call = SB_CALL("POST", "/v1/executions");
    sb_buf_t body = SB_BUF_INIT(BODY_MAX);
    sb_server_t server;
    sb_reply_t reply;
    json_t *answer;
    int rc = sb_server_checked(args, &server);

    if (rc != EXIT_OK) {
        return rc;
    }
    if (!request_body(args, &body)) {
        sb_buf_free(&body);
        return EXIT_USAGE;
    }
    call.content_type = "application/json";
    call.body = body.data;
    call.body_len = (int64_t)body.len;
    call.progress = "running";
    call.idempotency_key = sb_args_get(args, "idempotency-key");
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK) {
        answer = sb_reply_json(&reply, "output");
        rc = answer == NULL        ? EXIT_FAILED
             : reply.status == 202 ? use_acceptance(args, &reply, answer)
                                   : use_answer(args, &reply, answer);
        json_decref(answer);
    }
    sb_reply_free(&reply);
    sb_buf_free(&body);
    return rc;
}

const sb_command_t cmd_run = {
    .name = "run",
    .operands = "<skill>",
    .summary = "run a skill and wait for its result",
    .details =
        "Runs a skill in the gateway's sandbox and waits.  The skill's output (JSON) goes "
        "to stdout,\n"
        "its log and everything else to stderr.  Exit status 0 when the run was a success, "
        "1 when it\n"
        "failed, timed out or was cancelled.  Ctrl-C cancels it.  With --async the id of the\n"
        "execution goes to stdout at once, and Ctrl-C changes nothing.",
    .options = run_options,
    .remote = true,
    .examples =
        "skillbox run data-analysis --input @records.json --download out\n"
        "skillbox run text-summary --input '{\"text\":\"...\"}'\n"
        "skillbox run csv-toolkit --script scripts/check.py --file data.csv --arg data.csv\n"
        "skillbox run csv-toolkit --script scripts/check.py \\\n"
        "    --input-file data.csv=$(skillbox file put people.csv) --arg data.csv\n"
        "echo '{\"text\":\"a b\"}' | skillbox run word-counter --input - --json\n"
        "skillbox exec logs -f $(skillbox run nightly-report --async)",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_run,
};
