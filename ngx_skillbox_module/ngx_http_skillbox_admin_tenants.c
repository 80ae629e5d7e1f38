
/*
 * /v1/admin/tenants: make, list, show, limit and delete tenants.
 *
 * A tenant is made here or by its first key.  Deleting one loses nothing: it
 * must have neither skills, executions nor files any more; its keys are revoked with
 * it, at once.
 */


#include "ngx_http_skillbox_admin.h"


#define NGX_HTTP_SKILLBOX_TENANTS_MAX  (64 * SB_MIB)


typedef struct {
    ngx_http_skillbox_ctx_t      *ctx;
    sb_buf_t                      out;
} ngx_http_skillbox_tenant_list_t;


static void ngx_http_skillbox_tenant_json(sb_buf_t *b, const sb_tenant_t *t);
static sb_code_t ngx_http_skillbox_tenant_list_one(void *data,
    const sb_tenant_t *tenant, sb_err_t *err);
static ngx_int_t ngx_http_skillbox_tenant_param(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_tenant_create_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);
static ngx_int_t ngx_http_skillbox_tenant_limits(ngx_http_request_t *r,
    json_t *root, sb_tenant_t *tenant, int64_t absent);
static sb_code_t ngx_http_skillbox_tenant_create_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static ngx_int_t ngx_http_skillbox_tenant_update_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);
static sb_code_t ngx_http_skillbox_tenant_update_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static sb_code_t ngx_http_skillbox_tenant_delete_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);


/* any thread */

static void
ngx_http_skillbox_tenant_json(sb_buf_t *b, const sb_tenant_t *t)
{
    char        when[SB_TIME_LEN + 1];
    ngx_uint_t  i;

    sb_time_format(t->created_ms, when);

    sb_buf_char(b, '{');
    sb_json_key_str(b, "id", t->id);
    sb_json_key_str(b, "created_at", when);
    sb_json_key(b, "limits");
    sb_buf_char(b, '{');

    for (i = 0; i < SB_LIMIT_COUNT; i++) {

        if (t->limit[i] == SB_UNLIMITED) {
            sb_json_key(b, sb_limit_name(i));
            sb_buf_str(b, "null");

        } else {
            sb_json_key_int(b, sb_limit_name(i), t->limit[i]);
        }
    }

    sb_buf_char(b, '}');

    sb_json_key(b, "usage");
    sb_buf_char(b, '{');
    sb_json_key_int(b, "disk_bytes", sb_use_total(t->use));

    for (i = 0; i < SB_USE_COUNT; i++) {
        sb_json_key_int(b, sb_use_name(i), t->use[i]);
    }

    sb_buf_str(b, "}}");
}


ngx_int_t
ngx_http_skillbox_tenant_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                         err;
    sb_store_t                      *store;
    ngx_http_skillbox_tenant_list_t  list;

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    list.ctx = ctx;
    sb_buf_init(&list.out, NGX_HTTP_SKILLBOX_TENANTS_MAX);
    sb_buf_char(&list.out, '[');

    if (sb_store_tenant_each(store, ngx_http_skillbox_tenant_list_one, &list,
                             &err)
        != SB_OK)
    {
        sb_buf_free(&list.out);
        return ngx_http_skillbox_error_sb(r, &err, "listing tenants");
    }

    sb_buf_char(&list.out, ']');

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &list.out);
}


static sb_code_t
ngx_http_skillbox_tenant_list_one(void *data, const sb_tenant_t *tenant,
    sb_err_t *err)
{
    ngx_http_skillbox_tenant_list_t *list = data;

    if (ngx_http_skillbox_admin_of(list->ctx, tenant->id) != NGX_OK) {
        return SB_OK;
    }

    if (list->out.len > 1) {
        sb_buf_char(&list->out, ',');
    }

    ngx_http_skillbox_tenant_json(&list->out, tenant);

    return SB_OK;
}


/* ctx->object becomes the id in the path, NUL-terminated */

static ngx_int_t
ngx_http_skillbox_tenant_param(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ctx->object = ngx_http_skillbox_copy(r->pool, (char *) ctx->param[0].data,
                                         ctx->param[0].len);

    if (ctx->object.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!sb_tenant_valid((char *) ctx->object.data, ctx->object.len)
        || ngx_http_skillbox_admin_of(ctx, (char *) ctx->object.data)
           != NGX_OK)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such tenant.");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_tenant_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t      buf;
    sb_err_t      err;
    ngx_int_t     rc;
    sb_store_t   *store;
    sb_tenant_t   tenant;

    rc = ngx_http_skillbox_tenant_param(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_tenant_get(store, (char *) ctx->object.data, &tenant, &err)
        != SB_OK)
    {
        return err.code == SB_ENOTFOUND
               ? ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                         "There is no such tenant.")
               : ngx_http_skillbox_error_sb(r, &err, "reading a tenant");
    }

    sb_buf_init(&buf, 4096);
    ngx_http_skillbox_tenant_json(&buf, &tenant);

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_int_t
ngx_http_skillbox_tenant_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_skillbox_admin_operator(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_skillbox_read_json(r, ctx,
                                       NGX_HTTP_SKILLBOX_ADMIN_BODY,
                                       ngx_http_skillbox_tenant_create_json);
}


