/*
 * probe.h - what the files of the attack probe share.  The probe runs inside a
 * sandbox as a skill's script, tries things and tells what each try returned.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FILES    "/sandbox/out/files"
#define MARK     "sbattack-" /* how every file begins that a try would make somewhere */
#define CANARY   "SBCANARY-" /* how every secret of the host begins */

/* One try: `what`, and its return value with errno when it is negative. */
void tried(long rc, const char *what, ...) __attribute__((format(printf, 2, 3)));
/* Something seen. */
void noted(const char *key, const char *value);
void noted_number(const char *key, long long value);

/* Runs f(arg) in a forked process; its exit status, 128 + signal, or -1 (errno). */
int in_child(int (*f)(void *), void *arg);
/* execve as a forked process; exit status as above, 126 when execve failed. */
int run_program(const char *path, char *const argv[]);
/* The bytes of `from` as a new file `to` with that mode; 0 or -1. */
int copy_file(const char *from, const char *to, unsigned mode);
/* Opens and closes; the return value of open(2). */
int try_open(const char *path, int flags);

typedef struct {
    const char *name;
    void (*run)(int argc, char **argv);
} attack_t;

extern const attack_t file_attacks[], kernel_attacks[], limit_attacks[], neighbour_attacks[];
extern const attack_t lifecycle_attacks[];
extern const attack_t network_attacks[], ipc_attacks[], proc_attacks[];
extern const attack_t policy_attacks[];
extern const attack_t memory_attacks[], resource_attacks[];

#endif
