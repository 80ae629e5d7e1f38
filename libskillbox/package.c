/*
 * package.c - builds a package from a source (zip or folder) in the order that
 * package_build.h shows, and renders it.
 *
 * Promises that a package without an error finding keeps every rule of the
 * contract's 2.2, and that nothing was written of a file after a limit was
 * crossed.  Touches the out folder's descriptor only, through package_fs.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manifest_internal.h"
#include "names.h"
#include "package_build.h"

#define SHEBANG_MAX  256
#define RATIO_FROM   SB_MIB /* below this a ratio says nothing */
#define DIGEST_MAGIC "skillbox-tree-1\n"

void sb_package_free(sb_package_t *p)
{
    for (size_t i = 0; i < p->nfiles; i++) {
        free(p->files[i].path);
        free(p->files[i].link);
    }
    free(p->files);
    sb_manifest_free(&p->manifest);
    sb_findings_free(&p->findings);
    sb_findings_free(&p->security);
    memset(p, 0, sizeof(*p));
}

/* ---- entries ---- */

sb_code_t sb_builder_add(sb_builder_t *b, const char *path, unsigned mode, bool is_link,
                         const sb_zip_entry_t *zip, sb_err_t *err)
{
    if (b->count == b->cap) {
        size_t cap = b->cap > 0 ? 2 * b->cap : 64;
        sb_entry_t *grown = realloc(b->entries, cap * sizeof(*grown));
        if (grown == NULL) {
            return sb_err_errno(err, ENOMEM, "reading the package");
        }
        b->entries = grown;
        b->cap = cap;
    }
    sb_entry_t *e = &b->entries[b->count];
    *e = (sb_entry_t){.is_link = is_link, .zip = zip, .file.mode = mode};
    e->file.path = strdup(path);
    if (e->file.path == NULL) {
        return sb_err_errno(err, ENOMEM, "reading the package");
    }
    b->count++;
    return SB_OK;
}

static bool is_skillmd(const sb_entry_t *e)
{
    return strcmp(e->file.path, SB_SKILLMD) == 0;
}

/* ---- content ---- */

static sb_code_t over_limit(sb_builder_t *b, sb_code_t code, const char *finding,
                            const char *message, sb_err_t *err)
{
    b->stop = true;
    sb_findings_add(&b->p->findings, SB_FINDING_ERROR, finding, "", 0, "%s", message);
    return sb_err_set(err, code, "%s", message);
}

sb_code_t sb_sink_write(sb_sink_t *s, const void *data, size_t len, sb_err_t *err)
{
    sb_builder_t *b = s->b;
    size_t room = s->kept.max - s->kept.len;

    s->size += (int64_t)len;
    b->p->total += (int64_t)len;
    if (b->p->total > b->limits.unpacked_max) {
        return over_limit(b, SB_ETOOLARGE, "too-large", "the package is too large unpacked", err);
    }
    if (b->packed > 0 && b->p->total > RATIO_FROM &&
        b->p->total / SB_PACKAGE_RATIO_MAX > b->packed) {
        return over_limit(b, SB_ESKILL, "zip-ratio", "the zip unpacks to over 100 times its size",
                          err);
    }
    sb_buf_add(&s->kept, data, len < room ? len : room);
    s->cut |= len > room;
    if (!sb_buf_ok(&s->kept) || EVP_DigestUpdate(b->md, data, len) != 1) {
        return sb_err_errno(err, ENOMEM, "reading %s", s->entry->file.path);
    }
    return s->fd < 0 ? SB_OK : sb_fs_write(s->fd, data, len, err);
}

static size_t kept_bytes(const sb_entry_t *e)
{
    if (e->is_link) {
        return SB_PATH_MAX;
    }
    return is_skillmd(e) ? SB_SKILLMD_MAX : SHEBANG_MAX;
}

