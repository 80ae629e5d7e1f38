
/*
 * POST /v1/executions.
 *
 *     execute -> body -> (parse, in a thread when large) -> parsed -> resolve
 *     -> hand_over: (helper: run)  + (store: begin, nobody waits)
 *        unknown package -> (helper: intake of the stored file) -> hand_over
 *     -> run_done -> (store: finish) -> the answer
 *
 * An asynchronous one is handed over by "submit", and answered by _async.c as
 * soon as the helper has accepted it.
 *
 * _record.c writes the records.  From begin on, whatever ends the request ends
 * its record: abandon() writes "cancelled" when the client hung up; a worker's
 * death is noticed by the store's sweep.
 */


#include "ngx_http_skillbox_async.h"


#define NGX_HTTP_SKILLBOX_NO_ENTRYPOINT                                       \
    "The skill has instructions only, \"script\" may name what to run."

/* bodies above this are parsed in a thread */
#define NGX_HTTP_SKILLBOX_PARSE_INLINE  (64 * SB_KIB)


typedef struct {
    ngx_http_skillbox_work_t      work;
    sb_buf_t                      text;
    ngx_fd_t                      fd;           /* of the spooled body */
    off_t                         offset;
    size_t                        size;         /* of it, behind text */
    ngx_http_skillbox_job_t       job;
    sb_err_t                      err;
} ngx_http_skillbox_parse_t;


static void ngx_http_skillbox_execute_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_execute_parse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_parse_fill(ngx_http_request_t *r,
    ngx_http_skillbox_parse_t *parse);
static void ngx_http_skillbox_parse_run(ngx_http_skillbox_work_t *work);
static sb_code_t ngx_http_skillbox_parse_read(
    ngx_http_skillbox_parse_t *parse, sb_err_t *err);
static void ngx_http_skillbox_parse_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_parse_free(ngx_http_skillbox_work_t *work);

