/*
 * job_plain.c - the result of a run that left nothing to read: no output.json, no artifact, no JSON
 * at the end of stdout.  What then is to be said main knows already, so no collect child is
 * started and thrown away for it.  Runs in the main process; of what the script made it sees the
 * kernel's list of two folders and the last byte of stdout that is not blank.
 */
#include "job_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "result.h"
#include "sys.h"

#define NAMES_SIZE 256 /* "." and "..", a short name, and room to see that there are more */
#define LOOK_BACK  64  /* bytes of stdout */

typedef struct {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
} entry_t; /* struct linux_dirent64, getdents64(2) */

static bool listed(const char *name, const char *allowed)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           (allowed != NULL && strcmp(name, allowed) == 0);
}

/* Nobody can change it any more.  Whatever is odd there is for the collect child. */
static bool holds_only(int dirfd, const char *name, const char *allowed)
{
    char entries[NAMES_SIZE] __attribute__((aligned(8)));
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    long n, more = -1;
    bool only = false;

    if (fd < 0)
        return false;
    n = syscall(SYS_getdents64, fd, entries, sizeof entries);
    if (n > 0) {
        char rest[NAMES_SIZE] __attribute__((aligned(8)));

        more = syscall(SYS_getdents64, fd, rest, sizeof rest);
        only = more == 0;
    }
    close(fd);
    for (long at = 0; only && at < n;) {
        const entry_t *e = (const entry_t *)(const void *)(entries + at);

        only = listed(e->name, allowed);
        at += e->reclen;
    }
    return only;
}

bool job_left_no_files(const job_t *job)
{
    return job->req.mode == STAGE_ENTRYPOINT && holds_only(job->out_dir, "files", NULL);
}

/* Is the last line no JSON object, whatever it is? */
static bool ends_without_json(const ring_t *out)
{
    const char *piece[2];
    size_t len[2], looked = 0;

    ring_pieces(out, piece, len);
    for (int i = 1; i >= 0; i--) {
        for (size_t at = len[i]; at > 0; at--) {
            const char c = piece[i][at - 1];

            if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
                return c != '}';
            if (++looked == LOOK_BACK)
                return false;
        }
    }
    return true;
}

bool job_left_nothing(const job_t *job)
{
    return job_left_no_files(job) && holds_only(job->out_dir, ".", "files") &&
           ends_without_json(&job->log.out);
}

sb_code_t job_plain_result(job_t *job, const collect_task_t *task, sb_err_t *err)
{
    const output_t none = {.state = OUTPUT_NONE};
    const artifacts_t no_files = {0};
    sb_buf_t result = SB_BUF_INIT(SB_RESULT_MAX);
    warnings_t warnings;
    sb_code_t rc = SB_OK;
    bool failed;

    warnings_init(&warnings);
    result_render(task, &none, &no_files, &warnings, &result, &failed);
    if (job->answer_fd < 0)
        job->answer_fd = memfd_create("answer", MFD_CLOEXEC);
    if (!sb_buf_ok(&result))
        rc = sb_err_errno(err, ENOMEM, "the result");
    else if (job->answer_fd < 0 || sys_write_all(job->answer_fd, result.data, result.len) != 0)
        rc = sb_err_errno(err, errno, "the result");
    job->report = (packer_report_t){
        .magic = STAGE_MAGIC, .http_status = 200, .failed = failed, .answer_len = result.len};
    sb_buf_free(&result);
    sb_buf_free(&warnings.json);
    return rc;
}
