
/*
 * The audit log: one JSON object a line for each call that changes something
 * or runs a skill, whatever came of it.  It says who, from where, what, on which
 * object and package, and how it ended; never a secret, an input, a file's
 * content or the query of an address.  An asynchronous run has two: one for the
 * client's call, one for its end, which the helper brings.  A run that nobody
 * brings the end of has the line of whoever notices.
 *
 * Written at the log phase, one write() a line to a file opened for appending,
 * as access_log does it without a buffer; reopened on USR1 by nginx itself.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_AUDIT_LINE  8192


static void ngx_http_skillbox_audit(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_open_file_t *file);
static void ngx_http_skillbox_audit_who(sb_buf_t *b, ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_audit_text(sb_buf_t *b, const char *name,
    ngx_str_t *value);
static void ngx_http_skillbox_audit_write(ngx_log_t *log,
    ngx_open_file_t *file, sb_buf_t *line);


/* skillbox_audit_log file | off */

char *
ngx_http_skillbox_set_audit_log(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_skillbox_main_conf_t *smcf = conf;

    ngx_str_t  *value;

    if (smcf->audit != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        smcf->audit = NULL;
        return NGX_CONF_OK;
    }

    if (value[1].len == 0) {
        return "needs a file";
    }

    smcf->audit = ngx_conf_open_file(cf->cycle, &value[1]);

    return smcf->audit ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_skillbox_log_handler(ngx_http_request_t *r)
{
    ngx_http_skillbox_ctx_t        *ctx;
    ngx_http_skillbox_loc_conf_t   *slcf;
    ngx_http_skillbox_main_conf_t  *smcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (!(slcf->enable || slcf->internal) || r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_skillbox_find_ctx(r);
    smcf = ngx_http_get_module_main_conf(r, ngx_http_skillbox_module);

    if (slcf->internal) {

        if (ctx && ngx_http_skillbox_count_completion(r, ctx) == NGX_OK
            && smcf->audit)
        {
            ngx_http_skillbox_audit(r, ctx, smcf->audit);
        }

        return NGX_OK;
    }

    ngx_http_skillbox_count_request(r, ctx);

    if (smcf->audit && ctx && ctx->route
        && !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS)))
    {
        ngx_http_skillbox_audit(r, ctx, smcf->audit);
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_audit(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx,
    ngx_open_file_t *file)
{
    char         when[SB_TIME_LEN + 1];
    sb_buf_t     b;
    ngx_str_t    id;
    ngx_uint_t   status;

    status = r->err_status ? r->err_status : r->headers_out.status;

    sb_time_format(sb_time_now_ms(), when);
    ngx_http_skillbox_request_id(r, &id);

    sb_buf_init(&b, NGX_HTTP_SKILLBOX_AUDIT_LINE);
    sb_buf_char(&b, '{');
    sb_json_key_str(&b, "time", when);
    ngx_http_skillbox_audit_text(&b, "request_id", &id);

    ngx_http_skillbox_audit_who(&b, r, ctx);

    /* the route's pattern, not the address: nothing of the client's is in it */

    ngx_http_skillbox_audit_text(&b, "method", &r->method_name);
    sb_json_key_str(&b, "endpoint", ctx->route ? ctx->route->path
                                               : SB_COMPLETION_PATH "*");

    ngx_http_skillbox_audit_text(&b, "object", &ctx->object);
    ngx_http_skillbox_audit_text(&b, "skill", &ctx->skill);
    ngx_http_skillbox_audit_text(&b, "version", &ctx->version);
    ngx_http_skillbox_audit_text(&b, "execution", &ctx->execution);
    ngx_http_skillbox_audit_text(&b, "digest", &ctx->digest);

    sb_json_key_int(&b, "status", status);
    ngx_http_skillbox_audit_text(&b, "result", &ctx->status);

    if (ctx->error.status == (ngx_int_t) status) {
        sb_json_key_str(&b, "error", ctx->error.slug);
    }

    sb_buf_str(&b, "}\n");

    ngx_http_skillbox_audit_write(r->connection->log, file, &b);

    sb_buf_free(&b);
}


void
ngx_http_skillbox_audit_interrupted(sb_buf_t *ended, const sb_err_t *err)
{
    char                            when[SB_TIME_LEN + 1];
    size_t                          at;
    sb_buf_t                        b;
    sb_interrupted_t                run;
    ngx_http_skillbox_main_conf_t  *smcf;

    smcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_skillbox_module);

    sb_buf_init(&b, NGX_HTTP_SKILLBOX_AUDIT_LINE);
    sb_time_format(sb_time_now_ms(), when);

    for (at = 0;
         smcf && smcf->audit && err->code == SB_OK && at < ended->len;
         at += sizeof(sb_interrupted_t))
    {
        ngx_memcpy(&run, ended->data + at, sizeof(sb_interrupted_t));

        sb_buf_clear(&b);
        sb_buf_char(&b, '{');
        sb_json_key_str(&b, "time", when);
        sb_json_key_str(&b, "tenant", run.tenant);
        sb_json_key_str(&b, "skill", run.skill);
        sb_json_key_str(&b, "execution", run.id);
        sb_json_key_str(&b, "result", "failed");
        sb_json_key_str(&b, "error", "interrupted");
        sb_buf_str(&b, "}\n");

        ngx_http_skillbox_audit_write(ngx_cycle->log, smcf->audit, &b);
    }

    sb_buf_free(&b);
    sb_buf_free(ended);
}


static void
ngx_http_skillbox_audit_who(sb_buf_t *b, ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_audit_text(b, "address", &r->connection->addr_text);

    if (ctx->auth != NGX_HTTP_SKILLBOX_AUTH_OK) {
        return;
    }

    sb_json_key_str(b, "tenant", ctx->key.tenant);

    if (ctx->open || ctx->key.id[0] == '\0') {
        return;             /* by "skillbox_auth off", or the helper's word */
    }

    sb_json_key_str(b, "key", ctx->key.id);
    sb_json_key_str(b, "key_name", ctx->key.name);
    sb_json_key_str(b, "role", sb_role_name(ctx->key.role));

    if (ctx->key.service) {
        sb_json_key_bool(b, "service", 1);
    }
}


static void
ngx_http_skillbox_audit_text(sb_buf_t *b, const char *name, ngx_str_t *value)
{
    if (value->len) {
        sb_json_key(b, name);
        sb_json_str(b, (char *) value->data, value->len);
    }
}


static void
ngx_http_skillbox_audit_write(ngx_log_t *log, ngx_open_file_t *file,
    sb_buf_t *line)
{
    ssize_t        n;
    time_t         now;

    static time_t  told;

    n = sb_buf_ok(line) ? ngx_write_fd(file->fd, line->data, line->len) : -1;

    if (n == (ssize_t) line->len) {
        return;
    }

    /* at most once a minute, as access_log does */

    now = ngx_time();

    if (now - told > 59) {
        ngx_log_error(NGX_LOG_ALERT, log,
                      n == -1 ? ngx_errno : 0,
                      ngx_write_fd_n " to the audit log \"%V\" failed",
                      &file->name);
        told = now;
    }
}
