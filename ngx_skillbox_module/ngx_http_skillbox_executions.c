
/*
 * The handlers of /v1/executions below POST: a record, the list, cancel and
 * delete; and the look for executions that no helper has any more.
 */


#include "ngx_http_skillbox_async.h"


#define NGX_HTTP_SKILLBOX_LIST_DEFAULT  50
#define NGX_HTTP_SKILLBOX_LIST_MAX      200

/* a live one that is older is asked for: is it still somewhere? */
#define NGX_HTTP_SKILLBOX_ASK_AFTER     30000   /* ms */


/* a write to one execution */

typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
    uint32_t                      files;
    sb_buf_t                      ended;        /* of sb_interrupted_t */
} ngx_http_skillbox_change_t;


typedef struct {
    ngx_http_skillbox_work_t        work;
    char                            id[SB_UUID_LEN + 1];
    ngx_http_skillbox_main_conf_t  *conf;
} ngx_http_skillbox_unlink_t;


static int64_t ngx_http_skillbox_execution_age(ngx_str_t *id);
static ngx_int_t ngx_http_skillbox_execution_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_execution_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_execution_lost(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static sb_code_t ngx_http_skillbox_lost_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_lost_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_change_free(ngx_http_skillbox_op_t *op);

static ngx_int_t ngx_http_skillbox_list_query(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_query_t *q);
static ngx_int_t ngx_http_skillbox_list_link(ngx_http_request_t *r,
    sb_execution_query_t *q, const char *next);

static ngx_int_t ngx_http_skillbox_execution_cancel(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_cancel_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_http_skillbox_change_t *ngx_http_skillbox_change_create(
    ngx_http_skillbox_ctx_t *ctx);
static sb_code_t ngx_http_skillbox_remove_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_remove_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static ngx_int_t ngx_http_skillbox_no_content(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_unlink_archive(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_unlink_run(ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_unlink_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_unlink_free(ngx_http_skillbox_work_t *work);


/* e points into the store's map: it is valid until the store's next use */

ngx_int_t
ngx_http_skillbox_execution_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e)
{
    sb_err_t        err;
    sb_store_t     *store;
    unsigned char   uuid[16];

    if (!sb_uuid_parse((char *) ctx->param[0].data, ctx->param[0].len, uuid)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such execution.");
    }

    /* those who follow come again and again */

    if (ctx->execution.data == NULL) {
        ctx->execution.data = ngx_pnalloc(r->pool, SB_UUID_LEN + 1);
    }

    if (ctx->execution.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->execution.len = SB_UUID_LEN;
    sb_uuid_format(uuid, (char *) ctx->execution.data);

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_execution_get(store, ctx->key.tenant,
                               (char *) ctx->execution.data, e, &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "reading an execution");
    }

    if (ctx->status.data
        && ngx_strcmp(ctx->status.data, e->status.data) == 0)
    {
        return NGX_OK;
    }

    ctx->status = ngx_http_skillbox_copy(r->pool, e->status.data,
                                         e->status.len);

    return ctx->status.data ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


ngx_uint_t
ngx_http_skillbox_execution_ended(sb_execution_t *e)
{
    return ngx_strcmp(e->status.data, "queued") != 0
           && ngx_strcmp(e->status.data, "running") != 0;
}


/* ids are made of the time */

static int64_t
ngx_http_skillbox_execution_age(ngx_str_t *id)
{
    int64_t        ms;
    ngx_uint_t     i;
    unsigned char  uuid[16];

    ms = 0;

    if (sb_uuid_parse((char *) id->data, id->len, uuid)) {
        for (i = 0; i < 6; i++) {
            ms = ms * 256 + uuid[i];
        }
    }

    return sb_time_now_ms() - ms;
}


ngx_int_t
ngx_http_skillbox_execution_render(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e, ngx_uint_t logs,
    sb_buf_t *buf)
{
    ngx_str_t  url;

    if (e->json.len <= SB_EXECUTION_SPLICE_AT) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the record of execution \"%V\" is damaged",
                      &ctx->execution);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_null(&url);

    if (e->files
        && ngx_http_skillbox_files_url(r, ctx, &ctx->execution, &url)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    sb_buf_add(buf, e->json.data, SB_EXECUTION_SPLICE_AT);

    if (url.len) {
        sb_buf_str(buf, "\"files_url\":");
        sb_json_str(buf, (char *) url.data, url.len);
        sb_buf_char(buf, ',');
    }

    if (logs && e->logs.len) {
        sb_buf_str(buf, "\"logs\":");
        sb_json_str(buf, e->logs.data, e->logs.len);
        sb_buf_char(buf, ',');
    }

    sb_buf_add(buf, e->json.data + SB_EXECUTION_SPLICE_AT,
               e->json.len - SB_EXECUTION_SPLICE_AT);

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_execution_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                  rc;
    sb_execution_t             e;
    ngx_http_skillbox_call_t  *call;

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_skillbox_execution_ended(&e)
        || ngx_http_skillbox_execution_age(&ctx->execution)
           < NGX_HTTP_SKILLBOX_ASK_AFTER)
    {
        return ngx_http_skillbox_execution_send(r, ctx);
    }

    call = ngx_http_skillbox_execution_call(r, ctx, SB_OP_ATTACH);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_skillbox_call_number(call, SB_P_OFFSET, 4 * SB_LOG_MAX);
    ngx_http_skillbox_call_number(call, SB_P_FOLLOW, 0);

    if (ngx_http_skillbox_call_start(call, ngx_http_skillbox_execution_asked)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_skillbox_execution_send(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t        buf;
    ngx_int_t       rc;
    sb_execution_t  e;

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    /* each byte of a log becomes six at most */

    sb_buf_init(&buf, SB_RESULT_MAX + SB_LOG_MAX * 6 + 64 * SB_KIB);

    rc = ngx_http_skillbox_execution_render(r, ctx, &e, 1, &buf);

    if (rc != NGX_OK) {
        sb_buf_free(&buf);
        return rc;
    }

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_http_skillbox_call_t *
ngx_http_skillbox_execution_call(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *op)
{
    ngx_http_skillbox_call_t      *call;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    call = ngx_http_skillbox_call_create(r, ctx, op);

    if (call) {
        ngx_http_skillbox_call_param(call, SB_P_EXECUTION,
                                     (char *) ctx->execution.data,
                                     ctx->execution.len);
        call->conf = &slcf->ask;
        call->safe = 1;
    }

    return call;
}


static void
ngx_http_skillbox_execution_asked(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    if (ngx_http_skillbox_nobody_has_it(r, call)) {
        rc = ngx_http_skillbox_execution_lost(r, ctx);

        if (rc == NGX_OK) {
            return;
        }

    } else {
        rc = ngx_http_skillbox_execution_send(r, ctx);
    }

    ngx_http_finalize_request(r, rc);
}


/*
 * Every helper has been asked and none knows the execution.  One that can't be
 * reached now may have it in its spool.
 */

ngx_uint_t
ngx_http_skillbox_nobody_has_it(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_uint_t                    i, peers, denied;
    ngx_http_upstream_state_t    *state;
    ngx_http_upstream_server_t   *server;

    if (!ngx_http_skillbox_call_refused(call, SB_SLUG_UNKNOWN_EXECUTION)
        || call->conf->upstream->servers == NULL
        || r->upstream_states == NULL)
    {
        return 0;
    }

    peers = 0;
    server = call->conf->upstream->servers->elts;

    for (i = 0; i < call->conf->upstream->servers->nelts; i++) {
        peers += server[i].naddrs;
    }

    denied = 0;
    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {
        denied += (state[i].status == NGX_HTTP_NOT_FOUND);
    }

    return denied >= peers;
}


/* NGX_OK: r will be answered and finalized */

static ngx_int_t
ngx_http_skillbox_execution_lost(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_change_t  *c;

    c = ngx_http_skillbox_change_create(ctx);
    if (c == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    c->op.apply = ngx_http_skillbox_lost_apply;
    c->op.done = ngx_http_skillbox_lost_done;

    if (ngx_http_skillbox_store_post(&c->op, r, ctx) != NGX_OK) {
        free(c);
        return ngx_http_skillbox_execution_send(r, ctx);
    }

    return NGX_OK;
}


void
ngx_http_skillbox_execution_forget(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_change_t  *c;

    c = ngx_http_skillbox_change_create(ctx);

    if (c) {
        c->op.apply = ngx_http_skillbox_lost_apply;

        if (ngx_http_skillbox_store_post(&c->op, NULL, NULL) != NGX_OK) {
            free(c);
        }
    }
}


static ngx_http_skillbox_change_t *
ngx_http_skillbox_change_create(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_change_t  *c;

    c = calloc(1, sizeof(ngx_http_skillbox_change_t));
    if (c == NULL) {
        return NULL;
    }

    c->op.free = ngx_http_skillbox_change_free;
    sb_buf_init(&c->ended, sizeof(sb_interrupted_t));
    ngx_memcpy(c->tenant, ctx->key.tenant, sizeof(c->tenant));
    ngx_memcpy(c->id, ctx->execution.data, SB_UUID_LEN);

    return c;
}


/* thread */

static sb_code_t
ngx_http_skillbox_lost_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_change_t *c = (ngx_http_skillbox_change_t *) op;

    sb_buf_clear(&c->ended);

    return sb_batch_execution_lost(batch, c->tenant, c->id, &c->ended, err);
}


/* the record as it is now, whatever came of it */

static void
ngx_http_skillbox_lost_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    if (op->err.code != SB_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "a lost execution can't be ended: %s", op->err.message);
    }

    op->free(op);

    ngx_http_finalize_request(r, ngx_http_skillbox_execution_send(r, ctx));
}


static void
ngx_http_skillbox_change_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_change_t *c = (ngx_http_skillbox_change_t *) op;

    ngx_http_skillbox_audit_interrupted(&c->ended, &op->err);

    free(c);
}


ngx_int_t
ngx_http_skillbox_execution_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    char                   next[SB_UUID_LEN + 1];
    sb_buf_t               buf;
    sb_err_t               err;
    ngx_int_t              rc;
    sb_store_t            *store;
    sb_execution_query_t   q;

    ngx_memzero(&q, sizeof(sb_execution_query_t));

    rc = ngx_http_skillbox_list_query(r, ctx, &q);
    if (rc != NGX_OK) {
        return rc;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    sb_buf_init(&buf, SB_GIB);

    if (sb_store_execution_list(store, &q, &buf, next, &err) != SB_OK) {
        sb_buf_free(&buf);
        return ngx_http_skillbox_error_sb(r, &err, "listing executions");
    }

    if (next[0] && ngx_http_skillbox_list_link(r, &q, next) != NGX_OK) {
        sb_buf_free(&buf);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


static ngx_int_t
ngx_http_skillbox_list_query(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_query_t *q)
{
    ngx_int_t  limit;
    ngx_str_t  skill, status, cursor, number;

    if (ngx_http_skillbox_arg(r, "skill", &skill) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "status", &status) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "cursor", &cursor) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "limit", &number) == NGX_ERROR)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    q->tenant = ctx->key.tenant;
    q->limit = NGX_HTTP_SKILLBOX_LIST_DEFAULT;

    if (number.len) {
        limit = ngx_atoi(number.data, number.len);

        if (limit < 1) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"limit\" must be a number "
                                           "from 1 to %d.",
                                           NGX_HTTP_SKILLBOX_LIST_MAX);
        }

        q->limit = ngx_min(limit, NGX_HTTP_SKILLBOX_LIST_MAX);
    }

    if (status.len) {

        if (!sb_execution_status_valid((char *) status.data)) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"status\" must be one of queued, "
                                           "running, success, failed, "
                                           "timeout, cancelled.");
        }

        q->status = (char *) status.data;
    }

    if (skill.len) {

        if (!sb_name_valid((char *) skill.data, skill.len)) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"skill\" is no skill's name.");
        }

        q->skill = (char *) skill.data;
    }

    if (cursor.len) {

        if (!sb_uuid_parse((char *) cursor.data, cursor.len, NULL)) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"cursor\" is not one of ours.");
        }

        q->after = (char *) cursor.data;
    }

    return NGX_OK;
}


