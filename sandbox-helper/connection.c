/*
 * connection.c - see connection.h.  Touches its socket, the STDIN descriptor it
 * was given and the answer's file; trusts nothing that comes in.
 */
#include "connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/fastcgi.h"
#include "../libskillbox/limits.h"
#include "../libskillbox/protocol.h"

#define READ_CHUNK      65536
#define FILE_CHUNK      32768
#define OUT_MAX         (4 * SB_MIB) /* log, its records' headers, an answer's head */
#define IDLE_MS         30000        /* a sender that falls silent */
#define RECEIVE_MS      600000       /* a sender that never ends */
#define STALL_MS        60000        /* a reader that falls silent */
#define LINGER_MS       5000         /* after an early answer, for what is still on its way */
#define HEARTBEAT_MS    (SB_HEARTBEAT_MS / 2)
#define RETRY_AFTER_SEC 2

struct connection_s {
    loop_t *loop;
    const connection_ops_t *ops;
    loop_source_t source;
    loop_timer_t timer;
    loop_task_t settle;
    int64_t opened_us;

    sb_fcgi_reader_t reader;
    unsigned char begin[8]; /* body of BEGIN_REQUEST */
    size_t begin_len;
    uint16_t id; /* 0: no request yet */
    sb_buf_t params;
    bool params_done, stdin_done;
    int stdin_fd; /* the owner's; -1: thrown away */
    uint64_t stdin_max, stdin_len;

    void *owner;
    const connection_owner_t *owner_ops;

    bool input_ended; /* the peer sends no more, but may still read */
    bool broken;      /* nothing can be sent any more */
    bool answered;
    bool finished; /* END_REQUEST is in out */
    sb_buf_t out;
    size_t sent; /* bytes of out that have gone */
    size_t
        log_record; /* 1 + where the last STDERR record's header lies in out; 0: none to extend */
    int body_fd;
    uint64_t body_at, body_len;
    uint32_t app_status;
};

/* One at a time is read, by one thread. */
static unsigned char input[READ_CHUNK];

static void on_event(void *ctx, uint32_t events);
static void on_timer(void *ctx);
static void on_settle(void *ctx);

connection_t *connection_open(loop_t *loop, int fd, const connection_ops_t *ops)
{
    connection_t *c = calloc(1, sizeof *c);

    if (c == NULL) {
        close(fd);
        return NULL;
    }
    c->loop = loop;
    c->ops = ops;
    c->source = (loop_source_t){.fd = -1, .fn = on_event, .ctx = c};
    c->timer = (loop_timer_t){.fn = on_timer, .ctx = c};
    c->settle = (loop_task_t){.fn = on_settle, .ctx = c};
    c->opened_us = loop_now_us();
    c->stdin_fd = c->body_fd = -1;
    sb_buf_init(&c->params, SB_PARAMS_MAX);
    sb_buf_init(&c->out, OUT_MAX);
    if (loop_add(loop, &c->source, fd, EPOLLIN) != 0) {
        close(fd);
        free(c);
        return NULL;
    }
    loop_timer_set(loop, &c->timer, IDLE_MS);
    return c;
}

static void fail(connection_t *c)
{
    c->broken = true;
    loop_task(c->loop, &c->settle);
}

void connection_close(connection_t *c)
{
    int fd = c->source.fd;

    c->ops->closed(c->ops->ctx, c);
    loop_del(c->loop, &c->source);
    loop_timer_clear(c->loop, &c->timer);
    loop_task_clear(c->loop, &c->settle);
    close(fd);
    if (c->body_fd >= 0)
        close(c->body_fd);
    sb_buf_free(&c->params);
    sb_buf_free(&c->out);
    free(c);
}

void connection_stdin(connection_t *c, int fd, uint64_t max)
{
    c->stdin_fd = fd;
    c->stdin_max = max;
}

void connection_set_owner(connection_t *c, const connection_owner_t *ops, void *owner)
{
    c->owner = owner;
    c->owner_ops = ops;
    if (owner == NULL)
        fail(c);
}

