/*
 * test_collect.c - collecting a run's results through the real sandbox-packer: what
 * scripts leave behind, from the friendly to the hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "../../libskillbox/limits.h"
#include "../../sandbox-helper/artifacts.h"
#include "../../sandbox-helper/sys.h"
#include "packer_peer.h"

static peer_t peer;

/* One run's leavings and what became of them. */
static struct {
    char top[64];
    int topfd, out, work, tail, answer, archive;
    packer_report_t report;
    char *text;   /* the result */
    json_t *json; /* parsed */
} run;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int make_readable(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    if (flag == FTW_D || flag == FTW_DNR) {
        (void)chmod(path, 0700);
    }
    return 0;
}

static int open_dir(const char *name)
{
    int fd;

    assert_int_equal(mkdirat(run.topfd, name, 0755), 0);
    fd = openat(run.topfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void make_folders(void)
{
    memset(&run, 0, sizeof(run));
    snprintf(run.top, sizeof(run.top), "/tmp/sbcollect.XXXXXX");
    assert_non_null(mkdtemp(run.top));
    run.topfd = open(run.top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    run.out = open_dir("out");
    run.work = -1;
    run.tail = -1;
    assert_int_equal(mkdirat(run.out, "files", 0755), 0);
    run.answer = memfd_create("answer", MFD_CLOEXEC);
    run.archive = openat(run.topfd, "archive.tar.gz", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(run.answer >= 0 && run.archive >= 0);
}

static void remove_folders(void)
{
    const int fds[] = {run.topfd, run.out, run.work, run.tail, run.answer, run.archive};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    json_decref(run.json);
    free(run.text);
    nftw(run.top, make_readable, 16, FTW_PHYS);
    assert_int_equal(nftw(run.top, remove_one, 16, FTW_PHYS | FTW_DEPTH), 0);
}

static void fresh_folders(void)
{
    remove_folders();
    make_folders();
}

/* A nursery for each test: one that went wrong does not disturb the next. */
static int set_up(void **state)
{
    make_folders();
    peer_start(&peer, NULL);
    return 0;
}

static int tear_down(void **state)
{
    peer_stop(&peer);
    remove_folders();
    return 0;
}

static void put(int dirfd, const char *name, const void *data, size_t len)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, data, len), 0);
    close(fd);
}

static void put_text(int dirfd, const char *name, const char *text)
{
    put(dirfd, name, text, strlen(text));
}

static void make_sparse(int dirfd, const char *name, off_t size)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

static collect_task_t exited(int code)
{
    collect_task_t task = {
        .magic = STAGE_MAGIC,
        .exit_code = code,
        .wall_ms = 12,
        .cpu_ms = 7,
        .max_rss = 4096,
        .timeout_ms = 2000,
        .memory_limit = 256 * SB_MIB,
        .skill = "probe",
        .version = "1.0.0",
    };

    return task;
}

static void send_task(peer_child_t *child, const collect_task_t *task)
{
    int fds[5], n = 0;

    fds[n++] = run.out;
    if (task->have_work) {
        fds[n++] = run.work;
    }
    if (task->have_stdout) {
        fds[n++] = run.tail;
    }
    fds[n++] = run.answer;
    fds[n++] = run.archive;
    peer_send(child->status, task, sizeof(*task), fds, n);
}

static void read_answer(void)
{
    struct stat st;

    assert_int_equal(fstat(run.answer, &st), 0);
    assert_int_equal(st.st_size, run.report.answer_len);
    run.text = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(pread(run.answer, run.text, (size_t)st.st_size, 0), st.st_size);
    run.json =
        json_loads(run.text, JSON_DECODE_ANY, NULL); /* can't read all numbers: str() checks */
}

/* main's part of the folder's fsync */
static void confirm_archive(peer_child_t *child)
{
    char word = 's';

    peer_send(child->status, &word, 1, &run.topfd, 1);
    assert_int_equal(peer_receive(child->status, &word, 1), 1);
    assert_int_equal(word, 'd');
}

static void collect(const collect_task_t *task)
{
    stage_request_t request = {.kind = STAGE_COLLECT};
    peer_child_t child;
    ssize_t n;
    int wstatus;

    peer_spawn(&peer, &request, NULL, 0, &child);
    send_task(&child, task);
    n = peer_receive(child.status, &run.report, sizeof(run.report));
    assert_int_equal(n, sizeof(run.report));
    assert_int_equal(run.report.magic, STAGE_MAGIC);
    if (run.report.http_status != 200) {
        fail_msg("collect: %s", run.report.text);
    }
    read_answer();
    if (run.report.files > 0) {
        confirm_archive(&child);
    }
    wstatus = peer_reap(&peer, &child);
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 0);
}

