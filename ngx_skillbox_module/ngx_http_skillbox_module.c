
/*
 * Directives, their merging, the module's place in the phases, the life of a
 * worker process and of a request's context.
 *
 * Configuration runs in the master and under "nginx -t": nothing is opened for
 * writing, made or locked there.  The store is opened in init_process, after
 * the fork.
 */


#include "ngx_http_skillbox_async.h"


static ngx_int_t ngx_http_skillbox_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_skillbox_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_skillbox_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_skillbox_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_skillbox_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_skillbox_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_skillbox_merge_upstream(ngx_conf_t *cf,
    ngx_http_upstream_conf_t *conf, ngx_http_upstream_conf_t *prev);
static void ngx_http_skillbox_ask_all(ngx_http_upstream_conf_t *conf);
static ngx_int_t ngx_http_skillbox_create_probe(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf);
static char *ngx_http_skillbox_merge_metrics(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static char *ngx_http_skillbox_check_loc_conf(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf);
static void ngx_http_skillbox_set_prefix(ngx_http_skillbox_loc_conf_t *conf,
    ngx_http_skillbox_loc_conf_t *prev, ngx_http_core_loc_conf_t *clcf);
static ngx_int_t ngx_http_skillbox_init_process(ngx_cycle_t *cycle);
static void ngx_http_skillbox_exit_process(ngx_cycle_t *cycle);
static void ngx_http_skillbox_cleanup(void *data);


static ngx_conf_bitmask_t  ngx_http_skillbox_next_upstream_masks[] = {
    { ngx_string("error"), NGX_HTTP_UPSTREAM_FT_ERROR },
    { ngx_string("timeout"), NGX_HTTP_UPSTREAM_FT_TIMEOUT },
    { ngx_string("invalid_header"), NGX_HTTP_UPSTREAM_FT_INVALID_HEADER },
    { ngx_string("non_idempotent"), NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT },
    { ngx_string("http_500"), NGX_HTTP_UPSTREAM_FT_HTTP_500 },
    { ngx_string("http_503"), NGX_HTTP_UPSTREAM_FT_HTTP_503 },
    { ngx_string("off"), NGX_HTTP_UPSTREAM_FT_OFF },
    { ngx_null_string, 0 }
};


#define NGX_HTTP_SKILLBOX_ANY_CONF                                            \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_skillbox_commands[] = {

    { ngx_string("skillbox_store"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_skillbox_set_store,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_journal"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_skillbox_main_conf_t, journal),
      NULL },

    { ngx_string("skillbox_retention"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_skillbox_set_retention,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_skillbox_set_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_audit_log"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_skillbox_set_audit_log,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, metrics),
      NULL },

    { ngx_string("skillbox_metrics_class"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, metrics_class),
      NULL },

    { ngx_string("skillbox_auth_failures"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, auth_failures),
      NULL },

    { ngx_string("skillbox"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, enable),
      NULL },

    { ngx_string("skillbox_pass"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_skillbox_set_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_auth"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, auth),
      NULL },

    { ngx_string("skillbox_json_errors"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, json_errors),
      NULL },

    { ngx_string("skillbox_cors"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_skillbox_set_cors,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_max_package"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, max_package),
      NULL },

    { ngx_string("skillbox_max_file"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, max_file),
      NULL },

    { ngx_string("skillbox_max_input"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, max_input),
      NULL },

    { ngx_string("skillbox_artifacts"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_skillbox_set_artifacts,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_sign_key"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE2,
      ngx_http_skillbox_set_sign_key,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_internal"),
      NGX_HTTP_LOC_CONF|NGX_CONF_ANY,
      ngx_http_skillbox_set_internal,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("skillbox_sign_ttl"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_sec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, sign_ttl),
      NULL },

    { ngx_string("skillbox_public_url"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, public_url),
      NULL },

    { ngx_string("skillbox_scan"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_skillbox_set_scan,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, scan),
      NULL },

    { ngx_string("skillbox_heartbeat"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, heartbeat),
      NULL },

    { ngx_string("skillbox_queue_timeout"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, queue_timeout),
      NULL },

    { ngx_string("skillbox_connect_timeout"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.connect_timeout),
      NULL },

    { ngx_string("skillbox_send_timeout"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.send_timeout),
      NULL },

    { ngx_string("skillbox_read_timeout"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.read_timeout),
      NULL },

    { ngx_string("skillbox_buffer_size"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.buffer_size),
      NULL },

    { ngx_string("skillbox_next_upstream"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.next_upstream),
      &ngx_http_skillbox_next_upstream_masks },

    { ngx_string("skillbox_next_upstream_tries"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.next_upstream_tries),
      NULL },

    { ngx_string("skillbox_next_upstream_timeout"),
      NGX_HTTP_SKILLBOX_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_skillbox_loc_conf_t, upstream.next_upstream_timeout),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_skillbox_module_ctx = {
    ngx_http_skillbox_preconfiguration,    /* preconfiguration */
    ngx_http_skillbox_postconfiguration,   /* postconfiguration */

    ngx_http_skillbox_create_main_conf,    /* create main configuration */
    ngx_http_skillbox_init_main_conf,      /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_skillbox_create_loc_conf,     /* create location configuration */
    ngx_http_skillbox_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_skillbox_module = {
    NGX_MODULE_V1,
    &ngx_http_skillbox_module_ctx,         /* module context */
    ngx_http_skillbox_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_skillbox_init_process,        /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_skillbox_exit_process,        /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/*
 * The context outlives internal redirects (error_page, named locations), which
 * forget r->ctx[]: it is the data of a pool cleanup and is found again there.
 */

ngx_http_skillbox_ctx_t *
ngx_http_skillbox_find_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_skillbox_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_skillbox_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_skillbox_cleanup) {
            ngx_http_set_ctx(r, cln->data, ngx_http_skillbox_module);
            return cln->data;
        }
    }

    return NULL;
}


ngx_http_skillbox_ctx_t *
ngx_http_skillbox_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_find_ctx(r);
    if (ctx) {
        return ctx;
    }

    r = r->main;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_skillbox_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_skillbox_ctx_t));

    ctx->request = r;
    ctx->queue_usec = -1;
    ctx->start_usec = -1;
    ctx->run_usec = -1;
    ctx->collect_usec = -1;

    cln->handler = ngx_http_skillbox_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_skillbox_module);

    return ctx;
}


/* The request goes: whatever a thread still does for it goes on alone. */

static void
ngx_http_skillbox_cleanup(void *data)
{
    ngx_http_skillbox_ctx_t *ctx = data;

    if (ctx->op) {
        ctx->op->request = NULL;
        ctx->op = NULL;
    }

    if (ctx->work) {
        ctx->work->request = NULL;
        ctx->work = NULL;
    }

    if (ctx->abandon) {
        ctx->abandon(ctx);
    }

    ngx_http_skillbox_limits_end(ctx);
}


static ngx_int_t
ngx_http_skillbox_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_skillbox_add_variables(cf);
}


