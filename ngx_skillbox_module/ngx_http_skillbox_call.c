
/*
 * What is said to the helper and what it says: a call's parameters and body as
 * FastCGI records, its answer's parts, and its refusals as the API's errors.
 * libskillbox/protocol.h has the words; _upstream.c carries them.
 */


#include "ngx_http_skillbox.h"


/* content of a STDIN record; a multiple of 8, so that none needs padding */
#define NGX_HTTP_SKILLBOX_RECORD  65528


static void ngx_http_skillbox_call_cleanup(void *data);
static ngx_int_t ngx_http_skillbox_call_stdin(ngx_http_skillbox_call_t *call,
    ngx_file_t *file, const char *data, off_t size);
static ngx_int_t ngx_http_skillbox_call_stdin_end(
    ngx_http_skillbox_call_t *call);
static ngx_buf_t *ngx_http_skillbox_memory_buf(ngx_pool_t *pool,
    u_char *data, size_t len);
static ngx_buf_t *ngx_http_skillbox_file_buf(ngx_pool_t *pool,
    ngx_file_t *file, off_t offset, size_t len);
static ngx_int_t ngx_http_skillbox_append(ngx_pool_t *pool,
    ngx_chain_t ***last, ngx_buf_t *b);
static ngx_int_t ngx_http_skillbox_call_refusal(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call, json_t *root);


ngx_http_skillbox_call_t *
ngx_http_skillbox_call_create(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *op)
{
    ngx_str_t                      id;
    ngx_pool_cleanup_t            *cln;
    ngx_http_skillbox_call_t      *call;
    ngx_http_skillbox_loc_conf_t  *slcf;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_skillbox_call_t));
    if (cln == NULL) {
        return NULL;
    }

    call = cln->data;
    ngx_memzero(call, sizeof(ngx_http_skillbox_call_t));

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    call->request = r;
    call->conf = &slcf->upstream;
    call->limit = slcf->queue_timeout;

    sb_buf_init(&call->params, SB_PARAMS_MAX);
    sb_buf_init(&call->out, SB_RESULT_MAX + SB_CGI_HEADER_MAX);
    sb_buf_init(&call->log, NGX_HTTP_SKILLBOX_LOG_MAX);

    cln->handler = ngx_http_skillbox_call_cleanup;

    ngx_http_skillbox_request_id(r, &id);

    ngx_http_skillbox_call_param(call, SB_P_OP, op, ngx_strlen(op));
    ngx_http_skillbox_call_param(call, SB_P_REQUEST_ID, (char *) id.data,
                                 id.len);

    if (ctx->auth == NGX_HTTP_SKILLBOX_AUTH_OK) {
        ngx_http_skillbox_call_param(call, SB_P_TENANT, ctx->key.tenant,
                                     ngx_strlen(ctx->key.tenant));
    }

    return call;
}


static void
ngx_http_skillbox_call_cleanup(void *data)
{
    ngx_http_skillbox_call_t *call = data;

    sb_buf_free(&call->params);
    sb_buf_free(&call->out);
    sb_buf_free(&call->log);
}


void
ngx_http_skillbox_call_param(ngx_http_skillbox_call_t *call, const char *name,
    const char *value, size_t len)
{
    sb_fcgi_pair(&call->params, name, value, len);
}


void
ngx_http_skillbox_call_number(ngx_http_skillbox_call_t *call,
    const char *name, int64_t value)
{
    u_char  *last, buf[NGX_INT64_LEN];

    last = ngx_sprintf(buf, "%L", value);

    sb_fcgi_pair(&call->params, name, (char *) buf, last - buf);
}


ngx_int_t
ngx_http_skillbox_call_memory(ngx_http_skillbox_call_t *call,
    const char *data, size_t len)
{
    return ngx_http_skillbox_call_stdin(call, NULL, data, len);
}


ngx_int_t
ngx_http_skillbox_call_file(ngx_http_skillbox_call_t *call, ngx_fd_t fd,
    ngx_str_t *name, off_t size)
{
    ngx_file_t  *file;

    file = ngx_pcalloc(call->request->pool, sizeof(ngx_file_t));
    if (file == NULL) {
        return NGX_ERROR;
    }

    file->fd = fd;
    file->name = *name;
    file->log = call->request->connection->log;

    return ngx_http_skillbox_call_stdin(call, file, NULL, size);
}


