/* test_fastcgi.c - the promises of fastcgi.h. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/fastcgi.h"
#include "../../libskillbox/protocol.h"

/* Feeds bytes in pieces and writes down what the reader says; returns false on SB_FCGI_EV_ERROR. */
static bool feed(const void *data, size_t len, size_t piece, sb_buf_t *out)
{
    const unsigned char *p = data, *all_end = p + len;
    sb_fcgi_reader_t r = {0};

    while (p < all_end) {
        const unsigned char *end = (size_t)(all_end - p) < piece ? all_end : p + piece;
        sb_fcgi_event_t ev;

        while ((ev = sb_fcgi_read(&r, &p, end)) != SB_FCGI_EV_NONE) {
            if (ev == SB_FCGI_EV_ERROR) {
                assert_int_equal(sb_fcgi_read(&r, &p, end), SB_FCGI_EV_ERROR);
                return false;
            }
            if (ev == SB_FCGI_EV_HEADER)
                sb_buf_fmt(out, "(%d #%d %d ", r.type, r.request_id, r.content_left);
            if (ev == SB_FCGI_EV_DATA)
                sb_buf_add(out, r.data, r.data_len);
            if (ev == SB_FCGI_EV_END)
                sb_buf_str(out, ")");
        }
        assert_ptr_equal(p, end); /* NONE: everything was consumed */
    }
    return true;
}

static void records_come_out_the_same_however_they_are_cut(void **state)
{
    static const unsigned char padded[] = {1, 7, 0, 2, 0, 3, 5, 0, 'l', 'o', 'g', 9, 9, 9, 9, 9};
    sb_buf_t in = SB_BUF_INIT(100000), out = SB_BUF_INIT(100000);
    unsigned char sixteen[16];

    sb_fcgi_begin(sixteen, 1, SB_FCGI_RESPONDER, SB_FCGI_KEEP_CONN);
    sb_buf_add(&in, sixteen, 16);
    sb_fcgi_stream(&in, SB_FCGI_STDIN, 1, "hello", 5);
    sb_fcgi_eof(&in, SB_FCGI_STDIN, 1);
    sb_buf_add(&in, padded, sizeof(padded));
    sb_fcgi_eof(&in, SB_FCGI_STDERR, 65535);

    for (size_t piece = 1; piece <= in.len; piece++) {
        sb_buf_clear(&out);
        assert_true(feed(in.data, in.len, piece, &out));
        /* BEGIN_REQUEST's body is binary: compare around it */
        assert_memory_equal(out.data, "(1 #1 8 \0\1\1\0\0\0\0\0)", 17);
        assert_string_equal(out.data + 17, "(5 #1 5 hello)(5 #1 0 )(7 #2 3 log)(7 #65535 0 )");
    }
    sb_buf_free(&in);
    sb_buf_free(&out);
}

static void another_version_is_an_error_for_good(void **state)
{
    unsigned char record[8] = {2, 6, 0, 1, 0, 0, 0, 0};
    sb_buf_t out = SB_BUF_INIT(100);

    assert_false(feed(record, 8, 8, &out));
    assert_false(feed(record, 8, 1, &out));
    record[0] = 1;
    assert_true(feed(record, 8, 1, &out));
    sb_buf_free(&out);
}

static void long_content_becomes_several_records(void **state)
{
    size_t len = 2 * SB_FCGI_CONTENT_MAX + 1;
    char *data = malloc(len);
    sb_buf_t b = SB_BUF_INIT(1 << 20);
    sb_fcgi_reader_t r = {0};
    const unsigned char *p, *end;
    size_t records = 0, got = 0;
    sb_fcgi_event_t ev;

    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 31);
    sb_fcgi_stream(&b, SB_FCGI_STDOUT, 7, data, len);
    assert_int_equal(b.len, len + 3 * SB_FCGI_HEADER_LEN);
    p = (const unsigned char *)b.data;
    end = p + b.len;
    while ((ev = sb_fcgi_read(&r, &p, end)) != SB_FCGI_EV_NONE) {
        assert_int_not_equal(ev, SB_FCGI_EV_ERROR);
        records += ev == SB_FCGI_EV_HEADER;
        if (ev == SB_FCGI_EV_DATA) {
            assert_memory_equal(r.data, data + got, r.data_len);
            got += r.data_len;
        }
    }
    assert_int_equal(records, 3);
    assert_int_equal(got, len);
    sb_buf_clear(&b);
    sb_fcgi_stream(&b, SB_FCGI_STDOUT, 7, data, 0);
    assert_int_equal(b.len, 0);
    sb_buf_free(&b);
    free(data);
}

