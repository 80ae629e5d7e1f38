
/*
 * What a tenant may take, held by the workers together.
 *
 * Runs are limited at two places.  Here: how many synchronous runs a tenant has
 * under way in this gateway, running or waiting (concurrent_runs plus
 * queued_runs), and how many it begins in a minute.  In the helper, which alone
 * knows what runs and what waits: each limit by itself, for asynchronous runs as
 * well; above concurrent_runs a run waits, above queued_runs it is refused.
 *
 * The rate is a leaky bucket of a minute's runs (GCRA): arrival_us is when the
 * next run would be due if all came evenly; a run may come up to a minute ahead
 * of that.
 *
 * A run holds its place from begin() to end(), which whoever ends the request
 * first calls: the answer's header, or the request's pool.
 */


#include "ngx_http_skillbox_zone.h"


#define NGX_HTTP_SKILLBOX_MINUTE_US  60000000


static ngx_int_t ngx_http_skillbox_limits_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_http_skillbox_tenant_t *ngx_http_skillbox_limits_tenant(
    ngx_http_skillbox_shm_t *shm, const char *id, int64_t now_ms);
static ngx_uint_t ngx_http_skillbox_limits_busy(
    ngx_http_skillbox_tenant_t *t);
static ngx_uint_t ngx_http_skillbox_limits_wait(ngx_http_skillbox_tenant_t *t,
    int64_t per_minute, int64_t now_us);
static ngx_int_t ngx_http_skillbox_limits_refuse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_uint_t limit, ngx_uint_t seconds);


static ngx_int_t
ngx_http_skillbox_limits_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t     err;
    sb_store_t  *store;

    store = ngx_http_skillbox_store(&err);

    if (store
        && sb_store_tenant_limits(store, ctx->key.tenant, ctx->limit, &err)
           == SB_OK)
    {
        return NGX_OK;
    }

    return ngx_http_skillbox_error_sb(r, &err, "reading a tenant's limits");
}


/* this worker's, of all tenants */

static ngx_uint_t  ngx_http_skillbox_runs;


ngx_uint_t
ngx_http_skillbox_limits_runs(void)
{
    return ngx_http_skillbox_runs;
}


/* NGX_OK: the run may begin, and has its place; else the status */

ngx_int_t
ngx_http_skillbox_limits_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    int64_t                      now_us, most;
    ngx_int_t                    rc;
    ngx_uint_t                   seconds, reaped;
    ngx_time_t                  *tp;
    ngx_slab_pool_t             *pool;
    ngx_http_skillbox_shm_t     *shm;
    ngx_http_skillbox_tenant_t  *t;

    rc = ngx_http_skillbox_limits_read(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ctx->limit[SB_LIMIT_CONCURRENT_RUNS] == 0) {
        return ngx_http_skillbox_limits_refuse(r, ctx,
                                               SB_LIMIT_CONCURRENT_RUNS, 60);
    }

    /* a run's record is always kept, so none begins where there is no room */

    rc = ngx_http_skillbox_limits_room(r, ctx, 0);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ctx->limit[SB_LIMIT_RUNS_PER_MINUTE] == 0) {
        return ngx_http_skillbox_limits_refuse(r, ctx,
                                               SB_LIMIT_RUNS_PER_MINUTE, 60);
    }

    most = -1;

    if (ctx->limit[SB_LIMIT_CONCURRENT_RUNS] != SB_UNLIMITED
        && ctx->limit[SB_LIMIT_QUEUED_RUNS] != SB_UNLIMITED)
    {
        most = ctx->limit[SB_LIMIT_CONCURRENT_RUNS]
               + ctx->limit[SB_LIMIT_QUEUED_RUNS];
    }

    shm = ngx_http_skillbox_shm();

    if (shm == NULL || ctx->place) {
        return NGX_OK;
    }

    tp = ngx_timeofday();
    now_us = ((int64_t) tp->sec * 1000 + tp->msec) * 1000;
    seconds = 0;
    rc = NGX_OK;

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    t = ngx_http_skillbox_limits_tenant(shm, ctx->key.tenant, now_us / 1000);

    if (t == NULL) {
        rc = NGX_BUSY;

    } else {

        /* none is refused for the sake of a worker that is dead */

        reaped = 0;

        while (most >= 0
               && (int64_t) ngx_http_skillbox_limits_busy(t) >= most)
        {
            if (reaped || ngx_http_skillbox_reap_workers(shm) == 0) {
                rc = NGX_DECLINED;
                break;
            }

            reaped = 1;
        }

        if (rc == NGX_OK
            && ctx->limit[SB_LIMIT_RUNS_PER_MINUTE] != SB_UNLIMITED)
        {
            seconds = ngx_http_skillbox_limits_wait(t,
                                      ctx->limit[SB_LIMIT_RUNS_PER_MINUTE],
                                      now_us);
        }

        if (rc == NGX_OK && seconds == 0) {
            t->runs[ngx_http_skillbox_worker()]++;
            ngx_http_skillbox_runs++;
            ctx->place = t;
        }
    }

    ngx_shmtx_unlock(&pool->mutex);

    if (rc == NGX_BUSY) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                      "the skillbox zone has no room for another tenant: "
                      "make it larger");
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The service is overloaded, try again "
                                       "later.");
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_skillbox_limits_refuse(r, ctx,
                                               SB_LIMIT_CONCURRENT_RUNS, 1);
    }

    if (seconds) {
        return ngx_http_skillbox_limits_refuse(r, ctx,
                                               SB_LIMIT_RUNS_PER_MINUTE,
                                               seconds);
    }

    return NGX_OK;
}


