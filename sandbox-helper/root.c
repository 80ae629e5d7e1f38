/*
 * root.c - see root.h.  Memory only.
 */
#include "root.h"

#include <stdio.h>
#include <string.h>

/* What every root's stage, and the packer, are told. */
static void common(stage_config_t *s, const config_t *c, const char *packages)
{
    memset(s, 0, sizeof *s);
    s->magic = STAGE_MAGIC;
    s->size = sizeof *s;
    snprintf(s->packages, sizeof s->packages, "%s", packages);
    memcpy(s->images, c->images, sizeof s->images);
    s->nimages = (uint32_t)c->nimages;
    for (size_t i = 0; i < c->nruntimes; i++)
        s->runtimes[i].limits = c->runtimes[i].limits;
    s->tmp_bytes = (uint64_t)c->tmp_bytes;
    s->out_bytes = (uint64_t)c->out_bytes;
    s->work_bytes = (uint64_t)c->work_bytes;
    s->shm_bytes = (uint64_t)c->shm_bytes;
    s->inodes = (uint32_t)c->inodes;
    s->exec_writable = c->exec_writable;
    s->proc_full = c->proc_full;
    s->allow_no_proc = c->allow_no_procfs;
    s->allow_no_landlock = c->allow_no_landlock;
    s->nofile = (uint32_t)c->nofile;
    s->nproc = (uint32_t)c->nproc;
}

/* The host's root has the paths of `readonly` besides, an image's nothing of the host but what its
 * runtime names. */
static bool wanted_paths(const config_t *c, const config_runtime_t *rt,
                         char paths[STAGE_PATHS][STAGE_PATH_LEN])
{
    size_t n = rt->root[0] == '\0' ? c->nreadonly : 0;

    memset(paths, 0, STAGE_PATHS * sizeof *paths);
    memcpy(paths, c->readonly, n * sizeof *paths);
    if (n + rt->nreadonly > STAGE_PATHS)
        return false;
    memcpy(paths + n, rt->readonly, rt->nreadonly * sizeof *paths);
    return true;
}

static root_t *find(roots_t *roots, const config_t *c, const config_runtime_t *rt,
                    const char *packages, const char **why)
{
    char paths[STAGE_PATHS][STAGE_PATH_LEN];

    *why = "it has too many read-only paths";
    if (!wanted_paths(c, rt, paths))
        return NULL;
    for (size_t i = 0; i < roots->count; i++) {
        stage_config_t *s = &roots->root[i].config;
        if (strcmp(s->root, rt->root) == 0 && memcmp(s->readonly, paths, sizeof paths) == 0)
            return &roots->root[i];
    }
    *why = "there are too many different roots";
    if (roots->count == ROOTS_MAX)
        return NULL;
    root_t *root = &roots->root[roots->count++];
    common(&root->config, c, packages);
    memcpy(root->config.root, rt->root, sizeof root->config.root);
    memcpy(root->config.readonly, paths, sizeof paths);
    return root;
}

void roots_make(roots_t *roots, const config_t *c, runtime_t runtimes[STAGE_RUNTIMES],
                const char *packages)
{
    static const config_runtime_t host;
    const char *why;

    find(roots, c, &host, packages, &why)->warm = (size_t)(c->warm >= 0 ? c->warm : c->concurrency);
    for (size_t i = 0; i < c->nruntimes; i++) {
        const config_runtime_t *rt = &c->runtimes[i];
        if (!runtime_offered(&runtimes[i]))
            continue;
        root_t *root = find(roots, c, rt, packages, &why);
        if (root == NULL) {
            snprintf(runtimes[i].reason, sizeof runtimes[i].reason, "%s", why);
            runtimes[i].path[0] = '\0';
            continue;
        }
        roots->of[i] = (size_t)(root - roots->root);
        memcpy(root->config.runtimes[i].interpreter, runtimes[i].path, STAGE_PATH_LEN);
        memcpy(root->config.runtimes[i].env, rt->env, STAGE_ENV_BYTES);
        size_t warm = rt->warm < 0 ? 1 : (size_t)rt->warm;
        if (root != &roots->root[ROOT_HOST] && root->warm < warm)
            root->warm = warm;
    }
}
