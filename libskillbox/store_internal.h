/*
 * store_internal.h - what the store's files share; nobody else includes it.
 *
 *   store.c             environment, transactions, batches, change log, codec
 *   store_packages.c    the files in packages/ and tmp/
 *   store_keys.c        API keys
 *   store_tenants.c     tenants and their limits
 *   store_usage.c       what they keep, in bytes
 *   store_ballast.c     pages kept back, so that a full store can be emptied
 *   store_journal.c     what is written before it
 *   store_upgrade.c     a store of an older schema becomes one of this
 *   store_backup.c      copies, checks; not in nginx
 *   store_skills.c      skill versions
 *   store_heads.c       what `latest` means
 *   store_catalog.c     lists of skills and versions
 *   store_files.c       files kept between runs
 *   store_artifacts.c   their artifacts, as files
 *   store_executions.c  executions
 *   store_lists.c       their indexes and lists
 *   store_retention.c   their removal
 *   store_idempotency.c idempotency keys
 *   store_graves.c      what is remembered of deleted executions
 *
 * Key bytes: fields in a fixed order, a NUL between two (no field can hold one),
 * numbers big-endian; all bounded below LMDB's 511.
 *
 *   dbi         key                         value (parts, see sb_unpack)
 *   meta        "schema" | "rev"            u64
 *               "journal"                   u64: the mark of its journals (store_journal.c)
 *               "journal:<number>"          u64: the last batch of that one that is applied
 *   log         u64 revision                JSON of the change, as it is
 *   tenants     tenant                      JSON, as it is
 *   keys        SHA-256 of the secret       id, tenant, name, role, service, created, expires
 *   keyids      id                          SHA-256 of the secret, as it is
 *   skills      tenant, name, version       digest, origin, run, length of the list element, record
 *   heads       tenant, name                version, list element; another kind when it is pinned
 *   origins     tenant, name, origin,       version, as it is: the one that this digest got when it
 *               digest                      was uploaded as version `origin`
 *   packages    digest                      media type, number of skill and file records with this
 *                                           digest
 *   executions  tenant, 16 bytes of id      status, files, created, list element, skill, JSON, logs
 *   live        tenant, 16 bytes of id      owner, its start in clock ticks since boot
 *   bystatus    tenant, a letter for the    nothing
 *               status, 16 bytes of id
 *   byskill     tenant, skill, 16 bytes     that letter
 *               of id
 *   counts      tenant                      u64: executions it has
 *   idem        tenant, SHA-256 of the key  16 bytes of execution id, SHA-256 of the body, created
 *   idemtimes   created (u64), then the     nothing
 *               key of idem
 *   limits      tenant                      SB_LIMIT_COUNT numbers + 1 in one part; a shorter one
 *               (since schema 2)            is of a program that knew fewer
 *   keyused     id of a key (since 2)       u64: ms since 1970
 *   files       tenant, 16 bytes of id      digest, id of the first version, version, created,
 *               (since 3)                   name, media type, size, JSON
 *   fileversions tenant, id of the first    16 bytes of id
 *               version, version (u64)
 *   graves      tenant, 16 bytes of id of   u64: when it was deleted
 *               an execution (since 4)
 *   gravetimes  that time, then the key of  nothing
 *               graves (since 4)
 *   usage       tenant (since 5)            SB_USE_COUNT numbers in one part; a shorter one is of a
 *                                           program that counted less
 *   archives    tenant, 16 bytes of id      u64: bytes of the execution's archive, as usage has
 *               (since 5)                   them
 *   ballast     number (u64, since 5)       bytes of no meaning, a page of them
 */
#ifndef SB_STORE_INTERNAL_H
#define SB_STORE_INTERNAL_H

#include "store.h"

#include <stdatomic.h>
#include <sys/types.h>

#include <lmdb.h>

