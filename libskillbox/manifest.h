/*
 * manifest.h - SKILL.md: YAML frontmatter and the instructions behind it.
 *
 * Three dialects load: Skillbox, Agent Skills (agentskills.io), SkillLite.
 * Hostile input is expected: size, depth and node count are bounded, aliases
 * and anchors, tags other than the core ones, merge keys and duplicate keys are
 * refused.  Runs in the confined intake child, in the CLI's `lint`, and in tests;
 * never in an nginx worker or in the helper's main process.
 */
#ifndef SB_MANIFEST_H
#define SB_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "err.h"
#include "limits.h"

typedef enum { SB_FINDING_NOTE, SB_FINDING_WARNING, SB_FINDING_ERROR } sb_severity_t;

typedef struct {
    sb_severity_t severity;
    char code[48];  /* stable, kebab-case: "name-not-strict", "timeout-clamped", "path-traversal" */
    char path[256]; /* file inside the package, "" when it is about the whole */
    int line;       /* 1-based, 0 when unknown */
    char message[256];       /* one sentence */
    const char *category;    /* of the scan (scan.h); static, NULL for the package's own rules */
    const char *remediation; /* as well */
} sb_finding_t;

typedef struct {
    sb_finding_t *items; /* malloc'ed */
    size_t count;
    bool truncated; /* more than SB_FINDINGS_MAX were seen */
    size_t errors;  /* how many are SB_FINDING_ERROR (all seen, also past the cap) */
} sb_findings_t;

void sb_findings_free(sb_findings_t *f);
/* Text in path and message is made printable UTF-8 and cut to fit. */
void sb_findings_add(sb_findings_t *f, sb_severity_t severity, const char *code, const char *path,
                     int line, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* SB_OK when no error was seen; else SB_ESKILL with the first one's text and line in err. */
sb_code_t sb_findings_verdict(const sb_findings_t *f, sb_err_t *err);
/* [{"severity":"error","code","message","file"?,"line"?,"category"?,"remediation"?}, ...]; new
 * reference, NULL out of memory.
 */
json_t *sb_findings_to_json(const sb_findings_t *f);

/* What an operator allows; zero-initialised fields take limits.h's values. */
typedef struct sb_manifest_limits {
    int64_t timeout_default_ms, timeout_max_ms;
    int64_t memory_default, memory_max;
    int32_t cpu_default_milli, cpu_max_milli;
    /*
     * Where runtimes have limits of their own: fills in those of the one that serves image ("" =
     * the language's own) and lang (NULL = not known); false: none does.  NULL: the numbers above
     * are for all.  Asked by sb_manifest_finish, when the language is known.
     */
    bool (*of)(const void *ctx, const char *image, const char *lang,
               struct sb_manifest_limits *limits);
    const void *ctx;
} sb_manifest_limits_t;

typedef struct {
    char *name; /* malloc'ed strings, NULL when absent */
    char *description;
    char *version; /* never NULL after sb_manifest_finish: "1.0.0" when none was declared */
    bool version_declared;
    const char *lang; /* "python", "node", "bash" or NULL (static) */
    char
        *entrypoint; /* as declared, or as found by sb_manifest_finish; NULL in instructions mode */
    char *image;     /* image or runtime, verbatim */
    int64_t timeout_ms;
    int64_t memory_bytes;
    int32_t cpu_milli;
    bool network;       /* asked for; nobody grants it yet */
    bool executable;    /* mode: executable or instructions */
    bool mode_declared; /* the package itself said which */
    char *license;
    char *compatibility;
    char *instructions; /* the markdown behind the frontmatter as it stands, CR LF as LF */
    size_t instructions_len;
    json_t *allowed_tools; /* string or array as given, NULL when absent */
    json_t *metadata;      /* object, NULL when absent */
    json_t
        *extra; /* object: unknown top-level keys, verbatim (input_schema and output_schema too) */
    struct {
        /* where they were declared in SKILL.md, 0 when they were not */
        int entrypoint, lang, mode, image, timeout, memory, cpu;
    } lines;
    struct {
        int64_t timeout_ms, memory_bytes; /* as declared; -1 when they were not */
        int32_t cpu_milli;
    } asked;
    sb_manifest_limits_t limits; /* as given to sb_manifest_parse */
} sb_manifest_t;

void sb_manifest_free(sb_manifest_t *m);

/*
 * Parses SKILL.md.  Everything wrong is added to findings with its line; returns
 * SB_ESKILL when one of them is an error, SB_ESYSTEM out of memory.  *m is valid
 * (to be freed) in every case.
 */
sb_code_t sb_manifest_parse(const char *text, size_t len, const sb_manifest_limits_t *limits,
                            sb_manifest_t *m, sb_findings_t *findings, sb_err_t *err);

/* One file of the package, for the rules that need the tree. */
typedef struct {
    const char *path; /* relative, normalised */
    int64_t size;
    unsigned mode;    /* 0644 or 0755 */
    const char *lang; /* by extension or shebang, NULL when it is no script */
} sb_manifest_file_t;

/*
 * Applies the rules that need the file list (sorted by path): entrypoint named
 * or found (contract 3), language inferred, mode chosen, declared entrypoint
 * present.  Same errors as above.
 */
sb_code_t sb_manifest_finish(sb_manifest_t *m, const sb_manifest_file_t *files, size_t nfiles,
                             sb_findings_t *findings, sb_err_t *err);

/*
 * {"name","description","version","version_declared","lang"?,"mode":"executable"|"instructions",
 *  "entrypoint"?,"image"?,"timeout_ms","memory_bytes","cpu_milli","network","license"?,
 *  "compatibility"?,"allowed_tools"?,"metadata"?,"extra"?,"instructions"}; new reference.
 */
json_t *sb_manifest_to_json(const sb_manifest_t *m);

#endif
