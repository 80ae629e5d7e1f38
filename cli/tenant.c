/*
 * tenant.c - `skillbox tenant create|list|limit|delete`: straight in the store, as
 * `skillbox key`; a running gateway goes by the new limits from its next request on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libskillbox/names.h"
#include "../libskillbox/units.h"
#include "cli.h"
#include "key.h"
#include "output.h"

#define STORE_OPTIONS                                                                              \
    {"store", "PATH", "the store's folder (default: that of the state folder)", false},            \
    {                                                                                              \
        "state", "DIR",                                                                            \
            "state folder of `skillbox up` (default: $SKILLBOX_STATE,\nelse ./.skillbox)", false   \
    }
#define LIMIT_OPTIONS                                                                              \
    {"concurrent-runs", "N", "runs under way at a time; none: no limit", false},                   \
        {"queued-runs", "N", "runs that wait for their turn beside those", false},                 \
        {"runs-per-minute", "N", "runs begun in a minute", false},                                 \
        {"package-bytes", "SIZE", "of one uploaded package, e.g. 10Mi", false},                    \
        {"artifact-bytes", "SIZE", "of the files of one run", false},                              \
    {                                                                                              \
        "disk-bytes", "SIZE", "of all that is kept", false                                         \
    }

static const char *const limit_options[SB_LIMIT_COUNT] = {
    [SB_LIMIT_CONCURRENT_RUNS] = "concurrent-runs", [SB_LIMIT_QUEUED_RUNS] = "queued-runs",
    [SB_LIMIT_RUNS_PER_MINUTE] = "runs-per-minute", [SB_LIMIT_PACKAGE_BYTES] = "package-bytes",
    [SB_LIMIT_ARTIFACT_BYTES] = "artifact-bytes",   [SB_LIMIT_DISK_BYTES] = "disk-bytes",
};

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

/* "none", a count or a size. */
static bool take_limit(const char *option, const char *value, int64_t *limit)
{
    sb_err_t err;

    if (strcmp(value, "none") == 0) {
        *limit = SB_UNLIMITED;
        return true;
    }
    if (sb_memory_parse(value, strlen(value), limit, &err) != SB_OK || *limit > SB_LIMIT_MAX) {
        sb_say_error("--%s: '%s' is neither a number nor none", option, value);
        return false;
    }
    return true;
}

/* The operand and the options' limits, the others `absent`; false and a message. */
static bool describe(const sb_args_t *args, int64_t absent, sb_tenant_t *t)
{
    const char *id = sb_args_operand(args, 0);

    memset(t, 0, sizeof(*t));
    if (!sb_tenant_valid(id, strlen(id))) {
        sb_say_error("'%s' is not a tenant's id", id);
        return false;
    }
    strcpy(t->id, id);
    for (size_t i = 0; i < SB_LIMIT_COUNT; i++) {
        const char *value = sb_args_get(args, limit_options[i]);

        t->limit[i] = absent;
        if (value != NULL && !take_limit(limit_options[i], value, &t->limit[i])) {
            return false;
        }
    }
    return true;
}

