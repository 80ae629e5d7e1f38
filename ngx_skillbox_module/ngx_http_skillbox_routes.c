
/*
 * From path and method to a handler, and the two answers that need nothing
 * else: /health and /ready.
 *
 * To add an endpoint: one line in the table below, its handler declared in
 * ngx_http_skillbox.h.  A route's first matching line wins; "*" matches one
 * part of the path whatever it is, "#" all that is left; the handler judges it.
 */


#include "ngx_http_skillbox_async.h"


#define NGX_HTTP_SKILLBOX_READY_FRESH  1000   /* ms an answer is used again */
#define NGX_HTTP_SKILLBOX_READY_STALE  10000  /* the same, while one is asked */


/* what the helper last said about itself, in this worker */

struct ngx_http_skillbox_ready_s {
    ngx_msec_t                    time;
    ngx_uint_t                    known;       /* unsigned  known:1; */
    ngx_msec_t                    asked;
    ngx_uint_t                    asking;      /* unsigned  asking:1; */
    ngx_uint_t                    ok;          /* unsigned  ok:1; */
    sb_buf_t                      reason;      /* when it is not */
    sb_buf_t                      helper;      /* its own words, JSON */
};


static ngx_uint_t ngx_http_skillbox_match(const char *pattern,
    ngx_str_t *path, ngx_str_t *param);
static void ngx_http_skillbox_free_ready(void *data);
static ngx_int_t ngx_http_skillbox_ready_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready);
static void ngx_http_skillbox_ready_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_ready_judge(ngx_http_skillbox_ready_t *ready,
    ngx_http_skillbox_call_t *call);


static const ngx_http_skillbox_route_t  ngx_http_skillbox_routes[] = {

    { "/health", NGX_HTTP_SKILLBOX_PUBLIC, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_health } } },

    { "/ready", NGX_HTTP_SKILLBOX_PUBLIC, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_ready } } },

    { "/v1/skills", 0, "GET, HEAD, POST",
      { { NGX_HTTP_GET, ngx_http_skillbox_skill_list },
        { NGX_HTTP_POST, ngx_http_skillbox_upload } } },

    { "/v1/skills/validate", 0, "POST",
      { { NGX_HTTP_POST, ngx_http_skillbox_validate } } },

    { "/v1/skills/from-fields", 0, "POST",
      { { NGX_HTTP_POST, ngx_http_skillbox_from_fields } } },

    { "/v1/skills/*", 0, "DELETE",
      { { NGX_HTTP_DELETE, ngx_http_skillbox_skill_delete } } },

    /* before the versions: these words win over versions and skills of that name */

    { "/v1/skills/*/versions", 0, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_version_list } } },

    { "/v1/skills/*/active", 0, "PUT",
      { { NGX_HTTP_PUT, ngx_http_skillbox_version_activate } } },

    { "/v1/skills/*/*", 0, "GET, HEAD, DELETE",
      { { NGX_HTTP_GET, ngx_http_skillbox_skill_get },
        { NGX_HTTP_DELETE, ngx_http_skillbox_skill_delete } } },

    { "/v1/skills/*/*/files", 0, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_package_files } } },

    { "/v1/executions", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD, POST",
      { { NGX_HTTP_GET, ngx_http_skillbox_execution_list },
        { NGX_HTTP_POST, ngx_http_skillbox_execute } } },

    { "/v1/executions/*", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD, DELETE",
      { { NGX_HTTP_GET, ngx_http_skillbox_execution_get },
        { NGX_HTTP_DELETE, ngx_http_skillbox_execution_delete } } },

    { "/v1/executions/*/logs", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_execution_logs } } },

    { "/v1/executions/*/events", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_execution_events } } },

    /* public: the signature is the permission, or may be */

    { "/v1/executions/*/files.tar.gz", NGX_HTTP_SKILLBOX_PUBLIC, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_artifact } } },

    { "/v1/executions/*/files/#", NGX_HTTP_SKILLBOX_PUBLIC, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_artifact_file } } },

    { "/v1/files", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD, POST",
      { { NGX_HTTP_GET, ngx_http_skillbox_file_list },
        { NGX_HTTP_POST, ngx_http_skillbox_file_put } } },

    { "/v1/files/*", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD, PUT, DELETE",
      { { NGX_HTTP_GET, ngx_http_skillbox_file_get },
        { NGX_HTTP_PUT, ngx_http_skillbox_file_put },
        { NGX_HTTP_DELETE, ngx_http_skillbox_file_delete } } },

    { "/v1/files/*/download", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_file_download } } },

    { "/v1/files/*/versions", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD",
      { { NGX_HTTP_GET, ngx_http_skillbox_file_versions } } },

    { "/v1/admin/keys", 0, "GET, HEAD, POST",
      { { NGX_HTTP_GET, ngx_http_skillbox_key_list },
        { NGX_HTTP_POST, ngx_http_skillbox_key_create } } },

    { "/v1/admin/keys/*", 0, "GET, HEAD, DELETE",
      { { NGX_HTTP_GET, ngx_http_skillbox_key_get },
        { NGX_HTTP_DELETE, ngx_http_skillbox_key_revoke } } },

    { "/v1/admin/keys/*/rotate", 0, "POST",
      { { NGX_HTTP_POST, ngx_http_skillbox_key_rotate } } },

    { "/v1/admin/tenants", NGX_HTTP_SKILLBOX_RECORDS, "GET, HEAD, POST",
      { { NGX_HTTP_GET, ngx_http_skillbox_tenant_list },
        { NGX_HTTP_POST, ngx_http_skillbox_tenant_create } } },

    { "/v1/admin/tenants/*", NGX_HTTP_SKILLBOX_RECORDS,
      "GET, HEAD, PUT, PATCH, DELETE",
      { { NGX_HTTP_GET, ngx_http_skillbox_tenant_get },
        { NGX_HTTP_PUT, ngx_http_skillbox_tenant_update },
        { NGX_HTTP_PATCH, ngx_http_skillbox_tenant_update },
        { NGX_HTTP_DELETE, ngx_http_skillbox_tenant_delete } } },

    { NULL, 0, NULL, { { 0, NULL } } }
};


