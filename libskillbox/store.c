/*
 * store.c - the LMDB environment: opening, reading, batches, the change log,
 * and how keys and values are laid out.
 *
 * Promises: one environment a process and file; all dbis opened in one committed
 * transaction; a newer schema refused before anything is written; reads that
 * never leave a snapshot open (an idle worker's would keep every page that was
 * freed since from being used again), hence what they answer is a copy.
 * Touches: files below the store's folder.  Opening and reads: one thread;
 * a batch: any one thread at a time, beside the reads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"
#include "store_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define KEPT_MAX (1024 * 1024) /* memory of a larger answer is given back at the next read */
#define LOG_MAX  (64 * 1024)   /* bytes of one change log entry */
#define DISK_FULL                                                                                  \
    (64 * 1024) /* LMDB says EIO for a short write: with less than this free it was the disk */

static const char *const dbi_names[SB_DBI_COUNT] = {
    [SB_DBI_META] = "meta",         [SB_DBI_LOG] = "log",
    [SB_DBI_TENANTS] = "tenants",   [SB_DBI_KEYS] = "keys",
    [SB_DBI_KEYIDS] = "keyids",     [SB_DBI_SKILLS] = "skills",
    [SB_DBI_HEADS] = "heads",       [SB_DBI_ORIGINS] = "origins",
    [SB_DBI_PACKAGES] = "packages", [SB_DBI_EXECUTIONS] = "executions",
    [SB_DBI_LIVE] = "live",         [SB_DBI_LIMITS] = "limits",
    [SB_DBI_KEYUSED] = "keyused",   [SB_DBI_BYSTATUS] = "bystatus",
    [SB_DBI_BYSKILL] = "byskill",   [SB_DBI_COUNTS] = "counts",
    [SB_DBI_IDEMPOTENCY] = "idem",  [SB_DBI_IDEMTIMES] = "idemtimes",
    [SB_DBI_FILES] = "files",       [SB_DBI_FILEVERSIONS] = "fileversions",
    [SB_DBI_GRAVES] = "graves",     [SB_DBI_GRAVETIMES] = "gravetimes",
    [SB_DBI_USAGE] = "usage",       [SB_DBI_ARCHIVES] = "archives",
    [SB_DBI_BALLAST] = "ballast",
};

/*
 * The stores this process has open.  LMDB's locks are fcntl locks: opening the
 * same file a second time and closing it would silently drop the first one's.
 */
static sb_store_t *open_stores;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- errors ---- */

static bool disk_is_full(sb_store_t *st)
{
    struct statvfs fs;

    return statvfs(st->path, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < DISK_FULL;
}

sb_code_t sb_store_fail(sb_store_t *st, int rc, const char *what, sb_err_t *err)
{
    if (rc > 0) {
        if (rc == EIO && disk_is_full(st))
            rc = ENOSPC;
        return sb_err_errno(err, rc, "store: %s", what);
    }
    switch (rc) {
    case MDB_MAP_FULL:
        return sb_err_set(err, SB_ENOSPACE, "store: %s: the map is full", what);
    case MDB_TXN_FULL:
    case MDB_READERS_FULL:
        return sb_err_set(err, SB_EBUSY, "store: %s: %s", what, mdb_strerror(rc));
    default:
        return sb_err_set(err, SB_EINTERNAL, "store: %s: %s", what, mdb_strerror(rc));
    }
}

sb_code_t sb_store_corrupt(const char *what, sb_err_t *err)
{
    return sb_err_set(err, SB_EINTERNAL, "store: %s is damaged", what);
}

/* ---- keys ---- */

bool sb_skey_add(sb_skey_t *k, const void *data, size_t len)
{
    if (len > sizeof(k->data) - k->len)
        return false;
    memcpy(k->data + k->len, data, len);
    k->len += len;
    return true;
}

bool sb_skey(sb_skey_t *k, const char *a, const char *b, const char *c, const char *d)
{
    const char *fields[] = {a, b, c, d};

    k->len = 0;
    for (size_t i = 0; i < 4 && fields[i] != NULL; i++) {
        if (i != 0 && !sb_skey_add(k, "", 1))
            return false;
        if (!sb_skey_add(k, fields[i], strlen(fields[i])))
            return false;
    }
    return k->len != 0;
}

MDB_val sb_skey_val(const sb_skey_t *k)
{
    return (MDB_val){k->len, (void *)(uintptr_t)k->data};
}

bool sb_skey_prefix(const MDB_val *key, const sb_skey_t *prefix)
{
    return key->mv_size >= prefix->len && memcmp(key->mv_data, prefix->data, prefix->len) == 0;
}

/* ---- values ---- */

static void put32(unsigned char *p, size_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static size_t get32(const unsigned char *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

int sb_pack_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, unsigned char kind, const sb_str_t *parts,
                size_t n)
{
    MDB_val val = {2 + 4 * n, NULL};
    unsigned char *p;
    int rc;

    for (size_t i = 0; i < n; i++) {
        if (parts[i].len > UINT32_MAX)
            return MDB_BAD_VALSIZE;
        val.mv_size += parts[i].len;
    }
    rc = mdb_put(txn, dbi, key, &val, MDB_RESERVE);
    if (rc != 0)
        return rc;
    p = val.mv_data;
    *p++ = kind;
    *p++ = (unsigned char)n;
    for (size_t i = 0; i < n; i++, p += 4)
        put32(p, parts[i].len);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].len != 0)
            memcpy(p, parts[i].data, parts[i].len);
        p += parts[i].len;
    }
    return 0;
}

