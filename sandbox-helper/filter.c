/*
 * filter.c - see filter.h.  Makes the kernel's program from the table in policy.c.
 * Runs in the stage before there is any run.
 */
#include "filter.h"

#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy.h"
#include "sys.h"

static uint32_t action_of(enum policy_verdict verdict)
{
    switch (verdict) {
    case POLICY_ALLOW:
        return SCMP_ACT_ALLOW;
    case POLICY_ENOSYS:
        return SCMP_ACT_ERRNO(ENOSYS);
    case POLICY_EAFNOSUPPORT:
        return SCMP_ACT_ERRNO(EAFNOSUPPORT);
    case POLICY_EOPNOTSUPP:
        return SCMP_ACT_ERRNO(EOPNOTSUPP);
    default:
        return SCMP_ACT_ERRNO(EPERM);
    }
}

static struct scmp_arg_cmp comparison_of(const policy_comparison_t *c)
{
    if (c->mask == 0)
        return SCMP_CMP(c->arg, SCMP_CMP_GT, c->value, 0);
    return SCMP_CMP(c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value);
}

static int add_test(scmp_filter_ctx ctx, int number, const policy_test_t *test)
{
    struct scmp_arg_cmp args[POLICY_COMPARISONS];

    for (unsigned i = 0; i < test->ncomparisons; i++)
        args[i] = comparison_of(&test->comparisons[i]);
    return seccomp_rule_add_array(ctx, action_of(test->verdict), number, test->ncomparisons, args);
}

/* EPERM is the filter's default: such rows add nothing to it. */
static int add_call(scmp_filter_ctx ctx, int number, const policy_call_t *call)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < call->ntests; i++)
        rc = add_test(ctx, number, &call->tests[i]);
    if (rc == 0 && call->verdict != POLICY_EPERM)
        rc = seccomp_rule_add(ctx, action_of(call->verdict), number, 0);
    return rc;
}

static int add_group(scmp_filter_ctx ctx, enum filter_variant variant, const policy_group_t *group)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < group->ncalls; i++) {
        const policy_call_t *call = &group->calls[i];
        int number = policy_number(0, call);

        if (number >= 0 && (call->variants & (1u << variant)) != 0)
            rc = add_call(ctx, number, call);
    }
    return rc;
}

static int add_rules(scmp_filter_ctx ctx, enum filter_variant variant)
{
    /* KILL_PROCESS: 32-bit entry points have numbers of their own, and socketcall(2) */
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (rc == 0) /* a binary tree instead of 300 comparisons in a row */
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; rc == 0 && i < policy_ngroups; i++)
        rc = add_group(ctx, variant, &policy_groups[i]);
    return rc;
}

/* Reads the exported program back from its memfd. */
static int read_program(int fd, filter_t *out)
{
    off_t size = lseek(fd, 0, SEEK_END);

    if (size <= 0 || size % (off_t)sizeof(*out->code) != 0 ||
        size / (off_t)sizeof(*out->code) > BPF_MAXINSNS) {
        errno = size < 0 ? errno : E2BIG;
        return -1;
    }
    out->code = malloc((size_t)size);
    if (out->code == NULL)
        return -1;
    out->len = (unsigned short)((size_t)size / sizeof(*out->code));
    return sys_pread_all(fd, out->code, (size_t)size, 0);
}

static int export_program(scmp_filter_ctx ctx, filter_t *out)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    int rc;

    if (fd < 0)
        return -1;
    rc = seccomp_export_bpf(ctx, fd);
    if (rc != 0)
        errno = -rc;
    else
        rc = read_program(fd, out);
    close(fd);
    return rc == 0 ? 0 : -1;
}

int filter_compile(enum filter_variant variant, filter_t *out)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc;

    if (ctx == NULL) {
        errno = ENOMEM;
        return -1;
    }
    rc = add_rules(ctx, variant);
    if (rc != 0)
        errno = -rc;
    else
        rc = export_program(ctx, out);
    seccomp_release(ctx);
    return rc == 0 ? 0 : -1;
}
