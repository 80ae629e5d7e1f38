
/*
 * Runs are answered when they stand in the worker's journal
 * (libskillbox/store_journal.h), and come to the store a moment later, many
 * with one commit:
 *
 *     finished -> pending -> [thread: the journal, one fsync] -> answered
 *              -> written -> [store's thread: a transaction]  -> recorded
 *
 * Only what nobody can know of before its answer goes this way: a synchronous
 * run without files that did not last (record_begin()).  Whatever does not fit,
 * and all when a write to the journal fails, takes the store's way instead
 * (_store_thread), with the same answer.
 *
 * Who asks for runs meanwhile waits for those that were answered (_settle).
 */


#include "ngx_http_skillbox_zone.h"

#include "../libskillbox/store_journal.h"


#define NGX_HTTP_SKILLBOX_JOURNAL_PAUSE  2      /* ms */

/* when nothing runs, or somebody waits; at the latest */
#define NGX_HTTP_SKILLBOX_RECORD_LOOK   4       /* ms */
#define NGX_HTTP_SKILLBOX_RECORD_LATE   50
#define NGX_HTTP_SKILLBOX_RECORD_MAX    10000   /* between tries */
/* so far from its disk_bytes a tenant's runs may be some moments late in it */
#define NGX_HTTP_SKILLBOX_RECORD_ROOM   (16 * SB_MIB)


typedef struct {
    ngx_queue_t                     queue;
    sb_buf_t                        text;       /* a batch, as it was written */
    uint64_t                        seq;
    ngx_atomic_uint_t               ticket;     /* of its runs */
} ngx_http_skillbox_written_t;


typedef struct {
    ngx_http_skillbox_op_t          op;         /* applies what is written */
    sb_journal_t                   *journal;    /* NULL: none (yet) */
    ngx_thread_pool_t              *pool;
    ngx_thread_task_t               task;
    ngx_uint_t                      busy;       /* the thread has a batch */

    ngx_queue_t                     pending;    /* of operations */
    ngx_uint_t                      npending;
    ngx_queue_t                     batch;      /* the thread's while busy */
    ngx_http_skillbox_written_t    *next;       /* the same */
    sb_err_t                        err;        /* the same: of the write */

    ngx_queue_t                     written;
    ngx_queue_t                     applying;   /* the store's thread's */
    ngx_uint_t                      posted;     /* op is */
    ngx_msec_t                      since;      /* the oldest that is written */
    ngx_msec_t                      delay;      /* 0: the last try was good */
    ngx_event_t                     timer;
    ngx_uint_t                      off;        /* by configuration */
    ngx_event_t                     pause;      /* before the next write */
} ngx_http_skillbox_journal_t;


static void ngx_http_skillbox_journal_move(ngx_queue_t *to,
    ngx_queue_t *from);
static void ngx_http_skillbox_journal_hand_over(void);
static ngx_uint_t ngx_http_skillbox_journal_idle(void);
static void ngx_http_skillbox_journal_pass_on(ngx_queue_t *ops);
static void ngx_http_skillbox_journal_write(void *data, ngx_log_t *log);
static void ngx_http_skillbox_journal_complete(ngx_event_t *ev);
static void ngx_http_skillbox_journal_wrote(ngx_http_skillbox_written_t *w);
static void ngx_http_skillbox_journal_ticket(ngx_http_skillbox_written_t *w);
static void ngx_http_skillbox_journal_oldest(void);
static void ngx_http_skillbox_journal_later(ngx_msec_t delay);
static void ngx_http_skillbox_journal_timer(ngx_event_t *ev);
static void ngx_http_skillbox_journal_go_on(ngx_event_t *ev);
static sb_code_t ngx_http_skillbox_journal_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_journal_applied(ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_journal_free(ngx_queue_t *written);


/* a worker's own */

static ngx_http_skillbox_journal_t  ngx_http_skillbox_journal;


void
ngx_http_skillbox_journal_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    ngx_memzero(jp, sizeof(ngx_http_skillbox_journal_t));

    ngx_queue_init(&jp->pending);
    ngx_queue_init(&jp->batch);
    ngx_queue_init(&jp->written);
    ngx_queue_init(&jp->applying);

    jp->off = !smcf->journal;
    jp->pool = smcf->journal_pool;

    jp->task.handler = ngx_http_skillbox_journal_write;
    jp->task.ctx = jp;
    jp->task.event.handler = ngx_http_skillbox_journal_complete;
    jp->task.event.data = jp;
    jp->task.event.log = cycle->log;

    jp->op.apply = ngx_http_skillbox_journal_apply;
    jp->op.free = ngx_http_skillbox_journal_applied;

    jp->pause.handler = ngx_http_skillbox_journal_go_on;
    jp->pause.data = jp;
    jp->pause.log = cycle->log;

    jp->timer.handler = ngx_http_skillbox_journal_timer;
    jp->timer.data = jp;
    jp->timer.log = cycle->log;
}