enum {
    SB_DBI_META,
    SB_DBI_LOG,
    SB_DBI_TENANTS,
    SB_DBI_KEYS,
    SB_DBI_KEYIDS,
    SB_DBI_SKILLS,
    SB_DBI_HEADS,
    SB_DBI_ORIGINS,
    SB_DBI_PACKAGES,
    SB_DBI_EXECUTIONS,
    SB_DBI_LIVE,
    SB_DBI_LIMITS, /* this and what follows: since schema 2 */
    SB_DBI_KEYUSED,
    SB_DBI_BYSTATUS,
    SB_DBI_BYSKILL,
    SB_DBI_COUNTS,
    SB_DBI_IDEMPOTENCY,
    SB_DBI_IDEMTIMES,
    SB_DBI_FILES, /* since schema 3 */
    SB_DBI_FILEVERSIONS,
    SB_DBI_GRAVES, /* since schema 4 */
    SB_DBI_GRAVETIMES,
    SB_DBI_USAGE, /* since schema 5 */
    SB_DBI_ARCHIVES,
    SB_DBI_BALLAST,
    SB_DBI_COUNT,
};

#define SB_SKEY_MAX   511
#define SB_PARTS_MAX  8
#define SB_DIGEST_LEN 64 /* lower-case hex */

struct sb_store_s {
    MDB_env *env;
    MDB_dbi dbi[SB_DBI_COUNT];
    MDB_txn *read; /* reset between reads */
    sb_buf_t kept; /* copy of what the last read answered */
    char *path;
    pid_t pid; /* who opened it: LMDB does not survive a fork */
    dev_t dev; /* of data.mdb, for the refusal of a second opening */
    ino_t ino;
    atomic_bool in_batch;
    bool read_only;          /* its file system is */
    struct sb_store_s *next; /* in the list of open stores */
};

struct sb_batch_s {
    sb_store_t *st;
    MDB_txn *txn;
    sb_buf_t doubtful; /* digests, NUL-terminated one behind the other: their files go when no
                          record is there once the transaction has ended */
    sb_buf_t used;     /* paths of uploads that were taken over, to be removed after the commit */
    bool low;          /* the ballast is gone: nothing may grow */
    bool full;         /* something found no room: the ballast is let go afterwards */
};

/* ---- store.c: errors, keys, values ---- */

/* Turns an LMDB or errno code into an error "<what>: <reason>". */
sb_code_t sb_store_fail(sb_store_t *st, int rc, const char *what, sb_err_t *err);
/* A record that does not read as this schema says. */
sb_code_t sb_store_corrupt(const char *what, sb_err_t *err);

typedef struct {
    unsigned char data[SB_SKEY_MAX];
    size_t len;
} sb_skey_t;

/* The fields up to the first NULL, joined by NULs; a last field "" makes the prefix of all below.
 * False when they are too long: nothing of that name can be there. */
bool sb_skey(sb_skey_t *k, const char *a, const char *b, const char *c, const char *d);
bool sb_skey_add(sb_skey_t *k, const void *data, size_t len);
MDB_val sb_skey_val(const sb_skey_t *k);
/* Has the key this prefix? */
bool sb_skey_prefix(const MDB_val *key, const sb_skey_t *prefix);

/*
 * A value of several parts: its kind, the number of parts, their lengths (u32),
 * their bytes.  sb_unpack checks all of it against the value's size: a damaged
 * record is told from a good one, never read over its end.
 */
int sb_pack_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, unsigned char kind, const sb_str_t *parts,
                size_t n);
bool sb_unpack(const MDB_val *val, unsigned char kind, sb_str_t *parts, size_t n);

enum {
    SB_KIND_KEY = 1,
    SB_KIND_SKILL,
    SB_KIND_HEAD,
    SB_KIND_PACKAGE,
    SB_KIND_EXECUTION,
    SB_KIND_LIVE,
    SB_KIND_IDEMPOTENCY,
    SB_KIND_LIMITS,
    SB_KIND_PIN = 20, /* a head that somebody set */
    SB_KIND_FILE,
    SB_KIND_USAGE
};

