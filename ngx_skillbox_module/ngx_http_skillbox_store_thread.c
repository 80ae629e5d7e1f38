
/*
 * What leaves the event loop: writes to the store, and parsing of large bodies.
 *
 * Each worker opens the store once, after the fork.  Reads happen on the event
 * loop (microseconds, from the map).  Writes wait in a list; whenever the one
 * thread of the pool "skillbox_store" is idle it gets the whole list, makes one
 * transaction of it, one fsync, and the list of the next transaction gathers
 * meanwhile (group commit).
 *
 * In the threads there are no requests, no nginx pools, no nginx log: an
 * operation owns the memory it works on.  A request that waits for one is
 * pointed to by it and points back (ctx->op, ctx->work); when the request goes,
 * its context's cleanup cuts that link, the operation completes all the same,
 * and its memory is freed on the event loop.
 */


#include "ngx_http_skillbox.h"

#include "../libskillbox/store_journal.h"


#define NGX_HTTP_SKILLBOX_PENDING_MAX  65536
#define NGX_HTTP_SKILLBOX_TICK         30000
#define NGX_HTTP_SKILLBOX_HOLD         60000


typedef struct {
    sb_store_t                     *store;     /* NULL: err says why */
    sb_err_t                        err;
    int64_t                         started_ms;

    ngx_thread_pool_t              *pool;
    ngx_thread_pool_t              *work_pool;
    ngx_thread_task_t               task;
    ngx_uint_t                      busy;      /* the thread has a batch */

    ngx_queue_t                     pending;
    ngx_uint_t                      npending;
    ngx_queue_t                     batch;     /* the thread's while busy */
    ngx_uint_t                      low;       /* the store has no room */

    ngx_event_t                     timer;
    ngx_uint_t                      sweeping;

    ngx_event_t                     hold;
    ngx_uint_t                      holders;   /* threads' work under way */
} ngx_http_skillbox_process_t;


typedef struct {
    ngx_http_skillbox_op_t          op;
    sb_buf_t                        ended;     /* of sb_interrupted_t */
    sb_journal_t                   *journal;   /* for this worker, or NULL */
    sb_err_t                        journals;  /* what became of the others */
    ngx_uint_t                      wanted;
} ngx_http_skillbox_sweep_t;


static void ngx_http_skillbox_store_forget(ngx_http_skillbox_process_t *sp);
static void ngx_http_skillbox_store_hand_over(void);
static void ngx_http_skillbox_store_batch(void *data, ngx_log_t *log);
static void ngx_http_skillbox_store_complete(ngx_event_t *ev);
static void ngx_http_skillbox_hold(void);
static void ngx_http_skillbox_release(void);
static void ngx_http_skillbox_hold_on(ngx_event_t *ev);
static void ngx_http_skillbox_store_tick(ngx_event_t *ev);
static void ngx_http_skillbox_store_sweep(void);
static void ngx_http_skillbox_sweep_prepare(ngx_http_skillbox_op_t *op);
static sb_code_t ngx_http_skillbox_sweep_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_sweep_free(ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_work_run(void *data, ngx_log_t *log);
static void ngx_http_skillbox_work_complete(ngx_event_t *ev);


/* a worker's own; the master never touches it */

static ngx_http_skillbox_process_t  ngx_http_skillbox_process;

static ngx_connection_t  ngx_http_skillbox_dumb;


/*
 * A store that can't be opened does not end the worker, which the master would
 * only start again: /ready and every answer that needs it tell why.
 */

ngx_int_t
ngx_http_skillbox_store_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_event_t                  *ev;
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    ngx_memzero(sp, sizeof(ngx_http_skillbox_process_t));

    sp->pool = smcf->store_pool;
    sp->work_pool = smcf->work_pool;
    sp->started_ms = sb_time_now_ms();

    ngx_queue_init(&sp->pending);
    ngx_queue_init(&sp->batch);

    sp->task.handler = ngx_http_skillbox_store_batch;
    sp->task.ctx = sp;
    sp->task.event.handler = ngx_http_skillbox_store_complete;
    sp->task.event.data = sp;
    sp->task.event.log = cycle->log;

    ngx_http_skillbox_dumb.fd = (ngx_socket_t) -1;

    sp->hold.handler = ngx_http_skillbox_hold_on;
    sp->hold.data = &ngx_http_skillbox_dumb;
    sp->hold.log = cycle->log;

    ngx_http_skillbox_recovery_begin();

    if (sb_store_open((char *) smcf->store.data, smcf->store_size, true,
                      &sp->store, &sp->err)
        != SB_OK)
    {
        sp->store = NULL;

        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "the store \"%V\" can't be opened: %s",
                      &smcf->store, sp->err.message);
        return NGX_OK;
    }

    /* cancelable: it does not hold up a worker that is shutting down */

    ev = &sp->timer;
    ev->handler = ngx_http_skillbox_store_tick;
    ev->data = &ngx_http_skillbox_dumb;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_SKILLBOX_TICK);

    ngx_http_skillbox_recovery_end();
    ngx_http_skillbox_store_sweep();

    return NGX_OK;
}


