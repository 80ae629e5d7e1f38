/*
 * test_store_journal.c - runs that are in a journal before they are in the store: batches and their
 * damage, processes that die at any moment, what was applied, a full store, a store's own journals.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libskillbox/store_internal.h"
#include "../../libskillbox/store_journal.h"

#define KILLS 12
#define BLOCK 4096

static const char result[] = "{\"status\":\"success\",\"output\":{\"n\":1}}";

static const char *id_of(unsigned writer, unsigned i)
{
    static char id[SB_UUID_LEN + 1];

    snprintf(id, sizeof(id), "%08x-0000-7000-8000-%012x", writer, i);
    return id;
}

static sb_execution_finish_t run_of(const char *id)
{
    return (sb_execution_finish_t){.tenant = "acme",
                                   .id = id,
                                   .skill = "count",
                                   .status = "success",
                                   .result = result,
                                   .result_len = strlen(result),
                                   .logs = "a line\n",
                                   .logs_len = 7,
                                   .created_ms = 1000,
                                   .finished_ms = 2000};
}

static bool has(fixture_t *f, const char *id)
{
    sb_execution_t e;
    sb_code_t rc = sb_store_execution_get(f->st, "acme", id, &e, NULL);

    assert_true(rc == SB_OK || rc == SB_ENOTFOUND);
    if (rc == SB_OK) {
        assert_string_equal(e.status.data, "success");
        assert_non_null(strstr(e.json.data, "\"output\":{\"n\":1}"));
        assert_string_equal(e.logs.data, "a line\n");
    }
    return rc == SB_OK;
}

static sb_journal_t *journal(fixture_t *f)
{
    sb_journal_t *j;
    sb_err_t err;

    assert_ok(sb_journal_open(f->st, &j, &err), &err);
    return j;
}

/* One run in a batch of its own, which the caller frees. */
static sb_buf_t written(sb_journal_t *j, const char *id, uint64_t *seq)
{
    sb_execution_finish_t e = run_of(id);
    sb_buf_t text = SB_BUF_INIT(0);
    sb_err_t err;

    sb_journal_begin(&text);
    assert_true(sb_journal_add(&text, &e));
    assert_ok(sb_journal_write(j, &text, seq, &err), &err);
    return text;
}

static void write_run(sb_journal_t *j, const char *id)
{
    uint64_t seq;
    sb_buf_t text = written(j, id, &seq);

    sb_buf_free(&text);
}

static void apply(fixture_t *f, sb_journal_t *j, const sb_buf_t *text, uint64_t seq)
{
    sb_batch_t *b;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    assert_ok(sb_batch_journal(b, text->data, text->len, &err), &err);
    assert_ok(sb_batch_journal_applied(b, j, seq, &err), &err);
    assert_ok(sb_batch_commit(b, &err), &err);
}

static void delete_run(fixture_t *f, const char *id)
{
    sb_batch_t *b;
    sb_err_t err;

    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    assert_ok(sb_batch_execution_delete(b, "acme", id, NULL, &err), &err);
    assert_ok(sb_batch_commit(b, &err), &err);
}

/* ---- batches ---- */

static void a_batch_reads_as_it_was_written(void **state)
{
    sb_execution_finish_t in[3] = {run_of("a"), run_of("b"), run_of("c")}, out;
    sb_buf_t text = SB_BUF_INIT(0);
    sb_journal_batch_t batch;

    in[1].inputs = "00000000-0000-7000-8000-000000000001";
    in[2].logs = "";
    in[2].logs_len = 0;
    sb_journal_begin(&text);
    for (size_t i = 0; i < COUNT(in); i++)
        assert_true(sb_journal_add(&text, &in[i]));
    sb_journal_seal(&text, 77);
    assert_true(sb_journal_read(text.data, text.len, &batch));
    assert_int_equal(batch.seq, 77);
    assert_int_equal(batch.len, text.len);
    for (size_t i = 0; i < COUNT(in); i++) {
        assert_true(sb_journal_next(&batch, &out));
        assert_string_equal(out.tenant, "acme");
        assert_string_equal(out.id, in[i].id);
        assert_string_equal(out.skill, "count");
        assert_string_equal(out.status, "success");
        assert_string_equal(out.inputs, in[i].inputs != NULL ? in[i].inputs : "");
        assert_int_equal(out.result_len, strlen(result));
        assert_memory_equal(out.result, result, out.result_len);
        assert_int_equal(out.logs_len, in[i].logs_len);
        assert_memory_equal(out.logs, in[i].logs, out.logs_len);
        assert_int_equal(out.created_ms, 1000);
        assert_int_equal(out.finished_ms, 2000);
    }
    assert_false(sb_journal_next(&batch, &out));
    assert_int_equal(batch.left, 0);
    sb_buf_free(&text);
}

