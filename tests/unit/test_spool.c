/* test_spool.c - the promises of spool.h and syncer.h. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../sandbox-helper/spool.h"

#define ID(n) "01890000-0000-7000-8000-00000000000" #n

typedef struct {
    char dir[64];
    int fd;
    loop_t loop;
    spool_t spool;
} fixture_t;

static int setup(void **state)
{
    fixture_t *f = calloc(1, sizeof *f);

    snprintf(f->dir, sizeof f->dir, "/tmp/sbspool-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(loop_init(&f->loop, NULL), SB_OK);
    f->spool.dir_fd = -1;
    assert_int_equal(spool_open(&f->spool, f->fd, &f->loop, NULL), SB_OK);
    *state = f;
    return 0;
}

static void ignore(void *ctx, const char *id, spool_kind_t kind)
{
    spool_remove(ctx, id, kind);
}

static int teardown(void **state)
{
    fixture_t *f = *state;
    char path[96];

    spool_each(&f->spool, ignore, &f->spool);
    spool_close(&f->spool);
    loop_free(&f->loop);
    snprintf(path, sizeof path, "%s/spool", f->dir);
    assert_int_equal(rmdir(path), 0); /* nothing is left in it */
    rmdir(f->dir);
    close(f->fd);
    free(f);
    return 0;
}

static int put(fixture_t *f, const char *id, spool_kind_t kind, const char *body, const char *facts)
{
    int fd = spool_create(&f->spool, id);

    assert_true(fd >= 0);
    assert_int_equal(spool_add(fd, body, strlen(body)), 0);
    assert_int_equal(spool_seal(fd, strlen(body), facts, strlen(facts)), 0);
    assert_int_equal(spool_keep(&f->spool, id, kind), 0);
    return fd;
}

static void what_was_written_is_read(void **state)
{
    fixture_t *f = *state;
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);
    char body[8] = "";
    uint64_t len = 0;

    close(put(f, ID(1), SPOOL_JOB, "body", "a: b\r\n"));
    assert_true(spool_has(&f->spool, ID(1), SPOOL_JOB));
    assert_int_equal(spool_started(&f->spool, ID(1)), 0);
    assert_false(spool_has(&f->spool, ID(1), SPOOL_JOB));
    int fd = spool_read(&f->spool, ID(1), SPOOL_RUN, &facts, &len);
    assert_true(fd >= 0);
    assert_int_equal(len, 4);
    assert_int_equal(read(fd, body, len), 4);
    assert_string_equal(body, "body");
    assert_string_equal(facts.data, "a: b\r\n");
    close(fd);
    assert_int_equal(spool_read(&f->spool, ID(2), SPOOL_RUN, &facts, &len), -1);
    assert_int_equal(errno, ENOENT);
    sb_buf_free(&facts);
}

static void count(void *ctx, const char *id, spool_kind_t kind)
{
    int *n = ctx;

    (void)id;
    (void)kind;
    ++*n;
}

/* Whatever a crash leaves of a file, it is not taken for a whole one, and it goes. */
static void a_file_that_was_cut_anywhere_is_none(void **state)
{
    fixture_t *f = *state;
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);
    uint64_t len;

    for (off_t cut = 0; cut < 4 + 6 + 16; cut++) {
        int fd = put(f, ID(1), SPOOL_DONE, "body", "a: b\r\n"), n = 0;

        assert_int_equal(ftruncate(fd, cut), 0);
        close(fd);
        assert_int_equal(spool_read(&f->spool, ID(1), SPOOL_DONE, &facts, &len), -1);
        assert_int_equal(errno, EBADMSG);
        spool_each(&f->spool, count, &n);
        assert_int_equal(n, 0);
        assert_false(spool_has(&f->spool, ID(1), SPOOL_DONE));
    }
    sb_buf_free(&facts);
}

