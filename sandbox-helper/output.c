/*
 * output.c - see output.h.  Runs in the confined collect child over bytes that
 * the script chose; opens output.json below the given folder, nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../libskillbox/jsontext.h"
#include "../libskillbox/limits.h"
#include "../libskillbox/units.h"
#include "beneath.h"
#include "output.h"

#define OUTPUT_NAME "output.json"

static void bad(output_t *o, const char *text)
{
    o->state = OUTPUT_BAD;
    snprintf(o->error, sizeof(o->error), "%s", text);
}

/* Reads exactly size bytes or up to the end of the file; NULL with errno. */
static char *read_all(int fd, size_t size, size_t *len)
{
    char *text = malloc(size + 1);

    *len = 0;
    while (text != NULL && *len < size) {
        ssize_t n = pread(fd, text + *len, size - *len, (off_t)*len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            free(text);
            return NULL;
        }
        if (n == 0) {
            break;
        }
        *len += (size_t)n;
    }
    return text;
}

static void compact(output_t *o, const char *text, size_t len)
{
    sb_json_error_t at;

    if (len == 0) {
        bad(o, OUTPUT_NAME " is not valid JSON: it is empty");
        return;
    }
    if (!sb_json_compact(text, len, &o->json, &at)) {
        o->state = OUTPUT_BAD;
        snprintf(o->error, sizeof(o->error),
                 OUTPUT_NAME " is not valid JSON: line %zu, column %zu: %s", at.line, at.column,
                 at.what);
        return;
    }
    /* a lone surrogate's escape is replaced by one of the same length: it never grows */
    o->state = OUTPUT_JSON;
    if (!sb_buf_ok(&o->json)) {
        bad(o, OUTPUT_NAME " could not be read: out of memory");
    }
}

static void read_file(output_t *o, int fd, int64_t size)
{
    char *text;
    size_t len;

    if (size > SB_OUTPUT_MAX) {
        char limit[32];

        sb_bytes_format(SB_OUTPUT_MAX, limit);
        o->state = OUTPUT_BAD;
        snprintf(o->error, sizeof(o->error), OUTPUT_NAME " is larger than %s", limit);
        return;
    }
    text = read_all(fd, (size_t)size, &len);
    if (text == NULL) {
        o->state = OUTPUT_BAD;
        snprintf(o->error, sizeof(o->error), OUTPUT_NAME " could not be read: %s", strerror(errno));
        return;
    }
    compact(o, text, len);
    free(text);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/*
 * The last line that is not empty.  A tail that begins in the middle of a line
 * has lost its start: such a line is no object of the script's.
 */
static const char *last_line(const char *text, size_t len, size_t *line_len)
{
    size_t end = len, start;

    while (end > 0 && is_blank(text[end - 1])) {
        end--;
    }
    for (start = end; start > 0 && text[start - 1] != '\n';) {
        start--;
    }
    if (start == 0 && len >= SB_LOG_MAX) {
        return NULL;
    }
    while (start < end && is_blank(text[start])) {
        start++;
    }
    *line_len = end - start;
    return end > start && text[start] == '{' ? text + start : NULL;
}

static void read_tail(output_t *o, int tailfd)
{
    sb_json_error_t at;
    const char *line;
    size_t len, line_len;
    char *text = read_all(tailfd, SB_LOG_MAX, &len);

    if (text == NULL) {
        return;
    }
    line = last_line(text, len, &line_len);
    if (line != NULL && sb_json_compact(line, line_len, &o->json, &at) && sb_buf_ok(&o->json)) {
        o->state = OUTPUT_JSON;
    } else {
        sb_buf_clear(&o->json);
    }
    free(text);
}

void output_read(int outfd, int tailfd, output_t *o)
{
    struct stat st;
    int fd = beneath_open_file(outfd, OUTPUT_NAME, &st);

    o->state = OUTPUT_NONE;
    o->error[0] = '\0';
    sb_buf_init(&o->json, SB_OUTPUT_MAX);
    if (fd >= 0) {
        read_file(o, fd, st.st_size);
        close(fd);
        return;
    }
    if (errno == ENOENT) {
        if (tailfd >= 0) {
            read_tail(o, tailfd);
        }
        return;
    }
    if (errno == ELOOP || errno == EFTYPE_NOT_REGULAR || errno == ENXIO) {
        bad(o, OUTPUT_NAME " is not a regular file");
        return;
    }
    o->state = OUTPUT_BAD;
    snprintf(o->error, sizeof(o->error), OUTPUT_NAME " could not be opened: %s", strerror(errno));
}
