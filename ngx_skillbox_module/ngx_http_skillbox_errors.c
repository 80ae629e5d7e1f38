
/*
 * Errors and plain answers.  A handler tells what went wrong once, by
 * ngx_http_skillbox_error*(), and returns the status it got; nginx then goes
 * through its own error path (keepalive, the unread body, error_page), and the
 * filters below put JSON where nginx's HTML page would stand.  So an error of
 * nginx itself and one of ours look alike.
 */


#include "ngx_http_skillbox.h"

#include <stdarg.h>
#include <sys/random.h>


#define NGX_HTTP_SKILLBOX_REQUEST_ID_BYTES  16   /* divides 4096 */


static ngx_chain_t *ngx_http_skillbox_take(ngx_http_request_t *r,
    sb_buf_t *buf, size_t from, size_t *len);
static ngx_int_t ngx_http_skillbox_send_chain(ngx_http_request_t *r,
    ngx_uint_t status, const char *type, const char *charset, ngx_chain_t *out,
    size_t len);
static ngx_int_t ngx_http_skillbox_make_request_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *vv);
static ngx_int_t ngx_http_skillbox_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_uint_t ngx_http_skillbox_nginx_page(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_render_error(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_error_headers(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static const char *ngx_http_skillbox_slug(ngx_uint_t status);
static const char *ngx_http_skillbox_message(ngx_uint_t status);
static ngx_uint_t ngx_http_skillbox_has_request_id(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_add_request_id(ngx_http_request_t *r);


static const char  ngx_http_skillbox_x_request_id[] = "X-Request-ID";


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


ngx_int_t
ngx_http_skillbox_filter_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_skillbox_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_skillbox_body_filter;

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_error(ngx_http_request_t *r, ngx_int_t status,
    const char *fmt, ...)
{
    int      n;
    char     message[512];
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    if (n < 0) {
        n = 0;

    } else if (n >= (int) sizeof(message)) {
        n = sizeof(message) - 1;
    }

    return ngx_http_skillbox_error_text(r, status,
                                        ngx_http_skillbox_slug(status),
                                        message, n, NULL);
}


ngx_int_t
ngx_http_skillbox_error_text(ngx_http_request_t *r, ngx_int_t status,
    const char *slug, const char *message, size_t len, ngx_str_t *details)
{
    ngx_http_skillbox_ctx_t    *ctx;
    ngx_http_skillbox_error_t  *e;

    ctx = ngx_http_skillbox_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    e = &ctx->error;

    e->message = ngx_http_skillbox_copy(r->pool, message, len);
    if (e->message.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    e->status = status;
    e->slug = slug;
    e->keepalive = r->keepalive;

    if (details) {
        e->details = *details;

    } else {
        ngx_str_null(&e->details);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "skillbox error %i %s: \"%V\"", status, slug, &e->message);

    return status;
}


ngx_int_t
ngx_http_skillbox_error_sb(ngx_http_request_t *r, const sb_err_t *err,
    const char *doing)
{
    ngx_int_t   status;
    ngx_uint_t  level;

    status = sb_code_status(err->code);

    if (status < NGX_HTTP_INTERNAL_SERVER_ERROR || err->code == SB_EQUOTA) {
        return ngx_http_skillbox_error_text(r, status, sb_code_slug(err->code),
                                            err->message,
                                            ngx_strlen(err->message), NULL);
    }

    /* the message may name paths of the host, it is for the operator */

    level = (err->code == SB_ENOSPACE || err->code == SB_EREADONLY)
            ? NGX_LOG_CRIT : NGX_LOG_ERR;

    ngx_log_error(level, r->connection->log, 0, "%s failed: %s",
                  doing, err->message);

    if (err->code == SB_ENOSPACE) {
        return ngx_http_skillbox_error(r, status, "The gateway's disk or store "
                                       "is full: nothing was stored. Try "
                                       "again later.");
    }

    if (err->code == SB_EREADONLY) {
        return ngx_http_skillbox_error(r, status, "The store is read-only now: "
                                       "nothing was changed. Try again "
                                       "later.");
    }

    return ngx_http_skillbox_error(r, status, "%s",
                                   ngx_http_skillbox_message(status));
}


/* the body's memory is given to r's pool, also on failure */

ngx_int_t
ngx_http_skillbox_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const char *charset, sb_buf_t *body)
{
    size_t        len;
    ngx_chain_t  *out;

    len = 0;
    out = ngx_http_skillbox_take(r, body, 0, &len);

    if (out == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_send_chain(r, status, type, charset, out, len);
}


/*
 * JSON in two pieces: head, then what of tail begins at `from`.  Neither is
 * copied; their memory is given to r's pool, also on failure.
 */

ngx_int_t
ngx_http_skillbox_send_joined(ngx_http_request_t *r, ngx_uint_t status,
    sb_buf_t *head, sb_buf_t *tail, size_t from)
{
    size_t        len;
    ngx_chain_t  *out, *next;

    len = 0;
    out = ngx_http_skillbox_take(r, head, 0, &len);
    next = ngx_http_skillbox_take(r, tail, from, &len);

    if (out == NULL || next == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out->next = next;

    return ngx_http_skillbox_send_chain(r, status, "application/json", "utf-8",
                                        out, len);
}


/* a link with what of buf begins at `from`; *len grows by its length */

static ngx_chain_t *
ngx_http_skillbox_take(ngx_http_request_t *r, sb_buf_t *buf, size_t from,
    size_t *len)
{
    char                *data;
    size_t               size;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    cl = ngx_alloc_chain_link(r->pool);
    b = ngx_calloc_buf(r->pool);

    if (cln == NULL || cl == NULL || b == NULL || !sb_buf_ok(buf)
        || buf->len < from)
    {
        sb_buf_free(buf);
        return NULL;
    }

    data = sb_buf_steal(buf, &size);
    cln->data = data;
    cln->handler = free;

    if (size > from) {
        b->pos = (u_char *) data + from;
        b->last = (u_char *) data + size;
        b->memory = 1;
    }

    *len += size - from;

    cl->buf = b;
    cl->next = NULL;

    return cl;
}


static ngx_int_t
ngx_http_skillbox_send_chain(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const char *charset, ngx_chain_t *out, size_t len)
{
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    r->headers_out.status = status;
    r->headers_out.content_length_n = len;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.data = (u_char *) charset;
    r->headers_out.charset.len = ngx_strlen(charset);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    for (cl = out; cl->next; cl = cl->next) { /* void */ }

    cl->buf->last_buf = (r == r->main) ? 1 : 0;
    cl->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
}


ngx_int_t
ngx_http_skillbox_send_json(ngx_http_request_t *r, ngx_uint_t status,
    sb_buf_t *body)
{
    return ngx_http_skillbox_send(r, status, "application/json", "utf-8",
                                  body);
}


ngx_int_t
ngx_http_skillbox_add_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value = *value;
    h->lowcase_key = NULL;
    ngx_http_skillbox_header_alone(h);

    return NGX_OK;
}


/* the first request header of that name, or the next behind previous */

ngx_table_elt_t *
ngx_http_skillbox_find_header(ngx_http_request_t *r, const char *lowcase_name,
    ngx_table_elt_t *previous)
{
    size_t            len;
    ngx_uint_t        i, seen;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(lowcase_name);
    seen = (previous == NULL);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!seen) {
                seen = (&h[i] == previous);
                continue;
            }

            if (h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) lowcase_name, len)
                   == 0)
            {
                return &h[i];
            }
        }
    }

    return NULL;
}


