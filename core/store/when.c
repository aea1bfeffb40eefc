#include "core/store/when.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int64_t SECOND_US = 1000000, DAY_US = 86400 * (int64_t)1000000;

/* 0: no unit of time. */
static int64_t unit_us(char unit)
{
    switch (unit) {
    case 's':
        return SECOND_US;
    case 'm':
        return 60 * SECOND_US;
    case 'h':
        return 3600 * SECOND_US;
    case 'd':
        return DAY_US;
    case 'w':
        return 7 * DAY_US;
    default:
        return 0;
    }
}

static bool read_span(const char *text, int64_t *out_us)
{
    int64_t sum = 0;
    const char *p = text;
    while (isdigit((unsigned char)*p)) {
        char *end;
        unsigned long long n = strtoull(p, &end, 10);
        int64_t unit = unit_us(*end), part;
        if (unit == 0 || n > 1000000 || __builtin_mul_overflow((int64_t)n, unit, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return false;
        p = end + 1;
    }
    *out_us = sum;
    return p > text && *p == '\0';
}

int when_span(const char *text, int64_t *out_us, struct err *e)
{
    if (read_span(text, out_us))
        return 0;
    return err_set(e, LLMD_EINVAL, "'%.60s' is no span of time; write 30s, 15m, 2h, 3d or 1w",
                   text);
}

/* ":SS", ".fraction", "Z": all may be missing. False: something else stands there. */
static bool read_tail(const char *p, int64_t *us)
{
    if (*p == ':') {
        if (!isdigit((unsigned char)p[1]) || !isdigit((unsigned char)p[2]))
            return false;
        int64_t seconds = (p[1] - '0') * 10 + (p[2] - '0');
        if (seconds > 60)
            return false;
        *us += seconds * SECOND_US;
        p += 3;
        if (*p == '.') {
            int64_t unit = SECOND_US / 10;
            for (p++; isdigit((unsigned char)*p); p++, unit /= 10)
                *us += (*p - '0') * unit;
        }
    }
    p += *p == 'Z';
    return *p == '\0';
}

static bool read_date(const char *text, int64_t now_us, int64_t *out_us)
{
    struct tm t = {0};
    const char *p = strptime(text, "%Y-%m-%d", &t);
    int64_t us = p ? (int64_t)timegm(&t) * SECOND_US : now_us / DAY_US * DAY_US;
    if (p && *p == '\0') {
        *out_us = us;
        return true;
    }
    if (p && *p != 'T' && *p != ' ')
        return false;
    struct tm clock = {0};
    p = strptime(p ? p + 1 : text, "%H:%M", &clock);
    us += (clock.tm_hour * 60 + clock.tm_min) * 60 * SECOND_US;
    if (!p || !read_tail(p, &us))
        return false;
    *out_us = us;
    return true;
}

int when_moment(const char *text, int64_t now_us, int64_t *out_us, struct err *e)
{
    int64_t span;
    if (strcmp(text, "now") == 0) {
        *out_us = now_us;
        return 0;
    }
    if (read_span(text, &span)) {
        *out_us = now_us > span ? now_us - span : 0;
        return 0;
    }
    if (read_date(text, now_us, out_us))
        return 0;
    return err_set(
        e, LLMD_EINVAL,
        "'%.60s' is no moment; write 2026-11-21, 2026-11-21T09:30 or 09:30 (UTC), or 15m "
        "for so long ago",
        text);
}
