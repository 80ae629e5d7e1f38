/*
 * download.c - see download.h.  Writes below one folder only, by openat2 with
 * RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
 */
#include "download.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "../libskillbox/limits.h"
#include "cli.h"
#include "client.h"
#include "output.h"

#define NAME_MAX_BYTES 1024
#define DEPTH_MAX      64
#define READ_BLOCK     65536

typedef struct {
    int dirfd;
    bool force;
    int files;
    int64_t bytes;
    sb_err_t err;
} unpack_t;

typedef sb_code_t (*entry_fn)(unpack_t *u, struct archive *a, const char *name);

/* Relative, no empty, "." or ".." part, no control characters. */
static bool name_ok(const char *name)
{
    size_t len = strlen(name);
    int depth = 0;

    if (len == 0 || len > NAME_MAX_BYTES || !sb_utf8_valid(name, len)) {
        return false;
    }
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return false;
        }
    }
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");

        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0) ||
            ++depth > DEPTH_MAX) {
            return false;
        }
        part += n;
        if (*part == '\0') {
            return true;
        }
    }
}

static int open_beneath(int dirfd, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .mode = mode,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

/* Walks the archive; every entry passes the rules before fn sees it. */
static sb_code_t walk(unpack_t *u, int fd, entry_fn fn)
{
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    sb_code_t code = SB_OK;
    int r = ARCHIVE_FATAL;

    if (a == NULL) {
        return sb_err_errno(&u->err, ENOMEM, "libarchive");
    }
    u->files = 0;
    u->bytes = 0;
    lseek(fd, 0, SEEK_SET);
    if (archive_read_support_filter_gzip(a) == ARCHIVE_OK &&
        archive_read_support_format_tar(a) == ARCHIVE_OK &&
        archive_read_open_fd(a, fd, READ_BLOCK) == ARCHIVE_OK) {
        while (code == SB_OK && (r = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
            const char *name = archive_entry_pathname(e);

            if (name == NULL || !name_ok(name) || archive_entry_filetype(e) != AE_IFREG ||
                archive_entry_hardlink(e) != NULL || archive_entry_symlink(e) != NULL) {
                code = sb_err_set(&u->err, SB_EINVAL,
                                  "refused: the archive holds something that is no ordinary file");
            } else if (++u->files > SB_ARTIFACT_FILES_MAX) {
                code = sb_err_set(&u->err, SB_ETOOLARGE, "refused: the archive has too many files");
            } else {
                code = fn(u, a, name);
            }
        }
    }
    if (code == SB_OK && r != ARCHIVE_EOF) {
        const char *why = archive_error_string(a);

        code = sb_err_set(&u->err, SB_EINVAL, "the archive is damaged: %s",
                          why != NULL ? why : "unknown format");
    }
    archive_read_free(a);
    return code;
}

/* Counts what an entry unpacks to; *n 0 at its end. */
static sb_code_t next_block(unpack_t *u, struct archive *a, char *buf, size_t size, ssize_t *n)
{
    *n = archive_read_data(a, buf, size);
    if (*n < 0) {
        return sb_err_set(&u->err, SB_EINVAL, "the archive is damaged: %s",
                          archive_error_string(a) != NULL ? archive_error_string(a) : "bad data");
    }
    u->bytes += *n;
    if (u->bytes > SB_ARTIFACT_BYTES_MAX) {
        return sb_err_set(&u->err, SB_ETOOLARGE, "refused: the archive unpacks to too much");
    }
    return SB_OK;
}

/* First pass: is every entry sound, and is its place free? */
static sb_code_t check_entry(unpack_t *u, struct archive *a, const char *name)
{
    char buf[READ_BLOCK];
    sb_code_t code;
    ssize_t n;

    do {
        code = next_block(u, a, buf, sizeof(buf), &n);
    } while (code == SB_OK && n > 0);
    if (code != SB_OK) {
        return code;
    }
    int fd = open_beneath(u->dirfd, name, O_PATH | O_NOFOLLOW, 0);
    if (fd >= 0) {
        close(fd);
        if (!u->force) {
            return sb_err_set(&u->err, SB_ECONFLICT, "%s exists; --force replaces it", name);
        }
    } else if (errno != ENOENT) {
        return sb_err_errno(&u->err, errno, "%s", name);
    }
    return SB_OK;
}

/* The folder the name's last part goes into, made when missing; -1 with errno. */
static int open_parent(int dirfd, const char *name)
{
    char path[NAME_MAX_BYTES + 1];
    int fd = open_beneath(dirfd, ".", O_PATH | O_DIRECTORY, 0);

    strcpy(path, name); /* name_ok bounds it */
    for (char *part = path, *slash; fd >= 0 && (slash = strchr(part, '/')) != NULL;
         part = slash + 1) {
        *slash = '\0';
        if (mkdirat(fd, part, 0755) != 0 && errno != EEXIST) {
            int e = errno;

            close(fd);
            errno = e;
            return -1;
        }
        int next = open_beneath(fd, part, O_PATH | O_DIRECTORY, 0);
        int e = errno;
        close(fd);
        errno = e;
        fd = next;
    }
    return fd;
}

static sb_code_t copy_entry(unpack_t *u, struct archive *a, int fd, const char *name)
{
    char buf[READ_BLOCK];
    sb_code_t code;
    ssize_t n;

    while ((code = next_block(u, a, buf, sizeof(buf), &n)) == SB_OK && n > 0) {
        for (ssize_t done = 0, w; done < n; done += w) {
            w = write(fd, buf + done, (size_t)(n - done));
            if (w < 0) {
                return sb_err_errno(&u->err, errno, "%s", name);
            }
        }
    }
    return code;
}

/* Second pass. */
static sb_code_t write_entry(unpack_t *u, struct archive *a, const char *name)
{
    const char *slash = strrchr(name, '/'), *base = slash != NULL ? slash + 1 : name;
    int parent = open_parent(u->dirfd, name), fd = -1;
    sb_code_t code;

    if (parent >= 0) {
        if (u->force) {
            unlinkat(parent, base, 0);
        }
        fd = openat(parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    }
    if (fd < 0) {
        code = sb_err_errno(&u->err, errno, "%s", name);
    } else {
        code = copy_entry(u, a, fd, name);
        if (close(fd) != 0 && code == SB_OK) {
            code = sb_err_errno(&u->err, errno, "%s", name);
        }
    }
    if (parent >= 0) {
        close(parent);
    }
    return code;
}

static int unpack(int archive, const char *dir, bool force)
{
    unpack_t u = {.force = force};
    int rc = EXIT_FAILED;

    if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
        sb_say_error("%s: %s", dir, strerror(errno));
        return EXIT_FAILED;
    }
    u.dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (u.dirfd < 0) {
        sb_say_error("%s: %s", dir, strerror(errno));
        return EXIT_FAILED;
    }
    if (walk(&u, archive, check_entry) != SB_OK || walk(&u, archive, write_entry) != SB_OK) {
        sb_say_err(&u.err);
    } else {
        sb_say("downloaded %d file%s to %s", u.files, u.files == 1 ? "" : "s", dir);
        rc = EXIT_OK;
    }
    close(u.dirfd);
    return rc;
}

int sb_download(const char *url, const char *dir, bool force)
{
    sb_call_t call = SB_CALL("GET", url);
    FILE *temp = tmpfile();
    sb_reply_t reply;
    int rc;

    if (temp == NULL) {
        sb_say_error("can't make a temporary file: %s", strerror(errno));
        return EXIT_FAILED;
    }
    call.out_fd = fileno(temp);
    call.out_max =
        SB_ARTIFACT_BYTES_MAX + SB_ARTIFACT_BYTES_MAX / 8; /* tar's headers, gzip's overhead */
    call.progress = "downloading";
    rc = sb_call_checked(NULL, &call, &reply);
    if (rc == EXIT_OK) {
        rc = unpack(call.out_fd, dir, force);
    }
    sb_reply_free(&reply);
    fclose(temp);
    return rc;
}
