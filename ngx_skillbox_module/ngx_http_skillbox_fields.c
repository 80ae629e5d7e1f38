
/*
 * POST /v1/skills/from-fields: a package made of a name, a description and one
 * script, for clients that have no folder.  The body is spooled to a file; a
 * thread reads it, writes SKILL.md and the script into a little zip beside it,
 * and from there on it is an upload like any other: the intake judges it.
 *
 *     from_fields -> body -> (thread: read, check, make the zip) -> made
 *         -> _upload.c: upload_send
 */


#include "ngx_http_skillbox.h"

#include "../libskillbox/zip_make.h"


#define NGX_HTTP_SKILLBOX_ZIP  ".zip"


typedef struct {
    ngx_http_skillbox_work_t      work;
    ngx_fd_t                      in;           /* the body, a copy */
    size_t                        size;
    char                         *path;         /* of the zip */
    ngx_fd_t                      out;
    off_t                         out_size;
    size_t                        max;          /* bytes of a package */
    sb_err_t                      err;
} ngx_http_skillbox_fields_t;


typedef struct {
    const char                   *name;
    const char                   *description;
    const char                   *code;
    const char                   *lang;
    const char                   *instructions;
    const char                   *version;
} ngx_http_skillbox_values_t;


static void ngx_http_skillbox_fields_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_fields_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static void ngx_http_skillbox_fields_run(ngx_http_skillbox_work_t *work);
static sb_code_t ngx_http_skillbox_fields_read(ngx_http_skillbox_fields_t *f,
    sb_buf_t *text, sb_err_t *err);
static sb_code_t ngx_http_skillbox_fields_check(json_t *root,
    ngx_http_skillbox_values_t *v, sb_err_t *err);
static sb_code_t ngx_http_skillbox_fields_value(json_t *root,
    const char *name, ngx_uint_t required, const char *fallback,
    const char **value, sb_err_t *err);
static sb_code_t ngx_http_skillbox_fields_zip(ngx_http_skillbox_values_t *v,
    sb_buf_t *zip, sb_err_t *err);
static sb_code_t ngx_http_skillbox_fields_write(ngx_http_skillbox_fields_t *f,
    sb_buf_t *zip, sb_err_t *err);