/*
 * The threads are gone, and so is the store: it has had op when that was posted.
 * What else is written is recorded when the store is opened.
 */

void
ngx_http_skillbox_journal_exit(void)
{
    ngx_queue_t                  *q;
    ngx_http_skillbox_op_t       *op;
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    if (jp->op.free == NULL) {
        return;                                 /* never begun */
    }

    ngx_http_skillbox_journal_move(&jp->batch, &jp->pending);

    while (!ngx_queue_empty(&jp->batch)) {
        q = ngx_queue_head(&jp->batch);
        ngx_queue_remove(q);

        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);
        op->free(op);
    }

    if (jp->next) {
        sb_buf_free(&jp->next->text);
        free(jp->next);
        jp->next = NULL;
    }

    ngx_http_skillbox_journal_free(&jp->written);
    ngx_http_skillbox_journal_free(&jp->applying);

    sb_journal_close(jp->journal);
    jp->journal = NULL;
}


ngx_uint_t
ngx_http_skillbox_journal_is_open(void)
{
    return ngx_http_skillbox_journal.journal != NULL;
}


ngx_uint_t
ngx_http_skillbox_journal_wanted(void)
{
    return !ngx_http_skillbox_journal.off
           && ngx_http_skillbox_journal.journal == NULL
           && ngx_http_skillbox_shm() != NULL && !ngx_exiting;
}


void
ngx_http_skillbox_journal_take(sb_journal_t *journal)
{
    ngx_uint_t                   place;
    ngx_http_skillbox_shm_t     *shm;

    shm = ngx_http_skillbox_shm();
    place = ngx_http_skillbox_worker();

    /* one that shares its place with another could not say what is its own */

    if (shm == NULL || shm->workers[place].pid != ngx_pid) {
        sb_journal_close(journal);
        ngx_http_skillbox_journal.off = 1;
        return;
    }

    ngx_http_skillbox_journal.journal = journal;
}


/* NGX_DECLINED: the operation is to go the store's way. */

ngx_int_t
ngx_http_skillbox_journal_post(ngx_http_skillbox_op_t *op,
    ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                      err;
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    if (jp->journal == NULL || jp->delay || ngx_http_skillbox_store_low()) {
        return NGX_DECLINED;
    }

    if (jp->npending >= SB_JOURNAL_BATCH_MAX / 1024) {
        return NGX_DECLINED;
    }

    if (ctx->limit[SB_LIMIT_DISK_BYTES] >= 0
        && sb_store_tenant_room(ngx_http_skillbox_store(&err), ctx->key.tenant,
                                NGX_HTTP_SKILLBOX_RECORD_ROOM, &err)
           != SB_OK)
    {
        return NGX_DECLINED;
    }

    ngx_http_skillbox_op_begin(op, r, ctx);

    ngx_queue_insert_tail(&jp->pending, &op->queue);
    jp->npending++;

    ngx_http_skillbox_journal_hand_over();

    return NGX_OK;
}


