/*
 * test_collect.c - a run's result through the real sandbox-packer: status, error and
 * output; and a main that errs.  The artifacts are in test_artifacts.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/sys.h"
#include "collect_run.h"

/* ---- the result ---- */

static void a_run_without_results_is_a_success(void **state)
{
    collect_task_t task = exited(0);

    run_collect(&task);
    assert_string_equal(run.text,
                        "{\"status\":\"success\",\"duration_ms\":12,\"error\":null,\"exit_code\":0,"
                        "\"usage\":{\"cpu_ms\":7,\"max_rss_bytes\":4096,\"wall_ms\":12},"
                        "\"skill_name\":\"probe\",\"skill_version\":\"1.0.0\"}");
    assert_int_equal(run.report.failed, 0);
    assert_untouched_archive();
}

static void without_an_archive_there_is_a_result_and_no_file(void **state)
{
    collect_task_t task = exited(0);

    task.have_archive = 0;
    run_collect(&task);
    assert_non_null(strstr(run.text, "\"status\":\"success\""));
    assert_int_equal(run.report.files, 0);
    assert_int_equal(run.report.http_status, 200);
    assert_untouched_archive();
}

static void output_is_compacted_and_nothing_of_it_changes(void **state)
{
    collect_task_t task = exited(0);

    put_text(
        run.out, "output.json",
        "\xef\xbb\xbf{ \"z\" : [ 1.10, 123456789012345678901234567890, 1e400, -0 ],\r\n"
        " \"a\":\t{ }, \"a\" : \"\\u00e9\\/ \xc3\xa9\", \"lone\": \"\\ud800x\\uD83D\\uDE00\" }\n");
    run_collect(&task);
    assert_non_null(strstr(
        run.text, "\"output\":{\"z\":[1.10,123456789012345678901234567890,1e400,-0],\"a\":{},"
                  "\"a\":\"\\u00e9\\/ \xc3\xa9\",\"lone\":\"\\ufffdx\\uD83D\\uDE00\"},\"duration"));
    assert_non_null(strstr(run.text, "\"status\":\"success\""));
}

static void any_json_value_is_an_output(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "output.json", " null ");
    run_collect(&task);
    assert_true(json_is_null(json_object_get(run.json, "output")));
    assert_string_equal(run_text("status"), "success");
}

static void assert_bad_output(const char *text, size_t len, const char *error)
{
    collect_task_t task = exited(0);

    put(run.out, "output.json", text, len);
    run_collect(&task);
    assert_string_equal(run_text("status"), "failed");
    assert_string_equal(run_text("error"), error);
    assert_int_equal(run.report.failed, 1);
    assert_null(json_object_get(run.json, "output"));
    assert_int_equal(json_integer_value(json_object_get(run.json, "exit_code")), 0);
}

#define BAD "output.json is not valid JSON: "

static void bad_output_fails_the_run_and_says_where(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", BAD "it is empty"},
        {"  \n", BAD "line 2, column 1: it ends too early"},
        {"{\n \"a\": NaN}", BAD "line 2, column 7: a value was expected"},
        {"{\"a\":1,}", BAD "line 1, column 8: a key in quotes was expected"},
        {"[1 2]", BAD "line 1, column 4: ',' or ']' was expected"},
        {"{\"a\":1 \"b\"}", BAD "line 1, column 8: ',' or '}' was expected"},
        {"[01]", BAD "line 1, column 3: ',' or ']' was expected"},
        {"[1.]", BAD "line 1, column 4: a malformed number"},
        {"\"\xff\"", BAD "line 1, column 2: not UTF-8"},
        {"\"\xed\xa0\x80\"", BAD "line 1, column 2: not UTF-8"},
        {"\"a\nb\"", BAD "line 1, column 3: a control character in a string"},
        {"\"\\x\"", BAD "line 1, column 2: an unknown escape in a string"},
        {"\"\\u12g4\"", BAD "line 1, column 2: \\u is not followed by four hex digits"},
        {"\"abc", BAD "line 1, column 5: a string is not closed"},
        {"{} x", BAD "line 1, column 4: something follows the value"},
        {"{'a':1}", BAD "line 1, column 2: a key in quotes was expected"},
        {"tru", BAD "line 1, column 1: a value was expected"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_bad_output(cases[i].text, strlen(cases[i].text), cases[i].error);
        run_fresh();
    }
}

static void nesting_is_bounded(void **state)
{
    char deep[600];
    collect_task_t task = exited(0);

    memset(deep, '[', 256);
    memset(deep + 256, ']', 256);
    put(run.out, "output.json", deep, 512);
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
    run_fresh();
    memset(deep, '[', 257);
    memset(deep + 257, ']', 257);
    assert_bad_output(deep, 514, BAD "line 1, column 257: nested too deeply");
}

static void output_over_the_limit_is_refused(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "output.json", "1");
    make_sparse(run.out, "output.json", SB_OUTPUT_MAX + 1);
    run_collect(&task);
    assert_string_equal(run_text("error"), "output.json is larger than 8 MiB");
    assert_string_equal(run_text("status"), "failed");
}

