/*
 * artifacts.h - which files of a run are artifacts, and packing them.
 *
 * Every regular file below out/files; with a work folder also every regular file
 * there that is new or changed (its time is not STAGE_WORK_MTIME).  A name that
 * both have is the one of out/files.
 */
#ifndef SB_ARTIFACTS_H
#define SB_ARTIFACTS_H

#include <stddef.h>
#include <stdint.h>

#include "../libskillbox/buf.h"
#include "warnings.h"

#define ARTIFACTS_ENTRIES_MAX 65536 /* directory entries looked at, files or not */
#define ARTIFACTS_DEPTH_MAX   32

typedef struct {
    sb_buf_t list;  /* the packed files' names, sorted: JSON array elements */
    sb_buf_t sizes; /* their sizes, the same */
    uint32_t files; /* how many; 0: nothing was written to the archive */
    int64_t bytes;
    char error[160]; /* the archive could not be written (files is 0 then); "" = fine */
} artifacts_t;

/*
 * outfd: /sandbox/out; workfd: /sandbox/work or -1; archivefd: an empty file; max: of the files'
 * bytes together, at most SB_ARTIFACT_BYTES_MAX.
 * What is left out, and why, goes to w.  a->list and a->sizes are to be freed with sb_buf_free().
 */
void artifacts_pack(int outfd, int workfd, int archivefd, int64_t max, artifacts_t *a,
                    warnings_t *w);

#endif
