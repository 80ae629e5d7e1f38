/*
 * server.c - see server.h.  Holds the listening socket; server_bind may run as root.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../libskillbox/limits.h"
#include "attach.h"
#include "helper.h"
#include "identity.h"
#include "intake.h"
#include "job.h"
#include "log.h"
#include "request.h"
#include "service.h"
#include "status.h"

#define BACKLOG        511
#define ACCEPTS_A_TURN 32
#define SPARE_CONNS    64 /* beside runs: uploads, status */
#define STATUS_MAX     (16 * SB_KIB)

/* ---- the socket ---- */

/* A socket file nobody listens on is an earlier life's. */
static sb_code_t remove_stale(const struct sockaddr_un *addr, sb_err_t *err)
{
    struct stat st;

    if (lstat(addr->sun_path, &st) != 0)
        return SB_OK;
    if (!S_ISSOCK(st.st_mode))
        return sb_err_set(err, SB_ECONFLICT, "listen: %s exists and is no socket", addr->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return sb_err_errno(err, errno, "socket");
    int rc = connect(fd, (const struct sockaddr *)addr, sizeof *addr);
    int saved = errno;
    close(fd);
    if (rc == 0 || saved == EAGAIN)
        return sb_err_set(err, SB_ECONFLICT, "listen: somebody listens on %s already",
                          addr->sun_path);
    if (saved == ECONNREFUSED && unlink(addr->sun_path) != 0)
        return sb_err_errno(err, errno, "listen: %s cannot be removed", addr->sun_path);
    return SB_OK;
}

static sb_code_t bind_socket(server_t *s, const config_t *c, const struct sockaddr_un *addr,
                             sb_err_t *err)
{
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return sb_err_errno(err, errno, "socket");
    mode_t mask = umask(0777); /* nobody connects before mode and owner are set */
    int rc = bind(s->fd, (const struct sockaddr *)addr, sizeof *addr);
    int saved = errno;
    umask(mask);
    if (rc != 0)
        return sb_err_errno(err, saved, "listen: %s", addr->sun_path);
    if (geteuid() == 0 && lchown(addr->sun_path, c->uid, (gid_t)-1) != 0)
        return sb_err_errno(err, errno, "listen: %s cannot be given to %s", addr->sun_path,
                            c->user);
    if (chmod(addr->sun_path, (mode_t)c->socket_mode) != 0)
        return sb_err_errno(err, errno, "listen: chmod of %s", addr->sun_path);
    return SB_OK;
}

sb_code_t server_bind(server_t *s, const config_t *c, sb_err_t *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    memset(s, 0, sizeof *s);
    s->fd = s->source.fd = -1;
    sb_code_t rc = service_listener(&s->fd, err);
    s->inherited = s->fd >= 0;
    if (rc != SB_OK || s->inherited) /* path, mode and owner are the .socket unit's */
        return rc;
    memcpy(addr.sun_path, c->listen, sizeof addr.sun_path);
    rc = remove_stale(&addr, err);
    return rc == SB_OK ? bind_socket(s, c, &addr, err) : rc;
}

/* ---- requests ---- */

static void answer_status(helper_t *h, connection_t *conn)
{
    sb_buf_t body = SB_BUF_INIT(STATUS_MAX);

    status_json(h, &body);
    if (sb_buf_ok(&body))
        connection_answer(conn, 200, "", body.data, body.len);
    else
        connection_refuse(conn, 500, "internal_error", "out of memory");
    sb_buf_free(&body);
}

static void answer_known(helper_t *h, connection_t *conn, const request_t *request)
{
    sb_buf_t body = SB_BUF_INIT((SB_UUID_LEN + 3) * SB_KNOWN_MAX + 64);
    bool first = true;

    sb_buf_str(&body, "{\"unknown\":[");
    for (size_t i = 0; i < request->nexecutions; i++) {
        char id[SB_UUID_LEN + 1];
        unsigned char binary[16];

        sb_uuid_parse(request->executions + i * (SB_UUID_LEN + 1), SB_UUID_LEN, binary);
        sb_uuid_format(binary, id);
        if (job_find(h, id) != NULL || deliver_has(&h->deliver, id))
            continue;
        sb_buf_fmt(&body, "%s\"%s\"", first ? "" : ",", id);
        first = false;
    }
    sb_buf_str(&body, "]}");
    if (sb_buf_ok(&body))
        connection_answer(conn, 200, "", body.data, body.len);
    else
        connection_refuse(conn, 500, "internal_error", "out of memory");
    sb_buf_free(&body);
}

static void on_params(void *ctx, connection_t *conn, const char *data, size_t len)
{
    helper_t *h = ((server_t *)ctx)->helper;
    request_t request;
    sb_err_t err = {0};

    if (request_parse(data, len, &h->config, &request, &err) != SB_OK) {
        log_event(LOG_WARN, "a request was refused", "error", err.message);
        connection_refuse(conn, 400, "bad_request", err.message);
        return;
    }
    switch (request.op) {
    case OP_RUN:
        job_accept(h, conn, &request);
        break;
    case OP_SUBMIT:
        job_submit(h, conn, &request, data, len);
        break;
    case OP_CANCEL:
        job_cancel(h, conn, &request);
        break;
    case OP_ATTACH:
        attach_accept(h, conn, &request);
        break;
    case OP_INTAKE:
    case OP_FILES:
    case OP_ARTIFACT:
        intake_accept(h, conn, &request);
        break;
    case OP_KNOWN:
        answer_known(h, conn, &request);
        break;
    case OP_STATUS:
        answer_status(h, conn);
        break;
    }
}

/* ---- connections ---- */

static void on_closed(void *ctx, connection_t *conn)
{
    server_t *s = ctx;

    for (size_t i = 0; i < s->nconnections; i++) {
        if (s->connections[i] == conn) {
            s->connections[i] = s->connections[--s->nconnections];
            break;
        }
    }
    helper_ended(s->helper);
}

static void take(server_t *s, int fd)
{
    uid_t uid;

    if (!identity_peer_allowed(&s->helper->config, fd, &uid)) {
        if (log_begin(LOG_WARN, "a user who is not in allow_users was turned away")) {
            log_int("uid", uid);
            log_end();
        }
        close(fd);
        return;
    }
    if (s->nconnections - s->helper->followers >= s->max_connections ||
        s->nconnections == s->max_connections + ATTACH_MAX) {
        connection_turn_away(fd);
        close(fd);
        return;
    }
    connection_t *conn = connection_open(&s->helper->loop, fd, &s->ops);
    if (conn != NULL)
        s->connections[s->nconnections++] = conn;
}

static void on_accept(void *ctx, uint32_t events)
{
    server_t *s = ctx;

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take(s, fd);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            log_event(LOG_ERROR, "accept", "error", strerror(errno));
        break;
    }
}

