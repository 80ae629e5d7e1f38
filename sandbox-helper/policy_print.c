/*
 * policy_print.c - see policy_print.h.  Runs in `sandbox-stage --print-policy` and
 * its test, never beside a run.
 */
#include "policy_print.h"

#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdlib.h>

#include "policy.h"

#define ALL_BITS 0xffffffffu

typedef struct {
    int number;
    const policy_call_t *call;
    const char *reason;
} line_t;

static const char *const answers[POLICY_VERDICTS] = {
    [POLICY_ALLOW] = "allow",           [POLICY_EPERM] = "EPERM",
    [POLICY_ENOSYS] = "ENOSYS",         [POLICY_EAFNOSUPPORT] = "EAFNOSUPPORT",
    [POLICY_EOPNOTSUPP] = "EOPNOTSUPP",
};

static const char *variant_name(unsigned variants)
{
    if (variants == POLICY_BOTH)
        return "always";
    return variants == POLICY_MEMORY_CGROUP ? "memory-cgroup" : "no-memory-cgroup";
}

static const char *arch_name(uint32_t arch)
{
    switch (arch) {
    case SCMP_ARCH_X86_64:
        return "x86_64";
    case SCMP_ARCH_AARCH64:
        return "aarch64";
    default:
        return "another architecture";
    }
}

static int by_number(const void *a, const void *b)
{
    const line_t *one = a, *two = b;

    if (one->number != two->number)
        return one->number < two->number ? -1 : 1;
    return (int)one->call->variants - (int)two->call->variants;
}

static size_t collect(uint32_t arch, line_t *lines)
{
    size_t n = 0;

    for (size_t g = 0; g < policy_ngroups; g++) {
        const policy_group_t *group = &policy_groups[g];

        for (size_t i = 0; i < group->ncalls; i++) {
            const policy_call_t *call = &group->calls[i];
            int number = policy_number(arch, call);

            if (number >= 0)
                lines[n++] =
                    (line_t){number, call, call->reason != NULL ? call->reason : group->reason};
        }
    }
    return n;
}

static void print_test(FILE *out, const policy_test_t *test)
{
    fprintf(out, "       %-12s", answers[test->verdict]);
    for (unsigned i = 0; i < test->ncomparisons; i++) {
        const policy_comparison_t *c = &test->comparisons[i];

        fprintf(out, "%s arg%" PRIu32, i > 0 ? "," : "", c->arg);
        if (c->mask == 0)
            fprintf(out, " > %#" PRIx32, c->value);
        else if (c->mask == ALL_BITS)
            fprintf(out, " == %#" PRIx32, c->value);
        else
            fprintf(out, " & %#" PRIx32 " == %#" PRIx32, c->mask, c->value);
    }
    fprintf(out, ": %s\n", test->words);
}

static void print_line(FILE *out, const line_t *line)
{
    const policy_call_t *call = line->call;

    fprintf(out, "%5d  %-23s %-16s %-10s %s%s\n", line->number, call->name,
            variant_name(call->variants), answers[call->verdict],
            call->ntests > 0 ? "unless: " : ": ", line->reason);
    for (size_t i = 0; i < call->ntests; i++)
        print_test(out, &call->tests[i]);
}

static void print_head(FILE *out, uint32_t arch)
{
    fprintf(out,
            "# The system calls of a run, on %s.\n"
            "#\n"
            "# number, name, when the row holds (with or without a memory control group, or\n"
            "# always), answer: reason.  \"unless\": the first of the lines below it that holds\n"
            "# answers instead.  Arguments are compared on 32 bits, as the kernel reads them,\n"
            "# and on 64 where it says \">\".\n"
            "# Every other number: EPERM.  Calls of other architectures (i386 and x32 on\n"
            "# x86_64): the process is killed.\n",
            arch_name(arch));
}

int policy_print(FILE *out, uint32_t arch)
{
    size_t total = 0, n;
    line_t *lines;

    if (arch == 0)
        arch = seccomp_arch_native();
    for (size_t g = 0; g < policy_ngroups; g++)
        total += policy_groups[g].ncalls;
    lines = calloc(total + 1, sizeof(*lines));
    if (lines == NULL)
        return -1;
    n = collect(arch, lines);
    qsort(lines, n, sizeof(*lines), by_number);
    print_head(out, arch);
    for (size_t i = 0; i < n; i++)
        print_line(out, &lines[i]);
    free(lines);
    if (fflush(out) != 0 || ferror(out)) {
        errno = EIO;
        return -1;
    }
    return 0;
}
