
/*
 * Counters and histograms in the zone, and /metrics, which renders them as
 * Prometheus text (skillbox_metrics).
 *
 * Cardinality is bounded: labels are either words of ours or, for runs, a class
 * of tenants (skillbox_metrics_class) and a skill's name, of which the first
 * SERIES are counted apart and all later ones as class "other", skill "other".
 *
 * Counting is one atomic addition each, without a lock, in any thread.
 */


#include "ngx_http_skillbox_zone.h"

#include <arpa/inet.h>


#define NGX_HTTP_SKILLBOX_BUCKETS      18      /* and one above all */
#define NGX_HTTP_SKILLBOX_SIZES        9
#define NGX_HTTP_SKILLBOX_SERIES       64      /* the last one is "other" */
#define NGX_HTTP_SKILLBOX_CLASS_MAX    32
#define NGX_HTTP_SKILLBOX_METRICS_MAX  (4 * SB_MIB)
#define NGX_HTTP_SKILLBOX_TOP          10

#define NGX_HTTP_SKILLBOX_ENDPOINTS                                           \
    (sizeof(ngx_http_skillbox_endpoints)                                      \
     / sizeof(ngx_http_skillbox_endpoints[0]))


typedef struct {
    ngx_atomic_t                  bucket[NGX_HTTP_SKILLBOX_BUCKETS + 1];
    ngx_atomic_t                  sum;         /* microseconds, or items */
} ngx_http_skillbox_histogram_t;


enum {
    NGX_HTTP_SKILLBOX_PHASE_QUEUE = 0,
    NGX_HTTP_SKILLBOX_PHASE_START,
    NGX_HTTP_SKILLBOX_PHASE_RUN,
    NGX_HTTP_SKILLBOX_PHASE_COLLECT,
    NGX_HTTP_SKILLBOX_PHASES
};


typedef struct {
    char                          class[NGX_HTTP_SKILLBOX_CLASS_MAX + 1];
    char                          skill[SB_NAME_MAX + 1];
    ngx_atomic_t                  status[4];
    ngx_http_skillbox_histogram_t phase[NGX_HTTP_SKILLBOX_PHASES];
} ngx_http_skillbox_series_t;


struct ngx_http_skillbox_metrics_s {
    ngx_atomic_t                  requests[16][6];     /* endpoint, class */
    ngx_atomic_t                  auth[3];
    ngx_atomic_t                  limited[SB_LIMIT_COUNT + 1];
    ngx_atomic_t                  uploads[3];
    ngx_atomic_t                  upload_bytes;
    ngx_atomic_t                  store_failures;
    ngx_http_skillbox_histogram_t batch;
    ngx_http_skillbox_histogram_t commit;
    ngx_atomic_t                  journal[2];          /* its way, the other */
    ngx_http_skillbox_histogram_t journal_write;
    ngx_atomic_t                  nseries;
    ngx_http_skillbox_series_t    series[NGX_HTTP_SKILLBOX_SERIES];
};


typedef struct {
    const char                   *name;
    const char                   *path;        /* the first that fits counts */
    ngx_uint_t                    method;      /* 0: any */
} ngx_http_skillbox_endpoint_t;


static const int64_t  ngx_http_skillbox_bounds[NGX_HTTP_SKILLBOX_BUCKETS] = {
    1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
    2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000,
    600000000
};

static const int64_t  ngx_http_skillbox_sizes[NGX_HTTP_SKILLBOX_SIZES] = {
    1, 2, 5, 10, 25, 50, 100, 250, 1000
};

static const char  *ngx_http_skillbox_statuses[] = {
    "success", "failed", "timeout", "cancelled"
};

static const ngx_http_skillbox_endpoint_t  ngx_http_skillbox_endpoints[] = {
    { "health", "/health", 0 },
    { "ready", "/ready", 0 },
    { "run", "/v1/executions", NGX_HTTP_POST },
    { "executions", "/v1/executions", 0 },
    { "upload", "/v1/skills", NGX_HTTP_POST },
    { "skills", "/v1/skills", 0 },
    { "files", "/v1/files", 0 },
    { "sessions", "/v1/sessions", 0 },
    { "admin", "/v1/admin", 0 },
    { "mcp", "/mcp", 0 },
    { "other", "", 0 }
};

