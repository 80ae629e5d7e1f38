/*
 * seal.h - makes an unpacked package read-only and brings it to the disk.
 */
#ifndef SB_SEAL_H
#define SB_SEAL_H

#include "../libskillbox/package.h"

/*
 * Files become 0444 or 0555, folders 0555 (tree too), and when it returns 0 the whole
 * of it, names included, survives a power failure.  staging: the folder that tree is
 * in.  -1 with errno.
 */
int seal_tree(int staging, int tree, const sb_package_t *pkg);

#endif
