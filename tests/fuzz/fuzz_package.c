/*
 * fuzz_package.c - packages: no memory error, no unbounded work, and what is
 * accepted keeps the rules.
 *
 * An input that begins with 'P' is a zip as it stands.  Any other is a recipe
 * from which a consistent zip is made, so that names, trees and symlinks are
 * reached behind the container's checks: per entry a kind, a name and a content,
 * each of the latter two with its length before it.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../libskillbox/names.h"
#include "../../libskillbox/package.h"
#include "../unit/zipmake.h"

#define ENTRIES_MAX 24
#define SKILL       "---\nname: a\ndescription: d\n---\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Follows a link by its parts alone: never above the root. */
static void check_link(const sb_package_file_t *f)
{
    int depth = 0;
    char *target = strdup(f->link);

    assert(target != NULL && target[0] != '/' && target[0] != '\0');
    for (const char *p = f->path; (p = strchr(p, '/')) != NULL; p++) {
        depth++;
    }
    for (char *rest = target, *part; (part = strsep(&rest, "/")) != NULL;) {
        if (strcmp(part, "..") == 0) {
            depth--;
        } else if (part[0] != '\0' && strcmp(part, ".") != 0) {
            depth++;
        }
        assert(depth >= 0);
    }
    free(target);
}

static void check_accepted(const sb_package_t *p)
{
    int64_t total = 0;
    json_t *o = sb_package_to_json(p);

    for (size_t i = 0; i < p->nfiles; i++) {
        const sb_package_file_t *f = &p->files[i];
        assert(sb_path_valid(f->path, strlen(f->path)));
        assert(i == 0 || strcmp(p->files[i - 1].path, f->path) < 0);
        assert(f->mode == 0644 || f->mode == 0755);
        total += f->size;
        if (f->link != NULL) {
            check_link(f);
        }
    }
    assert(total == p->total && total <= SB_PACKAGE_UNPACKED_MAX);
    assert(strlen(p->digest) == 64);
    assert(p->manifest.name != NULL && o != NULL);
    json_decref(o);
}

static void run(const void *zip, size_t len)
{
    sb_package_t p;
    sb_err_t err;

    sb_code_t rc = sb_package_unpack(zip, len, -1, NULL, &p, &err);
    assert((rc == SB_OK) == (p.findings.errors == 0));
    assert(rc == SB_OK || rc == SB_ESKILL || rc == SB_ETOOLARGE);
    if (rc == SB_OK) {
        check_accepted(&p);
    }
    sb_package_free(&p);
}

/* A length and that many bytes, as far as there are any. */
static const char *take(const uint8_t **data, size_t *size, size_t *len)
{
    size_t n = *size > 0 ? (*data)[0] : 0;

    if (*size > 0) {
        ++*data;
        --*size;
    }
    *len = n < *size ? n : *size;
    const char *taken = (const char *)*data;
    *data += *len;
    *size -= *len;
    return taken;
}

static void run_recipe(const uint8_t *data, size_t size)
{
    static const unsigned modes[] = {
        0,    S_IFREG | 0644, S_IFREG | 0755, S_IFDIR | 0755, S_IFLNK | 0777, S_IFIFO | 0644,
        0644, S_IFLNK | 0777};
    zm_entry_t entries[ENTRIES_MAX] = {{.name = "SKILL.md", .data = SKILL}};
    size_t n = 1;
    zm_zip_t z;

    while (size > 0 && n < ENTRIES_MAX) {
        zm_entry_t *e = &entries[n++];
        e->mode = modes[*data++ % 8];
        size--;
        e->name = take(&data, &size, &e->name_len);
        e->data = take(&data, &size, &e->len);
        if (e->name_len == 0) {
            e->name = "";
        }
        if (e->len == 0) {
            e->data = NULL;
        }
    }
    zm_make(&z, entries, n);
    run(z.data, z.len);
    zm_free(&z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'P') {
        run(data, size);
    } else {
        run_recipe(data, size);
    }
    return 0;
}
