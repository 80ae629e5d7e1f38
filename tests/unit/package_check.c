/*
 * package_check.c - see package_check.h.
 */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "package_check.h"

zm_entry_t skillmd(void)
{
    return (zm_entry_t){.name = "SKILL.md", .data = SKILL, .mode = S_IFREG | 0644};
}

zm_entry_t file(const char *name)
{
    return (zm_entry_t){.name = name, .data = "x", .mode = S_IFREG | 0644};
}

zm_entry_t symlink_to(const char *name, const char *target)
{
    return (zm_entry_t){.name = name, .data = target, .mode = S_IFLNK | 0777};
}

void render(result_t *r)
{
    size_t used = 0;

    r->list[0] = '\0';
    for (size_t i = 0; i < r->p.findings.count && used < sizeof(r->list); i++) {
        const sb_finding_t *f = &r->p.findings.items[i];
        if (f->severity == SB_FINDING_ERROR) {
            used += (size_t)snprintf(r->list + used, sizeof(r->list) - used, "%s%s %s",
                                     used > 0 ? "; " : "", f->code, f->path);
        }
    }
    assert_int_equal(r->rc == SB_OK, r->p.findings.errors == 0);
    assert_int_equal(strlen(r->p.digest), r->rc == SB_OK ? 64 : 0);
}

void unpack_limited(result_t *r, const void *zip, size_t len, int dirfd,
                    const sb_package_limits_t *limits)
{
    /* in a block of exactly that size, so that a sanitizer sees every read too far */
    void *exact = malloc(len > 0 ? len : 1);

    assert_non_null(exact);
    memcpy(exact, zip, len);
    memset(r, 0, sizeof(*r));
    r->rc = sb_package_unpack(exact, len, dirfd, limits, &r->p, &r->err);
    free(exact);
    render(r);
}

void unpack(result_t *r, const zm_zip_t *z)
{
    unpack_limited(r, z->data, z->len, -1, NULL);
}

void done(result_t *r)
{
    sb_package_free(&r->p);
}
