
/*
 * GET /v1/executions/{id}/logs and /events: what a run says, while it says it.
 *
 *     begin -> look -> (ended) the rest of the log from the record, the end
 *               ^  \-> (live)  helper: attach from the offset on -> pieces
 *               |                  |
 *               +--- a moment -----+  when that ended or broke off
 *
 * The end always comes from the record: what a client is told is committed, and
 * a helper that restarts, or this one losing it, only costs a moment.  The log
 * has one order of bytes, in the helper and in the record, so an offset is all
 * that has to be remembered; it is the events' id.
 *
 * Nothing is held back for a client that reads slowly: what can be waiting for
 * it is bounded by the log's own bound.
 */


#include "ngx_http_skillbox_async.h"


#define NGX_HTTP_SKILLBOX_FOLLOW_TICK   1000    /* ms */
#define NGX_HTTP_SKILLBOX_FOLLOW_AGAIN  100     /* ms, doubled up to */
#define NGX_HTTP_SKILLBOX_FOLLOW_LATER  8000
#define NGX_HTTP_SKILLBOX_FOLLOW_BUF    8192
#define NGX_HTTP_SKILLBOX_LINE_MAX      8192    /* is sent without its end */


typedef struct {
    ngx_http_request_t           *request;
    ngx_http_skillbox_ctx_t      *ctx;
    ngx_http_skillbox_call_t     *call;         /* under way */
    ngx_event_t                   event;        /* look again */
    ngx_msec_t                    delay;        /* until it attaches again */
    ngx_msec_t                    detached;     /* when it was */
    ngx_msec_t                    sent;         /* when something was */

    uint64_t                      offset;       /* of the log: it is here */
    sb_buf_t                      line;         /* its end, without newline */
    sb_buf_t                      states;       /* the same of STDOUT */
    size_t                        states_head;  /* of CGI: left out */
    char                          status[16];   /* told last */

    ngx_chain_t                  *free;
    ngx_chain_t                  *busy;

    unsigned                      events:1;     /* else text */
    unsigned                      failed:1;     /* nothing can be sent */
} ngx_http_skillbox_follow_t;


