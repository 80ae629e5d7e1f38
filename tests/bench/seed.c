/*
 * seed.c - fills a store with skills and finished executions through
 * libskillbox's own store, so that what is measured on it is what a gateway would have
 * after years; prints one JSON line.
 *
 *   seed [-m MAP-MIB] [-k TENANT:COUNT]... [-x TENANT:COUNT]... PACKAGE STORE-FOLDER
 *
 * -k: so many skills, one version each, named skill-0000000 and so on, all with the
 *     bytes of PACKAGE as their package file (they can be read and listed; null_helper "runs"
 * them). -x: so many executions, all `success`. -m: size of the map when the store is made here;
 * default 4096 MiB. Run it as the user of nginx's workers, before nginx is started.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libskillbox/signature.h"
#include "libskillbox/store.h"
#include "samples.h"

#define SETS_MAX    16
#define BATCH       4000 /* operations in one transaction */
#define COUNT_MAX   10000000
#define PACKAGE_MAX (1 << 20)

typedef struct {
    char tenant[SB_TENANT_MAX + 1];
    long count;
} set_t;

static struct {
    set_t skills[SETS_MAX], executions[SETS_MAX];
    size_t nskills, nexecutions;
    const char *package;
    char digest[2 * SB_SHA256_LEN + 1];
    char sample[SB_UUID_LEN + 1]; /* an execution in the middle of the last set */
    bool stored;                  /* the package file is there */
} job;

typedef sb_code_t (*put_fn)(sb_batch_t *b, const set_t *set, long number, sb_err_t *err);

static bool add_set(set_t *sets, size_t *n, const char *text)
{
    const char *colon = strchr(text, ':');
    set_t *set = &sets[*n];

    if (colon == NULL || *n == SETS_MAX || (size_t)(colon - text) >= sizeof(set->tenant))
        return false;
    memcpy(set->tenant, text, (size_t)(colon - text));
    set->count = argument("TENANT:COUNT", colon + 1, 1, COUNT_MAX);
    (*n)++;
    return true;
}

/* Its digest: here of the file's bytes, which is as good as one of the tree for what is never
 * unpacked. */
static bool read_package(void)
{
    FILE *f = fopen(job.package, "rb");
    unsigned char *data = malloc(PACKAGE_MAX), hash[SB_SHA256_LEN];
    size_t len;

    if (f == NULL || data == NULL) {
        perror(job.package);
        exit(1);
    }
    len = fread(data, 1, PACKAGE_MAX, f);
    fclose(f);
    sb_sha256(data, len, hash);
    free(data);
    for (size_t i = 0; i < sizeof(hash); i++)
        snprintf(job.digest + 2 * i, 3, "%02x", hash[i]);
    return len > 0 && len < PACKAGE_MAX;
}

static sb_code_t put_skill(sb_batch_t *b, const set_t *set, long number, sb_err_t *err)
{
    char name[32];
    sb_skill_put_t put = {
        .tenant = set->tenant,
        .name = name,
        .version = "1.0.0",
        .description =
            "Reads a table, looks for outliers in each column, and writes a summary with "
            "a chart. Use it when somebody asks what is odd in their numbers.",
        .lang = "python",
        .mode = "executable",
        .digest = job.digest,
        .detail = "\"entrypoint\":\"main.py\",\"timeout_ms\":120000,\"memory_bytes\":268435456,"
                  "\"cpu\":0.5,\"license\":\"MIT\",\"scripts\":[{\"path\":\"main.py\","
                  "\"lang\":\"python\"}],\"size_bytes\":2048,\"findings\":[]",
        .run = "{\"mode\":\"executable\",\"lang\":\"python\",\"entrypoint\":\"main.py\","
               "\"image\":\"\",\"timeout_ms\":120000,\"memory_bytes\":268435456,\"cpu_milli\":500,"
               "\"scripts\":[{\"path\":\"main.py\",\"lang\":\"python\"}]}",
        .package_tmp = job.stored ? NULL : job.package,
        .package_type = "application/zip",
    };
    sb_code_t code;

    snprintf(name, sizeof(name), "skill-%07ld", number);
    code = sb_batch_skill_put(b, &put, err);
    job.stored = job.stored || code == SB_OK;
    return code;
}