/*
 * Fills route, method, path and param; once for each uri, as error_page may
 * change it.  r->uri is what nginx decoded and normalized; the location's
 * prefix is not part of the API's path.
 */

void
ngx_http_skillbox_route(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    ngx_uint_t                         method;
    ngx_http_skillbox_loc_conf_t      *slcf;
    const ngx_http_skillbox_route_t   *route;
    const ngx_http_skillbox_method_t  *m;

    if (ctx->uri.data == r->uri.data && ctx->uri.len == r->uri.len) {
        return;
    }

    ctx->uri = r->uri;
    ctx->route = NULL;
    ctx->method = NULL;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (r->uri.len < slcf->prefix.len) {
        return;
    }

    ctx->path.data = r->uri.data + slcf->prefix.len;
    ctx->path.len = r->uri.len - slcf->prefix.len;

    for (route = ngx_http_skillbox_routes; route->path; route++) {

        if (ngx_http_skillbox_match(route->path, &ctx->path, ctx->param)) {
            ctx->route = route;
            break;
        }
    }

    if (ctx->route == NULL) {
        return;
    }

    method = (r->method == NGX_HTTP_HEAD) ? NGX_HTTP_GET : r->method;

    for (m = ctx->route->methods; m->method; m++) {
        if (m->method == method) {
            ctx->method = m;
            return;
        }
    }
}


