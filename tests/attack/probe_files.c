/*
 * probe_files.c - attacks on files: items 1, 2, 4 to 10 of the catalogue.
 */
#include "probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define SELF "/sandbox/scripts/probe"

/* ---- 1: create and overwrite ---- */

static void create_in(const char *dir)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/" MARK "file", dir);
    tried(try_open(path, O_WRONLY | O_CREAT), "create %s", path);
    snprintf(path, sizeof(path), "%s/" MARK "dir", dir);
    tried(mkdir(path, 0755), "mkdir %s", path);
    snprintf(path, sizeof(path), "%s/" MARK "link", dir);
    tried(symlink("/etc/passwd", path), "symlink %s", path);
    tried(try_open(dir, O_TMPFILE | O_WRONLY), "tmpfile %s", dir);
}

static void overwrite(const char *path)
{
    tried(try_open(path, O_WRONLY), "open for writing %s", path);
    tried(try_open(path, O_RDWR | O_TRUNC), "open for truncating %s", path);
    tried(truncate(path, 0), "truncate %s", path);
    tried(chmod(path, 0666), "chmod %s", path);
    tried(unlink(path), "unlink %s", path);
    tried(rename(path, "/tmp/" MARK "renamed"), "rename %s", path);
    tried(utimensat(AT_FDCWD, path, NULL, 0), "touch %s", path);
}

static void attack_create(int argc, char **argv)
{
    static const char *const dirs[] = {
        "/",        "/usr", "/usr/bin", "/usr/local", "/etc",      "/skill", "/sandbox/scripts",
        "/sandbox", "/dev", "/proc",    "/proc/sys",  "/sys",      "/bin",   "/lib",
        "/var",     "/run", "/home",    "/root",      "/.packages"};
    static const char *const files[] = {"/usr/bin/true",
                                        "/usr/bin/bash",
                                        "/usr/bin/python3",
                                        "/etc/passwd",
                                        "/etc/hosts",
                                        "/etc/ld.so.cache",
                                        "/skill/SKILL.md",
                                        "/sandbox/scripts/SKILL.md",
                                        SELF,
                                        "/sandbox/input.json",
                                        "/proc/sys/kernel/hostname",
                                        "/proc/sys/kernel/core_pattern",
                                        "/proc/sys/user/max_user_namespaces",
                                        "/proc/sysrq-trigger",
                                        "/proc/1/oom_score_adj",
                                        "/proc/self/uid_map"};

    for (size_t i = 0; i < COUNT(dirs); i++) {
        create_in(dirs[i]);
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        overwrite(files[i]);
    }
    tried(rmdir("/skill"), "rmdir /skill");
    tried(rename("/sandbox/scripts", "/sandbox/" MARK "scripts"), "rename /sandbox/scripts");
}

/* The places where it must be possible, in a form that leaves no file behind. */
static void attack_create_control(int argc, char **argv)
{
    static const char *const dirs[] = {"/tmp", "/sandbox/work", "/sandbox/out", "/dev/shm"};

    for (size_t i = 0; i < COUNT(dirs); i++) {
        create_in(dirs[i]);
    }
    overwrite("/dev/null");
}

/* ---- 2: secrets ---- */

static int seen, found;

static void keep_finding(const char *path, const char *data, size_t len)
{
    char name[64];
    FILE *f;

    snprintf(name, sizeof(name), FILES "/found-%d", found++);
    f = fopen(name, "w");
    if (f != NULL) {
        fprintf(f, "%s\n", path);
        fwrite(data, 1, len, f);
        fclose(f);
    }
}

/* The probe's own copy of the prefix has nothing behind it. */
static bool has_secret(const char *data, size_t len)
{
    const char *at = data;

    while ((at = memmem(at, len - (size_t)(at - data), CANARY, strlen(CANARY))) != NULL) {
        at += strlen(CANARY);
        if (at < data + len && isalnum((unsigned char)*at)) {
            return true;
        }
    }
    return false;
}

/* Keeps the file's beginning when a secret of the host is in it. */
static void search_file(const char *path)
{
    static char data[1 << 20];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    ssize_t n;

    if (fd < 0) {
        return;
    }
    n = read(fd, data, sizeof(data));
    close(fd);
    if (n > 0 && has_secret(data, (size_t)n)) {
        keep_finding(path, data, (size_t)n);
    }
}

static int search_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    static const char *const skipped[] = {"/usr/", "/sandbox/out/", "/dev/"};

    if (++seen > 50000) {
        return 1;
    }
    for (size_t i = 0; i < COUNT(skipped); i++) {
        if (strncmp(path, skipped[i], strlen(skipped[i])) == 0) {
            return 0;
        }
    }
    if (flag == FTW_F) {
        search_file(path);
    }
    return 0;
}

static void list_root(void)
{
    char names[2048] = "";
    struct dirent *entry;
    DIR *dir = opendir("/");

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            strncat(names, entry->d_name, sizeof(names) - strlen(names) - 2);
            strcat(names, " ");
        }
    }
    noted("root", names);
}

