/*
 * test_gzip.c - what gzip.c writes is what went in, by zlib's own reader, for every mix of bytes
 * that can be packed and bytes that can't; the ones become fewer, the others hardly more.
 */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "../../sandbox-helper/gzip.h"

#define BLOCK  65536
#define BLOCKS 16
#define GZIP   (MAX_WBITS + 16)

static unsigned char source[BLOCK * BLOCKS], packed[2 * BLOCK * BLOCKS], back[BLOCK * BLOCKS + 1];

/* xorshift64: bytes that no packer makes fewer, the same in each run */
static void fill_noise(unsigned char *to, size_t len, uint64_t seed)
{
    uint64_t x = seed;

    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        to[i] = (unsigned char)(x >> 32);
    }
}

static void fill_text(unsigned char *to, size_t len)
{
    static const char words[] = "{\"row\": 17, \"value\": 3.25}\n";

    for (size_t i = 0; i < len; i++)
        to[i] = (unsigned char)words[i % (sizeof(words) - 1)];
}

/* The stream of source[0..len), written `piece` bytes at a time; its length. */
static size_t pack(size_t len, size_t piece)
{
    int fd = memfd_create("gzip", MFD_CLOEXEC);
    gzip_t *g = gzip_open(fd);
    ssize_t n;

    assert_non_null(g);
    for (size_t at = 0; at < len; at += piece)
        assert_true(gzip_write(g, source + at, piece < len - at ? piece : len - at));
    assert_true(gzip_end(g));
    gzip_free(g);
    n = pread(fd, packed, sizeof(packed), 0);
    assert_true(n > 0 && (size_t)n < sizeof(packed));
    close(fd);
    return (size_t)n;
}

static void assert_same(size_t packed_len, size_t len)
{
    z_stream z = {.next_in = packed,
                  .avail_in = (uInt)packed_len,
                  .next_out = back,
                  .avail_out = sizeof(back)};

    assert_int_equal(inflateInit2(&z, GZIP), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END); /* checks length and CRC-32, too */
    assert_int_equal(z.avail_in, 0);
    assert_int_equal(z.total_out, len);
    assert_memory_equal(back, source, len);
    inflateEnd(&z);
}

static void what_comes_out_is_what_went_in(void **state)
{
    static const size_t lengths[] = {0,     1,     2,     4095,   4096,
                                     65535, 65536, 65537, 200000, sizeof(source)};
    static const size_t pieces[] = {1, 4096, 10007, BLOCK, 1 << 20};

    (void)state;
    for (unsigned mix = 0; mix < 6; mix++) {
        for (size_t b = 0; b < BLOCKS; b++) {
            if (mix == 0 || (mix > 1 && (b * 7 + mix) % 3 == 0))
                fill_text(source + b * BLOCK, BLOCK);
            else
                fill_noise(source + b * BLOCK, BLOCK, 88172645463325252ULL + b * mix);
        }
        for (size_t l = 0; l < COUNT(lengths); l++)
            for (size_t p = 0; p < COUNT(pieces); p++)
                if (pieces[p] > 1 || lengths[l] <= 65537)
                    assert_same(pack(lengths[l], pieces[p]), lengths[l]);
    }
}

static void text_is_packed_and_noise_is_stored(void **state)
{
    size_t text, noise, both;

    (void)state;
    fill_text(source, sizeof(source));
    text = pack(sizeof(source), BLOCK);
    assert_in_range(text, 1, sizeof(source) / 50);
    fill_noise(source, sizeof(source), 1234567);
    noise = pack(sizeof(source), BLOCK);
    assert_in_range(noise, sizeof(source), sizeof(source) + sizeof(source) / 1000);
    fill_text(source, sizeof(source) / 2);
    both = pack(sizeof(source), BLOCK);
    assert_same(both, sizeof(source));
    assert_in_range(both, sizeof(source) / 2, sizeof(source) / 2 + text + 4096);
}

static void the_same_bytes_give_the_same_stream(void **state)
{
    static unsigned char first[sizeof(packed)];
    size_t len;

    (void)state;
    fill_text(source, sizeof(source));
    fill_noise(source + 3 * BLOCK, 2 * BLOCK, 99);
    len = pack(sizeof(source), BLOCK);
    memcpy(first, packed, len);
    assert_int_equal(pack(sizeof(source), BLOCK), len);
    assert_memory_equal(first, packed, len);
}

static void a_full_disk_is_told(void **state)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    gzip_t *g = gzip_open(fd);
    bool good = true;

    (void)state;
    fill_noise(source, sizeof(source), 5);
    for (size_t at = 0; good && at < sizeof(source); at += BLOCK) {
        errno = 0;
        good = gzip_write(g, source + at, BLOCK);
    }
    assert_false(good);
    assert_int_equal(errno, ENOSPC);
    gzip_free(g);
    g = gzip_open(fd);
    assert_true(gzip_write(g, "x", 1));
    assert_false(gzip_end(g));
    assert_int_equal(errno, ENOSPC);
    gzip_free(g);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_out_is_what_went_in),
        cmocka_unit_test(text_is_packed_and_noise_is_stored),
        cmocka_unit_test(the_same_bytes_give_the_same_stream),
        cmocka_unit_test(a_full_disk_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
