
/*
 * The internal listener: a helper posts what became of an asynchronous run
 * (libskillbox/protocol.h, "Completion").  Answered 204 once it is committed;
 * whatever else is answered, the helper comes again.
 *
 * Only over a UNIX socket, and only from the users that skillbox_internal
 * names: the kernel says who that is, whatever the socket's mode lets through.
 */


#include "ngx_http_skillbox_async.h"

#include <pwd.h>
#include <sys/socket.h>


#define NGX_HTTP_SKILLBOX_COMPLETION_MAX                                      \
    (SB_RESULT_MAX + NGX_HTTP_SKILLBOX_LOG_MAX + 4096)


/* the end of the year 9999: times have four digits for it */
#define NGX_HTTP_SKILLBOX_COMPLETION_LAST_MS  253402300799999


typedef struct {
    ngx_http_skillbox_op_t        op;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          id[SB_UUID_LEN + 1];
    char                          skill[SB_NAME_MAX + 1];
    char                          version[SB_VERSION_MAX + 1];
    char                          status[16];
    char                          digest[SB_SHA256_HEX + 1];    /* or "" */
    char                          inputs[NGX_HTTP_SKILLBOX_INPUTS_LEN];
    int64_t                       created_ms;
    int64_t                       finished_ms;
    int64_t                       files;
    int64_t                       archive_bytes;
    ngx_uint_t                    dropped;      /* it had no room */
    ngx_http_skillbox_main_conf_t  *conf;
    int64_t                       log_len;
    ngx_uint_t                    running;
    ngx_uint_t                    invalid;      /* its result is no JSON */
    sb_buf_t                      body;         /* result, then log */
    ngx_fd_t                      fd;           /* of a spooled body */
    off_t                         offset;
    size_t                        size;         /* of it, behind body */
} ngx_http_skillbox_completion_t;


static ngx_int_t ngx_http_skillbox_completion_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_completion_peer(ngx_http_request_t *r);
static void ngx_http_skillbox_completion_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_completion_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_completion_t *c);
static ngx_int_t ngx_http_skillbox_completion_facts(ngx_http_request_t *r,
    ngx_http_skillbox_completion_t *c);
static ngx_int_t ngx_http_skillbox_completion_text(ngx_http_request_t *r,
    const char *name, char *out, size_t size);
static ngx_int_t ngx_http_skillbox_completion_number(ngx_http_request_t *r,
    const char *name, int64_t *out);
static ngx_int_t ngx_http_skillbox_completion_fill(ngx_http_request_t *r,
    ngx_http_skillbox_completion_t *c);
static ngx_int_t ngx_http_skillbox_completion_check(
    ngx_http_skillbox_completion_t *c);
static void ngx_http_skillbox_completion_prepare(ngx_http_skillbox_op_t *op);
static sb_code_t ngx_http_skillbox_completion_apply(
    ngx_http_skillbox_op_t *op, sb_batch_t *batch, sb_err_t *err);
static sb_code_t ngx_http_skillbox_completion_finish(
    ngx_http_skillbox_completion_t *c, sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_completion_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_completion_free(ngx_http_skillbox_op_t *op);


/* skillbox_internal [user ...]; */

char *
ngx_http_skillbox_set_internal(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_skillbox_loc_conf_t *slcf = conf;

    uid_t                     *uid;
    ngx_int_t                  n;
    ngx_str_t                 *value;
    ngx_uint_t                 i;
    struct passwd             *pw;
    ngx_http_core_loc_conf_t  *clcf;

    if (slcf->internal) {
        return "is duplicate";
    }

    slcf->internal = ngx_array_create(cf->pool, 2, sizeof(uid_t));
    if (slcf->internal == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        uid = ngx_array_push(slcf->internal);
        if (uid == NULL) {
            return NGX_CONF_ERROR;
        }

        n = ngx_atoi(value[i].data, value[i].len);

        if (n != NGX_ERROR) {
            *uid = n;
            continue;
        }

        pw = getpwnam((char *) value[i].data);

        if (pw == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "there is no user \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        *uid = pw->pw_uid;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_skillbox_completion_handler;

    return NGX_CONF_OK;
}


char *
ngx_http_skillbox_internal_conf(ngx_conf_t *cf,
    ngx_http_skillbox_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_skillbox_main_conf_t  *smcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_skillbox_module);

    if (conf->enable) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_internal\" needs a location of its "
                           "own, without \"skillbox on\"");
        return NGX_CONF_ERROR;
    }

    if (smcf->store.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"skillbox_internal\" needs \"skillbox_store\" "
                           "at the http level");
        return NGX_CONF_ERROR;
    }

    clcf->client_max_body_size = NGX_HTTP_SKILLBOX_COMPLETION_MAX;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_skillbox_completion_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    if (r != r->main || ngx_http_skillbox_get_ctx(r) == NULL) {
        return NGX_HTTP_NOT_FOUND;
    }

    rc = ngx_http_skillbox_completion_peer(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method != NGX_HTTP_POST) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_ALLOWED,
                                       "Completions are posted.");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                           ngx_http_skillbox_completion_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static ngx_int_t
