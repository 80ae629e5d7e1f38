
/*
 * What each role may do.  A role includes those before it:
 *
 *     reader < runner < publisher < admin
 *
 * The table goes by path, apart from the routes: the first line whose path is
 * the request's, or stands above it, decides; what no line names is for admins,
 * so that a new endpoint is closed until it is given its place here.
 */


#include "ngx_http_skillbox.h"


typedef struct {
    ngx_str_t                     path;
    sb_role_t                     read;        /* GET, HEAD */
    sb_role_t                     write;       /* everything else */
} ngx_http_skillbox_role_t;


static const ngx_http_skillbox_role_t  ngx_http_skillbox_roles[] = {
    { ngx_string("/v1/executions"), SB_ROLE_READER, SB_ROLE_RUNNER },
    { ngx_string("/v1/files"), SB_ROLE_READER, SB_ROLE_RUNNER },
    { ngx_string("/v1/sessions"), SB_ROLE_RUNNER, SB_ROLE_RUNNER },
    { ngx_string("/v1/sandbox"), SB_ROLE_RUNNER, SB_ROLE_RUNNER },
    { ngx_string("/mcp"), SB_ROLE_RUNNER, SB_ROLE_RUNNER },
    { ngx_string("/v1/skills"), SB_ROLE_READER, SB_ROLE_PUBLISHER },
    { ngx_null_string, SB_ROLE_ADMIN, SB_ROLE_ADMIN }
};


static sb_role_t
ngx_http_skillbox_required_role(ngx_http_request_t *r, ngx_str_t *path)
{
    const ngx_http_skillbox_role_t  *role;

    for (role = ngx_http_skillbox_roles; role->path.len; role++) {

        if (path->len >= role->path.len
            && ngx_strncmp(path->data, role->path.data, role->path.len) == 0
            && (path->len == role->path.len
                || path->data[role->path.len] == '/'))
        {
            break;
        }
    }

    return (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) ? role->read
                                                      : role->write;
}


/* NGX_OK: the key's role is enough for the request; else the status */

ngx_int_t
ngx_http_skillbox_check_role(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_role_t  role;

    role = ngx_http_skillbox_required_role(r, &ctx->path);

    if (ctx->key.role >= role) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "API key \"%s\" has the role %s, %s is needed",
                  ctx->key.id, sb_role_name(ctx->key.role),
                  sb_role_name(role));

    return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                   "This needs an API key of the role %s; "
                                   "this key's role is %s.",
                                   sb_role_name(role),
                                   sb_role_name(ctx->key.role));
}
