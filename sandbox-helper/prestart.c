/*
 * prestart.c - see prestart.h.  Counts only; warm.c has the sandboxes.
 */
#include "prestart.h"

#include <stdlib.h>

#include "log.h"

#define PAUSE_MIN_MS 1000
#define PAUSE_MAX_MS 300000

struct prestart_s {
    prestarts_t *all;
    size_t runtime;
    size_t max;
    warm_t pool;
    size_t spare;       /* the fewest that waited at once since the timer was set */
    loop_timer_t timer; /* while any are wanted: idle */
    uint64_t failures;  /* of pool.failures, those that were dealt with */
    int64_t pause_ms;   /* 0: the last one got ready */
    int64_t again_us;   /* not before */
    loop_timer_t again; /* then, though no run may come */
    uint64_t ready, plain, executed;
};

static void look_again(prestart_t *ps)
{
    ps->spare = ps->pool.waiting;
    loop_timer_set(ps->all->loop, &ps->timer, ps->all->config->prestart_idle_ms);
}

/* Those that nobody needed since the last time. */
static void on_idle(void *ctx)
{
    prestart_t *ps = ctx;
    const size_t spare = ps->spare < ps->pool.want ? ps->spare : ps->pool.want;

    ps->pool.want -= spare;
    warm_cut(&ps->pool, ps->pool.want);
    if (ps->pool.want > 0)
        look_again(ps);
}

/* Waits or has failed. */
static void on_pool(void *ctx)
{
    prestart_t *ps = ctx;

    if (ps->pool.failures == ps->failures) {
        ps->pause_ms = 0;
    } else {
        ps->failures = ps->pool.failures;
        ps->pause_ms = ps->pause_ms == 0 ? PAUSE_MIN_MS : ps->pause_ms * 2;
        if (ps->pause_ms > PAUSE_MAX_MS)
            ps->pause_ms = PAUSE_MAX_MS;
        ps->again_us = loop_now_us() + ps->pause_ms * 1000;
        loop_timer_set(ps->all->loop, &ps->again, ps->pause_ms + 1);
    }
    ps->all->changed(ps->all->ctx);
}

static void on_again(void *ctx)
{
    prestart_t *ps = ctx;

    ps->all->changed(ps->all->ctx);
}

void prestarts_tend(prestarts_t *p, bool busy)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        prestart_t *ps = p->of[i];

        if (ps == NULL || busy || (ps->pause_ms > 0 && loop_now_us() < ps->again_us))
            continue;
        warm_refill(&ps->pool);
    }
}

warm_t *prestarts_pool(prestarts_t *p, const request_t *r)
{
    prestart_t *ps = p->of[r->runtime];

    return ps != NULL && ps->pool.waiting > 0 && ps->pool.link->state == LINK_READY ? &ps->pool
                                                                                    : NULL;
}

void prestarts_count(prestarts_t *p, const request_t *r, start_t start)
{
    prestart_t *ps = p->of[r->runtime];

    if (ps == NULL)
        return;
    switch (start) {
    case START_READY:
        ps->ready++;
        break;
    case START_EXECUTED:
        ps->executed++;
        return;
    default:
        ps->plain++;
        if (ps->pool.want < ps->max && ps->pool.want == ps->pool.count)
            ps->pool.want++;
    }
    if (ps->pool.waiting < ps->spare)
        ps->spare = ps->pool.waiting;
    if (ps->pool.want > 0 && ps->timer.pos == 0)
        look_again(ps);
}

/* ---- start and end ---- */

static prestart_t *make(prestarts_t *p, roots_t *roots, size_t runtime, cgroups_t *cgroups,
                        leftovers_t *leftovers)
{
    const config_runtime_t *rt = &p->config->runtimes[runtime];
    prestart_t *ps = calloc(1, sizeof *ps);

    if (ps == NULL)
        return NULL;
    ps->all = p;
    ps->runtime = runtime;
    ps->max = (size_t)(rt->warm >= 0 ? rt->warm : p->config->prestart_max);
    ps->timer = (loop_timer_t){.fn = on_idle, .ctx = ps};
    ps->again = (loop_timer_t){.fn = on_again, .ctx = ps};
    warm_init(&ps->pool, &roots->root[roots->of[runtime]].stage, cgroups, leftovers, 0);
    ps->pool.interpreter = (uint32_t)runtime + 1;
    ps->pool.changed = on_pool;
    ps->pool.ctx = ps;
    return ps;
}

void prestarts_init(prestarts_t *p, const config_t *c, roots_t *roots, const runtime_t *runtimes,
                    loop_t *loop, cgroups_t *cgroups, leftovers_t *leftovers,
                    void (*changed)(void *ctx), void *ctx)
{
    *p = (prestarts_t){.config = c, .loop = loop, .changed = changed, .ctx = ctx};
    for (size_t i = 0; i < c->nruntimes; i++)
        if (c->runtimes[i].lang == STAGE_NODE && runtime_offered(&runtimes[i]))
            p->of[i] = make(p, roots, i, cgroups, leftovers);
}

void prestarts_close(prestarts_t *p)
{
    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        if (p->of[i] == NULL)
            continue;
        loop_timer_clear(p->loop, &p->of[i]->timer);
        loop_timer_clear(p->loop, &p->of[i]->again);
        warm_close(&p->of[i]->pool);
        free(p->of[i]);
        p->of[i] = NULL;
    }
}

/* ---- status ---- */

static const char *state_of(const prestart_t *ps)
{
    if (ps->max == 0)
        return "switched off in the configuration";
    if (ps->pause_ms > 0)
        return "can't be started ahead: see the log";
    return ps->pool.want == 0 ? "idle" : "ok";
}

void prestarts_status(const prestarts_t *p, sb_buf_t *out)
{
    bool first = true;

    sb_buf_char(out, '[');
    for (size_t i = 0; i < STAGE_RUNTIMES; i++) {
        const prestart_t *ps = p->of[i];

        if (ps == NULL)
            continue;
        sb_buf_str(out, first ? "{" : ",{");
        first = false;
        sb_json_key_str(out, "runtime", p->config->runtimes[i].name);
        sb_json_key_str(out, "status", state_of(ps));
        sb_json_key_int(out, "waiting", (int64_t)ps->pool.waiting);
        sb_json_key_int(out, "wanted", (int64_t)ps->pool.want);
        sb_json_key_int(out, "max", (int64_t)ps->max);
        sb_json_key_int(out, "ready_runs", (int64_t)ps->ready);
        sb_json_key_int(out, "plain_runs", (int64_t)ps->plain);
        sb_json_key_int(out, "executed_runs", (int64_t)ps->executed);
        sb_json_key_int(out, "failures", (int64_t)ps->failures);
        sb_buf_char(out, '}');
    }
    sb_buf_char(out, ']');
}
