/*
 * process.c - see process.h.  Forks and signals; the children it forks to act as
 * another user give up root before anything else.
 */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is read of /proc/<pid>/stat. */
typedef struct {
    char state;
    int session;
    unsigned long long start;
} stat_t;

/* Reads a small file of /proc as text. */
static bool read_proc(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        return false;
    }
    n = read(fd, buf, size - 1);
    close(fd);
    if (n <= 0) {
        return false;
    }
    buf[n] = '\0';
    return true;
}

static bool boot_id(char out[SB_BOOT_ID_LEN + 1])
{
    char text[64];

    if (!read_proc("/proc/sys/kernel/random/boot_id", text, sizeof(text)) ||
        strlen(text) < SB_BOOT_ID_LEN) {
        return false;
    }
    memcpy(out, text, SB_BOOT_ID_LEN);
    out[SB_BOOT_ID_LEN] = '\0';
    return true;
}

/* False also for a zombie: what it was does not run any more. */
static bool read_stat(pid_t pid, stat_t *st)
{
    char path[64], text[1024];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!read_proc(path, text, sizeof(text))) {
        return false;
    }
    /* the command's name may hold anything, blanks and parentheses too: skip past its last one */
    const char *p = strrchr(text, ')');
    if (p == NULL || sscanf(p + 1,
                            " %c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                            "%*d %*d %llu",
                            &st->state, &st->session, &st->start) != 3) {
        return false;
    }
    return st->state != 'Z' && st->state != 'X';
}

/* ---- starting ---- */

static void child_fail(int fd)
{
    int e = errno;
    ssize_t n = write(fd, &e, sizeof(e));

    _exit(n == (ssize_t)sizeof(e) ? 127 : 126);
}

static void spawn_child(char *const argv[], const char *dir, const char *log, int error_fd)
{
    sigset_t none;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);

    if (null_fd < 0 || log_fd < 0 || setsid() < 0 || chdir(dir) != 0 || dup2(null_fd, 0) < 0 ||
        dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0) {
        child_fail(error_fd);
    }
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    umask(027);
    unsetenv("SKILLBOX_API_KEY");
    unsetenv("NGINX"); /* nginx takes it for a list of inherited sockets */
    execv(argv[0], argv);
    child_fail(error_fd);
}

sb_code_t sb_proc_spawn(char *const argv[], const char *dir, const char *log, sb_proc_t *out,
                        sb_err_t *err)
{
    int fds[2], child_errno = 0;
    stat_t st;

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return sb_err_errno(err, errno, "pipe");
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        spawn_child(argv, dir, log, fds[1]);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return sb_err_errno(err, errno, "fork");
    }
    ssize_t n = read(fds[0], &child_errno, sizeof(child_errno));
    close(fds[0]);
    if (n != 0) {
        waitpid(pid, NULL, 0);
        return sb_err_errno(err, n == (ssize_t)sizeof(child_errno) ? child_errno : EIO,
                            "can't start %s", argv[0]);
    }
    out->pid = pid;
    if (!boot_id(out->boot) || !read_stat(pid, &st)) {
        waitpid(pid, NULL, WNOHANG);
        return sb_err_set(err, SB_ESYSTEM, "%s ended as soon as it was started", argv[0]);
    }
    out->start = st.start;
    return SB_OK;
}

/* ---- naming and stopping ---- */

int sb_proc_open(const sb_proc_t *p)
{
    char boot[SB_BOOT_ID_LEN + 1];
    stat_t st;

    if (p->pid <= 0 || !boot_id(boot) || strcmp(boot, p->boot) != 0) {
        return -1;
    }
    int fd = pidfd_open(p->pid, 0);
    if (fd < 0) {
        return -1;
    }
    /* read after the pidfd was opened: if the pid had been reused before, this is the new one's
     * time */
    if (!read_stat(p->pid, &st) || st.start != p->start) {
        close(fd);
        return -1;
    }
    return fd;
}

