/*
 * store.h - what the gateway remembers: API keys, tenants, skills, executions;
 * an LMDB environment plus package files beside it.
 *
 * Layout below the store's folder (made 0700 by the first opener):
 *   data.mdb lock.mdb     LMDB
 *   packages/<digest>     the upload's body as it came, immutable
 *   tmp/                  files on their way to packages/
 *
 * Rules (DESIGN.md 4).  Open after the fork, once in a process.  MDB_NOTLS; one
 * cached read transaction that every read renews and resets before it returns:
 * an idle worker pins no page.  A read's results are copies in the store's own
 * memory, each followed by a NUL, and good until the next read on the store, so
 * copy what is kept.  Reads belong to one thread (nginx: the event loop).
 * Writes go through a batch, which is one write transaction and one fsync, in
 * any one thread (nginx: the store thread), possibly at the same time as reads;
 * they don't touch a read's results.
 * The map's size is fixed by whoever creates the store.  A full disk or map is
 * SB_ENOSPACE and leaves the store readable; some pages are kept back, so that
 * deleting always goes on (sb_batch_low).
 *
 * Every catalog or key change also appends a revision to the change log, in the
 * same transaction.  JSON records are stored rendered and returned as they are.
 */
#ifndef SB_STORE_H
#define SB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "limits.h"
#include "uuid7.h"

#define SB_STORE_SCHEMA     5
#define SB_STORE_SIZE       (8 * SB_GIB)
#define SB_STORE_MAXREADERS 1024

typedef struct sb_store_s sb_store_t;
typedef struct sb_batch_s sb_batch_t;

typedef struct {
    const char *data;
    size_t len;
} sb_str_t;

/*
 * Opens, creating folder and environment when `create`; size is used then only (0: SB_STORE_SIZE).
 * A store of an older schema is brought to this one in one transaction: wholly, or left as it is.
 * SB_ENOTFOUND: no store there; SB_ECONFLICT: written by a newer schema (nothing
 * is touched); SB_EINTERNAL: open in this process already, or damaged; SB_ESYSTEM otherwise.
 * On a file system that can only be read a store of this schema is opened for reading: batches are
 * SB_EREADONLY then, until it is opened anew.
 * Clears stale readers and what a crash left in packages/ and tmp/ (takes the writer's lock for
 * it).
 */
sb_code_t sb_store_open(const char *path, size_t size, bool create, sb_store_t **out,
                        sb_err_t *err);
void sb_store_close(sb_store_t *st);
/* Frees reader slots of dead processes; for a timer.  Any thread. */
void sb_store_check_readers(sb_store_t *st);
/* Can it be read?  For /ready. */
sb_code_t sb_store_ping(sb_store_t *st, sb_err_t *err);

typedef struct {
    uint64_t map_bytes;  /* fixed */
    uint64_t used_bytes; /* of it that were ever used */
} sb_store_usage_t;
sb_code_t sb_store_usage(sb_store_t *st, sb_store_usage_t *usage, sb_err_t *err);

/* ---- API keys ---- */

typedef enum { SB_ROLE_READER, SB_ROLE_RUNNER, SB_ROLE_PUBLISHER, SB_ROLE_ADMIN } sb_role_t;
const char *sb_role_name(sb_role_t role);
bool sb_role_parse(const char *s, size_t len, sb_role_t *role);

typedef struct {
    char id[SB_UUID_LEN + 1];
    char tenant[SB_TENANT_MAX + 1];
    char name[SB_KEYNAME_MAX + 1];
    sb_role_t role;
    bool service; /* may act for any tenant by X-Tenant-ID */
    int64_t created_ms;
    int64_t expires_ms; /* 0 = never */
    int64_t used_ms;    /* 0 = not yet; a minute or so behind; sb_store_key_find leaves it out */
} sb_key_t;

/* By the SHA-256 of the secret.  SB_EAUTH: unknown or revoked.  Expiry is the caller's to judge. */
sb_code_t sb_store_key_find(sb_store_t *st, const unsigned char sha256[32], sb_key_t *key,
                            sb_err_t *err);
