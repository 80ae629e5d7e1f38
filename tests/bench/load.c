/*
 * load.c - an HTTP load generator: N keep-alive connections to 127.0.0.1, one
 * request sent again and again, one thread; prints one JSON line.
 *
 *   load -p PORT [-c CONNECTIONS] [-n REQUESTS] [-s SECONDS] [-r RATE [-S SEED] | -w PAUSE-US]
 *        [-e TEXT] [-a] REQUEST-FILE
 *
 * Closed loop (without -r): each connection waits for its answer, pauses, and sends again, so
 * that a slow server slows down what it is asked.
 * Open loop (-r): requests are due RATE times a second on average, at random (a Poisson
 * process, the same one for the same SEED), whatever the server does.  One that is due takes
 * an idle connection or waits for one, and its latency counts from when it was due: waiting is
 * not omitted.  After SECONDS no more become due; those that are get an answer before it ends.
 *
 * REQUEST-FILE holds the request's bytes.  Good is an answer with status 2xx whose body holds
 * TEXT (-e).  A 503 with Retry-After is "rejected", with latencies of its own.  All else is
 * "failed": other answers, broken connections, no answer DRAIN_SECONDS after the end.
 * per_second counts good answers, in the open loop those that came before SECONDS were over.
 *
 * Exit status: 0 all were good (open loop: or rejected), 1 something failed, 2 usage.  The line is
 * printed in both cases: whoever reads it decides what a measurement with failures is worth.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "samples.h"

#define CONNECTIONS_MAX 1024
#define ANSWER_MAX      (64 << 20)
#define REQUEST_MAX     (16 << 20)
#define SECONDS_MAX     7200
#define DRAIN_SECONDS   60
#define DUE_MAX         1000000 /* requests that wait for a connection */
#define NS              1000000000LL

typedef struct {
    int fd; /* -1: not connected */
    bool busy;
    int64_t due_ns;
    size_t sent;
    char *buf;
    size_t len, cap;
} conn_t;

/* Requests in the order in which they are due: a ring. */
typedef struct {
    int64_t *at;
    size_t head, count, cap;
} dues_t;

static struct {
    int port, epoll;
    char *request;
    size_t request_len;
    const char *expect;
    conn_t conns[CONNECTIONS_MAX];
    int idle[CONNECTIONS_MAX]; /* a stack: the fewest connections that do are used */
    int nconns, nidle, nbusy;
    dues_t dues;
    bool open_loop;
    double rate;
    uint64_t random;
    int64_t pause_ns, begun_ns, end_ns, next_ns, last_ns;
    long started, limit;
    samples_t good, rejected;
    size_t failed, in_time;
    char why[160]; /* the first failure */
} job;

/* ---- what is due ---- */

static bool due_push(int64_t ns)
{
    dues_t *d = &job.dues;

    if (d->count == d->cap) {
        size_t cap = d->cap == 0 ? 1024 : 2 * d->cap;
        int64_t *at = cap > DUE_MAX ? NULL : malloc(cap * sizeof(*at));

        if (at == NULL)
            return false;
        for (size_t i = 0; i < d->count; i++)
            at[i] = d->at[(d->head + i) % d->cap];
        free(d->at);
        *d = (dues_t){.at = at, .count = d->count, .cap = cap};
    }
    d->at[(d->head + d->count++) % d->cap] = ns;
    return true;
}

static int64_t due_first(void)
{
    return job.dues.count > 0 ? job.dues.at[job.dues.head] : INT64_MAX;
}

static void due_pop(void)
{
    job.dues.head = (job.dues.head + 1) % job.dues.cap;
    job.dues.count--;
}

/* xorshift64*, then the exponential distribution: the gaps of a Poisson process. */
static int64_t random_gap(void)
{
    double u;

    job.random ^= job.random >> 12;
    job.random ^= job.random << 25;
    job.random ^= job.random >> 27;
    u = (double)((job.random * 0x2545f4914f6cdd1dULL) >> 11) / 9007199254740992.0;
    return (int64_t)(-log(1.0 - u) / job.rate * 1e9);
}

static void fail(const char *what, const char *detail)
{
    if (job.failed++ == 0)
        snprintf(job.why, sizeof(job.why), "%s%s", what, detail);
}

/* Open loop: makes due what is, until the end. */
static void arrivals(int64_t now)
{
    while (job.next_ns <= now && job.next_ns < job.end_ns && job.started < job.limit) {
        if (!due_push(job.next_ns))
            fail("too many requests wait for a connection", "");
        job.started++;
        job.next_ns += random_gap();
    }
}

static bool arrivals_over(void)
{
    return job.next_ns >= job.end_ns || job.started >= job.limit;
}

/* ---- a connection ---- */

static void disconnect(conn_t *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static bool connect_server(conn_t *c)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)job.port)};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
        epoll_ctl(job.epoll, EPOLL_CTL_ADD, c->fd, &ev) == 0)
        return true;
    disconnect(c);
    return false;
}

