/*
 * landlock.h - what a process may do below which path, once more and independent
 * of mounts and mode bits.  Rules are tied to inodes: the paths are looked up when
 * the policy is applied, in the caller's mount namespace.
 *
 * It can't be undone, descendants inherit it, and it does not touch descriptors
 * that are already open.  Needs no_new_privs.
 */
#ifndef SB_LANDLOCK_H
#define SB_LANDLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Access rights of the kernel's interface; bits by ABI as in landlock.c. */
#define LL_EXECUTE     (1ULL << 0)
#define LL_WRITE_FILE  (1ULL << 1)
#define LL_READ_FILE   (1ULL << 2)
#define LL_READ_DIR    (1ULL << 3)
#define LL_REMOVE_DIR  (1ULL << 4)
#define LL_REMOVE_FILE (1ULL << 5)
#define LL_MAKE_CHAR   (1ULL << 6)
#define LL_MAKE_DIR    (1ULL << 7)
#define LL_MAKE_REG    (1ULL << 8)
#define LL_MAKE_SOCK   (1ULL << 9)
#define LL_MAKE_FIFO   (1ULL << 10)
#define LL_MAKE_BLOCK  (1ULL << 11)
#define LL_MAKE_SYM    (1ULL << 12)
#define LL_REFER       (1ULL << 13) /* ABI 2: rename and link between directories */
#define LL_TRUNCATE    (1ULL << 14) /* ABI 3 */
#define LL_IOCTL_DEV   (1ULL << 15) /* ABI 5 */

#define LL_READ (LL_READ_FILE | LL_READ_DIR)
/* Everything a program does with files of its own, but no device nodes and no execution. */
#define LL_WRITE                                                                                   \
    (LL_WRITE_FILE | LL_REMOVE_DIR | LL_REMOVE_FILE | LL_MAKE_DIR | LL_MAKE_REG | LL_MAKE_SOCK |   \
     LL_MAKE_FIFO | LL_MAKE_SYM | LL_REFER | LL_TRUNCATE)

typedef struct {
    const char *path; /* absolute; "" = the directory or file open as fd */
    uint64_t access;  /* LL_*; what the ABI does not know is left out, and for files what only
                         directories have */
    int fd;           /* only with path "" */
    int optional;     /* a path that does not exist is skipped */
} landlock_rule_t;

/*
 * TCP bind and connect are denied altogether (ABI 4).  Not for runs: Landlock knows
 * ports, not addresses, and a run's own loopback must work; that nothing else can
 * be reached is the empty network namespace's business there.
 */
#define LANDLOCK_DENY_TCP 1u

/*
 * Denies every file right the ABI knows except what the rules grant, and signals
 * and abstract sockets out of the domain (ABI 6).  abi > 0, from sys_landlock_abi();
 * flags: LANDLOCK_DENY_TCP or 0.  0 or -1 with errno.
 */
int landlock_apply(int abi, unsigned flags, const landlock_rule_t *rules, size_t nrules);

/*
 * The same in two parts, which two processes may do: a ruleset (its descriptor, close-on-exec, or
 * -1), and what is added to it when it is known, with which the caller then is restricted;
 * landlock_finish() closes it in any case.
 */
int landlock_begin(int abi, unsigned flags, const landlock_rule_t *rules, size_t nrules);
int landlock_finish(int ruleset, int abi, const landlock_rule_t *rules, size_t nrules);

/* The bits of stage_hello_t.missing for an ABI (0 = no Landlock). */
uint32_t landlock_missing(int abi);

#endif
