/*
 * collect_run.c - see collect_run.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/sys.h"
#include "collect_run.h"

peer_t peer;
struct collect_run run;

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

int run_open_dir(const char *name)
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
    run.out = run_open_dir("out");
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

void run_fresh(void)
{
    remove_folders();
    make_folders();
}

int run_set_up(void **state)
{
    make_folders();
    peer_start(&peer, NULL);
    return 0;
}

int run_tear_down(void **state)
{
    peer_stop(&peer);
    remove_folders();
    return 0;
}

void put(int dirfd, const char *name, const void *data, size_t len)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, data, len), 0);
    close(fd);
}

void put_text(int dirfd, const char *name, const char *text)
{
    put(dirfd, name, text, strlen(text));
}

void make_sparse(int dirfd, const char *name, off_t size)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

collect_task_t exited(int code)
{
    collect_task_t task = {
        .artifact_bytes = SB_ARTIFACT_BYTES_MAX,
        .magic = STAGE_MAGIC,
        .have_archive = 1,
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
    if (task->have_archive) {
        fds[n++] = run.archive;
    }
    peer_send(child->status, task, sizeof(*task), fds, n);
}

static void read_answer(void)
{
    struct stat st;

    assert_int_equal(fstat(run.answer, &st), 0);
    assert_int_equal(st.st_size, run.report.answer_len);
    run.text = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(pread(run.answer, run.text, (size_t)st.st_size, 0), st.st_size);
    run.json = json_loads(run.text, JSON_DECODE_ANY, NULL);
}

/* main's part of the folder's fsync */
static void confirm_archive(peer_child_t *child)
{
    char word = 's';

    peer_send(child->status, &word, 1, &run.topfd, 1);
    assert_int_equal(peer_receive(child->status, &word, 1), 1);
    assert_int_equal(word, 'd');
}

void run_collect(const collect_task_t *task)
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

const char *run_text(const char *key)
{
    assert_non_null(run.json);
    return json_string_value(json_object_get(run.json, key));
}

size_t run_files(void)
{
    size_t n = json_array_size(json_object_get(run.json, "files_list"));

    assert_int_equal(n, run.report.files);
    return n;
}

bool run_warned(const char *part)
{
    json_t *list = json_object_get(run.json, "warnings");

    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strstr(json_string_value(json_array_get(list, i)), part) != NULL) {
            return true;
        }
    }
    return false;
}

void assert_file(size_t i, const char *name)
{
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(run.json, "files_list"), i)), name);
}

/* What a command prints about the archive. */
void assert_reader(const char *command, const char *expected)
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

void assert_untouched_archive(void)
{
    struct stat st;

    assert_int_equal(fstat(run.archive, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(run.report.files, 0);
    assert_null(json_object_get(run.json, "files_list"));
}
