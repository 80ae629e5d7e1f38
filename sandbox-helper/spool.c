/*
 * spool.c - see spool.h.  Touches files below its folder by descriptor only; never waits
 * for a disk but to read, and once at the start.
 */
#include "spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "sys.h"

#define MAGIC 0x31505342u /* "BSP1" */

typedef struct {
    uint32_t magic, facts_len;
    uint64_t body_len;
} trailer_t;

static const char *const suffixes[] = {".job", ".run", ".done"};

static void name_of(const char *id, const char *suffix, char out[SPOOL_NAME_LEN + 1])
{
    snprintf(out, SPOOL_NAME_LEN + 1, "%.36s%.5s", id, suffix);
}

sb_code_t spool_open(spool_t *s, int state_fd, loop_t *loop, sb_err_t *err)
{
    struct stat st;

    if (mkdirat(state_fd, "spool", 0700) != 0 && errno != EEXIST)
        return sb_err_errno(err, errno, "state_dir: spool cannot be made");
    s->dir_fd = openat(state_fd, "spool", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->dir_fd < 0 || fstat(s->dir_fd, &st) != 0)
        return sb_err_errno(err, errno, "state_dir: spool cannot be opened");
    if (st.st_uid != geteuid())
        return sb_err_set(err, SB_ESYSTEM, "state_dir: spool belongs to uid %d, not to uid %d",
                          (int)st.st_uid, (int)geteuid());
    if (fsync(state_fd) != 0) /* that it is found again, with what will be in it */
        return sb_err_errno(err, errno, "state_dir: it cannot be synced");
    return syncer_open(&s->syncer, loop, s->dir_fd, err);
}

void spool_close(spool_t *s)
{
    syncer_close(&s->syncer);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    s->dir_fd = -1;
}

/* ---- writing ---- */