static ngx_int_t ngx_http_skillbox_follow_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, uint64_t offset, ngx_uint_t events);
static void ngx_http_skillbox_follow_abandon(ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_follow_handler(ngx_event_t *ev);
static void ngx_http_skillbox_follow_look(ngx_http_skillbox_follow_t *f);
static ngx_int_t ngx_http_skillbox_follow_attach(
    ngx_http_skillbox_follow_t *f);
static void ngx_http_skillbox_follow_piece(ngx_http_skillbox_call_t *call,
    ngx_uint_t type, const u_char *data, size_t len);
static void ngx_http_skillbox_follow_log(ngx_http_skillbox_follow_t *f,
    const char *data, size_t len, ngx_uint_t last);
static void ngx_http_skillbox_follow_states(ngx_http_skillbox_follow_t *f,
    const u_char *data, size_t len);
static void ngx_http_skillbox_follow_status(ngx_http_skillbox_follow_t *f,
    const char *status);
static void ngx_http_skillbox_follow_detached(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static void ngx_http_skillbox_follow_end(ngx_http_skillbox_follow_t *f,
    sb_execution_t *e);
static void ngx_http_skillbox_follow_send(ngx_http_skillbox_follow_t *f,
    const char *data, size_t len, ngx_uint_t last);
static void ngx_http_skillbox_follow_write(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_follow_flush(
    ngx_http_skillbox_follow_t *f, ngx_chain_t *out);
static ngx_int_t ngx_http_skillbox_logs_now(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_logs_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_logs_send(ngx_http_request_t *r,
    const char *data, size_t len);
static ngx_int_t ngx_http_skillbox_offset(ngx_http_request_t *r,
    uint64_t *offset);


ngx_int_t
ngx_http_skillbox_execution_logs(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    uint64_t        offset;
    ngx_int_t       rc;
    ngx_str_t       follow;
    sb_execution_t  e;

    if (ngx_http_skillbox_arg(r, "follow", &follow) == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_skillbox_offset(r, &offset);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_skillbox_execution_ended(&e)) {
        offset = ngx_min(offset, e.logs.len);

        return ngx_http_skillbox_logs_send(r, e.logs.data + offset,
                                           e.logs.len - offset);
    }

    if (follow.len == 0 || (follow.len == 1 && follow.data[0] == '0')) {
        return ngx_http_skillbox_logs_now(r, ctx);
    }

    return ngx_http_skillbox_follow_begin(r, ctx, offset, 0);
}


ngx_int_t
ngx_http_skillbox_execution_events(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    off_t             last;
    uint64_t          offset;
    ngx_int_t         rc;
    ngx_table_elt_t  *h;
    sb_execution_t    e;

    rc = ngx_http_skillbox_offset(r, &offset);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    h = ngx_http_skillbox_find_header(r, "last-event-id", NULL);

    if (h) {

        /* 204 tells the client not to come again */

        if (h->value.len == 4 && ngx_strncmp(h->value.data, "done", 4) == 0) {
            r->headers_out.status = NGX_HTTP_NO_CONTENT;
            r->header_only = 1;
            return ngx_http_send_header(r);
        }

        last = ngx_atoof(h->value.data, h->value.len);

        if (last != (off_t) NGX_ERROR) {
            offset = last;
        }
    }

    return ngx_http_skillbox_follow_begin(r, ctx, offset, 1);
}


static ngx_int_t
ngx_http_skillbox_offset(ngx_http_request_t *r, uint64_t *offset)
{
    off_t      n;
    ngx_str_t  value;

    *offset = 0;

    if (ngx_http_skillbox_arg(r, "offset", &value) == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (value.len == 0) {
        return NGX_OK;
    }

    n = ngx_atoof(value.data, value.len);

    if (n == (off_t) NGX_ERROR) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"offset\" must be a number.");
    }

    *offset = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_logs_send(ngx_http_request_t *r, const char *data,
    size_t len)
{
    sb_buf_t  buf;

    sb_buf_init(&buf, SB_LOG_MAX * 2);
    sb_buf_add(&buf, data, len);

    return ngx_http_skillbox_send(r, NGX_HTTP_OK, "text/plain", "utf-8", &buf);
}


/* what a live run has said so far; its helper has it */

static ngx_int_t
ngx_http_skillbox_logs_now(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    uint64_t                   offset;
    ngx_http_skillbox_call_t  *call;

    if (ngx_http_skillbox_offset(r, &offset) != NGX_OK) {
        return NGX_HTTP_BAD_REQUEST;
    }

    call = ngx_http_skillbox_execution_call(r, ctx, SB_OP_ATTACH);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_call_number(call, SB_P_OFFSET,
                                  ngx_min(offset, 4 * SB_LOG_MAX));
    ngx_http_skillbox_call_number(call, SB_P_FOLLOW, 0);

    if (ngx_http_skillbox_call_start(call, ngx_http_skillbox_logs_asked)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_skillbox_logs_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    uint64_t                  offset;
    ngx_int_t                 rc;
    sb_execution_t            e;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);

    if (rc == NGX_OK && ngx_http_skillbox_execution_ended(&e)) {
        (void) ngx_http_skillbox_offset(r, &offset);
        offset = ngx_min(offset, e.logs.len);

        rc = ngx_http_skillbox_logs_send(r, e.logs.data + offset,
                                         e.logs.len - offset);

    } else if (rc == NGX_OK
               && call->rc == NGX_OK
               && (call->status == NGX_HTTP_OK
                   || ngx_http_skillbox_call_refused(call,
                                                 SB_SLUG_UNKNOWN_EXECUTION)))
    {
        /* unknown: it has said nothing yet, or its end is on the way */

        rc = ngx_http_skillbox_logs_send(r, call->log.data, call->log.len);

    } else if (rc == NGX_OK) {
        rc = ngx_http_skillbox_call_error(r, call);
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_skillbox_follow_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, uint64_t offset, ngx_uint_t events)
{
    ngx_int_t                    rc;
    ngx_str_t                    value;
    ngx_http_skillbox_follow_t  *f;

    f = ngx_pcalloc(r->pool, sizeof(ngx_http_skillbox_follow_t));
    if (f == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    f->request = r;
    f->ctx = ctx;
    f->offset = offset;
    f->events = events;
    f->delay = 0;
    f->sent = ngx_current_msec;

    sb_buf_init(&f->line, NGX_HTTP_SKILLBOX_LOG_MAX);
    sb_buf_init(&f->states, SB_CGI_HEADER_MAX * 2);

    f->event.handler = ngx_http_skillbox_follow_handler;
    f->event.data = f;
    f->event.log = r->connection->log;
    /* not cancelable: a worker that is to end waits for its streams */

    ctx->data = f;
    ctx->abandon = ngx_http_skillbox_follow_abandon;

    r->headers_out.status = NGX_HTTP_OK;

    if (events) {
        ngx_str_set(&r->headers_out.content_type, "text/event-stream");

    } else {
        ngx_str_set(&r->headers_out.content_type, "text/plain");
        ngx_str_set(&r->headers_out.charset, "utf-8");
    }

    r->headers_out.content_type_len = r->headers_out.content_type.len;

    ngx_str_set(&value, "no-cache");
    rc = ngx_http_skillbox_add_header(r, "Cache-Control", &value);

    if (rc == NGX_OK) {

        /* for proxies like this one that may stand before it */

        ngx_str_set(&value, "no");
        rc = ngx_http_skillbox_add_header(r, "X-Accel-Buffering", &value);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) {
        return NGX_ERROR;
    }

    /* nginx's own check, whether the client has gone */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_skillbox_follow_write;

    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
    }

    ngx_post_event(&f->event, &ngx_posted_events);

    r->main->count++;

    return NGX_DONE;
}


/* the request goes; its pool is still there */

static void
ngx_http_skillbox_follow_abandon(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_follow_t  *f;

    f = ctx->data;

    if (f->event.timer_set) {
        ngx_del_timer(&f->event);
    }

    if (f->event.posted) {
        ngx_delete_posted_event(&f->event);
    }

    sb_buf_free(&f->line);
    sb_buf_free(&f->states);
}


static void
ngx_http_skillbox_follow_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_follow_t *f = ev->data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = f->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (f->failed) {
        ngx_http_finalize_request(r, NGX_ERROR);

    } else if (ngx_exiting && (f->events || f->call == NULL)) {

        /*
         * The client comes again, and finds a worker that stays.  A log that
         * is being streamed is streamed to its end; one without a helper may
         * have none.
         */

        ngx_http_skillbox_follow_send(f, NULL, 0, 1);
        ngx_http_finalize_request(r, NGX_ERROR);

    } else {
        ngx_http_skillbox_follow_look(f);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_skillbox_follow_look(ngx_http_skillbox_follow_t *f)
{
    ngx_int_t                      rc;
    sb_execution_t                 e;
    ngx_http_request_t            *r;
    ngx_http_skillbox_loc_conf_t  *slcf;

    r = f->request;
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (f->call == NULL) {
        rc = ngx_http_skillbox_execution_find(r, f->ctx, &e);

        if (rc != NGX_OK) {         /* deleted meanwhile */
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }

        if (ngx_http_skillbox_execution_ended(&e)) {
            ngx_http_skillbox_follow_end(f, &e);
            return;
        }

        ngx_http_skillbox_follow_status(f, e.status.data);

        if (ngx_current_msec - f->detached >= f->delay
            && ngx_http_skillbox_follow_attach(f) != NGX_OK)
        {
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }
    }

    if (f->events && ngx_current_msec - f->sent >= slcf->heartbeat) {
        ngx_http_skillbox_follow_send(f, ": still here\n\n",
                                      sizeof(": still here\n\n") - 1, 0);
    }

    if (f->failed) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    /* nothing may come of itself: heartbeats, a worker that is to end */

    ngx_add_timer(&f->event, NGX_HTTP_SKILLBOX_FOLLOW_TICK);
}


static ngx_int_t
ngx_http_skillbox_follow_attach(ngx_http_skillbox_follow_t *f)
{
    ngx_http_request_t            *r;
    ngx_http_skillbox_call_t      *call;
    ngx_http_skillbox_loc_conf_t  *slcf;

    r = f->request;
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    call = ngx_http_skillbox_execution_call(r, f->ctx, SB_OP_ATTACH);
    if (call == NULL) {
        return NGX_ERROR;
    }

    call->conf = &slcf->attach;
    call->limit = 0;                /* it lasts as long as the run */
    call->piece = ngx_http_skillbox_follow_piece;
    call->data = f;

    ngx_http_skillbox_call_number(call, SB_P_OFFSET,
                                  ngx_min(f->offset, 4 * SB_LOG_MAX));
    ngx_http_skillbox_call_number(call, SB_P_FOLLOW, 1);

    sb_buf_clear(&f->states);
    f->states_head = 0;
    f->call = call;

    return ngx_http_skillbox_call_start(call,
                                        ngx_http_skillbox_follow_detached);
}


static void
ngx_http_skillbox_follow_piece(ngx_http_skillbox_call_t *call,
    ngx_uint_t type, const u_char *data, size_t len)
{
    ngx_http_skillbox_follow_t *f = call->data;

    f->delay = NGX_HTTP_SKILLBOX_FOLLOW_AGAIN;

    if (type == SB_FCGI_STDERR) {
        ngx_http_skillbox_follow_log(f, (const char *) data, len, 0);

    } else {
        ngx_http_skillbox_follow_states(f, data, len);
    }

    if (f->failed && !f->event.posted) {
        ngx_post_event(&f->event, &ngx_posted_events);
    }
}


/* last: what lacks its newline will not get one */

static void
ngx_http_skillbox_follow_log(ngx_http_skillbox_follow_t *f, const char *data,
    size_t len, ngx_uint_t last)
{
    size_t       whole;
    sb_buf_t     out;
    const char  *p;

    if (!f->events) {
        f->offset += len;
        ngx_http_skillbox_follow_send(f, data, len, 0);
        return;
    }

    sb_buf_add(&f->line, data, len);
    f->offset += len;

    if (!sb_buf_ok(&f->line)) {
        f->failed = 1;
        return;
    }

    whole = f->line.len;

    if (!last && whole < NGX_HTTP_SKILLBOX_LINE_MAX) {
        p = whole ? memrchr(f->line.data, '\n', whole) : NULL;
        whole = p ? p - f->line.data + 1 : 0;
    }

    if (whole == 0) {
        return;
    }

    sb_buf_init(&out, SB_GIB);
    ngx_http_skillbox_event_log(&out, f->offset - f->line.len, f->line.data,
                                whole);

    if (sb_buf_ok(&out)) {
        ngx_http_skillbox_follow_send(f, out.data, out.len, 0);

    } else {
        f->failed = 1;
    }

    sb_buf_free(&out);

    ngx_memmove(f->line.data, f->line.data + whole, f->line.len - whole);
    f->line.len -= whole;
}


/* lines of JSON behind the CGI header; they are the helper's, and few */

static void
ngx_http_skillbox_follow_states(ngx_http_skillbox_follow_t *f,
    const u_char *data, size_t len)
{
    long         head;
    char        *line, *end;
    json_t      *root;
    const char  *status;

    sb_buf_add(&f->states, data, len);

    if (!sb_buf_ok(&f->states)) {
        return;
    }

    if (f->states_head == 0) {
        head = sb_cgi_header_len(f->states.data, f->states.len);

        if (head <= 0) {
            return;
        }

        f->states_head = head;
    }

    for ( ;; ) {
        line = f->states.data + f->states_head;
        end = memchr(line, '\n', f->states.len - f->states_head);

        if (end == NULL) {
            return;
        }

        root = json_loadb(line, end - line, 0, NULL);
        status = json_string_value(json_object_get(root, "status"));

        if (status && (ngx_strcmp(status, "queued") == 0
                       || ngx_strcmp(status, "running") == 0))
        {
            ngx_http_skillbox_follow_status(f, status);
        }

        json_decref(root);

        f->states_head = end - f->states.data + 1;
    }
}


static void
ngx_http_skillbox_follow_status(ngx_http_skillbox_follow_t *f,
    const char *status)
{
    sb_buf_t  out;

    /* the record may say queued a moment longer than the helper */

    if (!f->events || ngx_strcmp(f->status, status) == 0
        || (f->status[0] == 'r' && status[0] == 'q'))
    {
        return;
    }

    ngx_cpystrn((u_char *) f->status, (u_char *) status, sizeof(f->status));

    sb_buf_init(&out, 1024);
    ngx_http_skillbox_event_status(&out, &f->ctx->execution, status);

    if (sb_buf_ok(&out)) {
        ngx_http_skillbox_follow_send(f, out.data, out.len, 0);
    }

    sb_buf_free(&out);
}


/* The run has ended, or its helper has; the record will tell. */

static void
ngx_http_skillbox_follow_detached(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_http_skillbox_follow_t *f = call->data;

    f->call = NULL;

    if (f->delay == 0) {
        f->delay = NGX_HTTP_SKILLBOX_FOLLOW_AGAIN;
    }

    if (ngx_http_skillbox_nobody_has_it(r, call)) {
        ngx_http_skillbox_execution_forget(f->ctx);
    }

    /* only the last answer's states are of interest */

    r->upstream_states = NULL;

    if (f->event.posted) {
        return;
    }

    f->detached = ngx_current_msec;
    ngx_add_timer(&f->event, ngx_min(f->delay, NGX_HTTP_SKILLBOX_FOLLOW_TICK));
    f->delay = ngx_min(f->delay * 2, NGX_HTTP_SKILLBOX_FOLLOW_LATER);
}


static void
ngx_http_skillbox_follow_end(ngx_http_skillbox_follow_t *f, sb_execution_t *e)
{
    size_t               rest;
    sb_buf_t             out, record;
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = f->request;

    if (!f->events) {

        if (e->logs.len > f->offset) {
            ngx_http_skillbox_follow_send(f, e->logs.data + f->offset,
                                          e->logs.len - f->offset, 0);
        }

        ngx_http_skillbox_follow_send(f, NULL, 0, 1);
        ngx_http_finalize_request(r, f->failed ? NGX_ERROR : NGX_OK);
        return;
    }

    rest = e->logs.len > f->offset ? e->logs.len - f->offset : 0;
    ngx_http_skillbox_follow_log(f, e->logs.data + e->logs.len - rest, rest,
                                 1);

    sb_buf_init(&record, SB_RESULT_MAX + 64 * SB_KIB);
    sb_buf_init(&out, SB_RESULT_MAX + 128 * SB_KIB);

    rc = ngx_http_skillbox_execution_render(r, f->ctx, e, 0, &record);

    if (rc == NGX_OK) {
        ngx_http_skillbox_event_done(&out, &record);
    }

    if (rc == NGX_OK && sb_buf_ok(&record) && sb_buf_ok(&out)) {
        ngx_http_skillbox_follow_send(f, out.data, out.len, 0);
        ngx_http_skillbox_follow_send(f, NULL, 0, 1);

    } else {
        f->failed = 1;
    }

    sb_buf_free(&record);
    sb_buf_free(&out);

    ngx_http_finalize_request(r, f->failed ? NGX_ERROR : NGX_OK);
}


/* last: that was all */

static void
ngx_http_skillbox_follow_send(ngx_http_skillbox_follow_t *f,
    const char *data, size_t len, ngx_uint_t last)
{
    size_t        n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl, *out, **ll;

    if (f->failed) {
        return;
    }

    out = NULL;
    ll = &out;
    f->sent = ngx_current_msec;

    do {
        cl = ngx_chain_get_free_buf(f->request->pool, &f->free);
        if (cl == NULL) {
            f->failed = 1;
            return;
        }

        b = cl->buf;

        if (b->start == NULL && len) {
            b->start = ngx_palloc(f->request->pool,
                                  NGX_HTTP_SKILLBOX_FOLLOW_BUF);
            if (b->start == NULL) {
                f->failed = 1;
                return;
            }

            b->end = b->start + NGX_HTTP_SKILLBOX_FOLLOW_BUF;
        }

        n = ngx_min(len, NGX_HTTP_SKILLBOX_FOLLOW_BUF);

        b->pos = b->start;
        b->last = n ? ngx_cpymem(b->pos, data, n) : b->pos;
        b->tag = (ngx_buf_tag_t) &ngx_http_skillbox_module;
        b->temporary = (n != 0);
        b->flush = 1;
        b->last_buf = 0;
        b->last_in_chain = 0;

        *ll = cl;
        ll = &cl->next;

        data += n;
        len -= n;

    } while (len);

    *ll = NULL;

    b->last_buf = last;
    b->last_in_chain = 1;

    if (ngx_http_skillbox_follow_flush(f, out) == NGX_ERROR) {
        f->failed = 1;
    }
}


static void
ngx_http_skillbox_follow_write(ngx_http_request_t *r)
{
    ngx_http_skillbox_ctx_t     *ctx;
    ngx_http_skillbox_follow_t  *f;

    ctx = ngx_http_skillbox_get_ctx(r);
    f = ctx->data;

    if (r->connection->write->timedout) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                      "client timed out");
        r->connection->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (ngx_http_skillbox_follow_flush(f, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


/* send_timeout is between two writes of what waits, as everywhere in nginx */

static ngx_int_t
ngx_http_skillbox_follow_flush(ngx_http_skillbox_follow_t *f,
    ngx_chain_t *out)
{
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = f->request;
    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

    rc = ngx_http_output_filter(r, out);

    ngx_chain_update_chains(r->pool, &f->free, &f->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_skillbox_module);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (r->buffered || r->connection->buffered) {

        if (!wev->delayed) {
            ngx_add_timer(wev, clcf->send_timeout);
        }

        return ngx_handle_write_event(wev, clcf->send_lowat);
    }

    if (wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    return NGX_OK;
}
