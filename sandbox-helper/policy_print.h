/*
 * policy_print.h - the table of policy.h for people and for tests: resolved for one
 * architecture, ordered by number.
 *
 * One line a row: number, name, in which variant it holds (always, memory-cgroup,
 * no-memory-cgroup), the answer (allow, EPERM, ENOSYS, EAFNOSUPPORT, EOPNOTSUPP), and the reason
 * after a colon. Below a row its tests, indented, each with an answer of its own, what is compared,
 * and words.  Lines that begin with '#' explain.
 */
#ifndef SB_POLICY_PRINT_H
#define SB_POLICY_PRINT_H

#include <stdint.h>
#include <stdio.h>

/* 0 is this architecture, others by libseccomp's token.  0, or -1 with errno. */
int policy_print(FILE *out, uint32_t arch);

#endif
