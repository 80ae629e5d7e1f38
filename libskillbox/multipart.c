/*
 * multipart.c - finds the part named "file" in a multipart/form-data body.
 *
 * Strict on purpose: lines end with CR LF, a delimiter is "--boundary" at the
 * start of a line, quoted strings end where they should.  A body that two
 * parsers could read in two ways is refused.  Touches memory only.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "multipart.h"

#define PARTS_MAX    64
#define HEADERS_MAX  8192
#define BOUNDARY_MAX 70
#define VALUE_MAX    256

typedef struct {
    const char *s;
    size_t len;
} span_t;

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_token(char c)
{
    return c > 0x20 && c < 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static void skip_space(span_t *in)
{
    while (in->len > 0 && is_space(*in->s)) {
        in->s++;
        in->len--;
    }
}

static span_t take_token(span_t *in)
{
    span_t token = {in->s, 0};

    while (token.len < in->len && is_token(in->s[token.len])) {
        token.len++;
    }
    in->s += token.len;
    in->len -= token.len;
    return token;
}

/* A quoted string, unescaped into out; -1 when it doesn't end or is too long. */
static int take_quoted(span_t *in, char out[VALUE_MAX])
{
    size_t at = 1, used = 0;

    while (at < in->len && in->s[at] != '"') {
        /* only \" and \\ are escapes: old browsers send paths with backslashes */
        if (in->s[at] == '\\' && at + 1 < in->len &&
            (in->s[at + 1] == '"' || in->s[at + 1] == '\\')) {
            at++;
        }
        if (used == VALUE_MAX - 1) {
            return -1;
        }
        out[used++] = in->s[at++];
    }
    if (at == in->len) {
        return -1;
    }
    in->s += at + 1;
    in->len -= at + 1;
    out[used] = '\0';
    return (int)used;
}

/*
 * One "; name=value" of a header; the value goes to out.  1: got one, 0: there
 * are no more, -1: malformed.  *len is the value's length.
 */
static int take_param(span_t *in, span_t *name, char out[VALUE_MAX], size_t *len)
{
    skip_space(in);
    if (in->len == 0) {
        return 0;
    }
    if (*in->s != ';') {
        return -1;
    }
    in->s++;
    in->len--;
    skip_space(in);
    if (in->len == 0) {
        return 0; /* a ';' at the end is common and harmless */
    }
    *name = take_token(in);
    if (name->len == 0 || in->len < 2 || *in->s != '=') {
        return -1;
    }
    in->s++;
    in->len--;
    if (*in->s == '"') {
        int n = take_quoted(in, out);
        *len = n < 0 ? 0 : (size_t)n;
        return n < 0 ? -1 : 1;
    }
    span_t token = take_token(in);
    if (token.len == 0 || token.len >= VALUE_MAX) {
        return -1;
    }
    memcpy(out, token.s, token.len);
    out[token.len] = '\0';
    *len = token.len;
    return 1;
}

static bool span_is(span_t s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.s, word, s.len) == 0;
}

/* The media type or disposition in front of the parameters. */
static span_t take_type(span_t *in)
{
    span_t type;

    skip_space(in);
    type = take_token(in);
    if (in->len > 0 && *in->s == '/') {
        in->s++;
        in->len--;
        type.len += 1 + take_token(in).len;
    }
    return type;
}

int sb_multipart_is(const char *content_type)
{
    span_t in = {content_type, strlen(content_type)};

    if (!span_is(take_type(&in), "multipart/form-data")) {
        return 0;
    }
    skip_space(&in);
    return in.len == 0 || *in.s == ';';
}

/* RFC 2046 5.1.1: 1-70 of these characters, the last one no blank. */
static bool boundary_valid(const char *s, size_t len)
{
    if (len == 0 || len > BOUNDARY_MAX || s[len - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool alnum = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'Z') ||
                     (s[i] >= 'a' && s[i] <= 'z');
        if (!alnum && (s[i] == '\0' || strchr("'()+_,-./:=? ", s[i]) == NULL)) {
            return false;
        }
    }
    return true;
}

