
/*
 * An execution's record: begun when the run lasts, finished with the helper's
 * result, or ended without one.  The answer to the client is the
 * finished record with the log in it; it is rendered in the store's thread and
 * sent after the commit, so what a client was told is durable.
 */


#include "ngx_http_skillbox.h"

#include "../libskillbox/journal.h"


#define NGX_HTTP_SKILLBOX_BEGIN_AFTER  100      /* ms */
#define NGX_HTTP_SKILLBOX_AGAIN_FIRST  500
#define NGX_HTTP_SKILLBOX_AGAIN_MAX    10000


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
    char                          skill[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
    int64_t                       created_ms;
    ngx_http_skillbox_run_t      *run;          /* until it is posted */
    char                          inputs[];     /* ids, commas between */
} ngx_http_skillbox_begin_t;


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
    char                          skill[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
    char                          status[16];
    ngx_uint_t                    invalid;      /* unsigned  invalid:1; */
    sb_buf_t                      out;          /* header block, result */
    size_t                        result;       /* where that begins */
    sb_buf_t                      log;
    char                         *files_url;    /* NULL: there is none */
    uint32_t                      files;
    int64_t                       archive_bytes;
    int64_t                       created_ms;
    int64_t                       finished_ms;
    sb_buf_t                      head;         /* rendered by prepare() */
    ngx_uint_t                    dropped;      /* the archive had no room */
    ngx_uint_t                    begun;        /* a record "running" was asked
                                                   for */
    ngx_event_t                   again;
    ngx_msec_t                    delay;        /* 0: not tried again yet */
    ngx_http_skillbox_main_conf_t  *conf;
    char                          inputs[];     /* ids, commas between */
} ngx_http_skillbox_finish_t;


static void ngx_http_skillbox_begin_handler(ngx_event_t *ev);
static void ngx_http_skillbox_begin_cancel(void *data);
static sb_code_t ngx_http_skillbox_begin_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_begin_free(ngx_http_skillbox_op_t *op);
static int64_t ngx_http_skillbox_number(ngx_http_skillbox_call_t *call,
    const char *name);