static ngx_int_t
ngx_http_skillbox_tenant_create_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root)
{
    ngx_int_t                      rc;
    const char                    *id;
    ngx_http_skillbox_admin_op_t  *op;

    rc = ngx_http_skillbox_json_text(r, root, "id", &id);
    if (rc != NGX_OK) {
        return rc;
    }

    if (id == NULL || !sb_tenant_valid(id, strlen(id))) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"id\" must be 1 to %d letters, digits "
                                       "or ._-, a letter or digit first.",
                                       SB_TENANT_MAX);
    }

    ctx->object = ngx_http_skillbox_copy(r->pool, id, strlen(id));

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_tenant_create_apply,
                                    NGX_HTTP_CREATED);
    if (op == NULL || ctx->object.data == NULL) {
        free(op);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(op->tenant.id, id, strlen(id));

    rc = ngx_http_skillbox_tenant_limits(r, root, &op->tenant, SB_UNLIMITED);

    if (rc != NGX_OK) {
        op->op.free(&op->op);
        return rc;
    }

    return ngx_http_skillbox_admin_post(r, ctx, op);
}


/*
 * "limits": {name: number | null}.  null: no limit.  An unknown name is refused:
 * a limit that was misspelt would not be one.
 */

static ngx_int_t
ngx_http_skillbox_tenant_limits(ngx_http_request_t *r, json_t *root,
    sb_tenant_t *tenant, int64_t absent)
{
    json_t      *limits, *value;
    int64_t      n;
    ngx_uint_t   i;
    const char  *name;

    for (i = 0; i < SB_LIMIT_COUNT; i++) {
        tenant->limit[i] = absent;
    }

    limits = json_object_get(root, "limits");

    if (limits == NULL) {
        return NGX_OK;
    }

    if (!json_is_object(limits)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"limits\" must be an object.");
    }

    json_object_foreach(limits, name, value) {

        for (i = 0; i < SB_LIMIT_COUNT; i++) {
            if (ngx_strcmp(name, sb_limit_name(i)) == 0) {
                break;
            }
        }

        if (i == SB_LIMIT_COUNT) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"limits\": there is no limit "
                                           "\"%.64s\".", name);
        }

        n = json_is_null(value) ? SB_UNLIMITED : json_integer_value(value);

        if (!json_is_null(value)
            && (!json_is_integer(value) || n < 0 || n > SB_LIMIT_MAX))
        {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"limits.%s\" must be an integer "
                                           "from 0 to %lld, or null for no "
                                           "limit.", sb_limit_name(i),
                                           SB_LIMIT_MAX);
        }

        tenant->limit[i] = n;
    }

    return NGX_OK;
}


/* thread */

static sb_code_t
ngx_http_skillbox_tenant_create_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    sb_code_t  code;

    code = sb_batch_tenant_create(batch, &a->tenant, err);

    if (code == SB_OK) {
        ngx_http_skillbox_tenant_json(&a->answer, &a->tenant);
    }

    return code;
}


/* PUT and PATCH alike: limits that aren't named stay as they are */

ngx_int_t
ngx_http_skillbox_tenant_update(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_skillbox_tenant_param(r, ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_admin_operator(r, ctx);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_skillbox_read_json(r, ctx,
                                       NGX_HTTP_SKILLBOX_ADMIN_BODY,
                                       ngx_http_skillbox_tenant_update_json);
}


static ngx_int_t
ngx_http_skillbox_tenant_update_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_admin_op_t  *op;

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_tenant_update_apply,
                                    NGX_HTTP_OK);
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(op->tenant.id, ctx->object.data, ctx->object.len);

    rc = ngx_http_skillbox_tenant_limits(r, root, &op->tenant, SB_LIMIT_KEEP);

    if (rc != NGX_OK) {
        op->op.free(&op->op);
        return rc;
    }

    return ngx_http_skillbox_admin_post(r, ctx, op);
}


/* thread */

static sb_code_t
ngx_http_skillbox_tenant_update_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    sb_code_t  code;

    code = sb_batch_tenant_update(batch, &a->tenant, err);

    if (code == SB_OK) {
        ngx_http_skillbox_tenant_json(&a->answer, &a->tenant);
    }

    return code;
}


ngx_int_t
ngx_http_skillbox_tenant_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_admin_op_t  *op;

    rc = ngx_http_skillbox_tenant_param(r, ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_admin_operator(r, ctx);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_tenant_delete_apply,
                                    NGX_HTTP_NO_CONTENT);
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(op->tenant.id, ctx->object.data, ctx->object.len);

    rc = ngx_http_skillbox_admin_post(r, ctx, op);

    if (rc != NGX_OK) {
        return rc;
    }

    r->main->count++;

    return NGX_DONE;
}


/* thread */

static sb_code_t
ngx_http_skillbox_tenant_delete_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    return sb_batch_tenant_delete(batch, a->tenant.id, NULL, err);
}