/*
 * STDIN as a chain: a header of 8 bytes before each piece, the pieces being
 * slices of memory or of a file, which goes out by sendfile().  What is added
 * stands behind what was; call_records() adds the header that ends it.
 */

static ngx_int_t
ngx_http_skillbox_call_stdin(ngx_http_skillbox_call_t *call,
    ngx_file_t *file, const char *data, off_t size)
{
    off_t          offset;
    size_t         n;
    u_char        *header;
    ngx_buf_t     *b;
    ngx_uint_t     records;
    ngx_pool_t    *pool;
    ngx_chain_t  **last;

    pool = call->request->pool;

    records = (size + NGX_HTTP_SKILLBOX_RECORD - 1) / NGX_HTTP_SKILLBOX_RECORD;

    if (records == 0) {
        return NGX_OK;
    }

    header = ngx_pnalloc(pool, records * SB_FCGI_HEADER_LEN);
    if (header == NULL) {
        return NGX_ERROR;
    }

    last = call->body ? call->body_last : &call->body;

    for (offset = 0; offset < size; offset += n) {

        n = ngx_min(size - offset, NGX_HTTP_SKILLBOX_RECORD);

        sb_fcgi_header(header, SB_FCGI_STDIN, NGX_HTTP_SKILLBOX_REQUEST_ID, n);

        b = ngx_http_skillbox_memory_buf(pool, header, SB_FCGI_HEADER_LEN);

        if (ngx_http_skillbox_append(pool, &last, b) != NGX_OK) {
            return NGX_ERROR;
        }

        b = file ? ngx_http_skillbox_file_buf(pool, file, offset, n)
                 : ngx_http_skillbox_memory_buf(pool, (u_char *) data + offset,
                                                n);

        if (ngx_http_skillbox_append(pool, &last, b) != NGX_OK) {
            return NGX_ERROR;
        }

        header += SB_FCGI_HEADER_LEN;
    }

    call->body_last = last;

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_call_stdin_end(ngx_http_skillbox_call_t *call)
{
    u_char        *header;
    ngx_chain_t  **last;

    header = ngx_pnalloc(call->request->pool, SB_FCGI_HEADER_LEN);
    if (header == NULL) {
        return NGX_ERROR;
    }

    sb_fcgi_header(header, SB_FCGI_STDIN, NGX_HTTP_SKILLBOX_REQUEST_ID, 0);

    last = call->body ? call->body_last : &call->body;

    return ngx_http_skillbox_append(call->request->pool, &last,
                         ngx_http_skillbox_memory_buf(call->request->pool,
                                                      header,
                                                      SB_FCGI_HEADER_LEN));
}


static ngx_buf_t *
ngx_http_skillbox_memory_buf(ngx_pool_t *pool, u_char *data, size_t len)
{
    ngx_buf_t  *b;

    b = ngx_calloc_buf(pool);

    if (b) {
        b->start = data;
        b->pos = data;
        b->last = data + len;
        b->memory = 1;
    }

    return b;
}


static ngx_buf_t *
ngx_http_skillbox_file_buf(ngx_pool_t *pool, ngx_file_t *file, off_t offset,
    size_t len)
{
    ngx_buf_t  *b;

    b = ngx_calloc_buf(pool);

    if (b) {
        b->file = file;
        b->file_pos = offset;
        b->file_last = offset + len;
        b->in_file = 1;
    }

    return b;
}


/* b may be NULL: out of memory */

static ngx_int_t
ngx_http_skillbox_append(ngx_pool_t *pool, ngx_chain_t ***last, ngx_buf_t *b)
{
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(pool);

    if (cl == NULL || b == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    cl->next = NULL;

    **last = cl;
    *last = &cl->next;

    return NGX_OK;
}


/* BEGIN_REQUEST and PARAMS, and the end of STDIN; once */

ngx_int_t
ngx_http_skillbox_call_records(ngx_http_skillbox_call_t *call)
{
    ngx_buf_t      *b;
    sb_buf_t        buf;
    ngx_int_t       rc;
    ngx_chain_t   **last;
    unsigned char   begin[16];

    if (!sb_buf_ok(&call->params)) {
        return NGX_ERROR;
    }

    if (ngx_http_skillbox_call_stdin_end(call) != NGX_OK) {
        return NGX_ERROR;
    }

    sb_buf_init(&buf, SB_PARAMS_MAX + 1024);

    sb_fcgi_begin(begin, NGX_HTTP_SKILLBOX_REQUEST_ID, SB_FCGI_RESPONDER, 0);
    sb_buf_add(&buf, begin, sizeof(begin));
    sb_fcgi_stream(&buf, SB_FCGI_PARAMS, NGX_HTTP_SKILLBOX_REQUEST_ID,
                   call->params.data, call->params.len);
    sb_fcgi_eof(&buf, SB_FCGI_PARAMS, NGX_HTTP_SKILLBOX_REQUEST_ID);

    rc = NGX_ERROR;

    if (sb_buf_ok(&buf)) {
        b = ngx_create_temp_buf(call->request->pool, buf.len);

        if (b) {
            b->last = ngx_cpymem(b->last, buf.data, buf.len);
            call->records = NULL;
            last = &call->records;
            rc = ngx_http_skillbox_append(call->request->pool, &last, b);
        }
    }

    sb_buf_free(&buf);

    return rc;
}


const char *
ngx_http_skillbox_call_header(ngx_http_skillbox_call_t *call,
    const char *name, size_t *len)
{
    return sb_cgi_header(call->out.data, call->header_len, name, len);
}


sb_str_t
ngx_http_skillbox_call_body(ngx_http_skillbox_call_t *call)
{
    sb_str_t  body;

    body.data = call->out.data + call->header_len;
    body.len = call->out.len - call->header_len;

    return body;
}


ngx_uint_t
ngx_http_skillbox_call_refused(ngx_http_skillbox_call_t *call,
    const char *slug)
{
    json_t      *root;
    sb_str_t     body;
    ngx_uint_t   rc;
    const char  *s;

    if (call->rc != NGX_OK || call->status != NGX_HTTP_NOT_FOUND) {
        return 0;
    }

    body = ngx_http_skillbox_call_body(call);
    root = json_loadb(body.data, body.len, 0, NULL);
    s = json_string_value(json_object_get(root, "error"));
    rc = (s != NULL && ngx_strcmp(s, slug) == 0);
    json_decref(root);

    return rc;
}


/*
 * What the client is told: nginx's 502 and 504 in our words; a refusal of the
 * helper in the helper's, which follow the API's conventions.
 */

ngx_int_t
ngx_http_skillbox_call_error(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    json_t     *root;
    sb_str_t    body;
    ngx_int_t   rc;

    if (call->rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        return ngx_http_skillbox_error(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                       "The helper did not answer in time.");
    }

    if (call->rc != NGX_OK || call->status == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                       "The helper could not be reached or "
                                       "gave no valid answer.");
    }

    body = ngx_http_skillbox_call_body(call);
    root = json_loadb(body.data, body.len, 0, NULL);

    rc = ngx_http_skillbox_call_refusal(r, call, root);

    json_decref(root);

    return rc;
}


static ngx_int_t
ngx_http_skillbox_call_refusal(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call, json_t *root)
{
    char                     *text;
    size_t                    n;
    json_t                   *details;
    ngx_str_t                 slug, json;
    ngx_int_t                 rc, seconds;
    const char               *error, *message, *value;
    ngx_http_skillbox_ctx_t  *ctx;

    error = json_string_value(json_object_get(root, "error"));
    message = json_string_value(json_object_get(root, "message"));

    if (call->status < NGX_HTTP_BAD_REQUEST || error == NULL || message == NULL
        || ngx_strcmp(error, SB_SLUG_UNKNOWN_PACKAGE) == 0)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper gave an unexpected answer, status %ui, \"%s\"",
                      call->status, error ? error : "");

        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                       "The helper gave no valid answer.");
    }

    slug = ngx_http_skillbox_copy(r->pool, error, ngx_strlen(error));
    if (slug.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_null(&json);
    details = json_object_get(root, "details");

    if (details) {
        text = json_dumps(details, JSON_COMPACT|JSON_ENCODE_ANY);

        if (text) {
            json = ngx_http_skillbox_copy(r->pool, text, ngx_strlen(text));
            free(text);
        }
    }

    rc = ngx_http_skillbox_error_text(r, call->status, (char *) slug.data,
                                      message, ngx_strlen(message), &json);

    ctx = ngx_http_skillbox_get_ctx(r);
    value = ngx_http_skillbox_call_header(call, "Retry-After", &n);

    if (ctx && value) {
        seconds = ngx_atoi((u_char *) value, n);

        if (seconds > 0 && seconds <= 3600) {
            ctx->error.retry_after = seconds;
        }
    }

    return rc;
}
