
/*
 * Files that a tenant keeps between runs: listing, reading, deleting.  What is
 * written is in _file_put.c.
 *
 *     GET /v1/files?session_id=&execution_id=&limit=&offset=
 *     GET, DELETE /v1/files/{id}
 *     GET /v1/files/{id}/download, /versions
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_FILE_LIMIT   50
#define NGX_HTTP_SKILLBOX_FILE_OFFSET  100000


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
} ngx_http_skillbox_file_op_t;


static ngx_int_t ngx_http_skillbox_file_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_file_t *file);
static sb_code_t ngx_http_skillbox_file_delete_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_file_delete_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_file_delete_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_file_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t           buf;
    sb_err_t           err;
    ngx_int_t          rc, limit, offset;
    ngx_str_t          session, execution;
    sb_store_t        *store;
    sb_file_filter_t   filter;

    rc = ngx_http_skillbox_arg_number(r, "limit", NGX_HTTP_SKILLBOX_FILE_LIMIT,
                                      SB_FILE_LIST_MAX, &limit);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_skillbox_arg_number(r, "offset", 0,
                                      NGX_HTTP_SKILLBOX_FILE_OFFSET, &offset);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_skillbox_arg(r, "session_id", &session) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "execution_id", &execution) == NGX_ERROR)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    filter.session = (char *) session.data;
    filter.execution = (char *) execution.data;
    filter.limit = limit;
    filter.offset = offset;

    sb_buf_init(&buf, SB_GIB);

    if (sb_store_file_list(store, ctx->key.tenant, &filter, &buf, &err)
        != SB_OK)
    {
        sb_buf_free(&buf);
        return ngx_http_skillbox_error_sb(r, &err, "listing files");
    }

    return ngx_http_skillbox_send_list(r, &buf);
}


/* file is good until the store's next use */

