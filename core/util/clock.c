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

void clock_utc_seconds(int64_t wall_s, char out[CLOCK_UTC_SIZE])
{
    time_t seconds = (time_t)wall_s;
    struct tm t;
    gmtime_r(&seconds, &t);
    strftime(out, CLOCK_UTC_SIZE, "%Y-%m-%dT%H:%M:%SZ", &t);
}

void clock_http_date(int64_t wall_s, char out[CLOCK_HTTP_DATE_SIZE])
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)wall_s;
    struct tm t;
    gmtime_r(&seconds, &t);
    snprintf(out, CLOCK_HTTP_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[t.tm_wday],
             (unsigned)t.tm_mday % 100, months[t.tm_mon], (unsigned)(t.tm_year + 1900) % 10000,
             (unsigned)t.tm_hour % 100, (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
}

/* n digits as a number within min and max, and then the byte `end` (0: any). */
static bool take_number(const char **s, int n, int min, int max, char end, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        *out = *out * 10 + (**s - '0');
    }
    if (*out < min || *out > max || (end && **s != end))
        return false;
    *s += end != 0;
    return true;
}

static int days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* "T10:00:00.5+01:00" as seconds of the day in UTC, which may lie beyond it. */
static bool take_time(const char *s, int64_t *out_s)
{
    int hour, minute, second, off_hour = 0, off_minute = 0, sign = 0;
    if ((*s != 'T' && *s != 't') || (s++, !take_number(&s, 2, 0, 23, ':', &hour)) ||
        !take_number(&s, 2, 0, 59, ':', &minute) || !take_number(&s, 2, 0, 59, 0, &second))
        return false;
    if (*s == '.') {
        const char *from = ++s;
        while (*s >= '0' && *s <= '9')
            s++;
        if (s == from)
            return false;
    }
    if (*s == 'Z' || *s == 'z')
        s++;
    else if (*s == '+' || *s == '-') {
        sign = *s++ == '+' ? -1 : 1;
        if (!take_number(&s, 2, 0, 23, ':', &off_hour) ||
            !take_number(&s, 2, 0, 59, 0, &off_minute))
            return false;
    } else
        return false;
    *out_s = hour * 3600 + minute * 60 + second + sign * (off_hour * 3600 + off_minute * 60);
    return *s == '\0';
}

bool clock_parse_utc(const char *s, int64_t *out_s)
{
    int year, month, day;
    int64_t of_day = 0;
    if (!take_number(&s, 4, 2000, 9999, '-', &year) || !take_number(&s, 2, 1, 12, '-', &month) ||
        !take_number(&s, 2, 1, days_of_month(year, month), 0, &day) ||
        (*s && !take_time(s, &of_day)))
        return false;
    int64_t days = day - 1;
    for (int y = 1970; y < year; y++)
        days += 337 + days_of_month(y, 2);
    for (int m = 1; m < month; m++)
        days += days_of_month(year, m);
    *out_s = days * 86400 + of_day;
    return true;
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
