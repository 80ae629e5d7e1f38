/*
 * jobfile.h - the job JSON of a run (protocol.h), parsed by jansson inside the sandbox.
 */
#ifndef SB_JOBFILE_H
#define SB_JOBFILE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define JOB_TEXT 160 /* as run_report_t.text */

/* Bytes of the shortest job that brings a file. */
#define JOB_WITH_FILES_MIN (sizeof("{\"files\":{\"a\":\"\"}}") - 1)

typedef struct {
    json_t *root;       /* owns everything below; never freed, the process is replaced */
    json_t *args;       /* array of strings, or NULL */
    json_t *env;        /* object of strings, or NULL */
    json_t *files;      /* object name -> base64, or NULL */
    json_t *stdin_text; /* string, or NULL */
    json_t *inputs;     /* array of {path, size}, or NULL */
} job_t;

/*
 * Reads len bytes from the start of fd and checks types, counts and sizes; every name in
 * env is one that sb_env_name_allowed() allows.  0, or -1 with errno (EBADMSG: the content
 * is wrong) and a sentence in text.
 */
int job_load(int fd, uint64_t len, job_t *job, char text[JOB_TEXT]);

/*
 * Writes the job's files below dirfd, folders made as needed; names are sb_path_valid().
 * Each gets STAGE_WORK_MTIME.  As job_load() on failure.
 */
int job_write_files(const job_t *job, int dirfd, char text[JOB_TEXT]);
/* The same with the job's input files, whose contents stand one behind the other in fd from `at`
 * on. */
int job_write_inputs(const job_t *job, int dirfd, int fd, uint64_t at, char text[JOB_TEXT]);

#endif
