/*
 * zip_check.c - reads and cross-checks a zip's end record, central directory and
 * local headers (APPNOTE.TXT 4.3, 4.4, 4.5).
 *
 * Every number comes from an attacker.  Rules: arithmetic in 64 bits on values
 * that were 32 bits or were compared with the length before; nothing is read
 * without a bounds check in the same function; every loop ends with the input.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "buf.h"
#include "names.h"
#include "zip_check.h"

enum {
    SIG_LOCAL = 0x04034b50,
    SIG_CENTRAL = 0x02014b50,
    SIG_END = 0x06054b50,
    SIG_END64 = 0x06064b50,
    SIG_LOCATOR64 = 0x07064b50,
    SIG_DESCRIPTOR = 0x08074b50,
};
enum { LOCAL_LEN = 30, CENTRAL_LEN = 46, END_LEN = 22, END64_LEN = 56, LOCATOR64_LEN = 20 };
enum {
    FLAG_ENCRYPTED = 0x0001,
    FLAG_DESCRIPTOR = 0x0008,
    FLAG_STRONG = 0x0040,
    FLAG_UTF8 = 0x0800,
    FLAG_MASKED = 0x2000
};
enum {
    EXTRA_ZIP64 = 0x0001,
    EXTRA_PKWARE_UNIX = 0x000d,
    EXTRA_UNICODE_PATH =
        0x7075,              /* Info-ZIP's: version, CRC of the header's name, the name in UTF-8 */
    EXTRA_ASI_UNIX = 0x756e, /* a mode, and a symlink's target */
};
enum {
    HOST_FAT = 0,
    HOST_UNIX = 3,
    HOST_NTFS = 10,
    HOST_NTFS_TOO = 11,
    HOST_VFAT = 14,
    HOST_DARWIN = 19
};
enum { DOS_DIRECTORY = 0x10 };
enum { INTERNAL_ENCODED = 0x0004 }; /* to unzip: the attributes are no plain ones */
enum { VERSION_NEEDED = 45 };       /* 4.5 has zip64; what is newer is not for us */

#define COMMENT_MAX 65535
#define MAX16       0xffffu
#define MAX32       0xffffffffu

typedef struct {
    const unsigned char *zip;
    size_t len;
    uint64_t dir; /* central directory: offset, bytes, records */
    uint64_t dir_size;
    uint64_t dir_count;
    sb_findings_t *findings;
} reader_t;

/* Sizes and offset as a pair of header and zip64 extra field says them. */
typedef struct {
    uint64_t size, packed, offset;
} extent_t;

/* What an extra field says that must not be said. */
typedef struct {
    bool hard_link;
    bool other_name; /* than the header */
    bool other_type; /* than the attributes, possibly */
} remarks_t;

/* Where an entry lies, for the overlap check. */
typedef struct {
    uint64_t start, end;
    sb_zip_entry_t *entry;
} range_t;

static uint16_t u16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const unsigned char *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const unsigned char *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* The container is broken: nothing behind this can be believed. */
static sb_code_t malformed(const reader_t *r, const char *message)
{
    sb_findings_add(r->findings, SB_FINDING_ERROR, "zip-malformed", "", 0, "%s", message);
    return SB_ESKILL;
}

/* One entry is at fault; the others are still looked at. */
static void entry_error(const reader_t *r, sb_zip_entry_t *e, const char *code, const char *message)
{
    char path[SB_PATH_MAX + 1];
    size_t n = e->name_len < SB_PATH_MAX ? e->name_len : SB_PATH_MAX;

    memcpy(path, e->name, n);
    path[n] = '\0';
    sb_findings_add(r->findings, SB_FINDING_ERROR, code, path, 0, "%s", message);
    e->bad = true;
}

/*
 * The end record, whose comment must reach exactly to the end of the file.  One that begins
 * behind it, in the comment, is refused, whatever it says: unzip and others take the last.
 */
