/*
 * null_helper.c - a sandbox-helper that runs nothing: it answers every `run` at
 * once with the same success.  With it in the helper's place, POST /v1/executions costs what
 * the gateway itself costs: HTTP, authentication, hand-over, durable record, answer.
 *
 *   null_helper SOCKET        serves in the foreground until a signal ends it
 *
 * One thread, epoll; the socket is made 0666: for benchmarks on a machine of one's own.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libskillbox/fastcgi.h"
#include "libskillbox/protocol.h"

#define RUN_HEAD                                                                                   \
    "Status: 200\r\nContent-Type: application/json\r\n" SB_H_STATUS ": success\r\n" SB_H_EXIT_CODE \
    ": 0\r\n" SB_H_FILES ": 0\r\n" SB_H_QUEUE_USEC ": 10\r\n" SB_H_RUN_USEC ": 400\r\n\r\n"
#define RUN_BODY                                                                                   \
    "{\"status\":\"success\",\"output\":{\"rows\":1000,\"mean\":41.5},\"duration_ms\":1,"          \
    "\"error\":null,\"exit_code\":0,\"usage\":{\"cpu_ms\":1,\"max_rss_bytes\":9000000,"            \
    "\"wall_ms\":1},\"skill_name\":\"null\",\"skill_version\":\"1.0.0\"}"
#define STATUS_HEAD "Status: 200\r\nContent-Type: application/json\r\n\r\n"
#define STATUS_BODY "{\"status\":\"ok\",\"tier\":\"none\",\"runtimes\":{},\"images\":[]}"

#define PEERS_MAX 4096 /* descriptors */

typedef struct {
    bool status; /* asked for, not a run */
    sb_fcgi_reader_t reader;
} peer_t;

static peer_t peers[PEERS_MAX]; /* by descriptor */
static sb_buf_t run_answer = SB_BUF_INIT(65536), status_answer = SB_BUF_INIT(65536);

static void make_answer(sb_buf_t *b, const char *text)
{
    unsigned char end[16];

    sb_fcgi_stream(b, SB_FCGI_STDOUT, 1, text, strlen(text));
    sb_fcgi_eof(b, SB_FCGI_STDOUT, 1);
    sb_fcgi_end(end, 1, 0, SB_FCGI_REQUEST_COMPLETE);
    sb_buf_add(b, end, sizeof(end));
    if (!sb_buf_ok(b))
        exit(1);
}

static int serve(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) >= (int)sizeof(addr.sun_path))
        return -1;
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || chmod(path, 0666) != 0 ||
        listen(fd, 1024) != 0) {
        perror(path);
        return -1;
    }
    return fd;
}

static void welcome(int epoll, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

        if (fd >= PEERS_MAX || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
            close(fd);
        else
            peers[fd] = (peer_t){.status = false};
    }
}

/* The empty STDIN record ends a request: it is answered at once (the answer fits into any socket's
 * buffer).  False: nothing more is wanted of this connection. */
static bool take(int fd, const unsigned char *data, size_t len)
{
    peer_t *p = &peers[fd];
    const unsigned char *at = data;
    sb_fcgi_event_t event;

    while ((event = sb_fcgi_read(&p->reader, &at, data + len)) != SB_FCGI_EV_NONE) {
        if (event == SB_FCGI_EV_ERROR)
            return false;
        if (event == SB_FCGI_EV_DATA && p->reader.type == SB_FCGI_PARAMS &&
            memmem(p->reader.data, p->reader.data_len, SB_P_OP SB_OP_STATUS,
                   strlen(SB_P_OP SB_OP_STATUS)) != NULL)
            p->status = true;
        if (event == SB_FCGI_EV_END && p->reader.type == SB_FCGI_STDIN &&
            p->reader.content_len == 0) {
            const sb_buf_t *answer = p->status ? &status_answer : &run_answer;

            if (send(fd, answer->data, answer->len, MSG_NOSIGNAL) != (ssize_t)answer->len)
                fprintf(stderr, "null_helper: an answer was not taken\n");
            return false;
        }
    }
    return true;
}

static void hear(int fd)
{
    static unsigned char buf[65536];
    ssize_t n = recv(fd, buf, sizeof(buf), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !take(fd, buf, (size_t)n))
        close(fd);
}

int main(int argc, char **argv)
{
    struct epoll_event events[64], ev = {.events = EPOLLIN};
    int listener, epoll;

    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: null_helper SOCKET\n");
        return 2;
    }
    make_answer(&run_answer, RUN_HEAD RUN_BODY);
    make_answer(&status_answer, STATUS_HEAD STATUS_BODY);
    listener = serve(argv[1]);
    ev.data.fd = listener;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) != 0)
        return 1;
    for (;;) {
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                welcome(epoll, listener);
            else
                hear(events[i].data.fd);
        }
    }
}
