
/*
 * From the intake's answer to a skill version: what a package is, is read out
 * of the JSON (in a thread when it is long), checked once more, rendered as the
 * store keeps it, and committed.
 *
 *     intake_read -> (thread: intake_run) -> intake_parsed
 *         -> (store thread: put_apply) -> put_done
 */


#include "ngx_http_skillbox.h"


/* 15 digits are what a person wrote: with 17, 2.1 is 2.1000000000000001 */
#define NGX_HTTP_SKILLBOX_JSON_FLAGS                                          \
    (JSON_COMPACT|JSON_ENCODE_ANY|JSON_REAL_PRECISION(15))

/* answers of the intake above this are read in a thread */
#define NGX_HTTP_SKILLBOX_INTAKE_INLINE    (64 * SB_KIB)


typedef struct {
    ngx_http_skillbox_op_t        op;
    sb_skill_put_t                put;
    char                         *strings[10];  /* what put points to */
    ngx_uint_t                    nstrings;
    char                          tenant[SB_TENANT_MAX + 1];
    sb_buf_t                      detail;
    sb_buf_t                      run;
    sb_buf_t                      findings;     /* JSON array, or empty */
} ngx_http_skillbox_put_t;


typedef struct {
    ngx_http_skillbox_work_t      work;
    char                         *answer;       /* the intake's */
    size_t                        len;
    ngx_http_skillbox_put_t      *put;
    sb_err_t                      err;
} ngx_http_skillbox_intake_t;


static void ngx_http_skillbox_intake_run(ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_intake_free(ngx_http_skillbox_work_t *work);
static void ngx_http_skillbox_intake_parsed(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work);
static ngx_int_t ngx_http_skillbox_intake_valid(ngx_http_request_t *r,
    ngx_http_skillbox_put_t *put);
static ngx_int_t ngx_http_skillbox_intake_store(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_put_t *put);

static sb_code_t ngx_http_skillbox_put_fill(ngx_http_skillbox_put_t *put,
    json_t *root, sb_err_t *err);
static sb_code_t ngx_http_skillbox_put_findings(ngx_http_skillbox_put_t *put,
    json_t *root);
static const char *ngx_http_skillbox_put_string(ngx_http_skillbox_put_t *put,
    json_t *root, const char *name);
static sb_code_t ngx_http_skillbox_put_detail(ngx_http_skillbox_put_t *put,
    json_t *root, json_t *manifest);
static sb_code_t ngx_http_skillbox_put_run(ngx_http_skillbox_put_t *put,
    json_t *root, json_t *manifest);
static int ngx_http_skillbox_put_append(const char *data, size_t len,
    void *out);
static sb_code_t ngx_http_skillbox_put_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_put_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op);
static void ngx_http_skillbox_put_free(ngx_http_skillbox_op_t *op);


/* from the answer to what the store is to keep; here or in a thread */

