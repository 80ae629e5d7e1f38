/*
 * test_manifest.c - SKILL.md in three dialects, what is wrong in it and in which
 * line, and how the entrypoint is found.
 */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/manifest.h"

#define GOOD_HEAD "---\nname: a\ndescription: d\n"

/* "error code:line; warning code:line" - the form of the golden lists below. */
static void render(const sb_findings_t *f, char *out, size_t cap)
{
    static const char *const names[] = {"note", "warning", "error"};
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < f->count && used < cap; i++) {
        used += (size_t)snprintf(out + used, cap - used, "%s%s %s:%d", i > 0 ? "; " : "",
                                 names[f->items[i].severity], f->items[i].code, f->items[i].line);
    }
}

typedef struct {
    sb_manifest_t m;
    sb_findings_t findings;
    sb_err_t err;
    sb_code_t rc;
    char list[4096];
} parsed_t;

static void parse_bytes(parsed_t *p, const char *text, size_t len)
{
    /* in a block of exactly that size, so that a sanitizer sees every read too far */
    char *exact = malloc(len > 0 ? len : 1);

    assert_non_null(exact);
    memcpy(exact, text, len);
    memset(p, 0, sizeof(*p));
    p->rc = sb_manifest_parse(exact, len, NULL, &p->m, &p->findings, &p->err);
    free(exact);
    render(&p->findings, p->list, sizeof(p->list));
    assert_int_equal(p->rc, p->findings.errors > 0 ? SB_ESKILL : SB_OK);
}

static void parse(parsed_t *p, const char *text)
{
    parse_bytes(p, text, strlen(text));
}

static void done(parsed_t *p)
{
    sb_manifest_free(&p->m);
    sb_findings_free(&p->findings);
}