static const char *str(const char *key)
{
    assert_non_null(run.json);
    return json_string_value(json_object_get(run.json, key));
}

static size_t files(void)
{
    size_t n = json_array_size(json_object_get(run.json, "files_list"));

    assert_int_equal(n, run.report.files);
    return n;
}

static bool has_warning(const char *part)
{
    json_t *list = json_object_get(run.json, "warnings");

    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strstr(json_string_value(json_array_get(list, i)), part) != NULL) {
            return true;
        }
    }
    return false;
}

static void assert_file(size_t i, const char *name)
{
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(run.json, "files_list"), i)), name);
}

/* What a command prints about the archive. */
static void assert_reader(const char *command, const char *expected)
{
    char line[4352], got[4096] = "";
    FILE *f;

    snprintf(line, sizeof(line), "cd %s && LC_ALL=C.UTF-8 TZ=UTC %s 2>&1", run.top, command);
    f = popen(line, "r"); /* NOLINT(cert-env33-c): a command line of the test's own */
    assert_non_null(f);
    got[fread(got, 1, sizeof(got) - 1, f)] = '\0';
    assert_int_equal(pclose(f), 0);
    assert_string_equal(got, expected);
}

static void assert_untouched_archive(void)
{
    struct stat st;

    assert_int_equal(fstat(run.archive, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(run.report.files, 0);
    assert_null(json_object_get(run.json, "files_list"));
}

/* ---- the result ---- */

static void a_run_without_results_is_a_success(void **state)
{
    collect_task_t task = exited(0);

    collect(&task);
    assert_string_equal(run.text,
                        "{\"status\":\"success\",\"duration_ms\":12,\"error\":null,\"exit_code\":0,"
                        "\"usage\":{\"cpu_ms\":7,\"max_rss_bytes\":4096,\"wall_ms\":12},"
                        "\"skill_name\":\"probe\",\"skill_version\":\"1.0.0\"}");
    assert_int_equal(run.report.failed, 0);
    assert_untouched_archive();
}

static void output_is_compacted_and_nothing_of_it_changes(void **state)
{
    collect_task_t task = exited(0);

    put_text(
        run.out, "output.json",
        "\xef\xbb\xbf{ \"z\" : [ 1.10, 123456789012345678901234567890, 1e400, -0 ],\r\n"
        " \"a\":\t{ }, \"a\" : \"\\u00e9\\/ \xc3\xa9\", \"lone\": \"\\ud800x\\uD83D\\uDE00\" }\n");
    collect(&task);
    assert_non_null(strstr(
        run.text, "\"output\":{\"z\":[1.10,123456789012345678901234567890,1e400,-0],\"a\":{},"
                  "\"a\":\"\\u00e9\\/ \xc3\xa9\",\"lone\":\"\\ufffdx\\uD83D\\uDE00\"},\"duration"));
    assert_non_null(strstr(run.text, "\"status\":\"success\""));
}

static void any_json_value_is_an_output(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "output.json", " null ");
    collect(&task);
    assert_true(json_is_null(json_object_get(run.json, "output")));
    assert_string_equal(str("status"), "success");
}

static void assert_bad_output(const char *text, size_t len, const char *error)
{
    collect_task_t task = exited(0);

    put(run.out, "output.json", text, len);
    collect(&task);
    assert_string_equal(str("status"), "failed");
    assert_string_equal(str("error"), error);
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
        fresh_folders();
    }
}

static void nesting_is_bounded(void **state)
{
    char deep[600];
    collect_task_t task = exited(0);

    memset(deep, '[', 256);
    memset(deep + 256, ']', 256);
    put(run.out, "output.json", deep, 512);
    collect(&task);
    assert_string_equal(str("status"), "success");
    fresh_folders();
    memset(deep, '[', 257);
    memset(deep + 257, ']', 257);
    assert_bad_output(deep, 514, BAD "line 1, column 257: nested too deeply");
}

