/*
 * layer.c - see layer.h.  Runs in the confined import child: libarchive sees the
 * archive's own headers here, so this is where a hole in it would be.
 */
#include "layer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <archive_entry.h>

#define BLOCK        (64 * 1024)
#define WHITEOUT     ".wh."
#define OPAQUE       ".wh..wh..opq"
#define RESERVED     ".wh..wh."   /* aufs's own bookkeeping */
#define STREAM_SLACK (1ULL << 30) /* of headers, padding and what is no file */

static int reader_failed(rootfs_t *r, struct archive *a, const char *what)
{
    const char *text = a != NULL ? archive_error_string(a) : NULL;

    snprintf(r->why, sizeof(r->why), "%s: %.200s", what, text != NULL ? text : "out of memory");
    return -1;
}

struct archive *layer_open(rootfs_t *r, int fd, bool raw)
{
    struct archive *a = archive_read_new();

    if (a == NULL || lseek(fd, 0, SEEK_SET) != 0 ||
        (raw ? archive_read_support_format_raw(a) : archive_read_support_format_tar(a)) !=
            ARCHIVE_OK ||
        archive_read_support_format_empty(a) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_support_filter_bzip2(a) != ARCHIVE_OK ||
        archive_read_support_filter_xz(a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
        archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK) {
        reader_failed(r, a, "the archive can't be read");
        archive_read_free(a);
        return NULL;
    }
    return a;
}

/* Against archives that unpack for ever: what was decompressed, kept or not. */
static int check_stream(rootfs_t *r, struct archive *a)
{
    if ((uint64_t)archive_filter_bytes(a, 0) <= r->bytes_max + STREAM_SLACK)
        return 0;
    snprintf(r->why, sizeof(r->why), "the archive unpacks to far more than the %llu bytes allowed",
             (unsigned long long)r->bytes_max);
    return -1;
}

int layer_next(rootfs_t *r, struct archive *a, struct archive_entry **entry, const char **name)
{
    int rc = archive_read_next_header(a, entry);

    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
        return reader_failed(r, a, "the archive is damaged");
    *name = archive_entry_pathname(*entry);
    if (*name == NULL)
        return reader_failed(r, a, "an entry's name can't be read");
    /* skipping reads it all the same */
    if (archive_entry_size_is_set(*entry) &&
        (archive_entry_size(*entry) < 0 || (uint64_t)archive_entry_size(*entry) > r->bytes_max))
        return rootfs_fail(r, *name, "is larger than the %llu bytes that are allowed",
                           (unsigned long long)r->bytes_max);
    return check_stream(r, a) == 0 ? 1 : -1;
}

static int pour(rootfs_t *r, struct archive *a, const char *name, int fd, int64_t size)
{
    const void *data;
    size_t len;
    la_int64_t offset;
    int rc;

    while ((rc = archive_read_data_block(a, &data, &len, &offset)) == ARCHIVE_OK) {
        if (rootfs_file_write(r, name, fd, data, len, offset, size) != 0)
            return -1;
    }
    return rc == ARCHIVE_EOF ? 0 : reader_failed(r, a, "the archive is damaged");
}

static int add_file(rootfs_t *r, struct archive *a, struct archive_entry *e, const char *name)
{
    int64_t size = archive_entry_size(e);
    int fd;

    if (rootfs_file_begin(r, name, size, &fd) != 0)
        return -1;
    int rc = pour(r, a, name, fd, size);
    if (rc == 0)
        rc = rootfs_file_end(r, name, fd, archive_entry_perm(e), size, archive_entry_mtime(e));
    close(fd);
    return rc;
}

static int add_entry(rootfs_t *r, struct archive *a, struct archive_entry *e, const char *name)
{
    const char *target = archive_entry_hardlink(e);

    if (target != NULL)
        return rootfs_hardlink(r, name, target);
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return add_file(r, a, e, name);
    case AE_IFDIR:
        return rootfs_folder(r, name, archive_entry_perm(e));
    case AE_IFLNK:
        target = archive_entry_symlink(e);
        return rootfs_symlink(r, name, target != NULL ? target : "", archive_entry_mtime(e));
    default:
        return rootfs_leave_out(r, name);
    }
}

/* What a whiteout's name means: the same with the mark taken out of its last part. */
static int take_away(rootfs_t *r, const char *name, const char *base)
{
    char target[ROOTFS_PATH_MAX + 1];
    const char *hidden = base + strlen(WHITEOUT);
    size_t folder = (size_t)(base - name);

    if (strlen(name) > ROOTFS_PATH_MAX)
        return rootfs_fail(r, name, "has too long a name");
    memcpy(target, name, folder);
    target[folder] = '\0';
    if (strcmp(base, OPAQUE) == 0)
        return rootfs_empty(r, target);
    if (strncmp(base, RESERVED, strlen(RESERVED)) == 0)
        return 0;
    if (hidden[0] == '\0' || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return rootfs_fail(r, name, "is a whiteout of nothing");
    strcpy(target + folder, hidden);
    return rootfs_remove(r, target);
}

static int one_entry(rootfs_t *r, struct archive *a, struct archive_entry *e, const char *name,
                     enum layer_pass pass)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash != NULL ? slash + 1 : name;
    bool whiteout = pass != LAYER_ALONE && strncmp(base, WHITEOUT, strlen(WHITEOUT)) == 0;

    if (whiteout)
        return pass == LAYER_WHITEOUTS ? take_away(r, name, base) : 0;
    return pass == LAYER_WHITEOUTS ? 0 : add_entry(r, a, e, name);
}

int layer_apply(rootfs_t *r, int fd, enum layer_pass pass)
{
    struct archive *a = layer_open(r, fd, false);
    struct archive_entry *e;
    const char *name;
    int rc;

    if (a == NULL)
        return -1;
    while ((rc = layer_next(r, a, &e, &name)) > 0) {
        if (one_entry(r, a, e, name, pass) != 0) {
            rc = -1;
            break;
        }
    }
    archive_read_free(a);
    return rc;
}
