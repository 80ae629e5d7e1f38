
/*
 * Archives of what runs left behind: the signed address, and serving the file
 * as nginx serves any (sendfile, ranges, open_file_cache).
 *
 *   <base>/v1/executions/<id>/files.tar.gz?key=K&expires=T&tenant=N&signature=S
 *
 * The signature covers path, tenant, key id and expiry and is the whole
 * permission: nobody needs an API key to follow such a link.
 */


#include "ngx_http_skillbox.h"


static ngx_int_t ngx_http_skillbox_base_url(ngx_http_request_t *r,
    ngx_str_t *base);


/* length of "/v1/executions/<id>/files.tar.gz" */
#define NGX_HTTP_SKILLBOX_FILES_PATH                                          \
    (sizeof("/v1/executions//files.tar.gz") - 1 + SB_UUID_LEN)


ngx_int_t
ngx_http_skillbox_files_url(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx, ngx_str_t *id, ngx_str_t *url)
{
    char                           sig[SB_SIGNATURE_LEN + 1];
    u_char                         path[NGX_HTTP_SKILLBOX_FILES_PATH], *p;
    time_t                         expires;
    ngx_str_t                      base;
    ngx_http_skillbox_sign_key_t  *key;
    ngx_http_skillbox_loc_conf_t  *slcf;

    ngx_str_null(url);

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->artifacts.len == 0) {
        return NGX_OK;
    }

    if (ngx_http_skillbox_base_url(r, &base) != NGX_OK) {
        return NGX_ERROR;
    }

    key = slcf->sign_keys->elts;
    expires = ngx_time() + slcf->sign_ttl;

    (void) ngx_sprintf(path, "/v1/executions/%V/files.tar.gz", id);

    sb_sign_path(key[0].secret, key[0].len, (char *) key[0].id.data,
                 ctx->key.tenant, (char *) path, sizeof(path), expires, sig);

    p = ngx_pnalloc(r->pool, base.len + sizeof(path) + SB_SIGN_KEYID_MAX
                             + NGX_TIME_T_LEN + SB_TENANT_MAX
                             + SB_SIGNATURE_LEN
                             + sizeof("?key=&expires=&tenant=&signature="));
    if (p == NULL) {
        return NGX_ERROR;
    }

    url->data = p;
    p = ngx_cpymem(p, base.data, base.len);
    p = ngx_cpymem(p, path, sizeof(path));
    p = ngx_sprintf(p, "?key=%V&expires=%T&tenant=%s&signature=%s",
                    &key[0].id, expires, ctx->key.tenant, sig);
    url->len = p - url->data;

    return NGX_OK;
}


/* skillbox_public_url, else the request's own scheme and host and the prefix */

static ngx_int_t
ngx_http_skillbox_base_url(ngx_http_request_t *r, ngx_str_t *base)
{
    u_char                        *p, addr[NGX_SOCKADDR_STRLEN];
    ngx_str_t                      scheme, host;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->public_url) {

        if (ngx_http_complex_value(r, slcf->public_url, base) != NGX_OK) {
            return NGX_ERROR;
        }

        while (base->len && base->data[base->len - 1] == '/') {
            base->len--;
        }

        if (base->len) {
            return NGX_OK;
        }
    }

    ngx_str_set(&scheme, "http");

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        ngx_str_set(&scheme, "https");
    }
#endif

    /* HTTP/2 and 3 put :authority there too; only HTTP/1.0 may lack it */

    if (r->headers_in.host) {
        host = r->headers_in.host->value;

    } else {
        host.data = addr;
        host.len = NGX_SOCKADDR_STRLEN;

        if (ngx_connection_local_sockaddr(r->connection, &host, 1) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    p = ngx_pnalloc(r->pool, scheme.len + 3 + host.len + slcf->prefix.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    base->data = p;
    base->len = ngx_sprintf(p, "%V://%V%V", &scheme, &host, &slcf->prefix) - p;

    return NGX_OK;
}


ngx_int_t
ngx_http_skillbox_artifact(ngx_http_request_t *r,
    ngx_http_skillbox_ctx_t *ctx)
{
    char                           id[SB_UUID_LEN + 1];
    char                           tenant[SB_TENANT_MAX + 1];
    u_char                        *last;
    ngx_int_t                      rc;
    ngx_str_t                      path, type;
    unsigned char                  uuid[16];
    ngx_open_file_info_t           of;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->artifacts.len == 0
        || !sb_uuid_parse((char *) ctx->param[0].data, ctx->param[0].len,
                          uuid))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "There is no such archive.");
    }

    rc = ngx_http_skillbox_artifact_verify(r, ctx->path.data, ctx->path.len,
                                           tenant);
    if (rc != NGX_OK) {
        return rc;
    }

    sb_uuid_format(uuid, id);

    path.data = ngx_pnalloc(r->pool, slcf->artifacts.len
                                     + sizeof("/") + SB_ARTIFACT_PATH_LEN);
    if (path.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    last = ngx_cpymem(path.data, slcf->artifacts.data, slcf->artifacts.len);
    *last++ = '/';
    path.len = last - path.data;
    path.len += snprintf((char *) last, SB_ARTIFACT_PATH_LEN + 1,
                         SB_ARTIFACT_PATH_FMT, id + SB_UUID_LEN - 2, id);

    ctx->execution = ngx_http_skillbox_copy(r->pool, id, SB_UUID_LEN);

    rc = ngx_http_skillbox_open(r, &path, &of);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&type, "application/gzip");

    return ngx_http_skillbox_send_file(r, &path, &of, &type);
}


