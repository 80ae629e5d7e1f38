/*
 * call.c - what a run costs in sandbox-helper alone: no HTTP, no nginx, no store.
 * Sends one FastCGI request again and again, a connection each as the gateway does, and
 * times it from connect() to END_REQUEST; prints one JSON line as spawn.c does.
 *
 *   call -u SOCKET [-n COUNT] [-w PAUSE-US] [-a] REQUEST-FILE
 *
 * REQUEST-FILE holds the request's records (tests/tools/fcgi_call.py makes them).  The
 * execution id in it has to be UUID below, whose end is replaced by a number of its own in
 * each request.  Good is only a 200 with X-Skillbox-Status: success; anything else ends all with 1.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libskillbox/fastcgi.h"
#include "libskillbox/protocol.h"
#include "samples.h"

#define UUID        "00000000-0000-7000-8000-0000bec40000"
#define UUID_DIGITS 8 /* at its end, replaced */
#define COUNT_MAX   100000
#define REQUEST_MAX (4 << 20)
#define HEAD_MAX    8192 /* of an answer: what is looked at */

static struct {
    struct sockaddr_un addr;
    unsigned char *request;
    size_t request_len;
    unsigned char *digits; /* in request */
    samples_t samples;
} job;

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
    job.digits = memmem(job.request, job.request_len, UUID, sizeof(UUID) - 1);
    if (job.digits == NULL) {
        fprintf(stderr, "call: %s has no execution id %s\n", path, UUID);
        return false;
    }
    job.digits += sizeof(UUID) - 1 - UUID_DIGITS;
    return true;
}

static int connect_helper(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&job.addr, sizeof(job.addr)) == 0)
        return fd;
    perror("call: connecting");
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool send_all(int fd)
{
    size_t sent = 0;

    while (sent < job.request_len) {
        ssize_t n = send(fd, job.request + sent, job.request_len - sent, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    return true;
}

/* Reads to END_REQUEST; the beginning of STDOUT goes into head, NUL-terminated. */
static bool read_answer(int fd, char head[HEAD_MAX])
{
    static unsigned char buf[65536];
    sb_fcgi_reader_t reader = {.state = 0};
    size_t len = 0;

    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        const unsigned char *p = buf;
        sb_fcgi_event_t event;

        if (n <= 0)
            return false;
        while ((event = sb_fcgi_read(&reader, &p, buf + n)) != SB_FCGI_EV_NONE) {
            if (event == SB_FCGI_EV_ERROR)
                return false;
            if (event == SB_FCGI_EV_END && reader.type == SB_FCGI_END_REQUEST)
                return true;
            if (event != SB_FCGI_EV_DATA || reader.type != SB_FCGI_STDOUT)
                continue;
            size_t take =
                reader.data_len < HEAD_MAX - 1 - len ? reader.data_len : HEAD_MAX - 1 - len;
            memcpy(head + len, reader.data, take);
            len += take;
            head[len] = '\0';
        }
    }
}

static bool is_success(const char *head)
{
    long block = sb_cgi_header_len(head, strlen(head));
    const char *status;
    size_t len;

    if (block <= 0)
        return false;
    status = sb_cgi_header(head, (size_t)block, SB_H_STATUS, &len);
    return status != NULL && len == strlen("success") && memcmp(status, "success", len) == 0;
}

static bool call_once(uint32_t number)
{
    char digits[UUID_DIGITS + 1], head[HEAD_MAX] = "";
    int64_t begun;
    bool good;
    int fd;

    snprintf(digits, sizeof(digits), "%08x", (unsigned)number);
    memcpy(job.digits, digits, UUID_DIGITS);
    begun = now_ns();
    fd = connect_helper();
    good = fd >= 0 && send_all(fd) && read_answer(fd, head);
    good = good && samples_add(&job.samples, now_ns() - begun) && is_success(head);
    if (fd >= 0)
        close(fd);
    if (!good)
        fprintf(stderr, "call: the run did not succeed: %.400s\n", head);
    return good;
}

int main(int argc, char **argv)
{
    long count = 100, pause_us = 0;
    bool all = false, good;
    int opt;

    while ((opt = getopt(argc, argv, "u:n:w:a")) != -1) {
        switch (opt) {
        case 'u':
            job.addr.sun_family = AF_UNIX;
            if (snprintf(job.addr.sun_path, sizeof(job.addr.sun_path), "%s", optarg) >=
                (int)sizeof(job.addr.sun_path)) {
                fprintf(stderr, "call: the socket's path is too long\n");
                return 2;
            }
            break;
        case 'n':
            count = argument("-n", optarg, 1, COUNT_MAX);
            break;
        case 'w':
            pause_us = argument("-w", optarg, 0, 10000000);
            break;
        case 'a':
            all = true;
            break;
        default:
            optind = argc + 1;
        }
    }
    if (optind + 1 != argc || job.addr.sun_family == 0) {
        fprintf(stderr, "usage: call -u SOCKET [-n COUNT] [-w PAUSE-US] [-a] REQUEST-FILE\n");
        return 2;
    }
    good = read_request(argv[optind]);
    int64_t begun = now_ns();
    for (long i = 0; good && i < count; i++) {
        good = call_once((uint32_t)i);
        if (pause_us > 0)
            sleep_until(now_ns() + pause_us * 1000);
    }
    double took = (double)(now_ns() - begun) / 1e9;
    if (good) {
        printf("{\"count\":%zu,\"failed\":0,\"seconds\":%.3f,\"per_second\":%.2f",
               job.samples.count, took, (double)job.samples.count / took);
        samples_print(stdout, "", &job.samples, all);
        puts("}");
    }
    samples_free(&job.samples);
    free(job.request);
    return good ? 0 : 1;
}
