/*
 * status.c - see status.h.  Reads the main process's own state.
 */
#include "status.h"

#include <stdio.h>
#include <unistd.h>

static void runtimes_json(const helper_t *h, sb_buf_t *out)
{
    sb_json_key(out, "runtimes");
    sb_buf_char(out, '{');
    for (int i = 0; i < STAGE_RUNTIMES; i++) {
        const runtime_t *r = &h->runtimes[i];
        sb_json_key_str(out, config_lang_name((enum stage_lang)i),
                        runtime_offered(r) ? "ok" : r->reason);
    }
    sb_buf_char(out, '}');
}

void status_json(const helper_t *h, sb_buf_t *out)
{
    char reason[300] = "", tier[64];
    bool available = helper_available(h, reason, sizeof reason);
    /* No control groups is a tier of its own right; the others took the operator's word. */
    bool weakened = h->stage.hello.missing & (STAGE_NO_PROC | STAGE_NO_LANDLOCK);

    helper_tier(h, tier, sizeof tier);
    sb_buf_char(out, '{');
    sb_json_key_str(out, "status", !available ? "unavailable" : weakened ? "degraded" : "ok");
    if (available && weakened)
        snprintf(reason, sizeof reason, "sandboxes here are \"%s\", as configured", tier);
    if (reason[0] != '\0')
        sb_json_key_str(out, "reason", reason);
    sb_json_key_str(out, "tier", tier);
    runtimes_json(h, out);
    sb_json_key_int(out, "running", (int64_t)h->runs.running);
    sb_json_key_int(out, "queued", (int64_t)h->runs.waiting);
    sb_json_key_int(out, "concurrency", h->config.concurrency);
    sb_json_key_int(out, "queue", h->config.queue);
    sb_json_key_int(out, "intakes", (int64_t)h->intakes.running);
    sb_json_key_int(out, "runs_total", (int64_t)h->runs_total);
    sb_json_key_int(out, "intakes_total", (int64_t)h->intakes_total);
    sb_json_key_int(out, "landlock_abi", h->stage.hello.landlock_abi);
    sb_json_key_int(out, "cgroup", h->cgroups.version);
    sb_json_key_str(out, "version", SB_VERSION);
    sb_json_key_int(out, "pid", getpid());
    sb_json_key_int(out, "uptime_ms", sb_time_now_ms() - h->started_ms);
    sb_buf_char(out, '}');
}
