
/*
 * /v1/admin: what its endpoints have in common.
 *
 * Two kinds of admins: a key with the role admin manages its own tenant's keys
 * and sees its own tenant; a service key with that role, the operator's,
 * manages them all, and tenants and their limits as well.  What a key may not
 * see is not there (404), as everywhere in the API.
 */


#include "ngx_http_skillbox_admin.h"


static void ngx_http_skillbox_admin_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_admin_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_json_text(ngx_http_request_t *r, json_t *root,
    const char *name, const char **value)
{
    json_t  *member;

    member = json_object_get(root, name);
    *value = NULL;

    if (member == NULL || json_is_null(member)) {
        return NGX_OK;
    }

    *value = json_string_value(member);

    if (*value == NULL || strlen(*value) != json_string_length(member)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" must be a string.", name);
    }

    return NGX_OK;
}


ngx_http_skillbox_admin_op_t *
ngx_http_skillbox_admin_op(sb_code_t (*apply)(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err), ngx_uint_t status)
{
    ngx_http_skillbox_admin_op_t  *op;

    op = calloc(1, sizeof(ngx_http_skillbox_admin_op_t));
    if (op == NULL) {
        return NULL;
    }

    op->op.apply = apply;
    op->op.done = ngx_http_skillbox_admin_done;
    op->op.free = ngx_http_skillbox_admin_free;
    op->status = status;
    sb_buf_init(&op->answer, 64 * SB_KIB);

    return op;
}


ngx_int_t
ngx_http_skillbox_admin_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_admin_op_t *op)
{
    sb_err_t  err;

    if (ngx_http_skillbox_store_post(&op->op, r, ctx) == NGX_OK) {
        return NGX_OK;
    }

    op->op.free(&op->op);

    if (ngx_http_skillbox_store(&err) == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                   "The store takes no writes now.");
}


static void
ngx_http_skillbox_admin_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "administering");

    } else if (a->status == NGX_HTTP_NO_CONTENT) {
        r->headers_out.status = NGX_HTTP_NO_CONTENT;
        r->header_only = 1;
        rc = ngx_http_send_header(r);

    } else {
        rc = ngx_http_skillbox_send_json(r, a->status, &a->answer);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_admin_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    sb_buf_free(&a->answer);
    ngx_explicit_memzero(a->secret, sizeof(a->secret));
    free(a);
}


ngx_int_t
ngx_http_skillbox_admin_of(ngx_http_skillbox_ctx_t *ctx, const char *tenant)
{
    return ctx->key.service || ngx_strcmp(ctx->key.tenant, tenant) == 0
           ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_skillbox_admin_operator(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    if (ctx->key.service) {
        return NGX_OK;
    }

    return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                   "This needs the operator's key: a service "
                                   "key with the role admin.");
}
