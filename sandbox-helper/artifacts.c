/*
 * artifacts.c - see artifacts.h.  Runs in the confined collect child.  Everything
 * it reads below the two folders was named and made by the script: each loop has a
 * bound, each file is opened by beneath.h, and what the open file says of itself
 * (type, size) is what counts.  The walk itself decides nothing for good.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../libskillbox/limits.h"
#include "../libskillbox/names.h"
#include "../libskillbox/units.h"
#include "artifact_twins.h"
#include "artifacts.h"
#include "beneath.h"
#include "stage.h"
#include "tarball.h"

/* Candidates of one folder. */
typedef struct {
    char **names;
    size_t count, cap;
    size_t entries; /* directory entries seen */
    int rootfd;
    bool is_work; /* leave out what has the stage's time */
    bool stopped; /* ARTIFACTS_ENTRIES_MAX or out of memory: said once */
    warnings_t *w;
} walk_t;

static void skip(warnings_t *w, const char *name, const char *why)
{
    warnings_add(w, "%s: left out: %s", warnings_name(name), why);
}

static void stop(walk_t *walk, const char *why)
{
    if (!walk->stopped) {
        warnings_add(walk->w, "the search for artifacts ended early: %s", why);
    }
    walk->stopped = true;
}

static void keep(walk_t *walk, const char *name)
{
    char *copy;

    if (walk->count == walk->cap) {
        size_t cap = walk->cap > 0 ? walk->cap * 2 : 64;
        char **names = realloc(walk->names, cap * sizeof(*names));

        if (names == NULL) {
            stop(walk, "out of memory");
            return;
        }
        walk->names = names;
        walk->cap = cap;
    }
    copy = strdup(name);
    if (copy == NULL) {
        stop(walk, "out of memory");
        return;
    }
    walk->names[walk->count++] = copy;
}

static bool stage_made(const struct stat *st)
{
    return st->st_mtim.tv_sec == STAGE_WORK_MTIME_SEC &&
           st->st_mtim.tv_nsec == STAGE_WORK_MTIME_NSEC;
}

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a fifo";
    case S_IFSOCK:
        return "a socket";
    default:
        return "not a regular file";
    }
}

static void walk_dir(walk_t *walk, const char *path, int depth);