bool connection_idle(const connection_t *c)
{
    return c->owner == NULL && !c->answered;
}

/* ---- the way out ---- */

static bool out_empty(const connection_t *c)
{
    return c->sent == c->out.len;
}

static void update_interest(connection_t *c)
{
    uint32_t events = 0;

    if (!c->input_ended)
        events |= EPOLLIN;
    if (!c->broken && !out_empty(c))
        events |= EPOLLOUT;
    loop_set(c->loop, &c->source, events);
}

static void finish(connection_t *c)
{
    unsigned char end[16];

    sb_fcgi_eof(&c->out, SB_FCGI_STDOUT, c->id);
    sb_fcgi_end(end, c->id, c->app_status, SB_FCGI_REQUEST_COMPLETE);
    sb_buf_add(&c->out, end, sizeof end);
    c->finished = true;
    if (!sb_buf_ok(&c->out))
        fail(c);
}

/* The next piece of the answer's file becomes a record. */
static void refill(connection_t *c)
{
    char chunk[FILE_CHUNK];
    uint64_t left = c->body_len - c->body_at;
    size_t want = left < sizeof chunk ? (size_t)left : sizeof chunk;
    ssize_t n = pread(c->body_fd, chunk, want, (off_t)c->body_at);

    if (n <= 0) { /* shorter than announced: the peer must not take it for complete */
        fail(c);
        return;
    }
    sb_fcgi_stream(&c->out, SB_FCGI_STDOUT, c->id, chunk, (size_t)n);
    c->body_at += (uint64_t)n;
    if (c->body_at == c->body_len)
        finish(c);
}

static void flush(connection_t *c)
{
    while (!c->broken) {
        if (out_empty(c)) {
            sb_buf_clear(&c->out);
            c->sent = 0;
            c->log_record = 0;
            if (!c->answered || c->finished)
                break;
            refill(c);
            continue;
        }
        ssize_t n = send(c->source.fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            fail(c);
            break;
        }
        c->sent += (size_t)n;
        if (c->log_record != 0 && c->sent >= c->log_record)
            c->log_record = 0; /* its header has gone: the next piece needs one of its own */
        if (c->answered)
            loop_timer_set(c->loop, &c->timer, STALL_MS);
    }
    update_interest(c);
    if (c->finished && out_empty(c))
        loop_task(c->loop, &c->settle);
}

/* While the peer is slow, pieces are joined to one record: many tiny writes of a script must not
 * cost eight bytes of header each. */
static bool extend_record(connection_t *c, const char *data, size_t len)
{
    if (c->log_record == 0)
        return false;
    unsigned char *h = (unsigned char *)c->out.data + c->log_record - 1;
    size_t have = (size_t)h[4] << 8 | h[5];
    if (have + len > SB_FCGI_CONTENT_MAX)
        return false;
    sb_buf_add(&c->out, data, len);
    h = (unsigned char *)c->out.data + c->log_record - 1; /* the buffer may have moved */
    sb_fcgi_header(h, SB_FCGI_STDERR, c->id, have + len);
    return true;
}

void connection_log(connection_t *c, const char *data, size_t len)
{
    while (len > 0 && !c->broken) {
        size_t n = len < SB_FCGI_CONTENT_MAX ? len : SB_FCGI_CONTENT_MAX;
        if (!extend_record(c, data, n)) {
            c->log_record = c->out.len + 1;
            sb_fcgi_stream(&c->out, SB_FCGI_STDERR, c->id, data, n);
        }
        if (!sb_buf_ok(&c->out))
            fail(c);
        data += n;
        len -= n;
    }
    flush(c);
}

static void send_head(connection_t *c, int status, const char *headers)
{
    char head[SB_CGI_HEADER_MAX];
    int n = snprintf(head, sizeof head,
                     "Status: %d\r\nContent-Type: application/json; charset=utf-8\r\n%s\r\n",
                     status, headers);

    if (n < 0 || (size_t)n >= sizeof head) {
        fail(c);
        return;
    }
    c->log_record = 0;
    sb_fcgi_stream(&c->out, SB_FCGI_STDOUT, c->id, head, (size_t)n);
}

