/*
 * trial.c - see trial.h.  Runs in the main process of `sandbox-helper --check`.
 */
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

#define DIGEST   "0000000000000000000000000000000000000000000000000000000000000000"
#define TRIAL_MS 15000

static const struct {
    const char *path, *text;
} scripts[STAGE_LANGS] = {
    {"main.py", "import sys\nprint('Python ' + sys.version.split()[0])\n"},
    {"main.js", "console.log('Node.js ' + process.version)\n"},
    {"main.sh", "echo \"Bash $BASH_VERSION\"\n"},
};

static const char *const folders[] = {DIGEST, DIGEST "/tree"};

int trial_prepare(const char *packages)
{
    int dir = open(packages, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = dir < 0 ? -1 : 0;

    for (size_t i = 0; rc == 0 && i < 2; i++)
        rc = mkdirat(dir, folders[i], 0755);
    for (size_t i = 0; rc == 0 && i < STAGE_LANGS; i++) {
        char path[128];
        int fd;

        snprintf(path, sizeof path, "%s/%s", folders[1], scripts[i].path);
        fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        rc = fd < 0 ? -1 : sys_write_all(fd, scripts[i].text, strlen(scripts[i].text));
        if (fd >= 0)
            close(fd);
    }
    if (dir >= 0)
        close(dir);
    return rc;
}

void trial_remove(const char *packages)
{
    int dir = open(packages, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char path[128];

    for (size_t i = 0; i < STAGE_LANGS; i++) {
        snprintf(path, sizeof path, "%s/%s", folders[1], scripts[i].path);
        unlinkat(dir, path, 0);
    }
    unlinkat(dir, folders[1], AT_REMOVEDIR);
    unlinkat(dir, folders[0], AT_REMOVEDIR);
    if (dir >= 0)
        close(dir);
}

static void finish(trial_t *t)
{
    loop_timer_clear(&t->h->loop, &t->timer);
    stage_child_release(&t->child);
    if (t->out >= 0)
        close(t->out);
    t->out = -1;
    t->done(t->ctx);
}

static void on_failed(void *ctx, const char *step, int errnum)
{
    trial_t *t = ctx;

    snprintf(t->text, sizeof t->text, "%.100s%s%s", step, errnum != 0 ? ": " : "",
             errnum != 0 ? strerror(errnum) : "");
    finish(t);
}

/* The first line, made of what a version is made of. */
static void take_version(trial_t *t)
{
    ssize_t n = read(t->out, t->text, sizeof t->text - 1);

    t->text[n > 0 ? n : 0] = '\0';
    t->text[strcspn(t->text, "\n")] = '\0';
    for (char *p = t->text; *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
    }
    t->works = t->text[0] != '\0';
    if (!t->works)
        snprintf(t->text, sizeof t->text, "it prints nothing");
}

static void on_exited(void *ctx, const stage_event_t *event)
{
    trial_t *t = ctx;

    (void)event;
    if (t->text[0] == '\0')
        snprintf(t->text, sizeof t->text, "it does not run");
    finish(t);
}

static void on_message(void *ctx, const void *data, size_t len, int *fds, int nfds)
{
    trial_t *t = ctx;
    run_report_t report;

    (void)fds;
    (void)nfds;
    if (len != sizeof report)
        return;
    memcpy(&report, data, sizeof report);
    report.failed_step[sizeof report.failed_step - 1] = '\0';
    if (report.kind == RUN_SETUP_FAILED)
        snprintf(t->text, sizeof t->text, "%.60s: %s", report.failed_step,
                 strerror(report.failed_errno));
    else if (report.kind == RUN_EXITED && report.wstatus == 0)
        take_version(t);
    else if (report.kind == RUN_EXITED)
        snprintf(t->text, sizeof t->text, "it ends with wait status 0x%x",
                 (unsigned)report.wstatus);
}

static void on_timer(void *ctx)
{
    trial_t *t = ctx;

    if (t->text[0] == '\0')
        snprintf(t->text, sizeof t->text, "it did not end in time");
    finish(t);
}

static const stage_child_ops_t child_ops = {
    .failed = on_failed, .exited = on_exited, .message = on_message};

static sb_code_t start(trial_t *t, int job, int out, sb_err_t *err)
{
    const config_runtime_t *rt = &t->h->config.runtimes[t->runtime];
    stage_request_t ahead = {.kind = STAGE_RUN};
    stage_request_t run = {
        .magic = STAGE_MAGIC,
        .kind = STAGE_RUN,
        .lang = rt->lang,
        .runtime = (uint32_t)t->runtime,
        .mode = STAGE_ENTRYPOINT,
        .cpu_seconds = TRIAL_MS / 1000,
        .memory_bytes = (uint64_t)rt->limits.memory_default,
        .file_bytes = SB_MIB,
        .digest = DIGEST,
    };
    const int fds[RUN_FDS] = {job, out, out};
    sb_code_t rc = stagelink_request(&t->h->roots.root[t->h->roots.of[t->runtime]].stage, &t->child,
                                     &child_ops, t, &ahead, NULL, 0, err);

    if (rc != SB_OK)
        return rc;
    snprintf(run.target, sizeof run.target, "%s", scripts[rt->lang].path);
    if (stage_child_send(&t->child, &run, sizeof run, fds, RUN_FDS) != 0)
        return sb_err_errno(err, errno, "the sandbox takes no run");
    return SB_OK;
}

void trial_start(trial_t *t, helper_t *h, size_t runtime, void (*done)(void *ctx), void *ctx)
{
    int job = memfd_create("job", MFD_CLOEXEC), pair[2] = {-1, -1};
    sb_err_t err = {0};

    *t = (trial_t){.h = h, .runtime = runtime, .done = done, .ctx = ctx, .out = -1};
    t->timer = (loop_timer_t){.fn = on_timer, .ctx = t};
    if (job < 0 || pipe2(pair, O_CLOEXEC) != 0)
        sb_err_errno(&err, errno, "descriptors");
    else if (fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0)
        start(t, job, pair[1], &err);
    t->out = pair[0];
    if (job >= 0)
        close(job);
    if (pair[1] >= 0)
        close(pair[1]);
    /* done() is not called from here: a timer that is due is the loop's */
    if (err.code != SB_OK)
        snprintf(t->text, sizeof t->text, "%.150s", err.message);
    loop_timer_set(&h->loop, &t->timer, err.code != SB_OK ? 0 : TRIAL_MS);
}
