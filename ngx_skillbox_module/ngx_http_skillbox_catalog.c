
/*
 * What is read from the store and handed out: skills and execution records;
 * and the deletion of skills.  Records are stored rendered, so reading is a
 * look-up and a copy, here on the event loop.
 */


#include "ngx_http_skillbox.h"


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          name[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
} ngx_http_skillbox_delete_t;


static ngx_int_t ngx_http_skillbox_list_filter(ngx_http_request_t *r,
    sb_skill_filter_t *filter);
static ngx_int_t ngx_http_skillbox_list_next(ngx_http_request_t *r,
    sb_skill_filter_t *filter, const char *next);
static sb_code_t ngx_http_skillbox_delete_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_delete_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_delete_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_skill_list(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    char                next[SB_NAME_MAX + 1];
    sb_buf_t            buf;
    sb_err_t            err;
    ngx_int_t           rc;
    sb_store_t         *store;
    sb_skill_filter_t   filter;

    rc = ngx_http_skillbox_list_filter(r, &filter);
    if (rc != NGX_OK) {
        return rc;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    sb_buf_init(&buf, SB_GIB);

    if (sb_store_skill_list(store, ctx->key.tenant, &filter, &buf, next, &err)
        != SB_OK)
    {
        sb_buf_free(&buf);
        return ngx_http_skillbox_error_sb(r, &err, "listing skills");
    }

    if (next[0] && ngx_http_skillbox_list_next(r, &filter, next) != NGX_OK) {
        sb_buf_free(&buf);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_send_list(r, &buf);
}


static ngx_int_t
ngx_http_skillbox_list_filter(ngx_http_request_t *r, sb_skill_filter_t *filter)
{
    ngx_int_t  rc, limit;
    ngx_str_t  words, status, cursor;

    if (ngx_http_skillbox_arg(r, "q", &words) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "status", &status) == NGX_ERROR
        || ngx_http_skillbox_arg(r, "cursor", &cursor) == NGX_ERROR)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_skillbox_arg_number(r, "limit", SB_SKILL_PAGE, SB_SKILL_PAGE,
                                      &limit);
    if (rc != NGX_OK) {
        return rc;
    }

    if (limit < 1) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"limit\" must be a number "
                                       "from 1 to %d.", SB_SKILL_PAGE);
    }

    if (cursor.len && !sb_name_valid((char *) cursor.data, cursor.len)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"cursor\" is not one of ours.");
    }

    filter->words.data = (char *) words.data;
    filter->words.len = words.len;
    filter->status = (char *) status.data;
    filter->after = (char *) cursor.data;
    filter->limit = limit;

    return NGX_OK;
}


/* A name and a status that was found need no escape, words may need any. */

