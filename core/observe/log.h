/* log.h - log lines: one line per event, `key=value` pairs, written whole or not at all.
 *
 *   2026-11-21T09:00:00.123Z info  worker: ready model=smollm2 worker=0 load_ms=412
 *
 * Under systemd (journal) the time stamp is left out and the sd-daemon level prefix "<6>" used.
 * Values that come from outside are escaped (log_quote): no line break, no terminal control.
 * Levels below the current one cost one relaxed load. Thread safe; one write() per line; a log
 * that cannot be written is dropped and counted, it never blocks serving for long: a full pipe is
 * waited for LOG_WAIT_MS once, then lines are dropped until one goes through, and that one is
 * followed by a line that says how many were lost. */
#pragma once
#include <stdarg.h>

#include "core/util/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum {
    LOG_LINE_MAX = 4096, /* with its line feed: PIPE_BUF, so that a pipe takes it whole; cut with
                            "..." beyond */
    LOG_WAIT_MS = 20,
};

/* fd: where lines go (2). journal: the journal's prefix instead of time and level. To be called
 * while no other thread logs; until then lines go to standard error from LOG_INFO on. */
void log_init(int fd, enum log_level level, bool journal);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
bool log_enabled(enum log_level level);
/* Lines lost since the start. */
uint64_t log_dropped(void);
/* False when s names no level; accepts error, warn, info, debug. */
bool log_level_parse(const char *s, enum log_level *out);

void log_line(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);
void log_vline(enum log_level level, const char *area, const char *fmt, va_list ap)
    PRINTF_LIKE(3, 0);
#define log_error(area, ...) log_line(LOG_ERROR, (area), __VA_ARGS__)
#define log_warn(area, ...)  log_line(LOG_WARN, (area), __VA_ARGS__)
#define log_info(area, ...)  log_line(LOG_INFO, (area), __VA_ARGS__)
#define log_debug(area, ...)                                                                       \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_line(LOG_DEBUG, (area), __VA_ARGS__);                                              \
    } while (0)

/* Copies s with everything but printable UTF-8 escaped, quoted when it is empty or holds blanks or
 * '"' (then '"' and '\\' are escaped too); cut with "..." when it does not fit. Returns out, which
 * is always NUL-terminated; n_out > 0. */
const char *log_quote(const char *s, char *out, size_t n_out);
