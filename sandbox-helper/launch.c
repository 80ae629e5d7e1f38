/*
 * launch.c - see launch.h.  pid 2 of a run.  Its descriptors at the start: the job, the
 * log pipes, the writable view of /sandbox for a job that may bring files, the
 * instructions, the socket to pid 1, all close-on-exec; at the end 0, 1 and 2.  No
 * capability, no way to main.
 */
#include "launch.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "fault.h"
#include "jobfile.h"
#include "ready.h"
#include "report.h"
#include "rlimits.h"
#include "sys.h"

#define PACKAGE     "/sandbox/scripts"
#define SEARCH_PATH "/usr/local/bin:/usr/bin:/bin"

enum {
    ENV_OWN = 16,                       /* variables of ours, at most */
    ENV_OPERATOR = STAGE_ENV_BYTES / 3, /* "A=" and its NUL is the shortest */
    ARGV_OWN = 4,                       /* interpreter, -m, target, NULL */
    FD_AFTER_STDIO = 3
};

typedef struct {
    const run_t *run;
    bool become; /* the script, without an execve(2) */
    job_t job;
    char *argv[ARGV_OWN + SB_ARGS_MAX];
    char *env[ENV_OWN + SB_ENV_MAX + ENV_OPERATOR + 1];
    size_t nenv;
    char text[JOB_TEXT];
} launch_t;

static launch_t launch;

static void tell(const launch_t *l, uint32_t kind, const char *step, int err)
{
    run_report_t report = {.magic = STAGE_MAGIC,
                           .kind = kind,
                           .executed =
                               (l->run->stage->form != NULL || l->run->ready >= 0) && !l->become,
                           .failed_errno = err};

    snprintf(report.failed_step, sizeof(report.failed_step), "%s", step);
    snprintf(report.text, sizeof(report.text), "%s", l->text);
    (void)sys_write_all(l->run->to_init, &report, sizeof(report)); /* pid 1 also sees our death */
}

/* ---- the environment ---- */

static size_t name_length(const char *variable)
{
    return strcspn(variable, "=") + 1;
}

/* Takes over a malloc'ed "name=value"; the last of a name wins. */
static int put_env(launch_t *l, char *variable)
{
    size_t len;

    if (variable == NULL)
        return -1;
    len = name_length(variable);
    for (size_t i = 0; i < l->nenv; i++) {
        if (strncmp(l->env[i], variable, len) == 0) {
            l->env[i] = variable;
            return 0;
        }
    }
    l->env[l->nenv++] = variable;
    return 0;
}

static char *join(const char *name, const char *value)
{
    char *variable;

    return asprintf(&variable, "%s=%s", name, value) < 0 ? NULL : variable;
}

/*
 * name=<len bytes of fd at offset>; left out, as the contract says, when too long for one
 * string of execve(2), and when a NUL would cut it.
 */
static int put_env_file(launch_t *l, const char *name, int fd, uint64_t offset, uint64_t len)
{
    size_t name_len = strlen(name), total = name_len + 1 + len;
    char *variable;
    int rc;

    if (total > SB_ENV_STRING_MAX)
        return 0;
    variable = malloc(total + 1);
    if (variable == NULL)
        return -1;
    memcpy(variable, name, name_len);
    variable[name_len] = '=';
    variable[total] = '\0';
    rc = sys_pread_all(fd, variable + name_len + 1, len, (off_t)offset);
    if (rc == 0 && strlen(variable) == total)
        return put_env(l, variable);
    free(variable);
    return rc;
}

static int put_instructions(launch_t *l)
{
    struct stat st;

    if (l->run->instructions < 0)
        return 0;
    if (fstat(l->run->instructions, &st) != 0)
        return -1;
    if (st.st_size == 0) /* there are none, or too many for one string */
        return 0;
    return put_env_file(l, "SKILL_INSTRUCTIONS", l->run->instructions, 0, (uint64_t)st.st_size);
}

static const stage_runtime_t *own_runtime(const launch_t *l)
{
    return &l->run->stage->config.runtimes[l->run->request->runtime];
}

/* path begins and ends with a colon. */
static void add_to_path(char *path, size_t size, const char *interpreter)
{
    const char *slash = strrchr(interpreter, '/');
    size_t len = strlen(path);
    char folder[STAGE_PATH_LEN + 3];

    if (slash == NULL)
        return;
    snprintf(folder, sizeof(folder), ":%.*s:", (int)(slash - interpreter), interpreter);
    if (strstr(path, folder) == NULL)
        snprintf(path + len, size - len, "%s", folder + 1);
}

/* Interpreters outside the usual folders are found as well. */
static int put_path(launch_t *l)
{
    char path[sizeof(":" SEARCH_PATH ":") + (STAGE_LANGS + 1) * (STAGE_PATH_LEN + 1)];

    snprintf(path, sizeof(path), ":" SEARCH_PATH ":");
    add_to_path(path, sizeof(path), own_runtime(l)->interpreter);
    for (size_t i = 0; i < STAGE_LANGS; i++)
        add_to_path(path, sizeof(path), l->run->stage->config.runtimes[i].interpreter);
    path[strlen(path) - 1] = '\0';
    return put_env(l, join("PATH", path + 1));
}