bool sb_unpack(const MDB_val *val, unsigned char kind, sb_str_t *parts, size_t n)
{
    const unsigned char *p = val->mv_data;
    size_t at = 2 + 4 * n;

    if (val->mv_size < at || p[0] != kind || p[1] != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t len = get32(p + 2 + 4 * i);
        if (len > val->mv_size - at)
            return false;
        parts[i] = sb_str_of((const char *)p + at, len);
        at += len;
    }
    return at == val->mv_size;
}

sb_num_t sb_num(uint64_t v)
{
    sb_num_t n = {{0}};

    for (int i = 0; i < 8; i++)
        n.data[i] = (unsigned char)(v >> (56 - 8 * i));
    return n;
}

sb_str_t sb_num_part(const sb_num_t *n)
{
    return sb_str_of((const char *)n->data, sizeof(n->data));
}

bool sb_num_read(sb_str_t part, uint64_t *v)
{
    if (part.len != 8)
        return false;
    *v = 0;
    for (int i = 0; i < 8; i++)
        *v = *v << 8 | (unsigned char)part.data[i];
    return true;
}

bool sb_str_copy(sb_str_t part, char *out, size_t outlen)
{
    if (part.len >= outlen || memchr(part.data, '\0', part.len) != NULL)
        return false;
    memcpy(out, part.data, part.len);
    out[part.len] = '\0';
    return true;
}

/* ---- opening ---- */

static bool join(char *out, size_t outlen, const char *dir, const char *name)
{
    int n = snprintf(out, outlen, "%s/%s", dir, name);

    return n > 0 && (size_t)n < outlen;
}

sb_code_t sb_store_sync_folder(const char *path, sb_err_t *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1, saved = errno;

    if (fd >= 0)
        close(fd);
    return rc == 0 ? SB_OK : sb_err_errno(err, saved, "syncing %s", path);
}

/* LMDB syncs its file, not the name of it: a new store's first commit would be durable in a file
 * that nobody finds. */
static sb_code_t sync_folders(sb_store_t *st, sb_err_t *err)
{
    char above[4096];
    sb_code_t code = sb_store_sync_folder(st->path, err);

    if (code == SB_OK && !join(above, sizeof(above), st->path, ".."))
        code = sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    if (code == SB_OK && access(above, R_OK) == 0) /* else somebody else has made the folder */
        code = sb_store_sync_folder(above, err);
    return code;
}

static sb_code_t no_store(const sb_store_t *st, sb_err_t *err)
{
    return sb_err_set(err, SB_ENOTFOUND, "there is no store at %s", st->path);
}

