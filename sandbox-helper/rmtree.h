/*
 * rmtree.h - removes a folder that somebody hostile may have filled: by
 * descriptors, never through a symbolic link, never leaving its file system, in
 * steps small enough for an event loop.
 *
 * Depth is bounded by moving what lies deeper than RMTREE_DEPTH up to the
 * trash folder, where it is removed in turn; so neither descriptors nor the
 * stack grow with the tree.
 */
#ifndef SB_RMTREE_H
#define SB_RMTREE_H

#include <dirent.h>
#include <stdbool.h>

#define RMTREE_DEPTH 16

typedef struct {
    int trash_fd; /* the folder whose entries are to go; not owned */
    DIR *open[RMTREE_DEPTH];
    char name[RMTREE_DEPTH][256]; /* of open[i] in its parent */
    int depth;
    unsigned long moved; /* folders moved up; makes their names */
    unsigned long moved_before;
    int failed_errno; /* the last failure; what could not be removed is left */
} rmtree_t;

/* Everything inside trash_fd (which stays). */
void rmtree_begin(rmtree_t *rt, int trash_fd);
/* Handles about `budget` entries; true: there is more to do. */
bool rmtree_step(rmtree_t *rt, int budget);
void rmtree_end(rmtree_t *rt);

#endif
