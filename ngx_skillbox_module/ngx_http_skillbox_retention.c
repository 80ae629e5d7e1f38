
/*
 * What is removed because it is old or too much: executions with their logs and
 * archives, idempotency keys, archives that belong to no execution.
 *
 * One worker does it, in steps of the store's thread that hold the writer's lock
 * for some milliseconds and leave room for others between them; reads are not
 * held up at all.  A step first removes the files whose records the last one
 * removed: by then that is committed.  A crash between the two leaves archives
 * nobody knows of; each step looks through one of the 256 folders for such, and
 * tells the tenants' accounts how large the others are: the store was upgraded
 * from one that did not know, or a file was changed behind its back.  A worker
 * goes through all folders at once when it begins.
 */


#include "ngx_http_skillbox_async.h"

#include <dirent.h>


#define NGX_HTTP_SKILLBOX_STEP_MAX     200      /* records of a step */
#define NGX_HTTP_SKILLBOX_STEP_LOW     10       /* where there is no room */
#define NGX_HTTP_SKILLBOX_STEP_TENANTS 50       /* without anything to go */
#define NGX_HTTP_SKILLBOX_STEP_KEYS    1000
#define NGX_HTTP_SKILLBOX_STEP_FILES   2000     /* looked at */
#define NGX_HTTP_SKILLBOX_STEP_SOON    100      /* ms, when there is more */
#define NGX_HTTP_SKILLBOX_STEP_LATER   60000
#define NGX_HTTP_SKILLBOX_STEP_FIRST   1000
#define NGX_HTTP_SKILLBOX_ORPHAN_AGE   3600     /* s: its record may be under
                                                   way */
#define NGX_HTTP_SKILLBOX_SHARDS       256
#define NGX_HTTP_SKILLBOX_CLOCK_JUMP   3600000  /* ms between two steps */
#define NGX_HTTP_SKILLBOX_CLOCK_WAIT   86400000 /* ms */


typedef struct {
    ngx_http_skillbox_op_t          op;
    sb_retention_t                  retention;
    sb_buf_t                        found;      /* _found_t in the folder */
    sb_buf_t                        gone;       /* ids whose files can go */
    ngx_uint_t                      shard;
    ngx_uint_t                      counted;    /* all folders were seen */
    ngx_uint_t                      known;      /* clock is set */
    int64_t                         clock;      /* ms of it at boot */
    int64_t                         believe_ms; /* since boot; 0: it is right */
    ngx_http_skillbox_main_conf_t  *conf;
    ngx_event_t                     timer;
    ngx_msec_t                      later;      /* between two rounds */
    ngx_uint_t                      busy;       /* a step is under way */
} ngx_http_skillbox_retention_t;


typedef struct {
    char                            id[SB_UUID_LEN + 1];
    uint8_t                         old;
    int64_t                         bytes;
} ngx_http_skillbox_found_t;


static void ngx_http_skillbox_retention_handler(ngx_event_t *ev);
static void ngx_http_skillbox_retention_prepare(ngx_http_skillbox_op_t *op);
static int64_t ngx_http_skillbox_retention_copies(const char *shard,
    const char *id, time_t old);
static ngx_uint_t ngx_http_skillbox_retention_clock(
    ngx_http_skillbox_retention_t *s, int64_t now);
static void ngx_http_skillbox_retention_look(ngx_http_skillbox_retention_t *s,
    ngx_str_t *folder);
static sb_code_t ngx_http_skillbox_retention_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err);
static void ngx_http_skillbox_retention_done(ngx_http_skillbox_op_t *op);


/* a worker's own */

static ngx_http_skillbox_retention_t  ngx_http_skillbox_retention;

static ngx_connection_t  ngx_http_skillbox_retention_dumb;


/* skillbox_retention [age=time] [count=number] [keys=time]; "off": for ever */

