/* The sim backend: tokens are a function of (tag, position), steps take their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/backend/backend.h"
#include "core/util/clock.h"
#include "tests/unit/patience.h"

static struct backend *sim(uint64_t step_us, uint64_t row_ns, uint32_t first, uint32_t n)
{
    struct sim_opts o = {
        .step_us = step_us, .row_us_x1000 = row_ns, .first_token = first, .n_tokens = n};
    struct backend *be;
    assert_int_equal(sim_backend_new(&o, &be, NULL), 0);
    return be;
}

static uint32_t token(struct backend *be, uint64_t tag, uint32_t position)
{
    struct sample_row row = {.row = 0, .tag = tag, .position = position};
    uint32_t id;
    assert_int_equal(be->ops->sample(be, NULL, &row, 1, &id), 0);
    return id;
}

static void test_tokens_depend_on_tag_and_position_only(void **state)
{
    (void)state;
    struct backend *a = sim(0, 0, 100, 50), *b = sim(7, 9, 100, 50);
    uint32_t n_tag_differs = 0, n_pos_differs = 0;
    for (uint64_t tag = 0; tag < 40; tag++)
        for (uint32_t pos = 0; pos < 40; pos++) {
            uint32_t id = token(a, tag, pos);
            assert_in_range(id, 100, 149);
            assert_int_equal(id, token(b, tag, pos));
            n_tag_differs += id != token(a, tag + 1, pos);
            n_pos_differs += id != token(a, tag, pos + 1);
        }
    /* 1 in 50 coincides by chance. */
    assert_in_range(n_tag_differs, 1500, 1600);
    assert_in_range(n_pos_differs, 1500, 1600);
    a->ops->free(a);
    b->ops->free(b);
}

/* Every id of the range about equally often: chi-square with 63 degrees of freedom, p = 1e-6. */
static void test_tokens_are_spread_over_the_range(void **state)
{
    (void)state;
    struct backend *be = sim(0, 0, 0, 64);
    uint32_t counts[64] = {0};
    double chi2 = 0;
    for (uint32_t i = 0; i < 64000; i++)
        counts[token(be, i % 100, i / 100)]++;
    for (int i = 0; i < 64; i++)
        chi2 += (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000.0;
    assert_true(chi2 < 131.0);
    be->ops->free(be);
}

/* The deadline is absolute: what the host does meanwhile is part of the step, and a second finish does
 * not wait again. */
static bool finishes_at_once(struct backend *be, const struct batch *b)
{
    assert_int_equal(be->ops->begin(be, b), 0);
    clock_sleep_us(5000);
    const uint64_t before_us = clock_now_us();
    assert_int_equal(be->ops->finish(be), 0);
    assert_int_equal(be->ops->finish(be), 0);
    return clock_now_us() - before_us < 3000;
}

static void test_a_step_takes_its_time_once(void **state)
{
    (void)state;
    struct backend *be = sim(3000, 500000, 0, 1); /* 3 ms + 0.5 ms per row */
    struct batch b = {.n_rows = 4};
    uint64_t start_us = clock_now_us();
    assert_int_equal(be->ops->begin(be, &b), 0);
    assert_int_equal(be->ops->finish(be), 0);
    assert_true(clock_now_us() - start_us >= 5000);
    assert_soon(finishes_at_once(be, &b)); /* unless the machine is busy just then */
    be->ops->free(be);
}

static void test_bad_options(void **state)
{
    (void)state;
    struct backend *be;
    const struct sim_opts bad[] = {
        {.first_token = 5, .n_tokens = 0},
        {.first_token = UINT32_MAX, .n_tokens = 2},
        {.n_tokens = 1, .step_us = UINT64_MAX},
        {.n_tokens = 1, .row_us_x1000 = UINT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        assert_int_equal(sim_backend_new(&bad[i], &be, &e), -LLMD_EINVAL);
        assert_true(strlen(e.msg) > 0);
    }
}

static void test_block_bytes_are_a_devices(void **state)
{
    (void)state;
    struct backend *be = sim(0, 0, 0, 1);
    struct attn_shape shape = {.n_layers = 30, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64};
    assert_int_equal(be->ops->kv_block_bytes(be, &shape), 2 * 2 * 16 * 30 * 3 * 64);
    be->ops->free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_depend_on_tag_and_position_only),
        cmocka_unit_test(test_tokens_are_spread_over_the_range),
        cmocka_unit_test(test_a_step_takes_its_time_once),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_block_bytes_are_a_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