ngx_int_t
ngx_http_skillbox_artifact_verify(ngx_http_request_t *r, u_char *path,
    size_t len, char *tenant)
{
    time_t                         expires;
    ngx_str_t                      id, exp, name, sig;
    ngx_uint_t                     i;
    ngx_http_skillbox_sign_key_t  *key;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);

    if (slcf->artifacts.len == 0) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "Artifacts are not served here.");
    }

    if (ngx_http_arg(r, (u_char *) "key", 3, &id) != NGX_OK
        || ngx_http_arg(r, (u_char *) "expires", 7, &exp) != NGX_OK
        || ngx_http_arg(r, (u_char *) "tenant", 6, &name) != NGX_OK
        || ngx_http_arg(r, (u_char *) "signature", 9, &sig) != NGX_OK
        || !sb_tenant_valid((char *) name.data, name.len))
    {
        return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                       "The address is not signed.");
    }

    ngx_memcpy(tenant, name.data, name.len);
    tenant[name.len] = '\0';

    expires = ngx_atotm(exp.data, exp.len);

    key = slcf->sign_keys->elts;

    for (i = 0; i < slcf->sign_keys->nelts; i++) {

        if (key[i].id.len != id.len
            || ngx_strncmp(key[i].id.data, id.data, id.len) != 0)
        {
            continue;
        }

        if (!sb_verify_path(key[i].secret, key[i].len, (char *) key[i].id.data,
                            tenant, (char *) path, len, expires,
                            (char *) sig.data, sig.len))
        {
            break;
        }

        if (expires <= ngx_time()) {
            return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                           "The address has expired.");
        }

        return NGX_OK;
    }

    return ngx_http_skillbox_error(r, NGX_HTTP_FORBIDDEN,
                                   "The signature is not valid.");
}


ngx_int_t
ngx_http_skillbox_open(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_memzero(of, sizeof(ngx_open_file_info_t));

    of->read_ahead = clcf->read_ahead;
    of->directio = clcf->directio;
    of->valid = clcf->open_file_cache_valid;
    of->min_uses = clcf->open_file_cache_min_uses;
    of->errors = clcf->open_file_cache_errors;
    of->events = clcf->open_file_cache_events;

    if (ngx_http_set_disable_symlinks(r, clcf, path, of) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_open_cached_file(clcf->open_file_cache, path, of, r->pool)
        == NGX_OK
        && of->is_file)
    {
        return NGX_OK;
    }

    if (of->err == NGX_ENOENT || of->err == NGX_ENOTDIR) {
        return ngx_http_skillbox_error(r, NGX_HTTP_NOT_FOUND,
                                       "The file is gone.");
    }

    ngx_log_error(NGX_LOG_CRIT, r->connection->log, of->err,
                  "%s \"%V\" failed", of->failed ? of->failed : "opening",
                  path);

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


ngx_int_t
ngx_http_skillbox_send_file(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of, ngx_str_t *type)
{
    ngx_int_t     rc;
    ngx_str_t     value;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = of->size;
    r->headers_out.last_modified_time = of->mtime;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->allow_ranges = 1;

    /* "gzip_types *" would compress it once more, as a transfer's encoding */

#if (NGX_HTTP_GZIP)
    r->gzip_tested = 1;
    r->gzip_ok = 0;
#endif

    ngx_str_set(&value, "private");

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));

    if (b->file == NULL
        || ngx_http_set_etag(r) != NGX_OK
        || ngx_http_skillbox_add_header(r, "Cache-Control", &value) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->file_last = of->size;
    b->in_file = b->file_last ? 1 : 0;
    b->last_buf = 1;
    b->last_in_chain = 1;

    b->file->fd = of->fd;
    b->file->name = *path;
    b->file->log = r->connection->log;
    b->file->directio = of->is_directio;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
