/*
 * fastcgi.c - FastCGI 1.0 records, name-value pairs, and the CGI header block
 * that starts a response.
 *
 * Everything read here comes from a peer and may be hostile: the reader keeps 24
 * bytes of state, never allocates, never looks past the input, and consumes at
 * least a byte or changes state on every call.  Writers append to a caller's
 * bounded buffer.  Any thread or process.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "fastcgi.h"

#include <string.h>
#include <strings.h>

#include "protocol.h"

#define FCGI_VERSION 1

enum { ST_HEADER, ST_CONTENT, ST_PADDING, ST_ERROR };

static uint16_t get16(const unsigned char *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

/* ---- reading records ---- */

static sb_fcgi_event_t read_header(sb_fcgi_reader_t *r, const unsigned char **p,
                                   const unsigned char *end)
{
    while (r->have < SB_FCGI_HEADER_LEN) {
        if (*p == end)
            return SB_FCGI_EV_NONE;
        r->header[r->have++] = *(*p)++;
    }
    if (r->header[0] != FCGI_VERSION) {
        r->state = ST_ERROR;
        return SB_FCGI_EV_ERROR;
    }
    r->type = r->header[1];
    r->request_id = get16(r->header + 2);
    r->content_len = r->content_left = get16(r->header + 4);
    r->padding_left = r->header[6];
    r->have = 0;
    r->state = ST_CONTENT;
    return SB_FCGI_EV_HEADER;
}

static sb_fcgi_event_t read_content(sb_fcgi_reader_t *r, const unsigned char **p,
                                    const unsigned char *end)
{
    size_t n = (size_t)(end - *p);

    if (n == 0)
        return SB_FCGI_EV_NONE;
    if (n > r->content_left)
        n = r->content_left;
    r->data = *p;
    r->data_len = n;
    r->content_left = (uint16_t)(r->content_left - n);
    *p += n;
    return SB_FCGI_EV_DATA;
}

static sb_fcgi_event_t read_padding(sb_fcgi_reader_t *r, const unsigned char **p,
                                    const unsigned char *end)
{
    size_t n = (size_t)(end - *p);

    if (n > r->padding_left)
        n = r->padding_left;
    r->padding_left = (uint8_t)(r->padding_left - n);
    *p += n;
    if (r->padding_left != 0)
        return SB_FCGI_EV_NONE;
    r->state = ST_HEADER;
    return SB_FCGI_EV_END;
}

sb_fcgi_event_t sb_fcgi_read(sb_fcgi_reader_t *r, const unsigned char **p, const unsigned char *end)
{
    r->data = NULL;
    r->data_len = 0;

    switch (r->state) {
    case ST_HEADER:
        return read_header(r, p, end);
    case ST_CONTENT:
        if (r->content_left != 0)
            return read_content(r, p, end);
        r->state = ST_PADDING;
        return read_padding(r, p, end);
    case ST_PADDING:
        return read_padding(r, p, end);
    default:
        return SB_FCGI_EV_ERROR;
    }
}

/* ---- writing ---- */

void sb_fcgi_header(unsigned char out[SB_FCGI_HEADER_LEN], int type, uint16_t id, size_t len)
{
    out[0] = FCGI_VERSION;
    out[1] = (unsigned char)type;
    out[2] = (unsigned char)(id >> 8);
    out[3] = (unsigned char)id;
    out[4] = (unsigned char)(len >> 8);
    out[5] = (unsigned char)len;
    out[6] = 0; /* padding */
    out[7] = 0;
}

void sb_fcgi_begin(unsigned char out[16], uint16_t id, uint16_t role, uint8_t flags)
{
    sb_fcgi_header(out, SB_FCGI_BEGIN_REQUEST, id, 8);
    memset(out + 8, 0, 8);
    out[8] = (unsigned char)(role >> 8);
    out[9] = (unsigned char)role;
    out[10] = flags;
}

void sb_fcgi_end(unsigned char out[16], uint16_t id, uint32_t app_status, uint8_t protocol_status)
{
    sb_fcgi_header(out, SB_FCGI_END_REQUEST, id, 8);
    memset(out + 8, 0, 8);
    put32(out + 8, app_status);
    out[12] = protocol_status;
}

void sb_fcgi_stream(sb_buf_t *b, int type, uint16_t id, const void *data, size_t len)
{
    const char *p = data;

    while (len != 0 && sb_buf_ok(b)) {
        size_t n = len < SB_FCGI_CONTENT_MAX ? len : SB_FCGI_CONTENT_MAX;
        unsigned char header[SB_FCGI_HEADER_LEN];

        sb_fcgi_header(header, type, id, n);
        sb_buf_add(b, header, sizeof(header));
        sb_buf_add(b, p, n);
        p += n;
        len -= n;
    }
}