static sb_code_t find_end(const reader_t *r, uint64_t *at)
{
    bool found = false;
    size_t last = r->len >= END_LEN ? r->len - END_LEN : 0;
    size_t first = last > COMMENT_MAX ? last - COMMENT_MAX : 0;

    for (size_t p = first; r->len >= END_LEN && p <= r->len - 4; p++) {
        if (u32(r->zip + p) != SIG_END) {
            continue;
        }
        if (found) {
            return malformed(r, "the zip file has two end records");
        }
        if (p <= last && u16(r->zip + p + 20) == last - p) {
            *at = p;
            found = true;
        }
    }
    return found ? SB_OK : malformed(r, "this is not a zip file, or it is cut off");
}

/* Is a 16 or 32 bit field what the 64 bit one says, or the mark that sends the reader there? */
static bool agrees(uint64_t narrow, uint64_t mark, uint64_t wide)
{
    return narrow == mark || narrow == wide;
}

/*
 * The zip64 end record in front of the plain one at *end, when there is one:
 * then the directory's place is taken from it and *end is where it begins.
 */
static sb_code_t read_end64(reader_t *r, uint64_t *end)
{
    const unsigned char *plain = r->zip + *end;

    if (*end < LOCATOR64_LEN || u32(plain - LOCATOR64_LEN) != SIG_LOCATOR64) {
        return SB_OK;
    }
    uint64_t locator = *end - LOCATOR64_LEN;
    uint64_t at = u64(r->zip + locator + 8);
    if (locator < END64_LEN || at > locator - END64_LEN || u32(r->zip + at) != SIG_END64) {
        return malformed(r, "the zip64 end record is not where it should be");
    }
    const unsigned char *p = r->zip + at;
    if (u64(p + 4) != locator - at - 12 || u32(p + 16) != 0 || u32(p + 20) != 0 ||
        u32(r->zip + locator + 4) != 0 || u64(p + 24) != u64(p + 32)) {
        return malformed(r, "the zip64 end record is malformed");
    }
    if (!agrees(u16(plain + 10), MAX16, u64(p + 32)) ||
        !agrees(u32(plain + 12), MAX32, u64(p + 40)) ||
        !agrees(u32(plain + 16), MAX32, u64(p + 48))) {
        return malformed(r, "the zip64 end record contradicts the plain one");
    }
    r->dir_count = u64(p + 32);
    r->dir_size = u64(p + 40);
    r->dir = u64(p + 48);
    *end = at;
    return SB_OK;
}

static bool zero_or_mark(unsigned disk)
{
    return disk == 0 || disk == MAX16;
}

static sb_code_t find_directory(reader_t *r)
{
    uint64_t end = 0;

    sb_code_t rc = find_end(r, &end);
    if (rc != SB_OK) {
        return rc;
    }
    const unsigned char *p = r->zip + end;
    if (!zero_or_mark(u16(p + 4)) || !zero_or_mark(u16(p + 6)) || u16(p + 8) != u16(p + 10)) {
        return malformed(r, "zip files of several parts can't be read");
    }
    r->dir_count = u16(p + 10);
    r->dir_size = u32(p + 12);
    r->dir = u32(p + 16);
    rc = read_end64(r, &end);
    if (rc != SB_OK) {
        return rc;
    }
    if (r->dir > end || r->dir_size != end - r->dir) {
        return malformed(r, "the zip file's directory is not where its end record says");
    }
    return SB_OK;
}

/* One part of an extra field. */
static void read_part(const sb_zip_entry_t *e, unsigned id, const unsigned char *p, size_t len,
                      remarks_t *remarks)
{
    /* times, ids (12 bytes), then the name a link or the numbers a device points to */
    remarks->hard_link |= id == EXTRA_PKWARE_UNIX && len > 12;
    remarks->other_type |= id == EXTRA_ASI_UNIX;
    if (id == EXTRA_UNICODE_PATH) {
        remarks->other_name |= len != 5 + e->name_len || memcmp(p + 5, e->name, e->name_len) != 0;
    }
}

/*
 * Walks an extra field.  Takes zip64's values for those fields of *x that carry
 * the mark; false when it is malformed or lacks one of them.
 */
