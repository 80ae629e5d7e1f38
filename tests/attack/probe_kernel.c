/*
 * probe_kernel.c - attacks on mounts, namespaces, privileges and filters: items 3, 15
 * to 20 of the catalogue, and the doors of the host.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef AF_ALG
#define AF_ALG 38
#endif

/* Numbers that are the same on every architecture. */
enum {
    NR_open_tree = 428,
    NR_move_mount = 429,
    NR_fsopen = 430,
    NR_fsconfig = 431,
    NR_fsmount = 432,
    NR_fspick = 433,
    NR_clone3 = 435,
    NR_mount_setattr = 442,
    NR_open_tree_attr = 467,
};

/* ---- 3: mounts ---- */

static void attack_mounts(int argc, char **argv)
{
    static const char *const places[] = {"/",     "/usr", "/skill", "/sandbox/scripts",
                                         "/proc", "/tmp"};
    const uint64_t clear_ro[4] = {0, 1 /* MOUNT_ATTR_RDONLY */, 0, 0};

    for (size_t i = 0; i < COUNT(places); i++) {
        const char *at = places[i];

        tried(mount(NULL, at, NULL, MS_REMOUNT | MS_BIND, NULL), "remount writable %s", at);
        tried(mount("none", at, "tmpfs", 0, NULL), "mount tmpfs on %s", at);
        tried(mount("proc", at, "proc", 0, NULL), "mount proc on %s", at);
        tried(mount("/tmp", at, NULL, MS_BIND, NULL), "bind on %s", at);
        tried(mount(NULL, at, NULL, MS_SHARED, NULL), "share %s", at);
        tried(umount2(at, MNT_DETACH), "umount %s", at);
        tried(syscall(NR_open_tree, AT_FDCWD, at, 1 /* OPEN_TREE_CLONE */), "open_tree %s", at);
        tried(syscall(NR_open_tree_attr, AT_FDCWD, at, 1, clear_ro, sizeof(clear_ro)),
              "open_tree_attr %s", at);
        tried(syscall(NR_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, at, 0), "move_mount to %s", at);
        tried(syscall(NR_mount_setattr, AT_FDCWD, at, 0, clear_ro, sizeof(clear_ro)),
              "mount_setattr %s", at);
        tried(syscall(NR_fspick, AT_FDCWD, at, 0), "fspick %s", at);
        tried(syscall(SYS_pivot_root, at, at), "pivot_root %s", at);
        tried(chroot(at), "chroot %s", at);
    }
    tried(syscall(NR_fsopen, "tmpfs", 0), "fsopen");
    tried(syscall(NR_fsconfig, 0, 6, NULL, NULL, 0), "fsconfig");
    tried(syscall(NR_fsmount, 0, 0, 0), "fsmount");
}

/* ---- 15: the page cache of read-only files ---- */

static void attack_page_cache(int argc, char **argv)
{
    static char junk[4096];
    struct iovec iov = {.iov_base = junk, .iov_len = sizeof(junk)};
    int fd = open("/usr/bin/true", O_RDONLY), one[2], two[2];
    off_t offset = 1;
    long piped = 0;

    memset(junk, 'A', sizeof(junk));
    if (fd < 0 || pipe(one) != 0 || pipe(two) != 0) {
        tried(-1, "prepare");
        return;
    }
    /* Dirty Pipe: pages that may be merged into, then a file's page, then a write */
    for (int i = 0; i < 16; i++) {
        piped += write(one[1], junk, sizeof(junk));
        piped += read(one[0], junk, sizeof(junk));
    }
    tried(splice(fd, &offset, one[1], NULL, 1, 0), "splice");
    piped += write(one[1], junk, sizeof(junk));
    noted_number("piped", piped); /* the pipes themselves work */
    tried(tee(one[0], two[1], 1, 0), "tee");
    tried(vmsplice(one[1], &iov, 1, SPLICE_F_GIFT), "vmsplice");
    tried(pwrite(fd, junk, 1, 0), "write to a file open for reading");
    offset = 0;
    tried(copy_file_range(fd, NULL, fd, &offset, 1, 0), "copy_file_range onto it");
    tried(fallocate(fd, 0, 0, 1), "fallocate on it");
    /* Copy Fail: the kernel's crypto sockets write where they were handed pages to read */
    tried(socket(AF_ALG, SOCK_SEQPACKET, 0), "AF_ALG socket");
}