static ngx_uint_t
ngx_http_skillbox_match(const char *pattern, ngx_str_t *path,
    ngx_str_t *param)
{
    u_char      *p, *last, *start;
    ngx_uint_t   n;

    p = path->data;
    last = p + path->len;
    n = 0;

    for ( /* void */ ; *pattern; pattern++) {

        if (*pattern != '*' && *pattern != '#') {
            if (p == last || *p++ != (u_char) *pattern) {
                return 0;
            }

            continue;
        }

        start = p;

        if (*pattern == '#') {
            p = last;
        }

        while (p < last && *p != '/') {
            p++;
        }

        if (p == start) {
            return 0;
        }

        param[n].data = start;
        param[n].len = p - start;
        n++;
    }

    if (p != last) {
        return 0;
    }

    for ( /* void */ ; n < NGX_HTTP_SKILLBOX_PARAMS; n++) {
        ngx_str_null(&param[n]);
    }

    return 1;
}


ngx_int_t
ngx_http_skillbox_content_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    /* a subrequest (SSI, auth_request, mirror) has no context of its own */

    if (r != r->main) {
        return NGX_HTTP_NOT_FOUND;
    }

    ctx = ngx_http_skillbox_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_route(r, ctx);

    if (ctx->route == NULL) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is nothing at this address.");
    }

    if (ctx->method == NULL) {
        rc = ngx_http_skillbox_cors_preflight(r, ctx);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_ALLOWED,
                                       "The method is not allowed here, "
                                       "these are: %s.", ctx->route->allow);
    }

    /*
     * The access handler said this before, but "satisfy any" may have let the
     * request through without a key, and the handlers need a tenant.
     */

    if (!(ctx->route->flags & NGX_HTTP_SKILLBOX_PUBLIC)) {
        rc = ngx_http_skillbox_authorize(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE)) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    /* a run leaves something to be looked at, and looks at nothing itself */

    if ((ctx->route->flags & NGX_HTTP_SKILLBOX_RECORDS)
        && ctx->method->handler != ngx_http_skillbox_execute)
    {
        return ngx_http_skillbox_settle(r, ctx, ctx->method->handler);
    }

    return ctx->method->handler(r, ctx);
}


ngx_int_t
ngx_http_skillbox_health(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t  buf;

    sb_buf_init(&buf, 64);
    sb_buf_str(&buf, "{\"status\":\"ok\"}");

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_http_skillbox_ready_t *
ngx_http_skillbox_create_ready(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_skillbox_ready_t  *ready;

    cln = ngx_pool_cleanup_add(cf->pool, sizeof(ngx_http_skillbox_ready_t));
    if (cln == NULL) {
        return NULL;
    }

    ready = cln->data;
    ngx_memzero(ready, sizeof(ngx_http_skillbox_ready_t));

    sb_buf_init(&ready->reason, 1024);
    sb_buf_init(&ready->helper, 64 * SB_KIB);

    cln->handler = ngx_http_skillbox_free_ready;

    return ready;
}


static void
ngx_http_skillbox_free_ready(void *data)
{
    ngx_http_skillbox_ready_t *ready = data;

    sb_buf_free(&ready->reason);
    sb_buf_free(&ready->helper);
}


/*
 * Anyone may ask, so the helper is asked at most about once a second in each
 * worker; while it is being asked, others get what it said last.
 */

ngx_int_t
ngx_http_skillbox_ready(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    return ngx_http_skillbox_helper_status(r, ctx,
                                           ngx_http_skillbox_ready_answer);
}


ngx_uint_t
ngx_http_skillbox_helper_said(ngx_http_skillbox_ready_t *ready,
    ngx_str_t *text)
{
    text->data = (u_char *) (ready->helper.data ? ready->helper.data : "");
    text->len = ready->helper.len;

    return ready->ok;
}


ngx_int_t
ngx_http_skillbox_helper_status(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx,
    ngx_int_t (*answer)(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready))
{
    ngx_msec_t                     age;
    ngx_http_skillbox_call_t      *call;
    ngx_http_skillbox_ready_t     *ready;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);
    ready = slcf->ready;

    age = ngx_current_msec - ready->time;

    if (ready->known
        && (age < NGX_HTTP_SKILLBOX_READY_FRESH
            || (ready->asking && age < NGX_HTTP_SKILLBOX_READY_STALE
                && ngx_current_msec - ready->asked
                   < NGX_HTTP_SKILLBOX_READY_STALE)))
    {
        return answer(r, ready);
    }

    ctx->status_answer = answer;

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_STATUS);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    call->conf = &slcf->probe;
    call->safe = 1;

    if (ngx_http_skillbox_call_start(call, ngx_http_skillbox_ready_asked)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ready->asking = 1;
    ready->asked = ngx_current_msec;

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_skillbox_ready_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_http_skillbox_ctx_t       *ctx;
    ngx_http_skillbox_ready_t     *ready;
    ngx_http_skillbox_loc_conf_t  *slcf;

    ctx = ngx_http_skillbox_get_ctx(r);
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);
    ready = slcf->ready;

    ngx_http_skillbox_ready_judge(ready, call);

    ready->known = 1;
    ready->asking = 0;
    ready->time = ngx_current_msec;

    ngx_http_finalize_request(r, ctx->status_answer(r, ready));
}


