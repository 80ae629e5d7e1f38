/*
 * manifest_keys.c - what each key of the frontmatter may hold: the contract's
 * section 3 as a table and one small function a key.
 *
 * Everything wrong becomes a finding with its line and the next key is looked
 * at.  Unknown keys are kept, never an error.  Touches memory only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "manifest_internal.h"
#include "names.h"
#include "semver.h"
#include "units.h"

#define COMPATIBILITY_MAX 500 /* characters, Agent Skills specification */
#define IMAGE_MAX         256 /* bytes */
#define SHOWN_MAX         80  /* bytes of a bad value repeated in a message */

typedef struct {
    sb_manifest_t *m;
    sb_findings_t *findings;
    const char *name; /* the key as the author wrote it */
    const sb_yaml_node_t *node;
    bool no_memory;
} keys_t;

static void finding(keys_t *k, sb_severity_t severity, const char *code, const char *message)
{
    sb_findings_add(k->findings, severity, code, SB_SKILLMD, k->node->line, "%s: %s", k->name,
                    message);
}

/* The same with the value at fault. */
static void bad_value(keys_t *k, const char *code, const char *message)
{
    int shown = k->node->len > SHOWN_MAX ? SHOWN_MAX : (int)k->node->len;

    sb_findings_add(k->findings, SB_FINDING_ERROR, code, SB_SKILLMD, k->node->line,
                    "%s: '%.*s%s' %s", k->name, shown, k->node->text,
                    k->node->len > SHOWN_MAX ? "..." : "", message);
}

static char *copy(keys_t *k, const char *s, size_t len)
{
    char *text = strndup(s, len);

    k->no_memory |= text == NULL;
    return text;
}

/* The scalar without white space around it. */
static const char *trimmed(const sb_yaml_node_t *node, size_t *len)
{
    const char *s = node->text;
    size_t n = node->len;

    while (n > 0 && strchr(" \t\r\n", s[n - 1]) != NULL) {
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", *s) != NULL) {
        s++;
        n--;
    }
    *len = n;
    return s;
}

static size_t characters(const char *s, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++) {
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    }
    return count;
}

static void keep(keys_t *k, const char *key, const sb_yaml_node_t *node)
{
    if (k->m->extra == NULL) {
        k->m->extra = json_object();
    }
    if (json_object_set_new(k->m->extra, key, sb_yaml_to_json(node)) != 0) {
        k->no_memory = true;
    }
}

/* ---- one function a key; k->node is its value, not null ---- */

static void on_name(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);

    if (!sb_name_valid(s, len)) {
        bad_value(k, "name-invalid",
                  "is not a name: 1 to 128 letters, digits, '.', '_' or '-', the first one a "
                  "letter or digit");
    } else if (!sb_name_strict(s, len)) {
        finding(k, SB_FINDING_WARNING, "name-not-strict",
                "Agent Skills allow 1 to 64 lower-case letters, digits and single hyphens");
    }
    k->m->name = copy(k, s, len);
}

static void on_description(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);

    if (len == 0) {
        finding(k, SB_FINDING_ERROR, "description-missing", "it is empty");
    } else if (characters(s, len) > SB_DESCRIPTION_MAX) {
        finding(k, SB_FINDING_ERROR, "description-too-long", "it is over 1024 characters");
    }
    k->m->description = copy(k, s, len);
}

static void on_version(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);

    if (!sb_semver_valid(s, len)) {
        bad_value(k, "version-invalid", "is not a semantic version such as 1.2.3");
        return;
    }
    free(k->m->version);
    k->m->version = copy(k, s, len);
    k->m->version_declared = true;
}

static void on_lang(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);

    k->m->lang = sb_lang_canonical(s, len);
    k->m->lines.lang = k->node->line;
    if (k->m->lang == NULL) {
        bad_value(k, "lang-unknown", "is not one of python, node, bash");
    }
}

static void on_entrypoint(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);

    if (len > 2 && s[0] == '.' && s[1] == '/') {
        s += 2;
        len -= 2;
    }
    k->m->lines.entrypoint = k->node->line;
    if (!sb_path_valid(s, len)) {
        bad_value(k, "entrypoint-invalid", "is not a path inside the package");
        return;
    }
    k->m->entrypoint = copy(k, s, len);
}

static void on_image(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);
    bool printable = len > 0 && len <= IMAGE_MAX;

    for (size_t i = 0; i < len && printable; i++) {
        printable = s[i] > 0x20 && s[i] < 0x7f;
    }
    if (!printable) {
        bad_value(k, "image-invalid", "is not the name of a runtime");
        return;
    }
    k->m->image = copy(k, s, len);
    k->m->lines.image = k->node->line;
}

