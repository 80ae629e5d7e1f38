
/*
 * GET /v1/skills/{name}/{version}/files: what a package holds.  The store has
 * the package as it was uploaded; taking it apart is the helper's, which has the
 * tree unpacked and reads it in a confined process.  A helper that has not (a
 * new one, a cleaned cache) is sent the package first.
 *
 *     files -> (helper: files) -> answer
 *        unknown package -> (helper: intake of the stored file) -> files
 */


#include "ngx_http_skillbox.h"


typedef struct {
    ngx_str_t                     digest;
    ngx_str_t                     path;         /* empty: all files */
    ngx_uint_t                    sent;         /* the package was sent */
} ngx_http_skillbox_package_t;


static ngx_int_t ngx_http_skillbox_package_ask(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_package_t *p);
static void ngx_http_skillbox_package_answer(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_package_give(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_package_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_package_t *p);
static ngx_int_t ngx_http_skillbox_package_open(ngx_http_request_t *r,
    ngx_str_t *name, ngx_fd_t *fd, off_t *size);
static void ngx_http_skillbox_package_kept(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);


ngx_int_t
ngx_http_skillbox_package_files(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                      err;
    ngx_int_t                     rc;
    sb_skill_t                    skill;
    sb_store_t                   *store;
    ngx_http_skillbox_package_t  *p;

    rc = ngx_http_skillbox_skill_params(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    p = ngx_pcalloc(r->pool, sizeof(ngx_http_skillbox_package_t));

    if (p == NULL
        || ngx_http_skillbox_arg(r, "path", &p->path) == NGX_ERROR)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_skill_get(store, ctx->key.tenant, (char *) ctx->skill.data,
                           (char *) ctx->version.data, &skill, &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "reading a skill");
    }

    ctx->version = ngx_http_skillbox_copy(r->pool, skill.version.data,
                                          skill.version.len);
    p->digest = ngx_http_skillbox_copy(r->pool, skill.digest.data,
                                       skill.digest.len);

    if (ctx->version.data == NULL || p->digest.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (p->path.len && !sb_path_valid((char *) p->path.data, p->path.len)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "The package has no such file.");
    }

    ctx->data = p;

    rc = ngx_http_skillbox_package_ask(r, ctx, p);
    if (rc != NGX_OK) {
        return rc;
    }

    r->main->count++;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_skillbox_package_ask(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_package_t *p)
{
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_FILES);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    call->safe = 1;

    ngx_http_skillbox_call_param(call, SB_P_DIGEST, (char *) p->digest.data,
                                 p->digest.len);
    ngx_http_skillbox_call_param(call, SB_P_TARGET, (char *) p->path.data,
                                 p->path.len);

    if (ngx_http_skillbox_call_start(call, ngx_http_skillbox_package_answer)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_package_answer(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                     rc;
    ngx_http_skillbox_ctx_t      *ctx;
    ngx_http_skillbox_package_t  *p;

    ctx = ngx_http_skillbox_get_ctx(r);
    p = ctx->data;

    if (call->rc == NGX_OK && call->status == NGX_HTTP_OK) {
        rc = ngx_http_skillbox_package_give(r, call);
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (!p->sent
        && ngx_http_skillbox_call_refused(call, SB_SLUG_UNKNOWN_PACKAGE))
    {
        rc = ngx_http_skillbox_package_send(r, ctx, p);

    } else {
        rc = ngx_http_skillbox_call_error(r, call);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* the helper's JSON as it is; a body that is none would be the helper's lie */

static ngx_int_t
ngx_http_skillbox_package_give(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    sb_buf_t  buf;
    sb_str_t  body;

    body = ngx_http_skillbox_call_body(call);

    if (body.len < 2 || body.data[0] != '[' || body.data[body.len - 1] != ']') {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                       "The helper gave no valid answer.");
    }

    sb_buf_init(&buf, SB_RESULT_MAX);
    sb_buf_add(&buf, body.data, body.len);

    return ngx_http_skillbox_send_list(r, &buf);
}


static ngx_int_t
ngx_http_skillbox_package_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_package_t *p)
{
    char                       path[NGX_MAX_PATH];
    off_t                      size;
    sb_err_t                   err;
    sb_str_t                   type;
    ngx_fd_t                   fd;
    ngx_str_t                  name;
    sb_store_t                *store;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_INTAKE);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);

    /* SB_ENOTFOUND: the version was deleted meanwhile */

    if (store == NULL
        || sb_store_package_path(store, (char *) p->digest.data, path,
                                 sizeof(path), &err) != SB_OK
        || sb_store_package_type(store, (char *) p->digest.data, &type, &err)
           != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "finding a package");
    }

    ngx_http_skillbox_call_param(call, SB_P_CONTENT_TYPE, type.data, type.len);

    name = ngx_http_skillbox_copy(r->pool, path, strlen(path));

    if (name.data == NULL
        || ngx_http_skillbox_package_open(r, &name, &fd, &size) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p->sent = 1;

    if (ngx_http_skillbox_call_file(call, fd, &name, size) != NGX_OK
        || ngx_http_skillbox_call_start(call, ngx_http_skillbox_package_kept)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/* r's pool closes it */

static ngx_int_t
ngx_http_skillbox_package_open(ngx_http_request_t *r, ngx_str_t *name,
    ngx_fd_t *fd, off_t *size)
{
    ngx_file_info_t           fi;
    ngx_pool_cleanup_t       *cln;
    ngx_pool_cleanup_file_t  *clnf;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_pool_cleanup_file_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    *fd = ngx_open_file(name->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                        NGX_FILE_OPEN, 0);

    if (*fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    cln->handler = ngx_pool_cleanup_file;
    clnf = cln->data;
    clnf->fd = *fd;
    clnf->name = name->data;
    clnf->log = r->pool->log;

    if (ngx_fd_info(*fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      ngx_fd_info_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    *size = ngx_file_size(&fi);

    return NGX_OK;
}


static void
ngx_http_skillbox_package_kept(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                     rc;
    ngx_http_skillbox_ctx_t      *ctx;
    ngx_http_skillbox_package_t  *p;

    static const char  refused[] = "The helper does not accept the stored "
                                   "package.";

    ctx = ngx_http_skillbox_get_ctx(r);
    p = ctx->data;

    if (call->rc == NGX_OK && call->status == NGX_HTTP_OK) {
        rc = ngx_http_skillbox_package_ask(r, ctx, p);

    } else if (call->rc == NGX_OK
               && call->status >= NGX_HTTP_BAD_REQUEST
               && call->status < NGX_HTTP_INTERNAL_SERVER_ERROR)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper refused the stored package \"%V\", status %ui",
                      &p->digest, call->status);

        rc = ngx_http_skillbox_error_text(r, NGX_HTTP_CONFLICT,
                                          sb_code_slug(SB_ENOTAVAIL),
                                          refused, sizeof(refused) - 1, NULL);

    } else {
        rc = ngx_http_skillbox_call_error(r, call);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}
