
/*
 * Who is asking: "Authorization: Bearer sk-..." looked up in the store, and
 * X-Tenant-ID.
 *
 * The look-up is lazy and done once a request, by whoever asks first: usually
 * limit_req or a log format through $skillbox_tenant (the preaccess phase runs
 * before any access handler), else the access handler, which enforces.  The
 * secret itself is never kept nor logged, only its SHA-256 is looked up.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_TENANT  "default"


static ngx_http_skillbox_auth_state_e ngx_http_skillbox_find_key(
    ngx_http_request_t *r, sb_key_t *key);
static ngx_int_t ngx_http_skillbox_bearer(ngx_http_request_t *r,
    ngx_str_t *token);
static ngx_http_skillbox_auth_state_e ngx_http_skillbox_act_for(
    ngx_http_request_t *r, sb_key_t *key);


void
ngx_http_skillbox_authenticate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_uint_t                     open;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    open = slcf->enable && !slcf->auth;

    /* an internal redirect may lead from a location without to one with keys */

    if (ctx->auth != NGX_HTTP_SKILLBOX_AUTH_UNKNOWN && ctx->open == open) {
        return;
    }

    ngx_memzero(&ctx->key, sizeof(sb_key_t));
    ctx->open = open;

    if (open) {

        /* the operator's word: who gets here may act for any tenant */

        ngx_memcpy(ctx->key.tenant, NGX_HTTP_SKILLBOX_TENANT,
                   sizeof(NGX_HTTP_SKILLBOX_TENANT));
        ctx->key.role = SB_ROLE_ADMIN;
        ctx->key.service = 1;
        ctx->auth = NGX_HTTP_SKILLBOX_AUTH_OK;

    } else {
        ctx->auth = ngx_http_skillbox_find_key(r, &ctx->key);
    }

    if (ctx->auth == NGX_HTTP_SKILLBOX_AUTH_OK) {

        if (!open) {
            ngx_http_skillbox_key_use(&ctx->key);
        }

        ctx->auth = ngx_http_skillbox_act_for(r, &ctx->key);
    }
}


static ngx_http_skillbox_auth_state_e
ngx_http_skillbox_find_key(ngx_http_request_t *r, sb_key_t *key)
{
    sb_err_t        err;
    ngx_int_t       rc;
    ngx_str_t       token;
    sb_code_t       code;
    sb_store_t     *store;
    unsigned char   hash[SB_SHA256_LEN];

    rc = ngx_http_skillbox_bearer(r, &token);

    if (rc == NGX_DECLINED) {
        return NGX_HTTP_SKILLBOX_AUTH_MISSING;
    }

    if (rc != NGX_OK
        || !sb_apikey_wellformed((char *) token.data, token.len))
    {
        return NGX_HTTP_SKILLBOX_AUTH_INVALID;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return NGX_HTTP_SKILLBOX_AUTH_UNAVAILABLE;
    }

    sb_sha256(token.data, token.len, hash);

    code = sb_store_key_find(store, hash, key, &err);

    if (code == SB_EAUTH) {
        return NGX_HTTP_SKILLBOX_AUTH_INVALID;
    }

    if (code != SB_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "looking up an API key failed: %s", err.message);
        return NGX_HTTP_SKILLBOX_AUTH_UNAVAILABLE;
    }

    if (key->expires_ms && key->expires_ms <= sb_time_now_ms()) {
        return NGX_HTTP_SKILLBOX_AUTH_EXPIRED;
    }

    return NGX_HTTP_SKILLBOX_AUTH_OK;
}


/* NGX_DECLINED: there is none; NGX_ERROR: it is of another scheme or empty */

static ngx_int_t
ngx_http_skillbox_bearer(ngx_http_request_t *r, ngx_str_t *token)
{
    u_char           *p, *last;
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL) {
        return NGX_DECLINED;
    }

    p = h->value.data;
    last = p + h->value.len;

    if (h->value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(p, (u_char *) "Bearer ", sizeof("Bearer ") - 1)
           != 0)
    {
        return NGX_ERROR;
    }

    for (p += sizeof("Bearer ") - 1; p < last && *p == ' '; p++) {
        /* void */
    }

    token->data = p;
    token->len = last - p;

    return token->len ? NGX_OK : NGX_ERROR;
}


