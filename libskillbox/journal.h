/*
 * journal.h - runs as they stand in a journal (store_journal.h): what a record needs, in batches.
 *
 * A batch is a header and its entries, written at once.  Promises: a batch that was not written
 * whole, or whose bytes have changed, is told from a whole one (SHA-256); an entry is never read
 * over its end, whatever the bytes are.  Numbers are in the machine's own order: a journal is read
 * where it was written, as LMDB's file is.  No files, no locks; any thread.
 */
#ifndef SB_JOURNAL_H
#define SB_JOURNAL_H

#include "buf.h"
#include "store.h"

#define SB_JOURNAL_ENTRY_MAX (64 * SB_KIB)  /* of one run */
#define SB_JOURNAL_BATCH_MAX (256 * SB_KIB) /* with its header */

/* Makes buf an empty batch, with room for its header. */
void sb_journal_begin(sb_buf_t *buf);

/* Adds a run without files.  False: it does not fit, or there is no memory; the batch is as it was.
 * Of e the members up to `inputs` are kept, skill must not be NULL. */
bool sb_journal_add(sb_buf_t *buf, const sb_execution_finish_t *e);

/* Its header, when nothing is added any more.  seq: one more than that of the batch before. */
void sb_journal_seal(sb_buf_t *buf, uint64_t seq);

typedef struct {
    uint64_t seq;
    size_t len;       /* with the header */
    const char *next; /* the entries that were not looked at yet */
    size_t left;      /* their bytes */
} sb_journal_batch_t;

/* Is there a whole batch at data?  What it tells of lies in data. */
bool sb_journal_read(const char *data, size_t len, sb_journal_batch_t *batch);

/* The next entry; its strings lie in the batch.  False: there is none, and batch->left is 0, or
 * what is there is none, and it is not. */
bool sb_journal_next(sb_journal_batch_t *batch, sb_execution_finish_t *e);

#endif