void
ngx_http_skillbox_limits_end(ngx_http_skillbox_ctx_t *ctx)
{
    uint16_t                    *runs;
    ngx_slab_pool_t             *pool;
    ngx_http_skillbox_tenant_t  *t;

    t = ctx->place;

    if (t == NULL) {
        return;
    }

    ctx->place = NULL;
    ngx_http_skillbox_runs--;

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    runs = &t->runs[ngx_http_skillbox_worker()];

    if (*runs) {
        (*runs)--;
    }

    ngx_shmtx_unlock(&pool->mutex);
}


/*
 * Under the mutex: the tenant's entry, a new one in place of the one that was
 * not used for the longest time if need be; NULL when all it could be at have
 * runs under way.
 */

static ngx_http_skillbox_tenant_t *
ngx_http_skillbox_limits_tenant(ngx_http_skillbox_shm_t *shm, const char *id,
    int64_t now_ms)
{
    ngx_uint_t                   i, n, at;
    ngx_http_skillbox_tenant_t  *t, *oldest;

    at = ngx_crc32_short((u_char *) id, ngx_strlen(id)) % shm->ntenants;
    oldest = NULL;

    for (i = 0; i < NGX_HTTP_SKILLBOX_PROBES; i++) {
        n = (at + i) % shm->ntenants;
        t = &shm->tenants[n];

        /* taken in this order, and never unused again: it is not behind */

        if (!shm->used[n]) {
            oldest = t;
            break;
        }

        if (ngx_strcmp(t->id, id) == 0) {
            t->used_ms = now_ms;
            return t;
        }

        if ((oldest == NULL || t->used_ms < oldest->used_ms)
            && ngx_http_skillbox_limits_busy(t) == 0)
        {
            oldest = t;
        }
    }

    if (oldest) {
        ngx_memzero(oldest, sizeof(ngx_http_skillbox_tenant_t));
        ngx_cpystrn((u_char *) oldest->id, (u_char *) id, sizeof(oldest->id));
        oldest->used_ms = now_ms;
        shm->used[oldest - shm->tenants] = 1;
    }

    return oldest;
}


static ngx_uint_t
ngx_http_skillbox_limits_busy(ngx_http_skillbox_tenant_t *t)
{
    ngx_uint_t  i, n;

    for (i = 0, n = 0; i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        n += t->runs[i];
    }

    return n;
}


