/*
 * main.c - sandbox-helper: arguments, start, stop.
 *
 * The order of start is the order of trust: configuration, then what only root
 * can do (control groups, folders, the socket), then the ordinary user for good,
 * then the folders are opened and swept, then the two programs are started, and
 * only when both have said that they can confine a run is anybody listened to.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/buf.h"
#include "check.h"
#include "helper.h"
#include "identity.h"
#include "intake.h"
#include "job.h"
#include "log.h"
#include "remedy.h"
#include "service.h"

/* Exit codes; docs/helper.md */
enum { EXIT_STOPPED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define LAST_ANSWERS_MS 10000 /* after the runs were killed at a stop */
#define REFILL_MS       5     /* from a run's end to the making of its successor */
#define REFILL_MAX_MS   20    /* runs that last, or follow each other, put it off no longer */

static helper_t helper;
static loop_source_t signals;
static loop_timer_t stop_timer;
static bool killed;
static int exit_code = EXIT_STOPPED;

static void usage(FILE *out)
{
    fputs("usage: sandbox-helper -c helper.yaml [--check]\n"
          "       sandbox-helper --print-policy\n"
          "\n"
          "Runs skills in sandboxes for the Skillbox gateway, in the foreground; logs to stderr.\n"
          "\n"
          "  -c, --config FILE  configuration\n"
          "      --check        print what this host offers and what is missing, and exit:\n"
          "                     0 all is there, 1 it works with less, 2 it can't work\n"
          "      --json         with --check: print one JSON object instead\n"
          "      --print-policy print the system calls a run may make, with this machine's\n"
          "                     numbers and the reasons, and exit\n"
          "      --version      print the version\n"
          "      --help         print this\n",
          out);
}

/* ---- stop ---- */

static void stop_all(helper_t *h)
{
    for (job_t *job = h->jobs, *next; job != NULL; job = next) {
        next = job_next(job);
        job_stop(job);
    }
    for (intake_t *in = h->uploads, *next; in != NULL; in = next) {
        next = intake_next(in);
        intake_stop(in);
    }
}

static void refuse_waiting(helper_t *h)
{
    for (job_t *job = h->jobs, *next; job != NULL; job = next) {
        next = job_next(job);
        job_refuse_waiting(job, "The sandbox helper is stopping.");
    }
    for (intake_t *in = h->uploads, *next; in != NULL; in = next) {
        next = intake_next(in);
        intake_refuse_waiting(in, "The sandbox helper is stopping.");
    }
}

static void on_stop_timer(void *ctx)
{
    helper_t *h = ctx;

    if (killed) { /* nobody takes the last answers */
        loop_stop(&h->loop);
        return;
    }
    killed = true;
    stop_all(h);
    loop_timer_set(&h->loop, &stop_timer, LAST_ANSWERS_MS);
}

static void on_signal(void *ctx, uint32_t events)
{
    helper_t *h = ctx;
    struct signalfd_siginfo info;

    (void)events;
    if (read(signals.fd, &info, sizeof info) != sizeof info)
        return;
    if (log_begin(LOG_INFO, h->stopping ? "stopping at once" : "stopping")) {
        log_str("signal", strsignal((int)info.ssi_signo));
        log_int("running", (int64_t)h->runs.running);
        log_end();
    }
    if (!h->ready) {
        loop_stop(&h->loop);
        return;
    }
    if (h->stopping) { /* the second one: no more patience */
        on_stop_timer(h);
        return;
    }
    h->stopping = true;
    service_stopping();
    stop_timer = (loop_timer_t){.fn = on_stop_timer, .ctx = h};
    loop_timer_set(&h->loop, &stop_timer, h->config.stop_timeout_ms);
    server_stop(&h->server, &h->config);
    refuse_waiting(h);
    helper_dispatch(h);
}

/* ---- work ---- */

static bool all_done(const helper_t *h)
{
    return h->jobs == NULL && h->uploads == NULL && h->leftovers.count == 0 && h->graves == 0 &&
           h->server.nconnections == 0;
}

static void refill(void *ctx)
{
    helper_t *h = ctx;

    loop_timer_clear(&h->loop, &h->refill);
    h->refill_due_us = 0;
    collectors_refill(&h->collectors);
    for (size_t i = 0; i < h->roots.count; i++)
        warm_refill(&h->roots.root[i].sandboxes);
    zygotes_refill(&h->zygotes);
    prestarts_tend(&h->prestarts, h->runs.waiting > 0 || h->runs.running >= h->runs.max_running);
}

/*
 * Runs that follow each other faster than is made ahead: the next one's sandbox is made while this
 * one runs, not after it.
 */
static void refill_one(helper_t *h)
{
    for (size_t i = 0; i < h->roots.count; i++)
        if (warm_dry(&h->roots.root[i].sandboxes))
            warm_add(&h->roots.root[i].sandboxes);
}

/* The next run would have to wait for what is made now. */
static bool ran_dry(const helper_t *h)
{
    for (size_t i = 0; i < h->roots.count; i++)
        if (warm_dry(&h->roots.root[i].sandboxes))
            return true;
    return zygotes_dry(&h->zygotes);
}

/*
 * A run has the processors while it lasts, and the gateway right after it, to commit its record.
 * What is made ahead for others waits for that.
 */
static void put_off_refill(helper_t *h)
{
    const int64_t now = loop_now_us();
    int64_t left_ms;

    if (h->refill_due_us == 0)
        h->refill_due_us = now + REFILL_MAX_MS * 1000;
    left_ms = (h->refill_due_us - now + 999) / 1000;
    if (left_ms > REFILL_MS && h->runs.running == 0)
        left_ms = REFILL_MS;
    if (left_ms <= 0)
        refill(h);
    else
        loop_timer_set(&h->loop, &h->refill, left_ms);
}

static void on_dispatch(void *ctx)
{
    helper_t *h = ctx;
    bool started = false;
    void *owner;

    if (h->stopping) {
        if (all_done(h))
            loop_stop(&h->loop);
        return;
    }
    if (h->packer.state != LINK_READY)
        return;
    /* what is being taken down holds memory and processes, too */
    while (h->graves < (size_t)h->config.concurrency &&
           (owner = queue_next(&h->runs, job_can_start)) != NULL) {
        job_start(owner);
        started = true;
    }
    while (h->packer.state == LINK_READY && (owner = queue_next(&h->intakes, NULL)) != NULL)
        intake_start(owner);
    zygotes_tend(&h->zygotes);
    if (started) {
        collectors_refill(&h->collectors); /* its end needs one */
        refill_one(h);
        put_off_refill(h);
    } else if (ran_dry(h)) {
        refill(h);
    } else {
        put_off_refill(h);
    }
}

/* Those in the root of that stage; NULL: all that packages may name. */
static void log_missing_runtimes(const helper_t *h, const stagelink_t *stage)
{
    for (size_t i = stage == NULL ? STAGE_LANGS : 0; i < h->config.nruntimes; i++) {
        const char *missing = helper_runtime_missing(h, i);

        if (missing == NULL || (stage != NULL && stage != &h->roots.root[h->roots.of[i]].stage) ||
            !log_begin(LOG_WARN, "a runtime is not offered"))
            continue;
        log_str("runtime", h->config.runtimes[i].name);
        log_str("lang", config_lang_name(h->config.runtimes[i].lang));
        log_str("reason", missing);
        log_end();
    }
}

/* Every program has said whether it can work; the host's root and the packer can. */
static bool settled(const helper_t *h)
{
    for (size_t i = 0; i < h->roots.count; i++) {
        if (h->roots.root[i].stage.state == LINK_STARTING)
            return false;
    }
    return h->roots.root[ROOT_HOST].stage.state == LINK_READY && h->packer.state == LINK_READY;
}

static void first_ready(helper_t *h)
{
    char tier[64];
    sb_err_t err = {0};

    h->ready = true;
    if (server_listen(&h->server, h, &err) != SB_OK) {
        log_event(LOG_ERROR, "cannot listen", "error", err.message);
        exit_code = EXIT_FAILED;
        loop_stop(&h->loop);
        return;
    }
    helper_tier(h, tier, sizeof tier);
    if (h->cgroups.version == 0 && !h->config.allow_no_cgroup)
        log_event(LOG_WARN, "runs are limited by rlimits alone: no control groups", "reason",
                  h->cgroups.why);
    if (log_begin(LOG_INFO, "ready")) {
        log_str("version", SB_VERSION);
        log_str("tier", tier);
        log_str("listen", h->config.listen);
        log_int("uid", geteuid());
        log_int("concurrency", h->config.concurrency);
        log_end();
    }
    log_missing_runtimes(h, NULL);
    service_ready(&h->loop, tier);
}

static void on_link(void *ctx, stagelink_t *link)
{
    helper_t *h = ctx;

    if (link->state == LINK_READY && h->ready && log_begin(LOG_INFO, "a helper program is back")) {
        log_str("program", link->name);
        log_end();
    }
    if (link->given_up && h->ready)
        log_missing_runtimes(h, link);
    if (link->state == LINK_DOWN && !h->ready && !link->one_try) {
        if (log_begin(LOG_ERROR, "runs cannot be confined on this host")) {
            log_str("program", link->name);
            log_str("reason", link->down_reason);
            log_str("remedy", remedy_for(link->hello.failed_step, link->hello.failed_errno));
            log_end();
        }
        exit_code = EXIT_FAILED;
        loop_stop(&h->loop);
        return;
    }
    if (!h->ready && settled(h))
        first_ready(h);
    helper_dispatch(h);
}

/* A zygote, or an interpreter that was started ahead. */
static void on_started(void *ctx)
{
    helper_dispatch(ctx);
}

/* ---- start ---- */

static sb_code_t watch_signals(helper_t *h, sb_err_t *err)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* there is nothing to reload */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return sb_err_errno(err, errno, "sigprocmask");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    signals = (loop_source_t){.fd = -1, .fn = on_signal, .ctx = h};
    if (fd < 0 || loop_add(&h->loop, &signals, fd, EPOLLIN) != 0)
        return sb_err_errno(err, errno, "signalfd");
    return SB_OK;
}

