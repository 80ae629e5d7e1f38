/*
 * packer_filter.h - the system calls that intake and collect children may make.
 *
 * The tables are compiled once, in the nursery; a child only loads the finished
 * program.  Default: EPERM; foreign architectures are killed.
 */
#ifndef SB_PACKER_FILTER_H
#define SB_PACKER_FILTER_H

#include <linux/filter.h>

typedef struct {
    struct sock_filter *code; /* malloc'ed */
    unsigned short len;
} packer_filter_t;

enum packer_role { PACKER_INTAKE = 1, PACKER_COLLECT = 2 };

/* 0, or -1 with errno. */
int packer_filter_compile(enum packer_role role, packer_filter_t *filter);

/* Needs no_new_privs.  0, or -1 with errno. */
int packer_filter_load(const packer_filter_t *filter);

#endif