ngx_int_t
ngx_http_skillbox_intake_read(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_call_t *call)
{
    sb_str_t                     body;
    ngx_http_skillbox_intake_t  *intake;

    intake = calloc(1, sizeof(ngx_http_skillbox_intake_t));
    if (intake == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_http_skillbox_call_body(call);

    intake->work.run = ngx_http_skillbox_intake_run;
    intake->work.done = ngx_http_skillbox_intake_parsed;
    intake->work.free = ngx_http_skillbox_intake_free;

    intake->put = calloc(1, sizeof(ngx_http_skillbox_put_t));
    intake->answer = malloc(body.len ? body.len : 1);

    if (intake->put == NULL || intake->answer == NULL) {
        intake->work.free(&intake->work);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    intake->put->op.free = ngx_http_skillbox_put_free;
    ngx_memcpy(intake->answer, body.data, body.len);
    intake->len = body.len;

    if (body.len <= NGX_HTTP_SKILLBOX_INTAKE_INLINE) {
        intake->work.run(&intake->work);
        intake->work.done(r, ctx, &intake->work);
        return NGX_OK;
    }

    if (ngx_http_skillbox_work_post(&intake->work, r, ctx) != NGX_OK) {
        intake->work.free(&intake->work);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/* any thread */

static void
ngx_http_skillbox_intake_run(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_intake_t *intake = (ngx_http_skillbox_intake_t *) work;

    json_t  *root;

    root = json_loadb(intake->answer, intake->len, JSON_ALLOW_NUL, NULL);

    (void) ngx_http_skillbox_put_fill(intake->put, root, &intake->err);

    json_decref(root);
}


static void
ngx_http_skillbox_intake_free(ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_intake_t *intake = (ngx_http_skillbox_intake_t *) work;

    if (intake->put) {
        ngx_http_skillbox_put_free(&intake->put->op);
    }

    free(intake->answer);
    free(intake);
}


static void
ngx_http_skillbox_intake_parsed(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_work_t *work)
{
    ngx_http_skillbox_intake_t *intake = (ngx_http_skillbox_intake_t *) work;

    ngx_int_t                    rc;
    ngx_http_skillbox_put_t     *put;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;

    if (intake->err.code != SB_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "helper's intake gave no valid answer: %s",
                      intake->err.message);

        rc = ngx_http_skillbox_error(r, NGX_HTTP_BAD_GATEWAY,
                                     "The helper gave no valid answer.");

    } else if (upload->check) {
        rc = ngx_http_skillbox_intake_valid(r, intake->put);
        ngx_http_finalize_request(r, rc);
        rc = NGX_OK;

    } else {
        put = intake->put;
        intake->put = NULL;

        rc = ngx_http_skillbox_intake_store(r, ctx, put);
    }

    work->free(work);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
    }
}


/* nothing is stored; the answer to validate */

static ngx_int_t
ngx_http_skillbox_intake_valid(ngx_http_request_t *r,
    ngx_http_skillbox_put_t *put)
{
    sb_buf_t  buf;

    sb_buf_init(&buf, 2 * SB_MIB);
    sb_buf_str(&buf, "{\"valid\":true");
    sb_json_key_str(&buf, "skill_name", put->put.name);
    sb_json_key_str(&buf, "skill_version", put->put.version);
    sb_json_key_str(&buf, "digest", put->put.digest);
    sb_json_key(&buf, "findings");
    sb_buf_str(&buf, put->findings.len ? put->findings.data : "[]");
    sb_buf_char(&buf, '}');

    return ngx_http_skillbox_send_json(r, NGX_HTTP_OK, &buf);
}


static ngx_int_t
ngx_http_skillbox_intake_store(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_put_t *put)
{
    char                        *path, *type;
    ngx_http_skillbox_upload_t  *upload;

    upload = ctx->data;

    path = strndup((char *) upload->path.data, upload->path.len);
    type = strndup((char *) upload->type.data, upload->type.len);

    put->strings[put->nstrings++] = path;
    put->strings[put->nstrings++] = type;

    if (path == NULL || type == NULL) {
        put->op.free(&put->op);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(put->tenant, ctx->key.tenant, sizeof(put->tenant));

    put->put.tenant = put->tenant;
    put->put.package_tmp = path;
    put->put.package_type = type;

    put->put.on_conflict = upload->on_conflict;

    put->op.apply = ngx_http_skillbox_put_apply;
    put->op.done = ngx_http_skillbox_put_done;

    /* from here on the file is the operation's */

    ctx->abandon = NULL;

    if (ngx_http_skillbox_store_post(&put->op, r, ctx) != NGX_OK) {
        put->op.free(&put->op);
        return ngx_http_skillbox_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "The store takes no writes now.");
    }

    return NGX_OK;
}


/*
 * {"digest","manifest":{...},"scripts":[...],"size_bytes","findings":[...],
 * "security"?:[...]};
 * any thread.  A confined process made it out of a stranger's package, so what
 * becomes a key or a path is checked once more.
 */

static sb_code_t
ngx_http_skillbox_put_fill(ngx_http_skillbox_put_t *put, json_t *root,
    sb_err_t *err)
{
    json_t          *manifest;
    unsigned char    digest[SB_SHA256_LEN];
    sb_skill_put_t  *p;

    manifest = json_object_get(root, "manifest");
    p = &put->put;

    p->digest = ngx_http_skillbox_put_string(put, root, "digest");
    p->name = ngx_http_skillbox_put_string(put, manifest, "name");
    p->version = ngx_http_skillbox_put_string(put, manifest, "version");
    p->description = ngx_http_skillbox_put_string(put, manifest,
                                                  "description");
    p->mode = ngx_http_skillbox_put_string(put, manifest, "mode");
    p->lang = ngx_http_skillbox_put_string(put, manifest, "lang");

    if (p->lang == NULL) {
        p->lang = "";
    }

    if (p->digest == NULL || strlen(p->digest) != SB_SHA256_HEX
        || !sb_unhex(p->digest, SB_SHA256_HEX, digest))
    {
        return sb_err_set(err, SB_EGATEWAY, "no digest");
    }

    if (p->name == NULL || !sb_name_valid(p->name, strlen(p->name))
        || p->version == NULL
        || !sb_semver_valid(p->version, strlen(p->version))
        || p->description == NULL || p->mode == NULL
        || (strcmp(p->mode, "executable") != 0
            && strcmp(p->mode, "instructions") != 0))
    {
        return sb_err_set(err, SB_EGATEWAY, "no valid manifest");
    }

    sb_buf_init(&put->detail, SB_RESULT_MAX);
    sb_buf_init(&put->run, SB_MIB);
    if (ngx_http_skillbox_put_findings(put, root) != SB_OK
        || ngx_http_skillbox_put_detail(put, root, manifest) != SB_OK
        || ngx_http_skillbox_put_run(put, root, manifest) != SB_OK
        || !sb_buf_ok(&put->findings))
    {
        return sb_err_set(err, SB_EGATEWAY, "too large an answer");
    }

    p->detail = put->detail.data ? put->detail.data : "";
    p->run = put->run.data;

    return SB_OK;
}


/* those of the rules and those of the scan */

static sb_code_t
ngx_http_skillbox_put_findings(ngx_http_skillbox_put_t *put, json_t *root)
{
    json_t  *findings, *security;

    sb_buf_init(&put->findings, SB_MIB);

    findings = json_object_get(root, "findings");
    security = json_object_get(root, "security");

    if (security && json_array_extend(findings, security) == -1) {
        return SB_EGATEWAY;
    }

    if (json_array_size(findings)) {
        (void) json_dump_callback(findings, ngx_http_skillbox_put_append,
                                  &put->findings, JSON_COMPACT);
    }

    return SB_OK;
}


/* a member's copy, owned by put; NULL when there is no such string */

static const char *
ngx_http_skillbox_put_string(ngx_http_skillbox_put_t *put, json_t *root,
    const char *name)
{
    char        *copy;
    json_t      *value;
    const char  *s;

    value = json_object_get(root, name);
    s = json_string_value(value);

    if (s == NULL || strlen(s) != json_string_length(value)) {
        return NULL;
    }

    copy = strdup(s);
    put->strings[put->nstrings++] = copy;

    return copy;
}


/* the members of the record beyond those the store knows */

static sb_code_t
ngx_http_skillbox_put_detail(ngx_http_skillbox_put_t *put, json_t *root,
    json_t *manifest)
{
    json_t      *value;
    ngx_uint_t   i;

    static const struct {
        const char  *name;
        ngx_uint_t   of_manifest;
    } members[] = {
        { "entrypoint", 1 },
        { "image", 1 },
        { "timeout_ms", 1 },
        { "license", 1 },
        { "compatibility", 1 },
        { "allowed_tools", 1 },
        { "metadata", 1 },
        { "extra", 1 },
        { "instructions", 1 },
        { "scripts", 0 },
        { "size_bytes", 0 },
    };

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {

        value = json_object_get(members[i].of_manifest ? manifest : root,
                                members[i].name);
        if (value == NULL) {
            continue;
        }

        if (put->detail.len) {
            sb_buf_char(&put->detail, ',');
        }

        sb_buf_char(&put->detail, '"');
        sb_buf_str(&put->detail, members[i].name);
        sb_buf_str(&put->detail, "\":");

        (void) json_dump_callback(value, ngx_http_skillbox_put_append,
                                  &put->detail,
                                  NGX_HTTP_SKILLBOX_JSON_FLAGS);
    }

    sb_buf_fmt(&put->detail, "%s\"resources\":{\"memory_bytes\":%lld,"
               "\"cpu_milli\":%lld}", put->detail.len ? "," : "",
               (long long) json_integer_value(json_object_get(manifest,
                                                            "memory_bytes")),
               (long long) json_integer_value(json_object_get(manifest,
                                                            "cpu_milli")));

    if (put->findings.len) {
        sb_buf_str(&put->detail, ",\"findings\":");
        sb_buf_add(&put->detail, put->findings.data, put->findings.len);
    }

    return sb_buf_ok(&put->detail) ? SB_OK : SB_EGATEWAY;
}


/* what _execution.c reads back */

static sb_code_t
ngx_http_skillbox_put_run(ngx_http_skillbox_put_t *put, json_t *root,
    json_t *manifest)
{
    json_t      *value;
    ngx_uint_t   i;

    static const char *const  members[] = {
        "lang", "mode", "entrypoint", "image",
        "timeout_ms", "memory_bytes", "cpu_milli", "scripts"
    };

    sb_buf_char(&put->run, '{');

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {

        value = json_object_get(manifest, members[i]);

        if (value == NULL) {
            value = json_object_get(root, members[i]);
        }

        if (value == NULL) {
            continue;
        }

        sb_json_key(&put->run, members[i]);
        (void) json_dump_callback(value, ngx_http_skillbox_put_append,
                                  &put->run,
                                  NGX_HTTP_SKILLBOX_JSON_FLAGS);
    }

    sb_buf_char(&put->run, '}');

    return sb_buf_ok(&put->run) ? SB_OK : SB_EGATEWAY;
}


static int
ngx_http_skillbox_put_append(const char *data, size_t len, void *out)
{
    sb_buf_add(out, data, len);

    return sb_buf_ok(out) ? 0 : -1;
}


/* thread */

static sb_code_t
ngx_http_skillbox_put_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    return sb_batch_skill_put(batch, &((ngx_http_skillbox_put_t *) op)->put,
                              err);
}


static void
ngx_http_skillbox_put_done(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_put_t *put = (ngx_http_skillbox_put_t *) op;

    sb_buf_t         buf;
    ngx_int_t        rc;
    sb_skill_put_t  *p;

    if (op->err.code != SB_OK) {
        rc = ngx_http_skillbox_error_sb(r, &op->err, "storing a skill");
        op->free(op);
        ngx_http_finalize_request(r, rc);
        return;
    }

    p = &put->put;

    ctx->skill = ngx_http_skillbox_copy(r->pool, p->name, strlen(p->name));
    ctx->version = ngx_http_skillbox_copy(r->pool, p->stored_version,
                                          strlen(p->stored_version));
    ctx->digest = ngx_http_skillbox_copy(r->pool, p->digest,
                                         strlen(p->digest));

    sb_buf_init(&buf, 2 * SB_MIB);
    sb_buf_char(&buf, '{');
    sb_json_key_str(&buf, "name", p->name);
    sb_json_key_str(&buf, "version", p->stored_version);
    sb_json_key_str(&buf, "description", p->description);
    sb_json_key_str(&buf, "lang", p->lang);
    sb_json_key_str(&buf, "mode", p->mode);
    sb_json_key_str(&buf, "status", "available");
    sb_json_key_str(&buf, "digest", p->digest);

    if (p->bumped) {
        sb_json_key_str(&buf, "bumped_from", p->version);
    }

    if (put->findings.len) {
        sb_json_key(&buf, "findings");
        sb_buf_add(&buf, put->findings.data, put->findings.len);
    }

    sb_buf_char(&buf, '}');

    rc = ngx_http_skillbox_send_json(r, p->created ? NGX_HTTP_CREATED
                                                   : NGX_HTTP_OK, &buf);
    op->free(op);
    ngx_http_finalize_request(r, rc);
}


static void
ngx_http_skillbox_put_free(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_put_t *put = (ngx_http_skillbox_put_t *) op;

    ngx_uint_t  i;

    /* moved away when all went well, hence often not there */

    if (put->put.package_tmp
        && ngx_delete_file(put->put.package_tmp) == NGX_FILE_ERROR
        && ngx_errno != NGX_ENOENT)
    {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      ngx_delete_file_n " \"%s\" failed",
                      put->put.package_tmp);
    }

    for (i = 0; i < put->nstrings; i++) {
        free(put->strings[i]);
    }

    sb_buf_free(&put->detail);
    sb_buf_free(&put->run);
    sb_buf_free(&put->findings);
    free(put);
}
