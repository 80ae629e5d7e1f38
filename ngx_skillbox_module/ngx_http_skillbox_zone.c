
/*
 * The shared memory zone: its directive, its lay-out, and the workers' places.
 */


#include "ngx_http_skillbox_zone.h"

#include <signal.h>


static ngx_int_t ngx_http_skillbox_init_zone(ngx_shm_zone_t *zone,
    void *data);
static uint64_t ngx_http_skillbox_start_ticks(ngx_pid_t pid);
static ngx_uint_t ngx_http_skillbox_worker_gone(
    ngx_http_skillbox_worker_t *w);
static void ngx_http_skillbox_clear_place(ngx_http_skillbox_shm_t *shm,
    ngx_uint_t place);


/* a worker's own */

static ngx_shm_zone_t  *ngx_http_skillbox_zone;
static ngx_uint_t       ngx_http_skillbox_place;


/* skillbox_zone zone=name:size */

char *
ngx_http_skillbox_set_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_skillbox_main_conf_t *smcf = conf;

    u_char     *p;
    ssize_t     size;
    ngx_str_t  *value, name, s;

    if (smcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strncmp(value[1].data, "zone=", 5) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\", it must be "
                           "\"zone=name:size\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    name.data = value[1].data + 5;
    p = (u_char *) ngx_strchr(name.data, ':');

    if (p == NULL || p == name.data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone \"%V\", it must be "
                           "\"zone=name:size\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    name.len = p - name.data;
    s.data = p + 1;
    s.len = value[1].data + value[1].len - s.data;

    size = ngx_parse_size(&s);

    if (size == NGX_ERROR || size < NGX_HTTP_SKILLBOX_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone size \"%V\", it must be at least 1m",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return ngx_http_skillbox_add_zone(cf, smcf, &name, size) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_skillbox_add_zone(ngx_conf_t *cf,
    ngx_http_skillbox_main_conf_t *smcf, ngx_str_t *name, size_t size)
{
    smcf->zone = ngx_shared_memory_add(cf, name, size,
                                       &ngx_http_skillbox_module);
    if (smcf->zone == NULL) {
        return NGX_ERROR;
    }

    smcf->zone->init = ngx_http_skillbox_init_zone;
    smcf->zone->data = smcf;

    return NGX_OK;
}


/* in the master, and under "nginx -t" */

static ngx_int_t
ngx_http_skillbox_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t          *pool;
    ngx_http_skillbox_shm_t  *shm;

    pool = (ngx_slab_pool_t *) zone->shm.addr;

    /* after a reload, or where another process has made it */

    if (data || zone->shm.exists) {
        return NGX_OK;
    }

    shm = ngx_slab_calloc(pool, sizeof(ngx_http_skillbox_shm_t));
    if (shm == NULL) {
        goto failed;
    }

    shm->metrics = ngx_slab_calloc(pool, ngx_http_skillbox_metrics_size());
    if (shm->metrics == NULL) {
        goto failed;
    }

    /*
     * what is left is for tenants; the slab's own pages were subtracted, and
     * "used" may need a page more than its bytes
     */

    if (pool->pfree < 2) {
        goto failed;
    }

    shm->ntenants = (pool->pfree - 1) * ngx_pagesize
                    / (sizeof(ngx_http_skillbox_tenant_t) + 1);

    if (shm->ntenants < NGX_HTTP_SKILLBOX_PROBES) {
        goto failed;
    }

    shm->used = ngx_slab_calloc(pool, shm->ntenants);
    if (shm->used == NULL) {
        goto failed;
    }

    shm->tenants = ngx_slab_alloc(pool, shm->ntenants
                                        * sizeof(ngx_http_skillbox_tenant_t));
    if (shm->tenants == NULL) {
        goto failed;
    }

    pool->data = shm;

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                  "skillbox zone \"%V\" is too small", &zone->shm.name);

    return NGX_ERROR;
}


ngx_slab_pool_t *
ngx_http_skillbox_shm_pool(void)
{
    return (ngx_slab_pool_t *) ngx_http_skillbox_zone->shm.addr;
}


ngx_http_skillbox_shm_t *
ngx_http_skillbox_shm(void)
{
    return ngx_http_skillbox_zone ? ngx_http_skillbox_shm_pool()->data : NULL;
}


ngx_uint_t
ngx_http_skillbox_worker(void)
{
    return ngx_http_skillbox_place;
}


/*
 * When a process was started, in clock ticks since boot: with the id it names
 * one process, also after the id was given to another.
 */

static uint64_t
ngx_http_skillbox_start_ticks(ngx_pid_t pid)
{
    int                  field;
    char                *p, path[32], text[1024];
    ssize_t              n;
    ngx_fd_t             fd;
    unsigned long long   ticks;

    (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);

    fd = open(path, O_RDONLY|O_CLOEXEC);
    if (fd == NGX_INVALID_FILE) {
        return 0;
    }

    n = read(fd, text, sizeof(text) - 1);
    (void) close(fd);

    if (n <= 0) {
        return 0;
    }

    text[n] = '\0';

    p = strrchr(text, ')');           /* field 2 may hold anything */

    for (field = 2; p && field < 22; field++) {
        p = strchr(p + 1, ' ');
    }

    return (p && sscanf(p, "%llu", &ticks) == 1) ? ticks : 0;
}


static ngx_uint_t
ngx_http_skillbox_worker_gone(ngx_http_skillbox_worker_t *w)
{
    uint64_t  ticks;

    if (kill(w->pid, 0) == -1 && ngx_errno == NGX_ESRCH) {
        return 1;
    }

    ticks = ngx_http_skillbox_start_ticks(w->pid);

    return ticks && w->ticks && ticks != w->ticks;
}


static void
ngx_http_skillbox_clear_place(ngx_http_skillbox_shm_t *shm, ngx_uint_t place)
{
    ngx_uint_t  n;

    for (n = 0; n < shm->ntenants; n++) {
        if (shm->used[n]) {
            shm->tenants[n].runs[place] = 0;
        }
    }
}


ngx_uint_t
ngx_http_skillbox_reap_workers(ngx_http_skillbox_shm_t *shm)
{
    ngx_uint_t                   i, found;
    ngx_http_skillbox_worker_t  *w;

    found = 0;

    for (i = 0; i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        w = &shm->workers[i];

        if (w->pid == 0 || w->pid == ngx_pid
            || !ngx_http_skillbox_worker_gone(w))
        {
            continue;
        }

        ngx_http_skillbox_clear_place(shm, i);

        w->pid = 0;
        found++;
    }

    return found;
}


/*
 * Takes a place.  When all are taken by living workers - 256 of them, from
 * reloads that long runs hold back - this one shares the last.
 */

void
ngx_http_skillbox_zone_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_uint_t                   i;
    ngx_slab_pool_t             *pool;
    ngx_http_skillbox_shm_t     *shm;
    ngx_http_skillbox_worker_t  *w;

    ngx_http_skillbox_zone = smcf->zone;
    shm = ngx_http_skillbox_shm();

    if (shm == NULL) {
        return;
    }

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    ngx_http_skillbox_reap_workers(shm);

    for (i = 0; i < NGX_HTTP_SKILLBOX_WORKERS; i++) {
        w = &shm->workers[i];

        /* the same id in an earlier life is not ours */

        if (w->pid == 0 || w->pid == ngx_pid) {

            ngx_http_skillbox_clear_place(shm, i);

            w->pid = ngx_pid;
            w->ticks = ngx_http_skillbox_start_ticks(ngx_pid);

            if (shm->places <= i) {
                shm->places = i + 1;
            }

            break;
        }
    }

    ngx_shmtx_unlock(&pool->mutex);

    if (i == NGX_HTTP_SKILLBOX_WORKERS) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "skillbox zone: there are more than %d workers",
                      NGX_HTTP_SKILLBOX_WORKERS);
        i--;
    }

    ngx_http_skillbox_place = i;
}


void
ngx_http_skillbox_zone_exit(void)
{
    ngx_slab_pool_t          *pool;
    ngx_http_skillbox_shm_t  *shm;

    shm = ngx_http_skillbox_shm();

    if (shm == NULL) {
        return;
    }

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    if (shm->workers[ngx_http_skillbox_place].pid == ngx_pid) {
        shm->workers[ngx_http_skillbox_place].pid = 0;
    }

    ngx_shmtx_unlock(&pool->mutex);
}
