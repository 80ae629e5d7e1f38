/*
 * file.c - `skillbox file put|get|list|versions|delete`: files that the gateway keeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/uuid7.h"
#include "cli.h"
#include "client.h"
#include "output.h"

#define CALL_MS  60000
#define FILE_MAX (1LL << 40) /* the server has a limit of its own */

static const sb_option_t list_options[] = {
    {"execution", "EXECUTION", "the artifacts of that execution instead", false},
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

static const sb_option_t format_options[] = {
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

/* The path of a file or of what is below it; false and a message when id is none. */
static bool file_path(char out[SB_URL_MAX], const char *id, const char *suffix)
{
    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of a file", id);
        return false;
    }
    snprintf(out, SB_URL_MAX, "/v1/files/%s%s", id, suffix);
    return true;
}

/* ---- put ---- */

static const sb_option_t put_options[] = {
    {"name", "NAME", "what the gateway calls it (default: the file's name)", false},
    {"type", "TYPE", "its media type (default: application/octet-stream)", false},
    {"version-of", "FILE-ID", "store it as the next version of that file", false},
    {"json", NULL, "print the server's answer", false},
    {NULL, NULL, NULL, false},
};

static bool put_path(const sb_args_t *args, char out[SB_URL_MAX])
{
    const char *file = sb_args_operand(args, 0), *of = sb_args_get(args, "version-of");
    const char *name = sb_args_get(args, "name"), *slash = strrchr(file, '/');
    char head[SB_URL_MAX] = "/v1/files", query[SB_URL_MAX];

    if (of != NULL && !file_path(head, of, "")) {
        return false;
    }
    if (name == NULL && of != NULL) { /* it keeps the name it has */
        snprintf(out, SB_URL_MAX, "%s", head);
        return true;
    }
    snprintf(query, sizeof(query), "%.1000s?name=", head);
    return sb_path_build(out, SB_URL_MAX, query,
                         name != NULL    ? name
                         : slash != NULL ? slash + 1
                                         : file,
                         "");
}

static int send_file(const sb_args_t *args, const char *path, int fd, int64_t len)
{
    const char *type = sb_args_get(args, "type");
    sb_call_t call = SB_CALL(sb_args_get(args, "version-of") != NULL ? "PUT" : "POST", path);
    sb_server_t server;
    sb_reply_t reply;
    int rc = sb_server_checked(args, &server);

    if (rc != EXIT_OK) {
        return rc;
    }
    call.content_type = type != NULL ? type : "application/octet-stream";
    call.body_fd = fd;
    call.body_len = len;
    call.progress = sb_args_operand(args, 0);
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK && sb_args_flag(args, "json")) {
        rc = sb_reply_print(&reply) ? EXIT_OK : EXIT_FAILED;
    } else if (rc == EXIT_OK) {
        json_t *answer = sb_reply_json(&reply, NULL);
        const char *id = json_string_value(json_object_get(answer, "id"));

        printf("%s\n", id != NULL ? id : "?");
        rc = id != NULL ? EXIT_OK : EXIT_FAILED;
        json_decref(answer);
    }
    sb_reply_free(&reply);
    return rc;
}

static int run_put(const sb_args_t *args)
{
    const char *file = sb_args_operand(args, 0);
    char path[SB_URL_MAX];
    struct stat st;
    int rc;

    if (!put_path(args, path)) {
        return EXIT_USAGE;
    }
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int e = errno;

        sb_say_error("%s: %s", file, strerror(e));
        return e == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    if (S_ISREG(st.st_mode)) {
        rc = send_file(args, path, fd, st.st_size);
    } else {
        sb_say_error("%s is not a file", file);
        rc = EXIT_FAILED;
    }
    close(fd);
    return rc;
}

const sb_command_t cmd_file_put = {
    .name = "file put",
    .operands = "<file>",
    .summary = "keep a file, or the next version of one",
    .details = "Uploads a file and prints the id it is kept under.",
    .options = put_options,
    .remote = true,
    .examples = "skillbox file put people.csv --type text/csv\n"
                "skillbox file put people.csv --version-of 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_put,
};

/* ---- get ---- */

static const sb_option_t get_options[] = {
    {"out", "FILE", "where to write it (default: stdout)", false},
    {"force", NULL, "replace FILE when it exists", false},
    {NULL, NULL, NULL, false},
};

