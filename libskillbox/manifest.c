/*
 * manifest.c - SKILL.md as a whole: takes frontmatter and instructions apart,
 * renders the manifest as JSON.  The YAML is read in manifest_yaml.c, the keys'
 * rules are in manifest_keys.c, those that need the tree in manifest_entry.c.
 * Touches memory only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "manifest_internal.h"
#include "units.h"

void sb_manifest_free(sb_manifest_t *m)
{
    free(m->name);
    free(m->description);
    free(m->version);
    free(m->entrypoint);
    free(m->image);
    free(m->license);
    free(m->compatibility);
    free(m->instructions);
    json_decref(m->allowed_tools);
    json_decref(m->metadata);
    json_decref(m->extra);
    memset(m, 0, sizeof(*m));
}

static sb_manifest_limits_t resolve(const sb_manifest_limits_t *given)
{
    sb_manifest_limits_t l = *given;

    l.timeout_max_ms = l.timeout_max_ms > 0 ? l.timeout_max_ms : SB_TIMEOUT_MAX_MS;
    l.memory_max = l.memory_max > 0 ? l.memory_max : SB_MEMORY_MAX;
    l.cpu_max_milli = l.cpu_max_milli > 0 ? l.cpu_max_milli : SB_CPU_MAX_MILLI;
    l.timeout_default_ms = l.timeout_default_ms > 0 ? l.timeout_default_ms : SB_TIMEOUT_DEFAULT_MS;
    l.memory_default = l.memory_default > 0 ? l.memory_default : SB_MEMORY_DEFAULT;
    l.cpu_default_milli = l.cpu_default_milli > 0 ? l.cpu_default_milli : SB_CPU_DEFAULT_MILLI;

    /* an operator who lowers only the maximum has lowered the default too */
    if (l.timeout_default_ms > l.timeout_max_ms) {
        l.timeout_default_ms = l.timeout_max_ms;
    }
    if (l.memory_default > l.memory_max) {
        l.memory_default = l.memory_max;
    }
    if (l.cpu_default_milli > l.cpu_max_milli) {
        l.cpu_default_milli = l.cpu_max_milli;
    }
    return l;
}

static void limit_timeout(sb_manifest_t *m, const sb_manifest_limits_t *l, sb_findings_t *findings)
{
    m->timeout_ms = m->asked.timeout_ms < 0 ? l->timeout_default_ms : m->asked.timeout_ms;
    if (m->timeout_ms > l->timeout_max_ms) {
        sb_findings_add(findings, SB_FINDING_WARNING, "timeout-clamped", SB_SKILLMD,
                        m->lines.timeout,
                        "timeout: more than the %lld ms allowed here, which is used",
                        (long long)l->timeout_max_ms);
        m->timeout_ms = l->timeout_max_ms;
    }
}

static void limit_memory(sb_manifest_t *m, const sb_manifest_limits_t *l, sb_findings_t *findings)
{
    int64_t asked = m->asked.memory_bytes < 0 ? l->memory_default : m->asked.memory_bytes;
    int64_t fit = asked > l->memory_max ? l->memory_max : asked;
    char shown[32];

    m->memory_bytes = fit < SB_MEMORY_MIN ? SB_MEMORY_MIN : fit;
    if (m->memory_bytes != asked) {
        sb_bytes_format(m->memory_bytes, shown);
        sb_findings_add(findings, SB_FINDING_WARNING, "memory-clamped", SB_SKILLMD, m->lines.memory,
                        "resources.memory: %s than allowed here; %s is used",
                        m->memory_bytes < asked ? "more" : "less", shown);
    }
}

static void limit_cpu(sb_manifest_t *m, const sb_manifest_limits_t *l, sb_findings_t *findings)
{
    int32_t asked = m->asked.cpu_milli < 0 ? l->cpu_default_milli : m->asked.cpu_milli;
    int32_t fit = asked > l->cpu_max_milli ? l->cpu_max_milli : asked;

    m->cpu_milli = fit < SB_CPU_MIN_MILLI ? SB_CPU_MIN_MILLI : fit;
    if (m->cpu_milli != asked) {
        sb_findings_add(findings, SB_FINDING_WARNING, "cpu-clamped", SB_SKILLMD, m->lines.cpu,
                        "resources.cpu: %s than allowed here; %dm is used",
                        m->cpu_milli < asked ? "more" : "less", m->cpu_milli);
    }
}

void sb_manifest_limit(sb_manifest_t *m, const sb_manifest_limits_t *limits,
                       sb_findings_t *findings)
{
    const sb_manifest_limits_t l = resolve(limits);

    limit_timeout(m, &l, findings);
    limit_memory(m, &l, findings);
    limit_cpu(m, &l, findings);
}

/* The 1-based line of offset `at`. */
static int line_at(const char *text, size_t at)
{
    int line = 1;

    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
    }
    return line;
}

static sb_code_t refuse(sb_findings_t *findings, int line, const char *code, const char *message)
{
    sb_findings_add(findings, SB_FINDING_ERROR, code, SB_SKILLMD, line, "%s", message);
    return SB_ESKILL;
}

static sb_code_t check_text(const char *text, size_t len, sb_findings_t *findings)
{
    size_t at = 0, n = 1;

    if (len > SB_SKILLMD_MAX) {
        return refuse(findings, 0, "skill-md-too-large", "it is over 1 MiB");
    }
    while (at < len && (n = sb_utf8_len((const unsigned char *)text + at, len - at)) > 0 &&
           text[at] != '\0') {
        at += n;
    }
    if (at == len) {
        return SB_OK;
    }
    return refuse(findings, line_at(text, at), n == 0 ? "not-utf8" : "nul-character",
                  n == 0 ? "it is not UTF-8 text" : "it contains a NUL character");
}

