/* test_metrics_open.c - OpenMetrics, exemplars, names with underscores, derived families. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics.h"
#include "core/observe/metrics_int.h"
#include "core/util/clock.h"

static const char trace_a[] = "0123456789abcdef0123456789abcdef";
static const char trace_b[] = "fedcba9876543210fedcba9876543210";

/* What is written after the family that is always there, which has three lines. */
static char *written(struct metrics *m, uint32_t style)
{
    struct buf b = {0};
    metrics_write(m, style, &b);
    metrics_write_end(style, &b);
    assert_false(b.failed);
    const char *p = buf_str(&b);
    for (int i = 0; i < 3; i++)
        p = strchr(p, '\n') + 1;
    char *s = strdup(p);
    assert_non_null(s);
    buf_fini(&b);
    return s;
}

static void assert_written(struct metrics *m, uint32_t style, const char *expected)
{
    char *s = written(m, style);
    assert_string_equal(s, expected);
    free(s);
}

static void test_open(void **state)
{
    (void)state;
    static const double bounds[] = {1};
    struct metrics *m = metrics_new();
    assert_non_null(m);
    metric_add(metrics_counter(m, "vllm:x_total", "A \"b\" \\ c.", "e=\"0\""), 3);
    metric_add(metrics_counter_us(m, "s_total", "Time.", ""), 1500001);
    metric_set(metrics_gauge_with(m, "g", "G.", "a=\"1\"", "b", "\"2\""), 7);
    metric_observe(metrics_histogram(m, "h_total", "H.", "", bounds, 1), 2);
    assert_written(m, METRICS_OPEN,
                   "# HELP vllm:x A \\\"b\\\" \\\\ c.\n# TYPE vllm:x counter\n"
                   "vllm:x_total{e=\"0\"} 3.0\n"
                   "# HELP s Time.\n# TYPE s counter\ns_total 1.500001\n"
                   "# HELP g G.\n# TYPE g gauge\ng{a=\"1\",b=\"\\\"2\\\"\"} 7.0\n"
                   "# HELP h_total H.\n# TYPE h_total histogram\n"
                   "h_total_bucket{le=\"1.0\"} 0.0\nh_total_bucket{le=\"+Inf\"} 1.0\n"
                   "h_total_count 1.0\nh_total_sum 2.0\n# EOF\n");
    char *s = written(m, METRICS_TEXT | METRICS_UNDERSCORES);
    assert_non_null(strstr(s, "# HELP vllm:x_total A \"b\" \\\\ c.\n# TYPE vllm:x_total counter\n"
                              "vllm:x_total{e=\"0\"} 3.0\n"
                              "# HELP vllm_x_total A \"b\" \\\\ c.\n# TYPE vllm_x_total counter\n"
                              "vllm_x_total{e=\"0\"} 3.0\n# HELP s_total"));
    free(s);
    metrics_free(m);
}

static void test_outside(void **state)
{
    (void)state;
    struct buf b = {0};
    metrics_write_head(METRICS_OPEN, "x_total", "X.", METRIC_COUNTER, &b);
    metrics_write_value("x_total", "a=\"1\"", 2, &b);
    metrics_write_head(METRICS_TEXT, "y_total", "Y.", METRIC_COUNTER, &b);
    metrics_write_value("y_total", "", 0.5, &b);
    metrics_write_end(METRICS_TEXT, &b);
    assert_string_equal(buf_str(&b), "# HELP x X.\n# TYPE x counter\nx_total{a=\"1\"} 2.0\n"
                                     "# HELP y_total Y.\n# TYPE y_total counter\ny_total 0.5\n");
    buf_fini(&b);
}

static void test_exemplars(void **state)
{
    (void)state;
    static const double bounds[] = {1, 2};
    struct metrics *m = metrics_new();
    assert_non_null(m);
    struct metric_histogram *h = metrics_histogram(m, "h", "H.", "e=\"0\"", bounds, 2);
    metric_observe_traced(h, 0.5, trace_b);
    metric_observe_traced(h, 0.25, trace_a); /* the last one stays */
    metric_observe_traced(h, 1.5, NULL);
    metric_observe_traced(h, 1.5, "");
    metric_observe_traced(h, 1.5, "short");
    metric_observe_traced(h, -3, trace_b); /* counts as 0, as without a trace */
    metric_observe_traced(h, 1. / 0., trace_a);
    metric_observe_traced(h, 9, trace_b);
    metric_observe_traced(NULL, 1, trace_a);
    char *s = written(m, METRICS_OPEN);
    char trace[64] = "";
    double value = -1, at = 0;
    const char *low = strstr(s, "h_bucket{e=\"0\",le=\"1.0\"} 3.0 # ");
    assert_non_null(low);
    assert_int_equal(
        sscanf(strstr(low, "# "), "# {trace_id=\"%32[0-9a-f]\"} %lf %lf\n", trace, &value, &at), 3);
    assert_string_equal(trace, trace_b);
    assert_true(value == 0);
    assert_true(at > 1.7e9 && at <= (double)clock_wall_us() * 1e-6 + 1);
    assert_non_null(strstr(s, "le=\"2.0\"} 6.0\n"));
    assert_non_null(
        strstr(s, "le=\"+Inf\"} 7.0 # {trace_id=\"fedcba9876543210fedcba9876543210\"} 9.0 "));
    free(s);
    s = written(m, METRICS_TEXT);
    assert_null(strstr(s, " # "));
    free(s);
    metrics_free(m);
}

