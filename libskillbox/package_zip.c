/*
 * package_zip.c - a zip in memory as a package's source.
 *
 * zip_check.c is the only reader of the archive's own headers.  libarchive
 * inflates and checks CRC and sizes: each entry is given to it as a little zip
 * with a header made here, so a second parser, with its own idea of where
 * things lie, what they are called and which locale they are in, never sees
 * the attacker's.  Touches memory only (what is written goes through the sink).
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "package_build.h"

#define MEMBER_HEADER_LEN 31
#define CHUNK             65536

typedef struct {
    sb_source_t source;
    const void *zip;
    size_t len;
    sb_zip_t *read;
} zip_source_t;

/* One entry as libarchive gets it: a local header of ours, then the packed bytes. */
typedef struct {
    unsigned char header[MEMBER_HEADER_LEN];
    const sb_zip_entry_t *entry;
    int step;
} member_t;

static void put32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    p[2] = (unsigned char)(v >> 16);
    p[3] = (unsigned char)(v >> 24);
}

static void member_init(member_t *m, const sb_zip_entry_t *entry)
{
    memset(m, 0, sizeof(*m));
    m->entry = entry;
    put32(m->header, 0x04034b50);
    m->header[4] = 20; /* version needed: 2.0 */
    m->header[8] = (unsigned char)entry->method;
    put32(m->header + 14, entry->crc);
    put32(m->header + 18, entry->packed);
    put32(m->header + 22, entry->size);
    m->header[26] = 1; /* length of the name */
    m->header[30] = 'f';
}

static la_ssize_t member_read(struct archive *a, void *context, const void **buffer)
{
    member_t *m = context;

    switch (m->step++) {
    case 0:
        *buffer = m->header;
        return MEMBER_HEADER_LEN;
    case 1:
        *buffer = m->entry->data;
        return m->entry->packed;
    default:
        return 0;
    }
}

static sb_code_t corrupt(const sb_entry_t *e, sb_sink_t *sink)
{
    sb_findings_add(&sink->b->p->findings, SB_FINDING_ERROR, "zip-corrupt", e->file.path, 0,
                    "its data is damaged: it does not unpack to what the zip says");
    return SB_ESKILL;
}

/* libarchive's warnings are wrong CRCs and sizes: no different from failures here. */
static sb_code_t inflate_into(struct archive *a, const sb_entry_t *e, sb_sink_t *sink,
                              sb_err_t *err)
{
    struct archive_entry *ignored;
    char chunk[CHUNK];

    if (archive_read_next_header(a, &ignored) != ARCHIVE_OK) {
        return corrupt(e, sink);
    }
    for (;;) {
        la_ssize_t n = archive_read_data(a, chunk, sizeof(chunk));
        if (n < 0) {
            return corrupt(e, sink);
        }
        if (n == 0) {
            return sink->size == (int64_t)e->zip->size ? SB_OK : corrupt(e, sink);
        }
        sb_code_t rc = sb_sink_write(sink, chunk, (size_t)n, err);
        if (rc != SB_OK) {
            return rc;
        }
    }
}

static sb_code_t zip_content(const sb_source_t *source, const sb_entry_t *e, sb_sink_t *sink,
                             sb_err_t *err)
{
    struct archive *a;
    member_t member;
    sb_code_t rc;

    if (e->zip->bad) {
        return SB_ESKILL; /* the finding is there already */
    }
    member_init(&member, e->zip);
    a = archive_read_new();
    if (a == NULL) {
        return sb_err_errno(err, ENOMEM, "reading the zip file");
    }
    if (archive_read_support_format_zip_streamable(a) != ARCHIVE_OK ||
        archive_read_open(a, &member, NULL, member_read, NULL) != ARCHIVE_OK) {
        rc = sb_err_set(err, SB_ESYSTEM, "libarchive can't read zip files: %s",
                        archive_error_string(a));
    } else {
        rc = inflate_into(a, e, sink, err);
    }
    archive_read_free(a);
    return rc;
}

static void add_fault(sb_builder_t *b, const char *path, const char *code, const char *message)
{
    sb_findings_add(&b->p->findings, SB_FINDING_ERROR, code, path, 0, "%s", message);
}

static sb_code_t add_entry(sb_builder_t *b, const sb_zip_entry_t *z, sb_err_t *err)
{
    char path[SB_PATH_MAX + 1];

    if (sb_rules_name(b, z->name, z->name_len, path) != SB_NAME_KEEP) {
        return SB_OK;
    }
    switch (z->type) {
    case SB_ZIP_FILE:
    case SB_ZIP_LINK:
        return sb_builder_add(b, path, z->mode, z->type == SB_ZIP_LINK, z, err);
    case SB_ZIP_DIR:
        if (z->size != 0) {
            add_fault(b, path, "zip-mismatch", "it is a folder, but it has content");
        }
        return SB_OK; /* folders exist by the files in them */
    case SB_ZIP_SPECIAL:
        add_fault(b, path, "special-file", "only files, folders and symlinks are allowed");
        return SB_OK;
    }
    return SB_OK;
}

static sb_code_t zip_list(const sb_source_t *source, sb_builder_t *b, sb_err_t *err)
{
    const zip_source_t *s = (const zip_source_t *)source;
    size_t seen_max = (size_t)b->limits.entries_max * SB_SEEN_FACTOR;

    sb_code_t rc = sb_zip_read(s->zip, s->len, seen_max, s->read, &b->p->findings, err);
    for (size_t i = 0; i < s->read->count && rc == SB_OK; i++) {
        rc = add_entry(b, &s->read->entries[i], err);
    }
    if (rc == SB_OK) {
        sb_rules_strip_top(b);
    }
    return rc;
}

sb_code_t sb_package_unpack(const void *zip, size_t len, int dirfd,
                            const sb_package_limits_t *limits, sb_package_t *p, sb_err_t *err)
{
    sb_zip_t read = {NULL, 0};
    const zip_source_t source = {{zip_list, zip_content}, zip, len, &read};

    sb_code_t rc = sb_build(&source.source, limits, (int64_t)len, dirfd, p, err);
    sb_zip_free(&read);
    return rc;
}
