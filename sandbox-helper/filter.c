/*
 * filter.c - see filter.h.  Makes the kernel's program from the table in policy.c.
 * Runs in the stage before there is any run.
 */
#include "filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
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

/* What is let pass here is the second program's to refuse. */
static int add_row(scmp_filter_ctx ctx, int number, const policy_call_t *call)
{
    const policy_setup_t *setup = policy_setup_of(call);
    int rc = 0;

    if (setup != NULL && setup->ntests == 0)
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 0);
    for (size_t i = 0; setup != NULL && rc == 0 && i < setup->ntests; i++)
        rc = add_test(ctx, number, &setup->tests[i]);
    return rc == 0 ? add_call(ctx, number, call) : rc;
}

static int add_group(scmp_filter_ctx ctx, enum filter_variant variant, const policy_group_t *group)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < group->ncalls; i++) {
        const policy_call_t *call = &group->calls[i];
        int number = policy_number(0, call);

        if (number >= 0 && (call->variants & (1u << variant)) != 0)
            rc = add_row(ctx, number, call);
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

/* ---- the second program: by hand, libseccomp has none that allows what it does not name ---- */

static struct sock_filter *put(filter_t *out, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    struct sock_filter *in = &out->code[out->len++];

    *in = (struct sock_filter){.code = code, .jt = jt, .jf = jf, .k = k};
    return in;
}

static uint32_t answer_of(enum policy_verdict verdict)
{
    return action_of(verdict); /* libseccomp's words are the kernel's */
}

/* Goes on behind the test when it does not hold. */
static void put_test(filter_t *out, const policy_test_t *test, uint32_t answer)
{
    struct sock_filter *misses[POLICY_COMPARISONS];

    for (unsigned i = 0; i < test->ncomparisons; i++) {
        const policy_comparison_t *c = &test->comparisons[i];

        put(out, BPF_LD | BPF_W | BPF_ABS,
            (uint32_t)offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t), 0, 0);
        put(out, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
        misses[i] = put(out, BPF_JMP | BPF_JEQ | BPF_K, c->value, 0, 0);
    }
    put(out, BPF_RET | BPF_K, answer, 0, 0);
    for (unsigned i = 0; i < test->ncomparisons; i++)
        misses[i]->jf = (uint8_t)(&out->code[out->len] - misses[i] - 1);
}

/* Behind the comparison of the number. */
static void put_call(filter_t *out, const policy_setup_t *setup, const policy_call_t *call)
{
    struct sock_filter *other = &out->code[out->len - 1];

    for (size_t i = 0; i < setup->ntests; i++)
        put_test(out, &setup->tests[i], answer_of(call->verdict));
    for (size_t i = 0; setup->ntests == 0 && i < call->ntests; i++)
        put_test(out, &call->tests[i], answer_of(call->tests[i].verdict));
    put(out, BPF_RET | BPF_K, setup->ntests == 0 ? answer_of(call->verdict) : SECCOMP_RET_ALLOW, 0,
        0);
    other->jf = (uint8_t)(&out->code[out->len] - other - 1);
}

/* Its tests are of 32 bits, on little-endian machines: policy.h has the rest refused. */
static bool fits(const policy_test_t *tests, size_t ntests)
{
    for (size_t i = 0; i < ntests; i++)
        for (unsigned c = 0; c < tests[i].ncomparisons; c++)
            if (tests[i].comparisons[c].mask == 0)
                return false;
    return true;
}

static size_t room_for(const policy_setup_t *setup, const policy_call_t *call)
{
    return 2 + (3 * POLICY_COMPARISONS + 1) * (setup->ntests > 0 ? setup->ntests : call->ntests);
}

int filter_compile_second(enum filter_variant variant, filter_t *out)
{
    out->len = 0;
    out->code = calloc(FILTER_SECOND_MAX, sizeof(*out->code));
    if (out->code == NULL)
        return -1;
    put(out, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr), 0, 0);
    for (size_t i = 0; i < policy_nsetup; i++) {
        const policy_setup_t *setup = &policy_setup[i];
        const policy_call_t *call = policy_find(setup->name, variant);
        int number = call == NULL ? -1 : policy_number(0, call);

        if (call == NULL || !fits(setup->tests, setup->ntests) ||
            (setup->ntests == 0 && !fits(call->tests, call->ntests)) ||
            out->len + room_for(setup, call) + 1 > FILTER_SECOND_MAX) {
            errno = EINVAL;
            return -1;
        }
        if (number < 0)
            continue;
        put(out, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 0);
        put_call(out, setup, call);
    }
    put(out, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    return 0;
}
