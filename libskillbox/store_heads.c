/*
 * store_heads.c - what `latest` means: the head of each name.
 *
 * A head follows the uploads: it names the highest release.  Or it is pinned,
 * when somebody said which version is active: then uploads don't move it, until
 * it is let go or its version is deleted; from then on it follows again.
 * Everything that resolves `latest` asks sb_head_version(), and the list shows the
 * heads, so there is one opinion.  sb_head_*() in any transaction,
 * sb_batch_*() where the batch runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store_internal.h"

#include <errno.h>
#include <string.h>

#include "names.h"
#include "semver.h"

#define ELEMENT_MAX SB_MIB

bool sb_head_unpack(const MDB_val *val, sb_head_t *head)
{
    sb_str_t parts[2];

    head->pinned = sb_unpack(val, SB_KIND_PIN, parts, 2);
    if (!head->pinned && !sb_unpack(val, SB_KIND_HEAD, parts, 2))
        return false;
    head->element = parts[1];
    return sb_str_copy(parts[0], head->version, sizeof(head->version));
}

sb_code_t sb_head_get(sb_store_t *st, MDB_txn *txn, const char *tenant, const char *name,
                      sb_head_t *head, sb_err_t *err)
{
    sb_skey_t key;
    MDB_val k, val;
    int rc;

    if (!sb_skey(&key, tenant, name, NULL, NULL))
        return SB_ENOTFOUND;
    k = sb_skey_val(&key);
    rc = mdb_get(txn, st->dbi[SB_DBI_HEADS], &k, &val);
    if (rc == MDB_NOTFOUND)
        return SB_ENOTFOUND;
    if (rc != 0)
        return sb_store_fail(st, rc, "reading a skill's head", err);
    return sb_head_unpack(&val, head) ? SB_OK : sb_store_corrupt("a skill's head", err);
}

static sb_code_t write_head(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                            const char *version, sb_str_t element, bool pinned, sb_err_t *err)
{
    sb_str_t parts[] = {sb_str_of(version, strlen(version)), element};
    unsigned char kind = pinned ? SB_KIND_PIN : SB_KIND_HEAD;
    sb_skey_t key;
    MDB_val k;
    int rc = MDB_BAD_VALSIZE;

    if (sb_skey(&key, tenant, name, NULL, NULL)) {
        k = sb_skey_val(&key);
        rc = sb_pack_put(txn, b->st->dbi[SB_DBI_HEADS], &k, kind, parts, 2);
    }
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "writing a skill's head", err);
}

/* The head's element is made from the record of its version. */
static sb_code_t point_head(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                            const char *version, bool pinned, sb_err_t *err)
{
    sb_buf_t element = SB_BUF_INIT(ELEMENT_MAX);
    sb_skill_value_t value = {0};
    sb_code_t code = sb_skill_version_get(b->st, txn, tenant, name, version, &value, err);

    if (code != SB_OK)
        return code;
    sb_buf_add(&element, value.json.data, value.element);
    sb_buf_char(&element, '}');
    if (!sb_buf_ok(&element))
        code = sb_err_errno(err, ENOMEM, "store: making a list element");
    else
        code = write_head(b, txn, tenant, name, version, sb_str_of(element.data, element.len),
                          pinned, err);
    sb_buf_free(&element);
    return code;
}

sb_code_t sb_head_raise(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                        const char *version, sb_err_t *err)
{
    sb_head_t head = {0};
    sb_code_t code = sb_head_get(b->st, txn, tenant, name, &head, err);

    if (code == SB_OK && (head.pinned || sb_semver_cmp_latest(version, head.version) <= 0))
        return SB_OK;
    if (code != SB_OK && code != SB_ENOTFOUND)
        return code;
    return point_head(b, txn, tenant, name, version, false, err);
}