static const struct {
    const char  *metric;
    const char  *help;
} ngx_http_skillbox_phases[NGX_HTTP_SKILLBOX_PHASES] = {
    { "skillbox_execution_queue_seconds",
      "Time runs waited for their turn." },
    { "skillbox_execution_start_seconds",
      "Time from a run's turn until its script could start." },
    { "skillbox_execution_run_seconds",
      "Time from a run's turn until its script ended." },
    { "skillbox_execution_collect_seconds",
      "Time from the end of a run's script until its result was there." },
};

static ngx_http_skillbox_metrics_t *ngx_http_skillbox_metrics(void);
static void ngx_http_skillbox_observe(ngx_http_skillbox_histogram_t *h,
    const int64_t *bounds, ngx_uint_t n, int64_t value);
static ngx_uint_t ngx_http_skillbox_endpoint_of(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_count_run(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_metrics_t *m);
static ngx_http_skillbox_series_t *ngx_http_skillbox_series_of(
    ngx_http_skillbox_metrics_t *m, const char *class, const char *skill);
static ngx_http_skillbox_series_t *ngx_http_skillbox_series_find(
    ngx_http_skillbox_metrics_t *m, const char *class, const char *skill);
static void ngx_http_skillbox_class_of(ngx_http_request_t *r, char *class);
static ngx_int_t ngx_http_skillbox_metrics_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready);
static void ngx_http_skillbox_render_requests(sb_buf_t *b,
    ngx_http_skillbox_metrics_t *m);
static void ngx_http_skillbox_render_runs(sb_buf_t *b,
    ngx_http_skillbox_metrics_t *m);
static void ngx_http_skillbox_render_store(sb_buf_t *b,
    ngx_http_skillbox_metrics_t *m);
static void ngx_http_skillbox_render_auth(sb_buf_t *b,
    ngx_http_skillbox_metrics_t *m);
static void ngx_http_skillbox_render_zone(sb_buf_t *b);
static void ngx_http_skillbox_render_addresses(sb_buf_t *b);
static void ngx_http_skillbox_render_histogram(sb_buf_t *b, const char *name,
    const char *labels, ngx_http_skillbox_histogram_t *h,
    const int64_t *bounds, ngx_uint_t n, double unit);


size_t
ngx_http_skillbox_metrics_size(void)
{
    return sizeof(ngx_http_skillbox_metrics_t);
}


static ngx_http_skillbox_metrics_t *
ngx_http_skillbox_metrics(void)
{
    ngx_http_skillbox_shm_t  *shm;

    shm = ngx_http_skillbox_shm();

    return shm ? shm->metrics : NULL;
}


/* any thread */

static void
ngx_http_skillbox_observe(ngx_http_skillbox_histogram_t *h,
    const int64_t *bounds, ngx_uint_t n, int64_t value)
{
    ngx_uint_t  i;

    for (i = 0; i < n && value > bounds[i]; i++) { /* void */ }

    (void) ngx_atomic_fetch_add(&h->bucket[i], 1);
    (void) ngx_atomic_fetch_add(&h->sum, value);
}


void
ngx_http_skillbox_count_limited(ngx_uint_t limit)
{
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m) {
        (void) ngx_atomic_fetch_add(&m->limited[limit], 1);
    }
}


void
ngx_http_skillbox_count_auth(ngx_uint_t state)
{
    ngx_uint_t                    i;
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    i = (state == NGX_HTTP_SKILLBOX_AUTH_MISSING) ? 0
        : (state == NGX_HTTP_SKILLBOX_AUTH_EXPIRED) ? 2 : 1;

    if (m) {
        (void) ngx_atomic_fetch_add(&m->auth[i], 1);
    }
}


void
ngx_http_skillbox_count_journal(ngx_uint_t answered, ngx_uint_t passed)
{
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m) {
        (void) ngx_atomic_fetch_add(&m->journal[0], answered);
        (void) ngx_atomic_fetch_add(&m->journal[1], passed);
    }
}


/* thread */

void
ngx_http_skillbox_observe_journal(int64_t usec)
{
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m) {
        ngx_http_skillbox_observe(&m->journal_write, ngx_http_skillbox_bounds,
                                  NGX_HTTP_SKILLBOX_BUCKETS, usec);
    }
}


/* thread */

