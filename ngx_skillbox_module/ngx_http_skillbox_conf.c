
/*
 * The directives that are more than a number: each handler checks its value and
 * says what is wrong with it.  Run in the master and under "nginx -t"; the only
 * file read is a signing key.
 */


#include "ngx_http_skillbox.h"


static ngx_thread_pool_t *ngx_http_skillbox_thread_pool(ngx_conf_t *cf,
    const char *name, const char *threads);
static ngx_int_t ngx_http_skillbox_read_key(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_skillbox_sign_key_t *key);


char *
ngx_http_skillbox_set_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_skillbox_main_conf_t *smcf = conf;

    ngx_str_t  *value, size;

    if (smcf->store.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    smcf->store_size = SB_STORE_SIZE;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "size=", 5) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        size.data = value[2].data + 5;
        size.len = value[2].len - 5;

        smcf->store_size = ngx_parse_offset(&size);

        if (smcf->store_size == (off_t) NGX_ERROR
            || smcf->store_size < SB_MIB)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid size \"%V\", it must be at least 1m",
                               &size);
            return NGX_CONF_ERROR;
        }
    }

    smcf->store = value[1];

    if (smcf->store.len == 0) {
        return "needs a folder";
    }

    if (ngx_conf_full_name(cf->cycle, &smcf->store, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    smcf->store_pool = ngx_http_skillbox_thread_pool(cf, "skillbox_store",
                                                     "threads=1");
    smcf->work_pool = ngx_http_skillbox_thread_pool(cf, "skillbox_work",
                                                    "threads=2");

    smcf->journal_pool = ngx_http_skillbox_thread_pool(cf, "skillbox_journal",
                                                       "threads=1");

    if (smcf->store_pool == NULL || smcf->work_pool == NULL
        || smcf->journal_pool == NULL)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * A thread pool's size can be set by its directive only, so the directive is
 * called: to nginx it is as if "thread_pool <name> threads=N" stood here.  The
 * pool "default" would do, at 32 threads in each worker.
 */

static ngx_thread_pool_t *
ngx_http_skillbox_thread_pool(ngx_conf_t *cf, const char *name,
    const char *threads)
{
    char           *rv;
    void           *conf;
    ngx_str_t      *value;
    ngx_array_t     args, *saved;
    ngx_command_t  *cmd;

    if (ngx_array_init(&args, cf->pool, 3, sizeof(ngx_str_t)) != NGX_OK) {
        return NULL;
    }

    value = ngx_array_push_n(&args, 3);
    if (value == NULL) {
        return NULL;
    }

    ngx_str_set(&value[0], "thread_pool");
    value[1].data = (u_char *) name;
    value[1].len = ngx_strlen(name);
    value[2].data = (u_char *) threads;
    value[2].len = ngx_strlen(threads);

    for (cmd = ngx_thread_pool_module.commands; cmd->name.len; cmd++) {

        if (cmd->name.len != value[0].len
            || ngx_strcmp(cmd->name.data, value[0].data) != 0)
        {
            continue;
        }

        conf = ngx_get_conf(cf->cycle->conf_ctx, ngx_thread_pool_module);

        saved = cf->args;
        cf->args = &args;
        rv = cmd->set(cf, cmd, conf);
        cf->args = saved;

        return rv == NGX_CONF_OK ? ngx_thread_pool_add(cf, &value[1]) : NULL;
    }

    return NULL;
}


char *
ngx_http_skillbox_set_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_skillbox_loc_conf_t *slcf = conf;

    ngx_url_t                        u;
    ngx_str_t                       *value;
    ngx_http_upstream_srv_conf_t   **helper;
    ngx_http_skillbox_main_conf_t   *smcf;

    if (slcf->upstream.upstream) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_script_variables_count(&value[1])) {
        return "can't have variables, use an upstream block";
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.no_resolve = 1;

    slcf->upstream.upstream = ngx_http_upstream_add(cf, &u, 0);
    if (slcf->upstream.upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    /* for the look for lost executions, which belong to no location */

    smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_skillbox_module);

    helper = ngx_array_push(&smcf->helpers);
    if (helper == NULL) {
        return NGX_CONF_ERROR;
    }

    *helper = slcf->upstream.upstream;

    return NGX_CONF_OK;
}


char *
ngx_http_skillbox_set_artifacts(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_skillbox_loc_conf_t *slcf = conf;

    ngx_str_t                      *value, *folder;
    ngx_http_skillbox_main_conf_t  *smcf;

    if (slcf->artifacts.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    slcf->artifacts = value[1];

    if (slcf->artifacts.len == 0) {
        return "needs a folder";
    }

    if (ngx_conf_full_name(cf->cycle, &slcf->artifacts, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* for the sweep, which belongs to no location */

    smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_skillbox_module);

    folder = ngx_array_push(&smcf->artifacts);
    if (folder == NULL) {
        return NGX_CONF_ERROR;
    }

    *folder = slcf->artifacts;

    return NGX_CONF_OK;
}


char *
ngx_http_skillbox_set_sign_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_skillbox_loc_conf_t *slcf = conf;

    u_char                         ch;
    ngx_str_t                     *value;
    ngx_uint_t                     i;
    ngx_http_skillbox_sign_key_t  *key;

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].len > SB_SIGN_KEYID_MAX) {
        return "needs an id of 1 to 32 characters";
    }

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z')
              || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'))
        {
            return "has an id with other characters than A-Z a-z 0-9 _ -";
        }
    }

    if (slcf->sign_keys == NGX_CONF_UNSET_PTR) {
        slcf->sign_keys = ngx_array_create(cf->pool, 2,
                                         sizeof(ngx_http_skillbox_sign_key_t));
        if (slcf->sign_keys == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    key = slcf->sign_keys->elts;

    for (i = 0; i < slcf->sign_keys->nelts; i++) {
        if (ngx_strcmp(key[i].id.data, value[1].data) == 0) {
            return "has an id that was used before";
        }
    }

    key = ngx_array_push(slcf->sign_keys);
    if (key == NULL) {
        return NGX_CONF_ERROR;
    }

    key->id = value[1];

    if (ngx_conf_full_name(cf->cycle, &value[2], 1) != NGX_OK
        || ngx_http_skillbox_read_key(cf, &value[2], key) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* The secret is the file's content, every byte of it. */

static ngx_int_t
ngx_http_skillbox_read_key(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_skillbox_sign_key_t *key)
{
    u_char     buf[SB_SIGN_KEY_MAX + 1];
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_int_t  rc;

    rc = NGX_ERROR;

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, buf, sizeof(buf));

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_fd_n " \"%V\" failed", name);
        goto done;
    }

    if (n < SB_SIGN_KEY_MIN || n > SB_SIGN_KEY_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the signing key in \"%V\" must have from %d "
                           "to %d bytes",
                           name, SB_SIGN_KEY_MIN, SB_SIGN_KEY_MAX);
        goto done;
    }

    key->secret = ngx_pnalloc(cf->pool, n);
    if (key->secret == NULL) {
        goto done;
    }

    ngx_memcpy(key->secret, buf, n);
    key->len = n;
    rc = NGX_OK;

done:

    ngx_explicit_memzero(buf, sizeof(buf));

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return rc;
}


/* a word that is known now is judged now */

char *
ngx_http_skillbox_set_scan(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                           *rv;
    ngx_str_t                      *value;
    ngx_http_skillbox_loc_conf_t   *slcf = conf;

    rv = ngx_http_set_complex_value_slot(cf, cmd, conf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (slcf->scan->lengths == NULL
        && !ngx_http_skillbox_scan_word(&value[1]))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must be \"off\", \"warn\" or \"block\", "
                           "it is \"%V\"", &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
