/*
 * runtime.c - see runtime.h.  Looks at the host's file system, changes nothing.
 */
#include "runtime.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The distribution's own first: what PATH says is no business of a daemon. */
static const char *const folders[] = {"/usr/bin", "/usr/local/bin", "/bin"};
static const char *const programs[STAGE_RUNTIMES] = {"python3", "node", "bash"};

static bool below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    while (len > 1 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Sandboxes see /usr (and the links to it) and what the operator lists. */
static bool visible(const config_t *c, const char *real)
{
    if (below(real, "/usr"))
        return true;
    for (size_t i = 0; i < c->nreadonly; i++) {
        if (below(real, c->readonly[i]))
            return true;
    }
    return false;
}

static bool usable(const config_t *c, const char *path, runtime_t *r)
{
    char real[PATH_MAX];

    if (access(path, X_OK) != 0 || realpath(path, real) == NULL) {
        snprintf(r->reason, sizeof r->reason, "%.100s: %s", path, strerror(errno));
        return false;
    }
    if (!visible(c, real)) {
        snprintf(r->reason, sizeof r->reason,
                 "%.60s is %.80s, outside /usr: add its folder to readonly", path, real);
        return false;
    }
    snprintf(r->path, sizeof r->path, "%s", path);
    r->reason[0] = '\0';
    return true;
}

static void find(const config_t *c, int lang, runtime_t *r)
{
    char path[STAGE_PATH_LEN];

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folders[i], programs[lang]);
        if (access(path, F_OK) != 0)
            continue;
        if (usable(c, path, r))
            return;
    }
    if (r->reason[0] == '\0')
        snprintf(r->reason, sizeof r->reason, "no %s on this host", programs[lang]);
}

void runtimes_find(const config_t *c, runtime_t runtimes[STAGE_RUNTIMES])
{
    for (int i = 0; i < STAGE_RUNTIMES; i++) {
        runtime_t *r = &runtimes[i];
        memset(r, 0, sizeof *r);
        if (strcmp(c->interpreter[i], "off") == 0)
            snprintf(r->reason, sizeof r->reason, "switched off in the configuration");
        else if (c->interpreter[i][0] != '\0')
            usable(c, c->interpreter[i], r);
        else
            find(c, i, r);
    }
}
