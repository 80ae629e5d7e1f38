/*
 * probe_limits.c - attacks on space and on what may be executed: items 11 to 14 of
 * the catalogue.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SELF      "/sandbox/scripts/probe"
#define FILL_MAX  (4LL << 30)
#define FILES_MAX 100000

static const char *const writable[] = {"/tmp", "/sandbox/work", "/dev/shm", "/sandbox/out"};

/* ---- 11: bytes ---- */

/* Appends to one file after another until neither grows any more; how much there is then. */
static long long fill(const char *dir, int *files)
{
    static char block[65536];
    long long total = 0;
    char path[256];

    memset(block, 'x', sizeof(block));
    for (*files = 0; *files < 64 && total < FILL_MAX; (*files)++) {
        long long before = total;
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "%s/" MARK "fill-%d", dir, *files);
        fd = open(path, O_WRONLY | O_CREAT, 0644);
        while (fd >= 0 && total < FILL_MAX && (n = write(fd, block, sizeof(block))) > 0) {
            total += n;
        }
        tried(total < FILL_MAX ? -1 : 0, "fill %s", dir);
        close(fd);
        if (total == before) {
            return total;
        }
    }
    return total;
}

static void attack_fill(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < COUNT(writable); i++) {
        char path[256];
        int files;

        noted_number(writable[i], fill(writable[i], &files));
        for (int k = 0; k <= files; k++) {
            snprintf(path, sizeof(path), "%s/" MARK "fill-%d", writable[i], k);
            unlink(path);
        }
    }
}

/* ---- 12: inodes ---- */

static void attack_inodes(int argc, char **argv)
{
    char path[256];

    for (size_t i = 0; i < COUNT(writable); i++) {
        int made = 0;

        for (; made < FILES_MAX; made++) {
            snprintf(path, sizeof(path), "%s/" MARK "%d", writable[i], made);
            if (try_open(path, O_WRONLY | O_CREAT | O_EXCL) < 0) {
                break;
            }
        }
        tried(made < FILES_MAX ? -1 : 0, "make files in %s", writable[i]);
        noted_number(writable[i], made);
        while (made-- > 0) {
            snprintf(path, sizeof(path), "%s/" MARK "%d", writable[i], made);
            unlink(path);
        }
    }
}

/* ---- 13: executing ---- */

static int execute_memfd(void *arg)
{
    static char *const argv[] = {"probe", "mark", "memfd", NULL};
    static char *const env[] = {NULL};
    static char data[65536];
    char path[64];
    int in = open(SELF, O_RDONLY), fd = (int)syscall(SYS_memfd_create, "x", 0);
    ssize_t n;

    if (fd < 0) {
        return 99;
    }
    while ((n = read(in, data, sizeof(data))) > 0) {
        if (write(fd, data, (size_t)n) != n) {
            return 98;
        }
    }
    syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    execve(path, argv, env);
    return 97;
}

static void try_execute_in(const char *dir, const char *mark)
{
    char path[256];
    char *const argv[] = {"probe", "mark", (char *)mark, NULL};
    char *const loaded[] = {"ld.so", path, "mark", (char *)mark, NULL};
    int fd;

    snprintf(path, sizeof(path), "%s/" MARK "copy", dir);
    noted_number(path, copy_file(SELF, path, 0755));
    snprintf(path, sizeof(path), "%s/" MARK "copy", dir);
    run_program(path, argv);
    run_program("/lib64/ld-linux-x86-64.so.2", loaded);
    fd = open(path, O_RDONLY);
    tried(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0,
          "map executable from %s", dir);
    close(fd);
    unlink(path);
}

static void attack_execute(int argc, char **argv)
{
    char *const control[] = {"probe", "mark", "scripts", NULL};

    run_program(SELF, control);
    try_execute_in("/tmp", "tmp");
    try_execute_in("/sandbox/work", "work");
    try_execute_in("/sandbox/out", "out");
    try_execute_in("/dev/shm", "shm");
    noted_number("memfd", in_child(execute_memfd, NULL));
}

/* ---- 14: sparse files ---- */

static void attack_sparse(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < COUNT(writable); i++) {
        char path[256];
        int fd;

        snprintf(path, sizeof(path), "%s/" MARK "sparse", writable[i]);
        fd = open(path, O_RDWR | O_CREAT, 0644);
        tried(ftruncate(fd, 1LL << 40), "ftruncate to 1 TiB in %s", writable[i]);
        tried(fallocate(fd, 0, 0, 1LL << 40), "fallocate 1 TiB in %s", writable[i]);
        tried(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1LL << 40), "reserve 1 TiB in %s", writable[i]);
        tried(pwrite(fd, "x", 1, (1LL << 40) - 1), "write at 1 TiB in %s", writable[i]);
        close(fd);
        unlink(path);
    }
}

/* Artifacts of holes, as large as they may be: argv[0] is how many. */
static void attack_holes(int argc, char **argv)
{
    long long size = 1LL << 40;
    int many = argc > 0 ? argv[0][0] - '0' : 1;

    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < many; i++) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), FILES "/holes-%d", i);
        fd = open(path, O_RDWR | O_CREAT, 0644);
        while (size > 0 && ftruncate(fd, size) != 0) {
            size /= 2;
        }
        close(fd);
    }
    noted_number("size", size);
}

const attack_t limit_attacks[] = {
    {"fill", attack_fill},     {"inodes", attack_inodes}, {"execute", attack_execute},
    {"sparse", attack_sparse}, {"holes", attack_holes},   {NULL, NULL},
};
