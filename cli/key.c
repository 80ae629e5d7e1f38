/*
 * key.c - `skillbox key create|list|rotate|revoke`; see key.h.
 *
 * Opens the LMDB store beside a running nginx, which LMDB allows.  Started as
 * root it becomes the user the store belongs to before it opens anything there:
 * files made by root would lock nginx's workers out.
 */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "../libskillbox/units.h"
#include "cli.h"
#include "output.h"
#include "state.h"

#define DAY_MS           (24 * 3600 * (int64_t)1000)
#define EXPIRES_MAX_DAYS 3650
#define GRACE_MAX_DAYS   30 /* as the API has it */

sb_code_t sb_key_make(const char *path, sb_key_t *key, char secret[SB_APIKEY_LEN + 1],
                      sb_err_t *err)
{
    unsigned char sha256[SB_SHA256_LEN];
    sb_store_t *store;
    sb_batch_t *batch;
    sb_code_t code = sb_store_open(path, 0, false, &store, err);

    if (code != SB_OK) {
        return code;
    }
    sb_apikey_new(secret);
    sb_sha256(secret, SB_APIKEY_LEN, sha256);
    code = sb_batch_begin(store, &batch, err);
    if (code == SB_OK) {
        code = sb_batch_key_put(batch, sha256, key, err);
        if (code == SB_OK) {
            code = sb_batch_commit(batch, err);
        } else {
            sb_batch_abort(batch);
        }
    }
    sb_store_close(store);
    return code;
}

int sb_store_find(const sb_args_t *args, char path[SB_STATE_PATH_MAX])
{
    const char *given = sb_args_get(args, "store");
    struct stat st;
    sb_err_t err;

    if (given != NULL && strlen(given) >= SB_STATE_PATH_MAX) {
        sb_say_error("the store's path is too long");
        return EXIT_USAGE;
    }
    if (given != NULL) {
        strcpy(path, given);
    } else if (sb_state_path(sb_state_folder(args), "store", path, &err) != SB_OK) {
        sb_say_err(&err);
        return EXIT_USAGE;
    }
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int e = errno;

        sb_say_error("no store at %s: %s", path, strerror(e));
        if (fd >= 0) {
            close(fd);
        }
        return e == EACCES ? EXIT_UNAUTHORIZED : EXIT_NOT_FOUND;
    }
    close(fd);
    if (geteuid() == 0 && st.st_uid != 0 && sb_proc_become(st.st_uid, st.st_gid, &err) != SB_OK) {
        sb_say_err(&err);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static int fail(const sb_err_t *err);

int sb_store_find_open(const sb_args_t *args, sb_store_t **store)
{
    char path[SB_STATE_PATH_MAX];
    sb_err_t err;
    int rc = sb_store_find(args, path);

    if (rc == EXIT_OK && sb_store_open(path, 0, false, store, &err) != SB_OK) {
        rc = fail(&err);
    }
    return rc;
}

static int fail(const sb_err_t *err)
{
    sb_say_err(err);
    switch (err->code) {
    case SB_ENOTFOUND:
        return EXIT_NOT_FOUND;
    case SB_ECONFLICT:
        return EXIT_CONFLICT;
    default:
        return EXIT_FAILED;
    }
}

/* ---- create ---- */

static const sb_option_t create_options[] = {
    {"name", "NAME", "what the key is for (default: cli)", false},
    {"tenant", "ID", "the tenant it belongs to, made when new (default: default)", false},
    {"role", "reader|runner|publisher|admin", "what it may do (default: runner)", false},
    {"service", NULL, "may act for any tenant by the X-Tenant-ID header", false},
    {"expires", "DURATION", "valid this long, e.g. 12h or 90d (default: for ever)", false},
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "print {\"id\",\"key\",\"tenant_id\",\"name\",\"role\",\"service\"}", false},
    {NULL, NULL, NULL, false},
};

static bool take_text(const char *value, const char *what, bool (*valid)(const char *, size_t),
                      char *out, size_t size)
{
    size_t len = strlen(value);

    if (len == 0 || len >= size || !valid(value, len)) {
        sb_say_error("'%s' is not a %s", value, what);
        return false;
    }
    memcpy(out, value, len + 1);
    return true;
}

