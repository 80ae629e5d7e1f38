/*
 * request.c - see request.h.  Pure: bytes of the gateway in, struct out.
 */
#include "request.h"

#include <stdbool.h>
#include <string.h>

#include "../libskillbox/fastcgi.h"
#include "../libskillbox/names.h"
#include "../libskillbox/protocol.h"
#include "../libskillbox/semver.h"
#include "image.h"

#define TIME_MAX_MS     253402300799999LL /* the year 9999's end */
#define TENANT_RUNS_MAX 1000000000

typedef struct {
    const char *data;
    size_t len;
    bool given;
} value_t;

enum {
    P_OP,
    P_REQUEST_ID,
    P_TENANT,
    P_EXECUTION,
    P_SKILL,
    P_VERSION,
    P_DIGEST,
    P_LANG,
    P_IMAGE,
    P_MODE,
    P_TARGET,
    P_TIMEOUT_MS,
    P_MEMORY,
    P_CPU_MILLI,
    P_JOB_LENGTH,
    P_CREATED,
    P_OFFSET,
    P_FOLLOW,
    P_CONTENT_TYPE,
    P_CHECK,
    P_SCAN,
    P_TENANT_RUNNING,
    P_TENANT_WAITING,
    P_EXECUTIONS,
    P_ARTIFACT_BYTES,
    P_FILES_LENGTH,
    P_INPUT_FILES,
    P_INDEX,
    P_COUNT
};

static const char *const names[P_COUNT] = {SB_P_OP,
                                           SB_P_REQUEST_ID,
                                           SB_P_TENANT,
                                           SB_P_EXECUTION,
                                           SB_P_SKILL,
                                           SB_P_VERSION,
                                           SB_P_DIGEST,
                                           SB_P_LANG,
                                           SB_P_IMAGE,
                                           SB_P_MODE,
                                           SB_P_TARGET,
                                           SB_P_TIMEOUT_MS,
                                           SB_P_MEMORY,
                                           SB_P_CPU_MILLI,
                                           SB_P_JOB_LENGTH,
                                           SB_P_CREATED,
                                           SB_P_OFFSET,
                                           SB_P_FOLLOW,
                                           SB_P_CONTENT_TYPE,
                                           SB_P_CHECK,
                                           SB_P_SCAN,
                                           SB_P_TENANT_RUNNING,
                                           SB_P_TENANT_WAITING,
                                           SB_P_EXECUTIONS,
                                           SB_P_ARTIFACT_BYTES,
                                           SB_P_FILES_LENGTH,
                                           SB_P_INPUT_FILES,
                                           SB_P_INDEX};

static sb_code_t collect_pair(void *ctx, const char *name, size_t name_len, const char *value,
                              size_t value_len, sb_err_t *err)
{
    value_t *values = ctx;

    for (int i = 0; i < P_COUNT; i++) {
        if (strlen(names[i]) != name_len || memcmp(names[i], name, name_len) != 0)
            continue;
        if (values[i].given)
            return sb_err_set(err, SB_EINVAL, "%s is given twice", names[i]);
        values[i] = (value_t){value, value_len, true};
        return SB_OK;
    }
    return SB_OK; /* stock gateways send many others */
}

static sb_code_t bad(sb_err_t *err, int which, const value_t *v)
{
    return sb_err_set(err, SB_EINVAL, v->given ? "%s is not valid" : "%s is missing", names[which]);
}

static bool printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] < 0x20 || s[i] > 0x7e)
            return false;
    }
    return true;
}

static void copy(char *out, const value_t *v)
{
    memcpy(out, v->data, v->len);
    out[v->len] = '\0';
}

/* A text of printable ASCII of min to max bytes; absent counts as empty. */
static sb_code_t take_text(const value_t *values, int which, size_t min, size_t max, char *out,
                           sb_err_t *err)
{
    const value_t *v = &values[which];

    if (v->len < min || v->len > max || !printable(v->data, v->len))
        return bad(err, which, v);
    if (v->len > 0)
        copy(out, v);
    return SB_OK;
}

static sb_code_t take_number(const value_t *values, int which, int64_t min, int64_t max,
                             int64_t *out, sb_err_t *err)
{
    const value_t *v = &values[which];
    int64_t n = 0;

    if (v->len == 0 || v->len > 15)
        return bad(err, which, v);
    for (size_t i = 0; i < v->len; i++) {
        if (v->data[i] < '0' || v->data[i] > '9')
            return bad(err, which, v);
        n = n * 10 + (v->data[i] - '0');
    }
    if (n < min || n > max)
        return sb_err_set(err, SB_EINVAL, "%s is out of range: it must be from %lld to %lld",
                          names[which], (long long)min, (long long)max);
    *out = n;
    return SB_OK;
}