static bool read_extra(const sb_zip_entry_t *e, const unsigned char *p, size_t len, extent_t *x,
                       bool with_offset, remarks_t *remarks)
{
    uint64_t *wanted[3];
    size_t n = 0, done = 0;

    if (x->size == MAX32) {
        wanted[n++] = &x->size;
    }
    if (x->packed == MAX32) {
        wanted[n++] = &x->packed;
    }
    if (with_offset && x->offset == MAX32) {
        wanted[n++] = &x->offset;
    }
    while (len >= 4) {
        unsigned id = u16(p);
        size_t field = u16(p + 2);
        if (field > len - 4) {
            return false;
        }
        if (id == EXTRA_ZIP64 && done == 0) {
            for (size_t at = 0; done < n && field - at >= 8; at += 8) {
                *wanted[done++] = u64(p + 4 + at);
            }
        }
        read_part(e, id, p + 4, field, remarks);
        p += 4 + field;
        len -= 4 + field;
    }
    return done == n; /* up to three bytes of padding are seen in the wild */
}

/* Finds fault with what has not been said already. */
static void judge_remarks(const reader_t *r, sb_zip_entry_t *e, const remarks_t *remarks,
                          const remarks_t *said)
{
    if (remarks->hard_link && !said->hard_link) {
        entry_error(r, e, "hard-link", "hard links are not allowed");
    }
    if (remarks->other_name && !said->other_name) {
        entry_error(r, e, "zip-mismatch", "its extra field gives it another name");
    }
    if (remarks->other_type && !said->other_type) {
        entry_error(r, e, "zip-mismatch", "its extra field has a file type of its own");
    }
}

/*
 * The bytes of the descriptor at that place, with or without a signature, with sizes of 32
 * or 64 bits; 0 when there is none that says what the directory says.
 */
static uint64_t descriptor_len(const reader_t *r, const sb_zip_entry_t *e, const extent_t *x,
                               uint64_t at)
{
    for (unsigned form = 0; form < 4; form++) {
        uint64_t sig = form & 1 ? 0 : 4, wide = form & 2 ? 8 : 4;
        uint64_t len = sig + 4 + 2 * wide;
        const unsigned char *p = r->zip + at;

        if (r->dir - at < len || (sig != 0 && u32(p) != SIG_DESCRIPTOR)) {
            continue;
        }
        p += sig;
        if (u32(p) == e->crc && (wide == 8 ? u64(p + 4) : u32(p + 4)) == x->packed &&
            (wide == 8 ? u64(p + 12) : u32(p + 8)) == x->size) {
            return len;
        }
    }
    return 0;
}

static bool is_ascii(const sb_zip_entry_t *e)
{
    for (size_t i = 0; i < e->name_len; i++) {
        if ((e->name[i] & 0x80) != 0) {
            return false;
        }
    }
    return true;
}

/* Does the local header agree with the central record?  Fills *range and e->data. */
static void check_local(const reader_t *r, sb_zip_entry_t *e, const unsigned char *central,
                        const extent_t *x, const remarks_t *said, range_t *range)
{
    if (x->offset > r->dir || r->dir - x->offset < LOCAL_LEN ||
        u32(r->zip + x->offset) != SIG_LOCAL) {
        entry_error(r, e, "zip-malformed", "its data is not where the directory says");
        return;
    }
    const unsigned char *p = r->zip + x->offset;
    size_t name_len = u16(p + 26), extra_len = u16(p + 28);
    uint64_t room = r->dir - x->offset - LOCAL_LEN;
    if (name_len + extra_len > room || x->packed > room - name_len - extra_len) {
        entry_error(r, e, "zip-malformed", "its data lies outside of the file");
        return;
    }
    extent_t local = {.size = u32(p + 22), .packed = u32(p + 18)};
    remarks_t remarks = {0};
    unsigned flags = FLAG_ENCRYPTED | FLAG_DESCRIPTOR | (is_ascii(e) ? 0 : FLAG_UTF8);
    bool later = (u16(p + 6) & FLAG_DESCRIPTOR) != 0; /* sizes and CRC follow the data */
    bool same = u16(p + 8) == e->method && name_len == e->name_len &&
                memcmp(p + LOCAL_LEN, e->name, name_len) == 0 &&
                ((u16(p + 6) ^ u16(central + 8)) & flags) == 0 &&
                read_extra(e, p + LOCAL_LEN + name_len, extra_len, &local, false, &remarks);
    judge_remarks(r, e, &remarks, said);
    if (later) {
        same = same && (local.size == 0 || local.size == x->size) &&
               (local.packed == 0 || local.packed == x->packed) &&
               (u32(p + 14) == 0 || u32(p + 14) == e->crc);
    } else {
        same = same && local.size == x->size && local.packed == x->packed && u32(p + 14) == e->crc;
    }
    if (!same) {
        entry_error(r, e, "zip-mismatch",
                    "its header and the zip's directory contradict each other");
        return;
    }
    uint64_t end = x->offset + LOCAL_LEN + name_len + extra_len + x->packed;
    uint64_t descriptor = later ? descriptor_len(r, e, x, end) : 0;
    if (later && descriptor == 0) {
        entry_error(r, e, "zip-mismatch",
                    "what follows its data and the zip's directory contradict each other");
        return;
    }
    e->data = p + LOCAL_LEN + name_len + extra_len;
    *range = (range_t){x->offset, end + descriptor, e};
}

