/*
 * store_packages.c - the files beside the database: packages/<digest>, the
 * upload's body as it came, and tmp/, where they are made ready.
 *
 * Promises: a file in packages/ is whole, synced and never changes; when its
 * record can be read, it is there.  Every file is made, renamed or removed
 * under LMDB's writer lock, so under that lock a file without a record is a
 * crash's leftover and nothing else.  Runs where batches run, and at opening.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define TMP_NAME                                                                                   \
    "pkg-" /* our files in tmp/ start with it; other names are none of our business                \
            */
#define COPY_BYTES (256 * 1024)

bool sb_digest_valid(const char *digest)
{
    return strlen(digest) == SB_DIGEST_LEN && strspn(digest, "0123456789abcdef") == SB_DIGEST_LEN;
}

static bool make_path(const char *store, const char *dir, const char *name, char out[PATH_BYTES])
{
    int n = snprintf(out, PATH_BYTES, "%s/%s%s%s", store, dir, name[0] != '\0' ? "/" : "", name);

    return n > 0 && n < PATH_BYTES;
}

/* fsync by path; also narrows a file's mode, for a link to an upload with a wider one. */
static sb_code_t sync_path(const char *path, bool dir, sb_err_t *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | (dir ? O_DIRECTORY : 0));
    sb_code_t rc = SB_OK;

    if (fd < 0)
        return sb_err_errno(err, errno, "opening a package file");
    if ((!dir && fchmod(fd, 0600) != 0) || fsync(fd) != 0)
        rc = sb_err_errno(err, errno, "syncing a package file");
    close(fd);
    return rc;
}

sb_code_t sb_packages_prepare(const char *path, sb_err_t *err)
{
    static const char *const dirs[] = {"packages", "tmp"};
    char dir[PATH_BYTES];
    bool made = false;

    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        if (!make_path(path, dirs[i], "", dir))
            return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
        if (mkdir(dir, 0700) == 0)
            made = true;
        else if (errno != EEXIST)
            return sb_err_errno(err, errno, "can't make the folder %s", dir);
    }
    return made ? sync_path(path, true, err) : SB_OK;
}

/* ---- sweeping ---- */

/* 0: there is a record; MDB_NOTFOUND: there is none. */
static int find_record(sb_store_t *st, MDB_txn *txn, const char *digest, MDB_val *val)
{
    MDB_val key = {SB_DIGEST_LEN, (void *)(uintptr_t)digest};

    return mdb_get(txn, st->dbi[SB_DBI_PACKAGES], &key, val);
}

static bool is_orphan(sb_store_t *st, MDB_txn *txn, const char *digest)
{
    MDB_val val;

    return sb_digest_valid(digest) && find_record(st, txn, digest, &val) == MDB_NOTFOUND;
}

static void sweep_dir(sb_store_t *st, MDB_txn *txn, const char *name)
{
    bool packages = strcmp(name, "packages") == 0;
    char path[PATH_BYTES];
    struct dirent *e;
    DIR *d;

    if (!make_path(st->path, name, "", path) || (d = opendir(path)) == NULL)
        return;
    while ((e = readdir(d)) != NULL) {
        bool ours = packages ? is_orphan(st, txn, e->d_name)
                             : strncmp(e->d_name, TMP_NAME, strlen(TMP_NAME)) == 0;
        if (ours)
            unlinkat(dirfd(d), e->d_name, 0); /* when it fails, the next opening tries again */
    }
    closedir(d);
}

sb_code_t sb_packages_sweep(sb_store_t *st, sb_err_t *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, 0, &txn);

    if (rc != 0)
        return sb_store_fail(st, rc, "taking the writer's lock", err);
    sweep_dir(st, txn, "tmp");
    sweep_dir(st, txn, "packages");
    mdb_txn_abort(txn);
    return SB_OK;
}

/* Removes files whose record is gone.  The lock is taken anew: since the commit another process may
 * have stored the same digest again. */
static void remove_orphans(sb_store_t *st, const sb_buf_t *digests)
{
    char path[PATH_BYTES];
    MDB_txn *txn;

    if (mdb_txn_begin(st->env, NULL, 0, &txn) != 0)
        return; /* the next opening sweeps them */
    for (size_t at = 0; at < digests->len; at += SB_DIGEST_LEN + 1) {
        const char *digest = digests->data + at;
        if (is_orphan(st, txn, digest) && make_path(st->path, "packages", digest, path))
            unlink(path);
    }
    mdb_txn_abort(txn);
}