/* out: "\r\n--" and the boundary; *len its length. */
static sb_code_t find_boundary(const char *content_type, char out[4 + VALUE_MAX], size_t *len,
                               sb_err_t *err)
{
    span_t in = {content_type, strlen(content_type)};
    span_t name;
    char value[VALUE_MAX];
    size_t n;

    take_type(&in);
    while (take_param(&in, &name, value, &n) > 0) {
        if (!span_is(name, "boundary")) {
            continue;
        }
        if (!boundary_valid(value, n)) {
            break;
        }
        memcpy(out, "\r\n--", 4);
        memcpy(out + 4, value, n);
        *len = n + 4;
        return SB_OK;
    }
    return sb_err_set(err, SB_EINVAL, "multipart/form-data without a valid boundary");
}

typedef struct {
    const unsigned char *at;  /* behind the delimiter's line */
    const unsigned char *end; /* of the body */
    const char *delimiter;    /* "\r\n--boundary" */
    size_t delimiter_len;
    bool closed; /* the last delimiter was "--boundary--" */
} reader_t;

/* What follows a delimiter: 1 a line end, 2 the close mark, 0 it is content that looks like one. */
static int delimiter_tail(const unsigned char *p, const unsigned char *end,
                          const unsigned char **next)
{
    if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
        *next = p + 2;
        return 2;
    }
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') {
        *next = p + 2;
        return 1;
    }
    return 0;
}

/* Finds the next delimiter: *stop is where the content in front of it ends. */
static bool next_delimiter(reader_t *r, const unsigned char **stop)
{
    const unsigned char *p = r->at;

    while ((p = memmem(p, (size_t)(r->end - p), r->delimiter, r->delimiter_len)) != NULL) {
        const unsigned char *next;
        int tail = delimiter_tail(p + r->delimiter_len, r->end, &next);
        if (tail != 0) {
            *stop = p;
            r->at = next;
            r->closed = tail == 2;
            return true;
        }
        p += r->delimiter_len;
    }
    return false;
}

/* Behind the first delimiter, which may stand at the very beginning, without a line end before. */
static bool first_delimiter(reader_t *r)
{
    const unsigned char *stop, *next;
    size_t bare = r->delimiter_len - 2;

    if ((size_t)(r->end - r->at) >= bare && memcmp(r->at, r->delimiter + 2, bare) == 0) {
        int tail = delimiter_tail(r->at + bare, r->end, &next);
        if (tail != 0) {
            r->at = next;
            r->closed = tail == 2;
            return true;
        }
    }
    return next_delimiter(r, &stop);
}

/* What a part's headers say. */
typedef struct {
    char field[8];                            /* "file", "name", or something else cut short */
    char filename[SB_MULTIPART_NAME_MAX + 1]; /* "" when there was none, or it is too long */
    char type[SB_MULTIPART_TYPE_MAX + 1];
} part_t;

/* Cut to fit; without NULs, which no name may hold. */
static void copy_value(char *out, size_t size, const char *value, size_t len, bool whole)
{
    bool clean = memchr(value, '\0', len) == NULL;
    size_t n = !clean || (whole && len >= size) ? 0 : len < size ? len : size - 1;

    memcpy(out, value, n);
    out[n] = '\0';
}

/* The parameters of Content-Disposition; false: malformed. */
static bool read_disposition(span_t in, part_t *part)
{
    char value[VALUE_MAX];
    span_t name;
    size_t n;
    int got;

    if (!span_is(take_type(&in), "form-data")) {
        return false;
    }
    while ((got = take_param(&in, &name, value, &n)) > 0) {
        if (span_is(name, "name")) {
            copy_value(part->field, sizeof(part->field), value, n, false);
        } else if (span_is(name, "filename")) {
            copy_value(part->filename, sizeof(part->filename), value, n, true);
        }
    }
    return got == 0;
}

