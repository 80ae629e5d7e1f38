/*
 * deliver.c - see deliver.h.  Touches the completion socket and the spool's files; what
 * the gateway answers is untrusted in length and form, only its status line counts.
 */
#include "deliver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "log.h"

#define HEAD_MAX     (SPOOL_FACTS_MAX + 1024)
#define ANSWER_MAX   256 /* the status line is all that counts */
#define POST_MS      60000
#define BACKOFF_MIN  100
#define BACKOFF_MAX  10000
#define SENDFILE_MAX (1 << 20)

static void on_event(void *ctx, uint32_t events);
static void on_slot_timer(void *ctx);
static void on_timer(void *ctx);
static void start_some(deliver_t *d);

void deliver_init(deliver_t *d, loop_t *loop, spool_t *spool, const struct sockaddr_un *address)
{
    memset(d, 0, sizeof *d);
    d->loop = loop;
    d->spool = spool;
    d->address = *address;
    d->last = &d->items;
    d->timer = (loop_timer_t){.fn = on_timer, .ctx = d};
    for (size_t i = 0; i < DELIVER_SLOTS; i++) {
        deliver_slot_t *s = &d->slots[i];
        *s = (deliver_slot_t){.d = d, .file = -1};
        s->source = (loop_source_t){.fd = -1, .fn = on_event, .ctx = s};
        s->timer = (loop_timer_t){.fn = on_slot_timer, .ctx = s};
        sb_buf_init(&s->head, HEAD_MAX);
    }
}

/* ---- items ---- */

static void item_free(deliver_item_t *item)
{
    free(item->facts);
    free(item);
}

static void item_remove(deliver_t *d, deliver_item_t *item)
{
    for (deliver_item_t **p = &d->items; *p != NULL; p = &(*p)->next) {
        if (*p != item)
            continue;
        *p = item->next;
        if (d->last == &item->next)
            d->last = p;
        d->count--;
        item_free(item);
        return;
    }
}

static deliver_item_t *item_add(deliver_t *d, const char *id)
{
    deliver_item_t *item = calloc(1, sizeof *item);

    if (item == NULL) {
        log_event(LOG_ERROR, "no memory to deliver a result; the next start does", "execution", id);
        return NULL;
    }
    memcpy(item->id, id, SB_UUID_LEN);
    item->backoff_ms = BACKOFF_MIN;
    *d->last = item;
    d->last = &item->next;
    d->count++;
    return item;
}

static deliver_item_t *find(const deliver_t *d, const char *id, bool announcement)
{
    for (deliver_item_t *i = d->items; i != NULL; i = i->next) {
        if ((i->facts != NULL) == announcement && strcmp(i->id, id) == 0)
            return i;
    }
    return NULL;
}

bool deliver_has(const deliver_t *d, const char *id)
{
    return find(d, id, false) != NULL;
}

void deliver_result(deliver_t *d, const char *id)
{
    deliver_item_t *news = find(d, id, true);

    if (news != NULL && !news->busy) /* it is stale; the gateway knows what comes last */
        item_remove(d, news);
    if (item_add(d, id) != NULL)
        start_some(d);
}

void deliver_running(deliver_t *d, const char *id, const char *facts)
{
    deliver_item_t *item;

    if (d->resume_us > loop_now_us() || (item = item_add(d, id)) == NULL)
        return;
    item->facts = strdup(facts);
    if (item->facts == NULL)
        item_remove(d, item);
    else
        start_some(d);
}

/* ---- a POST's end ---- */

static void slot_close(deliver_slot_t *s)
{
    int fd = s->source.fd;

    loop_del(s->d->loop, &s->source);
    loop_timer_clear(s->d->loop, &s->timer);
    if (fd >= 0)
        close(fd);
    if (s->file >= 0)
        close(s->file);
    s->file = -1;
    if (s->item != NULL)
        s->item->busy = false;
    s->item = NULL;
    s->reading = false;
    s->sent = 0;
    s->body_at = s->body_len = 0;
    sb_buf_clear(&s->head);
}

static int64_t doubled(int64_t ms)
{
    ms *= 2;
    return ms > BACKOFF_MAX ? BACKOFF_MAX : ms;
}