/*
 * The thread pools are gone by now: they were told to end behind the batch that
 * was running.  What was still waiting - at most PENDING_MAX operations nobody
 * waits for - is committed here.
 */

void
ngx_http_skillbox_store_exit(ngx_cycle_t *cycle)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->store == NULL) {
        return;
    }

    /* what the thread has done and nobody was told of any more */

    ngx_http_skillbox_store_forget(sp);

    if (!ngx_queue_empty(&sp->pending)) {
        ngx_queue_add(&sp->batch, &sp->pending);
        ngx_queue_init(&sp->pending);

        ngx_http_skillbox_store_batch(sp, cycle->log);
        ngx_http_skillbox_store_forget(sp);
    }

    sb_store_close(sp->store);
    sp->store = NULL;
}


sb_store_t *
ngx_http_skillbox_store(sb_err_t *err)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->store == NULL) {

        if (sp->err.code == SB_OK) {
            sb_err_set(&sp->err, SB_EINTERNAL, "the store is not open");
        }

        *err = sp->err;

        /* "of a newer schema" and the like: nothing the client asked for */

        if (sb_code_status(err->code) < NGX_HTTP_INTERNAL_SERVER_ERROR) {
            err->code = SB_EINTERNAL;
        }
    }

    return sp->store;
}


ngx_int_t
ngx_http_skillbox_store_post(ngx_http_skillbox_op_t *op,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->store == NULL) {
        return NGX_ERROR;
    }

    if (sp->npending >= NGX_HTTP_SKILLBOX_PENDING_MAX) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "%ui writes wait for the store", sp->npending);
        return NGX_ERROR;
    }

    ngx_http_skillbox_op_begin(op, r, ctx);
    ngx_http_skillbox_store_pass_on(op);

    return NGX_OK;
}


void
ngx_http_skillbox_op_begin(ngx_http_skillbox_op_t *op, ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    op->request = r;
    ngx_memzero(&op->err, sizeof(sb_err_t));

    if (r) {
        ctx->op = op;
        ngx_http_skillbox_wait(r);
    }

    ngx_http_skillbox_hold();
}


void
ngx_http_skillbox_store_pass_on(ngx_http_skillbox_op_t *op)
{
    ngx_queue_insert_tail(&ngx_http_skillbox_process.pending, &op->queue);
    ngx_http_skillbox_process.npending++;

    ngx_http_skillbox_store_hand_over();
}


ngx_uint_t
ngx_http_skillbox_store_low(void)
{
    return ngx_http_skillbox_process.low;
}


/* Meanwhile the client may hang up; nothing else moves the request. */

void
ngx_http_skillbox_wait(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


/*
 * A worker that is shutting down ends when no timer is left, whatever a thread
 * may be doing for a connection.  So there is one, not cancelable, as long as
 * something is under way.
 */

static void
ngx_http_skillbox_hold(void)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->holders++ == 0) {
        ngx_add_timer(&sp->hold, NGX_HTTP_SKILLBOX_HOLD);
    }
}


static void
ngx_http_skillbox_release(void)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (--sp->holders == 0 && sp->hold.timer_set) {
        ngx_del_timer(&sp->hold);
    }
}


