/*
 * store_executions.c - the life of an execution: begun, finished, or swept when
 * the worker that waited for it is gone.
 *
 * Promises: a finished record never changes; the records of the living are
 * listed apart (`live`), so that a sweep looks at those only; a damaged record
 * is an error, never read over its end.  The sweep looks at other processes
 * through kill(pid, 0) and /proc/<pid>/stat, nothing else outside memory and map.
 * Reads in the reading thread, sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"

#define EXEC_PARTS    7
#define EXEC_PARTS_1  5 /* in schema 1: without list element and skill */
#define LIVE_PARTS    2
#define ID_LEN        16
#define LIVE_KEY_MAX  (SB_TENANT_MAX + 1 + ID_LEN)
#define ELEMENT_MAX   (64 * SB_KIB)
#define WHY_ROOM      2048 /* of a warning, as JSON */
#define JSON_MAX      (SB_RESULT_MAX + 4096)
#define LIVE_START(s) ",\"status\":\"" s "\",\"error\":null"
#define RUNNING_START LIVE_START("running")
#define QUEUED_START  LIVE_START("queued")

bool sb_exec_unpack(const MDB_val *val, sb_exec_value_t *out)
{
    sb_str_t parts[EXEC_PARTS];
    bool old = false;

    if (!sb_unpack(val, SB_KIND_EXECUTION, parts, EXEC_PARTS)) {
        old = sb_unpack(val, SB_KIND_EXECUTION, parts, EXEC_PARTS_1);
        if (!old)
            return false;
    }
    if (!sb_num_read(parts[1], &out->files) || !sb_num_read(parts[2], &out->created_ms))
        return false;
    out->status = parts[0];
    out->json = parts[old ? 3 : 5];
    out->logs = parts[old ? 4 : 6];
    out->element = old ? sb_str_of(NULL, 0) : parts[3];
    out->skill = old ? sb_exec_member(out->json, "skill_name") : parts[4];
    return out->files <= UINT32_MAX && out->json.len > SB_EXECUTION_SPLICE_AT;
}

bool sb_exec_key(sb_skey_t *key, const char *tenant, const unsigned char id[16])
{
    return sb_skey(key, tenant, "", NULL, NULL) && sb_skey_add(key, id, 16);
}

static sb_code_t not_found(sb_err_t *err)
{
    return sb_err_set(err, SB_ENOTFOUND, "there is no such execution");
}

/* ---- reads ---- */

static sb_code_t read_exec(sb_store_t *st, const sb_skey_t *key, sb_execution_t *out, sb_err_t *err)
{
    sb_str_t *const keep[] = {&out->status, &out->json, &out->logs};
    MDB_val k = sb_skey_val(key), val;
    sb_exec_value_t value = {0};
    int rc = mdb_get(st->read, st->dbi[SB_DBI_EXECUTIONS], &k, &val);

    if (rc == MDB_NOTFOUND)
        return not_found(err);
    if (rc != 0)
        return sb_store_fail(st, rc, "reading an execution", err);
    if (!sb_exec_unpack(&val, &value))
        return sb_store_corrupt("the record of an execution", err);
    out->status = value.status;
    out->json = value.json;
    out->logs = value.logs;
    out->files = (uint32_t)value.files;
    return sb_store_keep(st, keep, 3, err);
}

sb_code_t sb_exec_read(sb_store_t *st, const char *tenant, const unsigned char id[16],
                       sb_exec_value_t *value, sb_err_t *err)
{
    sb_skey_t key;
    MDB_val k, val;
    int rc;

    if (!sb_exec_key(&key, tenant, id))
        return SB_ENOTFOUND;
    k = sb_skey_val(&key);
    rc = mdb_get(st->read, st->dbi[SB_DBI_EXECUTIONS], &k, &val);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(st, rc, "reading an execution", err);
    return sb_exec_unpack(&val, value) ? SB_OK
                                       : sb_store_corrupt("the record of an execution", err);
}