/* Numbers as parts and keys: 8 bytes, big-endian. */
typedef struct {
    unsigned char data[8];
} sb_num_t;
sb_num_t sb_num(uint64_t v);
sb_str_t sb_num_part(const sb_num_t *n);
bool sb_num_read(sb_str_t part, uint64_t *v);

static inline sb_str_t sb_str_of(const char *data, size_t len)
{
    return (sb_str_t){data, len};
}

/* Copies a part into an array, NUL-terminated; false when it does not fit. */
bool sb_str_copy(sb_str_t part, char *out, size_t outlen);

/* ---- store.c: reads ---- */

/* Between the two, results of mdb_get are good; sb_store_keep makes them outlive the end. */
sb_code_t sb_store_read_begin(sb_store_t *st, sb_err_t *err);
void sb_store_read_end(sb_store_t *st);
/* Copies the n parts into the store's own memory, each NUL-terminated, and points them there. */
sb_code_t sb_store_keep(sb_store_t *st, sb_str_t *const *parts, size_t n, sb_err_t *err);

/* ---- store.c: writes ---- */

/* An operation is a nested transaction: op_end commits it when rc is SB_OK, else drops it. */
sb_code_t sb_batch_op_begin(sb_batch_t *b, MDB_txn **txn, sb_err_t *err);
/* As op_begin, of one that makes the store larger: SB_ENOSPACE while the ballast is gone. */
sb_code_t sb_batch_grow_begin(sb_batch_t *b, MDB_txn **txn, sb_err_t *err);
sb_code_t sb_batch_op_end(sb_batch_t *b, MDB_txn *txn, sb_code_t rc, sb_err_t *err);

/* Takes the next revision and starts its entry {"rev":..,"op":..,"tenant":..; add members, then
 * log_put. */
sb_code_t sb_log_start(sb_batch_t *b, MDB_txn *txn, sb_buf_t *entry, const char *op,
                       const char *tenant, sb_err_t *err);
sb_code_t sb_log_put(sb_batch_t *b, MDB_txn *txn, sb_buf_t *entry, sb_err_t *err);

/* ---- store_skills.c ---- */

/* A skill's value, taken apart. */
typedef struct {
    sb_str_t digest;
    sb_str_t origin; /* the version it was uploaded as */
    sb_str_t run;
    sb_str_t json;
    uint64_t element; /* the list element is this much of json, and a brace */
} sb_skill_value_t;

bool sb_skill_unpack(const MDB_val *val, sb_skill_value_t *out);
/* Fills err and returns SB_ENOTFOUND; version NULL: the skill as a whole. */
sb_code_t sb_skill_not_found(const char *name, const char *version, sb_err_t *err);
/* The value of one version, in any transaction.  SB_ENOTFOUND leaves err alone. */
sb_code_t sb_skill_version_get(sb_store_t *st, MDB_txn *txn, const char *tenant, const char *name,
                               const char *version, sb_skill_value_t *out, sb_err_t *err);
/* An entry of the change log. */
sb_code_t sb_skill_log(sb_batch_t *b, MDB_txn *txn, const char *op, const char *tenant,
                       const char *name, const char *version, const char *digest, sb_err_t *err);

/* ---- store_heads.c ---- */

typedef struct {
    char version[SB_VERSION_MAX + 1];
    sb_str_t element; /* in the transaction's memory */
    bool pinned;      /* set by sb_batch_skill_activate: uploads don't move it */
} sb_head_t;

bool sb_head_unpack(const MDB_val *val, sb_head_t *head);
/* In any transaction.  SB_ENOTFOUND leaves err alone. */
sb_code_t sb_head_get(sb_store_t *st, MDB_txn *txn, const char *tenant, const char *name,
                      sb_head_t *head, sb_err_t *err);
/* A version was added: is it the latest now? */
sb_code_t sb_head_raise(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                        const char *version, sb_err_t *err);
/* Versions were deleted: what is the latest of those that are left? */
sb_code_t sb_head_lower(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                        sb_err_t *err);
/* ---- store_executions.c ---- */

