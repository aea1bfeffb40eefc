/* patience.h - waiting for what other threads and processes do.
 *
 * A test never assumes that something has already happened elsewhere: it waits, and only what has not
 * come after a time that no loaded machine needs is a failure. Bounds that are the point of a test
 * stay far above what a busy machine takes. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/util/clock.h"

enum { PATIENCE_MS = 60 * 1000, PATIENCE_US = PATIENCE_MS * 1000 };

/* Waits until the condition holds, looking every half millisecond; fails the test when it never does. */
#define assert_soon(condition)                                                                     \
    do {                                                                                           \
        const uint64_t patience_until_us = clock_now_us() + PATIENCE_US;                           \
        while (!(condition)) {                                                                     \
            if (clock_now_us() >= patience_until_us)                                               \
                fail_msg("waited in vain for: %s", #condition);                                    \
            clock_sleep_us(500);                                                                   \
        }                                                                                          \
    } while (0)