/* argv: paths of the host that must not be there */
static void attack_secrets(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        tried(try_open(argv[i], O_RDONLY), "read %s", argv[i]);
        tried(try_open(argv[i], O_PATH), "reach %s", argv[i]);
    }
    list_root();
    nftw("/", search_one, 32, FTW_PHYS);
    for (char **e = environ; *e != NULL; e++) {
        if (has_secret(*e, strlen(*e))) {
            keep_finding("environment", *e, strlen(*e));
        }
    }
    noted_number("seen", seen);
    noted_number("found", found);
}

/* ---- 4: device nodes ---- */

static void attack_nodes(int argc, char **argv)
{
    static const char *const dirs[] = {"/tmp", "/sandbox/work", FILES, "/dev/shm", "/dev"};
    char path[256];

    for (size_t i = 0; i < COUNT(dirs); i++) {
        snprintf(path, sizeof(path), "%s/" MARK "mem", dirs[i]);
        tried(mknod(path, S_IFCHR | 0666, makedev(1, 1)), "mknod mem in %s", dirs[i]);
        tried(mknod(path, S_IFCHR | 0666, makedev(1, 3)), "mknod null in %s", dirs[i]);
        tried(mknod(path, S_IFCHR, 0), "mknod whiteout in %s", dirs[i]);
        tried(mknod(path, S_IFBLK | 0666, makedev(8, 0)), "mknod disk in %s", dirs[i]);
        tried(try_open(path, O_RDONLY | O_NONBLOCK), "open node in %s", dirs[i]);
    }
    tried(mknod(FILES "/fifo", S_IFIFO | 0644, 0), "mkfifo in artifacts");
}

/* ---- 5: set-user-id ---- */

static void note_ids(void)
{
    uid_t r, e, s;

    getresuid(&r, &e, &s);
    noted_number("ruid", r);
    noted_number("euid", e);
    noted_number("suid", s);
}

static void attack_suid(int argc, char **argv)
{
    static char *const self[] = {SELF, "mark", "suid-package", NULL};
    static char *const own[] = {"/tmp/" MARK "own", "mark", "suid-own", NULL};
    static char touch[] = "touch " FILES "/executed-su";
    static char *const su[] = {"su", "-s", "/bin/sh", "-c", touch, NULL};
    static char *const mount[] = {"mount", "-t", "tmpfs", "none", "/tmp", NULL};
    struct stat st;

    noted_number("run packaged", run_program(SELF, self));
    tried(copy_file(SELF, "/tmp/" MARK "own", 06755), "copy a set-user-id file");
    noted_number("mode", stat("/tmp/" MARK "own", &st) == 0 ? (int)(st.st_mode & 07777) : -1);
    noted_number("packaged mode", stat(SELF, &st) == 0 ? (int)(st.st_mode & 07777) : -1);
    noted_number("run own", run_program("/tmp/" MARK "own", own));
    noted_number("run su", run_program("/usr/bin/su", su));
    noted_number("run mount", run_program("/usr/bin/mount", mount));
    note_ids();
}

/* ---- 6: descriptors ---- */

static void attack_fds(int argc, char **argv)
{
    char path[64], target[256], list[1024] = "";

    for (int fd = 0; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            snprintf(path, sizeof(path), "%d ", fd);
            strncat(list, path, sizeof(list) - strlen(list) - 1);
        }
    }
    noted("open", list);
    for (int fd = 0; fd < 3; fd++) {
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        noted(path, target);
    }
    tried(write(0, "x", 1), "write to stdin");
    tried(ftruncate(0, 0), "truncate stdin");
    tried(try_open("/proc/self/fd/0", O_RDWR), "reopen stdin for writing");
    tried(fchmod(0, 0666), "chmod stdin");
}

/* ---- 7: /proc ---- */

/* argv[0]: a secret file of the host, absolute */
static void attack_proc(int argc, char **argv)
{
    static const char *const through[] = {"/proc/1/root", "/proc/1/cwd", "/proc/self/root",
                                          "/proc/thread-self/root", "/proc/self/cwd/../../.."};
    static const char *const read_only[] = {"/proc/1/environ",   "/proc/1/maps",  "/proc/1/fd",
                                            "/proc/1/map_files", "/proc/1/stack", "/proc/kcore",
                                            "/proc/kallsyms",    "/proc/keys"};
    static const char *const for_writing[] = {"/proc/1/mem",          "/proc/self/exe",
                                              "/proc/1/exe",          "/proc/1/comm",
                                              "/proc/1/attr/current", "/proc/sysrq-trigger"};
    struct iovec iov = {.iov_base = &iov, .iov_len = sizeof(iov)};
    char path[PATH_MAX];

    for (size_t i = 0; i < COUNT(through); i++) {
        snprintf(path, sizeof(path), "%s%s", through[i], argv[0]);
        tried(try_open(path, O_RDONLY), "read %s", path);
    }
    for (size_t i = 0; i < COUNT(read_only); i++) {
        int fd = open(read_only[i], O_RDONLY);

        tried(fd < 0 ? -1 : read(fd, path, 1), "read %s", read_only[i]);
        close(fd);
    }
    for (size_t i = 0; i < COUNT(for_writing); i++) {
        tried(try_open(for_writing[i], O_WRONLY), "write %s", for_writing[i]);
    }
    tried(ptrace(PTRACE_SEIZE, 1, NULL, NULL), "ptrace pid 1");
    tried(process_vm_writev(1, &iov, 1, &iov, 1, 0), "process_vm_writev to pid 1");
    tried(process_vm_readv(1, &iov, 1, &iov, 1, 0), "process_vm_readv of pid 1");
}