static void assert_json(const json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_skillbox_dialect(void **state)
{
    parsed_t p;

    parse(&p, "---\n"
              "name: data-analysis\n"
              "description: \"Statistics: mean, median\"\n"
              "version: 2.1.0\n"
              "lang: py\n"
              "entrypoint: ./src/go.py\n"
              "image: python:3.12-slim\n"
              "timeout: 1m30s\n"
              "resources:\n"
              "  memory: 512Mi\n"
              "  cpu: 1.5\n"
              "  gpu: 1\n"
              "network: false\n"
              "license: MIT\n"
              "input_schema:\n"
              "  type: object\n"
              "---\n"
              "# Use\n"
              "---\n"
              "more\n");
    assert_string_equal(p.list, "");
    assert_string_equal(p.m.name, "data-analysis");
    assert_string_equal(p.m.description, "Statistics: mean, median");
    assert_string_equal(p.m.version, "2.1.0");
    assert_true(p.m.version_declared);
    assert_string_equal(p.m.lang, "python");
    assert_string_equal(p.m.entrypoint, "src/go.py");
    assert_string_equal(p.m.image, "python:3.12-slim");
    assert_int_equal(p.m.timeout_ms, 90000);
    assert_int_equal(p.m.memory_bytes, 512 * SB_MIB);
    assert_int_equal(p.m.cpu_milli, 1500);
    assert_false(p.m.network);
    assert_string_equal(p.m.license, "MIT");
    assert_json(p.m.extra, "{\"resources\":{\"gpu\":1},\"input_schema\":{\"type\":\"object\"}}");
    assert_string_equal(p.m.instructions, "# Use\n---\nmore\n");
    assert_int_equal(p.m.instructions_len, strlen(p.m.instructions));
    done(&p);
}

static void test_agent_skills_dialect(void **state)
{
    parsed_t p;

    parse(&p, "---\n"
              "name: pdf-tools\n"
              "description: >\n"
              "  Works with\n"
              "  PDF files.\n"
              "license: Apache-2.0\n"
              "compatibility: Requires Python 3 and network access\n"
              "metadata:\n"
              "  author: somebody\n"
              "  version: \"1.4\"\n"
              "allowed-tools: Bash(git:*) Read\n"
              "---\n");
    assert_string_equal(p.list, "");
    assert_string_equal(p.m.description, "Works with PDF files.");
    assert_string_equal(p.m.version, "1.4");
    assert_true(p.m.version_declared);
    assert_string_equal(p.m.compatibility, "Requires Python 3 and network access");
    assert_false(p.m.network); /* words in a text ask for nothing */
    assert_json(p.m.metadata, "{\"author\":\"somebody\",\"version\":\"1.4\"}");
    assert_json(p.m.allowed_tools, "\"Bash(git:*) Read\"");
    assert_string_equal(p.m.instructions, "");
    done(&p);
}

static void test_skilllite_dialect(void **state)
{
    parsed_t p;

    parse(&p, "---\n"
              "name: calculator\n"
              "description: Sums\n"
              "language: nodejs\n"
              "entry_point: scripts/main.js\n"
              "allowed-tools: [Read, \"Bash(jq:*)\"]\n"
              "requires_elevated_permissions: false\n"
              "metadata: {version: next, openclaw: {install: [{kind: uv}]}}\n"
              "---\n");
    assert_string_equal(p.list, "");
    assert_string_equal(p.m.lang, "node");
    assert_string_equal(p.m.entrypoint, "scripts/main.js");
    assert_null(p.m.version); /* metadata.version is no version here */
    assert_false(p.m.version_declared);
    assert_json(p.m.allowed_tools, "[\"Read\",\"Bash(jq:*)\"]");
    assert_json(p.m.metadata,
                "{\"version\":\"next\",\"openclaw\":{\"install\":[{\"kind\":\"uv\"}]}}");
    assert_json(p.m.extra, "{\"requires_elevated_permissions\":false}");
    done(&p);
}

static void test_defaults_and_operators_limits(void **state)
{
    const char *text = GOOD_HEAD "timeout: 20s\nresources: {memory: 2Gi, cpu: 8}\n---\n";
    sb_manifest_limits_t limits = {.timeout_max_ms = 5000, .memory_max = 64 * SB_MIB};
    sb_manifest_t m;
    sb_findings_t f = {0};
    parsed_t p;
    char list[256];

    parse(&p, GOOD_HEAD "---\n");
    assert_int_equal(p.m.timeout_ms, SB_TIMEOUT_DEFAULT_MS);
    assert_int_equal(p.m.memory_bytes, SB_MEMORY_DEFAULT);
    assert_int_equal(p.m.cpu_milli, SB_CPU_DEFAULT_MILLI);
    done(&p);

    assert_int_equal(sb_manifest_parse(text, strlen(text), &limits, &m, &f, NULL), SB_OK);
    render(&f, list, sizeof(list));
    assert_string_equal(list, "warning timeout-clamped:4; warning memory-clamped:5; "
                              "warning cpu-clamped:5");
    assert_int_equal(m.timeout_ms, 5000);
    assert_int_equal(m.memory_bytes, 64 * SB_MIB);
    assert_int_equal(m.cpu_milli, SB_CPU_MAX_MILLI);
    sb_manifest_free(&m);

    text = GOOD_HEAD "---\n"; /* a lowered maximum lowers the default */
    assert_int_equal(sb_manifest_parse(text, strlen(text), &limits, &m, &f, NULL), SB_OK);
    assert_int_equal(m.timeout_ms, 5000);
    assert_int_equal(m.memory_bytes, 64 * SB_MIB);
    sb_manifest_free(&m);
    sb_findings_free(&f);
}

static void test_scalars_keep_or_get_their_type(void **state)
{
    parsed_t p;

    parse(&p,
          "---\n"
          "name: 2048\n"
          "description: true\n"
          "version: 1.10\n"
          "license: 3\n"
          "x: [1, -7, 007, 0x1F, 0o17, 1.50, .5, 5., 1e3, true, False, null, ~, yes, \"1\", '1',\n"
          "    .inf, 99999999999999999999, 2020-01-01, !!str 12, 1_000, \"\", -]\n"
          "---\n");
    assert_string_equal(p.list, "");
    assert_string_equal(p.m.name, "2048");
    assert_string_equal(p.m.description, "true");
    assert_string_equal(p.m.version, "1.10");
    assert_string_equal(p.m.license, "3");
    assert_json(p.m.extra,
                "{\"x\":[1,-7,7,31,15,1.5,0.5,5.0,1000.0,true,false,null,null,\"yes\",\"1\",\"1\","
                "\".inf\",\"99999999999999999999\",\"2020-01-01\",\"12\",\"1_000\",\"\",\"-\"]}");
    done(&p);
}

static void test_byte_order_mark_and_crlf(void **state)
{
    parsed_t p;

    parse(&p,
          "\xef\xbb\xbf---\r\nname: a\r\ndescription: b\r\ntimeout: soon\r\n--- \r\nx\r\n\r\ny\rz");
    assert_string_equal(p.list, "error timeout-invalid:4");
    assert_string_equal(p.m.description, "b");
    assert_string_equal(p.m.instructions, "x\n\ny\rz");
    done(&p);
}

typedef struct {
    const char *text;
    const char *findings;
} golden_t;

static void check_golden(const golden_t *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        parsed_t p;
        parse(&p, cases[i].text);
        if (strcmp(p.list, cases[i].findings) != 0) {
            print_error("case %zu:\n%s\n", i, cases[i].text);
        }
        assert_string_equal(p.list, cases[i].findings);
        done(&p);
    }
}