static void a_damaged_batch_is_none(void **state)
{
    sb_execution_finish_t e = run_of("a");
    sb_buf_t text = SB_BUF_INIT(0);
    sb_journal_batch_t batch;

    sb_journal_begin(&text);
    assert_true(sb_journal_add(&text, &e));
    sb_journal_seal(&text, 1);
    for (size_t len = 0; len < text.len; len++)
        assert_false(sb_journal_read(text.data, len, &batch));
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 0x10;
        assert_false(sb_journal_read(text.data, text.len, &batch));
        text.data[i] ^= 0x10;
    }
    assert_true(sb_journal_read(text.data, text.len, &batch));
    sb_buf_free(&text);
}

static void what_does_not_fit_leaves_the_batch_as_it_was(void **state)
{
    static char large[SB_JOURNAL_ENTRY_MAX];
    sb_execution_finish_t e = run_of("a"), big = run_of("b"), out;
    sb_buf_t text = SB_BUF_INIT(0);
    sb_journal_batch_t batch;
    unsigned n = 1;

    big.logs = large;
    big.logs_len = sizeof(large);
    sb_journal_begin(&text);
    assert_true(sb_journal_add(&text, &e));
    assert_false(sb_journal_add(&text, &big));
    big.logs_len = sizeof(large) - 1024;
    while (sb_journal_add(&text, &big))
        n++;
    assert_in_range(n, 3, 5);
    assert_true(text.len <= SB_JOURNAL_BATCH_MAX);
    sb_journal_seal(&text, 1);
    assert_true(sb_journal_read(text.data, text.len, &batch));
    for (unsigned i = 0; i < n; i++)
        assert_true(sb_journal_next(&batch, &out));
    assert_false(sb_journal_next(&batch, &out));
    assert_int_equal(batch.left, 0);
    sb_buf_free(&text);
}

/* ---- recovery ---- */

static void what_was_written_is_there_after_the_next_opening(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    uint64_t applied;
    sb_err_t err;

    for (unsigned i = 0; i < 5; i++)
        write_run(j, id_of(1, i));
    assert_false(has(f, id_of(1, 0)));
    sb_journal_close(j);
    store_reopen(f);
    for (unsigned i = 0; i < 5; i++)
        assert_true(has(f, id_of(1, i)));
    check_consistency(f->st);
    assert_ok(sb_store_read_begin(f->st, &err), &err);
    assert_int_equal(sb_store_meta_get(f->st, f->st->read, "journal:0", &applied), 0);
    sb_store_read_end(f->st);
    assert_int_equal(applied, 5);
}

static void what_was_deleted_does_not_come_back(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    uint64_t seq;
    sb_buf_t text = written(j, id_of(1, 1), &seq);

    apply(f, j, &text, seq);
    sb_buf_free(&text);
    delete_run(f, id_of(1, 1));
    sb_journal_close(j); /* the batch still stands in the file */
    store_reopen(f);
    assert_false(has(f, id_of(1, 1)));
    check_consistency(f->st);
}

static void a_run_that_is_in_the_store_already_is_not_counted_twice(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    uint64_t seq;
    sb_buf_t text = written(j, id_of(1, 1), &seq);
    sb_batch_t *b;
    sb_err_t err;

    /* the process was killed between the two: committed, but by an older program, say */
    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    assert_ok(sb_batch_journal(b, text.data, text.len, &err), &err);
    assert_ok(sb_batch_commit(b, &err), &err);
    sb_buf_free(&text);
    sb_journal_close(j);
    store_reopen(f);
    assert_true(has(f, id_of(1, 1)));
    check_consistency(f->st);
}

static void a_torn_batch_ends_a_journal(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    char path[128], byte = 'x';
    int fd;

    for (unsigned i = 0; i < 3; i++)
        write_run(j, id_of(1, i));
    sb_journal_close(j);
    snprintf(path, sizeof(path), "%s/journal/0", f->path);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, 3 * BLOCK + 100), 1);
    close(fd);
    store_reopen(f);
    assert_true(has(f, id_of(1, 0)) && has(f, id_of(1, 1)));
    assert_false(has(f, id_of(1, 2)));
    check_consistency(f->st);
}