static json_t *to_json(const sb_tenant_t *t)
{
    char created[SB_TIME_LEN + 1];
    json_t *limits = json_object(), *use = json_object();

    sb_time_format(t->created_ms, created);
    for (size_t i = 0; i < SB_LIMIT_COUNT; i++) {
        json_object_set_new(limits, sb_limit_name((sb_limit_t)i),
                            t->limit[i] == SB_UNLIMITED ? json_null() : json_integer(t->limit[i]));
    }
    json_object_set_new(use, "disk_bytes", json_integer(sb_use_total(t->use)));
    for (size_t i = 0; i < SB_USE_COUNT; i++) {
        json_object_set_new(use, sb_use_name((sb_use_t)i), json_integer(t->use[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "id", t->id, "created_at", created, "limits", limits,
                     "usage", use);
}

static void print_tenant(const sb_tenant_t *t)
{
    json_t *o = to_json(t);

    sb_print_json(stdout, o);
    json_decref(o);
}

/* One write in a batch of its own. */
static int write_tenant(const sb_args_t *args, sb_tenant_t *t,
                        sb_code_t (*op)(sb_batch_t *, sb_tenant_t *, sb_err_t *))
{
    sb_store_t *store;
    sb_batch_t *batch;
    sb_code_t code;
    sb_err_t err;
    int rc = sb_store_find_open(args, &store);

    if (rc != EXIT_OK) {
        return rc;
    }
    code = sb_batch_begin(store, &batch, &err);
    if (code == SB_OK && (code = op(batch, t, &err)) != SB_OK) {
        sb_batch_abort(batch);
    } else if (code == SB_OK) {
        code = sb_batch_commit(batch, &err);
    }
    sb_store_close(store);
    return code == SB_OK ? EXIT_OK : fail(&err);
}

/* ---- create, limit ---- */

static const sb_option_t write_options[] = {
    LIMIT_OPTIONS,
    STORE_OPTIONS,
    {NULL, NULL, NULL, false},
};

static int run_write(const sb_args_t *args, int64_t absent,
                     sb_code_t (*op)(sb_batch_t *, sb_tenant_t *, sb_err_t *))
{
    sb_tenant_t t;
    int rc;

    if (!describe(args, absent, &t)) {
        return EXIT_USAGE;
    }
    rc = write_tenant(args, &t, op);
    if (rc == EXIT_OK) {
        print_tenant(&t);
    }
    return rc;
}

static int run_create(const sb_args_t *args)
{
    return run_write(args, SB_UNLIMITED, sb_batch_tenant_create);
}

static int run_limit(const sb_args_t *args)
{
    return run_write(args, SB_LIMIT_KEEP, sb_batch_tenant_update);
}

const sb_command_t cmd_tenant_create = {
    .name = "tenant create",
    .operands = "<tenant>",
    .summary = "make a tenant, with limits",
    .details =
        "Makes a tenant straight in the store's folder.  A limit that is not given is none; the\n"
        "first key of a tenant makes it as well, without limits.",
    .options = write_options,
    .examples = "skillbox tenant create acme\n"
                "skillbox tenant create acme --concurrent-runs 4 --queued-runs 100",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_create,
};

const sb_command_t cmd_tenant_limit = {
    .name = "tenant limit",
    .operands = "<tenant>",
    .summary = "change or show what a tenant may take",
    .details =
        "Changes the limits that are given and prints all of them.  They count from the gateway's\n"
        "next request on; runs under way go on.",
    .options = write_options,
    .examples = "skillbox tenant limit acme --runs-per-minute 60 --package-bytes 10Mi\n"
                "skillbox tenant limit acme --runs-per-minute none",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_limit,
};

/* ---- list ---- */

static const sb_option_t list_options[] = {
    STORE_OPTIONS,
    {"json", NULL, "the same as --output json", false},
    {NULL, NULL, NULL, false},
};

static sb_code_t add_tenant(void *ctx, const sb_tenant_t *t, sb_err_t *err)
{
    return json_array_append_new(ctx, to_json(t)) == 0
               ? SB_OK
               : sb_err_set(err, SB_EINTERNAL, "out of memory");
}

#define TABLE_COLUMNS 9

static void print_use(sb_table_t *table, const json_t *value)
{
    char text[32];

    sb_bytes_format(json_integer_value(value), text);
    sb_table_cell(table, text);
}

static bool print_table(const json_t *tenants)
{
    static const char *const titles[] = {"ID",      "CREATED",   "RUNS", "QUEUED", "PER MIN",
                                         "PACKAGE", "ARTIFACTS", "DISK", "KEEPS"};
    const json_t *t;
    sb_table_t table;
    size_t i;

    sb_table_init(&table, TABLE_COLUMNS);
    for (size_t c = 0; c < TABLE_COLUMNS; c++) {
        sb_table_cell(&table, titles[c]);
    }
    json_array_foreach(tenants, i, t)
    {
        const json_t *limits = json_object_get(t, "limits");

        sb_table_cell(&table, json_string_value(json_object_get(t, "id")));
        sb_table_cell(&table, json_string_value(json_object_get(t, "created_at")));
        for (size_t l = 0; l < SB_LIMIT_COUNT; l++) {
            const json_t *value = json_object_get(limits, sb_limit_name((sb_limit_t)l));
            char text[32];

            snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
            sb_table_cell(&table, json_is_integer(value) ? text : NULL);
        }
        print_use(&table, json_object_get(json_object_get(t, "usage"), "disk_bytes"));
    }
    return sb_table_print(&table, stdout);
}

static int run_list(const sb_args_t *args)
{
    json_t *tenants;
    sb_store_t *store;
    sb_err_t err;
    bool json = sb_args_flag(args, "json");
    int rc;

    if ((rc = sb_store_find_open(args, &store)) != EXIT_OK) {
        return rc;
    }
    tenants = json_array();
    if (sb_store_tenant_each(store, add_tenant, tenants, &err) != SB_OK) {
        rc = fail(&err);
    } else if (json) {
        sb_print_json(stdout, tenants);
    } else if (!print_table(tenants)) {
        rc = EXIT_FAILED;
    }
    json_decref(tenants);
    sb_store_close(store);
    return rc;
}

const sb_command_t cmd_tenant_list = {
    .name = "tenant list",
    .operands = "",
    .summary = "list the tenants, their limits and what they keep",
    .details =
        "Lists all tenants, read from the store's folder.  - means: no limit.  KEEPS is what\n"
        "counts for the limit DISK.",
    .options = list_options,
    .examples = "skillbox tenant list\n"
                "skillbox tenant list --output json",
    .run = run_list,
};

/* ---- delete ---- */

static const sb_option_t delete_options[] = {
    STORE_OPTIONS,
    {NULL, NULL, NULL, false},
};

static sb_code_t delete_op(sb_batch_t *batch, sb_tenant_t *t, sb_err_t *err)
{
    int revoked = 0;
    sb_code_t code = sb_batch_tenant_delete(batch, t->id, &revoked, err);

    t->limit[0] = revoked;
    return code;
}

static int run_delete(const sb_args_t *args)
{
    const char *id = sb_args_operand(args, 0);
    sb_tenant_t t = {.created_ms = 0};
    int rc;

    if (!sb_tenant_valid(id, strlen(id))) {
        sb_say_error("'%s' is not a tenant's id", id);
        return EXIT_USAGE;
    }
    strcpy(t.id, id);
    rc = write_tenant(args, &t, delete_op);
    if (rc == EXIT_OK) {
        sb_say("deleted %s, revoked %d keys", id, (int)t.limit[0]);
    }
    return rc;
}

const sb_command_t cmd_tenant_delete = {
    .name = "tenant delete",
    .operands = "<tenant>",
    .summary = "delete an empty tenant and revoke its keys",
    .details =
        "Deletes a tenant that has neither skills, executions nor files (delete those first),\n"
        "and revokes its keys, at once.",
    .options = delete_options,
    .examples = "skillbox tenant delete acme",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_delete,
};