static void delivered(deliver_slot_t *s)
{
    deliver_t *d = s->d;
    deliver_item_t *item = s->item;

    slot_close(s);
    if (d->complained)
        log_event(LOG_INFO, "the gateway takes results again", NULL, NULL);
    d->complained = false;
    d->pause_ms = 0;
    SB_FAULT_POINT("result delivered");
    if (item->facts == NULL) {
        spool_remove(d->spool, item->id, SPOOL_JOB); /* what it replaced, when that is there yet */
        spool_remove(d->spool, item->id, SPOOL_RUN);
        spool_remove(d->spool, item->id, SPOOL_DONE);
        spool_settle(d->spool);
    }
    item_remove(d, item);
    start_some(d);
}

/* This one alone is refused: it comes again, the others go on. */
static void refused(deliver_slot_t *s, const char *why)
{
    deliver_t *d = s->d;
    deliver_item_t *item = s->item;

    slot_close(s);
    if (item->facts != NULL) {
        item_remove(d, item);
    } else {
        if (item->backoff_ms == BACKOFF_MIN &&
            log_begin(LOG_WARN, "the gateway refused a result")) {
            log_str("execution", item->id);
            log_str("answer", why);
            log_end();
        }
        item->due_us = loop_now_us() + item->backoff_ms * 1000;
        item->backoff_ms = doubled(item->backoff_ms);
    }
    start_some(d);
}

/* There is no gateway, or it broke off: all wait. */
static void unreachable(deliver_slot_t *s, int errnum)
{
    deliver_t *d = s->d;
    deliver_item_t *item = s->item;

    slot_close(s);
    if (item->facts != NULL)
        item_remove(d, item);
    if (!d->complained && log_begin(LOG_WARN, "the gateway does not take results")) {
        log_str("completion", d->address.sun_path);
        log_errno(errnum);
        log_end();
    }
    d->complained = true;
    d->pause_ms = d->pause_ms == 0 ? BACKOFF_MIN : doubled(d->pause_ms);
    d->resume_us = loop_now_us() + d->pause_ms * 1000;
    start_some(d);
}

/* ---- a POST ---- */

static void on_slot_timer(void *ctx)
{
    unreachable(ctx, ETIMEDOUT);
}

/* The status line is there, or more than it could be. */
static void judge(deliver_slot_t *s)
{
    int status = 0;

    if (sscanf(s->head.data, "HTTP/1.%*1d %3d", &status) == 1 && status >= 200 && status < 300) {
        delivered(s);
        return;
    }
    s->head.data[strcspn(s->head.data, "\r\n")] = '\0';
    char line[64];
    snprintf(line, sizeof line, "%.60s", s->head.data);
    refused(s, line);
}

static void receive(deliver_slot_t *s)
{
    char piece[ANSWER_MAX];
    ssize_t n = recv(s->source.fd, piece, sizeof piece, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        unreachable(s, n < 0 ? errno : ECONNRESET);
        return;
    }
    sb_buf_add(&s->head, piece, (size_t)n);
    if (memchr(s->head.data, '\n', s->head.len) != NULL || s->head.len >= ANSWER_MAX)
        judge(s);
}

/* 1: all is sent; 0: wait; -1: errno. */
static int send_body(deliver_slot_t *s)
{
    while (s->body_at < s->body_len) {
        uint64_t left = s->body_len - s->body_at;
        off_t at = (off_t)s->body_at;
        ssize_t n =
            sendfile(s->source.fd, s->file, &at, left < SENDFILE_MAX ? (size_t)left : SENDFILE_MAX);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0) {
            errno = EIO;
            return -1;
        }
        s->body_at += (uint64_t)n;
    }
    return 1;
}