sb_code_t sb_store_execution_get(sb_store_t *st, const char *tenant, const char *id,
                                 sb_execution_t *out, sb_err_t *err)
{
    unsigned char binary[16];
    sb_skey_t key;
    sb_code_t code;

    if (!sb_uuid_parse(id, strlen(id), binary) || !sb_exec_key(&key, tenant, binary))
        return not_found(err);
    code = sb_store_read_begin(st, err);
    if (code != SB_OK)
        return code;
    code = read_exec(st, &key, out, err);
    sb_store_read_end(st);
    return code;
}

/* ---- owners ---- */

/*
 * When a process was started, in clock ticks since boot: with the id it names one
 * process, also after the id was given to another.  0 when it can't be known.
 */
static uint64_t start_ticks(int32_t pid)
{
    char path[32], text[1024];
    unsigned long long ticks = 0;
    const char *p;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    p = strrchr(text, ')'); /* field 2 may hold anything, blanks and brackets too */
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p != NULL && sscanf(p, "%llu", &ticks) == 1 ? ticks : 0;
}

typedef struct {
    int32_t self;
    int64_t started_ms;
} sweeper_t;

static bool owner_is_gone(const sweeper_t *who, int32_t owner, uint64_t ticks, int64_t created_ms)
{
    uint64_t now_ticks;

    if (owner == SB_OWNER_HELPER)
        return false;
    if (owner <= 0 || (kill(owner, 0) != 0 && errno == ESRCH))
        return true;
    if (owner == who->self && created_ms < who->started_ms)
        return true;
    now_ticks = start_ticks(owner);
    return ticks != 0 && now_ticks != 0 && ticks != now_ticks;
}

/* ---- writes ---- */

sb_code_t sb_exec_get(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_exec_value_t *value,
                      sb_err_t *err)
{
    MDB_val k = sb_skey_val(key), val;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_EXECUTIONS], &k, &val);

    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(b->st, rc, "reading an execution", err);
    return sb_exec_unpack(&val, value) ? SB_OK
                                       : sb_store_corrupt("the record of an execution", err);
}

/* SB_OK without a value's status: it was deleted, and what is reported of it comes too late. */
static sb_code_t find_or_grave(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key,
                               sb_exec_value_t *value, sb_err_t *err)
{
    sb_code_t code = sb_exec_get(b, txn, key, value, err);

    return code == SB_ENOTFOUND ? sb_grave_find(b, txn, key, err) : code;
}

/* With its indexes.  skill NULL: as it was. */
static sb_code_t write_exec(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, const char *status,
                            const char *skill, uint32_t files, int64_t created_ms, sb_str_t json,
                            sb_str_t logs, sb_err_t *err)
{
    sb_num_t nfiles = sb_num(files), created = sb_num((uint64_t)created_ms);
    sb_buf_t element = SB_BUF_INIT(ELEMENT_MAX);
    char old_skill[SB_NAME_MAX + 1] = "";
    char tenant[SB_TENANT_MAX + 1];
    sb_exec_value_t before = {0}, after = {.status = sb_str_of(status, strlen(status))};
    sb_code_t code = sb_exec_get(b, txn, key, &before, err);
    const int64_t bytes = sb_exec_bytes(&before);
    bool there = code == SB_OK;
    const void *id;

    if (code != SB_OK && code != SB_ENOTFOUND)
        return code;
    if (!sb_exec_split_key(key, tenant, &id) ||
        (there && !sb_str_copy(before.skill, old_skill, sizeof(old_skill))))
        return sb_store_corrupt("the record of an execution", err);
    if (skill == NULL)
        skill = old_skill; /* a copy: what the transaction writes may move what it has read */
    after.skill = sb_str_of(skill, strlen(skill));
    code = sb_exec_index(b, txn, key, there ? &before : NULL, &after, err);
    if (code != SB_OK)
        return code;
    sb_exec_element(json, &element);
    if (!sb_buf_ok(&element))
        sb_buf_clear(&element);
    after.element = sb_str_of(element.data, element.len);
    after.json = json;
    after.logs = logs;
    code = sb_usage_add(b, txn, tenant, SB_USE_RECORDS, sb_exec_bytes(&after) - bytes, err);
    if (code != SB_OK) {
        sb_buf_free(&element);
        return code;
    }
    sb_str_t parts[EXEC_PARTS] = {after.status,  sb_num_part(&nfiles), sb_num_part(&created),
                                  after.element, after.skill,          json,
                                  logs};
    MDB_val k = sb_skey_val(key);
    int rc =
        sb_pack_put(txn, b->st->dbi[SB_DBI_EXECUTIONS], &k, SB_KIND_EXECUTION, parts, EXEC_PARTS);

    sb_buf_free(&element);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing an execution", err);
}

