/*
 * up.c - `skillbox up`: a private gateway on this machine.  Works as an ordinary
 * user and as root (see layout.h).  In the foreground it stays to stop what it
 * started when it is told to end.
 */
#include "up.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"
#include "output.h"

static const sb_option_t up_options[] = {
    {"state", "DIR",
     "folder for everything the gateway keeps, made when missing\n"
     "(default: $SKILLBOX_STATE, else ./.skillbox)",
     false},
    {"port", "N", "port on 127.0.0.1 (default: the one used before, or a free one)", false},
    {"foreground", NULL, "stay, and stop the gateway on SIGINT or SIGTERM", false},
    {"json", NULL, "print one line {\"url\",\"api_key\",\"state_dir\"} once it is ready", false},
    {"nginx", "PATH", "nginx program (default: the distribution's)", false},
    {"module", "PATH",
     "the module, or 'static' when nginx was built with it\n(default: beside "
     "skillbox, or installed)",
     false},
    {"helper", "PATH", "sandbox-helper (default: beside skillbox, or installed)", false},
    {NULL, NULL, NULL, false},
};

static bool parse_port(const char *text, int *port)
{
    char *end;
    long n;

    *port = 0;
    if (text == NULL) {
        return true;
    }
    errno = 0;
    n = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || n < 1 || n > 65535) {
        sb_say_error("--port is a number from 1 to 65535");
        return false;
    }
    *port = (int)n;
    return true;
}

static int print_result(const sb_args_t *args, const sb_layout_t *l, const sb_state_t *state,
                        const char *key, bool was_running)
{
    if (sb_args_flag(args, "json")) {
        json_t *o =
            json_pack("{s:s, s:s, s:s}", "url", state->url, "api_key", key, "state_dir", l->dir);
        char *text = json_dumps(o, JSON_COMPACT);

        if (text != NULL) {
            puts(text);
        }
        free(text);
        json_decref(o);
    } else {
        printf("%s\n\n  url      %s\n  api key  %s\n  state    %s\n\n",
               was_running ? "The gateway is running already." : "The gateway is running.",
               state->url, key, l->dir);
        printf("  export SKILLBOX_SERVER_URL=%s SKILLBOX_API_KEY=%s\n", state->url, key);
    }
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

/* Waits for a signal to end, or for the end of either process.  True: a signal. */
static bool wait_for_end(const sb_state_t *state, int sigfd)
{
    struct pollfd fds[3] = {{.fd = sigfd, .events = POLLIN},
                            {.fd = sb_proc_open(&state->nginx), .events = POLLIN},
                            {.fd = sb_proc_open(&state->helper), .events = POLLIN}};
    bool signalled = false;

    if (fds[1].fd >= 0 && fds[2].fd >= 0) {
        while (poll(fds, 3, -1) < 0 && errno == EINTR) {
        }
        signalled = fds[0].revents != 0;
    }
    for (int i = 1; i < 3; i++) {
        if (fds[i].fd >= 0) {
            close(fds[i].fd);
        }
    }
    return signalled;
}

static int stay(const sb_layout_t *l, sb_state_t *state, int sigfd)
{
    bool signalled = wait_for_end(state, sigfd);
    sb_state_t now;
    sb_err_t err;
    int lock = sb_state_lock(l->dir, &err), rc = EXIT_OK;

    if (lock < 0) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    /* `skillbox down` elsewhere has stopped them and says so in the state: that is no failure */
    if (!signalled && sb_state_load(l->dir, &now, &err) == SB_OK && now.nginx.pid != 0) {
        sb_say_error("%s ended unexpectedly; see %s/logs",
                     sb_proc_alive(&state->nginx) ? "sandbox-helper" : "nginx", l->dir);
        rc = EXIT_FAILED;
    }
    if ((signalled || rc != EXIT_OK) && !sb_up_stop(l->dir, state, SB_STOP_GRACE_MS)) {
        rc = EXIT_FAILED;
    }
    close(lock);
    return rc;
}

/* With the lock held. */
static int start(const sb_args_t *args, sb_layout_t *l, sb_state_t *state, int port)
{
    char key[SB_APIKEY_LEN + 1];
    sb_install_t install;
    sb_err_t err;
    bool was_running = sb_state_load(l->dir, state, &err) == SB_OK && sb_state_running(state);

    if (was_running && port != 0 && port != state->port) {
        sb_say_error("the gateway is running already, on port %d", state->port);
        return EXIT_FAILED;
    }
    if (!was_running) {
        if (state->nginx.pid != 0 || state->helper.pid != 0) {
            sb_say("stopping what is left of an earlier gateway");
            if (!sb_up_stop(l->dir, state, SB_STOP_GRACE_MS)) {
                return EXIT_FAILED;
            }
        }
        if (sb_install_find(sb_args_get(args, "nginx"), sb_args_get(args, "helper"),
                            sb_args_get(args, "module"), &install, &err) != SB_OK ||
            sb_layout_make(l, &err) != SB_OK ||
            sb_layout_place_helper(l, &install, &err) != SB_OK) {
            sb_say_err(&err);
            return EXIT_FAILED;
        }
        if (!sb_up_start(l, &install, port, state)) {
            return EXIT_FAILED;
        }
    }
    sb_code_t code = sb_up_ensure_key(l, state, key, &err);
    if (code != SB_OK) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    return print_result(args, l, state, key, was_running);
}

/* The signals that end `up --foreground`, from now on only to be read from the descriptor. */
static int open_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

static int run_up(const sb_args_t *args)
{
    sb_layout_t layout;
    sb_state_t state = {.port = 0};
    sb_err_t err;
    int port, lock, rc, sigfd = -1;

    if (!parse_port(sb_args_get(args, "port"), &port)) {
        return EXIT_USAGE;
    }
    if (sb_layout_open(sb_state_folder(args), &layout, &err) != SB_OK ||
        (lock = sb_state_lock(layout.dir, &err)) < 0) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    /* before anything is started: a signal while starting is served right after */
    if (sb_args_flag(args, "foreground") && (sigfd = open_signals()) < 0) {
        sb_say_error("signalfd: %s", strerror(errno));
        close(lock);
        return EXIT_FAILED;
    }
    rc = start(args, &layout, &state, port);
    close(lock);
    if (sigfd >= 0) {
        rc = rc == EXIT_OK ? stay(&layout, &state, sigfd) : rc;
        close(sigfd);
    }
    return rc;
}

const sb_command_t cmd_up = {
    .name = "up",
    .operands = "",
    .summary = "start a private gateway on this machine",
    .details =
        "Starts sandbox-helper and nginx with everything they keep below one folder, waits until "
        "the\n"
        "gateway is ready, makes an admin key the first time, and prints URL and key.  The "
        "gateway\n"
        "listens on 127.0.0.1 only; figures for Prometheus are at /metrics, without a key.  When "
        "it\n"
        "is running already, its URL and key are printed.\n"
        "\n"
        "As an ordinary user everything runs as that user.  As root nginx's workers run as "
        "www-data\n"
        "and the helper as `skillbox` (or nobody), and the folder must be one they can enter.\n"
        "For production use the distribution's nginx with conf/nginx.conf.example instead.",
    .options = up_options,
    .examples = "skillbox up\n"
                "skillbox up --state /tmp/box --port 8080\n"
                "skillbox up && eval \"$(skillbox status --env)\"",
    .run = run_up,
};
