
/*
 * Asynchronous executions that no helper has any more: a helper whose spool was
 * lost owes nobody a completion, and their records would say "queued" or
 * "running" for ever.
 *
 * One worker looks, soon after its start and then every half minute: the store's
 * thread lists a few of those that live, a pool thread asks every helper that is
 * configured which of them it does not know ("known", protocol.h), and what all
 * of them deny is ended as interrupted.  One that can't be asked may have them
 * in its spool: then nothing is ended, and the next round asks again.
 *
 * A helper forgets an execution only after its completion is committed, so
 * whatever is denied has ended by then or never will; the store looks once more.
 */


#include "ngx_http_skillbox_async.h"

#include <sys/socket.h>
#include <sys/time.h>


#define NGX_HTTP_SKILLBOX_ROUND_FIRST   2000    /* ms */
#define NGX_HTTP_SKILLBOX_ROUND_SOON    200     /* when there are more */
#define NGX_HTTP_SKILLBOX_ROUND_LATER   30000
#define NGX_HTTP_SKILLBOX_ROUND_AGE     30000   /* its record may be under way */
#define NGX_HTTP_SKILLBOX_ROUND_MAX     SB_KNOWN_MAX
#define NGX_HTTP_SKILLBOX_PEERS_MAX     64
#define NGX_HTTP_SKILLBOX_PEER_TIMEOUT  3       /* s, for each wait; with
                                                   the last, twice that */
#define NGX_HTTP_SKILLBOX_ANSWER_MAX    (64 * SB_KIB)


typedef struct {
    struct sockaddr              *sockaddr;     /* the configuration's */
    socklen_t                     socklen;
} ngx_http_skillbox_peer_t;


typedef struct {
    ngx_http_skillbox_op_t        list;
    ngx_http_skillbox_work_t      ask;
    ngx_http_skillbox_op_t        end;
    ngx_event_t                   timer;

    ngx_http_skillbox_peer_t      peer[NGX_HTTP_SKILLBOX_PEERS_MAX];
    ngx_uint_t                    npeers;

    sb_live_t                     after;        /* where the next list begins */
    sb_live_t                     live[NGX_HTTP_SKILLBOX_ROUND_MAX];
    unsigned                      nlive;
    ngx_uint_t                    denied[NGX_HTTP_SKILLBOX_ROUND_MAX];
    sb_buf_t                      ended;        /* of sb_interrupted_t */
    ngx_uint_t                    failed;       /* a helper can't be asked */
} ngx_http_skillbox_reconcile_t;


static void ngx_http_skillbox_reconcile_peers(
    ngx_http_skillbox_reconcile_t *rc, ngx_http_skillbox_main_conf_t *smcf);
static void ngx_http_skillbox_reconcile_again(
    ngx_http_skillbox_reconcile_t *rc);
