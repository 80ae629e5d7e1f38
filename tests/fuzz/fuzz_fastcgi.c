/*
 * fuzz_fastcgi.c - the FastCGI reader, name-value pairs and CGI headers on
 * hostile bytes.
 *
 * Beyond "no crash": the events of a stream must not depend on how it was cut
 * into pieces, content must add up to the announced length, and what is walked
 * as pairs must come out again when it is written and walked a second time.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/fastcgi.h"
#include "../../libskillbox/protocol.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "line %d: %s\n", __LINE__, #cond);                                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything a reader says, in a form that does not show where pieces ended. */
static void transcript(const uint8_t *data, size_t size, size_t piece, sb_buf_t *out)
{
    sb_fcgi_reader_t r = {0};
    size_t content = 0, at = 0;

    while (at < size) {
        size_t n = size - at < piece ? size - at : piece;
        uint8_t *copy = malloc(n); /* its own allocation: a look behind the end is seen */
        const unsigned char *p = copy, *end;
        sb_fcgi_event_t ev;

        CHECK(copy != NULL);
        memcpy(copy, data + at, n);
        end = copy + n;
        while ((ev = sb_fcgi_read(&r, &p, end)) != SB_FCGI_EV_NONE) {
            CHECK(p <= end);
            if (ev == SB_FCGI_EV_ERROR) {
                sb_buf_str(out, "E");
                free(copy);
                return;
            }
            if (ev == SB_FCGI_EV_HEADER) {
                content = 0;
                sb_buf_fmt(out, "H%u,%u,%u:", r.type, r.request_id, r.content_len);
            }
            if (ev == SB_FCGI_EV_DATA) {
                CHECK(r.data_len != 0 && r.data >= copy && r.data + r.data_len <= end);
                content += r.data_len;
                CHECK(content + r.content_left == r.content_len);
                sb_buf_add(out, r.data, r.data_len);
            }
            if (ev == SB_FCGI_EV_END) {
                CHECK(content == r.content_len);
                sb_buf_str(out, ";");
            }
        }
        CHECK(p == end);
        free(copy);
        at += n;
    }
}

static void read_records(const uint8_t *data, size_t size)
{
    sb_buf_t whole = SB_BUF_INIT(4 << 20), cut = SB_BUF_INIT(4 << 20);

    transcript(data, size, size + 1, &whole);
    transcript(data, size, 1 + size % 13, &cut);
    CHECK(sb_buf_ok(&whole) && sb_buf_ok(&cut));
    CHECK(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0));
    sb_buf_free(&whole);
    sb_buf_free(&cut);
}

typedef struct {
    sb_buf_t again; /* the pairs as we would write them */
    size_t count;
    bool plain; /* no name held a NUL, which sb_fcgi_pair() can't write */
} pairs_t;

static sb_code_t on_pair(void *ctx, const char *name, size_t name_len, const char *value,
                         size_t value_len, sb_err_t *err)
{
    pairs_t *p = ctx;
    char *copy = malloc(name_len + 1);

    CHECK(copy != NULL);
    memcpy(copy, name, name_len);
    copy[name_len] = '\0';
    p->plain = p->plain && strlen(copy) == name_len;
    sb_fcgi_pair(&p->again, copy, value, value_len);
    p->count++;
    free(copy);
    return SB_OK;
}

static void read_pairs(const uint8_t *data, size_t size)
{
    pairs_t first = {SB_BUF_INIT(4 << 20), 0, true}, second = {SB_BUF_INIT(4 << 20), 0, true};
    sb_err_t err;

    if (sb_fcgi_pairs(data, size, on_pair, &first, &err) == SB_OK && first.plain) {
        CHECK(sb_buf_ok(&first.again));
        CHECK(sb_fcgi_pairs(first.again.data, first.again.len, on_pair, &second, &err) == SB_OK);
        CHECK(second.count == first.count && second.again.len == first.again.len);
    }
    sb_buf_free(&first.again);
    sb_buf_free(&second.again);
}

static void read_cgi(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    long len = sb_cgi_header_len(text, size);
    const char *value;
    size_t vlen = 0;

    CHECK(len >= -1 && len <= SB_CGI_HEADER_MAX && (len < 0 || (size_t)len <= size));
    if (len <= 0)
        return;
    CHECK(text[len - 1] == '\n');
    value = sb_cgi_header(text, (size_t)len, "status", &vlen);
    if (value != NULL)
        CHECK(value >= text && value + vlen <= text + len && memchr(value, '\n', vlen) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t app;
    uint16_t role;
    uint8_t byte;

    if (size > 128 * 1024)
        return 0;
    read_records(data, size);
    read_pairs(data, size);
    read_cgi(data, size);
    CHECK(sb_fcgi_end_parse(data, size, &app, &byte) == (size == 8));
    CHECK(sb_fcgi_begin_parse(data, size, &role, &byte) == (size == 8));
    return 0;
}
