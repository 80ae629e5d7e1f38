
/*
 * GET /v1/executions/{id}/logs.
 */


#include "ngx_http_skillbox_async.h"


ngx_int_t
ngx_http_skillbox_execution_logs(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t        buf;
    ngx_int_t       rc;
    sb_execution_t  e;

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    sb_buf_init(&buf, SB_LOG_MAX * 2);
    sb_buf_add(&buf, e.logs.data, e.logs.len);

    return ngx_http_skillbox_send(r, NGX_HTTP_OK, "text/plain", "utf-8", &buf);
}
