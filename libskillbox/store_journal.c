/*
 * store_journal.c - see store_journal.h.
 *
 *   <store>/journal/lock       held while journals are taken or applied
 *   <store>/journal/<number>   a block with the store's mark; batches, each at a block's start
 *
 * Batches are numbered; a batch is the next one only when its number is.  When all is applied the
 * next one is written over the first: behind it those of the last time remain, with lower numbers.
 * meta "journal" is the store's mark, so that a file of another store is none of this one's, and
 * "journal:<number>" the last batch that is applied, in the transaction that has applied it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store_internal.h"

#define FOLDER     "journal"
#define MARK       "journal"
#define BLOCK      4096
#define PATH_BYTES 4096
#define SETTLE_MS  5000 /* what a copy waits for living processes, at most */
#define LOOK_MS    2

struct sb_journal_s {
    sb_store_t *st;
    int fd;
    unsigned number;
    uint64_t seq; /* of the last batch */
    off_t at;     /* where the next one goes */
    int direct;   /* the same file by O_DIRECT; -1: its file system has no such thing */
    char *page;   /* what is written that way lies there, at a block's start */
    size_t room;  /* of page */
    bool broken;  /* a write has failed: nobody knows what lies there */
};

typedef struct {
    char magic[8];
    uint64_t mark;
} file_head_t;

static const char magic[8] = "SBJRNL1";

/* ---- files ---- */

static bool path_of(const sb_store_t *st, const char *name, char out[PATH_BYTES])
{
    int n =
        snprintf(out, PATH_BYTES, "%s/" FOLDER "%s%s", st->path, *name != '\0' ? "/" : "", name);

    return n > 0 && n < PATH_BYTES;
}

static sb_code_t fail(sb_err_t *err, const char *what)
{
    return sb_err_errno(err, errno, "the store's journal: %s", what);
}

static int write_all(int fd, const char *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        data += n;
        len -= (size_t)n;
        at += n;
    }
    return 0;
}

/*
 * Past the page cache, where the file system can: a twentieth of a millisecond less, and that of
 * the processor.  Whole blocks then, from a block's start in memory, too (open(2), O_DIRECT).
 */
static int write_direct(sb_journal_t *j, const sb_buf_t *batch, size_t len)
{
    if (len > j->room) {
        free(j->page);
        j->room = 0;
        j->page = aligned_alloc(BLOCK, len);
        if (j->page == NULL)
            return -1;
        j->room = len;
    }
    memcpy(j->page, batch->data, batch->len);
    memset(j->page + batch->len, 0, len - batch->len);
    return write_all(j->direct, j->page, len, j->at);
}

static int write_cached(const sb_journal_t *j, const sb_buf_t *batch)
{
    return write_all(j->fd, batch->data, batch->len, j->at) == 0 ? fdatasync(j->fd) : -1;
}

/* malloc'ed; NULL with errno, 0 when it is no journal of this size. */
static char *read_file(int fd)
{
    char *data;
    size_t at = 0;
    struct stat sb;

    errno = 0;
    if (fstat(fd, &sb) != 0 || sb.st_size != SB_JOURNAL_BYTES)
        return NULL;
    data = malloc(SB_JOURNAL_BYTES);
    while (data != NULL && at < SB_JOURNAL_BYTES) {
        ssize_t n = pread(fd, data + at, SB_JOURNAL_BYTES - at, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            free(data);
            return NULL;
        }
        at += (size_t)n;
    }
    return data;
}

static bool is_ours(const char *data, uint64_t mark)
{
    file_head_t head;

    memcpy(&head, data, sizeof(head));
    return memcmp(head.magic, magic, sizeof(magic)) == 0 && head.mark == mark;
}

/* The batch that follows those before *at; false: that was the last one. */
static bool next_batch(const char *data, size_t *at, uint64_t *seq, sb_journal_batch_t *batch)
{
    const bool first = *at == 0;

    if (first)
        *at = BLOCK;
    if (*at >= SB_JOURNAL_BYTES || !sb_journal_read(data + *at, SB_JOURNAL_BYTES - *at, batch) ||
        (!first && batch->seq != *seq + 1))
        return false;
    *seq = batch->seq;
    *at += (batch->len + BLOCK - 1) / BLOCK * BLOCK;
    return true;
}

