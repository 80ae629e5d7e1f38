/*
 * log.c - see log.h.  Writes to descriptor 2 of the main process, nothing else.
 */
#include "log.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "../libskillbox/buf.h"

#define LINE_MAX_BYTES  4095 /* PIPE_BUF less one: poll(2) promises that much room or none */
#define VALUE_MAX_BYTES 512

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static log_level_t wanted = LOG_INFO;
static sb_buf_t line = SB_BUF_INIT(LINE_MAX_BYTES);
static uint64_t dropped;

void log_set_level(log_level_t level)
{
    wanted = level;
}

static void line_start(log_level_t level, const char *msg)
{
    char now[SB_TIME_LEN + 1];

    sb_time_format(sb_time_now_ms(), now);
    sb_buf_clear(&line);
    sb_buf_char(&line, '{');
    sb_json_key_str(&line, "time", now);
    sb_json_key_str(&line, "level", level_names[level]);
    sb_json_key(&line, "msg");
    sb_json_str(&line, msg, strnlen(msg, VALUE_MAX_BYTES));
    if (dropped > 0)
        sb_json_key_int(&line, "dropped", (int64_t)dropped);
}

bool log_begin(log_level_t level, const char *msg)
{
    if (level > wanted)
        return false;
    line_start(level, msg);
    return true;
}

void log_str(const char *key, const char *value)
{
    if (value == NULL || *value == '\0')
        return;
    sb_json_key(&line, key);
    sb_json_str(&line, value, strnlen(value, VALUE_MAX_BYTES));
}

void log_int(const char *key, int64_t value)
{
    sb_json_key_int(&line, key, value);
}

void log_errno(int errnum)
{
    if (errnum != 0)
        log_str("error", strerror(errnum));
}

void log_err(const sb_err_t *err)
{
    log_str("error", err->message);
}

void log_end(void)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

    sb_buf_str(&line, "}\n");
    if (!sb_buf_ok(&line)) { /* escapes made it too long: keep the line's head of facts */
        line_start(LOG_ERROR, "a log line was too long and has been left out");
        sb_buf_str(&line, "}\n");
    }
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) ||
        write(STDERR_FILENO, line.data, line.len) != (ssize_t)line.len) {
        dropped++;
        return;
    }
    dropped = 0;
}

void log_event(log_level_t level, const char *msg, const char *key, const char *value)
{
    if (!log_begin(level, msg))
        return;
    if (key != NULL)
        log_str(key, value);
    log_end();
}
