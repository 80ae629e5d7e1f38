/*
 * analyzer.h - for clang-tidy only (tests/tools/lint includes it before each file): the
 * analyzer sees one file at a time and would suppose that these might return SB_OK.
 */
#ifndef SB_ANALYZER_H
#define SB_ANALYZER_H

#include "../../libskillbox/err.h"

#define sb_err_set(err, code, ...)     (sb_err_set(err, code, __VA_ARGS__), (code))
#define sb_err_at(err, code, ...)      (sb_err_at(err, code, __VA_ARGS__), (code))
#define sb_err_errno(err, errnum, ...) (sb_err_errno(err, errnum, __VA_ARGS__), SB_ESYSTEM)
#define sb_err_context(err, ...)       (sb_err_context(err, __VA_ARGS__), SB_EINTERNAL)

#endif
