/*
 * manifest_yaml.c - libyaml's events, bounded, into a small tree that knows its
 * line numbers.
 *
 * The event interface is used because the document interface expands aliases and
 * has no bounds.  Depth, nodes and bytes are bounded (limits.h); aliases,
 * anchors, merge keys, custom tags, directives, duplicate keys and further
 * documents are findings.  Touches memory only.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "manifest_internal.h"

#define CORE_TAG "tag:yaml.org,2002:"

typedef struct {
    sb_yaml_node_t *node;
    sb_yaml_node_t *key; /* mapping: the key whose value comes next */
} frame_t;

typedef struct {
    sb_yaml_doc_t *doc;
    sb_findings_t *findings;
    sb_err_t *err;
    int first_line;
    int documents;
    sb_code_t failed; /* why new_node() gave none */
    int depth;
    frame_t stack[SB_YAML_DEPTH_MAX];
} reader_t;

static int line_of(const reader_t *r, const yaml_mark_t *mark)
{
    return r->first_line + (int)mark->line;
}

static sb_code_t refuse(const reader_t *r, int line, const char *code, const char *message)
{
    sb_findings_add(r->findings, SB_FINDING_ERROR, code, SB_SKILLMD, line, "%s", message);
    return SB_ESKILL;
}

void sb_yaml_free(sb_yaml_doc_t *doc)
{
    sb_yaml_node_t *node = doc->newest;

    while (node != NULL) {
        sb_yaml_node_t *older = node->older;
        free(node->text);
        free(node);
        node = older;
    }
    memset(doc, 0, sizeof(*doc));
}

static uint32_t hash_text(const char *s, size_t len)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    }
    return h;
}

/* NULL with r->failed set when there are too many or no memory. */
static sb_yaml_node_t *new_node(reader_t *r, sb_yaml_kind_t kind, int line, const char *text,
                                size_t len)
{
    if (r->doc->nodes == SB_YAML_NODES_MAX) {
        r->failed = refuse(r, line, "yaml-too-many-nodes", "the frontmatter has too many values");
        return NULL;
    }
    sb_yaml_node_t *node = calloc(1, sizeof(*node));
    if (node == NULL || (node->text = malloc(len + 1)) == NULL) {
        free(node);
        r->failed = sb_err_errno(r->err, ENOMEM, "reading the frontmatter");
        return NULL;
    }
    memcpy(node->text, text, len);
    node->text[len] = '\0';
    node->len = len;
    node->hash = hash_text(text, len);
    node->kind = kind;
    node->line = line;
    node->older = r->doc->newest;
    r->doc->newest = node;
    r->doc->nodes++;
    return node;
}

