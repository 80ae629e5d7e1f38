/*
 * state.c - see state.h.  Touches only the two folders of the configuration,
 * by descriptors; state_prepare alone runs as root.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../libskillbox/protocol.h"
#include "fault.h"
#include "log.h"

#define TRASH_STEP     128 /* entries removed between two looks at the sockets */
#define SWEEP_PAUSE_MS 100
#define SWEEPS_MAX     300     /* half a minute */
#define BEGUN_MAX      1000000 /* entries looked at in one sweep */
#define OPEN_TRIES     3
#define LOCK_TRIES     50 /* a second */
#define LOCK_PAUSE_MS  20

#define ARCHIVE_NAME_LEN (3 + SB_UUID_LEN + 16)

/* ---- start ---- */

/* That a folder just made is found again after a power loss.  What can't be opened is not ours. */
static void sync_above(const char *path)
{
    char above[PATH_MAX];
    int n = snprintf(above, sizeof above, "%s/..", path);
    int fd = n > 0 && n < (int)sizeof above ? open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    if (fsync(fd) != 0)
        log_event(LOG_WARN, "a folder that was made may be lost by a power loss", "folder", path);
    close(fd);
}

static sb_code_t make_folder(const char *path, mode_t mode, const config_t *c, sb_err_t *err)
{
    if (mkdir(path, mode) != 0) {
        if (errno == EEXIST)
            return SB_OK;
        return sb_err_errno(err, errno, "%s cannot be made", path);
    }
    if (chown(path, c->uid, c->gid) != 0)
        return sb_err_errno(err, errno, "%s cannot be given to %s", path, c->user);
    sync_above(path);
    return SB_OK;
}

sb_code_t state_prepare(const config_t *c, sb_err_t *err)
{
    sb_code_t rc = make_folder(c->state_dir, 0700, c, err);

    return rc == SB_OK ? make_folder(c->artifacts, 0750, c, err) : rc;
}