void sb_packages_settle(sb_batch_t *b, bool committed)
{
    if (b->doubtful.len != 0 && sb_buf_ok(&b->doubtful))
        remove_orphans(b->st, &b->doubtful);
    if (!committed || !sb_buf_ok(&b->used))
        return;
    for (size_t at = 0; at < b->used.len; at += strlen(b->used.data + at) + 1)
        unlink(b->used.data + at);
}

/* ---- putting a file in place ---- */

static sb_code_t copy_bytes(int from, int to, sb_err_t *err)
{
    char *buf = malloc(COPY_BYTES);
    sb_code_t rc = SB_OK;

    if (buf == NULL)
        return sb_err_errno(err, ENOMEM, "copying a package");
    for (;;) {
        ssize_t n = read(from, buf, COPY_BYTES);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = sb_err_errno(err, errno, "reading a package");
            break;
        }
        for (ssize_t done = 0; done < n && rc == SB_OK;) {
            ssize_t w = write(to, buf + done, (size_t)(n - done));
            if (w >= 0)
                done += w;
            else if (errno != EINTR)
                rc = sb_err_errno(err, errno, "writing a package");
        }
        if (rc != SB_OK)
            break;
    }
    free(buf);
    return rc;
}

/* A new file with the upload's bytes; for uploads on another file system. */
static sb_code_t copy_file(const char *from, const char *to, sb_err_t *err)
{
    sb_code_t rc;
    int in = open(from, O_RDONLY | O_CLOEXEC), out;

    if (in < 0)
        return sb_err_errno(err, errno, "opening an uploaded package");
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) {
        rc = sb_err_errno(err, errno, "making a package file");
        close(in);
        return rc;
    }
    rc = copy_bytes(in, out, err);
    if (close(out) != 0 && rc == SB_OK)
        rc = sb_err_errno(err, errno, "writing a package");
    close(in);
    return rc;
}

/*
 * Upload -> tmp/ -> packages/<digest>.  A hard link costs nothing and leaves the
 * upload to its owner until the commit; where none can be made, the bytes are copied.
 */
static sb_code_t install(sb_store_t *st, const char *from, const char *digest, sb_err_t *err)
{
    char tmp[PATH_BYTES], final[PATH_BYTES], dir[PATH_BYTES], name[64];
    sb_code_t rc = SB_OK;

    snprintf(name, sizeof(name), TMP_NAME "%ld",
             (long)getpid()); /* one batch at a time in a process */
    if (!make_path(st->path, "tmp", name, tmp) || !make_path(st->path, "packages", digest, final) ||
        !make_path(st->path, "packages", "", dir))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");

    unlink(tmp); /* of an earlier process with this id */
    if (linkat(AT_FDCWD, from, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) != 0) {
        if (errno == ENOENT)
            return sb_err_errno(err, ENOENT, "taking an uploaded package");
        rc = copy_file(from, tmp, err);
    }
    if (rc == SB_OK)
        rc = sync_path(tmp, false, err);
    if (rc == SB_OK && rename(tmp, final) != 0)
        rc = sb_err_errno(err, errno, "putting a package in place");
    unlink(tmp); /* also when rename() did nothing, as for two links of one file */
    if (rc == SB_OK)
        rc = sync_path(dir, true, err);
    return rc;
}

/* From now on the digest's file has to be looked at when the batch is over. */
static sb_code_t mark_doubtful(sb_batch_t *b, const char *digest, sb_err_t *err)
{
    sb_buf_add(&b->doubtful, digest, SB_DIGEST_LEN + 1);
    return sb_buf_ok(&b->doubtful) ? SB_OK : sb_err_errno(err, ENOMEM, "storing a package");
}

static sb_code_t put_record(sb_batch_t *b, MDB_txn *txn, const char *digest, sb_str_t type,
                            uint64_t refs, sb_err_t *err)
{
    MDB_val key = {SB_DIGEST_LEN, (void *)(uintptr_t)digest};
    sb_num_t num = sb_num(refs);
    sb_str_t parts[] = {type, sb_num_part(&num)};
    int rc = sb_pack_put(txn, b->st->dbi[SB_DBI_PACKAGES], &key, SB_KIND_PACKAGE, parts, 2);

    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing a package record", err);
}