/* behind what is there; ngx_queue_add() does not take an empty one */

static void
ngx_http_skillbox_journal_move(ngx_queue_t *to, ngx_queue_t *from)
{
    if (ngx_queue_empty(from)) {
        return;
    }

    ngx_queue_add(to, from);
    ngx_queue_init(from);
}


static void
ngx_http_skillbox_journal_hand_over(void)
{
    ngx_queue_t                   ops;
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    if (jp->busy || jp->pause.timer_set || ngx_queue_empty(&jp->pending)) {
        return;
    }

    if (ngx_http_skillbox_journal_idle()) {
        sb_journal_rewind(jp->journal);
    }

    jp->next = NULL;

    if (sb_journal_room(jp->journal, SB_JOURNAL_BATCH_MAX)) {
        jp->next = calloc(1, sizeof(ngx_http_skillbox_written_t));
    }

    if (jp->next == NULL) {
        ngx_queue_init(&ops);
        ngx_http_skillbox_journal_move(&ops, &jp->pending);
        jp->npending = 0;

        ngx_http_skillbox_journal_record();
        ngx_http_skillbox_journal_pass_on(&ops);
        return;
    }

    ngx_http_skillbox_journal_move(&jp->batch, &jp->pending);
    jp->npending = 0;
    jp->busy = 1;

    if (ngx_thread_task_post(jp->pool, &jp->task) == NGX_OK) {
        return;
    }

    /* the pool refuses only what is posted twice */

    free(jp->next);
    jp->next = NULL;
    jp->busy = 0;

    ngx_http_skillbox_journal_pass_on(&jp->batch);
}


static ngx_uint_t
ngx_http_skillbox_journal_idle(void)
{
    return ngx_queue_empty(&ngx_http_skillbox_journal.written)
           && ngx_queue_empty(&ngx_http_skillbox_journal.applying);
}


static void
ngx_http_skillbox_journal_pass_on(ngx_queue_t *ops)
{
    ngx_queue_t             *q;
    ngx_http_skillbox_op_t  *op;

    while (!ngx_queue_empty(ops)) {
        q = ngx_queue_head(ops);
        ngx_queue_remove(q);

        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

        ngx_http_skillbox_count_journal(0, 1);
        ngx_http_skillbox_store_pass_on(op);
    }
}


/*
 * Thread.  An operation that is not written takes the other way; prepared it is
 * for both.
 */

static void
ngx_http_skillbox_journal_write(void *data, ngx_log_t *log)
{
    ngx_http_skillbox_journal_t *jp = data;

    int64_t                   began;
    ngx_uint_t                n;
    ngx_queue_t              *q;
    ngx_http_skillbox_op_t   *op;

    began = ngx_http_skillbox_clock_usec();
    n = 0;

    ngx_memzero(&jp->err, sizeof(sb_err_t));
    sb_journal_begin(&jp->next->text);

    for (q = ngx_queue_head(&jp->batch);
         q != ngx_queue_sentinel(&jp->batch);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

        if (op->prepare) {
            op->prepare(op);
            op->prepare = NULL;
        }

        op->written = op->err.code == SB_OK
                      && op->journal(op, &jp->next->text);
        n += op->written;
    }

    if (n
        && sb_journal_write(jp->journal, &jp->next->text, &jp->next->seq,
                            &jp->err)
           == SB_OK)
    {
        ngx_http_skillbox_observe_journal(ngx_http_skillbox_clock_usec()
                                          - began);
    }
}