static void
ngx_http_skillbox_ready_judge(ngx_http_skillbox_ready_t *ready,
    ngx_http_skillbox_call_t *call)
{
    char        *text;
    json_t      *root;
    sb_str_t     body;
    const char  *status, *reason;

    ready->ok = 0;
    sb_buf_clear(&ready->reason);
    sb_buf_clear(&ready->helper);

    if (call->rc != NGX_OK || call->status != NGX_HTTP_OK) {
        sb_buf_str(&ready->reason,
                   call->rc == NGX_HTTP_GATEWAY_TIME_OUT
                   ? "the helper does not answer"
                   : "the helper can't be reached or gives no valid answer");
        return;
    }

    body = ngx_http_skillbox_call_body(call);
    root = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
    status = json_string_value(json_object_get(root, "status"));
    text = json_dumps(root, JSON_COMPACT);

    if (status == NULL || text == NULL) {
        sb_buf_str(&ready->reason, "the helper's status is not valid");
        goto done;
    }

    sb_buf_str(&ready->helper, text);

    if (ngx_strcmp(status, "ok") == 0 || ngx_strcmp(status, "degraded") == 0) {
        ready->ok = sb_buf_ok(&ready->helper);
    }

    reason = json_string_value(json_object_get(root, "reason"));
    sb_buf_str(&ready->reason, reason ? reason : "the helper is not able");

done:

    free(text);
    json_decref(root);
}


static ngx_int_t
ngx_http_skillbox_ready_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ready_t *ready)
{
    sb_buf_t     buf;
    sb_err_t     err;
    sb_store_t  *store;
    ngx_uint_t   store_ok;

    ngx_memzero(&err, sizeof(sb_err_t));

    store = ngx_http_skillbox_store(&err);
    store_ok = (store && sb_store_ping(store, &err) == SB_OK);

    if (!store_ok) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the store is not usable: %s", err.message);
    }

    sb_buf_init(&buf, 128 * SB_KIB);
    sb_buf_char(&buf, '{');
    sb_json_key_str(&buf, "status",
                    store_ok && ready->ok ? "ready" : "not_ready");

    /* the store's own words may name paths: they are in the error log */

    sb_json_key(&buf, "checks");
    sb_buf_char(&buf, '{');
    sb_json_key_str(&buf, "store", store_ok ? "ok"
                                            : "the store can't be opened or "
                                              "read, see the error log");
    sb_json_key_str(&buf, "helper", ready->ok ? "ok" : ready->reason.data);
    sb_buf_char(&buf, '}');

    if (ready->helper.len) {
        sb_json_key(&buf, "helper");
        sb_buf_add(&buf, ready->helper.data, ready->helper.len);
    }

    sb_buf_char(&buf, '}');

    return ngx_http_skillbox_send_json(r, store_ok && ready->ok
                                          ? NGX_HTTP_OK
                                          : NGX_HTTP_SERVICE_UNAVAILABLE,
                                       &buf);
}