static sb_code_t sink_open(sb_sink_t *s, sb_builder_t *b, sb_entry_t *e, bool write, sb_err_t *err)
{
    *s = (sb_sink_t){.b = b, .entry = e, .fd = -1};
    sb_buf_init(&s->kept, kept_bytes(e));
    if (EVP_DigestInit_ex(b->md, EVP_sha256(), NULL) != 1) {
        return sb_err_set(err, SB_ESYSTEM, "SHA-256 is not available");
    }
    return write && !e->is_link ? sb_fs_create(&b->out, e->file.path, &s->fd, err) : SB_OK;
}

/* Takes over what the kept beginning says about the entry. */
static sb_code_t take_kept(sb_sink_t *s, sb_err_t *err)
{
    sb_entry_t *e = s->entry;
    sb_findings_t *findings = &s->b->p->findings;
    const char *kept = s->kept.data != NULL ? s->kept.data : "";

    if (e->is_link) {
        if (s->cut || memchr(kept, '\0', s->kept.len) != NULL) {
            sb_findings_add(findings, SB_FINDING_ERROR, "symlink", e->file.path, 0,
                            "the symlink's target is no path");
            return SB_ESKILL;
        }
        e->file.link = strndup(kept, s->kept.len);
        return e->file.link != NULL ? SB_OK : sb_err_errno(err, ENOMEM, "reading a symlink");
    }
    e->file.lang = sb_lang_of_path(e->file.path);
    if (e->file.lang == NULL) { /* not by the mode: zips of many programs have none */
        e->file.lang = sb_lang_of_shebang(kept, s->kept.len);
    }
    if (is_skillmd(e) && s->cut) {
        sb_findings_add(findings, SB_FINDING_ERROR, "skill-md-too-large", SB_SKILLMD, 0,
                        "it is over 1 MiB");
        return SB_ESKILL;
    }
    if (is_skillmd(e) && s->b->skillmd == NULL) {
        s->b->skillmd = sb_buf_steal(&s->kept, &s->b->skillmd_len);
        return s->b->skillmd != NULL ? SB_OK : sb_err_errno(err, ENOMEM, "reading SKILL.md");
    }
    return SB_OK;
}

/* Ends the entry: hash, mode on disk, what was kept.  rc: how pouring went. */
static sb_code_t sink_close(sb_sink_t *s, sb_code_t rc, sb_err_t *err)
{
    sb_entry_t *e = s->entry;

    e->file.size = s->size;
    if (rc == SB_OK && EVP_DigestFinal_ex(s->b->md, e->file.sha256, NULL) != 1) {
        rc = sb_err_set(err, SB_ESYSTEM, "SHA-256 failed");
    }
    if (rc == SB_OK) {
        rc = take_kept(s, err);
    }
    if (s->fd >= 0 && rc == SB_OK && fchmod(s->fd, e->file.mode) != 0) {
        rc = sb_err_errno(err, errno, "writing %s", e->file.path);
    }
    if (s->fd >= 0 && close(s->fd) != 0 && rc == SB_OK) {
        rc = sb_err_errno(err, errno, "writing %s", e->file.path);
    }
    sb_buf_free(&s->kept);
    return rc;
}

static sb_code_t read_content(const sb_source_t *source, sb_builder_t *b, sb_entry_t *e, bool write,
                              sb_err_t *err)
{
    sb_sink_t sink;

    sb_code_t rc = sink_open(&sink, b, e, write, err);
    if (rc == SB_OK) {
        rc = source->content(source, e, &sink, err);
    }
    return sink_close(&sink, rc, err);
}

/*
 * All files.  When the names alone have condemned the package nothing is
 * written and only SKILL.md is read, for what is wrong in it.
 */
static sb_code_t read_contents(const sb_source_t *source, sb_builder_t *b, sb_err_t *err)
{
    bool condemned = b->p->findings.errors > 0;

    for (size_t i = 0; i < b->count; i++) {
        sb_entry_t *e = &b->entries[i];
        if (condemned && (e->is_link || !is_skillmd(e))) {
            continue;
        }
        sb_code_t rc = read_content(source, b, e, !condemned && b->out.root >= 0, err);
        if (rc != SB_OK && (rc != SB_ESKILL || b->stop)) {
            return rc;
        }
    }
    return SB_OK;
}