static void on_timeout(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);
    int64_t ms;

    if (sb_duration_parse(s, len, &ms, NULL) != SB_OK || ms < SB_TIMEOUT_MIN_MS) {
        bad_value(k, "timeout-invalid", "is not a duration such as 60s, 1m30s or 500ms, up to 24h");
        return;
    }
    k->m->asked.timeout_ms = ms;
    k->m->lines.timeout = k->node->line;
}

static void on_memory(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);
    int64_t bytes;

    if (sb_memory_parse(s, len, &bytes, NULL) != SB_OK) {
        bad_value(k, "memory-invalid", "is not an amount of memory such as 256Mi or 1G");
        return;
    }
    k->m->asked.memory_bytes = bytes;
    k->m->lines.memory = k->node->line;
}

static void on_cpu(keys_t *k)
{
    size_t len;
    const char *s = trimmed(k->node, &len);
    int32_t milli;

    if (sb_cpu_parse(s, len, &milli, NULL) != SB_OK) {
        bad_value(k, "cpu-invalid", "is not a share of cores such as 0.5, 2 or 500m");
        return;
    }
    k->m->asked.cpu_milli = milli;
    k->m->lines.cpu = k->node->line;
}

/* Only a plain no is a no: whatever else stands here asks for the network. */
static void on_network(keys_t *k)
{
    static const char *const no[] = {"false", "False", "FALSE", "no", "off", "none"};

    k->m->network = true;
    for (size_t i = 0; k->node->kind == SB_YAML_SCALAR && i < sizeof(no) / sizeof(no[0]); i++) {
        if (strcmp(k->node->text, no[i]) == 0) {
            k->m->network = false;
        }
    }
    if (k->m->network) {
        finding(k, SB_FINDING_WARNING, "network-not-granted",
                "asked for, but scripts run without any network here");
    }
}

static void on_mode(keys_t *k)
{
    k->m->lines.mode = k->node->line;
    k->m->mode_declared = true;
    k->m->executable = strcmp(k->node->text, "executable") == 0;
    if (!k->m->executable && strcmp(k->node->text, "instructions") != 0) {
        k->m->mode_declared = false;
        bad_value(k, "mode-unknown", "is not one of executable, instructions");
    }
}

static void on_license(keys_t *k)
{
    k->m->license = copy(k, k->node->text, k->node->len);
}

static void on_compatibility(keys_t *k)
{
    if (characters(k->node->text, k->node->len) > COMPATIBILITY_MAX) {
        finding(k, SB_FINDING_WARNING, "compatibility-too-long",
                "Agent Skills allow 500 characters");
    }
    k->m->compatibility = copy(k, k->node->text, k->node->len);
}

static void on_allowed_tools(keys_t *k)
{
    k->m->allowed_tools = sb_yaml_to_json(k->node);
    k->no_memory |= k->m->allowed_tools == NULL;
}

static void on_metadata(keys_t *k)
{
    k->m->metadata = sb_yaml_to_json(k->node);
    k->no_memory |= k->m->metadata == NULL;
}

static void on_resources(keys_t *k);

/* ---- the table ---- */

enum { SCALAR = 1 << SB_YAML_SCALAR, LIST = 1 << SB_YAML_SEQUENCE, MAP = 1 << SB_YAML_MAPPING };

typedef struct {
    const char *key;
    const char *alias;
    unsigned kinds; /* what the value may be */
    bool strict;    /* another kind is an error; else it is kept as an unknown key would be */
    void (*take)(keys_t *k);
} rule_t;

static const rule_t rules[] = {
    {"name", NULL, SCALAR, true, on_name},
    {"description", NULL, SCALAR, true, on_description},
    {"version", NULL, SCALAR, true, on_version},
    {"lang", "language", SCALAR, true, on_lang},
    {"entrypoint", "entry_point", SCALAR, true, on_entrypoint},
    {"image", "runtime", SCALAR, true, on_image},
    {"timeout", NULL, SCALAR, true, on_timeout},
    {"resources", NULL, MAP, true, on_resources},
    {"network", NULL, SCALAR | LIST | MAP, true, on_network},
    {"mode", NULL, SCALAR, true, on_mode},
    {"license", NULL, SCALAR, false, on_license},
    {"compatibility", NULL, SCALAR, false, on_compatibility},
    {"allowed-tools", "allowed_tools", SCALAR | LIST, false, on_allowed_tools},
    {"metadata", NULL, MAP, false, on_metadata},
};
#define NRULES (sizeof(rules) / sizeof(rules[0]))

