/*
 * sandbox.h - one run's sandbox: what turns a fresh child of the template into a
 * place where a hostile script can be let loose.
 *
 * sandbox_run() is pid 1 of the run's pid namespace, from its birth to its end.  It makes
 * all that needs no job and forks pid 2, the process that will be the script; that one waits for
 * the run it is for, makes the rest and confines itself (sandbox_script()).
 * Neither reads an attacker-made byte: input and job are copied or handed on unread, until the
 * confined process (launch.h) parses them.
 */
#ifndef SB_SANDBOX_H
#define SB_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "landlock.h"
#include "filter.h"
#include "stage.h"
#include "template_image.h"

#define STAGE_RULES_MAX (STAGE_PATHS + 24 + TEMPLATE_IMAGE_DIRS)

/*
 * How the script's process is made into the script when its interpreter runs in it already
 * (zygote.h).  All of it happens in pid 2.
 */
typedef struct {
    void (*born)(void);    /* right after the fork */
    void (*warm_up)(void); /* before there is a run */
    /* Everything is in place and confined: becomes the script.  Returns when this run needs an
     * interpreter of its own: then that is executed.  `started` is to be called right before the
     * first byte of the script's is run. */
    void (*become)(char *const argv[], char *const env[], uint32_t mode, void (*started)(void));
} script_form_t;

/* What does not change between runs; made by stage_main before the first. */
typedef struct {
    stage_config_t config;
    filter_t second;  /* of the filter, whose first part every process of the stage has */
    int landlock_abi; /* 0: none, by the operator's word */
    bool no_proc;     /* procfs can't be mounted here, by the operator's word */
    landlock_rule_t rules[STAGE_RULES_MAX];
    size_t nrules; /* the last one's folder is not what it will be until the run is there */
    const script_form_t *form; /* NULL: the interpreter is executed */
} stage_t;

/* Where a run's descriptors are from the first step on; all close-on-exec. */
enum {
    FD_STATUS = 3, /* to main; in pid 2 only until it is confined */
    FD_JOB,        /* job JSON, then input JSON */
    FD_STDOUT,     /* the run's log pipes */
    FD_STDERR,
    FD_FREE /* the first number without a meaning */
};

/* Exit status of a child that ended before its script could start; the report says why. */
#define EXIT_SETUP 125

/* Name of the step that a host may refuse and an operator may waive. */
#define STEP_PROC "mount proc"

typedef struct {
    const stage_t *stage;
    const stage_request_t *request; /* pid 2's only */
    uint32_t cgroup;      /* as it was asked for, before the request with the run is there */
    const int *cgroups;   /* by what to enter them (stage.h) */
    int ncgroups;         /* 0: there are none, or it was born in its own */
    int status;           /* FD_STATUS once it is there */
    uint32_t interpreter; /* as it was asked for: see stage_request_t */
    const int *logs;      /* RUN_LOGS pipes for it */
    int input;            /* input.json, to be filled */
    int ready;            /* pid 2's socket to the interpreter that waits, or -1 */
    pid_t ready_pid;
    pid_t keeper;           /* keeper.h; 0: none */
    int last_pid;           /* for pid 1, or -1 */
    int sandbox, out, work; /* roots of the run's own tmpfs mounts */
    int sysctl;             /* /proc/sys/user of the host's procfs */
    int cover;              /* what will hide the packages */
    int ruleset;            /* Landlock's, without its last rule */
    int input_view;         /* /sandbox again, writable, in no namespace; -1: no need */
    int instructions;       /* the text for SKILL_INSTRUCTIONS, or -1 */
    int to_init;            /* pid 2's socket to pid 1 */
} run_t;

/* Fills stage->rules: the same policy that the mounts are, by path.  Once, inside the template.  0,
 * or -1 with errno. */
int sandbox_prepare_rules(stage_t *stage);

/* Flags of clone3(2) for a run; its cgroup namespace comes later, inside its cgroups: as a flag it
 * would show the parent's. */
uint64_t sandbox_clone_flags(void);

/* fds: the status socket, over which the run comes, then what asked says of control groups. */
void sandbox_run(const stage_t *stage, const stage_request_t *asked, const int *fds, int nfds)
    __attribute__((noreturn));

/* Takes from pid 1 what it needs no more once it has its child.  NULL, or the failing step's name.
 */
const char *sandbox_confine_init(run_t *run);

/* A process that is to execute an interpreter ahead: takes from it all that the run will not have,
 * with a Landlock domain for a package that is not mounted yet.  As above. */
const char *sandbox_confine_ahead(run_t *run);

/* pid 2, from its birth on: waits for the run, completes the sandbox for it and becomes the script.
 */
void sandbox_script(run_t *run) __attribute__((noreturn));

/*
 * Builds and confines a sandbox without a job in a throw-away child, to see at start
 * what would fail in a run.  NULL, or the failing step's name with errno; the name is
 * valid until the next call.
 */
const char *sandbox_probe(const stage_t *stage);

#endif
