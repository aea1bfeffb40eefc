/* test_tensor.c - element types and row sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/tensor.h"

static void test_rows(void **state)
{
    static const struct {
        enum dtype t;
        uint64_t cols;
        size_t bytes; /* 0: refused */
    } cases[] = {
        {DTYPE_F32, 1, 4},      {DTYPE_F32, 0, 0},       {DTYPE_F16, 7, 14},
        {DTYPE_BF16, 3, 6},     {DTYPE_Q8_0, 576, 612},  {DTYPE_Q8_0, 33, 0},
        {DTYPE_Q4_0, 32, 18},   {DTYPE_Q4_1, 1536, 960}, {DTYPE_Q4_1, 31, 0},
        {DTYPE_Q4_K, 256, 144}, {DTYPE_Q4_K, 32, 0},     {DTYPE_Q6_K, 512, 420},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = 99;
        bool ok = dtype_row_bytes(cases[i].t, cases[i].cols, &n);
        assert_int_equal(ok, cases[i].bytes != 0 || cases[i].cols == 0);
        assert_int_equal(n, ok ? cases[i].bytes : 99);
    }
}

/* Products that do not fit are refused, the output left alone. */
static void test_overflow(void **state)
{
    (void)state;
    for (int t = 0; t < DTYPE_COUNT; t++) {
        size_t n = 99;
        uint64_t elems = dtype_block_elems((enum dtype)t), bytes = dtype_block_bytes((enum dtype)t);
        uint64_t most = SIZE_MAX / bytes; /* blocks */
        if (most < UINT64_MAX / elems) {
            assert_true(dtype_row_bytes((enum dtype)t, most * elems, &n));
            assert_int_equal(n, most * bytes);
            n = 99;
            assert_false(dtype_row_bytes((enum dtype)t, (most + 1) * elems, &n));
            assert_int_equal(n, 99);
        }
        assert_true(strlen(dtype_name((enum dtype)t)) >= 3);
        for (int other = 0; other < t; other++)
            assert_string_not_equal(dtype_name((enum dtype)t), dtype_name((enum dtype)other));
    }
}

static void test_bytes_of_a_tensor(void **state)
{
    static const char data[1];
    struct host_tensor t = {.data = data, .dtype = DTYPE_Q8_0, .rows = 3, .cols = 64};
    (void)state;
    assert_int_equal(host_tensor_bytes(&t), 3 * 68);
    t.cols = 65;
    assert_int_equal(host_tensor_bytes(&t), 0);
    t.cols = 64;
    t.rows = UINT64_MAX / 2;
    assert_int_equal(host_tensor_bytes(&t), 0);
    t.rows = 3;
    t.data = NULL;
    assert_int_equal(host_tensor_bytes(&t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_bytes_of_a_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
