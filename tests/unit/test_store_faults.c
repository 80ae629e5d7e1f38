/*
 * test_store_faults.c - the store under two processes, threads, kills, a full
 * map and a full disk.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libskillbox/store_internal.h"

#define KILLS 20

/* ---- writers ---- */

/* An id that can be computed again: two of them are written in each batch. */
static const char *id_of(unsigned writer, unsigned i, unsigned which)
{
    static char id[2][SB_UUID_LEN + 1];

    snprintf(id[which], sizeof(id[which]), "%08x-%04x-7000-8000-%012x", writer, which, i);
    return id[which];
}

/* One batch: two executions, a skill that comes and goes, an operation that fails. */
static sb_code_t write_batch(fixture_t *f, unsigned writer, unsigned i)
{
    char name[32], path[160];
    sb_skill_put_t p;
    sb_batch_t *b;
    sb_code_t rc;

    snprintf(name, sizeof(name), "up-%u", writer);
    snprintf(path, sizeof(path), "%s", upload(f, name, "package"));
    snprintf(name, sizeof(name), "skill-%u", i % 5);
    p = (sb_skill_put_t){.tenant = "acme",
                         .name = name,
                         .version = "1.0.0",
                         .mode = "executable",
                         .digest = digest_of(i % 7),
                         .package_tmp = path};
    rc = sb_batch_begin(f->st, &b, NULL);
    if (rc != SB_OK)
        return rc;
    for (unsigned which = 0; which < 2 && rc == SB_OK; which++) {
        sb_execution_finish_t e = {.tenant = "acme",
                                   .id = id_of(writer, i, which),
                                   .status = "success",
                                   .result = "{\"status\":\"success\"}",
                                   .result_len = 20,
                                   .logs = "",
                                   .created_ms = 1,
                                   .finished_ms = 2};
        rc = sb_batch_execution_finish(b, &e, NULL);
    }
    if (rc == SB_OK)
        rc = sb_batch_skill_put(b, &p, NULL);
    if (rc == SB_OK && i % 3 == 0)
        rc = sb_batch_skill_delete(b, "acme", name, NULL, NULL);
    if (rc == SB_OK && sb_batch_skill_delete(b, "acme", "none", NULL, NULL) != SB_ENOTFOUND)
        rc = SB_EINTERNAL;
    if (rc != SB_OK) {
        sb_batch_abort(b);
        return rc;
    }
    return sb_batch_commit(b, NULL);
}

static bool has_execution(fixture_t *f, const char *id)
{
    sb_execution_t e;
    sb_code_t rc = sb_store_execution_get(f->st, "acme", id, &e, NULL);

    assert_true(rc == SB_OK || rc == SB_ENOTFOUND);
    return rc == SB_OK;
}

static void two_processes_write_side_by_side(void **state)
{
    enum { WRITERS = 2, BATCHES = 100 };
    fixture_t *f = *state;
    pid_t pids[WRITERS];

    for (unsigned w = 0; w < WRITERS; w++) { /* both make the store, too: a race on purpose */
        pids[w] = fork_or_fail();
        if (pids[w] == 0) {
            CHILD_CHECK(sb_store_open(f->path, 64 << 20, true, &f->st, NULL) == SB_OK);
            for (unsigned i = 0; i < BATCHES; i++)
                CHILD_CHECK(write_batch(f, w, i) == SB_OK);
            sb_store_close(f->st);
            _exit(0);
        }
    }
    for (unsigned w = 0; w < WRITERS; w++)
        assert_int_equal(wait_for(pids[w]), 0);
    store_reopen(f);
    for (unsigned w = 0; w < WRITERS; w++) {
        for (unsigned i = 0; i < BATCHES; i++)
            assert_true(has_execution(f, id_of(w, i, 0)) && has_execution(f, id_of(w, i, 1)));
    }
    check_consistency(f->st);
}

