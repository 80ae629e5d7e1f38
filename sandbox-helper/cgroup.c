/*
 * cgroup.c - see cgroup.h: the leaves.  What lies below /sys/fs/cgroup is
 * reached through folder descriptors that cgroup_find.c opened; files there
 * never block.  Runs in the main process.
 */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup_text.h"

#define CPU_PERIOD_USEC 100000
#define NAME_TRIES      1000
#define TCP_BYTES       (32 * SB_MIB) /* v1: of a run's connections; each holds 6 MiB at most */
#define CPU_MIN         500           /* of a group that serves again */
#define LEFT_MAX        SB_MIB        /* the same; bytes */
#define CHARGE_MAX      32768         /* what the kernel kills for: eight pages at once at most */

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

/* ---- limits ---- */

/* What is the same for all runs: written when nobody waits. */
static int limit_ahead_v1(const cgroups_t *cg, const char *leaf, const char **step)
{
    *step = "pids.max";
    int rc = put_number(cg->base[CG_PIDS], leaf, *step, cg->pids);
    if (rc != 0)
        return rc;
    /* v1's memory limit leaves out what lies in TCP's buffers, also those of a run's own loopback;
     * without this one a run could fill up net.ipv4.tcp_mem, which is the whole host's */
    *step = "memory.kmem.tcp.limit_in_bytes";
    rc = put_number(cg->base[CG_MEMORY], leaf, *step, TCP_BYTES);
    if (rc != 0 && !absent(rc))
        return rc;
    if (!cg->cpu)
        return 0;
    *step = "cpu.cfs_period_us";
    return put_number(cg->base[CG_CPU], leaf, *step, CPU_PERIOD_USEC);
}

static int limit_ahead_v2(const cgroups_t *cg, const char *leaf, const char **step)
{
    *step = "pids.max";
    int rc = put_number(cg->base[0], leaf, *step, cg->pids);
    if (rc != 0)
        return rc;
    *step = "memory.swap.max"; /* not there when the kernel has no swap */
    rc = put(cg->base[0], leaf, *step, "0");
    if (rc != 0 && !absent(rc))
        return rc;
    *step = "memory.oom.group"; /* since Linux 4.19: one victim takes the whole run with it */
    rc = put(cg->base[0], leaf, *step, "1");
    return absent(rc) ? 0 : rc;
}

static int limit_memory_v1(const cgroups_t *cg, const char *leaf, int64_t memory, const char **step)
{
    *step = "memory.limit_in_bytes";
    return put_number(cg->base[CG_MEMORY], leaf, *step, memory);
}

/* Kernels without swap accounting do not have it. */
static int limit_memsw_v1(const cgroups_t *cg, const char *leaf, int64_t memory, const char **step)
{
    *step = "memory.memsw.limit_in_bytes";
    int rc = put_number(cg->base[CG_MEMORY], leaf, *step, memory);
    return absent(rc) ? 0 : rc;
}

/* The second can't be less than the first, at any moment. */
static int limit_both_v1(const cgroups_t *cg, const cgroup_leaf_t *leaf, int64_t memory,
                         const char **step)
{
    const bool more = leaf->memory != 0 && memory > leaf->memory;
    int rc = more ? limit_memsw_v1(cg, leaf->name, memory, step)
                  : limit_memory_v1(cg, leaf->name, memory, step);

    if (rc != 0)
        return rc;
    return more ? limit_memory_v1(cg, leaf->name, memory, step)
                : limit_memsw_v1(cg, leaf->name, memory, step);
}

static int limit_cpu(const cgroups_t *cg, const char *leaf, int64_t cpu_milli, const char **step)
{
    const int64_t quota = cpu_milli * CPU_PERIOD_USEC / 1000;
    char text[64];

    if (cg->version == 1) {
        *step = "cpu.cfs_quota_us";
        return put_number(cg->base[CG_CPU], leaf, *step, quota);
    }
    *step = "cpu.max";
    snprintf(text, sizeof text, "%lld %d", (long long)quota, CPU_PERIOD_USEC);
    return put(cg->base[0], leaf, *step, text);
}