static void a_full_size_output_of_small_values_fits(void **state)
{
    collect_task_t task = exited(0);
    char *text = malloc(SB_OUTPUT_MAX);

    assert_non_null(text);
    text[0] = '[';
    for (size_t i = 1; i + 3 < SB_OUTPUT_MAX; i += 3) {
        memcpy(text + i, "{},", 3);
    }
    memset(text + SB_OUTPUT_MAX - 4, ' ', 4);
    memcpy(text + SB_OUTPUT_MAX - 8, "1   ", 4);
    text[SB_OUTPUT_MAX - 1] = ']';
    for (size_t i = SB_OUTPUT_MAX - 9; text[i] != ','; i--) {
        text[i] = ' ';
    }
    put(run.out, "output.json", text, SB_OUTPUT_MAX);
    free(text);
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
    assert_true(run.report.answer_len > SB_OUTPUT_MAX - 64);
}

static void an_output_that_is_no_file_is_refused(void **state)
{
    collect_task_t task = exited(0);

    assert_int_equal(symlinkat("/etc/passwd", run.out, "output.json"), 0);
    run_collect(&task);
    assert_string_equal(run_text("error"), "output.json is not a regular file");
    assert_null(strstr(run.text, "root:"));
    run_fresh();
    assert_int_equal(mkfifoat(run.out, "output.json", 0644), 0);
    run_collect(&task);
    assert_string_equal(run_text("error"), "output.json is not a regular file");
}

static void a_failed_run_keeps_its_output_and_its_own_error(void **state)
{
    collect_task_t task = exited(3);

    put_text(run.out, "output.json", "{\"partial\": true}");
    run_collect(&task);
    assert_string_equal(run_text("status"), "failed");
    assert_string_equal(run_text("error"), "exited with code 3");
    assert_true(json_is_true(json_object_get(json_object_get(run.json, "output"), "partial")));
    assert_int_equal(run.report.failed, 0);
    run_fresh();
    put_text(run.out, "output.json", "{\"cut");
    run_collect(&task);
    assert_string_equal(run_text("error"), "exited with code 3");
    assert_true(run_warned("output.json is not valid JSON"));
}

static void assert_end(collect_task_t task, const char *status, const char *error)
{
    run_collect(&task);
    assert_string_equal(run_text("status"), status);
    assert_string_equal(run_text("error"), error);
    assert_null(json_object_get(run.json, "exit_code"));
}

static void each_end_has_its_status_and_error(void **state)
{
    collect_task_t task = exited(-1);

    task.signal = SIGSEGV;
    assert_end(task, "failed", "killed by signal SIGSEGV");
    run_fresh();
    task.signal = SIGRTMIN + 5;
    assert_end(task, "failed", "killed by signal 39");
    run_fresh();
    task.signal = SIGKILL;
    task.oom = 1;
    assert_end(task, "failed", "memory limit of 256 MiB exceeded");
    run_fresh();
    task.oom = 0;
    task.cpu_seconds = 3;
    assert_end(task, "failed", "CPU time limit of 3 s exceeded");
    run_fresh();
    task.timed_out = 1;
    assert_end(task, "timeout", "timeout: the limit of 2 s was reached");
    run_fresh();
    task.timeout_ms = 1500;
    assert_end(task, "timeout", "timeout: the limit of 1500 ms was reached");
    run_fresh();
    task.cancelled = 1;
    assert_end(task, "cancelled", "cancelled");
}

static void what_the_control_group_saw_is_told(void **state)
{
    collect_task_t task = exited(-1);

    task.signal = SIGKILL;
    task.host_oom = 1;
    assert_end(task, "failed", "killed by signal SIGKILL");
    assert_true(run_warned("the host ran out of memory"));
    run_fresh();
    task = exited(0);
    task.pids_hit = 3;
    task.pids_limit = 64;
    run_collect(&task);
    assert_true(run_warned("the limit of 64 processes was reached"));
}

/* ---- SkillLite: the last line of stdout ---- */

static void set_tail(const char *text, size_t len)
{
    run.tail = memfd_create("tail", MFD_CLOEXEC);
    assert_int_equal(sys_write_all(run.tail, text, len), 0);
}

static void assert_tail(const char *text, const char *output)
{
    collect_task_t task = exited(0);

    task.have_stdout = 1;
    set_tail(text, strlen(text));
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
    if (output != NULL) {
        assert_non_null(strstr(run.text, output));
    } else {
        assert_null(json_object_get(run.json, "output"));
    }
}