/* path: of the entry, relative to the root of the walk. */
static void walk_entry(walk_t *walk, int dirfd, const char *leaf, const char *path, int depth)
{
    struct stat st;

    if (fstatat(dirfd, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        skip(walk->w, path, strerror(errno));
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        walk_dir(walk, path, depth + 1);
        return;
    }
    if (walk->is_work && stage_made(&st)) {
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        skip(walk->w, path, kind_of(st.st_mode));
        return;
    }
    if (!sb_path_valid(path, strlen(path)) || sb_path_has_drive(path, strlen(path))) {
        skip(walk->w, path, "a name with characters that are not portable");
        return;
    }
    keep(walk, path);
}

/* One entry of the directory: its path is made and checked. */
static void walk_name(walk_t *walk, int dirfd, const char *dir, const char *leaf, int depth)
{
    char path[SB_PATH_MAX + 1];
    int n;

    if (strcmp(leaf, ".") == 0 || strcmp(leaf, "..") == 0) {
        return;
    }
    if (++walk->entries > ARTIFACTS_ENTRIES_MAX) {
        stop(walk, "too many directory entries");
        return;
    }
    if (strcmp(dir, ".") == 0) {
        n = snprintf(path, sizeof(path), "%s", leaf);
    } else {
        n = snprintf(path, sizeof(path), "%s/%s", dir, leaf);
    }
    if (n >= (int)sizeof(path)) {
        skip(walk->w, path, "the path is too long");
        return;
    }
    walk_entry(walk, dirfd, leaf, path, depth);
}

static void walk_dir(walk_t *walk, const char *path, int depth)
{
    struct dirent *entry;
    DIR *dir;
    int fd;

    if (depth > ARTIFACTS_DEPTH_MAX) {
        skip(walk->w, path, "nested too deeply");
        return;
    }
    fd = beneath_open_dir(walk->rootfd, path);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        skip(walk->w, path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    while (!walk->stopped && (entry = readdir(dir)) != NULL) {
        walk_name(walk, fd, path, entry->d_name, depth);
    }
    closedir(dir);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void walk_free(walk_t *walk)
{
    for (size_t i = 0; i < walk->count; i++) {
        free(walk->names[i]);
    }
    free(walk->names);
}

/* Everything below rootfd, sorted by name. */
static void walk_root(walk_t *walk, int rootfd, bool is_work, warnings_t *w)
{
    *walk = (walk_t){.rootfd = rootfd, .is_work = is_work, .w = w};
    if (rootfd < 0) {
        return;
    }
    walk_dir(walk, ".", 0);
    if (walk->count > 1) {
        qsort(walk->names, walk->count, sizeof(*walk->names), compare);
    }
}

/* Index of the first name that is not before `name`. */
static size_t lower_bound(const walk_t *walk, const char *name)
{
    size_t low = 0, high = walk->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strcmp(walk->names[mid], name) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool has_name(const walk_t *walk, const char *name)
{
    size_t i = lower_bound(walk, name);

    return i < walk->count && strcmp(walk->names[i], name) == 0;
}

/*
 * Can't stand beside what `files` holds: the same name, a file where the other has
 * a folder, or the other way round (such an archive could not be unpacked).
 */
static bool conflicts(const walk_t *files, const char *name)
{
    char path[SB_PATH_MAX + 2];
    size_t len = strlen(name), i;

    if (has_name(files, name)) {
        return true;
    }
    memcpy(path, name, len + 1);
    for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (has_name(files, path)) {
            return true;
        }
        *slash = '/';
    }
    path[len] = '/';
    path[len + 1] = '\0';
    i = lower_bound(files, path);
    return i < files->count && strncmp(files->names[i], path, len + 1) == 0;
}

/* Files that met a limit: counted, and said once each limit with the first name. */
typedef struct {
    unsigned long count;
    char first[SB_PATH_MAX + 1];
} over_t;

typedef struct {
    artifacts_t *a;
    warnings_t *w;
    int64_t max;
    tarball_t tar;
    over_t over_files, over_bytes;
} pack_t;

static void over(over_t *o, const char *name)
{
    if (o->count++ == 0) {
        snprintf(o->first, sizeof(o->first), "%s", name);
    }
}

/* false: the archive is broken, stop. */
static bool pack_open(pack_t *p, const char *name, int fd, const struct stat *st)
{
    off_t short_by;

    if (st->st_size > p->max - p->a->bytes) {
        over(&p->over_bytes, name);
        return true;
    }
    if (!tarball_add(&p->tar, name, fd, st, &short_by)) {
        return false;
    }
    if (short_by > 0) {
        warnings_add(p->w, "%s: the last %lld bytes could not be read and are zero",
                     warnings_name(name), (long long)short_by);
    }
    if (p->a->files++ > 0) {
        sb_buf_char(&p->a->list, ',');
        sb_buf_char(&p->a->sizes, ',');
    }
    sb_json_cstr(&p->a->list, name);
    sb_buf_fmt(&p->a->sizes, "%lld", (long long)st->st_size);
    p->a->bytes += st->st_size;
    return true;
}

static bool pack_name(pack_t *p, int rootfd, const char *name)
{
    struct stat st;
    bool good;
    int fd;

    if (p->a->files == SB_ARTIFACT_FILES_MAX) {
        over(&p->over_files, name);
        return true;
    }
    fd = beneath_open_file(rootfd, name, &st);
    if (fd < 0) {
        skip(p->w, name, errno == EFTYPE_NOT_REGULAR ? "not a regular file" : strerror(errno));
        return true;
    }
    good = pack_open(p, name, fd, &st);
    close(fd);
    return good;
}

/* What is to be in the archive, in its order. */
typedef struct {
    const char **names;
    const walk_t **from;
    bool *twin;
    size_t count;
} choice_t;

static void choose(choice_t *c, const walk_t *from, size_t *next)
{
    c->names[c->count] = from->names[(*next)++];
    c->from[c->count++] = from;
}

/* Both lists are sorted: what comes of them is too. */
static void merge(choice_t *c, const walk_t *files, const walk_t *work, warnings_t *w)
{
    size_t f = 0, k = 0;

    while (f < files->count || k < work->count) {
        if (k < work->count && conflicts(files, work->names[k])) {
            skip(w, work->names[k++], "the artifacts folder has that name too");
        } else if (k == work->count ||
                   (f < files->count && strcmp(files->names[f], work->names[k]) < 0)) {
            choose(c, files, &f);
        } else {
            choose(c, work, &k);
        }
    }
}

static bool pack_choice(pack_t *p, const choice_t *c)
{
    bool good = true;

    for (size_t i = 0; good && i < c->count; i++) {
        if (c->twin[i]) {
            skip(p->w, c->names[i], "it is another artifact's name in another Unicode form");
        } else {
            good = pack_name(p, c->from[i]->rootfd, c->names[i]);
        }
    }
    return good;
}

static bool pack_merged(pack_t *p, const walk_t *files, const walk_t *work)
{
    size_t most = files->count + work->count + 1;
    choice_t c = {
        .names = calloc(most, sizeof(*c.names)),
        .from = calloc(most, sizeof(*c.from)), /* NOLINT(bugprone-sizeof-expression): pointers */
        .twin = calloc(most, sizeof(*c.twin))};
    bool good = c.names != NULL && c.from != NULL && c.twin != NULL;

    if (good) {
        merge(&c, files, work, p->w);
        good = artifact_twins(c.names, c.count, c.twin);
    }
    if (!good) {
        snprintf(p->tar.error, sizeof(p->tar.error), "out of memory");
    } else {
        good = pack_choice(p, &c);
    }
    free(c.names);
    free(c.from);
    free(c.twin);
    return good;
}

static void report_limits(pack_t *p)
{
    char limit[32];

    if (p->over_files.count > 0) {
        warnings_add(p->w, "%lu artifacts left out: more than %d files; the first is %s",
                     p->over_files.count, SB_ARTIFACT_FILES_MAX,
                     warnings_name(p->over_files.first));
    }
    if (p->over_bytes.count > 0) {
        sb_bytes_format(p->max, limit);
        warnings_add(p->w, "%lu artifacts left out: more than %s%s in all; the first is %s",
                     p->over_bytes.count,
                     p->max < SB_ARTIFACT_BYTES_MAX ? "the tenant's artifact_bytes of " : "", limit,
                     warnings_name(p->over_bytes.first));
    }
}

/* A broken archive is none: the caller drops the file, the result says so. */
static void pack_failed(artifacts_t *a, const char *why)
{
    snprintf(a->error, sizeof(a->error), "artifacts could not be stored: %s", why);
    sb_buf_clear(&a->list);
    sb_buf_clear(&a->sizes);
    a->files = 0;
    a->bytes = 0;
}

static void pack(const walk_t *files, const walk_t *work, int archivefd, int64_t max,
                 artifacts_t *a, warnings_t *w)
{
    pack_t p = {.a = a, .w = w, .max = max};
    bool good;

    tarball_init(&p.tar, archivefd);
    good = pack_merged(&p, files, work);
    if (!good) {
        tarball_discard(&p.tar);
    } else {
        good = tarball_close(&p.tar);
    }
    report_limits(&p);
    if (!good) {
        pack_failed(a, p.tar.error);
    } else if (!sb_buf_ok(&a->list) || !sb_buf_ok(&a->sizes)) {
        pack_failed(a, "out of memory");
    }
}

void artifacts_pack(int outfd, int workfd, int archivefd, int64_t max, artifacts_t *a,
                    warnings_t *w)
{
    int filesfd = beneath_open_dir(outfd, "files");
    walk_t files, work;

    memset(a, 0, sizeof(*a));
    /* a name in JSON: quotes, comma, and at most each character escaped by one more */
    sb_buf_init(&a->list, (size_t)SB_ARTIFACT_FILES_MAX * (2 * SB_PATH_MAX + 3));
    sb_buf_init(&a->sizes, (size_t)SB_ARTIFACT_FILES_MAX * 16);
    if (filesfd < 0 && errno != ENOENT) {
        skip(w, "files", errno == ELOOP || errno == ENOTDIR ? "not a folder" : strerror(errno));
    }
    walk_root(&files, filesfd, false, w);
    walk_root(&work, workfd, true, w);
    pack(&files, &work, archivefd, max, a, w);
    walk_free(&files);
    walk_free(&work);
    if (filesfd >= 0) {
        close(filesfd);
    }
}