void
ngx_http_skillbox_count_batch(ngx_uint_t operations, int64_t usec,
    ngx_uint_t failed)
{
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m == NULL) {
        return;
    }

    ngx_http_skillbox_observe(&m->batch, ngx_http_skillbox_sizes,
                              NGX_HTTP_SKILLBOX_SIZES, operations);
    ngx_http_skillbox_observe(&m->commit, ngx_http_skillbox_bounds,
                              NGX_HTTP_SKILLBOX_BUCKETS, usec);

    if (failed) {
        (void) ngx_atomic_fetch_add(&m->store_failures, 1);
    }
}


static ngx_uint_t
ngx_http_skillbox_endpoint_of(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    size_t                               len;
    ngx_uint_t                           i;
    const ngx_http_skillbox_endpoint_t  *e;

    for (i = 0; i < NGX_HTTP_SKILLBOX_ENDPOINTS - 1; i++) {
        e = &ngx_http_skillbox_endpoints[i];
        len = ngx_strlen(e->path);

        if (ctx && ctx->route
            && (e->method == 0 || (r->method & e->method))
            && ctx->path.len >= len
            && ngx_strncmp(ctx->path.data, e->path, len) == 0)
        {
            return i;
        }
    }

    return i;
}


/* the log phase: the request is over */

void
ngx_http_skillbox_count_request(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_uint_t                    status, endpoint;
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m == NULL) {
        return;
    }

    status = r->err_status ? r->err_status : r->headers_out.status;
    endpoint = ngx_http_skillbox_endpoint_of(r, ctx);

    (void) ngx_atomic_fetch_add(&m->requests[endpoint][ngx_min(status / 100,
                                                               5)], 1);

    if (ctx == NULL) {
        return;
    }

    if (ngx_strcmp(ngx_http_skillbox_endpoints[endpoint].name, "upload")
        == 0)
    {
        (void) ngx_atomic_fetch_add(&m->uploads[status == NGX_HTTP_CREATED ? 0
                                             : status == NGX_HTTP_OK ? 1 : 2],
                                    1);
        (void) ngx_atomic_fetch_add(&m->upload_bytes,
                                    ngx_max(r->headers_in.content_length_n,
                                            0));
    }

    if (ctx->run_usec >= 0 && ctx->status.len && ctx->skill.len) {
        ngx_http_skillbox_count_run(r, ctx, m);
    }
}


/*
 * The same for the helper's own request that brings the end of an asynchronous
 * run; its facts are in headers.  NGX_DECLINED: it is no such end.
 */