static sb_code_t take_digest(const value_t *v, char *out, sb_err_t *err)
{
    if (v->len != 64)
        return bad(err, P_DIGEST, v);
    for (size_t i = 0; i < v->len; i++) {
        if (strchr("0123456789abcdef", v->data[i]) == NULL || v->data[i] == '\0')
            return bad(err, P_DIGEST, v);
    }
    copy(out, v);
    return SB_OK;
}

static sb_code_t take_execution(const value_t *v, char *out, sb_err_t *err)
{
    unsigned char binary[16];

    if (!v->given || !sb_uuid_parse(v->data, v->len, binary))
        return bad(err, P_EXECUTION, v);
    sb_uuid_format(binary, out); /* lower case: it becomes a file's name */
    return SB_OK;
}

static int word(const value_t *v, const char *const *words, int n)
{
    for (int i = 0; i < n; i++) {
        if (strlen(words[i]) == v->len && memcmp(words[i], v->data, v->len) == 0)
            return i;
    }
    return -1;
}

static sb_code_t take_target(const value_t *values, request_t *r, sb_err_t *err)
{
    static const char *const modes[] = {"entrypoint", "script", "module"};
    const value_t *v = &values[P_TARGET];
    int mode = word(&values[P_MODE], modes, 3);

    if (mode < 0)
        return bad(err, P_MODE, &values[P_MODE]);
    r->mode = (enum stage_mode)mode;
    bool ok =
        r->mode == STAGE_MODULE ? sb_module_valid(v->data, v->len) : sb_path_valid(v->data, v->len);
    if (!v->given || !ok || v->len > SB_PATH_MAX)
        return bad(err, P_TARGET, v);
    copy(r->target, v);
    if (r->mode == STAGE_MODULE && r->lang != STAGE_PYTHON)
        return sb_err_set(err, SB_EINVAL, "%s: only Python runs modules", SB_P_MODE);
    return SB_OK;
}

static sb_code_t take_limits(const value_t *values, const config_t *c, request_t *r, sb_err_t *err)
{
    const int64_t any = INT64_MAX;
    const stage_limits_t *l = &c->runtimes[r->runtime].limits;
    sb_code_t rc = take_number(values, P_TIMEOUT_MS, SB_TIMEOUT_MIN_MS, any, &r->timeout_ms, err);

    if (rc == SB_OK)
        rc = take_number(values, P_MEMORY, SB_MEMORY_MIN, any, &r->memory, err);
    if (rc == SB_OK)
        rc = take_number(values, P_CPU_MILLI, SB_CPU_MIN_MILLI, any, &r->cpu_milli, err);
    if (rc == SB_OK) /* job JSON and input JSON come from one request body */
        rc = take_number(values, P_JOB_LENGTH, 0, 2 * SB_INPUT_MAX, &r->job_length, err);
    if (rc == SB_OK && values[P_FILES_LENGTH].given)
        rc =
            take_number(values, P_FILES_LENGTH, 0, SB_INPUT_FILES_BYTES_MAX, &r->files_length, err);
    if (rc != SB_OK)
        return rc;
    if (r->timeout_ms > l->timeout_max_ms)
        r->timeout_ms = l->timeout_max_ms;
    if (r->memory > l->memory_max)
        r->memory = l->memory_max;
    if (r->cpu_milli > l->cpu_max_milli)
        r->cpu_milli = l->cpu_max_milli;
    return SB_OK;
}

static sb_code_t take_image(const value_t *values, const config_t *c, request_t *r, sb_err_t *err)
{
    int other = 0, found;
    sb_code_t rc = take_text(values, P_IMAGE, 0, STAGE_IMAGE_MAX, r->image, err);

    r->runtime = r->lang;
    if (rc != SB_OK || r->image[0] == '\0')
        return rc;
    found = image_find(c->images, c->nimages, r->image, (int)r->lang, &other);
    if (found == IMAGE_UNKNOWN)
        return sb_err_set(err, SB_EINVAL, "the runtime image \"%s\" is not offered here", r->image);
    if (found == IMAGE_OTHER)
        return sb_err_set(err, SB_EINVAL, "the runtime image \"%s\" is for %s, the script is %s",
                          r->image, config_lang_name((enum stage_lang)other),
                          config_lang_name(r->lang));
    r->runtime = (size_t)found;
    return SB_OK;
}