static void ngx_http_skillbox_fields_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work);
static ngx_int_t ngx_http_skillbox_fields_made(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_fields_t *f);
static void ngx_http_skillbox_fields_free(ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_fields_abandon(ngx_http_skillbox_ctx_t *ctx);


ngx_int_t
ngx_http_skillbox_from_fields(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_skillbox_upload_t    *upload;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    upload = ngx_http_skillbox_upload_create(r, ctx);
    if (upload == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* what runs are given, and no more than a package may have */

    upload->limit = ngx_min(slcf->max_input, slcf->max_package);

    if (r->headers_in.content_length_n > upload->limit) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "The body may have %lld bytes.",
                                       (long long) upload->limit);
    }

    r->request_body_in_file_only = 1;
    r->request_body_in_clean_file = 1;
    r->request_body_file_log_level = 0;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_fields_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_skillbox_fields_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_fields_post(r, ctx);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_skillbox_fields_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    off_t                        size;
    ngx_chain_t                 *cl;
    ngx_temp_file_t             *tf;
    ngx_http_skillbox_fields_t  *f;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;
    tf = r->request_body ? r->request_body->temp_file : NULL;
    size = 0;

    if (tf) {
        for (cl = r->request_body->bufs; cl; cl = cl->next) {
            size += ngx_buf_size(cl->buf);
        }
    }

    if (size == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "The body is empty.");
    }

    if (size > upload->limit) {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "The body may have %lld bytes.",
                                       (long long) upload->limit);
    }

    f = calloc(1, sizeof(ngx_http_skillbox_fields_t));
    if (f == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    f->work.run = ngx_http_skillbox_fields_run;
    f->work.done = ngx_http_skillbox_fields_done;
    f->work.free = ngx_http_skillbox_fields_free;
    f->out = NGX_INVALID_FILE;
    f->size = size;
    f->max = upload->limit + 64 * SB_KIB;

    /* a copy: the request may go while the thread reads */

    f->in = fcntl(tf->file.fd, F_DUPFD_CLOEXEC, 0);
    f->path = malloc(tf->file.name.len + sizeof(NGX_HTTP_SKILLBOX_ZIP));

    if (f->path) {
        (void) ngx_sprintf((u_char *) f->path, "%V" NGX_HTTP_SKILLBOX_ZIP "%Z",
                           &tf->file.name);
    }

    if (f->in == NGX_INVALID_FILE || f->path == NULL
        || ngx_http_skillbox_work_post(&f->work, r, ctx) != NGX_OK)
    {
        f->work.free(&f->work);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/* thread */

static void
ngx_http_skillbox_fields_run(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_fields_t *f = (ngx_http_skillbox_fields_t *) work;

    json_t                      *root;
    sb_buf_t                     text, zip;
    json_error_t                 error;
    ngx_http_skillbox_values_t   v;

    sb_buf_init(&text, f->size);
    sb_buf_init(&zip, f->max);
    root = NULL;

    f->err.code = ngx_http_skillbox_fields_read(f, &text, &f->err);

    if (f->err.code == SB_OK) {
        root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);

        if (root == NULL) {
            sb_err_set(&f->err, SB_EINVAL, "the body is no JSON: %s (line %d)",
                       error.text, error.line);

        } else {
            f->err.code = ngx_http_skillbox_fields_check(root, &v, &f->err);

            if (f->err.code == SB_OK) {
                f->err.code = ngx_http_skillbox_fields_zip(&v, &zip, &f->err);
            }
        }
    }

    if (f->err.code == SB_OK) {
        f->err.code = ngx_http_skillbox_fields_write(f, &zip, &f->err);
    }

    json_decref(root);
    sb_buf_free(&text);
    sb_buf_free(&zip);
}


static sb_code_t
ngx_http_skillbox_fields_read(ngx_http_skillbox_fields_t *f, sb_buf_t *text,
    sb_err_t *err)
{
    char     buf[16384];
    ssize_t  n;

    while (text->len < f->size) {
        n = pread(f->in, buf, ngx_min(f->size - text->len, sizeof(buf)),
                  text->len);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            return sb_err_errno(err, n ? errno : EIO,
                                "reading the request body");
        }

        sb_buf_add(text, buf, n);

        if (!sb_buf_ok(text)) {
            return sb_err_set(err, SB_ESYSTEM, "out of memory");
        }
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_fields_check(json_t *root, ngx_http_skillbox_values_t *v,
    sb_err_t *err)
{
    sb_code_t    rc;
    const char  *lang;

    if (!json_is_object(root)) {
        return sb_err_set(err, SB_EINVAL, "the body must be a JSON object");
    }

    rc = ngx_http_skillbox_fields_value(root, "name", 1, NULL, &v->name, err);

    if (rc == SB_OK) {
        rc = ngx_http_skillbox_fields_value(root, "description", 1, NULL,
                                            &v->description, err);
    }

    if (rc == SB_OK) {
        rc = ngx_http_skillbox_fields_value(root, "code", 1, NULL, &v->code,
                                            err);
    }

    if (rc == SB_OK) {
        rc = ngx_http_skillbox_fields_value(root, "lang", 0, "python", &lang,
                                            err);
    }

    if (rc == SB_OK) {
        rc = ngx_http_skillbox_fields_value(root, "instructions", 0, "",
                                            &v->instructions, err);
    }

    if (rc == SB_OK) {
        rc = ngx_http_skillbox_fields_value(root, "version", 0, "1.0.0",
                                            &v->version, err);
    }

    if (rc != SB_OK) {
        return rc;
    }

    v->lang = sb_lang_canonical(lang, strlen(lang));

    if (v->lang == NULL) {
        return sb_err_set(err, SB_EINVAL, "\"lang\" must be \"python\", "
                          "\"node\" or \"bash\"");
    }

    if (!sb_name_valid(v->name, strlen(v->name))) {
        return sb_err_set(err, SB_EINVAL, "\"name\" must be 1 to %d of "
                          "A-Z a-z 0-9 . _ -, the first a letter or digit",
                          SB_NAME_MAX);
    }

    if (!sb_semver_valid(v->version, strlen(v->version))) {
        return sb_err_set(err, SB_EINVAL, "\"version\" must be a semantic "
                          "version, as 1.0.0");
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_fields_value(json_t *root, const char *name,
    ngx_uint_t required, const char *fallback, const char **value,
    sb_err_t *err)
{
    json_t  *member;

    member = json_object_get(root, name);
    *value = json_string_value(member);

    if (*value == NULL) {

        if (!required && (member == NULL || json_is_null(member))) {
            *value = fallback;
            return SB_OK;
        }

        return sb_err_set(err, SB_EINVAL, member ? "\"%s\" must be a string"
                                                 : "\"%s\" is missing", name);
    }

    if (**value == '\0') {

        if (!required) {
            *value = fallback;
            return SB_OK;
        }

        return sb_err_set(err, SB_EINVAL, "\"%s\" is empty", name);
    }

    return SB_OK;
}


/* JSON's strings are YAML's double-quoted ones, so nothing can leave its key */

static sb_code_t
ngx_http_skillbox_fields_zip(ngx_http_skillbox_values_t *v, sb_buf_t *zip,
    sb_err_t *err)
{
    sb_buf_t        md;
    const char     *script;
    sb_zip_file_t   files[2];

    script = strcmp(v->lang, "node") == 0 ? "main.js"
             : strcmp(v->lang, "bash") == 0 ? "main.sh" : "main.py";

    sb_buf_init(&md, zip->max);
    sb_buf_str(&md, "---\nname: ");
    sb_json_cstr(&md, v->name);
    sb_buf_str(&md, "\ndescription: ");
    sb_json_cstr(&md, v->description);
    sb_buf_str(&md, "\nversion: ");
    sb_json_cstr(&md, v->version);
    sb_buf_fmt(&md, "\nlang: %s\nentrypoint: %s\n---\n\n", v->lang, script);
    sb_buf_str(&md, v->instructions[0] ? v->instructions : v->description);
    sb_buf_char(&md, '\n');

    files[0].name = "SKILL.md";
    files[0].data = md.data;
    files[0].len = md.len;
    files[0].executable = false;

    files[1].name = script;
    files[1].data = v->code;
    files[1].len = strlen(v->code);
    files[1].executable = false;

    if (sb_buf_ok(&md)) {
        sb_zip_make(files, 2, zip);
    }

    if (!sb_buf_ok(&md) || !sb_buf_ok(zip)) {
        sb_err_set(err, SB_ETOOLARGE, "the package would be too large");
        sb_buf_free(&md);
        return SB_ETOOLARGE;
    }

    sb_buf_free(&md);

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_fields_write(ngx_http_skillbox_fields_t *f, sb_buf_t *zip,
    sb_err_t *err)
{
    size_t   done;
    ssize_t  n;

    f->out = open(f->path, O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600);

    if (f->out == NGX_INVALID_FILE) {
        return sb_err_errno(err, errno, "creating \"%s\"", f->path);
    }

    for (done = 0; done < zip->len; done += n) {
        n = write(f->out, zip->data + done, zip->len - done);

        if (n == -1 && errno == EINTR) {
            n = 0;
            continue;
        }

        if (n <= 0) {
            return sb_err_errno(err, n ? errno : ENOSPC, "writing \"%s\"",
                                f->path);
        }
    }

    f->out_size = zip->len;

    return SB_OK;
}


static void
ngx_http_skillbox_fields_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_fields_t *f = (ngx_http_skillbox_fields_t *) work;

    ngx_int_t  rc;

    if (f->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &f->err, "making a package");

    } else {
        rc = ngx_http_skillbox_fields_made(r, ctx, f);
    }

    work->free(work);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* the zip becomes the request's: its pool closes it, abandon() removes it */

static ngx_int_t
ngx_http_skillbox_fields_made(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_fields_t *f)
{
    ngx_pool_cleanup_t          *cln;
    ngx_pool_cleanup_file_t     *clnf;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;

    upload->path = ngx_http_skillbox_copy(r->pool, f->path, strlen(f->path));
    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_pool_cleanup_file_t));

    if (upload->path.data == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    upload->fd = f->out;
    upload->size = f->out_size;
    ngx_str_set(&upload->type, "application/zip");

    f->out = NGX_INVALID_FILE;

    clnf = cln->data;
    clnf->fd = upload->fd;
    clnf->name = upload->path.data;
    clnf->log = r->pool->log;
    cln->handler = ngx_pool_cleanup_file;

    ctx->abandon = ngx_http_skillbox_fields_abandon;

    return ngx_http_skillbox_upload_send(r, ctx, upload);
}


/* what was not handed on is removed */

static void
ngx_http_skillbox_fields_free(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_fields_t *f = (ngx_http_skillbox_fields_t *) work;

    if (f->in != NGX_INVALID_FILE) {
        (void) ngx_close_file(f->in);
    }

    if (f->out != NGX_INVALID_FILE) {
        (void) ngx_close_file(f->out);
        (void) ngx_delete_file(f->path);
    }

    free(f->path);
    free(f);
}


static void
ngx_http_skillbox_fields_abandon(ngx_http_skillbox_ctx_t *ctx)
{
    ngx_http_skillbox_upload_t *upload = ctx->data;

    ngx_http_skillbox_delete_file(&upload->path);
}
