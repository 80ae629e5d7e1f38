/*
 * names.h - what names may look like.  Pure functions, no allocation.
 */
#ifndef SB_NAMES_H
#define SB_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* Skill name: 1-128 of [A-Za-z0-9._-], not "." or "..", first character alphanumeric. */
bool sb_name_valid(const char *s, size_t len);
/* The Agent Skills rule: 1-64, lower-case letters, digits, single hyphens inside. */
bool sb_name_strict(const char *s, size_t len);
/* Tenant id: 1-64 of [A-Za-z0-9._-], first character alphanumeric. */
bool sb_tenant_valid(const char *s, size_t len);
/* Environment name a caller may set: [A-Za-z_][A-Za-z0-9_]*, 1-128, not on the contract's refused
 * list. */
bool sb_env_name_allowed(const char *s, size_t len);
/* Python dotted module name, each part an ASCII identifier; 1-256 bytes. */
bool sb_module_valid(const char *s, size_t len);
/* Relative path inside a package: UTF-8, '/' separated, no empty, "." or ".." part, no backslash,
 * no control character, at most SB_PATH_MAX bytes. */
bool sb_path_valid(const char *s, size_t len);
/* Name of a kept file: a path of one part, at most 255 bytes. */
bool sb_file_name_valid(const char *s, size_t len);

/* Does it begin as a path with a drive does ("C:")?  bsdtar and Windows take that away. */
bool sb_path_has_drive(const char *s, size_t len);
/* python | node | bash by file extension (.py, .js .mjs .cjs, .sh .bash); NULL when unknown. */
const char *sb_lang_of_path(const char *path);
/* The same by a script's first line ("#!..."); data need not be NUL-terminated. */
const char *sb_lang_of_shebang(const char *data, size_t len);
/* The static string for a language name or one of its aliases (py, python3, js, javascript,
 * nodejs, sh, shell, ...); NULL when it is none of ours. */
const char *sb_lang_canonical(const char *s, size_t len);

#endif
