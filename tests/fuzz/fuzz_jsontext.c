/*
 * fuzz_jsontext.c - what a script may leave as output.json, through the compactor.
 * Besides not crashing: what is accepted never grows, is a fixed point, and is JSON to
 * another parser too, as far as that parser can hold it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "../../libskillbox/jsontext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* jansson knows no numbers beyond 64 bits or a double, no NUL in strings and less depth. */
static int is_limit_of_jansson(const json_error_t *error)
{
    static const enum json_error_code limits[] = {
        json_error_numeric_overflow, json_error_null_character, json_error_stack_overflow,
        json_error_null_byte_in_key};

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (json_error_code(error) == limits[i]) {
            return 1;
        }
    }
    return 0;
}

static void check_in_object(const sb_buf_t *value)
{
    sb_buf_t text = SB_BUF_INIT(value->len + 16);

    sb_buf_str(&text, "{\"output\":");
    sb_buf_add(&text, value->data, value->len);
    sb_buf_char(&text, '}');
    if (!sb_buf_ok(&text) || !sb_json_valid_object(text.data, text.len) ||
        sb_json_valid_object(text.data, text.len - 1)) {
        abort();
    }
    sb_buf_free(&text);
}

static void check_accepted(const sb_buf_t *once, size_t size)
{
    sb_buf_t twice = SB_BUF_INIT(once->len);
    sb_json_error_t at;
    json_error_t error;
    json_t *json;

    if (once->len > size || !sb_json_compact(once->data, once->len, &twice, &at) ||
        !sb_buf_ok(&twice) || twice.len != once->len ||
        memcmp(twice.data, once->data, once->len) != 0) {
        abort();
    }
    check_in_object(once);
    sb_buf_free(&twice);
    json = json_loadb(once->data, once->len, JSON_DECODE_ANY, &error);
    if (json == NULL && !is_limit_of_jansson(&error)) {
        abort();
    }
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_buf_t out = SB_BUF_INIT(size);
    sb_json_error_t at;

    if (sb_json_compact((const char *)data, size, &out, &at)) {
        check_accepted(&out, size);
    } else if (at.what == NULL || at.line == 0 || at.column == 0) {
        abort();
    }
    sb_buf_free(&out);
    return 0;
}