char *
ngx_http_skillbox_set_retention(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_skillbox_main_conf_t *smcf = conf;

    ngx_int_t    n;
    ngx_str_t   *value, s;
    ngx_uint_t   i, k;

    static const ngx_str_t  names[] = {
        ngx_string("age="),
        ngx_string("count="),
        ngx_string("keys="),
    };

    if (smcf->keep_age != NGX_CONF_UNSET || smcf->keep_count != NGX_CONF_UNSET
        || smcf->keep_keys != NGX_CONF_UNSET)
    {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        for (k = 0; k < sizeof(names) / sizeof(names[0]); k++) {

            if (value[i].len > names[k].len
                && ngx_strncmp(value[i].data, names[k].data, names[k].len)
                   == 0)
            {
                break;
            }
        }

        if (k == sizeof(names) / sizeof(names[0])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        s.data = value[i].data + names[k].len;
        s.len = value[i].len - names[k].len;

        if (k != 2 && s.len == 3 && ngx_strncmp(s.data, "off", 3) == 0) {
            n = 0;

        } else {
            n = (k == 1) ? ngx_atoi(s.data, s.len) : ngx_parse_time(&s, 1);

            if (n == NGX_ERROR || n == 0) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid value in \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }
        }

        switch (k) {

        case 0:
            smcf->keep_age = n;
            break;

        case 1:
            smcf->keep_count = n;
            break;

        default:
            smcf->keep_keys = n;
        }
    }

    return NGX_CONF_OK;
}


void
ngx_http_skillbox_retention_init(ngx_cycle_t *cycle,
    ngx_http_skillbox_main_conf_t *smcf)
{
    ngx_http_skillbox_retention_t  *s;

    s = &ngx_http_skillbox_retention;

    ngx_memzero(s, sizeof(ngx_http_skillbox_retention_t));

    if (ngx_worker != 0) {
        return;
    }

    ngx_http_skillbox_retention_dumb.fd = (ngx_socket_t) -1;

    s->conf = smcf;
    s->later = NGX_HTTP_SKILLBOX_STEP_LATER;

    if (smcf->keep_age) {
        s->later = ngx_min(s->later, (ngx_msec_t) smcf->keep_age * 1000);
    }

    s->later = ngx_min(s->later, (ngx_msec_t) smcf->keep_keys * 1000);
    s->op.prepare = ngx_http_skillbox_retention_prepare;
    s->op.apply = ngx_http_skillbox_retention_apply;
    s->op.free = ngx_http_skillbox_retention_done;

    sb_buf_init(&s->retention.archives,
                NGX_HTTP_SKILLBOX_STEP_MAX * (SB_UUID_LEN + 1));
    sb_buf_init(&s->found, NGX_HTTP_SKILLBOX_STEP_FILES
                           * sizeof(ngx_http_skillbox_found_t));
    sb_buf_init(&s->gone, (NGX_HTTP_SKILLBOX_STEP_FILES
                           + NGX_HTTP_SKILLBOX_STEP_MAX) * (SB_UUID_LEN + 1));

    s->timer.handler = ngx_http_skillbox_retention_handler;
    s->timer.data = &ngx_http_skillbox_retention_dumb;
    s->timer.log = cycle->log;
    s->timer.cancelable = 1;

    /* it may be set before the first step */

    (void) ngx_http_skillbox_retention_clock(s, sb_time_now_ms());

    ngx_add_timer(&s->timer, NGX_HTTP_SKILLBOX_STEP_FIRST);
}


void
ngx_http_skillbox_retention_exit(void)
{
    ngx_http_skillbox_retention_t  *s;

    s = &ngx_http_skillbox_retention;

    sb_buf_free(&s->retention.archives);
    sb_buf_free(&s->found);
    sb_buf_free(&s->gone);
}


static void
ngx_http_skillbox_retention_handler(ngx_event_t *ev)
{
    ngx_http_skillbox_retention_t  *s;

    s = &ngx_http_skillbox_retention;

    if (s->busy) {
        return;                                 /* its end starts the timer */
    }

    if (ngx_http_skillbox_store_post(&s->op, NULL, NULL) == NGX_OK) {
        s->busy = 1;
        return;
    }

    ngx_add_timer(ev, s->later);
}


/* thread: files */

