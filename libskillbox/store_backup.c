/*
 * store_backup.c - a copy of the store beside running gateways, the check of a
 * store's every record, and a larger map.
 *
 * The copy is of one moment: LMDB writes a compacted snapshot from a read
 * transaction; writers go on.  Package files are immutable, so a hard link (a copy
 * on another file system) is one.  Those that are there are linked before the
 * snapshot, those it names beyond that after it; a package that came and went in
 * between makes the whole begin anew.  Opening the copy drops what it does not name.
 * Runs in a program of its own (the command line), never in nginx.
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define TRIES      3

static bool join(char out[PATH_BYTES], const char *dir, const char *name)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, name);

    return n > 0 && n < PATH_BYTES;
}

static sb_code_t too_long(sb_err_t *err)
{
    return sb_err_set(err, SB_EINVAL, "the path is too long");
}

/* ---- files ---- */

static sb_code_t sync_path(const char *path, sb_err_t *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1, saved = errno;

    if (fd >= 0)
        close(fd);
    return rc == 0 ? SB_OK : sb_err_errno(err, saved, "syncing %s", path);
}

static int copy_bytes(int from, int to)
{
    ssize_t n;

    while ((n = sendfile(to, from, NULL, 1 << 30)) > 0) {
    }
    return n == 0 ? fsync(to) : -1;
}

static sb_code_t copy_file(const char *from, const char *to, sb_err_t *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int out = in >= 0 ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    int rc = out >= 0 ? copy_bytes(in, out) : -1, saved = errno;

    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    if (rc != 0 && out >= 0)
        unlink(to);
    return rc == 0 ? SB_OK : sb_err_errno(err, saved, "copying %s", from);
}

/* SB_ENOTFOUND: it is not there (any more): whoever deletes does not wait for us. */
static sb_code_t take_file(const char *from, const char *to, bool may_link, sb_err_t *err)
{
    struct stat st;
    sb_code_t code;

    if (may_link && (link(from, to) == 0 || errno == EEXIST)) /* linked before */
        return SB_OK;
    code = copy_file(from, to, err);
    if (code != SB_OK && lstat(from, &st) != 0 && errno == ENOENT)
        return sb_err_set(err, SB_ENOTFOUND, "%s is not there", from);
    return code;
}

sb_code_t sb_store_copy_file(const char *from, const char *to, sb_err_t *err)
{
    return take_file(from, to, false, err);
}

/* ---- the copy ---- */

static sb_code_t link_all(sb_store_t *st, const char *dest, sb_err_t *err)
{
    char dir[PATH_BYTES], from[PATH_BYTES], to[PATH_BYTES];
    sb_code_t code = SB_OK;
    struct dirent *e;
    DIR *d;

    if (!join(dir, st->path, "packages") || (d = opendir(dir)) == NULL)
        return sb_err_errno(err, errno, "%s/packages", st->path);
    while (code == SB_OK && (e = readdir(d)) != NULL) {
        if (!sb_digest_valid(e->d_name))
            continue;
        if (snprintf(to, sizeof(to), "%s/packages/%s", dest, e->d_name) >= PATH_BYTES ||
            snprintf(from, sizeof(from), "%s/%s", dir, e->d_name) >= PATH_BYTES)
            code = too_long(err);
        else
            code = take_file(from, to, true, err);
        if (code == SB_ENOTFOUND) /* deleted this moment */
            code = SB_OK;
    }
    closedir(d);
    return code;
}

static sb_code_t snapshot(sb_store_t *st, const char *dest, sb_err_t *err)
{
    char data[PATH_BYTES];
    int rc;

    if (!join(data, dest, "data.mdb"))
        return too_long(err);
    unlink(data); /* of a try before */
    rc = mdb_env_copy2(st->env, dest, MDB_CP_COMPACT);
    if (rc != 0)
        return sb_store_fail(st, rc, "copying", err);
    return sync_path(data, err);
}

/* A package that a snapshot names, and is to be there. */
typedef struct {
    const char *dest;
    const char *live; /* NULL: only looks */
    sb_store_check_t *check;
} packages_t;

/* An upload of a package has bytes; a kept file may be empty. */
static sb_code_t need_package(const packages_t *p, const char *digest, bool may_be_empty,
                              sb_err_t *err)
{
    char to[PATH_BYTES], from[PATH_BYTES];
    struct stat st;

    if (snprintf(to, sizeof(to), "%s/packages/%s", p->dest, digest) >= PATH_BYTES)
        return too_long(err);
    if (lstat(to, &st) == 0 && S_ISREG(st.st_mode) && (st.st_size > 0 || may_be_empty))
        return SB_OK;
    if (p->live == NULL)
        return sb_err_set(err, SB_EINTERNAL, "the file of package %s is missing or empty", digest);
    if (snprintf(from, sizeof(from), "%s/packages/%s", p->live, digest) >= PATH_BYTES)
        return too_long(err);
    return take_file(from, to, true, err);
}

/* Is it the record of a kept file, not of a package? */
static bool is_kept_file(const MDB_val *val)
{
    sb_str_t parts[2];

    return sb_unpack(val, SB_KIND_PACKAGE, parts, 2) && parts[0].len == 4 &&
           memcmp(parts[0].data, "file", 4) == 0;
}

