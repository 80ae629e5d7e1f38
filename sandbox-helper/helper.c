/*
 * helper.c - see helper.h: what belongs to no station alone.
 */
#include "helper.h"

#include <stdio.h>
#include <string.h>

#include "intake.h"
#include "job.h"
#include "log.h"

void helper_dispatch(helper_t *h)
{
    loop_task(&h->loop, &h->dispatch);
}

void helper_ended(helper_t *h)
{
    loop_task(&h->loop, &h->dispatch);
}

bool helper_available(const helper_t *h, char *reason, size_t len)
{
    const stagelink_t *links[] = {&h->roots.root[ROOT_HOST].stage, &h->packer};

    if (h->stopping) {
        snprintf(reason, len, "the sandbox helper is stopping");
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        if (links[i]->state == LINK_READY)
            continue;
        snprintf(reason, len, "%s is not ready%s%s", links[i]->name,
                 links[i]->down_reason[0] ? ": " : "", links[i]->down_reason);
        return false;
    }
    return true;
}

void helper_tier(const helper_t *h, char *out, size_t len)
{
    uint32_t missing = h->roots.root[ROOT_HOST].stage.hello.missing;
    const char *parts[3];
    int n = 0;

    if (h->cgroups.version == 0)
        parts[n++] = "cgroup";
    if (missing & STAGE_NO_PROC)
        parts[n++] = "procfs";
    if (missing & STAGE_NO_LANDLOCK)
        parts[n++] = "landlock";
    snprintf(out, len, "full%s%s%s%s%s%s", n > 0 ? " without " : "", n > 0 ? parts[0] : "",
             n > 1 ? " and " : "", n > 1 ? parts[1] : "", n > 2 ? " and " : "",
             n > 2 ? parts[2] : "");
}

void helper_find_runtimes(helper_t *h, const char *packages)
{
    sb_err_t err = {0};

    if (runtimes_scan(&h->config, &err) != SB_OK)
        log_event(LOG_WARN, "not all imported runtimes are offered", "reason", err.message);
    runtimes_find(&h->config, h->runtimes);
    roots_make(&h->roots, &h->config, h->runtimes, packages);
    for (size_t i = 0; i < h->roots.count; i++)
        h->roots.root[i].config.memory_cgroup = h->cgroups.version != 0;
}

sb_code_t helper_init_programs(helper_t *h, void (*on_change)(void *ctx, stagelink_t *link),
                               void *ctx, sb_err_t *err)
{
    sb_code_t rc = stagelink_init(&h->packer, &h->loop, "sandbox-packer",
                                  &h->roots.root[ROOT_HOST].config, on_change, ctx, err);

    for (size_t i = 0; rc == SB_OK && i < h->roots.count; i++) {
        root_t *root = &h->roots.root[i];
        rc = stagelink_init(&root->stage, &h->loop, "sandbox-stage", &root->config, on_change, ctx,
                            err);
        root->stage.one_try = i != ROOT_HOST;
    }
    return rc;
}

void helper_start_programs(helper_t *h)
{
    for (size_t i = 0; i < h->roots.count; i++)
        stagelink_start(&h->roots.root[i].stage);
    stagelink_start(&h->packer);
    zygotes_start(&h->zygotes);
}

root_t *helper_root_of(helper_t *h, const stagelink_t *link)
{
    for (size_t i = 0; i < h->roots.count; i++) {
        if (&h->roots.root[i].stage == link)
            return &h->roots.root[i];
    }
    return NULL;
}

const char *helper_runtime_missing(const helper_t *h, size_t runtime)
{
    const stagelink_t *stage = &h->roots.root[h->roots.of[runtime]].stage;

    if (!runtime_offered(&h->runtimes[runtime]))
        return h->runtimes[runtime].reason;
    return stage->given_up ? stage->down_reason : NULL;
}
