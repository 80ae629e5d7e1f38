
/*
 * The versions of a skill, and which of them is meant by "latest".
 *
 *     GET /v1/skills/{name}/versions
 *     PUT /v1/skills/{name}/active     {"version": "1.2.0"}, or "latest" to let
 *                                      it follow the uploads again
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_ACTIVE_MAX  4096   /* bytes of PUT's body */


typedef struct {
    ngx_http_skillbox_op_t        op;
    ngx_uint_t                    follow;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          name[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
    char                          active[SB_VERSION_MAX + 1];
} ngx_http_skillbox_active_t;


static ngx_int_t ngx_http_skillbox_version_name(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_active_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);
static sb_code_t ngx_http_skillbox_active_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_active_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_active_free(ngx_http_skillbox_op_t *op);


/* {name} becomes ctx->skill; a name that can't be is not found */

static ngx_int_t
ngx_http_skillbox_version_name(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_str_t  *name;

    name = &ctx->param[0];

    if (!sb_name_valid((char *) name->data, name->len)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such skill.");
    }

    ctx->skill = ngx_http_skillbox_copy(r->pool, (char *) name->data,
                                        name->len);

    return ctx->skill.data ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


ngx_int_t
ngx_http_skillbox_version_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t     buf;
    sb_err_t     err;
    ngx_int_t    rc;
    sb_store_t  *store;

    rc = ngx_http_skillbox_version_name(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    sb_buf_init(&buf, SB_GIB);

    if (sb_store_skill_versions(store, ctx->key.tenant,
                                (char *) ctx->skill.data, &buf, &err)
        != SB_OK)
    {
        sb_buf_free(&buf);
        return ngx_http_skillbox_error_sb(r, &err, "listing versions");
    }

    return ngx_http_skillbox_send_list(r, &buf);
}


ngx_int_t
ngx_http_skillbox_version_activate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_skillbox_version_name(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_skillbox_read_json(r, ctx, NGX_HTTP_SKILLBOX_ACTIVE_MAX,
                                       ngx_http_skillbox_active_json);
}


static ngx_int_t
ngx_http_skillbox_active_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root)
{
    sb_err_t                     err;
    ngx_int_t                    rc;
    ngx_uint_t                   follow;
    const char                  *version;
    ngx_http_skillbox_active_t  *a;

    rc = ngx_http_skillbox_json_member(r, root, "version", 1, SB_VERSION_MAX,
                                       &version);
    if (rc != NGX_OK) {
        return rc;
    }

    follow = (ngx_strcmp(version, "latest") == 0);

    if (!follow && !sb_semver_valid(version, strlen(version))) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"version\" must be a version of the "
                                       "skill, or \"latest\".");
    }

    if (ngx_http_skillbox_store(&err) == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    a = calloc(1, sizeof(ngx_http_skillbox_active_t));
    if (a == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->op.apply = ngx_http_skillbox_active_apply;
    a->op.done = ngx_http_skillbox_active_done;
    a->op.free = ngx_http_skillbox_active_free;
    a->follow = follow;

    /* the lengths were judged with the names */

    ngx_memcpy(a->tenant, ctx->key.tenant, sizeof(a->tenant));
    ngx_memcpy(a->name, ctx->skill.data, ctx->skill.len);
    ngx_memcpy(a->version, version, strlen(version));

    if (ngx_http_skillbox_store_post(&a->op, r, ctx) != NGX_OK) {
        free(a);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "Too many writes are waiting.");
    }

    return NGX_OK;
}


/* thread */

static sb_code_t
ngx_http_skillbox_active_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_active_t *a = (ngx_http_skillbox_active_t *) op;

    return sb_batch_skill_activate(batch, a->tenant, a->name,
                                   a->follow ? NULL : a->version, a->active,
                                   err);
}


static void
ngx_http_skillbox_active_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_active_t *a = (ngx_http_skillbox_active_t *) op;

    sb_buf_t   buf;
    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "activating a version");

    } else {
        ctx->version = ngx_http_skillbox_copy(r->pool, a->active,
                                              strlen(a->active));

        sb_buf_init(&buf, 4096);
        sb_buf_char(&buf, '{');
        sb_json_key_str(&buf, "name", a->name);
        sb_json_key_str(&buf, "active", a->active);
        sb_json_key_bool(&buf, "pinned", !a->follow);
        sb_buf_char(&buf, '}');

        rc = ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_active_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