/* An execution's value, taken apart. */
typedef struct {
    sb_str_t status;
    uint64_t files;
    uint64_t created_ms;
    sb_str_t element; /* of the list; empty in a record of schema 1 */
    sb_str_t skill;
    sb_str_t json;
    sb_str_t logs;
} sb_exec_value_t;

bool sb_exec_unpack(const MDB_val *val, sb_exec_value_t *out);
bool sb_exec_key(sb_skey_t *key, const char *tenant, const unsigned char id[16]);
/* SB_ENOTFOUND leaves err alone. */
sb_code_t sb_exec_get(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_exec_value_t *value,
                      sb_err_t *err);
/* What it counts for in its tenant's account. */
int64_t sb_exec_bytes(const sb_exec_value_t *value);
/* queued or running */
bool sb_exec_is_live(sb_str_t status);
/* As sb_batch_execution_finish() of a run whose client was answered: it may use the room that is
 * kept back for deleting. */
sb_code_t sb_exec_finish_promised(sb_batch_t *b, sb_execution_finish_t *e, sb_err_t *err);

/* In the read transaction.  SB_ENOTFOUND leaves err alone. */
sb_code_t sb_exec_read(sb_store_t *st, const char *tenant, const unsigned char id[16],
                       sb_exec_value_t *value, sb_err_t *err);

/* ---- store_artifacts.c ---- */

/* In the read transaction; SB_ENOTFOUND leaves err alone. */
sb_code_t sb_artifact_get(sb_store_t *st, const char *tenant, const unsigned char id[16],
                          sb_file_t *out, sb_err_t *err);
/* The same: appends objects, with a comma before each (first: not before the first). */
sb_code_t sb_artifact_list(sb_store_t *st, const char *tenant, const char *execution,
                           uint32_t offset, uint32_t limit, bool first, sb_buf_t *out,
                           sb_err_t *err);
/* In a batch. */
sb_code_t sb_artifact_exists(sb_batch_t *b, MDB_txn *txn, const char *tenant,
                             const unsigned char id[16], sb_err_t *err);

/* ---- store_lists.c ---- */

/* Indexes follow a record: before is what was there (NULL: nothing), after what is (NULL: nothing).
 */
sb_code_t sb_exec_index(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key,
                        const sb_exec_value_t *before, const sb_exec_value_t *after, sb_err_t *err);
/* Tenant and id of a record's key; false when it is none. */
bool sb_exec_split_key(const sb_skey_t *key, char tenant[SB_TENANT_MAX + 1], const void **id);
/* The element of the list: the record without its large members, appended. */
void sb_exec_element(sb_str_t json, sb_buf_t *out);
/* A member that is an array, with its brackets; empty when there is none. */
sb_str_t sb_exec_array(sb_str_t json, const char *name);
/* A member that is a string without escapes; empty when there is none. */
sb_str_t sb_exec_member(sb_str_t json, const char *name);
/* Indexes all records anew; 0 or an LMDB error. */
int sb_exec_reindex(sb_store_t *st, MDB_txn *txn);
/* ---- store_graves.c ---- */

/* Was the execution of that key deleted a short time ago?  SB_ENOTFOUND, which leaves err alone. */
sb_code_t sb_grave_find(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err);
/* It is being deleted. */
sb_code_t sb_grave_dig(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err);

/* ---- store_files.c ---- */

/* Of the content; false when the record is damaged. */
bool sb_file_size(const MDB_val *val, int64_t *size);

/* ---- store_tenants.c ---- */

/* In any transaction; all SB_UNLIMITED for a tenant that has none set. */
sb_code_t sb_limits_get(sb_store_t *st, MDB_txn *txn, const char *id, int64_t limit[SB_LIMIT_COUNT],
                        sb_err_t *err);

/* Makes the tenant's record unless it is there. */
sb_code_t sb_tenant_make(sb_batch_t *b, MDB_txn *txn, const char *tenant, int64_t now,
                         sb_err_t *err);

/* ---- store_ballast.c ---- */