/* A run holds about a dozen descriptors, a connection one or two; and the kernel counts
 * descriptors under way to the stage against the same limit. */
static void raise_nofile(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* What only root can do, then no root any more. */
static sb_code_t become_user(helper_t *h, bool check, sb_err_t *err)
{
    bool root = geteuid() == 0;
    sb_code_t rc = SB_OK;

    if (!check && !service_open() && errno != 0)
        log_event(LOG_WARN, "the service manager can't be told that we are ready", "error",
                  strerror(errno));
    cgroups_open(&h->cgroups, &h->config, check);
    if (root && !check)
        rc = state_prepare(&h->config, err);
    if (rc == SB_OK && !check)
        rc = server_bind(&h->server, &h->config, err);
    if (rc != SB_OK || !root)
        return rc;
    rc = identity_drop(&h->config, err);
    if (rc == SB_OK && !check && log_begin(LOG_INFO, "started as root, now an ordinary user")) {
        log_str("user", h->config.user);
        log_int("uid", geteuid());
        log_int("gid", getegid());
        log_end();
    }
    return rc;
}

static void on_leftover_gone(void *ctx)
{
    helper_ended(ctx);
}

/* Results of an earlier life are on their way before the programs are there. */
static void deliver_open(helper_t *h)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, h->config.completion, sizeof address.sun_path);
    deliver_init(&h->deliver, &h->loop, &h->spool, &address);
    job_restore(h);
    package_cache_start(&h->packages, &h->state, &h->loop, h->config.package_idle_ms,
                        job_needs_package, h);
}