/* X-Tenant-ID: one's own, or with a service key anyone's */

static ngx_http_skillbox_auth_state_e
ngx_http_skillbox_act_for(ngx_http_request_t *r, sb_key_t *key)
{
    ngx_str_t        *value;
    ngx_uint_t        seen;
    ngx_table_elt_t  *h;

    seen = 0;

    for (h = ngx_http_skillbox_find_header(r, "x-tenant-id", NULL);
         h;
         h = ngx_http_skillbox_find_header(r, "x-tenant-id", h))
    {
        value = &h->value;

        if (value->len == ngx_strlen(key->tenant)
            && ngx_strncmp(value->data, key->tenant, value->len) == 0)
        {
            seen = 1;
            continue;
        }

        if (!key->service || seen
            || !sb_tenant_valid((char *) value->data, value->len))
        {
            return NGX_HTTP_SKILLBOX_AUTH_TENANT;
        }

        ngx_memcpy(key->tenant, value->data, value->len);
        key->tenant[value->len] = '\0';
        seen = 1;
    }

    return NGX_HTTP_SKILLBOX_AUTH_OK;
}


/*
 * NGX_OK: ctx->key.tenant is who is acted for, and the key's role is enough;
 * else the status to answer
 */

ngx_int_t
ngx_http_skillbox_authorize(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t   err;
    ngx_int_t  rc;

    ngx_http_skillbox_authenticate(r, ctx);

    if (ctx->auth == NGX_HTTP_SKILLBOX_AUTH_INVALID
        || ctx->auth == NGX_HTTP_SKILLBOX_AUTH_EXPIRED)
    {
        rc = ngx_http_skillbox_auth_limit(r);

        if (rc != NGX_OK) {
            return rc;
        }

        ngx_http_skillbox_auth_failed(r);
        ngx_http_skillbox_count_auth(ctx->auth);

    } else if (ctx->auth == NGX_HTTP_SKILLBOX_AUTH_MISSING) {
        ngx_http_skillbox_count_auth(ctx->auth);
    }

    switch (ctx->auth) {

    case NGX_HTTP_SKILLBOX_AUTH_OK:
        return ngx_http_skillbox_check_role(r, ctx);

    case NGX_HTTP_SKILLBOX_AUTH_MISSING:
        return ngx_http_skillbox_error(r, NGX_HTTP_UNAUTHORIZED,
                                       "An API key is needed: "
                                       "\"Authorization: Bearer sk-...\".");

    case NGX_HTTP_SKILLBOX_AUTH_EXPIRED:
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "API key \"%s\" has expired", ctx->key.id);
        return ngx_http_skillbox_error(r, NGX_HTTP_UNAUTHORIZED,
                                       "The API key has expired.");

    case NGX_HTTP_SKILLBOX_AUTH_TENANT:
        return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                       "The API key may not act for the "
                                       "tenant in X-Tenant-ID.");

    case NGX_HTTP_SKILLBOX_AUTH_UNAVAILABLE:
        if (ngx_http_skillbox_store(&err) == NULL) {
            return ngx_http_skillbox_error_sb(r, &err, "opening the store");
        }

        return ngx_http_skillbox_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                       "An internal error occurred.");

    default: /* NGX_HTTP_SKILLBOX_AUTH_INVALID */
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "an unknown API key was sent");
        return ngx_http_skillbox_error(r, NGX_HTTP_UNAUTHORIZED,
                                       "The API key is not valid.");
    }
}


ngx_int_t
ngx_http_skillbox_access_handler(ngx_http_request_t *r)
{
    ngx_http_skillbox_ctx_t       *ctx;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (!slcf->enable) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_skillbox_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_route(r, ctx);

    /* public, or about to be told that there is no such thing */

    if (ctx->method == NULL || ctx->route->flags & NGX_HTTP_SKILLBOX_PUBLIC) {
        return NGX_DECLINED;
    }

    return ngx_http_skillbox_authorize(r, ctx);
}