/* Takes the ballast unless it is there.  0, MDB_MAP_FULL: there is no room for it, or an error;
 * then txn goes on as it was. */
int sb_ballast_take(sb_store_t *st, MDB_txn *txn);
/* Lets it go, in transactions of its own: no batch is open. */
void sb_ballast_let_go(sb_store_t *st);

/* ---- store_usage.c ---- */

/* In any transaction; zeroes for one that keeps nothing. */
sb_code_t sb_usage_get(sb_store_t *st, MDB_txn *txn, const char *tenant, int64_t use[SB_USE_COUNT],
                       sb_err_t *err);
/* The account grows (or, by < 0, shrinks) with the record that txn writes. */
sb_code_t sb_usage_add(sb_batch_t *b, MDB_txn *txn, const char *tenant, sb_use_t which, int64_t by,
                       sb_err_t *err);
/* SB_EQUOTA: so many bytes more are not within the tenant's SB_LIMIT_DISK_BYTES. */
sb_code_t sb_usage_room(sb_batch_t *b, MDB_txn *txn, const char *tenant, int64_t more,
                        sb_err_t *err);
/* The execution's archive is of so many bytes now; 0: there is none. */
sb_code_t sb_usage_archive(sb_batch_t *b, MDB_txn *txn, const char *tenant, const sb_skey_t *key,
                           int64_t bytes, sb_err_t *err);
/* The tenant is deleted. */
sb_code_t sb_usage_forget(sb_batch_t *b, MDB_txn *txn, const char *tenant, sb_err_t *err);
/* Of the file in packages/; 0 when it is not there. */
int64_t sb_package_bytes(sb_store_t *st, const char *digest);
/* Counts all anew; 0 or an LMDB error. */
int sb_usage_recount(sb_store_t *st, MDB_txn *txn);

/* ---- store_keys.c ---- */

/* Revokes all keys of a tenant. */
sb_code_t sb_keys_revoke_all(sb_batch_t *b, MDB_txn *txn, const char *tenant, int *revoked,
                             sb_err_t *err);

/* ---- store.c, store_upgrade.c: schema ---- */

/* fsync(2) of a folder: the names in it are safe then. */
sb_code_t sb_store_sync_folder(const char *path, sb_err_t *err);
/* Opens dbis first..last; 0 or an LMDB error. */
int sb_store_open_dbis(sb_store_t *st, MDB_txn *txn, unsigned flags, int first, int last);
int sb_store_meta_get(sb_store_t *st, MDB_txn *txn, const char *name, uint64_t *v);
int sb_store_meta_put(sb_store_t *st, MDB_txn *txn, const char *name, uint64_t v);
/* A store of an older schema becomes one of SB_STORE_SCHEMA, in one transaction. */
sb_code_t sb_store_upgrade(sb_store_t *st, sb_err_t *err);

/* ---- store_journal.c ---- */

/* Waits until all that stands in journals is applied; SB_EBUSY: somebody does not do it. */
sb_code_t sb_journals_settle(sb_store_t *st, sb_err_t *err);

/* ---- store_packages.c ---- */

bool sb_digest_valid(const char *digest);
/* Makes packages/ and tmp/ when they are missing. */
sb_code_t sb_packages_prepare(const char *path, sb_err_t *err);
/*
 * Removes what a crash left: our files in tmp/, files in packages/ without a
 * record.  Takes the writer's lock, under which no such file is in use.
 */
sb_code_t sb_packages_sweep(sb_store_t *st, sb_err_t *err);
/* One more record has this digest; its file is put in place (from tmp) when it is not there. */
sb_code_t sb_package_ref(sb_batch_t *b, MDB_txn *txn, const char *digest, const char *tmp,
                         const char *type, sb_err_t *err);
/* One less; the last one takes the record along, and the file after the commit. */
sb_code_t sb_package_unref(sb_batch_t *b, MDB_txn *txn, const char *digest, sb_err_t *err);
/* After the batch's transaction has ended, either way. */
void sb_packages_settle(sb_batch_t *b, bool committed);

#endif
