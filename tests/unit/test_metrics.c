/* test_metrics.c - exposition text to the byte, sharded totals under load, growth only. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics.h"
#include "core/observe/metrics_int.h"

static const char dropped_text[] =
    "# HELP llmd_metrics_dropped_total Series that could not be registered and are not exported.\n"
    "# TYPE llmd_metrics_dropped_total counter\n"
    "llmd_metrics_dropped_total 0.0\n";

static void assert_exposition(struct metrics *m, const char *expected)
{
    struct buf b = {0};
    metrics_write(m, METRICS_TEXT, &b);
    assert_false(b.failed);
    assert_memory_equal(buf_str(&b), dropped_text, strlen(dropped_text));
    assert_string_equal(buf_str(&b) + strlen(dropped_text), expected);
    buf_fini(&b);
}

static void test_golden(void **state)
{
    (void)state;
    static const double bounds[] = {.01, .5, 1, 1e6};
    struct metrics *m = metrics_new();
    struct buf l = {0};
    assert_non_null(m);
    metrics_label(&l, "model_name", "a\"b\\c\nd");
    metrics_label(&l, "engine", "0");
    struct metric_counter *c =
        metrics_counter(m, "vllm:x_total", "One \\ two\nthree.", buf_str(&l));
    struct metric_gauge *g = metrics_gauge(m, "vllm:g", "A gauge.", "");
    struct metric_histogram *h =
        metrics_histogram(m, "vllm:h_seconds", "Times.", "engine=\"0\"", bounds, 4);
    struct metric_histogram *bare = metrics_histogram(m, "bare", "No labels.", "", bounds, 1);
    struct metric_counter *d = metrics_counter(m, "vllm:x_total", "ignored", "engine=\"1\"");
    assert_true(c != d);
    assert_ptr_equal(c, metrics_counter(m, "vllm:x_total", "other help", buf_str(&l)));
    assert_ptr_equal(g, metrics_gauge(m, "vllm:g", "A gauge.", ""));
    assert_ptr_equal(h, metrics_histogram(m, "vllm:h_seconds", "", "engine=\"0\"", NULL, 0));
    metric_add(c, 41);
    metric_add(c, 1);
    metric_set(g, 2.5);
    metric_gauge_add(g, -3.25);
    metric_observe(h, .01); /* a bound belongs to its bucket */
    metric_observe_n(h, .25, 3);
    metric_observe(h, 7);
    metric_observe(h, 2e6);
    metric_observe(h, -5); /* counts as 0 */
    metric_observe(h, NAN);
    metric_observe(h, INFINITY);
    metric_observe_n(h, 1, 0);
    metric_observe(bare, 1);
    assert_exposition(m, "# HELP vllm:x_total One \\\\ two\\nthree.\n"
                         "# TYPE vllm:x_total counter\n"
                         "vllm:x_total{model_name=\"a\\\"b\\\\c\\nd\",engine=\"0\"} 42.0\n"
                         "vllm:x_total{engine=\"1\"} 0.0\n"
                         "# HELP vllm:g A gauge.\n"
                         "# TYPE vllm:g gauge\n"
                         "vllm:g -0.75\n"
                         "# HELP vllm:h_seconds Times.\n"
                         "# TYPE vllm:h_seconds histogram\n"
                         "vllm:h_seconds_bucket{engine=\"0\",le=\"0.01\"} 2.0\n"
                         "vllm:h_seconds_bucket{engine=\"0\",le=\"0.5\"} 5.0\n"
                         "vllm:h_seconds_bucket{engine=\"0\",le=\"1.0\"} 5.0\n"
                         "vllm:h_seconds_bucket{engine=\"0\",le=\"1e+06\"} 6.0\n"
                         "vllm:h_seconds_bucket{engine=\"0\",le=\"+Inf\"} 7.0\n"
                         "vllm:h_seconds_count{engine=\"0\"} 7.0\n"
                         "vllm:h_seconds_sum{engine=\"0\"} 2.00000776e+06\n"
                         "# HELP bare No labels.\n"
                         "# TYPE bare histogram\n"
                         "bare_bucket{le=\"0.01\"} 0.0\n"
                         "bare_bucket{le=\"+Inf\"} 1.0\n"
                         "bare_count 1.0\n"
                         "bare_sum 1.0\n");
    buf_fini(&l);
    metrics_free(m);
    metrics_free(NULL);
}