static ngx_uint_t ngx_http_skillbox_known_status(const char *s, size_t len);
static ngx_http_skillbox_finish_t *ngx_http_skillbox_finish_create(
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    const char *status, size_t len);
static void ngx_http_skillbox_finish_check(ngx_http_skillbox_finish_t *f);
static void ngx_http_skillbox_finish_prepare(ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_finish_head(ngx_http_skillbox_finish_t *f);
static sb_code_t ngx_http_skillbox_finish_without(
    ngx_http_skillbox_finish_t *f, const char *why, sb_err_t *err);
static ngx_uint_t ngx_http_skillbox_finish_journal(
    ngx_http_skillbox_op_t *op, sb_buf_t *batch);
static void ngx_http_skillbox_finish_facts(ngx_http_skillbox_finish_t *f,
    sb_execution_finish_t *e);
static sb_code_t ngx_http_skillbox_finish_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_finish_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_finish_free(ngx_http_skillbox_op_t *op);
static ngx_uint_t ngx_http_skillbox_finish_recorded(
    ngx_http_skillbox_finish_t *f);
static ngx_uint_t ngx_http_skillbox_finish_again(
    ngx_http_skillbox_finish_t *f);
static void ngx_http_skillbox_finish_again_handler(ngx_event_t *ev);


/*
 * The client of a synchronous run learns the execution's id with the answer, so
 * nobody can ask for a record before: one that ends soon is written once, when
 * it has ended.  A run that lasts is recorded as running, so that an operator
 * sees it and a worker's death is seen as its interruption.
 */

ngx_int_t
ngx_http_skillbox_record_begin(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_skillbox_begin_t  *b;

    if (run->begin.data || run->begun) {
        return NGX_OK;                          /* handed over again */
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    b = calloc(1, sizeof(ngx_http_skillbox_begin_t) + run->inputs.len + 1);
    if (b == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_skillbox_begin_cancel;
    cln->data = run;

    run->begin.data = b;
    run->begin.handler = ngx_http_skillbox_begin_handler;
    run->begin.log = ngx_cycle->log;
    run->begin.cancelable = 1;
    b->run = run;

    b->op.apply = ngx_http_skillbox_begin_apply;
    b->op.free = ngx_http_skillbox_begin_free;

    /* lengths were judged with the names */

    ngx_memcpy(b->tenant, ctx->key.tenant, sizeof(b->tenant));
    ngx_memcpy(b->id, run->id, sizeof(b->id));
    ngx_memcpy(b->skill, ctx->skill.data, ctx->skill.len);
    ngx_memcpy(b->version, ctx->version.data, ctx->version.len);
    ngx_memcpy(b->inputs, run->inputs.data, run->inputs.len);
    b->created_ms = run->created_ms;

    ngx_add_timer(&run->begin, NGX_HTTP_SKILLBOX_BEGIN_AFTER);

    return NGX_OK;
}


static void
ngx_http_skillbox_begin_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_begin_t *b = ev->data;

    ngx_http_skillbox_run_t  *run;

    run = b->run;

    if (ngx_http_skillbox_store_post(&b->op, NULL, NULL) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                      "execution \"%s\" can't be recorded as running",
                      run->id);
        return;                                 /* begin_cancel() frees it */
    }

    run->begun = 1;                             /* b is the store thread's */
}


/* the run is over, or its request is */

static void
ngx_http_skillbox_begin_cancel(void *data)
{
    ngx_http_skillbox_run_t *run = data;

    if (run->begin.timer_set) {
        ngx_del_timer(&run->begin);
    }

    if (run->begin.data && !run->begun) {
        free(run->begin.data);
        run->begin.data = NULL;
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_begin_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_begin_t *b = (ngx_http_skillbox_begin_t *) op;

    sb_execution_begin_t  e;

    memset(&e, 0, sizeof(sb_execution_begin_t));

    e.tenant = b->tenant;
    e.id = b->id;
    e.skill = b->skill;
    e.version = b->version;
    e.created_ms = b->created_ms;
    e.owner = ngx_pid;
    e.inputs = b->inputs;

    return sb_batch_execution_begin(batch, &e, err);
}


static void
ngx_http_skillbox_begin_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}


/* The run is over: its result goes to the store, then to the client. */

ngx_int_t
ngx_http_skillbox_record_finish(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_call_t *call)
{
    size_t                       len;
    sb_str_t                     body;
    ngx_str_t                    url;
    const char                  *status;
    ngx_http_skillbox_finish_t  *f;

    body = ngx_http_skillbox_call_body(call);
    status = ngx_http_skillbox_call_header(call, SB_H_STATUS, &len);

    if (status == NULL || !ngx_http_skillbox_known_status(status, len)
        || body.len < 2 || body.data[0] != '{'
        || body.data[body.len - 1] != '}')
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper sent no valid result");
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                       "The helper gave no valid answer.");
    }

    ctx->status = ngx_http_skillbox_copy(r->pool, status, len);
    ctx->queue_usec = ngx_http_skillbox_number(call, SB_H_QUEUE_USEC);
    ctx->start_usec = ngx_http_skillbox_number(call, SB_H_START_USEC);
    ctx->run_usec = ngx_http_skillbox_number(call, SB_H_RUN_USEC);
    ctx->collect_usec = ngx_http_skillbox_number(call, SB_H_COLLECT_USEC);

    f = ngx_http_skillbox_finish_create(ctx, run, status, len);
    if (f == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    f->op.done = ngx_http_skillbox_finish_done;
    f->op.prepare = ngx_http_skillbox_finish_prepare;
    f->conf = ngx_http_get_module_main_conf(r, ngx_http_skillbox_module);
    f->files = ngx_max(ngx_http_skillbox_number(call, SB_H_FILES), 0);

    if (f->files) {

        if (ngx_http_skillbox_files_url(r, ctx, &ctx->execution, &url)
            != NGX_OK
            || (url.len && (f->files_url = strndup((char *) url.data, url.len))
                           == NULL))
        {
            f->op.free(&f->op);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    /* result and log move from the call to the operation */

    f->out = call->out;
    f->result = call->header_len;
    sb_buf_init(&call->out, 0);

    f->log = call->log;
    sb_buf_init(&call->log, 0);

    ngx_http_skillbox_begin_cancel(run);
    f->begun = run->begun;

    /* what nobody can have seen, and no other record depends on */

    if (!f->begun && !f->files && run->key == NULL) {
        f->op.journal = ngx_http_skillbox_finish_journal;

        if (ngx_http_skillbox_journal_post(&f->op, r, ctx) == NGX_OK) {
            run->ended = 1;
            return NGX_OK;
        }
    }

    if (ngx_http_skillbox_store_post(&f->op, r, ctx) != NGX_OK) {
        sb_err_set(&f->op.err, SB_EBUSY, "the store takes no writes now");
        f->op.free(&f->op);
        run->ended = 1;
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    run->ended = 1;

    return NGX_OK;
}


/* a header's value, -1 when there is no such number */

static int64_t
ngx_http_skillbox_number(ngx_http_skillbox_call_t *call, const char *name)
{
    size_t       n;
    const char  *value;

    value = ngx_http_skillbox_call_header(call, name, &n);

    return value ? ngx_atoi((u_char *) value, n) : NGX_ERROR;
}


static ngx_uint_t
ngx_http_skillbox_known_status(const char *s, size_t len)
{
    ngx_uint_t  i;

    static const ngx_str_t  known[] = {
        ngx_string("success"),
        ngx_string("failed"),
        ngx_string("timeout"),
        ngx_string("cancelled"),
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].len == len && ngx_strncmp(known[i].data, s, len) == 0) {
            return 1;
        }
    }

    return 0;
}


static ngx_http_skillbox_finish_t *
ngx_http_skillbox_finish_create(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run, const char *status, size_t len)
{
    ngx_http_skillbox_finish_t  *f;

    f = calloc(1, sizeof(ngx_http_skillbox_finish_t) + run->inputs.len + 1);
    if (f == NULL) {
        return NULL;
    }

    f->op.apply = ngx_http_skillbox_finish_apply;
    f->op.free = ngx_http_skillbox_finish_free;

    ngx_memcpy(f->tenant, ctx->key.tenant, sizeof(f->tenant));
    ngx_memcpy(f->id, run->id, sizeof(f->id));
    ngx_memcpy(f->skill, ctx->skill.data, ctx->skill.len);
    ngx_memcpy(f->version, ctx->version.data, ctx->version.len);
    ngx_memcpy(f->status, status, len);
    ngx_memcpy(f->inputs, run->inputs.data, run->inputs.len);
    f->created_ms = run->created_ms;
    f->finished_ms = sb_time_now_ms();

    return f;
}


/* a record without a run's result; nobody waits for it */

void
ngx_http_skillbox_record_end(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run, const char *status, const char *error,
    size_t len)
{
    ngx_http_skillbox_finish_t  *f;

    ngx_http_skillbox_begin_cancel(run);

    if (!run->begun || run->ended) {
        return;                                 /* nobody knows of it */
    }

    run->ended = 1;

    f = ngx_http_skillbox_finish_create(ctx, run, status, strlen(status));

    if (f == NULL) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "no memory to end execution \"%s\"", run->id);
        return;
    }

    sb_buf_init(&f->out, 64 * SB_KIB);
    ngx_http_skillbox_render_end(&f->out, status, error, len,
                                 f->finished_ms - f->created_ms, f->skill,
                                 f->version);
    f->begun = 1;

    if (!sb_buf_ok(&f->out)
        || ngx_http_skillbox_store_post(&f->op, NULL, NULL) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "the end of execution \"%s\" can't be recorded",
                      run->id);
        f->op.free(&f->op);
    }
}


