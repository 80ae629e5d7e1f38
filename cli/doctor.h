/*
 * doctor.h - what the files of `skillbox doctor` share: findings, and the checks.
 */
#ifndef SB_CLI_DOCTOR_H
#define SB_CLI_DOCTOR_H

#include <stdbool.h>

#include <jansson.h>

#include "options.h"
#include "state.h"

typedef enum { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_ERROR } sb_doctor_level_t;

typedef struct {
    const sb_args_t *args;
    json_t *findings;
    bool quiet;       /* no lines, JSON at the end */
    bool unreachable; /* the gateway gave no answer */
    sb_doctor_level_t worst;
    bool have_state; /* a state folder of `skillbox up` */
    sb_state_t state;
    char store[SB_STATE_PATH_MAX]; /* "": not known */
} sb_doctor_t;

/* Adds a finding and prints it.  fix: the command or deed that ends it, NULL for none. */
void sb_doctor_say(sb_doctor_t *d, sb_doctor_level_t severity, const char *code, const char *fix,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- doctor_checks.c ---- */

void sb_doctor_host(sb_doctor_t *d);
void sb_doctor_files(sb_doctor_t *d);
void sb_doctor_store(sb_doctor_t *d); /* may give root up: the last but those over HTTP */
void sb_doctor_disk(sb_doctor_t *d);
void sb_doctor_clock(sb_doctor_t *d);
void sb_doctor_gateway(sb_doctor_t *d);
void sb_doctor_exposure(sb_doctor_t *d);

#endif
