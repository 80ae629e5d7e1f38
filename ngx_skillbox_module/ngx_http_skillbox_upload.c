
/*
 * POST /v1/skills and POST /v1/skills/validate.  The body is spooled to a file
 * by nginx whatever way it comes, passed as it is to the helper's intake, which
 * takes it apart in a confined process; _intake.c makes a skill version of what
 * the intake says, and the file becomes the store's.  validate ends with what
 * the intake says.
 *
 *     upload -> body -> (helper: intake) -> _intake.c
 *
 * The file belongs to this request until the store's operation has it: nginx is
 * told to leave it, and abandon() or the operation's free() removes it.
 */


#include "ngx_http_skillbox.h"


/* room for the boundaries and headers of multipart/form-data */
#define NGX_HTTP_SKILLBOX_MULTIPART_EXTRA  (64 * SB_KIB)


static ngx_int_t ngx_http_skillbox_upload_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_upload_t *upload);
static ngx_uint_t ngx_http_skillbox_media_type(ngx_http_request_t *r,
    ngx_uint_t *multipart);
static ngx_int_t ngx_http_skillbox_on_conflict(ngx_http_request_t *r,
    sb_on_conflict_t *mode);
static void ngx_http_skillbox_upload_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_upload_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_scan_policy(ngx_http_request_t *r,
    ngx_str_t *word);
static void ngx_http_skillbox_upload_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_upload_refused(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_upload_abandon(ngx_http_skillbox_ctx_t *ctx);


ngx_int_t
ngx_http_skillbox_upload(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_upload_t  *upload;

    upload = ngx_http_skillbox_upload_create(r, ctx);
    if (upload == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_skillbox_on_conflict(r, &upload->on_conflict) != NGX_OK) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"on_conflict\" must be \"error\" or "
                                       "\"bump\".");
    }

    return ngx_http_skillbox_upload_read(r, ctx, upload);
}


ngx_int_t
ngx_http_skillbox_validate(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_upload_t  *upload;

    upload = ngx_http_skillbox_upload_create(r, ctx);
    if (upload == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    upload->check = 1;

    return ngx_http_skillbox_upload_read(r, ctx, upload);
}


ngx_http_skillbox_upload_t *
ngx_http_skillbox_upload_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_upload_t  *upload;

    upload = ngx_pcalloc(r->pool, sizeof(ngx_http_skillbox_upload_t));

    if (upload) {
        upload->fd = NGX_INVALID_FILE;
        ctx->data = upload;
    }

    return upload;
}


static ngx_int_t
ngx_http_skillbox_upload_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_upload_t *upload)
{
    off_t       limit;
    ngx_int_t   rc;
    ngx_uint_t  multipart;

    if (!ngx_http_skillbox_media_type(r, &multipart)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                       "A package is sent as application/zip, "
                                       "application/octet-stream or "
                                       "multipart/form-data.");
    }

    limit = ngx_http_skillbox_limits_package(r, ctx, &rc);

    if (limit == -1) {
        return rc;
    }

    upload->max = limit;

    if (multipart) {
        limit += NGX_HTTP_SKILLBOX_MULTIPART_EXTRA;
    }

    upload->limit = limit;

    if (r->headers_in.content_length_n > limit) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "A package may have %lld bytes.",
                                       (long long) upload->max);
    }

    r->request_body_in_file_only = 1;
    r->request_body_in_persistent_file = 1;
    r->request_body_file_log_level = 0;

    ctx->abandon = ngx_http_skillbox_upload_abandon;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_upload_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static ngx_uint_t