/* The owner is let go. */
static void answered(connection_t *c)
{
    c->answered = true;
    c->owner = NULL;
    c->stdin_fd = -1;
    loop_timer_set(c->loop, &c->timer, STALL_MS);
}

/* Also when the peer has just gone and on_settle() has not told yet: who has answered may be free
 * by then, and is not to be told. */
static void answer_head(connection_t *c, int status, const char *headers)
{
    send_head(c, status, headers);
    answered(c);
}

void connection_answer(connection_t *c, int status, const char *headers, const char *body,
                       size_t len)
{
    answer_head(c, status, headers);
    sb_fcgi_stream(&c->out, SB_FCGI_STDOUT, c->id, body, len);
    finish(c);
    flush(c);
}

void connection_answer_file(connection_t *c, int status, const char *headers, int fd, uint64_t len,
                            uint32_t app_status)
{
    c->body_fd = fd;
    c->body_len = len;
    c->app_status = app_status;
    answer_head(c, status, headers);
    if (len == 0)
        finish(c);
    else
        refill(c); /* a short body goes with the head */
    flush(c);
}

void connection_stream(connection_t *c, int status, const char *headers)
{
    send_head(c, status, headers);
    flush(c);
}

void connection_stream_data(connection_t *c, const char *data, size_t len)
{
    c->log_record = 0;
    sb_fcgi_stream(&c->out, SB_FCGI_STDOUT, c->id, data, len);
    if (!sb_buf_ok(&c->out))
        fail(c);
    flush(c);
}

void connection_stream_end(connection_t *c)
{
    answered(c);
    finish(c);
    flush(c);
}

static void refusal_body(sb_buf_t *b, const char *slug, const char *message)
{
    sb_buf_char(b, '{');
    sb_json_key_str(b, "error", slug);
    sb_json_key_str(b, "message", message);
    sb_buf_char(b, '}');
}

void connection_refuse(connection_t *c, int status, const char *slug, const char *message)
{
    sb_buf_t body = SB_BUF_INIT(SB_CGI_HEADER_MAX);
    char headers[64] = "";

    refusal_body(&body, slug, message);
    if (status == 503 || status == 429)
        snprintf(headers, sizeof headers, "Retry-After: %d\r\n", RETRY_AFTER_SEC);
    if (sb_buf_ok(&body)) {
        connection_answer(c, status, headers, body.data, body.len);
    } else {
        answered(c);
        fail(c);
    }
    sb_buf_free(&body);
}

