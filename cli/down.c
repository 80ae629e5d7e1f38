/*
 * down.c - `skillbox down`: stops the gateway of a state folder, and nothing else.
 */
#include <string.h>
#include <unistd.h>

#include "../libskillbox/units.h"
#include "cli.h"
#include "output.h"
#include "remove.h"
#include "up.h"

static const sb_option_t down_options[] = {
    {"state", "DIR", "state folder of the gateway (default: $SKILLBOX_STATE, else\n./.skillbox)",
     false},
    {"grace", "DURATION",
     "how long requests in flight may take to end, before they are cut\n(default: 35s)", false},
    {"remove", NULL, "then remove the folder with everything that is stored in it", false},
    {NULL, NULL, NULL, false},
};

static bool parse_grace(const char *text, int *ms)
{
    int64_t n;
    sb_err_t err;

    *ms = SB_STOP_GRACE_MS;
    if (text == NULL) {
        return true;
    }
    if (sb_duration_parse(text, strlen(text), &n, &err) != SB_OK) {
        sb_say_error("--grace: %s", err.message);
        return false;
    }
    *ms = (int)n; /* at most 24 h */
    return true;
}

static int remove_state(const char *dir)
{
    sb_err_t err;

    if (sb_state_remove(dir, &err) != SB_OK) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    sb_say("removed %s", dir);
    return EXIT_OK;
}

static int run_down(const sb_args_t *args)
{
    const char *dir = sb_state_folder(args);
    sb_layout_t layout;
    sb_state_t state;
    sb_err_t err;
    int grace, lock, rc = EXIT_OK;

    if (!parse_grace(sb_args_get(args, "grace"), &grace)) {
        return EXIT_USAGE;
    }
    if (sb_state_load(dir, &state, &err) != SB_OK || sb_layout_open(dir, &layout, &err) != SB_OK) {
        sb_say_err(&err);
        return err.code == SB_ENOTFOUND ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    lock = sb_state_lock(layout.dir, &err);
    /* again, under the lock: an `up` may just have finished */
    if (lock < 0 || sb_state_load(layout.dir, &state, &err) != SB_OK) {
        sb_say_err(&err);
        rc = EXIT_FAILED;
    } else if (state.nginx.pid == 0 && state.helper.pid == 0) {
        sb_say("no gateway is running in %s", layout.dir);
    } else if (sb_up_stop(layout.dir, &state, grace)) {
        sb_say("the gateway in %s has been stopped", layout.dir);
    } else {
        rc = EXIT_FAILED;
    }
    if (rc == EXIT_OK && sb_args_flag(args, "remove")) {
        rc = remove_state(layout.dir);
    }
    if (lock >= 0) {
        close(lock);
    }
    return rc;
}

const sb_command_t cmd_down = {
    .name = "down",
    .operands = "",
    .summary = "stop the gateway that `up` started",
    .details =
        "Stops nginx and sandbox-helper of a state folder: gracefully, and after the grace period\n"
        "by force.  Processes are identified by pid, start time and boot, so nothing else is ever\n"
        "signalled.  The folder and what is stored in it stay, unless --remove is given.",
    .options = down_options,
    .examples = "skillbox down\n"
                "skillbox down --state /tmp/box --grace 5s\n"
                "skillbox down --remove",
    .run = run_down,
};
