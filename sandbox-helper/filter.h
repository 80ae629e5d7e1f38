/*
 * filter.h - the system calls a run may make.
 *
 * An allowlist, compiled by libseccomp once when sandbox-stage starts and loaded
 * raw (one system call) in each run.  What is not allowed fails with EPERM, what C
 * libraries probe and do without fails with ENOSYS, calls of a foreign architecture
 * (i386 and x32 on x86_64) kill the process.  The table is in policy.c.
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
    struct sock_filter *code; /* malloc'ed, never freed: as long-lived as the program */
    unsigned short len;
} filter_t;

/* 0 or -1 with errno. */
int filter_compile(enum filter_variant variant, filter_t *out);

/* Needs no_new_privs; 0 or -1 with errno.  No way back, descendants inherit it. */
int filter_load(const filter_t *filter);

#endif
