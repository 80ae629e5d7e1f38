/*
 * stage.h - the words between sandbox-helper's main process and the two
 * programs that do what must not be done in it.
 *
 *   sandbox-stage   lives in its own user and mount namespace with the finished
 *                   root (the template); makes each run's sandbox.  Linked with little on
 *                   purpose (libseccomp, jansson): it forks twice a run, and a fork
 *                   costs 0.13 ms in a small process, 0.26 ms with libarchive's libraries.
 *   sandbox-packer  lives in an empty root without network; takes packages apart
 *                   (intake) and packs results (collect), each in a confined,
 *                   single-use child.  Linked with libarchive and libyaml.
 *
 * Both are started by main with fork+execve (nothing of main's memory, environment
 * or descriptors is in them), speak one datagram a message over a SOCK_SEQPACKET
 * pair at descriptor SB_STAGE_FD, and exit when it closes; their children die with
 * them (PR_SET_PDEATHSIG).  They trust main; main bounds-checks what they say.
 *
 * Both are told their configuration by the first message (stage_config_t).  They
 * answer stage_hello_t: ready, or the step that failed.  After that main sends
 * stage_request_t with descriptors (SCM_RIGHTS) and gets stage_event_t.
 */
#ifndef SB_STAGE_H
#define SB_STAGE_H

#include <stdint.h>

#include "../libskillbox/limits.h"
#include "../libskillbox/uuid7.h"

#define SB_STAGE_FD 3

/* sandbox-stage's only argument, for people: prints the system call policy and exits. */
#define STAGE_PRINT_POLICY "--print-policy"

#define STAGE_MAGIC     0x53424f58u /* "SBOX"; changes with the layout */
#define STAGE_PATHS     16
#define STAGE_PATH_LEN  256
#define STAGE_LANGS     3
#define STAGE_RUNTIMES  32 /* the first STAGE_LANGS are the languages' own */
#define STAGE_IMAGES    64
#define STAGE_IMAGE_MAX 128 /* bytes of an image key */
#define STAGE_ENV_BYTES 1024
#define STAGE_MODULES   1024 /* bytes of a zygote's list of modules */
#define STAGE_FDS_MAX   12

/*
 * What the stage puts into /sandbox/work before the script starts gets this
 * modification time; a regular file with another one was made or changed by the
 * script.  No tool writes this time by itself.
 */
#define STAGE_WORK_MTIME_SEC  1000000007
#define STAGE_WORK_MTIME_NSEC 271828182

enum stage_lang { STAGE_PYTHON, STAGE_NODE, STAGE_BASH };
enum stage_scan { STAGE_SCAN_OFF, STAGE_SCAN_WARN, STAGE_SCAN_BLOCK };
enum stage_mode { STAGE_ENTRYPOINT, STAGE_SCRIPT, STAGE_MODULE };

/* ---- main -> stage/packer, once ---- */

/* What a run of a runtime gets when its manifest says nothing, and the most it can get. */
typedef struct {
    int64_t timeout_default_ms, timeout_max_ms;
    int64_t memory_default, memory_max;
    int64_t cpu_default_milli, cpu_max_milli;
} stage_limits_t;

typedef struct {
    char interpreter[STAGE_PATH_LEN]; /* path inside the root; "" = not offered, or in another root
                                       */
    char env[STAGE_ENV_BYTES]; /* NAME=value, a NUL behind each, an empty one ends; none that the
                                  sandbox itself sets */
    stage_limits_t limits;
} stage_runtime_t;

/* An image key that packages may ask for; a trailing '*' stands for any rest.  See image.h. */
typedef struct {
    char key[STAGE_IMAGE_MAX + 1];
    uint32_t lang;    /* enum stage_lang */
    uint32_t runtime; /* number of the runtime that serves it */
} stage_image_t;

