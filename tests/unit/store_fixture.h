/*
 * store_fixture.h - what the two programs that test the store share: a folder of
 * its own for each test, short forms of the operations, and the checker that
 * looks at the databases behind the interface's back.
 */
#ifndef SB_STORE_FIXTURE_H
#define SB_STORE_FIXTURE_H

#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../libskillbox/store.h"

typedef struct {
    char top[64];  /* temporary folder, removed with all in it at the end */
    char path[80]; /* <top>/store */
    sb_store_t *st;
} fixture_t;

/* cmocka's setup and teardown: an open store of 64 MiB in a new folder; everything gone again. */
int store_setup(void **state);
int store_teardown(void **state);
/* A folder, the store not made. */
int folder_setup(void **state);

void store_reopen(fixture_t *f);

/* 64 digits made from a number. */
const char *digest_of(unsigned n);
/* Writes an upload <top>/<name> and returns its path (static). */
const char *upload(fixture_t *f, const char *name, const char *text);
bool file_exists(const char *dir, const char *name);
int count_files(const char *dir, const char *sub);

/* One operation in a batch of its own; the operation's code, the commit must succeed. */
sb_code_t put_skill(fixture_t *f, sb_skill_put_t *put, sb_err_t *err);
sb_code_t delete_skill(fixture_t *f, const char *tenant, const char *name, const char *version);
sb_code_t begin_execution(fixture_t *f, const char *tenant, const char *id, int32_t owner,
                          int64_t created_ms);
sb_code_t finish_execution(fixture_t *f, const char *tenant, const char *id, const char *status,
                           const char *result, const char *logs, size_t logs_len);

/* A put of tenant/name/version with the package of digest_of(n), for designated initialisation. */
sb_skill_put_t skill_of(fixture_t *f, const char *tenant, const char *name, const char *version,
                        unsigned n);

/*
 * Fails the test when the databases contradict each other: revisions without a
 * gap; every skill with a head, an origin and a package; heads that are pinned or
 * name the highest version; packages with the right count and a file; no file without a
 * record; nothing in tmp/; every key and key id pointing to each other; `live`
 * holding the queued and running executions and no others; indexes and counts that fit them;
 * tenants' accounts that say what a count of all would.
 */
void check_consistency(sb_store_t *st);

/* ---- processes ---- */

/* Children must not run cmocka's machinery: they check with this and leave with _exit(). */
#define CHILD_CHECK(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "child, line %d: %s\n", __LINE__, #cond);                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Both fail the test when the call does; wait_for() answers the child's status. */
pid_t fork_or_fail(void);
int wait_for(pid_t pid);

#endif
