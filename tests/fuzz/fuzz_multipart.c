/*
 * fuzz_multipart.c - the first line is the Content-Type, the rest the body; what
 * is found lies inside the body and is followed by the boundary.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *eol = memchr(data, '\n', size);
    size_t type_len = eol != NULL ? (size_t)(eol - data) : size;
    size_t body_len = eol != NULL ? size - type_len - 1 : 0;
    const uint8_t *body = data + size - body_len;
    char *type = strndup((const char *)data, type_len);
    const unsigned char *found = NULL;
    size_t len = 0;

    assert(type != NULL);
    sb_multipart_is(type);
    if (sb_multipart_file(type, body, body_len, &found, &len, NULL) == SB_OK) {
        assert(found >= body && len <= body_len && (size_t)(found - body) <= body_len - len);
        assert(memmem(body, body_len, "--", 2) != NULL);
    }
    free(type);
    return 0;
}
