/* test_bench_plan.c - lengths and arrivals: what is drawn has the distribution that was asked for, and
 * is the same for the same seed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "core/bench/arrivals.h"
#include "core/bench/lengths.h"

enum { DRAWS = 100000 };

struct moments {
    double mean, sd, min, max;
};

static struct moments draw(const char *text)
{
    struct lengths l;
    struct err e = {0};
    struct rng r = rng_make(7, 1);
    struct moments m = {.min = 1e9};
    double sum = 0, squares = 0;
    assert_int_equal(lengths_parse(&l, text, &e), 0);
    for (int i = 0; i < DRAWS; i++) {
        double v = lengths_draw(&l, &r);
        sum += v;
        squares += v * v;
        m.min = fmin(m.min, v);
        m.max = fmax(m.max, v);
    }
    m.mean = sum / DRAWS;
    m.sd = sqrt(squares / DRAWS - m.mean * m.mean);
    return m;
}

static void assert_near(double got, double wanted, double share)
{
    if (fabs(got - wanted) > share * fabs(wanted))
        fail_msg("%g is not %g within %g %%", got, wanted, 100 * share);
}

static void test_lengths(void **state)
{
    (void)state;
    struct moments m = draw("128");
    assert_true(m.min == 128 && m.max == 128);
    m = draw("64-256");
    assert_true(m.min == 64 && m.max == 256);
    assert_near(m.mean, 160, 0.01);
    assert_near(m.sd, 193 / sqrt(12), 0.02);
    m = draw("1-2");
    assert_true(m.min == 1 && m.max == 2);
    assert_near(m.mean, 1.5, 0.01);
    m = draw("normal:500,50");
    assert_near(m.mean, 500, 0.01);
    assert_near(m.sd, 50, 0.02);
    m = draw("normal:10,100"); /* cut at 1 */
    assert_true(m.min == 1);
    m = draw("lognormal:300,200");
    assert_near(m.mean, 300, 0.02);
    assert_near(m.sd, 200, 0.05);
    assert_true(m.min >= 1 && m.max > 1500);
}

static void test_lengths_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "0",       "-1",       "1.5", "a",          "5-3",        "0-3",
        "3-",        "normal:", "normal:5", "12 ", "normal:5,x", "normal:0,1", "1048577",
        "1-1048577", "1e300",   "inf",      "nan", "normal:5,-1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct lengths l = {.a = 99};
        struct err e = {0};
        if (lengths_parse(&l, bad[i], &e) != -LLMD_EINVAL)
            fail_msg("'%s' was taken", bad[i]);
        assert_true(l.a == 99);
        assert_non_null(strstr(e.msg, "lognormal"));
    }
}

static void test_same_seed(void **state)
{
    (void)state;
    struct rng a = rng_make(1, 2), b = rng_make(1, 2), c = rng_make(2, 2);
    int same = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t v = rng_u64(&a);
        assert_true(v == rng_u64(&b));
        same += v == rng_u64(&c);
    }
    assert_int_equal(same, 0);
    assert_true(rng_hash(3, 4) == rng_hash(3, 4) && rng_hash(3, 4) != rng_hash(4, 3));
}

/* Gaps of a Poisson process: mean 1 / rate, deviation the same, never back. */
static void test_poisson(void **state)
{
    (void)state;
    struct arrivals a = {.per_s = 50, .burst = 1, .rng = rng_make(3, 0)};
    uint64_t last = 0;
    double sum = 0, squares = 0;
    int long_gaps = 0;
    for (int i = 0; i < DRAWS; i++) {
        uint64_t at = arrivals_next(&a);
        assert_true(at >= last);
        double gap = (double)(at - last) / 1e6;
        sum += gap;
        squares += gap * gap;
        long_gaps += gap > 0.02;
        last = at;
    }
    double mean = sum / DRAWS;
    assert_near(mean, 0.02, 0.02);
    assert_near(sqrt(squares / DRAWS - mean * mean), 0.02, 0.02);
    assert_near((double)long_gaps / DRAWS, exp(-1), 0.02);
}

static void test_constant_and_burst(void **state)
{
    (void)state;
    struct arrivals a = {.per_s = 100, .burst = 1, .constant = true};
    for (uint64_t i = 1; i <= 1000; i++)
        assert_in_range(arrivals_next(&a), i * 10000 - 1, i * 10000);
    struct arrivals b = {.per_s = 100, .burst = 5, .constant = true};
    for (uint64_t i = 0; i < 1000; i++)
        assert_in_range(arrivals_next(&b), (i / 5 + 1) * 50000 - 1, (i / 5 + 1) * 50000);
    struct arrivals p = {.per_s = 100, .burst = 4, .rng = rng_make(5, 0)};
    uint64_t at = 0;
    for (int i = 0; i < DRAWS; i++)
        at = arrivals_next(&p);
    assert_near((double)at / 1e6, DRAWS / 100.0, 0.03);
}

/* Over a ramp of r seconds half as many come as at the full rate. */
static void test_ramp(void **state)
{
    (void)state;
    struct arrivals a = {.per_s = 100, .burst = 1, .constant = true, .ramp_us = 10000000};
    int in_ramp = 0, in_first_half = 0;
    for (int i = 0; i < 1500; i++) {
        uint64_t at = arrivals_next(&a);
        in_ramp += at < 10000000;
        in_first_half += at < 5000000;
    }
    assert_in_range(in_ramp, 498, 501);
    assert_in_range(in_first_half, 124, 126);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_lengths_refused),
        cmocka_unit_test(test_same_seed),
        cmocka_unit_test(test_poisson),
        cmocka_unit_test(test_constant_and_burst),
        cmocka_unit_test(test_ramp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
