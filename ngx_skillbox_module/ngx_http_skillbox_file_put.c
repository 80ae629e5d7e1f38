
/*
 * POST /v1/files and PUT /v1/files/{id}: a file, or the next version of one.
 * nginx spools the body to a file.  A thread finds the part named "file" in it
 * (or takes the whole body, when it is no multipart/form-data), copies it into a
 * file of its own, hashes and syncs that; then the store takes it over.  Nothing
 * of the content is looked at, and nothing here waits for a disk.
 *
 *     file_put -> body -> (thread: frame, copy, hash, sync) -> kept
 *         -> (store thread: commit) -> stored
 */


#include "ngx_http_skillbox.h"

#include <sys/mman.h>

#include <openssl/evp.h>

#include "../libskillbox/multipart.h"


#define NGX_HTTP_SKILLBOX_PART        ".part"
#define NGX_HTTP_SKILLBOX_PART_EXTRA  (64 * SB_KIB)
#define NGX_HTTP_SKILLBOX_ANY_TYPE    "application/octet-stream"


typedef struct {
    ngx_http_skillbox_op_t        op;
    sb_file_put_t                 put;
    sb_buf_t                      json;
    char                          tenant[SB_TENANT_MAX + 1];
    char                          of[SB_UUID_LEN + 1];   /* "": new */
    char                          name[SB_FILE_NAME_MAX + 1];
    char                          type[SB_MULTIPART_TYPE_MAX + 1];
    char                          digest[SB_SHA256_HEX + 1];
    char                         *path;      /* of the copy */
} ngx_http_skillbox_file_put_t;


typedef struct {
    ngx_http_skillbox_work_t      work;
    ngx_fd_t                      in;        /* the body, a descriptor's copy */
    size_t                        size;
    off_t                         max;
    char                         *media;     /* the body's media type */
    ngx_http_skillbox_file_put_t *file;
    sb_err_t                      err;
} ngx_http_skillbox_keep_t;


static void ngx_http_skillbox_file_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_skillbox_file_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx);
static ngx_int_t ngx_http_skillbox_file_prepare(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_keep_t *keep);
static void ngx_http_skillbox_file_run(ngx_http_skillbox_work_t *work);
static sb_code_t ngx_http_skillbox_file_frame(ngx_http_skillbox_keep_t *keep,
    const unsigned char *body, sb_multipart_form_t *form, sb_err_t *err);
static sb_code_t ngx_http_skillbox_file_describe(
    ngx_http_skillbox_file_put_t *file, sb_multipart_form_t *form,
    sb_err_t *err);
static sb_code_t ngx_http_skillbox_file_copy(
    ngx_http_skillbox_file_put_t *file, const unsigned char *data, size_t len,
    sb_err_t *err);
static sb_code_t ngx_http_skillbox_file_write(ngx_fd_t fd, EVP_MD_CTX *md,
    const unsigned char *data, size_t len, sb_err_t *err);