/* any thread */

void
ngx_http_skillbox_render_end(sb_buf_t *out, const char *status,
    const char *error, size_t len, int64_t duration_ms, const char *skill,
    const char *version)
{
    sb_buf_char(out, '{');
    sb_json_key_str(out, "status", status);
    sb_json_key_int(out, "duration_ms", ngx_max(duration_ms, 1));
    sb_json_key(out, "error");
    sb_json_str(out, error, len);
    sb_json_key_str(out, "skill_name", skill);
    sb_json_key_str(out, "skill_version", version);
    sb_buf_char(out, '}');
}


/* thread: what is not JSON is not passed on, nor kept */

static void
ngx_http_skillbox_finish_check(ngx_http_skillbox_finish_t *f)
{
    if (sb_json_valid_object(f->out.data + f->result, f->out.len - f->result))
    {
        return;
    }

    f->invalid = 1;
    f->result = 0;
    strcpy(f->status, "failed");

    sb_buf_free(&f->out);
    sb_buf_init(&f->out, 64 * SB_KIB);
    ngx_http_skillbox_render_end(&f->out, f->status,
                                 NGX_HTTP_SKILLBOX_NO_RESULT,
                                 sizeof(NGX_HTTP_SKILLBOX_NO_RESULT) - 1,
                                 f->finished_ms - f->created_ms, f->skill,
                                 f->version);

    if (!sb_buf_ok(&f->out)) {
        sb_err_set(&f->op.err, SB_EINTERNAL, "out of memory");
    }
}