void connection_turn_away(int fd)
{
    sb_buf_t out = SB_BUF_INIT(SB_CGI_HEADER_MAX), body = SB_BUF_INIT(SB_CGI_HEADER_MAX);
    sb_buf_t text = SB_BUF_INIT(SB_CGI_HEADER_MAX);
    unsigned char end[16];

    refusal_body(&body, "overloaded", "The sandbox helper has too many connections.");
    sb_buf_fmt(&text,
               "Status: 503\r\nContent-Type: application/json; charset=utf-8\r\n"
               "Retry-After: %d\r\n\r\n%s",
               RETRY_AFTER_SEC, body.data ? body.data : "");
    sb_fcgi_stream(&out, SB_FCGI_STDOUT, 1, text.data, text.len);
    sb_fcgi_eof(&out, SB_FCGI_STDOUT, 1);
    sb_fcgi_end(end, 1, 0, SB_FCGI_REQUEST_COMPLETE);
    sb_buf_add(&out, end, sizeof end);
    if (sb_buf_ok(&body) && sb_buf_ok(&text) && sb_buf_ok(&out) &&
        send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        errno = 0; /* the peer learns it by the close */
    sb_buf_free(&out);
    sb_buf_free(&body);
    sb_buf_free(&text);
}

/* ---- the way in ---- */

static void send_end(connection_t *c, uint16_t id, uint8_t protocol_status)
{
    unsigned char end[16];

    sb_fcgi_end(end, id, 0, protocol_status);
    c->log_record = 0;
    sb_buf_add(&c->out, end, sizeof end);
    flush(c);
}

static void request_begun(connection_t *c)
{
    uint16_t role;
    uint8_t flags;

    if (c->id != 0) {
        if (c->reader.request_id != c->id)
            send_end(c, c->reader.request_id, SB_FCGI_CANT_MPX_CONN);
        return;
    }
    if (c->reader.request_id == 0 || !sb_fcgi_begin_parse(c->begin, c->begin_len, &role, &flags)) {
        fail(c);
        return;
    }
    c->id = c->reader.request_id;
    if (role != SB_FCGI_RESPONDER) {
        c->answered = c->finished = c->stdin_done = true;
        send_end(c, c->id, SB_FCGI_UNKNOWN_ROLE);
    }
}

static void params_data(connection_t *c, const void *data, size_t len)
{
    if (c->answered || c->params_done)
        return;
    sb_buf_add(&c->params, data, len);
    if (!sb_buf_ok(&c->params))
        connection_refuse(c, 400, "bad_request", "The request's parameters are too long.");
}

static void params_end(connection_t *c)
{
    if (c->answered || c->params_done)
        return;
    c->params_done = true;
    c->ops->params(c->ops->ctx, c, c->params.data ? c->params.data : "", c->params.len);
    sb_buf_free(&c->params);
}

/* The connection answers in its owner's stead, who is let go. */
static void stdin_refuse(connection_t *c, int status, const char *slug, const char *message)
{
    void *owner = c->owner;

    connection_refuse(c, status, slug, message);
    c->owner_ops->gone(owner);
}

static void stdin_data(connection_t *c, const unsigned char *data, size_t len)
{
    if (c->answered || c->stdin_fd < 0)
        return;
    if (len > c->stdin_max - c->stdin_len) {
        stdin_refuse(c, 413, "too_large", "The request's body is too large.");
        return;
    }
    while (len > 0) {
        ssize_t n = write(c->stdin_fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            stdin_refuse(c, 503, "overloaded",
                         "The sandbox helper has no room for the request's body.");
            return;
        }
        data += n;
        len -= (size_t)n;
        c->stdin_len += (uint64_t)n;
    }
}

static void stdin_end(connection_t *c)
{
    if (c->stdin_done)
        return;
    c->stdin_done = true;
    if (c->answered) {
        loop_task(c->loop, &c->settle);
        return;
    }
    if (c->owner == NULL) { /* STDIN without PARAMS */
        fail(c);
        return;
    }
    loop_timer_set(c->loop, &c->timer, HEARTBEAT_MS);
    c->owner_ops->complete(c->owner, c->stdin_len);
}

/* FCGI_GET_VALUES: what a stock server may ask.  Its names are few; the answer is always whole. */
static void values_answer(connection_t *c)
{
    sb_buf_t pairs = SB_BUF_INIT(256);

    sb_fcgi_pair(&pairs, "FCGI_MAX_CONNS", "128", 3);
    sb_fcgi_pair(&pairs, "FCGI_MAX_REQS", "128", 3);
    sb_fcgi_pair(&pairs, "FCGI_MPXS_CONNS", "0", 1);
    c->log_record = 0;
    if (sb_buf_ok(&pairs))
        sb_fcgi_stream(&c->out, SB_FCGI_GET_VALUES_RESULT, 0, pairs.data, pairs.len);
    sb_buf_free(&pairs);
    flush(c);
}

static void unknown_type(connection_t *c)
{
    unsigned char record[16] = {0};

    sb_fcgi_header(record, SB_FCGI_UNKNOWN_TYPE, 0, 8);
    record[8] = c->reader.type;
    c->log_record = 0;
    sb_buf_add(&c->out, record, sizeof record);
    flush(c);
}

static void management_end(connection_t *c)
{
    if (c->reader.type == SB_FCGI_GET_VALUES)
        values_answer(c);
    else
        unknown_type(c);
    if (c->out.len > OUT_MAX / 2) /* asks without reading */
        fail(c);
}

static void record_data(connection_t *c)
{
    const sb_fcgi_reader_t *r = &c->reader;
    size_t n = sizeof c->begin - c->begin_len;

    if (r->type == SB_FCGI_BEGIN_REQUEST && c->id == 0) {
        if (n > r->data_len)
            n = r->data_len;
        memcpy(c->begin + c->begin_len, r->data, n);
        c->begin_len += n;
    } else if (r->request_id == c->id && c->id != 0) {
        if (r->type == SB_FCGI_PARAMS)
            params_data(c, r->data, r->data_len);
        else if (r->type == SB_FCGI_STDIN)
            stdin_data(c, r->data, r->data_len);
    }
}

static void record_end(connection_t *c)
{
    const sb_fcgi_reader_t *r = &c->reader;

    if (r->type == SB_FCGI_BEGIN_REQUEST) {
        request_begun(c);
        return;
    }
    if (r->request_id == 0) {
        management_end(c);
        return;
    }
    if (r->request_id != c->id) /* a request that was never begun: ignored, says the standard */
        return;
    if (r->type == SB_FCGI_PARAMS && r->content_len == 0)
        params_end(c);
    else if (r->type == SB_FCGI_STDIN && r->content_len == 0)
        stdin_end(c);
    else if (r->type == SB_FCGI_ABORT_REQUEST)
        fail(c);
}

static void parse(connection_t *c, size_t len)
{
    const unsigned char *p = input, *end = input + len;

    while (!c->broken) {
        switch (sb_fcgi_read(&c->reader, &p, end)) {
        case SB_FCGI_EV_NONE:
            return;
        case SB_FCGI_EV_HEADER:
            break;
        case SB_FCGI_EV_DATA:
            record_data(c);
            break;
        case SB_FCGI_EV_END:
            record_end(c);
            break;
        case SB_FCGI_EV_ERROR:
            fail(c);
            return;
        }
    }
}

static void receive(connection_t *c)
{
    ssize_t n = recv(c->source.fd, input, sizeof input, 0);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            fail(c);
        return;
    }
    if (n == 0) {
        /* The peer sends no more.  Before the request is whole that is its end; afterwards it may
         * still read (only a peer that closed altogether raises EPOLLHUP). */
        c->input_ended = true;
        if (!c->stdin_done)
            fail(c);
        update_interest(c);
        return;
    }
    if (!c->stdin_done && !c->answered)
        loop_timer_set(c->loop, &c->timer, IDLE_MS);
    if (!c->stdin_done && loop_now_us() - c->opened_us > (int64_t)RECEIVE_MS * 1000) {
        fail(c);
        return;
    }
    parse(c, (size_t)n);
}