static void add_time(sb_buf_t *json, const char *name, int64_t ms)
{
    char when[SB_TIME_LEN + 1];

    sb_time_format(ms, when);
    sb_json_key_str(json, name, when);
}

/* "input_files":["id",...], when there are any.  What is no id is left out. */
static void add_inputs(sb_buf_t *json, const char *inputs)
{
    bool first = true;

    for (const char *id = inputs; id != NULL && *id != '\0'; id += strcspn(id, ",")) {
        id += *id == ',';
        if (strcspn(id, ",") != SB_UUID_LEN || !sb_uuid_parse(id, SB_UUID_LEN, NULL))
            continue;
        if (first)
            sb_json_key(json, "input_files");
        sb_buf_char(json, first ? '[' : ',');
        sb_json_str(json, id, SB_UUID_LEN);
        first = false;
    }
    if (!first)
        sb_buf_char(json, ']');
}

static sb_code_t put_live(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, const char *id,
                          const sb_execution_begin_t *e, sb_err_t *err)
{
    sb_num_t owner = sb_num((uint64_t)e->owner), ticks = sb_num(start_ticks(e->owner));
    sb_str_t live[LIVE_PARTS] = {sb_num_part(&owner), sb_num_part(&ticks)};
    sb_buf_t json = SB_BUF_INIT(JSON_MAX);
    MDB_val k = sb_skey_val(key);
    sb_code_t code;
    int rc;

    sb_buf_str(&json, "{\"execution_id\":\"");
    sb_buf_str(&json, id);
    sb_buf_str(&json, e->queued ? "\"" QUEUED_START : "\"" RUNNING_START);
    sb_json_key_str(&json, "skill_name", e->skill);
    sb_json_key_str(&json, "skill_version", e->version);
    add_inputs(&json, e->inputs);
    add_time(&json, "created_at", e->created_ms);
    sb_buf_char(&json, '}');
    if (!sb_buf_ok(&json)) {
        sb_buf_free(&json);
        return sb_err_errno(err, ENOMEM, "store: beginning an execution");
    }
    code = write_exec(b, txn, key, e->queued ? "queued" : "running", e->skill, 0, e->created_ms,
                      sb_str_of(json.data, json.len), sb_str_of("", 0), err);
    sb_buf_free(&json);
    if (code != SB_OK)
        return code;
    rc = sb_pack_put(txn, b->st->dbi[SB_DBI_LIVE], &k, SB_KIND_LIVE, live, LIVE_PARTS);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing an execution", err);
}

/* Tenant and id of a write: the key, and the id in canonical form. */
static sb_code_t write_key(const char *tenant, const char *id, sb_skey_t *key,
                           char canonical[SB_UUID_LEN + 1], sb_err_t *err)
{
    unsigned char binary[16];

    if (!sb_tenant_valid(tenant, strlen(tenant)))
        return sb_err_set(err, SB_EINVAL, "the tenant's id is not valid");
    if (!sb_uuid_parse(id, strlen(id), binary) || !sb_exec_key(key, tenant, binary))
        return sb_err_set(err, SB_EINVAL, "the execution's id is not a UUID");
    sb_uuid_format(binary, canonical);
    return SB_OK;
}