static sb_code_t open_folder(const char *path, mode_t mode, int *fd, sb_err_t *err)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        sync_above(path);
    else if (errno != EEXIST)
        return sb_err_errno(err, errno, "%s cannot be made", path);
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return sb_err_errno(err, errno, "%s cannot be opened by uid %d", path, (int)geteuid());
    if (fstat(*fd, &st) != 0)
        return sb_err_errno(err, errno, "%s", path);
    if (faccessat(*fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return sb_err_errno(err, errno, "%s belongs to uid %d and can't be written by uid %d", path,
                            (int)st.st_uid, (int)geteuid());
    return SB_OK;
}

static sb_code_t own_folder(int parent, const char *name, int *fd, sb_err_t *err)
{
    struct stat st;

    if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
        return sb_err_errno(err, errno, "state_dir: %s cannot be made", name);
    *fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return sb_err_errno(err, errno, "state_dir: %s cannot be opened", name);
    if (st.st_uid != geteuid())
        return sb_err_set(err, SB_ESYSTEM, "state_dir: %s belongs to uid %d, not to uid %d", name,
                          (int)st.st_uid, (int)geteuid());
    return SB_OK;
}

/*
 * A helper that was killed may have left the lock to a child for a moment: one that had been forked
 * and not yet executed its program.  A supervisor starts the next helper faster than that.
 */
static bool lock_soon(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

static sb_code_t lock_state(const state_t *s, const config_t *c, sb_err_t *err)
{
    struct stat st;

    if (fstat(s->dir_fd, &st) != 0 || st.st_uid != geteuid())
        return sb_err_set(err, SB_ESYSTEM,
                          "%s must belong to the helper's own user (uid %d): chown it",
                          c->state_dir, (int)geteuid());
    if (fchmod(s->dir_fd, 0700) != 0)
        return sb_err_errno(err, errno, "%s", c->state_dir);
    if (!lock_soon(s->dir_fd))
        return sb_err_set(err, SB_ESYSTEM, "%s is in use by another sandbox-helper", c->state_dir);
    return SB_OK;
}

static sb_code_t make_shards(state_t *s, const config_t *c, sb_err_t *err)
{
    char name[3];

    for (int i = 0; i < STATE_SHARDS; i++) {
        snprintf(name, sizeof name, "%02x", i);
        if (mkdirat(s->artifacts_fd, name, 0750) != 0 && errno != EEXIST)
            return sb_err_errno(err, errno, "%s/%s cannot be made", c->artifacts, name);
        /* The group is the gateway's, which removes archives with their executions.  One of another
         * helper's that shares the folder is that one's to open. */
        if (fchmodat(s->artifacts_fd, name, 0770, 0) != 0 && errno != EPERM)
            return sb_err_errno(err, errno, "%s/%s", c->artifacts, name);
    }
    if (mkdirat(s->artifacts_fd, "tmp", 0750) != 0 && errno != EEXIST)
        return sb_err_errno(err, errno, "%s/tmp cannot be made", c->artifacts);
    s->begun_fd = openat(s->artifacts_fd, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->begun_fd < 0)
        return sb_err_errno(err, errno, "%s/tmp cannot be opened", c->artifacts);
    /* So that an archive's folder survives a crash as surely as the archive. */
    if (fsync(s->artifacts_fd) != 0)
        return sb_err_errno(err, errno, "%s", c->artifacts);
    return SB_OK;
}

static void sweep_tmp(state_t *s)
{
    rmtree_t rt;

    rmtree_begin(&rt, s->tmp_fd);
    while (rmtree_step(&rt, TRASH_STEP))
        ;
    if (rt.failed_errno != 0)
        log_event(LOG_WARN, "leftovers in tmp/ could not all be removed", "error",
                  strerror(rt.failed_errno));
    rmtree_end(&rt);
}

/* A lock tells a living writer, of another helper that shares the folder.  False: there is one. */
static bool sweep_begun_one(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return true;
    bool unlocked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (unlocked && unlinkat(dir, name, 0) != 0 && errno == EISDIR)
        unlinkat(dir, name, AT_REMOVEDIR); /* one that was to become a folder for artifacts */
    close(fd);
    return unlocked;
}

/* How many begun archives are locked. */
static int sweep_begun(const state_t *s)
{
    int fd = openat(s->begun_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), locked = 0;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (int i = 0; i < BEGUN_MAX; i++) {
        struct dirent *e = readdir(dir);
        if (e == NULL)
            break;
        if (e->d_name[0] != '.')
            locked += !sweep_begun_one(dirfd(dir), e->d_name);
    }
    closedir(dir);
    return locked;
}

/*
 * The collect child of a helper that was killed may hold its archive's lock for a moment after
 * the next helper's start.  Archives that this helper has begun meanwhile are locked as well.
 */
static void on_sweep(void *ctx)
{
    state_t *s = ctx;

    if (sweep_begun(s) > 0 && ++s->sweeps < SWEEPS_MAX)
        loop_timer_set(s->loop, &s->sweep_timer, SWEEP_PAUSE_MS);
}

static void on_trash(void *ctx);

sb_code_t state_open(state_t *s, const config_t *c, loop_t *loop, sb_err_t *err)
{
    memset(s, 0, sizeof *s);
    s->loop = loop;
    s->dir_fd = s->packages_fd = s->tmp_fd = s->artifacts_fd = s->begun_fd = s->trash_fd = -1;
    s->trash_timer = (loop_timer_t){.fn = on_trash, .ctx = s};
    s->sweep_timer = (loop_timer_t){.fn = on_sweep, .ctx = s};

    sb_code_t rc = open_folder(c->state_dir, 0700, &s->dir_fd, err);
    if (rc == SB_OK)
        rc = lock_state(s, c, err);
    if (rc == SB_OK)
        rc = own_folder(s->dir_fd, "packages", &s->packages_fd, err);
    if (rc == SB_OK)
        rc = own_folder(s->dir_fd, "tmp", &s->tmp_fd, err);
    if (rc == SB_OK)
        rc = open_folder(c->artifacts, 0750, &s->artifacts_fd, err);
    if (rc == SB_OK)
        rc = make_shards(s, c, err);
    if (rc != SB_OK)
        return rc;
    sweep_tmp(s);
    on_sweep(s);
    return SB_OK;
}

/* ---- removal ---- */

static void trash_done(state_t *s)
{
    if (s->trash.failed_errno != 0)
        log_event(LOG_WARN, "a staging folder could not be removed", "error",
                  strerror(s->trash.failed_errno));
    rmtree_end(&s->trash);
    close(s->trash_fd);
    s->trash_fd = -1;
    s->removing = false;
    if (unlinkat(s->tmp_fd, "trash", AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    if (errno == ENOTEMPTY && s->trash.failed_errno == 0) /* more came while the last was read */
        state_staging_discard(s, NULL);
}

static void on_trash(void *ctx)
{
    state_t *s = ctx;

    if (rmtree_step(&s->trash, TRASH_STEP))
        loop_timer_set(s->loop, &s->trash_timer, 1);
    else
        trash_done(s);
}

/* False: there is no trash folder; the next start sweeps tmp/. */
static bool open_trash(state_t *s)
{
    if (s->removing)
        return true;
    if (mkdirat(s->tmp_fd, "trash", 0700) != 0 && errno != EEXIST)
        return false;
    s->trash_fd = openat(s->tmp_fd, "trash", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->trash_fd < 0)
        return false;
    rmtree_begin(&s->trash, s->trash_fd);
    s->removing = true;
    SB_FAULT_POINT("trash folder made");
    loop_timer_set(s->loop, &s->trash_timer, 1);
    return true;
}

static bool discard(state_t *s, int folder, const char *name)
{
    char fresh[16];

    snprintf(fresh, sizeof fresh, "%u", s->discarded++);
    if (renameat(folder, name, s->trash_fd, fresh) == 0 || errno == ENOENT)
        return true;
    log_event(LOG_WARN, "a folder could not be discarded", "error", strerror(errno));
    return false;
}

void state_staging_discard(state_t *s, const char *name)
{
    if (open_trash(s) && name != NULL)
        (void)discard(s, s->tmp_fd, name);
}

bool state_package_discard(state_t *s, const char *digest)
{
    /* a folder that goes to another is written to: ".." */
    return open_trash(s) && fchmodat(s->packages_fd, digest, 0700, 0) == 0 &&
           discard(s, s->packages_fd, digest);
}

void state_close(state_t *s)
{
    int fds[] = {s->begun_fd, s->artifacts_fd, s->tmp_fd, s->packages_fd, s->dir_fd};

    if (s->loop == NULL)
        return; /* never opened */
    loop_timer_clear(s->loop, &s->sweep_timer);
    loop_timer_clear(s->loop, &s->trash_timer);
    while (s->removing) {
        if (!rmtree_step(&s->trash, TRASH_STEP))
            trash_done(s);
    }
    loop_timer_clear(s->loop, &s->trash_timer);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* ---- packages ---- */

sb_code_t state_package_open(const state_t *s, const char *digest, int *fd, sb_err_t *err)
{
    char path[80];

    snprintf(path, sizeof path, "%.64s/tree", digest);
    *fd = openat(s->packages_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd >= 0)
        return SB_OK;
    return errno == ENOENT ? sb_err_set(err, SB_ENOTFOUND, "there is no such package here")
                           : sb_err_errno(err, errno, "opening a package");
}

sb_code_t state_upload_open(state_t *s, int *rw, int *ro, sb_err_t *err)
{
    char name[SB_UUID_LEN + 1];

    sb_uuid7(name);
    *rw = openat(s->tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*rw < 0)
        return sb_err_errno(err, errno, "the upload's temporary file");
    SB_FAULT_POINT("upload file made");
    *ro = openat(s->tmp_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int saved = errno;
    unlinkat(s->tmp_fd, name, 0);
    if (*ro < 0) {
        close(*rw);
        return sb_err_errno(err, saved, "the upload's temporary file");
    }
    return SB_OK;
}

sb_code_t state_staging_make(state_t *s, char name[SB_UUID_LEN + 1], int *fd, sb_err_t *err)
{
    sb_uuid7(name);
    if (mkdirat(s->tmp_fd, name, 0700) != 0)
        return sb_err_errno(err, errno, "the staging folder");
    *fd = openat(s->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0) {
        int saved = errno;
        unlinkat(s->tmp_fd, name, AT_REMOVEDIR);
        return sb_err_errno(err, saved, "the staging folder");
    }
    return SB_OK;
}

sb_code_t state_staging_keep(state_t *s, const char *name, const char *digest, sb_err_t *err)
{
    /* The content is synced; the rename need not be: a package lost in a crash is sent again. */
    if (renameat2(s->tmp_fd, name, s->packages_fd, digest, RENAME_NOREPLACE) == 0)
        return SB_OK;
    if (errno != EEXIST)
        return sb_err_errno(err, errno, "the package cannot be put in place");
    state_staging_discard(s, name);
    return SB_OK;
}

/* ---- artifacts ---- */

static void archive_name(const char *id, char out[ARCHIVE_NAME_LEN])
{
    snprintf(out, ARCHIVE_NAME_LEN, "%.2s/%s.tar.gz", id + SB_UUID_LEN - 2, id);
}

/* False: a sweep of another helper came between the two calls. */
static bool lock_begun(int fd)
{
    struct stat st;

    return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

sb_code_t state_archive_open(state_t *s, const char *id, int *fd, sb_err_t *err)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        unlinkat(s->begun_fd, id, 0);
        *fd = openat(s->begun_fd, id, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (*fd < 0)
            return sb_err_errno(err, errno, "the artifacts' archive cannot be made");
        SB_FAULT_POINT("archive begun");
        if (lock_begun(*fd))
            return SB_OK;
        close(*fd);
        *fd = -1;
    }
    return sb_err_set(err, SB_ESYSTEM, "the artifacts' archive cannot be locked");
}

sb_code_t state_archive_keep(state_t *s, const char *id, int *dir_fd, sb_err_t *err)
{
    char name[ARCHIVE_NAME_LEN], shard[3] = "";

    archive_name(id, name);
    memcpy(shard, name, 2);
    *dir_fd = openat(s->artifacts_fd, shard, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*dir_fd < 0)
        return sb_err_errno(err, errno, "the artifacts' folder");
    if (renameat(s->begun_fd, id, s->artifacts_fd, name) == 0)
        return SB_OK;
    int saved = errno;
    close(*dir_fd);
    *dir_fd = -1;
    return sb_err_errno(err, saved, "the artifacts' archive cannot be put in place");
}

void state_archive_discard(state_t *s, const char *id, bool kept)
{
    char name[ARCHIVE_NAME_LEN];

    archive_name(id, name);
    if (kept)
        unlinkat(s->artifacts_fd, name, 0);
    else
        unlinkat(s->begun_fd, id, 0);
}

sb_code_t state_archive_read(const state_t *s, const char *id, int *fd, sb_err_t *err)
{
    char name[ARCHIVE_NAME_LEN];

    archive_name(id, name);
    *fd = openat(s->artifacts_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd >= 0)
        return SB_OK;
    return errno == ENOENT ? sb_err_set(err, SB_ENOTFOUND, "there is no such archive here")
                           : sb_err_errno(err, errno, "opening an archive");
}

/* ---- files out of archives ---- */

sb_code_t state_extract_open(state_t *s, char name[SB_UUID_LEN + 1], int *fd, sb_err_t *err)
{
    sb_uuid7(name);
    return state_archive_open(s, name, fd, err);
}

/*
 * It begins in tmp, as files do: there what is new gets the group that the gateway reads by, and
 * has to remove it by.
 */
static int make_extract_folder(const state_t *s, const char *name, const char *folder)
{
    char begun[SB_UUID_LEN + 3];

    if (faccessat(s->artifacts_fd, folder, F_OK, 0) == 0)
        return 0;
    snprintf(begun, sizeof begun, "%s.d", name);
    if (mkdirat(s->begun_fd, begun, 0770) != 0)
        return -1;
    SB_FAULT_POINT("folder for artifacts made");
    if (fchmodat(s->begun_fd, begun, 02770, 0) == 0 &&
        renameat(s->begun_fd, begun, s->artifacts_fd, folder) == 0)
        return 0;
    int saved = errno;
    unlinkat(s->begun_fd, begun, AT_REMOVEDIR);
    errno = saved;
    return saved == ENOTEMPTY || saved == EEXIST ? 0 : -1; /* another was faster */
}

sb_code_t state_extract_keep(state_t *s, const char *name, const char *id, unsigned index,
                             int archive_fd, sb_err_t *err)
{
    char folder[ARCHIVE_NAME_LEN], path[ARCHIVE_NAME_LEN + 16];
    struct stat st;

    snprintf(folder, sizeof folder, SB_ARTIFACT_DIR_FMT, id + SB_UUID_LEN - 2, id);
    snprintf(path, sizeof path, SB_ARTIFACT_FILE_FMT, id + SB_UUID_LEN - 2, id, index);
    if (make_extract_folder(s, name, folder) != 0)
        return sb_err_errno(err, errno, "a folder for artifacts cannot be made");
    if (fstat(archive_fd, &st) == 0) {
        const struct timespec times[2] = {st.st_mtim, st.st_mtim};
        (void)utimensat(s->begun_fd, name, times, AT_SYMLINK_NOFOLLOW);
    }
    if (renameat(s->begun_fd, name, s->artifacts_fd, path) != 0)
        return sb_err_errno(err, errno, "an artifact cannot be put in place");
    return SB_OK;
}

void state_extract_discard(state_t *s, const char *name)
{
    unlinkat(s->begun_fd, name, 0);
}
