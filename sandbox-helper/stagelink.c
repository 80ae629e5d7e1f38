/*
 * stagelink.c - see stagelink.h.  Forks and executes the two programs; holds
 * their control sockets and pidfds, their children's status sockets and pidfds.
 * What comes over those is bounds-checked: a child's socket ends in a process
 * that once may have been near hostile bytes.
 */
#include "stagelink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "sys.h"

#define HELLO_MS        10000
#define SPAWN_MS        10000
#define PAUSE_FIRST_MS  100
#define PAUSE_MAX_MS    10000
#define STEADY_US       60000000 /* lived that long: the next death is a new story */
#define SOCKET_BYTES    (1 << 20)
#define MESSAGE_MAX     1024
#define EVENTS_PER_TURN 64

static void go_down(stagelink_t *l, const char *reason);

/* ---- children ---- */

static void child_unlink(stage_child_t *child)
{
    if (child->next == NULL)
        return;
    child->prev->next = child->next;
    child->next->prev = child->prev;
    child->next = child->prev = NULL;
}

static void child_close(stage_child_t *child)
{
    child_unlink(child);
    loop_timer_clear(child->link->loop, &child->spawn_timer);
    loop_del(child->link->loop, &child->source);
    if (child->status >= 0)
        close(child->status);
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->status = child->pidfd = -1;
}

void stage_child_kill(stage_child_t *child)
{
    child->doomed = true; /* one that is not born yet is killed at birth */
    if (child->pidfd >= 0)
        sys_pidfd_kill(child->pidfd, SIGKILL);
}

void stage_child_release(stage_child_t *child)
{
    if (child->link == NULL)
        return;
    stage_child_kill(child); /* not born yet: spawned() kills what comes for an unknown number */
    child_close(child);
    child->link = NULL;
}

int stage_child_send(stage_child_t *child, const void *data, size_t len, const int *fds, int nfds)
{
    return sys_send_fds(child->status, data, len, fds, nfds);
}

/* One datagram of the child.  False: no more, for now or for ever. */
static bool child_read(stage_child_t *child)
{
    char data[MESSAGE_MAX];
    int fds[STAGE_CHILD_FDS], nfds = 0;
    ssize_t n = sys_recv_fds(child->status, data, sizeof data, fds, STAGE_CHILD_FDS, &nfds);

    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0 && errno == ECONNRESET)
        return true; /* it died before it read all of ours; said once, before its own last words */
    if (n <= 0) {    /* closed its end, or sent what does not fit: its death will be reported */
        loop_del(child->link->loop, &child->source);
        return false;
    }
    child->ops->message(child->ctx, data, (size_t)n, fds, nfds);
    for (int i = 0; i < nfds; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return true;
}

static void on_child(void *ctx, uint32_t events)
{
    (void)events;
    child_read(ctx);
}

void stage_child_poll(stage_child_t *child)
{
    for (int i = 0; i < EVENTS_PER_TURN && child->source.fd >= 0 && child_read(child); i++)
        ;
}

static void on_spawn_late(void *ctx)
{
    stage_child_t *child = ctx;

    go_down(child->link, "it does not answer requests");
}

static sb_code_t status_socket(stage_child_t *child, loop_t *loop, int *theirs, sb_err_t *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return sb_err_errno(err, errno, "status socket");
    /* Ours alone is non-blocking: the child simply waits. */
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0 ||
        loop_add(loop, &child->source, pair[0], EPOLLIN) != 0) {
        int saved = errno;
        close(pair[0]);
        close(pair[1]);
        return sb_err_errno(err, saved, "status socket");
    }
    child->status = pair[0];
    *theirs = pair[1];
    return SB_OK;
}

