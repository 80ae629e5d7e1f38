/*
 * tarball.c - see tarball.h.  Runs in the confined collect child (archive_warm_up
 * in the nursery); writes to the descriptor it was given and opens nothing.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "fault.h"
#include "gzip.h"
#include "tarball.h"

#define COPY_BYTES  (128 * 1024)
#define BLOCK_BYTES (64 * 1024) /* packed or stored as one */

static bool tarball_fail(tarball_t *t, const char *what)
{
    const char *why = t->tar ? archive_error_string(t->tar) : NULL;
    int err = why != NULL ? archive_errno(t->tar) : 0;

    if (err > 0) { /* libarchive says "Write error" for whatever the disk said */
        snprintf(t->error, sizeof(t->error), "%s: %s: %s", what, why, strerror(err));
    } else {
        snprintf(t->error, sizeof(t->error), "%s: %s", what, why ? why : strerror(errno));
    }
    return false;
}

void tarball_init(tarball_t *t, int fd)
{
    memset(t, 0, sizeof(*t));
    t->fd = fd;
}

/* Everything but where the bytes go. */
static struct archive *new_tar(void)
{
    struct archive *tar = archive_write_new();

    if (tar == NULL) {
        return NULL;
    }
    if (archive_write_set_format_pax_restricted(tar) == ARCHIVE_OK &&
        archive_write_set_bytes_per_block(tar, BLOCK_BYTES) == ARCHIVE_OK &&
        archive_write_set_bytes_in_last_block(tar, 1) == ARCHIVE_OK) {
        return tar;
    }
    archive_write_free(tar);
    return NULL;
}

static la_ssize_t write_block(struct archive *tar, void *ctx, const void *block, size_t len)
{
    const tarball_t *t = ctx;

    if (gzip_write(t->gzip, block, len))
        return (la_ssize_t)len;
    archive_set_error(tar, errno, "Write error");
    return -1;
}

static int write_end(struct archive *tar, void *ctx)
{
    const tarball_t *t = ctx;

    if (gzip_end(t->gzip))
        return ARCHIVE_OK;
    archive_set_error(tar, errno, "Write error");
    return ARCHIVE_FATAL;
}

static bool tarball_start(tarball_t *t)
{
    t->buffer = malloc(COPY_BYTES);
    t->gzip = gzip_open(t->fd);
    t->tar = new_tar();
    if (t->buffer == NULL || t->gzip == NULL || t->tar == NULL) {
        return tarball_fail(t, "starting the archive");
    }
    if (archive_write_open(t->tar, t, NULL, write_block, write_end) != ARCHIVE_OK) {
        return tarball_fail(t, "opening the archive");
    }
    return true;
}

/* A script may set any time; readers of archives expect one between 1970 and now. */
static time_t sane_time(time_t when)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (when < 0) {
        return 0;
    }
    return when > now.tv_sec ? now.tv_sec : when;
}

static bool write_header(struct archive *tar, const char *name, const struct stat *st)
{
    struct archive_entry *entry = archive_entry_new();
    int rc;

    if (entry == NULL) {
        return false;
    }
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, st->st_mode & 0100 ? 0755 : 0644);
    archive_entry_set_size(entry, st->st_size);
    archive_entry_set_mtime(entry, sane_time(st->st_mtime), 0);
    archive_entry_set_uid(entry, 0);
    archive_entry_set_gid(entry, 0);
    rc = archive_write_header(tar, entry);
    archive_entry_free(entry);
    return rc == ARCHIVE_OK;
}

/* Up to COPY_BYTES, 0 at the end of the file and on a read error alike: the rest is filled up. */
static size_t read_piece(tarball_t *t, int fd, off_t offset, off_t left)
{
    size_t want = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
    ssize_t n;

    do {
        n = pread(fd, t->buffer, want, offset);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? (size_t)n : 0;
}

bool tarball_add(tarball_t *t, const char *name, int fd, const struct stat *st, off_t *short_by)
{
    off_t done = 0;

    *short_by = 0;
    if (t->tar == NULL && !tarball_start(t)) {
        return false;
    }
    if (!write_header(t->tar, name, st)) {
        return tarball_fail(t, "writing a header");
    }
    SB_FAULT_POINT("artifact begun");
    while (done < st->st_size) {
        size_t n = read_piece(t, fd, done, st->st_size - done);

        if (n == 0) {
            *short_by = st->st_size - done;
            break;
        }
        if (archive_write_data(t->tar, t->buffer, n) != (ssize_t)n) {
            return tarball_fail(t, "writing a file");
        }
        SB_FAULT_POINT("piece of an artifact packed");
        done += (off_t)n;
    }
    /* fills up what is missing */
    return archive_write_finish_entry(t->tar) == ARCHIVE_OK || tarball_fail(t, "ending a file");
}

bool tarball_close(tarball_t *t)
{
    bool good = true;

    if (t->tar != NULL) {
        good = archive_write_close(t->tar) == ARCHIVE_OK || tarball_fail(t, "ending the archive");
        if (good && fsync(t->fd) != 0) {
            good = tarball_fail(t, "syncing the archive");
        }
    }
    tarball_discard(t);
    return good;
}

void tarball_discard(tarball_t *t)
{
    if (t->tar != NULL) {
        archive_write_fail(t->tar); /* or freeing it would try to write the rest */
        archive_write_free(t->tar);
        t->tar = NULL;
    }
    gzip_free(t->gzip);
    free(t->buffer);
    t->gzip = NULL;
    t->buffer = NULL;
}

bool tarball_warm_up(void)
{
    const struct stat st = {.st_mode = S_IFREG | 0644, .st_size = 4};
    struct archive *tar = new_tar();
    gzip_t *gzip = gzip_open(-1); /* so little stays in it */
    static char sink[8192];
    size_t used;
    bool good = gzip != NULL && gzip_write(gzip, "warm", 4);

    gzip_free(gzip);
    if (tar == NULL) {
        return false;
    }
    good = good && archive_write_open_memory(tar, sink, sizeof(sink), &used) == ARCHIVE_OK &&
           write_header(tar, "w\xc3\xa4rm", &st) && archive_write_data(tar, "warm", 4) == 4 &&
           archive_write_close(tar) == ARCHIVE_OK;
    archive_write_free(tar);
    return good;
}
