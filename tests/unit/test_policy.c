/*
 * test_policy.c - the system call policy: the printed table against the golden files,
 * both for x86_64 and aarch64 whatever this machine is; and this machine's program,
 * run by an interpreter of our own, against the table.
 *
 *   test_policy --print x86_64 >tests/unit/policy.x86_64     after a change that was meant
 */
#include "cmocka_all.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/bpf_common.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../sandbox-helper/filter.h"
#include "../../sandbox-helper/policy.h"
#include "../../sandbox-helper/policy_print.h"

#define KNOWN_TO 469 /* the newest call the table knows */
#define NUMBERS  1100

/* arch tokens of libseccomp are the kernel's AUDIT_ARCH_* */
static const struct {
    const char *name, *golden;
    uint32_t token;
} arches[] = {
    {"x86_64", "tests/unit/policy.x86_64", SCMP_ARCH_X86_64},
    {"aarch64", "tests/unit/policy.aarch64", SCMP_ARCH_AARCH64},
};

static void for_each_call(void (*f)(const policy_group_t *, const policy_call_t *, void *),
                          void *arg)
{
    for (size_t g = 0; g < policy_ngroups; g++)
        for (size_t i = 0; i < policy_groups[g].ncalls; i++)
            f(&policy_groups[g], &policy_groups[g].calls[i], arg);
}

/* ---- the printed table ---- */

static char *printed(uint32_t arch)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    assert_int_equal(policy_print(out, arch), 0);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_printed_as_golden(void **state)
{
    for (size_t i = 0; i < COUNT(arches); i++) {
        char *text = printed(arches[i].token), *line = text, golden[1024];
        FILE *f = fopen(arches[i].golden, "r");

        assert_non_null(f);
        for (int n = 1; fgets(golden, sizeof(golden), f) != NULL; n++) {
            size_t len = strcspn(line, "\n") + 1;

            if (strncmp(line, golden, len) != 0)
                fail_msg("%s:%d: printed is \"%.*s\"", arches[i].golden, n, (int)len - 1, line);
            line += len;
        }
        assert_string_equal(line, ""); /* nothing after the golden file's end */
        fclose(f);
        free(text);
    }
}

/* ---- the table itself ---- */

typedef struct {
    uint32_t arch;
    const policy_call_t *rows[FILTER_VARIANTS][NUMBERS]; /* by number */
} table_t;

static void add_row(const policy_group_t *group, const policy_call_t *call, void *arg)
{
    table_t *table = arg;
    int number = policy_number(table->arch, call);

    if (number < 0)
        return;
    assert_in_range(number, 0, KNOWN_TO);
    for (int v = 0; v < FILTER_VARIANTS; v++) {
        if ((call->variants & (1u << v)) == 0)
            continue;
        if (table->rows[v][number] != NULL)
            fail_msg("%s is in the table twice", call->name);
        table->rows[v][number] = call;
    }
}

static void fill(table_t *table, uint32_t arch)
{
    memset(table, 0, sizeof(*table));
    table->arch = arch;
    for_each_call(add_row, table);
}

static void test_every_known_call_has_a_row(void **state)
{
    static table_t table;

    for (size_t i = 0; i < COUNT(arches); i++) {
        fill(&table, arches[i].token);
        for (int number = 0; number <= KNOWN_TO; number++) {
            char *name = seccomp_syscall_resolve_num_arch(arches[i].token, number);
            bool known = name != NULL || number >= 424; /* the same everywhere from there */

            for (int v = 0; v < FILTER_VARIANTS; v++)
                if (known && table.rows[v][number] == NULL)
                    fail_msg("%s: no row for %s (%d)", arches[i].name, name ? name : "a call",
                             number);
            free(name);
        }
    }
}

static void check_row(const policy_group_t *group, const policy_call_t *call, void *arg)
{
    int number;

    assert_true(group->reason != NULL && group->reason[0] != '\0');
    assert_true(call->reason == NULL || call->reason[0] != '\0');
    assert_in_range(call->variants, 1, POLICY_BOTH);
    assert_in_range(call->verdict, 0, POLICY_VERDICTS - 1);
    /* a number is a fallback: it must be the one that libseccomp knows, where it does */
    number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, call->name);
    if (call->number >= 0 && number >= 0)
        assert_int_equal(call->number, number);
    for (size_t i = 0; i < call->ntests; i++) {
        const policy_test_t *test = &call->tests[i];

        assert_in_range(test->ncomparisons, 1, POLICY_COMPARISONS);
        assert_int_not_equal(test->verdict, call->verdict);
        for (unsigned c = 0; c < test->ncomparisons; c++) {
            assert_in_range(test->comparisons[c].arg, 0, 5);
            if (test->comparisons[c].mask != 0) /* else it could never hold */
                assert_int_equal(test->comparisons[c].value & ~test->comparisons[c].mask, 0);
        }
    }
}

static void test_rows_are_complete(void **state)
{
    for_each_call(check_row, NULL);
}

/* ---- the program: classic BPF as seccomp has it ---- */

