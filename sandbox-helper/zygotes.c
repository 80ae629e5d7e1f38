/*
 * zygotes.c - see zygotes.h.  Runs in the main process; memory and links only.
 */
#include "zygotes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "zygote.h"

#define FAILURES_MAX 5      /* in a row without a hello: it will hardly be better the next time */
#define AGAIN_MS     600000 /* so that is far off */

/* One interpreter and what was forked from it. */
typedef struct {
    zygote_t *of;
    stagelink_t link;
    warm_t pool;
    uint64_t runs;
    int64_t since_us;
    int failures;
} generation_t;

struct zygote_s {
    zygotes_t *all;
    size_t runtime;
    stage_config_t config;
    char off[200]; /* why there is none; "" = there is */
    generation_t *now, *next, *old;
    uint64_t ready, forked, plain, executed; /* runs by how they were started */
    uint64_t recycled, deaths;
};

const char *start_name(start_t start)
{
    static const char *const names[] = {"plain", "zygote", "ready", "executed"};

    return names[start];
}

/* ---- generations ---- */

static void on_change(void *ctx, stagelink_t *link)
{
    generation_t *g = ctx;
    zygote_t *zy = g->of;

    if (link->state == LINK_READY) {
        g->since_us = loop_now_us();
        g->failures = 0;
        if (log_begin(LOG_INFO, "a zygote is ready")) {
            log_str("runtime", zy->all->config->runtimes[zy->runtime].name);
            log_end();
        }
    } else if (link->state == LINK_DOWN) {
        zy->deaths++;
        bool hopeless = !link->given_up && ++g->failures >= FAILURES_MAX;

        if (hopeless)
            loop_timer_set(link->loop, &link->timer, AGAIN_MS);
        if ((link->given_up || hopeless) &&
            log_begin(LOG_ERROR, hopeless ? "a zygote dies again and again: its runs start plain"
                                          : "a zygote is given up: its runs start plain")) {
            log_str("runtime", zy->all->config->runtimes[zy->runtime].name);
            log_str("reason", link->down_reason);
            log_end();
        }
    }
    zy->all->changed(zy->all->ctx);
}

/* How many children wait: as the entry says, else enough for runs that come close together. */
static size_t wanted(const zygote_t *zy)
{
    const config_t *c = zy->all->config;
    const config_runtime_t *rt = &c->runtimes[zy->runtime];

    if (rt->warm >= 0)
        return (size_t)rt->warm;
    return rt->root[0] == '\0' ? (size_t)c->zygote_warm : 1;
}

static generation_t *start(zygote_t *zy)
{
    zygotes_t *z = zy->all;
    generation_t *g = calloc(1, sizeof *g);
    sb_err_t err = {0};

    if (g == NULL)
        return NULL;
    g->of = zy;
    if (stagelink_init(&g->link, z->loop, "sandbox-stage", &zy->config, on_change, g, &err) !=
        SB_OK) {
        snprintf(zy->off, sizeof zy->off, "%.199s", err.message);
        free(g);
        return NULL;
    }
    g->link.one_try = true;
    warm_init(&g->pool, &g->link, z->cgroups, z->leftovers, wanted(zy));
    g->pool.keepers = true;
    g->since_us = loop_now_us();
    stagelink_start(&g->link);
    return g;
}

static void end(generation_t **g)
{
    if (*g == NULL)
        return;
    warm_drain(&(*g)->pool);
    stagelink_close(&(*g)->link);
    free(*g);
    *g = NULL;
}

static bool childless(const generation_t *g)
{
    return g->link.children.next == &g->link.children;
}

static bool due(const zygotes_t *z, const generation_t *g)
{
    const config_t *c = z->config;

    return g->link.state == LINK_READY &&
           ((c->zygote_recycle_runs > 0 && g->runs >= (uint64_t)c->zygote_recycle_runs) ||
            (c->zygote_recycle_ms > 0 && g->runs > 0 &&
             loop_now_us() - g->since_us > c->zygote_recycle_ms * 1000));
}

static void tend(zygote_t *zy)
{
    if (zy->next != NULL && zy->next->link.state == LINK_READY) {
        zy->old = zy->now;
        zy->now = zy->next;
        zy->next = NULL;
        zy->recycled++;
        warm_drain(&zy->old->pool);
    } else if (zy->next != NULL && zy->next->link.state == LINK_DOWN) {
        end(&zy->next); /* the one there is goes on, and tries again in a while */
        zy->now->runs = 0;
        zy->now->since_us = loop_now_us();
    }
    if (zy->old != NULL && childless(zy->old))
        end(&zy->old);
    if (zy->next == NULL && zy->old == NULL && due(zy->all, zy->now))
        zy->next = start(zy);
}

void zygotes_tend(zygotes_t *z)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++)
        if (z->of[i] != NULL && z->of[i]->now != NULL)
            tend(z->of[i]);
}

void zygotes_refill(zygotes_t *z)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++)
        if (z->of[i] != NULL && z->of[i]->now != NULL)
            warm_refill(&z->of[i]->now->pool);
}

bool zygotes_dry(const zygotes_t *z)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++)
        if (z->of[i] != NULL && z->of[i]->now != NULL && warm_dry(&z->of[i]->now->pool))
            return true;
    return false;
}

