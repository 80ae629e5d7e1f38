/*
 * job_internal.h - what job.c, job_run.c and job_end.c share.
 */
#ifndef SB_JOB_INTERNAL_H
#define SB_JOB_INTERNAL_H

#include "attach.h"
#include "job.h"
#include "runlog.h"

#define SUBMITTED "{\"status\":\"queued\"}"

typedef enum {
    JOB_RECEIVING,  /* STDIN is on its way */
    JOB_JOURNALING, /* submitted: on its way to the disk */
    JOB_WAITING,    /* queued */
    JOB_SETUP,      /* asked for; nothing of the script runs yet */
    JOB_RUNNING,
    JOB_ENDING, /* the script has ended or was killed; the sandbox is not dead yet */
    JOB_COLLECTING,
    JOB_SPOOLING, /* submitted: its result is on its way to the disk */
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
    uint64_t job_len, input_len, files_len;
    uint64_t held;      /* of them in memory while it waits */
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

    /* ---- submitted ones ---- */
    bool async;
    bool accepted;          /* in the spool: the gateway is owed a result */
    bool unstarted;         /* its file in the spool is <id>.job, not <id>.run */
    bool cancel_asked;      /* by the gateway, for any job */
    sb_buf_t params;        /* until it is in the spool */
    syncer_request_t *sync; /* under way; its ctx is the job, or NULL when that has gone */
    loop_timer_t announce;
    sb_buf_t result; /* instead of answer_fd, when nothing was collected */
    const char *end_status;
    attach_t *attached; /* who follows the log */
};

/* ---- job.c ---- */
void job_free(job_t *job); /* everything it holds, wherever it stands */
/* The stage died before the script had started: the job waits again, first in turn.  False: it
 * has happened too often. */
bool job_wait_again(job_t *job);

job_t *job_new(helper_t *h, connection_t *conn, const request_t *request);
void job_free_run(job_t *job); /* the sandbox and its place; the result stays */
/* What STDIN's bytes are, by the request's word; false: they are fewer than that. */
bool job_lengths(job_t *job, uint64_t stdin_len);
/* Waits for its turn; its STDIN is in job_fd, or in the spool. */
void job_wait(job_t *job);

/* ---- job_async.c ---- */
void job_journal(job_t *job); /* STDIN is there */
/* Its turn has come: STDIN from the spool to job_fd. */
sb_code_t job_unspool(job_t *job, sb_err_t *err);
void job_announce(job_t *job); /* it runs */
/* The end: answer_fd or result, log and archive to the spool, then job_free(). */
void job_spool(job_t *job, const char *status);
/* The end without a run's result: the JSON that says so, to the gateway or to the spool. */
void job_end_without_run(job_t *job, const char *status, const char *error);

/* ---- job_run.c ---- */
extern const stage_child_ops_t job_child_ops;
void job_watch(job_t *job); /* after the request was sent: pipes, set-up limit */
void job_kill(job_t *job);  /* the sandbox; what follows comes with its death */
void job_fail(job_t *job, int status, const char *slug, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- job_plain.c ---- */
bool job_left_no_files(const job_t *job); /* no artifact can be there */
bool job_left_nothing(const job_t *job);  /* nothing that a collect child had to read */
/* The result of such a run, in answer_fd and report as a collect child leaves them. */
sb_code_t job_plain_result(job_t *job, const collect_task_t *task, sb_err_t *err);

/* ---- job_end.c ---- */
void job_drop_archive(job_t *job); /* unless an answer promises it */
const char *job_status_name(const job_t *job);
int job_exit_code(const job_t *job); /* -1: none */
void job_dead(job_t *job);           /* the sandbox is dead: collect, or refuse */
void job_refuse(job_t *job);         /* answers fail_*, then frees the job */

#endif