/* Folder and data file; *fresh when there is no data file yet. */
static sb_code_t check_folder(sb_store_t *st, bool create, bool *fresh, sb_err_t *err)
{
    char data[4096];
    struct stat sb;

    if (!join(data, sizeof(data), st->path, "data.mdb"))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    if (stat(data, &sb) == 0) {
        st->dev = sb.st_dev;
        st->ino = sb.st_ino;
        *fresh = sb.st_size == 0; /* a crash between LMDB's creat() and its first write */
        if (!*fresh)
            return SB_OK;
    } else if (errno != ENOENT && errno != ENOTDIR) {
        return sb_err_errno(err, errno, "%s", data);
    }
    if (!create)
        return no_store(st, err);
    *fresh = true;
    if (mkdir(st->path, 0700) != 0 && errno != EEXIST)
        return sb_err_errno(err, errno, "can't make the store's folder %s", st->path);
    return SB_OK;
}

static bool is_open_here(const sb_store_t *st)
{
    for (const sb_store_t *s = open_stores; s != NULL; s = s->next) {
        if (s->pid == st->pid && s->dev == st->dev && s->ino == st->ino)
            return true;
    }
    return false;
}

/* SB_EREADONLY: the file system does not let us write. */
static sb_code_t open_env(sb_store_t *st, size_t size, bool fresh, sb_err_t *err)
{
    const unsigned flags = MDB_NOTLS | (st->read_only ? MDB_RDONLY : 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int rc = mdb_env_create(&st->env);

    if (rc != 0)
        return sb_store_fail(st, rc, "creating the environment", err);
    rc = mdb_env_set_maxdbs(st->env, SB_DBI_COUNT);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(st->env, SB_STORE_MAXREADERS);
    if (rc == 0 && fresh) /* else the size that is written in the file counts */
        rc = mdb_env_set_mapsize(st->env, (size + page - 1) / page * page);
    if (rc == 0)
        rc = mdb_env_open(st->env, st->path, flags, 0600);
    if (rc != 0) {
        sb_store_fail(st, rc, "opening the environment", err);
        if (rc == EROFS)
            return SB_EREADONLY;
        return rc == ENOENT ? SB_ENOTFOUND : SB_ESYSTEM;
    }
    return SB_OK;
}

/* Opens one dbi or all; MDB_NOTFOUND when there is none. */
int sb_store_open_dbis(sb_store_t *st, MDB_txn *txn, unsigned flags, int first, int last)
{
    for (int i = first; i <= last; i++) {
        int rc = mdb_dbi_open(txn, dbi_names[i], flags, &st->dbi[i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int sb_store_meta_get(sb_store_t *st, MDB_txn *txn, const char *name, uint64_t *v)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name}, val;
    int rc = mdb_get(txn, st->dbi[SB_DBI_META], &key, &val);

    if (rc == 0 && !sb_num_read(sb_str_of(val.mv_data, val.mv_size), v))
        rc = MDB_CORRUPTED;
    return rc;
}

int sb_store_meta_put(sb_store_t *st, MDB_txn *txn, const char *name, uint64_t v)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    sb_num_t num = sb_num(v);
    MDB_val val = {sizeof(num.data), num.data};

    return mdb_put(txn, st->dbi[SB_DBI_META], &key, &val, 0);
}

/* Two leave err alone: SB_ENOTFOUND, nobody has made the databases yet; SB_ENOTAVAIL, the schema
 * is an older one. */
static sb_code_t load_schema(sb_store_t *st, sb_err_t *err)
{
    uint64_t schema = 0;
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return sb_store_fail(st, rc, "reading the schema", err);
    rc = sb_store_open_dbis(st, txn, 0, SB_DBI_META, SB_DBI_META);
    if (rc == 0)
        rc = sb_store_meta_get(st, txn, "schema", &schema);
    if (rc == 0 && schema == SB_STORE_SCHEMA)
        rc = sb_store_open_dbis(st, txn, 0, SB_DBI_META + 1, SB_DBI_COUNT - 1);
    if (rc == 0 && schema == SB_STORE_SCHEMA) {
        rc = mdb_txn_commit(txn); /* not aborted: that would lose the handles */
        return rc == 0 ? SB_OK : sb_store_fail(st, rc, "opening the databases", err);
    }
    mdb_txn_abort(txn);
    if (rc == 0 && schema != 0 && schema < SB_STORE_SCHEMA)
        return SB_ENOTAVAIL;
    if (rc == 0)
        return sb_err_set(err, SB_ECONFLICT,
                          "the store at %s has schema %llu, this program knows schema %d", st->path,
                          (unsigned long long)schema, SB_STORE_SCHEMA);
    if (rc == MDB_NOTFOUND && schema == 0)
        return SB_ENOTFOUND;
    return sb_store_fail(st, rc, "opening the databases", err);
}

/* All databases and the schema in one transaction; a second creator finds them made. */
static sb_code_t make_schema(sb_store_t *st, sb_err_t *err)
{
    uint64_t schema;
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, 0, &txn);

    if (rc != 0)
        return sb_store_fail(st, rc, "making the databases", err);
    rc = sb_store_open_dbis(st, txn, MDB_CREATE, 0, SB_DBI_COUNT - 1);
    if (rc == 0 && sb_store_meta_get(st, txn, "schema", &schema) == MDB_NOTFOUND) {
        rc = sb_store_meta_put(st, txn, "schema", SB_STORE_SCHEMA);
        if (rc == 0)
            rc = sb_store_meta_put(st, txn, "rev", 0);
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return sb_store_fail(st, rc, "making the databases", err);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "making the databases", err);
}

static sb_code_t open_read_txn(sb_store_t *st, sb_err_t *err)
{
    int rc = mdb_txn_begin(st->env, NULL, MDB_RDONLY, &st->read);

    if (rc != 0)
        return sb_store_fail(st, rc, "beginning to read", err);
    mdb_txn_reset(st->read);
    return SB_OK;
}

/* Under open_lock. */
static sb_code_t open_locked(sb_store_t *st, size_t size, bool create, sb_err_t *err)
{
    bool fresh = false;
    struct stat sb;
    char data[4096];
    sb_code_t rc = check_folder(st, create, &fresh, err);

    if (rc != SB_OK)
        return rc;
    if (is_open_here(st))
        return sb_err_set(err, SB_EINTERNAL, "the store at %s is open in this process", st->path);
    rc = open_env(st, size, fresh, err);
    if (rc == SB_EREADONLY && !fresh) {
        mdb_env_close(st->env);
        st->env = NULL;
        st->read_only = true;
        rc = open_env(st, size, fresh, err);
    }
    if (rc != SB_OK)
        return rc;
    mdb_reader_check(st->env, NULL);
    rc = load_schema(st, err);
    if (rc == SB_ENOTFOUND)
        rc = create ? make_schema(st, err) : no_store(st, err);
    else if (rc == SB_ENOTAVAIL && st->read_only)
        rc = sb_err_set(err, SB_EREADONLY,
                        "the store at %s is of an older schema, and can't be written", st->path);
    else if (rc == SB_ENOTAVAIL)
        rc = sb_store_upgrade(st, err);
    if (rc == SB_OK && !st->read_only)
        rc = sb_packages_prepare(st->path, err);
    if (rc == SB_OK && fresh)
        rc = sync_folders(st, err);
    if (rc == SB_OK && !st->read_only)
        rc = sb_packages_sweep(st, err);
    if (rc == SB_OK)
        rc = open_read_txn(st, err);
    if (rc == SB_OK && !st->read_only)
        rc = sb_store_recover(st, err);
    if (rc == SB_ENOSPACE) /* what is left stays in the journals; only who opens can delete */
        rc = SB_OK;
    if (rc != SB_OK)
        return rc;

    if (!join(data, sizeof(data), st->path, "data.mdb") || stat(data, &sb) != 0)
        return sb_err_errno(err, errno, "%s", data);
    st->dev = sb.st_dev;
    st->ino = sb.st_ino;
    st->next = open_stores;
    open_stores = st;
    return SB_OK;
}

static void dispose(sb_store_t *st)
{
    /* In a child forked with the store open, closing would free the parent's reader slot. */
    if (st->env != NULL && st->pid == getpid()) {
        if (st->read != NULL)
            mdb_txn_abort(st->read);
        mdb_env_close(st->env);
    }
    sb_buf_free(&st->kept);
    free(st->path);
    free(st);
}

sb_code_t sb_store_open(const char *path, size_t size, bool create, sb_store_t **out, sb_err_t *err)
{
    sb_store_t *st = calloc(1, sizeof(*st));
    sb_code_t rc;

    *out = NULL;
    if (st == NULL)
        return sb_err_errno(err, ENOMEM, "opening the store");
    st->pid = getpid();
    st->path = strdup(path);
    sb_buf_init(&st->kept, SIZE_MAX);
    if (st->path == NULL) {
        dispose(st);
        return sb_err_errno(err, ENOMEM, "opening the store");
    }
    pthread_mutex_lock(&open_lock);
    rc = open_locked(st, size != 0 ? size : SB_STORE_SIZE, create, err);
    pthread_mutex_unlock(&open_lock);
    if (rc != SB_OK) {
        dispose(st);
        return rc;
    }
    *out = st;
    return SB_OK;
}

void sb_store_close(sb_store_t *st)
{
    if (st == NULL)
        return;
    pthread_mutex_lock(&open_lock);
    for (sb_store_t **p = &open_stores; *p != NULL; p = &(*p)->next) {
        if (*p == st) {
            *p = st->next;
            break;
        }
    }
    dispose(st); /* under the lock: nobody opens the file while it is closed */
    pthread_mutex_unlock(&open_lock);
}

void sb_store_check_readers(sb_store_t *st)
{
    mdb_reader_check(st->env, NULL);
}

/* ---- reads ---- */

sb_code_t sb_store_read_begin(sb_store_t *st, sb_err_t *err)
{
    int rc = mdb_txn_renew(st->read);

    if (rc == MDB_READERS_FULL) { /* dead processes may hold slots */
        mdb_reader_check(st->env, NULL);
        rc = mdb_txn_renew(st->read);
    }
    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "beginning to read", err);
}

