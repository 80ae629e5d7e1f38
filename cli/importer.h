/*
 * importer.h - putting an image archive into the folder of runtimes.
 *
 * The archive is never looked at here: a confined child of sandbox-packer unpacks
 * it (sandbox-helper/import_child.h) into a staging folder beside its place, and what
 * came out is renamed into it, all at once.  Whatever goes wrong, the staging folder
 * is removed again; one that a killed import left is removed by the next.
 */
#ifndef SB_CLI_IMPORTER_H
#define SB_CLI_IMPORTER_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "../libskillbox/err.h"

typedef struct {
    const char *name; /* what it is to be called */
    bool replace;
    int64_t bytes_max, entries_max;
    int archive; /* a regular file, to be sought in */
    int dir;     /* the folder of runtimes */
    int program; /* sandbox-packer, O_PATH */
} sb_import_t;

/*
 * The caller's user owns what is made.  *answer (new reference): what the child says of it.
 * SB_ESKILL: the archive is at fault; SB_ECONFLICT: there is one of that name.
 */
sb_code_t sb_import(const sb_import_t *import, json_t **answer, sb_err_t *err);

#endif
