/*
 * read_child.c - see read_child.h.  Runs as pid 1 of its own pid namespace in the
 * packer's empty root.  Holds three descriptors: status socket, the package's tree
 * (read), the answer file.  The tree was checked when it was unpacked and is
 * read-only since, but its bytes are still a stranger's: names are judged again,
 * links are never followed, every size is bounded.  It ends by _exit(2).
 */
#include "read_child.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "../libskillbox/buf.h"
#include "../libskillbox/err.h"
#include "../libskillbox/package.h"
#include "../libskillbox/package_build.h"
#include "../libskillbox/protocol.h"
#include "confine.h"
#include "landlock.h"
#include "sys.h"

#define READ_FDS 3

/* An escaped text may have six times its bytes. */
#define ENTRY_ROOM (6 * SB_FILES_FILE_MAX + 64 * SB_KIB)

typedef struct {
    int status, tree, answer;
    const stage_request_t *request;
    sb_cursor_t cursor;
    sb_buf_t out, entry, content;
    packer_report_t report;
} read_t;

static void __attribute__((noreturn)) finish(read_t *rd)
{
    rd->report.magic = STAGE_MAGIC;
    _exit(sys_send_fds(rd->status, &rd->report, sizeof(rd->report), NULL, 0) == 0 ? 0 : 1);
}

static void __attribute__((noreturn)) broken(read_t *rd, const char *what, int err)
{
    rd->report.http_status = 500;
    rd->report.answer_len = 0;
    snprintf(rd->report.text, sizeof(rd->report.text), "%s: %s", what, strerror(err));
    finish(rd);
}

static void confine(read_t *rd, const int *given, int ngiven)
{
    const char *step = "landlock";
    int fds[READ_FDS];

    if (ngiven != READ_FDS) {
        _exit(125); /* main and packer do not speak the same words */
    }
    memcpy(fds, given, sizeof(fds));
    rd->status = given[0];
    if (confine_child(PACKER_READ, fds, READ_FDS, &step) != 0) {
        rd->status = fds[0]; /* it has moved */
        broken(rd, step, errno);
    }
    rd->status = fds[0];
    rd->tree = fds[1];
    rd->answer = fds[2];
    if (confine_paths(&rd->tree, 1, LL_READ) != 0) {
        broken(rd, "landlock", errno);
    }
    if (confine_syscalls(PACKER_READ) != 0) {
        broken(rd, "seccomp", errno);
    }
}

static void answer(read_t *rd, int status, const sb_buf_t *b)
{
    if (!sb_buf_ok(b)) {
        broken(rd, "answer", ENOMEM);
    }
    if (sys_write_all(rd->answer, b->data, b->len) != 0) {
        broken(rd, "answer file", errno);
    }
    rd->report.http_status = status;
    rd->report.answer_len = b->len;
}

static void refuse(read_t *rd, sb_code_t code, const char *message)
{
    sb_buf_t b = SB_BUF_INIT(4096);

    sb_buf_char(&b, '{');
    sb_json_key_str(&b, "error", sb_code_slug(code));
    sb_json_key_str(&b, "message", message);
    sb_buf_char(&b, '}');
    answer(rd, sb_code_status(code), &b);
    sb_buf_free(&b);
}

/* The file's bytes into rd->content; false: over SB_FILES_FILE_MAX. */
static bool load(read_t *rd, const char *path)
{
    char chunk[64 * 1024];
    sb_err_t err = {.sys_errno = EIO};
    int fd;

    sb_buf_clear(&rd->content);
    if (sb_fs_open(&rd->cursor, path, &fd, &err) != SB_OK) {
        broken(rd, "opening a file", err.sys_errno);
    }
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            broken(rd, "reading a file", errno);
        }
        if (n == 0 || !sb_buf_ok(&rd->content)) {
            break;
        }
        sb_buf_add(&rd->content, chunk, (size_t)n);
    }
    close(fd);
    return sb_buf_ok(&rd->content);
}

/* Text is UTF-8 without NULs. */
static bool is_text(const sb_buf_t *b)
{
    return b->len == 0 || (memchr(b->data, '\0', b->len) == NULL && sb_utf8_valid(b->data, b->len));
}