static void output_over_the_limit_is_refused(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "output.json", "1");
    make_sparse(run.out, "output.json", SB_OUTPUT_MAX + 1);
    collect(&task);
    assert_string_equal(str("error"), "output.json is larger than 8 MiB");
    assert_string_equal(str("status"), "failed");
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
    collect(&task);
    assert_string_equal(str("status"), "success");
    assert_true(run.report.answer_len > SB_OUTPUT_MAX - 64);
}

static void an_output_that_is_no_file_is_refused(void **state)
{
    collect_task_t task = exited(0);

    assert_int_equal(symlinkat("/etc/passwd", run.out, "output.json"), 0);
    collect(&task);
    assert_string_equal(str("error"), "output.json is not a regular file");
    assert_null(strstr(run.text, "root:"));
    fresh_folders();
    assert_int_equal(mkfifoat(run.out, "output.json", 0644), 0);
    collect(&task);
    assert_string_equal(str("error"), "output.json is not a regular file");
}

static void a_failed_run_keeps_its_output_and_its_own_error(void **state)
{
    collect_task_t task = exited(3);

    put_text(run.out, "output.json", "{\"partial\": true}");
    collect(&task);
    assert_string_equal(str("status"), "failed");
    assert_string_equal(str("error"), "exited with code 3");
    assert_true(json_is_true(json_object_get(json_object_get(run.json, "output"), "partial")));
    assert_int_equal(run.report.failed, 0);
    fresh_folders();
    put_text(run.out, "output.json", "{\"cut");
    collect(&task);
    assert_string_equal(str("error"), "exited with code 3");
    assert_true(has_warning("output.json is not valid JSON"));
}

static void assert_end(collect_task_t task, const char *status, const char *error)
{
    collect(&task);
    assert_string_equal(str("status"), status);
    assert_string_equal(str("error"), error);
    assert_null(json_object_get(run.json, "exit_code"));
}

static void each_end_has_its_status_and_error(void **state)
{
    collect_task_t task = exited(-1);

    task.signal = SIGSEGV;
    assert_end(task, "failed", "killed by signal SIGSEGV");
    fresh_folders();
    task.signal = SIGRTMIN + 5;
    assert_end(task, "failed", "killed by signal 39");
    fresh_folders();
    task.signal = SIGKILL;
    task.oom = 1;
    assert_end(task, "failed", "memory limit of 256 MiB exceeded");
    fresh_folders();
    task.oom = 0;
    task.timed_out = 1;
    assert_end(task, "timeout", "timeout: the limit of 2 s was reached");
    fresh_folders();
    task.timeout_ms = 1500;
    assert_end(task, "timeout", "timeout: the limit of 1500 ms was reached");
    fresh_folders();
    task.cancelled = 1;
    assert_end(task, "cancelled", "cancelled");
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
    collect(&task);
    assert_string_equal(str("status"), "success");
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
        fresh_folders();
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
    collect(&task);
    assert_null(json_object_get(run.json, "output"));
}

/* ---- artifacts ---- */

static void artifacts_become_a_tar_that_others_read(void **state)
{
    collect_task_t task = exited(0);
    const struct timespec times[2] = {{.tv_sec = 1700000000}, {.tv_sec = 1700000000, .tv_nsec = 5}};
    int dir;

    assert_int_equal(mkdirat(run.out, "files/sub", 0755), 0);
    dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_text(dir, "sub/b.txt", "bee\n");
    put_text(dir, "sub.txt", "");
    put_text(dir, "a.bin", "12345");
    put_text(dir, "\xc3\xbc\xe2\x82\xac.txt", "umlaut");
    assert_int_equal(fchmodat(dir, "a.bin", 04711, 0), 0);
    assert_int_equal(utimensat(dir, "a.bin", times, 0), 0);
    close(dir);
    collect(&task);
    assert_int_equal(files(), 4);
    assert_file(0, "a.bin");
    assert_file(1, "sub.txt");
    assert_file(2, "sub/b.txt");
    assert_file(3, "\xc3\xbc\xe2\x82\xac.txt");
    assert_reader("tar --quoting-style=literal -tf archive.tar.gz",
                  "a.bin\nsub.txt\nsub/b.txt\n\xc3\xbc\xe2\x82\xac.txt\n");
    assert_reader("tar --numeric-owner -tvf archive.tar.gz a.bin",
                  "-rwxr-xr-x 0/0               5 2023-11-14 22:13 a.bin\n");
    assert_reader("tar -xOf archive.tar.gz sub/b.txt", "bee\n");
    assert_reader("/usr/bin/python3 -c 'import tarfile\n"
                  "for m in tarfile.open(\"archive.tar.gz\"):\n"
                  "  print(ascii(m.name), m.size, oct(m.mode), m.uid, m.isfile())'",
                  "'a.bin' 5 0o755 0 True\n'sub.txt' 0 0o644 0 True\n'sub/b.txt' 4 0o644 0 True\n"
                  "'\\xfc\\u20ac.txt' 6 0o644 0 True\n");
}

