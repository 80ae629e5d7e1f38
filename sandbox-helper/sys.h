/*
 * sys.h - Linux system calls that the C library of the oldest supported
 * distribution has no wrapper for, and the constants its headers lack.
 *
 * Thin: each function is its system call, returns as the call does (-1 and
 * errno on failure), allocates nothing and is safe after fork.  Numbers above
 * 423 are the same on every architecture but alpha, hence the fallbacks.
 * Shared by sandbox-stage and sandbox-packer.
 */
#ifndef SB_SYS_H
#define SB_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/types.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#endif
#ifndef SYS_fsconfig
#define SYS_fsconfig 431
#endif
#ifndef SYS_fsmount
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_landlock_add_rule
#define SYS_landlock_add_rule 445
#endif
#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE   1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004
#define MOVE_MOUNT_T_EMPTY_PATH 0x00000040
#endif
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC  0x00000001
#define FSMOUNT_CLOEXEC 0x00000001
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY  0x00000001
#define MOUNT_ATTR_NOSUID  0x00000002
#define MOUNT_ATTR_NODEV   0x00000004
#define MOUNT_ATTR_NOEXEC  0x00000008
#define MOUNT_ATTR_NOATIME 0x00000010
#endif

/* Names of our own: <linux/openat2.h> and <linux/mount.h> clash with glibc's in some versions. */
#define SYS_RESOLVE_NO_XDEV       0x01
#define SYS_RESOLVE_NO_MAGICLINKS 0x02
#define SYS_RESOLVE_NO_SYMLINKS   0x04
#define SYS_RESOLVE_BENEATH       0x08
#define SYS_RESOLVE_IN_ROOT       0x10

/*
 * clone3(2) with SIGCHLD as the exit signal and a copy of the caller's memory
 * (no CLONE_VM).  cgroup >= 0: a folder of cgroup2 to be born in.  Falls back to clone(2)
 * where clone3 is missing or answered with ENOSYS by a container's filter; that knows
 * nothing of groups: with one, ENOSYS is the caller's.  The caller must be single-threaded: C
 * library fork handlers do not run.  Returns as fork(2); in the parent *pidfd
 * is a close-on-exec descriptor of the child.
 */
pid_t sys_clone(uint64_t flags, int cgroup, int *pidfd);

/* fork(2), but the child is the caller's parent's.  As above, without a descriptor. */
pid_t sys_clone_sibling(void);

int sys_pidfd_open(pid_t pid);
int sys_pidfd_kill(int pidfd, int sig);
int sys_close_range(unsigned first, unsigned last, unsigned flags);
int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int sys_pivot_root(const char *new_root, const char *put_old);

/* mount API; all descriptors they make are close-on-exec */
int sys_open_tree(int dirfd, const char *path, unsigned flags);
/* Moves the (detached) mount `from` onto path below dirfd; an empty path means dirfd itself. */
int sys_move_mount(int from, int dirfd, const char *path);
int sys_fsopen(const char *fsname);
int sys_fsconfig_string(int fsfd, const char *key, const char *value);
int sys_fsconfig_create(int fsfd);
int sys_fsmount(int fsfd, uint64_t mount_attr);
/* Sets (never clears) MOUNT_ATTR_* and makes propagation private; flags: AT_EMPTY_PATH |
 * AT_RECURSIVE. */
int sys_mount_set(int dirfd, const char *path, unsigned flags, uint64_t attr_set);

int sys_landlock_abi(void); /* 0: the kernel has no Landlock or it is not enabled */
int sys_landlock_create(const void *attr, size_t size);
int sys_landlock_add_path(int ruleset, uint64_t access, int fd);
int sys_landlock_restrict(int ruleset);

/* ---- conveniences on top of ordinary calls ---- */

/* Closes fd, keeps errno, returns rc: for the ends of functions. */
int sys_close_with(int fd, int rc);
/* Opens path (below dirfd) for writing and writes text in one write(2); 0 or -1. */
int sys_write_text(int dirfd, const char *path, const char *text);
/* All of the bytes, or -1. */
int sys_write_all(int fd, const void *data, size_t len);
/* All of len bytes from offset (pread), or -1 (EIO when the file is shorter). */
int sys_pread_all(int fd, void *data, size_t len, off_t offset);

/*
 * One datagram with descriptors (SCM_RIGHTS) over a SOCK_SEQPACKET socket; never
 * raises SIGPIPE.  sys_recv_fds takes at most max descriptors, close-on-exec;
 * extra ones, or a datagram longer than len, are EMSGSIZE and nothing stays open.
 * Returns the datagram's length, 0 when the peer has gone.
 */
int sys_send_fds(int sock, const void *msg, size_t len, const int *fds, int nfds);
ssize_t sys_recv_fds(int sock, void *msg, size_t len, int *fds, int max, int *nfds);

#endif
