/*
 * store_upgrade.c - a store that an older program made becomes one of this schema.
 *
 * Promises: all steps happen in one transaction, so a crash or a full disk leaves
 * the store as it was; whoever comes second, in another process, finds it done.
 * Workers of the older program that still have the store open go on undisturbed:
 * steps add databases and change no record that those read.
 *
 * To raise SB_STORE_SCHEMA: new databases need nothing here.  A step that changes
 * records goes into the table at the place of the schema it starts from.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

/* 0 or an LMDB error.  NULL: the new schema only has more databases. */
typedef int (*step_t)(sb_store_t *st, MDB_txn *txn);

static const step_t steps[SB_STORE_SCHEMA] = {
    [1] = sb_exec_reindex,  /* 2: limits, keyused; bystatus, byskill, counts, idem, idemtimes */
    [2] = NULL,             /* 3: files, fileversions */
    [3] = NULL,             /* 4: graves, gravetimes */
    [4] = sb_usage_recount, /* 5: usage; archives, which the gateway fills as it finds them */
};

static int upgrade(sb_store_t *st, MDB_txn *txn)
{
    uint64_t schema;
    int rc = sb_store_open_dbis(st, txn, MDB_CREATE, 0, SB_DBI_COUNT - 1);

    if (rc == 0)
        rc = sb_store_meta_get(st, txn, "schema", &schema);
    if (rc != 0)
        return rc;
    for (; schema < SB_STORE_SCHEMA; schema++) { /* not at all when another was faster */
        rc = steps[schema] != NULL ? steps[schema](st, txn) : 0;
        if (rc == 0)
            rc = sb_store_meta_put(st, txn, "schema", schema + 1);
        if (rc != 0)
            return rc;
    }
    return 0;
}

sb_code_t sb_store_upgrade(sb_store_t *st, sb_err_t *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, 0, &txn);

    if (rc != 0)
        return sb_store_fail(st, rc, "bringing it to a newer schema", err);
    rc = upgrade(st, txn);
    if (rc != 0)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    return rc == 0 ? SB_OK : sb_store_fail(st, rc, "bringing it to a newer schema", err);
}
