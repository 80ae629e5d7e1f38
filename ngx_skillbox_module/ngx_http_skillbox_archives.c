
/*
 * Archives of artifacts as files on the disk, and the copies that were taken out
 * of them: how large one is, and its removal.
 * A helper writes them, complete, before it reports a run; the store knows how
 * many files are in one and how large it is, for the tenant's account.
 */


#include "ngx_http_skillbox.h"

#include <dirent.h>
#include <sys/stat.h>


typedef struct {
    ngx_http_skillbox_op_t          op;
    ngx_http_skillbox_main_conf_t  *conf;
    char                            id[SB_UUID_LEN + 1];
} ngx_http_skillbox_drop_t;


typedef struct {
    ngx_http_skillbox_op_t          op;
    int64_t                         bytes;
    char                            tenant[SB_TENANT_MAX + 1];
    char                            id[SB_UUID_LEN + 1];
} ngx_http_skillbox_taken_t;


static ngx_uint_t ngx_http_skillbox_archive_path(ngx_str_t *folder,
    const char *id, char *path, size_t size);
static void ngx_http_skillbox_archive_copies(char *path, size_t size,
    const char *id, ngx_str_t *folder);
static void ngx_http_skillbox_drop_prepare(ngx_http_skillbox_op_t *op);
static sb_code_t ngx_http_skillbox_drop_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static sb_code_t ngx_http_skillbox_taken_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_drop_free(ngx_http_skillbox_op_t *op);


static ngx_uint_t
ngx_http_skillbox_archive_path(ngx_str_t *folder, const char *id, char *path,
    size_t size)
{
    int  n;

    n = snprintf(path, size, "%.*s/" SB_ARTIFACT_PATH_FMT, (int) folder->len,
                 folder->data, id + SB_UUID_LEN - 2, id);

    return n > 0 && (size_t) n < size;
}


/* thread; 0: there is none */

int64_t
ngx_http_skillbox_archive_bytes(ngx_http_skillbox_main_conf_t *smcf,
    const char *id)
{
    char         path[NGX_MAX_PATH];
    ngx_str_t   *folder;
    ngx_uint_t   i;
    struct stat  st;

    folder = smcf->artifacts.elts;

    for (i = 0; i < smcf->artifacts.nelts; i++) {

        if (ngx_http_skillbox_archive_path(&folder[i], id, path, sizeof(path))
            && stat(path, &st) == 0)
        {
            return st.st_size;
        }
    }

    return 0;
}


/* thread; a file that can't be removed is found again by the retention */

void
ngx_http_skillbox_archive_unlink(ngx_http_skillbox_main_conf_t *smcf,
    const char *id)
{
    char         path[NGX_MAX_PATH];
    ngx_str_t   *folder;
    ngx_uint_t   i;

    folder = smcf->artifacts.elts;

    for (i = 0; i < smcf->artifacts.nelts; i++) {

        if (ngx_http_skillbox_archive_path(&folder[i], id, path,
                                           sizeof(path)))
        {
            (void) unlink(path);
            ngx_http_skillbox_archive_copies(path, sizeof(path), id,
                                             &folder[i]);
        }
    }
}


/* thread: what was taken out of it */

static void
ngx_http_skillbox_archive_copies(char *path, size_t size, const char *id,
    ngx_str_t *folder)
{
    int  n;

    n = snprintf(path, size, "%.*s/" SB_ARTIFACT_DIR_FMT, (int) folder->len,
                 folder->data, id + SB_UUID_LEN - 2, id);

    if (n > 0 && (size_t) n < size) {
        ngx_http_skillbox_archive_remove_copies(path);
    }
}


int64_t
ngx_http_skillbox_archive_copied(const char *path)
{
    DIR            *dir;
    int64_t         bytes;
    ngx_uint_t      i;
    struct stat     st;
    struct dirent  *entry;

    dir = opendir(path);
    if (dir == NULL) {
        return 0;                               /* most have none */
    }

    bytes = 0;

    for (i = 0; i < 2 * SB_ARTIFACT_FILES_MAX; i++) {
        entry = readdir(dir);

        if (entry == NULL) {
            break;
        }

        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
            && S_ISREG(st.st_mode))
        {
            bytes += st.st_size;
        }
    }

    closedir(dir);

    return bytes;
}


void
ngx_http_skillbox_archive_remove_copies(const char *path)
{
    DIR            *dir;
    ngx_uint_t      i;
    struct dirent  *entry;

    dir = opendir(path);
    if (dir == NULL) {
        return;                                 /* most have none */
    }

    for (i = 0; i < 2 * SB_ARTIFACT_FILES_MAX; i++) {
        entry = readdir(dir);

        if (entry == NULL) {
            break;
        }

        if (entry->d_name[0] != '.') {
            (void) unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }

    closedir(dir);
    (void) rmdir(path);
}


/* event loop: a thread removes it; nobody waits */

void
ngx_http_skillbox_archive_drop(ngx_http_skillbox_main_conf_t *smcf,
    const char *id)
{
    ngx_http_skillbox_drop_t  *d;

    d = calloc(1, sizeof(ngx_http_skillbox_drop_t));
    if (d == NULL) {
        return;
    }

    d->conf = smcf;
    d->op.prepare = ngx_http_skillbox_drop_prepare;
    d->op.apply = ngx_http_skillbox_drop_apply;
    d->op.free = ngx_http_skillbox_drop_free;
    ngx_memcpy(d->id, id, SB_UUID_LEN);

    if (ngx_http_skillbox_store_post(&d->op, NULL, NULL) != NGX_OK) {
        free(d);
    }
}


/* thread */

static void
ngx_http_skillbox_drop_prepare(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_drop_t *d = (ngx_http_skillbox_drop_t *) op;

    ngx_http_skillbox_archive_unlink(d->conf, d->id);
}


/* thread; the record was written before */

static sb_code_t
ngx_http_skillbox_drop_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    return SB_OK;
}


/*
 * The tenant's account is told of a copy; nobody waits for that.  What is lost by
 * a crash, or counted twice since two asked for it at once, the retention finds
 * out when it looks at the folder.
 */

void
ngx_http_skillbox_archive_taken(ngx_str_t *tenant, ngx_str_t *id,
    int64_t bytes)
{
    ngx_http_skillbox_taken_t  *t;

    t = calloc(1, sizeof(ngx_http_skillbox_taken_t));
    if (t == NULL) {
        return;
    }

    t->op.apply = ngx_http_skillbox_taken_apply;
    t->op.free = ngx_http_skillbox_drop_free;
    t->bytes = bytes;
    ngx_memcpy(t->tenant, tenant->data, ngx_min(tenant->len, SB_TENANT_MAX));
    ngx_memcpy(t->id, id->data, ngx_min(id->len, SB_UUID_LEN));

    if (ngx_http_skillbox_store_post(&t->op, NULL, NULL) != NGX_OK) {
        free(t);
    }
}


/* thread; the execution may have been deleted, and its copies with it */

static sb_code_t
ngx_http_skillbox_taken_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_taken_t *t = (ngx_http_skillbox_taken_t *) op;

    sb_code_t  code;

    code = sb_batch_artifact_taken(batch, t->tenant, t->id, t->bytes, err);

    return code == SB_ENOTFOUND ? SB_OK : code;
}


static void
ngx_http_skillbox_drop_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