/* The operator's variables for this runtime: behind the caller's, so that they are fixed.  None is
 * one of ours: the configuration refuses those. */
static int put_runtime_env(launch_t *l)
{
    const char *end = own_runtime(l)->env + STAGE_ENV_BYTES;

    for (const char *v = own_runtime(l)->env; v < end && *v != '\0'; v += strlen(v) + 1)
        if (put_env(l, strdup(v)) != 0)
            return -1;
    return 0;
}

static int put_constants(launch_t *l)
{
    static const char *const constants[] = {"SANDBOX_OUTPUT=/sandbox/out/output.json",
                                            "SANDBOX_FILES_DIR=/sandbox/out/files",
                                            "SANDBOX_INPUT_DIR=/sandbox/input",
                                            "SKILL_DIR=/skill",
                                            "HOME=/tmp",
                                            "LANG=C.UTF-8",
                                            "TZ=UTC",
                                            "PYTHONDONTWRITEBYTECODE=1"};

    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
        if (put_env(l, strdup(constants[i])) != 0)
            return -1;
    /* modules of a package with many scripts import each other from its root */
    if (l->run->request->mode != STAGE_ENTRYPOINT && l->run->request->lang == STAGE_PYTHON)
        return put_env(l, strdup("PYTHONPATH=" PACKAGE));
    return 0;
}

static int make_env(launch_t *l)
{
    const stage_request_t *request = l->run->request;
    const char *name;
    json_t *value;

    if (put_constants(l) != 0 || put_path(l) != 0 || put_instructions(l) != 0 ||
        put_env_file(l, "SANDBOX_INPUT", FD_JOB, request->job_len, request->input_len) != 0)
        return -1;
    json_object_foreach(l->job.env, name, value)
    {
        if (put_env(l, join(name, json_string_value(value))) != 0)
            return -1;
    }
    return put_runtime_env(l);
}

char **launch_interpreter_env(const stage_t *stage, uint32_t runtime)
{
    static stage_request_t request;
    static run_t run;

    request.runtime = runtime;
    request.mode = STAGE_ENTRYPOINT;
    run = (run_t){.stage = stage, .request = &request};
    launch.run = &run;
    if (put_constants(&launch) != 0 || put_path(&launch) != 0 || put_runtime_env(&launch) != 0)
        return NULL;
    return launch.env;
}

/* ---- the command line ---- */

static int make_argv(launch_t *l)
{
    const stage_request_t *request = l->run->request;
    size_t n = 0;
    char *path;

    if (own_runtime(l)->interpreter[0] == '\0') {
        errno = ENOENT;
        return -1;
    }
    l->argv[n++] = (char *)own_runtime(l)->interpreter;
    if (request->mode == STAGE_MODULE) {
        l->argv[n++] = (char *)"-m";
        l->argv[n++] = (char *)request->target;
    } else {
        if (asprintf(&path, PACKAGE "/%s", request->target) < 0)
            return -1;
        l->argv[n++] = path;
    }
    for (size_t i = 0; i < json_array_size(l->job.args); i++)
        l->argv[n++] = (char *)json_string_value(json_array_get(l->job.args, i));
    l->argv[n] = NULL;
    return 0;
}

/* A script that is not there is a wrong request, not a script that failed. */
static int check_target(const launch_t *l)
{
    const stage_request_t *request = l->run->request;
    size_t len = strnlen(request->target, sizeof(request->target));
    bool module = request->mode == STAGE_MODULE;

    if (module ? !sb_module_valid(request->target, len) : !sb_path_valid(request->target, len)) {
        errno = EINVAL;
        return -1;
    }
    return module ? 0 : access(l->argv[1], R_OK);
}

/* ---- folders ---- */

/* Agent Skills commands are relative to the package's root: each entry, unless the caller has one.
 */
static int link_package(int work)
{
    const struct timespec mtime = {STAGE_WORK_MTIME_SEC, STAGE_WORK_MTIME_NSEC};
    const struct timespec times[2] = {mtime, mtime};
    DIR *dir = opendir(PACKAGE);
    int rc = dir == NULL ? -1 : 0;

    for (int i = 0; rc == 0 && i < SB_PACKAGE_ENTRIES_MAX + 2; i++) { /* with . and .. */
        const struct dirent *entry = readdir(dir);
        char path[sizeof(PACKAGE) + 1 + sizeof(entry->d_name)];

        if (entry == NULL)
            break;
        snprintf(path, sizeof(path), PACKAGE "/%s", entry->d_name);
        if (symlinkat(path, work, entry->d_name) == 0)
            rc = utimensat(work, entry->d_name, times, AT_SYMLINK_NOFOLLOW);
        else if (errno != EEXIST) /* the caller's; and . and .. */
            rc = -1;
    }
    if (dir != NULL)
        closedir(dir);
    return rc;
}

/* The caller's files, then those of input_files. */
static int write_files(launch_t *l, int folder)
{
    const stage_request_t *request = l->run->request;

    if (job_write_files(&l->job, folder, l->text) != 0)
        return -1;
    return job_write_inputs(&l->job, folder, FD_JOB, request->job_len + request->input_len,
                            l->text);
}

