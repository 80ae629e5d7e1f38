/*
 * sys.c - see sys.h.  No state; used before and after fork, in any process of
 * sandbox-stage and sandbox-packer.
 */
#include "sys.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stage.h"

/* As the kernel defines it (CLONE_ARGS_SIZE_VER2). */
struct clone3_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup;
};

struct open_how_args {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};

struct mount_attr_args {
    uint64_t attr_set;
    uint64_t attr_clr;
    uint64_t propagation;
    uint64_t userns_fd;
};

struct landlock_path_args {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

enum { LANDLOCK_VERSION_FLAG = 1, LANDLOCK_PATH_BENEATH = 1 };
/* enum fsconfig_command of the kernel */
enum { CONFIG_SET_STRING = 1, CONFIG_CREATE = 6 };

pid_t sys_clone(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone3_args args = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
    };
    long pid = syscall(SYS_clone3, &args, sizeof(args));

    if (pid >= 0 || errno != ENOSYS || cgroup >= 0)
        return (pid_t)pid;
    /* clone(2) puts the pidfd where parent_tid points: the third argument everywhere but s390 */
    return (pid_t)syscall(SYS_clone, (unsigned long)(flags | CLONE_PIDFD | SIGCHLD), NULL, pidfd,
                          NULL, NULL);
}

pid_t sys_clone_sibling(void)
{
    return (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL,
                          NULL);
}

int sys_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int sys_pidfd_kill(int pidfd, int sig)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}

int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how_args how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};

    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLOEXEC);
}

int sys_move_mount(int from, int dirfd, const char *path)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (path[0] == '\0' ? MOVE_MOUNT_T_EMPTY_PATH : 0);

    return (int)syscall(SYS_move_mount, from, "", dirfd, path, flags);
}

int sys_fsopen(const char *fsname)
{
    return (int)syscall(SYS_fsopen, fsname, FSOPEN_CLOEXEC);
}

int sys_fsconfig_string(int fsfd, const char *key, const char *value)
{
    return (int)syscall(SYS_fsconfig, fsfd, CONFIG_SET_STRING, key, value, 0);
}

int sys_fsconfig_create(int fsfd)
{
    return (int)syscall(SYS_fsconfig, fsfd, CONFIG_CREATE, NULL, NULL, 0);
}

int sys_fsmount(int fsfd, uint64_t mount_attr)
{
    return (int)syscall(SYS_fsmount, fsfd, FSMOUNT_CLOEXEC, (unsigned)mount_attr);
}

int sys_mount_set(int dirfd, const char *path, unsigned flags, uint64_t attr_set)
{
    struct mount_attr_args attr = {.attr_set = attr_set, .propagation = MS_PRIVATE};

    return (int)syscall(SYS_mount_setattr, dirfd, path, flags, &attr, sizeof(attr));
}

int sys_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

    return abi < 0 ? 0 : (int)abi;
}

int sys_landlock_create(const void *attr, size_t size)
{
    return (int)syscall(SYS_landlock_create_ruleset, attr, size, 0);
}

int sys_landlock_add_path(int ruleset, uint64_t access, int fd)
{
    struct landlock_path_args rule = {.allowed_access = access, .parent_fd = fd};

    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0);
}

int sys_landlock_restrict(int ruleset)
{
    return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

int sys_close_with(int fd, int rc)
{
    int err = errno;

    close(fd);
    errno = err;
    return rc;
}

int sys_write_text(int dirfd, const char *path, const char *text)
{
    size_t len = strlen(text);
    int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n;
    int err;

    if (fd < 0)
        return -1;
    n = write(fd, text, len);
    err = n < 0 ? errno : EIO;
    close(fd);
    if (n == (ssize_t)len)
        return 0;
    errno = err;
    return -1;
}

int sys_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int sys_pread_all(int fd, void *data, size_t len, off_t offset)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        p += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

/* Room for the descriptors of one datagram, aligned as cmsg(3) wants it. */
union fd_control {
    char space[CMSG_SPACE(sizeof(int) * STAGE_FDS_MAX)];
    struct cmsghdr align;
};

int sys_send_fds(int sock, const void *msg, size_t len, const int *fds, int nfds)
{
    union fd_control control = {0};
    struct iovec iov = {.iov_base = (void *)msg, .iov_len = len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (nfds < 0 || nfds > STAGE_FDS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (nfds > 0) {
        struct cmsghdr *cm;

        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        cm = CMSG_FIRSTHDR(&mh);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(cm), fds, sizeof(int) * (size_t)nfds);
    }
    do
        n = sendmsg(sock, &mh, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

static void close_all(const int *fds, int nfds)
{
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
}

/* Copies the datagram's descriptors out; closes those beyond max.  How many there were. */
static int take_fds(struct msghdr *mh, int *fds, int max)
{
    int total = 0;

    for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm != NULL; cm = CMSG_NXTHDR(mh, cm)) {
        size_t n;

        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++, total++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
            if (total < max)
                fds[total] = fd;
            else
                close(fd);
        }
    }
    return total;
}

ssize_t sys_recv_fds(int sock, void *msg, size_t len, int *fds, int max, int *nfds)
{
    union fd_control control;
    struct iovec iov = {.iov_base = msg, .iov_len = len};
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space),
    };
    ssize_t n;
    int total;

    *nfds = 0;
    do
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return n;
    if (n == 0) { /* the end; or a datagram of no bytes, which may bring descriptors all the same */
        take_fds(&mh, NULL, 0);
        return 0;
    }
    total = take_fds(&mh, fds, max);
    if (total > max || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        close_all(fds, total < max ? total : max);
        errno = EMSGSIZE;
        return -1;
    }
    *nfds = total;
    return n;
}