static void test_keys_at_fault_are_named_with_their_lines(void **state)
{
    static const golden_t cases[] = {
        {"---\nname:\n---\n", "error name-missing:1; error description-missing:1"},
        {"---\nname: Data_Analysis\ndescription: d\n---\n", "warning name-not-strict:2"},
        {"---\nname: a--b\ndescription: d\n---\n", "warning name-not-strict:2"},
        {"---\nname: a b\ndescription: d\n---\n", "error name-invalid:2"},
        {"---\nname: ../x\ndescription: d\n---\n", "error name-invalid:2"},
        {"---\nname: \"\"\ndescription: ' '\n---\n",
         "error name-invalid:2; error description-missing:3"},
        {"---\nname: [a]\ndescription: {b: c}\n---\n", "error wrong-type:2; error wrong-type:3"},
        {GOOD_HEAD "version: v1\n---\n", "error version-invalid:4"},
        {GOOD_HEAD "version: latest\n---\n", "error version-invalid:4"},
        {GOOD_HEAD "lang: rust\n---\n", "error lang-unknown:4"},
        {GOOD_HEAD "lang: node\nlanguage: node\n---\n", "error duplicate-key:5"},
        {GOOD_HEAD "entrypoint: ../x.py\n---\n", "error entrypoint-invalid:4"},
        {GOOD_HEAD "entrypoint: /x.py\n---\n", "error entrypoint-invalid:4"},
        {GOOD_HEAD "runtime: a b\n---\n", "error image-invalid:4"},
        {GOOD_HEAD "timeout: 601s\n---\n", "warning timeout-clamped:4"},
        {GOOD_HEAD "timeout: 0s\n---\n", "error timeout-invalid:4"},
        {GOOD_HEAD "timeout: -5s\n---\n", "error timeout-invalid:4"},
        {GOOD_HEAD "timeout: [5]\n---\n", "error wrong-type:4"},
        {GOOD_HEAD "resources: big\n---\n", "error wrong-type:4"},
        {GOOD_HEAD "resources:\n  memory: lots\n  cpu: [1]\n---\n",
         "error memory-invalid:5; error wrong-type:6"},
        {GOOD_HEAD "resources:\n  memory: 1Ki\n  cpu: 1m\n---\n",
         "warning memory-clamped:5; warning cpu-clamped:6"},
        {GOOD_HEAD "network: true\n---\n", "warning network-not-granted:4"},
        {GOOD_HEAD "network:\n  enabled: true\n---\n", "warning network-not-granted:5"},
        {GOOD_HEAD "network: none\n---\n", ""},
        {GOOD_HEAD "mode: daemon\n---\n", "error mode-unknown:4"},
        {GOOD_HEAD "license: [MIT]\nmetadata: text\n---\n",
         "warning wrong-type:4; warning wrong-type:5"},
        {GOOD_HEAD "metadata:\nresources:\ntimeout: ~\n---\n", ""},
        {GOOD_HEAD "lang: perl\ntimeout: x\nversion: y\n---\n",
         "error lang-unknown:4; error timeout-invalid:5; error version-invalid:6"},
    };

    check_golden(cases, COUNT(cases));
}

