/*
 * rlimits.c - see rlimits.h.  Runs in a run's two processes.
 */
#include "rlimits.h"

#include <sys/resource.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED __has_feature(address_sanitizer)
#else
#define SANITIZED 0
#endif

/*
 * Without a memory cgroup shared mappings are charged to nobody: address space is the
 * only bound left, a generous one, and not for node, which reserves gigabytes it never
 * uses and dies below one.
 */
#define SHARED_ALLOWANCE (2 * SB_GIB)

static rlim_t address_space(const stage_request_t *request)
{
    if (request->cgroup != 0 || request->lang == STAGE_NODE)
        return RLIM_INFINITY;
    return request->memory_bytes + SHARED_ALLOWANCE;
}

enum { SELF = 0 }; /* prlimit(2)'s word for the calling process */

/* The helper's own hard limit bounds ours. */
static int set_both(pid_t pid, int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limit;

    if (prlimit(pid, (__rlimit_resource_t)resource, NULL, &limit) != 0)
        return -1;
    if (hard < limit.rlim_max)
        limit.rlim_max = hard;
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    return prlimit(pid, (__rlimit_resource_t)resource, &limit, NULL);
}

/* Hard = soft: a soft limit is the script's to raise. */
static int set_limit(pid_t pid, int resource, rlim_t value)
{
    return set_both(pid, resource, value, value);
}

typedef struct {
    int resource;
    rlim_t value;
} limit_t;

static int set_limits(pid_t pid, const limit_t *limits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (set_limit(pid, limits[i].resource, limits[i].value) != 0)
            return -1;
    return 0;
}

static int limit_memory(pid_t pid, const stage_request_t *request)
{
    const limit_t limits[] = {
        {RLIMIT_DATA, request->memory_bytes}, /* heap and private mappings */
        {RLIMIT_AS, address_space(request)},
    };

    return set_limits(pid, limits, COUNT(limits));
}

/* SIGXCPU tells the end by this limit from others; it can be caught, SIGKILL can't. */
static int limit_cpu(pid_t pid, const stage_request_t *request)
{
    return set_both(pid, RLIMIT_CPU, request->cpu_seconds, (rlim_t)request->cpu_seconds + 1);
}

static int limit_all(const stage_config_t *config, uint64_t file_bytes, bool groups)
{
    const limit_t limits[] = {
        {RLIMIT_STACK, 8 * SB_MIB},
        {RLIMIT_FSIZE, file_bytes}, /* sparse files: a tmpfs does not count holes */
        /* counted per user namespace since Linux 5.14; a group's pids.max, which tells that it
           was hit and has a keeper's place (keeper.h), comes first */
        {RLIMIT_NPROC, config->nproc + (groups ? 2 : 0)},
        {RLIMIT_NOFILE, config->nofile}, /* bounds what is in flight in sockets, too */
        {RLIMIT_CORE, 1},                /* not 0: a core_pattern pipe starts despite of 0 */
        {RLIMIT_MEMLOCK, 64 * SB_KIB},
        {RLIMIT_SIGPENDING, 1024},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_RTPRIO, 0},
        {RLIMIT_NICE, 0},
    };

    return set_limits(SELF, limits, COUNT(limits));
}

int rlimits_apply(const stage_config_t *config, const stage_request_t *request)
{
    if (!SANITIZED && limit_memory(SELF, request) != 0)
        return -1;
    if (limit_cpu(SELF, request) != 0)
        return -1;
    return limit_all(config, request->file_bytes, request->cgroup != 0);
}

int rlimits_apply_init(const stage_config_t *config)
{
    return limit_all(config, 0, false);
}

int rlimits_apply_ahead(const stage_config_t *config, bool groups)
{
    return limit_all(config, RLIM_INFINITY, groups);
}

int rlimits_complete(pid_t pid, const stage_request_t *request)
{
    if (limit_memory(pid, request) != 0 || limit_cpu(pid, request) != 0)
        return -1;
    return set_limit(pid, RLIMIT_FSIZE, request->file_bytes);
}

int rlimits_before_exec(const stage_request_t *request)
{
    return SANITIZED ? limit_memory(SELF, request) : 0;
}
