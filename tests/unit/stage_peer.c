/*
 * stage_peer.c - see stage_peer.h.
 */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../sandbox-helper/idmap.h"
#include "../../sandbox-helper/sys.h"
#include "stage_peer.h"

#define NOBODY  65534
#define WAIT_MS 60000

static double now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* ---- the folder and its packages ---- */

void stage_peer_init(stage_peer_t *p)
{
    static const char *const interpreters[STAGE_LANGS] = {"/usr/bin/python3", "/usr/bin/node",
                                                          "/usr/bin/bash"};

    if (geteuid() == 0) {
        assert_int_equal(setgroups(0, NULL), 0);
        assert_int_equal(setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_int_equal(setresuid(NOBODY, NOBODY, NOBODY), 0);
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* or /proc/self/uid_map stays root's */
    }
    memset(p, 0, sizeof(*p));
    strcpy(p->dir, "/tmp/test_stage.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    p->config = (stage_config_t){
        .magic = STAGE_MAGIC,
        .size = sizeof(stage_config_t),
        .tmp_bytes = 8 * SB_MIB,
        .out_bytes = 8 * SB_MIB,
        .work_bytes = 8 * SB_MIB,
        .shm_bytes = 8 * SB_MIB,
        .inodes = 4096,
        .nofile = 256,
        .nproc = 64,
    };
    strcpy(p->config.packages, p->dir);
    for (size_t i = 0; i < STAGE_LANGS; i++)
        if (access(interpreters[i], X_OK) == 0)
            strcpy(p->config.runtimes[i].interpreter, interpreters[i]);
    p->sock = -1;
}

static void write_text(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

void stage_peer_add(stage_peer_t *p, const char *digest, const char *path, const char *text)
{
    char full[512];
    char *slash;

    snprintf(full, sizeof(full), "%s/%s/tree/%s", p->dir, digest, path);
    for (slash = strchr(strstr(full, "/tree/") + 6, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    write_text(full, text, 0755);
}

void stage_peer_package(stage_peer_t *p, const char *script, char digest[65])
{
    char path[512];

    snprintf(digest, 65, "%064x", ++p->packages);
    snprintf(path, sizeof(path), "%s/%s", p->dir, digest);
    assert_int_equal(mkdir(path, 0755), 0);
    strcat(path, "/tree");
    assert_int_equal(mkdir(path, 0755), 0);
    stage_peer_add(p, digest, "main", script);
}

void stage_peer_instructions(stage_peer_t *p, const char *digest, const char *text)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s/instructions", p->dir, digest);
    write_text(path, text, 0444);
}

void stage_peer_remove(stage_peer_t *p)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", "--", p->dir, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- the program ---- */

/* A user namespace where a file of /proc is covered and /proc/sys is read-only. */
static int mask_proc(void)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || idmap_write(uid, gid, NULL) != 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("/dev/null", "/proc/timer_list", NULL, MS_BIND, NULL) != 0 ||
        mount("/proc/sys", "/proc/sys", NULL, MS_BIND | MS_REC, NULL) != 0)
        return -1;
    return sys_mount_set(AT_FDCWD, "/proc/sys", AT_RECURSIVE, MOUNT_ATTR_RDONLY);
}

/* As containers' seccomp profiles do it. */
static int forbid_clone3(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void __attribute__((noreturn)) become_stage(const stage_peer_t *p, int sock)
{
    static char *const nothing[] = {NULL};
    static char *const argv[] = {"sandbox-stage", NULL};
    const char *bindir = getenv("SB_BINDIR");
    char path[4096];

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (dup2(sock, SB_STAGE_FD) < 0 || sys_close_range(SB_STAGE_FD + 1, ~0U, 0) != 0)
        _exit(120);
    if (p->masked_proc && mask_proc() != 0)
        _exit(122);
    if (p->no_clone3 && forbid_clone3() != 0)
        _exit(123);
    snprintf(path, sizeof(path), "%s/sandbox-stage", bindir ? bindir : "build/bin");
    execve(path, argv, nothing);
    _exit(121);
}

static void await(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
}

void stage_peer_start_any(stage_peer_t *p)
{
    int pair[2], nfds;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0)
        become_stage(p, pair[1]);
    close(pair[1]);
    p->sock = pair[0];
    assert_int_equal(sys_send_fds(p->sock, &p->config, sizeof(p->config), NULL, 0), 0);
    await(p->sock);
    assert_int_equal(sys_recv_fds(p->sock, &p->hello, sizeof(p->hello), NULL, 0, &nfds),
                     sizeof(p->hello));
    assert_int_equal(p->hello.magic, STAGE_MAGIC);
}

void stage_peer_start(stage_peer_t *p)
{
    stage_peer_start_any(p);
    if (!p->hello.ok)
        fail_msg("sandbox-stage can't work here: %s: %s", p->hello.failed_step,
                 strerror(p->hello.failed_errno));
}

void stage_peer_stop(stage_peer_t *p)
{
    int wstatus;

    close(p->sock);
    p->sock = -1;
    assert_int_equal(waitpid(p->pid, &wstatus, 0), p->pid);
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), p->hello.ok ? 0 : 1);
}

