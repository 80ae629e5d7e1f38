
/*
 * /v1/admin/keys: make, list, show, rotate and revoke API keys.
 *
 * A secret is made here, shown in the one answer and kept as its SHA-256 only.
 * All workers read the store for each request, so a revoked key is unknown to
 * them from the commit on, which is before the answer.
 */


#include "ngx_http_skillbox_admin.h"

#include "../libskillbox/units.h"


#define NGX_HTTP_SKILLBOX_GRACE      3600      /* s, of a rotated key */
#define NGX_HTTP_SKILLBOX_GRACE_MAX  (30 * 24 * 3600)
#define NGX_HTTP_SKILLBOX_KEYS_MAX   (64 * SB_MIB)


typedef struct {
    ngx_http_skillbox_ctx_t      *ctx;
    ngx_str_t                     tenant;      /* empty: all */
    sb_buf_t                      out;
} ngx_http_skillbox_key_list_t;


static void ngx_http_skillbox_key_json(sb_buf_t *b, const sb_key_t *key);
static void ngx_http_skillbox_key_members(sb_buf_t *b, const sb_key_t *key);
static sb_code_t ngx_http_skillbox_key_list_one(void *data,
    const sb_key_t *key, sb_err_t *err);
static ngx_int_t ngx_http_skillbox_key_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_key_t *key);
static ngx_int_t ngx_http_skillbox_key_create_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);
static ngx_int_t ngx_http_skillbox_key_fields(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root, sb_key_t *key);
static ngx_int_t ngx_http_skillbox_key_tenant(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root, sb_key_t *key);
static ngx_int_t ngx_http_skillbox_key_expiry(ngx_http_request_t *r,
    json_t *root, sb_key_t *key);
static sb_code_t ngx_http_skillbox_key_create_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static ngx_int_t ngx_http_skillbox_key_rotate_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root);
static sb_code_t ngx_http_skillbox_key_rotate_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static sb_code_t ngx_http_skillbox_key_revoke_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);


/* any thread */

static void
ngx_http_skillbox_key_members(sb_buf_t *b, const sb_key_t *key)
{
    char  when[SB_TIME_LEN + 1];

    sb_json_key_str(b, "id", key->id);
    sb_json_key_str(b, "tenant_id", key->tenant);
    sb_json_key_str(b, "name", key->name);
    sb_json_key_str(b, "role", sb_role_name(key->role));
    sb_json_key_bool(b, "service", key->service);

    sb_time_format(key->created_ms, when);
    sb_json_key_str(b, "created_at", when);

    if (key->expires_ms) {
        sb_time_format(key->expires_ms, when);
        sb_json_key_str(b, "expires_at", when);
    }

    if (key->used_ms) {
        sb_time_format(key->used_ms, when);
        sb_json_key_str(b, "last_used_at", when);
    }
}


static void
ngx_http_skillbox_key_json(sb_buf_t *b, const sb_key_t *key)
{
    sb_buf_char(b, '{');
    ngx_http_skillbox_key_members(b, key);
    sb_buf_char(b, '}');
}


/* GET: the operator's key sees those of all tenants, or of ?tenant_id= */

ngx_int_t
ngx_http_skillbox_key_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                      err;
    sb_store_t                   *store;
    ngx_http_skillbox_key_list_t  list;

    ngx_memzero(&list, sizeof(ngx_http_skillbox_key_list_t));
    list.ctx = ctx;

    (void) ngx_http_arg(r, (u_char *) "tenant_id", sizeof("tenant_id") - 1,
                        &list.tenant);

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    sb_buf_init(&list.out, NGX_HTTP_SKILLBOX_KEYS_MAX);
    sb_buf_char(&list.out, '[');

    if (sb_store_key_each(store, ngx_http_skillbox_key_list_one, &list, &err)
        != SB_OK)
    {
        sb_buf_free(&list.out);
        return ngx_http_skillbox_error_sb(r, &err, "listing API keys");
    }

    sb_buf_char(&list.out, ']');

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &list.out);
}


static sb_code_t
ngx_http_skillbox_key_list_one(void *data, const sb_key_t *key, sb_err_t *err)
{
    ngx_http_skillbox_key_list_t *list = data;

    if (ngx_http_skillbox_admin_of(list->ctx, key->tenant) != NGX_OK
        || (list->tenant.len
            && (list->tenant.len != ngx_strlen(key->tenant)
                || ngx_strncmp(list->tenant.data, key->tenant,
                               list->tenant.len) != 0)))
    {
        return SB_OK;
    }

    if (list->out.len > 1) {
        sb_buf_char(&list->out, ',');
    }

    ngx_http_skillbox_key_json(&list->out, key);

    return SB_OK;
}