static const rule_t resource_rules[] = {
    {"memory", NULL, SCALAR, true, on_memory},
    {"cpu", NULL, SCALAR, true, on_cpu},
};

static const rule_t *find_rule(const rule_t *table, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(key, table[i].key) == 0 ||
            (table[i].alias != NULL && strcmp(key, table[i].alias) == 0)) {
            return &table[i];
        }
    }
    return NULL;
}

/* Applies one rule; false when the value is to be kept like an unknown key's. */
static bool apply(keys_t *k, const rule_t *rule)
{
    static const char *const wanted[] = {[SCALAR] = "a text or number",
                                         [LIST] = "a list",
                                         [MAP] = "a mapping",
                                         [SCALAR | LIST] = "a text or a list"};
    char message[64];

    if (rule->kinds & (1u << k->node->kind)) {
        rule->take(k);
        return true;
    }
    snprintf(message, sizeof(message), "%s was expected", wanted[rule->kinds]);
    finding(k, rule->strict ? SB_FINDING_ERROR : SB_FINDING_WARNING, "wrong-type", message);
    return rule->strict;
}

static void on_resources(keys_t *k)
{
    const sb_yaml_node_t *outer = k->node;
    const char *outer_name = k->name;
    json_t *rest = NULL;
    char name[64];

    for (const sb_yaml_node_t *n = outer->first; n != NULL; n = n->next) {
        const rule_t *rule =
            find_rule(resource_rules, sizeof(resource_rules) / sizeof(rule_t), n->key->text);
        if (rule == NULL) {
            rest = rest == NULL ? json_object() : rest;
            k->no_memory |= json_object_set_new(rest, n->key->text, sb_yaml_to_json(n)) != 0;
        } else if (!sb_yaml_is_null(n)) {
            snprintf(name, sizeof(name), "%s.%s", outer_name, rule->key);
            k->name = name;
            k->node = n;
            apply(k, rule);
        }
    }
    k->name = outer_name;
    k->node = outer;
    if (rest != NULL) {
        k->m->extra = k->m->extra == NULL ? json_object() : k->m->extra;
        k->no_memory |= json_object_set_new(k->m->extra, outer_name, rest) != 0;
    }
}

/* metadata.version is the version when the package declares no other and it is one. */
static void version_from_metadata(keys_t *k, const sb_yaml_node_t *metadata)
{
    for (const sb_yaml_node_t *n = metadata->first; n != NULL; n = n->next) {
        size_t len;
        const char *s = trimmed(n, &len);
        if (strcmp(n->key->text, "version") == 0 && sb_semver_valid(s, len)) {
            k->m->version = copy(k, s, len);
            k->m->version_declared = true;
            return;
        }
    }
}

static void required(keys_t *k, const char *key, const char *const *seen)
{
    char code[48];

    if (seen[find_rule(rules, NRULES, key) - rules] == NULL) {
        snprintf(code, sizeof(code), "%s-missing", key);
        sb_findings_add(k->findings, SB_FINDING_ERROR, code, SB_SKILLMD, 1,
                        "%s is required in the frontmatter", key);
    }
}

sb_code_t sb_manifest_keys(const sb_yaml_node_t *root, sb_manifest_t *m, sb_findings_t *findings,
                           sb_err_t *err)
{
    keys_t k = {.m = m, .findings = findings};
    const sb_yaml_node_t *metadata = NULL;
    const char *seen[NRULES] = {NULL}; /* the key as it was written */

    for (const sb_yaml_node_t *n = root->first; n != NULL; n = n->next) {
        const rule_t *rule = find_rule(rules, NRULES, n->key->text);
        k.node = n;
        k.name = n->key->text;
        if (rule == NULL) {
            keep(&k, n->key->text, n);
            continue;
        }
        if (sb_yaml_is_null(n)) {
            continue; /* `version:` with nothing behind it says nothing */
        }
        const char **first = &seen[rule - rules];
        if (*first != NULL) {
            if (strcmp(*first, k.name) !=
                0) { /* the same name twice is the YAML reader's finding */
                finding(&k, SB_FINDING_ERROR, "duplicate-key",
                        "another name of it was given before");
            }
            continue;
        }
        *first = k.name;
        if (!apply(&k, rule)) {
            keep(&k, n->key->text, n);
        } else if (rule->take == on_metadata) {
            metadata = n;
        }
    }
    required(&k, "name", seen);
    required(&k, "description", seen);
    if (metadata != NULL && seen[find_rule(rules, NRULES, "version") - rules] == NULL) {
        version_from_metadata(&k, metadata);
    }
    return k.no_memory ? sb_err_errno(err, ENOMEM, "reading the frontmatter") : SB_OK;
}