/* thread */

static void
ngx_http_skillbox_finish_prepare(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_finish_t *f = (ngx_http_skillbox_finish_t *) op;

    if (f->files) {
        f->archive_bytes = ngx_http_skillbox_archive_bytes(f->conf, f->id);
    }

    ngx_http_skillbox_finish_check(f);
    ngx_http_skillbox_finish_head(f);
}


/*
 * thread: the answer's head, {"execution_id","files_url"?,"logs"?, which the
 * result without its brace follows from where it lies
 */

static void
ngx_http_skillbox_finish_head(ngx_http_skillbox_finish_t *f)
{
    sb_buf_t  *b;

    b = &f->head;

    sb_buf_init(b, f->log.len * 6 + 64 * SB_KIB);

    sb_buf_char(b, '{');
    sb_json_key_str(b, "execution_id", f->id);
    sb_json_key_str(b, "files_url", f->files_url);

    if (f->log.len) {
        sb_json_key(b, "logs");
        sb_json_str(b, f->log.data, f->log.len);
    }

    if (f->out.len - f->result > sizeof("{}") - 1) {
        sb_buf_char(b, ',');
    }
}


static void
ngx_http_skillbox_finish_facts(ngx_http_skillbox_finish_t *f,
    sb_execution_finish_t *e)
{
    memset(e, 0, sizeof(sb_execution_finish_t));

    e->tenant = f->tenant;
    e->id = f->id;
    e->skill = f->skill;
    e->status = f->status;
    e->result = f->out.data + f->result;
    e->result_len = f->out.len - f->result;
    e->logs = f->log.len ? f->log.data : "";
    e->logs_len = f->log.len;
    e->files = f->files;
    e->archive_bytes = f->archive_bytes;
    e->created_ms = f->created_ms;
    e->finished_ms = f->finished_ms;
    e->inputs = f->inputs;
}


/* thread */

static ngx_uint_t
ngx_http_skillbox_finish_journal(ngx_http_skillbox_op_t *op, sb_buf_t *batch)
{
    ngx_http_skillbox_finish_t *f = (ngx_http_skillbox_finish_t *) op;

    sb_execution_finish_t  e;

    ngx_http_skillbox_finish_facts(f, &e);

    return sb_journal_add(batch, &e);
}


/* thread */

static sb_code_t
ngx_http_skillbox_finish_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_finish_t *f = (ngx_http_skillbox_finish_t *) op;

    sb_code_t              code;
    sb_execution_finish_t  e;

    if (op->err.code != SB_OK) {
        return op->err.code;
    }

    ngx_http_skillbox_finish_facts(f, &e);

    code = sb_batch_execution_finish(batch, &e, err);

    if (code == SB_OK && e.dropped) {
        code = ngx_http_skillbox_finish_without(f, e.why, err);
    }

    return code;
}


/* thread: the record has no artifacts, so the answer must not have them */

static sb_code_t
ngx_http_skillbox_finish_without(ngx_http_skillbox_finish_t *f,
    const char *why, sb_err_t *err)
{
    sb_buf_t  out;

    sb_buf_init(&out, SB_RESULT_MAX + 64 * SB_KIB);
    sb_result_without_files(f->out.data + f->result, f->out.len - f->result,
                            why, &out);

    sb_buf_free(&f->out);
    sb_buf_free(&f->head);
    free(f->files_url);

    f->out = out;
    f->result = 0;
    f->files_url = NULL;
    f->dropped = 1;

    ngx_http_skillbox_finish_head(f);

    return sb_buf_ok(&f->out) ? SB_OK
                              : sb_err_set(err, SB_EINTERNAL, "out of memory");
}