/* ---- 16: leases and notifications ---- */

static void attack_leases(int argc, char **argv)
{
    int file = open("/usr/bin/true", O_RDONLY), dir = open("/usr/bin", O_RDONLY | O_DIRECTORY);

    tried(fcntl(file, F_SETLEASE, F_RDLCK), "F_SETLEASE");
    tried(fcntl(file, F_SETLEASE, F_WRLCK), "F_SETLEASE for writing");
    tried(fcntl(dir, F_NOTIFY, DN_ACCESS | DN_MULTISHOT), "F_NOTIFY");
    tried(syscall(SYS_fanotify_init, 0, 0), "fanotify_init");
    tried(inotify_init1(0), "inotify_init1");
    tried(inotify_add_watch(0, "/usr/bin", IN_OPEN), "inotify_add_watch");
#ifdef SYS_inotify_init
    tried(syscall(SYS_inotify_init), "inotify_init");
#endif
    /* kept open while the host looks */
}

/* ---- 17: namespaces ---- */

static const struct {
    const char *name;
    unsigned long flag;
} namespaces[] = {
    {"user", CLONE_NEWUSER},     {"mnt", CLONE_NEWNS},  {"pid", CLONE_NEWPID},
    {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
    {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80},
};

/* What a child in a namespace of its own would leave behind. */
static void reap_or_be(long pid)
{
    if (pid == 0) {
        open("/sandbox/out/files/executed-namespace", O_WRONLY | O_CREAT, 0644);
        _exit(0);
    }
    if (pid > 0) {
        waitpid((pid_t)pid, NULL, 0);
    }
}

static void attack_namespaces(int argc, char **argv)
{
    for (size_t i = 0; i < COUNT(namespaces); i++) {
        uint64_t args[8] = {namespaces[i].flag, 0, 0, 0, SIGCHLD, 0, 0, 0};
        char path[64];
        int fd, err;
        long rc;

        tried(unshare((int)namespaces[i].flag), "unshare %s", namespaces[i].name);
        if (namespaces[i].flag != 0x80) { /* in clone(2) this bit belongs to the exit signal */
            rc = syscall(SYS_clone, namespaces[i].flag | SIGCHLD, 0, 0, 0, 0);
            err = errno;
            reap_or_be(rc);
            errno = err;
            tried(rc, "clone %s", namespaces[i].name);
        }
        rc = syscall(NR_clone3, args, sizeof(args));
        err = errno;
        reap_or_be(rc);
        errno = err;
        tried(rc, "clone3 %s", namespaces[i].name);
        snprintf(path, sizeof(path), "/proc/1/ns/%s", namespaces[i].name);
        fd = open(path, O_RDONLY);
        tried(fd, "open %s", path);
        tried(setns(fd, 0), "setns %s", namespaces[i].name);
        snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i].name);
        fd = open(path, O_RDONLY);
        tried(setns(fd, 0), "setns own %s", namespaces[i].name);
        close(fd);
    }
    tried(setns((int)syscall(434, 1, 0), CLONE_NEWNS | CLONE_NEWPID), "setns by pidfd");
}

/* ---- 18: capabilities and ids ---- */

