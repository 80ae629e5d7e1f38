/*
 * output.h - what the commands print: messages, tables, JSON, progress.
 *
 * Results go to stdout, everything else to stderr.  Text that came from a
 * server or a skill is untrusted: control characters are made visible before
 * they reach a terminal or a table.  Colour only on a terminal without NO_COLOR.
 */
#ifndef SB_CLI_OUTPUT_H
#define SB_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "../libskillbox/err.h"
#include "../libskillbox/manifest.h"

/* "skillbox: <text>" on stderr. */
void sb_say_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sb_say_err(const sb_err_t *err);
/* A plain line on stderr, for people who watch. */
void sb_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Text without control characters: they are printed as \xNN (newline and tab too unless `lines`).
 */
void sb_print_safe(FILE *out, const char *s, size_t len, bool lines);
/* A script's log: as it is into files and pipes, made safe on a terminal.  Ends with a newline. */
void sb_print_log(FILE *out, const char *s, size_t len);
/* Indented on a terminal, on one line when piped. */
void sb_print_json(FILE *out, const json_t *value);
/* The same of (valid) JSON text, with all its digits. */
void sb_print_json_text(FILE *out, const char *text, size_t len);

/* Rows of cells, first row the header; columns as wide as their widest cell. */
typedef struct {
    size_t ncols; /* at least 1 */
    size_t ncells;
    size_t cap;
    char **cells;
    bool failed;
} sb_table_t;

void sb_table_init(sb_table_t *t, size_t ncols);
void sb_table_cell(sb_table_t *t, const char *text); /* copied; NULL is "-" */
bool sb_table_print(sb_table_t *t, FILE *out);       /* frees it; false: out of memory */

/* "error  name-missing  SKILL.md:3  text", one line a finding, on out. */
void sb_print_findings(FILE *out, const sb_findings_t *findings);

/* A line on stderr that is rewritten in place; silent unless stderr is a terminal. */
typedef struct {
    bool on;
    int64_t started_ms;
    int64_t drawn_ms;
} sb_progress_t;

void sb_progress_start(sb_progress_t *p);
/* total 0: how long it has been going on; else how much of total is done. */
void sb_progress_show(sb_progress_t *p, const char *what, int64_t done, int64_t total);
void sb_progress_end(sb_progress_t *p); /* clears the line */

#endif