/* Writes until it is killed, and tells of each commit through the pipe. */
static void write_until_killed(fixture_t *f, unsigned writer, int report)
{
    CHILD_CHECK(sb_store_open(f->path, 64 << 20, true, &f->st, NULL) == SB_OK);
    for (unsigned i = 0; i < 100000; i++) {
        CHILD_CHECK(write_batch(f, writer, i) == SB_OK);
        CHILD_CHECK(write(report, "c", 1) == 1);
    }
    _exit(0);
}

static void a_killed_writer_loses_nothing_that_was_committed(void **state)
{
    fixture_t *f = *state;
    unsigned total = 0;

    for (unsigned w = 0; w < KILLS; w++) {
        unsigned acknowledged = 0, i;
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
        for (unsigned n = 0; n <= w % 3; n++) { /* it is at work */
            assert_int_equal(read(report[0], &c, 1), 1);
            acknowledged++;
        }
        usleep(1000 + w * 1731 % 20000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(wait_for(pid), SIGKILL);
        while (read(report[0], &c, 1) == 1)
            acknowledged++;
        close(report[0]);

        store_reopen(f); /* sweeps what the writer was about to do */
        for (i = 0; i < acknowledged; i++)
            assert_true(has_execution(f, id_of(w, i, 0)) && has_execution(f, id_of(w, i, 1)));
        /* the batch after may be there or not, but not by half; none after that */
        assert_int_equal(has_execution(f, id_of(w, i, 0)), has_execution(f, id_of(w, i, 1)));
        assert_false(has_execution(f, id_of(w, i + 1, 0)));
        check_consistency(f->st);
        sb_store_close(f->st);
        f->st = NULL;
        total += acknowledged;
    }
    assert_true(total > KILLS);
}

/* ---- reading beside a writing thread ---- */

typedef struct {
    fixture_t *f;
    atomic_bool stop;
    unsigned batches;
    sb_code_t rc;
} writer_t;

static void *write_thread(void *arg)
{
    writer_t *w = arg;

    for (unsigned i = 0; i < 100000 && !atomic_load(&w->stop); i++) {
        w->rc = write_batch(w->f, 1, i);
        if (w->rc != SB_OK)
            break;
        w->batches++;
    }
    return NULL;
}

static void reads_are_whole_while_a_thread_writes(void **state)
{
    fixture_t *f = *state;
    writer_t w = {.f = f};
    int64_t end = sb_time_now_ms() + 1000;
    unsigned found = 0, reads = 0;
    sb_buf_t list = SB_BUF_INIT(1 << 20);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, write_thread, &w), 0);
    while (sb_time_now_ms() < end && reads < 10000000) {
        char name[16];
        sb_skill_t s;
        sb_code_t rc;

        snprintf(name, sizeof(name), "skill-%u", reads % 5);
        rc = sb_store_skill_get(f->st, "acme", name, "latest", &s, NULL);
        assert_true(rc == SB_OK || rc == SB_ENOTFOUND);
        if (rc == SB_OK) {
            assert_int_equal(s.json.len, strlen(s.json.data));
            assert_non_null(strstr(s.json.data, s.digest.data));
            assert_non_null(strstr(s.json.data, name));
            assert_int_equal(s.json.data[s.json.len - 1], '}');
            found++;
        }
        sb_buf_clear(&list);
        assert_int_equal(sb_store_skill_list(f->st, "acme", NULL, &list, NULL, NULL), SB_OK);
        assert_int_equal(list.data[list.len - 1], ']');
        reads++;
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    sb_buf_free(&list);
    assert_int_equal(w.rc, SB_OK);
    assert_true(w.batches > 10 && found > 10);
    check_consistency(f->st);
}

/* ---- forks, dead readers ---- */