/* By its id.  SB_ENOTFOUND. */
sb_code_t sb_store_key_get(sb_store_t *st, const char *id, sb_key_t *key, sb_err_t *err);
typedef sb_code_t (*sb_key_cb)(void *ctx, const sb_key_t *key, sb_err_t *err);
/* Oldest first, inside one read: the callback must not call the store. */
sb_code_t sb_store_key_each(sb_store_t *st, sb_key_cb cb, void *ctx, sb_err_t *err);

/* ---- tenants ---- */

/* What a tenant may take; each a whole number from 0, or SB_UNLIMITED. */
typedef enum {
    SB_LIMIT_CONCURRENT_RUNS, /* runs under way at a time */
    SB_LIMIT_QUEUED_RUNS,     /* runs that wait for their turn beside those */
    SB_LIMIT_RUNS_PER_MINUTE,
    SB_LIMIT_PACKAGE_BYTES,  /* of one uploaded package */
    SB_LIMIT_ARTIFACT_BYTES, /* of the files of one run */
    SB_LIMIT_DISK_BYTES,     /* of all that is kept */
    SB_LIMIT_COUNT
} sb_limit_t;

#define SB_UNLIMITED (-1)
#define SB_LIMIT_MAX (1LL << 50)

/* As the API calls it: "concurrent_runs", ...; a static string. */
const char *sb_limit_name(sb_limit_t limit);

/* What a tenant keeps, in bytes; counted as store_usage.c says. */
typedef enum {
    SB_USE_PACKAGES,  /* of its skill versions */
    SB_USE_FILES,     /* kept between runs, all versions */
    SB_USE_RECORDS,   /* of its executions: results and logs */
    SB_USE_ARTIFACTS, /* their archives */
    SB_USE_COUNT
} sb_use_t;

/* As the API calls it: "package_bytes", ...; a static string. */
const char *sb_use_name(sb_use_t use);
/* What SB_LIMIT_DISK_BYTES is held against. */
int64_t sb_use_total(const int64_t use[SB_USE_COUNT]);

typedef struct {
    char id[SB_TENANT_MAX + 1];
    int64_t created_ms;
    int64_t limit[SB_LIMIT_COUNT];
    int64_t use[SB_USE_COUNT]; /* out; the operations don't look at it */
} sb_tenant_t;

/* SB_ENOTFOUND. */
sb_code_t sb_store_tenant_get(sb_store_t *st, const char *id, sb_tenant_t *tenant, sb_err_t *err);
/* The limits alone, for each run and upload: all SB_UNLIMITED for a tenant that has none set or
 * isn't known. */
sb_code_t sb_store_tenant_limits(sb_store_t *st, const char *id, int64_t limit[SB_LIMIT_COUNT],
                                 sb_err_t *err);
/* Would so many bytes more be within the tenant's SB_LIMIT_DISK_BYTES now?  SB_EQUOTA: no, also for
 * none when it is used up; the message names limit and use.  The batch that writes decides. */
sb_code_t sb_store_tenant_room(sb_store_t *st, const char *id, int64_t more, sb_err_t *err);
typedef sb_code_t (*sb_tenant_cb)(void *ctx, const sb_tenant_t *tenant, sb_err_t *err);
/* By id, inside one read: the callback must not call the store. */
sb_code_t sb_store_tenant_each(sb_store_t *st, sb_tenant_cb cb, void *ctx, sb_err_t *err);

/* ---- skills (reads) ---- */

#define SB_QUERY_MAX 256 /* bytes of what is searched for */

typedef struct {
    sb_str_t words;     /* all of them in name or description, whatever their case; empty: any */
    const char *status; /* NULL or "": any */
    const char *after;  /* a name: only those behind it; NULL or "": from the first on */
    unsigned limit;     /* elements of the page, at most SB_SKILL_PAGE; 0: so many */
} sb_skill_filter_t;

#define SB_SKILL_PAGE 1000

/*
 * Appends a page of the JSON array of GET /v1/skills: one element a name, ordered by name, `latest`
 * of each.  filter may be NULL: the first page of all.  next (may be NULL): "" when that was the
 * last, else the name to go on after.  With words or status a page may hold fewer than limit and
 * yet not be the last: 2,000 names are looked at at most.
 * SB_EINVAL: words too long, or no status.
 */
