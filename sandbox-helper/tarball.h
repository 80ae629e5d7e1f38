/*
 * tarball.h - the artifact archive: a gzip'ed tar (pax where plain ustar can't
 * say it) of regular files only.  The same files give the same bytes: owner 0,
 * mode 0644 or 0755, no time of packing.
 */
#ifndef SB_TARBALL_H
#define SB_TARBALL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

typedef struct {
    void *tar; /* struct archive; NULL until the first file */
    struct gzip_s *gzip;
    void *buffer;
    int fd;
    char error[128]; /* why archive_add or archive_close failed */
} tarball_t;

/*
 * Writes and throws away a small archive, so that everything libarchive, zlib and
 * iconv load on first use is loaded: once, in the nursery, while there are still
 * files to load from.  false: out of memory or a broken library.
 */
bool tarball_warm_up(void);

/* fd: where the archive goes; nothing is written to it before the first tarball_add(). */
void tarball_init(tarball_t *t, int fd);

/*
 * Adds what can be read from fd as `name`: exactly st->st_size bytes, a file that
 * turns out shorter is filled up with NULs (*short_by says how many), what grew is
 * cut.  false: the archive can't be written (t->error); only tarball_discard() is
 * left to call.
 */
bool tarball_add(tarball_t *t, const char *name, int fd, const struct stat *st, off_t *short_by);

/* Ends the archive and brings it to the disk.  Frees t's memory in every case. */
bool tarball_close(tarball_t *t);
void tarball_discard(tarball_t *t);

#endif