ngx_http_skillbox_media_type(ngx_http_request_t *r, ngx_uint_t *multipart)
{
    size_t       n;
    ngx_str_t   *type;
    ngx_uint_t   i;

    static const ngx_str_t  known[] = {
        ngx_string("multipart/form-data"),
        ngx_string("application/zip"),
        ngx_string("application/x-zip-compressed"),
        ngx_string("application/octet-stream"),
    };

    *multipart = 0;

    if (r->headers_in.content_type == NULL) {
        return 0;
    }

    type = &r->headers_in.content_type->value;

    for (n = 0; n < type->len; n++) {
        if (type->data[n] == ';' || type->data[n] == ' ') {
            break;
        }
    }

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {

        if (known[i].len == n
            && ngx_strncasecmp(known[i].data, type->data, n) == 0)
        {
            *multipart = (i == 0);
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_skillbox_on_conflict(ngx_http_request_t *r, sb_on_conflict_t *mode)
{
    ngx_str_t  value;

    *mode = SB_ON_CONFLICT_BUMP;

    if (ngx_http_arg(r, (u_char *) "on_conflict", sizeof("on_conflict") - 1,
                     &value)
        != NGX_OK)
    {
        return NGX_OK;
    }

    if (value.len == 5 && ngx_strncmp(value.data, "error", 5) == 0) {
        *mode = SB_ON_CONFLICT_ERROR;
        return NGX_OK;
    }

    if (value.len == 4 && ngx_strncmp(value.data, "bump", 4) == 0) {
        return NGX_OK;
    }

    return NGX_ERROR;
}


static void
ngx_http_skillbox_upload_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_upload_take(r, ctx);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* the body's file becomes the upload's */

static ngx_int_t
ngx_http_skillbox_upload_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_chain_t                 *cl;
    ngx_temp_file_t             *tf;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;
    tf = r->request_body ? r->request_body->temp_file : NULL;

    if (tf) {
        upload->path = tf->file.name;
        upload->fd = tf->file.fd;
        upload->type = r->headers_in.content_type->value;

        for (cl = r->request_body->bufs; cl; cl = cl->next) {
            upload->size += ngx_buf_size(cl->buf);
        }
    }

    if (upload->size == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "The body is empty.");
    }

    if (upload->size > upload->limit) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "A package may have %lld bytes.",
                                       (long long) upload->max);
    }

    return ngx_http_skillbox_upload_send(r, ctx, upload);
}


ngx_uint_t
ngx_http_skillbox_scan_word(ngx_str_t *word)
{
    ngx_uint_t  i;

    static const ngx_str_t  words[] = {
        ngx_string("off"),
        ngx_string("warn"),
        ngx_string("block"),
    };

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i].len == word->len
            && ngx_strncmp(words[i].data, word->data, word->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* a word of a variable that is none must not open what was to be closed */

static ngx_int_t
ngx_http_skillbox_scan_policy(ngx_http_request_t *r, ngx_str_t *word)
{
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    ngx_str_null(word);

    if (slcf->scan && ngx_http_complex_value(r, slcf->scan, word) != NGX_OK) {
        return NGX_ERROR;
    }

    if (word->len == 0) {
        ngx_str_set(word, "warn");

    } else if (!ngx_http_skillbox_scan_word(word)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "\"skillbox_scan\" is \"%V\": packages with findings "
                      "are refused", word);
        ngx_str_set(word, "block");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_upload_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_upload_t *upload)
{
    ngx_str_t                  scan;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_INTAKE);

    if (call == NULL || ngx_http_skillbox_scan_policy(r, &scan) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_call_param(call, SB_P_CONTENT_TYPE,
                                 (char *) upload->type.data,
                                 upload->type.len);

    ngx_http_skillbox_call_param(call, SB_P_SCAN, (char *) scan.data,
                                 scan.len);

    if (upload->check) {
        ngx_http_skillbox_call_param(call, SB_P_CHECK, "1", 1);
    }

    if (ngx_http_skillbox_call_file(call, upload->fd, &upload->path,
                                    upload->size)
        != NGX_OK
        || ngx_http_skillbox_call_start(call, ngx_http_skillbox_upload_done)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_upload_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    if (call->rc != NGX_OK || call->status != NGX_HTTP_OK) {
        rc = ngx_http_skillbox_upload_refused(r, ctx, call);

    } else {
        rc = ngx_http_skillbox_intake_read(r, ctx, call);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* a package that is only examined is no bad request, whatever is wrong in it */

static ngx_int_t
ngx_http_skillbox_upload_refused(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_call_t *call)
{
    ngx_int_t                    rc;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;

    rc = ngx_http_skillbox_call_error(r, call);

    if (upload->check && rc == NGX_HTTP_BAD_REQUEST
        && ctx->error.status == rc
        && ngx_strcmp(ctx->error.slug, sb_code_slug(SB_ESKILL)) == 0)
    {
        rc = NGX_HTTP_SKILLBOX_UNPROCESSABLE;
        ctx->error.status = rc;
    }

    return rc;
}


/* the request goes and the file has not been handed over */

static void
ngx_http_skillbox_upload_abandon(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_temp_file_t     *tf;
    ngx_http_request_t  *r;

    r = ctx->request;
    tf = r->request_body ? r->request_body->temp_file : NULL;

    if (tf && tf->file.fd != NGX_INVALID_FILE) {
        ngx_http_skillbox_delete_file(&tf->file.name);
    }
}


void
ngx_http_skillbox_delete_file(ngx_str_t *name)
{
    if (ngx_delete_file(name->data) == NGX_FILE_ERROR
        && ngx_errno != NGX_ENOENT)
    {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      ngx_delete_file_n " \"%V\" failed", name);
    }
}
