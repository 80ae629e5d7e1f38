/*
 * warmup.c - see warmup.h.  Runs once in the nursery, over data of our own making;
 * reads what the libraries read (locale, OpenSSL's configuration, /dev/urandom).
 */
#include "warmup.h"

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>

#include "../libskillbox/package.h"
#include "../libskillbox/scan.h"
#include "tarball.h"

/* A name beyond ASCII, so that the conversions of names are set up too. */
static const char skill_md[] =
    "---\nname: warm-up\ndescription: W\xc3\xa4rme.\nversion: 1.0.0\n---\n";

static size_t make_package(void *zip, size_t size)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t used = 0;
    bool good = false;

    if (a != NULL && entry != NULL) {
        archive_entry_set_pathname(entry, "w\xc3\xa4rm/SKILL.md");
        archive_entry_set_mode(entry, AE_IFREG | 0644);
        archive_entry_set_size(entry, (la_int64_t)strlen(skill_md));
        good = archive_write_set_format_zip(a) == ARCHIVE_OK &&
               archive_write_open_memory(a, zip, size, &used) == ARCHIVE_OK &&
               archive_write_header(a, entry) == ARCHIVE_OK &&
               archive_write_data(a, skill_md, strlen(skill_md)) == (la_ssize_t)strlen(skill_md) &&
               archive_write_close(a) == ARCHIVE_OK;
    }
    archive_entry_free(entry);
    archive_write_free(a);
    return good ? used : 0;
}

static bool warm_up_package(void)
{
    static const sb_package_limits_t limits;
    static char zip[4096];
    sb_package_t package = {0};
    size_t len = make_package(zip, sizeof(zip));
    bool good = len > 0 && sb_package_unpack(zip, len, -1, &limits, &package, NULL) == SB_OK;

    sb_package_free(&package);
    return good;
}

const char *warm_up(void)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        return "locale C.UTF-8";
    }
    /* libarchive converts times; without a zone given libc looks for /etc/localtime each time */
    if (setenv("TZ", "UTC0", 1) != 0) {
        return "time zone";
    }
    tzset();
    json_object_seed(0); /* from /dev/urandom: the order of hash buckets is not for guessing */
    if (!tarball_warm_up()) {
        return "writing archives";
    }
    if (sb_scan_init(NULL) != SB_OK) {
        return "rules of the scan";
    }
    return warm_up_package() ? NULL : "reading packages";
}
