/*
 * result.c - see result.h.  Pure memory; runs in the confined collect child, and in main for runs
 * that left nothing to read.
 */
#include <stdio.h>
#include <string.h>

#include "../libskillbox/units.h"
#include "result.h"

#define ERROR_MAX 256

static void signal_name(int sig, char *out, size_t size)
{
    const char *name = sigabbrev_np(sig);

    if (name != NULL) {
        snprintf(out, size, "killed by signal SIG%s", name);
    } else {
        snprintf(out, size, "killed by signal %d", sig);
    }
}

static void timeout_text(uint64_t ms, char *out, size_t size)
{
    if (ms % 1000 == 0) {
        snprintf(out, size, "timeout: the limit of %llu s was reached",
                 (unsigned long long)(ms / 1000));
    } else {
        snprintf(out, size, "timeout: the limit of %llu ms was reached", (unsigned long long)ms);
    }
}

/* What main saw of the end; the status, error "" when all was well. */
static const char *end_status(const collect_task_t *task, char error[ERROR_MAX])
{
    char limit[32];

    error[0] = '\0';
    if (task->cancelled) {
        snprintf(error, ERROR_MAX, "cancelled");
        return "cancelled";
    }
    if (task->timed_out) {
        timeout_text(task->timeout_ms, error, ERROR_MAX);
        return "timeout";
    }
    if (task->oom) {
        sb_bytes_format((int64_t)task->memory_limit, limit);
        snprintf(error, ERROR_MAX, "memory limit of %s exceeded", limit);
        return "failed";
    }
    if (task->cpu_seconds != 0) {
        snprintf(error, ERROR_MAX, "CPU time limit of %u s exceeded", task->cpu_seconds);
        return "failed";
    }
    if (task->signal != 0) {
        signal_name(task->signal, error, ERROR_MAX);
        return "failed";
    }
    if (task->exit_code < 0) {
        snprintf(error, ERROR_MAX, "ended without an exit status");
        return "failed";
    }
    if (task->exit_code > 0) {
        snprintf(error, ERROR_MAX, "exited with code %d", task->exit_code);
        return "failed";
    }
    return "success";
}

/* A fault of the results: the error of a run that ended well, else one more warning. */
static void add_fault(const char *fault, char error[ERROR_MAX], bool *failed, warnings_t *w)
{
    if (fault[0] == '\0') {
        return;
    }
    if (error[0] != '\0') {
        warnings_add(w, "%s", fault);
        return;
    }
    snprintf(error, ERROR_MAX, "%s", fault);
    *failed = true;
}

/* What the run's control group has seen; a fork that failed is not always the script's end. */
static void add_limits(const collect_task_t *task, warnings_t *w)
{
    if (task->host_oom != 0)
        warnings_add(w, "the host ran out of memory: a process of the run was killed below its "
                        "limit");
    if (task->pids_hit > 0)
        warnings_add(w, "the limit of %u processes was reached", (unsigned)task->pids_limit);
}

static void add_list(sb_buf_t *b, const char *key, const sb_buf_t *elements)
{
    sb_json_key(b, key);
    sb_buf_char(b, '[');
    sb_buf_add(b, elements->data, elements->len);
    sb_buf_char(b, ']');
}

static void add_usage(sb_buf_t *b, const collect_task_t *task)
{
    sb_json_key(b, "usage");
    sb_buf_char(b, '{');
    sb_json_key_int(b, "cpu_ms", (int64_t)task->cpu_ms);
    sb_json_key_int(b, "max_rss_bytes", (int64_t)task->max_rss);
    sb_json_key_int(b, "wall_ms", (int64_t)task->wall_ms);
    sb_buf_char(b, '}');
}

static void add_error(sb_buf_t *b, const char *error)
{
    sb_json_key(b, "error");
    if (error[0] != '\0') {
        sb_json_cstr(b, error);
    } else {
        sb_buf_str(b, "null");
    }
}

void result_render(const collect_task_t *task, const output_t *output, const artifacts_t *artifacts,
                   warnings_t *w, sb_buf_t *b, bool *failed)
{
    char error[ERROR_MAX];
    const char *status = end_status(task, error);

    *failed = false;
    add_fault(output->error, error, failed, w);
    add_fault(artifacts->error, error, failed, w);
    add_limits(task, w);

    sb_buf_char(b, '{');
    sb_json_key_str(b, "status", *failed ? "failed" : status);
    if (output->state == OUTPUT_JSON) {
        sb_json_key(b, "output");
        sb_buf_add(b, output->json.data, output->json.len);
    }
    if (artifacts->files > 0) {
        add_list(b, "files_list", &artifacts->list);
        add_list(b, "files_sizes", &artifacts->sizes);
    }
    sb_json_key_int(b, "duration_ms", task->wall_ms > 0 ? (int64_t)task->wall_ms : 1);
    add_error(b, error);
    if (task->exit_code >= 0) {
        sb_json_key_int(b, "exit_code", task->exit_code);
    }
    add_usage(b, task);
    warnings_to_json(w, b);
    sb_json_key_str(b, "skill_name", task->skill);
    sb_json_key_str(b, "skill_version", task->version);
    sb_buf_char(b, '}');
}