static void on_event(void *ctx, uint32_t events)
{
    connection_t *c = ctx;

    if (events & (EPOLLHUP | EPOLLERR)) {
        fail(c);
        return;
    }
    if (events & EPOLLIN)
        receive(c);
    if ((events & EPOLLOUT) && !c->broken)
        flush(c);
}

static void heartbeat(connection_t *c)
{
    if (out_empty(c)) {
        sb_fcgi_eof(&c->out, SB_FCGI_STDERR, c->id);
        flush(c);
    }
    loop_timer_set(c->loop, &c->timer, HEARTBEAT_MS);
}

static void on_timer(void *ctx)
{
    connection_t *c = ctx;

    if (c->stdin_done && !c->answered)
        heartbeat(c);
    else
        fail(c);
}

/* From the loop, with nobody of ours on the stack: the place to report and to close. */
static void on_settle(void *ctx)
{
    connection_t *c = ctx;

    if (!c->broken && !(c->finished && out_empty(c)))
        return; /* its turn comes when the answer has gone */
    if (!c->broken && !c->stdin_done) {
        /* Answered early.  What the peer still sends is read and thrown away, for a while. */
        loop_timer_set(c->loop, &c->timer, LINGER_MS);
        return;
    }
    void *owner = c->owner;
    c->owner = NULL;
    if (owner != NULL)
        c->owner_ops->gone(owner);
    connection_close(c);
}
