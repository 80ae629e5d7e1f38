/*
 * store_probe.c - looks at a gateway's store from outside, for the tests.
 *
 *   store-probe dump STORE      opens it as a gateway would, reads every record, looks for every
 *                               file, and prints what there is, one JSON object a line:
 *                               {"skill":name,"version","digest","sha256","size"}
 *                               {"file":id,"digest","good"}    good: the content has that digest
 *                               {"execution":id,"status","files"}
 *                               {"keys":n}
 *   store-probe schema STORE N  makes it one that a program of schema N left (4: without what
 *                               schema 5 added)
 *
 * Exit status 0; 1 and a line on stderr when something is not as store.h promises.  Nobody else
 * may have the store open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "../../libskillbox/store_internal.h"

static void __attribute__((noreturn)) fail(const char *what, const char *why)
{
    fprintf(stderr, "store-probe: %s: %s\n", what, why);
    exit(1);
}

/* SHA-256 of magic and a file's bytes, as hex. */
static int64_t hash_file(const char *path, const char *magic, char hex[SB_DIGEST_LEN + 1])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char buf[65536], out[EVP_MAX_MD_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int64_t size = 0;
    ssize_t n;

    if (fd < 0 || md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        fail(path, strerror(errno));
    EVP_DigestUpdate(md, magic, strlen(magic));
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        EVP_DigestUpdate(md, buf, (size_t)n);
        size += n;
    }
    if (n < 0)
        fail(path, strerror(errno));
    EVP_DigestFinal_ex(md, out, NULL);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", out[i]);
    EVP_MD_CTX_free(md);
    close(fd);
    return size;
}

static void path_of(sb_store_t *st, sb_str_t digest, char text[SB_DIGEST_LEN + 1], char *path,
                    size_t size)
{
    if (!sb_str_copy(digest, text, SB_DIGEST_LEN + 1) ||
        sb_store_package_path(st, text, path, size, NULL) != SB_OK)
        fail("a digest", "is none");
}

static void print_skill(sb_store_t *st, const MDB_val *key, const MDB_val *val)
{
    char digest[SB_DIGEST_LEN + 1], hex[SB_DIGEST_LEN + 1], path[4096];
    const char *name = memchr(key->mv_data, '\0', key->mv_size), *version;
    sb_skill_value_t v = {0};
    const char *end = (const char *)key->mv_data + key->mv_size;

    if (name == NULL || (version = memchr(name + 1, '\0', (size_t)(end - name - 1))) == NULL ||
        !sb_skill_unpack(val, &v))
        fail("a skill", "is damaged");
    path_of(st, v.digest, digest, path, sizeof(path));
    int64_t size = hash_file(path, "", hex);
    printf(
        "{\"skill\":\"%s\",\"version\":\"%.*s\",\"digest\":\"%s\",\"sha256\":\"%s\",\"size\":%lld}"
        "\n",
        name + 1, (int)(end - version - 1), version + 1, digest, hex, (long long)size);
}

static void print_id(const char *what, const MDB_val *key)
{
    char id[SB_UUID_LEN + 1];

    if (key->mv_size < 17)
        fail(what, "is damaged");
    sb_uuid_format((const unsigned char *)key->mv_data + key->mv_size - 16, id);
    printf("{\"%s\":\"%s\"", what, id);
}

static void print_file(sb_store_t *st, const MDB_val *key, const MDB_val *val)
{
    char digest[SB_DIGEST_LEN + 1], hex[SB_DIGEST_LEN + 1], path[4096];
    sb_str_t parts[8];
    int64_t size;

    if (!sb_unpack(val, SB_KIND_FILE, parts, 8) || !sb_file_size(val, &size))
        fail("a file", "is damaged");
    path_of(st, parts[0], digest, path, sizeof(path));
    bool good = hash_file(path, SB_FILE_DIGEST_MAGIC, hex) == size && strcmp(hex, digest) == 0;
    print_id("file", key);
    printf(",\"digest\":\"%s\",\"good\":%s}\n", digest, good ? "true" : "false");
}

static void print_execution(sb_store_t *st, const MDB_val *key, const MDB_val *val)
{
    sb_exec_value_t v = {0};

    if (!sb_exec_unpack(val, &v))
        fail("an execution", "is damaged");
    print_id("execution", key);
    printf(",\"status\":\"%.*s\",\"files\":%llu}\n", (int)v.status.len, v.status.data,
           (unsigned long long)v.files);
}