/* values were judged: none needs an escape */

static ngx_int_t
ngx_http_skillbox_list_link(ngx_http_request_t *r, sb_execution_query_t *q,
    const char *next)
{
    sb_buf_t                       buf;
    ngx_str_t                      value;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    sb_buf_init(&buf, 4096);
    sb_buf_char(&buf, '<');
    sb_buf_add(&buf, slcf->prefix.data, slcf->prefix.len);
    sb_buf_fmt(&buf, "/v1/executions?limit=%u", q->limit);

    if (q->skill) {
        sb_buf_fmt(&buf, "&skill=%s", q->skill);
    }

    if (q->status) {
        sb_buf_fmt(&buf, "&status=%s", q->status);
    }

    sb_buf_fmt(&buf, "&cursor=%s>; rel=\"next\"", next);

    value = ngx_http_skillbox_copy(r->pool, buf.data ? buf.data : "", buf.len);

    sb_buf_free(&buf);

    if (value.data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_skillbox_add_header(r, "Link", &value);
}


/*
 * A live one is cancelled, one that has ended is removed; "cancel=1" says that
 * only the former is meant.
 */

ngx_int_t
ngx_http_skillbox_execution_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_str_t                    cancel;
    sb_execution_t               e;
    ngx_http_skillbox_change_t  *c;

    rc = ngx_http_skillbox_execution_find(r, ctx, &e);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_skillbox_execution_ended(&e)) {
        return ngx_http_skillbox_execution_cancel(r, ctx);
    }

    if (ngx_http_skillbox_arg(r, "cancel", &cancel) == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (cancel.len && !(cancel.len == 1 && cancel.data[0] == '0')) {
        return ngx_http_skillbox_error(r, NGX_HTTP_CONFLICT,
                                       "The execution has ended: %s.",
                                       ctx->status.data);
    }

    c = ngx_http_skillbox_change_create(ctx);
    if (c == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    c->op.apply = ngx_http_skillbox_remove_apply;
    c->op.done = ngx_http_skillbox_remove_done;

    if (ngx_http_skillbox_store_post(&c->op, r, ctx) != NGX_OK) {
        free(c);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    r->main->count++;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_skillbox_execution_cancel(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_skillbox_execution_call(r, ctx, SB_OP_CANCEL);

    if (call == NULL
        || ngx_http_skillbox_call_start(call, ngx_http_skillbox_cancel_done)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;

    return NGX_DONE;
}


/*
 * The run is being ended; its record will say so in a moment.  One that ended by
 * itself meanwhile is answered alike: there is nothing left to cancel.
 */

static void
ngx_http_skillbox_cancel_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                 rc;
    sb_execution_t            e;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    if (call->rc == NGX_OK && call->status == NGX_HTTP_ACCEPTED) {
        rc = ngx_http_skillbox_async_answer(r, ctx, "cancelled");

    } else if (ngx_http_skillbox_call_refused(call,
                                              SB_SLUG_UNKNOWN_EXECUTION))
    {
        rc = ngx_http_skillbox_execution_find(r, ctx, &e);

        if (rc == NGX_OK && ngx_http_skillbox_execution_ended(&e)) {
            rc = ngx_http_skillbox_async_answer(r, ctx,
                                                (char *) ctx->status.data);

        } else if (rc == NGX_OK && ngx_http_skillbox_nobody_has_it(r, call)) {
            rc = ngx_http_skillbox_execution_lost(r, ctx);

            if (rc == NGX_OK) {
                return;
            }

        } else if (rc == NGX_OK) {
            rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                         "The helper that has the execution "
                                         "can't be reached.");
        }

    } else {
        rc = ngx_http_skillbox_call_error(r, call);
    }

    ngx_http_finalize_request(r, rc);
}


/* thread */

static sb_code_t
ngx_http_skillbox_remove_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_change_t *c = (ngx_http_skillbox_change_t *) op;

    return sb_batch_execution_delete(batch, c->tenant, c->id, &c->files, err);
}


/* the archive goes after the record: nobody can be sent to it any more */

static void
ngx_http_skillbox_remove_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_change_t *c = (ngx_http_skillbox_change_t *) op;

    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "deleting an execution");

    } else if (c->files
               && ngx_http_skillbox_unlink_archive(r, ctx) == NGX_OK)
    {
        op->free(op);
        return;

    } else {
        rc = ngx_http_skillbox_no_content(r);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_skillbox_no_content(ngx_http_request_t *r)
{
    r->headers_out.status = NGX_HTTP_NO_CONTENT;
    r->header_only = 1;

    return ngx_http_send_header(r);
}


/* NGX_OK: r will be answered and finalized */

static ngx_int_t
ngx_http_skillbox_unlink_archive(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_unlink_t     *u;
    ngx_http_skillbox_main_conf_t  *smcf;

    smcf = ngx_http_get_module_main_conf(r, ngx_http_skillbox_module);

    if (smcf->artifacts.nelts == 0) {
        return NGX_DECLINED;
    }

    u = calloc(1, sizeof(ngx_http_skillbox_unlink_t));
    if (u == NULL) {
        return NGX_ERROR;
    }

    u->conf = smcf;
    ngx_memcpy(u->id, ctx->execution.data, SB_UUID_LEN);

    u->work.run = ngx_http_skillbox_unlink_run;
    u->work.done = ngx_http_skillbox_unlink_done;
    u->work.free = ngx_http_skillbox_unlink_free;

    if (ngx_http_skillbox_work_post(&u->work, r, ctx) != NGX_OK) {
        free(u);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* thread */

static void
ngx_http_skillbox_unlink_run(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_unlink_t *u = (ngx_http_skillbox_unlink_t *) work;

    ngx_http_skillbox_archive_unlink(u->conf, u->id);
}


static void
ngx_http_skillbox_unlink_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work)
{
    work->free(work);

    ngx_http_finalize_request(r, ngx_http_skillbox_no_content(r));
}


static void
ngx_http_skillbox_unlink_free(ngx_http_skillbox_work_t *work)
{
    free(work);
}
