
/*
 * The files that a run is given by id: found in the store, opened, and sent to
 * the helper behind job and input.  Their contents go from descriptor to socket
 * by sendfile(); from then on the run has them, whatever becomes of the files.
 *
 * They lie where "files" do, in the work folder of a script or in
 * /sandbox/input, under the path that was asked for or their own name.
 */


#include "ngx_http_skillbox_async.h"


static ngx_int_t ngx_http_skillbox_input_file_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_input_file_t *file);
static ngx_int_t ngx_http_skillbox_input_file_artifact(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_input_file_t *file, sb_file_t *found);
static void ngx_http_skillbox_input_file_ready(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a,
    ngx_int_t rc);
static ngx_int_t ngx_http_skillbox_input_file_open(ngx_http_request_t *r,
    ngx_http_skillbox_input_file_t *file, const char *path, ngx_uint_t i);
static ngx_int_t ngx_http_skillbox_input_file_missing(ngx_http_request_t *r,
    ngx_http_skillbox_input_file_t *file, ngx_uint_t i);
static ngx_int_t ngx_http_skillbox_input_files_clash(ngx_http_request_t *r,
    ngx_http_skillbox_job_t *job);
static ngx_uint_t ngx_http_skillbox_paths_clash(const char *a, const char *b);
static ngx_int_t ngx_http_skillbox_input_files_render(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run);


ngx_int_t
ngx_http_skillbox_input_files(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run)
{
    ngx_int_t                        rc;
    ngx_http_skillbox_job_t         *job;
    ngx_http_skillbox_input_file_t  *file;

    job = &run->job;

    if (run->input_rc != NGX_OK) {
        return run->input_rc;
    }

    for ( /* void */ ; run->input_at < job->ninputs; run->input_at++) {
        file = &job->inputs[run->input_at];

        rc = ngx_http_skillbox_input_file_find(r, ctx, run, file);
        if (rc != NGX_OK) {
            return rc;
        }

        run->inputs_size += file->size;
    }

    if (job->ninputs == 0) {
        return NGX_OK;
    }

    rc = ngx_http_skillbox_input_files_clash(r, job);

    return rc == NGX_OK ? ngx_http_skillbox_input_files_render(r, run) : rc;
}


static ngx_int_t
ngx_http_skillbox_input_file_find(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_input_file_t *file)
{
    char         path[NGX_MAX_PATH];
    sb_err_t     err;
    sb_code_t    code;
    sb_file_t    found;
    sb_store_t  *store;

    store = ngx_http_skillbox_store(&err);
    if (store == NULL) {
        return ngx_http_skillbox_error_sb(r, &err, "opening the store");
    }

    code = sb_store_file_get(store, ctx->key.tenant, file->id, &found, &err);

    if (code == SB_ENOTFOUND) {
        return ngx_http_skillbox_input_file_missing(r, file, run->input_at);
    }

    if (code != SB_OK) {
        return ngx_http_skillbox_error_sb(r, &err, "reading a file's record");
    }

    if (file->path[0] == '\0') {
        /* a name is no longer than a path may be */
        ngx_memcpy(file->path, found.name.data,
                   ngx_min(found.name.len, sizeof(file->path) - 1));
    }

    if (found.size > SB_INPUT_FILES_BYTES_MAX - run->inputs_size) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "\"input_files\" may have %lld bytes "
                                       "in all.", (long long)
                                       SB_INPUT_FILES_BYTES_MAX);
    }

    if (found.execution[0]) {
        return ngx_http_skillbox_input_file_artifact(r, ctx, run, file,
                                                     &found);
    }

    if (sb_store_package_path(store, found.digest.data, path, sizeof(path),
                              &err)
        != SB_OK)
    {
        return ngx_http_skillbox_error_sb(r, &err, "finding a file");
    }

    return ngx_http_skillbox_input_file_open(r, file, path, run->input_at);
}


/* NGX_AGAIN: the run goes on when the helper has taken it out of its archive */

static ngx_int_t
ngx_http_skillbox_input_file_artifact(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_run_t *run,
    ngx_http_skillbox_input_file_t *file, sb_file_t *found)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_artifact_t  *a;

    a = ngx_http_skillbox_artifact_create(r, ctx->key.tenant, found);
    if (a == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    a->ready = ngx_http_skillbox_input_file_ready;

    rc = ngx_http_skillbox_artifact_take(r, ctx, a);

    return rc == NGX_OK
           ? ngx_http_skillbox_input_file_open(r, file, (char *) a->file.data,
                                               run->input_at)
           : rc;
}


