
/*
 * The zone: memory that all workers share (skillbox_zone), for what no worker
 * can know alone.  Fixed tables, laid out once; nothing is allocated later.
 *
 *     workers     who is alive: one place for each worker process
 *     tenants     runs under way by worker, and the rate       (_limits.c)
 *     failures    failed authentications by address  (_auth_failures.c)
 *     metrics     counters and histograms                     (_metrics.c)
 *
 * workers, tenants and failures are changed under the zone's mutex, for a
 * microsecond; should a worker die holding it, nginx's master unlocks it.
 * Metrics are single atomic additions, in any thread.
 *
 * What a worker holds is counted at its own place, never in a sum: a worker that
 * dies takes nothing along, as its place is cleared by the first who finds it
 * dead.  A reload keeps the zone (same name and size); old workers keep their
 * places until they exit.  A binary upgrade begins with a new one.
 */


#ifndef _NGX_HTTP_SKILLBOX_ZONE_H_INCLUDED_
#define _NGX_HTTP_SKILLBOX_ZONE_H_INCLUDED_


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_WORKERS      256
#define NGX_HTTP_SKILLBOX_FAILURES     4096
#define NGX_HTTP_SKILLBOX_PROBES       16      /* places an entry may be at */
#define NGX_HTTP_SKILLBOX_ZONE_MIN     (1024 * 1024)
#define NGX_HTTP_SKILLBOX_ZONE_SIZE    (4 * 1024 * 1024)


typedef struct {
    ngx_pid_t                     pid;         /* 0: free */
    uint64_t                      ticks;       /* its start; 0: not known */
    ngx_atomic_t                  unrecorded;  /* oldest ticket; 0: none */
    ngx_atomic_t                  wanted;      /* somebody waits for it */
} ngx_http_skillbox_worker_t;


typedef struct {
    char                          id[SB_TENANT_MAX + 1];
    int64_t                       used_ms;
    int64_t                       arrival_us;  /* the rate's, see _limits.c */
    uint16_t                      runs[NGX_HTTP_SKILLBOX_WORKERS];
} ngx_http_skillbox_tenant_t;


typedef struct {
    u_char                        addr[16];
    u_char                        len;         /* of addr; 0: free */
    uint32_t                      count;       /* since start */
    uint32_t                      last;        /* in the minute before that */
    int64_t                       start;       /* minutes */
} ngx_http_skillbox_failure_t;


typedef struct ngx_http_skillbox_metrics_s  ngx_http_skillbox_metrics_t;


typedef struct {
    ngx_http_skillbox_worker_t    workers[NGX_HTTP_SKILLBOX_WORKERS];
    ngx_http_skillbox_failure_t   failures[NGX_HTTP_SKILLBOX_FAILURES];
    ngx_http_skillbox_metrics_t  *metrics;
    ngx_atomic_t                  ticket;      /* the last one (_journal.c) */
    ngx_atomic_t                  places;      /* of workers: those behind it were
                                                  never taken */

    /*
     * Entries are neither read nor written before they were used for the first
     * time, so that the zone takes memory for tenants that there are.
     */

    ngx_http_skillbox_tenant_t   *tenants;
    u_char                       *used;        /* of each entry: 0 or 1 */
    ngx_uint_t                    ntenants;
} ngx_http_skillbox_shm_t;


/* NULL: no zone (no store is configured); the worker's place in it */
ngx_http_skillbox_shm_t *ngx_http_skillbox_shm(void);
ngx_slab_pool_t *ngx_http_skillbox_shm_pool(void);
ngx_uint_t ngx_http_skillbox_worker(void);

/* under the mutex: frees the places of dead workers; how many there were */
ngx_uint_t ngx_http_skillbox_reap_workers(ngx_http_skillbox_shm_t *shm);

/* ngx_http_skillbox_metrics.c */
size_t ngx_http_skillbox_metrics_size(void);
/* HELP and TYPE of a metric; its samples follow */
void ngx_http_skillbox_family(sb_buf_t *b, const char *name,
    const char *type, const char *help);

/* ngx_http_skillbox_metrics_helper.c */
/* the helper's figures, from what its status said last */
void ngx_http_skillbox_metrics_helper(sb_buf_t *b,
    ngx_http_skillbox_ready_t *ready);


#endif /* _NGX_HTTP_SKILLBOX_ZONE_H_INCLUDED_ */