static void end_and_begin_bodies(void **state)
{
    unsigned char out[16];
    uint32_t app = 0;
    uint16_t role = 0;
    uint8_t byte = 0;

    sb_fcgi_end(out, 258, 0xfffefdfc, SB_FCGI_OVERLOADED);
    assert_memory_equal(out, "\1\3\1\2\0\10\0\0\xff\xfe\xfd\xfc\2\0\0\0", 16);
    assert_true(sb_fcgi_end_parse(out + 8, 8, &app, &byte));
    assert_int_equal(app, 0xfffefdfc);
    assert_int_equal(byte, SB_FCGI_OVERLOADED);
    assert_false(sb_fcgi_end_parse(out + 8, 7, &app, &byte));
    sb_fcgi_begin(out, 1, SB_FCGI_RESPONDER, SB_FCGI_KEEP_CONN);
    assert_true(sb_fcgi_begin_parse(out + 8, 8, &role, &byte));
    assert_int_equal(role, SB_FCGI_RESPONDER);
    assert_int_equal(byte, SB_FCGI_KEEP_CONN);
    assert_false(sb_fcgi_begin_parse(out + 8, 9, &role, &byte));
}

static sb_code_t write_down(void *ctx, const char *name, size_t name_len, const char *value,
                            size_t value_len, sb_err_t *err)
{
    sb_buf_fmt(ctx, "%.*s=%.*s;", (int)name_len, name, (int)value_len, value);
    if (name_len == 4 && memcmp(name, "STOP", 4) == 0)
        return sb_err_set(err, SB_ETOOLARGE, "stop");
    return SB_OK;
}

static void pairs_of_every_length_survive(void **state)
{
    static const size_t lengths[] = {0, 1, 126, 127, 128, 129, 255, 256, 70000};
    sb_buf_t b = SB_BUF_INIT(1 << 20), out = SB_BUF_INIT(1 << 20), want = SB_BUF_INIT(1 << 20);
    char *text = malloc(70001);
    sb_err_t err;

    assert_non_null(text);
    memset(text, 'v', 70000);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        text[lengths[i]] = '\0';
        sb_fcgi_pair(&b, text, "short", 5);
        sb_fcgi_pair(&b, "N", text, lengths[i]);
        sb_buf_fmt(&want, "%s=short;N=%s;", text, text);
        text[lengths[i]] = 'v';
    }
    assert_ok(sb_fcgi_pairs(b.data, b.len, write_down, &out, &err), &err);
    assert_string_equal(out.data, want.data);
    assert_ok(sb_fcgi_pairs(NULL, 0, write_down, &out, &err), &err);
    free(text);
    sb_buf_free(&b);
    sb_buf_free(&out);
    sb_buf_free(&want);
}

/* Cut at any byte but a pair's end, and with lengths that lie. */
static void pairs_that_run_over_the_end_are_refused(void **state)
{
    static const unsigned char lies[][8] = {{0xff, 0xff, 0xff, 0xff, 0, 'x', 'x', 'x'},
                                            {1, 0xff, 0xff, 0xff, 0xff, 'x', 'x', 'x'},
                                            {7, 7, 'x', 'x', 'x', 'x', 'x', 'x'},
                                            {0x80, 0, 0, 200, 1, 'x', 'x', 'x'}};
    sb_buf_t b = SB_BUF_INIT(10000), out = SB_BUF_INIT(10000);
    size_t first;
    sb_err_t err;

    sb_fcgi_pair(&b, "NAME", "value", 5);
    first = b.len;
    sb_fcgi_pair(&b, "OTHER",
                 "a value that is a good deal longer than one hundred and twenty-seven "
                 "bytes, so that four bytes are needed to say how long it really is .....",
                 139);
    for (size_t len = 1; len < b.len; len++) {
        char *exact = malloc(len); /* so that ASan sees a byte too far */
        assert_non_null(exact);
        memcpy(exact, b.data, len);
        assert_int_equal(sb_fcgi_pairs(exact, len, write_down, &out, &err),
                         len == first ? SB_OK : SB_EINVAL);
        free(exact);
        sb_buf_clear(&out);
    }
    for (size_t i = 0; i < COUNT(lies); i++)
        assert_int_equal(sb_fcgi_pairs(lies[i], 8, write_down, &out, &err), SB_EINVAL);
    sb_buf_free(&b);
    sb_buf_free(&out);
}