static void ngx_http_skillbox_reconcile_handler(ngx_event_t *ev);
static sb_code_t ngx_http_skillbox_reconcile_list(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_reconcile_listed(ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_reconcile_ask(ngx_http_skillbox_work_t *work);
static ngx_int_t ngx_http_skillbox_reconcile_request(
    ngx_http_skillbox_reconcile_t *rc, sb_buf_t *out);
static ngx_int_t ngx_http_skillbox_reconcile_peer(
    ngx_http_skillbox_peer_t *peer, const sb_buf_t *request, sb_buf_t *answer);
static ngx_int_t ngx_http_skillbox_reconcile_receive(int fd, sb_buf_t *answer);
static ngx_int_t ngx_http_skillbox_reconcile_read(
    ngx_http_skillbox_reconcile_t *rc, const sb_buf_t *answer);
static void ngx_http_skillbox_reconcile_asked(ngx_http_skillbox_work_t *work);
static sb_code_t ngx_http_skillbox_reconcile_end(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_reconcile_ended(ngx_http_skillbox_op_t *op);


/* a worker's own */

static ngx_http_skillbox_reconcile_t  ngx_http_skillbox_reconcile;

static ngx_connection_t  ngx_http_skillbox_reconcile_dumb;


void
ngx_http_skillbox_reconcile_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    ngx_memzero(rc, sizeof(ngx_http_skillbox_reconcile_t));

    if (ngx_worker != 0) {
        return;
    }

    ngx_http_skillbox_reconcile_peers(rc, smcf);

    if (rc->npeers == 0) {
        return;
    }

    sb_buf_init(&rc->ended, NGX_HTTP_SKILLBOX_ROUND_MAX
                            * sizeof(sb_interrupted_t));

    rc->list.apply = ngx_http_skillbox_reconcile_list;
    rc->list.free = ngx_http_skillbox_reconcile_listed;
    rc->ask.run = ngx_http_skillbox_reconcile_ask;
    rc->ask.free = ngx_http_skillbox_reconcile_asked;
    rc->end.apply = ngx_http_skillbox_reconcile_end;
    rc->end.free = ngx_http_skillbox_reconcile_ended;

    ngx_http_skillbox_reconcile_dumb.fd = (ngx_socket_t) -1;

    rc->timer.handler = ngx_http_skillbox_reconcile_handler;
    rc->timer.data = &ngx_http_skillbox_reconcile_dumb;
    rc->timer.log = cycle->log;
    rc->timer.cancelable = 1;

    ngx_add_timer(&rc->timer, NGX_HTTP_SKILLBOX_ROUND_FIRST);
}


/* none at all when they can't be known: nothing is ended on a part's word */

static void
ngx_http_skillbox_reconcile_peers(ngx_http_skillbox_reconcile_t *rc,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_uint_t                      i, k, n;
    ngx_http_upstream_server_t     *server;
    ngx_http_upstream_srv_conf_t  **upstream;

    upstream = smcf->helpers.elts;

    for (i = 0; i < smcf->helpers.nelts; i++) {

        if (upstream[i]->servers == NULL) {
            rc->npeers = 0;
            return;
        }

        server = upstream[i]->servers->elts;

        for (k = 0; k < upstream[i]->servers->nelts; k++) {

            if (server[k].naddrs == 0) {
                rc->npeers = 0;
                return;
            }

            for (n = 0; n < server[k].naddrs; n++) {

                if (rc->npeers == NGX_HTTP_SKILLBOX_PEERS_MAX) {
                    rc->npeers = 0;
                    return;
                }

                rc->peer[rc->npeers].sockaddr = server[k].addrs[n].sockaddr;
                rc->peer[rc->npeers++].socklen = server[k].addrs[n].socklen;
            }
        }
    }
}


static void
ngx_http_skillbox_reconcile_again(ngx_http_skillbox_reconcile_t *rc)
{
    if (!ngx_exiting && !ngx_terminate) {
        ngx_add_timer(&rc->timer, rc->after.id[0] && !rc->failed
                                  ? NGX_HTTP_SKILLBOX_ROUND_SOON
                                  : NGX_HTTP_SKILLBOX_ROUND_LATER);
    }
}


static void
ngx_http_skillbox_reconcile_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    rc->failed = 0;
    rc->nlive = 0;

    if (ngx_http_skillbox_store_post(&rc->list, NULL, NULL) != NGX_OK) {
        ngx_http_skillbox_reconcile_again(rc);
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_reconcile_list(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    return sb_batch_execution_unended(batch, sb_time_now_ms()
                                             - NGX_HTTP_SKILLBOX_ROUND_AGE,
                                      &rc->after, rc->live,
                                      NGX_HTTP_SKILLBOX_ROUND_MAX,
                                      &rc->nlive, err);
}


static void
ngx_http_skillbox_reconcile_listed(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    if (op->err.code != SB_OK
        || rc->nlive == 0
        || ngx_http_skillbox_work_post(&rc->ask, NULL, NULL) != NGX_OK)
    {
        ngx_http_skillbox_reconcile_again(rc);
    }
}


/* thread */

static void
ngx_http_skillbox_reconcile_ask(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_reconcile_t *rc = &ngx_http_skillbox_reconcile;

    sb_buf_t    request, answer;
    ngx_uint_t  i;

    ngx_memzero(rc->denied, sizeof(rc->denied));

    sb_buf_init(&request, SB_PARAMS_MAX);
    sb_buf_init(&answer, NGX_HTTP_SKILLBOX_ANSWER_MAX);

    rc->failed = (ngx_http_skillbox_reconcile_request(rc, &request) != NGX_OK);

    for (i = 0; i < rc->npeers && !rc->failed; i++) {
        sb_buf_clear(&answer);

        if (ngx_http_skillbox_reconcile_peer(&rc->peer[i], &request, &answer)
            != NGX_OK
            || ngx_http_skillbox_reconcile_read(rc, &answer) != NGX_OK)
        {
            rc->failed = 1;
        }
    }

    sb_buf_free(&request);
    sb_buf_free(&answer);
}


static ngx_int_t
ngx_http_skillbox_reconcile_request(ngx_http_skillbox_reconcile_t *rc,
    sb_buf_t *out)
{
    sb_buf_t       ids, params;
    unsigned       i;
    ngx_int_t      ok;
    unsigned char  begin[16];

    sb_buf_init(&ids, SB_PARAMS_MAX);
    sb_buf_init(&params, SB_PARAMS_MAX);

    for (i = 0; i < rc->nlive; i++) {
        sb_buf_str(&ids, i ? "," : "");
        sb_buf_str(&ids, rc->live[i].id);
    }

    sb_fcgi_pair(&params, SB_P_OP, SB_OP_KNOWN, sizeof(SB_OP_KNOWN) - 1);
    sb_fcgi_pair(&params, SB_P_EXECUTIONS, ids.data ? ids.data : "", ids.len);

    sb_fcgi_begin(begin, 1, SB_FCGI_RESPONDER, 0);
    sb_buf_add(out, begin, sizeof(begin));
    sb_fcgi_stream(out, SB_FCGI_PARAMS, 1, params.data, params.len);
    sb_fcgi_eof(out, SB_FCGI_PARAMS, 1);
    sb_fcgi_eof(out, SB_FCGI_STDIN, 1);

    ok = sb_buf_ok(&ids) && sb_buf_ok(&params) && sb_buf_ok(out);

    sb_buf_free(&ids);
    sb_buf_free(&params);

    return ok ? NGX_OK : NGX_ERROR;
}


/* thread: a pool thread may wait, for some seconds */

static ngx_int_t
ngx_http_skillbox_reconcile_peer(ngx_http_skillbox_peer_t *peer,
    const sb_buf_t *request, sb_buf_t *answer)
{
    int             fd;
    size_t          sent;
    ssize_t         n;
    ngx_int_t       rc;
    struct timeval  limit;

    fd = socket(peer->sockaddr->sa_family, SOCK_STREAM|SOCK_CLOEXEC, 0);
    if (fd == -1) {
        return NGX_ERROR;
    }

    limit.tv_sec = NGX_HTTP_SKILLBOX_PEER_TIMEOUT;
    limit.tv_usec = 0;

    rc = NGX_ERROR;
    n = -1;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0
        && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0
        && connect(fd, peer->sockaddr, peer->socklen) == 0)
    {
        for (sent = 0; sent < request->len; sent += n) {
            n = send(fd, request->data + sent, request->len - sent,
                     MSG_NOSIGNAL);

            if (n <= 0) {
                break;
            }
        }

        if (n > 0) {
            rc = ngx_http_skillbox_reconcile_receive(fd, answer);
        }
    }

    (void) close(fd);

    return rc;
}


/* STDOUT as it is, up to END_REQUEST */

static ngx_int_t
ngx_http_skillbox_reconcile_receive(int fd, sb_buf_t *answer)
{
    ssize_t              n;
    struct timespec      now, end;
    sb_fcgi_event_t      event;
    sb_fcgi_reader_t     reader;
    unsigned char        buf[4096];
    const unsigned char *p;

    ngx_memzero(&reader, sizeof(sb_fcgi_reader_t));

    (void) clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += NGX_HTTP_SKILLBOX_PEER_TIMEOUT;

    for ( ;; ) {
        n = recv(fd, buf, sizeof(buf), 0);

        if (n <= 0 || !sb_buf_ok(answer)) {
            return NGX_ERROR;
        }

        /* a byte now and then is no answer: others wait for this thread */

        (void) clock_gettime(CLOCK_MONOTONIC, &now);

        if (now.tv_sec > end.tv_sec) {
            return NGX_ERROR;
        }

        p = buf;

        do {
            event = sb_fcgi_read(&reader, &p, buf + n);

            if (event == SB_FCGI_EV_ERROR) {
                return NGX_ERROR;
            }

            if (event == SB_FCGI_EV_END
                && reader.type == SB_FCGI_END_REQUEST)
            {
                return sb_buf_ok(answer) ? NGX_OK : NGX_ERROR;
            }

            if (event == SB_FCGI_EV_DATA && reader.type == SB_FCGI_STDOUT) {
                sb_buf_add(answer, reader.data, reader.data_len);
            }

        } while (event != SB_FCGI_EV_NONE);
    }
}


static ngx_int_t
ngx_http_skillbox_reconcile_read(ngx_http_skillbox_reconcile_t *rc,
    const sb_buf_t *answer)
{
    long         head;
    size_t       k, len;
    json_t      *root, *unknown, *id;
    unsigned     i;
    const char  *status, *s;

    head = sb_cgi_header_len(answer->data ? answer->data : "", answer->len);
    if (head <= 0) {
        return NGX_ERROR;
    }

    status = sb_cgi_header(answer->data, head, "Status", &len);
    if (status == NULL || len < 3 || ngx_strncmp(status, "200", 3) != 0) {
        return NGX_ERROR;
    }

    root = json_loadb(answer->data + head, answer->len - head, 0, NULL);
    unknown = json_object_get(root, "unknown");

    if (!json_is_array(unknown)) {
        json_decref(root);
        return NGX_ERROR;
    }

    json_array_foreach(unknown, k, id) {
        s = json_string_value(id);

        for (i = 0; s && i < rc->nlive; i++) {
            if (strcmp(rc->live[i].id, s) == 0) {
                rc->denied[i]++;
                break;
            }
        }
    }

    json_decref(root);

    return NGX_OK;
}


static void
ngx_http_skillbox_reconcile_asked(ngx_http_skillbox_work_t *work)
{
    unsigned                        i;
    ngx_uint_t                      lost;
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    lost = 0;

    for (i = 0; i < rc->nlive && !rc->failed; i++) {
        lost += (rc->denied[i] >= rc->npeers);
    }

    if (lost == 0
        || ngx_http_skillbox_store_post(&rc->end, NULL, NULL) != NGX_OK)
    {
        ngx_http_skillbox_reconcile_again(rc);
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_reconcile_end(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    unsigned                        i;
    sb_code_t                       code;
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    code = SB_OK;
    sb_buf_clear(&rc->ended);

    for (i = 0; i < rc->nlive && code == SB_OK; i++) {

        if (rc->denied[i] >= rc->npeers) {
            code = sb_batch_execution_lost(batch, rc->live[i].tenant,
                                           rc->live[i].id, &rc->ended, err);
        }
    }

    return code;
}


static void
ngx_http_skillbox_reconcile_ended(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_reconcile_t  *rc;

    rc = &ngx_http_skillbox_reconcile;

    if (op->err.code == SB_OK) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "%uz executions that no helper has are ended as "
                      "interrupted", rc->ended.len / sizeof(sb_interrupted_t));
    }

    ngx_http_skillbox_audit_interrupted(&rc->ended, &op->err);

    ngx_http_skillbox_reconcile_again(rc);
}