static void
ngx_http_skillbox_journal_complete(ngx_event_t *ev)
{
    ngx_http_skillbox_journal_t *jp = ev->data;

    ngx_queue_t                   done, *q;
    ngx_http_skillbox_op_t       *op;
    ngx_http_skillbox_written_t  *w;

    ngx_queue_init(&done);
    ngx_http_skillbox_journal_move(&done, &jp->batch);

    w = jp->next;
    jp->next = NULL;
    jp->busy = 0;

    if (jp->err.code != SB_OK) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0, "%s",
                      jp->err.message);
    }

    if (jp->err.code == SB_OK && w->seq) {
        ngx_http_skillbox_journal_wrote(w);

    } else {
        sb_buf_free(&w->text);
        free(w);
        w = NULL;
    }

    /*
     * Where several end at once more will: the ones that are answered now come
     * back, and a write costs as much for one as for ten.
     */

    q = ngx_queue_head(&done);

    if (ngx_queue_next(q) != ngx_queue_sentinel(&done)) {
        ngx_add_timer(&jp->pause, NGX_HTTP_SKILLBOX_JOURNAL_PAUSE);
    }

    /* else the thread goes on while the answers are sent */

    ngx_http_skillbox_journal_hand_over();

    while (!ngx_queue_empty(&done)) {
        q = ngx_queue_head(&done);
        ngx_queue_remove(q);

        op = ngx_queue_data(q, ngx_http_skillbox_op_t, queue);

        if (w && op->written) {
            ngx_http_skillbox_count_journal(1, 0);
            ngx_http_skillbox_op_complete(op);
            continue;
        }

        ngx_http_skillbox_count_journal(0, 1);
        ngx_http_skillbox_store_pass_on(op);
    }
}


/* before the first answer is sent */

static void
ngx_http_skillbox_journal_wrote(ngx_http_skillbox_written_t *w)
{
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    ngx_http_skillbox_journal_ticket(w);

    if (ngx_queue_empty(&jp->written)) {
        jp->since = ngx_current_msec;
    }

    ngx_queue_insert_tail(&jp->written, &w->queue);

    if (!sb_journal_room(jp->journal, SB_JOURNAL_BYTES / 2)) {
        ngx_http_skillbox_journal_record();
        return;
    }

    ngx_http_skillbox_journal_later(NGX_HTTP_SKILLBOX_RECORD_LOOK);
}


static void
ngx_http_skillbox_journal_ticket(ngx_http_skillbox_written_t *w)
{
    ngx_http_skillbox_shm_t  *shm;

    shm = ngx_http_skillbox_shm();

    w->ticket = ngx_atomic_fetch_add(&shm->ticket, 1) + 1;

    if (ngx_http_skillbox_journal_idle()) {
        shm->workers[ngx_http_skillbox_worker()].unrecorded = w->ticket;
    }
}


/* in the worker's place, for all to see */

static void
ngx_http_skillbox_journal_oldest(void)
{
    ngx_queue_t                  *q;
    ngx_atomic_uint_t             ticket;
    ngx_http_skillbox_shm_t      *shm;
    ngx_http_skillbox_written_t  *w;
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;
    shm = ngx_http_skillbox_shm();
    ticket = 0;

    if (!ngx_queue_empty(&jp->written)) {
        q = ngx_queue_head(&jp->written);
        w = ngx_queue_data(q, ngx_http_skillbox_written_t, queue);
        ticket = w->ticket;
    }

    shm->workers[ngx_http_skillbox_worker()].unrecorded = ticket;
}


/* A worker that is told to end does not end before, but for a second try. */

static void
ngx_http_skillbox_journal_later(ngx_msec_t delay)
{
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    if (jp->posted || jp->timer.timer_set) {
        return;
    }

    jp->timer.cancelable = (jp->delay != 0);

    ngx_add_timer(&jp->timer, delay);
}


static void
ngx_http_skillbox_journal_go_on(ngx_event_t *ev)
{
    ngx_http_skillbox_journal_hand_over();
}


/*
 * A commit would take processor and disk from the runs under way, and they will
 * want one, too.
 */