/* Made when all files are there: no file is ever written through one. */
static sb_code_t write_links(sb_builder_t *b, sb_err_t *err)
{
    sb_code_t rc = SB_OK;

    for (size_t i = 0; i < b->count && rc == SB_OK; i++) {
        if (b->entries[i].is_link) {
            rc = sb_fs_symlink(&b->out, b->entries[i].file.path, b->entries[i].file.link, err);
        }
    }
    return rc;
}

/* ---- manifest and digest ---- */

static sb_code_t finish_manifest(sb_builder_t *b, sb_err_t *err)
{
    sb_manifest_file_t *files = calloc(b->count, sizeof(*files));

    if (files == NULL) {
        return sb_err_errno(err, ENOMEM, "reading the package");
    }
    for (size_t i = 0; i < b->count; i++) {
        const sb_package_file_t *f = &b->entries[i].file;
        files[i] = (sb_manifest_file_t){f->path, f->size, f->mode, f->lang};
    }
    sb_code_t rc = sb_manifest_finish(&b->p->manifest, files, b->count, &b->p->findings, err);
    free(files);
    return rc;
}

/* sound: names, contents and links are without error, so the file list can be believed. */
static sb_code_t read_manifest(sb_builder_t *b, bool sound, sb_err_t *err)
{
    if (b->skillmd == NULL) {
        return SB_OK; /* missing or unreadable: a finding says so */
    }
    sb_code_t rc = sb_manifest_parse(b->skillmd, b->skillmd_len, &b->limits.manifest,
                                     &b->p->manifest, &b->p->findings, err);
    if (rc != SB_OK && rc != SB_ESKILL) {
        return rc;
    }
    rc = sound ? finish_manifest(b, err) : SB_OK;
    return rc == SB_ESKILL ? SB_OK : rc;
}

