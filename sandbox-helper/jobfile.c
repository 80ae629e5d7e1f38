/*
 * jobfile.c - see jobfile.h.  Runs in the script's process before execve(2), under the
 * script's own filter, limits and Landlock rules: a fault here is worth no more than
 * the script itself.
 */
#include "jobfile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/names.h"
#include "stage.h"
#include "sys.h"

/* The gateway's request is at most SB_INPUT_MAX; escaping can make its job six times as long. */
#define JOB_MAX (6 * SB_INPUT_MAX)

static int __attribute__((format(printf, 2, 3))) bad(char text[JOB_TEXT], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, JOB_TEXT, fmt, ap);
    va_end(ap);
    errno = EBADMSG;
    return -1;
}

/* ---- the JSON ---- */

static json_t *parse(int fd, uint64_t len, char text[JOB_TEXT])
{
    json_error_t error;
    json_t *root;
    char *data;

    if (len > JOB_MAX) {
        bad(text, "the job has more than %lld bytes", (long long)JOB_MAX);
        return NULL;
    }
    data = malloc(len);
    if (data == NULL)
        return NULL;
    if (sys_pread_all(fd, data, len, 0) != 0) {
        free(data);
        return NULL;
    }
    root = json_loadb(data, len, JSON_ALLOW_NUL, &error); /* stdin may hold any byte */
    if (root == NULL)
        bad(text, "the job is not valid JSON: %s", error.text);
    free(data);
    return root;
}

/* *out: the member if it is there; it must have the type then. */
static int take(json_t *root, const char *name, json_type type, json_t **out, char text[JOB_TEXT])
{
    *out = json_object_get(root, name);
    if (*out == NULL || json_typeof(*out) == type)
        return 0;
    return bad(text, "job member \"%s\" has the wrong type", name);
}

/* A string for execve(2): no NUL inside, not longer than one may be. */
static bool passable(const json_t *value, size_t name_len)
{
    return json_is_string(value) && json_string_length(value) + name_len <= SB_ENV_STRING_MAX &&
           strlen(json_string_value(value)) == json_string_length(value);
}

static int check_args(const json_t *args, char text[JOB_TEXT])
{
    if (json_array_size(args) > SB_ARGS_MAX)
        return bad(text, "more than %d arguments", SB_ARGS_MAX);
    for (size_t i = 0; i < json_array_size(args); i++)
        if (!passable(json_array_get(args, i), 0))
            return bad(text, "args[%zu] is not a string of at most %lld bytes without NUL", i,
                       (long long)SB_ENV_STRING_MAX);
    return 0;
}

static int check_env(json_t *env, char text[JOB_TEXT])
{
    const char *name;
    json_t *value;

    if (json_object_size(env) > SB_ENV_MAX)
        return bad(text, "more than %d environment variables", SB_ENV_MAX);
    json_object_foreach(env, name, value)
    {
        if (!sb_env_name_allowed(name, strlen(name)))
            return bad(text, "environment name \"%.64s\" is not allowed", name);
        if (!passable(value, strlen(name) + 1))
            return bad(text, "env \"%.64s\" is not a string of at most %lld bytes without NUL",
                       name, (long long)SB_ENV_STRING_MAX);
    }
    return 0;
}

static int check_files(json_t *files, char text[JOB_TEXT])
{
    const char *name;
    json_t *value;

    if (json_object_size(files) > SB_JOB_FILES_MAX)
        return bad(text, "more than %d files", SB_JOB_FILES_MAX);
    json_object_foreach(files, name, value)
    {
        if (!sb_path_valid(name, strlen(name)))
            return bad(text, "file name \"%.64s\" is not allowed", name);
        if (!json_is_string(value))
            return bad(text, "file \"%.64s\" is not a string", name);
    }
    return 0;
}

static int check_inputs(const json_t *inputs, char text[JOB_TEXT])
{
    json_int_t left = SB_INPUT_FILES_BYTES_MAX;

    if (json_array_size(inputs) > SB_INPUT_FILES_MAX)
        return bad(text, "more than %d input files", SB_INPUT_FILES_MAX);
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        const json_t *input = json_array_get(inputs, i), *path = json_object_get(input, "path");
        const json_t *size = json_object_get(input, "size");

        if (!json_is_string(path) ||
            !sb_path_valid(json_string_value(path), json_string_length(path)))
            return bad(text, "input_files[%zu] has no path", i);
        if (!json_is_integer(size) || json_integer_value(size) < 0 ||
            json_integer_value(size) > left)
            return bad(text, "input file \"%.64s\" has no size", json_string_value(path));
        left -= json_integer_value(size);
    }
    return 0;
}

/* Most runs have nothing but input; touching jansson costs a new process forty page faults. */
static bool is_empty(int fd, uint64_t len)
{
    char braces[2];

    return len == 0 ||
           (len == 2 && sys_pread_all(fd, braces, 2, 0) == 0 && memcmp(braces, "{}", 2) == 0);
}

