/*
 * collect_run.h - one run's leavings and what the real sandbox-packer makes of them:
 * the fixture of test_collect and test_artifacts.
 */
#ifndef COLLECT_RUN_H
#define COLLECT_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "../../libskillbox/limits.h"
#include "packer_peer.h"

extern peer_t peer;

extern struct collect_run {
    char top[64];
    int topfd, out, work, tail, answer, archive;
    packer_report_t report;
    char *text;   /* the result */
    json_t *json; /* parsed; NULL when jansson can't hold its numbers */
} run;

/* cmocka's: fresh folders, and a nursery for each test: one that went wrong does not disturb the
 * next. */
int run_set_up(void **state);
int run_tear_down(void **state);
void run_fresh(void); /* fresh folders within a test */

/* Folders and files of the run; relative to a descriptor. */
int run_open_dir(const char *name); /* makes it below run.topfd */
void put(int dirfd, const char *name, const void *data, size_t len);
void put_text(int dirfd, const char *name, const char *text);
void make_sparse(int dirfd, const char *name, off_t size);

/* A task of a script that exited with that code; -1: it did not. */
collect_task_t exited(int code);
/* Hands it to a collect child, plays main's part to the end, parses the result. */
void run_collect(const collect_task_t *task);

const char *run_text(const char *key); /* a string of the result, NULL when absent */
size_t run_files(void);                /* how many artifacts; checks the report against the list */
bool run_warned(const char *part);
void assert_file(size_t i, const char *name);
/* What a shell command prints that runs beside archive.tar.gz. */
void assert_reader(const char *command, const char *expected);
void assert_untouched_archive(void);

#endif