void sb_store_read_end(sb_store_t *st)
{
    mdb_txn_reset(st->read);
}

sb_code_t sb_store_keep(sb_store_t *st, sb_str_t *const *parts, size_t n, sb_err_t *err)
{
    size_t at = 0;

    if (st->kept.cap > KEPT_MAX)
        sb_buf_free(&st->kept);
    sb_buf_clear(&st->kept);
    for (size_t i = 0; i < n; i++) {
        sb_buf_add(&st->kept, parts[i]->data, parts[i]->len);
        sb_buf_char(&st->kept, '\0');
    }
    if (!sb_buf_ok(&st->kept))
        return sb_err_errno(err, ENOMEM, "store: copying a record");
    for (size_t i = 0; i < n; i++) { /* only now: the buffer has stopped moving */
        parts[i]->data = st->kept.data + at;
        at += parts[i]->len + 1;
    }
    return SB_OK;
}

sb_code_t sb_store_ping(sb_store_t *st, sb_err_t *err)
{
    uint64_t schema;
    sb_code_t code = sb_store_read_begin(st, err);
    int rc;

    if (code != SB_OK)
        return code;
    rc = sb_store_meta_get(st, st->read, "schema", &schema);
    sb_store_read_end(st);
    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "reading the schema", err);
}

sb_code_t sb_store_usage(sb_store_t *st, sb_store_usage_t *usage, sb_err_t *err)
{
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(st->env, &info);

    if (rc == 0)
        rc = mdb_env_stat(st->env, &stat);
    if (rc != 0)
        return sb_store_fail(st, rc, "asking for its size", err);
    usage->map_bytes = info.me_mapsize;
    usage->used_bytes = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
    return SB_OK;
}