static void
ngx_http_skillbox_hold_on(ngx_event_t *ev)
{
    ngx_add_timer(ev, NGX_HTTP_SKILLBOX_HOLD);
}


/* the process ends: operations are freed without a word to their requests */

static void
ngx_http_skillbox_store_forget(ngx_http_skillbox_process_t *sp)
{
    ngx_queue_t             *q;
    ngx_http_skillbox_op_t  *op;

    while (!ngx_queue_empty(&sp->batch)) {
        q = ngx_queue_head(&sp->batch);
        ngx_queue_remove(q);

        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);
        op->free(op);
    }
}


static void
ngx_http_skillbox_store_hand_over(void)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->busy || ngx_queue_empty(&sp->pending)) {
        return;
    }

    ngx_queue_add(&sp->batch, &sp->pending);
    ngx_queue_init(&sp->pending);
    sp->npending = 0;
    sp->busy = 1;

    if (ngx_thread_task_post(sp->pool, &sp->task) == NGX_OK) {
        return;
    }

    /* the pool refuses only what is posted twice; see to it in a moment */

    ngx_queue_add(&sp->pending, &sp->batch);
    ngx_queue_init(&sp->batch);
    sp->busy = 0;
}


int64_t
ngx_http_skillbox_clock_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


/* thread (at exit: the process alone) */

static void
ngx_http_skillbox_store_batch(void *data, ngx_log_t *log)
{
    ngx_http_skillbox_process_t *sp = data;

    int64_t                  began;
    sb_err_t                 err;
    sb_batch_t              *batch;
    ngx_uint_t               n;
    ngx_queue_t             *q;
    ngx_http_skillbox_op_t  *op;

    ngx_memzero(&err, sizeof(sb_err_t));

    began = ngx_http_skillbox_clock_usec();
    n = 0;

    /* what needs no transaction is done before LMDB's writer lock is taken */

    for (q = ngx_queue_head(&sp->batch);
         q != ngx_queue_sentinel(&sp->batch);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

        n++;

        if (op->prepare) {
            op->prepare(op);
        }
    }

    if (sb_batch_begin(sp->store, &batch, &err) == SB_OK) {

        sp->low = sb_batch_low(batch);

        for (q = ngx_queue_head(&sp->batch);
             q != ngx_queue_sentinel(&sp->batch);
             q = ngx_queue_next(q))
        {
            op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

            op->err.code = op->apply(op, batch, &op->err);
        }

        if (sb_batch_commit(batch, &err) == SB_OK) {
            ngx_http_skillbox_count_batch(n, ngx_http_skillbox_clock_usec()
                                             - began, 0);
            return;
        }
    }

    ngx_http_skillbox_count_batch(n, ngx_http_skillbox_clock_usec() - began,
                                  1);

    for (q = ngx_queue_head(&sp->batch);
         q != ngx_queue_sentinel(&sp->batch);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

        if (op->err.code == SB_OK) {
            op->err = err;
        }
    }
}


static void
ngx_http_skillbox_store_complete(ngx_event_t *ev)
{
    ngx_http_skillbox_process_t *sp = ev->data;

    ngx_queue_t   done, *q;

    ngx_queue_init(&done);
    ngx_queue_add(&done, &sp->batch);
    ngx_queue_init(&sp->batch);
    sp->busy = 0;

    /* the thread goes on while the answers are sent */

    ngx_http_skillbox_store_hand_over();

    while (!ngx_queue_empty(&done)) {
        q = ngx_queue_head(&done);
        ngx_queue_remove(q);

        ngx_http_skillbox_op_complete(
                        ngx_queue_data(q, ngx_http_skillbox_op_t, queue));
    }
}


void
ngx_http_skillbox_op_complete(ngx_http_skillbox_op_t *op)
{
    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_skillbox_ctx_t  *ctx;

    ngx_http_skillbox_release();

    r = op->request;

    if (r == NULL) {

        if (op->err.code != SB_OK) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "writing to the store failed: %s", op->err.message);
        }

        op->free(op);
        return;
    }

    c = r->connection;
    ctx = ngx_http_skillbox_get_ctx(r);
    ctx->op = NULL;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;

    op->done(r, ctx, op);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_skillbox_store_tick(ngx_event_t *ev)
{
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    sb_store_check_readers(sp->store);
    ngx_http_skillbox_store_sweep();
    ngx_http_skillbox_store_hand_over();

    ngx_add_timer(ev, NGX_HTTP_SKILLBOX_TICK);
}