static void test_unsafe_yaml_is_refused(void **state)
{
    static const golden_t cases[] = {
        {GOOD_HEAD "x: &a 1\ny: *a\n---\n", "error yaml-anchor:4; error yaml-alias:5"},
        {GOOD_HEAD "x: !!python/object:os.system 1\n---\n", "error yaml-tag:4"},
        {GOOD_HEAD "x: !custom 1\n---\n", "error yaml-tag:4"},
        {GOOD_HEAD "x: !!binary aGk=\n---\n", "error yaml-tag:4"},
        {GOOD_HEAD "x: !!set {a, b}\n---\n", "error yaml-tag:4"},
        {GOOD_HEAD "x:\n  <<: {a: 1}\n---\n", "error yaml-merge-key:5"},
        {GOOD_HEAD "name: b\n---\n", "error yaml-duplicate-key:4"},
        {GOOD_HEAD "x:\n  k: 1\n  \"k\": 2\n---\n", "error yaml-duplicate-key:6"},
        {GOOD_HEAD "[a, b]: 1\n---\n", "error yaml-key:4"},
        {GOOD_HEAD "? {a: b}\n: 1\n---\n", "error yaml-key:4"},
        {GOOD_HEAD "\"\": 1\n---\n", "error yaml-key:4"},
        {GOOD_HEAD "x: \"a\\0b\"\n---\n", "error yaml-nul:4"},
        {GOOD_HEAD "...\n--- \nname: b\n---\n", ""}, /* "--- " closes the frontmatter */
        {GOOD_HEAD "--- {name: b}\n---\n", "error yaml-documents:4"},
        {"---\n%YAML 1.1\n--- \n", "error yaml-syntax:3"},
        {"---\n%TAG ! tag:x,1:\n--- {name: a, description: d}\n---\n", "error yaml-directive:2"},
        {GOOD_HEAD "x: a: b\n---\n", "error yaml-syntax:4"},
        {GOOD_HEAD "\tx: 1\n---\n", "error yaml-syntax:4"},
        {GOOD_HEAD "x: [1, 2\n---\n", "error yaml-syntax:5"},
        {GOOD_HEAD "x: \"\x01\"\n---\n", "error yaml-syntax:4"},
        {"---\n- a\n- b\n---\n", "error frontmatter-not-mapping:2"},
        {"---\n---\nhello", "error frontmatter-not-mapping:2"},
    };

    check_golden(cases, COUNT(cases));
}

static void test_a_file_without_frontmatter_is_refused(void **state)
{
    static const golden_t cases[] = {
        {"", "error frontmatter-missing:1"},
        {"# Title\n", "error frontmatter-missing:1"},
        {"----\nname: a\n----\n", "error frontmatter-missing:1"},
        {" ---\nname: a\n---\n", "error frontmatter-missing:1"},
        {"---", "error frontmatter-open:1"},
        {"---\nname: a\n", "error frontmatter-open:1"},
        {"---\nname: a\n ---\n", "error frontmatter-open:1"},
        {"---\nname: \xff\n---\n", "error not-utf8:2"},
        {"---\nname: a\ndescription: d\n---\nbody\n\xc3\x28\n", "error not-utf8:6"},
    };
    parsed_t p;

    check_golden(cases, COUNT(cases));
    parse_bytes(&p, "---\nname: a\0b\n---\n", 17);
    assert_string_equal(p.list, "error nul-character:2");
    done(&p);
}

