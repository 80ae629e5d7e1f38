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
    return v2 ? open_folder(cg, leaf) : open_tasks(cg, leaf);
}

sb_code_t cgroup_make(cgroups_t *cg, cgroup_leaf_t *leaf, sb_err_t *err)
{
    const char *step = "";

    *leaf = (cgroup_leaf_t){.peak_fd = -1};
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
static void get(int base, const char *leaf, const char *file, char *text, size_t len)
{
    char path[128];

    text[0] = '\0';
    snprintf(path, sizeof path, "%s/%s", leaf, file);
    int fd = base < 0 ? -1 : openat(base, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, len - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
}

static void get_again(int fd, char *text, size_t len)
{
    const ssize_t n = pread(fd, text, len - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

/*
 * The kernel counts in oom_kill whoever it kills in the group, for whatever memory was short:
 * the host's, a slice's, the group's own.  Only with the second counter it was the run's limit.
 */
static void verdict_v2(const cgroups_t *cg, const char *leaf, cgroup_facts_t *facts)
{
    char text[512];

    get(cg->base[0], leaf, "memory.events", text, sizeof text);
    bool killed = cgroup_counter(text, "oom_kill") > 0;
    facts->oom = killed && cgroup_counter(text, "oom") > 0;
    facts->host_oom = killed && !facts->oom;
}

/*
 * v1 has no such counter, and failcnt is no proof: it counts page cache that was reclaimed, and
 * nothing at all on some kernels.  But a charge that failed left the usage within it of the limit.
 */
static void verdict_v1(const cgroups_t *cg, const char *leaf, cgroup_facts_t *facts)
{
    static const char *const peaks[] = {"memory.max_usage_in_bytes",
                                        "memory.memsw.max_usage_in_bytes"};
    char text[512];

    get(cg->base[CG_MEMORY], leaf, "memory.oom_control", text, sizeof text);
    if (cgroup_counter(text, "oom_kill") == 0)
        return;
    get(cg->base[CG_MEMORY], leaf, "memory.limit_in_bytes", text, sizeof text);
    uint64_t limit = cgroup_counter(text, "");
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks && !facts->oom; i++) {
        get(cg->base[CG_MEMORY], leaf, peaks[i], text, sizeof text);
        facts->oom = limit > 0 && cgroup_counter(text, "") + CHARGE_MAX >= limit;
    }
    facts->host_oom = !facts->oom;
}

void cgroup_verdict(const cgroups_t *cg, const cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    char text[128];

    memset(facts, 0, sizeof *facts);
    if (leaf->name[0] == '\0')
        return;
    if (cg->version == 2)
        verdict_v2(cg, leaf->name, facts);
    else
        verdict_v1(cg, leaf->name, facts);
    get(cg->base[cg->version == 2 ? 0 : CG_PIDS], leaf->name, "pids.events", text, sizeof text);
    facts->pids_hit = cgroup_counter(text, "max");
}

void cgroup_usage(const cgroups_t *cg, const cgroup_leaf_t *leaf, cgroup_facts_t *facts)
{
    bool v2 = cg->version == 2;
    char text[1024];

    if (leaf->name[0] == '\0')
        return;
    if (v2 && leaf->again)
        get_again(leaf->peak_fd, text, sizeof text);
    else
        get(cg->base[0], leaf->name, v2 ? "memory.peak" : "memory.max_usage_in_bytes", text,
            sizeof text);
    facts->memory_peak = cgroup_counter(text, "");
    if (!cg->cpu)
        return;
    get(cg->base[v2 ? 0 : CG_CPU], leaf->name, "cpu.stat", text, sizeof text);
    facts->throttled_us =
        v2 ? cgroup_counter(text, "throttled_usec") : cgroup_counter(text, "throttled_time") / 1000;
}

void cgroup_kill(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    /* Since Linux 5.14; without it the death of the pid namespace's init does the same. */
    if (cg->version == 2 && leaf->name[0] != '\0')
        put(cg->base[0], leaf->name, "cgroup.kill", "1");
}

/* ---- its end ---- */

static uint64_t counter(int base, const char *leaf, const char *file, const char *key)
{
    char text[1024];

    get(base, leaf, file, text, sizeof text);
    return cgroup_counter(text, key);
}

/* Nothing in the counters that only grow. */
static bool unmarked(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    const bool v2 = cg->version == 2;
    char text[512];

    get(cg->base[CG_MEMORY], leaf->name, v2 ? "memory.events" : "memory.oom_control", text,
        sizeof text);
    return cgroup_counter(text, "oom_kill") == 0 && cgroup_counter(text, "oom") == 0 &&
           counter(cg->base[v2 ? 0 : CG_PIDS], leaf->name, "pids.events", "max") == 0 &&
           (!cg->cpu ||
            counter(cg->base[v2 ? 0 : CG_CPU], leaf->name, "cpu.stat", "nr_throttled") == 0);
}

/* No process, and next to no memory.  A file that can't be read is no 0. */
static bool is_empty(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    const bool v2 = cg->version == 2;
    char text[128];

    get(cg->base[v2 ? 0 : CG_PIDS], leaf->name, "pids.current", text, sizeof text);
    if (text[0] != '0')
        return false;
    get(cg->base[CG_MEMORY], leaf->name, v2 ? "memory.current" : "memory.usage_in_bytes", text,
        sizeof text);
    return text[0] != '\0' && cgroup_counter(text, "") <= LEFT_MAX;
}

static bool reset_peak_v1(const cgroups_t *cg, const cgroup_leaf_t *leaf)
{
    const int base = cg->base[CG_MEMORY];
    int rc = put(base, leaf->name, "memory.memsw.max_usage_in_bytes", "0");

    return (rc == 0 || absent(rc)) && put(base, leaf->name, "memory.max_usage_in_bytes", "0") == 0;
}

/* What is written is any text, and it is reset for this descriptor alone. */
static bool reset_peak_v2(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    char path[128];

    snprintf(path, sizeof path, "%s/memory.peak", leaf->name);
    if (leaf->peak_fd < 0)
        leaf->peak_fd = openat(cg->base[0], path, O_RDWR | O_CLOEXEC);
    return leaf->peak_fd >= 0 && write(leaf->peak_fd, "reset", 5) == 5;
}

bool cgroup_renew(const cgroups_t *cg, cgroup_leaf_t *leaf)
{
    if (leaf->name[0] == '\0' || leaf->memory == 0 || leaf->cpu_milli < CPU_MIN ||
        !is_empty(cg, leaf) || !unmarked(cg, leaf))
        return false;
    leaf->again = cg->version == 2 ? reset_peak_v2(cg, leaf) : reset_peak_v1(cg, leaf);
    return leaf->again;
}

static void close_all(cgroup_leaf_t *leaf)
{
    while (leaf->nenter > 0)
        close(leaf->enter[--leaf->nenter]);
    if (leaf->peak_fd >= 0)
        close(leaf->peak_fd);
    leaf->peak_fd = -1;
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
