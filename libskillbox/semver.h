/*
 * semver.h - semantic versions 2.0.0: recognising, ordering, the next patch.
 */
#ifndef SB_SEMVER_H
#define SB_SEMVER_H

#include <stdbool.h>
#include <stddef.h>

/* MAJOR.MINOR.PATCH[-pre][+build], at most SB_VERSION_MAX bytes; "1" and "1.2" are accepted
 * (real packages have them) and compare as 1.0.0 and 1.2.0.  A leading 'v' is not part of a
 * version. */
bool sb_semver_valid(const char *s, size_t len);
/* Precedence (semver.org 11); a tie of precedence (build metadata) is broken by bytes.
 * Both must be valid and NUL-terminated.  <0, 0, >0. */
int sb_semver_cmp(const char *a, const char *b);
/* The order in which `latest` is chosen: as above, but a pre-release is below every release, so
 * that pushing 2.0.0-rc.1 changes nothing for those who run 1.x. */
int sb_semver_cmp_latest(const char *a, const char *b);
/* The next patch release: "1.2.3" -> "1.2.4", "1.2.3-rc.1" -> "1.2.4".  False when it does not fit.
 */
bool sb_semver_next_patch(const char *s, char *out, size_t outlen);

#endif
