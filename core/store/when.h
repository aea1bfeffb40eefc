/* when.h - moments and spans of time as people write them.
 *
 *   moment  2026-11-21, 2026-11-21T09:30, 2026-11-21T09:30:15.5Z, "2026-11-21 09:30" (all UTC),
 *           09:30 (today), now, or a span: so long ago
 *   span    30s, 15m, 2h, 3d, 1w, also 1h30m
 *
 * Thread  pure functions.
 * Errors  EINVAL: the message says what is understood. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

/* Microseconds since 1970-01-01 UTC. */
MUST_CHECK int when_moment(const char *text, int64_t now_us, int64_t *out_us, struct err *e);
MUST_CHECK int when_span(const char *text, int64_t *out_us, struct err *e);