int spool_create(spool_t *s, const char *id)
{
    char name[SPOOL_NAME_LEN + 1];

    name_of(id, ".tmp", name);
    return openat(s->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
}

int spool_add(int fd, const void *data, size_t len)
{
    return sys_write_all(fd, data, len);
}

int spool_add_file(int fd, int from, uint64_t len)
{
    off_t at = 0;

    while ((uint64_t)at < len) { /* in the kernel: the loop waits for it */
        ssize_t n = sendfile(fd, from, &at, len - (uint64_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
    }
    return 0;
}

int spool_seal(int fd, uint64_t body_len, const void *facts, size_t facts_len)
{
    trailer_t t = {.magic = MAGIC, .facts_len = (uint32_t)facts_len, .body_len = body_len};

    if (facts_len > SPOOL_FACTS_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    if (sys_write_all(fd, facts, facts_len) != 0)
        return -1;
    return sys_write_all(fd, &t, sizeof t);
}

int spool_keep(spool_t *s, const char *id, spool_kind_t kind)
{
    char from[SPOOL_NAME_LEN + 1], to[SPOOL_NAME_LEN + 1];

    name_of(id, ".tmp", from);
    name_of(id, suffixes[kind], to);
    return renameat(s->dir_fd, from, s->dir_fd, to);
}

static void unlink_quietly(spool_t *s, const char *id, const char *suffix)
{
    char name[SPOOL_NAME_LEN + 1];

    name_of(id, suffix, name);
    if (unlinkat(s->dir_fd, name, 0) != 0 && errno != ENOENT)
        log_event(LOG_ERROR, "a file of the spool can't be removed", "error", strerror(errno));
}

void spool_discard(spool_t *s, const char *id)
{
    unlink_quietly(s, id, ".tmp");
}

/* ---- what is there ---- */

static int read_trailer(int fd, trailer_t *t)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -1;
    if (st.st_size >= (off_t)sizeof *t) {
        if (sys_pread_all(fd, t, sizeof *t, st.st_size - (off_t)sizeof *t) != 0)
            return -1;
        if (t->magic == MAGIC && t->facts_len <= SPOOL_FACTS_MAX &&
            t->body_len <= (uint64_t)st.st_size &&
            t->body_len + t->facts_len + sizeof *t == (uint64_t)st.st_size)
            return 0;
    }
    errno = EBADMSG;
    return -1;
}

static int read_facts(int fd, sb_buf_t *facts, uint64_t *body_len)
{
    static char text[SPOOL_FACTS_MAX];
    trailer_t t;

    if (read_trailer(fd, &t) != 0 || sys_pread_all(fd, text, t.facts_len, (off_t)t.body_len) != 0)
        return -1;
    sb_buf_clear(facts);
    sb_buf_add(facts, text, t.facts_len);
    *body_len = t.body_len;
    if (sb_buf_ok(facts))
        return 0;
    errno = ENOMEM;
    return -1;
}

int spool_read(spool_t *s, const char *id, spool_kind_t kind, sb_buf_t *facts, uint64_t *body_len)
{
    char name[SPOOL_NAME_LEN + 1];

    name_of(id, suffixes[kind], name);
    int fd = openat(s->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (read_facts(fd, facts, body_len) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

bool spool_has(const spool_t *s, const char *id, spool_kind_t kind)
{
    char name[SPOOL_NAME_LEN + 1];

    name_of(id, suffixes[kind], name);
    return faccessat(s->dir_fd, name, F_OK, 0) == 0;
}

int spool_started(spool_t *s, const char *id)
{
    char from[SPOOL_NAME_LEN + 1], to[SPOOL_NAME_LEN + 1];

    name_of(id, suffixes[SPOOL_JOB], from);
    name_of(id, suffixes[SPOOL_RUN], to);
    return renameat(s->dir_fd, from, s->dir_fd, to);
}

void spool_remove(spool_t *s, const char *id, spool_kind_t kind)
{
    unlink_quietly(s, id, suffixes[kind]);
}

static void on_settled(syncer_request_t *r, int errnum)
{
    if (errnum != 0 && errnum != ECANCELED)
        log_event(LOG_ERROR, "the spool can't be synced", "error", strerror(errnum));
    free(r);
}

void spool_settle(spool_t *s)
{
    syncer_request_t *r = calloc(1, sizeof *r);

    if (r == NULL)
        return; /* the kernel writes it some time */
    r->done = on_settled;
    if (syncer_sync(&s->syncer, r, -1) != 0)
        free(r);
}

typedef struct {
    syncer_request_t request;
    spool_t *spool;
    char id[SB_UUID_LEN + 1];
    spool_kind_t old;
} replace_t;

static void on_replaced(syncer_request_t *r, int errnum)
{
    replace_t *p = r->ctx;

    if (errnum == 0 || !spool_has(p->spool, p->id, SPOOL_DONE)) /* delivered meanwhile */
        spool_remove(p->spool, p->id, p->old);
    else if (errnum != ECANCELED)
        log_event(LOG_ERROR, "the spool can't be synced", "error", strerror(errnum));
    free(p);
}

void spool_replace(spool_t *s, const char *id, spool_kind_t old)
{
    replace_t *p = calloc(1, sizeof *p);

    if (p == NULL)
        return; /* the next start removes it: the newer one counts */
    p->request.done = on_replaced;
    p->request.ctx = p;
    p->spool = s;
    p->old = old;
    snprintf(p->id, sizeof p->id, "%.36s", id);
    if (syncer_sync(&s->syncer, &p->request, -1) != 0)
        free(p);
}

/* ---- at start ---- */

static bool parse_name(const char *name, char id[SB_UUID_LEN + 1], spool_kind_t *kind)
{
    unsigned char binary[16];

    if (strlen(name) <= SB_UUID_LEN || !sb_uuid_parse(name, SB_UUID_LEN, binary))
        return false;
    sb_uuid_format(binary, id);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (strcmp(name + SB_UUID_LEN, suffixes[i]) == 0 && memcmp(name, id, SB_UUID_LEN) == 0) {
            *kind = (spool_kind_t)i;
            return true;
        }
    }
    return false;
}

static bool is_whole(const spool_t *s, const char *name)
{
    int fd = openat(s->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    trailer_t t;

    if (fd < 0)
        return false;
    bool whole = read_trailer(fd, &t) == 0;
    close(fd);
    return whole;
}

/* The names first: fn makes and removes files. */
static size_t list_names(const spool_t *s, char (**names)[SPOOL_NAME_LEN + 1])
{
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    size_t n = 0, cap = 0;
    struct dirent *e;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while ((e = readdir(dir)) != NULL) {
        size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.' || len > SPOOL_NAME_LEN)
            continue;
        if (n == cap) {
            size_t more = cap != 0 ? cap * 2 : 64;
            void *p = realloc(*names, more * sizeof **names);
            if (p == NULL)
                break; /* the rest is for the next start */
            *names = p;
            cap = more;
        }
        memcpy((*names)[n++], e->d_name, len + 1);
    }
    closedir(dir);
    return n;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

void spool_each(spool_t *s, void (*fn)(void *ctx, const char *id, spool_kind_t kind), void *ctx)
{
    char(*names)[SPOOL_NAME_LEN + 1] = NULL, id[SB_UUID_LEN + 1];
    size_t n = list_names(s, &names);
    spool_kind_t kind;

    /* ids are made of the time: the order in which they were accepted; .done before .job, .run */
    if (n > 0)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        if (parse_name(names[i], id, &kind) && is_whole(s, names[i]))
            fn(ctx, id, kind);
        else if (unlinkat(s->dir_fd, names[i], 0) != 0 && errno != ENOENT)
            log_event(LOG_WARN, "a leftover in spool/ can't be removed", "error", strerror(errno));
    }
    free(names);
}
