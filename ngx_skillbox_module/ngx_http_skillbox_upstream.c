
/*
 * A call on its way to the helper and back: a subrequest with an upstream of
 * its own that speaks FastCGI.  What is said is _call.c's.
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


static void ngx_http_skillbox_call_init(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_call_finished(ngx_http_request_t *sr,
    void *data, ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_copy_states(ngx_http_request_t *r,
    ngx_http_request_t *sr);
static void ngx_http_skillbox_call_resume(ngx_http_request_t *r);

static ngx_int_t ngx_http_skillbox_create_request(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_reinit_request(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_process_header(ngx_http_request_t *sr);
static ngx_int_t ngx_http_skillbox_process_event(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, sb_fcgi_event_t event);
static ngx_int_t ngx_http_skillbox_process_data(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, const u_char *data, size_t len);
static ngx_int_t ngx_http_skillbox_process_end(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_abort_request(ngx_http_request_t *sr);
static void ngx_http_skillbox_finalize_request(ngx_http_request_t *sr,
    ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_output(void *data, ngx_chain_t *in);


ngx_int_t
ngx_http_skillbox_call_start(ngx_http_skillbox_call_t *call,
    ngx_http_skillbox_call_pt done)
{
    ngx_str_t                    uri;
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = call->request;
    call->done = done;

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
                            |(call->piece ? NGX_HTTP_SUBREQUEST_BACKGROUND
                                          : NGX_HTTP_SUBREQUEST_WAITED))
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

    if (call->piece == NULL) {
        r->write_event_handler = ngx_http_request_empty_handler;
    }

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

    if (call->piece) {
        call->done(r, call);
        return NGX_OK;
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
    call->deadline = ngx_current_msec + call->limit;

    sr->upstream->request_bufs = call->records;

    return NGX_OK;
}


/* Another helper is tried; nginx rewinds the records, the body is ours. */

static ngx_int_t
ngx_http_skillbox_reinit_request(ngx_http_request_t *sr)
{
    off_t                      pos;
    ngx_file_t                *file;
    ngx_chain_t               *cl;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    pos = 0;
    file = NULL;

    for (cl = call->body; cl; cl = cl->next) {

        if (cl->buf->in_file) {

            if (cl->buf->file != file) {
                file = cl->buf->file;
                pos = 0;
            }

            cl->buf->file_pos = pos;
            pos = cl->buf->file_last;

        } else {
            cl->buf->pos = cl->buf->start;
        }
    }

    call->body_queued = 0;
    call->deadline = ngx_current_msec + call->limit;

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
    ngx_chain_t               *out;
    ngx_http_upstream_t       *u;
    ngx_http_skillbox_call_t  *call;

    u = sr->upstream;
    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    out = in;

    if (!call->body_queued) {
        call->body_queued = 1;
        out = NULL;

        /* copies: the links of both chains are needed for another try */

        if (ngx_chain_add_copy(sr->pool, &out, in) != NGX_OK
            || ngx_chain_add_copy(sr->pool, &out, call->body) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    rc = ngx_chain_writer(&u->writer, out);

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
    ngx_uint_t                 whole;
    sb_fcgi_event_t            event;
    ngx_connection_t          *c;
    ngx_http_upstream_t       *u;
    const unsigned char       *p;
    ngx_msec_int_t             left;
    ngx_http_skillbox_call_t  *call;

    u = sr->upstream;
    b = &u->buffer;
    c = u->peer.connection;
    call = ngx_http_get_module_ctx(sr, ngx_http_skillbox_module);

    p = b->pos;
    whole = 0;

    for ( ;; ) {
        event = sb_fcgi_read(&call->reader, &p, b->last);

        if (event == SB_FCGI_EV_NONE) {
            break;
        }

        whole |= (event == SB_FCGI_EV_END);

        rc = ngx_http_skillbox_process_event(sr, call, event);

        if (rc != NGX_AGAIN) {
            return rc;
        }
    }

    b->pos = b->start;
    b->last = b->start;

    /*
     * All was taken.  skillbox_read_timeout is between two whole records, so
     * that a helper which sends a byte now and then does not keep its client
     * for ever; skillbox_queue_timeout and the run's own are the end of one
     * that sends records without one.
     */

    if (u->request_body_sent && (whole || !c->read->timer_set)) {
        left = call->deadline - ngx_current_msec;

        if (call->limit == 0 || left > (ngx_msec_int_t) u->conf->read_timeout)
        {
            left = u->conf->read_timeout;
        }

        ngx_add_timer(c->read, ngx_max(left, 1));
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_skillbox_process_event(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, sb_fcgi_event_t event)
{
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
        return ngx_http_skillbox_process_data(sr, call, reader->data,
                                              reader->data_len);

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


/* A result over its bound is refused, a log is cut: the helper does so too. */

static ngx_int_t
ngx_http_skillbox_process_data(ngx_http_request_t *sr,
    ngx_http_skillbox_call_t *call, const u_char *data, size_t len)
{
    switch (call->reader.type) {

    case SB_FCGI_STDOUT:
        sb_buf_add(&call->out, data, len);

        if (call->piece) {
            call->piece(call, SB_FCGI_STDOUT, data, len);
        }

        if (sb_buf_ok(&call->out)) {
            return NGX_AGAIN;
        }

        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "helper sent too large an answer");

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;

    case SB_FCGI_STDERR:

        if (call->piece) {
            call->piece(call, SB_FCGI_STDERR, data, len);
            return NGX_AGAIN;
        }

        sb_buf_add(&call->log, data,
                   ngx_min(len, NGX_HTTP_SKILLBOX_LOG_MAX - call->log.len));

        return sb_buf_ok(&call->log) ? NGX_AGAIN : NGX_ERROR;

    default: /* SB_FCGI_END_REQUEST, its length was compared */
        ngx_memcpy(call->end + call->end_len, data, len);
        call->end_len += len;

        return NGX_AGAIN;
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
