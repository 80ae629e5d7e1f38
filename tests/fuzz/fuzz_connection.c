/*
 * fuzz_connection.c - the helper's end of a gateway's connection: hostile records over
 * a real socket and the real loop, with an owner whose behaviour the input picks.
 *
 * Beyond "no crash": what the peer gets are whole records; the owner hears of the end
 * once and never after an answer; the connection closes when the peer does; an answer
 * that has ended holds the whole body.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/fastcgi.h"
#include "../../sandbox-helper/connection.h"
#include "taker.h"

#define RECEIVED_MAX (8u << 20)
#define ROUNDS_MAX   64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the owner does with a request. */
enum {
    REFUSE,
    ANSWER,
    ECHO,      /* STDIN comes back as the body */
    SMALL,     /* the same, but STDIN may have 100 bytes */
    LOG,       /* logs first */
    LET_GO,    /* neither answers nor waits: the connection is to close */
    CUT_SHORT, /* the body's file is shorter than announced */
    DEAF,      /* takes no STDIN */
    WAYS
};

static struct {
    loop_t loop;
    loop_source_t stop;
    connection_t *conn;
    int peer;
    int stdin_fd;
    int way;
    int completed, gone, closed;
    bool answered;
    sb_buf_t received;
} t;

static void on_complete(void *owner, uint64_t stdin_len);

static void on_gone(void *owner)
{
    assert(owner == &t && !t.answered && t.closed == 0 && t.gone++ == 0);
}

static const connection_owner_t owner_ops = {.complete = on_complete, .gone = on_gone};

static void log_a_lot(void)
{
    static const char text[] = "a line of the script's log\n";

    for (int i = 0; i < 100; i++) {
        connection_log(t.conn, text, 1 + (size_t)i % (sizeof(text) - 1));
    }
}

static void on_complete(void *owner, uint64_t stdin_len)
{
    assert(owner == &t && t.completed++ == 0 && t.gone == 0 && !t.answered);
    assert(t.way == DEAF || lseek(t.stdin_fd, 0, SEEK_END) == (off_t)stdin_len);
    if (t.way == LOG) {
        log_a_lot();
    }
    int body = fcntl(t.stdin_fd, F_DUPFD_CLOEXEC, 3);
    assert(body >= 0);
    t.answered = true;
    connection_answer_file(t.conn, 200, "X-Test: 1\r\n", body,
                           stdin_len + (t.way == CUT_SHORT ? 1 : 0), 7);
}

static void on_params(void *ctx, connection_t *c, const char *data, size_t len)
{
    assert(connection_idle(c) && c == t.conn);
    t.way = len > 0 ? (unsigned char)data[0] % WAYS : ANSWER;
    switch (t.way) {
    case REFUSE:
        t.answered = true;
        connection_refuse(c, 503, "overloaded", "\"no\"\n");
        return;
    case ANSWER:
        t.answered = true;
        connection_answer(c, 200, "", data, len);
        return;
    case LET_GO:
        connection_set_owner(c, NULL, NULL);
        return;
    default:
        connection_set_owner(c, &owner_ops, &t);
        if (t.way != DEAF) {
            connection_stdin(c, t.stdin_fd, t.way == SMALL ? 100 : 1 << 20);
        }
    }
}

static void on_closed(void *ctx, connection_t *c)
{
    assert(c == t.conn && t.closed++ == 0);
    t.conn = NULL;
}

static const connection_ops_t ops = {.params = on_params, .closed = on_closed, .ctx = NULL};

/* ---- the loop, a batch at a time ---- */

static void on_stop(void *ctx, uint32_t events)
{
    uint64_t n;

    assert(read(t.stop.fd, &n, sizeof(n)) == sizeof(n));
    loop_stop(&t.loop);
}

static void run_once(void)
{
    const uint64_t one = 1;

    assert(write(t.stop.fd, &one, sizeof(one)) == sizeof(one));
    t.loop.stop = false;
    loop_run(&t.loop);
}

static void set_up_once(void)
{
    static bool done;
    sb_err_t err;

    if (done) {
        return;
    }
    done = true;
    assert(loop_init(&t.loop, &err) == SB_OK);
    t.stop = (loop_source_t){.fd = -1, .fn = on_stop};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(fd >= 0 && loop_add(&t.loop, &t.stop, fd, EPOLLIN) == 0);
}

/* ---- the peer ---- */

