/*
 * backup.c - `skillbox backup|restore|gc`: copies of the store, checked.
 *
 * A backup is a folder: data.mdb, packages/<digest>, and backup.json with the
 * SHA-256 of each file; that one is written last, so a folder without it is no
 * backup.  `restore` checks the sums, then every record, and data.mdb gets its
 * name last: a store is there whole or not at all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "../libskillbox/units.h"
#include "cli.h"
#include "key.h"
#include "output.h"

#define MANIFEST "backup.json"

static int fail(const sb_err_t *err)
{
    sb_say_err(err);
    return err->code == SB_ENOTFOUND ? EXIT_NOT_FOUND
           : err->code == SB_EBUSY   ? EXIT_BUSY
                                     : EXIT_FAILED;
}

/* ---- sums ---- */

static bool hash_fd(int fd, char hex[SB_SHA256_HEX + 1])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char out[SB_SHA256_LEN];
    static char buf[1 << 18];
    ssize_t n = -1;
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

    while (ok && (n = read(fd, buf, sizeof(buf))) > 0) {
        ok = EVP_DigestUpdate(md, buf, (size_t)n) == 1;
    }
    ok = ok && n == 0 && EVP_DigestFinal_ex(md, out, NULL) == 1;
    EVP_MD_CTX_free(md);
    for (size_t i = 0; ok && i < sizeof(out); i++) {
        snprintf(hex + 2 * i, 3, "%02x", out[i]);
    }
    return ok;
}

static bool hash_file(const char *dir, const char *name, char hex[SB_SHA256_HEX + 1])
{
    char path[SB_STATE_PATH_MAX];
    sb_err_t err;

    if (sb_state_path(dir, name, path, &err) != SB_OK) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && hash_fd(fd, hex);
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* {"data.mdb": sum, "packages/<digest>": sum, ...}; NULL and a message. */
static json_t *hash_all(const char *dir)
{
    char packages[SB_STATE_PATH_MAX], hex[SB_SHA256_HEX + 1], name[128];
    json_t *files = json_object();
    struct dirent *e;
    sb_err_t err;
    DIR *d = NULL;
    bool ok = hash_file(dir, "data.mdb", hex) &&
              json_object_set_new(files, "data.mdb", json_string(hex)) == 0 &&
              sb_state_path(dir, "packages", packages, &err) == SB_OK &&
              (d = opendir(packages)) != NULL;

    while (ok && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.') {
            continue;
        }
        ok = snprintf(name, sizeof(name), "packages/%s", e->d_name) < (int)sizeof(name) &&
             hash_file(dir, name, hex) && json_object_set_new(files, name, json_string(hex)) == 0;
    }
    if (d != NULL) {
        closedir(d);
    }
    if (!ok) {
        sb_say_error("can't read all of %s", dir);
        json_decref(files);
        return NULL;
    }
    return files;
}

/* ---- backup ---- */

static const sb_option_t backup_options[] = {
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "print {\"path\",\"records\",\"packages\",\"bytes\"}", false},
    {NULL, NULL, NULL, false},
};

