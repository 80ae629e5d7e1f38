/*
 * unicode.h - which names are the same in another Unicode form; by utf8proc.
 *
 * Input is valid UTF-8 without NUL.  Results are malloc'ed and NUL-terminated, a few times as
 * long as the input at most, NULL out of memory.  '/' has no other form and is part of no other
 * character's, so parts of a path stay parts.  Pure memory.  In the package library: only who
 * links that needs utf8proc.
 */
#ifndef SB_UNICODE_H
#define SB_UNICODE_H

#include <stdbool.h>
#include <stddef.h>

/* Is every byte below 128?  Such a string has one form. */
bool sb_is_ascii(const char *s);

/* Canonical decomposition (NFD): equal for what Unicode calls canonically equivalent. */
char *sb_unicode_decomposed(const char *s, size_t len);

/* The same without characters that are to be ignored (joiners, marks of direction, ...). */
char *sb_unicode_visible(const char *s, size_t len);

/* The same again, with upper and lower case alike (full case folding; Unicode 3.13, D145). */
char *sb_unicode_folded(const char *s);

#endif
