/*
 * test_cgroup.c - the helper reads the kernel's texts about control groups as they are on
 * every kind of host, makes and removes leaves where anybody can, and a child can be born
 * in a group of version 2.  Limits with real controllers: tests/hosts.
 */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/cgroup_text.h"
#include "../../sandbox-helper/sys.h"

#define WAIT_MS 10000

static FILE *text_file(const char *text)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");

    assert_non_null(f);
    return f;
}

/* ---- our place ---- */

/* The folder that these two files of /proc lead to, or "none". */
static const char *folder_of(const char *groups, const char *mounts, const char *controller)
{
    static char out[PATH_MAX];
    char group[PATH_MAX];
    FILE *f = text_file(groups);
    bool found = cgroup_own_path(f, controller, group, sizeof(group));

    fclose(f);
    if (!found)
        return "none";
    f = text_file(mounts);
    found = cgroup_folder(f, controller, group, out, sizeof(out));
    fclose(f);
    return found ? out : "none";
}

#define MOUNT_V2(root, point)                                                                      \
    "25 22 0:22 " root " " point " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_V1(root, point, controllers)                                                         \
    "31 27 0:28 " root " /sys/fs/cgroup/" point                                                    \
    " rw,nosuid shared:9 - cgroup cgroup rw,xattr," controllers "\n"

static const char other_mounts[] = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
                                   "23 22 0:21 / /sys rw shared:2 - sysfs sysfs rw\n";

static void v2_under_systemd(void **state)
{
    char mounts[1024];

    snprintf(mounts, sizeof(mounts), "%s%s", other_mounts, MOUNT_V2("/", "/sys/fs/cgroup"));
    assert_string_equal(folder_of("0::/system.slice/skillbox.service\n", mounts, NULL),
                        "/sys/fs/cgroup/system.slice/skillbox.service");
    assert_string_equal(folder_of("0::/system.slice/skillbox.service/helper\n", mounts, NULL),
                        "/sys/fs/cgroup/system.slice/skillbox.service/helper");
    assert_string_equal(folder_of("0::/\n", mounts, NULL), "/sys/fs/cgroup");
    assert_string_equal(folder_of("0::/a:b/c..d\n", mounts, NULL), "/sys/fs/cgroup/a:b/c..d");
    assert_string_equal(folder_of("0::/x\n", mounts, "memory"), "none");
    assert_string_equal(folder_of("0::/x\n", other_mounts, NULL), "none");
}

