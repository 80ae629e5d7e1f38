/*
 * service.c - see service.h.
 */
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

static int notify_fd = -1;
static int64_t watchdog_ms;
static loop_timer_t watchdog;

/* ---- numbers from the environment ---- */

/* -1: it is not there, or no number. */
static long long number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long long v;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return -1;
    errno = 0;
    v = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? v : -1;
}

/* ---- the socket ---- */

static bool is_unix_listener(int fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNSPEC};
    socklen_t len = sizeof addr;
    int type = 0, listening = 0;
    socklen_t n = sizeof type, m = sizeof listening;

    return getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.sun_family == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &m) == 0 && listening != 0;
}

sb_code_t service_listener(int *fd, sb_err_t *err)
{
    long long pid = number("LISTEN_PID"), count = number("LISTEN_FDS");
    int flags;

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    *fd = -1;
    if (pid != getpid() || count <= 0) /* they were for another process */
        return SB_OK;
    if (count != 1)
        return sb_err_set(err, SB_EINVAL, "LISTEN_FDS: one socket is needed, %lld came", count);
    if (!is_unix_listener(FIRST_FD))
        return sb_err_set(err, SB_EINVAL,
                          "LISTEN_FDS: descriptor %d is no listening UNIX stream socket "
                          "(ListenStream= with a path, Accept=no)",
                          FIRST_FD);
    flags = fcntl(FIRST_FD, F_GETFL);
    if (flags < 0 || fcntl(FIRST_FD, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) != 0)
        return sb_err_errno(err, errno, "LISTEN_FDS: fcntl");
    *fd = FIRST_FD;
    return SB_OK;
}

/* ---- the words ---- */

static bool connect_notify(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len < 2 || len >= sizeof addr.sun_path || (path[0] != '/' && path[0] != '@')) {
        errno = EINVAL;
        return false;
    }
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@') /* an abstract name */
        addr.sun_path[0] = '\0';
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return notify_fd >= 0 &&
           connect(notify_fd, (struct sockaddr *)&addr,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0;
}

bool service_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    long long usec = number("WATCHDOG_USEC"), pid = number("WATCHDOG_PID");
    bool ok = path != NULL && connect_notify(path);

    if (usec > 0 && (pid == -1 || pid == getpid()))
        watchdog_ms = usec / 2000 > 0 ? usec / 2000 : 1;
    if (!ok && notify_fd >= 0) {
        close(notify_fd);
        notify_fd = -1;
    }
    if (path == NULL)
        errno = 0;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return ok;
}

/* What does not get through is said again (WATCHDOG=1), or missed by nobody. */
static void say(const char *words)
{
    if (notify_fd >= 0)
        (void)!send(notify_fd, words, strlen(words), MSG_NOSIGNAL);
}

static void on_watchdog(void *ctx)
{
    say("WATCHDOG=1");
    loop_timer_set(ctx, &watchdog, watchdog_ms);
}

void service_ready(loop_t *loop, const char *status)
{
    char words[200];

    if (notify_fd < 0)
        return;
    snprintf(words, sizeof words, "READY=1\nSTATUS=%s", status);
    say(words);
    if (watchdog_ms > 0) {
        watchdog = (loop_timer_t){.fn = on_watchdog, .ctx = loop};
        on_watchdog(loop);
    }
}

void service_stopping(void)
{
    say("STOPPING=1");
}

void service_close(loop_t *loop)
{
    loop_timer_clear(loop, &watchdog);
    if (notify_fd >= 0)
        close(notify_fd);
    notify_fd = -1;
}
