
/*
 * When each API key was used last, without a write for each request: a worker
 * notes uses in a table of its own and, a second after the first, has the store
 * thread write them all together; a key that was written is not written again
 * for a minute.  So last_used_at is right to about a minute, and a worker that
 * dies takes at most a second of it along.
 *
 * The table is a fixed one.  Of two keys that fall into the same place the
 * second waits until the first was written.
 */


#include "ngx_http_skillbox.h"


#define NGX_HTTP_SKILLBOX_KEY_USES     1024    /* a power of two */
#define NGX_HTTP_SKILLBOX_KEY_DELAY    1000    /* ms */
#define NGX_HTTP_SKILLBOX_KEY_EVERY    60000   /* ms */


typedef struct {
    sb_key_use_t                  use;
    int64_t                       written_ms;
    ngx_uint_t                    dirty;       /* unsigned  dirty:1; */
} ngx_http_skillbox_key_use_t;


typedef struct {
    ngx_http_skillbox_op_t        op;
    size_t                        n;
    sb_key_use_t                  uses[];
} ngx_http_skillbox_key_use_op_t;


static void ngx_http_skillbox_key_use_handler(ngx_event_t *ev);
static sb_code_t ngx_http_skillbox_key_use_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_key_use_free(ngx_http_skillbox_op_t *op);


/* a worker's own */

static ngx_http_skillbox_key_use_t
    ngx_http_skillbox_key_uses[NGX_HTTP_SKILLBOX_KEY_USES];
static ngx_uint_t        ngx_http_skillbox_key_ndirty;
static ngx_event_t       ngx_http_skillbox_key_event;
static ngx_connection_t  ngx_http_skillbox_key_dumb;


void
ngx_http_skillbox_key_use(const sb_key_t *key)
{
    int64_t                       now;
    ngx_time_t                   *tp;
    ngx_event_t                  *ev;
    ngx_http_skillbox_key_use_t  *u;

    tp = ngx_timeofday();
    now = (int64_t) tp->sec * 1000 + tp->msec;

    u = &ngx_http_skillbox_key_uses[ngx_murmur_hash2((u_char *) key->id,
                                                     SB_UUID_LEN)
                                    % NGX_HTTP_SKILLBOX_KEY_USES];

    if (u->dirty) {

        if (ngx_memcmp(u->use.id, key->id, SB_UUID_LEN) == 0) {
            u->use.used_ms = now;
        }

        return;
    }

    if (ngx_memcmp(u->use.id, key->id, SB_UUID_LEN) == 0
        && now - u->written_ms < NGX_HTTP_SKILLBOX_KEY_EVERY)
    {
        return;
    }

    ngx_memcpy(u->use.id, key->id, sizeof(u->use.id));
    u->use.used_ms = now;
    u->dirty = 1;
    ngx_http_skillbox_key_ndirty++;

    ev = &ngx_http_skillbox_key_event;

    if (!ev->timer_set) {
        ngx_http_skillbox_key_dumb.fd = (ngx_socket_t) -1;

        ev->handler = ngx_http_skillbox_key_use_handler;
        ev->data = &ngx_http_skillbox_key_dumb;
        ev->log = ngx_cycle->log;
        ev->cancelable = 1;

        ngx_add_timer(ev, NGX_HTTP_SKILLBOX_KEY_DELAY);
    }
}


static void
ngx_http_skillbox_key_use_handler(ngx_event_t *ev)
{
    ngx_uint_t                       i;
    ngx_http_skillbox_key_use_t     *u;
    ngx_http_skillbox_key_use_op_t  *op;

    op = calloc(1, sizeof(ngx_http_skillbox_key_use_op_t)
                   + ngx_http_skillbox_key_ndirty * sizeof(sb_key_use_t));

    if (op) {
        op->op.apply = ngx_http_skillbox_key_use_apply;
        op->op.free = ngx_http_skillbox_key_use_free;
    }

    /* what can't be written now is noted anew with the key's next use */

    for (i = 0; i < NGX_HTTP_SKILLBOX_KEY_USES; i++) {
        u = &ngx_http_skillbox_key_uses[i];

        if (!u->dirty) {
            continue;
        }

        u->dirty = 0;
        u->written_ms = u->use.used_ms;

        if (op) {
            op->uses[op->n++] = u->use;
        }
    }

    ngx_http_skillbox_key_ndirty = 0;

    if (op && ngx_http_skillbox_store_post(&op->op, NULL, NULL) != NGX_OK) {
        free(op);
    }
}


/* thread */

static sb_code_t
ngx_http_skillbox_key_use_apply(ngx_http_skillbox_op_t *op, sb_batch_t *batch,
    sb_err_t *err)
{
    ngx_http_skillbox_key_use_op_t *ku = (ngx_http_skillbox_key_use_op_t *) op;

    return sb_batch_key_used(batch, ku->uses, ku->n, err);
}


static void
ngx_http_skillbox_key_use_free(ngx_http_skillbox_op_t *op)
{
    free(op);
}