static void test_null_is_fine(void **state)
{
    (void)state;
    assert_null(metrics_counter(NULL, "x_total", "", ""));
    assert_null(metrics_gauge(NULL, "x", "", ""));
    assert_null(metrics_histogram(NULL, "x", "", "", NULL, 0));
    metric_add(NULL, 1);
    metric_set(NULL, 1);
    metric_gauge_add(NULL, 1);
    metric_observe(NULL, 1);
    metric_observe_n(NULL, 1, 2);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0, "0.0"},
        {1, "1.0"},
        {-1, "-1.0"},
        {.1, "0.1"},
        {.001, "0.001"},
        {.0001, "0.0001"},
        {.00001, "1e-05"},
        {2560, "2560.0"},
        {999999, "999999.0"},
        {1000000, "1e+06"},
        {1234567, "1.234567e+06"},
        {1.0 / 3, "0.3333333333333333"},
        {NAN, "NaN"},
        {INFINITY, "+Inf"},
        {-INFINITY, "-Inf"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {123456.789, "123456.789"},
        {100000, "100000.0"},
    };
    char out[METRIC_NUMBER_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        metric_format(cases[i].v, out);
        assert_string_equal(out, cases[i].text);
    }
    srand(1);
    for (int i = 0; i < 20000; i++) {
        double v = ldexp((double)rand() / RAND_MAX - .5, rand() % 200 - 100);
        metric_format(v, out);
        assert_true(strtod(out, NULL) == v);
    }
}

static void test_labels(void **state)
{
    (void)state;
    struct buf l = {0};
    metrics_label(&l, "a", "");
    metrics_label(&l, "b",
                  "\xff"
                  "z\xc3"); /* not UTF-8: replaced, a scrape must stay readable */
    assert_string_equal(buf_str(&l), "a=\"\",b=\"\xef\xbf\xbdz\xef\xbf\xbd\"");
    buf_fini(&l);
}

static void test_bounds_125(void **state)
{
    (void)state;
    double b[80];
    static const double to_300[] = {1, 2, 5, 10, 20, 50, 100, 200};
    assert_int_equal(metric_bounds_125(300, b, 80), 8);
    assert_memory_equal(b, to_300, sizeof(to_300));
    assert_int_equal(metric_bounds_125(500, b, 80), 9);
    assert_int_equal(metric_bounds_125(300, b, 3), 3);
    assert_int_equal(metric_bounds_125(0, b, 80), 0);
    assert_int_equal(metric_bounds_125(1, b, 80), 1);
    assert_int_equal(metric_bounds_125(5, b, 0), 0);
    uint32_t n = metric_bounds_125(UINT64_MAX, b, 80);
    assert_int_equal(n, 58); /* ends with 1e19; 2e19 is above */
    for (uint32_t i = 1; i < n; i++)
        assert_true(b[i] > b[i - 1]);
}

/* The bounds of vLLM are ascending: registration would be a BUG otherwise. */
static void test_vllm_bounds(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    assert_non_null(m);
    metrics_histogram(m, "t", "", "", metric_bounds_ttft, metric_n_bounds_ttft);
    metrics_histogram(m, "i", "", "", metric_bounds_itl, metric_n_bounds_itl);
    metrics_histogram(m, "e", "", "", metric_bounds_latency, metric_n_bounds_latency);
    assert_int_equal(metric_n_bounds_ttft, 22);
    assert_int_equal(metric_n_bounds_itl, 19);
    assert_int_equal(metric_n_bounds_latency, 21);
    metrics_free(m);
}

static void test_series_are_bounded(void **state)
{
    (void)state;
    enum { N = METRIC_MAX_SERIES + 10 };
    struct metrics *m = metrics_new();
    struct metric_gauge *last = NULL;
    struct buf b = {0};
    assert_non_null(m);
    for (int i = 0; i < N; i++) {
        char labels[32];
        snprintf(labels, sizeof(labels), "i=\"%d\"", i);
        last = metrics_gauge(m, "many", "", labels);
        assert_non_null(last);
    }
    metric_set(last, 123456.5);
    /* Other kinds are refused too, and still usable. */
    static const double bounds[] = {1, 2, 3};
    struct metric_histogram *h = metrics_histogram(m, "h", "", "", bounds, 3);
    metric_observe(h, 2);
    metric_add(metrics_counter(m, "c_total", "", ""), 1);
    metrics_write(m, METRICS_TEXT, &b);
    assert_null(strstr(buf_str(&b), "123456.5"));
    assert_null(strstr(buf_str(&b), "c_total "));
    assert_non_null(strstr(buf_str(&b), "\nllmd_metrics_dropped_total 12.0\n"));
    buf_fini(&b);
    metrics_free(m);
}