static void
ngx_http_skillbox_input_file_ready(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_artifact_t *a,
    ngx_int_t rc)
{
    ngx_http_skillbox_run_t  *run;

    run = ctx->data;
    run->input_rc = rc;

    rc = ngx_http_skillbox_execute_run(r, ctx, run);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* once: an opened one is sent again when the helper wants the package first */

static ngx_int_t
ngx_http_skillbox_input_file_open(ngx_http_request_t *r,
    ngx_http_skillbox_input_file_t *file, const char *path, ngx_uint_t i)
{
    ngx_err_t                 err;
    ngx_file_info_t           fi;
    ngx_pool_cleanup_t       *cln;
    ngx_pool_cleanup_file_t  *clnf;

    file->file = ngx_http_skillbox_copy(r->pool, path, ngx_strlen(path));
    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_pool_cleanup_file_t));

    if (file->file.data == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    file->fd = ngx_open_file(file->file.data,
                             NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                             NGX_FILE_OPEN, 0);

    if (file->fd == NGX_INVALID_FILE) {
        err = ngx_errno;

        if (err == NGX_ENOENT) {                /* deleted just now */
            return ngx_http_skillbox_input_file_missing(r, file, i);
        }

        ngx_log_error(NGX_LOG_CRIT, r->connection->log, err,
                      ngx_open_file_n " \"%V\" failed", &file->file);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_pool_cleanup_file;
    clnf = cln->data;
    clnf->fd = file->fd;
    clnf->name = file->file.data;
    clnf->log = r->pool->log;

    if (ngx_fd_info(file->fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      ngx_fd_info_n " \"%V\" failed", &file->file);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    file->size = ngx_file_size(&fi);

    return NGX_OK;
}


static ngx_int_t
ngx_http_skillbox_input_file_missing(ngx_http_request_t *r,
    ngx_http_skillbox_input_file_t *file, ngx_uint_t i)
{
    return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                   "\"input_files[%d]\": there is no file "
                                   "\"%s\".", (int) i, file->id);
}


/* among themselves, and with "files"; all of them are few */

static ngx_int_t
ngx_http_skillbox_input_files_clash(ngx_http_request_t *r,
    ngx_http_skillbox_job_t *job)
{
    size_t       at;
    ngx_uint_t   i, k;
    const char  *path, *name;

    for (i = 0; i < job->ninputs; i++) {
        path = job->inputs[i].path;

        for (k = 0; k < i; k++) {
            if (ngx_http_skillbox_paths_clash(path, job->inputs[k].path)) {
                return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                           "\"input_files[%d]\" and \"input_files[%d]\" can't "
                           "both be there, as \"%.128s\" and \"%.128s\": give "
                           "one another \"path\".", (int) k, (int) i,
                           job->inputs[k].path, path);
            }
        }

        for (at = 0; at < job->names.len; at += strlen(name) + 1) {
            name = job->names.data + at;

            if (ngx_http_skillbox_paths_clash(path, name)) {
                return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                           "\"input_files[%d]\" can't be there as \"%.128s\", "
                           "\"files\" has \"%.128s\".", (int) i, path, name);
            }
        }
    }

    return NGX_OK;
}


/* the same, or one would have to be a folder for the other */

static ngx_uint_t
ngx_http_skillbox_paths_clash(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }

    return (*a == '\0' && (*b == '\0' || *b == '/'))
           || (*b == '\0' && *a == '/');
}


/* {"input_files":[{"path":...,"size":...},...] and the ids */

static ngx_int_t
ngx_http_skillbox_input_files_render(ngx_http_request_t *r,
    ngx_http_skillbox_run_t *run)
{
    sb_buf_t                         head, ids;
    ngx_int_t                        rc;
    ngx_uint_t                       i;
    ngx_http_skillbox_input_file_t  *file;

    sb_buf_init(&head, SB_INPUT_FILES_MAX * (6 * SB_PATH_MAX + 64));
    sb_buf_init(&ids, NGX_HTTP_SKILLBOX_INPUTS_LEN);

    sb_buf_str(&head, "{\"input_files\":[");

    for (i = 0; i < run->job.ninputs; i++) {
        file = &run->job.inputs[i];

        sb_buf_str(&head, i ? ",{" : "{");
        sb_json_key_str(&head, "path", file->path);
        sb_json_key_int(&head, "size", file->size);
        sb_buf_char(&head, '}');

        sb_buf_str(&ids, i ? "," : "");
        sb_buf_str(&ids, file->id);
    }

    sb_buf_char(&head, ']');

    rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    if (sb_buf_ok(&head) && sb_buf_ok(&ids)) {
        run->job_head = ngx_http_skillbox_copy(r->pool, head.data, head.len);
        run->inputs = ngx_http_skillbox_copy(r->pool, ids.data, ids.len);

        if (run->job_head.data && run->inputs.data) {
            rc = NGX_OK;
        }
    }

    sb_buf_free(&head);
    sb_buf_free(&ids);

    return rc;
}


ngx_int_t
ngx_http_skillbox_input_files_send(ngx_http_skillbox_call_t *call,
    ngx_http_skillbox_run_t *run)
{
    size_t                           job_len, skip;
    ngx_uint_t                       i;
    ngx_http_skillbox_job_t         *job;
    ngx_http_skillbox_input_file_t  *file;

    job = &run->job;
    job_len = job->job_len;
    skip = 0;

    if (run->job_head.len) {

        /* the job without its brace follows; with a comma when it has more */

        skip = 1;
        job_len += run->job_head.len - 1;

        if (ngx_http_skillbox_call_memory(call, (char *) run->job_head.data,
                                          run->job_head.len)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (job->job_len > sizeof("{}") - 1) {
            job_len++;

            if (ngx_http_skillbox_call_memory(call, ",", 1) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    ngx_http_skillbox_call_number(call, SB_P_JOB_LENGTH, job_len);

    if (ngx_http_skillbox_call_memory(call, job->data.data + skip,
                                      job->data.len - skip)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (job->ninputs == 0) {
        return NGX_OK;
    }

    ngx_http_skillbox_call_number(call, SB_P_FILES_LENGTH, run->inputs_size);

    if (run->async) {
        ngx_http_skillbox_call_param(call, SB_P_INPUT_FILES,
                                     (char *) run->inputs.data,
                                     run->inputs.len);
    }

    for (i = 0; i < job->ninputs; i++) {
        file = &job->inputs[i];

        if (ngx_http_skillbox_call_file(call, file->fd, &file->file,
                                        file->size)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