int job_load(int fd, uint64_t len, job_t *job, char text[JOB_TEXT])
{
    text[0] = '\0';
    memset(job, 0, sizeof(*job));
    if (is_empty(fd, len))
        return 0;
    job->root = parse(fd, len, text);
    if (job->root == NULL)
        return -1;
    if (!json_is_object(job->root))
        return bad(text, "the job is not a JSON object");
    if (take(job->root, "args", JSON_ARRAY, &job->args, text) != 0 ||
        take(job->root, "env", JSON_OBJECT, &job->env, text) != 0 ||
        take(job->root, "files", JSON_OBJECT, &job->files, text) != 0 ||
        take(job->root, "stdin", JSON_STRING, &job->stdin_text, text) != 0 ||
        take(job->root, "input_files", JSON_ARRAY, &job->inputs, text) != 0)
        return -1;
    if (check_args(job->args, text) != 0 || check_env(job->env, text) != 0)
        return -1;
    return check_files(job->files, text) == 0 ? check_inputs(job->inputs, text) : -1;
}

/* ---- the files ---- */

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/*
 * RFC 4648 section 4, with padding, without line breaks.  out has room for len / 4 * 3
 * bytes; the number decoded, or -1.
 */
static ssize_t base64_decode(const char *in, size_t len, unsigned char *out)
{
    size_t pad = 0, n = 0;

    if (len % 4 != 0)
        return -1;
    while (pad < 2 && pad < len && in[len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < len; i += 4) {
        size_t digits = i + 4 == len ? 4 - pad : 4;
        uint32_t bits = 0;

        for (size_t k = 0; k < 4; k++) {
            int v = k < digits ? base64_value((unsigned char)in[i + k]) : 0;

            if (v < 0)
                return -1;
            bits = bits << 6 | (uint32_t)v;
        }
        for (size_t k = 0; k + 1 < digits; k++)
            out[n++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    return (ssize_t)n;
}

/* The folder has nothing but what this process made: no link can be in the way. */
static int make_parents(int dirfd, const char *name)
{
    char part[SB_PATH_MAX + 1];

    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
        if (mkdirat(dirfd, part, 0755) != 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

static int make_file(int dirfd, const char *name)
{
    if (make_parents(dirfd, name) != 0)
        return -1;
    return openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

/* Closes it; rc: of the writing. */
static int end_file(int fd, int rc)
{
    const struct timespec mtime = {STAGE_WORK_MTIME_SEC, STAGE_WORK_MTIME_NSEC};
    const struct timespec times[2] = {mtime, mtime};
    int err;

    if (rc == 0)
        rc = futimens(fd, times);
    err = errno;
    close(fd);
    errno = err;
    return rc;
}

static int write_file(int dirfd, const char *name, const void *data, size_t len)
{
    int fd = make_file(dirfd, name);

    return fd < 0 ? -1 : end_file(fd, sys_write_all(fd, data, len));
}

static int write_decoded(int dirfd, const char *name, const json_t *value, char text[JOB_TEXT])
{
    size_t len = json_string_length(value);
    unsigned char *data = malloc(len / 4 * 3 + 1);
    ssize_t n;
    int rc;

    if (data == NULL)
        return -1;
    n = base64_decode(json_string_value(value), len, data);
    if (n < 0) {
        rc = bad(text, "file \"%.64s\" is not valid base64", name);
    } else {
        rc = write_file(dirfd, name, data, (size_t)n);
        if (rc != 0)
            snprintf(text, JOB_TEXT, "file \"%.64s\" can't be written", name);
    }
    free(data);
    return rc;
}

int job_write_files(const job_t *job, int dirfd, char text[JOB_TEXT])
{
    const char *name;
    json_t *value;

    json_object_foreach(job->files, name, value)
    {
        if (write_decoded(dirfd, name, value, text) != 0)
            return -1;
    }
    return 0;
}

static int copy_piece(int from, uint64_t at, uint64_t len, int to)
{
    static char chunk[64 * 1024];

    while (len > 0) {
        size_t n = len < sizeof(chunk) ? (size_t)len : sizeof(chunk);

        if (sys_pread_all(from, chunk, n, (off_t)at) != 0 || sys_write_all(to, chunk, n) != 0)
            return -1;
        at += n;
        len -= n;
    }
    return 0;
}

int job_write_inputs(const job_t *job, int dirfd, int fd, uint64_t at, char text[JOB_TEXT])
{
    for (size_t i = 0; i < json_array_size(job->inputs); i++) {
        const json_t *input = json_array_get(job->inputs, i);
        const char *name = json_string_value(json_object_get(input, "path"));
        uint64_t size = (uint64_t)json_integer_value(json_object_get(input, "size"));
        int to = make_file(dirfd, name);

        if (to < 0 || end_file(to, copy_piece(fd, at, size, to)) != 0) {
            snprintf(text, JOB_TEXT, "input file \"%.64s\" can't be written", name);
            return -1;
        }
        at += size;
    }
    return 0;
}