static void add_base64(read_t *rd, sb_buf_t *out)
{
    const unsigned char *data = (const unsigned char *)rd->content.data;
    unsigned char text[4 * 1024 + 1];

    sb_buf_char(out, '"');
    for (size_t at = 0; at < rd->content.len; at += 3 * 1024) {
        size_t n = rd->content.len - at < 3 * 1024 ? rd->content.len - at : 3 * 1024;
        int len = EVP_EncodeBlock(text, data + at, (int)n);
        sb_buf_add(out, text, (size_t)len);
    }
    sb_buf_char(out, '"');
}

static void begin_entry(sb_buf_t *e, const sb_package_file_t *f)
{
    sb_buf_clear(e);
    sb_buf_char(e, '{');
    sb_json_key_str(e, "path", f->path);
}

static void end_entry(sb_buf_t *e, const sb_package_file_t *f)
{
    sb_json_key_int(e, "size_bytes", f->size);
    if (f->link != NULL) {
        sb_json_key_str(e, "link", f->link);
    }
}

static void render_whole(read_t *rd, const sb_package_file_t *f)
{
    sb_buf_t *e = &rd->entry;
    bool text = is_text(&rd->content);

    begin_entry(e, f);
    sb_json_key(e, "content");
    if (text) {
        sb_json_str(e, rd->content.data != NULL ? rd->content.data : "", rd->content.len);
    } else {
        add_base64(rd, e);
    }
    end_entry(e, f);
    if (!text) {
        sb_json_key_str(e, "encoding", "base64");
    }
    sb_buf_char(e, '}');
}

static void render_cut(read_t *rd, const sb_package_file_t *f)
{
    begin_entry(&rd->entry, f);
    sb_json_key_str(&rd->entry, "content", "");
    end_entry(&rd->entry, f);
    sb_json_key_bool(&rd->entry, "truncated", true);
    sb_buf_char(&rd->entry, '}');
}

/* Appends one file; without its content when that is too much. */
static void add_file(read_t *rd, const sb_package_file_t *f)
{
    bool whole = true;

    sb_buf_clear(&rd->content);
    if (f->link == NULL) {
        whole = f->size <= SB_FILES_FILE_MAX && load(rd, f->path);
    }
    if (whole) {
        render_whole(rd, f);
        whole = sb_buf_ok(&rd->entry) && rd->out.len + rd->entry.len <= SB_FILES_MAX;
    }
    if (!whole) {
        render_cut(rd, f);
    }
    if (rd->out.len > 1) {
        sb_buf_char(&rd->out, ',');
    }
    sb_buf_add(&rd->out, rd->entry.data, rd->entry.len);
}

/* True when it is the wanted one, or all are. */
static bool wanted(const read_t *rd, const sb_package_file_t *f)
{
    return rd->request->target[0] == '\0' || strcmp(rd->request->target, f->path) == 0;
}

static void read_files(read_t *rd)
{
    static sb_package_t p;
    sb_err_t err = {.code = SB_OK};
    sb_code_t rc = sb_package_scan_dir(rd->tree, NULL, &p, &err);
    size_t found = 0;

    if (rc != SB_OK && rc != SB_ESKILL) { /* rules may have become stricter since the upload */
        broken(rd, err.message, err.sys_errno);
    }
    sb_buf_char(&rd->out, '[');
    for (size_t i = 0; i < p.nfiles; i++) {
        const sb_package_file_t *f = &p.files[i];
        if (!wanted(rd, f)) {
            continue;
        }
        found++;
        if (rd->request->target[0] != '\0' && f->size > SB_FILES_FILE_MAX) {
            refuse(rd, SB_ETOOLARGE, "The file is too large to be shown.");
            return;
        }
        add_file(rd, f);
    }
    sb_buf_char(&rd->out, ']');
    if (found == 0 && rd->request->target[0] != '\0') {
        refuse(rd, SB_ENOTFOUND, "The package has no such file.");
        return;
    }
    answer(rd, 200, &rd->out);
}

void read_child(const stage_request_t *request, const int *fds, int nfds)
{
    static read_t rd; /* static: zero, and off the stack */

    rd.request = request;
    confine(&rd, fds, nfds);
    sb_buf_init(&rd.out, SB_RESULT_MAX);
    sb_buf_init(&rd.entry, ENTRY_ROOM);
    sb_buf_init(&rd.content, SB_FILES_FILE_MAX);
    sb_cursor_init(&rd.cursor, rd.tree);
    read_files(&rd);
    finish(&rd);
}
