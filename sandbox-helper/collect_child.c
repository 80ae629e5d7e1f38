/*
 * collect_child.c - see collect_child.h.  Runs as pid 1 of its own pid namespace in
 * the packer's empty root.  Waits, confined but for Landlock, on its status socket: a
 * warm child costs a run nothing.  With the task come the folders; from then on it can
 * only read below them, write the answer and the archive, and talk to main.
 */
#include "collect_child.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "artifacts.h"
#include "confine.h"
#include "fault.h"
#include "landlock.h"
#include "output.h"
#include "result.h"
#include "sys.h"
#include "warnings.h"

#define TASK_FDS_MAX 5

typedef struct {
    int status;
    int out, work, tail, answer, archive; /* work, tail, archive: -1 when there is none */
    collect_task_t task;
    packer_report_t report;
} collect_t;

static int send_report(collect_t *c)
{
    c->report.magic = STAGE_MAGIC;
    return sys_send_fds(c->status, &c->report, sizeof(c->report), NULL, 0);
}

static void __attribute__((noreturn)) broken(collect_t *c, const char *what, int err)
{
    c->report = (packer_report_t){.http_status = 500};
    snprintf(c->report.text, sizeof(c->report.text), "%s: %s", what, strerror(err));
    (void)send_report(c);
    _exit(1);
}

static void confine(collect_t *c, const int *given, int ngiven)
{
    const char *step;

    if (ngiven != 1) {
        _exit(125); /* main and packer do not speak the same words */
    }
    c->status = given[0];
    if (confine_child(PACKER_COLLECT, &c->status, 1, &step) != 0) {
        broken(c, step, errno);
    }
    if (confine_syscalls(PACKER_COLLECT) != 0) {
        broken(c, "seccomp", errno);
    }
}

/* Gives the descriptors their names; false when their number is not the task's. */
static bool name_descriptors(collect_t *c, const int *fds, int nfds)
{
    int next = 0;

    if (nfds !=
        2 + (c->task.have_work != 0) + (c->task.have_stdout != 0) + (c->task.have_archive != 0)) {
        return false;
    }
    c->out = fds[next++];
    c->work = c->task.have_work ? fds[next++] : -1;
    c->tail = c->task.have_stdout ? fds[next++] : -1;
    c->answer = fds[next++];
    c->archive = c->task.have_archive ? fds[next++] : -1;
    return true;
}

static void await_task(collect_t *c)
{
    int fds[TASK_FDS_MAX], nfds;
    ssize_t n = sys_recv_fds(c->status, &c->task, sizeof(c->task), fds, TASK_FDS_MAX, &nfds);

    if (n == 0) {
        _exit(0); /* main does not need this child any more */
    }
    if (n < 0) {
        broken(c, "task", errno);
    }
    if (n != (ssize_t)sizeof(c->task) || c->task.magic != STAGE_MAGIC ||
        !name_descriptors(c, fds, nfds)) {
        broken(c, "task", EPROTO);
    }
    if (c->task.artifact_bytes > SB_ARTIFACT_BYTES_MAX) {
        c->task.artifact_bytes = SB_ARTIFACT_BYTES_MAX;
    }
    c->task.skill[sizeof(c->task.skill) - 1] = '\0';
    c->task.version[sizeof(c->task.version) - 1] = '\0';
}

static void confine_folders(collect_t *c)
{
    const int dirs[] = {c->out, c->work};

    if (confine_paths(dirs, c->work >= 0 ? 2 : 1, LL_READ) != 0) {
        broken(c, "landlock", errno);
    }
}

static void collect(collect_t *c)
{
    static output_t output;
    static artifacts_t artifacts;
    static warnings_t warnings;
    sb_buf_t answer = SB_BUF_INIT(SB_RESULT_MAX);
    bool failed;

    warnings_init(&warnings);
    output_read(c->out, c->tail, &output);
    artifacts_pack(c->out, c->work, c->archive, (int64_t)c->task.artifact_bytes, &artifacts,
                   &warnings);
    result_render(&c->task, &output, &artifacts, &warnings, &answer, &failed);
    if (!sb_buf_ok(&answer)) {
        broken(c, "result", ENOMEM);
    }
    if (sys_write_all(c->answer, answer.data, answer.len) != 0) {
        broken(c, "answer file", errno);
    }
    c->report.http_status = 200;
    c->report.files = artifacts.files;
    c->report.failed = failed;
    c->report.answer_len = answer.len;
    snprintf(c->report.text, sizeof(c->report.text), "%s", artifacts.error);
}

/* main has renamed the archive: its new name must be on the disk before the gateway hears of it. */
static void sync_folder(collect_t *c)
{
    char word;
    int folder, nfds;
    ssize_t n = sys_recv_fds(c->status, &word, 1, &folder, 1, &nfds);

    if (n == 0) {
        return; /* main dropped the archive */
    }
    if (n != 1 || word != 's' || nfds != 1 || fsync(folder) != 0) {
        _exit(1);
    }
    SB_FAULT_POINT("folder synced");
    word = 'd';
    if (sys_send_fds(c->status, &word, 1, NULL, 0) != 0) {
        _exit(1);
    }
}

void collect_child(const int *fds, int nfds)
{
    static collect_t c; /* static: zero, and off the stack */

    confine(&c, fds, nfds);
    await_task(&c);
    SB_FAULT_POINT("task taken");
    confine_folders(&c);
    collect(&c);
    SB_FAULT_POINT("result packed");
    if (send_report(&c) != 0) {
        _exit(1);
    }
    if (c.report.files > 0) {
        sync_folder(&c);
    }
    _exit(0);
}