/* Absent: no limit. */
static sb_code_t take_tenant_limits(const value_t *values, request_t *r, sb_err_t *err)
{
    sb_code_t rc = SB_OK;

    r->tenant_running = 0;
    r->tenant_waiting = -1;
    if (values[P_TENANT_RUNNING].given)
        rc = take_number(values, P_TENANT_RUNNING, 1, TENANT_RUNS_MAX, &r->tenant_running, err);
    if (rc == SB_OK && values[P_TENANT_WAITING].given)
        rc = take_number(values, P_TENANT_WAITING, 0, TENANT_RUNS_MAX, &r->tenant_waiting, err);
    r->artifact_bytes = SB_ARTIFACT_BYTES_MAX;
    if (rc == SB_OK && values[P_ARTIFACT_BYTES].given)
        rc = take_number(values, P_ARTIFACT_BYTES, 0, SB_ARTIFACT_BYTES_MAX, &r->artifact_bytes,
                         err);
    return rc;
}

static sb_code_t take_run(const value_t *values, const config_t *c, request_t *r, sb_err_t *err)
{
    const value_t *skill = &values[P_SKILL], *version = &values[P_VERSION];
    sb_code_t rc = take_execution(&values[P_EXECUTION], r->execution, err);

    if (rc == SB_OK)
        rc = take_digest(&values[P_DIGEST], r->digest, err);
    if (rc != SB_OK)
        return rc;
    if (!sb_name_valid(skill->data, skill->len))
        return bad(err, P_SKILL, skill);
    copy(r->skill, skill);
    if (version->len > SB_VERSION_MAX || !sb_semver_valid(version->data, version->len))
        return bad(err, P_VERSION, version);
    copy(r->version, version);
    if (!config_lang_parse(values[P_LANG].data, values[P_LANG].len, &r->lang))
        return bad(err, P_LANG, &values[P_LANG]);
    rc = take_image(values, c, r, err);
    if (rc == SB_OK)
        rc = take_target(values, r, err);
    if (rc == SB_OK)
        rc = take_limits(values, c, r, err);
    if (rc == SB_OK)
        rc = take_tenant_limits(values, r, err);
    return rc;
}

static sb_code_t take_attach(const value_t *values, request_t *r, sb_err_t *err)
{
    sb_code_t rc = take_number(values, P_OFFSET, 0, 4 * SB_LOG_MAX, &r->offset, err);

    return rc == SB_OK ? take_number(values, P_FOLLOW, 0, 1, &r->follow, err) : rc;
}

static sb_code_t take_intake(const value_t *values, request_t *r, sb_err_t *err)
{
    static const char *const switches[] = {"", "0", "1"};
    static const char *const policies[] = {"off", "warn", "block"};
    int check = word(&values[P_CHECK], switches, 3);

    if (check < 0)
        return bad(err, P_CHECK, &values[P_CHECK]);
    r->check = check == 2;
    int scan = values[P_SCAN].len == 0 ? STAGE_SCAN_OFF : word(&values[P_SCAN], policies, 3);
    if (scan < 0)
        return bad(err, P_SCAN, &values[P_SCAN]);
    r->scan = (enum stage_scan)scan;
    return take_text(values, P_CONTENT_TYPE, 1, sizeof r->content_type - 1, r->content_type, err);
}

static sb_code_t take_artifact(const value_t *values, request_t *r, sb_err_t *err)
{
    const value_t *path = &values[P_TARGET];
    sb_code_t rc = take_execution(&values[P_EXECUTION], r->execution, err);

    if (rc == SB_OK)
        rc = take_number(values, P_INDEX, 0, SB_ARTIFACT_FILES_MAX - 1, &r->index, err);
    if (rc != SB_OK)
        return rc;
    if (path->len > SB_PATH_MAX || !sb_path_valid(path->data, path->len))
        return bad(err, P_TARGET, path);
    copy(r->target, path);
    return SB_OK;
}

static sb_code_t take_files(const value_t *values, request_t *r, sb_err_t *err)
{
    const value_t *path = &values[P_TARGET];
    sb_code_t rc = take_digest(&values[P_DIGEST], r->digest, err);

    if (rc != SB_OK || path->len == 0)
        return rc;
    if (path->len > SB_PATH_MAX || !sb_path_valid(path->data, path->len))
        return bad(err, P_TARGET, path);
    copy(r->target, path);
    return SB_OK;
}

