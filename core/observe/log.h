/* log.h - log lines: one line per event, `key=value` pairs, written whole or not at all.
 *
 *   2026-11-21T09:00:00.123Z info  worker: ready model=smollm2 worker=0 load_ms=412
 *
 * Under systemd (journal) the time stamp is left out and the sd-daemon level prefix "<6>" used.
 * Values that come from outside are escaped (log_quote): no line break, no terminal control.
 * Levels below the current one cost one relaxed load. Thread safe; one write() per line; a log
 * that cannot be written is dropped and counted, it never blocks serving for long. */
#pragma once
#include "core/util/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* fd: where lines go (2). journal: the journal's prefix instead of time and level. */
void log_init(int fd, enum log_level level, bool journal);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* False when s names no level; accepts error, warn, info, debug. */
bool log_level_parse(const char *s, enum log_level *out);

void log_line(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define log_error(area, ...) log_line(LOG_ERROR, (area), __VA_ARGS__)
#define log_warn(area, ...)  log_line(LOG_WARN, (area), __VA_ARGS__)
#define log_info(area, ...)  log_line(LOG_INFO, (area), __VA_ARGS__)
#define log_debug(area, ...)                                                                       \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_line(LOG_DEBUG, (area), __VA_ARGS__);                                              \
    } while (0)

/* Copies s with everything but printable UTF-8 escaped, quoted when it holds blanks; returns
 * out, which is always NUL-terminated. */
const char *log_quote(const char *s, char *out, size_t n_out);
