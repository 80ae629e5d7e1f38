
/*
 * Idempotency-Key: the same key and body give the same execution.
 *
 *     parsed -> taken? -> (yes, same body)  202 live, 200 its record
 *                      \> (yes, another)    409
 *                       > (no) store: take it for the new id -> go on
 *
 * A synchronous run's record is begun together with the key.  An asynchronous
 * one's is begun when the helper has accepted it: who comes with the key of an
 * execution that has no record hands the same execution over again, which the
 * helper does not run twice.  A request that is refused before it is run gives
 * its key back.  Keys are a tenant's own and forgotten after a day.
 */


#include "ngx_http_skillbox_async.h"


#define NGX_HTTP_SKILLBOX_KEY_MAX  255


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    unsigned char                 key[SB_SHA256_LEN];
    sb_idempotency_t              put;
    sb_idempotency_t              taken;
    sb_execution_begin_t          begin;        /* id NULL: not now */
    char                          skill[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
} ngx_http_skillbox_idem_t;


static ngx_int_t ngx_http_skillbox_idem_judge(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    sb_idempotency_t *taken);
static ngx_int_t ngx_http_skillbox_idem_replay(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e);
static sb_code_t ngx_http_skillbox_idem_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_idem_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static sb_code_t ngx_http_skillbox_idem_release_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_idem_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_idempotency_key(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run)
{
    u_char            ch;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    h = ngx_http_skillbox_find_header(r, "idempotency-key", NULL);

    if (h == NULL) {
        return NGX_OK;
    }

    if (h->value.len == 0 || h->value.len > NGX_HTTP_SKILLBOX_KEY_MAX
        || ngx_http_skillbox_find_header(r, "idempotency-key", h))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"Idempotency-Key\" must have from 1 "
                                       "to %d characters and come once.",
                                       NGX_HTTP_SKILLBOX_KEY_MAX);
    }

    for (i = 0; i < h->value.len; i++) {
        ch = h->value.data[i];

        if (ch < 0x20 || ch > 0x7e) {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"Idempotency-Key\" must be of "
                                           "printable ASCII characters.");
        }
    }

    run->key = ngx_palloc(r->pool, SB_SHA256_LEN);
    if (run->key == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    sb_sha256(h->value.data, h->value.len, run->key);

    return NGX_OK;
}


/* NGX_DECLINED: hand it over; NGX_OK: r will be answered and finalized */

