
/*
 * The variables: who asks ($skillbox_tenant, evaluated wherever it is used,
 * also before the access phase), and what became of it, for the access log.
 */


#include "ngx_http_skillbox.h"


static ngx_int_t ngx_http_skillbox_variable_identity(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_skillbox_variable_string(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_skillbox_variable_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_skillbox_variables[] = {

    { ngx_string("skillbox_tenant"), NULL,
      ngx_http_skillbox_variable_identity,
      offsetof(sb_key_t, tenant), 0, 0 },

    { ngx_string("skillbox_key"), NULL,
      ngx_http_skillbox_variable_identity,
      offsetof(sb_key_t, id), 0, 0 },

    { ngx_string("skillbox_skill"), NULL,
      ngx_http_skillbox_variable_string,
      offsetof(ngx_http_skillbox_ctx_t, skill),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("skillbox_version"), NULL,
      ngx_http_skillbox_variable_string,
      offsetof(ngx_http_skillbox_ctx_t, version),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("skillbox_execution_id"), NULL,
      ngx_http_skillbox_variable_string,
      offsetof(ngx_http_skillbox_ctx_t, execution),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("skillbox_status"), NULL,
      ngx_http_skillbox_variable_string,
      offsetof(ngx_http_skillbox_ctx_t, status),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("skillbox_queue_time"), NULL,
      ngx_http_skillbox_variable_time,
      offsetof(ngx_http_skillbox_ctx_t, queue_usec),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("skillbox_run_time"), NULL,
      ngx_http_skillbox_variable_time,
      offsetof(ngx_http_skillbox_ctx_t, run_usec),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_skillbox_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_skillbox_variables; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* "-" for nobody: an empty key would escape limit_req */

static ngx_int_t
ngx_http_skillbox_variable_identity(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    const char               *value;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_http_skillbox_authenticate(r->main, ctx);

    value = "-";

    if (ctx->auth == NGX_HTTP_SKILLBOX_AUTH_OK) {
        value = (const char *) &ctx->key + data;

        if (*value == '\0') {
            value = "-";
        }
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = ngx_strlen(value);
    v->data = (u_char *) value;

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_variable_string(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                *s;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_find_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    s = (ngx_str_t *) ((u_char *) ctx + data);

    if (s->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = s->len;
    v->data = s->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_variable_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                   *p;
    int64_t                   usec;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_find_ctx(r);

    usec = ctx ? *(int64_t *) ((u_char *) ctx + data) : -1;

    if (usec < 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%T.%03M", (time_t) (usec / 1000000),
                         (ngx_msec_t) (usec / 1000 % 1000))
             - p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    return NGX_OK;
}
