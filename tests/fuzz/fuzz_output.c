/*
 * fuzz_output.c - a run's output: any bytes as output.json or as the tail of stdout.
 * What is accepted is one JSON value (of the tail: one object) no longer than what it
 * was made of; what is refused is refused with a sentence.
 *
 * The first byte picks the way; an odd one makes it a file.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../libskillbox/jsontext.h"
#include "../../sandbox-helper/output.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/fuzz-output.XXXXXX";

static void remove_folder(void)
{
    rmdir(folder);
}

static int open_folder(void)
{
    static int fd = -1;

    if (fd < 0) {
        assert(mkdtemp(folder) != NULL);
        atexit(remove_folder);
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(fd >= 0);
    }
    return fd;
}

static void check(const output_t *o, bool tail, size_t size)
{
    sb_buf_t again = SB_BUF_INIT(o->json.len);
    sb_json_error_t at;

    if (o->state == OUTPUT_BAD) {
        assert(!tail && o->error[0] != '\0' && sb_utf8_valid(o->error, strlen(o->error)));
        return;
    }
    assert(o->error[0] == '\0' && (tail || o->state == OUTPUT_JSON));
    if (o->state == OUTPUT_NONE) {
        assert(o->json.len == 0);
        return;
    }
    assert(o->json.len > 0 && o->json.len <= size && (!tail || o->json.data[0] == '{'));
    assert(sb_json_compact(o->json.data, o->json.len, &again, &at) && again.len == o->json.len);
    sb_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int dir = open_folder(), fd;
    output_t o;

    if (size == 0) {
        return 0;
    }
    bool tail = (data[0] & 1) == 0;
    if (tail) {
        fd = memfd_create("tail", MFD_CLOEXEC);
    } else {
        fd = openat(dir, "output.json", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    assert(fd >= 0 && write(fd, data + 1, size - 1) == (ssize_t)size - 1);
    output_read(dir, tail ? fd : -1, &o);
    check(&o, tail, size - 1);
    sb_buf_free(&o.json);
    close(fd);
    if (!tail) {
        unlinkat(dir, "output.json", 0);
    }
    return 0;
}