static ngx_int_t
ngx_http_skillbox_list_next(ngx_http_request_t *r, sb_skill_filter_t *filter,
    const char *next)
{
    u_char                         words[3 * SB_QUERY_MAX], *last;
    sb_buf_t                       buf;
    ngx_str_t                      value;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    sb_buf_init(&buf, 8192);
    sb_buf_char(&buf, '<');
    sb_buf_add(&buf, slcf->prefix.data, slcf->prefix.len);
    sb_buf_fmt(&buf, "/v1/skills?limit=%u", filter->limit);

    /* the store took them, so there are SB_QUERY_MAX bytes at most */

    if (filter->words.len) {
        last = (u_char *) ngx_escape_uri(words, (u_char *) filter->words.data,
                                         filter->words.len,
                                         NGX_ESCAPE_URI_COMPONENT);
        sb_buf_str(&buf, "&q=");
        sb_buf_add(&buf, words, last - words);
    }

    if (filter->status && filter->status[0]) {
        sb_buf_fmt(&buf, "&status=%s", filter->status);
    }

    sb_buf_fmt(&buf, "&cursor=%s>; rel=\"next\"", next);

    value = ngx_http_skillbox_copy(r->pool, buf.data ? buf.data : "", buf.len);

    sb_buf_free(&buf);

    if (value.data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_skillbox_add_header(r, "Link", &value);
}


/* 128 bits of the content's hash tell two lists apart */

ngx_int_t
ngx_http_skillbox_send_list(ngx_http_request_t *r, sb_buf_t *body)
{
    u_char         tag[32];
    unsigned char  hash[SB_SHA256_LEN];

    if (sb_buf_ok(body)) {
        sb_sha256(body->data, body->len, hash);
        (void) ngx_hex_dump(tag, hash, 16);

        if (ngx_http_skillbox_set_etag(r, (char *) tag, 32) != NGX_OK) {
            sb_buf_free(body);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, body);
}


ngx_int_t
ngx_http_skillbox_set_etag(ngx_http_request_t *r, const char *data,
    size_t len)
{
    u_char           *tag;
    ngx_table_elt_t  *h;

    tag = ngx_pnalloc(r->pool, len + 2);
    h = ngx_list_push(&r->headers_out.headers);

    if (tag == NULL || h == NULL) {
        return NGX_ERROR;
    }

    tag[0] = '"';
    ngx_memcpy(&tag[1], data, len);
    tag[len + 1] = '"';

    h->hash = 1;
    ngx_str_set(&h->key, "ETag");
    h->value.data = tag;
    h->value.len = len + 2;
    h->lowcase_key = NULL;
    ngx_http_skillbox_header_alone(h);
    r->headers_out.etag = h;

    return NGX_OK;
}


/* {name} and {version}, NUL-terminated; a name that can't be is not found */

ngx_int_t
ngx_http_skillbox_skill_params(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_str_t  *name, *version;

    name = &ctx->param[0];
    version = &ctx->param[1];

    if (!sb_name_valid((char *) name->data, name->len)
        || (version->len
            && !sb_semver_valid((char *) version->data, version->len)
            && !(version->len == sizeof("latest") - 1
                 && ngx_strncmp(version->data, "latest", version->len) == 0)))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such skill.");
    }

    ctx->skill = ngx_http_skillbox_copy(r->pool, (char *) name->data,
                                        name->len);
    ctx->version = ngx_http_skillbox_copy(r->pool, (char *) version->data,
                                          version->len);

    if (ctx->skill.data == NULL || ctx->version.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_skill_get(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_buf_t      buf;
    sb_err_t      err;
    ngx_int_t     rc;
    sb_skill_t    skill;
    sb_store_t   *store;

    rc = ngx_http_skillbox_skill_params(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (sb_store_skill_get(store, ctx->key.tenant, (char *) ctx->skill.data,
                           (char *) ctx->version.data, &skill, &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "reading a skill");
    }

    ctx->version = ngx_http_skillbox_copy(r->pool, skill.version.data,
                                          skill.version.len);

    if (ctx->version.data == NULL
        || ngx_http_skillbox_set_etag(r, skill.digest.data, skill.digest.len)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    sb_buf_init(&buf, SB_RESULT_MAX);
    sb_buf_add(&buf, skill.json.data, skill.json.len);

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


ngx_int_t
ngx_http_skillbox_skill_delete(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    sb_err_t                     err;
    ngx_int_t                    rc;
    ngx_http_skillbox_delete_t  *d;

    rc = ngx_http_skillbox_skill_params(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_skillbox_store(&err) == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    d = calloc(1, sizeof(ngx_http_skillbox_delete_t));
    if (d == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->op.apply = ngx_http_skillbox_delete_apply;
    d->op.done = ngx_http_skillbox_delete_done;
    d->op.free = ngx_http_skillbox_delete_free;

    /* the lengths were judged with the names */

    ngx_memcpy(d->tenant, ctx->key.tenant, sizeof(d->tenant));
    ngx_memcpy(d->name, ctx->skill.data, ctx->skill.len);
    ngx_memcpy(d->version, ctx->version.data, ctx->version.len);

    if (ngx_http_skillbox_store_post(&d->op, r, ctx) != NGX_OK) {
        free(d);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "Too many writes are waiting.");
    }

    r->main->count++;

    return NGX_DONE;
}


/* thread */

static sb_code_t
ngx_http_skillbox_delete_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_delete_t *d = (ngx_http_skillbox_delete_t *) op;

    return sb_batch_skill_delete(batch, d->tenant, d->name,
                                 d->version[0] ? d->version : NULL, err);
}


static void
ngx_http_skillbox_delete_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    sb_err_t   err;
    ngx_int_t  rc;

    err = op->err;
    op->free(op);

    if (err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &err, "deleting a skill");

    } else {
        r->headers_out.status = NGX_HTTP_NO_CONTENT;
        r->header_only = 1;
        rc = ngx_http_send_header(r);
    }

    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_delete_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
