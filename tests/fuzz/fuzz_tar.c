/*
 * fuzz_tar.c - the artifact archive: names, sizes, modes and times that a script may
 * choose, written by tarball.c and read back by a reader of its own (gzip by zlib, tar
 * by the POSIX text), which shares no line with the writer.
 *
 * An input is a list of files: flags, a name, a time, how large the file is and by how
 * much it turns out shorter or longer than it was when it was looked at.
 */
#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <zlib.h>

#include "../../libskillbox/limits.h"
#include "../../libskillbox/names.h"
#include "../../sandbox-helper/tarball.h"
#include "taker.h"

#define FILES_MAX 16
#define BLOCK     512
#define TAR_MAX   (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t begun; /* when the archive was: a later time is cut to that of packing */

typedef struct {
    int64_t claimed; /* what fstat said */
    int64_t real;    /* what can be read */
    int64_t mtime;
    mode_t mode;
    uint8_t fill;
    char name[SB_PATH_MAX + 1];
} file_t;

/* ---- the reader ---- */

typedef struct {
    const unsigned char *at, *end;
} tar_t;

/* What a pax header says, which the plain one can't; NULL and -1: nothing. */
typedef struct {
    char path[SB_PATH_MAX + 1];
    int64_t size;
} pax_t;

static int64_t octal(const unsigned char *field, size_t len)
{
    int64_t n = 0;
    size_t i = 0;

    while (i < len && field[i] == ' ') {
        i++;
    }
    for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
        n = n * 8 + (field[i] - '0');
    }
    assert(i == len || field[i] == ' ' || field[i] == '\0');
    return n;
}

static void check_sum(const unsigned char *header)
{
    int64_t sum = 0;

    for (size_t i = 0; i < BLOCK; i++) {
        sum += i >= 148 && i < 156 ? ' ' : header[i];
    }
    assert(sum == octal(header + 148, 8));
}

/* "<length> <key>=<value>\n", one after the other. */
static void read_pax(const unsigned char *at, size_t len, pax_t *pax)
{
    while (len > 0) {
        char *rest;
        char number[8] = "";
        memcpy(number, at, len < 7 ? len : 7);
        size_t record = strtoul(number, &rest, 10);
        size_t head = (size_t)(rest - number) + 1;
        assert(*rest == ' ' && record > head && record <= len && at[record - 1] == '\n');
        const unsigned char *key = at + head;
        const unsigned char *value = memchr(key, '=', record - head);
        assert(value != NULL);
        size_t key_len = (size_t)(value - key), value_len = (size_t)(at + record - 1 - ++value);
        if (key_len == 4 && memcmp(key, "path", 4) == 0) {
            assert(value_len <= SB_PATH_MAX);
            memcpy(pax->path, value, value_len);
            pax->path[value_len] = '\0';
        }
        /* nothing else is needed to say what our files are */
        assert((key_len == 4 && memcmp(key, "path", 4) == 0) ||
               (key_len == 10 && memcmp(key, "hdrcharset", 10) == 0));
        at += record;
        len -= record;
    }
}

static void plain_name(const unsigned char *h, char *name)
{
    size_t prefix = strnlen((const char *)h + 345, 155), len = strnlen((const char *)h, 100);

    snprintf(name, SB_PATH_MAX + 1, "%.*s%s%.*s", (int)prefix, (const char *)h + 345,
             prefix > 0 ? "/" : "", (int)len, (const char *)h);
}

static const unsigned char *take_blocks(tar_t *t, int64_t bytes)
{
    const unsigned char *taken = t->at;
    int64_t whole = (bytes + BLOCK - 1) / BLOCK * BLOCK;

    assert(bytes >= 0 && whole <= t->end - t->at);
    t->at += whole;
    return taken;
}

static const unsigned char *read_header(tar_t *t, char *name, int64_t *size)
{
    pax_t pax = {"", -1};

    for (;;) {
        const unsigned char *h = take_blocks(t, BLOCK);
        assert(memcmp(h + 257,
                      "ustar\0"
                      "00",
                      8) == 0);
        check_sum(h);
        *size = octal(h + 124, 12);
        if (h[156] == 'x') {
            read_pax(take_blocks(t, *size), (size_t)*size, &pax);
            continue;
        }
        assert(h[156] == '0' && octal(h + 108, 8) == 0 && octal(h + 116, 8) == 0);
        if (pax.path[0] != '\0') {
            strcpy(name, pax.path);
        } else {
            plain_name(h, name);
        }
        return h;
    }
}

/* Not time(2): its clock lags behind by a tick. */
static int64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec;
}