static bool same_text(const sb_yaml_node_t *a, const sb_yaml_node_t *b)
{
    return a->hash == b->hash && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* A node in key position.  Findings are added and reading goes on, so that all of them are seen. */
static void take_key(reader_t *r, frame_t *frame, sb_yaml_node_t *node)
{
    if (node->kind != SB_YAML_SCALAR) {
        refuse(r, node->line, "yaml-key", "a key must be a plain string");
    } else if (node->plain && strcmp(node->text, "<<") == 0) {
        refuse(r, node->line, "yaml-merge-key", "merge keys (<<) are not allowed");
    } else if (node->len == 0) {
        refuse(r, node->line, "yaml-key", "a key is empty");
    }
    for (const sb_yaml_node_t *n = frame->node->first; n != NULL; n = n->next) {
        if (node->kind == SB_YAML_SCALAR && same_text(n->key, node)) {
            sb_findings_add(r->findings, SB_FINDING_ERROR, "yaml-duplicate-key", SB_SKILLMD,
                            node->line, "the key '%s' stands here a second time, first in line %d",
                            node->text, n->key->line);
            break;
        }
    }
    frame->key = node;
}

static void attach(reader_t *r, sb_yaml_node_t *node)
{
    if (r->depth == 0) {
        r->doc->root = node;
        return;
    }
    frame_t *frame = &r->stack[r->depth - 1];
    if (frame->node->kind == SB_YAML_MAPPING && frame->key == NULL) {
        take_key(r, frame, node);
        return;
    }
    node->key = frame->key;
    frame->key = NULL;
    if (frame->node->last == NULL) {
        frame->node->first = node;
    } else {
        frame->node->last->next = node;
    }
    frame->node->last = node;
}

/* Anchors and tags.  *tagged: a core tag says what the value is, so the text doesn't. */
static void check_properties(reader_t *r, int line, const yaml_char_t *anchor,
                             const yaml_char_t *tag, bool *tagged)
{
    *tagged = false;
    if (anchor != NULL) {
        refuse(r, line, "yaml-anchor", "anchors (&name) are not allowed");
    }
    if (tag == NULL) {
        return;
    }
    const char *t = (const char *)tag;
    if (strncmp(t, CORE_TAG, strlen(CORE_TAG)) != 0) {
        refuse(r, line, "yaml-tag", "tags (!name) are not allowed");
        return;
    }
    t += strlen(CORE_TAG);
    static const char *const core[] = {"str", "int", "float", "bool", "null", "seq", "map"};
    for (size_t i = 0; i < sizeof(core) / sizeof(core[0]); i++) {
        if (strcmp(t, core[i]) == 0) {
            *tagged = strcmp(t, "str") == 0;
            return;
        }
    }
    refuse(r, line, "yaml-tag", "only the tags of YAML's core schema are allowed");
}

static sb_code_t on_scalar(reader_t *r, const yaml_event_t *e)
{
    int line = line_of(r, &e->start_mark);
    const char *text = (const char *)e->data.scalar.value;
    size_t len = e->data.scalar.length;
    bool tagged;

    check_properties(r, line, e->data.scalar.anchor, e->data.scalar.tag, &tagged);
    if (memchr(text, '\0', len) != NULL) {
        refuse(r, line, "yaml-nul", "a value contains a NUL character");
        len = strlen(text);
    }
    sb_yaml_node_t *node = new_node(r, SB_YAML_SCALAR, line, text, len);
    if (node == NULL) {
        return r->failed;
    }
    node->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tagged;
    attach(r, node);
    return SB_OK;
}

static sb_code_t on_alias(reader_t *r, const yaml_event_t *e)
{
    int line = line_of(r, &e->start_mark);

    refuse(r, line, "yaml-alias", "aliases (*name) are not allowed");
    sb_yaml_node_t *node = new_node(r, SB_YAML_SCALAR, line, "*", 1);
    if (node == NULL) {
        return r->failed;
    }
    attach(r, node); /* something stands there, so that keys and values stay in step */
    return SB_OK;
}

static sb_code_t on_start(reader_t *r, sb_yaml_kind_t kind, const yaml_event_t *e,
                          const yaml_char_t *anchor, const yaml_char_t *tag)
{
    int line = line_of(r, &e->start_mark);
    bool tagged;

    if (r->depth == SB_YAML_DEPTH_MAX) {
        return refuse(r, line, "yaml-too-deep", "the frontmatter is nested too deeply");
    }
    check_properties(r, line, anchor, tag, &tagged);
    sb_yaml_node_t *node = new_node(r, kind, line, "", 0);
    if (node == NULL) {
        return r->failed;
    }
    attach(r, node);
    r->stack[r->depth++] = (frame_t){node, NULL};
    return SB_OK;
}

static sb_code_t on_document(reader_t *r, const yaml_event_t *e)
{
    int line = line_of(r, &e->start_mark);

    if (++r->documents > 1) {
        return refuse(r, line, "yaml-documents", "the frontmatter has more than one YAML document");
    }
    if (e->data.document_start.version_directive != NULL ||
        e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end) {
        return refuse(r, line, "yaml-directive", "YAML directives (%) are not allowed");
    }
    return SB_OK;
}

static sb_code_t on_event(reader_t *r, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return on_document(r, e);
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_ALIAS_EVENT:
        return on_alias(r, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(r, SB_YAML_SEQUENCE, e, e->data.sequence_start.anchor,
                        e->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(r, SB_YAML_MAPPING, e, e->data.mapping_start.anchor,
                        e->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth -= r->depth > 0; /* libyaml pairs them, but our stack is not its to keep */
        return SB_OK;
    default:
        return SB_OK;
    }
}

/* The line of a syntax error: the reader's own errors have an offset, all others a mark. */
static int error_line(const reader_t *r, const yaml_parser_t *p, const char *text, size_t len)
{
    if (p->error != YAML_READER_ERROR) {
        return line_of(r, &p->problem_mark);
    }
    int line = r->first_line;
    for (size_t i = 0; i < len && i < p->problem_offset; i++) {
        line += text[i] == '\n';
    }
    return line;
}

static sb_code_t syntax_error(reader_t *r, const yaml_parser_t *p, const char *text, size_t len)
{
    int line = error_line(r, p, text, len);
    const char *problem = p->problem != NULL ? p->problem : "it can't be read";
    const char *hint = "";

    if (p->error == YAML_MEMORY_ERROR) {
        return sb_err_errno(r->err, ENOMEM, "reading the frontmatter");
    }
    /* what nearly everybody gets wrong: a colon in an unquoted description */
    if (strcmp(problem, "mapping values are not allowed in this context") == 0) {
        hint = " (a value that contains ': ' must be quoted)";
    }
    sb_findings_add(r->findings, SB_FINDING_ERROR, "yaml-syntax", SB_SKILLMD, line,
                    "the frontmatter is not valid YAML: %s%s", problem, hint);
    return SB_ESKILL;
}

static sb_code_t read_events(reader_t *r, yaml_parser_t *p, const char *text, size_t len)
{
    for (;;) {
        yaml_event_t event;

        if (!yaml_parser_parse(p, &event)) {
            return syntax_error(r, p, text, len);
        }
        bool end = event.type == YAML_STREAM_END_EVENT;
        sb_code_t rc = on_event(r, &event);
        yaml_event_delete(&event);
        if (rc != SB_OK || end) {
            return rc;
        }
    }
}

sb_code_t sb_yaml_parse(const char *text, size_t len, int first_line, sb_yaml_doc_t *doc,
                        sb_findings_t *findings, sb_err_t *err)
{
    reader_t r = {.doc = doc, .findings = findings, .err = err, .first_line = first_line};
    yaml_parser_t parser;

    memset(doc, 0, sizeof(*doc));
    if (len > SB_FRONTMATTER_MAX) {
        return refuse(&r, first_line, "frontmatter-too-large", "the frontmatter is over 64 KiB");
    }
    if (!yaml_parser_initialize(&parser)) {
        return sb_err_errno(err, ENOMEM, "reading the frontmatter");
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    sb_code_t rc = read_events(&r, &parser, text, len);
    yaml_parser_delete(&parser);
    return rc;
}

/* ---- plain scalars, typed as YAML 1.2's core schema says ---- */

static bool one_of(const sb_yaml_node_t *node, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(node->text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool sb_yaml_is_null(const sb_yaml_node_t *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};

    return node->kind == SB_YAML_SCALAR && node->plain && one_of(node, words, 5);
}

bool sb_yaml_is_bool(const sb_yaml_node_t *node, bool *value)
{
    static const char *const yes[] = {"true", "True", "TRUE"};
    static const char *const no[] = {"false", "False", "FALSE"};

    if (node->kind != SB_YAML_SCALAR || !node->plain) {
        return false;
    }
    *value = one_of(node, yes, 3);
    return *value || one_of(node, no, 3);
}

/* Integers beyond 64 bits stay text: a JSON number would be another value. */
static bool is_integer(const char *s, json_int_t *value)
{
    const char *digits = "0123456789";
    int base = 10;
    char *end;

    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'o')) {
        base = s[1] == 'x' ? 16 : 8;
        digits = s[1] == 'x' ? "0123456789abcdefABCDEF" : "01234567";
        s += 2;
    }
    const char *first = base == 10 && (*s == '-' || *s == '+') ? s + 1 : s;
    if (*first == '\0' || first[strspn(first, digits)] != '\0') {
        return false;
    }
    errno = 0;
    *value = strtoll(s, &end, base);
    return errno == 0;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool has_float_form(const char *s)
{
    const char *digits = "0123456789";

    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, digits);
    s += whole;
    size_t part = 0;
    if (*s == '.') {
        part = strspn(++s, digits);
        s += part;
    }
    if (whole + part == 0) {
        return false;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t exponent = strspn(s, digits);
        if (exponent == 0) {
            return false;
        }
        s += exponent;
    }
    return *s == '\0';
}

/* Under the C locale whatever the program set: the point is a '.'. */
static bool is_float(const char *s, double *value)
{
    if (!has_float_form(s) || strpbrk(s, ".eE") == NULL) {
        return false; /* without either it is an integer too large for 64 bits */
    }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0) {
        return false;
    }
    *value = strtod_l(s, NULL, c);
    freelocale(c);
    return isfinite(*value); /* JSON has no infinity: such a value stays text */
}

static json_t *scalar_to_json(const sb_yaml_node_t *node)
{
    bool truth;
    json_int_t integer;
    double real;

    if (sb_yaml_is_null(node)) {
        return json_null();
    }
    if (sb_yaml_is_bool(node, &truth)) {
        return json_boolean(truth);
    }
    if (node->plain && is_integer(node->text, &integer)) {
        return json_integer(integer);
    }
    if (node->plain && is_float(node->text, &real)) {
        return json_real(real);
    }
    return json_stringn(node->text, node->len);
}

/* Recursion is bounded by SB_YAML_DEPTH_MAX, which the reader enforced. */
json_t *sb_yaml_to_json(const sb_yaml_node_t *node)
{
    json_t *out;
    int failed = 0;

    if (node->kind == SB_YAML_SCALAR) {
        return scalar_to_json(node);
    }
    out = node->kind == SB_YAML_MAPPING ? json_object() : json_array();
    for (const sb_yaml_node_t *n = node->first; out != NULL && n != NULL && !failed; n = n->next) {
        json_t *value = sb_yaml_to_json(n);
        failed = node->kind == SB_YAML_MAPPING ? json_object_set_new(out, n->key->text, value)
                                               : json_array_append_new(out, value);
    }
    if (failed) {
        json_decref(out);
        return NULL;
    }
    return out;
}