ngx_http_skillbox_completion_peer(ngx_http_request_t *r)
{
    uid_t                         *uid;
    socklen_t                      len;
    ngx_uint_t                     i;
    struct ucred                   peer;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    len = sizeof(struct ucred);

    if (r->connection->listening->sockaddr->sa_family != AF_UNIX
        || getsockopt(r->connection->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)
           == -1)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "\"skillbox_internal\" was asked over a socket that "
                      "is no UNIX socket");
        return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                       "Completions come over a UNIX socket.");
    }

    if (peer.uid == geteuid()) {
        return NGX_OK;
    }

    uid = slcf->internal->elts;

    for (i = 0; i < slcf->internal->nelts; i++) {
        if (uid[i] == peer.uid) {
            return NGX_OK;
        }
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "a completion was sent by uid %ui, whom "
                  "\"skillbox_internal\" does not name", (ngx_uint_t) peer.uid);

    return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                   "Completions come from the helper only.");
}


static void
ngx_http_skillbox_completion_body(ngx_http_request_t *r)
{
    ngx_int_t                        rc;
    ngx_http_skillbox_ctx_t         *ctx;
    ngx_http_skillbox_completion_t  *c;

    ctx = ngx_http_skillbox_get_ctx(r);

    c = calloc(1, sizeof(ngx_http_skillbox_completion_t));

    if (c == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    c->fd = NGX_INVALID_FILE;
    c->conf = ngx_http_get_module_main_conf(r, ngx_http_skillbox_module);
    c->op.prepare = ngx_http_skillbox_completion_prepare;
    c->op.apply = ngx_http_skillbox_completion_apply;
    c->op.done = ngx_http_skillbox_completion_done;
    c->op.free = ngx_http_skillbox_completion_free;

    rc = ngx_http_skillbox_completion_read(r, ctx, c);

    if (rc != NGX_OK) {
        c->op.free(&c->op);
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_skillbox_completion_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_completion_t *c)
{
    u_char         *id;
    ngx_int_t       rc;
    unsigned char   uuid[16];

    id = r->uri.data + r->uri.len - SB_UUID_LEN;

    if (r->uri.len < sizeof(SB_COMPLETION_PATH) - 1 + SB_UUID_LEN
        || ngx_strncmp(id - (sizeof(SB_COMPLETION_PATH) - 1),
                       SB_COMPLETION_PATH, sizeof(SB_COMPLETION_PATH) - 1)
           != 0
        || !sb_uuid_parse((char *) id, SB_UUID_LEN, uuid))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "This is no execution's address.");
    }

    sb_uuid_format(uuid, c->id);

    rc = ngx_http_skillbox_completion_facts(r, c);

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_completion_fill(r, c);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->execution = ngx_http_skillbox_copy(r->pool, c->id, SB_UUID_LEN);
    ctx->skill = ngx_http_skillbox_copy(r->pool, c->skill,
                                        ngx_strlen(c->skill));
    ctx->version = ngx_http_skillbox_copy(r->pool, c->version,
                                          ngx_strlen(c->version));
    ctx->digest = ngx_http_skillbox_copy(r->pool, c->digest,
                                         ngx_strlen(c->digest));
    ctx->status = ngx_http_skillbox_copy(r->pool, c->status,
                                         ngx_strlen(c->status));

    /* for the logs: who the run was for */

    ngx_memcpy(ctx->key.tenant, c->tenant, sizeof(c->tenant));
    ctx->auth = NGX_HTTP_SKILLBOX_AUTH_OK;

    if (ngx_http_skillbox_store_post(&c->op, r, ctx) != NGX_OK) {
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_completion_facts(ngx_http_request_t *r,
    ngx_http_skillbox_completion_t *c)
{
    const struct {
        const char  *name;
        char        *out;
        size_t       size;
    } texts[] = {
        { SB_H_TENANT, c->tenant, sizeof(c->tenant) },
        { SB_H_SKILL, c->skill, sizeof(c->skill) },
        { SB_H_VERSION, c->version, sizeof(c->version) },
        { SB_H_STATUS, c->status, sizeof(c->status) },
    };

    const struct {
        const char  *name;
        int64_t     *out;
    } numbers[] = {
        { SB_H_CREATED, &c->created_ms },
        { SB_H_FINISHED, &c->finished_ms },
        { SB_H_FILES, &c->files },
        { SB_H_LOG_LENGTH, &c->log_len },
    };

    ngx_uint_t  i, n;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {

        if (ngx_http_skillbox_completion_text(r, texts[i].name, texts[i].out,
                                              texts[i].size)
            != NGX_OK)
        {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"%s\" is not valid.",
                                           texts[i].name);
        }
    }

    /* most have none; what is not well-formed in it is left out */

    if (ngx_http_skillbox_find_header(r, SB_H_INPUT_FILES, NULL)
        && ngx_http_skillbox_completion_text(r, SB_H_INPUT_FILES,
                                             c->inputs, sizeof(c->inputs))
           != NGX_OK)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"%s\" is not valid.",
                                       SB_H_INPUT_FILES);
    }

    /* for the audit log alone; what is none is left out */

    if (ngx_http_skillbox_completion_text(r, SB_H_DIGEST, c->digest,
                                          sizeof(c->digest))
        != NGX_OK
        || strspn(c->digest, "0123456789abcdef") != SB_SHA256_HEX)
    {
        c->digest[0] = '\0';
    }

    c->running = (ngx_strcmp(c->status, "running") == 0);

    n = c->running ? 1 : sizeof(numbers) / sizeof(numbers[0]);

    for (i = 0; i < n; i++) {

        if (ngx_http_skillbox_completion_number(r, numbers[i].name,
                                                numbers[i].out)
            != NGX_OK)
        {
            return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                           "\"%s\" is not valid.",
                                           numbers[i].name);
        }
    }

    if (!sb_tenant_valid(c->tenant, ngx_strlen(c->tenant))
        || !sb_name_valid(c->skill, ngx_strlen(c->skill))
        || !sb_semver_valid(c->version, ngx_strlen(c->version))
        || c->created_ms > NGX_HTTP_SKILLBOX_COMPLETION_LAST_MS
        || c->finished_ms > NGX_HTTP_SKILLBOX_COMPLETION_LAST_MS
        || c->files > SB_ARTIFACT_FILES_MAX
        || c->log_len > NGX_HTTP_SKILLBOX_LOG_MAX)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "A header is out of its limits.");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_completion_text(ngx_http_request_t *r, const char *name,
    char *out, size_t size)
{
    ngx_table_elt_t  *h;

    h = ngx_http_skillbox_find_header(r, name, NULL);

    if (h == NULL || h->value.len == 0 || h->value.len >= size) {
        return NGX_ERROR;
    }

    ngx_memcpy(out, h->value.data, h->value.len);   /* out is zeroed */

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_completion_number(ngx_http_request_t *r, const char *name,
    int64_t *out)
{
    ngx_int_t         n;
    ngx_table_elt_t  *h;

    h = ngx_http_skillbox_find_header(r, name, NULL);

    n = h ? ngx_atoi(h->value.data, h->value.len) : NGX_ERROR;

    *out = n;

    return n == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* the descriptor is a copy, as the request may go while the thread reads */

static ngx_int_t
ngx_http_skillbox_completion_fill(ngx_http_request_t *r,
    ngx_http_skillbox_completion_t *c)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    sb_buf_init(&c->body, NGX_HTTP_SKILLBOX_COMPLETION_MAX);

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;

        if (!b->in_file) {
            sb_buf_add(&c->body, b->pos, b->last - b->pos);
            continue;
        }

        c->fd = fcntl(b->file->fd, F_DUPFD_CLOEXEC, 0);
        c->offset = b->file_pos;
        c->size = b->file_last - b->file_pos;

        if (c->fd == NGX_INVALID_FILE || cl->next) {
            ngx_log_error(NGX_LOG_ALERT, r->connection->log, ngx_errno,
                          "the spooled request body can't be read");
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (!c->running
        && c->body.len + c->size < (size_t) c->log_len + sizeof("{}") - 1)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "The body is too short.");
    }

    return sb_buf_ok(&c->body) ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* thread */

static void
ngx_http_skillbox_completion_prepare(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_completion_t *c = (ngx_http_skillbox_completion_t *) op;

    char     buf[16384];
    ssize_t  n;

    if (c->files) {
        c->archive_bytes = ngx_http_skillbox_archive_bytes(c->conf, c->id);
    }

    while (c->size) {
        n = pread(c->fd, buf, ngx_min(c->size, sizeof(buf)), c->offset);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            sb_err_errno(&op->err, n ? errno : EIO, "reading a completion");
            return;
        }

        sb_buf_add(&c->body, buf, n);
        c->offset += n;
        c->size -= n;
    }

    if (!sb_buf_ok(&c->body)
        || ngx_http_skillbox_completion_check(c) != NGX_OK)
    {
        sb_err_set(&op->err, SB_EINTERNAL, "out of memory");
    }
}


