/* clock.h - time in microseconds. Monotonic for durations and deadlines, wall for records. */
#pragma once
#include "core/util/base.h"

uint64_t clock_now_us(void);  /* monotonic; never goes back */
uint64_t clock_wall_us(void); /* since 1970-01-01 UTC */
/* "2026-11-21T09:00:00.123Z" of a wall time. */
enum { CLOCK_UTC_SIZE = 32 };
void clock_utc(uint64_t wall_us, char out[CLOCK_UTC_SIZE]);
/* "2026-11-21T09:00:00Z" of seconds since 1970. */
void clock_utc_seconds(int64_t wall_s, char out[CLOCK_UTC_SIZE]);
/* "Sat, 21 Nov 2026 09:00:00 GMT" of seconds since 1970, as the header Date has it (RFC 9110). */
enum { CLOCK_HTTP_DATE_SIZE = 30 };
void clock_http_date(int64_t wall_s, char out[CLOCK_HTTP_DATE_SIZE]);
/* Seconds since 1970 of an RFC 3339 time of the years 2000 to 9999: "2026-11-21",
 * "2026-11-21T09:00:00Z", "2026-11-21T10:00:00.5+01:00" (fractions are dropped). False, and *out_s
 * untouched, for anything else. */
bool clock_parse_utc(const char *s, int64_t *out_s);
void clock_sleep_us(uint64_t us);
void clock_sleep_until_us(uint64_t until_us); /* monotonic; at once when it has passed */