static uint32_t jump(const struct sock_filter *in, uint32_t a)
{
    bool holds = false;

    switch (BPF_OP(in->code)) {
    case BPF_JA:
        return in->k;
    case BPF_JEQ:
        holds = a == in->k;
        break;
    case BPF_JGT:
        holds = a > in->k;
        break;
    case BPF_JGE:
        holds = a >= in->k;
        break;
    case BPF_JSET:
        holds = (a & in->k) != 0;
        break;
    default:
        fail_msg("unexpected jump %#x", in->code);
    }
    return holds ? in->jt : in->jf;
}

/* What the kernel would do with that call: SECCOMP_RET_*, and how many instructions it took. */
static uint32_t run(const filter_t *filter, const struct seccomp_data *data, unsigned *steps)
{
    uint32_t a = 0;

    *steps = 0;
    for (uint32_t pc = 0; pc < filter->len; pc++) {
        const struct sock_filter *in = &filter->code[pc];

        (*steps)++;
        switch (BPF_CLASS(in->code)) {
        case BPF_LD:
            assert_int_equal(in->code, BPF_LD | BPF_W | BPF_ABS);
            assert_in_range(in->k, 0, sizeof(*data) - sizeof(a));
            memcpy(&a, (const char *)data + in->k, sizeof(a));
            break;
        case BPF_ALU:
            assert_int_equal(in->code, BPF_ALU | BPF_AND | BPF_K);
            a &= in->k;
            break;
        case BPF_JMP:
            pc += jump(in, a);
            break;
        case BPF_RET:
            assert_int_equal(in->code, BPF_RET | BPF_K);
            return in->k;
        default:
            fail_msg("unexpected instruction %#x", in->code);
        }
    }
    fail_msg("the program has no end");
    return 0;
}

typedef struct {
    filter_t first, second;
} filters_t;

static void compile(enum filter_variant variant, filters_t *out)
{
    assert_int_equal(filter_compile(variant, &out->first), 0);
    assert_int_equal(filter_compile_second(variant, &out->second), 0);
}

static void release(const filters_t *filters)
{
    free(filters->first.code);
    free(filters->second.code);
}

/* As the kernel asks them: the last one that was loaded first, an earlier one only outdoes it. */
static uint32_t run_both(const filters_t *filters, const struct seccomp_data *data, unsigned *steps)
{
    unsigned more;
    uint32_t second = run(&filters->second, data, steps);
    uint32_t first = run(&filters->first, data, &more);

    *steps += more;
    return (int32_t)(first & SECCOMP_RET_ACTION_FULL) < (int32_t)(second & SECCOMP_RET_ACTION_FULL)
               ? first
               : second;
}

/* ---- what the table says ---- */

static bool holds(const policy_test_t *test, const uint64_t *args)
{
    for (unsigned i = 0; i < test->ncomparisons; i++) {
        const policy_comparison_t *c = &test->comparisons[i];

        if (c->mask == 0 ? args[c->arg] <= c->value : (args[c->arg] & c->mask) != c->value)
            return false;
    }
    return true;
}

static uint32_t expected(const policy_call_t *call, const uint64_t *args)
{
    static const uint32_t answers[POLICY_VERDICTS] = {
        [POLICY_ALLOW] = SECCOMP_RET_ALLOW,
        [POLICY_EPERM] = SECCOMP_RET_ERRNO | EPERM,
        [POLICY_ENOSYS] = SECCOMP_RET_ERRNO | ENOSYS,
        [POLICY_EAFNOSUPPORT] = SECCOMP_RET_ERRNO | EAFNOSUPPORT,
        [POLICY_EOPNOTSUPP] = SECCOMP_RET_ERRNO | EOPNOTSUPP,
    };

    if (call == NULL)
        return answers[POLICY_EPERM];
    for (size_t i = 0; i < call->ntests; i++)
        if (holds(&call->tests[i], args))
            return answers[call->tests[i].verdict];
    return answers[call->verdict];
}

typedef struct {
    const filters_t *filters;
    uint32_t arch;
    int number;
    const policy_call_t *call;
    unsigned long tried, steps;
} trial_t;

static void try_args(trial_t *t, const uint64_t *args)
{
    struct seccomp_data data = {.nr = t->number, .arch = t->arch};
    uint32_t got, want = expected(t->call, args);
    unsigned steps;

    memcpy(data.args, args, sizeof(data.args));
    got = run_both(t->filters, &data, &steps);
    t->tried++;
    t->steps += steps;
    if (got != want)
        fail_msg("call %d (%#lx, %#lx, %#lx, %#lx): the program says %#x, the table %#x", t->number,
                 (unsigned long)args[0], (unsigned long)args[1], (unsigned long)args[2],
                 (unsigned long)args[3], got, want);
}

/* Arguments that pass the test, then each bit of each argument turned. */
static void try_around(trial_t *t, const policy_test_t *test)
{
    uint64_t args[6] = {0};

    for (unsigned i = 0; i < test->ncomparisons; i++) {
        const policy_comparison_t *c = &test->comparisons[i];

        args[c->arg] |= c->mask == 0 ? (uint64_t)c->value + 1 : c->value;
    }
    try_args(t, args);
    for (int arg = 0; arg < 6; arg++) {
        for (int bit = 0; bit < 64; bit++) {
            args[arg] ^= 1ull << bit;
            try_args(t, args);
            args[arg] ^= 1ull << bit;
        }
    }
}

