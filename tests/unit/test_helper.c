/* test_helper.c - the promises of sandbox-helper's small parts: runlog.h, loop.h,
 * rmtree.h, request.h. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../libskillbox/fastcgi.h"
#include "../../libskillbox/protocol.h"
#include "../../sandbox-helper/loop.h"
#include "../../sandbox-helper/request.h"
#include "../../sandbox-helper/rmtree.h"
#include "../../sandbox-helper/runlog.h"

/* ---- runlog ---- */

static void a_ring_keeps_the_last_bytes_however_they_come(void **state)
{
    enum { MAX = 5000 };
    static char all[40000], got[MAX];

    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)(i * 7 + i / 251);
    for (size_t piece = 1; piece < 12000; piece = piece * 3 + 1) {
        ring_t r;
        const char *p[2];
        size_t len[2];

        ring_init(&r, MAX);
        for (size_t at = 0; at < sizeof all; at += piece)
            ring_add(&r, all + at, piece < sizeof all - at ? piece : sizeof all - at);
        assert_int_equal(r.len, MAX);
        assert_int_equal(r.lost, sizeof all - MAX);
        ring_pieces(&r, p, len);
        assert_int_equal(len[0] + len[1], MAX);
        memcpy(got, p[0], len[0]);
        memcpy(got + len[0], p[1], len[1]);
        assert_memory_equal(got, all + sizeof all - MAX, MAX);
        ring_free(&r);
    }
}

static void a_short_log_is_all_live_and_has_no_tail(void **state)
{
    runlog_t l;
    sb_buf_t out = SB_BUF_INIT(SB_LOG_MAX * 2);

    runlog_init(&l);
    assert_int_equal(runlog_add(&l, "hello", 5), 5);
    runlog_finish(&l, &out);
    assert_int_equal(out.len, 0);
    runlog_free(&l);
    sb_buf_free(&out);
}

static void a_log_of_the_limit_is_whole_and_one_byte_more_is_marked(void **state)
{
    static char half[RUNLOG_HEAD];
    sb_buf_t out = SB_BUF_INIT(SB_LOG_MAX * 2);
    runlog_t l;

    memset(half, 'a', sizeof half);
    runlog_init(&l);
    assert_int_equal(runlog_add(&l, half, sizeof half), sizeof half);
    memset(half, 'b', sizeof half);
    assert_int_equal(runlog_add(&l, half, sizeof half), 0);
    runlog_finish(&l, &out);
    assert_int_equal(out.len, sizeof half);
    assert_memory_equal(out.data, half, sizeof half);

    assert_int_equal(runlog_add(&l, "c", 1), 0);
    sb_buf_clear(&out);
    runlog_finish(&l, &out);
    static const char marker[] = "\n[... 1 bytes left out ...]\n";
    assert_int_equal(out.len, sizeof half + sizeof marker - 1);
    assert_memory_equal(out.data, marker, sizeof marker - 1);
    assert_int_equal(out.data[out.len - 1], 'c');
    runlog_free(&l);
    sb_buf_free(&out);
}

/* ---- loop ---- */

typedef struct {
    loop_t *loop;
    loop_timer_t timer;
    int64_t after_ms;
    int *order, *n, id;
} ticker_t;

static void tick(void *ctx)
{
    ticker_t *t = ctx;

    t->order[(*t->n)++] = t->id;
    if (t->id == -1)
        loop_stop(t->loop);
}

static void timers_fire_in_order_and_cleared_ones_do_not(void **state)
{
    enum { N = 200 };
    static ticker_t t[N + 1];
    int order[N + 1], n = 0;
    loop_t loop;
    sb_err_t err = {0};

    assert_ok(loop_init(&loop, &err), &err);
    for (int i = 0; i <= N; i++) {
        int64_t after = i == N ? 60 : (i * 37) % 50;
        t[i] = (ticker_t){.loop = &loop, .order = order, .n = &n, .id = i == N ? -1 : (int)after};
        t[i].timer = (loop_timer_t){.fn = tick, .ctx = &t[i]};
        loop_timer_set(&loop, &t[i].timer, after + 20);
    }
    for (int i = 0; i < N; i += 3)
        loop_timer_clear(&loop, &t[i].timer);
    loop_run(&loop);
    assert_int_equal(n, N - (N + 2) / 3 + 1);
    for (int i = 1; i < n - 1; i++)
        assert_true(order[i - 1] <= order[i]);
    assert_int_equal(order[n - 1], -1);
    loop_free(&loop);
}

typedef struct {
    loop_t *loop;
    loop_source_t source;
    struct loop_pair *pair;
    int fired;
} end_t;

struct loop_pair {
    end_t a, b;
};