/* Written over many times, with what was there before behind it. */
static void laps_are_told_apart(void **state)
{
    fixture_t *f = *state;
    unsigned next = 0;

    for (unsigned lap = 0; lap < 6; lap++) {
        sb_journal_t *j = journal(f);
        const unsigned applied = 7 - lap, left = lap % 3;

        for (unsigned i = 0; i < applied; i++) {
            uint64_t seq;
            sb_buf_t text = written(j, id_of(2, next++), &seq);

            apply(f, j, &text, seq);
            sb_buf_free(&text);
        }
        sb_journal_rewind(j);
        for (unsigned i = 0; i < left; i++)
            write_run(j, id_of(2, next++));
        sb_journal_close(j);
        store_reopen(f);
        for (unsigned i = 0; i < next; i++)
            assert_true(has(f, id_of(2, i)));
        assert_false(has(f, id_of(2, next)));
        check_consistency(f->st);
    }
}

static void a_full_journal_takes_no_more_until_it_is_rewound(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    sb_buf_t text = SB_BUF_INIT(0);
    sb_execution_finish_t e = run_of(id_of(3, 0));
    unsigned n = 0;
    uint64_t seq;

    while (sb_journal_room(j, BLOCK))
        write_run(j, id_of(3, n++));
    assert_int_equal(n, SB_JOURNAL_BYTES / BLOCK - 1);
    sb_journal_begin(&text);
    assert_true(sb_journal_add(&text, &e));
    assert_int_equal(sb_journal_write(j, &text, &seq, NULL), SB_EBUSY);
    sb_buf_free(&text);
    sb_journal_close(j);
    store_reopen(f);
    for (unsigned i = 0; i < n; i++)
        assert_true(has(f, id_of(3, i)));
    j = journal(f);
    write_run(j, id_of(3, n));
    sb_journal_close(j);
    store_reopen(f);
    assert_true(has(f, id_of(3, n)));
    check_consistency(f->st);
}

static void a_file_of_another_store_is_none_of_ours(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    char path[128];
    uint64_t other = 1;
    int fd;

    write_run(j, id_of(1, 0));
    sb_journal_close(j);
    snprintf(path, sizeof(path), "%s/journal/0", f->path);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &other, sizeof(other), 8), sizeof(other));
    close(fd);
    store_reopen(f);
    assert_false(has(f, id_of(1, 0)));
    j = journal(f); /* and is made anew */
    write_run(j, id_of(1, 1));
    sb_journal_close(j);
    store_reopen(f);
    assert_false(has(f, id_of(1, 0)));
    assert_true(has(f, id_of(1, 1)));
}

/* Until the map has no page left; then one more run, which was answered. */
static void an_answered_run_gets_the_room_that_is_kept_back(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *j = journal(f);
    sb_code_t rc = SB_OK;
    unsigned n;

    for (n = 0; rc == SB_OK && n < 100000; n++) {
        sb_batch_t *b;

        rc = sb_batch_begin(f->st, &b, NULL);
        for (unsigned i = 0; rc == SB_OK && i < 50; i++) {
            sb_execution_finish_t e = run_of(id_of(n + 10, i));

            rc = sb_batch_execution_finish(b, &e, NULL);
        }
        if (rc == SB_OK)
            rc = sb_batch_commit(b, NULL);
        else
            (void)sb_batch_commit(b, NULL);
    }
    assert_int_equal(rc, SB_ENOSPACE);
    write_run(j, id_of(1, 1));
    sb_journal_close(j);
    store_reopen(f);
    assert_true(has(f, id_of(1, 1)));
    check_consistency(f->st);
}

/* ---- processes ---- */

