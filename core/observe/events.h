/* events.h - what happened to the server, in words: worker states, migrations, reloads, drains. Each
 * is a line of the log that is also kept in memory, the last EVENTS_MAX of them, for operators who ask
 * the running server. Not for what happens per request.
 *
 * Thread  any; a lock of rank LEAF around a copy.
 * Memory  static; nothing is allocated when something happens. */
#pragma once
#include "core/observe/log.h"
#include "core/util/base.h"
#include "core/util/buf.h"

enum { EVENTS_MAX = 256, EVENT_TEXT_MAX = 400 };

/* Logs the line as log_line() does and keeps it, whatever the log's level; cut with "..." when it is
 * too long to be kept. */
void event_note(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Appends {"events":[{"number","time","level","area","text"}...],"last":n}: those that are kept and
 * have a number above `after`, oldest first; last is the newest one's number. Numbers count from 1 without a gap, so that a reader sees
 * what it missed. */
void events_add_json(uint64_t after, struct buf *out);