static void watch_for(conn_t *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};

    epoll_ctl(job.epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

/* The request is over, one way or another; in the closed loop its connection's next becomes due. */
static void release(conn_t *c)
{
    c->busy = false;
    job.nbusy--;
    job.idle[job.nidle++] = (int)(c - job.conns);
    job.last_ns = now_ns();
    if (!job.open_loop && job.last_ns + job.pause_ns < job.end_ns && job.started < job.limit) {
        due_push(job.last_ns + job.pause_ns);
        job.started++;
    }
}

static void broken(conn_t *c, const char *how)
{
    fail(how, "");
    disconnect(c);
    release(c);
}

static void send_some(conn_t *c)
{
    while (c->sent < job.request_len) {
        ssize_t n = send(c->fd, job.request + c->sent, job.request_len - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            watch_for(c, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n <= 0) {
            broken(c, "a request could not be sent");
            return;
        }
        if (c->sent > 0 && c->sent + (size_t)n == job.request_len)
            watch_for(c, EPOLLIN);
        c->sent += (size_t)n;
    }
}

static void start(int64_t due)
{
    conn_t *c = &job.conns[job.idle[--job.nidle]];

    c->busy = true;
    c->due_ns = due;
    c->sent = c->len = 0;
    job.nbusy++;
    if (c->fd < 0 && !connect_server(c)) {
        broken(c, "the server does not accept connections");
        return;
    }
    send_some(c);
}

/* ---- an answer ---- */

/* The value of a header in the NUL-terminated head, NULL when it has none. */
static const char *header(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL && line[2] != '\r';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
            return line + 2 + len + 1 + strspn(line + 2 + len + 1, " ");
    }
    return NULL;
}

/* Where the body begins when the answer in buf is complete, else NULL.  Without Content-Length the
 * last chunk is the end: what is asked for here answers JSON, which can't look like one. */
static const char *complete_body(const conn_t *c)
{
    const char *body = c->len > 0 ? strstr(c->buf, "\r\n\r\n") : NULL;
    const char *length;
    size_t have;

    if (body == NULL)
        return NULL;
    body += 4;
    have = c->len - (size_t)(body - c->buf);
    length = header(c->buf, "Content-Length");
    if (length != NULL)
        return have >= (size_t)strtoul(length, NULL, 10) ? body : NULL;
    return have >= 5 && memcmp(c->buf + c->len - 5, "0\r\n\r\n", 5) == 0 ? body : NULL;
}

static void judge(conn_t *c, const char *body)
{
    int64_t now = now_ns(), took = now - c->due_ns;
    const char *connection = header(c->buf, "Connection");
    bool kept = true;

    if (strncmp(c->buf, "HTTP/1.1 2", 10) == 0 &&
        (job.expect == NULL || strstr(body, job.expect) != NULL)) {
        kept = samples_add(&job.good, took);
        job.in_time += now <= job.end_ns;
    } else if (strncmp(c->buf, "HTTP/1.1 503", 12) == 0 && header(c->buf, "Retry-After") != NULL) {
        kept = samples_add(&job.rejected, took);
    } else {
        c->buf[strcspn(c->buf, "\r")] = '\0';
        fail("an answer was not what was expected: ", c->buf);
    }
    if (!kept)
        fail("more answers than can be kept", "");
    if (connection != NULL && strncasecmp(connection, "close", 5) == 0)
        disconnect(c);
    release(c);
}

static bool make_room(conn_t *c)
{
    size_t cap = c->cap == 0 ? 16384 : 2 * c->cap;
    char *buf;

    if (c->cap - c->len > 1)
        return true;
    buf = cap > ANSWER_MAX ? NULL : realloc(c->buf, cap);
    if (buf == NULL)
        return false;
    c->buf = buf;
    c->cap = cap;
    return true;
}

static void receive(conn_t *c)
{
    const char *body;
    ssize_t n;

    if (!make_room(c)) {
        broken(c, "an answer is too long");
        return;
    }
    n = recv(c->fd, c->buf + c->len, c->cap - c->len - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (!c->busy) { /* closed while idle: nginx does that after keepalive_requests */
        disconnect(c);
        return;
    }
    if (n <= 0) {
        broken(c, "the server closed a connection");
        return;
    }
    c->len += (size_t)n;
    c->buf[c->len] = '\0';
    body = complete_body(c);
    if (body != NULL)
        judge(c, body);
}

/* ---- the loop ---- */

/* Ends when nothing is due nor under way any more; false: some got no answer. */
static bool drive(void)
{
    struct epoll_event events[64];

    for (;;) {
        int64_t now = now_ns(), wake = job.end_ns + DRAIN_SECONDS * NS;

        if (job.open_loop)
            arrivals(now);
        while (job.nidle > 0 && due_first() <= now) {
            int64_t due = due_first();

            due_pop();
            start(due);
        }
        if (job.nbusy == 0 && job.dues.count == 0 && (!job.open_loop || arrivals_over()))
            return true;
        if (now > wake)
            return false;
        if (job.open_loop && !arrivals_over() && job.next_ns < wake)
            wake = job.next_ns;
        if (job.nidle > 0 && due_first() < wake)
            wake = due_first();
        now = now_ns();
        struct timespec left = {0};
        if (wake > now)
            left = (struct timespec){(wake - now) / NS, (wake - now) % NS};
        int n = epoll_pwait2(job.epoll, events, 64, &left, NULL);
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;

            if (c->busy && c->sent < job.request_len && (events[i].events & EPOLLOUT) != 0)
                send_some(c);
            if (c->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                receive(c);
        }
    }
}

static bool read_request(const char *path)
{
    FILE *f = fopen(path, "rb");

    job.request = malloc(REQUEST_MAX);
    if (f == NULL || job.request == NULL) {
        perror(path);
        if (f != NULL)
            fclose(f);
        return false;
    }
    job.request_len = fread(job.request, 1, REQUEST_MAX, f);
    fclose(f);
    return job.request_len > 0 && job.request_len < REQUEST_MAX;
}

static void report(bool all)
{
    double took = (double)(job.last_ns - job.begun_ns) / 1e9;
    double window = (double)(job.end_ns - job.begun_ns) / 1e9;
    double rate = job.open_loop ? (double)job.in_time / window : (double)job.good.count / took;

    printf("{\"count\":%zu,\"rejected\":%zu,\"failed\":%zu,\"seconds\":%.3f,\"per_second\":%.2f",
           job.good.count, job.rejected.count, job.failed, took, rate);
    if (job.open_loop)
        printf(",\"offered\":%.2f", (double)job.started / window);
    samples_print(stdout, "", &job.good, all);
    samples_print(stdout, "rejected_", &job.rejected, false);
    puts("}");
    if (job.failed > 0)
        fprintf(stderr, "load: %zu failed, the first: %s\n", job.failed, job.why);
}

static int usage(void)
{
    fprintf(stderr, "usage: load -p PORT [-c CONNECTIONS] [-n REQUESTS] [-s SECONDS]"
                    " [-r RATE [-S SEED] | -w PAUSE-US] [-e TEXT] [-a] REQUEST-FILE\n");
    return 2;
}

static int run(bool all)
{
    bool ended;

    prctl(PR_SET_TIMERSLACK, 1UL);
    job.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (job.epoll < 0)
        return 1;
    for (int i = job.nconns - 1; i >= 0; i--) {
        job.conns[i].fd = -1;
        job.idle[job.nidle++] = i;
    }
    job.begun_ns = job.last_ns = job.next_ns = now_ns();
    job.end_ns += job.begun_ns;
    for (int i = 0; !job.open_loop && i < job.nconns && job.started < job.limit; i++) {
        due_push(job.begun_ns);
        job.started++;
    }
    ended = drive();
    if (!ended)
        fail("some requests got no answer", "");
    report(all);
    for (int i = 0; i < job.nconns; i++) {
        disconnect(&job.conns[i]);
        free(job.conns[i].buf);
    }
    close(job.epoll);
    return job.failed == 0 && job.good.count > 0 && (job.open_loop || job.rejected.count == 0) ? 0
                                                                                               : 1;
}

int main(int argc, char **argv)
{
    bool all = false;
    int opt, status;

    job.nconns = 1;
    job.limit = 1000000000;
    job.end_ns = 60 * NS;
    job.random = 1;
    while ((opt = getopt(argc, argv, "p:c:n:s:r:S:w:e:a")) != -1) {
        switch (opt) {
        case 'p':
            job.port = (int)argument("-p", optarg, 1, 65535);
            break;
        case 'c':
            job.nconns = (int)argument("-c", optarg, 1, CONNECTIONS_MAX);
            break;
        case 'n':
            job.limit = argument("-n", optarg, 1, 1000000000);
            break;
        case 's':
            job.end_ns = argument("-s", optarg, 1, SECONDS_MAX) * NS;
            break;
        case 'r':
            job.rate = (double)argument("-r", optarg, 1, 1000000);
            job.open_loop = true;
            break;
        case 'S':
            job.random = (uint64_t)argument("-S", optarg, 1, 1000000000);
            break;
        case 'w':
            job.pause_ns = argument("-w", optarg, 0, 10000000) * 1000;
            break;
        case 'e':
            job.expect = optarg;
            break;
        case 'a':
            all = true;
            break;
        default:
            return usage();
        }
    }
    if (optind + 1 != argc || job.port == 0)
        return usage();
    status = read_request(argv[optind]) ? run(all) : 1;
    samples_free(&job.good);
    samples_free(&job.rejected);
    free(job.dues.at);
    free(job.request);
    return status;
}