/* Waits for it; -1: there is none, or it can't be had. */
static int lock_folder(const sb_store_t *st, bool make)
{
    char path[PATH_BYTES];
    int fd;

    if (!path_of(st, "lock", path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = open(path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
    while (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        close(fd);
        return -1;
    }
    return fd;
}

/* Locked; -1 with EWOULDBLOCK: a living process has it. */
static int take_file(const sb_store_t *st, unsigned number, bool make)
{
    char name[16], path[PATH_BYTES];
    int fd, saved;

    snprintf(name, sizeof(name), "%u", number);
    if (!path_of(st, name, path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* ---- what the store knows of journals ---- */

static void meta_name(unsigned number, char out[32])
{
    snprintf(out, 32, MARK ":%u", number);
}

/* 0 when there is none. */
static int meta_read(sb_store_t *st, MDB_txn *txn, const char *name, uint64_t *v)
{
    int rc;

    *v = 0;
    rc = sb_store_meta_get(st, txn, name, v);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The store's mark (0: it never had a journal) and the last batch that is applied of one. */
static sb_code_t read_meta(sb_store_t *st, unsigned number, uint64_t *mark, uint64_t *applied,
                           sb_err_t *err)
{
    char name[32];
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn); /* st->read is another thread's */

    if (rc == 0) {
        meta_name(number, name);
        rc = meta_read(st, txn, MARK, mark);
        if (rc == 0)
            rc = meta_read(st, txn, name, applied);
        mdb_txn_abort(txn);
    }
    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "reading what is known of journals", err);
}

static sb_code_t make_mark(sb_store_t *st, uint64_t *mark, sb_err_t *err)
{
    sb_batch_t *b;
    sb_code_t code;
    int rc;

    do
        if (getrandom(mark, sizeof(*mark), 0) != (ssize_t)sizeof(*mark))
            return fail(err, "random numbers");
    while (*mark == 0);
    code = sb_batch_begin(st, &b, err);
    if (code != SB_OK)
        return code;
    rc = sb_store_meta_put(st, b->txn, MARK, *mark);
    if (rc == 0)
        return sb_batch_commit(b, err);
    sb_batch_abort(b);
    return sb_store_fail(st, rc, "marking the store", err);
}

static sb_code_t put_applied(sb_batch_t *b, unsigned number, uint64_t seq, sb_err_t *err)
{
    char name[32];
    MDB_txn *txn;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);
    int rc;

    if (code != SB_OK)
        return code;
    meta_name(number, name);
    rc = sb_store_meta_put(b->st, txn, name, seq);
    if (rc != 0)
        code = sb_store_fail(b->st, rc, "noting what of a journal is applied", err);
    return sb_batch_op_end(b, txn, code, err);
}

/* ---- applying ---- */

sb_code_t sb_batch_journal(sb_batch_t *b, const char *data, size_t len, sb_err_t *err)
{
    sb_journal_batch_t batch;
    sb_execution_finish_t e;
    sb_code_t code = SB_OK;

    if (!sb_journal_read(data, len, &batch))
        return sb_store_corrupt("a journal's batch", err);
    while (code == SB_OK && sb_journal_next(&batch, &e))
        code = sb_exec_finish_promised(b, &e, err);
    if (code == SB_OK && batch.left != 0)
        code = sb_store_corrupt("a journal's entry", err);
    return code;
}

sb_code_t sb_batch_journal_applied(sb_batch_t *b, const sb_journal_t *j, uint64_t seq,
                                   sb_err_t *err)
{
    return put_applied(b, j->number, seq, err);
}

/* All batches beyond `applied`. */
static sb_code_t apply_file(sb_batch_t *b, const char *data, unsigned number, uint64_t applied,
                            sb_err_t *err)
{
    sb_journal_batch_t batch;
    sb_code_t code = SB_OK;
    uint64_t seq = 0;
    size_t at = 0;

    while (code == SB_OK && next_batch(data, &at, &seq, &batch)) {
        if (seq <= applied)
            continue;
        code = sb_batch_journal(b, batch.next - (batch.len - batch.left), batch.len, err);
        if (code == SB_OK)
            code = put_applied(b, number, seq, err);
    }
    return code;
}

/* Twice: the first time may find the store full to the brim, and lets go what is kept back. */
static sb_code_t apply_and_commit(sb_store_t *st, const char *data, unsigned number,
                                  uint64_t applied, sb_err_t *err)
{
    sb_code_t code = SB_OK;

    for (int i = 0; i < 2; i++) {
        sb_batch_t *b;

        code = sb_batch_begin(st, &b, err);
        if (code != SB_OK)
            return code;
        code = apply_file(b, data, number, applied, err);
        if (code == SB_OK)
            return sb_batch_commit(b, err);
        sb_batch_abort(b);
        if (code != SB_ENOSPACE)
            break;
    }
    return code;
}

static uint64_t last_seq(const char *data)
{
    sb_journal_batch_t batch;
    uint64_t seq = 0;
    size_t at = 0;

    while (next_batch(data, &at, &seq, &batch)) {
    }
    return seq;
}

/* Of a locked file, what a process has left; *ready: it can be written to as it is. */
static sb_code_t recover_file(sb_store_t *st, int fd, unsigned number, uint64_t *applied,
                              bool *ready, sb_err_t *err)
{
    uint64_t mark = 0, last;
    sb_code_t code;
    char *data;

    *ready = false;
    *applied = 0;
    code = read_meta(st, number, &mark, applied, err);
    if (code != SB_OK)
        return code;
    data = read_file(fd);
    if (data == NULL)
        return errno == 0 ? SB_OK : fail(err, "reading");
    *ready = mark != 0 && is_ours(data, mark);
    last = *ready ? last_seq(data) : 0;
    if (last > *applied) {
        code = apply_and_commit(st, data, number, *applied, err);
        if (code == SB_OK)
            *applied = last;
    }
    free(data);
    return code == SB_OK ? SB_OK : sb_err_context(err, "applying journal %u", number);
}

static bool number_of(const char *name, unsigned *number)
{
    char *end;
    unsigned long n = strtoul(name, &end, 10);

    *number = (unsigned)n;
    return name[0] >= '0' && name[0] <= '9' && *end == '\0' && n < SB_JOURNALS_MAX;
}

static sb_code_t recover_all(sb_store_t *st, DIR *dir, sb_err_t *err)
{
    sb_code_t code = SB_OK;
    struct dirent *e;

    while (code == SB_OK && (e = readdir(dir)) != NULL) {
        unsigned number;
        uint64_t applied;
        bool ready;
        int fd;

        if (!number_of(e->d_name, &number))
            continue;
        fd = take_file(st, number, false);
        if (fd < 0 && errno != EWOULDBLOCK && errno != ENOENT)
            code = fail(err, e->d_name);
        if (fd < 0)
            continue;
        code = recover_file(st, fd, number, &applied, &ready, err);
        close(fd);
    }
    return code;
}

sb_code_t sb_store_recover(sb_store_t *st, sb_err_t *err)
{
    char path[PATH_BYTES];
    sb_code_t code;
    DIR *dir;
    int lock;

    if (!path_of(st, "", path))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? SB_OK : fail(err, "opening its folder");
    lock = lock_folder(st, false);
    if (lock < 0) { /* no lock: nobody ever had a journal here */
        code = errno == ENOENT ? SB_OK : fail(err, "locking its folder");
    } else {
        code = recover_all(st, dir, err);
        close(lock);
    }
    closedir(dir);
    return code;
}

/* ---- a process's own ---- */

static sb_code_t make_folder(sb_store_t *st, sb_err_t *err)
{
    char path[PATH_BYTES];

    if (!path_of(st, "", path))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    if (mkdir(path, 0700) == 0)
        return sb_store_sync_folder(st->path, err);
    return errno == EEXIST ? SB_OK : fail(err, "making its folder");
}

/*
 * Zeros on the disk: a write into a hole, or behind the end, would have the file system write its
 * own journal as well.  The mark comes last.
 */
static int fill_file(int fd, uint64_t mark)
{
    static const char zeros[64 * 1024];
    file_head_t head = {.mark = mark};

    if (ftruncate(fd, 0) != 0)
        return -1;
    for (off_t at = 0; at < SB_JOURNAL_BYTES; at += (off_t)sizeof(zeros))
        if (write_all(fd, zeros, sizeof(zeros), at) != 0)
            return -1;
    memcpy(head.magic, magic, sizeof(magic));
    if (fsync(fd) != 0 || write_all(fd, (const char *)&head, sizeof(head), 0) != 0)
        return -1;
    return fsync(fd);
}

static sb_code_t make_file(sb_store_t *st, int fd, uint64_t mark, sb_err_t *err)
{
    char path[PATH_BYTES];

    if (!path_of(st, "", path))
        return sb_err_set(err, SB_ESYSTEM, "the store's path is too long");
    if (fill_file(fd, mark) != 0)
        return fail(err, "writing a new file");
    return sb_store_sync_folder(path, err);
}

static sb_code_t prepare_file(sb_store_t *st, sb_journal_t *j, sb_err_t *err)
{
    uint64_t mark = 0, applied = 0;
    bool ready = false;
    sb_code_t code = recover_file(st, j->fd, j->number, &applied, &ready, err);

    if (code != SB_OK)
        return code;
    j->seq = applied;
    j->at = BLOCK;
    if (ready)
        return SB_OK;
    code = read_meta(st, j->number, &mark, &applied, err);
    if (code == SB_OK && mark == 0)
        code = make_mark(st, &mark, err);
    if (code != SB_OK)
        return code;
    return make_file(st, j->fd, mark, err);
}

/* The lowest that nobody has. */
static sb_code_t take_free(sb_store_t *st, sb_journal_t *j, sb_err_t *err)
{
    for (j->number = 0; j->number < SB_JOURNALS_MAX; j->number++) {
        j->fd = take_file(st, j->number, true);
        if (j->fd >= 0)
            return prepare_file(st, j, err);
        if (errno != EWOULDBLOCK)
            return fail(err, "making a file");
    }
    return sb_err_set(err, SB_EBUSY, "the store's journal: all %u files are in use",
                      SB_JOURNALS_MAX);
}

/* Through /proc, as nobody else can have put another file there. */
static int open_direct(const sb_journal_t *j)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", j->fd);
    return open(path, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
}

sb_code_t sb_journal_open(sb_store_t *st, sb_journal_t **out, sb_err_t *err)
{
    sb_journal_t *j;
    sb_code_t code;
    int lock;

    *out = NULL;
    if (st->read_only)
        return sb_err_set(err, SB_EREADONLY, "store: %s can only be read", st->path);
    code = make_folder(st, err);
    if (code != SB_OK)
        return code;
    lock = lock_folder(st, true);
    if (lock < 0)
        return fail(err, "locking its folder");
    j = calloc(1, sizeof(*j));
    if (j == NULL) {
        close(lock);
        return sb_err_errno(err, ENOMEM, "the store's journal");
    }
    j->st = st;
    j->fd = -1;
    j->direct = -1;
    code = take_free(st, j, err);
    if (code == SB_OK)
        j->direct = open_direct(j);
    close(lock);
    if (code != SB_OK) {
        sb_journal_close(j);
        return code;
    }
    *out = j;
    return SB_OK;
}

void sb_journal_close(sb_journal_t *j)
{
    if (j == NULL)
        return;
    if (j->fd >= 0)
        close(j->fd);
    if (j->direct >= 0)
        close(j->direct);
    free(j->page);
    free(j);
}

bool sb_journal_room(const sb_journal_t *j, size_t len)
{
    /* then its blocks fit, too: where it goes and where the file ends are at a block's start */
    return !j->broken && len <= (size_t)(SB_JOURNAL_BYTES - j->at);
}

sb_code_t sb_journal_write(sb_journal_t *j, sb_buf_t *batch, uint64_t *seq, sb_err_t *err)
{
    if (!sb_journal_room(j, batch->len))
        return sb_err_set(err, SB_EBUSY, "the store's journal is full");
    const size_t len = (batch->len + BLOCK - 1) / BLOCK * BLOCK;

    *seq = ++j->seq;
    sb_journal_seal(batch, *seq);
    if ((j->direct >= 0 ? write_direct(j, batch, len) : write_cached(j, batch)) != 0) {
        j->broken = true;
        return fail(err, "writing");
    }
    j->at += (off_t)len;
    return SB_OK;
}

void sb_journal_rewind(sb_journal_t *j)
{
    j->at = BLOCK;
    j->broken = false;
}

/* ---- for a copy ---- */

/* Is all applied that stands in the file now? */
static sb_code_t settled(sb_store_t *st, unsigned number, const char *path, bool *is, sb_err_t *err)
{
    uint64_t mark = 0, applied = 0, last;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *data = fd >= 0 ? read_file(fd) : NULL;
    sb_code_t code;

    if (fd >= 0)
        close(fd);
    *is = true;
    if (data == NULL)
        return SB_OK;
    last = last_seq(data);
    code = read_meta(st, number, &mark, &applied, err);
    *is = !is_ours(data, mark) || last <= applied;
    free(data);
    return code;
}

sb_code_t sb_journals_settle(sb_store_t *st, sb_err_t *err)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    char name[16], path[PATH_BYTES];
    int tries = SETTLE_MS / LOOK_MS;

    for (unsigned number = 0; number < SB_JOURNALS_MAX; number++) {
        bool is = false;

        snprintf(name, sizeof(name), "%u", number);
        if (!path_of(st, name, path) || access(path, F_OK) != 0)
            continue;
        while (!is) {
            sb_code_t code = settled(st, number, path, &is, err);

            if (code != SB_OK)
                return code;
            if (!is && tries-- == 0)
                return sb_err_set(err, SB_EBUSY,
                                  "journal %u holds runs that its process does not write to the "
                                  "store",
                                  number);
            if (!is)
                (void)nanosleep(&pause, NULL);
        }
    }
    return SB_OK;
}