static ngx_int_t
ngx_http_skillbox_file_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_file_t *file)
{
    sb_err_t     err;
    ngx_str_t    id;
    sb_store_t  *store;

    id = ngx_http_skillbox_copy(r->pool, (char *) ctx->param[0].data,
                                ctx->param[0].len);
    if (id.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_file_get(store, ctx->key.tenant, (char *) id.data, file, &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "reading a file's record");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_file_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t   buf;
    ngx_int_t  rc;
    sb_file_t  file;

    rc = ngx_http_skillbox_file_find(r, ctx, &file);
    if (rc != NGX_OK) {
        return rc;
    }

    sb_buf_init(&buf, SB_MIB);
    sb_buf_add(&buf, file.json.data, file.json.len);

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_int_t
ngx_http_skillbox_file_versions(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t     buf;
    sb_err_t     err;
    ngx_str_t    id;
    sb_store_t  *store;

    id = ngx_http_skillbox_copy(r->pool, (char *) ctx->param[0].data,
                                ctx->param[0].len);
    if (id.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    sb_buf_init(&buf, SB_GIB);

    if (sb_store_file_versions(store, ctx->key.tenant, (char *) id.data, &buf,
                               &err)
        != SB_OK)
    {
        sb_buf_free(&buf);
        return ngx_http_skillbox_error_sb(r, &err,
                                          "listing a file's versions");
    }

    return ngx_http_skillbox_send_list(r, &buf);
}


ngx_int_t
ngx_http_skillbox_file_download(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    char                   path[NGX_MAX_PATH];
    sb_err_t               err;
    ngx_int_t              rc;
    ngx_str_t              name, type;
    sb_file_t              file;
    sb_store_t            *store;
    ngx_open_file_info_t   of;

    rc = ngx_http_skillbox_file_find(r, ctx, &file);
    if (rc != NGX_OK) {
        return rc;
    }

    if (file.execution[0]) {
        return ngx_http_skillbox_artifact_download(r, ctx, ctx->key.tenant,
                                                   &file);
    }

    name.data = (u_char *) file.name.data;
    name.len = file.name.len;

    if (ngx_http_skillbox_file_headers(r, &name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    type = ngx_http_skillbox_copy(r->pool, file.content_type.data,
                                  file.content_type.len);

    store = ngx_http_skillbox_store(&err);

    if (store == NULL
        || sb_store_package_path(store, file.digest.data, path, sizeof(path),
                                 &err) != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "finding a file");
    }

    name = ngx_http_skillbox_copy(r->pool, path, strlen(path));

    if (name.data == NULL || type.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_skillbox_open(r, &name, &of);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_skillbox_send_file(r, &name, &of, &type);
}


/*
 * The name twice (RFC 6266): in ASCII for old clients, and percent-encoded.
 * Whatever a tenant put there is nothing a browser should show or guess at.
 */

ngx_int_t
ngx_http_skillbox_file_headers(ngx_http_request_t *r, ngx_str_t *name)
{
    size_t       i;
    u_char       ch;
    sb_buf_t     buf;
    ngx_int_t    rc;
    ngx_str_t    value;

    sb_buf_init(&buf, 8192);
    sb_buf_str(&buf, "attachment; filename=\"");

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];
        sb_buf_char(&buf, (ch < 0x20 || ch > 0x7e || ch == '"' || ch == '\\'
                           || ch == '%') ? '_' : ch);
    }

    sb_buf_str(&buf, "\"; filename*=UTF-8''");

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if ((ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20)
            <= 'z') || ch == '.' || ch == '-' || ch == '_')
        {
            sb_buf_char(&buf, ch);

        } else {
            sb_buf_fmt(&buf, "%%%02X", ch);
        }
    }

    rc = NGX_ERROR;

    if (sb_buf_ok(&buf)) {
        value = ngx_http_skillbox_copy(r->pool, buf.data, buf.len);

        if (value.data) {
            rc = ngx_http_skillbox_add_header(r, "Content-Disposition",
                                              &value);
        }
    }

    sb_buf_free(&buf);

    ngx_str_set(&value, "nosniff");

    return rc == NGX_OK
           ? ngx_http_skillbox_add_header(r, "X-Content-Type-Options", &value)
           : NGX_ERROR;
}


ngx_int_t
ngx_http_skillbox_file_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                      err;
    ngx_str_t                    *id;
    unsigned char                 uuid[16];
    ngx_http_skillbox_file_op_t  *d;

    id = &ctx->param[0];

    if (!sb_uuid_parse((char *) id->data, id->len, uuid)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such file.");
    }

    if (ngx_http_skillbox_store(&err) == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    d = calloc(1, sizeof(ngx_http_skillbox_file_op_t));
    if (d == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->op.apply = ngx_http_skillbox_file_delete_apply;
    d->op.done = ngx_http_skillbox_file_delete_done;
    d->op.free = ngx_http_skillbox_file_delete_free;

    ngx_memcpy(d->tenant, ctx->key.tenant, sizeof(d->tenant));
    sb_uuid_format(uuid, d->id);

    ctx->object = ngx_http_skillbox_copy(r->pool, d->id, SB_UUID_LEN);

    if (ngx_http_skillbox_store_post(&d->op, r, ctx) != NGX_OK) {
        free(d);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "Too many writes are waiting.");
    }

    r->main->count++;

    return NGX_DONE;
}


/* thread */

static sb_code_t
ngx_http_skillbox_file_delete_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_file_op_t *d = (ngx_http_skillbox_file_op_t *) op;

    return sb_batch_file_delete(batch, d->tenant, d->id, err);
}


static void
ngx_http_skillbox_file_delete_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    sb_err_t   err;
    ngx_int_t  rc;

    err = op->err;
    op->free(op);

    if (err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &err, "deleting a file");

    } else {
        r->headers_out.status = NGX_HTTP_NO_CONTENT;
        r->header_only = 1;
        rc = ngx_http_send_header(r);
    }

    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_file_delete_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