/* ---- a run ---- */

typedef struct {
    int control, status, out, err, pidfd;
    double start, kill_at;
} pump_t;

static int job_memfd(const char *job, const char *input, const char *files)
{
    int fd = memfd_create("job", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, job, strlen(job)), 0);
    assert_int_equal(sys_write_all(fd, input, strlen(input)), 0);
    assert_int_equal(sys_write_all(fd, files, strlen(files)), 0);
    return fd;
}

static void fill_request(const stage_peer_t *p, const stage_run_t *run, stage_request_t *request,
                         const char *job, const char *input)
{
    memset(request, 0, sizeof(*request));
    request->magic = STAGE_MAGIC;
    request->kind = STAGE_RUN;
    request->seq = p->seq;
    request->lang = run->lang;
    request->runtime = run->lang; /* the language's own */
    request->mode = run->mode;
    request->cgroup = run->cgroup;
    request->cpu_seconds = run->cpu_seconds ? run->cpu_seconds : 30;
    request->memory_bytes = run->memory_bytes ? run->memory_bytes : 256 * SB_MIB;
    request->file_bytes = run->file_bytes ? run->file_bytes : 64 * SB_MIB;
    request->job_len = strlen(job);
    request->input_len = strlen(input);
    strcpy(request->digest, run->digest);
    strcpy(request->target, run->target ? run->target : "main");
}

static void send_request(stage_peer_t *p, const stage_run_t *run, pump_t *pump)
{
    const char *job = run->job ? run->job : "{}";
    const char *input = run->input ? run->input : "{}";
    int status[2], out[2], err[2], fds[STAGE_FDS_MAX], nfds = RUN_FDS + run->extra_fds;
    static stage_request_t request;
    stage_request_t ask = {
        .magic = STAGE_MAGIC, .kind = STAGE_RUN, .seq = p->seq + 1, .cgroup = run->cgroup};
    int asked[STAGE_FDS_MAX];

    p->seq++;
    fill_request(p, run, &request, job, input);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    fds[0] = job_memfd(job, input, run->input_files ? run->input_files : "");
    fds[1] = out[1];
    fds[2] = err[1];
    for (int i = RUN_FDS; i < nfds; i++)
        fds[i] = fds[0];
    asked[0] = status[1];
    for (int i = 1; i <= run->ncgroups; i++)
        asked[i] = run->cgroup_fd;
    assert_int_equal(sys_send_fds(p->sock, &ask, sizeof(ask), asked, 1 + run->ncgroups), 0);
    close(status[1]);
    if (run->wait_ms > 0)
        usleep(run->wait_ms * 1000);
    if (sys_send_fds(status[0], &request, sizeof(request), fds, nfds) != 0)
        assert_true(errno == EPIPE || errno == ECONNRESET); /* it could not even be born, or wait */
    for (int i = 0; i < RUN_FDS; i++)
        close(fds[i]);
    *pump = (pump_t){p->sock, status[0], out[0], err[0], -1, 0, 0};
}

static void end_now(const stage_run_t *run, const pump_t *pump)
{
    const char stop = RUN_STOP;

    if (run->stop)
        assert_int_equal(sys_send_fds(pump->status, &stop, sizeof(stop), NULL, 0), 0);
    else
        assert_int_equal(sys_pidfd_kill(pump->pidfd, SIGKILL), 0);
}

static void on_status(stage_run_t *run, pump_t *pump)
{
    run_report_t report;
    int fds[2], nfds;
    ssize_t n = sys_recv_fds(pump->status, &report, sizeof(report), fds, 2, &nfds);

    if (n < 0 && errno == ECONNRESET) /* it did not read its run; its last words follow */
        return;
    if (n == 0) {
        close(pump->status);
        pump->status = -1;
        return;
    }
    assert_int_equal(n, sizeof(report));
    assert_int_equal(report.magic, STAGE_MAGIC);
    switch (report.kind) {
    case RUN_READY:
        assert_int_equal(nfds, 2);
        assert_false(run->ready);
        run->ready = true;
        run->ready_ms = now_ms() - pump->start;
        run->out = fds[0];
        run->work = fds[1];
        if (run->kill_after_ms)
            pump->kill_at = now_ms() + run->kill_after_ms;
        break;
    case RUN_EXITED:
        run->ended = true;
        run->ended_ms = now_ms() - pump->start;
        run->wstatus = report.wstatus;
        break;
    default:
        assert_int_equal(report.kind, RUN_SETUP_FAILED);
        run->setup = report;
    }
}