static void
ngx_http_skillbox_retention_prepare(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_retention_t *s = (ngx_http_skillbox_retention_t *) op;

    size_t       at;
    ngx_str_t   *folder;
    ngx_uint_t   i;

    for (at = 0; at < s->gone.len; at += SB_UUID_LEN + 1) {
        ngx_http_skillbox_archive_unlink(s->conf, s->gone.data + at);
    }

    sb_buf_clear(&s->gone);
    sb_buf_clear(&s->found);

    folder = s->conf->artifacts.elts;

    for (i = 0; i < s->conf->artifacts.nelts; i++) {
        ngx_http_skillbox_retention_look(s, &folder[i]);
    }

    if (++s->shard == NGX_HTTP_SKILLBOX_SHARDS) {
        s->shard = 0;
        s->counted = 1;
    }
}


/*
 * thread: copies of artifacts; those that nobody may want any more are removed.
 * The bytes of the others
 */

static int64_t
ngx_http_skillbox_retention_copies(const char *shard, const char *id,
    time_t old)
{
    int          n;
    char         path[NGX_MAX_PATH];
    struct stat  st;

    n = snprintf(path, sizeof(path), "%s/%.*s.d", shard, SB_UUID_LEN, id);

    if (n < 0 || (size_t) n >= sizeof(path) || lstat(path, &st) == -1) {
        return 0;                               /* most have none */
    }

    if (st.st_mtime > old) {
        return ngx_http_skillbox_archive_copied(path);
    }

    ngx_http_skillbox_archive_remove_copies(path);

    return 0;
}


/* thread: the archives of one folder */

static void
ngx_http_skillbox_retention_look(ngx_http_skillbox_retention_t *s,
    ngx_str_t *folder)
{
    int                         n;
    DIR                        *dir;
    char                        path[NGX_MAX_PATH];
    time_t                      old;
    struct stat                 st;
    struct dirent              *entry;
    ngx_http_skillbox_found_t   found;

    n = snprintf(path, sizeof(path), "%.*s/%02x", (int) folder->len,
                 folder->data, (unsigned) s->shard);

    if (n < 0 || (size_t) n >= sizeof(path)) {
        return;
    }

    dir = opendir(path);
    if (dir == NULL) {
        return;
    }

    old = time(NULL) - NGX_HTTP_SKILLBOX_ORPHAN_AGE;

    while (s->found.len < s->found.max - sizeof(ngx_http_skillbox_found_t)
           && (entry = readdir(dir)) != NULL)
    {
        if (strlen(entry->d_name) == SB_UUID_LEN + 2
            && strcmp(entry->d_name + SB_UUID_LEN, ".d") == 0
            && sb_uuid_parse(entry->d_name, SB_UUID_LEN, NULL))
        {
            (void) ngx_http_skillbox_retention_copies(path, entry->d_name,
                                                      old);
            continue;
        }

        if (strlen(entry->d_name) < SB_UUID_LEN
            || strcmp(entry->d_name + SB_UUID_LEN, ".tar.gz") != 0
            || !sb_uuid_parse(entry->d_name, SB_UUID_LEN, NULL)
            || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW)
               == -1)
        {
            continue;
        }

        ngx_memzero(&found, sizeof(ngx_http_skillbox_found_t));
        ngx_memcpy(found.id, entry->d_name, SB_UUID_LEN);
        found.bytes = st.st_size
                      + ngx_http_skillbox_retention_copies(path,
                                                           entry->d_name,
                                                           old);
        found.old = (st.st_mtime <= old);

        sb_buf_add(&s->found, &found, sizeof(ngx_http_skillbox_found_t));
    }

    closedir(dir);
}


/*
 * thread: is the clock right, as far as can be told?  One that was set forward by
 * an hour or more may be wrong, and by it everything would be old at once: what
 * goes by age waits for a day then, in which somebody may set it back.
 */

