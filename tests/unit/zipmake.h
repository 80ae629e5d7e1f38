/*
 * zipmake.h - makes zips byte by byte, so that tests and the fuzz target can lie
 * in every field.  Contents are stored, not deflated.
 */
#ifndef ZIPMAKE_H
#define ZIPMAKE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    size_t name_len;  /* 0: strlen(name) */
    const char *data; /* NULL: empty */
    size_t len;       /* 0 with data: strlen(data) */
    unsigned mode;    /* st_mode; 0: made on DOS, without one */
    unsigned flags;
    unsigned method;
    const char *local_name; /* in the local header; NULL: the same, of the same length */
    const char *extra;      /* in both headers */
    size_t extra_len;
} zm_entry_t;

typedef struct {
    unsigned char *data;
    size_t len;
    size_t *local;   /* offset of each local header, ended by the directory's offset */
    size_t *central; /* offset of each central record */
    size_t end;      /* offset of the end record */
} zm_zip_t;

/* Aborts out of memory.  Freed by zm_free(). */
void zm_make(zm_zip_t *z, const zm_entry_t *entries, size_t n);
/* The same with a zip64 end record, whose plain one carries the marks. */
void zm_make64(zm_zip_t *z, const zm_entry_t *entries, size_t n);
void zm_free(zm_zip_t *z);

void zm_put16(zm_zip_t *z, size_t at, unsigned v);
void zm_put32(zm_zip_t *z, size_t at, uint32_t v);
uint32_t zm_crc32(const void *data, size_t len);

#endif