static sb_code_t get_record(sb_batch_t *b, MDB_txn *txn, const char *digest, char type[256],
                            uint64_t *refs, sb_err_t *err)
{
    sb_str_t parts[2];
    MDB_val val;
    int rc = find_record(b->st, txn, digest, &val);

    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(b->st, rc, "reading a package record", err);
    if (!sb_unpack(&val, SB_KIND_PACKAGE, parts, 2) || !sb_str_copy(parts[0], type, 256) ||
        !sb_num_read(parts[1], refs))
        return sb_store_corrupt("a package record", err);
    return SB_OK;
}

sb_code_t sb_package_ref(sb_batch_t *b, MDB_txn *txn, const char *digest, const char *tmp,
                         const char *type_of_new, sb_err_t *err)
{
    const char *new_type = type_of_new != NULL ? type_of_new : "";
    char path[PATH_BYTES], type[256];
    uint64_t refs = 0;
    sb_code_t rc = get_record(b, txn, digest, type, &refs, err);
    bool there;

    if (rc != SB_OK && rc != SB_ENOTFOUND)
        return rc;
    if (!make_path(b->st->path, "packages", digest, path))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    there = rc == SB_OK && access(path, F_OK) == 0;
    if (!there && tmp == NULL)
        return sb_err_set(err, SB_EINTERNAL, "store: there is no package %s", digest);
    if (!there) {
        snprintf(type, sizeof(type), "%s", new_type); /* bounded by the caller */
        rc = mark_doubtful(b, digest, err);
        if (rc == SB_OK)
            rc = install(b->st, tmp, digest, err);
        if (rc != SB_OK)
            return rc;
    }
    return put_record(b, txn, digest, sb_str_of(type, strlen(type)), refs + 1, err);
}

sb_code_t sb_package_unref(sb_batch_t *b, MDB_txn *txn, const char *digest, sb_err_t *err)
{
    MDB_val key = {SB_DIGEST_LEN, (void *)(uintptr_t)digest};
    char type[256];
    uint64_t refs = 0;
    sb_code_t code = get_record(b, txn, digest, type, &refs, err);
    int rc;

    if (code == SB_ENOTFOUND || (code == SB_OK && refs == 0))
        return sb_store_corrupt("a package's count of references", err);
    if (code != SB_OK)
        return code;
    if (refs > 1)
        return put_record(b, txn, digest, sb_str_of(type, strlen(type)), refs - 1, err);
    rc = mdb_del(txn, b->st->dbi[SB_DBI_PACKAGES], &key, NULL);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "deleting a package record", err);
    return mark_doubtful(b, digest, err);
}

/* ---- for readers ---- */

sb_code_t sb_store_package_type(sb_store_t *st, const char *digest, sb_str_t *type, sb_err_t *err)
{
    sb_str_t parts[2], *keep[] = {&parts[0]};
    MDB_val val;
    sb_code_t code;
    int rc;

    if (!sb_digest_valid(digest))
        return sb_err_set(err, SB_ENOTFOUND, "there is no such package");
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    rc = find_record(st, st->read, digest, &val);
    if (rc == MDB_NOTFOUND)
        code = sb_err_set(err, SB_ENOTFOUND, "there is no such package");
    else if (rc != 0)
        code = sb_store_fail(st, rc, "reading a package record", err);
    else if (!sb_unpack(&val, SB_KIND_PACKAGE, parts, 2))
        code = sb_store_corrupt("a package record", err);
    else
        code = sb_store_keep(st, keep, 1, err);
    sb_store_read_end(st);
    if (code == SB_OK)
        *type = parts[0];
    return code;
}

sb_code_t sb_store_package_path(sb_store_t *st, const char *digest, char *out, size_t outlen,
                                sb_err_t *err)
{
    int n;

    if (!sb_digest_valid(digest))
        return sb_err_set(err, SB_ENOTFOUND, "there is no such package");
    n = snprintf(out, outlen, "%s/packages/%s", st->path, digest);
    if (n < 0 || (size_t)n >= outlen)
        return sb_err_set(err, SB_EINTERNAL, "the path of a package does not fit");
    return SB_OK;
}