/* --name as a duration, or as days ("90d"), at most max_days; false and a message. */
static bool take_days(const sb_args_t *args, const char *name, int max_days, int64_t *ms)
{
    const char *text = sb_args_get(args, name);
    size_t digits = text != NULL ? strspn(text, "0123456789") : 0;
    sb_err_t err;

    if (text == NULL) {
        return true;
    }
    if (digits == 0 || digits > 4 || strcmp(text + digits, "d") != 0) {
        if (sb_duration_parse(text, strlen(text), ms, &err) == SB_OK) {
            return true;
        }
        sb_say_error("--%s: %s; longer ones are days, as 90d", name, err.message);
        return false;
    }
    if (atoi(text) > max_days) {
        sb_say_error("--%s: \"%s\" is longer than %d days", name, text, max_days);
        return false;
    }
    *ms = atoi(text) * DAY_MS;
    return true;
}

static bool describe_key(const sb_args_t *args, sb_key_t *key)
{
    const char *tenant = sb_args_get(args, "tenant"), *name = sb_args_get(args, "name");
    const char *role = sb_args_get(args, "role");
    int64_t ms = 0;

    memset(key, 0, sizeof(*key));
    key->service = sb_args_flag(args, "service");
    key->role = SB_ROLE_RUNNER;
    if (!take_text(tenant != NULL ? tenant : "default", "tenant's id", sb_tenant_valid, key->tenant,
                   sizeof(key->tenant)) ||
        !take_text(name != NULL ? name : "cli", "key's name", sb_utf8_valid, key->name,
                   sizeof(key->name))) {
        return false;
    }
    if (role != NULL && !sb_role_parse(role, strlen(role), &key->role)) {
        sb_say_error("--role is one of reader, runner, publisher, admin");
        return false;
    }
    if (!take_days(args, "expires", EXPIRES_MAX_DAYS, &ms)) {
        return false;
    }
    if (sb_args_get(args, "expires") != NULL) {
        key->expires_ms = sb_time_now_ms() + ms;
    }
    return true;
}

static json_t *key_to_json(const sb_key_t *key)
{
    char created[SB_TIME_LEN + 1], expires[SB_TIME_LEN + 1];
    json_t *o;

    sb_time_format(key->created_ms, created);
    o = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "id", key->id, "tenant_id", key->tenant, "name",
                  key->name, "role", sb_role_name(key->role), "service", (int)key->service,
                  "created_at", created);
    if (o != NULL && key->expires_ms != 0) {
        sb_time_format(key->expires_ms, expires);
        json_object_set_new(o, "expires_at", json_string(expires));
    }
    if (o != NULL && key->used_ms != 0) {
        sb_time_format(key->used_ms, expires);
        json_object_set_new(o, "last_used_at", json_string(expires));
    }
    return o;
}

static int run_create(const sb_args_t *args)
{
    char path[SB_STATE_PATH_MAX], secret[SB_APIKEY_LEN + 1];
    sb_key_t key;
    sb_err_t err;
    int rc;

    if (!describe_key(args, &key)) {
        return EXIT_USAGE;
    }
    if ((rc = sb_store_find(args, path)) != EXIT_OK) {
        return rc;
    }
    if (sb_key_make(path, &key, secret, &err) != SB_OK) {
        return fail(&err);
    }
    if (sb_args_flag(args, "json")) {
        json_t *o = key_to_json(&key);

        json_object_set_new(o, "key", json_string(secret));
        sb_print_json(stdout, o);
        json_decref(o);
    } else {
        printf("%s\n", secret);
        sb_say("id %s, tenant %s, role %s; the key is not shown again", key.id, key.tenant,
               sb_role_name(key.role));
    }
    return EXIT_OK;
}

