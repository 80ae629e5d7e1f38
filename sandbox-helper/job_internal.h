/*
 * job_internal.h - what job.c, job_run.c and job_end.c share.
 */
#ifndef SB_JOB_INTERNAL_H
#define SB_JOB_INTERNAL_H

#include "job.h"
#include "runlog.h"

typedef enum {
    JOB_RECEIVING, /* STDIN is on its way */
    JOB_WAITING,   /* queued */
    JOB_SETUP,     /* asked for; nothing of the script runs yet */
    JOB_RUNNING,
    JOB_ENDING, /* the script has ended or was killed; the sandbox is not dead yet */
    JOB_COLLECTING,
} job_state_t;

typedef struct {
    int fd; /* -1: closed */
    loop_source_t source;
} job_pipe_t;

struct job_s {
    helper_t *h;
    job_t *next, *prev; /* in h->jobs */
    connection_t *conn; /* NULL: the gateway has gone */
    request_t req;
    queue_entry_t entry;
    job_state_t state;
    start_t start;
    int starts; /* how often it was asked for */
    uint64_t job_len, input_len;
    loop_task_t end;    /* the script has ended, and all that it left */
    loop_timer_t timer; /* by state: queue timeout, set-up limit, wall clock, grace */

    stage_child_t child;
    job_pipe_t out, err;
    runlog_t log;
    int64_t queued_us, started_us, ready_us, ended_us;
    uint64_t cpu_usec, maxrss;
    uint32_t cpu_seconds; /* RLIMIT_CPU of its processes */
    cgroup_leaf_t leaf;   /* the sandbox's */
    cgroup_facts_t facts;

    int job_fd; /* STDIN: job JSON and input; kept until nothing can make us start again */
    int out_dir, work_dir;
    int wstatus; /* of the script, when it `exited` */
    bool placed; /* counts in h->runs.running */
    bool timed_out, cancelled, killed, exited;
    bool over_memory;  /* without a control group; pid 1 has measured it */
    bool archive_kept; /* it has its final name */
    bool answered;     /* with a result that says so */

    int answer_fd, archive_fd;
    int collect_tries;
    collector_t *collector;
    packer_report_t report;
    /* Not 0: the run is to be answered by this refusal once the sandbox is dead. */
    int fail_status;
    char fail_message[300];
    const char *fail_slug;
};

/* ---- job.c ---- */
void job_free(job_t *job); /* everything it holds, wherever it stands */
/* The stage died before the script had started: the job waits again, first in turn.  False: it
 * has happened too often. */
bool job_wait_again(job_t *job);

/* ---- job_run.c ---- */
extern const stage_child_ops_t job_child_ops;
void job_watch(job_t *job); /* after the request was sent: pipes, set-up limit */
void job_kill(job_t *job);  /* the sandbox; what follows comes with its death */
void job_fail(job_t *job, int status, const char *slug, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- job_end.c ---- */
void job_drop_archive(job_t *job); /* unless an answer promises it */
void job_dead(job_t *job);         /* the sandbox is dead: collect, or refuse */
void job_refuse(job_t *job);       /* answers fail_*, then frees the job */

#endif