typedef struct {
    uint32_t magic;
    uint32_t size;                 /* sizeof(stage_config_t) */
    char packages[STAGE_PATH_LEN]; /* host folder of unpacked packages (stage only) */
    char root[STAGE_PATH_LEN]; /* host folder whose content is the root (an unpacked image); "" =
                                  the host's own /usr */
    stage_runtime_t runtimes[STAGE_RUNTIMES];
    stage_image_t images[STAGE_IMAGES]; /* packer only: whose limits a package gets */
    uint32_t nimages;
    char readonly[STAGE_PATHS][STAGE_PATH_LEN]; /* extra host paths bound read-only at the same
                                                   place, "" = unused */
    uint64_t tmp_bytes; /* size of each run's /tmp, /sandbox/out, /sandbox/work, /dev/shm */
    uint64_t out_bytes;
    uint64_t work_bytes;
    uint64_t shm_bytes;
    uint32_t inodes;            /* nr_inodes of each of them */
    uint32_t exec_writable;     /* 1: the writable mounts are not noexec (operator's word) */
    uint32_t proc_full;         /* 0: procfs with subset=pid */
    uint32_t allow_no_proc;     /* operator's word: run when procfs can't be mounted */
    uint32_t allow_no_landlock; /* operator's word: run on kernels without Landlock */
    uint32_t memory_cgroup;     /* 1: every run comes with a memory cgroup */
    uint32_t nofile;            /* RLIMIT_NOFILE of a run */
    uint32_t nproc;             /* RLIMIT_NPROC of a run */
    uint32_t zygote; /* 0, or 1 + the runtime whose interpreter it is to become (zygote.h) */
    char zygote_program[STAGE_PATH_LEN]; /* host path of sandbox-zygote.so */
    char zygote_modules[STAGE_MODULES];  /* what it imports ahead, separated by blanks */
} stage_config_t;

/* What is missing on this host; bits of stage_hello_t.missing */
enum {
    STAGE_NO_PROC = 1 << 0,
    STAGE_NO_LANDLOCK = 1 << 1,
    STAGE_NO_LANDLOCK_NET = 1 << 2,   /* ABI < 4: seccomp and the empty namespace hold alone */
    STAGE_NO_LANDLOCK_SCOPE = 1 << 3, /* ABI < 6 */
};

/* ---- stage/packer -> main, once ---- */

typedef struct {
    uint32_t magic;
    uint32_t ok;          /* 0: can't work here, the rest says why */
    uint32_t missing;     /* STAGE_NO_* */
    int32_t landlock_abi; /* 0 = none */
    int32_t failed_errno;
    char failed_step[64]; /* name of the step, e.g. "userns", "uid_map", "mount proc" */
} stage_hello_t;

/* ---- main -> stage/packer, any number ---- */

enum stage_kind {
    STAGE_RUN = 1,
    STAGE_INTAKE,
    STAGE_COLLECT,
    STAGE_IMPORT,
    STAGE_READ,
    STAGE_EXTRACT
};

/*
 * Descriptors that come with a request, in this order:
 *   STAGE_RUN      status socket (child's end, SEQPACKET), then by `cgroup` 1: files to write
 *                  "0" to, one a hierarchy; 2: the group's folder, which the child is born in; with
 *                  an interpreter the write ends of the log pipes at last.  The sandbox is made as
 *                  far as it can be without a job, and then waits for the run
 *   STAGE_INTAKE   status socket, package file (read-only), staging folder (O_DIRECTORY),
 *                  answer file (memfd or unlinked file, to be written)
 *                  With check_only nothing is written to the staging folder but what is examined
 *   STAGE_READ     status socket, a package's tree (O_DIRECTORY), answer file
 *   STAGE_EXTRACT  status socket, an archive of artifacts (read-only), the file to be written,
 * answer file STAGE_COLLECT  status socket; the rest comes over it later (collect_task_t)
 *   STAGE_IMPORT   status socket, archive (read-only, to be sought in), staging folder
 *                  (O_DIRECTORY) with the empty folders IMPORT_TREE, IMPORT_TRASH and
 *                  IMPORT_BLOBS, answer file.  Sent by `skillbox runtime import`, never by main
 */