/* ---- which runs ---- */

/* "tenant" or "tenant/skill" */
static bool named(const char *entry, const request_t *r)
{
    const size_t len = strlen(r->tenant);

    if (strncmp(entry, r->tenant, len) != 0)
        return false;
    return entry[len] == '\0' || (entry[len] == '/' && strcmp(entry + len + 1, r->skill) == 0);
}

static bool refused(const config_t *c, const request_t *r)
{
    for (size_t i = 0; i < c->nzygote_not_for; i++)
        if (named(c->zygote_not_for[i], r))
            return true;
    return false;
}

warm_t *zygotes_pool(zygotes_t *z, const request_t *r)
{
    zygote_t *zy = z->of[r->runtime];

    if (zy == NULL || zy->now == NULL || zy->now->link.state != LINK_READY || refused(z->config, r))
        return NULL;
    return &zy->now->pool;
}

void zygotes_count(zygotes_t *z, const request_t *r, start_t start)
{
    zygote_t *zy = z->of[r->runtime];

    if (zy == NULL)
        return;
    if (start == START_PLAIN) {
        zy->plain++;
        return;
    }
    if (start == START_EXECUTED) {
        zy->executed++;
        return;
    }
    zy->now->runs++;
    if (start == START_READY)
        zy->ready++;
    else
        zy->forked++;
}

/* ---- start and end ---- */

static zygote_t *make(zygotes_t *z, const roots_t *roots, size_t runtime)
{
    const config_runtime_t *rt = &z->config->runtimes[runtime];
    zygote_t *zy = calloc(1, sizeof *zy);
    sb_err_t err = {0};
    char path[STAGE_PATH_LEN];

    if (zy == NULL)
        return NULL;
    zy->all = z;
    zy->runtime = runtime;
    zy->config = roots->root[roots->of[runtime]].config;
    zy->config.zygote = (uint32_t)runtime + 1;
    memcpy(zy->config.zygote_modules,
           rt->have_modules ? rt->zygote_modules : z->config->zygote_modules,
           sizeof zy->config.zygote_modules);
    if (!z->config->zygote || rt->no_zygote)
        snprintf(zy->off, sizeof zy->off, "switched off in the configuration");
    else if (stagelink_find_program(ZYGOTE_PROGRAM, path, sizeof path, &err) != SB_OK)
        snprintf(zy->off, sizeof zy->off, "%.199s", err.message);
    else
        memcpy(zy->config.zygote_program, path, sizeof path);
    return zy;
}

void zygotes_init(zygotes_t *z, const config_t *c, const roots_t *roots, const runtime_t *runtimes,
                  loop_t *loop, cgroups_t *cgroups, leftovers_t *leftovers,
                  void (*changed)(void *ctx), void *ctx)
{
    *z = (zygotes_t){.config = c,
                     .loop = loop,
                     .cgroups = cgroups,
                     .leftovers = leftovers,
                     .changed = changed,
                     .ctx = ctx};
    for (size_t i = 0; i < c->nruntimes; i++)
        if (c->runtimes[i].lang == STAGE_PYTHON && runtime_offered(&runtimes[i]))
            z->of[i] = make(z, roots, i);
}

void zygotes_start(zygotes_t *z)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++)
        if (z->of[i] != NULL && z->of[i]->off[0] == '\0')
            z->of[i]->now = start(z->of[i]);
}

void zygotes_close(zygotes_t *z)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        if (z->of[i] == NULL)
            continue;
        end(&z->of[i]->now);
        end(&z->of[i]->next);
        end(&z->of[i]->old);
        free(z->of[i]);
        z->of[i] = NULL;
    }
}

/* ---- status ---- */

static const char *state_of(const zygote_t *zy)
{
    if (zy->off[0] != '\0')
        return zy->off;
    if (zy->now == NULL)
        return "not started";
    switch (zy->now->link.state) {
    case LINK_READY:
        return "ok";
    case LINK_STARTING:
        return "starting";
    default:
        return zy->now->link.down_reason;
    }
}

void zygotes_status(const zygotes_t *z, sb_buf_t *out)
{
    bool first = true;

    sb_buf_char(out, '[');
    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        const zygote_t *zy = z->of[i];

        if (zy == NULL)
            continue;
        sb_buf_str(out, first ? "{" : ",{");
        first = false;
        sb_json_key_str(out, "runtime", z->config->runtimes[i].name);
        sb_json_key_str(out, "status", state_of(zy));
        sb_json_key_int(out, "waiting", zy->now != NULL ? (int64_t)zy->now->pool.count : 0);
        sb_json_key_int(out, "ready_runs", (int64_t)zy->ready);
        sb_json_key_int(out, "forked_runs", (int64_t)zy->forked);
        sb_json_key_int(out, "plain_runs", (int64_t)zy->plain);
        sb_json_key_int(out, "executed_runs", (int64_t)zy->executed);
        sb_json_key_int(out, "recycled", (int64_t)zy->recycled);
        sb_json_key_int(out, "deaths", (int64_t)zy->deaths);
        sb_buf_char(out, '}');
    }
    sb_buf_char(out, ']');
}
