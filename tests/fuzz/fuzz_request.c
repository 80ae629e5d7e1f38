/*
 * fuzz_request.c - the helper's PARAMS: bytes of whoever may connect, in; a request_t
 * within its limits, or a refusal that says why, out.
 */
#include <assert.h>
#include <string.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/names.h"
#include "../../libskillbox/semver.h"
#include "../../sandbox-helper/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMITS                                                                                     \
    {                                                                                              \
        .limits = {.timeout_max_ms = 1000, .memory_max = 64 * SB_MIB, .cpu_max_milli = 500 }       \
    }

static const config_t config = {
    .runtimes = {LIMITS, LIMITS, LIMITS, LIMITS},
    .nruntimes = STAGE_LANGS + 1,
    .images = {{"python:3*", STAGE_PYTHON, STAGE_PYTHON},
               {"node:20", STAGE_NODE, STAGE_NODE},
               {"node:2*", STAGE_NODE, STAGE_LANGS}},
    .nimages = 3,
};

static void check_printable(const char *s, size_t size)
{
    assert(strnlen(s, size) < size);
    for (; *s != '\0'; s++) {
        assert(*s >= 0x20 && *s <= 0x7e);
    }
}

static void check_run(const request_t *r)
{
    const stage_limits_t *limits = &config.runtimes[r->runtime].limits;
    unsigned char binary[16];

    assert(r->runtime < config.nruntimes);
    assert(r->image[0] != '\0' || r->runtime == r->lang);
    assert(r->runtime < STAGE_LANGS ? r->runtime == r->lang : r->lang == STAGE_NODE);
    assert(sb_uuid_parse(r->execution, strlen(r->execution), binary));
    assert(strspn(r->execution, "0123456789abcdef-") == SB_UUID_LEN);
    assert(strlen(r->digest) == 64 && strspn(r->digest, "0123456789abcdef") == 64);
    assert(sb_name_valid(r->skill, strlen(r->skill)));
    assert(sb_semver_valid(r->version, strlen(r->version)));
    assert((int)r->lang >= STAGE_PYTHON && r->lang <= STAGE_BASH);
    assert(r->mode != STAGE_MODULE || r->lang == STAGE_PYTHON);
    assert(r->mode == STAGE_MODULE ? sb_module_valid(r->target, strlen(r->target))
                                   : sb_path_valid(r->target, strlen(r->target)));
    assert(r->timeout_ms >= SB_TIMEOUT_MIN_MS && r->timeout_ms <= limits->timeout_max_ms);
    assert(r->memory >= SB_MEMORY_MIN && r->memory <= limits->memory_max);
    assert(r->cpu_milli >= SB_CPU_MIN_MILLI && r->cpu_milli <= limits->cpu_max_milli);
    assert(r->job_length >= 0 && r->job_length <= 2 * SB_INPUT_MAX);
    check_printable(r->image, sizeof(r->image));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_err_t err = {.code = SB_OK};
    request_t r;

    sb_code_t rc = request_parse(data, size, &config, &r, &err);
    if (rc != SB_OK) {
        assert(rc == SB_EINVAL && err.code == rc && err.message[0] != '\0');
        assert(sb_utf8_valid(err.message, strlen(err.message)));
        return 0;
    }
    check_printable(r.request_id, sizeof(r.request_id));
    check_printable(r.tenant, sizeof(r.tenant));
    check_printable(r.content_type, sizeof(r.content_type));
    if (r.op == OP_RUN) {
        check_run(&r);
    }
    assert(r.op != OP_INTAKE || r.content_type[0] != '\0');
    return 0;
}