sb_code_t sb_store_skill_list(sb_store_t *st, const char *tenant, const sb_skill_filter_t *filter,
                              sb_buf_t *out, char next[SB_NAME_MAX + 1], sb_err_t *err);

/* Appends the JSON array of GET /v1/skills/{name}/versions, newest first.  SB_ENOTFOUND. */
sb_code_t sb_store_skill_versions(sb_store_t *st, const char *tenant, const char *name,
                                  sb_buf_t *out, sb_err_t *err);

typedef struct {
    sb_str_t json;    /* the whole record, as GET /v1/skills/{name}/{version} answers it */
    sb_str_t version; /* resolved */
    sb_str_t digest;  /* hex */
    sb_str_t run;     /* JSON for the gateway alone: what a run needs (sb_skill_put_t.run) */
} sb_skill_t;

/* version NULL, "" or "latest": the active one, else the highest by semver, a pre-release
 * only when there is no release (sb_semver_cmp_latest).  SB_ENOTFOUND. */
sb_code_t sb_store_skill_get(sb_store_t *st, const char *tenant, const char *name,
                             const char *version, sb_skill_t *out, sb_err_t *err);

/* Media type the package file of a digest was uploaded with; SB_ENOTFOUND. */
sb_code_t sb_store_package_type(sb_store_t *st, const char *digest, sb_str_t *type, sb_err_t *err);
/* Path of the package file ("<store>/packages/<digest>"), NUL-terminated into out. */
sb_code_t sb_store_package_path(sb_store_t *st, const char *digest, char *out, size_t outlen,
                                sb_err_t *err);

/* ---- files (reads) ---- */

#define SB_FILE_NAME_MAX 255
#define SB_FILE_LIST_MAX 200

typedef struct {
    sb_str_t json;   /* the file object, as the API gives it */
    sb_str_t digest; /* of the content: sb_store_package_path() tells where it is */
    sb_str_t name;
    sb_str_t content_type;
    int64_t size;
    char execution[SB_UUID_LEN +
                   1]; /* not "": an artifact of that execution, which has no digest, */
    uint32_t index;    /* and is the so manyth of its files_list */
} sb_file_t;

/* A kept file, or an artifact.  SB_ENOTFOUND, also for what is no id. */
sb_code_t sb_store_file_get(sb_store_t *st, const char *tenant, const char *id, sb_file_t *out,
                            sb_err_t *err);

typedef struct {
    const char *session, *execution; /* ids; NULL or "": any */
    uint32_t limit, offset;
} sb_file_filter_t;

/* An artifact by its path.  SB_ENOTFOUND. */
sb_code_t sb_store_artifact_find(sb_store_t *st, const char *tenant, const char *execution,
                                 const char *path, sb_file_t *out, sb_err_t *err);

/* Appends a JSON array, newest first; with an execution (and no session) its artifacts, in their
 * order, behind the kept ones. */
sb_code_t sb_store_file_list(sb_store_t *st, const char *tenant, const sb_file_filter_t *filter,
                             sb_buf_t *out, sb_err_t *err);
/* Appends the array of all versions of the file that id is one of, the highest first. */
sb_code_t sb_store_file_versions(sb_store_t *st, const char *tenant, const char *id, sb_buf_t *out,
                                 sb_err_t *err);

/* ---- executions (reads) ---- */

typedef struct {
    sb_str_t status; /* queued | running | success | failed | timeout | cancelled */
    sb_str_t json;   /* {"execution_id":"...",...} without files_url and logs; see
                        SB_EXECUTION_SPLICE_AT */
    sb_str_t logs;   /* raw bytes, may be empty */
    uint32_t files;  /* in the archive */
} sb_execution_t;

/* Offset in json where `"files_url":"...",` and `"logs":"...",` belong: right behind
 * {"execution_id":"<36>", */
#define SB_EXECUTION_SPLICE_AT (sizeof("{\"execution_id\":\"") - 1 + SB_UUID_LEN + 2)

