/*
 * fuzz_manifest.c - any bytes as SKILL.md: bounded, no memory error, and what is
 * accepted keeps the rules.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/buf.h"
#include "../../libskillbox/manifest.h"
#include "../../libskillbox/names.h"
#include "../../libskillbox/semver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const sb_manifest_file_t files[] = {
    {"SKILL.md", 1, 0644, NULL},
    {"main.py", 1, 0644, "python"},
    {"scripts/run.sh", 1, 0755, "bash"},
    {"tool", 1, 0755, NULL},
};

static void check_accepted(const sb_manifest_t *m)
{
    assert(m->name != NULL && sb_name_valid(m->name, strlen(m->name)));
    assert(m->description != NULL && m->description[0] != '\0');
    assert(sb_semver_valid(m->version, strlen(m->version)));
    assert(m->timeout_ms >= SB_TIMEOUT_MIN_MS && m->timeout_ms <= SB_TIMEOUT_MAX_MS);
    assert(m->memory_bytes >= SB_MEMORY_MIN && m->memory_bytes <= SB_MEMORY_MAX);
    assert(m->cpu_milli >= SB_CPU_MIN_MILLI && m->cpu_milli <= SB_CPU_MAX_MILLI);
    assert(m->executable == (m->entrypoint != NULL));
    assert(!m->executable || m->lang != NULL);
    assert(strlen(m->instructions) == m->instructions_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_manifest_t m;
    sb_findings_t findings = {0};

    sb_code_t rc = sb_manifest_parse((const char *)data, size, NULL, &m, &findings, NULL);
    assert(rc == (findings.errors > 0 ? SB_ESKILL : SB_OK));
    if (rc == SB_OK) {
        rc = sb_manifest_finish(&m, files, 4, &findings, NULL);
    }
    if (rc == SB_OK) {
        check_accepted(&m);
        json_t *o = sb_manifest_to_json(&m);
        char *text = json_dumps(o, JSON_COMPACT);
        assert(text != NULL);
        free(text);
        json_decref(o);
    }
    for (size_t i = 0; i < findings.count; i++) {
        assert(sb_utf8_valid(findings.items[i].message, strlen(findings.items[i].message)));
    }
    sb_manifest_free(&m);
    sb_findings_free(&findings);
    return 0;
}
