/*
 * filter.h - the system calls a run may make.
 *
 * An allowlist, in two programs, because the kernel takes longer to take in the whole list than
 * to fork the process that it is for.  The first, the table of policy.c and what the making of
 * sandboxes needs besides (policy_setup), is compiled by libseccomp when sandbox-stage starts, and
 * loaded by the stage or zygote into itself: every run's processes inherit it.  The second, some 50
 * instructions, refuses the rest and is loaded by each of them when it is made.  The kernel asks
 * both and takes the stricter answer: together they are the table.
 *
 * What is not allowed fails with EPERM, what C libraries probe and do without fails with ENOSYS,
 * calls of a foreign architecture (i386 and x32 on x86_64) kill the process.
 */
#ifndef SB_FILTER_H
#define SB_FILTER_H

#include <linux/filter.h>

/*
 * Two variants.  Without a memory cgroup nothing charges a memfd or a shared anonymous
 * mapping to the run: they are refused then.
 */
enum filter_variant { FILTER_MEMORY_CGROUP, FILTER_NO_MEMORY_CGROUP, FILTER_VARIANTS };

typedef struct {
    struct sock_filter *code; /* malloc'ed, the owner's */
    unsigned short len;
} filter_t;

#define FILTER_SECOND_MAX 255 /* instructions: its jumps are of one byte */

/* The first program.  0 or -1 with errno. */
int filter_compile(enum filter_variant variant, filter_t *out);
/* The second one.  0 or -1 with errno. */
int filter_compile_second(enum filter_variant variant, filter_t *out);

/* Needs no_new_privs; 0 or -1 with errno.  No way back, descendants inherit it. */
int filter_load(const filter_t *filter);
/* The same for the second program; ENOSYS where the first is not there. */
int filter_load_second(const filter_t *filter);

#endif
