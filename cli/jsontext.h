/*
 * jsontext.h - JSON as text (RFC 8259): checked, taken apart and laid out
 * without turning numbers into doubles, so that what a caller or a skill wrote
 * arrives digit by digit.  Pure; nesting is bounded.
 */
#ifndef SB_CLI_JSONTEXT_H
#define SB_CLI_JSONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "../libskillbox/buf.h"

#define SB_JTEXT_DEPTH_MAX 1000

/* One value, blanks around it allowed.  Strings must be UTF-8. */
bool sb_jtext_valid(const char *text, size_t len);

/* The value of a member of the object that text is (valid): *value points into text.  Names with
 * escapes are not found. */
bool sb_jtext_member(const char *text, size_t len, const char *name, const char **value,
                     size_t *value_len);

/* Appends valid text with line breaks and two blanks a level. */
void sb_jtext_indent(sb_buf_t *out, const char *text, size_t len);

#endif
