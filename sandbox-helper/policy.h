/*
 * policy.h - which system calls a run may make, and why: the table.
 *
 * Data only.  filter.c compiles it into the kernel's program, policy_print.c prints
 * it.  A call that has no row is refused with EPERM, like every number above the
 * known ones.
 *
 * A row says what a call is answered with; its tests say where the answer depends on
 * arguments: the first test that holds decides, and the row when none does.  Two rows
 * of one name are for the two variants.
 *
 * The constants in the tests, and the places of arguments, are those of x86_64 and
 * aarch64.  Other architectures differ (clone's flags, ioctl numbers): policy.c does
 * not compile there before somebody has looked.
 */
#ifndef SB_POLICY_H
#define SB_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "filter.h"

enum policy_verdict {
    POLICY_ALLOW,
    POLICY_EPERM,        /* refused; the filter's default */
    POLICY_ENOSYS,       /* seems absent: for what programs try and know to do without */
    POLICY_EAFNOSUPPORT, /* seems absent, for families of sockets */
    POLICY_EOPNOTSUPP,   /* seems to be what the file system can't do */
    POLICY_VERDICTS
};

/* A row's or test's variants, as bits. */
#define POLICY_MEMORY_CGROUP    (1u << FILTER_MEMORY_CGROUP)
#define POLICY_NO_MEMORY_CGROUP (1u << FILTER_NO_MEMORY_CGROUP)
#define POLICY_BOTH             (POLICY_MEMORY_CGROUP | POLICY_NO_MEMORY_CGROUP)

#define POLICY_COMPARISONS 3

/*
 * (argument & mask) == value; or, with mask 0, argument > value, of all 64 bits.  The
 * kernel reads most arguments as 32 bits wide, so masks have no more: a comparison of
 * 64 bits is passed by setting an upper one (CVE-2019-7303).
 */
typedef struct {
    uint32_t arg;
    uint32_t mask;
    uint32_t value;
} policy_comparison_t;

typedef struct {
    const char *words; /* the test, for people */
    enum policy_verdict verdict;
    unsigned ncomparisons; /* all must hold */
    policy_comparison_t comparisons[POLICY_COMPARISONS];
} policy_test_t;

typedef struct {
    const char *name;
    int number; /* where libseccomp is older than the call; -1: all know it */
    enum policy_verdict verdict;
    unsigned variants;
    const policy_test_t *tests;
    size_t ntests;
    const char *reason; /* NULL: the group's */
} policy_call_t;

typedef struct {
    const char *reason;
    const policy_call_t *calls;
    size_t ncalls;
} policy_group_t;

extern const policy_group_t policy_groups[];
extern const size_t policy_ngroups;

/*
 * What the making of a sandbox asks for and a run may not: a call as a whole, or where a test
 * holds.  The program of the table lets it pass, and a second one, loaded when the sandbox is
 * made, refuses it again as the table says (filter.h).
 */
typedef struct {
    const char *name;
    const policy_test_t *tests;
    size_t ntests;
} policy_setup_t;

extern const policy_setup_t policy_setup[];
extern const size_t policy_nsetup;

/* The call's row for that variant, or NULL. */
const policy_call_t *policy_find(const char *name, enum filter_variant variant);
/* Of the row's name, or NULL. */
const policy_setup_t *policy_setup_of(const policy_call_t *call);

/*
 * The number of a call on an architecture (0: this one; else libseccomp's token); -1:
 * there is none.
 */
int policy_number(uint32_t arch, const policy_call_t *call);

#endif
