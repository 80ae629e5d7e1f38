/*
 * runtime.c - see runtime.h.  Looks at the host's file system, changes nothing.
 */
#include "runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "sys.h"

/* The distribution's own first: what PATH says is no business of a daemon.  An image's PATH is the
 * other way round: its own build is in /usr/local, what that was built with in /usr. */
static const char *const host_folders[] = {"usr/bin", "usr/local/bin", "bin", NULL};
static const char *const image_folders[] = {"usr/local/bin", "usr/bin", "bin", NULL};
static const char *const programs[STAGE_LANGS] = {"python3", "node", "bash"};

/* ---- the host's ---- */

static bool below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    while (len > 1 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Sandboxes see /usr (and the links to it) and what the operator lists. */
static bool visible(const config_t *c, const config_runtime_t *rt, const char *real)
{
    if (below(real, "/usr"))
        return true;
    for (size_t i = 0; i < c->nreadonly; i++) {
        if (below(real, c->readonly[i]))
            return true;
    }
    for (size_t i = 0; i < rt->nreadonly; i++) {
        if (below(real, rt->readonly[i]))
            return true;
    }
    return false;
}

static bool usable(const config_t *c, const config_runtime_t *rt, const char *path, runtime_t *r)
{
    char real[PATH_MAX];

    if (access(path, X_OK) != 0 || realpath(path, real) == NULL) {
        snprintf(r->reason, sizeof r->reason, "%.100s: %s", path, strerror(errno));
        return false;
    }
    if (!visible(c, rt, real)) {
        snprintf(r->reason, sizeof r->reason,
                 "%.60s is %.80s, outside /usr: add its folder to readonly", path, real);
        return false;
    }
    snprintf(r->path, sizeof r->path, "%s", path);
    r->reason[0] = '\0';
    return true;
}

static void find_on_host(const config_t *c, const config_runtime_t *rt, runtime_t *r)
{
    char path[STAGE_PATH_LEN];

    if (rt->interpreter[0] != '\0') {
        usable(c, rt, rt->interpreter, r);
        return;
    }
    for (const char *const *folder = host_folders; *folder != NULL; folder++) {
        snprintf(path, sizeof path, "/%s/%s", *folder, programs[rt->lang]);
        if (access(path, F_OK) == 0 && usable(c, rt, path, r))
            return;
    }
    if (r->reason[0] == '\0')
        snprintf(r->reason, sizeof r->reason, "no %s on this host", programs[rt->lang]);
}

/* ---- an image's ---- */

/* Is it a program, links followed inside the root and nowhere else? */
static bool program_in(int root, const char *path)
{
    struct stat st;
    int fd = sys_openat2(root, path, O_PATH | O_CLOEXEC, 0,
                         SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS);
    bool good;

    if (fd < 0)
        return false;
    good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0;
    close(fd);
    return good;
}

static bool search_in(int root, enum stage_lang lang, char out[STAGE_PATH_LEN])
{
    for (const char *const *folder = image_folders; *folder != NULL; folder++) {
        snprintf(out, STAGE_PATH_LEN, "/%s/%s", *folder, programs[lang]);
        if (program_in(root, out))
            return true;
    }
    out[0] = '\0';
    return false;
}

static void find_in_image(const config_runtime_t *rt, runtime_t *r)
{
    int root = open(rt->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0) {
        snprintf(r->reason, sizeof r->reason, "its root cannot be opened: %s", strerror(errno));
        return;
    }
    if (rt->interpreter[0] == '\0') {
        if (!search_in(root, rt->lang, r->path))
            snprintf(r->reason, sizeof r->reason, "no %s in its root", programs[rt->lang]);
    } else if (program_in(root, rt->interpreter)) {
        memcpy(r->path, rt->interpreter, sizeof r->path);
    } else {
        snprintf(r->reason, sizeof r->reason, "no program %.120s in its root", rt->interpreter);
    }
    close(root);
}

void runtimes_find(const config_t *c, runtime_t runtimes[STAGE_RUNTIMES])
{
    memset(runtimes, 0, STAGE_RUNTIMES * sizeof *runtimes);
    for (size_t i = 0; i < c->nruntimes; i++) {
        const config_runtime_t *rt = &c->runtimes[i];

        if (strcmp(rt->interpreter, "off") == 0)
            snprintf(runtimes[i].reason, sizeof runtimes[i].reason,
                     "switched off in the configuration");
        else if (rt->root[0] == '\0')
            find_on_host(c, rt, &runtimes[i]);
        else
            find_in_image(rt, &runtimes[i]);
    }
}

/* ---- imported images ---- */

static bool add_scanned(config_t *c, const char *name, enum stage_lang lang)
{
    config_runtime_t *rt = &c->runtimes[c->nruntimes];

    if (c->nruntimes == STAGE_RUNTIMES)
        return false;
    memset(rt, 0, sizeof *rt);
    rt->lang = lang;
    rt->limits = c->limits;
    rt->warm = -1;
    snprintf(rt->name, sizeof rt->name, "%s", name);
    if (snprintf(rt->root, sizeof rt->root, "%s/%s", c->runtimes_dir, name) >= (int)sizeof rt->root)
        return false;
    if (!config_image_add(c, name, strlen(name), c->nruntimes))
        return false;
    c->nruntimes++;
    return true;
}

/* A folder without any interpreter is listed, too: its status says what is wrong. */
static bool scan_one(config_t *c, int dir, const char *name)
{
    int root = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char path[STAGE_PATH_LEN];
    bool fits = true, any = false;

    if (root < 0)
        return true; /* a file, or gone again */
    for (int lang = 0; fits && lang < STAGE_LANGS; lang++) {
        if (!search_in(root, (enum stage_lang)lang, path))
            continue;
        any = true;
        fits = add_scanned(c, name, (enum stage_lang)lang);
    }
    close(root);
    return any ? fits : add_scanned(c, name, STAGE_PYTHON);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

sb_code_t runtimes_scan(config_t *c, sb_err_t *err)
{
    char *names[STAGE_RUNTIMES];
    size_t n = 0;
    sb_code_t rc = SB_OK;
    const struct dirent *e;
    DIR *dir = c->runtimes_dir[0] != '\0' ? opendir(c->runtimes_dir) : NULL;

    if (dir == NULL)
        return c->runtimes_dir[0] == '\0' || errno == ENOENT
                   ? SB_OK
                   : sb_err_errno(err, errno, "runtimes_dir");
    while ((e = readdir(dir)) != NULL) {
        if (!sb_name_valid(e->d_name, strlen(e->d_name)))
            continue; /* an import that is under way has another sort of name */
        if (n == STAGE_RUNTIMES || (names[n] = strdup(e->d_name)) == NULL) {
            rc = sb_err_set(err, SB_ETOOLARGE, "runtimes_dir holds more than %d folders",
                            STAGE_RUNTIMES);
            break;
        }
        n++;
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        if (rc == SB_OK && !scan_one(c, dirfd(dir), names[i]))
            rc = sb_err_set(err, SB_ETOOLARGE, "runtimes_dir: no room for %s and what follows it",
                            names[i]);
        free(names[i]);
    }
    closedir(dir);
    return rc;
}