static int run_get(const sb_args_t *args)
{
    const char *out = sb_args_get(args, "out");
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("GET", path);
    sb_server_t server;
    sb_reply_t reply;
    int rc, fd = STDOUT_FILENO;

    if (!file_path(path, sb_args_operand(args, 0), "/download")) {
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    if (out != NULL) {
        fd = open(out,
                  O_WRONLY | O_CREAT | O_CLOEXEC | (sb_args_flag(args, "force") ? O_TRUNC : O_EXCL),
                  0644);
        if (fd < 0) {
            sb_say_error("%s: %s%s", out, strerror(errno),
                         errno == EEXIST ? "; --force replaces it" : "");
            return EXIT_FAILED;
        }
    }
    call.out_fd = fd;
    call.out_max = FILE_MAX;
    rc = sb_call_checked(&server, &call, &reply);
    sb_reply_free(&reply);
    if (out != NULL && close(fd) != 0 && rc == EXIT_OK) {
        sb_say_error("%s: %s", out, strerror(errno));
        rc = EXIT_FAILED;
    }
    if (out != NULL && rc != EXIT_OK) {
        unlink(out);
    }
    return rc;
}

const sb_command_t cmd_file_get = {
    .name = "file get",
    .operands = "<file-id>",
    .summary = "download a file that is kept",
    .details = "Writes the content of a kept file to stdout or to a file.",
    .options = get_options,
    .remote = true,
    .examples = "skillbox file get 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11 --out people.csv",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_get,
};

/* ---- list, versions ---- */

static bool print_files(const json_t *files)
{
    char number[32];
    const json_t *f;
    sb_table_t t;
    size_t i;

    sb_table_init(&t, 5);
    sb_table_cell(&t, "ID");
    sb_table_cell(&t, "NAME");
    sb_table_cell(&t, "VERSION");
    sb_table_cell(&t, "BYTES");
    sb_table_cell(&t, "UPDATED");
    json_array_foreach(files, i, f)
    {
        sb_table_cell(&t, json_string_value(json_object_get(f, "id")));
        sb_table_cell(&t, json_string_value(json_object_get(f, "name")));
        snprintf(number, sizeof(number), "%lld",
                 (long long)json_integer_value(json_object_get(f, "version")));
        sb_table_cell(&t, number);
        snprintf(number, sizeof(number), "%lld",
                 (long long)json_integer_value(json_object_get(f, "size_bytes")));
        sb_table_cell(&t, number);
        sb_table_cell(&t, json_string_value(json_object_get(f, "updated_at")));
    }
    return sb_table_print(&t, stdout);
}

static int run_list(const sb_args_t *args)
{
    const char *execution = sb_args_get(args, "execution");
    char path[SB_URL_MAX] = "/v1/files?limit=200";

    if (execution != NULL) {
        if (!sb_uuid_parse(execution, strlen(execution), NULL)) {
            sb_say_error("--execution: '%s' is not the id of an execution", execution);
            return EXIT_USAGE;
        }
        snprintf(path, sizeof(path), "/v1/files?limit=200&execution_id=%s", execution);
    }
    return sb_get_and_print(args, path, sb_args_flag(args, "json"), print_files);
}

const sb_command_t cmd_file_list = {
    .name = "file list",
    .operands = "",
    .summary = "list the files that are kept",
    .details = "Lists the newest 200 files of the tenant, every version of them; or the first 200\n"
               "artifacts of an execution, whose ids work as those of files do.",
    .options = list_options,
    .remote = true,
    .examples = "skillbox file list\n"
                "skillbox file list --execution 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .run = run_list,
};

static int run_versions(const sb_args_t *args)
{
    char path[SB_URL_MAX];
    bool json = sb_args_flag(args, "json");

    if (!file_path(path, sb_args_operand(args, 0), "/versions")) {
        return EXIT_USAGE;
    }
    return sb_get_and_print(args, path, json, print_files);
}

const sb_command_t cmd_file_versions = {
    .name = "file versions",
    .operands = "<file-id>",
    .summary = "list the versions of a file",
    .details = "Lists all versions of the file that the id is one of, the highest first.",
    .options = format_options,
    .remote = true,
    .examples = "skillbox file versions 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_versions,
};

/* ---- delete ---- */

static int run_delete(const sb_args_t *args)
{
    char path[SB_URL_MAX];
    sb_call_t call = SB_CALL("DELETE", path);
    sb_server_t server;
    sb_reply_t reply;
    int rc;

    if (!file_path(path, sb_args_operand(args, 0), "")) {
        return EXIT_USAGE;
    }
    if ((rc = sb_server_checked(args, &server)) != EXIT_OK) {
        return rc;
    }
    call.timeout_ms = CALL_MS;
    rc = sb_call_checked(&server, &call, &reply);
    sb_reply_free(&reply);
    if (rc == EXIT_OK) {
        sb_say("deleted %s", sb_args_operand(args, 0));
    }
    return rc;
}

const sb_command_t cmd_file_delete = {
    .name = "file delete",
    .operands = "<file-id>",
    .summary = "delete a file, one version of it",
    .details = "Deletes one version of a file; others stay.",
    .remote = true,
    .examples = "skillbox file delete 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_delete,
};