static ngx_uint_t
ngx_http_skillbox_retention_clock(ngx_http_skillbox_retention_t *s,
    int64_t now)
{
    int64_t          up, ahead;
    struct timespec  ts;

    /* unlike CLOCK_MONOTONIC it goes on while the host sleeps */

    if (clock_gettime(CLOCK_BOOTTIME, &ts) == -1) {
        return 1;
    }

    up = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    ahead = s->known ? now - up - s->clock : 0;

    if (ahead < NGX_HTTP_SKILLBOX_CLOCK_JUMP
        || (s->believe_ms && up >= s->believe_ms))
    {
        if (s->believe_ms) {
            ngx_log_error(NGX_LOG_WARN, s->timer.log, 0,
                          "what is old is removed again: the clock %s",
                          up >= s->believe_ms ? "stayed as it was set"
                                              : "was set back");
        }

        s->known = 1;
        s->clock = now - up;
        s->believe_ms = 0;

        return 1;
    }

    if (s->believe_ms == 0) {
        s->believe_ms = up + NGX_HTTP_SKILLBOX_CLOCK_WAIT;

        ngx_log_error(NGX_LOG_ERR, s->timer.log, 0,
                      "the clock was set forward by %L s: what is old by it "
                      "is kept for a day, in case it is wrong", ahead / 1000);
    }

    return 0;
}


/* thread */

static sb_code_t
ngx_http_skillbox_retention_apply(ngx_http_skillbox_op_t *op,
    sb_batch_t *batch, sb_err_t *err)
{
    ngx_http_skillbox_retention_t *s = (ngx_http_skillbox_retention_t *) op;

    size_t                      at;
    int64_t                     now;
    sb_code_t                   code;
    ngx_uint_t                  i, keys, right;
    sb_retention_t             *r;
    ngx_http_skillbox_found_t   found;

    r = &s->retention;
    now = sb_time_now_ms();

    right = ngx_http_skillbox_retention_clock(s, now);

    r->before_ms = s->conf->keep_age && right ? now - s->conf->keep_age * 1000
                                              : 0;
    r->keep = s->conf->keep_count;
    r->max = NGX_HTTP_SKILLBOX_STEP_MAX;
    keys = NGX_HTTP_SKILLBOX_STEP_KEYS;

    if (sb_batch_low(batch)) {
        r->max = keys = NGX_HTTP_SKILLBOX_STEP_LOW;
    }

    sb_buf_clear(&r->archives);

    code = SB_OK;

    for (i = 0; code == SB_OK && i < NGX_HTTP_SKILLBOX_STEP_TENANTS; i++) {
        code = sb_batch_execution_retain(batch, r, err);

        if (r->removed || r->round) {
            break;
        }
    }

    if (code == SB_OK && right) {
        code = sb_batch_idempotency_sweep(batch,
                                          now - s->conf->keep_keys * 1000,
                                          keys, err);
    }

    if (code == SB_OK && right) {
        code = sb_batch_grave_sweep(batch, now - SB_GRAVE_AGE_MS, keys, err);
    }

    if (code != SB_OK) {
        return code;
    }

    sb_buf_add(&s->gone, r->archives.data, r->archives.len);

    for (at = 0; at < s->found.len; at += sizeof(ngx_http_skillbox_found_t)) {
        ngx_memcpy(&found, s->found.data + at,
                   sizeof(ngx_http_skillbox_found_t));

        code = sb_batch_execution_has_archive(batch, found.id, found.bytes,
                                              err);

        if (code == SB_ENOTFOUND && found.old && right) {
            sb_buf_add(&s->gone, found.id, sizeof(found.id));

        } else if (code != SB_OK && code != SB_ENOTFOUND) {
            return code;
        }
    }

    return SB_OK;
}


static void
ngx_http_skillbox_retention_done(ngx_http_skillbox_op_t *op)
{
    ngx_http_skillbox_retention_t *s = (ngx_http_skillbox_retention_t *) op;

    ngx_uint_t  more;

    s->busy = 0;

    if (op->err.code != SB_OK || !sb_buf_ok(&s->gone)) {
        sb_buf_clear(&s->gone);                 /* it was not committed */
    }

    more = op->err.code == SB_OK
           && (!s->retention.round || s->retention.removed || s->gone.len
               || !s->counted);

    if (!ngx_exiting && !ngx_terminate) {
        ngx_add_timer(&s->timer, more ? NGX_HTTP_SKILLBOX_STEP_SOON
                                      : s->later);
    }
}