static ngx_int_t
ngx_http_skillbox_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_skillbox_access_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_skillbox_log_handler;

    return ngx_http_skillbox_filter_init(cf);
}


static void *
ngx_http_skillbox_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_skillbox_main_conf_t  *smcf;

    smcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_skillbox_main_conf_t));
    if (smcf == NULL) {
        return NULL;
    }

    smcf->request_id = NGX_CONF_UNSET;
    smcf->keep_age = NGX_CONF_UNSET;
    smcf->journal = NGX_CONF_UNSET;
    smcf->keep_count = NGX_CONF_UNSET;
    smcf->keep_keys = NGX_CONF_UNSET;

    if (ngx_array_init(&smcf->helpers, cf->pool, 1,
                       sizeof(ngx_http_upstream_srv_conf_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&smcf->artifacts, cf->pool, 1, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NULL;
    }
    smcf->audit = NGX_CONF_UNSET_PTR;

    return smcf;
}


static char *
ngx_http_skillbox_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_skillbox_main_conf_t *smcf = conf;

    ngx_str_t                      name = ngx_string("request_id");
    ngx_str_t                      zone = ngx_string("skillbox");
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_skillbox_loc_conf_t  *slcf;

    ngx_conf_init_ptr_value(smcf->audit, NULL);

    smcf->request_id = ngx_http_get_variable_index(cf, &name);
    if (smcf->request_id == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_value(smcf->keep_age, 30 * 24 * 3600);
    ngx_conf_init_value(smcf->journal, 1);
    ngx_conf_init_value(smcf->keep_count, 100000);
    ngx_conf_init_value(smcf->keep_keys, 24 * 3600);

    /* the http level is nobody's child, hence is never merged itself */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    slcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_skillbox_module);
    slcf->error_pages = clcf->error_pages;

    if (smcf->store.len && smcf->zone == NULL
        && ngx_http_skillbox_add_zone(cf, smcf, &zone,
                                      4 * 1024 * 1024) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_skillbox_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_skillbox_loc_conf_t  *conf;

    /*
     * set by ngx_pcalloc(): artifacts, prefix, public_url, scan, metrics_class,
     * error_pages, ready, upstream.upstream, upstream.next_upstream, and all
     * that upstream offers
     * beyond timeouts and tries (buffering, caching, TLS, header lists)
     */

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_skillbox_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->enable = NGX_CONF_UNSET;
    conf->auth = NGX_CONF_UNSET;
    conf->json_errors = NGX_CONF_UNSET;
    conf->auth_failures = NGX_CONF_UNSET_UINT;
    conf->metrics = NGX_CONF_UNSET;
    conf->max_package = NGX_CONF_UNSET;
    conf->max_file = NGX_CONF_UNSET;
    conf->max_input = NGX_CONF_UNSET;
    conf->sign_keys = NGX_CONF_UNSET_PTR;
    conf->cors = NGX_CONF_UNSET_PTR;
    conf->sign_ttl = NGX_CONF_UNSET;
    conf->heartbeat = NGX_CONF_UNSET_MSEC;
    conf->queue_timeout = NGX_CONF_UNSET_MSEC;

    conf->upstream.next_upstream_tries = NGX_CONF_UNSET_UINT;
    conf->upstream.next_upstream_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.send_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.read_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.buffer_size = NGX_CONF_UNSET_SIZE;

    ngx_str_set(&conf->upstream.module, "skillbox");

    return conf;
}


static char *
ngx_http_skillbox_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_skillbox_loc_conf_t *prev = parent;
    ngx_http_skillbox_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_value(conf->auth, prev->auth, 1);
    ngx_conf_merge_value(conf->json_errors, prev->json_errors, 0);
    ngx_conf_merge_uint_value(conf->auth_failures, prev->auth_failures, 0);
    ngx_conf_merge_off_value(conf->max_package, prev->max_package,
                             SB_PACKAGE_MAX);
    ngx_conf_merge_off_value(conf->max_file, prev->max_file,
                             NGX_HTTP_SKILLBOX_MAX_FILE);
    ngx_conf_merge_off_value(conf->max_input, prev->max_input, SB_INPUT_MAX);
    ngx_conf_merge_str_value(conf->artifacts, prev->artifacts, "");
    ngx_conf_merge_ptr_value(conf->sign_keys, prev->sign_keys, NULL);
    ngx_conf_merge_ptr_value(conf->cors, prev->cors, NULL);
    ngx_conf_merge_sec_value(conf->sign_ttl, prev->sign_ttl, 3600);
    ngx_conf_merge_msec_value(conf->heartbeat, prev->heartbeat, 15000);
    ngx_conf_merge_msec_value(conf->queue_timeout, prev->queue_timeout,
                              5400000);

    if (conf->public_url == NULL) {
        conf->public_url = prev->public_url;
    }

    if (conf->scan == NULL) {
        conf->scan = prev->scan;
    }

    ngx_http_skillbox_merge_upstream(cf, &conf->upstream, &prev->upstream);

    conf->error_pages = clcf->error_pages;

    if (conf->enable || conf->json_errors) {

        /* pages of an outer level are not for an API, one's own may be */

        if (clcf->error_pages == prev->error_pages) {
            clcf->error_pages = NULL;
        }
    }

    if (conf->internal) {
        return ngx_http_skillbox_internal_conf(cf, conf);
    }

    ngx_conf_merge_value(conf->metrics, prev->metrics, 0);

    if (conf->metrics_class == NULL) {
        conf->metrics_class = prev->metrics_class;
    }

    if (conf->metrics && !conf->enable) {
        return ngx_http_skillbox_merge_metrics(cf, conf, clcf);
    }

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    ngx_http_skillbox_set_prefix(conf, prev, clcf);

    if (clcf->handler == NULL) {
        clcf->handler = ngx_http_skillbox_content_handler;
    }

    /* the handlers compare with the limit that is theirs */

    clcf->client_max_body_size = ngx_max(ngx_max(conf->max_package,
                                                 conf->max_file)
                                         + SB_KIB * 64, conf->max_input);

    if (ngx_http_skillbox_create_probe(cf, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_skillbox_check_loc_conf(cf, conf);
}


static ngx_int_t
ngx_http_skillbox_create_probe(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf)
{
    conf->probe = conf->upstream;
    conf->probe.connect_timeout = ngx_min(conf->probe.connect_timeout, 5000);
    conf->probe.send_timeout = ngx_min(conf->probe.send_timeout, 5000);
    conf->probe.read_timeout = ngx_min(conf->probe.read_timeout, 5000);

    /* an execution is at one of the helpers: the others say 404 */

    conf->ask = conf->probe;
    conf->attach = conf->upstream;
    ngx_http_skillbox_ask_all(&conf->ask);
    ngx_http_skillbox_ask_all(&conf->attach);

    conf->ready = ngx_http_skillbox_create_ready(cf);

    return conf->ready ? NGX_OK : NGX_ERROR;
}


/* a location for monitoring: the helper's figures too if it has a helper */

static char *
ngx_http_skillbox_merge_metrics(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_http_skillbox_main_conf_t  *smcf;

    smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_skillbox_module);

    if (smcf->store.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_metrics\" needs \"skillbox_store\" "
                           "at the http level");
        return NGX_CONF_ERROR;
    }

    if (clcf->handler == NULL) {
        clcf->handler = ngx_http_skillbox_metrics_handler;
    }

    if (conf->upstream.upstream
        && ngx_http_skillbox_create_probe(cf, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static void
ngx_http_skillbox_merge_upstream(ngx_conf_t *cf,
    ngx_http_upstream_conf_t *conf, ngx_http_upstream_conf_t *prev)
{
    if (conf->upstream == NULL) {
        conf->upstream = prev->upstream;
    }

    ngx_conf_merge_uint_value(conf->next_upstream_tries,
                              prev->next_upstream_tries, 0);
    ngx_conf_merge_msec_value(conf->next_upstream_timeout,
                              prev->next_upstream_timeout, 0);
    ngx_conf_merge_msec_value(conf->connect_timeout,
                              prev->connect_timeout, 60000);
    ngx_conf_merge_msec_value(conf->send_timeout, prev->send_timeout, 60000);
    ngx_conf_merge_msec_value(conf->read_timeout, prev->read_timeout, 60000);
    ngx_conf_merge_size_value(conf->buffer_size, prev->buffer_size, 16384);

    ngx_conf_merge_bitmask_value(conf->next_upstream, prev->next_upstream,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_HTTP_UPSTREAM_FT_ERROR
                                  |NGX_HTTP_UPSTREAM_FT_TIMEOUT));

    if (conf->next_upstream & NGX_HTTP_UPSTREAM_FT_OFF) {
        conf->next_upstream = NGX_CONF_BITMASK_SET|NGX_HTTP_UPSTREAM_FT_OFF;
    }
}


static void
ngx_http_skillbox_ask_all(ngx_http_upstream_conf_t *conf)
{
    conf->next_upstream &= ~NGX_HTTP_UPSTREAM_FT_OFF;
    conf->next_upstream |= NGX_HTTP_UPSTREAM_FT_ERROR
                           |NGX_HTTP_UPSTREAM_FT_TIMEOUT
                           |NGX_HTTP_UPSTREAM_FT_HTTP_404;
    conf->next_upstream_tries = 0;
}


static char *
ngx_http_skillbox_check_loc_conf(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf)
{
    ngx_http_skillbox_main_conf_t  *smcf;

    smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_skillbox_module);

    if (smcf->store.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox on\" needs \"skillbox_store\" "
                           "at the http level");
        return NGX_CONF_ERROR;
    }

    if (conf->upstream.upstream == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox on\" needs \"skillbox_pass\"");
        return NGX_CONF_ERROR;
    }

    if (conf->artifacts.len && conf->sign_keys == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_artifacts\" needs a "
                           "\"skillbox_sign_key\" to sign links with");
        return NGX_CONF_ERROR;
    }

    if (conf->max_package <= 0 || conf->max_file <= 0
        || conf->max_input <= 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_max_package\", "
                           "\"skillbox_max_file\" and "
                           "\"skillbox_max_input\" must be positive");
        return NGX_CONF_ERROR;
    }

    if (conf->sign_ttl <= 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_sign_ttl\" must be positive");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * The API lies below the location's name; a location that itself names a part
 * of the API ("/api/v1/executions", for limits of its own) shares the prefix
 * of the others.  Blocks without a name (limit_except, if) take their
 * location's; regular expressions and named locations have no prefix.
 */