sb_code_t stagelink_request(stagelink_t *l, stage_child_t *child, const stage_child_ops_t *ops,
                            void *ctx, stage_request_t *request, const int *fds, int nfds,
                            sb_err_t *err)
{
    int all[STAGE_FDS_MAX];

    if (l->state != LINK_READY)
        return sb_err_set(err, SB_EBUSY, "%s is not there: %s", l->name, l->down_reason);
    if (nfds + 1 > STAGE_FDS_MAX)
        return sb_err_set(err, SB_EINTERNAL, "too many descriptors");
    *child = (stage_child_t){
        .link = l, .seq = ++l->seq, .pidfd = -1, .status = -1, .ops = ops, .ctx = ctx};
    child->source = (loop_source_t){.fd = -1, .fn = on_child, .ctx = child};
    child->spawn_timer = (loop_timer_t){.fn = on_spawn_late, .ctx = child};

    sb_code_t rc = status_socket(child, l->loop, &all[0], err);
    if (rc != SB_OK) {
        child->link = NULL;
        return rc;
    }
    for (int i = 0; i < nfds; i++)
        all[i + 1] = fds[i];
    request->magic = STAGE_MAGIC;
    request->seq = child->seq;
    int sent = sys_send_fds(l->sock, request, sizeof *request, all, nfds + 1);
    int saved = errno;
    close(all[0]);
    if (sent != 0) {
        child_close(child);
        child->link = NULL;
        if (saved == ETOOMANYREFS) /* a run's doing: no reason to end all the others */
            return sb_err_errno(err, saved, "descriptors to %s", l->name);
        go_down(l, "it takes no requests");
        sb_err_errno(err, saved, "%s takes no requests", l->name);
        return SB_EBUSY;
    }
    child->prev = l->children.prev;
    child->next = &l->children;
    l->children.prev->next = child;
    l->children.prev = child;
    loop_timer_set(l->loop, &child->spawn_timer, SPAWN_MS);
    return SB_OK;
}

sb_code_t stage_child_move(stage_child_t *from, stage_child_t *to, const stage_child_ops_t *ops,
                           void *ctx, sb_err_t *err)
{
    loop_t *loop = from->link->loop;

    loop_del(loop, &from->source);
    loop_timer_clear(loop, &from->spawn_timer);
    *to = *from;
    to->ops = ops;
    to->ctx = ctx;
    to->source = (loop_source_t){.fd = -1, .fn = on_child, .ctx = to};
    to->spawn_timer = (loop_timer_t){.fn = on_spawn_late, .ctx = to};
    to->prev->next = to;
    to->next->prev = to;
    *from = (stage_child_t){.status = -1, .pidfd = -1};
    if (to->pidfd < 0)
        loop_timer_set(loop, &to->spawn_timer, SPAWN_MS);
    if (loop_add(loop, &to->source, to->status, EPOLLIN) == 0)
        return SB_OK;
    sb_err_errno(err, errno, "status socket");
    stage_child_release(to);
    return SB_ESYSTEM;
}

static stage_child_t *find_child(stagelink_t *l, uint64_t seq)
{
    for (stage_child_t *c = l->children.next; c != &l->children; c = c->next) {
        if (c->seq == seq)
            return c;
    }
    return NULL;
}

static void fail_children(stagelink_t *l, const char *step)
{
    while (l->children.next != &l->children) {
        stage_child_t *child = l->children.next;
        stage_child_kill(child);
        child_close(child); /* before its owner hears of it, who may free it */
        child->ops->failed(child->ctx, step, 0);
    }
}

/* ---- events ---- */

static void spawned(stagelink_t *l, stage_child_t *child, const stage_event_t *ev, int *pidfd)
{
    if (*pidfd < 0 || (child != NULL && child->pidfd >= 0)) {
        go_down(l, "it reported a birth twice, or without a descriptor");
        return;
    }
    if (child == NULL) { /* released before it was born */
        sys_pidfd_kill(*pidfd, SIGKILL);
        return;
    }
    child->pid = ev->pid;
    child->pidfd = *pidfd;
    *pidfd = -1;
    loop_timer_clear(l->loop, &child->spawn_timer);
    if (child->doomed)
        stage_child_kill(child);
}

static void exited(stage_child_t *child, const stage_event_t *ev)
{
    /* What it said last may still lie in its socket.  Bounded: its end of it is closed, and a
     * socket holds little. */
    while (child->source.fd >= 0 && child_read(child))
        ;
    if (child->link == NULL)
        return; /* a message made the owner release it */
    child_close(child);
    child->ops->exited(child->ctx, ev);
}

static void on_event(stagelink_t *l, stage_event_t *ev, int *pidfd)
{
    stage_child_t *child = find_child(l, ev->seq);

    ev->failed_step[sizeof ev->failed_step - 1] = '\0';
    switch (ev->kind) {
    case STAGE_SPAWNED:
        spawned(l, child, ev, pidfd);
        break;
    case STAGE_FAILED:
        if (child != NULL) {
            child_close(child);
            child->ops->failed(child->ctx, ev->failed_step, ev->failed_errno);
        }
        break;
    case STAGE_EXITED:
        if (child != NULL)
            exited(child, ev);
        break;
    default:
        go_down(l, "it sent an unknown event");
    }
}

