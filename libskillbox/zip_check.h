/*
 * zip_check.h - the container part of a zip: where each entry's bytes lie and
 * what its central directory record says, checked before anything is inflated.
 *
 * This is the only place where headers written by an attacker are read; the
 * inflating code gets a header of ours (package_zip.c), so no second parser
 * can see the archive differently.  The entries' names are not judged here.
 * Reads memory only; bounded by the archive's length and max_entries.
 */
#ifndef SB_ZIP_CHECK_H
#define SB_ZIP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "manifest.h"

typedef enum { SB_ZIP_FILE, SB_ZIP_DIR, SB_ZIP_LINK, SB_ZIP_SPECIAL } sb_zip_type_t;

enum { SB_ZIP_STORED = 0, SB_ZIP_DEFLATED = 8 };

typedef struct {
    const char *name; /* as it stands in the zip: any bytes, no NUL behind */
    size_t name_len;
    sb_zip_type_t type;
    unsigned mode;   /* 0644 or 0755 */
    uint16_t method; /* SB_ZIP_STORED or SB_ZIP_DEFLATED unless it is bad */
    uint32_t crc;
    uint32_t packed;           /* bytes of data */
    uint32_t size;             /* bytes it claims to unpack to */
    const unsigned char *data; /* points into the zip */
    bool bad;                  /* an error was found: don't read it */
} sb_zip_entry_t;

typedef struct {
    sb_zip_entry_t *entries; /* malloc'ed, in the central directory's order */
    size_t count;
} sb_zip_t;

/*
 * Refuses (a finding each, SB_ESKILL in the end): no or several end records,
 * several disks, a directory that is not exactly where the end record says,
 * zip64 fields that contradict the plain ones, entries whose local header or data
 * descriptor says something else, that lie outside or overlap, are encrypted, or packed by
 * another method than deflate; and what other readers would take for another name or
 * another kind of file.  *z is to be freed in every case.
 */
sb_code_t sb_zip_read(const void *zip, size_t len, size_t max_entries, sb_zip_t *z,
                      sb_findings_t *findings, sb_err_t *err);
void sb_zip_free(sb_zip_t *z);

#endif