static sb_code_t prepare(helper_t *h, sb_err_t *err)
{
    char packages[PATH_MAX + 16], real[PATH_MAX];

    sb_code_t rc = state_open(&h->state, &h->config, &h->loop, err);
    if (rc == SB_OK)
        rc = spool_open(&h->spool, h->state.dir_fd, &h->loop, err);
    if (rc != SB_OK)
        return rc;
    if (realpath(h->config.state_dir, real) == NULL)
        return sb_err_errno(err, errno, "%s", h->config.state_dir);
    snprintf(packages, sizeof packages, "%s/packages", real);
    if (strlen(packages) >= STAGE_PATH_LEN)
        return sb_err_set(err, SB_EINVAL, "state_dir: %s is too long", real);
    queue_init(&h->runs, (size_t)h->config.queue, (size_t)h->config.async_queue,
               (size_t)h->config.concurrency);
    queue_init(&h->intakes, (size_t)h->config.queue, 0, (size_t)h->config.concurrency);
    h->dispatch = (loop_task_t){.fn = on_dispatch, .ctx = h};
    h->refill = (loop_timer_t){.fn = refill, .ctx = h};
    helper_find_runtimes(h, packages);
    rc = helper_init_programs(h, on_link, h, err);
    collectors_init(&h->collectors, &h->loop, &h->packer);
    h->leftovers =
        (leftovers_t){.loop = &h->loop, .cgroups = &h->cgroups, .gone = on_leftover_gone, .ctx = h};
    for (size_t i = 0; i < h->roots.count; i++)
        warm_init(&h->roots.root[i].sandboxes, &h->roots.root[i].stage, &h->cgroups, &h->leftovers,
                  h->roots.root[i].warm);
    zygotes_init(&h->zygotes, &h->config, &h->roots, h->runtimes, &h->loop, &h->cgroups,
                 &h->leftovers, on_started, h);
    prestarts_init(&h->prestarts, &h->config, &h->roots, h->runtimes, &h->loop, &h->cgroups,
                   &h->leftovers, on_started, h);
    if (rc == SB_OK)
        deliver_open(h);
    return rc;
}