/* ---- batches ---- */

sb_code_t sb_batch_begin(sb_store_t *st, sb_batch_t **out, sb_err_t *err)
{
    sb_batch_t *b;
    int rc;

    *out = NULL;
    if (st->pid != getpid())
        return sb_err_set(err, SB_EINTERNAL,
                          "store: used in a child of the process that opened it");
    if (st->read_only)
        return sb_err_set(err, SB_EREADONLY, "store: %s can only be read", st->path);
    if (atomic_exchange(&st->in_batch, true)) /* LMDB would wait for itself */
        return sb_err_set(err, SB_EINTERNAL, "store: a batch is open already");
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        atomic_store(&st->in_batch, false);
        return sb_err_errno(err, ENOMEM, "store: beginning a batch");
    }
    b->st = st;
    sb_buf_init(&b->doubtful, SIZE_MAX);
    sb_buf_init(&b->used, SIZE_MAX);
    rc = mdb_txn_begin(st->env, NULL, 0, &b->txn);
    if (rc != 0) {
        free(b);
        atomic_store(&st->in_batch, false);
        return sb_store_fail(st, rc, "beginning a batch", err);
    }
    b->low = sb_ballast_take(st, b->txn) != 0;
    *out = b;
    return SB_OK;
}

static void batch_end(sb_batch_t *b, bool committed)
{
    sb_store_t *st = b->st;

    sb_packages_settle(b, committed);
    if (b->full)
        sb_ballast_let_go(st);
    sb_buf_free(&b->doubtful);
    sb_buf_free(&b->used);
    free(b);
    atomic_store(&st->in_batch, false);
}