static void ngx_http_skillbox_file_kept(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_keep_free(ngx_http_skillbox_work_t *work);
static sb_code_t ngx_http_skillbox_file_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_file_stored(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_file_free(ngx_http_skillbox_op_t *op);


ngx_int_t
ngx_http_skillbox_file_put(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                      rc;
    unsigned char                  uuid[16];
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (r->method == NGX_HTTP_PUT
        && !sb_uuid_parse((char *) ctx->param[0].data, ctx->param[0].len,
                          uuid))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such file.");
    }

    if (r->headers_in.content_length_n
        > slcf->max_file + NGX_HTTP_SKILLBOX_PART_EXTRA)
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "A file may have %lld bytes.",
                                       (long long) slcf->max_file);
    }

    rc = ngx_http_skillbox_limits_room(r, ctx,
                                       ngx_max(r->headers_in.content_length_n
                                         - NGX_HTTP_SKILLBOX_PART_EXTRA, 0));
    if (rc != NGX_OK) {
        return rc;
    }

    r->request_body_in_file_only = 1;
    r->request_body_in_clean_file = 1;
    r->request_body_file_log_level = 0;

    rc = ngx_http_read_client_request_body(r, ngx_http_skillbox_file_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_skillbox_file_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_skillbox_ctx_t  *ctx;

    ctx = ngx_http_skillbox_get_ctx(r);

    rc = ngx_http_skillbox_file_post(r, ctx);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_skillbox_file_post(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_http_skillbox_keep_t  *keep;

    keep = calloc(1, sizeof(ngx_http_skillbox_keep_t));
    if (keep == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    keep->in = NGX_INVALID_FILE;
    keep->work.run = ngx_http_skillbox_file_run;
    keep->work.done = ngx_http_skillbox_file_kept;
    keep->work.free = ngx_http_skillbox_keep_free;

    keep->file = calloc(1, sizeof(ngx_http_skillbox_file_put_t));

    rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    if (keep->file) {
        keep->file->op.apply = ngx_http_skillbox_file_apply;
        keep->file->op.done = ngx_http_skillbox_file_stored;
        keep->file->op.free = ngx_http_skillbox_file_free;
        sb_buf_init(&keep->file->json, SB_MIB);

        rc = ngx_http_skillbox_file_prepare(r, ctx, keep);
    }

    if (rc == NGX_OK
        && ngx_http_skillbox_work_post(&keep->work, r, ctx) == NGX_OK)
    {
        return NGX_OK;
    }

    keep->work.free(&keep->work);

    return rc == NGX_OK ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


/* all that the thread may not ask the request for */

static ngx_int_t
ngx_http_skillbox_file_prepare(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_keep_t *keep)
{
    ngx_str_t                      name, *media;
    ngx_chain_t                   *cl;
    unsigned char                  uuid[16];
    ngx_temp_file_t               *tf;
    ngx_http_skillbox_file_put_t  *file;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    file = keep->file;
    keep->max = slcf->max_file;

    tf = r->request_body ? r->request_body->temp_file : NULL;
    media = r->headers_in.content_type ? &r->headers_in.content_type->value
                                       : NULL;

    if (tf == NULL) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "The body is empty.");
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        keep->size += ngx_buf_size(cl->buf);
    }

    if (r->method == NGX_HTTP_PUT) {
        (void) sb_uuid_parse((char *) ctx->param[0].data, ctx->param[0].len,
                             uuid);
        sb_uuid_format(uuid, file->of);
    }

    if (ngx_http_skillbox_arg(r, "name", &name) == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (name.len && !sb_file_name_valid((char *) name.data, name.len)) {
        return ngx_http_skillbox_error(r, NGX_HTTP_BAD_REQUEST,
                                       "\"name\" is no name of a file.");
    }

    ngx_memcpy(file->name, name.data ? name.data : (u_char *) "", name.len);
    ngx_memcpy(file->tenant, ctx->key.tenant, sizeof(file->tenant));

    keep->in = fcntl(tf->file.fd, F_DUPFD_CLOEXEC, 0);
    keep->media = media ? strndup((char *) media->data, media->len)
                        : strdup("");
    file->path = malloc(tf->file.name.len + sizeof(NGX_HTTP_SKILLBOX_PART));

    if (keep->in == NGX_INVALID_FILE || keep->media == NULL
        || file->path == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    (void) ngx_sprintf((u_char *) file->path, "%V" NGX_HTTP_SKILLBOX_PART "%Z",
                       &tf->file.name);

    return NGX_OK;
}


/* thread */

static void
ngx_http_skillbox_file_run(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_keep_t *keep = (ngx_http_skillbox_keep_t *) work;

    void                 *map;
    sb_multipart_form_t   form;

    map = NULL;

    if (keep->size) {
        map = mmap(NULL, keep->size, PROT_READ, MAP_PRIVATE, keep->in, 0);

        if (map == MAP_FAILED) {
            sb_err_errno(&keep->err, errno, "reading the request body");
            return;
        }
    }

    keep->err.code = ngx_http_skillbox_file_frame(keep, map, &form,
                                                  &keep->err);

    if (keep->err.code == SB_OK) {
        keep->err.code = ngx_http_skillbox_file_describe(keep->file, &form,
                                                         &keep->err);
    }

    if (keep->err.code == SB_OK) {
        keep->err.code = ngx_http_skillbox_file_copy(keep->file, form.data,
                                                     form.len, &keep->err);
    }

    if (map) {
        (void) munmap(map, keep->size);
    }
}


static sb_code_t
ngx_http_skillbox_file_frame(ngx_http_skillbox_keep_t *keep,
    const unsigned char *body, sb_multipart_form_t *form, sb_err_t *err)
{
    if (body && sb_multipart_is(keep->media)) {
        if (sb_multipart_form(keep->media, body, keep->size, form, err)
            != SB_OK)
        {
            return err->code;
        }

    } else {
        ngx_memzero(form, sizeof(sb_multipart_form_t));

        form->data = body;
        form->len = keep->size;

        if (strlen(keep->media) <= SB_MULTIPART_TYPE_MAX) {
            strcpy(form->type, keep->media);
        }
    }

    if ((off_t) form->len > keep->max) {
        return sb_err_set(err, SB_ETOOLARGE, "a file may have %lld bytes",
                          (long long) keep->max);
    }

    return SB_OK;
}


/*
 * The name: the argument's, the field's, the last part of what the client calls
 * the file, and for a new version else the former one's.
 */

static sb_code_t
ngx_http_skillbox_file_describe(ngx_http_skillbox_file_put_t *file,
    sb_multipart_form_t *form, sb_err_t *err)
{
    size_t       i;
    const char  *name, *p;

    name = file->name;

    if (*name == '\0' && form->has_name) {
        name = form->name;

        if (!sb_file_name_valid(name, strlen(name))) {
            return sb_err_set(err, SB_EINVAL, "\"name\" is no name of a file");
        }
    }

    if (*name == '\0' && file->of[0] == '\0') {
        name = form->filename;

        for (p = name; *p; p++) {
            if (*p == '/' || *p == '\\') {
                name = p + 1;
            }
        }

        if (!sb_file_name_valid(name, strlen(name))) {
            return sb_err_set(err, SB_EINVAL, "\"name\" is missing, and the "
                              "part's filename is none");
        }
    }

    memmove(file->name, name, strlen(name) + 1);

    strcpy(file->type, form->type[0] ? form->type
                                     : NGX_HTTP_SKILLBOX_ANY_TYPE);

    for (i = 0; file->type[i]; i++) {
        if (file->type[i] < 0x20 || file->type[i] > 0x7e) {
            return sb_err_set(err, SB_EINVAL, "the file's Content-Type is not "
                              "valid");
        }
    }

    return SB_OK;
}


static sb_code_t
ngx_http_skillbox_file_copy(ngx_http_skillbox_file_put_t *file,
    const unsigned char *data, size_t len, sb_err_t *err)
{
    ngx_fd_t        fd;
    sb_code_t       rc;
    EVP_MD_CTX     *md;
    unsigned char   hash[SB_SHA256_LEN];

    fd = open(file->path, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);

    if (fd == NGX_INVALID_FILE) {
        rc = sb_err_errno(err, errno, "creating \"%s\"", file->path);
        free(file->path);
        file->path = NULL;
        return rc;
    }

    md = EVP_MD_CTX_new();

    if (md == NULL
        || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1
        || EVP_DigestUpdate(md, SB_FILE_DIGEST_MAGIC,
                            sizeof(SB_FILE_DIGEST_MAGIC) - 1) != 1)
    {
        rc = sb_err_set(err, SB_ESYSTEM, "SHA-256 is not available");

    } else {
        rc = ngx_http_skillbox_file_write(fd, md, data, len, err);
    }

    if (rc == SB_OK && EVP_DigestFinal_ex(md, hash, NULL) != 1) {
        rc = sb_err_set(err, SB_ESYSTEM, "SHA-256 failed");
    }

    if (rc == SB_OK && fsync(fd) == -1) {
        rc = sb_err_errno(err, errno, "syncing \"%s\"", file->path);
    }

    if (close(fd) == -1 && rc == SB_OK) {
        rc = sb_err_errno(err, errno, "writing \"%s\"", file->path);
    }

    EVP_MD_CTX_free(md);

    if (rc == SB_OK) {
        (void) ngx_hex_dump((u_char *) file->digest, hash, SB_SHA256_LEN);
        file->put.size = len;
    }

    return rc;
}


static sb_code_t
ngx_http_skillbox_file_write(ngx_fd_t fd, EVP_MD_CTX *md,
    const unsigned char *data, size_t len, sb_err_t *err)
{
    size_t   done, chunk;
    ssize_t  n;

    for (done = 0; done < len; done += n) {
        chunk = ngx_min(len - done, (size_t) SB_MIB);
        n = write(fd, data + done, chunk);

        if (n == -1 && errno == EINTR) {
            n = 0;
            continue;
        }

        if (n <= 0) {
            return sb_err_errno(err, n ? errno : ENOSPC, "writing a file");
        }

        if (EVP_DigestUpdate(md, data + done, n) != 1) {
            return sb_err_set(err, SB_ESYSTEM, "SHA-256 failed");
        }
    }

    return SB_OK;
}


static void
ngx_http_skillbox_file_kept(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_keep_t *keep = (ngx_http_skillbox_keep_t *) work;

    ngx_int_t                      rc;
    ngx_http_skillbox_file_put_t  *file;

    if (keep->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &keep->err, "keeping a file");
        work->free(work);
        ngx_http_finalize_request(r, rc);
        return;
    }

    file = keep->file;
    keep->file = NULL;
    work->free(work);

    file->put.tenant = file->tenant;
    file->put.of = file->of[0] ? file->of : NULL;
    file->put.name = file->name[0] ? file->name : NULL;
    file->put.content_type = file->type;
    file->put.digest = file->digest;
    file->put.tmp = file->path;

    if (ngx_http_skillbox_store_post(&file->op, r, ctx) != NGX_OK) {
        file->op.free(&file->op);
        rc = ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                     "The store takes no writes now.");
        ngx_http_finalize_request(r, rc);
    }
}


static void
ngx_http_skillbox_keep_free(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_keep_t *keep = (ngx_http_skillbox_keep_t *) work;

    if (keep->in != NGX_INVALID_FILE) {
        (void) ngx_close_file(keep->in);
    }

    if (keep->file) {
        ngx_http_skillbox_file_free(&keep->file->op);
    }

    free(keep->media);
    free(keep);
}


/* thread */

static sb_code_t
ngx_http_skillbox_file_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_file_put_t *file = (ngx_http_skillbox_file_put_t *) op;

    return sb_batch_file_put(batch, &file->put, &file->json, err);
}


static void
ngx_http_skillbox_file_stored(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_file_put_t *file = (ngx_http_skillbox_file_put_t *) op;

    ngx_int_t  rc;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "storing a file");

    } else {
        ctx->object = ngx_http_skillbox_copy(r->pool, file->put.id,
                                             SB_UUID_LEN);
        rc = ngx_http_skillbox_send_json(r, r->method == NGX_HTTP_PUT
                                            ? NGX_HTTP_OK : NGX_HTTP_CREATED,
                                         &file->json);
    }

    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_file_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_file_put_t *file = (ngx_http_skillbox_file_put_t *) op;

    ngx_str_t  path;

    if (file->path) {
        path.data = (u_char *) file->path;
        path.len = strlen(file->path);
        ngx_http_skillbox_delete_file(&path);
    }

    free(file->path);
    sb_buf_free(&file->json);
    free(file);
}
