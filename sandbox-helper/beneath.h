/*
 * beneath.h - opening what a script left behind, below a directory descriptor.
 *
 * openat2(2) with RESOLVE_BENEATH, no symlinks, no magic links, no other mount:
 * whatever the script made of its folders, the answer is a file or folder of
 * those folders or an error.  O_NONBLOCK so that a fifo can't hold us.
 */
#ifndef SB_BENEATH_H
#define SB_BENEATH_H

#include <sys/stat.h>

/*
 * A regular file for reading, with what fstat(2) says of the open file.  -1 with
 * errno: EFTYPE_NOT_REGULAR for anything that could be opened but is none.
 */
#define EFTYPE_NOT_REGULAR EMEDIUMTYPE
int beneath_open_file(int dirfd, const char *path, struct stat *st);

/* A folder for reading; path "." reopens dirfd itself, with an offset of its own. */
int beneath_open_dir(int dirfd, const char *path);

#endif
