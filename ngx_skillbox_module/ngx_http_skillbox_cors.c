
/*
 * Cross-origin requests: pages of other sites may use the API where the
 * operator names them with "skillbox_cors".  A browser asks first, by OPTIONS
 * and without a key, what it may send; every answer says whether the page may
 * read it.  Cookies are no part of this, keys come in Authorization.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_CORS_HEADERS                                        \
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, "           \
    "Last-Event-ID, Prefer, Range, X-Request-ID, X-Tenant-ID"

#define NGX_HTTP_SKILLBOX_CORS_EXPOSED                                        \
    "Content-Disposition, Content-Range, ETag, Idempotency-Replayed, Link, "  \
    "Location, Retry-After, X-Request-ID"


static ngx_str_t *ngx_http_skillbox_cors_origin(ngx_http_request_t *r);
static ngx_uint_t ngx_http_skillbox_cors_valid(ngx_str_t *origin);


/* config: skillbox_cors off | * | https://app.example.com ... */

char *
ngx_http_skillbox_set_cors(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_skillbox_loc_conf_t *slcf = conf;

    ngx_str_t   *value, *origin;
    ngx_uint_t   i;

    if (slcf->cors != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        slcf->cors = NULL;
        return NGX_CONF_OK;
    }

    slcf->cors = ngx_array_create(cf->pool, cf->args->nelts,
                                  sizeof(ngx_str_t));
    if (slcf->cors == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (!ngx_http_skillbox_cors_valid(&value[i])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" is no origin, as "
                               "\"https://app.example.com\" is", &value[i]);
            return NGX_CONF_ERROR;
        }

        origin = ngx_array_push(slcf->cors);
        if (origin == NULL) {
            return NGX_CONF_ERROR;
        }

        *origin = value[i];
    }

    return NGX_CONF_OK;
}


/*
 * "*", or scheme, "://", host and port as browsers send them: in small letters,
 * without a slash at the end.  "null" is whom nobody can name.
 */

static ngx_uint_t
ngx_http_skillbox_cors_valid(ngx_str_t *origin)
{
    u_char  *p, *last;

    if (origin->len == 1 && origin->data[0] == '*') {
        return 1;
    }

    p = origin->data;
    last = p + origin->len;

    while (p < last && ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')
                        || *p == '-' || *p == '+' || *p == '.'))
    {
        p++;
    }

    if (p == origin->data || last - p < 4 || ngx_strncmp(p, "://", 3) != 0) {
        return 0;
    }

    for (p += 3; p < last; p++) {

        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')
              || *p == '-' || *p == '.' || *p == ':' || *p == '['
              || *p == ']'))
        {
            return 0;
        }
    }

    return 1;
}


/* what the request's origin is allowed as; NULL: it has none, or no leave */

static ngx_str_t *
ngx_http_skillbox_cors_origin(ngx_http_request_t *r)
{
    ngx_str_t                     *origin;
    ngx_uint_t                     i;
    ngx_table_elt_t               *h;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->cors == NULL) {
        return NULL;
    }

    h = ngx_http_skillbox_find_header(r, "origin", NULL);
    if (h == NULL) {
        return NULL;
    }

    origin = slcf->cors->elts;

    for (i = 0; i < slcf->cors->nelts; i++) {

        if ((origin[i].len == 1 && origin[i].data[0] == '*')
            || (origin[i].len == h->value.len
                && ngx_strncmp(origin[i].data, h->value.data, h->value.len)
                   == 0))
        {
            return &origin[i];
        }
    }

    return NULL;
}


/* for every answer, errors included */

ngx_int_t
ngx_http_skillbox_cors_answer(ngx_http_request_t *r)
{
    ngx_str_t                     *origin, vary, exposed;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->cors == NULL) {
        return NGX_OK;
    }

    /* also when there is no origin: a cache must not mix them up */

    ngx_str_set(&vary, "Origin");

    if (ngx_http_skillbox_add_header(r, "Vary", &vary) != NGX_OK) {
        return NGX_ERROR;
    }

    origin = ngx_http_skillbox_cors_origin(r);
    if (origin == NULL) {
        return NGX_OK;
    }

    ngx_str_set(&exposed, NGX_HTTP_SKILLBOX_CORS_EXPOSED);

    if (ngx_http_skillbox_add_header(r, "Access-Control-Allow-Origin", origin)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_skillbox_add_header(r, "Access-Control-Expose-Headers",
                                        &exposed);
}


/*
 * NGX_DECLINED: this is no browser that asks, or nobody who may; else what a
 * content handler returns
 */

ngx_int_t
ngx_http_skillbox_cors_preflight(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t  rc;
    ngx_str_t  methods, headers, age;

    if (r->method != NGX_HTTP_OPTIONS
        || ngx_http_skillbox_find_header(r, "access-control-request-method",
                                         NULL)
           == NULL
        || ngx_http_skillbox_cors_origin(r) == NULL)
    {
        return NGX_DECLINED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    methods.data = (u_char *) ctx->route->allow;
    methods.len = ngx_strlen(methods.data);
    ngx_str_set(&headers, NGX_HTTP_SKILLBOX_CORS_HEADERS);
    ngx_str_set(&age, "600");

    if (ngx_http_skillbox_add_header(r, "Access-Control-Allow-Methods",
                                     &methods) != NGX_OK
        || ngx_http_skillbox_add_header(r, "Access-Control-Allow-Headers",
                                        &headers) != NGX_OK
        || ngx_http_skillbox_add_header(r, "Access-Control-Max-Age", &age)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_NO_CONTENT;
    r->header_only = 1;

    return ngx_http_send_header(r);
}
