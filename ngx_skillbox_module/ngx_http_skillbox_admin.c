
/*
 * /v1/admin: what its endpoints have in common.
 *
 * Two kinds of admins: a key with the role admin manages its own tenant's keys
 * and sees its own tenant; a service key with that role, the operator's,
 * manages them all, and tenants and their limits as well.  What a key may not
 * see is not there (404), as everywhere in the API.
 */


#include "ngx_http_skillbox_admin.h"


typedef struct {
    ngx_http_skillbox_json_pt     handler;
    ngx_uint_t                    optional;
} ngx_http_skillbox_json_t;


static void ngx_http_skillbox_json_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_json_fill(ngx_http_request_t *r,
    sb_buf_t *text);
static void ngx_http_skillbox_admin_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_admin_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_read_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_json_pt handler,
    ngx_uint_t optional)
{
    ngx_int_t                  rc;
    ngx_http_skillbox_json_t  *json;

    if (r->headers_in.content_length_n > NGX_HTTP_SKILLBOX_ADMIN_BODY) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "The request may have %d bytes.",
                                       NGX_HTTP_SKILLBOX_ADMIN_BODY);
    }

    json = ngx_palloc(r->pool, sizeof(ngx_http_skillbox_json_t));
    if (json == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json->handler = handler;
    json->optional = optional;

    ctx->data = json;
    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_json_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


static void
ngx_http_skillbox_json_body(ngx_http_request_t *r)
{
    json_t                    *root;
    sb_buf_t                   text;
    ngx_int_t                  rc;
    json_error_t               error;
    ngx_http_skillbox_ctx_t   *ctx;
    ngx_http_skillbox_json_t  *json;

    ctx = ngx_http_skillbox_get_ctx(r);
    json = ctx->data;

    sb_buf_init(&text, NGX_HTTP_SKILLBOX_ADMIN_BODY);
    root = NULL;

    rc = ngx_http_skillbox_json_fill(r, &text);

    if (rc == NGX_OK) {
        root = (text.len == 0 && json->optional)
               ? json_object()
               : json_loadb(text.len ? text.data : "", text.len,
                            JSON_REJECT_DUPLICATES, &error);

        if (root == NULL) {
            rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                         "The body is not valid JSON: line "
                                         "%d, column %d: %s.", error.line,
                                         error.column, error.text);

        } else if (!json_is_object(root)) {
            rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                         "The body must be a JSON object.");

        } else {
            rc = json->handler(r, ctx, root);
        }
    }

    json_decref(root);
    sb_buf_free(&text);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* a few kilobytes, spooled only where client_body_buffer_size is tiny */

static ngx_int_t
ngx_http_skillbox_json_fill(ngx_http_request_t *r, sb_buf_t *text)
{
    off_t         size;
    u_char        buf[NGX_HTTP_SKILLBOX_ADMIN_BODY];
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    size = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;
        size += ngx_buf_size(b);

        if (size > NGX_HTTP_SKILLBOX_ADMIN_BODY) {
            return ngx_http_skillbox_error(r,
                                           NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                           "The request may have %d bytes.",
                                           NGX_HTTP_SKILLBOX_ADMIN_BODY);
        }

        if (!b->in_file) {
            sb_buf_add(text, b->pos, b->last - b->pos);
            continue;
        }

        n = ngx_read_file(b->file, buf, b->file_last - b->file_pos,
                          b->file_pos);

        if (n != b->file_last - b->file_pos) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        sb_buf_add(text, buf, n);
    }

    return sb_buf_ok(text) ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


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
