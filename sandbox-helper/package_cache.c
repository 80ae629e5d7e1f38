/*
 * package_cache.c - see package_cache.h.
 */
#include "package_cache.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define AT_ONCE    64      /* folders looked at in one step */
#define PAUSE_MS   20      /* between two steps */
#define ROUND_MIN  1000    /* ms between two rounds */
#define ROUND_MAX  3600000 /* the same */
#define DIGEST_LEN 64

static int64_t unused_ms(const struct stat *st)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - st->st_mtim.tv_sec) * 1000 + (now.tv_nsec - st->st_mtim.tv_nsec) / 1000000;
}

/* How far a use may be behind its note: a note is a write to the disk. */
static int64_t slack_ms(const package_cache_t *p)
{
    return p->idle_ms / 8 < ROUND_MAX ? p->idle_ms / 8 : ROUND_MAX;
}

bool package_cache_has(const package_cache_t *p, const char *digest)
{
    struct stat st;

    if (fstatat(p->state->packages_fd, digest, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (p->idle_ms > 0 && unused_ms(&st) > slack_ms(p))
        (void)utimensat(p->state->packages_fd, digest, NULL, AT_SYMLINK_NOFOLLOW);
    return true;
}

static void look_at(const package_cache_t *p, const char *name)
{
    struct stat st;

    if (strlen(name) != DIGEST_LEN || strspn(name, "0123456789abcdef") != DIGEST_LEN)
        return;
    if (fstatat(p->state->packages_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        unused_ms(&st) <= p->idle_ms + slack_ms(p) || p->in_use(p->ctx, name))
        return;
    if (state_package_discard(p->state, name))
        log_event(LOG_INFO, "a package that was long unused is removed", "digest", name);
}

static void end_round(package_cache_t *p)
{
    if (p->dir != NULL)
        closedir(p->dir);
    p->dir = NULL;
}

static bool begin_round(package_cache_t *p)
{
    int fd = openat(p->state->packages_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    p->dir = fd < 0 ? NULL : fdopendir(fd);
    if (p->dir == NULL && fd >= 0)
        close(fd);
    return p->dir != NULL;
}

static int64_t between_rounds(const package_cache_t *p)
{
    const int64_t ms = p->idle_ms / 4;

    return ms < ROUND_MIN ? ROUND_MIN : ms > ROUND_MAX ? ROUND_MAX : ms;
}

static void on_timer(void *ctx)
{
    package_cache_t *p = ctx;
    const struct dirent *e = NULL;

    if (p->dir != NULL || begin_round(p)) {
        for (int i = 0; i < AT_ONCE && (e = readdir(p->dir)) != NULL; i++)
            look_at(p, e->d_name);
        if (e == NULL)
            end_round(p);
    }
    loop_timer_set(p->loop, &p->timer, e != NULL ? PAUSE_MS : between_rounds(p));
}

void package_cache_start(package_cache_t *p, state_t *state, loop_t *loop, int64_t idle_ms,
                         bool (*in_use)(void *ctx, const char *digest), void *ctx)
{
    *p = (package_cache_t){.state = state,
                           .loop = loop,
                           .idle_ms = idle_ms,
                           .in_use = in_use,
                           .ctx = ctx,
                           .timer = {.fn = on_timer, .ctx = p}};
    if (idle_ms > 0)
        loop_timer_set(loop, &p->timer, between_rounds(p));
}

void package_cache_stop(package_cache_t *p)
{
    if (p->loop == NULL)
        return;
    loop_timer_clear(p->loop, &p->timer);
    end_round(p);
}
