/*
 * package_check.h - what the tests of packages have in common: making entries,
 * unpacking, and the errors as one line of text.
 */
#ifndef PACKAGE_CHECK_H
#define PACKAGE_CHECK_H

#include "../../libskillbox/package.h"
#include "zipmake.h"

#define SKILL "---\nname: a\ndescription: d\n---\n"

typedef struct {
    sb_package_t p;
    sb_err_t err;
    sb_code_t rc;
    char list[4096]; /* "code path; code path": the errors */
} result_t;

zm_entry_t skillmd(void);
zm_entry_t file(const char *name); /* holds "x" */
zm_entry_t symlink_to(const char *name, const char *target);

/* Fills r->list; checks that verdict, findings and digest agree. */
void render(result_t *r);
void unpack(result_t *r, const zm_zip_t *z); /* checks only, default limits */
void unpack_limited(result_t *r, const void *zip, size_t len, int dirfd,
                    const sb_package_limits_t *limits);
void done(result_t *r);

#endif
