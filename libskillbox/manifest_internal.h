/*
 * manifest_internal.h - between manifest.c, manifest_yaml.c and manifest_keys.c;
 * nobody else includes it.
 */
#ifndef SB_MANIFEST_INTERNAL_H
#define SB_MANIFEST_INTERNAL_H

#include "manifest.h"

#define SB_SKILLMD "SKILL.md"

typedef enum { SB_YAML_SCALAR, SB_YAML_SEQUENCE, SB_YAML_MAPPING } sb_yaml_kind_t;

typedef struct sb_yaml_node {
    sb_yaml_kind_t kind;
    int line;   /* in SKILL.md, 1-based */
    bool plain; /* scalar without quotes or tag: typed by the core schema */
    char *text; /* scalar: UTF-8, NUL-terminated, no NUL inside */
    size_t len;
    struct sb_yaml_node *key;   /* in a mapping: the key this value belongs to */
    struct sb_yaml_node *first; /* children in order */
    struct sb_yaml_node *last;
    struct sb_yaml_node *next;  /* sibling */
    struct sb_yaml_node *older; /* chain of all nodes, for freeing */
    uint32_t hash;              /* of a scalar's text, so that comparing keys is cheap */
} sb_yaml_node_t;

typedef struct {
    sb_yaml_node_t *root; /* NULL for an empty document */
    sb_yaml_node_t *newest;
    size_t nodes;
} sb_yaml_doc_t;

/*
 * Reads one YAML document of at most SB_FRONTMATTER_MAX bytes of valid UTF-8 whose first line is
 * line `first_line` of SKILL.md.  SB_OK: the tree is complete, though findings may have gained
 * errors (an alias, a duplicate key); SB_ESKILL: reading stopped at a finding; SB_ESYSTEM: out of
 * memory. *doc is to be freed in every case.
 */
sb_code_t sb_yaml_parse(const char *text, size_t len, int first_line, sb_yaml_doc_t *doc,
                        sb_findings_t *findings, sb_err_t *err);
void sb_yaml_free(sb_yaml_doc_t *doc);

/* The node as JSON, plain scalars typed as YAML's core schema says; NULL out of memory. */
json_t *sb_yaml_to_json(const sb_yaml_node_t *node);
bool sb_yaml_is_null(const sb_yaml_node_t *node);
bool sb_yaml_is_bool(const sb_yaml_node_t *node, bool *value);

/*
 * Takes the frontmatter's keys over into *m; what is wrong becomes a finding.  SB_OK, or SB_ESYSTEM
 * out of memory.
 */
sb_code_t sb_manifest_keys(const sb_yaml_node_t *root, sb_manifest_t *m, sb_findings_t *findings,
                           sb_err_t *err);

/* Sets timeout, memory and CPU by what was asked for and what is allowed; what is cut becomes a
 * finding.  Zero fields take limits.h's values. */
void sb_manifest_limit(sb_manifest_t *m, const sb_manifest_limits_t *limits,
                       sb_findings_t *findings);

#endif