/* A buf that cannot grow fails; it is the caller's to see. */
static void test_write_into_full_buf(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    struct buf b = {.max_len = 40};
    assert_non_null(m);
    metrics_write(m, METRICS_TEXT, &b);
    assert_true(b.failed);
    buf_fini(&b);
    metrics_free(m);
}

enum { N_THREADS = 24, N_UPDATES = 20000 };

struct stress {
    struct metrics *m;
    struct metric_counter *c;
    struct metric_gauge *g;
    struct metric_histogram *h;
    _Atomic bool stop;
    _Atomic uint64_t scrapes;
};

static void *updater(void *arg)
{
    struct stress *s = arg;
    for (int i = 0; i < N_UPDATES; i++) {
        metric_add(s->c, 2);
        metric_gauge_add(s->g, i % 2 ? -1 : 1);
        metric_observe_n(s->h, i % 4, 3);
        if (i % 1000 == 0) /* same name, same labels: same series, from any thread */
            metric_add(metrics_counter(s->m, "late_total", "Registered while running.", ""), 1);
    }
    return NULL;
}

static double read_value(const char *text, const char *line_start)
{
    const char *p = strstr(text, line_start);
    assert_non_null(p);
    return strtod(p + strlen(line_start), NULL);
}

static void *scraper(void *arg)
{
    struct stress *s = arg;
    double c = 0, n = 0, sum = 0;
    while (!atomic_load(&s->stop)) {
        struct buf b = {0};
        metrics_write(s->m, METRICS_TEXT, &b);
        const char *text = buf_str(&b);
        double c_now = read_value(text, "\nc_total ");
        double n_now = read_value(text, "\nh_count ");
        double sum_now = read_value(text, "\nh_sum ");
        assert_true(c_now >= c && n_now >= n && sum_now >= sum);            /* I1 */
        assert_true(n_now == read_value(text, "\nh_bucket{le=\"+Inf\"} ")); /* I2 */
        c = c_now;
        n = n_now;
        sum = sum_now;
        buf_fini(&b);
        atomic_fetch_add(&s->scrapes, 1);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static const double bounds[] = {0, 1, 2};
    pthread_t up[N_THREADS], down[2];
    struct stress s = {.m = metrics_new()};
    assert_non_null(s.m);
    s.c = metrics_counter(s.m, "c_total", "", "");
    s.g = metrics_gauge(s.m, "g", "", "");
    s.h = metrics_histogram(s.m, "h", "", "", bounds, 3);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&down[i], NULL, scraper, &s), 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&up[i], NULL, updater, &s), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(up[i], NULL);
    while (atomic_load(&s.scrapes) < 4) /* both looked at least once, whatever the scheduler did */
        ;
    atomic_store(&s.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(down[i], NULL);
    assert_exposition(s.m, "# HELP c_total \n# TYPE c_total counter\nc_total 960000.0\n"
                           "# HELP g \n# TYPE g gauge\ng 0.0\n"
                           "# HELP h \n# TYPE h histogram\n"
                           "h_bucket{le=\"0.0\"} 360000.0\n"
                           "h_bucket{le=\"1.0\"} 720000.0\n"
                           "h_bucket{le=\"2.0\"} 1080000.0\n"
                           "h_bucket{le=\"+Inf\"} 1440000.0\n"
                           "h_count 1440000.0\nh_sum 2.16e+06\n"
                           "# HELP late_total Registered while running.\n"
                           "# TYPE late_total counter\nlate_total 480.0\n");
    metrics_free(s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_null_is_fine),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_bounds_125),
        cmocka_unit_test(test_vllm_bounds),
        cmocka_unit_test(test_series_are_bounded),
        cmocka_unit_test(test_write_into_full_buf),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
