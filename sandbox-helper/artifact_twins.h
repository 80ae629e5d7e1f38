/*
 * artifact_twins.h - names of artifacts that readers of the archive take for one.
 *
 * A script may make "\u00e9" and "e\u0301": two files to Linux.  bsdtar puts every name into one
 * Unicode form, and so does macOS with any reader: of such two one would be lost without a
 * word, or be a folder where the other is a file.  Pure memory; runs in the confined collect
 * child.
 */
#ifndef SB_ARTIFACT_TWINS_H
#define SB_ARTIFACT_TWINS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * twin[i] becomes true for each name that is an earlier one in another Unicode form, or lies in
 * a folder that is such a name.  Names are UTF-8.  False: out of memory; twin is then not to be
 * used.
 */
bool artifact_twins(const char *const *names, size_t n, bool *twin);

#endif