sb_code_t sb_batch_execution_begin(sb_batch_t *b, const sb_execution_begin_t *e, sb_err_t *err)
{
    char id[SB_UUID_LEN + 1];
    sb_exec_value_t value = {0};
    sb_skey_t key;
    MDB_txn *txn = NULL;
    sb_code_t code = write_key(e->tenant, e->id, &key, id, err);

    if (code == SB_OK)
        code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = find_or_grave(b, txn, &key, &value, err);
    if (code == SB_OK && e->owner != SB_OWNER_HELPER)
        code = sb_err_set(err, SB_ECONFLICT, "an execution with this id exists");
    else if (code == SB_ENOTFOUND)
        code = put_live(b, txn, &key, id, e, err);
    return sb_batch_op_end(b, txn, code, err);
}

static bool is_text(sb_str_t s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

bool sb_exec_is_live(sb_str_t status)
{
    return is_text(status, "running") || is_text(status, "queued");
}

sb_code_t sb_batch_execution_running(sb_batch_t *b, const sb_execution_begin_t *e, sb_err_t *err)
{
    sb_execution_begin_t running = *e;
    char id[SB_UUID_LEN + 1];
    sb_exec_value_t value = {0};
    sb_skey_t key;
    MDB_txn *txn = NULL;
    sb_code_t code = write_key(e->tenant, e->id, &key, id, err);

    running.owner = SB_OWNER_HELPER;
    running.queued = false;
    if (code == SB_OK)
        code = sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = find_or_grave(b, txn, &key, &value, err);
    if (code == SB_ENOTFOUND || (code == SB_OK && is_text(value.status, "queued")))
        code = put_live(b, txn, &key, id, &running, err);
    return sb_batch_op_end(b, txn, code, err);
}

static bool is_final(const char *status)
{
    return strcmp(status, "success") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "timeout") == 0 || strcmp(status, "cancelled") == 0;
}

static sb_code_t check_finish(const sb_execution_finish_t *e, sb_err_t *err)
{
    if (!is_final(e->status))
        return sb_err_set(err, SB_EINVAL, "\"%.32s\" is not a final status", e->status);
    if (e->result_len < 2 || e->result[0] != '{' || e->result[e->result_len - 1] != '}')
        return sb_err_set(err, SB_EINVAL, "the result of an execution is not a JSON object");
    if (e->result_len > SB_RESULT_MAX || e->logs_len > 2 * SB_LOG_MAX)
        return sb_err_set(err, SB_ETOOLARGE, "the result of an execution is too large");
    return SB_OK;
}

/* Takes it off the list of the living; not being there is fine. */
static sb_code_t unlist(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err)
{
    MDB_val k = sb_skey_val(key);
    int rc = mdb_del(txn, b->st->dbi[SB_DBI_LIVE], &k, NULL);

    return rc == 0 || rc == MDB_NOTFOUND ? SB_OK
                                         : sb_store_fail(b->st, rc, "ending an execution", err);
}

static sb_code_t put_finished(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, const char *id,
                              const sb_execution_finish_t *e, sb_err_t *err)
{
    sb_buf_t json = SB_BUF_INIT(JSON_MAX);
    sb_code_t code;

    sb_buf_str(&json, "{\"execution_id\":\"");
    sb_buf_str(&json, id);
    sb_buf_char(&json, '"');
    if (e->result_len > 2) {
        sb_buf_char(&json, ',');
        sb_buf_add(&json, e->result + 1, e->result_len - 2);
    }
    add_inputs(&json, e->inputs);
    add_time(&json, "created_at", e->created_ms);
    add_time(&json, "finished_at", e->finished_ms);
    sb_buf_char(&json, '}');
    if (!sb_buf_ok(&json)) {
        sb_buf_free(&json);
        return sb_err_errno(err, ENOMEM, "store: finishing an execution");
    }
    code = write_exec(b, txn, key, e->status, e->skill, e->files, e->created_ms,
                      sb_str_of(json.data, json.len), sb_str_of(e->logs, e->logs_len), err);
    sb_buf_free(&json);
    return code == SB_OK ? unlist(b, txn, key, err) : code;
}