typedef struct {
    uint32_t magic;
    uint32_t kind;
    uint64_t seq; /* main's number for it, comes back in events */
    /* version of the control groups it is in, from its birth on; 0: none counts its memory.  The
       same when the sandbox is asked for and with the run */
    uint32_t cgroup;
    /* 0, or 1 + the runtime whose interpreter is started ahead and waits as well (ready.h).  Comes
       with both as `cgroup` does */
    uint32_t interpreter;
    /* the run, when the struct comes over the status socket */
    uint32_t lang;                /* enum stage_lang */
    uint32_t runtime;             /* whose interpreter and environment: stage_config_t.runtimes */
    uint32_t mode;                /* enum stage_mode */
    uint32_t cpu_seconds;         /* RLIMIT_CPU: SIGXCPU then, SIGKILL a second later */
    uint64_t memory_bytes;        /* RLIMIT_DATA, and cgroup limit set by main */
    uint64_t file_bytes;          /* RLIMIT_FSIZE */
    uint64_t job_len;             /* job memfd: this many bytes of job JSON, */
    uint64_t input_len;           /* then this many of input JSON, then the input files */
    char digest[65];              /* 64 hex + NUL: <packages>/<digest>/tree and /instructions */
    char target[SB_PATH_MAX + 1]; /* entrypoint or script path, or module name; STAGE_READ: the one
                                     file that is wanted, "" = all; STAGE_EXTRACT: the one */
    /* STAGE_INTAKE */
    char content_type[256];
    uint32_t check_only;  /* 1: the tree will be thrown away, it need not be durable */
    uint32_t scan;        /* enum stage_scan */
    uint64_t package_max; /* unpacked bytes; STAGE_IMPORT, too */
    uint64_t entries_max; /* STAGE_IMPORT */
} stage_request_t;

#define IMPORT_TREE        "tree"  /* becomes the root */
#define IMPORT_TRASH       "trash" /* what layers replaced */
#define IMPORT_BLOBS       "blobs" /* the files of an image archive */
#define IMPORT_BYTES_MAX   (64 * SB_GIB)
#define IMPORT_ENTRIES_MAX 10000000

/*
 * ---- main -> a run's child, on its status socket, once ----
 *
 * The run itself: a stage_request_t again, with its descriptors in this order: job memfd, stdout
 * pipe, stderr pipe (write ends); the job memfd alone when an interpreter has the pipes already. It
 * may be sent right after the request, or much later: children
 * that wait are what makes a run start fast.  By then main has set the limits of its groups.
 */
#define RUN_FDS       3
#define RUN_LOGS      2 /* stdout, stderr */
#define RUN_FOLDER_FD 1 /* of the descriptors of STAGE_RUN, with cgroup 2 */
/* job, input and input files in the memfd */
#define RUN_STDIN_MAX (2 * SB_INPUT_MAX + 64 * SB_KIB + SB_INPUT_FILES_BYTES_MAX)

/*
 * ---- main -> a run's pid 1, on its status socket, at most once, while the script runs ----
 *
 * RUN_STOP, one byte: pid 1 kills and waits for all others, so that their CPU time is in
 * STAGE_EXITED, and exits.  Main kills it a moment later in any case.
 */
#define RUN_STOP 's'

/* ---- stage/packer -> main, about a request ---- */

enum stage_event_kind {
    STAGE_SPAWNED = 1, /* pid is valid; one descriptor comes along: the child's pidfd */
    STAGE_FAILED,      /* the child could not be made, or is none to be had: step and error */
    STAGE_EXITED, /* the child (for runs: the pid namespace's init, hence everything in it) is dead
                     and reaped */
};

typedef struct {
    uint32_t magic;
    uint32_t kind; /* enum stage_event_kind */
    uint64_t seq;
    int32_t pid;
    int32_t wstatus; /* STAGE_EXITED: as from wait4(2), of the child itself, not of the script */
    int32_t failed_errno;
    char failed_step[64];
    uint64_t cpu_usec; /* STAGE_EXITED: user + system of the child and all it reaped */
    uint64_t maxrss;   /* bytes, of the largest process */
} stage_event_t;