static sb_code_t put_execution(sb_batch_t *b, const set_t *set, long number, sb_err_t *err)
{
    char id[SB_UUID_LEN + 1], result[512];
    int64_t now = sb_time_now_ms();
    sb_execution_finish_t e = {
        .tenant = set->tenant,
        .id = id,
        .skill = "seeded",
        .status = "success",
        .result = result,
        .logs = "",
        .created_ms = now,
        .finished_ms = now + 2,
    };

    sb_uuid7(id);
    e.result_len = (size_t)snprintf(
        result, sizeof(result),
        "{\"status\":\"success\",\"output\":{\"rows\":1000,\"mean\":41.5,\"number\":%ld},"
        "\"duration_ms\":2,\"error\":null,\"exit_code\":0,\"usage\":{\"cpu_ms\":1,"
        "\"max_rss_bytes\":9437184,\"wall_ms\":2},\"skill_name\":\"skill-%07ld\","
        "\"skill_version\":\"1.0.0\"}",
        number, number % 1000);
    if (number == set->count / 2)
        memcpy(job.sample, id, sizeof(id));
    return sb_batch_execution_finish(b, &e, err);
}

static sb_code_t fill(sb_store_t *st, const set_t *set, put_fn put, sb_err_t *err)
{
    for (long done = 0; done < set->count;) {
        sb_batch_t *b;
        sb_code_t code = sb_batch_begin(st, &b, err);

        if (code != SB_OK)
            return code;
        for (int i = 0; i < BATCH && done < set->count; i++, done++) {
            code = put(b, set, done, err);
            if (code != SB_OK) {
                sb_batch_abort(b);
                return code;
            }
        }
        code = sb_batch_commit(b, err);
        if (code != SB_OK)
            return code;
    }
    return SB_OK;
}

static sb_code_t fill_all(const char *path, size_t size, sb_err_t *err)
{
    sb_store_t *st = NULL;
    sb_code_t code = sb_store_open(path, size, true, &st, err);

    for (size_t i = 0; code == SB_OK && i < job.nskills; i++)
        code = fill(st, &job.skills[i], put_skill, err);
    for (size_t i = 0; code == SB_OK && i < job.nexecutions; i++)
        code = fill(st, &job.executions[i], put_execution, err);
    sb_store_close(st);
    return code;
}

int main(int argc, char **argv)
{
    long size_mib = 4096;
    int64_t begun = now_ns();
    bool good = true;
    sb_err_t err = {0};
    int opt;

    while ((opt = getopt(argc, argv, "m:k:x:")) != -1) {
        if (opt == 'm')
            size_mib = argument("-m", optarg, 16, 1 << 20);
        else if (opt == 'k')
            good = good && add_set(job.skills, &job.nskills, optarg);
        else if (opt == 'x')
            good = good && add_set(job.executions, &job.nexecutions, optarg);
        else
            good = false;
    }
    if (!good || optind + 2 != argc) {
        fprintf(stderr, "usage: seed [-m MAP-MIB] [-k TENANT:COUNT]... [-x TENANT:COUNT]..."
                        " PACKAGE STORE-FOLDER\n");
        return 2;
    }
    job.package = argv[optind];
    if (!read_package()) {
        fprintf(stderr, "seed: %s is empty or above 1 MiB\n", job.package);
        return 1;
    }
    if (fill_all(argv[optind + 1], (size_t)size_mib << 20, &err) != SB_OK) {
        fprintf(stderr, "seed: %s\n", err.message);
        return 1;
    }
    printf("{\"seconds\":%.3f,\"execution\":\"%s\"}\n", (double)(now_ns() - begun) / 1e9,
           job.sample);
    return 0;
}
