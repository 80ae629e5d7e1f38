/*
 * status.c - see status.h.  Reads the main process's own state.
 */
#include "status.h"

#include <stdio.h>
#include <unistd.h>

/* The languages' own by language, the named ones behind them as a list. */
static void runtimes_json(const helper_t *h, sb_buf_t *out)
{
    sb_json_key(out, "runtimes");
    sb_buf_char(out, '{');
    for (size_t i = 0; i < STAGE_LANGS; i++) {
        const char *missing = helper_runtime_missing(h, i);
        sb_json_key_str(out, h->config.runtimes[i].name, missing == NULL ? "ok" : missing);
    }
    sb_buf_char(out, '}');
    sb_json_key(out, "images");
    sb_buf_char(out, '[');
    for (size_t i = STAGE_LANGS; i < h->config.nruntimes; i++) {
        const config_runtime_t *rt = &h->config.runtimes[i];
        const char *missing = helper_runtime_missing(h, i);
        sb_buf_str(out, i > STAGE_LANGS ? ",{" : "{");
        sb_json_key_str(out, "name", rt->name);
        sb_json_key_str(out, "lang", config_lang_name(rt->lang));
        sb_json_key_str(out, "status", missing == NULL ? "ok" : missing);
        sb_buf_char(out, '}');
    }
    sb_buf_char(out, ']');
}

void status_json(const helper_t *h, sb_buf_t *out)
{
    char reason[300] = "", tier[64];
    bool available = helper_available(h, reason, sizeof reason);
    /* No control groups is a tier of its own right; the others took the operator's word. */
    bool weakened =
        h->roots.root[ROOT_HOST].stage.hello.missing & (STAGE_NO_PROC | STAGE_NO_LANDLOCK);

    helper_tier(h, tier, sizeof tier);
    sb_buf_char(out, '{');
    sb_json_key_str(out, "status", !available ? "unavailable" : weakened ? "degraded" : "ok");
    if (available && weakened)
        snprintf(reason, sizeof reason, "sandboxes here are \"%s\", as configured", tier);
    if (reason[0] != '\0')
        sb_json_key_str(out, "reason", reason);
    sb_json_key_str(out, "tier", tier);
    runtimes_json(h, out);
    sb_json_key(out, "zygotes");
    zygotes_status(&h->zygotes, out);
    sb_json_key(out, "prestarted");
    prestarts_status(&h->prestarts, out);
    sb_json_key_int(out, "running", (int64_t)h->runs.running);
    sb_json_key_int(out, "queued", (int64_t)(h->runs.waiting + h->runs.background));
    sb_json_key_int(out, "undelivered", (int64_t)h->deliver.count);
    sb_json_key_int(out, "concurrency", h->config.concurrency);
    sb_json_key_int(out, "queue", h->config.queue);
    sb_json_key_int(out, "intakes", (int64_t)h->intakes.running);
    sb_json_key_int(out, "runs_total", (int64_t)h->runs_total);
    sb_json_key_int(out, "intakes_total", (int64_t)h->intakes_total);
    sb_json_key_int(out, "landlock_abi", h->roots.root[ROOT_HOST].stage.hello.landlock_abi);
    sb_json_key_int(out, "cgroup", h->cgroups.version);
    sb_json_key_str(out, "version", SB_VERSION);
    sb_json_key_int(out, "pid", getpid());
    sb_json_key_int(out, "uptime_ms", sb_time_now_ms() - h->started_ms);
    sb_buf_char(out, '}');
}