/* Systems whose zips all readers understand alike, but for what read_type() refuses. */
static bool known_host(unsigned host)
{
    return host == HOST_FAT || host == HOST_UNIX || host == HOST_NTFS || host == HOST_NTFS_TOO ||
           host == HOST_VFAT || host == HOST_DARWIN;
}

/*
 * What kind of file it is, by the Unix mode when the maker wrote one, else by the name.
 * Returns what is wrong: what unzip would make another kind of file of, or NULL.
 */
static const char *read_type(sb_zip_entry_t *e, const unsigned char *central)
{
    uint32_t attributes = u32(central + 38);
    unsigned host = central[5], given = attributes >> 16;
    unsigned mode = host == HOST_UNIX ? given : 0;
    bool slash = e->name_len > 0 && e->name[e->name_len - 1] == '/';
    bool folder = S_ISDIR(mode) || ((mode & S_IFMT) == 0 && (attributes & DOS_DIRECTORY) != 0);

    e->mode = (mode & 0111) != 0 ? 0755 : 0644;
    e->type = slash ? SB_ZIP_DIR : S_ISLNK(mode) ? SB_ZIP_LINK : SB_ZIP_FILE;
    if (!known_host(host) || (host == HOST_DARWIN && S_ISLNK(given)) ||
        (S_ISLNK(mode) && (u16(central + 36) & INTERNAL_ENCODED) != 0)) {
        return "readers differ about its file type, because of the system it was made on";
    }
    if (folder && !slash) {
        return "it is a folder by its attributes, and a file by its name";
    }
    if ((mode & S_IFMT) != 0 && !(slash ? S_ISDIR(mode) : S_ISREG(mode) || S_ISLNK(mode))) {
        e->type = SB_ZIP_SPECIAL;
    }
    return NULL;
}

/* The rules about one central record at p, whose variable parts have been bounds-checked. */
static void read_entry(const reader_t *r, const unsigned char *p, sb_zip_entry_t *e, range_t *range)
{
    extent_t x = {.size = u32(p + 24), .packed = u32(p + 20), .offset = u32(p + 42)};
    unsigned flags = u16(p + 8);
    remarks_t remarks = {0};
    const char *fault;

    e->name = (const char *)p + CENTRAL_LEN;
    e->name_len = u16(p + 28);
    e->method = u16(p + 10);
    e->crc = u32(p + 16);
    fault = read_type(e, p);
    if (fault != NULL) {
        entry_error(r, e, "zip-mismatch", fault);
    }
    if (!is_ascii(e) && (flags & FLAG_UTF8) == 0 && p[5] != HOST_UNIX &&
        sb_utf8_valid(e->name, e->name_len)) { /* what is not will be called so later */
        entry_error(r, e, "path-not-utf8", "the zip does not say that the name is UTF-8");
    }
    if (!read_extra(e, p + CENTRAL_LEN + e->name_len, u16(p + 30), &x, true, &remarks)) {
        entry_error(r, e, "zip-malformed", "its extra field is malformed");
        return;
    }
    judge_remarks(r, e, &remarks, &(remarks_t){0});
    if ((flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)) != 0) {
        entry_error(r, e, "zip-encrypted", "encrypted entries can't be read");
    } else if (e->method != SB_ZIP_STORED && e->method != SB_ZIP_DEFLATED) {
        entry_error(r, e, "zip-method", "only stored and deflated entries can be read");
    } else if (p[6] > VERSION_NEEDED) {
        entry_error(r, e, "zip-method", "it asks for a newer reader");
    } else if (e->method == SB_ZIP_STORED && x.size != x.packed) {
        entry_error(r, e, "zip-mismatch", "it is stored, but its two sizes differ");
    }
    if (x.size >= MAX32 || x.packed >= MAX32) {
        entry_error(r, e, "zip-malformed", "its sizes are impossible");
        return;
    }
    e->size = (uint32_t)x.size;
    e->packed = (uint32_t)x.packed;
    if (u16(p + 34) != 0) {
        entry_error(r, e, "zip-malformed", "it lies in another part of the zip");
        return;
    }
    check_local(r, e, p, &x, &remarks, range);
}

