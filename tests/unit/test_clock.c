/* test_clock.c - times as text, and back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/util/clock.h"

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {
        {"2000-01-01", 946684800},
        {"2000-02-29T00:00:00Z", 951782400},
        {"2026-11-21T09:00:00Z", 1795251600},
        {"2026-11-21t09:00:00z", 1795251600},
        {"2026-11-21T10:30:00+01:30", 1795251600},
        {"2026-11-20T22:00:00-11:00", 1795251600},
        {"2026-11-21T09:00:00.123456789Z", 1795251600},
        {"9999-12-31T23:59:59Z", 253402300799},
        {"", -1},
        {"2026", -1},
        {"2026-11", -1},
        {"2026-1-21", -1},
        {"26-11-21", -1},
        {"1999-12-31", -1},
        {"2026-00-10", -1},
        {"2026-13-10", -1},
        {"2026-11-00", -1},
        {"2026-11-31", -1},
        {"2025-02-29", -1},
        {"2100-02-29", -1},
        {"2026-11-21 09:00:00Z", -1},
        {"2026-11-21T09:00:00", -1},
        {"2026-11-21T09:00Z", -1},
        {"2026-11-21T24:00:00Z", -1},
        {"2026-11-21T09:60:00Z", -1},
        {"2026-11-21T09:00:60Z", -1},
        {"2026-11-21T09:00:00.Z", -1},
        {"2026-11-21T09:00:00+0100", -1},
        {"2026-11-21T09:00:00+24:00", -1},
        {"2026-11-21T09:00:00Zx", -1},
        {"2026-11-21x", -1},
        {"-026-11-21", -1},
        {" 2026-11-21", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t s = 77;
        const bool good = clock_parse_utc(cases[i].text, &s);
        if (good != (cases[i].want >= 0) || s != (good ? cases[i].want : 77))
            fail_msg("'%s': %d, %lld", cases[i].text, good, (long long)s);
    }
}

/* What is written reads back, on every day of four hundred years. */
static void test_round_trip(void **state)
{
    (void)state;
    char text[CLOCK_UTC_SIZE];
    for (int64_t at = 946684800 + 86399; at < 946684800 + 400 * INT64_C(31556952); at += 86400) {
        int64_t s = 0;
        clock_utc_seconds(at, text);
        assert_true(clock_parse_utc(text, &s));
        assert_int_equal(s, at);
    }
    clock_utc(1795251600123456, text);
    assert_string_equal(text, "2026-11-21T09:00:00.123Z");
}

static void test_http_date(void **state)
{
    (void)state;
    static const struct {
        int64_t at;
        const char *want;
    } cases[] = {{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
                 {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* the example of RFC 9110 */
                 {951782399, "Mon, 28 Feb 2000 23:59:59 GMT"},
                 {1795251600, "Sat, 21 Nov 2026 09:00:00 GMT"},
                 {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[CLOCK_HTTP_DATE_SIZE];
        clock_http_date(cases[i].at, text);
        assert_string_equal(text, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_http_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
