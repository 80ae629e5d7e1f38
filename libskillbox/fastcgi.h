/*
 * fastcgi.h - FastCGI 1.0 records and name-value pairs: an incremental, bounded
 * parser that never allocates, and writers into caller's memory.
 *
 * Used by the module (client side), the helper (server side), tests and fuzz
 * target.  Reference: FastCGI specification 1.0, sections 3 and 8.
 */
#ifndef SB_FASTCGI_H
#define SB_FASTCGI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

enum {
    SB_FCGI_BEGIN_REQUEST = 1,
    SB_FCGI_ABORT_REQUEST = 2,
    SB_FCGI_END_REQUEST = 3,
    SB_FCGI_PARAMS = 4,
    SB_FCGI_STDIN = 5,
    SB_FCGI_STDOUT = 6,
    SB_FCGI_STDERR = 7,
    SB_FCGI_DATA = 8,
    SB_FCGI_GET_VALUES = 9,
    SB_FCGI_GET_VALUES_RESULT = 10,
    SB_FCGI_UNKNOWN_TYPE = 11,
};

#define SB_FCGI_HEADER_LEN  8
#define SB_FCGI_CONTENT_MAX 65535
#define SB_FCGI_RESPONDER   1
#define SB_FCGI_KEEP_CONN   1

enum {
    SB_FCGI_REQUEST_COMPLETE = 0,
    SB_FCGI_CANT_MPX_CONN = 1,
    SB_FCGI_OVERLOADED = 2,
    SB_FCGI_UNKNOWN_ROLE = 3,
};

/*
 * The record reader.  Zero-initialise; feed it bytes as they come.  Each call
 * consumes some and reports one event:
 *   SB_FCGI_EV_NONE     all bytes consumed, nothing complete: come back with more
 *   SB_FCGI_EV_HEADER   a record header was completed: type, request_id, content_left are set
 *   SB_FCGI_EV_DATA     `data`, `data_len`: a piece of the record's content (points into the input)
 *   SB_FCGI_EV_END      the record's content and padding have been consumed
 *   SB_FCGI_EV_ERROR    version is not 1; the reader stays in error
 * An empty record gives HEADER then END.
 */
typedef enum {
    SB_FCGI_EV_NONE,
    SB_FCGI_EV_HEADER,
    SB_FCGI_EV_DATA,
    SB_FCGI_EV_END,
    SB_FCGI_EV_ERROR,
} sb_fcgi_event_t;

typedef struct {
    unsigned char header[SB_FCGI_HEADER_LEN];
    uint8_t have;  /* header bytes collected */
    uint8_t state; /* internal */
    uint8_t type;  /* of the current record */
    uint8_t padding_left;
    uint16_t request_id;
    uint16_t content_len;  /* of the current record, as announced */
    uint16_t content_left; /* not yet delivered */
    const unsigned char *data;
    size_t data_len;
} sb_fcgi_reader_t;

/* Reads from *p (advanced) up to end. */
sb_fcgi_event_t sb_fcgi_read(sb_fcgi_reader_t *r, const unsigned char **p,
                             const unsigned char *end);

/* Writes a record header; len <= SB_FCGI_CONTENT_MAX, no padding. */
void sb_fcgi_header(unsigned char out[SB_FCGI_HEADER_LEN], int type, uint16_t id, size_t len);
/* Header and 8 byte body. */
void sb_fcgi_begin(unsigned char out[16], uint16_t id, uint16_t role, uint8_t flags);
void sb_fcgi_end(unsigned char out[16], uint16_t id, uint32_t app_status, uint8_t protocol_status);
/* Appends one or more records of the type holding data; nothing for len == 0 (see sb_fcgi_eof). */
void sb_fcgi_stream(sb_buf_t *b, int type, uint16_t id, const void *data, size_t len);
void sb_fcgi_eof(sb_buf_t *b, int type, uint16_t id); /* the empty record that ends a stream */
/* One name-value pair, to be put into PARAMS content. */
void sb_fcgi_pair(sb_buf_t *b, const char *name, const char *value, size_t value_len);
/* The values of an END_REQUEST body (8 bytes). */
bool sb_fcgi_end_parse(const unsigned char *body, size_t len, uint32_t *app_status,
                       uint8_t *protocol_status);
/* BEGIN_REQUEST body (8 bytes). */
bool sb_fcgi_begin_parse(const unsigned char *body, size_t len, uint16_t *role, uint8_t *flags);

/* Walks complete PARAMS content; SB_EINVAL when a length runs over the end. */
typedef sb_code_t (*sb_fcgi_pair_cb)(void *ctx, const char *name, size_t name_len,
                                     const char *value, size_t value_len, sb_err_t *err);
sb_code_t sb_fcgi_pairs(const void *data, size_t len, sb_fcgi_pair_cb cb, void *ctx, sb_err_t *err);

/*
 * The CGI header block at the start of STDOUT (RFC 3875 6.2).  Looks for the
 * empty line (LF or CRLF) within the first SB_CGI_HEADER_MAX bytes.
 * Returns the length of the block with its empty line, 0 when incomplete,
 * -1 when malformed or too long.
 */
long sb_cgi_header_len(const char *data, size_t len);
/* Value of a header inside a complete block, name compared without case; NULL when absent.  *vlen
 * without blanks at the ends. */
const char *sb_cgi_header(const char *block, size_t len, const char *name, size_t *vlen);

#endif