static void finish(helper_t *h)
{
    h->stopping = true;
    server_stop(&h->server, &h->config);
    zygotes_close(&h->zygotes);
    prestarts_close(&h->prestarts);
    for (size_t i = 0; i < h->roots.count; i++) {
        warm_close(&h->roots.root[i].sandboxes);
        stagelink_close(&h->roots.root[i].stage);
    }
    collectors_close(&h->collectors);
    stagelink_close(&h->packer);
    stop_all(h);
    server_close(&h->server);
    deliver_close(&h->deliver);
    spool_close(&h->spool);
    package_cache_stop(&h->packages);
    state_close(&h->state);
    leftovers_close(&h->leftovers);
    cgroups_close(&h->cgroups);
    if (signals.fd >= 0)
        close(signals.fd);
    service_close(&h->loop);
    loop_free(&h->loop);
}

static int serve(helper_t *h)
{
    sb_err_t err = {0};

    h->started_ms = sb_time_now_ms();
    h->spool.dir_fd = -1;
    sb_code_t rc = watch_signals(h, &err);
    if (rc == SB_OK)
        rc = prepare(h, &err);
    if (rc == SB_OK) {
        helper_start_programs(h);
        loop_run(&h->loop);
    } else {
        log_event(LOG_ERROR, "cannot start", "error", err.message);
        exit_code = EXIT_FAILED;
    }
    finish(h);
    if (exit_code == EXIT_STOPPED)
        log_event(LOG_INFO, "stopped", NULL, NULL);
    return exit_code;
}

static int fail_start(const char *path, const sb_err_t *err, int code)
{
    if (err->line > 0)
        fprintf(stderr, "sandbox-helper: %s:%d: %s\n", path, err->line, err->message);
    else if (path != NULL)
        fprintf(stderr, "sandbox-helper: %s: %s\n", path, err->message);
    else
        fprintf(stderr, "sandbox-helper: %s\n", err->message);
    return code;
}

/* The table is sandbox-stage's: nothing else of the helper is linked with libseccomp. */
static int print_policy(void)
{
    char path[PATH_MAX];
    char *const argv[] = {"sandbox-stage", STAGE_PRINT_POLICY, NULL};
    char *const envp[] = {NULL};
    sb_err_t err = {0};

    if (stagelink_find_program(argv[0], path, sizeof path, &err) != SB_OK)
        return fail_start(NULL, &err, EXIT_FAILED);
    execve(path, argv, envp);
    sb_err_errno(&err, errno, "%s", path);
    return fail_start(NULL, &err, EXIT_FAILED);
}

/* 0: go on; else the process's exit status + 1. */
static int arguments(int argc, char **argv, const char **config, bool *check, bool *json)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, 'k'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"print-policy", no_argument, NULL, 'p'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int o;

    while ((o = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (o) {
        case 'c':
            *config = optarg;
            break;
        case 'k':
            *check = true;
            break;
        case 'j':
            *json = true;
            break;
        case 'p':
            return print_policy() + 1;
        case 'v':
            puts("sandbox-helper " SB_VERSION);
            return 1;
        case 'h':
            usage(stdout);
            return 1;
        default:
            usage(stderr);
            return EXIT_USAGE + 1;
        }
    }
    if (*config != NULL && optind == argc && (*check || !*json))
        return 0;
    usage(stderr);
    return EXIT_USAGE + 1;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    bool check = false, json = false;
    sb_err_t err = {0};
    helper_t *h = &helper;
    int stop = arguments(argc, argv, &path, &check, &json);

    if (stop != 0)
        return stop - 1;
    umask(0027); /* archives are for nginx's group to read */
    if (config_load(path, &h->config, &err) != SB_OK)
        return fail_start(path, &err, EXIT_USAGE);
    log_set_level((log_level_t)h->config.log_level);
    if (identity_check(&h->config, &err) != SB_OK)
        return fail_start(path, &err, EXIT_USAGE);
    signals.fd = -1;
    raise_nofile();
    if (loop_init(&h->loop, &err) != SB_OK || become_user(h, check, &err) != SB_OK)
        return fail_start(NULL, &err, EXIT_FAILED);
    return check ? check_run(h, json) : serve(h);
}
