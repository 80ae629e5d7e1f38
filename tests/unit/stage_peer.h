/*
 * stage_peer.h - main's side of stage.h for tests of sandbox-stage: starts the real
 * program with a folder of packages, asks for runs, collects what they say and leave.
 * Every wait is bounded; a failure ends the test.
 */
#ifndef STAGE_PEER_H
#define STAGE_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../../sandbox-helper/stage.h"

#define STAGE_PEER_LOG (256 * 1024)

typedef struct {
    stage_config_t config; /* filled by stage_peer_init(), changed by the test before the start */
    stage_hello_t hello;
    bool masked_proc; /* start the stage where /proc is as Docker makes it */
    bool no_clone3;   /* ... where clone3 does not exist */
    int sock;
    pid_t pid;
    uint64_t seq;
    unsigned packages; /* made so far */
    char dir[64];      /* the test's own folder */
} stage_peer_t;

/* One run: what the test asks for, then what came of it. */
typedef struct {
    /* in; zero is a good default but for digest and lang */
    uint32_t lang, mode;
    char digest[65];
    const char *target;      /* NULL: "main" */
    const char *job;         /* NULL: "{}" */
    const char *input;       /* NULL: "{}" */
    const char *input_files; /* contents behind it, NULL: none */
    uint64_t memory_bytes, file_bytes;
    uint32_t cpu_seconds;
    uint32_t cgroup;        /* version of the control groups it is said to be in */
    int ncgroups;           /* descriptors of them, */
    int cgroup_fd;          /* this one each time */
    int extra_fds;          /* so many descriptors beyond those of the protocol */
    unsigned kill_after_ms; /* SIGKILL through the pidfd, so long after RUN_READY; 0 = never */
    bool stop;              /* RUN_STOP instead */
    unsigned wait_ms;       /* the sandbox is left waiting so long before it gets its run */
    /* out */
    bool eof;                      /* at STAGE_EXITED nobody held a write end of the log pipes */
    bool ready, ended;             /* RUN_READY, RUN_EXITED came */
    int wstatus;                   /* of the script */
    stage_event_t failed;          /* STAGE_FAILED: kind is set */
    run_report_t setup;            /* RUN_SETUP_FAILED: kind is set */
    stage_event_t exited;          /* STAGE_EXITED */
    int out, work;                 /* result folders, -1 = none */
    double ready_ms, ended_ms, ms; /* from the request to RUN_READY, RUN_EXITED, STAGE_EXITED */
    size_t outlen, errlen;
    char stdout_text[STAGE_PEER_LOG + 1];
    char stderr_text[STAGE_PEER_LOG + 1];
} stage_run_t;

/* Started as root: nobody for good, in a folder that nobody may use. */
void stage_peer_init(stage_peer_t *p);
void stage_peer_start(stage_peer_t *p);     /* fails the test unless hello says ok */
void stage_peer_start_any(stage_peer_t *p); /* hello is the test's to judge */
void stage_peer_stop(stage_peer_t *p);      /* closes the control socket, waits for its exit */
void stage_peer_remove(stage_peer_t *p);    /* the folder */

/* A package of one script, "main" (mode 0755), and its digest; more files: stage_peer_add(). */
void stage_peer_package(stage_peer_t *p, const char *script, char digest[65]);
void stage_peer_add(stage_peer_t *p, const char *digest, const char *path, const char *text);
void stage_peer_instructions(stage_peer_t *p, const char *digest, const char *text);

/* Runs to the end. */
void stage_peer_run(stage_peer_t *p, stage_run_t *run);
/* Starts a run, waits for its first line of output, kills the stage, then waits for the end of the
 * log pipes: out.eof. */
void stage_peer_orphan(stage_peer_t *p, stage_run_t *run);
void stage_run_close(stage_run_t *run);

/* A file of a result folder into a static buffer; NULL: there is none. */
const char *stage_run_file(int dirfd, const char *path);

#endif
