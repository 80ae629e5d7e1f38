/*
 * cgroup.c - see cgroup.h: the leaves.  What lies below /sys/fs/cgroup is
 * reached through folder descriptors that cgroup_find.c opened; files there
 * never block.  Runs in the main process.
 */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CPU_PERIOD_USEC 100000

static unsigned long leaves;

/* Writes a file of the leaf.  0 or an errno. */
static int put(int base, const char *leaf, const char *file, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", leaf, file);
    int fd = openat(base, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int rc = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return rc;
}

static int put_number(int base, const char *leaf, const char *file, int64_t n)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)n);
    return put(base, leaf, file, text);
}

static bool absent(int rc)
{
    return rc == ENOENT || rc == EOPNOTSUPP;
}

static int limit_v1(const cgroups_t *cg, const char *leaf, const cgroup_limits_t *l,
                    const char **step)
{
    *step = "memory.limit_in_bytes";
    int rc = put_number(cg->base[CG_MEMORY], leaf, *step, l->memory);
    if (rc != 0)
        return rc;
    *step = "memory.memsw.limit_in_bytes"; /* kernels without swap accounting do not have it */
    rc = put_number(cg->base[CG_MEMORY], leaf, *step, l->memory);
    if (rc != 0 && !absent(rc))
        return rc;
    *step = "pids.max";
    rc = put_number(cg->base[CG_PIDS], leaf, *step, l->pids);
    if (rc != 0 || !cg->cpu)
        return rc;
    *step = "cpu.cfs_period_us";
    rc = put_number(cg->base[CG_CPU], leaf, *step, CPU_PERIOD_USEC);
    if (rc != 0)
        return rc;
    *step = "cpu.cfs_quota_us";
    return put_number(cg->base[CG_CPU], leaf, *step, l->cpu_milli * CPU_PERIOD_USEC / 1000);
}

static int limit_v2(const cgroups_t *cg, const char *leaf, const cgroup_limits_t *l,
                    const char **step)
{
    char text[64];
    int base = cg->base[0];

    *step = "memory.max";
    int rc = put_number(base, leaf, *step, l->memory);
    if (rc != 0)
        return rc;
    *step = "memory.swap.max"; /* not there when the kernel has no swap */
    rc = put(base, leaf, *step, "0");
    if (rc != 0 && !absent(rc))
        return rc;
    *step = "memory.oom.group"; /* since Linux 4.19: one victim takes the whole run with it */
    rc = put(base, leaf, *step, "1");
    if (rc != 0 && !absent(rc))
        return rc;
    *step = "pids.max";
    rc = put_number(base, leaf, *step, l->pids);
    if (rc != 0 || !cg->cpu)
        return rc;
    *step = "cpu.max";
    snprintf(text, sizeof text, "%lld %d", (long long)l->cpu_milli * CPU_PERIOD_USEC / 1000,
             CPU_PERIOD_USEC);
    return put(base, leaf, *step, text);
}

/*
 * v1 has two files to enter by, and for a process with one thread they do the same.  "0" written
 * to `tasks` spares the kernel its lock over all thread groups, which costs a grace period (some
 * 10 ms) when nobody has taken it lately.
 */
static int open_procs(const cgroups_t *cg, const char *leaf, int *procs, int *nprocs)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", leaf, cg->version == 1 ? "tasks" : "cgroup.procs");
    *nprocs = 0;
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] < 0)
            continue;
        int fd = openat(cg->base[i], path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return errno;
        procs[(*nprocs)++] = fd;
    }
    return 0;
}

static int make_folders(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    snprintf(leaf->name, sizeof leaf->name, "run-%d-%lu", (int)getpid(), leaves++);
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] >= 0 && mkdirat(cg->base[i], leaf->name, 0700) != 0)
            return errno;
    }
    return 0;
}

void cgroup_prepare(cgroups_t *cg)
{
    if (cg->version == 0 || cg->spare.name[0] != '\0')
        return;
    if (make_folders(cg, &cg->spare) != 0) {
        cgroup_remove(cg, &cg->spare);
        cg->spare.name[0] = '\0';
    }
}

static int make(cgroups_t *cg, cgroup_leaf_t *made, const cgroup_limits_t *limits, int *procs,
                int *nprocs, const char **step)
{
    const char *leaf = made->name;
    int rc = 0;

    *step = "mkdir";
    if (cg->spare.name[0] != '\0') {
        *made = cg->spare;
        cg->spare.name[0] = '\0';
    } else {
        rc = make_folders(cg, made);
    }
    if (rc != 0)
        return rc;
    rc = cg->version == 2 ? limit_v2(cg, leaf, limits, step) : limit_v1(cg, leaf, limits, step);
    if (rc != 0)
        return rc;
    *step = "open";
    return open_procs(cg, leaf, procs, nprocs);
}

sb_code_t cgroup_make(cgroups_t *cg, cgroup_leaf_t *leaf, const cgroup_limits_t *limits, int *procs,
                      int *nprocs, sb_err_t *err)
{
    const char *step = "";

    leaf->name[0] = '\0';
    *nprocs = 0;
    if (cg->version == 0)
        return SB_OK;
    int rc = make(cg, leaf, limits, procs, nprocs, &step);
    if (rc == 0)
        return SB_OK;
    for (int i = 0; i < *nprocs; i++)
        close(procs[i]);
    *nprocs = 0;
    cgroup_remove(cg, leaf);
    return sb_err_errno(err, rc, "control group: %s", step);
}

static int64_t counter(int base, const char *leaf, const char *file, const char *key)
{
    char path[128], text[4096];

    snprintf(path, sizeof path, "%s/%s", leaf, file);
    int fd = openat(base, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, key, strlen(key)) == 0)
            return strtoll(line + strlen(key), NULL, 10);
    }
    return 0;
}

bool cgroup_oom(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    if (leaf->name[0] == '\0')
        return false;
    const char *file = cg->version == 2 ? "memory.events" : "memory.oom_control";
    return counter(cg->base[0], leaf->name, file, "oom_kill ") > 0;
}

void cgroup_kill(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    /* Since Linux 5.14; without it the death of the pid namespace's init does the same. */
    if (cg->version == 2 && leaf->name[0] != '\0')
        put(cg->base[0], leaf->name, "cgroup.kill", "1");
}

bool cgroup_remove(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    bool gone = true;

    if (leaf->name[0] == '\0')
        return true;
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] >= 0 && unlinkat(cg->base[i], leaf->name, AT_REMOVEDIR) != 0 &&
            errno != ENOENT)
            gone = false;
    }
    if (gone)
        leaf->name[0] = '\0';
    return gone;
}