static void lengths_that_lie_are_refused(void **state)
{
    fixture_t *f = *state;
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);
    unsigned char trailer[16];
    uint64_t len;

    for (size_t byte = 0; byte < sizeof trailer; byte++) {
        int fd = put(f, ID(1), SPOOL_DONE, "body", "a: b\r\n");

        assert_int_equal(pread(fd, trailer, sizeof trailer, 10), sizeof trailer);
        trailer[byte] ^= 0xff;
        assert_int_equal(pwrite(fd, trailer, sizeof trailer, 10), sizeof trailer);
        close(fd);
        assert_int_equal(spool_read(&f->spool, ID(1), SPOOL_DONE, &facts, &len), -1);
    }
    sb_buf_free(&facts);
}

static void collect(void *ctx, const char *id, spool_kind_t kind)
{
    char *text = ctx;

    sprintf(text + strlen(text), "%c%c ", id[SB_UUID_LEN - 1], "jrd"[kind]);
}

static void whole_files_come_in_the_order_of_their_ids(void **state)
{
    fixture_t *f = *state;
    char text[64] = "";

    close(put(f, ID(3), SPOOL_JOB, "", "x"));
    close(put(f, ID(1), SPOOL_RUN, "", "x"));
    close(put(f, ID(2), SPOOL_JOB, "", "x"));
    close(put(f, ID(2), SPOOL_DONE, "", "x"));
    close(spool_create(&f->spool, ID(9))); /* .tmp */
    spool_each(&f->spool, collect, text);
    assert_string_equal(text, "1r 2d 2j 3j ");
    memset(text, 0, sizeof text);
    spool_each(&f->spool, collect, text);
    assert_string_equal(text, "1r 2d 2j 3j ");
}

/* ---- the syncer ---- */

typedef struct {
    syncer_request_t request;
    loop_t *loop;
    int *left, order, errnum;
} waiter_t;

static void on_synced(syncer_request_t *r, int errnum)
{
    waiter_t *w = r->ctx;

    w->errnum = errnum;
    w->order = *w->left;
    if (--*w->left == 0 && w->loop != NULL)
        loop_stop(w->loop);
}

static void wait_for(fixture_t *f, waiter_t *w, int n, int *left, bool kill_it)
{
    int fd = spool_create(&f->spool, ID(1));

    assert_true(fd >= 0);
    for (int i = 0; i < n; i++) {
        w[i] = (waiter_t){.request = {.done = on_synced}, .loop = &f->loop, .left = left};
        w[i].request.ctx = &w[i];
        assert_int_equal(syncer_sync(&f->spool.syncer, &w[i].request, i % 3 == 0 ? -1 : fd), 0);
        if (kill_it && i == n / 2)
            kill(f->spool.syncer.pid, SIGKILL);
    }
    close(fd);
    spool_discard(&f->spool, ID(1));
}

static void all_are_answered_in_their_order(void **state)
{
    fixture_t *f = *state;
    waiter_t *w = calloc(500, sizeof *w);

    for (int round = 0; round < 2; round++) { /* in the second the child dies on the way */
        int left = 500;

        wait_for(f, w, 500, &left, round == 1);
        loop_run(&f->loop);
        assert_int_equal(left, 0);
        for (int i = 0; i < 500; i++) {
            assert_int_equal(w[i].errnum, 0);
            assert_int_equal(w[i].order, 500 - i);
        }
        f->loop.stop = false;
    }
    free(w);
}

static void what_is_under_way_at_the_end_is_told_so(void **state)
{
    fixture_t *f = *state;
    waiter_t w[5];
    int left = 5;

    wait_for(f, w, 5, &left, false);
    for (int i = 0; i < 5; i++)
        w[i].loop = NULL;
    syncer_close(&f->spool.syncer);
    assert_int_equal(left, 0);
    assert_int_equal(w[4].errnum, ECANCELED);
    assert_int_equal(syncer_open(&f->spool.syncer, &f->loop, f->spool.dir_fd, NULL), SB_OK);
}

#define SPOOL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPOOL_TEST(what_was_written_is_read),
        SPOOL_TEST(a_file_that_was_cut_anywhere_is_none),
        SPOOL_TEST(lengths_that_lie_are_refused),
        SPOOL_TEST(whole_files_come_in_the_order_of_their_ids),
        SPOOL_TEST(all_are_answered_in_their_order),
        SPOOL_TEST(what_is_under_way_at_the_end_is_told_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