static void a_forked_child_can_do_no_harm(void **state)
{
    fixture_t *f = *state;
    pid_t pid;

    assert_int_equal(begin_execution(f, "acme", id_of(1, 1, 0), getpid(), 1), SB_OK);
    pid = fork_or_fail();
    if (pid == 0) {
        sb_batch_t *b;
        CHILD_CHECK(sb_batch_begin(f->st, &b, NULL) == SB_EINTERNAL);
        sb_store_close(
            f->st); /* frees the child's memory, leaves the parent's locks and slot alone */
        CHILD_CHECK(sb_store_open(f->path, 0, false, &f->st, NULL) == SB_OK);
        CHILD_CHECK(sb_store_ping(f->st, NULL) == SB_OK);
        sb_store_close(f->st);
        _exit(0);
    }
    assert_int_equal(wait_for(pid), 0);
    assert_true(has_execution(f, id_of(1, 1, 0)));
    assert_int_equal(begin_execution(f, "acme", id_of(1, 2, 0), getpid(), 1), SB_OK);
    check_consistency(f->st);
}

typedef struct {
    int pid;
    int slots;
} slots_t;

static int count_slots(const char *msg, void *ctx)
{
    slots_t *s = ctx;
    int pid;

    s->slots += sscanf(msg, "%d", &pid) == 1 && pid == s->pid;
    return 0;
}

