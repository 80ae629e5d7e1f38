/*
 * err.c - fills and decorates sb_err_t.
 *
 * Promises that a message is one line of valid UTF-8 whatever was formatted
 * into it (names from hostile packages end up here) and fits its array.
 * Touches no descriptor, allocates nothing; any thread, also after fork.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"

typedef struct {
    sb_code_t code;
    int status;
    const char *slug;
} code_info_t;

static const code_info_t code_table[] = {
    {SB_OK, 200, "ok"},
    {SB_EINVAL, 400, "bad_request"},
    {SB_ESKILL, 400, "invalid_skill"},
    {SB_EAUTH, 401, "unauthorized"},
    {SB_EFORBIDDEN, 403, "forbidden"},
    {SB_ENOTFOUND, 404, "not_found"},
    {SB_ENOTAVAIL, 409, "skill_not_available"},
    {SB_ECONFLICT, 409, "conflict"},
    {SB_ETOOLARGE, 413, "too_large"},
    {SB_EMEDIA, 415, "unsupported_media_type"},
    {SB_EBUSY, 503, "overloaded"},
    {SB_ETIMEOUT, 504, "timeout"},
    {SB_EGATEWAY, 502, "bad_gateway"},
    {SB_ENOSPACE, 503, "overloaded"},
    {SB_EREADONLY, 503, "overloaded"},
    {SB_EQUOTA, 507, "quota_exceeded"},
    {SB_ESYSTEM, 500, "internal_error"},
    {SB_EINTERNAL, 500, "internal_error"},
};

static const struct {
    int status;
    const char *slug;
} status_table[] = {
    {400, "bad_request"},
    {401, "unauthorized"},
    {403, "forbidden"},
    {404, "not_found"},
    {405, "method_not_allowed"},
    {409, "conflict"},
    {413, "too_large"},
    {415, "unsupported_media_type"},
    {422, "security_scan_failed"},
    {429, "rate_limited"},
    {500, "internal_error"},
    {502, "bad_gateway"},
    {503, "overloaded"},
    {504, "timeout"},
    {507, "quota_exceeded"},
};

/*
 * Copies text into the message: control characters become blanks, ill-formed
 * UTF-8 becomes '?', a sequence that does not fit is left out whole.
 */
static void set_message(sb_err_t *err, const char *text)
{
    size_t len = strlen(text), i = 0, out = 0;

    while (i < len) {
        size_t n = sb_utf8_len((const unsigned char *)text + i, len - i);
        if (out + (n != 0 ? n : 1) >= sizeof(err->message))
            break;
        if (n == 0) {
            err->message[out++] = '?';
            i++;
            continue;
        }
        if (n == 1 && ((unsigned char)text[i] < 0x20 || text[i] == 0x7f))
            err->message[out] = ' ';
        else
            memcpy(err->message + out, text + i, n);
        out += n;
        i += n;
    }
    err->message[out] = '\0';
}

static void fill(sb_err_t *err, sb_code_t code, int errnum, int line, const char *text)
{
    err->code = code;
    err->sys_errno = errnum;
    err->line = line;
    set_message(err, text);
}

sb_code_t sb_err_set(sb_err_t *err, sb_code_t code, const char *fmt, ...)
{
    char text[sizeof(err->message)]; /* apart, because an argument may be err->message */
    va_list ap;

    if (err == NULL)
        return code;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fill(err, code, 0, 0, text);
    return code;
}

sb_code_t sb_err_at(sb_err_t *err, sb_code_t code, int line, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    va_list ap;

    if (err == NULL)
        return code;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fill(err, code, 0, line, text);
    return code;
}

sb_code_t sb_err_errno(sb_err_t *err, int errnum, const char *fmt, ...)
{
    bool no_room = errnum == ENOSPC || errnum == EDQUOT || errnum == ETOOMANYREFS;
    sb_code_t code = no_room ? SB_ENOSPACE : errnum == EROFS ? SB_EREADONLY : SB_ESYSTEM;
    char text[sizeof(err->message)];
    char full[sizeof(err->message)];
    const char *why = strerrordesc_np(errnum); /* static text, no locale: unlike strerror() */
    va_list ap;

    if (err == NULL)
        return code;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (why != NULL)
        snprintf(full, sizeof(full), "%.400s: %s", text, why);
    else
        snprintf(full, sizeof(full), "%.400s: error %d", text, errnum);
    fill(err, code, errnum, 0, full);
    return code;
}

sb_code_t sb_err_context(sb_err_t *err, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    char full[2 * sizeof(err->message) + 2];
    va_list ap;

    if (err == NULL)
        return SB_EINTERNAL;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(full, sizeof(full), "%s: %s", text, err->message);
    set_message(err, full);
    return err->code;
}

static const code_info_t *code_info(sb_code_t code)
{
    for (size_t i = 0; i < sizeof(code_table) / sizeof(code_table[0]); i++) {
        if (code_table[i].code == code)
            return &code_table[i];
    }
    return &code_table[sizeof(code_table) / sizeof(code_table[0]) - 1]; /* SB_EINTERNAL */
}

const char *sb_code_slug(sb_code_t code)
{
    return code_info(code)->slug;
}

int sb_code_status(sb_code_t code)
{
    return code_info(code)->status;
}

const char *sb_status_slug(int status)
{
    for (size_t i = 0; i < sizeof(status_table) / sizeof(status_table[0]); i++) {
        if (status_table[i].status == status)
            return status_table[i].slug;
    }
    return "error";
}
