
/*
 * One call to the helper: a subrequest with an upstream of its own that speaks
 * FastCGI (libskillbox/protocol.h has the words).
 *
 * To nginx's upstream code the whole answer is "the header": process_header()
 * takes records until END_REQUEST and only then says NGX_OK.  So whatever goes
 * wrong before the answer is complete - refused connection, timeout, garbage,
 * a helper that dies - is handled by nginx in one place, with the balancing and
 * fail-over it is configured for, and never after a part was passed on.  The
 * subrequest is header-only: no output filter is ever called for it.
 *
 * The parent waits; it is resumed by done() after the subrequest is finalized.
 * A client that hangs up ends the subrequest with 499, which closes the
 * connection to the helper, which cancels the run.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_REQUEST_ID  1

/* content of a STDIN record; a multiple of 8, so that none needs padding */
#define NGX_HTTP_SKILLBOX_RECORD      65528

/* the helper cuts at SB_LOG_MAX; its line about the cut comes on top */
#define NGX_HTTP_SKILLBOX_LOG_MAX     (SB_LOG_MAX + 4096)


static void ngx_http_skillbox_call_cleanup(void *data);
static ngx_int_t ngx_http_skillbox_call_records(
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_call_stdin(ngx_http_skillbox_call_t *call,
    ngx_file_t *file, const char *data, off_t size);
static ngx_int_t ngx_http_skillbox_append(ngx_http_skillbox_call_t *call,
    ngx_chain_t ***last, ngx_buf_t *b);
static void ngx_http_skillbox_call_init(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_call_finished(ngx_http_request_t *sr,
    void *data, ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_copy_states(ngx_http_request_t *r,
    ngx_http_request_t *sr);
static void ngx_http_skillbox_call_resume(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_call_refusal(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call, json_t *root);

static ngx_int_t ngx_http_skillbox_create_request(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_reinit_request(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_process_header(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_process_event(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, sb_fcgi_event_t event);
static ngx_int_t ngx_http_skillbox_process_end(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_abort_request(ngx_http_request_t *sr);
static void ngx_http_skillbox_finalize_request(ngx_http_request_t *sr,
    ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_output(void *data, ngx_chain_t *in);


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
 * slices of memory or of the file, which goes out by sendfile().
 */

static ngx_int_t
ngx_http_skillbox_call_stdin(ngx_http_skillbox_call_t *call,
    ngx_file_t *file, const char *data, off_t size)
{
    off_t         offset;
    size_t        n;
    u_char       *header;
    ngx_buf_t    *b;
    ngx_uint_t    records;
    ngx_pool_t   *pool;
    ngx_chain_t **last;

    pool = call->request->pool;

    records = (size + NGX_HTTP_SKILLBOX_RECORD - 1) / NGX_HTTP_SKILLBOX_RECORD;

    header = ngx_pnalloc(pool, (records + 1) * SB_FCGI_HEADER_LEN);
    if (header == NULL) {
        return NGX_ERROR;
    }

    call->body = NULL;
    last = &call->body;
    offset = 0;

    for ( ;; ) {

        n = ngx_min(size - offset, NGX_HTTP_SKILLBOX_RECORD);

        sb_fcgi_header(header, SB_FCGI_STDIN, NGX_HTTP_SKILLBOX_REQUEST_ID, n);

        b = ngx_calloc_buf(pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->start = header;
        b->pos = header;
        b->last = header + SB_FCGI_HEADER_LEN;
        b->memory = 1;

        if (ngx_http_skillbox_append(call, &last, b) != NGX_OK) {
            return NGX_ERROR;
        }

        if (n == 0) {
            return NGX_OK;
        }

        header += SB_FCGI_HEADER_LEN;

        b = ngx_calloc_buf(pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        if (file) {
            b->in_file = 1;
            b->file = file;
            b->file_pos = offset;
            b->file_last = offset + n;

        } else {
            b->memory = 1;
            b->start = (u_char *) data + offset;
            b->pos = b->start;
            b->last = b->start + n;
        }

        if (ngx_http_skillbox_append(call, &last, b) != NGX_OK) {
            return NGX_ERROR;
        }

        offset += n;
    }
}


static ngx_int_t
ngx_http_skillbox_append(ngx_http_skillbox_call_t *call, ngx_chain_t ***last,
    ngx_buf_t *b)
{
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(call->request->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    cl->next = NULL;

    **last = cl;
    *last = &cl->next;

    return NGX_OK;
}


/* BEGIN_REQUEST and PARAMS */

static ngx_int_t
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
            rc = ngx_http_skillbox_append(call, &last, b);
        }
    }

    sb_buf_free(&buf);

    return rc;
}


ngx_int_t
ngx_http_skillbox_call_start(ngx_http_skillbox_call_t *call,
    ngx_http_skillbox_call_pt done)
{
    ngx_str_t                    uri;
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = call->request;
    call->done = done;

    if (call->body == NULL
        && ngx_http_skillbox_call_stdin(call, NULL, NULL, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_skillbox_call_records(call) != NGX_OK) {
        return NGX_ERROR;
    }

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_skillbox_call_finished;
    ps->data = call;

    uri = r->uri;

    if (ngx_http_subrequest(r, &uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /*
     * It does not go through the phases, which would route and authenticate it
     * again: it is in this location already and starts its upstream at once.
     * What it sends is the call's, not the client's body.
     */

    sr->loc_conf = r->loc_conf;
    sr->write_event_handler = ngx_http_skillbox_call_init;
    sr->request_body = NULL;
    sr->header_only = 1;
    sr->method = call->safe ? NGX_HTTP_GET : NGX_HTTP_POST;
    ngx_http_set_ctx(sr, call, ngx_http_skillbox_module);

    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_OK;
}


static void
ngx_http_skillbox_call_init(ngx_http_request_t *sr)
{
    ngx_http_upstream_t       *u;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    if (ngx_http_upstream_create(sr) != NGX_OK) {
        ngx_http_finalize_request(sr, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    u = sr->upstream;

    ngx_str_set(&u->schema, "fastcgi://");
    u->output.tag = (ngx_buf_tag_t) &ngx_http_skillbox_module;
    u->conf = call->conf;

    u->create_request = ngx_http_skillbox_create_request;
    u->reinit_request = ngx_http_skillbox_reinit_request;
    u->process_header = ngx_http_skillbox_process_header;
    u->abort_request = ngx_http_skillbox_abort_request;
    u->finalize_request = ngx_http_skillbox_finalize_request;

    u->output.output_filter = ngx_http_skillbox_output;
    u->output.filter_ctx = sr;

    sr->write_event_handler = ngx_http_request_empty_handler;

    ngx_http_upstream_init(sr);
}


/* The result of the call is call->rc and call->status; sr itself is done. */

static ngx_int_t
ngx_http_skillbox_call_finished(ngx_http_request_t *sr, void *data,
    ngx_int_t rc)
{
    ngx_http_skillbox_call_t *call = data;

    ngx_http_request_t  *r;

    r = sr->parent;

    if (ngx_http_skillbox_copy_states(r, sr) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the client has gone or the request is being terminated */

    if (rc == NGX_ERROR
        || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
        || rc == NGX_HTTP_REQUEST_TIME_OUT
        || sr->connection->error)
    {
        return rc;
    }

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        call->rc = rc;
    }

    r->write_event_handler = ngx_http_skillbox_call_resume;
    ngx_http_skillbox_get_ctx(r)->call = call;

    /* no error page of nginx for sr */

    return NGX_OK;
}


/* so that $upstream_addr and the like tell of the helper */

static ngx_int_t
ngx_http_skillbox_copy_states(ngx_http_request_t *r, ngx_http_request_t *sr)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *to, *from;

    if (sr->upstream_states == NULL) {
        return NGX_OK;
    }

    if (r->upstream_states == NULL) {
        r->upstream_states = sr->upstream_states;
        return NGX_OK;
    }

    from = sr->upstream_states->elts;

    for (i = 0; i < sr->upstream_states->nelts; i++) {

        to = ngx_array_push(r->upstream_states);
        if (to == NULL) {
            return NGX_ERROR;
        }

        *to = from[i];
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_call_resume(ngx_http_request_t *r)
{
    ngx_http_skillbox_ctx_t   *ctx;
    ngx_http_skillbox_call_t  *call;

    ctx = ngx_http_skillbox_get_ctx(r);
    call = ctx->call;
    ctx->call = NULL;

    r->write_event_handler = ngx_http_request_empty_handler;
    r->read_event_handler = ngx_http_block_reading;

    call->done(r, call);
}


static ngx_int_t
ngx_http_skillbox_create_request(ngx_http_request_t *sr)
{
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    sr->upstream->request_bufs = call->records;

    return NGX_OK;
}


/* Another helper is tried; nginx rewinds the records, the body is ours. */

static ngx_int_t
ngx_http_skillbox_reinit_request(ngx_http_request_t *sr)
{
    off_t                      pos;
    ngx_chain_t               *cl;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    pos = 0;

    for (cl = call->body; cl; cl = cl->next) {

        if (cl->buf->in_file) {
            cl->buf->file_pos = pos;
            pos = cl->buf->file_last;

        } else {
            cl->buf->pos = cl->buf->start;
        }
    }

    call->body_queued = 0;

    ngx_memzero(&call->reader, sizeof(sb_fcgi_reader_t));
    sb_buf_clear(&call->out);
    sb_buf_clear(&call->log);
    call->end_len = 0;
    call->status = 0;

    sr->method = call->safe ? NGX_HTTP_GET : NGX_HTTP_POST;

    return NGX_OK;
}


/*
 * The last station before the socket.  The body joins here and not in
 * request_bufs: ngx_output_chain() would read files into memory wherever the
 * client's connection can't use sendfile (TLS, HTTP/2, "sendfile off"), but it
 * is the helper's socket that they go to.
 *
 * A helper may refuse early and close while the body is still being sent.  Its
 * answer lies in the socket, so a failed write is not the end: the rest is
 * dropped and the reader finds the answer, or that there is none.
 */

static ngx_int_t
ngx_http_skillbox_output(void *data, ngx_chain_t *in)
{
    ngx_http_request_t *sr = data;

    ngx_int_t                  rc;
    ngx_chain_t               *cl, **ll;
    ngx_http_upstream_t       *u;
    ngx_http_skillbox_call_t  *call;

    u = sr->upstream;
    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    if (!call->body_queued) {
        call->body_queued = 1;

        for (ll = &in; *ll; ll = &(*ll)->next) { /* void */ }

        for (cl = call->body; cl; cl = cl->next) {

            *ll = ngx_alloc_chain_link(sr->pool);
            if (*ll == NULL) {
                return NGX_ERROR;
            }

            (*ll)->buf = cl->buf;
            (*ll)->next = NULL;
            ll = &(*ll)->next;
        }
    }

    rc = ngx_chain_writer(&u->writer, in);

    if (rc == NGX_ERROR && u->peer.connection->sent) {
        u->writer.out = NULL;
        u->writer.last = &u->writer.out;
        return NGX_OK;
    }

    return rc;
}


static ngx_int_t
ngx_http_skillbox_process_header(ngx_http_request_t *sr)
{
    ngx_int_t                  rc;
    ngx_buf_t                 *b;
    sb_fcgi_event_t            event;
    ngx_connection_t          *c;
    ngx_http_upstream_t       *u;
    const unsigned char       *p;
    ngx_http_skillbox_call_t  *call;

    u = sr->upstream;
    b = &u->buffer;
    c = u->peer.connection;
    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    p = b->pos;

    for ( ;; ) {
        event = sb_fcgi_read(&call->reader, &p, b->last);

        if (event == SB_FCGI_EV_NONE) {
            break;
        }

        rc = ngx_http_skillbox_process_event(sr, call, event);

        if (rc != NGX_AGAIN) {
            return rc;
        }
    }

    /* all was taken; skillbox_read_timeout is between two reads */

    b->pos = b->start;
    b->last = b->start;

    if (u->request_body_sent) {
        ngx_add_timer(c->read, u->conf->read_timeout);
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_skillbox_process_event(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, sb_fcgi_event_t event)
{
    size_t             n;
    sb_fcgi_reader_t  *reader;

    reader = &call->reader;

    switch (event) {

    case SB_FCGI_EV_HEADER:

        if (reader->request_id == NGX_HTTP_SKILLBOX_REQUEST_ID
            && (reader->type == SB_FCGI_STDOUT
                || reader->type == SB_FCGI_STDERR
                || (reader->type == SB_FCGI_END_REQUEST
                    && reader->content_len == sizeof(call->end))))
        {
            return NGX_AGAIN;
        }

        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "helper sent an unexpected record, type %d, id %d",
                      (int) reader->type, (int) reader->request_id);

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;

    case SB_FCGI_EV_DATA:

        if (reader->type == SB_FCGI_STDOUT) {
            sb_buf_add(&call->out, reader->data, reader->data_len);

            if (sb_buf_ok(&call->out)) {
                return NGX_AGAIN;
            }

            ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                          "helper sent too large an answer");

            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }

        if (reader->type == SB_FCGI_STDERR) {
            n = ngx_min(reader->data_len,
                        NGX_HTTP_SKILLBOX_LOG_MAX - call->log.len);
            sb_buf_add(&call->log, reader->data, n);

            return sb_buf_ok(&call->log) ? NGX_AGAIN : NGX_ERROR;
        }

        /* END_REQUEST, exactly as long as call->end */

        ngx_memcpy(call->end + call->end_len, reader->data, reader->data_len);
        call->end_len += reader->data_len;

        return NGX_AGAIN;

    case SB_FCGI_EV_END:

        if (reader->type == SB_FCGI_END_REQUEST) {
            return ngx_http_skillbox_process_end(sr, call);
        }

        return NGX_AGAIN;

    default: /* SB_FCGI_EV_ERROR */

        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "helper sent something that is not FastCGI");

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }
}


static ngx_int_t
ngx_http_skillbox_process_end(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call)
{
    long                  len;
    size_t                n;
    uint8_t               protocol;
    uint32_t              app;
    ngx_int_t             status;
    const char           *value;
    ngx_http_upstream_t  *u;

    u = sr->upstream;

    if (!sb_fcgi_end_parse(call->end, call->end_len, &app, &protocol)
        || protocol != SB_FCGI_REQUEST_COMPLETE)
    {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "helper did not complete the request");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    len = sb_cgi_header_len(call->out.data, call->out.len);

    if (len <= 0) {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "helper sent no valid header");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    call->header_len = len;
    status = NGX_HTTP_OK;

    value = ngx_http_skillbox_call_header(call, "Status", &n);

    if (value) {
        status = n >= 3 ? ngx_atoi((u_char *) value, 3) : NGX_ERROR;

        if (status < NGX_HTTP_OK || status > 599) {
            ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                          "helper sent an invalid status");
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }
    }

    call->status = status;

    u->headers_in.status_n = status;
    u->state->status = status;

    /*
     * A helper that says 503 has not begun: http_503 in skillbox_next_upstream
     * hands the job on without non_idempotent.
     */

    if (status == NGX_HTTP_SERVICE_UNAVAILABLE) {
        sr->method = NGX_HTTP_GET;
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_abort_request(ngx_http_request_t *sr)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, sr->connection->log, 0,
                   "abort skillbox call");
}


static void
ngx_http_skillbox_finalize_request(ngx_http_request_t *sr, ngx_int_t rc)
{
    ngx_http_skillbox_call_t  *call;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, sr->connection->log, 0,
                   "finalize skillbox call: %i", rc);

    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    call->rc = rc;
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
