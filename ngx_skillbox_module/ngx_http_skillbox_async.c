
/*
 * POST /v1/executions, asynchronous: from the helper's acceptance to the answer.
 *
 * The helper owes the gateway a completion from the moment it accepts, so the
 * run is not lost when this worker dies before the record is begun: the
 * completion makes it.
 */


#include "ngx_http_skillbox_async.h"


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
    char                          skill[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
    int64_t                       created_ms;
    char                          inputs[];     /* ids, commas between */
} ngx_http_skillbox_queued_t;


static sb_code_t ngx_http_skillbox_queued_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_queued_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_queued_free(ngx_http_skillbox_op_t *op);


ngx_uint_t
ngx_http_skillbox_async_preferred(ngx_http_request_t *r)
{
    u_char           *p, *last, *start;
    ngx_table_elt_t  *h;

    /* RFC 7240: a list of tokens, some with values and parameters */

    for (h = ngx_http_skillbox_find_header(r, "prefer", NULL);
         h;
         h = ngx_http_skillbox_find_header(r, "prefer", h))
    {
        p = h->value.data;
        last = p + h->value.len;

        while (p < last) {

            while (p < last && (*p == ' ' || *p == '\t' || *p == ',')) {
                p++;
            }

            for (start = p; p < last && *p != ',' && *p != ';' && *p != ' ';
                 p++)
            {
                /* void */
            }

            if (p - start == sizeof("respond-async") - 1
                && ngx_strncasecmp(start, (u_char *) "respond-async",
                                   sizeof("respond-async") - 1)
                   == 0)
            {
                return 1;
            }

            while (p < last && *p != ',') {
                p++;
            }
        }
    }

    return 0;
}


ngx_int_t
ngx_http_skillbox_async_accepted(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    ngx_http_skillbox_queued_t  *q;

    q = calloc(1, sizeof(ngx_http_skillbox_queued_t) + run->inputs.len + 1);
    if (q == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    q->op.apply = ngx_http_skillbox_queued_apply;
    q->op.done = ngx_http_skillbox_queued_done;
    q->op.free = ngx_http_skillbox_queued_free;

    /* lengths were judged with the names */

    ngx_memcpy(q->tenant, ctx->key.tenant, sizeof(q->tenant));
    ngx_memcpy(q->id, run->id, sizeof(q->id));
    ngx_memcpy(q->skill, ctx->skill.data, ctx->skill.len);
    ngx_memcpy(q->version, ctx->version.data, ctx->version.len);
    ngx_memcpy(q->inputs, run->inputs.data, run->inputs.len);
    q->created_ms = run->created_ms;

    if (ngx_http_skillbox_store_post(&q->op, r, ctx) != NGX_OK) {
        free(q);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    return NGX_OK;
}


/* thread */

static sb_code_t
ngx_http_skillbox_queued_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_queued_t *q = (ngx_http_skillbox_queued_t *) op;

    sb_execution_begin_t  e;

    memset(&e, 0, sizeof(sb_execution_begin_t));

    e.tenant = q->tenant;
    e.id = q->id;
    e.skill = q->skill;
    e.version = q->version;
    e.created_ms = q->created_ms;
    e.owner = SB_OWNER_HELPER;
    e.queued = 1;
    e.inputs = q->inputs;

    return sb_batch_execution_begin(batch, &e, err);
}


/*
 * A store that takes no writes: the client is told so, the run ends all the same
 * and its record appears when the store has recovered.
 */

static void
ngx_http_skillbox_queued_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "recording a run");

    } else {
        rc = ngx_http_skillbox_async_answer(r, ctx, "queued");
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_queued_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}


ngx_int_t
ngx_http_skillbox_async_answer(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, const char *status)
{
    u_char                        *p;
    sb_buf_t                       buf;
    ngx_str_t                      location;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    ctx->status = ngx_http_skillbox_copy(r->pool, status, ngx_strlen(status));

    location.len = slcf->prefix.len + sizeof("/v1/executions/") - 1
                   + ctx->execution.len;
    location.data = ngx_pnalloc(r->pool, location.len);

    if (ctx->status.data == NULL || location.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* relative to the server, as RFC 9110 allows: no guess about its name */

    p = ngx_cpymem(location.data, slcf->prefix.data, slcf->prefix.len);
    p = ngx_cpymem(p, "/v1/executions/", sizeof("/v1/executions/") - 1);
    ngx_memcpy(p, ctx->execution.data, ctx->execution.len);

    if (ngx_http_skillbox_add_header(r, "Location", &location) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    sb_buf_init(&buf, 256);
    sb_buf_char(&buf, '{');
    sb_json_key(&buf, "execution_id");
    sb_json_str(&buf, (char *) ctx->execution.data, ctx->execution.len);
    sb_json_key_str(&buf, "status", status);
    sb_buf_char(&buf, '}');

    return ngx_http_skillbox_send_json(r, NGX_HTTP_ACCEPTED, &buf);
}