static void
ngx_http_skillbox_set_prefix(ngx_http_skillbox_loc_conf_t *conf,
    ngx_http_skillbox_loc_conf_t *prev, ngx_http_core_loc_conf_t *clcf)
{
    u_char                   *p, *end;
    size_t                    len;
    ngx_uint_t                i;
    static const ngx_str_t    parts[] = {
        ngx_string("/v1"),
        ngx_string("/health"),
        ngx_string("/ready"),
    };

    if (clcf->noname) {
        conf->prefix = prev->prefix;
        return;
    }

    ngx_str_null(&conf->prefix);

    if (clcf->named) {
        return;
    }

#if (NGX_PCRE)
    if (clcf->regex) {
        return;
    }
#endif

    conf->prefix = clcf->name;
    end = clcf->name.data + clcf->name.len;

    for (p = clcf->name.data; p < end; p++) {

        for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            len = parts[i].len;

            if ((size_t) (end - p) >= len
                && ngx_strncmp(p, parts[i].data, len) == 0
                && (p + len == end || p[len] == '/'))
            {
                conf->prefix.len = p - clcf->name.data;
                return;
            }
        }
    }

    if (conf->prefix.len && conf->prefix.data[conf->prefix.len - 1] == '/') {
        conf->prefix.len--;
    }
}


static ngx_int_t
ngx_http_skillbox_init_process(ngx_cycle_t *cycle)
{
    ngx_http_skillbox_main_conf_t  *smcf;

    /* cache manager and loader run this too and have no business in it */

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    smcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_skillbox_module);

    if (smcf == NULL || smcf->store.len == 0) {
        return NGX_OK;
    }

    ngx_http_skillbox_retention_init(cycle, smcf);
    ngx_http_skillbox_reconcile_init(cycle, smcf);
    ngx_http_skillbox_zone_init(cycle, smcf);
    ngx_http_skillbox_journal_init(cycle, smcf);

    return ngx_http_skillbox_store_init(cycle, smcf);
}


static void
ngx_http_skillbox_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_skillbox_store_exit(cycle);
    ngx_http_skillbox_journal_exit();
    ngx_http_skillbox_retention_exit();
    ngx_http_skillbox_zone_exit();
    sb_sha256_end();                    /* the pools' threads have ended */
}