static void
ngx_http_skillbox_journal_timer(ngx_event_t *ev)
{
    ngx_http_skillbox_shm_t      *shm;
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;
    shm = ngx_http_skillbox_shm();

    if (jp->delay == 0
        && ngx_http_skillbox_limits_runs()
        && !shm->workers[ngx_http_skillbox_worker()].wanted
        && ngx_current_msec - jp->since < NGX_HTTP_SKILLBOX_RECORD_LATE)
    {
        ngx_http_skillbox_journal_later(NGX_HTTP_SKILLBOX_RECORD_LOOK);
        return;
    }

    ngx_http_skillbox_journal_record();
}


void
ngx_http_skillbox_journal_record(void)
{
    ngx_http_skillbox_journal_t  *jp;

    jp = &ngx_http_skillbox_journal;

    if (jp->posted || ngx_queue_empty(&jp->written)) {
        return;
    }

    if (jp->timer.timer_set) {
        ngx_del_timer(&jp->timer);
    }

    ngx_http_skillbox_shm()->workers[ngx_http_skillbox_worker()].wanted = 0;

    ngx_http_skillbox_journal_move(&jp->applying, &jp->written);

    if (ngx_http_skillbox_store_post(&jp->op, NULL, NULL) == NGX_OK) {
        jp->posted = 1;
        return;
    }

    ngx_http_skillbox_journal_move(&jp->written, &jp->applying);

    ngx_http_skillbox_journal_later(NGX_HTTP_SKILLBOX_RECORD_LOOK);
}


/* thread */

static sb_code_t
ngx_http_skillbox_journal_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_journal_t *jp = (ngx_http_skillbox_journal_t *) op;

    uint64_t                      seq;
    sb_code_t                     code;
    ngx_queue_t                  *q;
    ngx_http_skillbox_written_t  *w;

    seq = 0;

    for (q = ngx_queue_head(&jp->applying);
         q != ngx_queue_sentinel(&jp->applying);
         q = ngx_queue_next(q))
    {
        w = ngx_queue_data(q, ngx_http_skillbox_written_t, queue);

        code = sb_batch_journal(batch, w->text.data, w->text.len, err);
        if (code != SB_OK) {
            return code;
        }

        seq = w->seq;
    }

    return sb_batch_journal_applied(batch, jp->journal, seq, err);
}


/*
 * op_complete() calls it: the transaction has ended.  What was answered is kept
 * until it is recorded, however long that takes; who asks does not wait for a
 * store that takes nothing.
 */

static void
ngx_http_skillbox_journal_applied(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_journal_t *jp = (ngx_http_skillbox_journal_t *) op;

    jp->posted = 0;

    if (op->err.code == SB_OK) {
        jp->delay = 0;
        ngx_http_skillbox_journal_free(&jp->applying);
        ngx_http_skillbox_journal_oldest();

        if (!ngx_queue_empty(&jp->written)) {
            ngx_http_skillbox_journal_later(NGX_HTTP_SKILLBOX_RECORD_LOOK);
        }

        return;
    }

    ngx_http_skillbox_journal_move(&jp->applying, &jp->written);
    ngx_http_skillbox_journal_move(&jp->written, &jp->applying);

    ngx_http_skillbox_shm()->workers[ngx_http_skillbox_worker()].unrecorded
                                                                          = 0;

    jp->delay = ngx_min(ngx_max(jp->delay * 2, NGX_HTTP_SKILLBOX_RECORD_LATE),
                        NGX_HTTP_SKILLBOX_RECORD_MAX);

    ngx_http_skillbox_journal_later(jp->delay);
}


static void
ngx_http_skillbox_journal_free(ngx_queue_t *written)
{
    ngx_queue_t                  *q, *next;
    ngx_http_skillbox_written_t  *w;

    for (q = ngx_queue_head(written);
         q != ngx_queue_sentinel(written);
         q = next)
    {
        next = ngx_queue_next(q);
        w = ngx_queue_data(q, ngx_http_skillbox_written_t, queue);

        sb_buf_free(&w->text);
        free(w);
    }

    ngx_queue_init(written);
}