static void attack_privileges(int argc, char **argv)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct all[2];
    gid_t group = 0;

    memset(all, 0xff, sizeof(all));
    tried(syscall(SYS_capset, &header, all), "capset all");
    all[0] = (struct __user_cap_data_struct){1u << CAP_CHOWN, 1u << CAP_CHOWN, 0};
    all[1] = (struct __user_cap_data_struct){0, 0, 0};
    tried(syscall(SYS_capset, &header, all), "capset CAP_CHOWN");
    tried(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), "raise ambient");
    tried(prctl(PR_SET_SECUREBITS, 0), "PR_SET_SECUREBITS");
    tried(prctl(PR_SET_KEEPCAPS, 1), "PR_SET_KEEPCAPS");
    tried(setuid(0), "setuid 0");
    tried(seteuid(0), "seteuid 0");
    tried(setresuid(0, 0, 0), "setresuid 0");
    tried(setgid(0), "setgid 0");
    tried(setresgid(0, 0, 0), "setresgid 0");
    tried(syscall(SYS_setgroups, 1, &group), "setgroups");
    tried(syscall(SYS_setgroups, 0, NULL), "setgroups to none");
    tried(syscall(SYS_setfsuid, 0) == 0 && syscall(SYS_setfsuid, -1) == 0 ? 0 : -1, "setfsuid 0");
    tried(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0), "keyctl");
}

/* ---- 19: supplementary groups ---- */

static void attack_groups(int argc, char **argv)
{
    gid_t groups[64];

    noted_number("groups", getgroups(64, groups));
}

/* ---- 20: filters ---- */

static void attack_filters(int argc, char **argv)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};

    tried(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), "no_new_privs off");
    tried(prctl(PR_SET_SECCOMP, SECCOMP_MODE_DISABLED), "seccomp off");
    tried(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), "seccomp strict by prctl");
    tried(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "filter by prctl");
    tried(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL), "seccomp strict");
    tried(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "second filter");
    tried(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program),
          "filter with a listener");
    tried(prctl(PR_SET_MM, 1, 0, 0, 0), "PR_SET_MM");
    tried(mount("none", "/tmp", "tmpfs", 0, NULL), "a forbidden call afterwards");
}

/* ---- the doors of the host ---- */

static long connect_inet(int family, const char *address, int port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -1;
    }
    if (family == AF_INET) {
        inet_pton(family, address, &in4.sin_addr);
        return connect(fd, (struct sockaddr *)&in4, sizeof(in4));
    }
    inet_pton(family, address, &in6.sin6_addr);
    return connect(fd, (struct sockaddr *)&in6, sizeof(in6));
}

static long connect_unix(const char *name, int abstract)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t len = strlen(name);

    if (fd < 0) {
        return -1;
    }
    if (len + 1 < sizeof(addr.sun_path)) {
        memcpy(addr.sun_path + abstract, name, len);
    }
    return connect(fd, (struct sockaddr *)&addr,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + len));
}

/* argv: TCP port, abstract name, socket path, pid of a host process */
static void attack_doors(int argc, char **argv)
{
    int port = atoi(argv[0]), pid = atoi(argv[3]);

    tried(connect_inet(AF_INET, "127.0.0.1", port), "connect 127.0.0.1");
    tried(connect_inet(AF_INET6, "::1", port), "connect ::1");
    tried(connect_inet(AF_INET, "8.8.8.8", 53), "connect 8.8.8.8");
    tried(connect_unix(argv[1], 1), "connect abstract socket");
    tried(connect_unix(argv[2], 0), "connect socket path");
    tried(kill(pid, SIGKILL), "kill a host process");
    tried(kill(pid, SIGSTOP), "stop a host process");
    tried(syscall(434, pid, 0), "pidfd_open of a host process");
    tried(syscall(SYS_tgkill, pid, pid, SIGKILL), "tgkill a host process");
    noted_number("signal everybody", kill(-1, SIGCONT)); /* its own shell may hear it */
}

const attack_t kernel_attacks[] = {
    {"mounts", attack_mounts},         {"page-cache", attack_page_cache}, {"leases", attack_leases},
    {"namespaces", attack_namespaces}, {"privileges", attack_privileges}, {"groups", attack_groups},
    {"filters", attack_filters},       {"doors", attack_doors},           {NULL, NULL},
};