/* 0: it may begin, and counts; else the seconds to wait */

static ngx_uint_t
ngx_http_skillbox_limits_wait(ngx_http_skillbox_tenant_t *t,
    int64_t per_minute, int64_t now_us)
{
    int64_t  interval, due, ahead;

    interval = ngx_max(NGX_HTTP_SKILLBOX_MINUTE_US / per_minute, 1);

    /* a clock that was set back leaves nobody out for long */

    due = ngx_max(t->arrival_us, now_us);
    due = ngx_min(due, now_us + NGX_HTTP_SKILLBOX_MINUTE_US);

    ahead = due + interval - now_us - NGX_HTTP_SKILLBOX_MINUTE_US;

    if (ahead > 0) {
        return ahead / 1000000 + 1;
    }

    t->arrival_us = due + interval;

    return 0;
}


static ngx_int_t
ngx_http_skillbox_limits_refuse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_uint_t limit, ngx_uint_t seconds)
{
    ngx_int_t  rc;

    ngx_http_skillbox_count_limited(limit);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "tenant \"%s\" is at its limit of %s",
                  ctx->key.tenant, sb_limit_name(limit));

    rc = ngx_http_skillbox_error(r, NGX_HTTP_TOO_MANY_REQUESTS,
                                 "The tenant is at its limit of %lld %s.",
                                 (long long) ctx->limit[limit],
                                 limit == SB_LIMIT_RUNS_PER_MINUTE
                                 ? "runs a minute" : "runs at a time");

    ctx->error.retry_after = seconds;

    return rc;
}


/* what the helper is to hold the tenant to */

void
ngx_http_skillbox_limits_params(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_call_t *call)
{
    if (ctx->limit[SB_LIMIT_CONCURRENT_RUNS] > 0) {
        ngx_http_skillbox_call_number(call, SB_P_TENANT_RUNNING,
                            ngx_min(ctx->limit[SB_LIMIT_CONCURRENT_RUNS],
                                    1000000000));
    }

    if (ctx->limit[SB_LIMIT_QUEUED_RUNS] >= 0) {
        ngx_http_skillbox_call_number(call, SB_P_TENANT_WAITING,
                                ngx_min(ctx->limit[SB_LIMIT_QUEUED_RUNS],
                                        1000000000));
    }

    if (ctx->limit[SB_LIMIT_ARTIFACT_BYTES] >= 0) {
        ngx_http_skillbox_call_number(call, SB_P_ARTIFACT_BYTES,
                                ngx_min(ctx->limit[SB_LIMIT_ARTIFACT_BYTES],
                                        SB_ARTIFACT_BYTES_MAX));
    }
}


/*
 * Does the tenant's disk_bytes leave room for so much?  It is asked here to
 * refuse before the work is done; the operation that writes asks once more.
 */

ngx_int_t
ngx_http_skillbox_limits_room(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, off_t bytes)
{
    sb_err_t     err;
    sb_store_t  *store;

    store = ngx_http_skillbox_store(&err);

    if (store
        && sb_store_tenant_room(store, ctx->key.tenant, bytes, &err) == SB_OK)
    {
        return NGX_OK;
    }

    if (err.code == SB_EQUOTA) {
        ngx_http_skillbox_count_limited(SB_LIMIT_DISK_BYTES);
    }

    return ngx_http_skillbox_error_sb(r, &err, "reading what a tenant keeps");
}


/* how large a package of the tenant may be; -1: *rc is the status */

off_t
ngx_http_skillbox_limits_package(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_int_t *rc)
{
    off_t                          limit;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    *rc = ngx_http_skillbox_limits_read(r, ctx);
    if (*rc != NGX_OK) {
        return -1;
    }

    limit = ctx->limit[SB_LIMIT_PACKAGE_BYTES];

    return (limit == SB_UNLIMITED || limit > slcf->max_package)
           ? slcf->max_package : limit;
}
