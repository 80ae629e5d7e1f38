/*
 * runtime.c - `skillbox runtime list|check`: what sandbox-helper --check says of
 * the runtimes.  It starts a sandbox for each, as the user the helper would run as.
 */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/limits.h"
#include "../libskillbox/units.h"
#include "cli.h"
#include "install.h"
#include "output.h"

#define SYSTEM_CONFIG "/etc/skillbox/helper.yaml"
#define REPORT_MAX    (8 * SB_MIB)

static const sb_option_t runtime_options[] = {
    {"config", "FILE",
     "configuration of sandbox-helper (default: that of the state folder,\nelse " SYSTEM_CONFIG ")",
     false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

/* ---- shared ---- */

bool sb_runtime_dir(const sb_args_t *args, char out[SB_STATE_PATH_MAX])
{
    const char *given = sb_args_get(args, "dir");
    char path[SB_STATE_PATH_MAX], real[PATH_MAX];
    sb_err_t err;

    if (given == NULL) {
        if (sb_state_path(sb_state_folder(args), "runtimes", path, &err) != SB_OK) {
            sb_say_err(&err);
            return false;
        }
        given = path;
        if (access(sb_state_folder(args), F_OK) != 0) {
            sb_say_error("no state folder %s: give --dir, the runtimes_dir of helper.yaml",
                         sb_state_folder(args));
            return false;
        }
    }
    const char *resolved = realpath(given, real) != NULL ? real : given;
    if (strlen(resolved) >= SB_STATE_PATH_MAX) {
        sb_say_error("the path of the runtimes is too long");
        return false;
    }
    strcpy(out, resolved);
    return true;
}

int sb_runtime_program(const char *name, int *fd)
{
    char path[SB_STATE_PATH_MAX];
    sb_err_t err;

    if (sb_install_program(name, path, &err) != SB_OK) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    *fd = open(path, O_PATH | O_CLOEXEC);
    if (*fd < 0) {
        sb_say_error("%s: %s", path, strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* ---- asking the helper ---- */

static bool find_config(const sb_args_t *args, char path[SB_STATE_PATH_MAX])
{
    const char *given = sb_args_get(args, "config");

    if (given != NULL && strlen(given) < SB_STATE_PATH_MAX) {
        strcpy(path, given);
        return true;
    }
    if (given == NULL && sb_state_path(sb_state_folder(args), "helper.yaml", path, NULL) == SB_OK &&
        access(path, F_OK) == 0) {
        return true;
    }
    strcpy(path, SYSTEM_CONFIG);
    if (given == NULL && access(path, F_OK) == 0) {
        return true;
    }
    sb_say_error("no configuration of sandbox-helper: give --config");
    return false;
}

/* All that the child writes, at most REPORT_MAX. */
static void read_all(int fd, sb_buf_t *out)
{
    char data[16384];
    ssize_t n;

    while ((n = read(fd, data, sizeof(data))) > 0 || (n < 0 && errno == EINTR)) {
        sb_buf_add(out, data, n > 0 ? (size_t)n : 0);
    }
}

static pid_t start_check(const char *program, const char *config, int *out)
{
    int pair[2];
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) != 0) {
        return -1;
    }
    pid = fork();
    if (pid == 0) {
        dup2(pair[1], STDOUT_FILENO);
        execl(program, "sandbox-helper", "-c", config, "--check", "--json", (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    *out = pair[0];
    return pid;
}

json_t *sb_runtime_report(const sb_args_t *args)
{
    char config[SB_STATE_PATH_MAX], program[SB_STATE_PATH_MAX];
    sb_buf_t text = SB_BUF_INIT(REPORT_MAX);
    json_t *report = NULL;
    sb_err_t err;
    int fd = -1, status = 0;

    if (!find_config(args, config)) {
        return NULL;
    }
    if (sb_install_program("sandbox-helper", program, &err) != SB_OK) {
        sb_say_err(&err);
        return NULL;
    }
    pid_t pid = start_check(program, config, &fd);
    if (pid > 0) {
        read_all(fd, &text);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (sb_buf_ok(&text) && text.len > 0) {
        report = json_loadb(text.data, text.len, 0, NULL);
    }
    sb_buf_free(&text);
    if (report == NULL) { /* the helper has said why on stderr */
        sb_say_error("sandbox-helper --check told nothing about %s", config);
    }
    return report;
}

/* ---- list ---- */

static int64_t tree_bytes;

static int add_size(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)path;
    (void)flag;
    (void)ftw;
    tree_bytes += (int64_t)st->st_blocks * 512 /
                  (st->st_nlink > 0 && S_ISREG(st->st_mode) ? (int64_t)st->st_nlink : 1);
    return 0;
}

/* Bytes on disk; -1: the host's, or out of reach. */
static int64_t size_of(const char *root)
{
    tree_bytes = 0;
    if (root == NULL || root[0] != '/' || access(root, R_OK) != 0 ||
        nftw(root, add_size, 32, FTW_PHYS | FTW_MOUNT) != 0) {
        return -1;
    }
    return tree_bytes;
}

static const char *text_of(const json_t *runtime, const char *key)
{
    const char *s = json_string_value(json_object_get(runtime, key));

    return s != NULL && s[0] != '\0' ? s : NULL;
}

static void add_sizes(json_t *runtimes)
{
    size_t i;
    json_t *r;

    json_array_foreach(runtimes, i, r)
    {
        int64_t size = size_of(text_of(r, "root"));

        if (size >= 0) {
            json_object_set_new(r, "size_bytes", json_integer(size));
        }
    }
}

static bool print_table(const json_t *runtimes)
{
    static const char *const heads[] = {"NAME",    "LANG", "ROOT",  "INTERPRETER",
                                        "VERSION", "SIZE", "STATUS"};
    static const char *const keys[] = {"name", "lang", "root", "interpreter", "version"};
    sb_table_t t;
    size_t i;
    json_t *r;
    char size[32];

    sb_table_init(&t, 7);
    for (i = 0; i < 7; i++) {
        sb_table_cell(&t, heads[i]);
    }
    json_array_foreach(runtimes, i, r)
    {
        const json_t *bytes = json_object_get(r, "size_bytes");

        for (size_t k = 0; k < 5; k++) {
            sb_table_cell(&t, text_of(r, keys[k]));
        }
        if (bytes != NULL) {
            sb_bytes_format(json_integer_value(bytes), size);
        }
        sb_table_cell(&t, bytes != NULL ? size : NULL);
        sb_table_cell(&t, text_of(r, "status"));
    }
    return sb_table_print(&t, stdout);
}

static int run_list(const sb_args_t *args)
{
    bool json = sb_args_flag(args, "json");

    json_t *report = sb_runtime_report(args);
    if (report == NULL) {
        return EXIT_FAILED;
    }
    json_t *runtimes = json_object_get(report, "runtimes");
    bool good = true;
    add_sizes(runtimes);
    if (json) {
        sb_print_json(stdout, runtimes);
    } else {
        good = print_table(runtimes);
    }
    json_decref(report);
    return good ? EXIT_OK : EXIT_FAILED;
}

const sb_command_t cmd_runtime_list = {
    .name = "runtime list",
    .operands = "",
    .summary = "list the runtimes of a helper's configuration",
    .details =
        "Prints every runtime that helper.yaml and its runtimes_dir offer to packages: name, "
        "language,\n"
        "root, interpreter, version, size on disk, and `ok` or why it can't be used.  Each "
        "is started\n"
        "in a sandbox for that, so this takes a second.",
    .options = runtime_options,
    .examples = "skillbox runtime list\n"
                "skillbox runtime list --config /etc/skillbox/helper.yaml --json",
    .run = run_list,
};

/* ---- check ---- */

static void print_line(const char *mark, const char *what, const char *found, const char *remedy)
{
    printf("%s  ", mark);
    sb_print_safe(stdout, what, strlen(what), false);
    printf("  ");
    sb_print_safe(stdout, found, strlen(found), false);
    putchar('\n');
    if (remedy != NULL) {
        printf("      -> ");
        sb_print_safe(stdout, remedy, strlen(remedy), false);
        putchar('\n');
    }
}

static void print_checks(const json_t *report)
{
    static const char *const marks[] = {"ok  ", "warn", "FAIL"};
    const json_t *line;
    size_t i;

    json_array_foreach(json_object_get(report, "checks"), i, line)
    {
        json_int_t verdict = json_integer_value(json_object_get(line, "verdict"));
        const char *what = text_of(line, "what"), *found = text_of(line, "found");

        print_line(marks[verdict >= 0 && verdict <= 2 ? verdict : 2], what != NULL ? what : "?",
                   found != NULL ? found : "", text_of(line, "remedy"));
    }
    const char *summary = text_of(report, "summary");
    printf("%s\n", summary != NULL ? summary : "");
}

/* The runtimes of that name, each with its line; an exit status. */
static int check_named(const json_t *report, const char *name, bool json)
{
    json_t *found = json_array();
    const json_t *runtimes = json_object_get(report, "runtimes");
    size_t i;
    json_t *r;
    int rc = EXIT_NOT_FOUND;

    json_array_foreach(runtimes, i, r)
    {
        const char *its = text_of(r, "name"), *status = text_of(r, "status");
        bool good = status != NULL && strcmp(status, "ok") == 0;

        if (its == NULL || strcmp(its, name) != 0) {
            continue;
        }
        rc = good && rc != EXIT_FAILED ? EXIT_OK : EXIT_FAILED;
        json_array_append(found, r);
        if (!json) {
            const char *lang = text_of(r, "lang");
            const char *shown = good ? text_of(r, "version") : status;

            print_line(good ? "ok  " : "FAIL", lang != NULL ? lang : "?",
                       shown != NULL ? shown : "?", NULL);
        }
    }
    if (rc == EXIT_NOT_FOUND) {
        sb_say_error("there is no runtime %s", name);
    } else if (json) {
        sb_print_json(stdout, found);
    }
    json_decref(found);
    return rc;
}

static int run_check(const sb_args_t *args)
{
    const char *name = sb_args_operand(args, 0);
    bool json = sb_args_flag(args, "json");
    int rc;

    json_t *report = sb_runtime_report(args);
    if (report == NULL) {
        return EXIT_FAILED;
    }
    if (name != NULL) {
        rc = check_named(report, name, json);
    } else {
        if (json) {
            sb_print_json(stdout, report);
        } else {
            print_checks(report);
        }
        rc = json_integer_value(json_object_get(report, "verdict")) == 0 ? EXIT_OK : EXIT_FAILED;
    }
    json_decref(report);
    return rc;
}

const sb_command_t cmd_runtime_check = {
    .name = "runtime check",
    .operands = "[runtime]",
    .summary = "start each runtime in a sandbox and say whether it works",
    .details =
        "Does what `sandbox-helper --check` does: looks at the host and starts every runtime in a\n"
        "sandbox.  With a name: of the runtimes of that name only.  Exit status 0: all is well; "
        "1:\n"
        "something is missing; 3: no runtime of that name.",
    .options = runtime_options,
    .examples = "skillbox runtime check\n"
                "skillbox runtime check py312 --state /tmp/box",
    .max_operands = 1,
    .run = run_check,
};
