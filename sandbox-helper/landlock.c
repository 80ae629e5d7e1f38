/*
 * landlock.c - see landlock.h.  Restricts the calling process and its descendants.
 */
#include "landlock.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stage.h"
#include "sys.h"

/* struct landlock_ruleset_attr; the kernel takes the shorter forms of older ABIs */
struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

enum {
    ABI_REFER = 2,
    ABI_TRUNCATE = 3,
    ABI_NET = 4,
    ABI_IOCTL_DEV = 5,
    ABI_SCOPE = 6,
};
enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2 };
enum { SCOPE_ABSTRACT_UNIX = 1, SCOPE_SIGNAL = 2 };

#define LL_ABI_1 ((LL_MAKE_SYM << 1) - 1)
/* the kernel refuses a rule on a file that has rights only directories know */
#define LL_FOR_FILES (LL_EXECUTE | LL_WRITE_FILE | LL_READ_FILE | LL_TRUNCATE | LL_IOCTL_DEV)

static uint64_t known_rights(int abi)
{
    uint64_t rights = LL_ABI_1;

    if (abi >= ABI_REFER)
        rights |= LL_REFER;
    if (abi >= ABI_TRUNCATE)
        rights |= LL_TRUNCATE;
    if (abi >= ABI_IOCTL_DEV)
        rights |= LL_IOCTL_DEV;
    return rights;
}

static int create_ruleset(int abi, unsigned flags)
{
    struct ruleset_attr attr = {.handled_access_fs = known_rights(abi)};
    size_t size = sizeof(attr.handled_access_fs);

    if (abi >= ABI_NET) {
        attr.handled_access_net = (flags & LANDLOCK_DENY_TCP) ? NET_BIND_TCP | NET_CONNECT_TCP : 0;
        size = offsetof(struct ruleset_attr, scoped);
    }
    if (abi >= ABI_SCOPE) {
        attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
        size = sizeof(attr);
    }
    return sys_landlock_create(&attr, size);
}

static int add_path(int ruleset, uint64_t access, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        access &= LL_FOR_FILES;
    return sys_landlock_add_path(ruleset, access, fd);
}

static int add_rule(int ruleset, int abi, const landlock_rule_t *rule)
{
    uint64_t access = rule->access & known_rights(abi);
    int fd;

    if (rule->path[0] == '\0')
        return add_path(ruleset, access, rule->fd);
    fd = open(rule->path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return rule->optional && errno == ENOENT ? 0 : -1;
    return sys_close_with(fd, add_path(ruleset, access, fd));
}

static int add_rules(int ruleset, int abi, const landlock_rule_t *rules, size_t nrules)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < nrules; i++)
        rc = add_rule(ruleset, abi, &rules[i]);
    return rc;
}

int landlock_begin(int abi, unsigned flags, const landlock_rule_t *rules, size_t nrules)
{
    int ruleset = create_ruleset(abi, flags);

    if (ruleset >= 0 && add_rules(ruleset, abi, rules, nrules) != 0)
        return sys_close_with(ruleset, -1);
    return ruleset;
}

int landlock_finish(int ruleset, int abi, const landlock_rule_t *rules, size_t nrules)
{
    int rc = add_rules(ruleset, abi, rules, nrules);

    if (rc == 0)
        rc = sys_landlock_restrict(ruleset);
    return sys_close_with(ruleset, rc);
}

int landlock_apply(int abi, unsigned flags, const landlock_rule_t *rules, size_t nrules)
{
    int ruleset = landlock_begin(abi, flags, rules, nrules);

    return ruleset < 0 ? -1 : landlock_finish(ruleset, abi, NULL, 0);
}

uint32_t landlock_missing(int abi)
{
    uint32_t missing = 0;

    if (abi <= 0)
        missing |= STAGE_NO_LANDLOCK;
    if (abi < ABI_NET)
        missing |= STAGE_NO_LANDLOCK_NET;
    if (abi < ABI_SCOPE)
        missing |= STAGE_NO_LANDLOCK_SCOPE;
    return missing;
}
