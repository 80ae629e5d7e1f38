/*
 * units.h - durations as Go writes them, quantities as Kubernetes writes them.
 */
#ifndef SB_UNITS_H
#define SB_UNITS_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

/* "1m30s", "500ms", "1.5h", "120" (seconds, as SkillLite writes them) -> milliseconds, rounded up.
 * Units ns us ms s m h (and us with the micro sign); no sign; at most 24 h.  SB_EINVAL otherwise.
 */
sb_code_t sb_duration_parse(const char *s, size_t len, int64_t *ms, sb_err_t *err);

/* "256Mi", "1G", "1.5Gi", "1024", "128974848000m" (milli-bytes are allowed and rounded up) ->
 * bytes; at most 1 PiB. */
sb_code_t sb_memory_parse(const char *s, size_t len, int64_t *bytes, sb_err_t *err);

/* "0.5", "2", "500m" -> thousandths of a core, rounded up; at most 1024 cores. */
sb_code_t sb_cpu_parse(const char *s, size_t len, int32_t *milli, sb_err_t *err);

/* "256 MiB", "1.5 GiB", "512 B": for messages.  out has 32 bytes. */
void sb_bytes_format(int64_t bytes, char out[32]);

/*
 * RFC 3339: "2026-11-20T12:00:00Z", with a fraction of a second (cut to milliseconds) or an offset
 * ("+01:00") as well; years 1970 to 9999, a leap second counts as the next one.  False: it is none.
 */
bool sb_time_parse(const char *s, size_t len, int64_t *unix_ms);

#endif