static void the_same_files_give_the_same_bytes(void **state)
{
    collect_task_t task = exited(0);
    const struct timespec times[2] = {{.tv_sec = 1700000000}, {.tv_sec = 1700000000}};
    char first[4096] = {0}, second[4096] = {0};
    ssize_t n;

    for (int round = 0; round < 2; round++) {
        put_text(run.out, "files/one", "1");
        put_text(run.out, "files/two", "2");
        utimensat(run.out, "files/one", times, 0);
        utimensat(run.out, "files/two", times, 0);
        collect(&task);
        n = pread(run.archive, round == 0 ? first : second, sizeof(first), 0);
        assert_true(n > 0 && n < (ssize_t)sizeof(first));
        if (round == 0) {
            sleep(1); /* a time stamp of packing would differ */
            fresh_folders();
        }
    }
    assert_memory_equal(first, second, (size_t)n);
}

static void make_socket(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/out/files/%s", run.top, name);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
}

static void only_regular_files_are_taken(void **state)
{
    collect_task_t task = exited(0);
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(symlinkat("/etc/passwd", dir, "absolute"), 0);
    assert_int_equal(symlinkat("kept", dir, "relative"), 0);
    assert_int_equal(symlinkat("loop", dir, "loop"), 0);
    assert_int_equal(symlinkat("/etc", dir, "folder"), 0);
    assert_int_equal(symlinkat("../..", dir, "up"), 0);
    assert_int_equal(mkfifoat(dir, "fifo", 0644), 0);
    make_socket("socket");
    put_text(dir, "kept", "k");
    put_text(dir, "secret", "mode 000");
    assert_int_equal(fchmodat(dir, "secret", 0, 0), 0);
    assert_int_equal(mkdirat(dir, "closed", 0), 0);
    assert_int_equal(linkat(dir, "kept", dir, "twin", 0), 0);
    close(dir);
    collect(&task);
    assert_string_equal(str("status"), "success");
    assert_int_equal(files(), 2);
    assert_file(0, "kept");
    assert_file(1, "twin");
    assert_true(has_warning("absolute: left out: a symbolic link"));
    assert_true(has_warning("fifo: left out: a fifo"));
    assert_true(has_warning("socket: left out: a socket"));
    assert_true(has_warning("secret: left out: Permission denied"));
    assert_true(has_warning("closed: left out: Permission denied"));
    assert_reader("tar -tvf archive.tar.gz | cut -c1-10", "-rw-r--r--\n-rw-r--r--\n");
    assert_reader("tar -xOf archive.tar.gz twin", "k");
}

