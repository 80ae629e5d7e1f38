/*
 * fuzz_job.c - the job JSON of a run and the files in it.  What is accepted keeps the
 * limits of limits.h, and its files lie below the folder that they were meant for, with
 * the content that another decoder of base64 finds in them.
 */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "../../libskillbox/names.h"
#include "../../sandbox-helper/jobfile.h"
#include "../../sandbox-helper/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/fuzz-job.XXXXXX";

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return ftw->level > 0 ? remove(path) : 0;
}

static void empty_folder(void)
{
    assert(nftw(folder, remove_one, 16, FTW_PHYS | FTW_DEPTH | FTW_MOUNT) == 0);
}

static void remove_folder(void)
{
    empty_folder();
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

static void check_strings(const job_t *job)
{
    const char *name;
    json_t *value;

    assert(json_array_size(job->args) <= SB_ARGS_MAX && json_object_size(job->env) <= SB_ENV_MAX);
    for (size_t i = 0; i < json_array_size(job->args); i++) {
        value = json_array_get(job->args, i);
        assert(strlen(json_string_value(value)) == json_string_length(value));
    }
    json_object_foreach(job->env, name, value)
    {
        assert(sb_env_name_allowed(name, strlen(name)));
        assert(strlen(json_string_value(value)) == json_string_length(value));
    }
}

static void check_file(int dir, const char *name, const json_t *value)
{
    size_t len = json_string_length(value), pad = 0;
    const char *text = json_string_value(value);
    unsigned char *expected = malloc(len + 4), *got = malloc(len + 4);
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    assert(expected != NULL && got != NULL && fd >= 0 && fstat(fd, &st) == 0);
    assert(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0644);
    assert(st.st_mtim.tv_sec == STAGE_WORK_MTIME_SEC &&
           st.st_mtim.tv_nsec == STAGE_WORK_MTIME_NSEC);
    int n = len > 0 ? EVP_DecodeBlock(expected, (const unsigned char *)text, (int)len) : 0;
    while (pad < 2 && pad < len && text[len - 1 - pad] == '=') {
        pad++;
    }
    assert(n >= 0 && st.st_size == n - (off_t)pad);
    assert(pread(fd, got, len, 0) == st.st_size);
    assert(memcmp(got, expected, (size_t)st.st_size) == 0);
    close(fd);
    free(expected);
    free(got);
}

/* Contents are taken from the job's own start, as far as it reaches. */
static void check_inputs(const job_t *job, int dir, int fd)
{
    char text[JOB_TEXT] = "";

    assert(json_array_size(job->inputs) <= SB_INPUT_FILES_MAX);
    if (job_write_inputs(job, dir, fd, 0, text) != 0) {
        assert(text[0] != '\0');
    }
}

static void check_files(const job_t *job, int dir)
{
    char text[JOB_TEXT] = "";
    const char *name;
    json_t *value;

    assert(json_object_size(job->files) <= SB_JOB_FILES_MAX);
    if (job_write_files(job, dir, text) != 0) {
        return; /* bad base64, or a file where a folder has to be */
    }
    json_object_foreach(job->files, name, value)
    {
        check_file(dir, name, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int dir = open_folder(), fd = memfd_create("job", MFD_CLOEXEC);
    char text[JOB_TEXT];
    job_t job;

    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (job_load(fd, size, &job, text) == 0) {
        check_strings(&job);
        if (job.files != NULL) {
            check_files(&job, dir);
            empty_folder();
        }
        if (job.inputs != NULL) {
            check_inputs(&job, dir, fd);
            empty_folder();
        }
    } else {
        assert(text[0] != '\0');
    }
    json_decref(job.root);
    close(fd);
    return 0;
}