/* The highest of all versions; SB_ENOTFOUND when there is none. */
static sb_code_t highest(sb_batch_t *b, MDB_txn *txn, const sb_skey_t *prefix,
                         char best[SB_VERSION_MAX + 1], sb_err_t *err)
{
    MDB_val key = sb_skey_val(prefix), val;
    char version[SB_VERSION_MAX + 1];
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, b->st->dbi[SB_DBI_SKILLS], &cur);

    if (rc != 0)
        return sb_store_fail(b->st, rc, "looking for versions", err);
    best[0] = '\0';
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_SET_RANGE);
         rc == 0 && sb_skey_prefix(&key, prefix); rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
        sb_str_t tail =
            sb_str_of((const char *)key.mv_data + prefix->len, key.mv_size - prefix->len);
        if (!sb_str_copy(tail, version, sizeof(version))) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (best[0] == '\0' || sb_semver_cmp_latest(version, best) > 0)
            memcpy(best, version, sizeof(version));
    }
    mdb_cursor_close(cur);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return sb_store_fail(b->st, rc, "looking for versions", err);
    return best[0] != '\0' ? SB_OK : SB_ENOTFOUND;
}

/* Lets the head name the highest version, or removes it when there is none. */
static sb_code_t follow(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                        char version[SB_VERSION_MAX + 1], sb_err_t *err)
{
    sb_skey_t key;
    MDB_val k;
    sb_code_t code;
    int rc;

    if (!sb_skey(&key, tenant, name, "", NULL))
        return SB_ENOTFOUND;
    code = highest(b, txn, &key, version, err);
    if (code == SB_OK)
        return point_head(b, txn, tenant, name, version, false, err);
    if (code != SB_ENOTFOUND)
        return code;
    sb_skey(&key, tenant, name, NULL, NULL);
    k = sb_skey_val(&key);
    rc = mdb_del(txn, b->st->dbi[SB_DBI_HEADS], &k, NULL);
    return rc == 0 ? SB_OK : sb_store_fail(b->st, rc, "deleting a skill's head", err);
}

sb_code_t sb_head_lower(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                        sb_err_t *err)
{
    char version[SB_VERSION_MAX + 1];
    sb_skill_value_t value = {0};
    sb_head_t head = {0};
    sb_code_t code = sb_head_get(b->st, txn, tenant, name, &head, err);

    if (code == SB_OK && head.pinned) {
        code = sb_skill_version_get(b->st, txn, tenant, name, head.version, &value, err);
        if (code != SB_ENOTFOUND)
            return code; /* it is still there */
        code = SB_OK;
    }
    return code == SB_OK ? follow(b, txn, tenant, name, version, err) : code;
}

static sb_code_t activate(sb_batch_t *b, MDB_txn *txn, const char *tenant, const char *name,
                          const char *version, char active[SB_VERSION_MAX + 1], sb_err_t *err)
{
    sb_skill_value_t value = {0};
    char digest[SB_DIGEST_LEN + 1];
    sb_head_t head;
    sb_code_t code = sb_head_get(b->st, txn, tenant, name, &head, err);

    if (code == SB_OK && version == NULL)
        code = follow(b, txn, tenant, name, active, err);
    else if (code == SB_OK) {
        memcpy(active, version, strlen(version) + 1);
        code = point_head(b, txn, tenant, name, version, true, err);
    }
    if (code == SB_OK)
        code = sb_skill_version_get(b->st, txn, tenant, name, active, &value, err);
    if (code != SB_OK)
        return code;
    if (!sb_str_copy(value.digest, digest, sizeof(digest)))
        return sb_store_corrupt("the record of a skill", err);
    return sb_skill_log(b, txn, version != NULL ? "skill.activate" : "skill.follow", tenant, name,
                        active, digest, err);
}

sb_code_t sb_batch_skill_activate(sb_batch_t *b, const char *tenant, const char *name,
                                  const char *version, char active[SB_VERSION_MAX + 1],
                                  sb_err_t *err)
{
    MDB_txn *txn = NULL;
    sb_code_t code;

    active[0] = '\0';
    if (!sb_name_valid(name, strlen(name)))
        return sb_skill_not_found(name, NULL, err);
    if (version != NULL && !sb_semver_valid(version, strlen(version)))
        return sb_skill_not_found(name, version, err);
    code = sb_batch_op_begin(b, &txn, err);
    if (code != SB_OK)
        return code;
    code = activate(b, txn, tenant, name, version, active, err);
    if (code == SB_ENOTFOUND)
        sb_skill_not_found(name, version, err);
    return sb_batch_op_end(b, txn, code, err);
}