sb_code_t server_listen(server_t *s, struct helper_s *h, sb_err_t *err)
{
    s->helper = h;
    s->source = (loop_source_t){.fd = -1, .fn = on_accept, .ctx = s};
    s->ops = (connection_ops_t){.params = on_params, .closed = on_closed, .ctx = s};
    s->max_connections = (size_t)(h->config.concurrency + h->config.queue) + SPARE_CONNS;
    s->connections = calloc(s->max_connections + ATTACH_MAX, sizeof(connection_t *));
    if (s->connections == NULL)
        return sb_err_set(err, SB_ESYSTEM, "out of memory");
    if (listen(s->fd, BACKLOG) != 0 || loop_add(&h->loop, &s->source, s->fd, EPOLLIN) != 0)
        return sb_err_errno(err, errno, "listen");
    return SB_OK;
}

static void close_listener(server_t *s, const char *path)
{
    if (s->fd < 0)
        return;
    if (s->source.fd >= 0)
        loop_del(&s->helper->loop, &s->source);
    close(s->fd);
    s->fd = -1;
    if (s->inherited) /* who connects now waits for the next start */
        return;
    unlink(path); /* as another user than the folder's owner it stays; the next start replaces it */
}

void server_stop(server_t *s, const config_t *c)
{
    close_listener(s, c->listen);
    for (size_t i = s->nconnections; i > 0; i--) {
        if (connection_idle(s->connections[i - 1]))
            connection_close(s->connections[i - 1]);
    }
}

void server_close(server_t *s)
{
    while (s->nconnections > 0)
        connection_close(s->connections[s->nconnections - 1]);
    free(s->connections);
    s->connections = NULL;
}
