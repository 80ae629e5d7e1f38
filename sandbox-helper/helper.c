/*
 * helper.c - see helper.h: what belongs to no station alone.
 */
#include "helper.h"

#include <stdio.h>
#include <string.h>

#include "intake.h"
#include "job.h"

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
    const stagelink_t *links[] = {&h->stage, &h->packer};

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
    uint32_t missing = h->stage.hello.missing;
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

void helper_stage_config(helper_t *h, const char *packages)
{
    const config_t *c = &h->config;
    stage_config_t *s = &h->stage_config;

    memset(s, 0, sizeof *s);
    s->magic = STAGE_MAGIC;
    s->size = sizeof *s;
    snprintf(s->packages, sizeof s->packages, "%s", packages);
    for (int i = 0; i < STAGE_RUNTIMES; i++)
        memcpy(s->interpreter[i], h->runtimes[i].path, sizeof s->interpreter[i]);
    memcpy(s->readonly, c->readonly, sizeof s->readonly);
    s->tmp_bytes = (uint64_t)c->tmp_bytes;
    s->out_bytes = (uint64_t)c->out_bytes;
    s->work_bytes = (uint64_t)c->work_bytes;
    s->shm_bytes = (uint64_t)c->shm_bytes;
    s->inodes = (uint32_t)c->inodes;
    s->exec_writable = c->exec_writable;
    s->proc_full = c->proc_full;
    s->allow_no_proc = c->allow_no_procfs;
    s->allow_no_landlock = c->allow_no_landlock;
    s->nofile = (uint32_t)c->nofile;
    s->nproc = (uint32_t)c->nproc;
}