sb_code_t sb_store_execution_get(sb_store_t *st, const char *tenant, const char *id,
                                 sb_execution_t *out, sb_err_t *err);

typedef struct {
    const char *tenant;
    const char *skill;  /* NULL: any */
    const char *status; /* one of sb_execution_t.status; NULL: any */
    const char *after;  /* id: only those that are older; NULL: from the newest on */
    unsigned limit;
} sb_execution_query_t;

/*
 * Appends a JSON array, newest first: records without output, logs, files_list and files_url.
 * next: "" when that is all, else the id to go on after.  With skill and status both a page may
 * hold fewer than limit and yet not be the last: 10,000 entries are looked at at most.
 * SB_EINVAL: no such status.
 */
sb_code_t sb_store_execution_list(sb_store_t *st, const sb_execution_query_t *q, sb_buf_t *out,
                                  char next[SB_UUID_LEN + 1], sb_err_t *err);
bool sb_execution_status_valid(const char *status);

/* ---- idempotency keys (reads) ---- */

typedef struct {
    char execution[SB_UUID_LEN + 1];
    unsigned char body[32]; /* SHA-256 */
    int64_t created_ms;
} sb_idempotency_t;

/* SB_ENOTFOUND: nobody has used the key.  key: SHA-256 of it. */
sb_code_t sb_store_idempotency_find(sb_store_t *st, const char *tenant, const unsigned char key[32],
                                    sb_idempotency_t *out, sb_err_t *err);

/* ---- writes ---- */

/*
 * A batch: several operations committed together.  Each operation succeeds or
 * fails alone (a failed one leaves no trace; nested transaction); sb_batch_commit
 * makes them durable or fails for all.  One batch at a time in a process;
 * begin, operations and commit in the same thread (LMDB's writer mutex).
 */
sb_code_t sb_batch_begin(sb_store_t *st, sb_batch_t **out, sb_err_t *err);
sb_code_t sb_batch_commit(sb_batch_t *b, sb_err_t *err); /* frees b in every case */
void sb_batch_abort(sb_batch_t *b);                      /* frees b */
/*
 * The store is full: what would make it larger is SB_ENOSPACE, what deletes goes on with pages that
 * were kept back for it, if it is not much at once.
 */
bool sb_batch_low(const sb_batch_t *b);

/* key->id and created_ms are filled in when empty; the tenant is made when new. */
sb_code_t sb_batch_key_put(sb_batch_t *b, const unsigned char sha256[32], sb_key_t *key,
                           sb_err_t *err);
sb_code_t sb_batch_key_revoke(sb_batch_t *b, const char *id, sb_err_t *err);
/*
 * A successor of the key: same tenant, name, role, service and expiry, the new secret and a new
 * id, in *next.  The old one goes on for grace_ms (0: it is revoked), never longer than it would
 * have; old_until_ms is when it ends, may be NULL.  SB_ENOTFOUND; SB_ECONFLICT: it has expired.
 */
sb_code_t sb_batch_key_rotate(sb_batch_t *b, const char *id, const unsigned char sha256[32],
                              int64_t grace_ms, sb_key_t *next, int64_t *old_until_ms,
                              sb_err_t *err);

typedef struct {
    char id[SB_UUID_LEN + 1];
    int64_t used_ms;
} sb_key_use_t;
/* When keys were used last; an earlier time than the stored one and unknown keys are skipped. */
sb_code_t sb_batch_key_used(sb_batch_t *b, const sb_key_use_t *uses, size_t n, sb_err_t *err);

/* Makes the tenant; created_ms is filled in when 0.  SB_ECONFLICT: it is there. */
sb_code_t sb_batch_tenant_create(sb_batch_t *b, sb_tenant_t *tenant, sb_err_t *err);
/* Sets the limits of one that is there; those with SB_LIMIT_KEEP stay.  The outcome in *tenant. */
#define SB_LIMIT_KEEP (-2)
sb_code_t sb_batch_tenant_update(sb_batch_t *b, sb_tenant_t *tenant, sb_err_t *err);
/*
 * Deletes a tenant that has neither skills, executions nor files (SB_ECONFLICT else: nothing is
 * lost by it), and revokes its keys.  revoked, the number of those, may be NULL.
 */