/* Writes and applies in turn until it is killed, and tells of each run that is written. */
static void __attribute__((noreturn)) write_until_killed(fixture_t *f, unsigned writer, int report)
{
    sb_journal_t *j;

    CHILD_CHECK(sb_store_open(f->path, 64 << 20, true, &f->st, NULL) == SB_OK);
    CHILD_CHECK(sb_journal_open(f->st, &j, NULL) == SB_OK);
    for (unsigned i = 0; i < 100000; i++) {
        sb_execution_finish_t e = run_of(id_of(writer, i));
        sb_buf_t text = SB_BUF_INIT(0);
        sb_batch_t *b;
        uint64_t seq;

        sb_journal_begin(&text);
        CHILD_CHECK(sb_journal_add(&text, &e));
        CHILD_CHECK(sb_journal_write(j, &text, &seq, NULL) == SB_OK);
        CHILD_CHECK(write(report, "w", 1) == 1);
        if (i % 3 != 2)
            CHILD_CHECK(sb_batch_begin(f->st, &b, NULL) == SB_OK &&
                        sb_batch_journal(b, text.data, text.len, NULL) == SB_OK &&
                        sb_batch_commit(b, NULL) == SB_OK);
        else
            CHILD_CHECK(sb_batch_begin(f->st, &b, NULL) == SB_OK &&
                        sb_batch_journal(b, text.data, text.len, NULL) == SB_OK &&
                        sb_batch_journal_applied(b, j, seq, NULL) == SB_OK &&
                        sb_batch_commit(b, NULL) == SB_OK);
        if (i % 3 == 2)
            sb_journal_rewind(j);
        sb_buf_free(&text);
    }
    _exit(0);
}

static void a_killed_process_loses_nothing_that_it_has_told(void **state)
{
    fixture_t *f = *state;
    unsigned total = 0;

    for (unsigned w = 0; w < KILLS; w++) {
        unsigned told = 0;
        int report[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe(report), 0);
        pid = fork_or_fail();
        if (pid == 0) {
            close(report[0]);
            write_until_killed(f, w, report[1]);
        }
        close(report[1]);
        for (unsigned n = 0; n <= w % 4; n++) {
            assert_int_equal(read(report[0], &c, 1), 1);
            told++;
        }
        usleep(500 + w * 1731 % 9000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(wait_for(pid), SIGKILL);
        while (read(report[0], &c, 1) == 1)
            told++;
        close(report[0]);
        store_reopen(f);
        for (unsigned i = 0; i < told; i++)
            assert_true(has(f, id_of(w, i)));
        assert_false(has(f, id_of(w, told + 1)));
        check_consistency(f->st);
        sb_store_close(f->st);
        f->st = NULL;
        total += told;
    }
    assert_true(total > KILLS);
}

/* The living process's is left alone; when it is dead, who has the store open can have it applied.
 */
static void only_the_dead_are_inherited(void **state)
{
    fixture_t *f = *state;
    sb_journal_t *own;
    int ready[2];
    sb_err_t err;
    pid_t pid;
    char c;

    assert_int_equal(pipe(ready), 0);
    pid = fork_or_fail();
    if (pid == 0) {
        sb_journal_t *j;

        CHILD_CHECK(sb_store_open(f->path, 64 << 20, true, &f->st, NULL) == SB_OK);
        CHILD_CHECK(sb_journal_open(f->st, &j, NULL) == SB_OK);
        write_run(j, id_of(1, 1));
        CHILD_CHECK(write(ready[1], "r", 1) == 1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    store_reopen(f);
    assert_false(has(f, id_of(1, 1)));
    own = journal(f); /* another one */
    write_run(own, id_of(1, 2));
    assert_ok(sb_store_recover(f->st, &err), &err);
    assert_false(has(f, id_of(1, 1)) || has(f, id_of(1, 2)));
    kill(pid, SIGKILL);
    assert_int_equal(wait_for(pid), SIGKILL);
    assert_ok(sb_store_recover(f->st, &err), &err);
    assert_true(has(f, id_of(1, 1)));
    assert_false(has(f, id_of(1, 2)));
    sb_journal_close(own);
    assert_ok(sb_store_recover(f->st, &err), &err);
    assert_true(has(f, id_of(1, 2)));
    close(ready[0]);
    close(ready[1]);
    check_consistency(f->st);
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, store_teardown)
#define WITH_STORE(test)  cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_reads_as_it_was_written),
        cmocka_unit_test(a_damaged_batch_is_none),
        cmocka_unit_test(what_does_not_fit_leaves_the_batch_as_it_was),
        WITH_STORE(what_was_written_is_there_after_the_next_opening),
        WITH_STORE(what_was_deleted_does_not_come_back),
        WITH_STORE(a_run_that_is_in_the_store_already_is_not_counted_twice),
        WITH_STORE(a_torn_batch_ends_a_journal),
        WITH_STORE(laps_are_told_apart),
        WITH_STORE(a_full_journal_takes_no_more_until_it_is_rewound),
        WITH_STORE(a_file_of_another_store_is_none_of_ours),
        WITH_STORE(an_answered_run_gets_the_room_that_is_kept_back),
        WITH_FOLDER(a_killed_process_loses_nothing_that_it_has_told),
        WITH_FOLDER(only_the_dead_are_inherited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