static ngx_int_t ngx_http_skillbox_resolve(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
static ngx_int_t ngx_http_skillbox_resolve_target(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run, json_t *root);
static ngx_int_t ngx_http_skillbox_resolve_script(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run, json_t *scripts);
static ngx_int_t ngx_http_skillbox_run_string(ngx_http_request_t *r,
    json_t *value, const char *fallback, ngx_str_t *out);
static ngx_int_t ngx_http_skillbox_hand_over(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
static void ngx_http_skillbox_run_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);
static ngx_int_t ngx_http_skillbox_run_failed(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run, ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_send_package(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run);
static ngx_int_t ngx_http_skillbox_open_package(ngx_http_request_t *r,
    ngx_str_t *name, ngx_fd_t *fd, off_t *size);
static void ngx_http_skillbox_package_sent(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call);

static void ngx_http_skillbox_run_abandon(ngx_http_skillbox_ctx_t *ctx);


ngx_int_t
ngx_http_skillbox_execute(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_run_t       *run;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (r->headers_in.content_length_n > slcf->max_input) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "The request may have %lld bytes.",
                                       (long long) slcf->max_input);
    }

    run = ngx_pcalloc(r->pool, sizeof(ngx_http_skillbox_run_t));
    if (run == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    run->async = ngx_http_skillbox_async_preferred(r);
    ngx_str_set(&run->inputs, "");

    rc = ngx_http_skillbox_idempotency_key(r, run);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx->data = run;
    ctx->abandon = ngx_http_skillbox_run_abandon;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_execute_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_skillbox_execute_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_execute_parse(r, ctx);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_skillbox_execute_parse(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                   rc;
    ngx_http_skillbox_parse_t  *parse;

    parse = calloc(1, sizeof(ngx_http_skillbox_parse_t));
    if (parse == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    parse->fd = NGX_INVALID_FILE;
    parse->work.run = ngx_http_skillbox_parse_run;
    parse->work.done = ngx_http_skillbox_parse_done;
    parse->work.free = ngx_http_skillbox_parse_free;

    rc = ngx_http_skillbox_parse_fill(r, parse);

    if (rc == NGX_OK) {

        if (parse->fd == NGX_INVALID_FILE
            && parse->text.len <= NGX_HTTP_SKILLBOX_PARSE_INLINE)
        {
            parse->work.run(&parse->work);
            parse->work.done(r, ctx, &parse->work);
            return NGX_OK;
        }

        if (ngx_http_skillbox_work_post(&parse->work, r, ctx) == NGX_OK) {
            return NGX_OK;
        }

        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    parse->work.free(&parse->work);

    return rc;
}


/*
 * The body as nginx has it: in memory, or in a file (memory first).  The
 * descriptor is a copy, as the request may go while the thread reads.
 */

static ngx_int_t
ngx_http_skillbox_parse_fill(ngx_http_request_t *r,
    ngx_http_skillbox_parse_t *parse)
{
    off_t                          size;
    ngx_buf_t                     *b;
    ngx_chain_t                   *cl;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    sb_buf_init(&parse->text, slcf->max_input);
    size = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;
        size += ngx_buf_size(b);

        if (size > slcf->max_input) {
            return ngx_http_skillbox_error(r,
                                           NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                           "The request may have %lld bytes.",
                                           (long long) slcf->max_input);
        }

        if (!b->in_file) {
            sb_buf_add(&parse->text, b->pos, b->last - b->pos);
            continue;
        }

        parse->fd = fcntl(b->file->fd, F_DUPFD_CLOEXEC, 0);
        parse->offset = b->file_pos;
        parse->size = b->file_last - b->file_pos;

        if (parse->fd == NGX_INVALID_FILE || cl->next) {
            ngx_log_error(NGX_LOG_ALERT, r->connection->log, ngx_errno,
                          "the spooled request body can't be read");
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (size == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "The body is empty.");
    }

    return sb_buf_ok(&parse->text) ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* any thread */

static void
ngx_http_skillbox_parse_run(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_parse_t *parse = (ngx_http_skillbox_parse_t *) work;

    if (ngx_http_skillbox_parse_read(parse, &parse->err) == SB_OK) {
        parse->err.code = ngx_http_skillbox_job_parse(parse->text.data,
                                                      parse->text.len,
                                                      &parse->job,
                                                      &parse->err);
    }
}


static sb_code_t
ngx_http_skillbox_parse_read(ngx_http_skillbox_parse_t *parse, sb_err_t *err)
{
    char     buf[16384];
    ssize_t  n;

    if (parse->fd == NGX_INVALID_FILE) {
        return SB_OK;
    }

    while (parse->size) {
        n = pread(parse->fd, buf, ngx_min(parse->size, sizeof(buf)),
                  parse->offset);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            return sb_err_errno(err, n ? errno : EIO,
                                "reading the request body");
        }

        sb_buf_add(&parse->text, buf, n);
        parse->offset += n;
        parse->size -= n;
    }

    return sb_buf_ok(&parse->text)
           ? SB_OK
           : sb_err_set(err, SB_EINTERNAL, "out of memory");
}


static void
ngx_http_skillbox_parse_free(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_parse_t *parse = (ngx_http_skillbox_parse_t *) work;

    if (parse->fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(parse->fd);
    }

    sb_buf_free(&parse->text);
    ngx_http_skillbox_job_free(&parse->job);
    free(parse);
}


static void
ngx_http_skillbox_parse_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_parse_t *parse = (ngx_http_skillbox_parse_t *) work;

    ngx_int_t                 rc;
    ngx_http_skillbox_run_t  *run;

    run = ctx->data;

    if (parse->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &parse->err, "reading a request");

    } else {
        run->job = parse->job;
        ngx_memzero(&parse->job, sizeof(ngx_http_skillbox_job_t));

        if (run->job.async) {
            run->async = 1;
        }

        rc = ngx_http_skillbox_resolve(r, ctx, run);

        if (rc == NGX_OK) {
            sb_uuid7(run->id);
            run->created_ms = sb_time_now_ms();
            ctx->execution.data = (u_char *) run->id;
            ctx->execution.len = SB_UUID_LEN;

            rc = run->key ? ngx_http_skillbox_idempotency_take(r, ctx, run)
                          : NGX_DECLINED;
        }

        if (rc == NGX_DECLINED) {
            rc = ngx_http_skillbox_execute_run(r, ctx, run);
        }
    }

    work->free(work);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* the skill version, and what of it is to run */

static ngx_int_t
ngx_http_skillbox_resolve(ngx_http_request_t *r, ngx_http_skillbox_ctx_t *ctx,
    ngx_http_skillbox_run_t *run)
{
    json_t                   *root;
    sb_err_t                  err;
    ngx_int_t                 rc;
    sb_skill_t                skill;
    sb_store_t               *store;
    ngx_http_skillbox_job_t  *job;

    job = &run->job;

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    if (!sb_name_valid(job->skill, strlen(job->skill))
        || (job->version && job->version[0]
            && strcmp(job->version, "latest") != 0
            && !sb_semver_valid(job->version, strlen(job->version))))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such skill.");
    }

    if (sb_store_skill_get(store, ctx->key.tenant, job->skill, job->version,
                           &skill, &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "reading a skill");
    }

    ctx->skill = ngx_http_skillbox_copy(r->pool, job->skill,
                                        strlen(job->skill));
    ctx->version = ngx_http_skillbox_copy(r->pool, skill.version.data,
                                          skill.version.len);
    run->digest = ngx_http_skillbox_copy(r->pool, skill.digest.data,
                                         skill.digest.len);

    if (ctx->skill.data == NULL || ctx->version.data == NULL
        || run->digest.data == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->digest = run->digest;

    root = json_loadb(skill.run.data, skill.run.len, 0, NULL);

    if (root == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the record of skill \"%V\" %V is damaged",
                      &ctx->skill, &ctx->version);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_skillbox_resolve_target(r, run, root);

    json_decref(root);

    return rc;
}


static ngx_int_t
ngx_http_skillbox_resolve_target(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run, json_t *root)
{
    json_t                   *lang, *target;
    const char               *mode;
    ngx_http_skillbox_job_t  *job;

    job = &run->job;

    run->timeout_ms = json_integer_value(json_object_get(root, "timeout_ms"));
    run->memory_bytes = json_integer_value(json_object_get(root,
                                                           "memory_bytes"));
    run->cpu_milli = json_integer_value(json_object_get(root, "cpu_milli"));

    if (job->timeout_ms && job->timeout_ms < run->timeout_ms) {
        run->timeout_ms = job->timeout_ms;
    }

    if (ngx_http_skillbox_run_string(r, json_object_get(root, "image"), "",
                                     &run->image)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (job->module) {
        run->mode = "module";
        ngx_str_set(&run->lang, "python");
        run->target.data = (u_char *) job->module;
        run->target.len = strlen(job->module);

        return NGX_OK;
    }

    if (job->script) {
        return ngx_http_skillbox_resolve_script(r, run,
                                            json_object_get(root, "scripts"));
    }

    mode = json_string_value(json_object_get(root, "mode"));
    target = json_object_get(root, "entrypoint");
    lang = json_object_get(root, "lang");

    if (mode == NULL || strcmp(mode, "executable") != 0 || target == NULL) {
        return ngx_http_skillbox_error_text(r, NGX_HTTP_CONFLICT,
                                            sb_code_slug(SB_ENOTAVAIL),
                                            NGX_HTTP_SKILLBOX_NO_ENTRYPOINT,
                                     sizeof(NGX_HTTP_SKILLBOX_NO_ENTRYPOINT)
                                            - 1, NULL);
    }

    run->mode = "entrypoint";

    if (ngx_http_skillbox_run_string(r, target, NULL, &run->target) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_skillbox_run_string(r, lang, NULL, &run->lang);
}


static ngx_int_t
ngx_http_skillbox_resolve_script(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run, json_t *scripts)
{
    size_t       i;
    json_t      *script;
    const char  *path, *wanted;

    wanted = run->job.script;

    json_array_foreach(scripts, i, script) {
        path = json_string_value(json_object_get(script, "path"));

        if (path == NULL || strcmp(path, wanted) != 0) {
            continue;
        }

        run->mode = "script";
        run->target.data = (u_char *) wanted;
        run->target.len = strlen(wanted);

        return ngx_http_skillbox_run_string(r, json_object_get(script, "lang"),
                                            NULL, &run->lang);
    }

    return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                   "\"script\": the package has no script "
                                   "\"%.256s\".", wanted);
}


/* fallback NULL: the member must be there, or the record is damaged */

static ngx_int_t
ngx_http_skillbox_run_string(ngx_http_request_t *r, json_t *value,
    const char *fallback, ngx_str_t *out)
{
    const char  *s;

    s = json_string_value(value);

    if (s == NULL) {
        s = fallback;
    }

    if (s == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "a skill's record is damaged");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *out = ngx_http_skillbox_copy(r->pool, s, strlen(s));

    return out->data ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


ngx_int_t
ngx_http_skillbox_execute_run(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    ngx_int_t  rc;

    rc = ngx_http_skillbox_input_files(r, ctx, run);

    if (rc == NGX_AGAIN) {
        return NGX_OK;                          /* it will come here again */
    }

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_limits_begin(r, ctx);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_skillbox_hand_over(r, ctx, run);
    }

    return rc == NGX_OK ? rc : ngx_http_skillbox_run_failed(r, ctx, run, rc);
}


static ngx_int_t
ngx_http_skillbox_hand_over(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    ngx_uint_t                 i;
    ngx_http_skillbox_call_t  *call;

    const struct {
        const char  *name;
        ngx_str_t   *value;
    } params[] = {
        { SB_P_EXECUTION, &ctx->execution },
        { SB_P_SKILL, &ctx->skill },
        { SB_P_VERSION, &ctx->version },
        { SB_P_DIGEST, &run->digest },
        { SB_P_LANG, &run->lang },
        { SB_P_IMAGE, &run->image },
        { SB_P_TARGET, &run->target },
    };

    call = ngx_http_skillbox_call_create(r, ctx, run->async ? SB_OP_SUBMIT
                                                            : SB_OP_RUN);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        ngx_http_skillbox_call_param(call, params[i].name,
                                     (char *) params[i].value->data,
                                     params[i].value->len);
    }

    ngx_http_skillbox_call_param(call, SB_P_MODE, run->mode,
                                 strlen(run->mode));
    ngx_http_skillbox_call_number(call, SB_P_TIMEOUT_MS, run->timeout_ms);
    ngx_http_skillbox_call_number(call, SB_P_MEMORY, run->memory_bytes);
    ngx_http_skillbox_call_number(call, SB_P_CPU_MILLI, run->cpu_milli);
    ngx_http_skillbox_limits_params(ctx, call);

    if (ngx_http_skillbox_input_files_send(call, run) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (run->async) {
        ngx_http_skillbox_call_number(call, SB_P_CREATED, run->created_ms);

    } else if (ngx_http_skillbox_record_begin(r, ctx, run) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else if (call->limit) {
        call->limit += run->timeout_ms;
    }

    if (ngx_http_skillbox_call_start(call, ngx_http_skillbox_run_done)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_skillbox_run_done(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;
    ngx_http_skillbox_run_t  *run;

    ctx = ngx_http_skillbox_get_ctx(r);
    run = ctx->data;

    if (!run->async && call->rc == NGX_OK && call->status == NGX_HTTP_OK) {
        rc = ngx_http_skillbox_record_finish(r, ctx, run, call);

    } else if (run->async && call->rc == NGX_OK
               && call->status == NGX_HTTP_ACCEPTED)
    {
        rc = ngx_http_skillbox_async_accepted(r, ctx, run);

    } else if (!run->package_sent
               && ngx_http_skillbox_call_refused(call,
                                                 SB_SLUG_UNKNOWN_PACKAGE))
    {
        rc = ngx_http_skillbox_send_package(r, ctx, run);

    } else {

        if (run->async && (call->rc != NGX_OK || call->status == 0)) {

            /* it may have been accepted: its key stays with it */

            run->key_taken = 0;
        }

        rc = ngx_http_skillbox_call_error(r, call);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, ngx_http_skillbox_run_failed(r, ctx, run,
                                                                  rc));
    }
}


/* the record says what the client is told */

static ngx_int_t
ngx_http_skillbox_run_failed(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run, ngx_int_t rc)
{
    ngx_http_skillbox_error_t  *e;

    static const char  internal[] = "An internal error occurred.";

    ngx_http_skillbox_idempotency_release(ctx, run);

    e = &ctx->error;

    if (e->status == rc) {
        ngx_http_skillbox_record_end(ctx, run, "failed",
                                       (char *) e->message.data,
                                       e->message.len);

    } else {
        ngx_http_skillbox_record_end(ctx, run, "failed", internal,
                                       sizeof(internal) - 1);
    }

    return rc;
}


/* The helper lacks the package (a new helper, a cleaned cache): send it. */

static ngx_int_t
ngx_http_skillbox_send_package(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    char                       path[NGX_MAX_PATH];
    off_t                      size;
    sb_err_t                   err;
    sb_str_t                   type;
    ngx_fd_t                   fd;
    ngx_str_t                  name;
    sb_store_t                *store;
    ngx_http_skillbox_call_t  *call;

    call = ngx_http_skillbox_call_create(r, ctx, SB_OP_INTAKE);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    store = ngx_http_skillbox_store(&err);

    if (store == NULL
        || sb_store_package_path(store, (char *) run->digest.data, path,
                                 sizeof(path), &err) != SB_OK
        || sb_store_package_type(store, (char *) run->digest.data, &type, &err)
           != SB_OK)
    {
        /* the version is there, so its package must be */

        err.code = SB_EINTERNAL;
        return ngx_http_skillbox_error_sb(r, &err, "finding a package");
    }

    ngx_http_skillbox_call_param(call, SB_P_CONTENT_TYPE, type.data, type.len);

    name = ngx_http_skillbox_copy(r->pool, path, strlen(path));

    if (name.data == NULL
        || ngx_http_skillbox_open_package(r, &name, &fd, &size) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    run->package_sent = 1;

    if (ngx_http_skillbox_call_file(call, fd, &name, size) != NGX_OK
        || ngx_http_skillbox_call_start(call, ngx_http_skillbox_package_sent)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/* r's pool closes it */

static ngx_int_t
ngx_http_skillbox_open_package(ngx_http_request_t *r, ngx_str_t *name,
    ngx_fd_t *fd, off_t *size)
{
    ngx_file_info_t           fi;
    ngx_pool_cleanup_t       *cln;
    ngx_pool_cleanup_file_t  *clnf;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_pool_cleanup_file_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    *fd = ngx_open_file(name->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                        NGX_FILE_OPEN, 0);

    if (*fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    cln->handler = ngx_pool_cleanup_file;
    clnf = cln->data;
    clnf->fd = *fd;
    clnf->name = name->data;
    clnf->log = r->pool->log;

    if (ngx_fd_info(*fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      ngx_fd_info_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    *size = ngx_file_size(&fi);

    return NGX_OK;
}


static void
ngx_http_skillbox_package_sent(ngx_http_request_t *r,
    ngx_http_skillbox_call_t *call)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;
    ngx_http_skillbox_run_t  *run;

    static const char  refused[] = "The helper does not accept the stored "
                                   "package.";

    ctx = ngx_http_skillbox_get_ctx(r);
    run = ctx->data;

    if (call->rc == NGX_OK && call->status == NGX_HTTP_OK) {
        rc = ngx_http_skillbox_hand_over(r, ctx, run);

    } else if (call->rc == NGX_OK
               && call->status >= NGX_HTTP_BAD_REQUEST
               && call->status < NGX_HTTP_INTERNAL_SERVER_ERROR)
    {
        /* it did once, at the upload: not this client's fault */

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper refused the stored package \"%V\", status %ui",
                      &run->digest, call->status);

        rc = ngx_http_skillbox_error_text(r, NGX_HTTP_CONFLICT,
                                          sb_code_slug(SB_ENOTAVAIL),
                                          refused, sizeof(refused) - 1, NULL);

    } else {
        rc = ngx_http_skillbox_call_error(r, call);
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, ngx_http_skillbox_run_failed(r, ctx, run,
                                                                  rc));
    }
}


static void
ngx_http_skillbox_run_abandon(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_run_t  *run;

    static const char  gone[] = "the client closed the connection";

    run = ctx->data;

    ngx_http_skillbox_record_end(ctx, run, "cancelled", gone,
                                   sizeof(gone) - 1);

    ngx_http_skillbox_job_free(&run->job);
}