/* ---- 8: file handles ---- */

static void attack_handles(int argc, char **argv)
{
    static const char *const starts[] = {"/", "/usr", "/skill", "/etc/ld.so.cache", "/tmp"};
    union {
        struct file_handle handle;
        char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } h;
    int mount_id;

    for (size_t i = 0; i < COUNT(starts); i++) {
        int start = open(starts[i], O_RDONLY);

        memset(&h, 0, sizeof(h));
        h.handle.handle_bytes = MAX_HANDLE_SZ;
        tried(name_to_handle_at(AT_FDCWD, starts[i], &h.handle, &mount_id, 0),
              "name_to_handle_at %s", starts[i]);
        /* inode 2 is the root of most file systems: what the shocker exploit guessed */
        h.handle.handle_bytes = 8;
        h.handle.handle_type = 1;
        memcpy(h.handle.f_handle, "\2\0\0\0\0\0\0\0", 8);
        tried(open_by_handle_at(start, &h.handle, O_RDONLY), "open_by_handle_at %s", starts[i]);
        close(start);
    }
}

/* ---- 9: climbing ---- */

/* argv[0]: a secret file of the host, absolute */
static void attack_climb(int argc, char **argv)
{
    char up[PATH_MAX];
    struct stat root, above;
    int path_fd = open("/..", O_PATH | O_DIRECTORY), root_fd = open("/", O_RDONLY | O_DIRECTORY);
    int work = open("/sandbox/work", O_RDONLY | O_DIRECTORY);
    const uint64_t how[3] = {O_RDONLY, 0, 0};

    snprintf(up, sizeof(up), "../../../../../../../../../..%s", argv[0]);
    tried(openat(root_fd, up, O_RDONLY), "openat of .. from /");
    tried(openat(work, up, O_RDONLY), "openat of .. from work");
    tried(openat(path_fd, argv[0] + 1, O_RDONLY), "openat through O_PATH of /..");
    tried(syscall(437, root_fd, up, how, sizeof(how)), "openat2 of .. from /");
    tried(try_open(up, O_RDONLY), "open of .. from the working directory");
    tried(symlink(up, "/sandbox/work/way-out") == 0 ? try_open("/sandbox/work/way-out", O_RDONLY)
                                                    : -1,
          "open through an own symlink");
    unlink("/sandbox/work/way-out");
    if (chdir("/proc/self/cwd/../../..") == 0 && chdir("..") == 0) {
        tried(try_open(argv[0] + 1, O_RDONLY), "open after chdir up through /proc");
    }
    tried(chroot("/tmp"), "chroot");
    tried(fchdir(path_fd) == 0 ? try_open(argv[0] + 1, O_RDONLY) : -1, "open after fchdir");
    stat("/", &root);
    stat("/..", &above);
    noted_number("same root", root.st_ino == above.st_ino && root.st_dev == above.st_dev);
    chdir("/sandbox");
}

/* ---- 10: links and renames across mounts ---- */

static void attack_links(int argc, char **argv)
{
    static const char *const from[] = {"/skill/SKILL.md", "/sandbox/scripts/SKILL.md",
                                       "/usr/bin/true", "/etc/passwd", "/sandbox/input.json"};
    static const char *const to[] = {"/sandbox/work/" MARK "link", "/tmp/" MARK "link",
                                     FILES "/" MARK "link"};

    for (size_t i = 0; i < COUNT(from); i++) {
        for (size_t k = 0; k < COUNT(to); k++) {
            tried(link(from[i], to[k]), "link %s to %s", from[i], to[k]);
            tried(linkat(AT_FDCWD, from[i], AT_FDCWD, to[k], AT_SYMLINK_FOLLOW), "linkat %s to %s",
                  from[i], to[k]);
            tried(rename(from[i], to[k]), "rename %s to %s", from[i], to[k]);
        }
        tried(link("/sandbox/out/files/nonce", from[i]), "link over %s", from[i]);
        tried(rename("/sandbox/out/files/nonce", from[i]), "rename over %s", from[i]);
        tried(renameat2(AT_FDCWD, "/sandbox/out/files/nonce", AT_FDCWD, from[i], RENAME_EXCHANGE),
              "exchange with %s", from[i]);
    }
}

const attack_t file_attacks[] = {
    {"create", attack_create},
    {"create-control", attack_create_control},
    {"secrets", attack_secrets},
    {"nodes", attack_nodes},
    {"suid", attack_suid},
    {"fds", attack_fds},
    {"proc", attack_proc},
    {"handles", attack_handles},
    {"climb", attack_climb},
    {"links", attack_links},
    {NULL, NULL},
};