bool sb_proc_alive(const sb_proc_t *p)
{
    int fd = sb_proc_open(p);

    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

/* Waits for the end; reaps it when it is a child of ours. */
static bool wait_gone(int fd, int wait_ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    siginfo_t info;

    if (poll(&pfd, 1, wait_ms) != 1) {
        return false;
    }
    waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);
    return true;
}

bool sb_proc_signal_wait(const sb_proc_t *p, int sig, int wait_ms)
{
    int fd = sb_proc_open(p);

    if (fd < 0) {
        return true;
    }
    bool gone =
        (pidfd_send_signal(fd, sig, NULL, 0) == 0 || errno == ESRCH) && wait_gone(fd, wait_ms);
    close(fd);
    return gone;
}

/*
 * Is pid one that p left behind?  Its session is p's (a session's number is not
 * given out again while it has members), it is not older, and it works in dir.
 */
static bool left_by(pid_t pid, const sb_proc_t *p, const char *dir)
{
    char link[64], cwd[4096];
    stat_t st;

    snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    ssize_t n = readlink(link, cwd, sizeof(cwd) - 1);
    if (n < 0) {
        return false;
    }
    cwd[n] = '\0';
    return strcmp(cwd, dir) == 0 && read_stat(pid, &st) && st.session == p->pid &&
           st.start >= p->start;
}

static bool kill_left(pid_t pid, const sb_proc_t *p, const char *dir, int wait_ms)
{
    int fd = pidfd_open(pid, 0);

    if (fd < 0) {
        return errno == ESRCH;
    }
    /* looked at again now that the pidfd pins it */
    bool gone = !left_by(pid, p, dir) ||
                (pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0 && wait_gone(fd, wait_ms));
    close(fd);
    return gone;
}

bool sb_proc_kill_session(const sb_proc_t *p, const char *dir, int wait_ms)
{
    char boot[SB_BOOT_ID_LEN + 1];
    bool gone = sb_proc_signal_wait(p, SIGKILL, wait_ms);
    DIR *proc;
    struct dirent *e;

    if (p->pid <= 0 || !boot_id(boot) || strcmp(boot, p->boot) != 0) {
        return gone;
    }
    proc = opendir("/proc");
    if (proc == NULL) {
        return false;
    }
    while ((e = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

        if (pid > 0 && left_by(pid, p, dir)) {
            gone = kill_left(pid, p, dir, wait_ms) && gone;
        }
    }
    closedir(proc);
    return gone;
}

/* ---- acting as another user ---- */

sb_code_t sb_proc_become(uid_t uid, gid_t gid, sb_err_t *err)
{
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        return sb_err_errno(err, errno, "can't become user %d", (int)uid);
    }
    if (uid != 0 && setuid(0) == 0) {
        return sb_err_set(err, SB_EINTERNAL, "root could be taken back after it was given up");
    }
    return SB_OK;
}

static void call_child(uid_t uid, gid_t gid, sb_proc_fn fn, void *ctx, int out_fd)
{
    sb_err_t err;

    if (geteuid() == 0 && sb_proc_become(uid, gid, &err) != SB_OK) {
        _exit(1);
    }
    _exit(fn(ctx, out_fd) ? 0 : 1);
}

/* Reads until the writer is gone; false when it is more than fits. */
static bool read_all(int fd, char *buf, size_t size)
{
    size_t have = 0;
    ssize_t n;

    while ((n = read(fd, buf + have, size - have)) > 0 || (n < 0 && errno == EINTR)) {
        have += n > 0 ? (size_t)n : 0;
        if (have == size) {
            return false;
        }
    }
    buf[have] = '\0';
    return n == 0;
}

bool sb_proc_call_as(uid_t uid, gid_t gid, sb_proc_fn fn, void *ctx, char *buf, size_t size)
{
    int fds[2], status;

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return false;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        call_child(uid, gid, fn, ctx, fds[1]);
    }
    close(fds[1]);
    bool ok = pid > 0 && read_all(fds[0], buf, size);
    close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return ok && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