/* executions that a dead worker left behind become failed */

static void
ngx_http_skillbox_store_sweep(void)
{
    ngx_http_skillbox_sweep_t    *sweep;
    ngx_http_skillbox_process_t  *sp;

    sp = &ngx_http_skillbox_process;

    if (sp->sweeping) {
        return;
    }

    sweep = calloc(1, sizeof(ngx_http_skillbox_sweep_t));
    if (sweep == NULL) {
        return;
    }

    sweep->wanted = ngx_http_skillbox_journal_wanted();
    sweep->op.prepare = ngx_http_skillbox_sweep_prepare;
    sweep->op.apply = ngx_http_skillbox_sweep_apply;
    sweep->op.free = ngx_http_skillbox_sweep_free;

    sb_buf_init(&sweep->ended, SB_INTERRUPTED_MAX * sizeof(sb_interrupted_t));

    ngx_http_skillbox_recovery_begin();

    if (ngx_http_skillbox_store_post(&sweep->op, NULL, NULL) != NGX_OK) {
        free(sweep);
        return;
    }

    sp->sweeping = 1;
}


/* thread: runs that dead workers have answered, and a journal of our own */

static void
ngx_http_skillbox_sweep_prepare(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_sweep_t *sweep = (ngx_http_skillbox_sweep_t *) op;

    sb_store_t  *store;

    store = ngx_http_skillbox_process.store;

    if (sb_store_recover(store, &sweep->journals) == SB_OK && sweep->wanted) {
        (void) sb_journal_open(store, &sweep->journal, &sweep->journals);
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_sweep_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_sweep_t *sweep = (ngx_http_skillbox_sweep_t *) op;

    sb_buf_clear(&sweep->ended);

    return sb_batch_execution_sweep(batch, ngx_pid,
                                    ngx_http_skillbox_process.started_ms,
                                    &sweep->ended, err);
}


static void
ngx_http_skillbox_sweep_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_sweep_t *sweep = (ngx_http_skillbox_sweep_t *) op;

    ngx_http_skillbox_process.sweeping = 0;
    ngx_http_skillbox_audit_interrupted(&sweep->ended, &op->err);

    if (sweep->journals.code == SB_OK) {
        ngx_http_skillbox_recovery_end();

    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "%s%s",
                      sweep->journals.message,
                      sweep->wanted ? "; runs are answered when they are in "
                                      "the store" : "");
    }

    if (sweep->journal) {
        ngx_http_skillbox_journal_take(sweep->journal);
    }

    free(sweep);
}


ngx_int_t
ngx_http_skillbox_work_post(ngx_http_skillbox_work_t *work,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    work->request = r;

    work->task.handler = ngx_http_skillbox_work_run;
    work->task.ctx = work;
    work->task.event.handler = ngx_http_skillbox_work_complete;
    work->task.event.data = work;
    work->task.event.log = ngx_cycle->log;

    if (ngx_thread_task_post(ngx_http_skillbox_process.work_pool, &work->task)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_skillbox_hold();

    if (r) {
        ctx->work = work;
        ngx_http_skillbox_wait(r);
    }

    return NGX_OK;
}


/* thread */

static void
ngx_http_skillbox_work_run(void *data, ngx_log_t *log)
{
    ngx_http_skillbox_work_t *work = data;

    work->run(work);
}


static void
ngx_http_skillbox_work_complete(ngx_event_t *ev)
{
    ngx_http_skillbox_work_t *work = ev->data;

    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_skillbox_ctx_t  *ctx;

    ngx_http_skillbox_release();

    r = work->request;

    if (r == NULL) {
        work->free(work);
        return;
    }

    c = r->connection;
    ctx = ngx_http_skillbox_get_ctx(r);
    ctx->work = NULL;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;

    work->done(r, ctx, work);

    ngx_http_run_posted_requests(c);
}
