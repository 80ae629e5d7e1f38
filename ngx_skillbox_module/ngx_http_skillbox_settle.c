
/*
 * Who asks for what runs have left is answered when those runs are in the store
 * that were answered before (_journal).
 *
 * What a client was told must be seen by who asks next, at any worker.  So each
 * answer has a ticket, and each worker's place in the zone says which is the
 * oldest whose run is not recorded; a request about runs waits until those are
 * gone that were there when it came.  Mostly there are none; those that there
 * are, are recorded soon when somebody waits.
 */


#include "ngx_http_skillbox_zone.h"


#define NGX_HTTP_SKILLBOX_SETTLE_LOOK  1        /* ms */
#define NGX_HTTP_SKILLBOX_SETTLE_MAX   3000


typedef struct {
    ngx_http_request_t             *request;
    ngx_event_t                     timer;
    ngx_atomic_uint_t               ticket;
    ngx_msec_t                      since;
    ngx_http_skillbox_handler_pt    handler;
} ngx_http_skillbox_settle_t;


static ngx_uint_t ngx_http_skillbox_settled(ngx_atomic_uint_t ticket);
static void ngx_http_skillbox_settle_handler(ngx_event_t *ev);
static void ngx_http_skillbox_settle_cleanup(void *data);


/* places of the dead that the recovery under way covers; the event loop's */

static u_char  ngx_http_skillbox_left[NGX_HTTP_SKILLBOX_WORKERS];


/* One that dies meanwhile, or has, is its successor's to wait for. */

void
ngx_http_skillbox_recovery_begin(void)
{
    ngx_uint_t                   i;
    ngx_http_skillbox_shm_t     *shm;
    ngx_http_skillbox_worker_t  *w;

    shm = ngx_http_skillbox_shm();

    for (i = 0; shm && i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        w = &shm->workers[i];

        ngx_http_skillbox_left[i] = w->unrecorded
                       && (w->pid == 0
                           || (w->pid == ngx_pid
                               && !ngx_http_skillbox_journal_is_open()));
    }
}


void
ngx_http_skillbox_recovery_end(void)
{
    ngx_uint_t                i;
    ngx_http_skillbox_shm_t  *shm;

    shm = ngx_http_skillbox_shm();

    for (i = 0; shm && i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        if (ngx_http_skillbox_left[i]) {
            shm->workers[i].unrecorded = 0;
        }
    }
}


static ngx_uint_t
ngx_http_skillbox_settled(ngx_atomic_uint_t ticket)
{
    ngx_uint_t                   i, settled;
    ngx_atomic_uint_t            oldest;
    ngx_http_skillbox_shm_t     *shm;
    ngx_http_skillbox_worker_t  *w;

    shm = ngx_http_skillbox_shm();
    settled = 1;

    for (i = 0; i < shm->places; i++) {
        w = &shm->workers[i];
        oldest = w->unrecorded;

        if (oldest && oldest <= ticket) {
            w->wanted = 1;
            settled = 0;
        }
    }

    return settled;
}


/* NGX_DONE: handler will be called, and r finalized with what it returns. */

ngx_int_t
ngx_http_skillbox_settle(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_handler_pt handler)
{
    ngx_atomic_uint_t            ticket;
    ngx_pool_cleanup_t          *cln;
    ngx_http_skillbox_shm_t     *shm;
    ngx_http_skillbox_settle_t  *s;

    shm = ngx_http_skillbox_shm();

    if (shm == NULL) {
        return handler(r, ctx);
    }

    ticket = shm->ticket;

    if (ngx_http_skillbox_settled(ticket)) {
        return handler(r, ctx);
    }

    ngx_http_skillbox_journal_record();

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_skillbox_settle_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    s = cln->data;
    ngx_memzero(s, sizeof(ngx_http_skillbox_settle_t));

    cln->handler = ngx_http_skillbox_settle_cleanup;

    s->request = r;
    s->handler = handler;
    s->ticket = ticket;
    s->since = ngx_current_msec;
    s->timer.handler = ngx_http_skillbox_settle_handler;
    s->timer.data = s;
    s->timer.log = r->connection->log;

    r->main->count++;
    ngx_http_skillbox_wait(r);
    ngx_add_timer(&s->timer, NGX_HTTP_SKILLBOX_SETTLE_LOOK);

    return NGX_DONE;
}


static void
ngx_http_skillbox_settle_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_settle_t *s = ev->data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = s->request;
    c = r->connection;

    if (!ngx_http_skillbox_settled(s->ticket)) {

        if (ngx_current_msec - s->since < NGX_HTTP_SKILLBOX_SETTLE_MAX) {
            ngx_add_timer(ev, NGX_HTTP_SKILLBOX_SETTLE_LOOK);
            return;
        }

        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "runs that were answered are not in the store yet");
    }

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;

    ngx_http_finalize_request(r, s->handler(r, ngx_http_skillbox_get_ctx(r)));
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_skillbox_settle_cleanup(void *data)
{
    ngx_http_skillbox_settle_t *s = data;

    if (s->timer.timer_set) {
        ngx_del_timer(&s->timer);
    }
}