/* head, then `unit` n times, then "\n---\n"; freed by the caller. */
static char *repeated(const char *head, const char *unit, size_t n)
{
    size_t unit_len = strlen(unit);
    char *text = malloc(strlen(head) + n * unit_len + 8);

    assert_non_null(text);
    char *end = stpcpy(text, head);
    for (size_t i = 0; i < n; i++) {
        end = stpcpy(end, unit);
    }
    strcpy(end, "\n---\n");
    return text;
}

static void test_size_depth_and_number_are_bounded(void **state)
{
    static const struct {
        const char *unit;
        size_t n;
        const char *findings;
    } cases[] = {
        {"[", 60000, "error yaml-too-deep:4"},
        {"[", 31, "error yaml-syntax:5"}, /* deep enough to be read, but not closed */
        {"{a: ", 10000, "error yaml-too-deep:4"},
        {"- ", 30000, "error yaml-syntax:4"},
        {"\n- - - - - -", 2500, "error yaml-too-many-nodes:1670"},
        {"\n- 12345", 10000, "error frontmatter-too-large:2"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        parsed_t p;
        char *text = repeated(GOOD_HEAD "x: ", cases[i].unit, cases[i].n);
        parse(&p, text);
        if (strcmp(p.list, cases[i].findings) != 0) {
            print_error("case %zu\n", i);
        }
        assert_string_equal(p.list, cases[i].findings);
        done(&p);
        free(text);
    }
}

static void test_a_file_over_1_mib_is_refused(void **state)
{
    size_t len = SB_SKILLMD_MAX + 1;
    char *text = malloc(len);
    parsed_t p;

    assert_non_null(text);
    memset(text, 'x', len);
    memcpy(text, GOOD_HEAD "---\n", strlen(GOOD_HEAD "---\n"));
    parse_bytes(&p, text, len);
    assert_string_equal(p.list, "error skill-md-too-large:0");
    done(&p);
    parse_bytes(&p, text, len - 1);
    assert_string_equal(p.list, "");
    done(&p);
    free(text);
}

static void test_lengths_are_counted_in_characters(void **state)
{
    static const struct {
        const char *head, *unit;
        size_t n;
        const char *findings;
    } cases[] = {
        {"---\nname: a\ndescription: ", "\xc3\xa9", 1024, ""},
        {"---\nname: a\ndescription: ", "\xc3\xa9", 1025, "error description-too-long:3"},
        {GOOD_HEAD "compatibility: ", "\xc3\xa9", 500, ""},
        {GOOD_HEAD "compatibility: ", "\xc3\xa9", 501, "warning compatibility-too-long:4"},
        {"---\ndescription: d\nname: ", "a", 64, ""},
        {"---\ndescription: d\nname: ", "a", 65, "warning name-not-strict:3"},
        {"---\ndescription: d\nname: ", "a", 129, "error name-invalid:3"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        parsed_t p;
        char *text = repeated(cases[i].head, cases[i].unit, cases[i].n);
        parse(&p, text);
        assert_string_equal(p.list, cases[i].findings);
        done(&p);
        free(text);
    }
}

static void test_findings_are_capped_but_errors_are_counted(void **state)
{
    parsed_t p;
    char *text = repeated(GOOD_HEAD "x:", "\n- &a 1", 300);

    parse(&p, text);
    assert_int_equal(p.findings.count, SB_FINDINGS_MAX);
    assert_true(p.findings.truncated);
    assert_int_equal(p.findings.errors, 300);
    assert_int_equal(p.err.line, 5);
    assert_string_equal(p.err.message, "SKILL.md: anchors (&name) are not allowed (and 299 more)");
    done(&p);
    free(text);
}

static void test_messages_are_printable_and_fit(void **state)
{
    sb_findings_t f = {0};
    char longer[1000];

    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    sb_findings_add(&f, SB_FINDING_NOTE, "c", "a\nb\xff\x7f\xc2\x85\xc3\xa9", 0, "%s", longer);
    memcpy(longer + 250, "\xe2\x82\xac\xe2\x82\xac", 6); /* the cut must not split a character */
    sb_findings_add(&f, SB_FINDING_NOTE, "c", longer, 0, "%s", "ok");
    assert_string_equal(f.items[0].path, "a?b???\xc3\xa9");
    assert_int_equal(strlen(f.items[0].message), 255);
    assert_string_equal(f.items[0].message + 250, "xx...");
    assert_string_equal(f.items[1].path + 248, "xx...");
    assert_int_equal(f.errors, 0);

    json_t *list = sb_findings_to_json(&f);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "severity")),
                        "note");
    assert_null(json_object_get(json_array_get(list, 0), "line"));
    json_decref(list);
    sb_findings_free(&f);
}