static int limit(const cgroups_t *cg, const cgroup_leaf_t *leaf, int64_t memory, int64_t cpu_milli,
                 const char **step)
{
    int rc = 0;

    if (leaf->memory != memory && cg->version == 1)
        rc = limit_both_v1(cg, leaf, memory, step);
    if (leaf->memory != memory && cg->version == 2) {
        *step = "memory.max";
        rc = put_number(cg->base[0], leaf->name, *step, memory);
    }
    if (rc == 0 && cg->cpu && leaf->cpu_milli != cpu_milli)
        rc = limit_cpu(cg, leaf->name, cpu_milli, step);
    return rc;
}

sb_code_t cgroup_limit(const cgroups_t *cg, cgroup_leaf_t *leaf, int64_t memory, int64_t cpu_milli,
                       sb_err_t *err)
{
    const char *step = "";

    if (leaf->name[0] == '\0')
        return SB_OK;
    int rc = limit(cg, leaf, memory, cpu_milli, &step);
    leaf->memory = rc == 0 ? memory : 0;
    leaf->cpu_milli = rc == 0 ? cpu_milli : 0;
    return rc == 0 ? SB_OK : sb_err_errno(err, rc, "control group: %s", step);
}

sb_code_t cgroup_places(const cgroups_t *cg, cgroup_leaf_t *leaf, bool keeper, sb_err_t *err)
{
    const int base = cg->base[cg->version == 2 ? 0 : CG_PIDS];

    if (leaf->name[0] == '\0' || leaf->keeper == keeper)
        return SB_OK;
    int rc = put_number(base, leaf->name, "pids.max", cg->pids + keeper);
    if (rc != 0)
        return sb_err_errno(err, rc, "control group: pids.max");
    leaf->keeper = keeper;
    return SB_OK;
}

/* ---- files ---- */

/* v1 has a hierarchy for each controller.  The peak is written, too: to set it back. */
static const struct {
    const char *v1, *v2;
    int controller, flags;
} files[CG_FILES] = {
    [CG_FILE_PIDS] = {"pids.current", "pids.current", CG_PIDS, O_RDONLY},
    [CG_FILE_PIDS_EVENTS] = {"pids.events", "pids.events", CG_PIDS, O_RDONLY},
    [CG_FILE_MEMORY] = {"memory.usage_in_bytes", "memory.current", CG_MEMORY, O_RDONLY},
    [CG_FILE_MEMORY_EVENTS] = {"memory.oom_control", "memory.events", CG_MEMORY, O_RDONLY},
    [CG_FILE_MEMORY_PEAK] = {"memory.max_usage_in_bytes", "memory.peak", CG_MEMORY, O_RDWR},
    [CG_FILE_CPU_STAT] = {"cpu.stat", "cpu.stat", CG_CPU, O_RDONLY},
};

/* -1 with errno where there is no such file. */
static int file_of(const cgroups_t *cg, cgroup_leaf_t *leaf, size_t which)
{
    const int base = cg->base[cg->version == 2 ? 0 : files[which].controller];
    char path[128];

    if (leaf->file[which] >= 0 || base < 0)
        return leaf->file[which];
    snprintf(path, sizeof path, "%s/%s", leaf->name,
             cg->version == 2 ? files[which].v2 : files[which].v1);
    leaf->file[which] = openat(base, path, files[which].flags | O_CLOEXEC);
    if (leaf->file[which] < 0 && errno != ENOENT) /* memory.peak before Linux 6.12: read-only */
        leaf->file[which] = openat(base, path, O_RDONLY | O_CLOEXEC);
    return leaf->file[which];
}

/* ---- making ---- */

/*
 * v1 has two files to enter by, and for a process with one thread they do the same.  "0" written
 * to `tasks` spares the kernel its lock over all thread groups, which costs a grace period (some
 * 10 ms) when nobody has taken it lately.
 */
static int open_tasks(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    char path[128];

    snprintf(path, sizeof path, "%s/tasks", leaf->name);
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] < 0)
            continue;
        int fd = openat(cg->base[i], path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return errno;
        leaf->enter[leaf->nenter++] = fd;
    }
    return 0;
}