/* A malloc'ed copy without byte order mark, CR LF as LF; NULL out of memory. */
static char *normalise(const char *text, size_t len, size_t *out_len)
{
    char *out = malloc(len + 1);
    size_t at = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    size_t used = 0;

    if (out == NULL) {
        return NULL;
    }
    for (; at < len; at++) {
        if (text[at] == '\r' && at + 1 < len && text[at + 1] == '\n') {
            continue;
        }
        out[used++] = text[at];
    }
    out[used] = '\0';
    *out_len = used;
    return out;
}

/* Is the line at s "---", trailing blanks allowed?  *next: the offset behind it. */
static bool is_fence(const char *s, size_t len, size_t *next)
{
    const char *eol = memchr(s, '\n', len);
    size_t n = eol != NULL ? (size_t)(eol - s) : len;

    *next = eol != NULL ? n + 1 : n;
    while (n > 3 && (s[n - 1] == ' ' || s[n - 1] == '\t')) {
        n--;
    }
    return n == 3 && memcmp(s, "---", 3) == 0;
}

/* [*front, *front_end) is the YAML, what begins at *body the instructions. */
static sb_code_t split(const char *text, size_t len, size_t *front, size_t *front_end, size_t *body,
                       sb_findings_t *findings)
{
    size_t next;

    if (!is_fence(text, len, &next)) {
        return refuse(findings, 1, "frontmatter-missing",
                      "it must begin with a line '---', YAML with name and description, "
                      "and another line '---'");
    }
    *front = next;
    for (size_t at = next; at < len; at += next) {
        if (is_fence(text + at, len - at, &next)) {
            *front_end = at;
            *body = at + next;
            return SB_OK;
        }
    }
    return refuse(findings, 1, "frontmatter-open", "the frontmatter is not closed by a line '---'");
}

static sb_code_t parse_normalised(const char *text, size_t len, sb_manifest_t *m,
                                  sb_findings_t *findings, sb_err_t *err)
{
    size_t front = 0, front_end = 0, body = 0;
    sb_yaml_doc_t doc;

    sb_code_t rc = split(text, len, &front, &front_end, &body, findings);
    if (rc != SB_OK) {
        return rc;
    }
    m->instructions_len = len - body;
    m->instructions = strndup(text + body, len - body);
    if (m->instructions == NULL) {
        return sb_err_errno(err, ENOMEM, "reading %s", SB_SKILLMD);
    }
    rc = sb_yaml_parse(text + front, front_end - front, 2, &doc, findings, err);
    if (rc == SB_OK && (doc.root == NULL || doc.root->kind != SB_YAML_MAPPING)) {
        rc = refuse(findings, 2, "frontmatter-not-mapping",
                    "the frontmatter must be 'key: value' lines, name and description at least");
    }
    if (rc == SB_OK) {
        rc = sb_manifest_keys(doc.root, m, findings, err);
    }
    sb_yaml_free(&doc);
    return rc;
}

sb_code_t sb_manifest_parse(const char *text, size_t len, const sb_manifest_limits_t *limits,
                            sb_manifest_t *m, sb_findings_t *findings, sb_err_t *err)
{
    size_t normal_len;

    memset(m, 0, sizeof(*m));
    m->asked.timeout_ms = m->asked.memory_bytes = m->asked.cpu_milli = -1;
    if (limits != NULL) {
        m->limits = *limits;
    }

    sb_code_t rc = check_text(text, len, findings);
    if (rc != SB_OK) {
        return sb_findings_verdict(findings, err);
    }
    char *normal = normalise(text, len, &normal_len);
    if (normal == NULL) {
        return sb_err_errno(err, ENOMEM, "reading %s", SB_SKILLMD);
    }
    rc = parse_normalised(normal, normal_len, m, findings, err);
    free(normal);
    if (m->limits.of == NULL) {
        sb_manifest_limit(m, &m->limits, findings);
    }
    return rc == SB_OK || rc == SB_ESKILL ? sb_findings_verdict(findings, err) : rc;
}

static int set_text(json_t *o, const char *key, const char *value)
{
    return value == NULL ? 0 : json_object_set_new(o, key, json_string(value));
}

static int set_ref(json_t *o, const char *key, json_t *value)
{
    return value == NULL ? 0 : json_object_set(o, key, value);
}

json_t *sb_manifest_to_json(const sb_manifest_t *m)
{
    json_t *o = json_object();
    int bad = o == NULL;

    bad |= set_text(o, "name", m->name);
    bad |= set_text(o, "description", m->description);
    bad |= set_text(o, "version", m->version);
    bad |= json_object_set_new(o, "version_declared", json_boolean(m->version_declared));
    bad |= set_text(o, "lang", m->lang);
    bad |= set_text(o, "mode", m->executable ? "executable" : "instructions");
    bad |= set_text(o, "entrypoint", m->entrypoint);
    bad |= set_text(o, "image", m->image);
    bad |= json_object_set_new(o, "timeout_ms", json_integer(m->timeout_ms));
    bad |= json_object_set_new(o, "memory_bytes", json_integer(m->memory_bytes));
    bad |= json_object_set_new(o, "cpu_milli", json_integer(m->cpu_milli));
    bad |= json_object_set_new(o, "network", json_boolean(m->network));
    bad |= set_text(o, "license", m->license);
    bad |= set_text(o, "compatibility", m->compatibility);
    bad |= set_ref(o, "allowed_tools", m->allowed_tools);
    bad |= set_ref(o, "metadata", m->metadata);
    bad |= set_ref(o, "extra", m->extra);
    bad |= json_object_set_new(
        o, "instructions",
        json_stringn(m->instructions != NULL ? m->instructions : "", m->instructions_len));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}