const sb_command_t cmd_key_create = {
    .name = "key create",
    .operands = "",
    .summary = "make an API key in the store and print it, once",
    .details =
        "Makes an API key straight in the store's folder, beside a running gateway or before its\n"
        "first request, and prints the secret on stdout.  Only its SHA-256 is kept: it can't be\n"
        "shown again.  As root the command becomes the store's owner first.",
    .options = create_options,
    .examples = "skillbox key create --name laptop --role publisher\n"
                "skillbox key create --tenant acme --role runner --expires 12h --json\n"
                "sudo skillbox key create --store /var/lib/skillbox/store --role admin",
    .run = run_create,
};

/* ---- list ---- */

static const sb_option_t list_options[] = {
    {"tenant", "ID", "only this tenant's", false},
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

typedef struct {
    const char *tenant; /* NULL: all */
    json_t *keys;
} list_ctx_t;

static sb_code_t add_key(void *ctx, const sb_key_t *key, sb_err_t *err)
{
    list_ctx_t *c = ctx;

    if (c->tenant != NULL && strcmp(c->tenant, key->tenant) != 0) {
        return SB_OK;
    }
    if (json_array_append_new(c->keys, key_to_json(key)) != 0) {
        return sb_err_errno(err, ENOMEM, "listing keys");
    }
    return SB_OK;
}

static bool print_keys(const json_t *keys)
{
    static const char *const columns[] = {"id",         "tenant_id",  "name",        "role",
                                          "created_at", "expires_at", "last_used_at"};
    static const char *const titles[] = {"ID",      "TENANT",  "NAME",     "ROLE",
                                         "CREATED", "EXPIRES", "LAST USED"};
    const json_t *key;
    sb_table_t t;
    size_t i;

    sb_table_init(&t, 7);
    for (size_t c = 0; c < 7; c++) {
        sb_table_cell(&t, titles[c]);
    }
    json_array_foreach(keys, i, key)
    {
        for (size_t c = 0; c < 7; c++) {
            sb_table_cell(&t, json_string_value(json_object_get(key, columns[c])));
        }
    }
    return sb_table_print(&t, stdout);
}

static int run_list(const sb_args_t *args)
{
    list_ctx_t ctx = {.tenant = sb_args_get(args, "tenant")};
    char path[SB_STATE_PATH_MAX];
    sb_store_t *store;
    sb_err_t err;
    bool json = sb_args_flag(args, "json");
    int rc;

    if ((rc = sb_store_find(args, path)) != EXIT_OK) {
        return rc;
    }
    if (sb_store_open(path, 0, false, &store, &err) != SB_OK) {
        return fail(&err);
    }
    ctx.keys = json_array();
    if (sb_store_key_each(store, add_key, &ctx, &err) != SB_OK) {
        rc = fail(&err);
    } else if (json) {
        sb_print_json(stdout, ctx.keys);
    } else if (!print_keys(ctx.keys)) {
        rc = EXIT_FAILED;
    }
    json_decref(ctx.keys);
    sb_store_close(store);
    return rc;
}

const sb_command_t cmd_key_list = {
    .name = "key list",
    .operands = "",
    .summary = "list the API keys in the store (never their secrets)",
    .details = "Lists the API keys of all tenants, read from the store's folder.",
    .options = list_options,
    .examples = "skillbox key list\n"
                "skillbox key list --tenant acme --output json",
    .run = run_list,
};

/* ---- rotate ---- */

static const sb_option_t rotate_options[] = {
    {"grace", "DURATION", "how long the old key goes on, 0s: not at all (default: 1h)", false},
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {"json", NULL, "print the new key as JSON, with \"replaces\" and \"replaced_until\"", false},
    {NULL, NULL, NULL, false},
};

static sb_code_t rotate(sb_store_t *store, const char *id, int64_t grace_ms, sb_key_t *next,
                        char secret[SB_APIKEY_LEN + 1], int64_t *until, sb_err_t *err)
{
    unsigned char sha256[SB_SHA256_LEN];
    sb_batch_t *batch;
    sb_code_t code = sb_batch_begin(store, &batch, err);

    if (code != SB_OK) {
        return code;
    }
    sb_apikey_new(secret);
    sb_sha256(secret, SB_APIKEY_LEN, sha256);
    code = sb_batch_key_rotate(batch, id, sha256, grace_ms, next, until, err);
    if (code != SB_OK) {
        sb_batch_abort(batch);
        return code;
    }
    return sb_batch_commit(batch, err);
}

static void print_rotated(const sb_args_t *args, const sb_key_t *next, const char *secret,
                          int64_t until_ms)
{
    char until[SB_TIME_LEN + 1];

    sb_time_format(until_ms, until);
    if (sb_args_flag(args, "json")) {
        json_t *o = key_to_json(next);

        json_object_set_new(o, "key", json_string(secret));
        json_object_set_new(o, "replaces", json_string(sb_args_operand(args, 0)));
        json_object_set_new(o, "replaced_until", json_string(until));
        sb_print_json(stdout, o);
        json_decref(o);
        return;
    }
    printf("%s\n", secret);
    sb_say("id %s, tenant %s, role %s; the old key ends at %s; the new one is not shown again",
           next->id, next->tenant, sb_role_name(next->role), until);
}

static int run_rotate(const sb_args_t *args)
{
    const char *id = sb_args_operand(args, 0);
    char secret[SB_APIKEY_LEN + 1];
    int64_t grace_ms = 3600000, until;
    sb_store_t *store;
    sb_key_t next;
    sb_err_t err;
    int rc;

    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of a key; see `skillbox key list`", id);
        return EXIT_USAGE;
    }
    if (!take_days(args, "grace", GRACE_MAX_DAYS, &grace_ms)) {
        return EXIT_USAGE;
    }
    if ((rc = sb_store_find_open(args, &store)) != EXIT_OK) {
        return rc;
    }
    if (rotate(store, id, grace_ms, &next, secret, &until, &err) == SB_OK) {
        print_rotated(args, &next, secret, until);
    } else {
        rc = fail(&err);
    }
    sb_store_close(store);
    return rc;
}

