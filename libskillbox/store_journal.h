/*
 * store_journal.h - a file that is written before the store, in one piece.
 *
 * A commit of LMDB's writes some ten pages all over its file, waits for the disk, writes one page
 * more and waits again.  A journal's write is one piece in a row and one wait: a run's client is
 * answered after that, and the record follows with a commit that many runs share.
 *
 * Promises: what sb_journal_write() has written is in the store, once, after the store was opened
 * again, whatever happened to process and machine meanwhile; nothing else comes out of a journal.
 * Who opens the store to write applies what those have left whose processes are gone
 * (sb_store_open()).  Journals lie in <store>/journal, a file for each process, locked (flock(2))
 * as long as it lives.  A copy of the store (sb_store_backup()) has what was written before it
 * began. Whose journal it is calls; not from two threads at once.
 */
#ifndef SB_STORE_JOURNAL_H
#define SB_STORE_JOURNAL_H

#include "journal.h"

#define SB_JOURNAL_BYTES (1 * SB_MIB) /* of a file, all of them allocated when it is made */
#define SB_JOURNALS_MAX  256

typedef struct sb_journal_s sb_journal_t;

/*
 * Takes a journal that nobody has, or makes one: some milliseconds, as it is written and synced as
 * a whole.  SB_EBUSY: all SB_JOURNALS_MAX are in use.
 */
sb_code_t sb_journal_open(sb_store_t *st, sb_journal_t **out, sb_err_t *err);
void sb_journal_close(sb_journal_t *j); /* NULL: nothing; what was not applied stays in the file */

/*
 * Applies what processes have left in their journals that are gone; as sb_store_open() does, for
 * who has the store open when another process dies.  Any thread that has no batch open.
 */
sb_code_t sb_store_recover(sb_store_t *st, sb_err_t *err);

/* Is there room for a batch of that many bytes, or has a write failed? */
bool sb_journal_room(const sb_journal_t *j, size_t len);

/*
 * Seals the batch and writes it; SB_OK: it is on the disk.  *seq is its number.  After a failure
 * there is no room before sb_journal_rewind().
 */
sb_code_t sb_journal_write(sb_journal_t *j, sb_buf_t *batch, uint64_t *seq, sb_err_t *err);

/* All that was written is applied, and committed: it may be written over. */
void sb_journal_rewind(sb_journal_t *j);

/*
 * Into the store: the entries of a batch that was written.  They may use the room that is kept back
 * for deleting (store_ballast.c), as they were answered.  One that is there already, or was
 * deleted, changes nothing.
 */
sb_code_t sb_batch_journal(sb_batch_t *b, const char *data, size_t len, sb_err_t *err);

/* All batches up to seq are applied with this transaction. */
sb_code_t sb_batch_journal_applied(sb_batch_t *b, const sb_journal_t *j, uint64_t seq,
                                   sb_err_t *err);

#endif