/* Every record of a database is read; of packages the files are looked at too. */
static sb_code_t walk(sb_store_t *st, MDB_txn *txn, int dbi, const packages_t *p, sb_err_t *err)
{
    sb_code_t code = SB_OK;
    MDB_val key, val;
    MDB_cursor *cur;
    unsigned sum = 0;
    int rc = mdb_cursor_open(txn, st->dbi[dbi], &cur);

    if (rc != 0)
        return sb_store_fail(st, rc, "checking", err);
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0 && code == SB_OK;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        char digest[SB_DIGEST_LEN + 1];

        for (size_t i = 0; i < val.mv_size; i += 512) /* touches each page */
            sum += ((const unsigned char *)val.mv_data)[i];
        p->check->records++;
        if (dbi != SB_DBI_PACKAGES)
            continue;
        p->check->packages++;
        if (!sb_str_copy(sb_str_of(key.mv_data, key.mv_size), digest, sizeof(digest)) ||
            !sb_digest_valid(digest))
            code = sb_store_corrupt("the record of a package", err);
        else
            code = need_package(p, digest, is_kept_file(&val), err);
    }
    mdb_cursor_close(cur);
    p->check->touched += sum & 1; /* so that the reads are not left out */
    if (code != SB_OK)
        return code;
    return rc == MDB_NOTFOUND ? SB_OK : sb_store_fail(st, rc, "checking", err);
}

static sb_code_t walk_all(sb_store_t *st, const packages_t *p, sb_err_t *err)
{
    sb_code_t code = sb_store_read_begin(st, err);

    if (code != SB_OK)
        return code;
    memset(p->check, 0, sizeof(*p->check));
    for (int i = 0; code == SB_OK && i < SB_DBI_COUNT; i++)
        code = walk(st, st->read, i, p, err);
    sb_store_read_end(st);
    return code;
}

sb_code_t sb_store_check(sb_store_t *st, sb_store_check_t *check, sb_err_t *err)
{
    packages_t p = {st->path, NULL, check};

    return walk_all(st, &p, err);
}

/* Links what the snapshot names and wasn't there before it.  A raw look, without sb_store_open's
 * sweep: that would race with nobody, but comes at the end once. */
static sb_code_t link_missing(const char *dest, const char *live, sb_err_t *err)
{
    sb_store_check_t check;
    packages_t p = {dest, live, &check};
    sb_store_t *copy;
    sb_code_t code = sb_store_open(dest, 0, false, &copy, err);

    if (code != SB_OK)
        return sb_err_context(err, "opening the copy");
    code = walk_all(copy, &p, err);
    sb_store_close(copy);
    return code;
}

static sb_code_t remove_lock(const char *dest, sb_err_t *err)
{
    char path[PATH_BYTES];

    if (!join(path, dest, "lock.mdb"))
        return too_long(err);
    unlink(path); /* made by opening; the next opener makes its own */
    if (!join(path, dest, "packages"))
        return too_long(err);
    sb_code_t code = sync_path(path, err);
    return code == SB_OK ? sync_path(dest, err) : code;
}

sb_code_t sb_store_backup(sb_store_t *st, const char *dest, sb_err_t *err)
{
    sb_code_t code = sb_journals_settle(st, err);

    if (code == SB_OK)
        code = sb_packages_prepare(dest, err);
    for (int i = 0; i < TRIES; i++) {
        if (code == SB_OK)
            code = link_all(st, dest, err);
        if (code == SB_OK)
            code = snapshot(st, dest, err);
        if (code != SB_OK)
            return code;
        code = link_missing(dest, st->path, err);
        if (code != SB_ENOTFOUND)
            break;
        code = i + 1 < TRIES
                   ? SB_OK
                   : sb_err_set(err, SB_EBUSY, "packages come and go too fast to be backed up now");
    }
    return code == SB_OK ? remove_lock(dest, err) : code;
}

/* ---- a larger map ---- */

sb_code_t sb_store_enlarge(const char *path, size_t size, sb_err_t *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_val key = {3, (void *)(uintptr_t) "rev"}, val;
    MDB_dbi meta;
    int rc = mdb_env_create(&env);

    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, SB_DBI_COUNT);
    if (rc == 0)
        rc = mdb_env_set_mapsize(env, (size + page - 1) / page * page);
    if (rc == 0)
        rc = mdb_env_open(env, path, MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == 0 && (rc = mdb_get(txn, meta, &key, &val)) == 0) {
        unsigned char same[8] = {0};

        memcpy(same, val.mv_data, val.mv_size < sizeof(same) ? val.mv_size : sizeof(same));
        val.mv_data = same;
        rc = mdb_put(txn, meta, &key, &val, 0); /* the size is written with the next commit */
    }
    if (rc == 0) {
        rc = mdb_txn_commit(txn);
        txn = NULL;
    }
    if (txn != NULL)
        mdb_txn_abort(txn);
    if (env != NULL)
        mdb_env_close(env);
    if (rc > 0)
        return sb_err_errno(err, rc, "making the map of %s larger", path);
    return rc == 0 ? SB_OK
                   : sb_err_set(err, SB_EINTERNAL, "making the map of %s larger: %s", path,
                                mdb_strerror(rc));
}
