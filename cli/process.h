/*
 * process.h - starting the gateway's two processes, and stopping exactly those.
 *
 * A process is named by its pid, its start time and the boot it lives in; it is
 * only ever signalled through a pidfd that was checked against all three, so a
 * reused pid is never hit.
 */
#ifndef SB_CLI_PROCESS_H
#define SB_CLI_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../libskillbox/err.h"

#define SB_BOOT_ID_LEN 36

typedef struct {
    pid_t pid;      /* 0: none */
    uint64_t start; /* field 22 of /proc/<pid>/stat: clock ticks since boot */
    char boot[SB_BOOT_ID_LEN + 1];
} sb_proc_t;

/*
 * Starts argv[0] (a path) as a session of its own: stdin /dev/null, stdout and
 * stderr appended to `log` (made 0640), nothing else inherited, working directory
 * `dir`.  Fails when the exec fails.
 */
sb_code_t sb_proc_spawn(char *const argv[], const char *dir, const char *log, sb_proc_t *out,
                        sb_err_t *err);

/* A pidfd of the process that p names; -1 when that one is gone. */
int sb_proc_open(const sb_proc_t *p);
bool sb_proc_alive(const sb_proc_t *p);

/*
 * Sends sig and waits; true when it is gone within wait_ms.  Also true, without
 * a signal, when it was gone before.
 */
bool sb_proc_signal_wait(const sb_proc_t *p, int sig, int wait_ms);
/*
 * SIGKILL to the process, then to what it left of its session working in `dir`:
 * nginx's workers outlive a master that was killed.  True when nothing is left.
 */
bool sb_proc_kill_session(const sb_proc_t *p, const char *dir, int wait_ms);

/* Gives root up for good, no supplementary groups. */
sb_code_t sb_proc_become(uid_t uid, gid_t gid, sb_err_t *err);

/*
 * Calls fn in a child that has become that user (as it is when not root).  What fn
 * writes to out_fd comes back in buf, NUL-terminated.  False when fn returned
 * false, died, or wrote more than fits.
 */
typedef bool (*sb_proc_fn)(void *ctx, int out_fd);
bool sb_proc_call_as(uid_t uid, gid_t gid, sb_proc_fn fn, void *ctx, char *buf, size_t size);

#endif
