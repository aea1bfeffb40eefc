/* clock.h - time in microseconds. Monotonic for durations and deadlines, wall for records. */
#pragma once
#include "core/util/base.h"

uint64_t clock_now_us(void);  /* monotonic; never goes back */
uint64_t clock_wall_us(void); /* since 1970-01-01 UTC */
/* "2026-11-21T09:00:00.123Z" of a wall time. */
enum { CLOCK_UTC_SIZE = 32 };
void clock_utc(uint64_t wall_us, char out[CLOCK_UTC_SIZE]);
void clock_sleep_us(uint64_t us);
void clock_sleep_until_us(uint64_t until_us); /* monotonic; at once when it has passed */