/* ---- the rules that need the tree ---- */

typedef struct {
    const char *keys;     /* of the frontmatter, behind name and description */
    const char *files[6]; /* sorted; "path:lang" gives one a language that its name doesn't say */
    const char *entrypoint, *lang;
    const char *findings;
} tree_t;

static const tree_t trees[] = {
    {"", {"SKILL.md", "main.py"}, "main.py", "python", ""},
    {"", {"SKILL.md", "index.js", "main.sh"}, "index.js", "node", ""},
    {"", {"main.js", "run.py"}, "run.py", "python", ""},
    {"", {"run.sh", "scripts/main.py"}, "run.sh", "bash", ""},
    {"", {"scripts/main.sh", "scripts/run.py"}, "scripts/run.py", "python", ""},
    {"", {"scripts/index.mjs", "scripts/other.py"}, "scripts/index.mjs", "node", ""},
    {"", {"scripts/__init__.py", "scripts/only.py"}, "scripts/only.py", "python", ""},
    {"", {"scripts/a.py", "scripts/b.py"}, NULL, NULL, ""},
    {"", {"scripts/data.json", "scripts/tool:bash"}, "scripts/tool", "bash", ""},
    {"", {"scripts/sub/only.py"}, NULL, NULL, ""},
    {"", {"SKILL.md"}, NULL, NULL, ""},
    {"lang: node\n", {"main.js", "main.py"}, "main.js", "node", ""},
    {"lang: node\n", {"main.py"}, NULL, "node", "warning entrypoint-not-found:4"},
    {"entrypoint: src/go.py\n", {"main.py", "src/go.py"}, "src/go.py", "python", ""},
    {"entrypoint: gone.py\n", {"main.py"}, NULL, NULL, "error entrypoint-missing:4"},
    {"entrypoint: tool\n", {"tool:bash"}, "tool", "bash", ""},
    {"entrypoint: tool\n", {"tool"}, "tool", NULL, "error lang-missing:4"},
    {"entrypoint: tool\nlang: bash\n", {"tool"}, "tool", "bash", ""},
    {"entrypoint: x.py\nlang: bash\n", {"x.py"}, "x.py", "bash", "warning lang-mismatch:5"},
    {"mode: instructions\n", {"main.py"}, NULL, NULL, ""},
    {"mode: executable\n", {"main.py"}, "main.py", "python", ""},
    {"mode: executable\n", {"SKILL.md"}, NULL, NULL, "error script-missing:4"},
};

static const char *lang_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    if (dot == NULL) {
        return NULL;
    }
    if (strcmp(dot, ".py") == 0) {
        return "python";
    }
    return strcmp(dot, ".js") == 0 || strcmp(dot, ".mjs") == 0 ? "node"
           : strcmp(dot, ".sh") == 0                           ? "bash"
                                                               : NULL;
}