const sb_command_t cmd_key_rotate = {
    .name = "key rotate",
    .operands = "<key-id>",
    .summary = "replace an API key by a new one; the old one goes on for a while",
    .details =
        "Makes a successor with the same tenant, name, role and expiry, prints its secret, once,\n"
        "and lets the old key end after the grace time, so that clients can be moved over.",
    .options = rotate_options,
    .examples = "skillbox key rotate 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11\n"
                "skillbox key rotate 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11 --grace 0s --json",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_rotate,
};

/* ---- revoke ---- */

static const sb_option_t revoke_options[] = {
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},
    {"state", "DIR", "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)",
     false},
    {NULL, NULL, NULL, false},
};

static int run_revoke(const sb_args_t *args)
{
    const char *id = sb_args_operand(args, 0);
    char path[SB_STATE_PATH_MAX];
    sb_store_t *store;
    sb_batch_t *batch;
    sb_err_t err;
    int rc;

    if (!sb_uuid_parse(id, strlen(id), NULL)) {
        sb_say_error("'%s' is not the id of a key; see `skillbox key list`", id);
        return EXIT_USAGE;
    }
    if ((rc = sb_store_find(args, path)) != EXIT_OK) {
        return rc;
    }
    if (sb_store_open(path, 0, false, &store, &err) != SB_OK) {
        return fail(&err);
    }
    sb_code_t code = sb_batch_begin(store, &batch, &err);
    if (code == SB_OK && (code = sb_batch_key_revoke(batch, id, &err)) != SB_OK) {
        sb_batch_abort(batch);
    } else if (code == SB_OK) {
        code = sb_batch_commit(batch, &err);
    }
    sb_store_close(store);
    if (code != SB_OK) {
        return fail(&err);
    }
    sb_say("revoked %s", id);
    return EXIT_OK;
}

const sb_command_t cmd_key_revoke = {
    .name = "key revoke",
    .operands = "<key-id>",
    .summary = "revoke an API key",
    .details = "Revokes the key with this id (see `skillbox key list`), at once: running gateways "
               "read the\n"
               "store for every request.",
    .options = revoke_options,
    .examples = "skillbox key revoke 0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_revoke,
};