static void remove_other(void *ctx, uint32_t events)
{
    end_t *e = ctx;
    end_t *other = e == &e->pair->a ? &e->pair->b : &e->pair->a;

    e->fired++;
    loop_del(e->loop, &e->source);
    loop_del(e->loop, &other->source);
    loop_stop(e->loop);
}

static void a_source_removed_in_the_same_batch_does_not_fire(void **state)
{
    loop_t loop;
    sb_err_t err = {0};
    int p[2], q[2];
    struct loop_pair pair = {0};
    end_t *ends[] = {&pair.a, &pair.b};

    assert_ok(loop_init(&loop, &err), &err);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(pipe(q), 0);
    assert_int_equal(write(p[1], "x", 1) + write(q[1], "x", 1), 2);
    for (int i = 0; i < 2; i++) {
        ends[i]->loop = &loop;
        ends[i]->pair = &pair;
        ends[i]->source = (loop_source_t){.fn = remove_other, .ctx = ends[i]};
        assert_int_equal(loop_add(&loop, &ends[i]->source, i ? q[0] : p[0], EPOLLIN), 0);
    }
    loop_run(&loop);
    assert_int_equal(pair.a.fired + pair.b.fired, 1);
    loop_free(&loop);
    close(p[0]);
    close(p[1]);
    close(q[0]);
    close(q[1]);
}

/* ---- rmtree ---- */

static void make_deep(int at, int depth)
{
    char name[16];
    int fd = at;

    for (int i = 0; i < depth; i++) {
        snprintf(name, sizeof name, "d%d", i);
        assert_int_equal(mkdirat(fd, name, 0700), 0);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        assert_int_equal(symlinkat("../../../../../..", next, "up"), 0);
        int file = openat(next, "file", O_CREAT | O_WRONLY, 0000);
        assert_true(file >= 0);
        close(file);
        if (fd != at) {
            assert_int_equal(fchmod(fd, 0100), 0);
            close(fd);
        }
        fd = next;
    }
    close(fd);
}

static void a_deep_closed_tree_is_removed_without_following_links(void **state)
{
    char dir[] = "/tmp/sb-rmtree.XXXXXX", trash[64], precious[64], link[80];
    rmtree_t rt;
    int steps = 0;

    assert_non_null(mkdtemp(dir));
    snprintf(trash, sizeof trash, "%s/trash", dir);
    snprintf(precious, sizeof precious, "%s/precious", dir);
    snprintf(link, sizeof link, "%s/link", trash);
    assert_int_equal(mkdir(trash, 0700), 0);
    assert_int_equal(mkdir(precious, 0700), 0);
    assert_int_equal(symlink(precious, link), 0);
    int fd = open(trash, O_RDONLY | O_DIRECTORY);
    make_deep(fd, 100);
    rmtree_begin(&rt, fd);
    while (rmtree_step(&rt, 7))
        assert_true(++steps < 10000);
    assert_int_equal(rt.failed_errno, 0);
    assert_true(steps > 10); /* in steps, not at once */
    rmtree_end(&rt);
    close(fd);
    assert_int_equal(rmdir(trash), 0);    /* empty */
    assert_int_equal(rmdir(precious), 0); /* and this one was left alone */
    assert_int_equal(rmdir(dir), 0);
}

/* ---- request ---- */

static void good_params(sb_buf_t *b)
{
    static const char *const pairs[][2] = {
        {SB_P_OP, "run"},
        {SB_P_REQUEST_ID, "r-1"},
        {SB_P_TENANT, "default"},
        {SB_P_EXECUTION, "018F0000-0000-7000-8000-00000000ABCD"},
        {SB_P_SKILL, "a"},
        {SB_P_VERSION, "1.0.0"},
        {SB_P_DIGEST, "00000000000000000000000000000000000000000000000000000000000000ff"},
        {SB_P_LANG, "python"},
        {SB_P_IMAGE, ""},
        {SB_P_MODE, "entrypoint"},
        {SB_P_TARGET, "main.py"},
        {SB_P_TIMEOUT_MS, "99999999"},
        {SB_P_MEMORY, "134217728"},
        {SB_P_CPU_MILLI, "500"},
        {SB_P_JOB_LENGTH, "2"},
    };

    for (size_t i = 0; i < COUNT(pairs); i++)
        sb_fcgi_pair(b, pairs[i][0], pairs[i][1], strlen(pairs[i][1]));
}

static config_t limits(void)
{
    config_t c = {.nruntimes = STAGE_LANGS};

    for (int i = 0; i < STAGE_LANGS; i++)
        c.runtimes[i].limits =
            (stage_limits_t){.timeout_max_ms = 60000, .memory_max = SB_GIB, .cpu_max_milli = 4000};
    return c;
}

static void add(sb_buf_t *b, const char *name, const char *value)
{
    sb_fcgi_pair(b, name, value, strlen(value));
}