static void the_callback_can_stop_the_walk(void **state)
{
    sb_buf_t b = SB_BUF_INIT(1000), out = SB_BUF_INIT(1000);
    sb_err_t err;

    sb_fcgi_pair(&b, "A", "1", 1);
    sb_fcgi_pair(&b, "STOP", "", 0);
    sb_fcgi_pair(&b, "B", "2", 1);
    assert_int_equal(sb_fcgi_pairs(b.data, b.len, write_down, &out, &err), SB_ETOOLARGE);
    assert_string_equal(out.data, "A=1;STOP=;");
    sb_buf_free(&b);
    sb_buf_free(&out);
}

static long header_len(const char *text)
{
    return sb_cgi_header_len(text, strlen(text));
}

static void the_header_block_ends_at_the_empty_line(void **state)
{
    static const char *const bad[] = {"\n",
                                      "\r\n",
                                      "no colon\n\n",
                                      ": empty\n\n",
                                      " folded: x\n\n",
                                      "A: b\n folded\n\n",
                                      "A b: c\n\n",
                                      "A: \x01\n\n",
                                      "A: b\rc\n\n",
                                      "A\xc3\xa9: x\n\n",
                                      "<html>\n"};
    char text[SB_CGI_HEADER_MAX + 100];

    assert_int_equal(header_len("Status: 200\r\n\r\nbody"), 15);
    assert_int_equal(header_len("Status: 200\n\nbody\n\n"), 13);
    assert_int_equal(header_len("A:\nB: \xff\n\r\n"), 10);
    assert_int_equal(header_len(""), 0);
    assert_int_equal(header_len("Status: 200\r\n"), 0);
    assert_int_equal(header_len("Status: 200\r\n\r"), 0);
    assert_int_equal(header_len("no colon yet"), 0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (header_len(bad[i]) != -1)
            fail_msg("accepted: %s", bad[i]);
    }
    memset(text, 'a', sizeof(text));
    text[1] = ':';
    assert_int_equal(sb_cgi_header_len(text, SB_CGI_HEADER_MAX - 1), 0);
    assert_int_equal(sb_cgi_header_len(text, SB_CGI_HEADER_MAX), -1);
    memcpy(text + SB_CGI_HEADER_MAX - 2, "\n\n", 2);
    assert_int_equal(sb_cgi_header_len(text, sizeof(text)), SB_CGI_HEADER_MAX);
    memcpy(text + SB_CGI_HEADER_MAX - 2, "a\n\n", 3);
    assert_int_equal(sb_cgi_header_len(text, sizeof(text)), -1);
}

static void headers_are_found_without_case(void **state)
{
    static const char block[] =
        "Status: 404 Not Found\r\nX-Empty:\r\nStatusX: no\nx-files: \t 12 \t\r\n\r\nStatus: body";
    long len = header_len(block);
    size_t vlen = 99;
    const char *v = sb_cgi_header(block, (size_t)len, "status", &vlen);

    assert_non_null(v);
    assert_int_equal(vlen, 13);
    assert_memory_equal(v, "404 Not Found", 13);
    v = sb_cgi_header(block, (size_t)len, "X-Files", &vlen);
    assert_non_null(v);
    assert_int_equal(vlen, 2);
    assert_memory_equal(v, "12", 2);
    assert_non_null(sb_cgi_header(block, (size_t)len, "X-Empty", &vlen));
    assert_int_equal(vlen, 0);
    assert_null(sb_cgi_header(block, (size_t)len, "Stat", &vlen));
    assert_null(sb_cgi_header(block, (size_t)len, "X-None", &vlen));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_the_same_however_they_are_cut),
        cmocka_unit_test(another_version_is_an_error_for_good),
        cmocka_unit_test(long_content_becomes_several_records),
        cmocka_unit_test(end_and_begin_bodies),
        cmocka_unit_test(pairs_of_every_length_survive),
        cmocka_unit_test(pairs_that_run_over_the_end_are_refused),
        cmocka_unit_test(the_callback_can_stop_the_walk),
        cmocka_unit_test(the_header_block_ends_at_the_empty_line),
        cmocka_unit_test(headers_are_found_without_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