/* the key that the path names, if this one may manage it */

static ngx_int_t
ngx_http_skillbox_key_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_key_t *key)
{
    sb_err_t     err;
    sb_store_t  *store;

    ctx->object = ngx_http_skillbox_copy(r->pool, (char *) ctx->param[0].data,
                                         ctx->param[0].len);
    if (ctx->object.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_key_get(store, (char *) ctx->object.data, key, &err)
        == SB_OK)
    {
        if (ngx_http_skillbox_admin_of(ctx, key->tenant) == NGX_OK) {
            return NGX_OK;
        }

        err.code = SB_ENOTFOUND;
    }

    if (err.code == SB_ENOTFOUND) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such API key.");
    }

    return ngx_http_skillbox_error_sb(r, &err, "reading an API key");
}


ngx_int_t
ngx_http_skillbox_key_get(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t   buf;
    sb_key_t   key;
    ngx_int_t  rc;

    rc = ngx_http_skillbox_key_find(r, ctx, &key);

    if (rc != NGX_OK) {
        return rc;
    }

    sb_buf_init(&buf, 4096);
    ngx_http_skillbox_key_json(&buf, &key);

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_int_t
ngx_http_skillbox_key_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    return ngx_http_skillbox_read_json(r, ctx,
                                       NGX_HTTP_SKILLBOX_ADMIN_BODY,
                                       ngx_http_skillbox_key_create_json);
}


static ngx_int_t
ngx_http_skillbox_key_create_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_admin_op_t  *op;

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_key_create_apply,
                                    NGX_HTTP_CREATED);
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_skillbox_key_fields(r, ctx, root, &op->key);

    if (rc != NGX_OK) {
        op->op.free(&op->op);
        return rc;
    }

    /* the audit log knows the key by its id, before the store does */

    sb_uuid7(op->key.id);
    ctx->object = ngx_http_skillbox_copy(r->pool, op->key.id, SB_UUID_LEN);

    return ngx_http_skillbox_admin_post(r, ctx, op);
}


static ngx_int_t
ngx_http_skillbox_key_fields(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root, sb_key_t *key)
{
    size_t       i, len;
    json_t      *service;
    ngx_int_t    rc;
    const char  *name, *role;

    rc = ngx_http_skillbox_json_text(r, root, "name", &name);

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_json_text(r, root, "role", &role);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    len = name ? strlen(name) : 0;

    for (i = 0; i < len; i++) {
        if ((u_char) name[i] < ' ' || name[i] == 0x7f) {
            break;
        }
    }

    if (len == 0 || len > SB_KEYNAME_MAX || i < len) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"name\" must be a string of 1 to %d "
                                       "bytes without control characters.",
                                       SB_KEYNAME_MAX);
    }

    ngx_memcpy(key->name, name, len);

    if (role == NULL || !sb_role_parse(role, strlen(role), &key->role)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"role\" must be one of reader, "
                                       "runner, publisher, admin.");
    }

    service = json_object_get(root, "service");

    if (service && !json_is_boolean(service) && !json_is_null(service)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"service\" must be true or false.");
    }

    key->service = json_is_true(service);

    rc = ngx_http_skillbox_key_tenant(r, ctx, root, key);

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_key_expiry(r, root, key);
    }

    return rc;
}


static ngx_int_t
ngx_http_skillbox_key_tenant(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root, sb_key_t *key)
{
    ngx_int_t    rc;
    const char  *tenant;

    rc = ngx_http_skillbox_json_text(r, root, "tenant_id", &tenant);
    if (rc != NGX_OK) {
        return rc;
    }

    if (tenant == NULL) {
        tenant = ctx->key.tenant;
    }

    if (!sb_tenant_valid(tenant, strlen(tenant))) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"tenant_id\" must be 1 to %d letters, "
                                       "digits or ._-, a letter or digit "
                                       "first.", SB_TENANT_MAX);
    }

    if (ngx_http_skillbox_admin_of(ctx, tenant) != NGX_OK) {
        return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                       "\"tenant_id\": this key may make keys "
                                       "of its own tenant only.");
    }

    if (key->service && !ctx->key.service) {
        return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                       "\"service\": only a service key may "
                                       "make service keys.");
    }

    ngx_memcpy(key->tenant, tenant, strlen(tenant) + 1);

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_key_expiry(ngx_http_request_t *r, json_t *root,
    sb_key_t *key)
{
    ngx_int_t    rc;
    const char  *when;

    rc = ngx_http_skillbox_json_text(r, root, "expires_at", &when);

    if (rc != NGX_OK || when == NULL) {
        return rc;
    }

    if (!sb_time_parse(when, strlen(when), &key->expires_ms)
        || key->expires_ms <= sb_time_now_ms())
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"expires_at\" must be a time to "
                                       "come, as 2030-01-31T12:00:00Z.");
    }

    return NGX_OK;
}