ngx_str_t
ngx_http_skillbox_copy(ngx_pool_t *pool, const char *data, size_t len)
{
    ngx_str_t  s;

    s.len = len;
    s.data = ngx_pnalloc(pool, len + 1);

    if (s.data) {
        *ngx_cpymem(s.data, data, len) = '\0';
    }

    return s;
}


/*
 * The client's X-Request-ID when it is harmless in a log and in a header, else
 * what $request_id is from then on.
 */

void
ngx_http_skillbox_request_id(ngx_http_request_t *r, ngx_str_t *id)
{
    u_char                          ch;
    ngx_uint_t                      i;
    ngx_table_elt_t                *h;
    ngx_http_variable_value_t      *vv;
    ngx_http_skillbox_ctx_t        *ctx;
    ngx_http_skillbox_main_conf_t  *smcf;

    r = r->main;
    ctx = ngx_http_skillbox_find_ctx(r);

    if (ctx && ctx->request_id.len) {
        *id = ctx->request_id;
        return;
    }

    h = ngx_http_skillbox_find_header(r, "x-request-id", NULL);

    if (h && h->value.len >= 1 && h->value.len <= 128) {

        for (i = 0; i < h->value.len; i++) {
            ch = h->value.data[i];

            if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z')
                  || (ch >= '0' && ch <= '9')
                  || ch == '.' || ch == '_' || ch == '-'))
            {
                break;
            }
        }

        if (i == h->value.len) {
            *id = h->value;
            goto found;
        }
    }

    smcf = ngx_http_get_module_main_conf(r, ngx_http_skillbox_module);
    vv = &r->variables[smcf->request_id];

    if (!vv->valid && ngx_http_skillbox_make_request_id(r, vv) != NGX_OK) {
        ngx_str_null(id);
        return;
    }

    id->data = vv->data;
    id->len = vv->len;