/* As root the store's owner writes the backup, so the folder is made for him first. */
static int make_dest(const sb_args_t *args, const char *dest)
{
    const char *given = sb_args_get(args, "store");
    char path[SB_STATE_PATH_MAX];
    struct stat st;
    sb_err_t err;

    if (mkdir(dest, 0700) != 0) {
        sb_say_error("can't make %s: %s", dest, strerror(errno));
        return EXIT_FAILED;
    }
    if (geteuid() != 0) {
        return EXIT_OK;
    }
    if (given == NULL && sb_state_path(sb_state_folder(args), "store", path, &err) != SB_OK) {
        return EXIT_OK; /* said by sb_store_find() */
    }
    if (stat(given != NULL ? given : path, &st) == 0 && chown(dest, st.st_uid, st.st_gid) != 0) {
        sb_say_error("can't give %s to the store's owner: %s", dest, strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static sb_code_t write_manifest(const char *dest, const sb_store_check_t *check, json_t *files,
                                sb_err_t *err)
{
    char when[SB_TIME_LEN + 1];
    json_t *o;
    char *text;
    sb_code_t code;

    sb_time_format(sb_time_now_ms(), when);
    o = json_pack("{s:s, s:i, s:s, s:I, s:I, s:O}", "created_at", when, "schema", SB_STORE_SCHEMA,
                  "version", SB_VERSION, "records", (json_int_t)check->records, "packages",
                  (json_int_t)check->packages, "files", files);
    text = json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(o);
    if (text == NULL) {
        return sb_err_set(err, SB_EINTERNAL, "out of memory");
    }
    code = sb_state_write_file(dest, MANIFEST, text, strlen(text), err);
    free(text);
    return code;
}

/* Opens the copy, reads every record, and drops the lock file that opening made. */
static sb_code_t check_copy(const char *dir, sb_store_check_t *check, sb_err_t *err)
{
    char lock[SB_STATE_PATH_MAX];
    sb_store_t *copy;
    sb_code_t code = sb_store_open(dir, 0, false, &copy, err);

    if (code == SB_OK) {
        code = sb_store_check(copy, check, err);
        sb_store_close(copy);
    }
    if (sb_state_path(dir, "lock.mdb", lock, NULL) == SB_OK) {
        unlink(lock);
    }
    return code;
}

static int run_backup(const sb_args_t *args)
{
    const char *dest = sb_args_operand(args, 0);
    sb_store_check_t check;
    json_t *files = NULL;
    sb_store_t *store;
    sb_err_t err = {.code = SB_OK};
    int rc = make_dest(args, dest);

    if (rc != EXIT_OK) {
        return rc;
    }
    if ((rc = sb_store_find_open(args, &store)) != EXIT_OK) {
        rmdir(dest);
        return rc;
    }
    sb_code_t code = sb_store_backup(store, dest, &err);
    sb_store_close(store);
    if (code == SB_OK) {
        code = check_copy(dest, &check, &err);
    }
    if (code != SB_OK) {
        sb_say_error("%s is not a whole backup: remove it", dest);
        return fail(&err);
    }
    files = hash_all(dest);
    if (files == NULL) {
        return EXIT_FAILED;
    }
    code = write_manifest(dest, &check, files, &err);
    json_decref(files);
    if (code != SB_OK) {
        return fail(&err);
    }
    if (sb_args_flag(args, "json")) {
        json_t *o = json_pack("{s:s, s:I, s:I}", "path", dest, "records", (json_int_t)check.records,
                              "packages", (json_int_t)check.packages);
        sb_print_json(stdout, o);
        json_decref(o);
    } else {
        printf("%s: %llu records, %llu packages, checked\n", dest,
               (unsigned long long)check.records, (unsigned long long)check.packages);
    }
    return EXIT_OK;
}

const sb_command_t cmd_backup = {
    .name = "backup",
    .operands = "<folder>",
    .summary = "copy the store while it is used, and check the copy",
    .details =
        "Makes the folder and in it a copy of the store as it is at one moment: keys, tenants,\n"
        "skills with their packages, executions with their logs.  Gateways go on meanwhile.  "
        "Every\n"
        "record of the copy is read, and the sums of all files are kept in backup.json.  Packages\n"
        "are hard links where the file system allows.  Archives of artifacts are files of their\n"
        "own that never change: copy their folder with rsync or the like.",
    .options = backup_options,
    .examples = "skillbox backup /var/backups/skillbox-1\n"
                "sudo skillbox backup --store /var/lib/skillbox/store /var/backups/skillbox-1",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_backup,
};

/* ---- restore ---- */

static const sb_option_t restore_options[] = {
    {"size", "SIZE", "make the map larger, e.g. 16Gi (default: as it was)", false},
    {NULL, NULL, NULL, false},
};

static json_t *load_manifest(const char *dir)
{
    char path[SB_STATE_PATH_MAX];
    json_error_t e;
    sb_err_t err;
    json_t *o;

    if (sb_state_path(dir, MANIFEST, path, &err) != SB_OK) {
        sb_say_err(&err);
        return NULL;
    }
    o = json_load_file(path, 0, &e);
    if (!json_is_object(json_object_get(o, "files"))) {
        sb_say_error("%s is no whole backup: it has no valid %s", dir, MANIFEST);
        json_decref(o);
        return NULL;
    }
    return o;
}

static bool name_is_ours(const char *name)
{
    return strcmp(name, "data.mdb") == 0 ||
           (strncmp(name, "packages/", 9) == 0 && strlen(name) == 9 + SB_SHA256_HEX &&
            strspn(name + 9, "0123456789abcdef") == SB_SHA256_HEX);
}

/* Copies one file and compares what was written with its sum. */
static bool restore_file(const char *from_dir, const char *to_dir, const char *name, const char *as,
                         const char *sum)
{
    char from[SB_STATE_PATH_MAX], to[SB_STATE_PATH_MAX], hex[SB_SHA256_HEX + 1];
    sb_err_t err;

    if (sb_state_path(from_dir, name, from, &err) != SB_OK ||
        sb_state_path(to_dir, as, to, &err) != SB_OK ||
        sb_store_copy_file(from, to, &err) != SB_OK) {
        sb_say_err(&err);
        return false;
    }
    if (!hash_file(to_dir, as, hex) || strcmp(hex, sum) != 0) {
        sb_say_error("%s is damaged: its sum is another than when the backup was made", from);
        return false;
    }
    return true;
}

static bool restore_files(const char *from, const char *to, json_t *files)
{
    const char *name;
    json_t *sum;

    json_object_foreach(files, name, sum)
    {
        if (!name_is_ours(name) || !json_is_string(sum)) {
            sb_say_error("%s names a file that belongs to no backup", MANIFEST);
            return false;
        }
        if (!restore_file(from, to, name, strcmp(name, "data.mdb") == 0 ? "restore.mdb" : name,
                          json_string_value(sum))) {
            return false;
        }
    }
    return json_object_get(files, "data.mdb") != NULL;
}

/* Makes the store's folders, as root for the backup's owner, whom the rest is done as. */
static int open_target(const char *from, const char *to)
{
    char packages[SB_STATE_PATH_MAX];
    struct stat st;
    sb_err_t err;

    if (stat(from, &st) != 0) {
        sb_say_error("no backup at %s: %s", from, strerror(errno));
        return EXIT_NOT_FOUND;
    }
    if (mkdir(to, 0700) != 0 && !(errno == EEXIST && rmdir(to) == 0 && mkdir(to, 0700) == 0)) {
        sb_say_error("%s: %s; nothing is restored over what is there", to, strerror(errno));
        return EXIT_CONFLICT;
    }
    if (geteuid() == 0 && st.st_uid != 0 &&
        (chown(to, st.st_uid, st.st_gid) != 0 ||
         sb_proc_become(st.st_uid, st.st_gid, &err) != SB_OK)) {
        sb_say_error("can't become the backup's owner: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (sb_state_path(to, "packages", packages, &err) != SB_OK || mkdir(packages, 0700) != 0) {
        sb_say_error("can't make %s/packages: %s", to, strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static int finish_restore(const char *to, int64_t size)
{
    char tmp[SB_STATE_PATH_MAX], data[SB_STATE_PATH_MAX];
    sb_store_check_t check;
    sb_err_t err;

    if (sb_state_path(to, "restore.mdb", tmp, &err) != SB_OK ||
        sb_state_path(to, "data.mdb", data, &err) != SB_OK) {
        return fail(&err);
    }
    if (rename(tmp, data) != 0) {
        sb_say_error("can't rename %s: %s", tmp, strerror(errno));
        return EXIT_FAILED;
    }
    if (check_copy(to, &check, &err) != SB_OK ||
        (size > 0 && sb_store_enlarge(to, (size_t)size, &err) != SB_OK)) {
        unlink(data); /* no store rather than a bad one */
        return fail(&err);
    }
    printf("%s: %llu records, %llu packages, checked\n", to, (unsigned long long)check.records,
           (unsigned long long)check.packages);
    return EXIT_OK;
}

static int run_restore(const sb_args_t *args)
{
    const char *from = sb_args_operand(args, 0), *to = sb_args_operand(args, 1);
    const char *text = sb_args_get(args, "size");
    int64_t size = 0;
    json_t *manifest;
    sb_err_t err;
    int rc;

    if (text != NULL && sb_memory_parse(text, strlen(text), &size, &err) != SB_OK) {
        sb_say_error("--size: %s", err.message);
        return EXIT_USAGE;
    }
    manifest = load_manifest(from);
    if (manifest == NULL) {
        return EXIT_NOT_FOUND;
    }
    rc = open_target(from, to);
    if (rc == EXIT_OK) {
        rc = restore_files(from, to, json_object_get(manifest, "files")) ? finish_restore(to, size)
                                                                         : EXIT_FAILED;
        if (rc != EXIT_OK) {
            sb_say_error("%s is no store: remove it", to);
        }
    }
    json_decref(manifest);
    return rc;
}

const sb_command_t cmd_restore = {
    .name = "restore",
    .operands = "<backup> <folder>",
    .summary = "make a store of a backup, checking every file and record",
    .details =
        "The folder must be absent or empty: move an old store away first, and stop the gateway\n"
        "that uses it.  Each file is compared with the sum in backup.json while it is copied, "
        "then\n"
        "every record is read.  As root the store belongs to the backup's owner.",
    .options = restore_options,
    .examples = "skillbox restore /var/backups/skillbox-1 ./.skillbox/store\n"
                "sudo skillbox restore --size 16Gi /var/backups/skillbox-1 /var/lib/skillbox/store",
    .min_operands = 2,
    .max_operands = 2,
    .run = run_restore,
};

/* ---- gc ---- */

static const sb_option_t gc_options[] = {
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "print {\"removed\",\"packages\",\"used_bytes\",\"map_bytes\"}", false},
    {NULL, NULL, NULL, false},
};

static int64_t count_files(const char *store, const char *name)
{
    char path[SB_STATE_PATH_MAX];
    struct dirent *e;
    int64_t n = 0;
    DIR *d;

    if (sb_state_path(store, name, path, NULL) != SB_OK || (d = opendir(path)) == NULL) {
        return 0;
    }
    while ((e = readdir(d)) != NULL) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

/* What tenants keep, from the records themselves. */
static sb_code_t recount(sb_store_t *store, sb_err_t *err)
{
    sb_batch_t *batch;
    sb_code_t code = sb_batch_begin(store, &batch, err);

    if (code != SB_OK) {
        return code;
    }
    code = sb_batch_usage_recount(batch, err);
    if (code != SB_OK) {
        sb_batch_abort(batch);
        return code;
    }
    return sb_batch_commit(batch, err);
}

static int run_gc(const sb_args_t *args)
{
    char path[SB_STATE_PATH_MAX];
    sb_store_usage_t usage;
    sb_store_t *store;
    sb_err_t err;
    int rc = sb_store_find(args, path);

    if (rc != EXIT_OK) {
        return rc;
    }
    int64_t before = count_files(path, "packages") + count_files(path, "tmp");
    if (sb_store_open(path, 0, false, &store, &err) != SB_OK) { /* which sweeps */
        return fail(&err);
    }
    sb_store_check_readers(store);
    int64_t packages = count_files(path, "packages");
    int64_t removed = before - packages - count_files(path, "tmp");
    rc = recount(store, &err) == SB_OK && sb_store_usage(store, &usage, &err) == SB_OK ? EXIT_OK
                                                                                       : fail(&err);
    sb_store_close(store);
    if (rc != EXIT_OK) {
        return rc;
    }
    removed = removed > 0 ? removed : 0; /* uploads may have come meanwhile */
    if (sb_args_flag(args, "json")) {
        json_t *o = json_pack("{s:I, s:I, s:I, s:I}", "removed", (json_int_t)removed, "packages",
                              (json_int_t)packages, "used_bytes", (json_int_t)usage.used_bytes,
                              "map_bytes", (json_int_t)usage.map_bytes);
        sb_print_json(stdout, o);
        json_decref(o);
    } else {
        char used[32], map[32];

        sb_bytes_format((int64_t)usage.used_bytes, used);
        sb_bytes_format((int64_t)usage.map_bytes, map);
        printf("removed %lld files that nothing refers to; %lld packages; %s of a map of %s used\n",
               (long long)removed, (long long)packages, used, map);
    }
    return EXIT_OK;
}

const sb_command_t cmd_gc = {
    .name = "gc",
    .operands = "",
    .summary = "remove files of the store that nothing refers to",
    .details =
        "Removes packages without a record and temporary files that a crash left, and frees what\n"
        "dead readers hold.  Safe beside running gateways, which do the same when they start.  "
        "The\n"
        "database itself never shrinks, but uses freed pages again; `backup` and `restore` make\n"
        "a compact one.",
    .options = gc_options,
    .examples = "skillbox gc\n"
                "sudo skillbox gc --store /var/lib/skillbox/store --json",
    .run = run_gc,
};