static void slots_of_dead_readers_are_freed(void **state)
{
    fixture_t *f = *state;
    slots_t slots = {0, 0};
    int ready[2];
    char c;

    assert_int_equal(pipe(ready), 0);
    slots.pid = fork_or_fail();
    if (slots.pid == 0) {
        sb_store_close(f->st);
        CHILD_CHECK(sb_store_open(f->path, 0, false, &f->st, NULL) == SB_OK);
        CHILD_CHECK(sb_store_ping(f->st, NULL) == SB_OK);
        CHILD_CHECK(write(ready[1], "r", 1) == 1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_true(mdb_reader_list(f->st->env, count_slots, &slots) >= 0);
    assert_int_equal(slots.slots, 1);
    kill(slots.pid, SIGKILL);
    wait_for(slots.pid);
    close(ready[0]);
    close(ready[1]);
    sb_store_check_readers(f->st);
    slots.slots = 0;
    assert_true(mdb_reader_list(f->st->env, count_slots, &slots) >= 0);
    assert_int_equal(slots.slots, 0);
}

/* Reading must not keep old pages: a worker that read once and idles, others that write on. */
static void an_idle_reader_pins_nothing(void **state)
{
    fixture_t *f = *state;
    MDB_envinfo before, after;
    sb_skill_t s;

    for (unsigned i = 0; i < 200; i++) {
        sb_skill_put_t p = skill_of(f, "acme", "a", "1.0.0", i);
        assert_int_equal(put_skill(f, &p, NULL), SB_OK);
        if (i == 100) {
            assert_int_equal(sb_store_skill_get(f->st, "acme", "a", "", &s, NULL), SB_OK);
            assert_int_equal(mdb_env_info(f->st->env, &before), 0);
        }
        assert_int_equal(delete_skill(f, "acme", "a", NULL), SB_OK);
    }
    assert_int_equal(mdb_env_info(f->st->env, &after), 0);
    assert_in_range(after.me_last_pgno, before.me_last_pgno, before.me_last_pgno + 16);
}

/* ---- a full map, a full disk ---- */

/* Fills the store with results of 20,000 bytes; the number that went in before the code other than
 * SB_OK. */
static unsigned fill(fixture_t *f, unsigned max, sb_err_t *err)
{
    static char result[20000];
    unsigned i;

    memset(result, 'x', sizeof(result));
    memcpy(result, "{\"a\":\"", 6);
    memcpy(result + sizeof(result) - 2, "\"}", 2);
    err->code = SB_OK;
    for (i = 0; i < max && err->code == SB_OK; i++) {
        sb_execution_finish_t e = {.tenant = "acme",
                                   .id = id_of(9, i, 0),
                                   .status = "success",
                                   .result = result,
                                   .result_len = sizeof(result),
                                   .logs = ""};
        sb_batch_t *b;

        if (sb_batch_begin(f->st, &b, err) != SB_OK)
            break;
        if (sb_batch_execution_finish(b, &e, err) != SB_OK) {
            sb_batch_abort(b);
            break;
        }
        if (sb_batch_commit(b, err) != SB_OK)
            break;
    }
    return i;
}

/* One result of so many bytes; the code of the operation, else of the commit. */
static sb_code_t add_result(fixture_t *f, const char *id, size_t bytes)
{
    static char result[100000];
    sb_execution_finish_t e = {.tenant = "acme",
                               .id = id,
                               .skill = "a",
                               .status = "success",
                               .result = result,
                               .result_len = bytes,
                               .logs = ""};
    sb_batch_t *b;
    sb_code_t code;

    memset(result, 'x', bytes);
    memcpy(result, "{\"a\":\"", 6);
    memcpy(result + bytes - 2, "\"}", 2);
    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    code = sb_batch_execution_finish(b, &e, NULL);
    sb_code_t end = sb_batch_commit(b, NULL);
    return code != SB_OK ? code : end;
}

static sb_code_t delete_result(fixture_t *f, const char *id)
{
    sb_batch_t *b;
    sb_code_t code;

    assert_int_equal(sb_batch_begin(f->st, &b, NULL), SB_OK);
    code = sb_batch_execution_delete(b, "acme", id, NULL, NULL);
    sb_code_t end = sb_batch_commit(b, NULL);
    return code != SB_OK ? code : end;
}

static void a_full_map_is_an_error_and_stays_readable(void **state)
{
    fixture_t *f = *state;
    sb_execution_t e;
    sb_err_t err;
    unsigned n;

    assert_ok(sb_store_open(f->path, 1 << 20, true, &f->st, &err), &err);
    n = fill(f, 1000, &err);
    assert_int_equal(err.code, SB_ENOSPACE);
    assert_in_range(n, 5, 60);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(sb_store_execution_get(f->st, "acme", id_of(9, i, 0), &e, &err), SB_OK);
    assert_false(has_execution(f, id_of(9, n, 0)));
    assert_int_equal(sb_store_ping(f->st, &err), SB_OK);
    check_consistency(f->st);
    /* until something is deleted nothing goes in, small as it may be */
    assert_int_equal(begin_execution(f, "acme", id_of(8, 1, 0), getpid(), 1), SB_ENOSPACE);
    for (unsigned i = 0; i < n - 1; i++)
        assert_int_equal(delete_result(f, id_of(9, i, 0)), SB_OK);
    assert_int_equal(begin_execution(f, "acme", id_of(8, 1, 0), getpid(), 1), SB_OK);
    store_reopen(f);
    assert_true(has_execution(f, id_of(9, n - 1, 0)) && has_execution(f, id_of(8, 1, 0)));
    check_consistency(f->st);
}

/* The operation that found the map full leaves the rest of its batch alone. */
static void a_batch_survives_the_operation_that_did_not_fit(void **state)
{
    fixture_t *f = *state;
    char *big = calloc(1, SB_LOG_MAX);
    sb_execution_finish_t e = {
        .tenant = "acme", .status = "success", .result = "{}", .result_len = 2};
    sb_batch_t *b;
    sb_err_t err;

    assert_non_null(big);
    assert_ok(sb_store_open(f->path, 1 << 20, true, &f->st, &err), &err);
    assert_ok(sb_batch_begin(f->st, &b, &err), &err);
    e.id = id_of(1, 1, 0);
    e.logs = "";
    assert_ok(sb_batch_execution_finish(b, &e, &err), &err);
    e.id = id_of(1, 2, 0);
    e.logs = big;
    e.logs_len = SB_LOG_MAX;
    assert_int_equal(sb_batch_execution_finish(b, &e, &err), SB_ENOSPACE);
    e.id = id_of(1, 3, 0);
    e.logs_len = 0;
    assert_ok(sb_batch_execution_finish(b, &e, &err), &err);
    assert_ok(sb_batch_commit(b, &err), &err);
    assert_true(has_execution(f, id_of(1, 1, 0)));
    assert_false(has_execution(f, id_of(1, 2, 0)));
    assert_true(has_execution(f, id_of(1, 3, 0)));
    check_consistency(f->st);
    free(big);
}

/* Filled to the brim, by large and small results: what frees must still be possible. */
static void a_full_map_is_emptied_by_deleting(void **state)
{
    static const size_t sizes[] = {90000, 20000, 3000, 100, 12};
    fixture_t *f = *state;
    unsigned n = 0, first = 0;
    sb_err_t err;

    assert_ok(sb_store_open(f->path, 2 << 20, true, &f->st, &err), &err);
    for (int round = 0; round < 20; round++) {
        for (size_t s = 0; s < 5; s++) {
            sb_code_t code;

            while ((code = add_result(f, id_of(9, n, 0), sizes[s])) == SB_OK)
                n++;
            assert_int_equal(code, SB_ENOSPACE);
        }
        for (int i = 0; i < 3 && first < n; i++, first++)
            assert_int_equal(delete_result(f, id_of(9, first, 0)), SB_OK);
    }
    check_consistency(f->st);
    while (first < n)
        assert_int_equal(delete_result(f, id_of(9, first++, 0)), SB_OK);
    assert_int_equal(add_result(f, id_of(9, n, 0), 90000), SB_OK);
    check_consistency(f->st);
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* A file system of 1 MiB on the folder, seen by this process alone; false when the host does not
 * let us. */
static bool mount_small(const char *folder)
{
    unsigned uid = geteuid(), gid = getegid();
    char map[32];

    if (uid != 0) {
        if (unshare(CLONE_NEWUSER) != 0 || !write_text("/proc/self/setgroups", "deny"))
            return false;
        snprintf(map, sizeof(map), "0 %u 1", uid);
        if (!write_text("/proc/self/uid_map", map))
            return false;
        snprintf(map, sizeof(map), "0 %u 1", gid);
        if (!write_text("/proc/self/gid_map", map))
            return false;
    }
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("full", folder, "tmpfs", 0, "size=1m") == 0;
}

/* In a child with a file system of 1 MiB of its own, when the host lets us make one (77: it does
 * not). */
static void fill_the_disk(fixture_t *f)
{
    sb_execution_t e;
    sb_err_t err;
    unsigned n;

    if (!mount_small(f->top))
        _exit(77);
    CHILD_CHECK(sb_store_open(f->path, 64 << 20, true, &f->st, &err) == SB_OK);
    n = fill(f, 1000, &err);
    if (err.code != SB_ENOSPACE)
        fprintf(stderr, "%u, then %d: %s\n", n, err.code, err.message);
    CHILD_CHECK(err.code == SB_ENOSPACE);
    CHILD_CHECK(n > 5);
    for (unsigned i = 0; i < n; i++)
        CHILD_CHECK(sb_store_execution_get(f->st, "acme", id_of(9, i, 0), &e, &err) == SB_OK);
    CHILD_CHECK(sb_store_execution_get(f->st, "acme", id_of(9, n, 0), &e, &err) == SB_ENOTFOUND);
    sb_store_close(f->st);
    CHILD_CHECK(sb_store_open(f->path, 0, false, &f->st, &err) == SB_OK);
    CHILD_CHECK(sb_store_execution_get(f->st, "acme", id_of(9, n - 1, 0), &e, &err) == SB_OK);
    sb_store_close(f->st);
    _exit(0);
}

static void a_full_disk_is_an_error_and_stays_readable(void **state)
{
    fixture_t *f = *state;
    pid_t pid = fork_or_fail();
    int status;

    if (pid == 0)
        fill_the_disk(f);
    status = wait_for(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, store_teardown)
#define WITH_STORE(test)  cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(two_processes_write_side_by_side),
        WITH_FOLDER(a_killed_writer_loses_nothing_that_was_committed),
        WITH_STORE(reads_are_whole_while_a_thread_writes),
        WITH_STORE(a_forked_child_can_do_no_harm),
        WITH_STORE(slots_of_dead_readers_are_freed),
        WITH_STORE(an_idle_reader_pins_nothing),
        WITH_FOLDER(a_full_map_is_an_error_and_stays_readable),
        WITH_FOLDER(a_full_map_is_emptied_by_deleting),
        WITH_FOLDER(a_batch_survives_the_operation_that_did_not_fit),
        WITH_FOLDER(a_full_disk_is_an_error_and_stays_readable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