static int open_folder(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    int fd = openat(cg->base[0], leaf->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return errno;
    leaf->enter[leaf->nenter++] = fd;
    return 0;
}

/* A dead helper with our pid (in another pid namespace, or long ago) may have left the name. */
static int make_folders(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    int tries = 0, made = 0;

    while (made < CG_CONTROLLERS) {
        if (made == 0)
            snprintf(leaf->name, sizeof leaf->name, "run-%d-%lu", (int)getpid(), leaves++);
        if (cg->base[made] < 0 || mkdirat(cg->base[made], leaf->name, 0700) == 0) {
            made++;
            continue;
        }
        int rc = errno;
        while (made > 0)
            if (cg->base[--made] >= 0)
                unlinkat(cg->base[made], leaf->name, AT_REMOVEDIR);
        if (rc != EEXIST || ++tries == NAME_TRIES) {
            leaf->name[0] = '\0'; /* nothing of it is ours */
            return rc;
        }
    }
    return 0;
}

static int make(cgroups_t *cg, cgroup_leaf_t *leaf, const char **step)
{
    bool v2 = cg->version == 2;

    *step = "mkdir";
    int rc = make_folders(cg, leaf);
    if (rc == 0)
        rc = v2 ? limit_ahead_v2(cg, leaf->name, step) : limit_ahead_v1(cg, leaf->name, step);
    if (rc != 0)
        return rc;
    *step = "open";
    rc = v2 ? open_folder(cg, leaf) : open_tasks(cg, leaf);
    for (size_t i = 0; rc == 0 && i < CG_FILES; i++)
        (void)file_of(cg, leaf, i); /* a kernel that lacks one is asked again */
    return rc;
}

sb_code_t cgroup_make(cgroups_t *cg, cgroup_leaf_t *leaf, sb_err_t *err)
{
    const char *step = "";

    *leaf = (cgroup_leaf_t){.name = ""};
    for (size_t i = 0; i < CG_FILES; i++)
        leaf->file[i] = -1;
    if (cg->version == 0)
        return SB_OK;
    int rc = make(cg, leaf, &step);
    if (rc == 0)
        return SB_OK;
    cgroup_remove(cg, leaf);
    return sb_err_errno(err, rc, "control group: %s", step);
}

/* ---- what it knows ---- */

/* A file's text; "" when it is not there. */
static void get(const cgroups_t *cg, cgroup_leaf_t *leaf, size_t which, char *text, size_t len)
{
    const int fd = file_of(cg, leaf, which);
    const ssize_t n = fd < 0 ? -1 : pread(fd, text, len - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

static uint64_t counter(const cgroups_t *cg, cgroup_leaf_t *leaf, size_t which, const char *key)
{
    char text[1024];

    get(cg, leaf, which, text, sizeof text);
    return cgroup_counter(text, key);
}

/* A number that is asked for once in a while. */
static uint64_t number_in(int base, const char *leaf, const char *file)
{
    char path[128], text[32];

    snprintf(path, sizeof path, "%s/%s", leaf, file);
    int fd = openat(base, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return cgroup_counter(text, "");
}

/*
 * The kernel counts in oom_kill whoever it kills in the group, for whatever memory was short:
 * the host's, a slice's, the group's own.  Only with the second counter it was the run's limit.
 */
static void verdict_v2(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    char text[512];

    get(cg, leaf, CG_FILE_MEMORY_EVENTS, text, sizeof text);
    bool killed = cgroup_counter(text, "oom_kill") > 0;
    facts->oom = killed && cgroup_counter(text, "oom") > 0;
    facts->host_oom = killed && !facts->oom;
}

/*
 * v1 has no such counter, and failcnt is no proof: it counts page cache that was reclaimed, and
 * nothing at all on some kernels.  But a charge that failed left the usage within it of the limit.
 */
static void verdict_v1(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    static const char *const peaks[] = {"memory.max_usage_in_bytes",
                                        "memory.memsw.max_usage_in_bytes"};
    const int base = cg->base[CG_MEMORY];

    if (counter(cg, leaf, CG_FILE_MEMORY_EVENTS, "oom_kill") == 0)
        return;
    uint64_t limit = number_in(base, leaf->name, "memory.limit_in_bytes");
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks && !facts->oom; i++)
        facts->oom = limit > 0 && number_in(base, leaf->name, peaks[i]) + CHARGE_MAX >= limit;
    facts->host_oom = !facts->oom;
}

void cgroup_verdict(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    memset(facts, 0, sizeof *facts);
    if (leaf->name[0] == '\0')
        return;
    if (cg->version == 2)
        verdict_v2(cg, leaf, facts);
    else
        verdict_v1(cg, leaf, facts);
    facts->pids_hit = counter(cg, leaf, CG_FILE_PIDS_EVENTS, "max");
}

void cgroup_usage(const cgroups_t *cg, cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    if (leaf->name[0] == '\0')
        return;
    facts->memory_peak = counter(cg, leaf, CG_FILE_MEMORY_PEAK, "");
    if (!cg->cpu)
        return;
    facts->throttled_us = cg->version == 2
                              ? counter(cg, leaf, CG_FILE_CPU_STAT, "throttled_usec")
                              : counter(cg, leaf, CG_FILE_CPU_STAT, "throttled_time") / 1000;
}

void cgroup_kill(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    /* Since Linux 5.14; without it the death of the pid namespace's init does the same. */
    if (cg->version == 2 && leaf->name[0] != '\0')
        put(cg->base[0], leaf->name, "cgroup.kill", "1");
}

/* ---- its end ---- */

/* Nothing in the counters that only grow. */
static bool unmarked(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    char text[512];

    get(cg, leaf, CG_FILE_MEMORY_EVENTS, text, sizeof text);
    return cgroup_counter(text, "oom_kill") == 0 && cgroup_counter(text, "oom") == 0 &&
           counter(cg, leaf, CG_FILE_PIDS_EVENTS, "max") == 0 &&
           (!cg->cpu || counter(cg, leaf, CG_FILE_CPU_STAT, "nr_throttled") == 0);
}

/* No process, and next to no memory.  A file that can't be read is no 0. */
static bool is_empty(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    char text[128];

    get(cg, leaf, CG_FILE_PIDS, text, sizeof text);
    if (text[0] != '0')
        return false;
    get(cg, leaf, CG_FILE_MEMORY, text, sizeof text);
    return text[0] != '\0' && cgroup_counter(text, "") <= LEFT_MAX;
}

/* v1: the number 0.  v2: any text, and for this descriptor alone. */
static bool reset_peak(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    const int fd = file_of(cg, leaf, CG_FILE_MEMORY_PEAK);

    if (fd < 0 || write(fd, "0", 1) != 1)
        return false;
    if (cg->version == 2)
        return true;
    int rc = put(cg->base[CG_MEMORY], leaf->name, "memory.memsw.max_usage_in_bytes", "0");
    return rc == 0 || absent(rc);
}

bool cgroup_renew(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    return leaf->name[0] != '\0' && leaf->memory != 0 && leaf->cpu_milli >= CPU_MIN &&
           is_empty(cg, leaf) && unmarked(cg, leaf) && reset_peak(cg, leaf);
}

static void close_all(cgroup_leaf_t *leaf)
{
    while (leaf->nenter > 0)
        close(leaf->enter[--leaf->nenter]);
    for (size_t i = 0; i < CG_FILES; i++) {
        if (leaf->file[i] >= 0)
            close(leaf->file[i]);
        leaf->file[i] = -1;
    }
}

bool cgroup_remove(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    bool gone = true;

    if (leaf->name[0] == '\0')
        return true;
    close_all(leaf);
    for (int i = 0; i < CG_CONTROLLERS; i++) {
        if (cg->base[i] >= 0 && unlinkat(cg->base[i], leaf->name, AT_REMOVEDIR) != 0 &&
            errno != ENOENT)
            gone = false;
    }
    if (gone)
        leaf->name[0] = '\0';
    return gone;
}