/* thread */

static sb_code_t
ngx_http_skillbox_key_create_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    sb_code_t      code;
    unsigned char  sha256[SB_SHA256_LEN];

    sb_apikey_new(a->secret);
    sb_sha256(a->secret, SB_APIKEY_LEN, sha256);

    code = sb_batch_key_put(batch, sha256, &a->key, err);

    if (code != SB_OK) {
        return code;
    }

    sb_buf_char(&a->answer, '{');
    ngx_http_skillbox_key_members(&a->answer, &a->key);
    sb_json_key_str(&a->answer, "key", a->secret);
    sb_buf_char(&a->answer, '}');

    return SB_OK;
}


ngx_int_t
ngx_http_skillbox_key_rotate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_key_t   key;
    ngx_int_t  rc;

    rc = ngx_http_skillbox_key_find(r, ctx, &key);

    if (rc == NGX_OK && key.service && !ctx->key.service) {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                     "Only a service key may rotate a service "
                                     "key.");
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->object = ngx_http_skillbox_copy(r->pool, key.id, SB_UUID_LEN);
    if (ctx->object.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_read_json_or_none(r, ctx,
                                               NGX_HTTP_SKILLBOX_ADMIN_BODY,
                                               ngx_http_skillbox_key_rotate_json);
}


static ngx_int_t
ngx_http_skillbox_key_rotate_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, json_t *root)
{
    json_t                        *grace;
    json_int_t                     seconds;
    ngx_http_skillbox_admin_op_t  *op;

    grace = json_object_get(root, "grace_seconds");
    seconds = grace ? json_integer_value(grace) : NGX_HTTP_SKILLBOX_GRACE;

    if ((grace && !json_is_integer(grace))
        || seconds < 0 || seconds > NGX_HTTP_SKILLBOX_GRACE_MAX)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"grace_seconds\" must be an integer "
                                       "from 0 to %d.",
                                       NGX_HTTP_SKILLBOX_GRACE_MAX);
    }

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_key_rotate_apply,
                                    NGX_HTTP_CREATED);
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    op->grace_ms = (int64_t) seconds * 1000;
    ngx_cpystrn((u_char *) op->id, ctx->object.data, sizeof(op->id));

    return ngx_http_skillbox_admin_post(r, ctx, op);
}


/* thread */

static sb_code_t
ngx_http_skillbox_key_rotate_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    char           when[SB_TIME_LEN + 1];
    sb_code_t      code;
    unsigned char  sha256[SB_SHA256_LEN];

    sb_apikey_new(a->secret);
    sb_sha256(a->secret, SB_APIKEY_LEN, sha256);

    code = sb_batch_key_rotate(batch, a->id, sha256, a->grace_ms, &a->key,
                               &a->until_ms, err);
    if (code != SB_OK) {
        return code;
    }

    sb_time_format(a->until_ms, when);

    sb_buf_char(&a->answer, '{');
    ngx_http_skillbox_key_members(&a->answer, &a->key);
    sb_json_key_str(&a->answer, "key", a->secret);
    sb_json_key_str(&a->answer, "replaces", a->id);
    sb_json_key_str(&a->answer, "replaced_until", when);
    sb_buf_char(&a->answer, '}');

    return SB_OK;
}


ngx_int_t
ngx_http_skillbox_key_revoke(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_key_t                       key;
    ngx_int_t                      rc;
    ngx_http_skillbox_admin_op_t  *op;

    rc = ngx_http_skillbox_key_find(r, ctx, &key);

    if (rc == NGX_OK && key.service && !ctx->key.service) {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                     "Only a service key may revoke a service "
                                     "key.");
    }

    if (rc != NGX_OK) {
        return rc;
    }

    op = ngx_http_skillbox_admin_op(ngx_http_skillbox_key_revoke_apply,
                                    NGX_HTTP_NO_CONTENT);
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(op->id, key.id, sizeof(op->id));

    rc = ngx_http_skillbox_admin_post(r, ctx, op);

    if (rc != NGX_OK) {
        return rc;
    }

    r->main->count++;

    return NGX_DONE;
}


/* thread */

static sb_code_t
ngx_http_skillbox_key_revoke_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_admin_op_t *a = (ngx_http_skillbox_admin_op_t *) op;

    return sb_batch_key_revoke(batch, a->id, err);
}