static int by_start(const void *a, const void *b)
{
    const range_t *x = a, *y = b;

    return x->start != y->start ? (x->start < y->start ? -1 : 1)
                                : (x->end > y->end) - (x->end < y->end);
}

/* Entries that share bytes are how a small file unpacks to a huge one. */
static void check_overlaps(const reader_t *r, range_t *ranges, size_t n)
{
    uint64_t end = 0;

    qsort(ranges, n, sizeof(*ranges), by_start);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].start < end) {
            entry_error(r, ranges[i].entry, "zip-overlap", "its data overlaps another entry's");
        }
        end = ranges[i].end > end ? ranges[i].end : end;
    }
}

static sb_code_t read_directory(const reader_t *r, sb_zip_t *z, range_t *ranges)
{
    uint64_t at = r->dir, end = r->dir + r->dir_size;
    size_t nranges = 0;

    for (uint64_t i = 0; i < r->dir_count; i++) {
        const unsigned char *p = r->zip + at;
        if (end - at < CENTRAL_LEN || u32(p) != SIG_CENTRAL) {
            return malformed(r, "the zip file's directory has fewer entries than it says");
        }
        uint64_t record = (uint64_t)CENTRAL_LEN + u16(p + 28) + u16(p + 30) + u16(p + 32);
        if (end - at < record) {
            return malformed(r, "the zip file's directory is cut off");
        }
        range_t range = {0, 0, NULL};
        read_entry(r, p, &z->entries[z->count++], &range);
        if (range.entry != NULL) {
            ranges[nranges++] = range;
        }
        at += record;
    }
    if (at != end) {
        return malformed(r, "the zip file's directory has more entries than it says");
    }
    check_overlaps(r, ranges, nranges);
    return SB_OK;
}

sb_code_t sb_zip_read(const void *zip, size_t len, size_t max_entries, sb_zip_t *z,
                      sb_findings_t *findings, sb_err_t *err)
{
    reader_t r = {.zip = zip, .len = len, .findings = findings};

    memset(z, 0, sizeof(*z));
    sb_code_t rc = find_directory(&r);
    if (rc != SB_OK) {
        return rc;
    }
    if (r.dir_count > max_entries) {
        sb_findings_add(findings, SB_FINDING_ERROR, "too-many-entries", "", 0,
                        "the zip file has %llu entries", (unsigned long long)r.dir_count);
        return SB_ESKILL;
    }
    if (r.dir_count == 0) {
        return malformed(&r, "the zip file is empty");
    }
    range_t *ranges = calloc(r.dir_count, sizeof(*ranges));
    z->entries = calloc(r.dir_count, sizeof(*z->entries));
    if (ranges == NULL || z->entries == NULL) {
        rc = sb_err_errno(err, ENOMEM, "reading the zip file");
    } else {
        rc = read_directory(&r, z, ranges);
    }
    free(ranges);
    return rc;
}

void sb_zip_free(sb_zip_t *z)
{
    free(z->entries);
    memset(z, 0, sizeof(*z));
}
