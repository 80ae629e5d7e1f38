/*
 * scan.h - advice about a package: looks for what honest skills have no reason to
 * hold.  It reads texts, knows patterns, and can be fooled by anybody who wants to;
 * the sandbox protects, whatever a scan says.
 *
 * The rules are the table in scan_rules.c, and two checks that are no pattern:
 * invisible characters (scan_chars.c) and names of packages that look like another's
 * (scan_names.c).  A finding has a category, a remediation, and one of two severities:
 * SB_FINDING_WARNING for what a person should look at before trusting the package,
 * SB_FINDING_NOTE for what is merely worth knowing.
 *
 * Bounded: SB_SCAN_FILE_MAX bytes of a file, SB_SCAN_TOTAL_MAX of a package, some
 * findings a rule, some thousand steps a match.  What was left out is a note.
 * Runs in the confined intake child, in the CLI's `lint` and in tests.
 */
#ifndef SB_SCAN_H
#define SB_SCAN_H

#include "package.h"

#define SB_SCAN_FILE_MAX  (1 * SB_MIB)
#define SB_SCAN_TOTAL_MAX (8 * SB_MIB)
#define SB_SCAN_RULE_MAX  10 /* findings of one rule in a package */

/* Compiles the rules, once a process; before confinement.  SB_EINTERNAL: a rule is broken. */
sb_code_t sb_scan_init(sb_err_t *err);

/* Scans the files of p below dirfd; findings go to p->security.  SB_ESYSTEM: reading failed. */
sb_code_t sb_scan_package(int dirfd, sb_package_t *p, sb_err_t *err);

/* One text, as if it were the file `path` of a package. */
void sb_scan_text(const char *path, const char *text, size_t len, sb_findings_t *out);

#endif