static sb_code_t take_input_files(const value_t *values, request_t *r, sb_err_t *err)
{
    return take_text(values, P_INPUT_FILES, 0, sizeof r->input_files - 1, r->input_files, err);
}

static sb_code_t take_known(const value_t *v, request_t *r, sb_err_t *err)
{
    size_t n = (v->len + 1) / (SB_UUID_LEN + 1);

    if (n == 0 || n > SB_KNOWN_MAX || n * (SB_UUID_LEN + 1) != v->len + 1)
        return bad(err, P_EXECUTIONS, v);
    for (size_t i = 0; i < n; i++) {
        const char *id = v->data + i * (SB_UUID_LEN + 1);
        if (!sb_uuid_parse(id, SB_UUID_LEN, NULL) || (i + 1 < n && id[SB_UUID_LEN] != ','))
            return bad(err, P_EXECUTIONS, v);
    }
    r->executions = v->data;
    r->nexecutions = n;
    return SB_OK;
}

sb_code_t request_parse(const void *params, size_t len, const config_t *config, request_t *r,
                        sb_err_t *err)
{
    static const char *const ops[] = {SB_OP_RUN,    SB_OP_INTAKE, SB_OP_STATUS,
                                      SB_OP_SUBMIT, SB_OP_CANCEL, SB_OP_ATTACH,
                                      SB_OP_FILES,  SB_OP_KNOWN,  SB_OP_ARTIFACT};
    value_t values[P_COUNT];

    memset(r, 0, sizeof *r);
    for (int i = 0; i < P_COUNT; i++)
        values[i] = (value_t){"", 0, false};
    sb_code_t rc = sb_fcgi_pairs(params, len, collect_pair, values, err);
    if (rc != SB_OK)
        return rc;

    int op = word(&values[P_OP], ops, sizeof ops / sizeof *ops);
    if (op < 0)
        return bad(err, P_OP, &values[P_OP]);
    r->op = (request_op_t)op;
    rc = take_text(values, P_REQUEST_ID, 0, REQUEST_ID_MAX, r->request_id, err);
    if (rc == SB_OK)
        rc = take_text(values, P_TENANT, 0, SB_TENANT_MAX, r->tenant, err);
    if (rc == SB_OK && (r->op == OP_RUN || r->op == OP_SUBMIT))
        rc = take_run(values, config, r, err);
    if (rc == SB_OK && r->op == OP_SUBMIT)
        rc = take_number(values, P_CREATED, 0, TIME_MAX_MS, &r->created_ms, err);
    if (rc == SB_OK && r->op == OP_SUBMIT)
        rc = take_input_files(values, r, err);
    if (rc == SB_OK && (r->op == OP_CANCEL || r->op == OP_ATTACH))
        rc = take_execution(&values[P_EXECUTION], r->execution, err);
    if (rc == SB_OK && r->op == OP_ATTACH)
        rc = take_attach(values, r, err);
    if (rc == SB_OK && r->op == OP_INTAKE)
        rc = take_intake(values, r, err);
    if (rc == SB_OK && r->op == OP_KNOWN)
        rc = take_known(&values[P_EXECUTIONS], r, err);
    if (rc == SB_OK && r->op == OP_ARTIFACT)
        rc = take_artifact(values, r, err);
    if (rc == SB_OK && r->op == OP_FILES)
        rc = take_files(values, r, err);
    return rc;
}

sb_code_t request_identify(const void *params, size_t len, request_t *r)
{
    value_t values[P_COUNT];
    const value_t *skill = &values[P_SKILL], *version = &values[P_VERSION];

    memset(r, 0, sizeof *r);
    for (int i = 0; i < P_COUNT; i++)
        values[i] = (value_t){"", 0, false};
    sb_code_t rc = sb_fcgi_pairs(params, len, collect_pair, values, NULL);
    if (rc == SB_OK)
        rc = take_text(values, P_TENANT, 1, SB_TENANT_MAX, r->tenant, NULL);
    if (rc == SB_OK)
        rc = take_execution(&values[P_EXECUTION], r->execution, NULL);
    if (rc == SB_OK)
        rc = take_number(values, P_CREATED, 0, TIME_MAX_MS, &r->created_ms, NULL);
    if (rc == SB_OK)
        rc = take_input_files(values, r, NULL);
    if (rc != SB_OK || !sb_name_valid(skill->data, skill->len) || version->len > SB_VERSION_MAX ||
        !sb_semver_valid(version->data, version->len))
        return SB_EINVAL;
    copy(r->skill, skill);
    copy(r->version, version);
    return SB_OK;
}
