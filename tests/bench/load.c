/*
 * load.c - a closed-loop HTTP load generator: N clients, each a thread with one
 * keep-alive connection that sends the same request, waits for the whole answer,
 * and sends it again.  Prints one JSON line with counts and latencies.
 *
 *   load -p PORT [-c CLIENTS] [-n REQUESTS] [-s SECONDS] [-e TEXT] REQUEST-FILE
 *
 * REQUEST-FILE holds the request's bytes.  An answer counts as good when its status
 * is 2xx and its body holds TEXT (-e).  Talks to 127.0.0.1 only; ends after -n
 * requests of all clients or -s seconds, whichever is first, in any case after ten minutes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define SAMPLES_MAX 1000000
#define ANSWER_MAX  (4 << 20)
#define REQUEST_MAX (16 << 20)
#define SECONDS_MAX 600
#define SILENCE_MAX 60 /* seconds a server may say nothing */

typedef struct {
    pthread_t thread;
    uint32_t *usec; /* one a good answer */
    size_t count;
    size_t room;
    size_t errors;
} client_t;

static struct {
    int port;
    char *request;
    size_t request_len;
    const char *expect;
    int64_t deadline_ns;
    atomic_long left; /* requests that may still be started */
} job;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int connect_server(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)job.port)};
    struct timeval silence = {.tv_sec = SILENCE_MAX};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Value of Content-Length in the header block, -1 when it has none. */
static long content_length(const char *head)
{
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "content-length:", 15) == 0) {
            return strtol(line + 17, NULL, 10);
        }
    }
    return -1;
}

/* Is the answer in buf complete?  Without Content-Length the last chunk is the end. */
static bool complete(const char *buf, size_t len)
{
    const char *body = strstr(buf, "\r\n\r\n");

    if (body == NULL) {
        return false;
    }
    body += 4;
    long expected = content_length(buf);
    if (expected >= 0) {
        return len - (size_t)(body - buf) >= (size_t)expected;
    }
    return len >= 5 && memcmp(buf + len - 5, "0\r\n\r\n", 5) == 0;
}

/* Reads one answer; false when the connection is of no use any more. */
static bool read_answer(int fd, char *buf, bool *good)
{
    size_t len = 0;

    while (len < ANSWER_MAX - 1) {
        ssize_t n = recv(fd, buf + len, ANSWER_MAX - 1 - len, 0);

        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        buf[len] = '\0';
        if (complete(buf, len)) {
            *good = strncmp(buf, "HTTP/1.1 2", 10) == 0 &&
                    (job.expect == NULL || strstr(buf, job.expect) != NULL);
            return true;
        }
    }
    return false;
}

static bool record(client_t *c, int64_t ns)
{
    if (c->count == c->room) {
        size_t room = c->room == 0 ? 1024 : c->room * 2;
        uint32_t *usec = room > SAMPLES_MAX ? NULL : realloc(c->usec, room * sizeof(*usec));

        if (usec == NULL) {
            return false;
        }
        c->usec = usec;
        c->room = room;
    }
    c->usec[c->count++] = (uint32_t)(ns / 1000);
    return true;
}

static void *client_main(void *arg)
{
    client_t *c = arg;
    char *buf = malloc(ANSWER_MAX);
    int fd = -1;

    while (buf != NULL && atomic_fetch_sub(&job.left, 1) > 0 && now_ns() < job.deadline_ns) {
        int64_t begun = now_ns();
        bool good = false;

        if (fd < 0) {
            fd = connect_server();
        }
        if (fd < 0 || !send_all(fd, job.request, job.request_len) || !read_answer(fd, buf, &good)) {
            if (fd >= 0) {
                close(fd);
            }
            fd = -1;
        }
        if (!good) {
            c->errors++;
        } else if (!record(c, now_ns() - begun)) {
            break;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    free(buf);
    return NULL;
}

static bool read_request(const char *path)
{
    FILE *f = fopen(path, "rb");

    job.request = malloc(REQUEST_MAX);
    if (f == NULL || job.request == NULL) {
        if (f != NULL) {
            fclose(f);
        }
        return false;
    }
    job.request_len = fread(job.request, 1, REQUEST_MAX, f);
    fclose(f);
    return job.request_len > 0 && job.request_len < REQUEST_MAX;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int report(client_t *clients, int count, double seconds)
{
    size_t total = 0, errors = 0, at = 0;

    for (int i = 0; i < count; i++) {
        total += clients[i].count;
        errors += clients[i].errors;
    }
    uint32_t *all = malloc((total + 1) * sizeof(*all));
    if (all == NULL) {
        return 1;
    }
    for (int i = 0; i < count; i++) {
        if (clients[i].count > 0) {
            memcpy(all + at, clients[i].usec, clients[i].count * sizeof(*all));
        }
        at += clients[i].count;
    }
    qsort(all, total, sizeof(*all), by_value);
    all[total] = 0;
    printf("{\"count\":%zu,\"errors\":%zu,\"per_second\":%.1f,\"p50_us\":%u,\"p95_us\":%u}\n",
           total, errors, (double)total / seconds, all[total / 2], all[total * 95 / 100]);
    free(all);
    return errors == 0 && total > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static client_t clients[CLIENTS_MAX];
    int count = 1, started = 0, opt, status;
    long requests = 1000000000, seconds = 60;

    while ((opt = getopt(argc, argv, "p:c:n:s:e:")) != -1) {
        switch (opt) {
        case 'p':
            job.port = (int)strtol(optarg, NULL, 10);
            break;
        case 'c':
            count = (int)strtol(optarg, NULL, 10);
            break;
        case 'n':
            requests = strtol(optarg, NULL, 10);
            break;
        case 's':
            seconds = strtol(optarg, NULL, 10);
            break;
        case 'e':
            job.expect = optarg;
            break;
        default:
            return 2;
        }
    }
    if (optind + 1 != argc || job.port < 1 || count < 1 || count > CLIENTS_MAX || requests < 1 ||
        seconds < 1 || seconds > SECONDS_MAX || !read_request(argv[optind])) {
        fprintf(stderr,
                "usage: load -p PORT [-c CLIENTS] [-n REQUESTS] [-s SECONDS] [-e TEXT] FILE\n");
        return 2;
    }
    atomic_store(&job.left, requests);
    int64_t begun = now_ns();
    job.deadline_ns = begun + seconds * 1000000000;
    while (started < count &&
           pthread_create(&clients[started].thread, NULL, client_main, &clients[started]) == 0) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(clients[i].thread, NULL);
    }
    status = report(clients, started, (double)(now_ns() - begun) / 1e9);
    for (int i = 0; i < started; i++) {
        free(clients[i].usec);
    }
    free(job.request);
    return started == count ? status : 1;
}