void sb_fcgi_eof(sb_buf_t *b, int type, uint16_t id)
{
    unsigned char header[SB_FCGI_HEADER_LEN];

    sb_fcgi_header(header, type, id, 0);
    sb_buf_add(b, header, sizeof(header));
}

static void pair_length(sb_buf_t *b, size_t len)
{
    unsigned char four[4];

    if (len < 128) {
        sb_buf_char(b, (char)len);
        return;
    }
    if (len > 0x7fffffff) {
        b->failed = true; /* the format ends here */
        return;
    }
    put32(four, 0x80000000U | (uint32_t)len);
    sb_buf_add(b, four, sizeof(four));
}

void sb_fcgi_pair(sb_buf_t *b, const char *name, const char *value, size_t value_len)
{
    size_t name_len = strlen(name);

    pair_length(b, name_len);
    pair_length(b, value_len);
    sb_buf_add(b, name, name_len);
    sb_buf_add(b, value, value_len);
}

/* ---- reading bodies ---- */

bool sb_fcgi_end_parse(const unsigned char *body, size_t len, uint32_t *app_status,
                       uint8_t *protocol_status)
{
    if (len != 8)
        return false;
    *app_status = get32(body);
    *protocol_status = body[4];
    return true;
}

bool sb_fcgi_begin_parse(const unsigned char *body, size_t len, uint16_t *role, uint8_t *flags)
{
    if (len != 8)
        return false;
    *role = get16(body);
    *flags = body[2];
    return true;
}

static bool take_length(const unsigned char **p, const unsigned char *end, size_t *len)
{
    size_t left = (size_t)(end - *p);

    if (left == 0)
        return false;
    if (**p < 0x80) {
        *len = *(*p)++;
        return true;
    }
    if (left < 4)
        return false;
    *len = get32(*p) & 0x7fffffff;
    *p += 4;
    return true;
}

sb_code_t sb_fcgi_pairs(const void *data, size_t len, sb_fcgi_pair_cb cb, void *ctx, sb_err_t *err)
{
    const unsigned char *p = data, *end;

    if (len == 0)
        return SB_OK; /* data may be NULL then */
    end = p + len;
    while (p < end) {
        size_t name_len, value_len;
        sb_code_t rc;

        if (!take_length(&p, end, &name_len) || !take_length(&p, end, &value_len) ||
            name_len > (size_t)(end - p) || value_len > (size_t)(end - p) - name_len)
            return sb_err_set(err, SB_EINVAL, "a FastCGI name-value pair runs over the end");
        rc = cb(ctx, (const char *)p, name_len, (const char *)p + name_len, value_len, err);
        if (rc != SB_OK)
            return rc;
        p += name_len + value_len;
    }
    return SB_OK;
}

/* ---- the CGI header block ---- */

static bool is_token(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* "Name: value" without control characters (no folding, hence no line starting with a blank) */
static bool header_line_ok(const char *line, size_t len)
{
    size_t i = 0;

    while (i < len && is_token((unsigned char)line[i]))
        i++;
    if (i == 0 || i == len || line[i] != ':')
        return false;
    for (i++; i < len; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* Length of the line at data without its end; *next is behind the end.  False when it is
 * incomplete. */
static bool take_line(const char *data, size_t len, size_t at, size_t *line_len, size_t *next)
{
    const char *nl = memchr(data + at, '\n', len - at);

    if (nl == NULL)
        return false;
    *next = (size_t)(nl - data) + 1;
    *line_len = *next - 1 - at;
    if (*line_len != 0 && nl[-1] == '\r')
        (*line_len)--;
    return true;
}

long sb_cgi_header_len(const char *data, size_t len)
{
    size_t limit = len < SB_CGI_HEADER_MAX ? len : SB_CGI_HEADER_MAX;
    size_t at = 0, line_len, next;

    while (at < limit && take_line(data, limit, at, &line_len, &next)) {
        if (line_len == 0)
            return at != 0 ? (long)next : -1; /* at least one header */
        if (!header_line_ok(data + at, line_len))
            return -1;
        at = next;
    }
    return limit == SB_CGI_HEADER_MAX ? -1 : 0;
}

const char *sb_cgi_header(const char *block, size_t len, const char *name, size_t *vlen)
{
    size_t name_len = strlen(name);
    size_t at = 0, line_len, next;

    while (at < len && take_line(block, len, at, &line_len, &next)) {
        const char *line = block + at;
        at = next;
        if (line_len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
            continue;
        const char *value = line + name_len + 1, *end = line + line_len;
        while (value < end && (*value == ' ' || *value == '\t'))
            value++;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        *vlen = (size_t)(end - value);
        return value;
    }
    return NULL;
}
