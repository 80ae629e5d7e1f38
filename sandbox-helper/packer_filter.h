/*
 * packer_filter.h - the system calls that intake, collect, import and read children may make.
 *
 * The tables are compiled once, in the nursery; a child only loads the finished
 * program.  Default: EPERM; foreign architectures are killed.
 */
#ifndef SB_PACKER_FILTER_H
#define SB_PACKER_FILTER_H

#include <linux/filter.h>

/* 1 in test builds with AddressSanitizer, which needs calls and memory of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define PACKER_SANITIZED 1
#elif defined(__has_feature)
#define PACKER_SANITIZED __has_feature(address_sanitizer)
#else
#define PACKER_SANITIZED 0
#endif

typedef struct {
    struct sock_filter *code; /* malloc'ed */
    unsigned short len;
} packer_filter_t;

enum packer_role { PACKER_INTAKE = 1, PACKER_COLLECT = 2, PACKER_IMPORT = 4, PACKER_READ = 8 };

/* 0, or -1 with errno. */
int packer_filter_compile(enum packer_role role, packer_filter_t *filter);

/* Needs no_new_privs.  0, or -1 with errno. */
int packer_filter_load(const packer_filter_t *filter);

#endif