/* As put_finished, without the archive that e has. */
static sb_code_t put_without_files(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key,
                                   const char *id, const sb_execution_finish_t *e, sb_err_t *err)
{
    sb_buf_t result = SB_BUF_INIT(SB_RESULT_MAX + WHY_ROOM);
    sb_execution_finish_t less = *e;
    sb_code_t code;

    sb_result_without_files(e->result, e->result_len, e->why, &result);
    if (!sb_buf_ok(&result)) {
        sb_buf_free(&result);
        return sb_err_errno(err, ENOMEM, "store: finishing an execution");
    }
    less.result = result.data;
    less.result_len = result.len;
    less.files = 0;
    code = put_finished(b, txn, key, id, &less, err);
    sb_buf_free(&result);
    return code;
}

/* The record and its archive, when that has room. */
static sb_code_t put_all(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, const char *id,
                         sb_execution_finish_t *e, sb_err_t *err)
{
    int64_t record = (int64_t)(e->result_len + e->logs_len);
    sb_err_t room = {0};
    sb_code_t code;

    if (e->files == 0)
        return put_finished(b, txn, key, id, e, err);
    code = sb_usage_room(b, txn, e->tenant, e->archive_bytes + record, &room);
    if (code == SB_EQUOTA) {
        e->dropped = true;
        snprintf(e->why, sizeof(e->why), "the artifacts are left out: %.200s", room.message);
        return put_without_files(b, txn, key, id, e, err);
    }
    if (code != SB_OK) {
        if (err != NULL)
            *err = room;
        return code;
    }
    code = sb_usage_archive(b, txn, e->tenant, key, e->archive_bytes, err);
    return code == SB_OK ? put_finished(b, txn, key, id, e, err) : code;
}

static sb_code_t finish(sb_batch_t *b, sb_execution_finish_t *e, bool promised, sb_err_t *err)
{
    char id[SB_UUID_LEN + 1];
    sb_exec_value_t value = {0};
    sb_skey_t key;
    MDB_txn *txn = NULL;
    sb_code_t code = check_finish(e, err);

    if (code == SB_OK)
        code = write_key(e->tenant, e->id, &key, id, err);
    if (code == SB_OK)
        code = promised ? sb_batch_op_begin(b, &txn, err) : sb_batch_grow_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    e->dropped = false;
    e->why[0] = '\0';
    code = find_or_grave(b, txn, &key, &value, err);
    if (code == SB_ENOTFOUND || (code == SB_OK && sb_exec_is_live(value.status)))
        code = put_all(b, txn, &key, id, e, err);
    else if (code == SB_OK && e->files > 0 && value.files == 0) { /* reported once more */
        e->dropped = true;
        snprintf(e->why, sizeof(e->why), "the artifacts are left out: there was no room for them");
    }
    return sb_batch_op_end(b, txn, code, err);
}

sb_code_t sb_batch_execution_finish(sb_batch_t *b, sb_execution_finish_t *e, sb_err_t *err)
{
    return finish(b, e, false, err);
}

sb_code_t sb_exec_finish_promised(sb_batch_t *b, sb_execution_finish_t *e, sb_err_t *err)
{
    return finish(b, e, true, err);
}

/* ---- the sweep ---- */

/* The keys of the living whose owner is gone, LIVE_KEY_MAX + 1 bytes apart: length, bytes. */
static sb_code_t collect_gone(sb_batch_t *b, MDB_txn *txn, const sweeper_t *who, sb_buf_t *gone,
                              sb_err_t *err)
{
    MDB_val key, val;
    MDB_cursor *cur;
    int count = 0, rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_LIVE], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing running executions", err);
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0 && count < SB_INTERRUPTED_MAX;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        unsigned char slot[LIVE_KEY_MAX + 1] = {0};
        sb_str_t parts[LIVE_PARTS];
        sb_exec_value_t value = {0};
        uint64_t owner, ticks;
        sb_skey_t k = {.len = 0};

        if (key.mv_size > LIVE_KEY_MAX || !sb_skey_add(&k, key.mv_data, key.mv_size) ||
            !sb_unpack(&val, SB_KIND_LIVE, parts, LIVE_PARTS) || !sb_num_read(parts[0], &owner) ||
            !sb_num_read(parts[1], &ticks) || sb_exec_get(b, txn, &k, &value, NULL) != SB_OK) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (!owner_is_gone(who, (int32_t)owner, ticks, (int64_t)value.created_ms))
            continue;
        slot[0] = (unsigned char)key.mv_size;
        memcpy(slot + 1, key.mv_data, key.mv_size);
        sb_buf_add(gone, slot, sizeof(slot));
        count++;
    }
    mdb_cursor_close(cur);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "listing running executions", err);
    return sb_buf_ok(gone) ? SB_OK : sb_err_errno(err, ENOMEM, "listing running executions");
}