static void a_files_folder_that_is_a_symlink_is_not_followed(void **state)
{
    collect_task_t task = exited(0);

    assert_int_equal(unlinkat(run.out, "files", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/etc", run.out, "files"), 0);
    collect(&task);
    assert_untouched_archive();
    assert_true(has_warning("files: left out: not a folder"));
}

static void names_that_are_not_portable_are_left_out(void **state)
{
    static const char *const names[] = {"new\nline", "esc\x1b[31m", "back\\slash", "bad\xff\xfe",
                                        "del\x7f"};
    collect_task_t task = exited(0);
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        put_text(dir, names[i], "x");
    }
    put_text(dir, "quote\"'$(id)`id`;.txt", "fine");
    close(dir);
    collect(&task);
    assert_int_equal(files(), 1);
    assert_file(0, "quote\"'$(id)`id`;.txt");
    assert_int_equal(json_array_size(json_object_get(run.json, "warnings")), 5);
    assert_null(strchr(run.text, 0x1b));
}

/* depth folders called d, and a file f in the last one */
static void make_deep(int depth)
{
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; i < depth; i++) {
        int next;

        assert_int_equal(mkdirat(dir, "d", 0755), 0);
        next = openat(dir, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(dir);
        dir = next;
    }
    put_text(dir, "f", "deep");
    close(dir);
}

static void deep_folders_are_cut(void **state)
{
    collect_task_t task = exited(0);

    make_deep(ARTIFACTS_DEPTH_MAX);
    collect(&task);
    assert_int_equal(files(), 1);
    fresh_folders();
    make_deep(1000);
    collect(&task);
    assert_untouched_archive();
    assert_true(has_warning("nested too deeply"));
}

static void long_paths_are_cut(void **state)
{
    collect_task_t task = exited(0);
    char name[256];
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    memset(name, 'n', 255);
    name[255] = '\0';
    put_text(dir, name, "255 bytes are fine");
    assert_int_equal(mkdirat(dir, "deep", 0755), 0);
    close(dir);
    dir = openat(run.out, "files/deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        int next;

        assert_int_equal(mkdirat(dir, name, 0755), 0);
        next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(dir);
        dir = next;
    }
    put_text(dir, "far", "over 512 bytes");
    close(dir);
    collect(&task);
    assert_int_equal(files(), 1);
    assert_true(has_warning("the path is too long"));
    assert_reader("tar -tf archive.tar.gz | wc -c", "256\n");
}

static void more_files_than_the_limit_are_counted(void **state)
{
    collect_task_t task = exited(0);
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[32];

    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "%05d", i);
        put_text(dir, name, "x");
    }
    close(dir);
    collect(&task);
    assert_int_equal(files(), SB_ARTIFACT_FILES_MAX);
    assert_file(0, "00000");
    assert_file(SB_ARTIFACT_FILES_MAX - 1, "04095");
    assert_true(has_warning("904 artifacts left out: more than 4096 files; the first is 04096"));
    assert_reader("tar -tf archive.tar.gz | tail -1", "04095\n");
}

static void many_warnings_are_counted(void **state)
{
    collect_task_t task = exited(0);
    int dir = openat(run.out, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[32];

    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "link%d", i);
        assert_int_equal(symlinkat("x", dir, name), 0);
    }
    close(dir);
    collect(&task);
    assert_int_equal(json_array_size(json_object_get(run.json, "warnings")), 33);
    assert_true(has_warning("2968 more warnings"));
}

static void sparse_giants_are_left_out(void **state)
{
    collect_task_t task = exited(0);

    make_sparse(run.out, "files/terabyte", 1LL << 40);
    make_sparse(run.out, "files/half", SB_ARTIFACT_BYTES_MAX / 2);
    make_sparse(run.out, "files/other-half", SB_ARTIFACT_BYTES_MAX / 2);
    put_text(run.out, "files/z-empty", "");
    put_text(run.out, "files/z-one-more", "x");
    collect(&task);
    assert_int_equal(files(), 3);
    assert_file(2, "z-empty");
    assert_true(
        has_warning("2 artifacts left out: more than 256 MiB in all; the first is terabyte"));
    assert_reader("gzip -dc archive.tar.gz | wc -c", "268438016\n");
}

static void times_are_made_sane(void **state)
{
    collect_task_t task = exited(0);
    const struct timespec past[2] = {{.tv_sec = -5000000000}, {.tv_sec = -5000000000}};
    const struct timespec future[2] = {{.tv_sec = 9000000000}, {.tv_sec = 9000000000}};

    put_text(run.out, "files/a-past", "");
    put_text(run.out, "files/b-future", "");
    utimensat(run.out, "files/a-past", past, 0);
    utimensat(run.out, "files/b-future", future, 0);
    collect(&task);
    assert_reader("/usr/bin/python3 -c 'import tarfile,time\n"
                  "a,b=tarfile.open(\"archive.tar.gz\").getmembers()\n"
                  "print(a.mtime, 0 <= time.time() - b.mtime < 100)'",
                  "0 True\n");
}

/* ---- the work folder ---- */

static void stamp(int dirfd, const char *name)
{
    const struct timespec made[2] = {
        {.tv_sec = STAGE_WORK_MTIME_SEC, .tv_nsec = STAGE_WORK_MTIME_NSEC},
        {.tv_sec = STAGE_WORK_MTIME_SEC, .tv_nsec = STAGE_WORK_MTIME_NSEC},
    };

    assert_int_equal(utimensat(dirfd, name, made, AT_SYMLINK_NOFOLLOW), 0);
}