static void
ngx_http_skillbox_finish_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_finish_t *f = (ngx_http_skillbox_finish_t *) op;

    ngx_int_t  rc;

    if (op->err.code == SB_OK && f->dropped) {
        ngx_http_skillbox_archive_drop(f->conf, f->id);
    }

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "recording a run");

    } else if (f->invalid) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper sent a result that is no JSON");
        ngx_str_set(&ctx->status, "failed");
        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                     "The helper gave no valid answer.");

    } else {
        rc = ngx_http_skillbox_send_joined(r, NGX_HTTP_OK, &f->head, &f->out,
                                           f->result + 1);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_finish_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_finish_t *f = (ngx_http_skillbox_finish_t *) op;

    if (op->err.code == SB_ENOSPACE && f->files) {
        ngx_http_skillbox_archive_drop(f->conf, f->id);
        f->files = 0;
    }

    if (op->err.code != SB_OK && f->begun
        && ngx_http_skillbox_finish_again(f))
    {
        return;
    }

    sb_buf_free(&f->out);
    sb_buf_free(&f->log);
    sb_buf_free(&f->head);
    free(f->files_url);
    free(f);
}


/*
 * Does the store say that it runs?  A store without room has refused that, too:
 * what nobody can know of is not kept, however many there are.  When the store
 * can't be asked it may say so.
 */

static ngx_uint_t
ngx_http_skillbox_finish_recorded(ngx_http_skillbox_finish_t *f)
{
    sb_err_t        err;
    sb_store_t     *store;
    sb_execution_t  e;

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return 1;
    }

    ngx_memzero(&e, sizeof(sb_execution_t));

    switch (sb_store_execution_get(store, f->tenant, f->id, &e, &err)) {

    case SB_OK:
        return ngx_strcmp(e.status.data, "running") == 0;

    case SB_ENOTFOUND:
        return 0;

    default:
        return 1;
    }
}


/*
 * A run that is recorded as running, and whose end found no room: its client
 * was told, its result is gone, but its record must not say for as long as this
 * worker lives that it runs.  It becomes failed as soon as the store takes
 * writes again.  When the worker ends before, the next sweep does it.
 */

static ngx_uint_t
ngx_http_skillbox_finish_again(ngx_http_skillbox_finish_t *f)
{
    static const char  why[] = "the result could not be recorded";

    if (ngx_exiting || ngx_terminate || ngx_quit
        || !ngx_http_skillbox_finish_recorded(f))
    {
        return 0;
    }

    if (f->delay == 0) {
        sb_buf_free(&f->out);
        sb_buf_free(&f->log);
        sb_buf_free(&f->head);
        free(f->files_url);

        f->files_url = NULL;
        f->files = 0;
        f->result = 0;
        f->op.prepare = NULL;
        strcpy(f->status, "failed");

        sb_buf_init(&f->out, 64 * SB_KIB);
        ngx_http_skillbox_render_end(&f->out, f->status, why, sizeof(why) - 1,
                                     f->finished_ms - f->created_ms, f->skill,
                                     f->version);

        if (!sb_buf_ok(&f->out)) {
            return 0;
        }

        f->again.handler = ngx_http_skillbox_finish_again_handler;
        f->again.data = f;
        f->again.log = ngx_cycle->log;
        f->again.cancelable = 1;
    }

    f->delay = ngx_min(ngx_max(f->delay * 2, NGX_HTTP_SKILLBOX_AGAIN_FIRST),
                       NGX_HTTP_SKILLBOX_AGAIN_MAX);

    ngx_add_timer(&f->again, f->delay);

    return 1;
}


static void
ngx_http_skillbox_finish_again_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_finish_t *f = ev->data;

    if (ngx_http_skillbox_store_post(&f->op, NULL, NULL) != NGX_OK) {
        sb_err_set(&f->op.err, SB_EBUSY, "the store takes no writes now");
        ngx_http_skillbox_finish_free(&f->op);
    }
}