/*
 * thread: a result that is no JSON would spoil each answer that it is in.  It
 * will be none when it comes again, so the run has failed; its log is kept.
 */

static ngx_int_t
ngx_http_skillbox_completion_check(ngx_http_skillbox_completion_t *c)
{
    size_t    len;
    sb_buf_t  body;

    len = c->body.len - c->log_len;

    if (c->running || sb_json_valid_object(c->body.data, len)) {
        return NGX_OK;
    }

    c->invalid = 1;
    strcpy(c->status, "failed");

    sb_buf_init(&body, NGX_HTTP_SKILLBOX_COMPLETION_MAX);
    ngx_http_skillbox_render_end(&body, c->status,
                                 NGX_HTTP_SKILLBOX_NO_RESULT,
                                 sizeof(NGX_HTTP_SKILLBOX_NO_RESULT) - 1,
                                 c->finished_ms - c->created_ms, c->skill,
                                 c->version);
    sb_buf_add(&body, c->body.data + len, c->log_len);

    sb_buf_free(&c->body);
    c->body = body;

    return sb_buf_ok(&c->body) ? NGX_OK : NGX_ERROR;
}


/* thread */

static sb_code_t
ngx_http_skillbox_completion_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_completion_t *c = (ngx_http_skillbox_completion_t *) op;

    sb_execution_begin_t  e;

    if (op->err.code != SB_OK) {
        return op->err.code;
    }

    if (!c->running) {
        return ngx_http_skillbox_completion_finish(c, batch, err);
    }

    memset(&e, 0, sizeof(sb_execution_begin_t));

    e.tenant = c->tenant;
    e.id = c->id;
    e.skill = c->skill;
    e.version = c->version;
    e.created_ms = c->created_ms;
    e.inputs = c->inputs;

    return sb_batch_execution_running(batch, &e, err);
}


