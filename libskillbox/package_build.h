/*
 * package_build.h - between the package_*.c files: how a package is built from
 * a source (zip or folder).  Nobody else includes it.
 *
 *   source->list()     adds every file's name to the builder
 *   package_rules.c    judges the names: sb_rules_tree()
 *   source->content()  pours each file into a sink: counted, hashed, written
 *   package_rules.c    judges the symlinks, which are made last
 *   manifest*.c        SKILL.md
 *   package.c          digest, verdict
 */
#ifndef SB_PACKAGE_BUILD_H
#define SB_PACKAGE_BUILD_H

#include <stdbool.h>

#include <openssl/evp.h>

#include "buf.h"
#include "package.h"
#include "zip_check.h"

/* Directory entries looked at for each one that is allowed: junk, folders and twins come along. */
#define SB_SEEN_FACTOR 8

typedef struct {
    sb_package_file_t file;
    bool is_link;
    const sb_zip_entry_t *zip; /* NULL in a folder */
} sb_entry_t;

/* A place below a directory descriptor; remembers the last folder it opened. */
typedef struct {
    int root;
    int dir; /* -1: none */
    char dir_path[SB_PATH_MAX + 1];
} sb_cursor_t;

typedef struct {
    sb_package_t *p;
    sb_package_limits_t limits; /* no zero fields */
    sb_entry_t *entries;
    size_t count, cap;
    int64_t packed; /* length of the zip, 0 for a folder: no ratio then */
    bool git_noted;
    bool stop;     /* a limit was crossed: read nothing more */
    char *skillmd; /* its content, NULL when it could not be read */
    size_t skillmd_len;
    sb_cursor_t out; /* out.root < 0: write nothing */
    EVP_MD_CTX *md;
} sb_builder_t;

/* Where a file's content goes. */
typedef struct {
    sb_builder_t *b;
    sb_entry_t *entry;
    int fd;        /* -1: not written */
    int64_t size;  /* bytes seen */
    sb_buf_t kept; /* its beginning: SKILL.md, a link's target, a script's first line */
    bool cut;      /* there was more than kept holds */
} sb_sink_t;

typedef struct sb_source {
    /* Adds all entries; SB_ESKILL: refused as a whole. */
    sb_code_t (*list)(const struct sb_source *s, sb_builder_t *b, sb_err_t *err);
    /* Pours one; SB_ESKILL: this entry is at fault (a finding says how). */
    sb_code_t (*content)(const struct sb_source *s, const sb_entry_t *e, sb_sink_t *sink,
                         sb_err_t *err);
} sb_source_t;

/* package.c */
sb_code_t sb_build(const sb_source_t *source, const sb_package_limits_t *limits, int64_t packed,
                   int out_dirfd, sb_package_t *p, sb_err_t *err);
sb_code_t sb_builder_add(sb_builder_t *b, const char *path, unsigned mode, bool is_link,
                         const sb_zip_entry_t *zip, sb_err_t *err);
sb_code_t sb_sink_write(sb_sink_t *s, const void *data, size_t len, sb_err_t *err);

/* package_rules.c */
typedef enum { SB_NAME_KEEP, SB_NAME_JUNK, SB_NAME_BAD } sb_name_verdict_t;
/* Judges a raw name; out is the normalised one (no "./" before, no '/' behind). */
sb_name_verdict_t sb_rules_name(sb_builder_t *b, const char *raw, size_t len,
                                char out[SB_PATH_MAX + 1]);
void sb_rules_strip_top(sb_builder_t *b);
/* Sorts the entries and judges them all together. */
sb_code_t sb_rules_tree(sb_builder_t *b, sb_err_t *err);
/* Judges the symlinks when all contents were read. */
void sb_rules_links(sb_builder_t *b);

/* package_twins.c */
/* Names that are, or may be taken for, one.  The entries are sorted by path. */
sb_code_t sb_rules_twins(sb_builder_t *b, sb_err_t *err);

/* package_fs.c */
void sb_cursor_init(sb_cursor_t *c, int root);
void sb_cursor_close(sb_cursor_t *c); /* leaves root open */
/* New file of mode 0600 for writing; its folders are made.  The path is valid (sb_path_valid). */
sb_code_t sb_fs_create(sb_cursor_t *c, const char *path, int *fd, sb_err_t *err);
sb_code_t sb_fs_symlink(sb_cursor_t *c, const char *path, const char *target, sb_err_t *err);
/* An existing regular file for reading; SB_EINVAL when it is something else by now. */
sb_code_t sb_fs_open(sb_cursor_t *c, const char *path, int *fd, sb_err_t *err);
/* A symlink's target; NUL-terminated, cut at SB_PATH_MAX + 1 bytes. */
sb_code_t sb_fs_readlink(sb_cursor_t *c, const char *path, char out[SB_PATH_MAX + 2],
                         sb_err_t *err);
sb_code_t sb_fs_write(int fd, const void *data, size_t len, sb_err_t *err);

#endif