found:

    if (ctx) {
        ctx->request_id = *id;
    }
}


/*
 * nginx's own $request_id takes 1.6 us of OpenSSL 3's RAND_bytes(), a sixth of
 * what a read from the catalog takes.  So the variable is given its value here: as
 * many bits, the kernel's too, fetched for 256 requests at a time.
 */

static ngx_int_t
ngx_http_skillbox_make_request_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *vv)
{
    u_char   *p;
    ssize_t   n;

    static u_char  pool[4096];
    static size_t  used = sizeof(pool);

    if (used == sizeof(pool)) {
        n = getrandom(pool, sizeof(pool), 0);

        if (n != (ssize_t) sizeof(pool)) {
            ngx_log_error(NGX_LOG_ALERT, r->connection->log, ngx_errno,
                          "getrandom() failed");
            return NGX_ERROR;
        }

        used = 0;
    }

    p = ngx_pnalloc(r->pool, 2 * NGX_HTTP_SKILLBOX_REQUEST_ID_BYTES);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_hex_dump(p, &pool[used], NGX_HTTP_SKILLBOX_REQUEST_ID_BYTES);
    used += NGX_HTTP_SKILLBOX_REQUEST_ID_BYTES;

    vv->data = p;
    vv->len = 2 * NGX_HTTP_SKILLBOX_REQUEST_ID_BYTES;
    vv->valid = 1;
    vv->no_cacheable = 0;
    vv->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_header_filter(ngx_http_request_t *r)
{
    ngx_http_skillbox_ctx_t       *ctx;
    ngx_http_skillbox_loc_conf_t  *slcf;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_skillbox_find_ctx(r);
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (ctx) {
        ngx_http_skillbox_limits_end(ctx);      /* answered: the run is over */
    }

    /* a range that is not there ends the first attempt to send the headers */

    if (slcf->enable && !(r->err_status && ngx_http_skillbox_has_request_id(r))
        && (ngx_http_skillbox_add_request_id(r) != NGX_OK
            || ngx_http_skillbox_cors_answer(r) != NGX_OK))
    {
        return NGX_ERROR;
    }

    if (!(slcf->enable || slcf->json_errors)
        || !ngx_http_skillbox_nginx_page(r))
    {
        return ngx_http_next_header_filter(r);
    }

    if (!slcf->enable && ngx_http_skillbox_add_request_id(r) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx == NULL) {
        ctx = ngx_http_skillbox_get_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_skillbox_render_error(r, ctx) != NGX_OK
        || ngx_http_skillbox_error_headers(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


/*
 * Is nginx about to send a page of its own making?  It sets err_status and
 * clears Last-Modified; what an error_page names comes from a file or an
 * upstream and is left as it is.
 */

static ngx_uint_t
ngx_http_skillbox_nginx_page(ngx_http_request_t *r)
{
    return r->err_status >= NGX_HTTP_BAD_REQUEST
           && r->headers_out.last_modified_time == -1
           && r->upstream == NULL;
}


static ngx_int_t
ngx_http_skillbox_render_error(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t                    buf;
    ngx_uint_t                  status;
    ngx_http_skillbox_error_t  *e;

    e = &ctx->error;
    status = r->err_status;

    sb_buf_init(&buf, SB_RESULT_MAX);
    sb_buf_char(&buf, '{');

    if (e->status == (ngx_int_t) status) {
        sb_json_key_str(&buf, "error", e->slug);
        sb_json_key(&buf, "message");
        sb_json_str(&buf, (char *) e->message.data, e->message.len);

        if (e->details.len) {
            sb_json_key(&buf, "details");
            sb_buf_add(&buf, e->details.data, e->details.len);
        }

        /*
         * nginx closes after a 400 as it lost track of the connection; ours
         * are about a request that was read to its end
         */

        if (e->keepalive && (r->request_body == NULL || !r->reading_body)
            && !r->discard_body)
        {
            r->keepalive = 1;
        }

    } else {
        sb_json_key_str(&buf, "error", ngx_http_skillbox_slug(status));
        sb_json_key_str(&buf, "message", ngx_http_skillbox_message(status));
    }

    sb_buf_char(&buf, '}');

    ctx->error_body.data = NULL;

    if (sb_buf_ok(&buf)) {
        ctx->error_body = ngx_http_skillbox_copy(r->pool, buf.data, buf.len);
    }

    sb_buf_free(&buf);

    return ctx->error_body.data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_skillbox_error_headers(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    u_char            *p;
    ngx_str_t          value;
    ngx_uint_t         status;
    ngx_table_elt_t   *h;

    status = r->err_status;

    r->headers_out.content_length_n = ctx->error_body.len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_set(&r->headers_out.charset, "utf-8");

    if (status == NGX_HTTP_UNAUTHORIZED
        && r->headers_out.www_authenticate == NULL)
    {
        ngx_str_set(&value, "Bearer");

        if (ngx_http_skillbox_add_header(r, "WWW-Authenticate", &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        h = r->headers_out.headers.last->elts;
        h += r->headers_out.headers.last->nelts - 1;
        r->headers_out.www_authenticate = h;
    }

    if (status == NGX_HTTP_NOT_ALLOWED) {
        value.data = (u_char *) (ctx->route ? ctx->route->allow
                                            : "GET, HEAD, POST, DELETE");
        value.len = ngx_strlen(value.data);

        if (ngx_http_skillbox_add_header(r, "Allow", &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (status == NGX_HTTP_TOO_MANY_REQUESTS
        || status == NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value.data = p;
        value.len = ngx_sprintf(p, "%ui", ngx_max(ctx->error.retry_after, 1))
                    - p;

        if (ngx_http_skillbox_add_header(r, "Retry-After", &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* nginx's page, when there is one, is taken and ours sent in its place */

static ngx_int_t
ngx_http_skillbox_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t                *b;
    ngx_chain_t               out, *cl;
    ngx_http_skillbox_ctx_t  *ctx;

    if (r != r->main || in == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx = ngx_http_skillbox_find_ctx(r);

    if (ctx == NULL || ctx->error_body.data == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    if (ctx->error_sent) {
        return ngx_http_next_body_filter(r, NULL);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->error_body.data;
    b->last = b->pos + ctx->error_body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    ctx->error_sent = 1;

    return ngx_http_next_body_filter(r, &out);
}


static const char *
ngx_http_skillbox_slug(ngx_uint_t status)
{
    const char  *slug;

    slug = sb_status_slug(status);

    if (ngx_strcmp(slug, "error") != 0) {
        return slug;
    }

    return status < NGX_HTTP_INTERNAL_SERVER_ERROR ? "bad_request"
                                                   : "internal_error";
}


static const char *
ngx_http_skillbox_message(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_BAD_REQUEST:
        return "The request is not well-formed.";

    case NGX_HTTP_UNAUTHORIZED:
        return "An API key is needed.";

    case NGX_HTTP_FORBIDDEN:
        return "Access is not allowed.";

    case NGX_HTTP_NOT_FOUND:
        return "There is nothing at this address.";

    case NGX_HTTP_NOT_ALLOWED:
        return "The method is not allowed here.";

    case NGX_HTTP_REQUEST_TIME_OUT:
        return "The request took too long to arrive.";

    case NGX_HTTP_LENGTH_REQUIRED:
        return "The request needs a Content-Length.";

    case NGX_HTTP_PRECONDITION_FAILED:
        return "A precondition of the request does not hold.";

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return "The request body is too large.";

    case NGX_HTTP_REQUEST_URI_TOO_LARGE:
        return "The address is too long.";

    case NGX_HTTP_UNSUPPORTED_MEDIA_TYPE:
        return "The media type is not supported.";

    case NGX_HTTP_RANGE_NOT_SATISFIABLE:
        return "The range asked for is not there.";

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return "Too many requests, try again later.";

    case NGX_HTTP_BAD_GATEWAY:
        return "The helper could not be reached or gave no valid answer.";

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return "The service is overloaded, try again later.";

    case NGX_HTTP_GATEWAY_TIME_OUT:
        return "The helper did not answer in time.";

    default:
        return status < NGX_HTTP_INTERNAL_SERVER_ERROR
               ? "The request can't be served."
               : "An internal error occurred.";
    }
}


static ngx_uint_t
ngx_http_skillbox_has_request_id(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].hash
                && h[i].key.data == (u_char *) ngx_http_skillbox_x_request_id)
            {
                return 1;
            }
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_skillbox_add_request_id(ngx_http_request_t *r)
{
    ngx_str_t  id;

    ngx_http_skillbox_request_id(r, &id);

    if (id.len == 0) {
        return NGX_OK;
    }

    return ngx_http_skillbox_add_header(r, ngx_http_skillbox_x_request_id,
                                        &id);
}
