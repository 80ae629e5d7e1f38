
/*
 * One artifact out of an archive, as a file: by its path, or by its id.
 *
 *     GET /v1/executions/{id}/files/{path}
 *     GET /v1/files/{id}/download
 *
 * A worker reads no archive.  When the file does not lie beside the archive yet,
 * the helper has a confined child take it out; then it is served as any other,
 * by sendfile, with ranges.  It is a copy that may go at any time: the retention
 * removes those that are an hour old, and one that is asked for again is taken
 * out again.  While it lies there it counts for what the tenant keeps: files that
 * a few bytes were compressed to would be a way around the limit.
 */


#include "ngx_http_skillbox.h"


static ngx_uint_t ngx_http_skillbox_artifact_there(
    ngx_http_skillbox_artifact_t *a);
static void ngx_http_skillbox_artifact_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_artifact_ready(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a,
    ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_artifact_send(ngx_http_request_t *r,
    ngx_http_skillbox_artifact_t *a);
static ngx_int_t ngx_http_skillbox_artifact_tenant(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *id, char *tenant);


/*
 * The key of a reader, or the signature of the execution's archive: whoever may
 * have all of it may have a part.
 */

ngx_int_t
ngx_http_skillbox_artifact_file(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    char            id[SB_UUID_LEN + 1], tenant[SB_TENANT_MAX + 1];
    sb_err_t        err;
    ngx_int_t       rc;
    ngx_str_t       path;
    sb_file_t       file;
    sb_store_t     *store;
    unsigned char   uuid[16];

    ngx_memzero(id, sizeof(id));

    if (sb_uuid_parse((char *) ctx->param[0].data, ctx->param[0].len, uuid)) {
        sb_uuid_format(uuid, id);
    }

    rc = ngx_http_skillbox_artifact_tenant(r, ctx, id, tenant);
    if (rc != NGX_OK) {
        return rc;
    }

    path = ngx_http_skillbox_copy(r->pool, (char *) ctx->param[1].data,
                                  ctx->param[1].len);
    ctx->execution = ngx_http_skillbox_copy(r->pool, id, strlen(id));

    if (path.data == NULL || ctx->execution.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_artifact_find(store, tenant, id, (char *) path.data, &file,
                               &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "finding an artifact");
    }

    return ngx_http_skillbox_artifact_download(r, ctx, tenant, &file);
}


static ngx_int_t
ngx_http_skillbox_artifact_tenant(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *id, char *tenant)
{
    u_char      path[sizeof("/v1/executions//files.tar.gz") + SB_UUID_LEN];
    ngx_int_t   rc;
    ngx_str_t   signature;

    if (ngx_http_arg(r, (u_char *) "signature", 9, &signature) == NGX_OK) {
        (void) ngx_sprintf(path, "/v1/executions/%s/files.tar.gz%Z", id);

        return ngx_http_skillbox_artifact_verify(r, path, ngx_strlen(path),
                                                 tenant);
    }

    rc = ngx_http_skillbox_authorize(r, ctx);

    if (rc == NGX_OK) {
        ngx_memcpy(tenant, ctx->key.tenant, SB_TENANT_MAX + 1);
    }

    return rc;
}


ngx_int_t
ngx_http_skillbox_artifact_download(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *tenant, sb_file_t *file)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_artifact_t  *a;

    a = ngx_http_skillbox_artifact_create(r, tenant, file);
    if (a == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->ready = ngx_http_skillbox_artifact_ready;

    rc = ngx_http_skillbox_artifact_take(r, ctx, a);

    if (rc == NGX_OK) {
        return ngx_http_skillbox_artifact_send(r, a);
    }

    if (rc == NGX_AGAIN) {
        r->main->count++;
        return NGX_DONE;
    }

    return rc;
}


static void
ngx_http_skillbox_artifact_ready(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a,
    ngx_int_t rc)
{
    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_artifact_send(r, a);
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_skillbox_artifact_send(ngx_http_request_t *r,
    ngx_http_skillbox_artifact_t *a)
{
    u_char                *p;
    ngx_int_t              rc;
    ngx_str_t              name;
    ngx_open_file_info_t   of;

    rc = ngx_http_skillbox_open(r, &a->file, &of);
    if (rc != NGX_OK) {
        return rc;
    }

    name = a->name;

    for (p = name.data; p < a->name.data + a->name.len; p++) {
        if (*p == '/') {
            name.data = p + 1;
        }
    }

    name.len = a->name.data + a->name.len - name.data;

    if (ngx_http_skillbox_file_headers(r, &name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_send_file(r, &a->file, &of, &a->type);
}


ngx_http_skillbox_artifact_t *
ngx_http_skillbox_artifact_create(ngx_http_request_t *r, const char *tenant,
    sb_file_t *file)
{
    char                           path[NGX_MAX_PATH];
    int                            n;
    ngx_http_skillbox_artifact_t  *a;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    a = ngx_pcalloc(r->pool, sizeof(ngx_http_skillbox_artifact_t));
    if (a == NULL) {
        return NULL;
    }

    n = snprintf(path, sizeof(path), "%.*s/" SB_ARTIFACT_FILE_FMT,
                 (int) slcf->artifacts.len, slcf->artifacts.data,
                 file->execution + SB_UUID_LEN - 2, file->execution,
                 (unsigned) file->index);

    if (n < 0 || (size_t) n >= sizeof(path)) {
        return NULL;
    }

    a->tenant = ngx_http_skillbox_copy(r->pool, tenant, ngx_strlen(tenant));
    a->id = ngx_http_skillbox_copy(r->pool, file->execution, SB_UUID_LEN);
    a->name = ngx_http_skillbox_copy(r->pool, file->name.data, file->name.len);
    a->type = ngx_http_skillbox_copy(r->pool, file->content_type.data,
                                     file->content_type.len);
    a->file = ngx_http_skillbox_copy(r->pool, path, n);
    a->index = file->index;
    a->size = file->size;

    return (a->tenant.data && a->id.data && a->name.data && a->type.data
            && a->file.data)
           ? a : NULL;
}


ngx_int_t
ngx_http_skillbox_artifact_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a)
{
    int                            n;
    char                           text[sizeof(((sb_err_t *) 0)->message) + 64];
    sb_err_t                       err;
    sb_store_t                    *store;
    ngx_http_skillbox_call_t      *call;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->artifacts.len == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "Artifacts are not served here.");
    }

    if (ngx_http_skillbox_artifact_there(a)) {
        return NGX_OK;
    }

    store = ngx_http_skillbox_store(&err);

    if (store == NULL
        || sb_store_tenant_room(store, (char *) a->tenant.data, a->size, &err)
           != SB_OK)
    {
        if (err.code != SB_EQUOTA) {
            return ngx_http_skillbox_error_sb(r, &err,
                                              "taking out an artifact");
        }

        n = snprintf(text, sizeof(text), "%s; the archive at files_url can "
                     "be had all the same", err.message);

        return ngx_http_skillbox_error_text(r, sb_code_status(err.code),
                                            sb_code_slug(err.code), text,
                                            n, NULL);
    }

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_ARTIFACT);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_call_param(call, SB_P_EXECUTION, (char *) a->id.data,
                                 a->id.len);
    ngx_http_skillbox_call_param(call, SB_P_TARGET, (char *) a->name.data,
                                 a->name.len);
    ngx_http_skillbox_call_number(call, SB_P_INDEX, a->index);

    call->safe = 1;
    call->data = a;

    return ngx_http_skillbox_call_start(call, ngx_http_skillbox_artifact_asked)
           == NGX_OK ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* not one that a crash of the system cut off */

static ngx_uint_t
ngx_http_skillbox_artifact_there(ngx_http_skillbox_artifact_t *a)
{
    ngx_file_info_t  fi;

    return ngx_file_info(a->file.data, &fi) != NGX_FILE_ERROR
           && ngx_is_file(&fi) && ngx_file_size(&fi) == a->size;
}


static void
ngx_http_skillbox_artifact_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_artifact_t  *a;

    a = call->data;

    if (call->rc != NGX_OK || call->status != NGX_HTTP_OK) {
        rc = ngx_http_skillbox_call_error(r, call);

    } else if (ngx_http_skillbox_artifact_there(a)) {
        ngx_http_skillbox_archive_taken(&a->tenant, &a->id, a->size);
        rc = NGX_OK;

    } else {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the helper put no artifact at \"%V\"", &a->file);
        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                     "The helper gave no valid answer.");
    }

    a->ready(r, ngx_http_skillbox_get_ctx(r), a, rc);
}