sb_code_t sb_batch_tenant_delete(sb_batch_t *b, const char *id, int *revoked, sb_err_t *err);

typedef enum { SB_ON_CONFLICT_BUMP, SB_ON_CONFLICT_ERROR } sb_on_conflict_t;

typedef struct {
    /* in */
    const char *tenant;
    const char *name;
    const char *version; /* declared */
    const char *description;
    const char *lang; /* "" in instructions mode */
    const char *mode; /* executable | instructions */
    const char *digest;
    const char *detail; /* JSON members for the record, without braces: "\"entrypoint\":...,..." */
    const char *run;    /* JSON object for sb_skill_t.run */
    const char
        *package_tmp; /* path of the uploaded body on the store's file system or any other; linked
                         (copied when need be), synced and renamed into packages/ before the
                         record is written, and removed once the batch is committed; after a
                         failure it is as it was.  Syncing it before the batch keeps the
                         writer's lock short.  NULL: the package is there already */
    const char *package_type; /* its media type */
    sb_on_conflict_t on_conflict;
    /* out */
    char stored_version[SB_VERSION_MAX + 1];
    bool created; /* false: the same content was there already, under stored_version */
    bool bumped;  /* stored_version differs from version */
} sb_skill_put_t;

/*
 * Stores a skill version by the contract's rules: same digest as the declared
 * version (or as one that was bumped from it) -> created = false; version free ->
 * kept; taken by other content -> next free patch, or SB_ECONFLICT.  SB_EQUOTA: a new version
 * would take the tenant above its SB_LIMIT_DISK_BYTES.
 */
sb_code_t sb_batch_skill_put(sb_batch_t *b, sb_skill_put_t *put, sb_err_t *err);

/*
 * Says what `latest` means from now on: this version, whatever is uploaded later,
 * until it is deleted or another is named; version NULL: the highest release
 * again.  *active is what it means now.  SB_ENOTFOUND.
 */
sb_code_t sb_batch_skill_activate(sb_batch_t *b, const char *tenant, const char *name,
                                  const char *version, char active[SB_VERSION_MAX + 1],
                                  sb_err_t *err);

/* version NULL: all versions.  SB_ENOTFOUND when there was nothing to delete. */
sb_code_t sb_batch_skill_delete(sb_batch_t *b, const char *tenant, const char *name,
                                const char *version, sb_err_t *err);

typedef struct {
    /* in */
    const char *tenant;
    const char *of;           /* id of a version of the file that this is the next of; NULL: new */
    const char *name;         /* sb_file_name_valid(); NULL: the name of `of` */
    const char *content_type; /* printable ASCII */
    const char *session, *execution; /* NULL: none */
    const char *digest; /* hex SHA-256 of SB_FILE_DIGEST_MAGIC and the content: never a package's */
    int64_t size;
    const char *tmp; /* path of the content, synced; taken over as sb_skill_put_t.package_tmp */
    /* out */
    char id[SB_UUID_LEN + 1];
} sb_file_put_t;

#define SB_FILE_DIGEST_MAGIC "skillbox-file-1\n"

/* Stores a file or the next version of one; appends its object to json.  SB_ENOTFOUND: `of`.
 * SB_ECONFLICT: that is an artifact; SB_EQUOTA: the tenant would keep more than its
 * SB_LIMIT_DISK_BYTES. */
sb_code_t sb_batch_file_put(sb_batch_t *b, sb_file_put_t *put, sb_buf_t *json, sb_err_t *err);
/* One version; others stay.  SB_ECONFLICT: an artifact, which goes with its execution. */
sb_code_t sb_batch_file_delete(sb_batch_t *b, const char *tenant, const char *id, sb_err_t *err);

/*
 * An execution's life: begin (status running, or queued), then finish.  owner is the
 * worker's process id: sb_batch_execution_sweep marks what a dead owner left.  SB_OWNER_HELPER:
 * a sandbox-helper answers for it and will report its end; then begin may come after a report,
 * and changes nothing.
 */
