/*
 * extract_child.c - see extract_child.h.  Runs as pid 1 of its own pid namespace in the
 * packer's empty root.  Holds four descriptors: status socket, the archive (read), the
 * file to be written, the answer file.  A collect child made the archive, but of a script's
 * names and bytes: it is read like any stranger's, confined, with every size bounded.
 * It ends by _exit(2).
 */
#include "extract_child.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "confine.h"
#include "landlock.h"
#include "sys.h"

#define EXTRACT_FDS 4
#define ANSWER_MAX  4096
#define BLOCK       (64 * 1024)

typedef struct {
    int status, archive, out, answer;
    const stage_request_t *request;
    packer_report_t report;
} extract_t;

static void __attribute__((noreturn)) finish(extract_t *x)
{
    x->report.magic = STAGE_MAGIC;
    _exit(sys_send_fds(x->status, &x->report, sizeof(x->report), NULL, 0) == 0 ? 0 : 1);
}

static void __attribute__((noreturn)) broken(extract_t *x, const char *what, const char *why)
{
    x->report.http_status = 500;
    x->report.answer_len = 0;
    snprintf(x->report.text, sizeof(x->report.text), "%s: %s", what, why);
    finish(x);
}

static void confine(extract_t *x, const int *given, int ngiven)
{
    const char *step = "landlock";
    int fds[EXTRACT_FDS];

    if (ngiven != EXTRACT_FDS) {
        _exit(125); /* main and packer do not speak the same words */
    }
    memcpy(fds, given, sizeof(fds));
    x->status = given[0];
    if (confine_child(PACKER_READ, fds, EXTRACT_FDS, &step) != 0) {
        x->status = fds[0]; /* it has moved */
        broken(x, step, strerror(errno));
    }
    x->status = fds[0];
    x->archive = fds[1];
    x->out = fds[2];
    x->answer = fds[3];
    if (confine_paths(NULL, 0, LL_READ) != 0) {
        broken(x, "landlock", strerror(errno));
    }
    if (confine_syscalls(PACKER_READ) != 0) {
        broken(x, "seccomp", strerror(errno));
    }
}

static void answer(extract_t *x, int status, const sb_buf_t *b)
{
    if (!sb_buf_ok(b)) {
        broken(x, "answer", strerror(ENOMEM));
    }
    if (sys_write_all(x->answer, b->data, b->len) != 0) {
        broken(x, "answer file", strerror(errno));
    }
    x->report.http_status = status;
    x->report.answer_len = b->len;
}

static void __attribute__((noreturn)) not_found(extract_t *x)
{
    sb_buf_t b = SB_BUF_INIT(ANSWER_MAX);

    sb_buf_char(&b, '{');
    sb_json_key_str(&b, "error", sb_code_slug(SB_ENOTFOUND));
    sb_json_key_str(&b, "message", "The execution has no such artifact.");
    sb_buf_char(&b, '}');
    answer(x, sb_code_status(SB_ENOTFOUND), &b);
    sb_buf_free(&b);
    finish(x);
}

static struct archive *open_archive(extract_t *x)
{
    struct archive *a = archive_read_new();

    if (a == NULL || archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_open_fd(a, x->archive, BLOCK) != ARCHIVE_OK) {
        broken(x, "opening the archive", a != NULL ? archive_error_string(a) : strerror(ENOMEM));
    }
    return a;
}

/* The wanted regular file's size; what stands before it is decompressed and thrown away. */
static int64_t find(extract_t *x, struct archive *a)
{
    for (int i = 0; i < SB_ARTIFACT_FILES_MAX; i++) {
        struct archive_entry *e;
        const char *name;
        int rc = archive_read_next_header(a, &e);

        if (rc == ARCHIVE_EOF) {
            break;
        }
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
            broken(x, "the archive", archive_error_string(a));
        }
        name = archive_entry_pathname_utf8(e);
        if (archive_entry_filetype(e) == AE_IFREG && name != NULL &&
            strcmp(name, x->request->target) == 0) {
            return archive_entry_size(e);
        }
        if (archive_filter_bytes(a, 0) > 2 * SB_ARTIFACT_BYTES_MAX) {
            broken(x, "the archive", "it unpacks to far too much");
        }
    }
    not_found(x);
}

static void copy(extract_t *x, struct archive *a, int64_t size)
{
    static char block[BLOCK];
    int64_t done = 0;

    if (size < 0 || size > SB_ARTIFACT_BYTES_MAX) {
        broken(x, "the archive", "an impossible size");
    }
    for (;;) {
        la_ssize_t n = archive_read_data(a, block, sizeof(block));
        if (n < 0) {
            broken(x, "the archive", archive_error_string(a));
        }
        if (n == 0) {
            break;
        }
        done += n;
        if (done > size || sys_write_all(x->out, block, (size_t)n) != 0) {
            broken(x, "writing a file", done > size ? "it is too long" : strerror(errno));
        }
    }
    if (done != size) {
        broken(x, "the archive", "a file is too short");
    }
}

void extract_child(const stage_request_t *request, const int *fds, int nfds)
{
    static extract_t x; /* static: zero, and off the stack */
    sb_buf_t b = SB_BUF_INIT(ANSWER_MAX);
    struct archive *a;
    int64_t size;

    x.request = request;
    confine(&x, fds, nfds);
    a = open_archive(&x);
    size = find(&x, a);
    copy(&x, a, size);
    sb_buf_char(&b, '{');
    sb_json_key_int(&b, "size_bytes", size);
    sb_buf_char(&b, '}');
    answer(&x, 200, &b);
    finish(&x);
}
