/*
 * manifest_entry.c - the manifest's rules that need the package's file list:
 * which script is the entrypoint, in which language, or whether there is none.
 * Touches memory only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manifest_internal.h"

typedef struct {
    sb_manifest_t *m;
    const sb_manifest_file_t *files;
    size_t nfiles;
    sb_findings_t *findings;
} finish_t;

static const sb_manifest_file_t *find(const finish_t *f, const char *path)
{
    size_t low = 0, high = f->nfiles;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(path, f->files[mid].path);
        if (order == 0) {
            return &f->files[mid];
        }
        if (order < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return NULL;
}

/* A script that may be chosen: of the declared language when one is declared. */
static bool fits(const finish_t *f, const sb_manifest_file_t *file)
{
    return file->lang != NULL && (f->m->lang == NULL || strcmp(f->m->lang, file->lang) == 0);
}

/* The conventional names, in the contract's order; SkillLite's index.* last. */
static const sb_manifest_file_t *find_conventional(const finish_t *f)
{
    /* clang-format off */
    static const char *const names[] = {
        "main.py", "run.py", "main.js", "index.js", "main.sh", "run.sh",
        "scripts/main.py", "scripts/run.py", "scripts/main.js", "scripts/index.js",
        "scripts/main.sh", "scripts/run.sh",
        "scripts/main.mjs", "scripts/main.cjs", "scripts/main.bash",
        "scripts/index.py", "scripts/index.mjs", "scripts/index.cjs", "scripts/index.sh",
        "scripts/index.bash",
    };
    /* clang-format on */

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const sb_manifest_file_t *file = find(f, names[i]);
        if (file != NULL && fits(f, file)) {
            return file;
        }
    }
    return NULL;
}

/* The only script directly in scripts/, when there is exactly one. */
static const sb_manifest_file_t *find_only_script(const finish_t *f)
{
    const sb_manifest_file_t *only = NULL;

    for (size_t i = 0; i < f->nfiles; i++) {
        const char *path = f->files[i].path;
        if (strncmp(path, "scripts/", 8) != 0 || strchr(path + 8, '/') != NULL ||
            strcmp(path + 8, "__init__.py") == 0 || !fits(f, &f->files[i])) {
            continue;
        }
        if (only != NULL) {
            return NULL;
        }
        only = &f->files[i];
    }
    return only;
}

static const sb_manifest_file_t *choose(finish_t *f)
{
    const sb_manifest_file_t *file;

    if (f->m->entrypoint == NULL) {
        file = find_conventional(f);
        return file != NULL ? file : find_only_script(f);
    }
    file = find(f, f->m->entrypoint);
    if (file == NULL) {
        sb_findings_add(f->findings, SB_FINDING_ERROR, "entrypoint-missing", SB_SKILLMD,
                        f->m->lines.entrypoint, "the entrypoint '%s' is not in the package",
                        f->m->entrypoint);
    }
    return file;
}

static void no_script(finish_t *f)
{
    if (f->m->mode_declared && f->m->executable && f->m->lines.entrypoint == 0) {
        sb_findings_add(f->findings, SB_FINDING_ERROR, "script-missing", SB_SKILLMD,
                        f->m->lines.mode,
                        "mode is executable, but no entrypoint is named and none was found");
    } else if (f->m->lang != NULL && f->m->lines.entrypoint == 0) {
        sb_findings_add(f->findings, SB_FINDING_WARNING, "entrypoint-not-found", SB_SKILLMD,
                        f->m->lines.lang,
                        "lang is %s, but no entrypoint in it is named or was found", f->m->lang);
    }
    f->m->executable = false;
}

static void take_lang(finish_t *f, const sb_manifest_file_t *file)
{
    if (f->m->lang == NULL) {
        f->m->lang = file->lang;
        if (file->lang == NULL && f->m->lines.lang == 0) {
            sb_findings_add(f->findings, SB_FINDING_ERROR, "lang-missing", SB_SKILLMD,
                            f->m->lines.entrypoint,
                            "the language of '%s' can't be told from its name or first line: "
                            "lang must say it",
                            file->path);
        }
    } else if (file->lang != NULL && strcmp(file->lang, f->m->lang) != 0) {
        sb_findings_add(f->findings, SB_FINDING_WARNING, "lang-mismatch", SB_SKILLMD,
                        f->m->lines.lang, "lang is %s, but '%s' looks like %s", f->m->lang,
                        file->path, file->lang);
    }
}

static sb_code_t set_text(char **to, const char *value, sb_err_t *err)
{
    char *text = strdup(value);

    if (text == NULL) {
        return sb_err_errno(err, ENOMEM, "reading the manifest");
    }
    free(*to);
    *to = text;
    return SB_OK;
}

/* A package for a runtime that is not offered yet is kept all the same. */
static void limit_by_runtime(sb_manifest_t *m, sb_findings_t *findings)
{
    const sb_manifest_limits_t *given = &m->limits;
    sb_manifest_limits_t limits = *given;

    if (given->of == NULL) {
        return;
    }
    if (m->image != NULL && !given->of(given->ctx, m->image, m->lang, &limits)) {
        sb_findings_add(findings, SB_FINDING_WARNING, "image-not-offered", SB_SKILLMD,
                        m->lines.image,
                        "image: no runtime of this name is offered here; the skill can't run");
    } else if (m->image == NULL) {
        given->of(given->ctx, "", m->lang, &limits);
    }
    sb_manifest_limit(m, &limits, findings);
}

sb_code_t sb_manifest_finish(sb_manifest_t *m, const sb_manifest_file_t *files, size_t nfiles,
                             sb_findings_t *findings, sb_err_t *err)
{
    finish_t f = {m, files, nfiles, findings};
    bool wants_script = !m->mode_declared || m->executable;
    sb_code_t rc = SB_OK;

    if (m->version == NULL) {
        rc = set_text(&m->version, "1.0.0", err);
    }
    const sb_manifest_file_t *file = choose(&f);
    if (file == NULL && wants_script) {
        no_script(&f);
    } else if (wants_script) {
        m->executable = true;
        take_lang(&f, file);
        rc = rc == SB_OK ? set_text(&m->entrypoint, file->path, err) : rc;
    }
    if (!m->executable) {
        free(m->entrypoint);
        m->entrypoint = NULL;
    }
    limit_by_runtime(m, findings);
    return rc == SB_OK ? sb_findings_verdict(findings, err) : rc;
}