/* true: the run is over */
static bool on_control(stage_peer_t *p, stage_run_t *run, pump_t *pump)
{
    stage_event_t event;
    int nfds, fd;
    ssize_t n = sys_recv_fds(pump->control, &event, sizeof(event), &fd, 1, &nfds);

    assert_int_equal(n, sizeof(event));
    assert_int_equal(event.magic, STAGE_MAGIC);
    assert_int_equal(event.seq, p->seq);
    switch (event.kind) {
    case STAGE_SPAWNED:
        assert_int_equal(nfds, 1);
        pump->pidfd = fd;
        return false;
    case STAGE_FAILED:
        run->failed = event;
        return true;
    default:
        assert_int_equal(event.kind, STAGE_EXITED);
        run->exited = event;
        return true;
    }
}

static void on_log(int *fd, char *text, size_t *len)
{
    char spill[65536];
    size_t room = STAGE_PEER_LOG - *len;
    ssize_t n = read(*fd, room ? text + *len : spill, room ? room : sizeof(spill));

    if (n > 0) {
        *len += room ? (size_t)n : 0;
        return;
    }
    if (n == 0) {
        close(*fd);
        *fd = -1;
    }
}

static void pump_until_exit(stage_peer_t *p, stage_run_t *run, pump_t *pump)
{
    double give_up = now_ms() + WAIT_MS;
    bool over = false;

    while (!over) {
        struct pollfd fds[4] = {{pump->control, POLLIN, 0},
                                {pump->status, POLLIN, 0},
                                {pump->out, POLLIN, 0},
                                {pump->err, POLLIN, 0}};
        double now = now_ms();

        assert_true(now < give_up);
        if (pump->kill_at > 0 && now >= pump->kill_at) {
            end_now(run, pump);
            pump->kill_at = 0;
        }
        assert_true(poll(fds, 4, pump->kill_at > 0 ? (int)(pump->kill_at - now) + 1 : WAIT_MS) >=
                    0);
        if (fds[1].revents)
            on_status(run, pump);
        if (fds[2].revents)
            on_log(&pump->out, run->stdout_text, &run->outlen);
        if (fds[3].revents)
            on_log(&pump->err, run->stderr_text, &run->errlen);
        if (fds[0].revents)
            over = on_control(p, run, pump);
    }
}

/* Without waiting: stops where a reader would block. */
static void drain_pipe(int *fd, char *text, size_t *len)
{
    while (*fd >= 0) {
        struct pollfd pfd = {*fd, POLLIN, 0};

        if (poll(&pfd, 1, 0) != 1)
            return;
        on_log(fd, text, len);
    }
}

/* What was written before the end is still in the pipes and the socket. */
static void drain(stage_run_t *run, pump_t *pump)
{
    drain_pipe(&pump->out, run->stdout_text, &run->outlen);
    drain_pipe(&pump->err, run->stderr_text, &run->errlen);
    run->eof = pump->out < 0 && pump->err < 0;
    if (pump->out >= 0)
        close(pump->out);
    if (pump->err >= 0)
        close(pump->err);
    while (pump->status >= 0)
        on_status(run, pump);
    if (pump->pidfd >= 0)
        close(pump->pidfd);
    run->stdout_text[run->outlen] = '\0';
    run->stderr_text[run->errlen] = '\0';
}

void stage_peer_run(stage_peer_t *p, stage_run_t *run)
{
    double start = now_ms();
    pump_t pump;

    run->out = run->work = -1;
    run->ready = run->ended = false;
    run->outlen = run->errlen = 0;
    run->setup.kind = run->failed.kind = run->exited.kind = 0;
    send_request(p, run, &pump);
    pump.start = start;
    pump_until_exit(p, run, &pump);
    run->ms = now_ms() - start;
    drain(run, &pump);
}

void stage_peer_orphan(stage_peer_t *p, stage_run_t *run)
{
    pump_t pump;

    send_request(p, run, &pump);
    await(pump.out);
    on_log(&pump.out, run->stdout_text, &run->outlen);
    assert_int_equal(kill(p->pid, SIGKILL), 0);
    while (pump.out >= 0) {
        await(pump.out);
        on_log(&pump.out, run->stdout_text, &run->outlen);
    }
    run->stdout_text[run->outlen] = '\0';
    run->eof = true;
    close(pump.err);
    close(pump.status);
}

void stage_run_close(stage_run_t *run)
{
    if (run->out >= 0)
        close(run->out);
    if (run->work >= 0)
        close(run->work);
    run->out = run->work = -1;
}

const char *stage_run_file(int dirfd, const char *path)
{
    static char text[STAGE_PEER_LOG + 1];
    int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, text, STAGE_PEER_LOG);
    close(fd);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}