static void try_call(trial_t *t)
{
    static const uint64_t all[] = {0, 1, 0x7fffffff, 0xffffffff, 0x100000000, 0xffffffffffffffff};

    for (size_t i = 0; i < COUNT(all); i++) {
        uint64_t args[6] = {all[i], all[i], all[i], all[i], all[i], all[i]};

        try_args(t, args);
    }
    for (uint64_t value = 0; t->call != NULL && t->call->ntests > 0 && value < 300; value++) {
        uint64_t args[6] = {value, value, value, value, value, value};

        try_args(t, args);
    }
    for (size_t i = 0; t->call != NULL && i < t->call->ntests; i++)
        try_around(t, &t->call->tests[i]);
}

static void test_the_program_is_the_table(void **state)
{
    static table_t table;

    fill(&table, seccomp_arch_native());
    for (int v = 0; v < FILTER_VARIANTS; v++) {
        filters_t filters = {0};
        trial_t t = {.filters = &filters, .arch = table.arch};

        compile((enum filter_variant)v, &filters);
        for (t.number = 0; t.number < NUMBERS; t.number++) {
            t.call = table.rows[v][t.number];
            try_call(&t);
        }
        print_message("variant %d: %u and %u instructions; %lu calls tried, %.1f each\n", v,
                      filters.first.len, filters.second.len, t.tried,
                      (double)t.steps / (double)t.tried);
        release(&filters);
    }
}

static void test_foreign_calls_are_killed(void **state)
{
    static const struct {
        uint32_t arch;
        int number;
    } foreign[] = {
        {AUDIT_ARCH_I386, 0},
        {AUDIT_ARCH_I386, 102 /* socketcall */},
        {AUDIT_ARCH_ARM, 0},
#if defined(__x86_64__)
        {AUDIT_ARCH_AARCH64, 0},
        {AUDIT_ARCH_X86_64, 0x40000000}, /* x32 */
        {AUDIT_ARCH_X86_64, 0x40000000 + 59 /* execve */},
        {AUDIT_ARCH_X86_64, 0x40000000 + 512},
        {AUDIT_ARCH_X86_64, 0x7fffffff},
        {AUDIT_ARCH_X86_64, -2},
#else
        {AUDIT_ARCH_X86_64, 0},
#endif
    };
    filters_t filters = {0};
    unsigned steps;

    compile(FILTER_NO_MEMORY_CGROUP, &filters);
    for (size_t i = 0; i < COUNT(foreign); i++) {
        struct seccomp_data data = {.nr = foreign[i].number, .arch = foreign[i].arch};

        assert_int_equal(run_both(&filters, &data, &steps), SECCOMP_RET_KILL_PROCESS);
    }
    struct seccomp_data none = {.nr = -1, .arch = seccomp_arch_native()};
    assert_int_equal(run_both(&filters, &none, &steps), SECCOMP_RET_ERRNO | EPERM);
    release(&filters);
}

/* What a stage may do more than a run is what policy_setup names, nothing else. */
static void try_first(const table_t *table, const filters_t *filters, int number)
{
    const policy_call_t *call = table->rows[FILTER_MEMORY_CGROUP][number];
    const policy_setup_t *setup = call == NULL ? NULL : policy_setup_of(call);

    for (uint64_t value = 0; value < 300; value++) {
        struct seccomp_data data = {.nr = number, .arch = table->arch};
        unsigned steps;

        for (size_t i = 0; i < COUNT(data.args); i++)
            data.args[i] = value;
        if (setup == NULL)
            assert_int_equal(run(&filters->second, &data, &steps), SECCOMP_RET_ALLOW);
        else if (setup->ntests == 0)
            assert_int_equal(run(&filters->first, &data, &steps), SECCOMP_RET_ALLOW);
    }
}

static void test_the_first_program_lets_pass_only_what_setting_up_needs(void **state)
{
    static table_t table;
    filters_t filters = {0};

    fill(&table, seccomp_arch_native());
    compile(FILTER_MEMORY_CGROUP, &filters);
    for (int number = 0; number < NUMBERS; number++)
        try_first(&table, &filters, number);
    for (size_t i = 0; i < policy_nsetup; i++)
        assert_non_null(policy_find(policy_setup[i].name, FILTER_NO_MEMORY_CGROUP));
    release(&filters);
}

static int print(const char *name)
{
    for (size_t i = 0; i < COUNT(arches); i++)
        if (strcmp(arches[i].name, name) == 0)
            return policy_print(stdout, arches[i].token) == 0 ? 0 : 1;
    return 2;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printed_as_golden),
        cmocka_unit_test(test_every_known_call_has_a_row),
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_the_program_is_the_table),
        cmocka_unit_test(test_the_first_program_lets_pass_only_what_setting_up_needs),
        cmocka_unit_test(test_foreign_calls_are_killed),
    };

    if (argc == 3 && strcmp(argv[1], "--print") == 0)
        return print(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
