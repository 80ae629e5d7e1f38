/*
 * analyzer.h - for clang-tidy only (tests/tools/lint includes it before each file): the
 * analyzer sees one file at a time and would suppose that these might return SB_OK or
 * NGX_OK.
 */
#ifndef SB_ANALYZER_H
#define SB_ANALYZER_H

#ifdef SB_ANALYZE_MODULE
#include "../../ngx_skillbox_module/ngx_http_skillbox.h"
#define ngx_http_skillbox_error(r, status, ...)                                                    \
    (ngx_http_skillbox_error(r, status, __VA_ARGS__), 500)
#define ngx_http_skillbox_error_sb(r, err, doing) (ngx_http_skillbox_error_sb(r, err, doing), 500)
#endif

#include "../../libskillbox/err.h"

#define sb_err_set(err, code, ...)     (sb_err_set(err, code, __VA_ARGS__), (code))
#define sb_err_at(err, code, ...)      (sb_err_at(err, code, __VA_ARGS__), (code))
#define sb_err_errno(err, errnum, ...) (sb_err_errno(err, errnum, __VA_ARGS__), SB_ESYSTEM)
#define sb_err_context(err, ...)       (sb_err_context(err, __VA_ARGS__), SB_EINTERNAL)

#endif
