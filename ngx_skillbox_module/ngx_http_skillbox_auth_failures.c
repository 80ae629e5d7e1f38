
/*
 * Failed authentications, counted by address and minute.
 *
 * A fixed table in the zone.  An address has one of a few places; of those the
 * one that was quiet for the longest time makes room.  So an attacker with many
 * addresses can push others' counts out, but not fill memory; what he can't do
 * is guess: a key has 256 bits.  The limit is there for noise.
 */


#include "ngx_http_skillbox_zone.h"


static ngx_http_skillbox_failure_t *ngx_http_skillbox_failure_of(
    ngx_http_skillbox_shm_t *shm, ngx_str_t *addr, int64_t minute,
    ngx_uint_t create);
static ngx_int_t ngx_http_skillbox_failure_addr(ngx_http_request_t *r,
    ngx_str_t *addr);


/* IPv4 as it is; of IPv6 the /64, which is what one customer has */

static ngx_int_t
ngx_http_skillbox_failure_addr(ngx_http_request_t *r, ngx_str_t *addr)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    switch (r->connection->sockaddr->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) r->connection->sockaddr;
        addr->data = (u_char *) &sin->sin_addr;
        addr->len = 4;
        return NGX_OK;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) r->connection->sockaddr;
        addr->data = (u_char *) &sin6->sin6_addr;
        addr->len = 8;
        return NGX_OK;
#endif

    default:
        return NGX_DECLINED;
    }
}


/* under the mutex; the entry's minute is made the current one */

static ngx_http_skillbox_failure_t *
ngx_http_skillbox_failure_of(ngx_http_skillbox_shm_t *shm, ngx_str_t *addr,
    int64_t minute, ngx_uint_t create)
{
    ngx_uint_t                    i, at;
    ngx_http_skillbox_failure_t  *f, *oldest;

    at = ngx_crc32_short(addr->data, addr->len);
    oldest = NULL;

    for (i = 0; i < NGX_HTTP_SKILLBOX_PROBES; i++) {
        f = &shm->failures[(at + i) % NGX_HTTP_SKILLBOX_FAILURES];

        if (f->len == addr->len
            && ngx_memcmp(f->addr, addr->data, addr->len) == 0)
        {
            goto found;
        }

        if (oldest == NULL || f->start < oldest->start) {
            oldest = f;
        }
    }

    if (!create) {
        return NULL;
    }

    f = oldest;
    ngx_memzero(f, sizeof(ngx_http_skillbox_failure_t));
    ngx_memcpy(f->addr, addr->data, addr->len);
    f->len = addr->len;
    f->start = minute;

found:

    if (f->start != minute) {
        f->last = (f->start == minute - 1) ? f->count : 0;
        f->count = 0;
        f->start = minute;
    }

    return f;
}


void
ngx_http_skillbox_auth_failed(ngx_http_request_t *r)
{
    ngx_str_t                     addr;
    ngx_slab_pool_t              *pool;
    ngx_http_skillbox_shm_t      *shm;
    ngx_http_skillbox_failure_t  *f;

    shm = ngx_http_skillbox_shm();

    if (shm == NULL || ngx_http_skillbox_failure_addr(r, &addr) != NGX_OK) {
        return;
    }

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    f = ngx_http_skillbox_failure_of(shm, &addr, ngx_time() / 60, 1);

    if (f->count < UINT32_MAX) {
        f->count++;
    }

    ngx_shmtx_unlock(&pool->mutex);
}


/*
 * NGX_OK, or 429 for an address that has failed too often: as many failures as
 * fall into the last 60 seconds, if those of the minute before came evenly.
 */

ngx_int_t
ngx_http_skillbox_auth_limit(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_str_t                      addr;
    ngx_uint_t                     n, second;
    ngx_slab_pool_t               *pool;
    ngx_http_skillbox_ctx_t       *ctx;
    ngx_http_skillbox_shm_t       *shm;
    ngx_http_skillbox_failure_t   *f;
    ngx_http_skillbox_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_skillbox_module);
    shm = ngx_http_skillbox_shm();

    if (slcf->auth_failures == 0 || shm == NULL
        || ngx_http_skillbox_failure_addr(r, &addr) != NGX_OK)
    {
        return NGX_OK;
    }

    n = 0;
    second = ngx_time() % 60;

    pool = ngx_http_skillbox_shm_pool();

    ngx_shmtx_lock(&pool->mutex);

    f = ngx_http_skillbox_failure_of(shm, &addr, ngx_time() / 60, 0);

    if (f) {
        n = f->count + (ngx_uint_t) f->last * (60 - second) / 60;
    }

    ngx_shmtx_unlock(&pool->mutex);

    if (n < slcf->auth_failures) {
        return NGX_OK;
    }

    ngx_http_skillbox_count_limited(SB_LIMIT_COUNT);

    rc = ngx_http_skillbox_error(r, NGX_HTTP_TOO_MANY_REQUESTS,
                                 "Too many requests from this address had no "
                                 "valid API key.");

    ctx = ngx_http_skillbox_get_ctx(r);

    if (ctx) {
        ctx->error.retry_after = 60 - second;
    }

    return rc;
}
