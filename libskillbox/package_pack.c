/*
 * package_pack.c - writes a scanned folder as a zip (the command line's package
 * and push).
 *
 * Deterministic: sorted, one fixed time, no owners: the same folder packed twice gives the
 * same bytes.  The folder is read again; when a file is not what was scanned,
 * that is an error and not a different package.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "package_build.h"

#define CHUNK    65536
#define ZIP_TIME 315619200 /* 1980-01-02 00:00 UTC: in every time zone one that a zip can hold */

typedef struct {
    struct archive *a;
    sb_cursor_t cursor;
    EVP_MD_CTX *md;
} pack_t;

static sb_code_t zip_error(const pack_t *k, sb_err_t *err)
{
    int code = archive_errno(k->a);

    /* libarchive's own codes are negative or -1; an errno comes from writing */
    return code > 0 ? sb_err_errno(err, code, "writing the zip file")
                    : sb_err_set(err, SB_ESYSTEM, "writing the zip file: %s",
                                 archive_error_string(k->a));
}

static sb_code_t changed(const sb_package_file_t *f, sb_err_t *err)
{
    return sb_err_set(err, SB_ECONFLICT, "%s has changed while it was being packed", f->path);
}

static sb_code_t write_header(pack_t *k, const sb_package_file_t *f, sb_err_t *err)
{
    struct archive_entry *e = archive_entry_new();

    if (e == NULL) {
        return sb_err_errno(err, ENOMEM, "writing the zip file");
    }
    archive_entry_set_pathname(e, f->path);
    archive_entry_set_mtime(e, ZIP_TIME, 0);
    if (f->link != NULL) {
        archive_entry_set_mode(e, S_IFLNK | 0777);
        archive_entry_set_symlink(e, f->link);
    } else {
        archive_entry_set_mode(e, S_IFREG | f->mode);
        archive_entry_set_size(e, f->size);
    }
    int rc = archive_write_header(k->a, e);
    archive_entry_free(e);
    return rc == ARCHIVE_OK ? SB_OK : zip_error(k, err);
}

static sb_code_t write_content(pack_t *k, const sb_package_file_t *f, int fd, sb_err_t *err)
{
    unsigned char hash[32];
    char chunk[CHUNK];
    int64_t size = 0;
    ssize_t n;

    EVP_DigestInit_ex(k->md, EVP_sha256(), NULL);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0 && (size += n) <= f->size) {
        EVP_DigestUpdate(k->md, chunk, (size_t)n);
        if (archive_write_data(k->a, chunk, (size_t)n) != n) {
            return zip_error(k, err);
        }
    }
    if (n < 0) {
        return sb_err_errno(err, errno, "reading %s", f->path);
    }
    if (size != f->size || EVP_DigestFinal_ex(k->md, hash, NULL) != 1 ||
        memcmp(hash, f->sha256, sizeof(hash)) != 0) {
        return changed(f, err);
    }
    return SB_OK;
}

static sb_code_t write_file(pack_t *k, const sb_package_file_t *f, sb_err_t *err)
{
    char target[SB_PATH_MAX + 2];
    int fd;
    sb_code_t rc;

    if (f->link != NULL) {
        rc = sb_fs_readlink(&k->cursor, f->path, target, err);
        if (rc == SB_OK && strcmp(target, f->link) != 0) {
            rc = changed(f, err);
        }
        return rc == SB_OK ? write_header(k, f, err) : rc;
    }
    rc = sb_fs_open(&k->cursor, f->path, &fd, err);
    if (rc != SB_OK) {
        return rc;
    }
    rc = write_header(k, f, err);
    if (rc == SB_OK) {
        rc = write_content(k, f, fd, err);
    }
    close(fd);
    return rc;
}

static sb_code_t write_all(pack_t *k, const sb_package_t *p, int fd, sb_err_t *err)
{
    sb_code_t rc = SB_OK;

    /* the last block as long as it is, also into a pipe */
    if (archive_write_set_format_zip(k->a) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(k->a, 1) != ARCHIVE_OK ||
        archive_write_open_fd(k->a, fd) != ARCHIVE_OK) {
        return zip_error(k, err);
    }
    for (size_t i = 0; i < p->nfiles && rc == SB_OK; i++) {
        rc = write_file(k, &p->files[i], err);
    }
    if (archive_write_close(k->a) != ARCHIVE_OK && rc == SB_OK) {
        rc = zip_error(k, err);
    }
    return rc;
}

sb_code_t sb_package_write_zip(int dirfd, const sb_package_t *p, int fd, sb_err_t *err)
{
    pack_t k = {.a = archive_write_new(), .md = EVP_MD_CTX_new()};
    /* libarchive marks names as UTF-8 only when the thread's locale is */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = uselocale(utf8);
    sb_code_t rc;

    sb_cursor_init(&k.cursor, dirfd);
    if (k.a == NULL || k.md == NULL) {
        rc = sb_err_errno(err, ENOMEM, "writing the zip file");
    } else if (utf8 == (locale_t)0) {
        rc = sb_err_set(err, SB_ESYSTEM, "writing the zip file: the locale C.UTF-8 is missing");
    } else {
        rc = write_all(&k, p, fd, err);
    }
    uselocale(before);
    if (utf8 != (locale_t)0) {
        freelocale(utf8);
    }
    sb_cursor_close(&k.cursor);
    EVP_MD_CTX_free(k.md);
    archive_write_free(k.a);
    return rc;
}
