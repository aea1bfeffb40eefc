/* base.h - the few definitions that every file may rely on.
 *
 * BUG_ON ships in release builds. It is for our own mistakes only: client, file and device
 * input must never be able to reach it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))
#define LIKELY(c)         __builtin_expect(!!(c), 1)
#define UNLIKELY(c)       __builtin_expect(!!(c), 0)

#define BUG_ON(c)                                                                                  \
    do {                                                                                           \
        if (UNLIKELY(c))                                                                           \
            bug_die(__FILE__, __LINE__, #c);                                                       \
    } while (0)

/* Prints the broken condition with a backtrace to standard error, then aborts. */
NORETURN void bug_die(const char *file, int line, const char *what);

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Overflow-checked size arithmetic: false, and *out untouched, when the result does not fit. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