static int64_t sane(int64_t mtime)
{
    return mtime < 0 ? 0 : mtime;
}

static void check_file(tar_t *t, const file_t *f)
{
    char name[SB_PATH_MAX + 1];
    int64_t size;
    const unsigned char *h = read_header(t, name, &size);
    int64_t mtime = octal(h + 136, 12);

    assert(strcmp(name, f->name) == 0 && size == f->claimed);
    assert(octal(h + 100, 8) == (f->mode & 0100 ? 0755 : 0644));
    assert(mtime <= now() && (mtime == sane(f->mtime) || f->mtime > begun));
    const unsigned char *content = take_blocks(t, size);
    for (int64_t i = 0; i < size; i++) {
        assert(content[i] == (i < f->real ? f->fill : 0));
    }
}

static unsigned char *unzip(int fd, size_t *len)
{
    off_t packed = lseek(fd, 0, SEEK_END);
    unsigned char *in = malloc((size_t)packed + 1), *out = malloc(TAR_MAX);
    z_stream z = {0};

    assert(in != NULL && out != NULL && pread(fd, in, (size_t)packed, 0) == packed);
    assert(inflateInit2(&z, 16 + MAX_WBITS) == Z_OK);
    z.next_in = in;
    z.avail_in = (unsigned)packed;
    z.next_out = out;
    z.avail_out = TAR_MAX;
    assert(inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_in == 0);
    *len = TAR_MAX - z.avail_out;
    inflateEnd(&z);
    free(in);
    return out;
}

static void check_archive(int fd, const file_t *files, size_t n)
{
    size_t len;
    unsigned char *tar = unzip(fd, &len);
    tar_t t = {tar, tar + len};

    for (size_t i = 0; i < n; i++) {
        check_file(&t, &files[i]);
    }
    assert(t.end - t.at >= 2L * BLOCK);
    while (t.at < t.end) {
        assert(*t.at++ == 0);
    }
    free(tar);
}

/* ---- the writer ---- */

/* What a script can have chosen: names are judged before (sb_path_valid), the rest is free. */
static bool take_file(taker_t *t, file_t *f)
{
    unsigned flags = (unsigned)take_number(t, 1);
    size_t len, folder = flags & 0x80 ? 200 : 0;
    const uint8_t *name = take_bytes(t, &len);

    memset(f, 0, sizeof(*f));
    memset(f->name, 'd', folder);
    if (folder > 0) {
        f->name[folder - 1] = '/';
    }
    memcpy(f->name + folder, name, len);
    f->mode = S_IFREG | (flags & 1 ? 0755 : 0644) | (flags & 2 ? S_ISUID | S_ISGID : 0);
    f->fill = flags & 4 ? 0xff : 'x';
    f->mtime = (int64_t)take_number(t, 8);
    f->real = (int64_t)take_number(t, 2);
    f->claimed = f->real;
    if (flags & 8) {
        f->real -= f->real < 777 ? f->real : 777; /* shrank */
    } else if (flags & 16) {
        f->real += 777; /* grew */
    }
    return strlen(f->name) == folder + len && sb_path_valid(f->name, folder + len);
}

static void add(tarball_t *t, const file_t *f)
{
    struct stat st = {.st_mode = f->mode, .st_size = f->claimed, .st_mtim.tv_sec = f->mtime};
    int fd = memfd_create("file", MFD_CLOEXEC);
    off_t short_by;
    char *content = malloc((size_t)f->real + 1);

    assert(fd >= 0 && content != NULL);
    memset(content, f->fill, (size_t)f->real);
    assert(write(fd, content, (size_t)f->real) == f->real);
    assert(tarball_add(t, f->name, fd, &st, &short_by));
    assert(short_by == (f->real < f->claimed ? f->claimed - f->real : 0));
    free(content);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static file_t files[FILES_MAX];
    taker_t input = {data, size};
    size_t n = 0;
    tarball_t tar;

    assert(setlocale(LC_CTYPE, "C.UTF-8") != NULL); /* as warmup.c does */
    while (input.left > 0 && n < FILES_MAX) {
        n += take_file(&input, &files[n]);
    }
    int fd = memfd_create("archive", MFD_CLOEXEC);
    assert(fd >= 0);
    begun = now();
    tarball_init(&tar, fd);
    for (size_t i = 0; i < n; i++) {
        add(&tar, &files[i]);
    }
    assert(tarball_close(&tar));
    if (n > 0) {
        check_archive(fd, files, n);
    } else {
        assert(lseek(fd, 0, SEEK_END) == 0); /* no file, no archive */
    }
    close(fd);
    return 0;
}
