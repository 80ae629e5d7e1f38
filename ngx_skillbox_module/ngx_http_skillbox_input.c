
/*
 * What clients put into the query string, and small JSON bodies: decoded,
 * bounded, and told apart from what is not there.  Nothing here waits: a body
 * of a few KiB that nginx spooled lies in the page cache.
 */


#include "ngx_http_skillbox.h"


typedef struct {
    size_t                        max;
    ngx_http_skillbox_json_pt     handler;
    ngx_uint_t                    optional;
} ngx_http_skillbox_input_t;


static ngx_int_t ngx_http_skillbox_input_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler, ngx_uint_t optional);
static void ngx_http_skillbox_input_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_input_parse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_input_t *input);
static ngx_int_t ngx_http_skillbox_input_collect(ngx_http_request_t *r,
    sb_buf_t *text);


ngx_int_t
ngx_http_skillbox_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    u_char     *dst, *src;
    size_t      i;
    ngx_str_t   raw;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &raw) != NGX_OK) {
        ngx_str_null(value);
        return NGX_DECLINED;
    }

    *value = ngx_http_skillbox_copy(r->pool, (char *) raw.data, raw.len);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] == '+') {
            value->data[i] = ' ';
        }
    }

    dst = value->data;
    src = value->data;

    ngx_unescape_uri(&dst, &src, value->len, 0);

    value->len = dst - value->data;
    value->data[value->len] = '\0';

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_arg_number(ngx_http_request_t *r, const char *name,
    ngx_int_t fallback, ngx_int_t max, ngx_int_t *number)
{
    ngx_int_t  rc;
    ngx_str_t  value;

    *number = fallback;

    rc = ngx_http_skillbox_arg(r, name, &value);

    if (rc == NGX_DECLINED) {
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *number = ngx_atoi(value.data, value.len);

    if (*number == NGX_ERROR) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" must be a number.", name);
    }

    *number = ngx_min(*number, max);

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_read_json(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler)
{
    return ngx_http_skillbox_input_read(r, ctx, max, handler, 0);
}


ngx_int_t
ngx_http_skillbox_read_json_or_none(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler)
{
    return ngx_http_skillbox_input_read(r, ctx, max, handler, 1);
}


static ngx_int_t
ngx_http_skillbox_input_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, size_t max,
    ngx_http_skillbox_json_pt handler, ngx_uint_t optional)
{
    ngx_int_t                   rc;
    ngx_http_skillbox_input_t  *input;

    if (r->headers_in.content_length_n > (off_t) max) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "The body may have %zu bytes.", max);
    }

    input = ngx_palloc(r->pool, sizeof(ngx_http_skillbox_input_t));
    if (input == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    input->max = max;
    input->handler = handler;
    input->optional = optional;
    ctx->data = input;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_input_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_skillbox_input_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_input_parse(r, ctx, ctx->data);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_skillbox_input_parse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_input_t *input)
{
    json_t        *root;
    sb_buf_t       text;
    ngx_int_t      rc;
    json_error_t   error;

    sb_buf_init(&text, input->max);

    rc = ngx_http_skillbox_input_collect(r, &text);

    if (rc == NGX_OK && !sb_buf_ok(&text)) {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "The body may have %zu bytes.",
                                     input->max);
    }

    if (rc != NGX_OK) {
        sb_buf_free(&text);
        return rc;
    }

    root = (text.len == 0 && input->optional)
           ? json_object()
           : json_loadb(text.data ? text.data : "", text.len,
                        JSON_REJECT_DUPLICATES, &error);

    if (json_is_object(root)) {
        rc = input->handler(r, ctx, root);

    } else if (text.len == 0) {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                     "The body is empty.");

    } else if (root == NULL) {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                     "The body is not valid JSON: line %d, "
                                     "column %d: %s.", error.line,
                                     error.column, error.text);

    } else {
        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                     "The body must be a JSON object.");
    }

    json_decref(root);
    sb_buf_free(&text);

    return rc;
}


static ngx_int_t
ngx_http_skillbox_input_collect(ngx_http_request_t *r, sb_buf_t *text)
{
    char          buf[4096];
    off_t         at;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl && sb_buf_ok(text);
         cl = cl->next)
    {
        b = cl->buf;

        if (!b->in_file) {
            sb_buf_add(text, b->pos, b->last - b->pos);
            continue;
        }

        for (at = b->file_pos; at < b->file_last && sb_buf_ok(text); at += n) {

            n = pread(b->file->fd, buf,
                      ngx_min((size_t) (b->file_last - at), sizeof(buf)), at);

            if (n <= 0) {
                ngx_log_error(NGX_LOG_ALERT, r->connection->log, ngx_errno,
                              "the spooled request body can't be read");
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            sb_buf_add(text, buf, n);
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_json_member(ngx_http_request_t *r, json_t *root,
    const char *name, ngx_uint_t required, size_t max, const char **value)
{
    json_t  *member;

    member = json_object_get(root, name);
    *value = json_string_value(member);

    if (member == NULL) {

        if (!required) {
            return NGX_OK;
        }

        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" is missing.", name);
    }

    if (*value == NULL || strlen(*value) != json_string_length(member)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" must be a string.", name);
    }

    if (json_string_length(member) > max) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" may have %zu bytes.", name,
                                       max);
    }

    return NGX_OK;
}