/* ---- a run's child -> main, on its status socket ---- */

enum run_report_kind {
    RUN_SETUP_FAILED =
        1,     /* before the script: failed_step, failed_errno, text.  Nothing of the script ran. */
    RUN_READY, /* two descriptors come along: /sandbox/out, /sandbox/work.  All is mounted; what is
                  left, limits to filter, may still fail */
    RUN_WAITING,       /* the interpreter was started and waits: from now on the run is fast */
    RUN_EXITED,        /* the script's main process ended: wstatus.  No process is left but pid 1,
                          which exits right after, and maybe a keeper that sleeps (keeper.h) */
    RUN_OUT_OF_MEMORY, /* no control group, and all processes together were over memory_bytes: pid
                          1 kills them and exits */
};

typedef struct {
    uint32_t magic;
    uint32_t kind;
    int32_t wstatus;
    uint32_t executed; /* RUN_EXITED: an interpreter was executed although there was one */
    int32_t failed_errno;
    char failed_step[64];
    char text[160];    /* for people; "" when the step says all */
    uint64_t cpu_usec; /* RUN_EXITED: user + system of all processes but pid 1 */
    uint64_t maxrss;   /* bytes, of the largest of them */
} run_report_t;

/* ---- main -> a collect child, on its status socket, once ---- */

/*
 * Descriptors, in this order: out folder, work folder (only with have_work),
 * stdout tail memfd (only with have_stdout), answer memfd, archive file (write, only with
 * have_archive: without, there are no files to be packed).
 * The child writes to the answer file one JSON object, the run's result as
 * protocol.h says (without logs), and, when there are files, the archive.
 */
typedef struct {
    uint32_t magic;
    uint32_t have_work; /* script and module runs: new or changed files there are artifacts */
    uint32_t have_archive;
    uint32_t have_stdout; /* last bytes of stdout, for the SkillLite dialect */
    int32_t exit_code;    /* -1: ended by a signal or killed by us */
    int32_t signal;       /* 0: none */
    uint32_t timed_out;
    uint32_t cancelled;
    uint32_t oom; /* the limit was reached: proven by the cgroup, which killed for it, or measured
                     where there is none */
    uint32_t host_oom; /* the kernel killed for memory although the limit was not reached */
    uint64_t pids_hit; /* so often no process could be made */
    uint32_t pids_limit;
    uint32_t cpu_seconds; /* not 0: ended by RLIMIT_CPU, which was so much */
    uint64_t memory_limit;
    uint64_t timeout_ms;
    uint64_t wall_ms; /* >= 1: duration_ms */
    uint64_t cpu_ms;
    uint64_t max_rss;
    uint64_t artifact_bytes; /* at most so many are packed; SB_ARTIFACT_BYTES_MAX or the tenant's */
    char skill[SB_NAME_MAX + 1];
    char version[SB_VERSION_MAX + 1];
} collect_task_t;

/* ---- a collect or intake child -> main, on its status socket ---- */

typedef struct {
    uint32_t magic;
    int32_t http_status; /* intake: 200, 400, 413, 422; read: 200,
                             404, 413; extract: 200, 404; collect: 200; import: 200, 422 */
    uint32_t files;      /* collect: files in the archive, 0 = nothing was written to it */
    uint32_t failed; /* collect: 1 when the result's status became "failed" (output.json was bad) */
    uint64_t answer_len; /* bytes of JSON in the answer file */
    char digest[65];     /* intake, 200: the tree's */
    char text[160];      /* for the log when something went wrong */
} packer_report_t;

/*
 * With files > 0 the archive has been written and fsynced.  Main renames it, then sends one byte
 * 's' on the status socket with the archive's folder (O_RDONLY | O_DIRECTORY); the child fsyncs it,
 * answers one byte 'd' and exits: main itself never waits for a disk.
 */

#endif
