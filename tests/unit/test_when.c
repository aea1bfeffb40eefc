/* test_when.c - moments and spans of time as people write them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/store/when.h"

static const int64_t SECOND = 1000000, DAY = 86400ll * 1000000;
static const int64_t MIDNIGHT = 20778ll * 86400 * 1000000; /* 2026-11-21 */

static void test_moments(void **state)
{
    (void)state;
    const int64_t now = MIDNIGHT + 15 * 3600 * SECOND;
    const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"2026-11-21", MIDNIGHT},
        {"1970-01-01", 0},
        {"2026-11-21T09:30", MIDNIGHT + (9 * 60 + 30) * 60 * SECOND},
        {"2026-11-20 23:59:59", MIDNIGHT - SECOND},
        {"2026-11-21T00:00:01.25Z", MIDNIGHT + SECOND + SECOND / 4},
        {"09:30", MIDNIGHT + (9 * 60 + 30) * 60 * SECOND},
        {"now", now},
        {"15h", MIDNIGHT},
        {"1w", now - 7 * DAY},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        int64_t us = -1;
        assert_int_equal(when_moment(cases[i].text, now, &us, &e), 0);
        assert_int_equal(us, cases[i].us);
    }
}

static void test_spans(void **state)
{
    (void)state;
    struct err e = {0};
    int64_t us;
    assert_int_equal(when_span("90s", &us, &e), 0);
    assert_int_equal(us, 90 * SECOND);
    assert_int_equal(when_span("1d12h", &us, &e), 0);
    assert_int_equal(us, 3 * DAY / 2);
}

static void test_what_is_neither(void **state)
{
    (void)state;
    const char *const moments[] = {"",   "yesterday", "2026-13-01", "2026-11-21T",
                                   "9",  "09:30x",    "-5m",        "2026-11-21T09:30:99",
                                   "5y", "m"};
    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        struct err e = {0};
        int64_t us;
        assert_int_equal(when_moment(moments[i], MIDNIGHT, &us, &e), -LLMD_EINVAL);
        assert_non_null(strstr(e.msg, "write 2026-11-21"));
    }
    struct err e = {0};
    int64_t us;
    assert_int_equal(when_span("99999999w", &us, &e), -LLMD_EINVAL);
    assert_int_equal(when_span("5", &us, NULL), -LLMD_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_what_is_neither),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