static void v1_and_hybrid(void **state)
{
    static const char groups[] = "12:memory:/user.slice/a\n"
                                 "5:cpu,cpuacct:/\n"
                                 "4:pids:/user.slice/a\n"
                                 "1:name=systemd:/user.slice/a\n"
                                 "0::/user.slice/b\n";
    static const char mounts[] = MOUNT_V2("/", "/sys/fs/cgroup/unified")
        MOUNT_V1("/", "systemd", "name=systemd") MOUNT_V1("/", "cpu,cpuacct", "cpu,cpuacct")
            MOUNT_V1("/", "memory", "memory") MOUNT_V1("/", "pids", "pids");

    assert_string_equal(folder_of(groups, mounts, NULL), "/sys/fs/cgroup/unified/user.slice/b");
    assert_string_equal(folder_of(groups, mounts, "memory"), "/sys/fs/cgroup/memory/user.slice/a");
    assert_string_equal(folder_of(groups, mounts, "pids"), "/sys/fs/cgroup/pids/user.slice/a");
    assert_string_equal(folder_of(groups, mounts, "cpu"), "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(folder_of(groups, mounts, "systemd"), "none");
    assert_string_equal(folder_of(groups, mounts, "mem"), "none");
}

static void in_containers(void **state)
{
    /* a namespace of its own, and a mount made in it */
    assert_string_equal(folder_of("0::/\n", MOUNT_V2("/", "/sys/fs/cgroup"), NULL),
                        "/sys/fs/cgroup");
    /* the host's namespace, and the container's part of the host's hierarchy */
    assert_string_equal(
        folder_of("0::/docker/abc\n", MOUNT_V2("/docker/abc", "/sys/fs/cgroup"), NULL),
        "/sys/fs/cgroup");
    assert_string_equal(
        folder_of("0::/docker/abc/x\n", MOUNT_V2("/docker/abc", "/sys/fs/cgroup"), NULL),
        "/sys/fs/cgroup/x");
    assert_string_equal(
        folder_of("4:memory:/docker/abc\n", MOUNT_V1("/docker/abc", "memory", "memory"), "memory"),
        "/sys/fs/cgroup/memory");
    /* what is mounted does not show our group: no other one is to be taken for it */
    assert_string_equal(
        folder_of("0::/docker/abcd\n", MOUNT_V2("/docker/abc", "/sys/fs/cgroup"), NULL), "none");
    assert_string_equal(folder_of("0::/\n", MOUNT_V2("/docker/abc", "/sys/fs/cgroup"), NULL),
                        "none");
    assert_string_equal(folder_of("0::/x\n", MOUNT_V2("/../..", "/sys/fs/cgroup"), NULL), "none");
    assert_string_equal(folder_of("0::/../x\n", MOUNT_V2("/", "/sys/fs/cgroup"), NULL), "none");
    assert_string_equal(folder_of("0::/..\n", MOUNT_V2("/", "/sys/fs/cgroup"), NULL), "none");
    /* the second mount does */
    assert_string_equal(folder_of("0::/b\n", MOUNT_V2("/a", "/one") MOUNT_V2("/b", "/two"), NULL),
                        "/two");
}

static void strange_texts_are_no_group(void **state)
{
    char *line = malloc(3 * PATH_MAX);

    assert_string_equal(folder_of("\n", MOUNT_V2("/", "/c"), NULL), "none");
    assert_string_equal(folder_of("0:\n::\n0::\n", MOUNT_V2("/", "/c"), NULL), "none");
    assert_string_equal(folder_of("0::x\n", MOUNT_V2("/", "/c"), NULL), "none");
    assert_string_equal(folder_of("0::/x\n", "25 22 0:22 / /c rw - \n - cgroup2\n", NULL), "none");
    assert_string_equal(folder_of("0::/x", MOUNT_V2("/", "/with\\040blank\\134"), NULL),
                        "/with blank\\/x");
    assert_non_null(line); /* longer than any path */
    memset(line, 'y', 3 * PATH_MAX);
    memcpy(line, "0::/", 4);
    line[3 * PATH_MAX - 1] = '\0';
    assert_string_equal(folder_of(line, MOUNT_V2("/", "/c"), NULL), "none");
    free(line);
}

/* ---- counters ---- */

static void counters_are_read_by_their_whole_name(void **state)
{
    static const char events[] = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 5\noom_group_kill 1\n";

    assert_int_equal(cgroup_counter(events, "oom"), 2);
    assert_int_equal(cgroup_counter(events, "oom_kill"), 5);
    assert_int_equal(cgroup_counter(events, "max"), 17);
    assert_int_equal(cgroup_counter(events, "oom_group"), 0);
    assert_int_equal(cgroup_counter(events, "kill"), 0);
    assert_int_equal(cgroup_counter("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "oom_kill"),
                     1);
    assert_int_equal(cgroup_counter("max max\n", "max"), 0);
    assert_int_equal(cgroup_counter("12582912\n", ""), 12582912);
    assert_int_equal(cgroup_counter("max\n", ""), 0);
    assert_int_equal(cgroup_counter("", ""), 0);
    assert_int_equal(cgroup_counter("", "oom"), 0);
    assert_true(cgroup_has_word("cpu,cpuacct", "cpu"));
    assert_true(cgroup_has_word("cpuset cpu io\n", "io"));
    assert_false(cgroup_has_word("cpuset,cpuacct", "cpu"));
}

/* ---- version 2: the mechanics that need no controller ---- */

/* A new group below our own; -1: there is no such hierarchy here, or it is not ours to use. */
static int make_group(char path[PATH_MAX])
{
    char group[256], below[PATH_MAX - 64];
    bool found;
    FILE *f = fopen("/proc/self/cgroup", "re");

    assert_non_null(f);
    found = cgroup_own_path(f, NULL, group, sizeof(group));
    fclose(f);
    f = fopen("/proc/self/mountinfo", "re");
    assert_non_null(f);
    found = found && cgroup_folder(f, NULL, group, below, sizeof(below));
    fclose(f);
    if (!found)
        return -1;
    snprintf(path, PATH_MAX, "%s/sbunit-%d", below, (int)getpid());
    if (mkdir(path, 0755) != 0)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void read_group(int dir, const char *file, char *text, size_t len)
{
    int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, text, len - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
}

static void a_child_is_born_in_its_group_and_killed_by_it(void **state)
{
    char path[PATH_MAX], text[64], pid_line[24];
    int dir = make_group(path), pidfd = -1, wstatus = 0;
    struct pollfd pfd;
    pid_t pid;

    if (dir < 0)
        skip();
    pid = sys_clone(0, dir, &pidfd);
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_true(pid > 0);
    read_group(dir, "cgroup.procs", text, sizeof(text));
    snprintf(pid_line, sizeof(pid_line), "%d\n", (int)pid);
    assert_string_equal(text, pid_line);
    read_group(dir, "cgroup.events", text, sizeof(text));
    assert_int_equal(cgroup_counter(text, "populated"), 1);
    assert_int_equal(sys_write_text(dir, "cgroup.kill", "1"), 0);
    pfd = (struct pollfd){.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
    assert_int_equal(waitpid(pid, &wstatus, 0), pid);
    assert_true(WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL);
    read_group(dir, "cgroup.events", text, sizeof(text));
    assert_int_equal(cgroup_counter(text, "populated"), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(sys_clone(0, dir, &pidfd), -1);
    assert_true(errno == ENOENT || errno == ENODEV); /* by kernel version */
    close(dir);
    close(pidfd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v2_under_systemd),
        cmocka_unit_test(v1_and_hybrid),
        cmocka_unit_test(in_containers),
        cmocka_unit_test(strange_texts_are_no_group),
        cmocka_unit_test(counters_are_read_by_their_whole_name),
        cmocka_unit_test(a_child_is_born_in_its_group_and_killed_by_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