static void test_derived(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    assert_non_null(m);
    metrics_alias(m, "old_total", "Old.", "hits_total"); /* before what they are made of */
    metrics_alias(m, "old_total", "Old.", "hits_total");
    metrics_ratio(m, "share", "Share.", "hits_total", "asked_total");
    metrics_weighted(m, "load", "Load.", "running", 10, "waiting");
    metrics_rate(NULL, "x", "", "y");
    assert_written(m, METRICS_TEXT, "");
    metric_set(metrics_gauge(m, "running", "R.", "e=\"0\""), 2);
    metric_set(metrics_gauge(m, "running", "R.", "e=\"1\""), 3);
    assert_written(m, METRICS_TEXT,
                   "# HELP running R.\n# TYPE running gauge\n"
                   "running{e=\"0\"} 2.0\nrunning{e=\"1\"} 3.0\n");
    metric_set(metrics_gauge(m, "waiting", "W.", "e=\"r\""), 4);
    metric_add(metrics_counter(m, "hits_total", "H.", "e=\"0\""), 3);
    metric_add(metrics_counter(m, "hits_total", "H.", "e=\"1\""), 1);
    metric_add(metrics_counter(m, "asked_total", "A.", "e=\"0\""), 4);
    char *s = written(m, METRICS_OPEN);
    assert_non_null(strstr(s, "# HELP old Old.\n# TYPE old counter\n"
                              "old_total{e=\"0\"} 3.0\nold_total{e=\"1\"} 1.0\n"));
    assert_non_null(strstr(s, "# TYPE share gauge\nshare{e=\"0\"} 0.75\nshare{e=\"1\"} 0.0\n"));
    assert_non_null(strstr(s, "# TYPE load gauge\nload 45.0\n"));
    free(s);
    metrics_free(m);
}

/* By the clock of the caller: nothing here waits. */
static void test_rates(void **state)
{
    (void)state;
    const uint64_t s = 1000000, at = 1000 * s;
    struct metrics *m = metrics_new();
    assert_non_null(m);
    struct metric_counter *c = metrics_counter(m, "c_total", "C.", "");
    metrics_rate(m, "speed", "Speed.", "c_total");
    metric_set(metrics_gauge(m, "price", "P.", ""), 6);
    metrics_per_rate(m, "cost", "Cost.", "price", 0.5, "c_total");
    metric_add(c, 100);
    assert_true(metric_counter_rate(c, at) == 0);
    metric_add(c, 50);
    assert_true(metric_counter_rate(c, at + 9 * s) == 0); /* too soon */
    assert_true(metric_counter_rate(c, at + 10 * s) == 5);
    metric_add(c, 7);
    assert_true(metric_counter_rate(c, at + 19 * s) == 5);
    assert_true(metric_counter_rate(c, at + 24 * s) == 0.5);
    c->rate_at_us = clock_now_us(); /* of this moment, so that the next look is too soon */
    assert_written(m, METRICS_TEXT,
                   "# HELP c_total C.\n# TYPE c_total counter\nc_total 157.0\n"
                   "# HELP speed Speed.\n# TYPE speed gauge\nspeed 0.5\n"
                   "# HELP price P.\n# TYPE price gauge\nprice 6.0\n"
                   "# HELP cost Cost.\n# TYPE cost gauge\ncost 6.0\n");
    metrics_free(m);
}

enum { N_WRITERS = 4, N_READS = 2000 };

struct stress {
    struct metrics *m;
    struct metric_histogram *h;
    atomic_bool stop;
};

static void *observe(void *arg)
{
    struct stress *s = arg;
    for (uint32_t i = 0; !atomic_load(&s->stop); i++)
        metric_observe_traced(s->h, i % 2 ? 0.25 : 0.5, i % 2 ? trace_a : trace_b);
    return NULL;
}

/* A trace and a value that do not belong together are never seen. */
static void test_threads(void **state)
{
    (void)state;
    static const double bounds[] = {1};
    struct stress s = {.m = metrics_new()};
    pthread_t t[N_WRITERS];
    assert_non_null(s.m);
    s.h = metrics_histogram(s.m, "h", "", "", bounds, 1);
    metric_observe_traced(s.h, 0.25, trace_a);
    for (int i = 0; i < N_WRITERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, observe, &s), 0);
    for (int i = 0; i < N_READS; i++) {
        char trace[METRIC_TRACE_DIGITS + 1];
        double value, at_s;
        if (!metric_histogram_exemplar(s.h, 0, trace, &value, &at_s))
            continue;
        assert_string_equal(trace, value == 0.25 ? trace_a : trace_b);
    }
    atomic_store(&s.stop, true);
    for (int i = 0; i < N_WRITERS; i++)
        pthread_join(t[i], NULL);
    char trace[METRIC_TRACE_DIGITS + 1];
    double value, at_s;
    assert_true(metric_histogram_exemplar(s.h, 0, trace, &value, &at_s));
    metrics_free(s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),      cmocka_unit_test(test_outside),
        cmocka_unit_test(test_exemplars), cmocka_unit_test(test_derived),
        cmocka_unit_test(test_rates),     cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
