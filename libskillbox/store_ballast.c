/*
 * store_ballast.c - pages kept back, so that a full store can be emptied.
 *
 * LMDB writes every page it changes to a new place: in a map (or on a disk) that is
 * full to the last page nothing can be deleted either.  So some pages are taken by
 * records of no meaning, one page each.  Promises: when an operation finds no room,
 * the ballast is let go after its batch, and from then on what makes the store larger
 * is SB_ENOSPACE at once (sb_batch_grow_begin) and what makes it smaller has those
 * pages.  It is taken again as soon as there is room for twice of it, so that the
 * store does not go to and fro at the brim.  That there is none is seen from the
 * store itself: other processes and the next opening know too.
 * Runs where batches run, and at opening.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <string.h>

#define PART      256 /* of the map */
#define PAGES_MIN 48
#define PAGES_MAX 1024

static const unsigned char nothing[65536];

typedef struct {
    size_t pages, page_bytes;
    bool at_the_end; /* of the map, where no page was used yet, is room for more than twice of it */
} ballast_t;

static int ballast_of(sb_store_t *st, ballast_t *b)
{
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(st->env, &info);

    if (rc == 0)
        rc = mdb_env_stat(st->env, &stat);
    if (rc != 0)
        return rc;
    b->page_bytes = stat.ms_psize;
    b->pages = info.me_mapsize / stat.ms_psize / PART;
    b->pages = b->pages < PAGES_MIN ? PAGES_MIN : b->pages > PAGES_MAX ? PAGES_MAX : b->pages;
    b->at_the_end = info.me_mapsize / stat.ms_psize > info.me_last_pgno + 3 * b->pages;
    return 0;
}

/* Records of three quarters of a page: LMDB gives each a page of its own. */
static int put_pages(sb_store_t *st, MDB_txn *txn, const ballast_t *b, size_t count)
{
    size_t bytes =
        b->page_bytes / 4 * 3 < sizeof(nothing) ? b->page_bytes / 4 * 3 : sizeof(nothing);
    MDB_val val = {bytes, (void *)(uintptr_t)nothing};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        sb_num_t num = sb_num(i);
        MDB_val key = {sizeof(num.data), num.data};

        rc = mdb_put(txn, st->dbi[SB_DBI_BALLAST], &key, &val, MDB_APPEND);
    }
    return rc;
}

/* In a transaction of its own inside of txn, which is kept or not.  LMDB keeps the memory of each
 * page that was ever changed at once, so what is only tried costs as much as what is kept. */
static int try_pages(sb_store_t *st, MDB_txn *txn, const ballast_t *b, size_t count, bool keep)
{
    MDB_txn *inner;
    int rc = mdb_txn_begin(st->env, txn, 0, &inner);

    if (rc != 0)
        return rc;
    rc = put_pages(st, inner, b, count);
    if (rc == 0 && keep)
        return mdb_txn_commit(inner);
    mdb_txn_abort(inner);
    return rc;
}

int sb_ballast_take(sb_store_t *st, MDB_txn *txn)
{
    ballast_t b;
    MDB_stat stat;
    int rc = mdb_stat(txn, st->dbi[SB_DBI_BALLAST], &stat);

    if (rc != 0 || stat.ms_entries != 0)
        return rc;
    rc = ballast_of(st, &b);
    if (rc == 0 && !b.at_the_end)
        rc = try_pages(st, txn, &b, 2 * b.pages, false);
    return rc == 0 ? try_pages(st, txn, &b, b.pages, true) : rc;
}

/*
 * Twice a commit that changes something: what one frees is used again by the second one after it.
 * Without success there is no harm: the next batch without room tries again.
 */
void sb_ballast_let_go(sb_store_t *st)
{
    uint64_t rev;
    MDB_stat stat;
    MDB_txn *txn;

    for (int i = 0; i < 2; i++) {
        if (mdb_txn_begin(st->env, NULL, 0, &txn) != 0)
            return;
        int rc = mdb_stat(txn, st->dbi[SB_DBI_BALLAST], &stat);

        if (rc == 0 && i == 0 && stat.ms_entries == 0)
            rc = MDB_NOTFOUND; /* gone already */
        if (rc == 0 && i == 0)
            rc = mdb_drop(txn, st->dbi[SB_DBI_BALLAST], 0);
        if (rc == 0)
            rc = sb_store_meta_get(st, txn, "rev", &rev);
        if (rc == 0)
            rc = sb_store_meta_put(st, txn, "rev", rev);
        if (rc != 0) {
            mdb_txn_abort(txn);
            return;
        }
        if (mdb_txn_commit(txn) != 0)
            return;
    }
}