static void the_last_line_of_stdout_can_be_the_output(void **state)
{
    static const struct {
        const char *tail, *output;
    } cases[] = {
        {"working\n{\"a\": 1}\n\n", "\"output\":{\"a\":1},"},
        {" {\"a\":1}", "\"output\":{\"a\":1},"},
        {"{\"a\":1}\ndone\n", NULL},
        {"[1,2]\n", NULL},
        {"{\"a\":}\n", NULL},
        {"\n\n", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_tail(cases[i].tail, cases[i].output);
        run_fresh();
    }
}

static void output_json_wins_over_stdout(void **state)
{
    put_text(run.out, "output.json", "{\"file\":1}");
    assert_tail("{\"stdout\":1}\n", "\"output\":{\"file\":1},");
}

static void a_tail_cut_inside_its_only_line_is_no_output(void **state)
{
    collect_task_t task = exited(0);
    char *text = malloc(SB_LOG_MAX);

    assert_non_null(text);
    memset(text, ' ', SB_LOG_MAX);
    memcpy(text + SB_LOG_MAX - 4, "{}  ", 4);
    text[0] = '{';
    memcpy(text, "{\"a\":1", 6);
    text[SB_LOG_MAX - 4] = '}';
    text[SB_LOG_MAX - 3] = '\n';
    task.have_stdout = 1;
    set_tail(text, SB_LOG_MAX);
    free(text);
    run_collect(&task);
    assert_null(json_object_get(run.json, "output"));
}

/* ---- main that errs, disks that are full ---- */

static void a_wrong_task_is_refused(void **state)
{
    static const struct {
        uint32_t magic;
        size_t cut;
        int drop;
    } cases[] = {{0, 0, 0}, {STAGE_MAGIC, 8, 0}, {STAGE_MAGIC, 0, 1}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stage_request_t request = {.kind = STAGE_COLLECT};
        collect_task_t task = exited(0);
        const int fds[] = {run.out, run.answer, run.archive};
        peer_child_t child;
        int wstatus;

        task.magic = cases[i].magic;
        peer_spawn(&peer, &request, NULL, 0, &child);
        peer_send(child.status, &task, sizeof(task) - cases[i].cut, fds, 3 - cases[i].drop);
        assert_int_equal(peer_receive(child.status, &run.report, sizeof(run.report)),
                         sizeof(run.report));
        assert_int_equal(run.report.http_status, 500);
        assert_non_null(strstr(run.report.text, "task"));
        wstatus = peer_reap(&peer, &child);
        assert_true(WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 1);
    }
}

static void a_spare_child_ends_when_main_drops_it(void **state)
{
    stage_request_t request = {.kind = STAGE_COLLECT};
    peer_child_t child;
    int wstatus;

    peer_spawn(&peer, &request, NULL, 0, &child);
    shutdown(child.status, SHUT_RDWR);
    wstatus = peer_reap(&peer, &child);
    assert_true(WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0);
}

static void a_killed_child_is_reported_and_the_next_one_works(void **state)
{
    stage_request_t request = {.kind = STAGE_COLLECT};
    collect_task_t task = exited(0);
    peer_child_t child;
    int wstatus;

    peer_spawn(&peer, &request, NULL, 0, &child);
    assert_int_equal(sys_pidfd_kill(child.pidfd, SIGKILL), 0);
    wstatus = peer_reap(&peer, &child);
    assert_true(WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL);
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
}

static void an_archive_that_can_not_be_written_fails_the_run(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "files/a", "x");
    put_text(run.out, "output.json", "{\"kept\":1}");
    close(run.archive);
    run.archive = open("/dev/full", O_RDWR | O_CLOEXEC);
    run_collect(&task);
    assert_int_equal(run.report.files, 0);
    assert_string_equal(run_text("status"), "failed");
    assert_non_null(strstr(run_text("error"), "artifacts could not be stored"));
    assert_non_null(json_object_get(run.json, "output"));
    assert_int_equal(run.report.failed, 1);
    assert_string_not_equal(run.report.text, "");
}

static void no_descriptor_stays_behind(void **state)
{
    stage_request_t request = {.kind = STAGE_COLLECT};
    collect_task_t task = exited(0);

    for (int i = 0; i < 300; i++) { /* more than the nursery may have open at once */
        peer_child_t child;

        peer_spawn(&peer, &request, NULL, 0, &child);
        shutdown(child.status, SHUT_RDWR);
        peer_reap(&peer, &child);
    }
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
}

#define T(test) cmocka_unit_test_setup_teardown(test, run_set_up, run_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_run_without_results_is_a_success),
        T(without_an_archive_there_is_a_result_and_no_file),
        T(output_is_compacted_and_nothing_of_it_changes),
        T(any_json_value_is_an_output),
        T(bad_output_fails_the_run_and_says_where),
        T(nesting_is_bounded),
        T(output_over_the_limit_is_refused),
        T(a_full_size_output_of_small_values_fits),
        T(an_output_that_is_no_file_is_refused),
        T(a_failed_run_keeps_its_output_and_its_own_error),
        T(each_end_has_its_status_and_error),
        T(what_the_control_group_saw_is_told),
        T(the_last_line_of_stdout_can_be_the_output),
        T(output_json_wins_over_stdout),
        T(a_tail_cut_inside_its_only_line_is_no_output),
        T(a_wrong_task_is_refused),
        T(a_spare_child_ends_when_main_drops_it),
        T(a_killed_child_is_reported_and_the_next_one_works),
        T(an_archive_that_can_not_be_written_fails_the_run),
        T(no_descriptor_stays_behind),
    };

    peer_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