static int fill_work(launch_t *l)
{
    int work = open("/sandbox/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (work < 0 || write_files(l, work) != 0 || link_package(work) != 0)
        return -1;
    close(work);
    return chdir("/sandbox/work");
}

static int fill_input(launch_t *l)
{
    int input;

    if (json_object_size(l->job.files) > 0 || json_array_size(l->job.inputs) > 0) {
        input = openat(l->run->input_view, "input", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (input < 0 || write_files(l, input) != 0)
            return -1;
        close(input);
    }
    return chdir("/sandbox");
}

/* ---- descriptors ---- */

/* The request's own stdin as a file without a name, else the input. */
static int open_stdin(const launch_t *l)
{
    const json_t *text = l->job.stdin_text;
    int fd;

    if (text == NULL)
        return open("/sandbox/input.json", O_RDONLY | O_CLOEXEC);
    fd = open("/tmp", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return -1;
    if (sys_write_all(fd, json_string_value(text), json_string_length(text)) != 0 ||
        lseek(fd, 0, SEEK_SET) != 0)
        return -1;
    return fd;
}

static int set_stdio(const launch_t *l)
{
    int in = open_stdin(l);

    if (in < 0)
        return -1;
    if (dup2(in, 0) < 0 || dup2(FD_STDOUT, 1) < 0 || dup2(FD_STDERR, 2) < 0)
        return -1;
    /* all are so already; whatever else was opened on the way goes with them */
    return sys_close_range(FD_AFTER_STDIO, ~0u, CLOSE_RANGE_CLOEXEC);
}

/* ---- the order ---- */

static int step_session(void *ctx)
{
    return setsid() < 0 ? -1 : 0;
}

/* Over its file size limit the launch must fail with a reason; the script gets the default back. */
static int step_signals(void *ctx)
{
    return signal(SIGXFSZ, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static int step_job(void *ctx)
{
    launch_t *l = ctx;

    return job_load(FD_JOB, l->run->request->job_len, &l->job, l->text);
}

static int step_argv(void *ctx)
{
    return make_argv(ctx);
}

static int step_target(void *ctx)
{
    return check_target(ctx);
}

static int step_env(void *ctx)
{
    return make_env(ctx);
}

static int step_files(void *ctx)
{
    launch_t *l = ctx;

    umask(022);
    return l->run->request->mode == STAGE_ENTRYPOINT ? fill_input(l) : fill_work(l);
}

static int step_stdio(void *ctx)
{
    return set_stdio(ctx);
}

static int step_memory(void *ctx)
{
    return rlimits_before_exec(((launch_t *)ctx)->run->request);
}

/* clang-format off: one step a line */
static const step_t steps[] = {
    {"session", step_session},  {"signals", step_signals}, {"job", step_job},
    {"interpreter", step_argv}, {"target", step_target},   {"environment", step_env},
    {"files", step_files},      {"stdio", step_stdio},     {"memory limit", step_memory},
};
/* clang-format on */

/* The form's word that the script runs: the socket says the rest by its end, as at execve(2). */
static void started(void)
{
    (void)signal(SIGXFSZ, SIG_IGN); /* as the interpreter has it */
    launch.become = true;
    tell(&launch, LAUNCH_START, "", 0);
    SB_FAULT_POINT("script to be executed");
    (void)sys_close_range(FD_AFTER_STDIO, ~0u, 0);
}

/* ---- an interpreter that waits ---- */

/* Its stdin is the input: another text needs another file. */
static bool suits(const launch_t *l)
{
    const char *name;
    const json_t *value;

    if (l->job.stdin_text != NULL)
        return false;
    json_object_foreach(l->job.env, name, value)
    {
        if (ready_too_late_for(name))
            return false;
    }
    return ready_waits(l->run);
}

static void hand_over(launch_t *l)
{
    l->become = true;
    tell(l, LAUNCH_START, "", 0);
    SB_FAULT_POINT("run to be handed over");
    ready_become(l->run, l->argv, l->env);
}

void launch_script(const run_t *run)
{
    const launch_limits_t limits = {.memory_bytes = run->request->memory_bytes,
                                    .ready_pid = run->ready >= 0 ? run->ready_pid : 0,
                                    .keeper_pid = run->keeper};
    launch_t *l = &launch;
    const char *step = "init";

    l->run = run;
    if (sys_write_all(run->to_init, &limits, sizeof(limits)) == 0)
        step = steps_run(steps, sizeof(steps) / sizeof(steps[0]), l);
    if (step == NULL) {
        if (run->ready >= 0 && suits(l))
            hand_over(l);
        if (run->stage->form != NULL)
            run->stage->form->become(l->argv, l->env, run->request->mode, started);
        (void)signal(SIGXFSZ, SIG_DFL);
        tell(l, LAUNCH_START, "", 0);
        SB_FAULT_POINT("script to be executed");
        execve(l->argv[0], l->argv, l->env);
        step = "exec";
    }
    tell(l, RUN_SETUP_FAILED, step, errno);
    _exit(EXIT_SETUP);
}
