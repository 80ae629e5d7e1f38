/*
 * fold.h - finding words in a text whatever their case.
 *
 * Folding is one character to one character: ASCII, Latin-1, Latin Extended-A,
 * Greek and Cyrillic capitals become small letters; everything else, ill-formed
 * bytes included, stays as it is.  No locale, no allocation beyond the buffer.
 */
#ifndef SB_FOLD_H
#define SB_FOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

/* Appends the folded text. */
void sb_fold(sb_buf_t *out, const char *s, size_t len);

/* Are all words (separated by white space) of `words` somewhere in `text`?  Both are folded
 * already; no words: yes. */
bool sb_fold_has_words(const char *text, size_t text_len, const char *words, size_t words_len);

#endif