ngx_int_t
ngx_http_skillbox_idempotency_take(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    sb_err_t                   err;
    sb_code_t                  code;
    sb_store_t                *store;
    sb_idempotency_t           taken;
    ngx_http_skillbox_idem_t  *op;

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    code = sb_store_idempotency_find(store, ctx->key.tenant, run->key, &taken,
                                     &err);

    if (code == SB_OK) {
        return ngx_http_skillbox_idem_judge(r, ctx, run, &taken);
    }

    if (code != SB_ENOTFOUND) {
        return ngx_http_skillbox_error_sb(r, &err,
                                          "reading an idempotency key");
    }

    op = calloc(1, sizeof(ngx_http_skillbox_idem_t));
    if (op == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    op->op.apply = ngx_http_skillbox_idem_apply;
    op->op.done = ngx_http_skillbox_idem_done;
    op->op.free = ngx_http_skillbox_idem_free;

    /* lengths were judged with the names */

    ngx_memcpy(op->tenant, ctx->key.tenant, sizeof(op->tenant));
    ngx_memcpy(op->key, run->key, sizeof(op->key));
    ngx_memcpy(op->put.execution, run->id, sizeof(run->id));
    ngx_memcpy(op->put.body, run->job.hash, sizeof(op->put.body));
    op->put.created_ms = run->created_ms;

    if (!run->async) {
        ngx_memcpy(op->skill, ctx->skill.data, ctx->skill.len);
        ngx_memcpy(op->version, ctx->version.data, ctx->version.len);

        op->begin.tenant = op->tenant;
        op->begin.id = op->put.execution;
        op->begin.skill = op->skill;
        op->begin.version = op->version;
        op->begin.created_ms = run->created_ms;
        op->begin.owner = ngx_pid;
    }

    if (ngx_http_skillbox_store_post(&op->op, r, ctx) != NGX_OK) {
        free(op);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_idem_judge(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    sb_idempotency_t *taken)
{
    ngx_int_t       rc;
    sb_err_t        err;
    sb_code_t       code;
    sb_store_t     *store;
    sb_execution_t  e;

    if (ngx_memcmp(taken->body, run->job.hash, sizeof(taken->body)) != 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_CONFLICT,
                                       "\"Idempotency-Key\" was used for "
                                       "another request.");
    }

    ngx_memzero(&e, sizeof(sb_execution_t));

    /* the new id was never given to anybody */

    ngx_memcpy(run->id, taken->execution, sizeof(run->id));
    run->created_ms = taken->created_ms;

    store = ngx_http_skillbox_store(&err);

    code = store ? sb_store_execution_get(store, ctx->key.tenant, run->id, &e,
                                          &err)
                 : err.code;

    if (code == SB_ENOTFOUND) {

        /*
         * The request that took it did not come to its end, or is about to; or
         * the execution was deleted since.
         */

        run->key_taken = 1;

        return NGX_DECLINED;
    }

    if (code != SB_OK) {
        return ngx_http_skillbox_error_sb(r, &err, "reading an execution");
    }

    rc = ngx_http_skillbox_idem_replay(r, ctx, &e);

    ngx_http_finalize_request(r, rc);

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_idem_replay(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, sb_execution_t *e)
{
    sb_buf_t   buf;
    ngx_int_t  rc;
    ngx_str_t  yes = ngx_string("true");

    ctx->status = ngx_http_skillbox_copy(r->pool, e->status.data,
                                         e->status.len);

    if (ctx->status.data == NULL
        || ngx_http_skillbox_add_header(r, "Idempotency-Replayed", &yes)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_skillbox_execution_ended(e)) {
        return ngx_http_skillbox_async_answer(r, ctx,
                                              (char *) ctx->status.data);
    }

    sb_buf_init(&buf, SB_RESULT_MAX + SB_LOG_MAX * 6 + 64 * SB_KIB);

    rc = ngx_http_skillbox_execution_render(r, ctx, e, 1, &buf);

    if (rc != NGX_OK) {
        sb_buf_free(&buf);
        return rc;
    }

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


/* thread */

static sb_code_t
ngx_http_skillbox_idem_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_idem_t *i = (ngx_http_skillbox_idem_t *) op;

    sb_code_t  code;

    code = sb_batch_idempotency_put(batch, i->tenant, i->key, &i->put,
                                    &i->taken, err);

    if (code != SB_OK || i->begin.id == NULL) {
        return code;
    }

    code = sb_batch_execution_begin(batch, &i->begin, err);

    if (code != SB_OK) {
        (void) sb_batch_idempotency_remove(batch, i->tenant, i->key,
                                           i->put.execution, NULL);
    }

    return code;
}


static void
ngx_http_skillbox_idem_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_idem_t *i = (ngx_http_skillbox_idem_t *) op;

    ngx_int_t                 rc;
    ngx_http_skillbox_run_t  *run;

    run = ctx->data;

    if (op->err.code == SB_OK) {
        run->key_taken = 1;
        run->begun = !run->async;
        rc = NGX_DECLINED;

    } else if (op->err.code == SB_ECONFLICT) {
        rc = ngx_http_skillbox_idem_judge(r, ctx, run, &i->taken);

    } else {
        rc = ngx_http_skillbox_error_sb(r, &op->err,
                                        "keeping an idempotency key");
    }

    op->free(op);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_skillbox_execute_run(r, ctx, run);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* the run was refused: who tries again may have better luck */

void
ngx_http_skillbox_idempotency_release(ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run)
{
    ngx_http_skillbox_idem_t  *op;

    if (!run->key_taken) {
        return;
    }

    run->key_taken = 0;

    op = calloc(1, sizeof(ngx_http_skillbox_idem_t));
    if (op == NULL) {
        return;
    }

    op->op.apply = ngx_http_skillbox_idem_release_apply;
    op->op.free = ngx_http_skillbox_idem_free;
    ngx_memcpy(op->tenant, ctx->key.tenant, sizeof(op->tenant));
    ngx_memcpy(op->key, run->key, sizeof(op->key));
    ngx_memcpy(op->put.execution, run->id, sizeof(run->id));

    if (ngx_http_skillbox_store_post(&op->op, NULL, NULL) != NGX_OK) {
        free(op);
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_idem_release_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_idem_t *i = (ngx_http_skillbox_idem_t *) op;

    return sb_batch_idempotency_remove(batch, i->tenant, i->key,
                                       i->put.execution, err);
}


static void
ngx_http_skillbox_idem_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