/* The key is the tenant, a NUL and the id's bytes. */
static void note_interrupted(sb_buf_t *ended, const sb_skey_t *key, const sb_exec_value_t *value)
{
    sb_interrupted_t one = {0};
    const size_t tenant = key->len - ID_LEN - 1;

    if (ended == NULL || tenant > SB_TENANT_MAX || value->skill.len > SB_NAME_MAX)
        return;
    memcpy(one.tenant, key->data, tenant);
    sb_uuid_format(key->data + tenant + 1, one.id);
    memcpy(one.skill, value->skill.data, value->skill.len);
    sb_buf_add(ended, &one, sizeof(one));
}

/* {"execution_id":..,"status":"running","error":null,<facts>} -> the same facts, failed. */
static sb_code_t interrupt(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, int64_t now,
                           sb_buf_t *ended, sb_err_t *err)
{
    const size_t head = SB_EXECUTION_SPLICE_AT - 1;
    sb_buf_t json = SB_BUF_INIT(JSON_MAX);
    sb_exec_value_t value = {0};
    sb_code_t code = sb_exec_get(b, txn, key, &value, err);
    int64_t created;

    if (code != SB_OK)
        return code;
    const char *live = is_text(value.status, "queued") ? QUEUED_START : RUNNING_START;
    size_t start = strlen(live);

    if (!sb_exec_is_live(value.status) || value.json.len < head + start + 1 ||
        memcmp(value.json.data + head, live, start) != 0)
        return sb_store_corrupt("the record of a running execution", err);
    note_interrupted(ended, key, &value); /* before the value's page is written */
    created = (int64_t)value.created_ms;
    sb_buf_add(&json, value.json.data, head);
    sb_json_key_str(&json, "status", "failed");
    sb_json_key_int(&json, "duration_ms", now > created ? now - created : 1);
    sb_json_key_str(&json, "error", "interrupted");
    sb_buf_add(&json, value.json.data + head + start, value.json.len - head - start - 1);
    add_time(&json, "finished_at", now);
    sb_buf_char(&json, '}');
    if (sb_buf_ok(&json))
        code = write_exec(b, txn, key, "failed", NULL, 0, created, sb_str_of(json.data, json.len),
                          sb_str_of("", 0), err);
    else
        code = sb_err_errno(err, ENOMEM, "store: ending an execution");
    sb_buf_free(&json);
    return code == SB_OK ? unlist(b, txn, key, err) : code;
}

sb_code_t sb_batch_execution_sweep(sb_batch_t *b, int32_t self, int64_t started_ms, sb_buf_t *ended,
                                   sb_err_t *err)
{
    sweeper_t who = {self, started_ms};
    sb_buf_t gone = SB_BUF_INIT(SB_INTERRUPTED_MAX * (LIVE_KEY_MAX + 1));
    int64_t now = sb_time_now_ms();
    MDB_txn *txn = NULL;
    sb_code_t code = sb_batch_op_begin(b, &txn, err);

    if (code != SB_OK)
        return code;
    code = collect_gone(b, txn, &who, &gone, err);
    for (size_t at = 0; code == SB_OK && at < gone.len; at += LIVE_KEY_MAX + 1) {
        sb_skey_t key = {.len = 0};

        sb_skey_add(&key, gone.data + at + 1, (unsigned char)gone.data[at]);
        code = interrupt(b, txn, &key, now, ended, err);
    }
    sb_buf_free(&gone);
    return sb_batch_op_end(b, txn, code, err);
}

