/*
 * download.h - an execution's artifact archive, fetched and unpacked.
 */
#ifndef SB_CLI_DOWNLOAD_H
#define SB_CLI_DOWNLOAD_H

#include <stdbool.h>

/*
 * Fetches the archive at the signed URL (no key is sent) into an unlinked file,
 * checks every entry, then unpacks below dir, which is made when missing.  The
 * archive is untrusted: regular files only, relative names without "..", never
 * through links, bounded in number and bytes; what exists is not overwritten
 * unless force.  Nothing is written when an entry is refused.  Prints the paths
 * on stderr; returns the exit status.
 */
int sb_download(const char *url, const char *dir, bool force);

#endif