static bool peer_read(void)
{
    static char chunk[65536];
    bool some = false;
    ssize_t n;

    while ((n = recv(t.peer, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0) {
        sb_buf_add(&t.received, chunk, (size_t)n);
        some = true;
    }
    return some;
}

static void peer_send(const uint8_t *data, size_t len)
{
    while (len > 0 && t.closed == 0) {
        ssize_t n = send(t.peer, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return; /* it has closed */
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        run_once();
        if (n < 0) { /* it takes no more: as a rule since we do not read */
            peer_read();
        }
    }
}

/* STDOUT of an answer that ended: a header block, then what is in the body's file. */
static void check_body(const sb_buf_t *out)
{
    long head = sb_cgi_header_len(out->data, out->len);
    size_t len = (size_t)lseek(t.stdin_fd, 0, SEEK_END);
    char *body = malloc(len + 1);

    assert(head > 0 && body != NULL && out->len - (size_t)head == len);
    assert(pread(t.stdin_fd, body, len, 0) == (ssize_t)len);
    assert(memcmp(body, out->data + head, len) == 0);
    free(body);
}

/* Whole records, none of an unknown type, nothing of the request behind its end. */
static void check_received(void)
{
    const char *text = t.received.data != NULL ? t.received.data : "";
    const unsigned char *p = (const unsigned char *)text, *end = p + t.received.len;
    sb_fcgi_reader_t r = {0};
    sb_fcgi_event_t ev;
    sb_buf_t out = SB_BUF_INIT(RECEIVED_MAX);
    unsigned ended = 0;

    assert(sb_buf_ok(&t.received));
    while ((ev = sb_fcgi_read(&r, &p, end)) != SB_FCGI_EV_NONE) {
        assert(ev != SB_FCGI_EV_ERROR);
        if (ev == SB_FCGI_EV_DATA && r.type == SB_FCGI_STDOUT) {
            sb_buf_add(&out, r.data, r.data_len);
        }
        if (ev != SB_FCGI_EV_HEADER) {
            continue;
        }
        assert(r.type == SB_FCGI_STDOUT || r.type == SB_FCGI_STDERR ||
               r.type == SB_FCGI_END_REQUEST || r.type == SB_FCGI_GET_VALUES_RESULT ||
               r.type == SB_FCGI_UNKNOWN_TYPE);
        if (r.type == SB_FCGI_STDOUT || r.type == SB_FCGI_STDERR) {
            assert(r.request_id != 0 && r.request_id != ended);
        }
        if (r.type == SB_FCGI_STDOUT && r.content_len == 0) {
            ended = r.request_id; /* END_REQUEST follows */
        }
    }
    assert(t.way != CUT_SHORT || t.completed == 0 || ended == 0);
    if (ended != 0 && t.completed == 1) {
        check_body(&out);
    }
    sb_buf_free(&out);
}

static void begin(void)
{
    int pair[2];

    t.completed = t.gone = t.closed = 0;
    t.answered = false;
    t.way = -1;
    sb_buf_init(&t.received, RECEIVED_MAX);
    t.stdin_fd = memfd_create("stdin", MFD_CLOEXEC);
    assert(t.stdin_fd >= 0);
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    t.peer = pair[1];
    t.conn = connection_open(&t.loop, pair[0], &ops);
    assert(t.conn != NULL);
}

/* Nobody may be left with a connection that has no peer. */
static void end(bool half_close)
{
    if (half_close) {
        shutdown(t.peer, SHUT_WR);
        run_once();
    }
    for (int i = 0; i < ROUNDS_MAX && t.closed == 0; i++) {
        bool some = peer_read();
        run_once();
        if (!some) {
            break;
        }
    }
    peer_read();
    close(t.peer);
    for (int i = 0; i < 3 && t.closed == 0; i++) {
        run_once();
    }
    assert(t.closed == 1);
    /* an owner that was there heard of the end, or it gave the answer, or was relieved of it */
    assert(t.gone + t.completed <= 1 || (t.completed == 1 && t.gone == 0));
    check_received();
    sb_buf_free(&t.received);
    close(t.stdin_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taker_t input = {data, size};

    set_up_once();
    unsigned flags = (unsigned)take_number(&input, 1);
    size_t piece = flags & 1 ? 1 + (flags >> 4) : 1 << 20;

    begin();
    while (input.left > 0 && t.closed == 0) {
        size_t n = input.left < piece ? input.left : piece;
        peer_send(input.data, n);
        input.data += n;
        input.left -= n;
        if (flags & 2) {
            peer_read();
        }
    }
    end((flags & 4) != 0);
    return 0;
}