#define SB_OWNER_HELPER (-1)

typedef struct {
    const char *tenant;
    const char *id;
    const char *skill;
    const char *version;
    int64_t created_ms;
    int32_t owner;
    bool queued;
    const char
        *inputs; /* ids of its input files, commas between, for the record; NULL or "": none */
} sb_execution_begin_t;
sb_code_t sb_batch_execution_begin(sb_batch_t *b, const sb_execution_begin_t *e, sb_err_t *err);
/* A queued one runs (made when it is not there yet); one that runs or has ended stays as it is.
 * owner and queued are not looked at. */
sb_code_t sb_batch_execution_running(sb_batch_t *b, const sb_execution_begin_t *e, sb_err_t *err);

typedef struct {
    const char *tenant;
    const char *id;
    const char *skill;  /* for the lists; NULL: what begin said */
    const char *status; /* success | failed | timeout | cancelled */
    const char *result; /* the helper's result object, compact: {"status":...}; the record becomes
                           {"execution_id":"<id>", + result without its '{', with "created_at" and
                           "finished_at" added before the closing brace */
    size_t result_len;
    const char *logs;
    size_t logs_len;
    uint32_t files;
    int64_t archive_bytes; /* of the archive that holds them */
    int64_t created_ms;
    int64_t finished_ms;
    const char *inputs; /* as sb_execution_begin_t.inputs */
    /* out */
    bool dropped;  /* there are files, but the record is without: see below */
    char why[256]; /* then, a sentence for sb_result_without_files() */
} sb_execution_finish_t;
/*
 * Idempotent by id: finishing a finished one changes nothing and succeeds.  A result is always
 * kept.  An archive that would take the tenant above its SB_LIMIT_DISK_BYTES is not: then the
 * record is that of sb_result_without_files(), *e.dropped is set, and the archive is the caller's
 * to remove.
 */
sb_code_t sb_batch_execution_finish(sb_batch_t *b, sb_execution_finish_t *e, sb_err_t *err);

/* Appends the helper's result object without "files_list", and with a warning that says why.  len
 * is at least 2. */
void sb_result_without_files(const char *result, size_t len, const char *why, sb_buf_t *out);

/* One that was ended without a result; in a buffer they stand one behind the other. */
typedef struct {
    char tenant[SB_TENANT_MAX + 1];
    char id[SB_UUID_LEN + 1];
    char skill[SB_NAME_MAX + 1];
} sb_interrupted_t;

#define SB_INTERRUPTED_MAX 10000 /* in a call; the rest waits for the next */

/* Running executions whose owner is dead (its id may belong to another process by now), or was this
 * process id in an earlier life (created before started_ms), become failed with error
 * "interrupted". At most SB_INTERRUPTED_MAX in a call.  An sb_interrupted_t of each is added to
 * ended, which may be NULL; without memory it fails, and they are ended all the same. */
sb_code_t sb_batch_execution_sweep(sb_batch_t *b, int32_t self, int64_t started_ms, sb_buf_t *ended,
                                   sb_err_t *err);

/* One that a helper answers for, and that no helper has: it becomes failed with error
 * "interrupted", and is added to ended, which may be NULL. Any other stays as it is. */
sb_code_t sb_batch_execution_lost(sb_batch_t *b, const char *tenant, const char *id,
                                  sb_buf_t *ended, sb_err_t *err);

typedef struct {
    char tenant[SB_TENANT_MAX + 1];
    char id[SB_UUID_LEN + 1];
} sb_live_t;

/*
 * Executions that a helper answers for and that were begun before before_ms: what may be lost.  At
 * most max, behind *after (its members "" at first); *after is the last one looked at, or "" when
 * there are no more.
 */
sb_code_t sb_batch_execution_unended(sb_batch_t *b, int64_t before_ms, sb_live_t *after,
                                     sb_live_t *out, unsigned max, unsigned *n, sb_err_t *err);

/* One that has ended; *files (may be NULL): how many its archive holds, the archive is the caller's
 * to remove.  A report of its end that comes later makes no record for SB_GRAVE_AGE_MS.
 * SB_ENOTFOUND; SB_ECONFLICT: it is live. */