/* thread */

static sb_code_t
ngx_http_skillbox_completion_finish(ngx_http_skillbox_completion_t *c,
    sb_batch_t *batch, sb_err_t *err)
{
    sb_code_t              code;
    sb_execution_finish_t  e;

    memset(&e, 0, sizeof(sb_execution_finish_t));

    e.tenant = c->tenant;
    e.id = c->id;
    e.skill = c->skill;
    e.status = c->status;
    e.result = c->body.data;
    e.result_len = c->body.len - c->log_len;
    e.logs = c->body.data + e.result_len;
    e.logs_len = c->log_len;
    e.files = c->files;
    e.archive_bytes = c->archive_bytes;
    e.created_ms = c->created_ms;
    e.finished_ms = c->finished_ms;
    e.inputs = c->inputs;

    code = sb_batch_execution_finish(batch, &e, err);

    c->dropped = e.dropped;

    return code;
}


static void
ngx_http_skillbox_completion_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_completion_t *c = (ngx_http_skillbox_completion_t *) op;

    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "recording a run");

    } else {

        if (c->dropped) {
            ngx_http_skillbox_archive_drop(c->conf, c->id);
        }

        if (c->invalid) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "helper sent a result that is no JSON");
            ngx_str_set(&ctx->status, "failed");
        }

        r->headers_out.status = NGX_HTTP_NO_CONTENT;
        r->header_only = 1;
        rc = ngx_http_send_header(r);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_completion_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_completion_t *c = (ngx_http_skillbox_completion_t *) op;

    if (c->fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(c->fd);
    }

    sb_buf_free(&c->body);
    free(c);
}