/* One header line; others than these two don't matter.  False: malformed. */
static bool read_header(span_t line, part_t *part)
{
    span_t in = line, name = take_token(&in);

    if (in.len == 0 || *in.s != ':') {
        return true;
    }
    in.s++;
    in.len--;
    if (span_is(name, "Content-Disposition")) {
        return read_disposition(in, part);
    }
    if (span_is(name, "Content-Type")) {
        skip_space(&in);
        copy_value(part->type, sizeof(part->type), in.s, in.len, true);
    }
    return true;
}

/* Reads a part's headers; r->at then stands at its content.  False: malformed. */
static bool read_headers(reader_t *r, part_t *part)
{
    const unsigned char *limit = r->end - r->at > HEADERS_MAX ? r->at + HEADERS_MAX : r->end;

    memset(part, 0, sizeof(*part));
    for (;;) {
        const unsigned char *eol = memmem(r->at, (size_t)(limit - r->at), "\r\n", 2);
        if (eol == NULL) {
            return false;
        }
        span_t line = {(const char *)r->at, (size_t)(eol - r->at)};
        r->at = eol + 2;
        if (line.len == 0) {
            return true;
        }
        if (!read_header(line, part)) {
            return false;
        }
    }
}

/* Takes over what the form asks for. */
static void take_part(const part_t *part, const unsigned char *data, size_t len,
                      sb_multipart_form_t *form)
{
    if (strcmp(part->field, "file") == 0 && form->data == NULL) {
        form->data = data;
        form->len = len;
        memcpy(form->filename, part->filename, sizeof(form->filename));
        memcpy(form->type, part->type, sizeof(form->type));
    } else if (strcmp(part->field, "name") == 0) {
        form->has_name = true;
        copy_value(form->name, sizeof(form->name), (const char *)data, len, true);
    }
}

static sb_code_t read_form(const char *content_type, const unsigned char *body, size_t body_len,
                           bool file_only, sb_multipart_form_t *form, sb_err_t *err)
{
    char delimiter[4 + VALUE_MAX];
    reader_t r = {.at = body, .end = body + body_len, .delimiter = delimiter};
    part_t p;

    memset(form, 0, sizeof(*form));
    if (find_boundary(content_type, delimiter, &r.delimiter_len, err) != SB_OK) {
        return SB_EINVAL;
    }
    if (!first_delimiter(&r)) {
        return sb_err_set(err, SB_EINVAL, "the body does not contain its multipart boundary");
    }
    for (int part = 1; !r.closed && !(file_only && form->data != NULL); part++) {
        const unsigned char *content, *stop;
        if (part > PARTS_MAX) {
            return sb_err_set(err, SB_EINVAL, "the body has more than %d parts", PARTS_MAX);
        }
        if (!read_headers(&r, &p)) {
            return sb_err_set(err, SB_EINVAL, "part %d has malformed headers", part);
        }
        content = r.at;
        /* an empty part's content ends where its headers do: their last CR LF is the delimiter's */
        r.at -= 2;
        if (!next_delimiter(&r, &stop)) {
            return sb_err_set(err, SB_EINVAL, "part %d is not ended by the boundary", part);
        }
        take_part(&p, content, stop > content ? (size_t)(stop - content) : 0, form);
    }
    return form->data != NULL ? SB_OK
                              : sb_err_set(err, SB_EINVAL, "the body has no part named 'file'");
}

sb_code_t sb_multipart_form(const char *content_type, const unsigned char *body, size_t body_len,
                            sb_multipart_form_t *form, sb_err_t *err)
{
    return read_form(content_type, body, body_len, false, form, err);
}

sb_code_t sb_multipart_file(const char *content_type, const unsigned char *body, size_t body_len,
                            const unsigned char **data, size_t *len, sb_err_t *err)
{
    sb_multipart_form_t form;
    sb_code_t rc = read_form(content_type, body, body_len, true, &form, err);

    if (rc == SB_OK) {
        *data = form.data;
        *len = form.len;
    }
    return rc;
}