static sb_code_t parse_op(const char *op, const char *id, const char *offset, const char *follow)
{
    sb_buf_t b = SB_BUF_INIT(SB_PARAMS_MAX);
    config_t c = limits();
    request_t r;

    add(&b, SB_P_OP, op);
    add(&b, SB_P_EXECUTION, id);
    add(&b, SB_P_OFFSET, offset);
    add(&b, SB_P_FOLLOW, follow);
    sb_code_t rc = request_parse(b.data, b.len, &c, &r, NULL);
    sb_buf_free(&b);
    return rc;
}

static void operations_on_an_execution_need_its_id_and_numbers_within_bounds(void **state)
{
    const char *id = "018f0000-0000-7000-8000-00000000abcd";

    assert_int_equal(parse_op("cancel", id, "", ""), SB_OK);
    assert_int_equal(parse_op("cancel", "x", "", ""), SB_EINVAL);
    assert_int_equal(parse_op("attach", id, "0", "1"), SB_OK);
    assert_int_equal(parse_op("attach", id, "4194304", "0"), SB_OK);
    assert_int_equal(parse_op("attach", "", "0", "1"), SB_EINVAL);
    assert_int_equal(parse_op("attach", id, "4194305", "1"), SB_EINVAL);
    assert_int_equal(parse_op("attach", id, "-1", "1"), SB_EINVAL);
    assert_int_equal(parse_op("attach", id, "", "1"), SB_EINVAL);
    assert_int_equal(parse_op("attach", id, "0", "2"), SB_EINVAL);
    assert_int_equal(parse_op("detach", id, "0", "1"), SB_EINVAL);
}

static void a_submit_can_be_identified_when_nothing_else_of_it_is_valid(void **state)
{
    sb_buf_t b = SB_BUF_INIT(SB_PARAMS_MAX);
    request_t r;

    add(&b, SB_P_OP, "submit");
    add(&b, SB_P_TENANT, "acme");
    add(&b, SB_P_EXECUTION, "018f0000-0000-7000-8000-00000000abcd");
    add(&b, SB_P_SKILL, "a");
    add(&b, SB_P_VERSION, "1.0.0");
    add(&b, SB_P_LANG, "cobol");
    assert_int_equal(request_identify(b.data, b.len, &r), SB_EINVAL); /* when was it asked for? */
    add(&b, SB_P_CREATED, "1700000000000");
    assert_int_equal(request_identify(b.data, b.len, &r), SB_OK);
    assert_string_equal(r.tenant, "acme");
    assert_string_equal(r.skill, "a");
    assert_true(r.created_ms == 1700000000000);
    assert_int_equal(request_identify(b.data, b.len - 1, &r), SB_EINVAL);
    sb_buf_free(&b);
}

static void a_run_is_understood_lowered_to_the_limits_and_its_id_made_canonical(void **state)
{
    sb_buf_t b = SB_BUF_INIT(SB_PARAMS_MAX);
    config_t c = limits();
    request_t r;
    sb_err_t err = {0};

    good_params(&b);
    assert_ok(request_parse(b.data, b.len, &c, &r, &err), &err);
    assert_int_equal(r.op, OP_RUN);
    assert_string_equal(r.execution, "018f0000-0000-7000-8000-00000000abcd");
    assert_int_equal(r.timeout_ms, 60000);
    assert_int_equal(r.memory, 134217728);
    assert_int_equal(r.lang, STAGE_PYTHON);
    sb_buf_free(&b);
}

static void params_cut_anywhere_never_pass_and_never_overrun(void **state)
{
    sb_buf_t b = SB_BUF_INIT(SB_PARAMS_MAX);
    config_t c = limits();
    request_t r;

    good_params(&b);
    for (size_t len = 0; len < b.len; len++) {
        char *cut = malloc(len + 1); /* of its own, so that a sanitizer sees an overrun */
        memcpy(cut, b.data, len);
        assert_int_equal(request_parse(cut, len, &c, &r, NULL), SB_EINVAL);
        free(cut);
    }
    sb_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_keeps_the_last_bytes_however_they_come),
        cmocka_unit_test(a_short_log_is_all_live_and_has_no_tail),
        cmocka_unit_test(a_log_of_the_limit_is_whole_and_one_byte_more_is_marked),
        cmocka_unit_test(timers_fire_in_order_and_cleared_ones_do_not),
        cmocka_unit_test(a_source_removed_in_the_same_batch_does_not_fire),
        cmocka_unit_test(a_deep_closed_tree_is_removed_without_following_links),
        cmocka_unit_test(a_run_is_understood_lowered_to_the_limits_and_its_id_made_canonical),
        cmocka_unit_test(operations_on_an_execution_need_its_id_and_numbers_within_bounds),
        cmocka_unit_test(a_submit_can_be_identified_when_nothing_else_of_it_is_valid),
        cmocka_unit_test(params_cut_anywhere_never_pass_and_never_overrun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
