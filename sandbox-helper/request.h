/*
 * request.h - a request's PARAMS, checked: what protocol.h allows, each value
 * within its limits, before anything acts on it.
 */
#ifndef SB_REQUEST_H
#define SB_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../libskillbox/err.h"
#include "../libskillbox/limits.h"
#include "../libskillbox/uuid7.h"
#include "config.h"
#include "stage.h"

#define REQUEST_ID_MAX 128

typedef enum {
    OP_RUN,
    OP_INTAKE,
    OP_STATUS,
    OP_SUBMIT,
    OP_CANCEL,
    OP_ATTACH,
    OP_FILES,
    OP_KNOWN,
    OP_ARTIFACT
} request_op_t;

typedef struct {
    request_op_t op;
    char request_id[REQUEST_ID_MAX + 1];
    char tenant[SB_TENANT_MAX + 1];
    char execution[SB_UUID_LEN + 1]; /* lower case */
    char skill[SB_NAME_MAX + 1];
    char version[SB_VERSION_MAX + 1];
    char digest[65];
    enum stage_lang lang;
    char image[STAGE_IMAGE_MAX + 1];
    size_t runtime; /* number of the one that serves image and lang */
    enum stage_mode mode;
    char target[SB_PATH_MAX + 1];
    int64_t timeout_ms, memory, cpu_milli; /* already clamped to the runtime's maxima */
    int64_t job_length;
    int64_t index;        /* artifact */
    int64_t files_length; /* of input files, behind the input */
    char input_files[SB_INPUT_FILES_MAX * (SB_UUID_LEN + 1) + 1]; /* submit: ids */
    int64_t created_ms;                                           /* submit */
    int64_t offset, follow;                                       /* attach */
    int64_t tenant_running; /* the tenant's runs at a time; 0: no limit */
    int64_t tenant_waiting; /* the tenant's runs that wait beside them; -1: no limit */
    int64_t artifact_bytes; /* of the files of the run */
    char content_type[256];
    const char *executions; /* known: in the PARAMS, ids of SB_UUID_LEN, a byte between two */
    size_t nexecutions;
    bool check;           /* intake: examine only */
    enum stage_scan scan; /* intake */
} request_t;

/*
 * Parses and checks complete PARAMS content.  SB_EINVAL names the parameter.
 * Limits above the runtime's maxima are lowered to them: a manifest was clamped
 * when it was uploaded, but the operator may have changed his mind since.
 * r->executions points into params.
 */
sb_code_t request_parse(const void *params, size_t len, const config_t *config, request_t *r,
                        sb_err_t *err);

/*
 * The parameters that name a submitted run (tenant, execution, skill, version, created), for one
 * whose others are not valid any more.
 */
sb_code_t request_identify(const void *params, size_t len, request_t *r);

#endif