ngx_int_t
ngx_http_skillbox_count_completion(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_table_elt_t              *h;
    ngx_http_skillbox_metrics_t  *m;

    const struct {
        const char  *name;
        int64_t     *usec;
    } facts[] = {
        { SB_H_QUEUE_USEC, &ctx->queue_usec },
        { SB_H_START_USEC, &ctx->start_usec },
        { SB_H_RUN_USEC, &ctx->run_usec },
        { SB_H_COLLECT_USEC, &ctx->collect_usec },
    };

    if (ctx->execution.len == 0 || ctx->status.len == 0
        || ngx_strncmp(ctx->status.data, "running", 7) == 0
        || r->err_status || r->headers_out.status >= 300)
    {
        return NGX_DECLINED;
    }

    for (i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        h = ngx_http_skillbox_find_header(r, facts[i].name, NULL);

        if (h) {
            *facts[i].usec = ngx_atoi(h->value.data, h->value.len);
        }
    }

    m = ngx_http_skillbox_metrics();

    if (m && ctx->skill.len) {
        ngx_http_skillbox_count_run(r, ctx, m);
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_count_run(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_metrics_t *m)
{
    char                         class[NGX_HTTP_SKILLBOX_CLASS_MAX + 1];
    char                         skill[SB_NAME_MAX + 1];
    int64_t                      usec[NGX_HTTP_SKILLBOX_PHASES];
    ngx_uint_t                   i;
    ngx_http_skillbox_series_t  *s;

    ngx_http_skillbox_class_of(r, class);
    ngx_cpystrn((u_char *) skill, ctx->skill.data,
                ngx_min(ctx->skill.len + 1, sizeof(skill)));

    s = ngx_http_skillbox_series_of(m, class, skill);

    for (i = 0; i < 4; i++) {
        if (ctx->status.len == ngx_strlen(ngx_http_skillbox_statuses[i])
            && ngx_strncmp(ctx->status.data, ngx_http_skillbox_statuses[i],
                           ctx->status.len) == 0)
        {
            (void) ngx_atomic_fetch_add(&s->status[i], 1);
        }
    }

    usec[NGX_HTTP_SKILLBOX_PHASE_QUEUE] = ctx->queue_usec;
    usec[NGX_HTTP_SKILLBOX_PHASE_START] = ctx->start_usec;
    usec[NGX_HTTP_SKILLBOX_PHASE_RUN] = ctx->run_usec;
    usec[NGX_HTTP_SKILLBOX_PHASE_COLLECT] = ctx->collect_usec;

    for (i = 0; i < NGX_HTTP_SKILLBOX_PHASES; i++) {
        if (usec[i] >= 0) {
            ngx_http_skillbox_observe(&s->phase[i], ngx_http_skillbox_bounds,
                                      NGX_HTTP_SKILLBOX_BUCKETS, usec[i]);
        }
    }
}


/* what the label may hold is left of the value; "default" of nothing */

static void
ngx_http_skillbox_class_of(ngx_http_request_t *r, char *class)
{
    u_char                         ch;
    size_t                         i, n;
    ngx_str_t                      value;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    ngx_str_null(&value);

    if (slcf->metrics_class
        && ngx_http_complex_value(r, slcf->metrics_class, &value) != NGX_OK)
    {
        ngx_str_null(&value);
    }

    for (i = 0, n = 0; i < value.len && n < NGX_HTTP_SKILLBOX_CLASS_MAX; i++) {
        ch = value.data[i];

        if ((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z')
            || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'
            || ch == '.')
        {
            class[n++] = ch;
        }
    }

    class[n] = '\0';

    if (n == 0) {
        ngx_memcpy(class, "default", sizeof("default"));
    }
}


/* an entry is complete before nseries says that it is there */

static ngx_http_skillbox_series_t *
ngx_http_skillbox_series_find(ngx_http_skillbox_metrics_t *m,
    const char *class, const char *skill)
{
    ngx_uint_t                   i, n;
    ngx_http_skillbox_series_t  *s;

    n = m->nseries;
    ngx_memory_barrier();

    for (i = 0; i < n; i++) {
        s = &m->series[i];

        if (ngx_strcmp(s->skill, skill) == 0
            && ngx_strcmp(s->class, class) == 0)
        {
            return s;
        }
    }

    return n == NGX_HTTP_SKILLBOX_SERIES ? &m->series[n - 1] : NULL;
}


static ngx_http_skillbox_series_t *
ngx_http_skillbox_series_of(ngx_http_skillbox_metrics_t *m, const char *class,
    const char *skill)
{
    ngx_slab_pool_t             *pool;
    ngx_http_skillbox_series_t  *s;

    s = ngx_http_skillbox_series_find(m, class, skill);

    if (s) {
        return s;
    }

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    s = ngx_http_skillbox_series_find(m, class, skill);

    if (s == NULL) {
        s = &m->series[m->nseries];

        if (m->nseries == NGX_HTTP_SKILLBOX_SERIES - 1) {
            class = "other";
            skill = "other";
        }

        ngx_cpystrn((u_char *) s->class, (u_char *) class, sizeof(s->class));
        ngx_cpystrn((u_char *) s->skill, (u_char *) skill, sizeof(s->skill));

        ngx_memory_barrier();
        m->nseries++;
    }

    ngx_shmtx_unlock(&pool->mutex);

    return s;
}


/* /metrics */

ngx_int_t
ngx_http_skillbox_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_ctx_t       *ctx;
    ngx_http_skillbox_loc_conf_t  *slcf;

    if (r != r->main) {
        return NGX_HTTP_NOT_FOUND;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_http_skillbox_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->ready == NULL) {
        return ngx_http_skillbox_metrics_answer(r, NULL);
    }

    return ngx_http_skillbox_helper_status(r, ctx,
                                           ngx_http_skillbox_metrics_answer);
}


static ngx_int_t
ngx_http_skillbox_metrics_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready)
{
    sb_buf_t                      b;
    ngx_http_skillbox_metrics_t  *m;

    m = ngx_http_skillbox_metrics();

    if (m == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    sb_buf_init(&b, NGX_HTTP_SKILLBOX_METRICS_MAX);

    ngx_http_skillbox_family(&b, "skillbox_build_info", "gauge",
                             "Always 1; the gateway's version.");
    sb_buf_fmt(&b, "skillbox_build_info{version=\"%s\",nginx=\"%s\"} 1\n",
               NGX_HTTP_SKILLBOX_VERSION, NGINX_VERSION);

    ngx_http_skillbox_render_requests(&b, m);
    ngx_http_skillbox_render_auth(&b, m);
    ngx_http_skillbox_render_runs(&b, m);
    ngx_http_skillbox_render_store(&b, m);
    ngx_http_skillbox_render_zone(&b);
    ngx_http_skillbox_render_addresses(&b);

    if (ready) {
        ngx_http_skillbox_metrics_helper(&b, ready);
    }

    return ngx_http_skillbox_send(r, NGX_HTTP_OK, "text/plain; version=0.0.4",
                                  "utf-8", &b);
}


void
ngx_http_skillbox_family(sb_buf_t *b, const char *name, const char *type,
    const char *help)
{
    sb_buf_fmt(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}


static void
ngx_http_skillbox_render_requests(sb_buf_t *b, ngx_http_skillbox_metrics_t *m)
{
    ngx_uint_t  i, class;

    static const char  *uploads[] = { "created", "unchanged", "refused" };

    ngx_http_skillbox_family(b, "skillbox_http_requests_total", "counter",
                             "Requests by endpoint and class of the answer's "
                             "status; 0xx: none was sent.");

    for (i = 0; i < NGX_HTTP_SKILLBOX_ENDPOINTS; i++) {
        for (class = 0; class < 6; class++) {

            if (m->requests[i][class] || (class >= 2 && class != 3)) {
                sb_buf_fmt(b, "skillbox_http_requests_total{endpoint=\"%s\","
                           "class=\"%uxx\"} %lu\n",
                           ngx_http_skillbox_endpoints[i].name,
                           (unsigned) class,
                           (unsigned long) m->requests[i][class]);
            }
        }
    }

    ngx_http_skillbox_family(b, "skillbox_uploads_total", "counter",
                             "Uploads of packages by what came of them.");

    for (i = 0; i < 3; i++) {
        sb_buf_fmt(b, "skillbox_uploads_total{result=\"%s\"} %lu\n",
                   uploads[i], (unsigned long) m->uploads[i]);
    }

    ngx_http_skillbox_family(b, "skillbox_upload_bytes_total", "counter",
                             "Bytes of uploads that told their length.");
    sb_buf_fmt(b, "skillbox_upload_bytes_total %lu\n",
               (unsigned long) m->upload_bytes);
}


static void
ngx_http_skillbox_render_auth(sb_buf_t *b, ngx_http_skillbox_metrics_t *m)
{
    ngx_uint_t  i;

    static const char  *reasons[] = { "missing", "invalid", "expired" };

    ngx_http_skillbox_family(b, "skillbox_auth_failures_total", "counter",
                             "Requests without a valid API key, by what was "
                             "wrong.");

    for (i = 0; i < 3; i++) {
        sb_buf_fmt(b, "skillbox_auth_failures_total{reason=\"%s\"} %lu\n",
                   reasons[i], (unsigned long) m->auth[i]);
    }

    ngx_http_skillbox_family(b, "skillbox_limited_total", "counter",
                             "Requests refused for a tenant's limit, or for "
                             "the failed authentications of an address.");

    for (i = 0; i <= SB_LIMIT_COUNT; i++) {
        sb_buf_fmt(b, "skillbox_limited_total{limit=\"%s\"} %lu\n",
                   i < SB_LIMIT_COUNT ? sb_limit_name(i) : "auth_failures",
                   (unsigned long) m->limited[i]);
    }
}


static void
ngx_http_skillbox_render_runs(sb_buf_t *b, ngx_http_skillbox_metrics_t *m)
{
    char                         labels[256];
    ngx_uint_t                   i, k, n;
    ngx_http_skillbox_series_t  *s;

    n = m->nseries;
    ngx_memory_barrier();

    ngx_http_skillbox_family(b, "skillbox_executions_total", "counter",
                             "Runs that ended, by how they did.");

    for (i = 0; i < n; i++) {
        s = &m->series[i];

        for (k = 0; k < 4; k++) {
            sb_buf_fmt(b, "skillbox_executions_total{class=\"%s\",skill=\"%s\","
                       "status=\"%s\"} %lu\n", s->class, s->skill,
                       ngx_http_skillbox_statuses[k],
                       (unsigned long) s->status[k]);
        }
    }

    for (k = 0; k < NGX_HTTP_SKILLBOX_PHASES; k++) {
        ngx_http_skillbox_family(b, ngx_http_skillbox_phases[k].metric,
                                 "histogram",
                                 ngx_http_skillbox_phases[k].help);

        for (i = 0; i < n; i++) {
            s = &m->series[i];

            (void) snprintf(labels, sizeof(labels),
                            "class=\"%s\",skill=\"%s\"", s->class, s->skill);

            ngx_http_skillbox_render_histogram(b,
                                           ngx_http_skillbox_phases[k].metric,
                                           labels, &s->phase[k],
                                           ngx_http_skillbox_bounds,
                                           NGX_HTTP_SKILLBOX_BUCKETS, 1e6);
        }
    }
}


/* labels may be ""; the count is that of the buckets, as they were read */

static void
ngx_http_skillbox_render_histogram(sb_buf_t *b, const char *name,
    const char *labels, ngx_http_skillbox_histogram_t *h,
    const int64_t *bounds, ngx_uint_t n, double unit)
{
    const char     *comma;
    ngx_uint_t      i;
    unsigned long   count;

    comma = labels[0] ? "," : "";

    for (i = 0, count = 0; i <= n; i++) {
        count += h->bucket[i];

        if (i < n) {
            sb_buf_fmt(b, "%s_bucket{%s%sle=\"%.15g\"} %lu\n", name, labels,
                       comma, bounds[i] / unit, count);

        } else {
            sb_buf_fmt(b, "%s_bucket{%s%sle=\"+Inf\"} %lu\n", name, labels,
                       comma, count);
        }
    }

    if (labels[0]) {
        sb_buf_fmt(b, "%s_sum{%s} %.15g\n%s_count{%s} %lu\n", name, labels,
                   (double) h->sum / unit, name, labels, count);
        return;
    }

    sb_buf_fmt(b, "%s_sum %.15g\n%s_count %lu\n", name,
               (double) h->sum / unit, name, count);
}


static void
ngx_http_skillbox_render_store(sb_buf_t *b, ngx_http_skillbox_metrics_t *m)
{
    sb_err_t          err;
    sb_store_t       *store;
    sb_store_usage_t  usage;

    ngx_http_skillbox_family(b, "skillbox_store_batch_operations", "histogram",
                             "Writes that were committed together.");
    ngx_http_skillbox_render_histogram(b, "skillbox_store_batch_operations",
                                       "", &m->batch, ngx_http_skillbox_sizes,
                                       NGX_HTTP_SKILLBOX_SIZES, 1);

    ngx_http_skillbox_family(b, "skillbox_store_commit_seconds", "histogram",
                             "Time of a batch in the store's thread, with its "
                             "commit.");
    ngx_http_skillbox_render_histogram(b, "skillbox_store_commit_seconds", "",
                                       &m->commit, ngx_http_skillbox_bounds,
                                       NGX_HTTP_SKILLBOX_BUCKETS, 1e6);

    ngx_http_skillbox_family(b, "skillbox_store_failures_total", "counter",
                             "Batches that could not be committed.");
    sb_buf_fmt(b, "skillbox_store_failures_total %lu\n",
               (unsigned long) m->store_failures);

    ngx_http_skillbox_family(b, "skillbox_journal_write_seconds", "histogram",
                             "Time of a write to a journal, until it is on "
                             "the disk.");
    ngx_http_skillbox_render_histogram(b, "skillbox_journal_write_seconds",
                                       "", &m->journal_write,
                                       ngx_http_skillbox_bounds,
                                       NGX_HTTP_SKILLBOX_BUCKETS, 1e6);

    ngx_http_skillbox_family(b, "skillbox_journal_runs_total", "counter",
                             "Runs that were answered when they were in the "
                             "journal, and that had to be in the store before "
                             "although the journal is meant for such.");
    sb_buf_fmt(b, "skillbox_journal_runs_total{way=\"journal\"} %lu\n"
                  "skillbox_journal_runs_total{way=\"store\"} %lu\n",
               (unsigned long) m->journal[0], (unsigned long) m->journal[1]);

    store = ngx_http_skillbox_store(&err);

    ngx_http_skillbox_family(b, "skillbox_store_up", "gauge",
                             "1 when the store is open in the worker that "
                             "answers.");
    sb_buf_fmt(b, "skillbox_store_up %d\n", store != NULL);

    if (store && sb_store_usage(store, &usage, &err) == SB_OK) {
        ngx_http_skillbox_family(b, "skillbox_store_map_bytes", "gauge",
                                 "Size of the store's map, which is fixed.");
        sb_buf_fmt(b, "skillbox_store_map_bytes %llu\n",
                   (unsigned long long) usage.map_bytes);
        ngx_http_skillbox_family(b, "skillbox_store_used_bytes", "gauge",
                                 "Bytes of the map that were ever used, those "
                                 "to be used again included.");
        sb_buf_fmt(b, "skillbox_store_used_bytes %llu\n",
                   (unsigned long long) usage.used_bytes);
    }
}


static void
ngx_http_skillbox_render_zone(sb_buf_t *b)
{
    ngx_uint_t                n, i, k, workers, runs, tenants;
    ngx_slab_pool_t          *pool;
    ngx_http_skillbox_shm_t  *shm;

    shm = ngx_http_skillbox_shm();
    pool = ngx_http_skillbox_shm_pool();

    workers = 0;
    tenants = 0;
    runs = 0;

    ngx_shmtx_lock(&pool->mutex);

    ngx_http_skillbox_reap_workers(shm);

    for (i = 0; i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        workers += (shm->workers[i].pid != 0);
    }

    for (i = 0; i < shm->ntenants; i++) {

        if (!shm->used[i]) {
            continue;
        }

        for (k = 0, n = 0; k < NGX_HTTP_SKILLBOX_WORKERS; k++) {
            n += shm->tenants[i].runs[k];
        }

        runs += n;
        tenants += (n != 0);
    }

    ngx_shmtx_unlock(&pool->mutex);

    ngx_http_skillbox_family(b, "skillbox_workers", "gauge",
                             "Worker processes, old ones included.");
    sb_buf_fmt(b, "skillbox_workers %u\n", (unsigned) workers);

    ngx_http_skillbox_family(b, "skillbox_synchronous_executions", "gauge",
                             "Synchronous runs under way, running or "
                             "waiting.");
    sb_buf_fmt(b, "skillbox_synchronous_executions %u\n", (unsigned) runs);

    ngx_http_skillbox_family(b, "skillbox_active_tenants", "gauge",
                             "Tenants with synchronous runs under way.");
    sb_buf_fmt(b, "skillbox_active_tenants %u\n", (unsigned) tenants);
}


/* addresses that failed within the last minute; the worst by name */

static void
ngx_http_skillbox_render_addresses(sb_buf_t *b)
{
    char                          text[INET6_ADDRSTRLEN];
    int64_t                       minute;
    ngx_uint_t                    i, k, n, count, ntop;
    ngx_slab_pool_t              *pool;
    ngx_http_skillbox_shm_t      *shm;
    ngx_http_skillbox_failure_t  *f, top[NGX_HTTP_SKILLBOX_TOP + 1];

    shm = ngx_http_skillbox_shm();
    pool = ngx_http_skillbox_shm_pool();
    minute = ngx_time() / 60;
    ntop = 0;
    n = 0;

    ngx_shmtx_lock(&pool->mutex);

    for (i = 0; i < NGX_HTTP_SKILLBOX_FAILURES; i++) {
        f = &shm->failures[i];
        count = (f->start == minute) ? f->count + f->last
                : (f->start == minute - 1) ? f->count : 0;

        if (f->len == 0 || count == 0) {
            continue;
        }

        n++;

        for (k = ntop; k > 0 && top[k - 1].count < count; k--) {
            top[k] = top[k - 1];
        }

        top[k] = *f;
        top[k].count = count;
        ntop = ngx_min(ntop + 1, NGX_HTTP_SKILLBOX_TOP);
    }

    ngx_shmtx_unlock(&pool->mutex);

    ngx_http_skillbox_family(b, "skillbox_auth_failing_addresses", "gauge",
                             "Addresses that sent no valid API key in this or "
                             "the last minute.");
    sb_buf_fmt(b, "skillbox_auth_failing_addresses %u\n", (unsigned) n);

    ngx_http_skillbox_family(b, "skillbox_auth_address_failures", "gauge",
                             "Failures of the worst of those addresses; of "
                             "IPv6 the network.");

    for (i = 0; i < ntop; i++) {

        if (inet_ntop(top[i].len == 4 ? AF_INET : AF_INET6, top[i].addr, text,
                      sizeof(text)))
        {
            sb_buf_fmt(b, "skillbox_auth_address_failures{address=\"%s\"} "
                       "%u\n", text, (unsigned) top[i].count);
        }
    }
}