static int send_all(deliver_slot_t *s)
{
    while (s->sent < s->head.len) {
        ssize_t n = send(s->source.fd, s->head.data + s->sent, s->head.len - s->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        s->sent += (size_t)n;
    }
    return send_body(s);
}

static void on_event(void *ctx, uint32_t events)
{
    deliver_slot_t *s = ctx;

    if (!s->reading) {
        int rc = send_all(s);

        /* A gateway that refuses early answers before it has taken all, and may close. */
        if (rc < 0 && errno != EPIPE && errno != ECONNRESET) {
            unreachable(s, errno);
            return;
        }
        if (rc == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
            return;
        s->reading = true;
        sb_buf_clear(&s->head);
        loop_set(s->d->loop, &s->source, EPOLLIN);
        return;
    }
    receive(s);
}

/* The request's head; false: the result is not there any more. */
static bool make_request(deliver_slot_t *s)
{
    deliver_item_t *item = s->item;
    sb_buf_t facts = SB_BUF_INIT(SPOOL_FACTS_MAX);

    if (item->facts != NULL) {
        sb_buf_str(&facts, item->facts);
    } else {
        s->file = spool_read(s->d->spool, item->id, SPOOL_DONE, &facts, &s->body_len);
        if (s->file < 0) {
            if (log_begin(LOG_ERROR, "a result can't be read")) {
                log_str("execution", item->id);
                log_errno(errno);
                log_end();
            }
            sb_buf_free(&facts);
            return false;
        }
    }
    sb_buf_clear(&s->head);
    sb_buf_fmt(&s->head,
               "POST " SB_COMPLETION_PATH "%s HTTP/1.1\r\nHost: skillbox\r\n"
               "User-Agent: sandbox-helper/" SB_VERSION "\r\nConnection: close\r\n"
               "Content-Type: application/octet-stream\r\nContent-Length: %llu\r\n",
               item->id, (unsigned long long)s->body_len);
    sb_buf_add(&s->head, facts.data, facts.len);
    sb_buf_str(&s->head, "\r\n");
    sb_buf_free(&facts);
    return sb_buf_ok(&s->head);
}

static void post(deliver_slot_t *s, deliver_item_t *item)
{
    deliver_t *d = s->d;

    s->item = item;
    item->busy = true;
    if (!make_request(s)) {
        refused(s, "it can't be read");
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&d->address, sizeof d->address) != 0 ||
        loop_add(d->loop, &s->source, fd, EPOLLIN | EPOLLOUT) != 0) {
        int saved = errno;
        if (fd >= 0)
            close(fd);
        unreachable(s, saved);
        return;
    }
    SB_FAULT_POINT("result under way");
    loop_timer_set(d->loop, &s->timer, POST_MS);
}

/* ---- which, when ---- */

static deliver_item_t *due(deliver_t *d, int64_t now, int64_t *next_us)
{
    for (deliver_item_t *i = d->items; i != NULL; i = i->next) {
        if (i->busy)
            continue;
        if (i->due_us <= now)
            return i;
        if (i->due_us < *next_us)
            *next_us = i->due_us;
    }
    return NULL;
}

static void start_some(deliver_t *d)
{
    int64_t now = loop_now_us();

    if (d->closed || d->address.sun_path[0] == '\0' || d->items == NULL)
        return;
    if (d->resume_us > now) {
        loop_timer_set(d->loop, &d->timer, (d->resume_us - now) / 1000 + 1);
        return;
    }
    /* from the loop: a POST that fails at once must not be tried from its own end */
    loop_timer_set(d->loop, &d->timer, 0);
}

static void on_timer(void *ctx)
{
    deliver_t *d = ctx;
    int64_t now = loop_now_us(), next_us = INT64_MAX;

    for (size_t i = 0; i < DELIVER_SLOTS && d->resume_us <= now; i++) {
        deliver_item_t *item;

        if (d->slots[i].item != NULL)
            continue;
        item = due(d, now, &next_us);
        if (item == NULL)
            break;
        post(&d->slots[i], item);
    }
    if (d->resume_us > now)
        next_us = d->resume_us;
    if (next_us != INT64_MAX)
        loop_timer_set(d->loop, &d->timer, (next_us - now) / 1000 + 1);
}

void deliver_close(deliver_t *d)
{
    if (d->loop == NULL)
        return;
    d->closed = true;
    loop_timer_clear(d->loop, &d->timer);
    for (size_t i = 0; i < DELIVER_SLOTS; i++) {
        slot_close(&d->slots[i]);
        sb_buf_free(&d->slots[i].head);
    }
    while (d->items != NULL)
        item_remove(d, d->items);
}