static sb_code_t make_digest(sb_builder_t *b, sb_err_t *err)
{
    unsigned char hash[32];
    bool ok = EVP_DigestInit_ex(b->md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(b->md, DIGEST_MAGIC, strlen(DIGEST_MAGIC)) == 1;

    for (size_t i = 0; i < b->count && ok; i++) {
        const sb_entry_t *e = &b->entries[i];
        const char *mode = e->is_link ? "link " : e->file.mode == 0755 ? "0755 " : "0644 ";
        ok = EVP_DigestUpdate(b->md, mode, 5) == 1 &&
             EVP_DigestUpdate(b->md, e->file.path, strlen(e->file.path) + 1) == 1 &&
             EVP_DigestUpdate(b->md, e->file.sha256, sizeof(e->file.sha256)) == 1;
    }
    if (!ok || EVP_DigestFinal_ex(b->md, hash, NULL) != 1) {
        return sb_err_set(err, SB_ESYSTEM, "SHA-256 failed");
    }
    for (size_t i = 0; i < sizeof(hash); i++) {
        static const char hex[] = "0123456789abcdef";
        b->p->digest[2 * i] = hex[hash[i] >> 4];
        b->p->digest[2 * i + 1] = hex[hash[i] & 15];
    }
    b->p->digest[64] = '\0';
    return SB_OK;
}

/* ---- the whole ---- */

static sb_code_t build_steps(const sb_source_t *source, sb_builder_t *b, sb_err_t *err)
{
    const sb_findings_t *findings = &b->p->findings;

    sb_code_t rc = source->list(source, b, err);
    if (rc == SB_OK) {
        rc = sb_rules_tree(b, err);
    }
    if (rc == SB_OK) {
        rc = read_contents(source, b, err);
    }
    if (rc != SB_OK) {
        return rc;
    }
    sb_rules_links(b);
    bool sound = findings->errors == 0;
    rc = read_manifest(b, sound, err);
    if (rc == SB_OK && sound && b->out.root >= 0) {
        rc = write_links(b, err);
    }
    if (rc == SB_OK && findings->errors == 0) {
        rc = make_digest(b, err);
    }
    return rc;
}

/* What was found so far belongs to the package, whatever the verdict. */
static sb_code_t hand_over(sb_builder_t *b, sb_err_t *err)
{
    sb_package_t *p = b->p;

    if (b->count == 0) {
        return SB_OK;
    }
    p->files = calloc(b->count, sizeof(*p->files));
    if (p->files == NULL) {
        return sb_err_errno(err, ENOMEM, "reading the package");
    }
    for (size_t i = 0; i < b->count; i++) {
        p->files[i] = b->entries[i].file;
    }
    p->nfiles = b->count;
    b->count = 0;
    return SB_OK;
}

static void builder_free(sb_builder_t *b)
{
    for (size_t i = 0; i < b->count; i++) {
        free(b->entries[i].file.path);
        free(b->entries[i].file.link);
    }
    free(b->entries);
    free(b->skillmd);
    sb_cursor_close(&b->out);
    EVP_MD_CTX_free(b->md);
}

sb_code_t sb_build(const sb_source_t *source, const sb_package_limits_t *limits, int64_t packed,
                   int out_dirfd, sb_package_t *p, sb_err_t *err)
{
    sb_builder_t b = {.p = p, .packed = packed};

    memset(p, 0, sizeof(*p));
    b.limits = limits != NULL ? *limits : (sb_package_limits_t){0};
    if (b.limits.unpacked_max <= 0) {
        b.limits.unpacked_max = SB_PACKAGE_UNPACKED_MAX;
    }
    if (b.limits.entries_max <= 0) {
        b.limits.entries_max = SB_PACKAGE_ENTRIES_MAX;
    }
    sb_cursor_init(&b.out, out_dirfd);
    b.md = EVP_MD_CTX_new();
    sb_code_t rc = b.md != NULL ? build_steps(source, &b, err)
                                : sb_err_errno(err, ENOMEM, "reading the package");
    sb_code_t handed = hand_over(&b, err);
    builder_free(&b);
    rc = rc == SB_OK ? handed : rc;
    return rc == SB_OK || rc == SB_ESKILL ? sb_findings_verdict(&p->findings, err) : rc;
}

/* ---- JSON ---- */

static json_t *files_to_json(const sb_package_t *p)
{
    json_t *list = json_array();
    int bad = list == NULL;

    for (size_t i = 0; i < p->nfiles && !bad; i++) {
        bad = json_array_append_new(list, json_pack("{s:s, s:I}", "path", p->files[i].path,
                                                    "size_bytes", (json_int_t)p->files[i].size));
    }
    if (bad) {
        json_decref(list);
    }
    return bad ? NULL : list;
}

static json_t *scripts_to_json(const sb_package_t *p)
{
    json_t *list = json_array();
    int bad = list == NULL;

    for (size_t i = 0; i < p->nfiles && !bad; i++) {
        if (p->files[i].lang != NULL) {
            bad = json_array_append_new(
                list, json_pack("{s:s, s:s}", "path", p->files[i].path, "lang", p->files[i].lang));
        }
    }
    if (bad) {
        json_decref(list);
    }
    return bad ? NULL : list;
}

json_t *sb_package_to_json(const sb_package_t *p)
{
    /* json_pack gives back every reference it was handed when one of them is NULL */
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:I, s:o}", "digest", p->digest, "manifest",
                          sb_manifest_to_json(&p->manifest), "scripts", scripts_to_json(p), "files",
                          files_to_json(p), "size_bytes", (json_int_t)p->total, "findings",
                          sb_findings_to_json(&p->findings));

    if (o != NULL && p->security.count > 0 &&
        json_object_set_new(o, "security", sb_findings_to_json(&p->security)) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}
