/* test_bench_measure.c - histograms beside sorted values; what a run's figures are made of. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bench/measure.h"
#include "core/bench/rng.h"
#include "core/bench/sweep.h"

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Quantiles within half a bucket (1/512) of those of the sorted values, over all magnitudes. */
static void test_quantiles(void **state)
{
    (void)state;
    enum { N = 20000 };
    static const double qs[] = {0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
    uint64_t *v = malloc(N * sizeof(*v));
    struct histogram *h = malloc(sizeof(*h));
    assert_true(v && h);
    for (int shape = 0; shape < 4; shape++) {
        struct rng r = rng_make(11, (uint64_t)shape);
        double sum = 0;
        memset(h, 0, sizeof(*h));
        for (int i = 0; i < N; i++) {
            double x = shape == 0   ? 20000 + 300 * rng_normal(&r)
                       : shape == 1 ? 1000 * rng_exp(&r)
                       : shape == 2 ? exp(20 * rng_unit(&r))
                                    : 400 * rng_unit(&r);
            v[i] = (uint64_t)x;
            sum += (double)v[i];
            histogram_add(h, v[i]);
        }
        qsort(v, N, sizeof(*v), ascending);
        for (size_t i = 0; i < ARRAY_LEN(qs); i++) {
            double wanted = (double)v[(size_t)(qs[i] * (N - 1) + 0.5)];
            double got = histogram_quantile(h, qs[i]);
            if (fabs(got - wanted) > wanted / 512 + 0.5)
                fail_msg("shape %d: quantile %g is %g, not %g", shape, qs[i], got, wanted);
        }
        assert_true(fabs(histogram_mean(h) - sum / N) < 1e-6 * sum / N);
        assert_true(h->min_us == v[0] && h->max_us == v[N - 1]);
    }
    free(v);
    free(h);
}

/* Every value falls into the bucket that says it holds it. */
static void test_buckets(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    struct rng r = rng_make(13, 0);
    uint64_t until = 0;
    for (uint32_t i = 0; i < ARRAY_LEN(h->counts); i++) { /* without gaps or overlaps */
        uint64_t from, width;
        histogram_bucket(i, &from, &width);
        assert_true(from == until && width > 0);
        until = from + width;
    }
    assert_true(until == (uint64_t)1 << 41);
    for (int i = 0; i < 100000; i++) {
        uint64_t us = rng_u64(&r) >> (23 + rng_below(&r, 41)), from, width;
        memset(h, 0, sizeof(*h));
        histogram_add(h, us);
        uint32_t k = 0;
        while (h->counts[k] == 0)
            k += 1;
        histogram_bucket(k, &from, &width);
        assert_true(us >= from && us < from + width);
        if (i > 200)
            i += 500; /* looking for the bucket takes time */
    }
    memset(h, 0, sizeof(*h));
    histogram_add(h, UINT64_MAX);
    assert_true(histogram_quantile(h, 1) == (double)UINT64_MAX);
    free(h);
}

static void test_empty(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_true(histogram_quantile(h, 0.5) == 0 && histogram_mean(h) == 0);
    free(h);
}

static struct measure *measure_make(void)
{
    struct measure *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    return m;
}

static void test_samples(void **state)
{
    (void)state;
    struct measure *m = measure_make();
    const uint32_t gaps[] = {10000, 30000, 20000};
    struct sample s = {.outcome = OUTCOME_OK,
                       .ttft_us = 50000,
                       .e2e_us = 120000,
                       .text_us = 60000,
                       .gaps = gaps,
                       .n_gaps = 3,
                       .n_pieces = 4,
                       .has_usage = true,
                       .prompt_tokens = 100,
                       .cached_tokens = 64,
                       .completion_tokens = 5};
    struct err e = {0};
    assert_int_equal(slo_parse(&m->slo, "ttft:50ms,itl:30ms,tpot:15ms,e2e:0.12s", &e), 0);
    measure_add(m, &s);
    assert_int_equal(m->n_good, 1);
    assert_int_equal(m->tpot.max_us, 15000); /* four gaps between five tokens */
    assert_int_equal(m->itl.n, 3);
    assert_int_equal(m->output_tokens, 5);
    s.has_usage = false; /* pieces count: three gaps, TPOT 20 ms is beyond the bound */
    measure_add(m, &s);
    assert_int_equal(m->output_tokens, 9);
    assert_int_equal(m->tpot.max_us, 20000);
    assert_int_equal(m->n_good, 1);
    s = (struct sample){.outcome = OUTCOME_STATUS, .status = 429, .message = "slow down"};
    measure_add(m, &s);
    s.message = "later";
    measure_add(m, &s);
    s.status = 503;
    measure_add(m, &s);
    s = (struct sample){.outcome = OUTCOME_CANCELLED};
    measure_add(m, &s);
    assert_int_equal(measure_failed(m), 3);
    assert_int_equal(measure_ended(m), 5);
    assert_string_equal(m->messages[OUTCOME_STATUS], "slow down");
    assert_int_equal(m->n_statuses, 2);
    assert_int_equal(m->statuses[0].status, 429);
    assert_int_equal(m->statuses[0].n, 2);
    for (int i = 0; i < 20; i++) {
        s = (struct sample){.outcome = OUTCOME_STATUS, .status = 400 + i};
        measure_add(m, &s);
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i < m->n_statuses; i++)
        n += m->statuses[i].n;
    assert_int_equal(n, m->n[OUTCOME_STATUS]);
    assert_int_equal(m->statuses[MEASURE_STATUSES - 1].status, 0);
    free(m);
}

static void test_slo_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "ttft",      "ttft:",    "ttft:5",  "ttft:5m",
        "ttft:5ms,", "ttft:-5ms", "x:5ms",    "ttft5ms", "ttft:5ms itl:5ms",
        "ttft:0ms",  ",ttft:5ms", "ttft:1e9s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct slo s = {0};
        struct err e = {0};
        if (slo_parse(&s, bad[i], &e) != -LLMD_EINVAL)
            fail_msg("'%s' was taken", bad[i]);
        assert_true(s.ttft_us == 0);
    }
    struct slo s = {0};
    assert_int_equal(slo_parse(&s, "itl:500us,e2e:2s", NULL), 0);
    assert_true(s.itl_us == 500 && s.e2e_us == 2000000 && s.ttft_us == 0);
}

/* Throughput that stops growing while waiting grows on: the knee is where that begins. */
static void test_knee(void **state)
{
    (void)state;
    static const struct {
        uint32_t clients;
        uint64_t tokens, mean_us;
    } runs[] = {{1, 50, 1000000},
                {2, 100, 1000000},
                {4, 200, 1000000},
                {8, 380, 1050000},
                {16, 400, 2000000}};
    struct level levels[ARRAY_LEN(runs)];
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        levels[i] = (struct level){runs[i].clients, 0, measure_make()};
        levels[i].m->wall_us = 1000000;
        levels[i].m->output_tokens = runs[i].tokens;
        histogram_add(&levels[i].m->e2e, runs[i].mean_us);
    }
    assert_int_equal(sweep_knee(levels, ARRAY_LEN(runs)), 3);
    assert_int_equal(sweep_knee(levels, 2), 1);
    struct level none = {1, 0, measure_make()};
    assert_int_equal(sweep_knee(&none, 1), 1);
    free(none.m);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        free(levels[i].m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles),   cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_empty),       cmocka_unit_test(test_samples),
        cmocka_unit_test(test_slo_refused), cmocka_unit_test(test_knee),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