sb_code_t sb_batch_commit(sb_batch_t *b, sb_err_t *err)
{
    int rc = mdb_txn_commit(b->txn);
    sb_code_t code = rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "committing a batch", err);

    b->full |= code == SB_ENOSPACE;
    batch_end(b, rc == 0);
    return code;
}

void sb_batch_abort(sb_batch_t *b)
{
    mdb_txn_abort(b->txn);
    batch_end(b, false);
}

sb_code_t sb_batch_op_begin(sb_batch_t *b, MDB_txn **txn, sb_err_t *err)
{
    int rc = mdb_txn_begin(b->st->env, b->txn, 0, txn);

    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "beginning an operation", err);
}

sb_code_t sb_batch_grow_begin(sb_batch_t *b, MDB_txn **txn, sb_err_t *err)
{
    if (b->low)
        return sb_err_set(err, SB_ENOSPACE, "store: it is full, until something is deleted");
    return sb_batch_op_begin(b, txn, err);
}

sb_code_t sb_batch_op_end(sb_batch_t *b, MDB_txn *txn, sb_code_t code, sb_err_t *err)
{
    int rc;

    if (code != SB_OK) {
        mdb_txn_abort(txn);
        b->full |= code == SB_ENOSPACE;
        return code;
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0)
        code = sb_store_fail(b->st, rc, "finishing an operation", err);
    b->full |= code == SB_ENOSPACE;
    return code;
}

bool sb_batch_low(const sb_batch_t *b)
{
    return b->low;
}

/* ---- the change log ---- */

sb_code_t sb_log_start(sb_batch_t *b, MDB_txn *txn, sb_buf_t *entry, const char *op,
                       const char *tenant, sb_err_t *err)
{
    uint64_t rev;
    int rc = sb_store_meta_get(b->st, txn, "rev", &rev);

    if (rc == 0)
        rc = sb_store_meta_put(b->st, txn, "rev", rev + 1);
    if (rc != 0)
        return sb_store_fail(b->st, rc, "taking a revision", err);
    sb_buf_init(entry, LOG_MAX);
    sb_buf_char(entry, '{');
    sb_json_key_int(entry, "rev", (int64_t)(rev + 1));
    sb_json_key_str(entry, "op", op);
    sb_json_key_str(entry, "tenant", tenant);
    return SB_OK;
}

sb_code_t sb_log_put(sb_batch_t *b, MDB_txn *txn, sb_buf_t *entry, sb_err_t *err)
{
    uint64_t rev;
    int rc = sb_store_meta_get(b->st, txn, "rev", &rev);

    sb_buf_char(entry, '}');
    if (!sb_buf_ok(entry))
        rc = ENOMEM;
    if (rc == 0) {
        sb_num_t num = sb_num(rev);
        MDB_val key = {sizeof(num.data), num.data}, val = {entry->len, entry->data};
        rc = mdb_put(txn, b->st->dbi[SB_DBI_LOG], &key, &val, MDB_APPEND);
    }
    sb_buf_free(entry);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing the change log", err);
}