static void each(sb_store_t *st, MDB_txn *txn, int dbi,
                 void (*print)(sb_store_t *st, const MDB_val *key, const MDB_val *val))
{
    MDB_val key, val;
    MDB_cursor *cur;
    int rc = mdb_cursor_open(txn, st->dbi[dbi], &cur);

    if (rc != 0)
        fail("listing", mdb_strerror(rc));
    for (rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT))
        print(st, &key, &val);
    if (rc != MDB_NOTFOUND)
        fail("listing", mdb_strerror(rc));
    mdb_cursor_close(cur);
}

/* The accounts, as a count of all would have them. */
static void check_accounts(sb_store_t *st)
{
    static char before[1 << 20];
    size_t len = 0;
    MDB_txn *txn;
    MDB_cursor *cur;
    MDB_val key, val;

    for (int round = 0; round < 2; round++) {
        size_t at = 0;

        if (mdb_txn_begin(st->env, NULL, 0, &txn) != 0 ||
            (round == 1 && sb_usage_recount(st, txn) != 0) ||
            mdb_cursor_open(txn, st->dbi[SB_DBI_USAGE], &cur) != 0)
            fail("the accounts", "can't be read");
        for (int rc = mdb_cursor_get(cur, &key, &val, MDB_FIRST); rc == 0;
             rc = mdb_cursor_get(cur, &key, &val, MDB_NEXT)) {
            char tenant[SB_TENANT_MAX + 1];
            int64_t use[SB_USE_COUNT];

            if (!sb_str_copy(sb_str_of(key.mv_data, key.mv_size), tenant, sizeof(tenant)) ||
                sb_usage_get(st, txn, tenant, use, NULL) != SB_OK ||
                at + sizeof(use) > sizeof(before))
                fail("an account", "is damaged");
            if (sb_use_total(use) == 0)
                continue;
            if (round == 1 && (at >= len || memcmp(before + at, use, sizeof(use)) != 0))
                fail("the accounts", "are not what a count says");
            memcpy(before + at, use, sizeof(use));
            at += sizeof(use);
        }
        mdb_cursor_close(cur);
        mdb_txn_abort(txn);
        if (round == 0)
            len = at;
        else if (at != len)
            fail("the accounts", "are more than a count finds");
    }
}

static void dump(const char *path)
{
    sb_store_check_t check;
    sb_store_t *st;
    sb_err_t err;
    MDB_txn *txn;
    MDB_stat stat;

    if (sb_store_open(path, 0, false, &st, &err) != SB_OK)
        fail("opening", err.message);
    if (sb_store_check(st, &check, &err) != SB_OK)
        fail("checking", err.message);
    check_accounts(st);
    if (mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn) != 0)
        fail("reading", "no transaction");
    each(st, txn, SB_DBI_SKILLS, print_skill);
    each(st, txn, SB_DBI_FILES, print_file);
    each(st, txn, SB_DBI_EXECUTIONS, print_execution);
    if (mdb_stat(txn, st->dbi[SB_DBI_KEYS], &stat) == 0)
        printf("{\"keys\":%zu}\n", stat.ms_entries);
    mdb_txn_abort(txn);
    sb_store_close(st);
}

static void set_schema(const char *path, unsigned schema)
{
    sb_store_t *st;
    sb_err_t err;
    MDB_txn *txn;
    int rc;

    if (sb_store_open(path, 0, false, &st, &err) != SB_OK)
        fail("opening", err.message);
    rc = mdb_txn_begin(st->env, NULL, 0, &txn);
    if (rc == 0)
        rc = sb_store_meta_put(st, txn, "schema", schema);
    if (rc == 0 && schema < 5)
        rc = mdb_drop(txn, st->dbi[SB_DBI_USAGE], 1);
    if (rc == 0 && schema < 5)
        rc = mdb_drop(txn, st->dbi[SB_DBI_ARCHIVES], 1);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    if (rc != 0)
        fail("writing", mdb_strerror(rc));
    sb_store_close(st);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "dump") == 0)
        dump(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "schema") == 0)
        set_schema(argv[2], (unsigned)atoi(argv[3]));
    else
        fail("usage", "dump STORE | schema STORE N");
    return 0;
}
