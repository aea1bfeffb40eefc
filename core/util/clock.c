#include "core/util/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t clock_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

void clock_utc(uint64_t wall_us, char out[CLOCK_UTC_SIZE])
{
    time_t seconds = (time_t)(wall_us / 1000000u);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t n = strftime(out, CLOCK_UTC_SIZE, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, CLOCK_UTC_SIZE - n, ".%03uZ", (unsigned)(wall_us % 1000000u / 1000u));
}

void clock_sleep_us(uint64_t us)
{
    struct timespec t = {.tv_sec = (time_t)(us / 1000000u),
                         .tv_nsec = (long)(us % 1000000u) * 1000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

void clock_sleep_until_us(uint64_t until_us)
{
    struct timespec t = {.tv_sec = (time_t)(until_us / 1000000u),
                         .tv_nsec = (long)(until_us % 1000000u) * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}
