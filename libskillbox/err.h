/*
 * err.h - the one error type of libskillbox.
 *
 * An error is filled where the fault is seen, gains context on its way up
 * (sb_err_context) and is turned into the API's slug and status at the edge.
 * Functions that can fail return sb_code_t (SB_OK is 0) and take an
 * `sb_err_t *err` as their last argument; err may be NULL.  On SB_OK err is
 * left alone.  No allocation, no locale, safe in any thread and after fork.
 */
#ifndef SB_ERR_H
#define SB_ERR_H

#include <stddef.h>

typedef enum {
    SB_OK = 0,
    SB_EINVAL,     /* the caller's data is wrong: 400 bad_request */
    SB_ESKILL,     /* the package is at fault: 400 invalid_skill */
    SB_EAUTH,      /* no or unknown credentials: 401 unauthorized */
    SB_EFORBIDDEN, /* known but not allowed: 403 forbidden */
    SB_ENOTFOUND,  /* no such thing for this tenant: 404 not_found */
    SB_ENOTAVAIL,  /* there, but can't be run: 409 skill_not_available */
    SB_ECONFLICT,  /* exists with other content: 409 conflict */
    SB_ETOOLARGE,  /* over a limit: 413 too_large */
    SB_EMEDIA,     /* unknown media type: 415 unsupported_media_type */
    SB_EBUSY,      /* try again later: 503 overloaded */
    SB_ETIMEOUT,   /* took too long: 504 timeout */
    SB_EGATEWAY,   /* the peer broke the protocol: 502 bad_gateway */
    SB_ENOSPACE,   /* disk, map or a count of the kernel's full: 503 overloaded, logged as such */
    SB_EREADONLY,  /* what is to be written to can only be read: 503 overloaded, logged as such */
    SB_EQUOTA,     /* a tenant's limit on what it keeps: 507 quota_exceeded */
    SB_ESYSTEM,    /* a system call failed: 500 internal_error */
    SB_EINTERNAL,  /* a promise of ours was broken: 500 internal_error */
} sb_code_t;

typedef struct {
    sb_code_t code;
    int sys_errno;     /* errno of the failing call, 0 when there was none */
    int line;          /* 1-based line in the offending file, 0 when unknown */
    char message[480]; /* one sentence, UTF-8, no newline, NUL-terminated */
} sb_err_t;

/* Fills err and returns code, so that `return sb_err_set(...)` reads well. */
sb_code_t sb_err_set(sb_err_t *err, sb_code_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As sb_err_set, with the 1-based line of the file at fault. */
sb_code_t sb_err_at(sb_err_t *err, sb_code_t code, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* SB_ESYSTEM (SB_ENOSPACE for ENOSPC, EDQUOT and ETOOMANYREFS, SB_EREADONLY for EROFS) and ":
 * <strerror>" behind the text.
 */
sb_code_t sb_err_errno(sb_err_t *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<text>: " before the message; returns err->code (SB_EINTERNAL for NULL). */
sb_code_t sb_err_context(sb_err_t *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The API's slug ("bad_request", ...) and HTTP status of a code; static strings. */
const char *sb_code_slug(sb_code_t code);
int sb_code_status(sb_code_t code);

/* The slug that belongs to an HTTP status ("not_found" for 404); "error" when there is none. */
const char *sb_status_slug(int status);

#endif
