/*
 * test_artifacts.c - which files become artifacts, through the real sandbox-packer:
 * what scripts leave behind, from the friendly to the hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../sandbox-helper/artifacts.h"
#include "collect_run.h"

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
    run_collect(&task);
    assert_int_equal(run_files(), 4);
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
        run_collect(&task);
        n = pread(run.archive, round == 0 ? first : second, sizeof(first), 0);
        assert_true(n > 0 && n < (ssize_t)sizeof(first));
        if (round == 0) {
            sleep(1); /* a time stamp of packing would differ */
            run_fresh();
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
    run_collect(&task);
    assert_string_equal(run_text("status"), "success");
    assert_int_equal(run_files(), 2);
    assert_file(0, "kept");
    assert_file(1, "twin");
    assert_true(run_warned("absolute: left out: a symbolic link"));
    assert_true(run_warned("fifo: left out: a fifo"));
    assert_true(run_warned("socket: left out: a socket"));
    assert_true(run_warned("secret: left out: Permission denied"));
    assert_true(run_warned("closed: left out: Permission denied"));
    assert_reader("tar -tvf archive.tar.gz | cut -c1-10", "-rw-r--r--\n-rw-r--r--\n");
    assert_reader("tar -xOf archive.tar.gz twin", "k");
}

static void a_files_folder_that_is_a_symlink_is_not_followed(void **state)
{
    collect_task_t task = exited(0);

    assert_int_equal(unlinkat(run.out, "files", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/etc", run.out, "files"), 0);
    run_collect(&task);
    assert_untouched_archive();
    assert_true(run_warned("files: left out: not a folder"));
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
    run_collect(&task);
    assert_int_equal(run_files(), 1);
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
    run_collect(&task);
    assert_int_equal(run_files(), 1);
    run_fresh();
    make_deep(1000);
    run_collect(&task);
    assert_untouched_archive();
    assert_true(run_warned("nested too deeply"));
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
    run_collect(&task);
    assert_int_equal(run_files(), 1);
    assert_true(run_warned("the path is too long"));
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
    run_collect(&task);
    assert_int_equal(run_files(), SB_ARTIFACT_FILES_MAX);
    assert_file(0, "00000");
    assert_file(SB_ARTIFACT_FILES_MAX - 1, "04095");
    assert_true(run_warned("904 artifacts left out: more than 4096 files; the first is 04096"));
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
    run_collect(&task);
    assert_int_equal(json_array_size(json_object_get(run.json, "warnings")), 33);
    assert_true(run_warned("2968 more warnings"));
}

static void sparse_giants_are_left_out(void **state)
{
    collect_task_t task = exited(0);

    make_sparse(run.out, "files/terabyte", 1LL << 40);
    make_sparse(run.out, "files/half", SB_ARTIFACT_BYTES_MAX / 2);
    make_sparse(run.out, "files/other-half", SB_ARTIFACT_BYTES_MAX / 2);
    put_text(run.out, "files/z-empty", "");
    put_text(run.out, "files/z-one-more", "x");
    run_collect(&task);
    assert_int_equal(run_files(), 3);
    assert_file(2, "z-empty");
    assert_true(
        run_warned("2 artifacts left out: more than 256 MiB in all; the first is terabyte"));
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
    run_collect(&task);
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

    run.work = run_open_dir("work");
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
    run_collect(&task);
    assert_int_equal(run_files(), 3);
    assert_file(0, "changed.csv");
    assert_file(1, "new/result.txt");
    assert_file(2, "plot.svg");
    assert_int_equal(json_array_size(json_object_get(run.json, "warnings")), 1);
    assert_true(run_warned("mine: left out: a symbolic link"));
}

static void the_artifacts_folder_wins_over_work(void **state)
{
    collect_task_t task = exited(0);

    run.work = run_open_dir("work");
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
    run_collect(&task);
    assert_int_equal(run_files(), 4);
    assert_file(0, "a");
    assert_file(1, "c-other");
    assert_file(2, "c/d");
    assert_file(3, "same");
    assert_reader("tar -xOf archive.tar.gz same", "from files");
    assert_reader("mkdir x && tar -C x -xf archive.tar.gz && cat x/c/d", "below a folder");
}

#define T(test) cmocka_unit_test_setup_teardown(test, run_set_up, run_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    peer_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