/* SB_ENOTFOUND, which leaves err alone: it is not live, or a worker's. */
static sb_code_t helper_owned(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *key, sb_err_t *err)
{
    MDB_val k = sb_skey_val(key), val;
    sb_str_t parts[LIVE_PARTS];
    uint64_t owner;
    int rc = mdb_get(txn, b->st->dbi[SB_DBI_LIVE], &k, &val);

    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(b->st, rc, "reading a running execution", err);
    if (!sb_unpack(&val, SB_KIND_LIVE, parts, LIVE_PARTS) || !sb_num_read(parts[0], &owner))
        return sb_store_corrupt("the record of a running execution", err);
    return (int32_t)owner == SB_OWNER_HELPER ? SB_OK : SB_ENOTFOUND;
}

/* ---- the living of helpers ---- */

/* Ids are made of the time. */
static int64_t begun_ms(const unsigned char id[16])
{
    int64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms * 256 + id[i];
    return ms;
}

/* One entry of `live`; false: it is damaged.  *n grows when it is one that is looked for. */
static bool look_at_live(const MDB_val *key, const MDB_val *val, int64_t before_ms,
                         sb_live_t *where, sb_live_t *out, unsigned *n)
{
    const unsigned char *bytes = key->mv_data;
    sb_str_t parts[LIVE_PARTS];
    uint64_t owner;

    if (key->mv_size <= 17 ||
        !sb_str_copy(sb_str_of(key->mv_data, key->mv_size - 17), where->tenant,
                     sizeof(where->tenant)) ||
        !sb_unpack(val, SB_KIND_LIVE, parts, LIVE_PARTS) || !sb_num_read(parts[0], &owner))
        return false;
    sb_uuid_format(bytes + key->mv_size - 16, where->id);
    if ((int32_t)owner == SB_OWNER_HELPER && begun_ms(bytes + key->mv_size - 16) < before_ms)
        out[(*n)++] = *where;
    return true;
}

sb_code_t sb_batch_execution_unended(sb_batch_t *b, int64_t before_ms, sb_live_t *after,
                                     sb_live_t *out, unsigned max, unsigned *n, sb_err_t *err)
{
    unsigned char id[16];
    sb_skey_t from = {.len = 0};
    MDB_val key, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(b->txn, b->st->dbi[SB_DBI_LIVE], &cur);

    *n = 0;
    if (rc != 0)
        return sb_store_fail(b->st, rc, "listing running executions", err);
    if (sb_uuid_parse(after->id, strlen(after->id), id) && sb_exec_key(&from, after->tenant, id)) {
        key = sb_skey_val(&from);
        rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
        if (rc == 0 && key.mv_size == from.len && memcmp(key.mv_data, from.data, from.len) == 0)
            rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT);
    } else {
        rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST);
    }
    for (unsigned i = 0; rc == 0 && i < max; i++) {
        if (!look_at_live(&key, &val, before_ms, after, out, n))
            rc = MDB_CORRUPTED;
        else
            rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT);
    }
    mdb_cursor_close(cur);
    if (rc == MDB_NOTFOUND)
        *after = (sb_live_t){"", ""};
    return rc == 0 || rc == MDB_NOTFOUND
               ? SB_OK
               : sb_store_fail(b->st, rc, "listing running executions", err);
}

sb_code_t sb_batch_execution_lost(sb_batch_t *b, const char *tenant, const char *id,
                                  sb_buf_t *ended, sb_err_t *err)
{
    char canonical[SB_UUID_LEN + 1];
    MDB_txn *txn = NULL;
    sb_skey_t key;
    sb_code_t code = write_key(tenant, id, &key, canonical, err);

    if (code == SB_OK)
        code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = helper_owned(b, txn, &key, err);
    if (code == SB_OK)
        code = interrupt(b, txn, &key, sb_time_now_ms(), ended, err);
    return sb_batch_op_end(b, txn, code == SB_ENOTFOUND ? SB_OK : code, err);
}