static void on_hello(stagelink_t *l, const stage_hello_t *hello)
{
    l->hello = *hello;
    l->hello.failed_step[sizeof l->hello.failed_step - 1] = '\0';
    if (!hello->ok) {
        char reason[sizeof l->down_reason];
        snprintf(reason, sizeof reason, "%s: %s", l->hello.failed_step,
                 strerror(l->hello.failed_errno));
        l->given_up = l->one_try;
        go_down(l, reason);
        return;
    }
    loop_timer_clear(l->loop, &l->timer);
    l->state = LINK_READY;
    l->ready_us = loop_now_us();
    l->down_reason[0] = '\0';
    l->on_change(l->ctx, l);
}

/* One message of the program; false: none is there (or the link is no more). */
static bool control_read(stagelink_t *l)
{
    union {
        stage_hello_t hello;
        stage_event_t event;
    } m;
    int fds[1] = {-1}, nfds = 0;
    ssize_t n = sys_recv_fds(l->sock, &m, sizeof m, fds, 1, &nfds);

    if (n < 0 && errno == EAGAIN)
        return false;
    if (nfds == 0)
        fds[0] = -1;
    if (n <= 0)
        go_down(l, n == 0 ? "it ended" : strerror(errno));
    else if (l->state == LINK_STARTING && n == sizeof m.hello && m.hello.magic == STAGE_MAGIC)
        on_hello(l, &m.hello);
    else if (l->state == LINK_READY && n == sizeof m.event && m.event.magic == STAGE_MAGIC)
        on_event(l, &m.event, fds);
    else
        go_down(l, "it sent something that is not understood");
    if (fds[0] >= 0)
        close(fds[0]);
    return l->sock >= 0;
}

static void on_control(void *ctx, uint32_t events)
{
    stagelink_t *l = ctx;

    (void)events;
    for (int i = 0; i < EVENTS_PER_TURN && control_read(l); i++)
        ;
}

/* ---- the program's life ---- */

/* Collects the dead program; false: it is not dead yet. */
static bool reap(stagelink_t *l, int flags)
{
    pid_t pid;

    if (l->pid == 0)
        return true;
    do
        pid = waitpid(l->pid, NULL, flags);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return false;
    loop_del(l->loop, &l->process);
    if (l->pidfd >= 0)
        close(l->pidfd);
    l->pidfd = -1;
    l->pid = 0;
    return true;
}

static void kill_program(stagelink_t *l)
{
    if (l->pid != 0) /* our own child, not reaped yet: the number is still its */
        kill(l->pid, SIGKILL);
}

static void go_down(stagelink_t *l, const char *reason)
{
    if (l->state == LINK_DOWN)
        return;
    snprintf(l->down_reason, sizeof l->down_reason, "%s", reason);
    if (log_begin(LOG_ERROR, "a helper program is down")) {
        log_str("program", l->name);
        log_str("reason", reason);
        log_end();
    }
    if (l->state == LINK_READY && loop_now_us() - l->ready_us > STEADY_US)
        l->pause_ms = 0;
    l->state = LINK_DOWN;
    loop_del(l->loop, &l->control);
    if (l->sock >= 0)
        close(l->sock);
    l->sock = -1;
    kill_program(l);
    reap(l, WNOHANG); /* else on_process does */
    fail_children(l, "its program died");
    l->pause_ms = l->pause_ms == 0 ? PAUSE_FIRST_MS : l->pause_ms * 2;
    if (l->pause_ms > PAUSE_MAX_MS)
        l->pause_ms = PAUSE_MAX_MS;
    if (l->closing || l->given_up)
        loop_timer_clear(l->loop, &l->timer);
    else
        loop_timer_set(l->loop, &l->timer, l->pause_ms);
    l->on_change(l->ctx, l);
}

static void on_process(void *ctx, uint32_t events)
{
    stagelink_t *l = ctx;

    (void)events;
    while (l->state != LINK_DOWN && control_read(l))
        ; /* what it said last: a hello that tells why */
    go_down(l, "it died");
    reap(l, WNOHANG);
}

static void on_timer(void *ctx)
{
    stagelink_t *l = ctx;

    if (l->state == LINK_STARTING)
        go_down(l, "it did not get ready in time");
    else if (reap(l, WNOHANG))
        stagelink_start(l);
    else
        loop_timer_set(l->loop, &l->timer, l->pause_ms);
}

