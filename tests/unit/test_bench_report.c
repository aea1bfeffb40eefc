/* test_bench_report.c - table, JSON, CSV and chart of a run and of a sweep. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/bench/chart.h"
#include "core/bench/report.h"
#include "core/util/json.h"

enum { LEVELS = 3 };

static const struct report_head head = {.url = "http://h:1",
                                        .model = "m<\"&>",
                                        .endpoint = "chat",
                                        .load = "closed",
                                        .seed = 42,
                                        .stream = true,
                                        .logged_hit_rate = -1};

static void make_levels(struct level levels[LEVELS])
{
    for (uint32_t i = 0; i < LEVELS; i++) {
        uint32_t gaps[9];
        struct measure *m = calloc(1, sizeof(*m));
        assert_non_null(m);
        m->wall_us = 2000000;
        m->cpu_us = 10000;
        m->peak = 1u << i;
        for (size_t k = 0; k < ARRAY_LEN(gaps); k++)
            gaps[k] = 20000 + i;
        for (uint32_t k = 0; k < 1000u << i; k++) {
            const struct sample s = {.outcome = OUTCOME_OK,
                                     .ttft_us = 30000 + k,
                                     .e2e_us = 210000,
                                     .text_us = 180000,
                                     .gaps = gaps,
                                     .n_gaps = 9,
                                     .n_pieces = 10,
                                     .has_usage = true,
                                     .prompt_tokens = 50,
                                     .cached_tokens = 5,
                                     .completion_tokens = 10};
            measure_add(m, &s);
        }
        levels[i] = (struct level){1u << i, 0, m};
    }
    const struct sample refused = {
        .outcome = OUTCOME_STATUS, .status = 429, .message = "slow \"down\""};
    measure_add(levels[0].m, &refused);
}

static void free_levels(struct level levels[LEVELS])
{
    for (uint32_t i = 0; i < LEVELS; i++)
        free(levels[i].m);
}

static void assert_has(const struct buf *b, const char *part)
{
    if (!strstr(buf_str(b), part))
        fail_msg("no \"%s\" in:\n%s", part, buf_str(b));
}

static void test_table(void **state)
{
    (void)state;
    struct level levels[LEVELS];
    struct buf b = {0};
    make_levels(levels);
    report_table(&head, &levels[0], &b);
    assert_has(&b, "requests  1,000 whole, 1 failed, 2.00 s, 500.00 req/s\n");
    assert_has(&b, "in        50,000 tokens, 25,000.0 tok/s, cached 10.0 %\n");
    assert_has(&b, "out       10,000 tokens, 5,000.0 tok/s\n");
    assert_has(&b, "1 x 429");
    assert_has(&b, "slow \"down\"");
    assert_has(&b, "ITL           20.0      20.0      20.0      20.0      20.0      20.0\n");
    assert_has(&b, "client    0.5 % of a core");
    assert_null(strstr(buf_str(&b), "goodput"));
    buf_clear(&b);
    report_sweep(&head, levels, LEVELS, &b);
    assert_has(&b, "<- knee");
    assert_has(&b, "The knee is at 4:");
    buf_fini(&b);
    free_levels(levels);
}

static void test_json(void **state)
{
    (void)state;
    struct level levels[LEVELS];
    struct buf b = {0};
    json_t *v = NULL;
    make_levels(levels);
    report_json(&head, levels, 1, &b);
    assert_int_equal(json_parse(buf_str(&b), b.len, &v, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(v, "model")), "m<\"&>");
    assert_int_equal(json_integer_value(json_object_get(v, "completed")), 1000);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "errors"), "status")),
                     1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "statuses"), "429")), 1);
    assert_true(json_real_value(json_object_get(v, "output_tokens_per_s")) == 5000);
    assert_true(json_real_value(json_object_get(json_object_get(v, "itl_ms"), "max")) == 20);
    json_decref(v);
    buf_clear(&b);
    report_json(&head, levels, LEVELS, &b);
    assert_int_equal(json_parse(buf_str(&b), b.len, &v, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(v, "levels")), LEVELS);
    assert_int_equal(json_integer_value(json_object_get(v, "knee")), 4);
    json_decref(v);
    buf_fini(&b);
    free_levels(levels);
}

/* As many cells in each line as in the header. */
static void test_csv(void **state)
{
    (void)state;
    struct level levels[LEVELS];
    struct buf b = {0};
    uint32_t lines = 0, commas = 0, wanted = 0;
    make_levels(levels);
    report_csv(levels, LEVELS, &b);
    for (const char *p = buf_str(&b); *p; p++) {
        commas += *p == ',';
        if (*p != '\n')
            continue;
        wanted = lines++ == 0 ? commas : wanted;
        assert_int_equal(commas, wanted);
        commas = 0;
    }
    assert_int_equal(lines, 1 + LEVELS);
    assert_has(&b, "concurrency,rate,duration_s,completed,failed");
    assert_has(&b, "\n4,0,2.000000,4000,0,0,2000.0000,");
    buf_fini(&b);
    free_levels(levels);
}

/* Every element is closed, what came from outside is escaped, and nothing lies outside the picture. */
static void test_chart(void **state)
{
    (void)state;
    struct level levels[LEVELS];
    make_levels(levels);
    for (uint32_t n = 1; n <= LEVELS; n += 2) {
        struct buf b = {0};
        int depth = 0;
        chart_svg(&head, levels, n, &b);
        for (const char *p = strchr(buf_str(&b), '<'); p; p = strchr(p + 1, '<')) {
            const char *end = strchr(p, '>');
            assert_non_null(end);
            if (p[1] == '/')
                depth--;
            else if (end[-1] != '/')
                depth++;
            assert_true(depth >= 0);
        }
        assert_int_equal(depth, 0);
        assert_has(&b, "m&lt;\"&amp;&gt;");
        assert_has(&b, n > 1 ? "4 (knee)" : "p99 ");
        assert_null(strstr(buf_str(&b), "nan"));
        assert_null(strstr(buf_str(&b), "inf"));
        buf_fini(&b);
    }
    memset(levels[0].m, 0, sizeof(*levels[0].m)); /* nothing was measured */
    struct buf b = {0};
    chart_svg(&head, levels, 1, &b);
    report_table(&head, levels, &b);
    assert_null(strstr(buf_str(&b), "nan"));
    buf_fini(&b);
    free_levels(levels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_chart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
