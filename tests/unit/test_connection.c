/* test_connection.c - the promises of connection.h about whom it tells what, and when. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/fastcgi.h"
#include "../../sandbox-helper/connection.h"

typedef enum { ANSWER, ANSWER_FILE, REFUSE, STREAM, NOTHING } kind_t;

typedef struct {
    loop_t loop;
    connection_t *conn;
    loop_source_t wake;
    loop_timer_t limit;
    int peer, wake_fd;
    kind_t kind;
    int completed, gone, closed;
} fixture_t;

static void on_complete(void *owner, uint64_t stdin_len)
{
    fixture_t *f = owner;

    assert_int_equal(stdin_len, 0); /* nobody takes it */
    f->completed++;
    loop_stop(&f->loop);
}

static void on_gone(void *owner)
{
    ((fixture_t *)owner)->gone++;
}

static const connection_owner_t owner_ops = {.complete = on_complete, .gone = on_gone};

static void on_params(void *ctx, connection_t *c, const char *data, size_t len)
{
    (void)data;
    assert_int_equal(len, 0);
    connection_set_owner(c, &owner_ops, ctx);
}

static void on_closed(void *ctx, connection_t *c)
{
    fixture_t *f = ctx;

    assert_ptr_equal(c, f->conn);
    f->conn = NULL;
    f->closed++;
    loop_stop(&f->loop);
}

/* Runs in the batch in which the connection has seen its peer's end, after it. */
static void on_wake(void *ctx, uint32_t events)
{
    fixture_t *f = ctx;
    int fd;

    (void)events;
    loop_del(&f->loop, &f->wake);
    assert_non_null(f->conn);
    switch (f->kind) {
    case ANSWER:
        connection_answer(f->conn, 202, "", "{}", 2);
        break;
    case ANSWER_FILE:
        fd = memfd_create("answer", MFD_CLOEXEC);
        assert_int_equal(write(fd, "{}", 2), 2);
        connection_answer_file(f->conn, 200, "", fd, 2, 0); /* takes it */
        break;
    case REFUSE:
        connection_refuse(f->conn, 503, "overloaded", "No room.");
        break;
    case STREAM:
        connection_stream(f->conn, 200, "");
        connection_stream_end(f->conn);
        break;
    case NOTHING:
        break;
    }
}

static void on_limit(void *ctx)
{
    fail_msg("the connection's end does not come");
    loop_stop(ctx);
}

static int setup(void **state)
{
    static const connection_ops_t template = {.params = on_params, .closed = on_closed};
    static connection_ops_t ops;
    fixture_t *f = calloc(1, sizeof *f);
    int pair[2];

    assert_int_equal(loop_init(&f->loop, NULL), SB_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    ops = template;
    ops.ctx = f;
    f->peer = pair[1];
    f->conn = connection_open(&f->loop, pair[0], &ops);
    assert_non_null(f->conn);
    f->wake_fd = eventfd(0, EFD_CLOEXEC);
    f->wake = (loop_source_t){.fd = -1, .fn = on_wake, .ctx = f};
    f->limit = (loop_timer_t){.fn = on_limit, .ctx = &f->loop};
    loop_timer_set(&f->loop, &f->limit, 10000);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_t *f = *state;

    if (f->conn != NULL)
        connection_close(f->conn);
    loop_timer_clear(&f->loop, &f->limit);
    loop_free(&f->loop);
    close(f->wake_fd);
    free(f);
    return 0;
}

static void send_request(fixture_t *f)
{
    static const unsigned char begin[8] = {0, SB_FCGI_RESPONDER};
    sb_buf_t out = SB_BUF_INIT(1024);
    unsigned char head[8];

    sb_fcgi_header(head, SB_FCGI_BEGIN_REQUEST, 1, sizeof begin);
    sb_buf_add(&out, head, sizeof head);
    sb_buf_add(&out, begin, sizeof begin);
    sb_fcgi_eof(&out, SB_FCGI_PARAMS, 1);
    sb_fcgi_stream(&out, SB_FCGI_STDIN, 1, "abc", 3);
    sb_fcgi_eof(&out, SB_FCGI_STDIN, 1);
    assert_true(sb_buf_ok(&out));
    assert_int_equal(send(f->peer, out.data, out.len, MSG_NOSIGNAL), (ssize_t)out.len);
    sb_buf_free(&out);
}

/* The peer hangs up; in the same batch of events, after that was seen, `kind` happens. */
static void hang_up_and(fixture_t *f, kind_t kind)
{
    uint64_t one = 1;

    send_request(f);
    loop_run(&f->loop);
    assert_int_equal(f->completed, 1);
    f->loop.stop = false;
    f->kind = kind;
    assert_int_equal(loop_add(&f->loop, &f->wake, f->wake_fd, EPOLLIN), 0);
    close(f->peer); /* first: the kernel reports in this order */
    assert_int_equal(write(f->wake_fd, &one, sizeof one), sizeof one);
    loop_run(&f->loop);
    assert_int_equal(f->closed, 1);
    assert_int_equal(f->wake.fd, -1);
}

static void a_hang_up_is_told_to_who_has_not_answered(void **state)
{
    fixture_t *f = *state;

    hang_up_and(f, NOTHING);
    assert_int_equal(f->gone, 1);
}

/* It may be free by then, or have gone on to something that a hang-up must not end. */
#define NOT_TOLD(name, kind)                                                                       \
    static void a_hang_up_is_not_told_after_##name(void **state)                                   \
    {                                                                                              \
        fixture_t *f = *state;                                                                     \
        hang_up_and(f, kind);                                                                      \
        assert_int_equal(f->gone, 0);                                                              \
    }

NOT_TOLD(an_answer, ANSWER)
NOT_TOLD(a_file, ANSWER_FILE)
NOT_TOLD(a_refusal, REFUSE)
NOT_TOLD(the_end_of_a_stream, STREAM)

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hang_up_is_told_to_who_has_not_answered),
        TEST(a_hang_up_is_not_told_after_an_answer),
        TEST(a_hang_up_is_not_told_after_a_file),
        TEST(a_hang_up_is_not_told_after_a_refusal),
        TEST(a_hang_up_is_not_told_after_the_end_of_a_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
