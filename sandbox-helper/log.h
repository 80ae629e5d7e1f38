/*
 * log.h - one JSON object a line on stderr.
 *
 *   if (log_begin(LOG_INFO, "run finished")) {
 *       log_str("execution", id);
 *       log_int("run_ms", ms);
 *       log_end();
 *   }
 *
 * A line is at most 4 KiB and written by one write(2), so that lines of several
 * processes on one pipe stay whole.  A reader of stderr that stalls does not
 * stall the helper: lines it has no room for are dropped and counted, and the
 * next line that gets through says how many ("dropped").
 */
#ifndef SB_LOG_H
#define SB_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "../libskillbox/err.h"

typedef enum { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level_t;

void log_set_level(log_level_t level); /* before the first line; default LOG_INFO */

/* False: lines of that level are not wanted; then there is no line to end. */
bool log_begin(log_level_t level, const char *msg);
void log_str(const char *key, const char *value); /* left out when value is NULL or "" */
void log_int(const char *key, int64_t value);
void log_errno(int errnum);        /* "error": strerror(errnum); nothing for 0 */
void log_err(const sb_err_t *err); /* "error": its message */
void log_end(void);

/* The whole of it, for lines with at most one fact. */
void log_event(log_level_t level, const char *msg, const char *key, const char *value);

#endif