static void check_tree(const tree_t *t)
{
    sb_manifest_file_t files[6] = {{0}};
    char text[512], paths[6][64];
    size_t n = 0;
    parsed_t p;

    for (; n < 6 && t->files[n] != NULL; n++) {
        snprintf(paths[n], sizeof(paths[n]), "%s", t->files[n]);
        char *colon = strchr(paths[n], ':');
        files[n].path = paths[n];
        files[n].lang = colon != NULL ? strchr(t->files[n], ':') + 1 : lang_of(paths[n]);
        if (colon != NULL) {
            *colon = '\0';
        }
    }
    snprintf(text, sizeof(text), GOOD_HEAD "%s---\n", t->keys);
    parse(&p, text);
    p.rc = sb_manifest_finish(&p.m, files, n, &p.findings, &p.err);
    render(&p.findings, p.list, sizeof(p.list));
    assert_string_equal(p.list, t->findings);
    assert_int_equal(p.rc, p.findings.errors > 0 ? SB_ESKILL : SB_OK);
    assert_int_equal(p.m.executable, t->entrypoint != NULL);
    assert_string_equal(p.m.entrypoint != NULL ? p.m.entrypoint : "-",
                        t->entrypoint != NULL ? t->entrypoint : "-");
    assert_string_equal(p.m.lang != NULL ? p.m.lang : "-", t->lang != NULL ? t->lang : "-");
    assert_string_equal(p.m.version, "1.0.0");
    done(&p);
}

static void test_entrypoint_is_found(void **state)
{
    for (size_t i = 0; i < COUNT(trees); i++) {
        print_message("tree %zu\n", i);
        check_tree(&trees[i]);
    }
}

static void test_json_has_the_documented_fields(void **state)
{
    const sb_manifest_file_t files[] = {{"main.py", 1, 0644, "python"}};
    parsed_t p;

    parse(&p, GOOD_HEAD "license: MIT\nx: 1\n---\nText \"q\"\n");
    assert_int_equal(sb_manifest_finish(&p.m, files, 1, &p.findings, NULL), SB_OK);
    json_t *o = sb_manifest_to_json(&p.m);
    assert_json(o, "{\"name\":\"a\",\"description\":\"d\",\"version\":\"1.0.0\","
                   "\"version_declared\":false,\"lang\":\"python\",\"mode\":\"executable\","
                   "\"entrypoint\":\"main.py\",\"timeout_ms\":120000,\"memory_bytes\":268435456,"
                   "\"cpu_milli\":500,\"network\":false,\"license\":\"MIT\",\"extra\":{\"x\":1},"
                   "\"instructions\":\"Text \\\"q\\\"\\n\"}");
    json_decref(o);
    done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skillbox_dialect),
        cmocka_unit_test(test_agent_skills_dialect),
        cmocka_unit_test(test_skilllite_dialect),
        cmocka_unit_test(test_defaults_and_operators_limits),
        cmocka_unit_test(test_scalars_keep_or_get_their_type),
        cmocka_unit_test(test_byte_order_mark_and_crlf),
        cmocka_unit_test(test_keys_at_fault_are_named_with_their_lines),
        cmocka_unit_test(test_unsafe_yaml_is_refused),
        cmocka_unit_test(test_a_file_without_frontmatter_is_refused),
        cmocka_unit_test(test_size_depth_and_number_are_bounded),
        cmocka_unit_test(test_a_file_over_1_mib_is_refused),
        cmocka_unit_test(test_lengths_are_counted_in_characters),
        cmocka_unit_test(test_findings_are_capped_but_errors_are_counted),
        cmocka_unit_test(test_messages_are_printable_and_fit),
        cmocka_unit_test(test_entrypoint_is_found),
        cmocka_unit_test(test_json_has_the_documented_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