sb_code_t sb_batch_execution_delete(sb_batch_t *b, const char *tenant, const char *id,
                                    uint32_t *files, sb_err_t *err);

/*
 * Retention: removes ended executions of one tenant after another.  The state begins as zeroes and
 * is carried from call to call; a call removes at most `max` and looks at one tenant.
 */
typedef struct {
    int64_t before_ms; /* created before; 0: of any age stay */
    uint64_t keep;     /* the newest a tenant keeps; 0: any number */
    unsigned max;
    char tenant[SB_TENANT_MAX + 1]; /* state: whose turn it was last */
    bool again;                     /* state: it has more */
    bool round;                     /* out: all tenants have had their turn */
    unsigned removed;               /* out */
    sb_buf_t archives;              /* out: ids, NUL-terminated, whose archives are to be removed;
                                       the caller clears and frees it */
} sb_retention_t;
sb_code_t sb_batch_execution_retain(sb_batch_t *b, sb_retention_t *r, sb_err_t *err);

#define SB_GRAVE_AGE_MS (7 * 24 * 3600 * 1000LL)
#define SB_GRAVES_MAX   100000 /* of a store; the oldest go first */

/* Forgets at most max executions that were deleted before before_ms. */
sb_code_t sb_batch_grave_sweep(sb_batch_t *b, int64_t before_ms, unsigned max, sb_err_t *err);

/* Has any tenant an execution of that id with an archive?  SB_ENOTFOUND when not.  When it has, and
 * has ended, its account is told that the archive, with what was taken out of it, is of so many
 * bytes. */
sb_code_t sb_batch_execution_has_archive(sb_batch_t *b, const char *id, int64_t bytes,
                                         sb_err_t *err);

/* A copy of an artifact of so many bytes was taken out of its execution's archive: the tenant's
 * account counts it with the archive, until sb_batch_execution_has_archive() tells how large both
 * are.  SB_ENOTFOUND. */
sb_code_t sb_batch_artifact_taken(sb_batch_t *b, const char *tenant, const char *execution,
                                  int64_t bytes, sb_err_t *err);

/* Counts anew what each tenant keeps.  Holds the writer's lock for a look at every record. */
sb_code_t sb_batch_usage_recount(sb_batch_t *b, sb_err_t *err);

/*
 * Takes a key for an execution.  SB_ECONFLICT: it was taken since it was looked for (*taken says
 * for what).
 */
sb_code_t sb_batch_idempotency_put(sb_batch_t *b, const char *tenant, const unsigned char key[32],
                                   const sb_idempotency_t *put, sb_idempotency_t *taken,
                                   sb_err_t *err);
/* Gives it back, when it still stands for that execution. */
sb_code_t sb_batch_idempotency_remove(sb_batch_t *b, const char *tenant,
                                      const unsigned char key[32], const char *execution,
                                      sb_err_t *err);
/* Forgets at most max keys that were taken before before_ms. */
sb_code_t sb_batch_idempotency_sweep(sb_batch_t *b, int64_t before_ms, unsigned max, sb_err_t *err);

/* ---- copies (store_backup.c); not for nginx ---- */

typedef struct {
    uint64_t records;
    uint64_t packages;
    uint64_t touched; /* of no meaning */
} sb_store_check_t;

/* Reads every record and looks for the file of every package.  SB_EINTERNAL: something is damaged
 * or missing. */
sb_code_t sb_store_check(sb_store_t *st, sb_store_check_t *check, sb_err_t *err);
/*
 * A copy of one moment in the folder dest, which is there and empty; gateways go on beside it.
 * Durable when it returns.  SB_EBUSY: packages come and go too fast.  After a failure dest holds
 * a part.
 */
sb_code_t sb_store_backup(sb_store_t *st, const char *dest, sb_err_t *err);
/* A synced copy of a regular file; to must not be there. */
sb_code_t sb_store_copy_file(const char *from, const char *to, sb_err_t *err);
/* Makes the map of a store that nobody has open larger; it never gets smaller. */
sb_code_t sb_store_enlarge(const char *path, size_t size, sb_err_t *err);

#endif
