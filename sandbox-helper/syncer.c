/*
 * syncer.c - see syncer.h.  The child runs syncer_child() and nothing else of the helper.
 */
#include "syncer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "sys.h"

#define IN_FLIGHT 64  /* requests the child has; each holds a descriptor in the socket */
#define RETRY_MS  200 /* until a dead child is replaced */
#define SYNC_SOCK 3
#define SYNC_DIR  4

/* ---- the child ---- */

/* One request without waiting; false: there is none (or the parent is gone: *gone). */
static bool take(int *fd, bool wait, bool *gone)
{
    char byte;
    int nfds = 0;

    if (!wait) {
        char peek;
        ssize_t n = recv(SYNC_SOCK, &peek, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n <= 0)
            return false;
    }
    ssize_t n = sys_recv_fds(SYNC_SOCK, &byte, 1, fd, 1, &nfds);
    if (n <= 0) {
        *gone = true;
        return false;
    }
    if (nfds == 0)
        *fd = -1;
    return true;
}

static _Noreturn void syncer_child(void)
{
    int fds[IN_FLIGHT], errors[IN_FLIGHT];
    bool gone = false;

    for (;;) {
        int n = 0;

        while (n < IN_FLIGHT && take(&fds[n], n == 0, &gone))
            n++;
        if (n == 0 && gone)
            _exit(0);
        for (int i = 0; i < n; i++) {
            errors[i] = fds[i] >= 0 && fsync(fds[i]) != 0 ? errno : 0;
            if (fds[i] >= 0)
                close(fds[i]);
        }
        int folder = n > 0 && fsync(SYNC_DIR) != 0 ? errno : 0;
        for (int i = 0; i < n; i++) {
            if (errors[i] == 0)
                errors[i] = folder;
            if (send(SYNC_SOCK, &errors[i], sizeof errors[i], MSG_NOSIGNAL) < 0)
                _exit(0);
        }
    }
}

/* Its descriptors are the socket, the folder and stderr; its signals the defaults. */
static _Noreturn void become_child(int sock, int dir_fd, pid_t parent)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "sandbox-syncer");
    if (getppid() != parent) /* it died before it could be asked to tell us */
        _exit(0);
    int dir = fcntl(dir_fd, F_DUPFD, SYNC_DIR + 1), own = fcntl(sock, F_DUPFD, SYNC_DIR + 1);
    if (dir < 0 || own < 0 || dup2(own, SYNC_SOCK) < 0 || dup2(dir, SYNC_DIR) < 0)
        _exit(1);
    sys_close_range(SYNC_DIR + 1, ~0U, 0);
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    sigemptyset(&none);
    signal(SIGINT, SIG_IGN); /* the terminal's goes to all; the parent ends us */
    signal(SIGTERM, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    syncer_child();
}

/* ---- the parent ---- */

static void on_event(void *ctx, uint32_t events);
static void on_retry(void *ctx);
static void send_more(syncer_t *s);

static sb_code_t start(syncer_t *s, sb_err_t *err)
{
    int pair[2];
    pid_t self = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return sb_err_errno(err, errno, "socketpair");
    s->pid = fork();
    if (s->pid == 0)
        become_child(pair[1], s->dir_fd, self);
    int saved = errno;
    close(pair[1]);
    if (s->pid < 0) {
        close(pair[0]);
        return sb_err_errno(err, saved, "fork");
    }
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0 ||
        loop_add(s->loop, &s->source, pair[0], EPOLLIN) != 0) {
        saved = errno;
        close(pair[0]);
        return sb_err_errno(err, saved, "the syncer's socket");
    }
    return SB_OK;
}

sb_code_t syncer_open(syncer_t *s, loop_t *loop, int dir_fd, sb_err_t *err)
{
    memset(s, 0, sizeof *s);
    s->loop = loop;
    s->dir_fd = dir_fd;
    s->source = (loop_source_t){.fd = -1, .fn = on_event, .ctx = s};
    s->retry = (loop_timer_t){.fn = on_retry, .ctx = s};
    s->last = &s->first;
    return start(s, err);
}

/* Closes the socket, by which the child ends, and waits for that. */
static void stop(syncer_t *s)
{
    int fd = s->source.fd;

    if (fd >= 0) {
        loop_del(s->loop, &s->source);
        close(fd);
    }
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    s->pid = 0;
}

static syncer_request_t *shift(syncer_t *s)
{
    syncer_request_t *r = s->first;

    s->first = r->next;
    if (s->first == NULL)
        s->last = &s->first;
    s->count--;
    if (s->sent > 0)
        s->sent--;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    return r;
}

void syncer_close(syncer_t *s)
{
    if (s->loop == NULL)
        return;
    loop_timer_clear(s->loop, &s->retry);
    stop(s);
    while (s->first != NULL) {
        syncer_request_t *r = shift(s);
        r->done(r, ECANCELED);
    }
}

static void restart(syncer_t *s)
{
    log_event(LOG_ERROR, "the syncer has died", NULL, NULL);
    stop(s);
    s->sent = 0;
    loop_timer_set(s->loop, &s->retry, RETRY_MS);
}

static void on_retry(void *ctx)
{
    syncer_t *s = ctx;
    sb_err_t err = {0};

    if (s->source.fd < 0 && start(s, &err) != SB_OK) {
        log_event(LOG_ERROR, "the syncer can't be started", "error", err.message);
        loop_timer_set(s->loop, &s->retry, RETRY_MS);
        return;
    }
    send_more(s);
}

static void send_more(syncer_t *s)
{
    syncer_request_t *r = s->first;

    if (s->source.fd < 0)
        return;
    for (size_t i = 0; i < s->sent; i++)
        r = r->next;
    for (; r != NULL && s->sent < IN_FLIGHT; r = r->next, s->sent++) {
        if (sys_send_fds(s->source.fd, "s", 1, &r->fd, r->fd >= 0 ? 1 : 0) != 0) {
            if (errno == EAGAIN || errno == ETOOMANYREFS)
                loop_timer_set(s->loop, &s->retry, RETRY_MS);
            else
                restart(s);
            return;
        }
    }
}

static void on_event(void *ctx, uint32_t events)
{
    syncer_t *s = ctx;
    int errnum;

    (void)events;
    for (;;) {
        ssize_t n = recv(s->source.fd, &errnum, sizeof errnum, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n != sizeof errnum || s->sent == 0) {
            restart(s);
            return;
        }
        syncer_request_t *r = shift(s);
        r->done(r, errnum);
        if (s->source.fd < 0) /* closed from done() */
            return;
    }
    send_more(s);
}

int syncer_sync(syncer_t *s, syncer_request_t *r, int fd)
{
    r->next = NULL;
    r->fd = -1;
    if (fd >= 0 && (r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
        return -1;
    *s->last = r;
    s->last = &r->next;
    s->count++;
    send_more(s);
    return 0;
}
