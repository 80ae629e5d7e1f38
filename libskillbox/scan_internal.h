/*
 * scan_internal.h - between the scan*.c files; nobody else includes it.
 */
#ifndef SB_SCAN_INTERNAL_H
#define SB_SCAN_INTERNAL_H

#include "scan.h"

/* Where a rule looks: texts for people and agents, everything else, or both. */
enum { SCAN_DOC = 1, SCAN_CODE = 2, SCAN_ANY = 3 };

typedef struct {
    const char *id;         /* the finding's code */
    const char *category;   /* what it is about */
    sb_severity_t severity; /* note or warning */
    unsigned where;         /* SCAN_* */
    const char *only;    /* names of files (fnmatch(3), without folders), '|' between; NULL: all */
    const char *words;   /* lower case, ',' between: a line without any is not looked at */
    bool exact;          /* the pattern's case counts */
    const char *pattern; /* PCRE2, on one line (a '\' at the end joins it with the next) */
    const char *message; /* one sentence */
    const char *remediation; /* what the author can do */
} scan_rule_t;

extern const scan_rule_t sb_scan_rules[];
extern const size_t sb_scan_rules_count;

typedef struct {
    const char *path;
    const char *name; /* its last part */
    const char *text;
    size_t len;
    unsigned kind; /* SCAN_DOC or SCAN_CODE */
    sb_findings_t *out;
} scan_file_t;

/* 1-based line of an offset. */
int sb_scan_line(const scan_file_t *f, size_t at);
/* Adds a finding unless the rule has had its share already. */
void sb_scan_report(const scan_file_t *f, const scan_rule_t *rule, size_t at);

/* scan_chars.c */
void sb_scan_chars(const scan_file_t *f);
/* scan_names.c */
void sb_scan_names(const scan_file_t *f);

#endif
