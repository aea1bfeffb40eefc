/* clock.h - time in microseconds. Monotonic for durations and deadlines, wall for records. */
#pragma once
#include "core/util/base.h"

uint64_t clock_now_us(void);  /* monotonic; never goes back */
uint64_t clock_wall_us(void); /* since 1970-01-01 UTC */
void clock_sleep_us(uint64_t us);
void clock_sleep_until_us(uint64_t until_us); /* monotonic; at once when it has passed */