/* After fork: the descriptors, then the program.  Nothing but the four of them passes. */
static void __attribute__((noreturn))
run_program(const char *path, const char *name, int sock, pid_t parent)
{
    char *const argv[] = {(char *)name, NULL};
    char *const envp[] = {NULL};
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    sigemptyset(&none);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || setsid() < 0 ||
        chdir("/") != 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        _exit(127);
    if (sock == SB_STAGE_FD ? fcntl(sock, F_SETFD, 0) < 0 : dup2(sock, SB_STAGE_FD) < 0)
        _exit(127);
    if (sys_close_range(SB_STAGE_FD + 1, ~0U, 0) != 0 || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(127);
    execve(path, argv, envp);
    _exit(127);
}

static int spawn_program(stagelink_t *l, int sock)
{
    pid_t parent = getpid();

    l->pid = fork();
    if (l->pid == 0)
        run_program(l->path, l->name, sock, parent);
    if (l->pid < 0) {
        l->pid = 0;
        return -1;
    }
    l->pidfd = sys_pidfd_open(l->pid);
    return l->pidfd < 0 ? -1 : loop_add(l->loop, &l->process, l->pidfd, EPOLLIN);
}

static int start(stagelink_t *l)
{
    int pair[2], size = SOCKET_BYTES;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    l->sock = pair[0];
    setsockopt(l->sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    int rc = spawn_program(l, pair[1]);
    int saved = errno;
    close(pair[1]);
    errno = saved;
    if (rc != 0 || fcntl(l->sock, F_SETFL, O_NONBLOCK) != 0 ||
        loop_add(l->loop, &l->control, l->sock, EPOLLIN) != 0)
        return -1;
    return sys_send_fds(l->sock, l->config, sizeof *l->config, NULL, 0);
}

void stagelink_restart(stagelink_t *l, const char *reason)
{
    go_down(l, reason);
}

void stagelink_start(stagelink_t *l)
{
    memset(&l->hello, 0, sizeof l->hello);
    l->state = LINK_STARTING;
    loop_timer_set(l->loop, &l->timer, HELLO_MS);
    if (start(l) != 0)
        go_down(l, strerror(errno));
}

void stagelink_close(stagelink_t *l)
{
    l->closing = true;
    if (l->loop == NULL)
        return;
    loop_timer_clear(l->loop, &l->timer);
    loop_del(l->loop, &l->control);
    if (l->sock >= 0)
        close(l->sock);
    l->sock = -1;
    l->state = LINK_DOWN;
    kill_program(l);
    reap(l, 0);
    fail_children(l, "the helper ends");
}

sb_code_t stagelink_find_program(const char *name, char *path, size_t len, sb_err_t *err)
{
    ssize_t n = readlink("/proc/self/exe", path, len - 1);

    if (n > 0) {
        path[n] = '\0';
        char *slash = strrchr(path, '/');
        size_t used = slash ? (size_t)(slash + 1 - path) : 0;
        if (slash != NULL && snprintf(path + used, len - used, "%s", name) < (int)(len - used) &&
            access(path, X_OK) == 0)
            return SB_OK;
    }
    snprintf(path, len, "%s/%s", SB_LIBEXECDIR, name);
    if (access(path, X_OK) == 0)
        return SB_OK;
    return sb_err_set(err, SB_ENOTFOUND, "%s is neither beside sandbox-helper nor in %s", name,
                      SB_LIBEXECDIR);
}

sb_code_t stagelink_init(stagelink_t *l, loop_t *loop, const char *name,
                         const stage_config_t *config,
                         void (*on_change)(void *ctx, stagelink_t *link), void *ctx, sb_err_t *err)
{
    memset(l, 0, sizeof *l);
    l->loop = loop;
    l->name = name;
    l->config = config;
    l->sock = l->pidfd = -1;
    l->children.next = l->children.prev = &l->children;
    l->process = (loop_source_t){.fd = -1, .fn = on_process, .ctx = l};
    l->control = (loop_source_t){.fd = -1, .fn = on_control, .ctx = l};
    l->timer = (loop_timer_t){.fn = on_timer, .ctx = l};
    l->on_change = on_change;
    l->ctx = ctx;
    snprintf(l->down_reason, sizeof l->down_reason, "it has not been started yet");
    return stagelink_find_program(name, l->path, sizeof l->path, err);
}