static void new_and_changed_files_of_work_are_artifacts(void **state)
{
    collect_task_t task = exited(0);

    run.work = open_dir("work");
    put_text(run.work, "given.csv", "unchanged");
    stamp(run.work, "given.csv");
    put_text(run.work, "changed.csv", "changed");
    assert_int_equal(symlinkat("/sandbox/scripts/tool", run.work, "tool"), 0);
    stamp(run.work, "tool");
    assert_int_equal(symlinkat("/etc/passwd", run.work, "mine"), 0);
    assert_int_equal(mkdirat(run.work, "new", 0755), 0);
    put_text(run.work, "new/result.txt", "new");
    put_text(run.out, "files/plot.svg", "<svg/>");
    task.have_work = 1;
    collect(&task);
    assert_int_equal(files(), 3);
    assert_file(0, "changed.csv");
    assert_file(1, "new/result.txt");
    assert_file(2, "plot.svg");
    assert_int_equal(json_array_size(json_object_get(run.json, "warnings")), 1);
    assert_true(has_warning("mine: left out: a symbolic link"));
}

static void the_artifacts_folder_wins_over_work(void **state)
{
    collect_task_t task = exited(0);

    run.work = open_dir("work");
    put_text(run.out, "files/same", "from files");
    put_text(run.work, "same", "from work");
    put_text(run.out, "files/a", "a file");
    assert_int_equal(mkdirat(run.work, "a", 0755), 0);
    put_text(run.work, "a/b", "below a folder of that name");
    assert_int_equal(mkdirat(run.out, "files/c", 0755), 0);
    put_text(run.out, "files/c/d", "below a folder");
    put_text(run.work, "c", "a file of that name");
    put_text(run.work, "c-other", "no conflict");
    task.have_work = 1;
    collect(&task);
    assert_int_equal(files(), 4);
    assert_file(0, "a");
    assert_file(1, "c-other");
    assert_file(2, "c/d");
    assert_file(3, "same");
    assert_reader("tar -xOf archive.tar.gz same", "from files");
    assert_reader("mkdir x && tar -C x -xf archive.tar.gz && cat x/c/d", "below a folder");
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
    collect(&task);
    assert_string_equal(str("status"), "success");
}

static void an_archive_that_can_not_be_written_fails_the_run(void **state)
{
    collect_task_t task = exited(0);

    put_text(run.out, "files/a", "x");
    put_text(run.out, "output.json", "{\"kept\":1}");
    close(run.archive);
    run.archive = open("/dev/full", O_RDWR | O_CLOEXEC);
    collect(&task);
    assert_int_equal(run.report.files, 0);
    assert_string_equal(str("status"), "failed");
    assert_non_null(strstr(str("error"), "artifacts could not be stored"));
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
    collect(&task);
    assert_string_equal(str("status"), "success");
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_run_without_results_is_a_success),
        T(output_is_compacted_and_nothing_of_it_changes),
        T(any_json_value_is_an_output),
        T(bad_output_fails_the_run_and_says_where),
        T(nesting_is_bounded),
        T(output_over_the_limit_is_refused),
        T(a_full_size_output_of_small_values_fits),
        T(an_output_that_is_no_file_is_refused),
        T(a_failed_run_keeps_its_output_and_its_own_error),
        T(each_end_has_its_status_and_error),
        T(the_last_line_of_stdout_can_be_the_output),
        T(output_json_wins_over_stdout),
        T(a_tail_cut_inside_its_only_line_is_no_output),
        T(artifacts_become_a_tar_that_others_read),
        T(the_same_files_give_the_same_bytes),
        T(only_regular_files_are_taken),
        T(a_files_folder_that_is_a_symlink_is_not_followed),
        T(names_that_are_not_portable_are_left_out),
        T(deep_folders_are_cut),
        T(long_paths_are_cut),
        T(more_files_than_the_limit_are_counted),
        T(many_warnings_are_counted),
        T(sparse_giants_are_left_out),
        T(times_are_made_sane),
        T(new_and_changed_files_of_work_are_artifacts),
        T(the_artifacts_folder_wins_over_work),
        T(a_wrong_task_is_refused),
        T(a_spare_child_ends_when_main_drops_it),
        T(a_killed_child_is_reported_and_the_next_one_works),
        T(an_archive_that_can_not_be_written_fails_the_run),
        T(no_descriptor_stays_behind),
    };

    peer_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
