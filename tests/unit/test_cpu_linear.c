/* test_cpu_linear.c - the CPU backend's products of every weight type, against a reference in
 * double, and bit-identical over instruction sets, threads and splits of the batch. */
#include "tests/ops/cpu_case.h"

enum { MAX_TEST_ROWS = 70 };

struct product {
    uint32_t n_rows, n_out, cols;
    float *x, *y; /* [n_rows][cols], [n_rows][n_out] */
};

static struct product product_new(uint32_t n_rows, uint32_t n_out, uint32_t cols)
{
    struct product p = {.n_rows = n_rows, .n_out = n_out, .cols = cols};
    p.x = malloc((size_t)n_rows * cols * sizeof(float));
    p.y = malloc((size_t)n_rows * n_out * sizeof(float));
    assert_non_null(p.x);
    assert_non_null(p.y);
    random_floats(p.x, (size_t)n_rows * cols);
    return p;
}

static void product_drop(struct product *p)
{
    free(p->x);
    free(p->y);
}

/* Runs rows first..first+n-1 of p through the weight in one step. */
static void run_rows(struct backend *be, enum weight_role role, const struct weight *w,
                     struct tensor *in, struct tensor *out, struct product *p, uint32_t first,
                     uint32_t n)
{
    struct batch b;
    memcpy(in->data, p->x + (size_t)first * p->cols, (size_t)n * p->cols * sizeof(float));
    begin_rows(be, n, &b);
    if (role == WEIGHT_GATE_UP)
        assert_int_equal(be->ops->gate_up(be, in, w, out), 0);
    else
        assert_int_equal(be->ops->linear(be, in, w, out), 0);
    assert_int_equal(be->ops->finish(be), 0);
    memcpy(p->y + (size_t)first * p->n_out, out->data, (size_t)n * p->n_out * sizeof(float));
}

/* Of the parts in run(); NULL: none. */
static const struct host_tensor *run_biases;

/* The whole product on a fresh backend, `step` rows at a time. False: no such instruction set. */
static bool run(const char *isa, uint32_t threads, enum compute_type compute, enum weight_role role,
                const struct host_tensor *parts, uint32_t n_parts, struct product *p, uint32_t step)
{
    struct backend *be = ready_backend(isa, threads, compute, any_shape(), MAX_TEST_ROWS, 64);
    if (!be)
        return false;
    struct weight *w = new_biased_weight(be, role, parts, n_parts, run_biases);
    struct tensor in = new_tensor(be, MAX_TEST_ROWS, p->cols);
    struct tensor out = new_tensor(be, MAX_TEST_ROWS, p->n_out);
    for (uint32_t r = 0; r < p->n_rows; r += step)
        run_rows(be, role, w, &in, &out, p, r, (uint32_t)u64_min(step, p->n_rows - r));
    be->ops->weight_free(w);
    be->ops->free(be);
    return true;
}

/* What the product should be, and in out_scale the sum of magnitudes that errors relate to. */
static double expected(const struct host_tensor *parts, uint32_t n_parts, uint32_t out_row,
                       const double *x, double *out_scale)
{
    uint32_t i = 0;
    double sum = 0.0;
    while (i + 1 < n_parts && out_row >= parts[i].rows)
        out_row -= (uint32_t)parts[i++].rows;
    *out_scale = 1e-6;
    for (uint32_t k = 0; k < parts[i].cols; k++) {
        const double term = tensor_value(&parts[i], out_row, k) * x[k];
        sum += term;
        *out_scale += fabs(term);
    }
    return sum;
}

static void input_row(enum dtype t, enum compute_type c, const float *x, uint32_t cols, double *out)
{
    const bool quantized = c == COMPUTE_AUTO && dtype_block_elems(t) > 1;
    for (uint32_t k = 0; k < cols; k++)
        out[k] = x[k];
    if (quantized)
        quantize_like_cpu(x, cols, out);
}

static void assert_product(const struct product *p, const struct host_tensor *parts,
                           uint32_t n_parts, enum compute_type c)
{
    double *x = malloc(p->cols * sizeof(*x));
    assert_non_null(x);
    for (uint32_t r = 0; r < p->n_rows; r++) {
        for (uint32_t n = 0, part = 0, base = 0; n < p->n_out; n++) {
            if (n - base >= parts[part].rows)
                base += (uint32_t)parts[part++].rows;
            if (n == base)
                input_row(parts[part].dtype, c, p->x + (size_t)r * p->cols, p->cols, x);
            double scale, want = expected(parts, n_parts, n, x, &scale);
            double got = p->y[(size_t)r * p->n_out + n];
            if (!(fabs(got - want) <= 2e-6 * scale))
                fail_msg("%s %ux%u row %u, output %u: %.9g instead of %.9g",
                         dtype_name(parts[part].dtype), p->n_out, p->cols, r, n, got, want);
        }
    }
    free(x);
}

/* Every instruction set, thread count and batch split gives the same bits. */
static void assert_same_bits(const struct product *want, enum weight_role role, enum compute_type c,
                             const struct host_tensor *parts, uint32_t n_parts)
{
    struct product got = product_new(want->n_rows, want->n_out, want->cols);
    memcpy(got.x, want->x, (size_t)want->n_rows * want->cols * sizeof(float));
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            const uint32_t step = threads == 1 ? MAX_TEST_ROWS : threads == 2 ? 1 : 7;
            if (i == 0 && threads != 3) /* the portable kernels are slow: one way will do */
                continue;
            memset(got.y, 0xff, (size_t)want->n_rows * want->n_out * sizeof(float));
            if (!run(all_isas[i], threads, c, role, parts, n_parts, &got, step))
                continue;
            if (memcmp(got.y, want->y, (size_t)want->n_rows * want->n_out * sizeof(float)) != 0)
                fail_msg("%s %s, %u threads, %u rows at a time: other bits", all_isas[i],
                         dtype_name(parts[0].dtype), threads, step);
        }
    product_drop(&got);
}

static void check_type(enum dtype t, enum compute_type c)
{
    static const uint32_t rows[] = {1, 2, 3, 5, 17, 64, 33}, outs[] = {1, 16, 40, 33, 17, 5, 48};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint32_t block = dtype_block_elems(t);
        const uint32_t cols = block == 1 ? 19 + 7 * (uint32_t)i : block * (1 + (uint32_t)i % 3);
        struct host_tensor w = tensor_random(t, outs[i], cols);
        struct product p = product_new(rows[i], outs[i], cols);
        assert_true(run("portable", 1, c, WEIGHT_LINEAR, &w, 1, &p, MAX_TEST_ROWS));
        assert_product(&p, &w, 1, c);
        assert_same_bits(&p, WEIGHT_LINEAR, c, &w, 1);
        product_drop(&p);
        tensor_drop(&w);
    }
}

static void test_every_type(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        check_type((enum dtype)t, COMPUTE_AUTO);
        check_type((enum dtype)t, COMPUTE_F32);
    }
}

/* Q, K and V share a product: rows one after the other, types may differ, rows no multiple of 16. */
static void test_parts(void **state)
{
    (void)state;
    struct host_tensor parts[] = {tensor_random(DTYPE_Q4_K, 48, 512),
                                  tensor_random(DTYPE_Q6_K, 19, 512),
                                  tensor_random(DTYPE_BF16, 21, 512)};
    struct product p = product_new(35, 48 + 19 + 21, 512);
    assert_true(run("portable", 2, COMPUTE_AUTO, WEIGHT_LINEAR, parts, 3, &p, MAX_TEST_ROWS));
    assert_product(&p, parts, 3, COMPUTE_AUTO);
    assert_same_bits(&p, WEIGHT_LINEAR, COMPUTE_AUTO, parts, 3);
    product_drop(&p);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        tensor_drop(&parts[i]);
}

/* Biases: of all parts, of some; F32 and half floats; rows no multiple of 16. */
static void test_biases(void **state)
{
    (void)state;
    static const uint32_t rows[] = {48, 19, 21}, steps[] = {MAX_TEST_ROWS, 1, 7};
    struct host_tensor parts[3], biases[3] = {{0}};
    for (uint32_t i = 0; i < 3; i++)
        parts[i] = tensor_random(i == 1 ? DTYPE_BF16 : DTYPE_Q4_1, rows[i], 64);
    biases[0] = tensor_random(DTYPE_F32, 1, rows[0]);
    biases[2] = tensor_random(DTYPE_BF16, 1, rows[2]);
    struct product plain = product_new(35, 48 + 19 + 21, 64), got = product_new(35, 88, 64);
    memcpy(got.x, plain.x, 35 * 64 * sizeof(float));
    assert_true(run("auto", 1, COMPUTE_AUTO, WEIGHT_LINEAR, parts, 3, &plain, MAX_TEST_ROWS));
    for (uint32_t r = 0; r < 35; r++)
        for (uint32_t n = 0; n < 88; n++)
            if (n < 48)
                plain.y[r * 88 + n] += (float)tensor_value(&biases[0], 0, n);
            else if (n >= 67)
                plain.y[r * 88 + n] += (float)tensor_value(&biases[2], 0, n - 67);
    run_biases = biases;
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            memset(got.y, 0xff, 35 * 88 * sizeof(float));
            if (run(all_isas[i], threads, COMPUTE_AUTO, WEIGHT_LINEAR, parts, 3, &got,
                    steps[threads - 1]))
                assert_memory_equal(got.y, plain.y, 35 * 88 * sizeof(float));
        }
    run_biases = NULL;
    product_drop(&plain);
    product_drop(&got);
    for (uint32_t i = 0; i < 3; i++) {
        tensor_drop(&parts[i]);
        tensor_drop(&biases[i]);
    }
}

static void check_gate_up(enum dtype gate, enum dtype up, uint32_t n_out, uint32_t cols)
{
    struct host_tensor parts[] = {tensor_random(gate, n_out, cols), tensor_random(up, n_out, cols)};
    struct product p = product_new(50, n_out, cols);
    double *x = malloc(cols * sizeof(*x));
    assert_non_null(x);
    assert_true(run("portable", 1, COMPUTE_AUTO, WEIGHT_GATE_UP, parts, 2, &p, MAX_TEST_ROWS));
    for (uint32_t r = 0; r < p.n_rows; r++)
        for (uint32_t n = 0; n < n_out; n++) {
            double scale_g, scale_u, got = p.y[(size_t)r * n_out + n];
            input_row(gate, COMPUTE_AUTO, p.x + (size_t)r * cols, cols, x);
            const double g = expected(&parts[0], 1, n, x, &scale_g);
            input_row(up, COMPUTE_AUTO, p.x + (size_t)r * cols, cols, x);
            const double u = expected(&parts[1], 1, n, x, &scale_u);
            const double want = g / (1.0 + exp(-g)) * u;
            const double bound = 4e-6 * (scale_g + 1) * (scale_u + 1);
            if (!(fabs(got - want) <= bound))
                fail_msg("row %u, output %u: %.9g instead of %.9g", r, n, got, want);
        }
    assert_same_bits(&p, WEIGHT_GATE_UP, COMPUTE_AUTO, parts, 2);
    free(x);
    product_drop(&p);
    tensor_drop(&parts[0]);
    tensor_drop(&parts[1]);
}

static void test_gate_up(void **state)
{
    (void)state;
    check_gate_up(DTYPE_Q4_1, DTYPE_Q4_1, 64, 96);
    check_gate_up(DTYPE_Q8_0, DTYPE_Q4_0, 23, 64);
    check_gate_up(DTYPE_F32, DTYPE_F32, 17, 33);
    check_gate_up(DTYPE_Q6_K, DTYPE_F16, 5, 256);
}

/* Integer products at their extremes must not saturate in any instruction set. */
static void test_extremes(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_1, DTYPE_Q6_K, DTYPE_Q4_0};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (uint32_t fill = 0; fill < 3; fill++) {
            struct host_tensor w = tensor_random(types[i], 16, 256);
            uint8_t *data = (uint8_t *)(uintptr_t)w.data;
            const uint32_t head = types[i] == DTYPE_Q4_1 ? 4 : types[i] == DTYPE_Q6_K ? 0 : 2;
            const uint32_t bytes = dtype_block_bytes(types[i]);
            const uint32_t n = types[i] == DTYPE_Q6_K ? 208 : bytes - head;
            for (size_t at = 0; at < 16 * 256 / dtype_block_elems(types[i]) * bytes; at += bytes)
                memset(data + at + head, fill == 0 ? 0x80 : fill == 1 ? 0xff : 0x7f, n);
            struct product p = product_new(3, 16, 256);
            for (uint32_t k = 0; k < 3 * 256; k++)
                p.x[k] = k < 256 ? 1.0f : k < 512 ? -1.0f : k % 2 ? -3.0f : 3.0f;
            assert_true(run("portable", 1, COMPUTE_AUTO, WEIGHT_LINEAR, &w, 1, &p, MAX_TEST_ROWS));
            assert_product(&p, &w, 1, COMPUTE_AUTO);
            assert_same_bits(&p, WEIGHT_LINEAR, COMPUTE_AUTO, &w, 1);
            product_drop(&p);
            tensor_drop(&w);
        }
}

/* Zeros, denormals, infinities and NaN in one row leave the other rows alone. */
static void test_odd_inputs(void **state)
{
    (void)state;
    struct host_tensor w = tensor_random(DTYPE_Q4_1, 32, 64);
    struct product plain = product_new(4, 32, 64), odd = product_new(4, 32, 64);
    memcpy(odd.x, plain.x, 4 * 64 * sizeof(float));
    for (uint32_t k = 0; k < 64; k++)
        odd.x[2 * 64 + k] = k % 4 == 0 ? NAN : k % 4 == 1 ? INFINITY : k % 4 == 2 ? 1e-45f : 0.0f;
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++) {
        if (!run(all_isas[i], 1, COMPUTE_AUTO, WEIGHT_LINEAR, &w, 1, &plain, MAX_TEST_ROWS))
            continue;
        assert_true(run(all_isas[i], 1, COMPUTE_AUTO, WEIGHT_LINEAR, &w, 1, &odd, MAX_TEST_ROWS));
        assert_memory_equal(odd.y, plain.y, 2 * 32 * sizeof(float));
        assert_memory_equal(odd.y + 96, plain.y + 96, 32 * sizeof(float));
    }
    product_drop(&plain);
    product_drop(&odd);
    tensor_drop(&w);
}

static void expect_bias_refused(struct host_tensor *parts, uint32_t n, enum weight_role role,
                                const struct host_tensor *biases, const char *words)
{
    struct backend *be = isa_backend("auto", 1, COMPUTE_AUTO);
    struct weight *w = NULL;
    struct err e = {0};
    assert_int_equal(be->ops->weight_new(be, role, parts, n, biases, &w, &e), -LLMD_EUNSUPPORTED);
    assert_null(w);
    assert_non_null(strstr(e.msg, words));
    assert_non_null(strstr(e.msg, "test.weight"));
    be->ops->free(be);
}

static void expect_refused(struct host_tensor *parts, uint32_t n, enum weight_role role,
                           const char *words)
{
    expect_bias_refused(parts, n, role, NULL, words);
}

static void test_refusals(void **state)
{
    (void)state;
    static const uint8_t data[4096];
    const char *name = "test.weight";
    struct host_tensor bad[2] = {{name, data, DTYPE_Q4_1, 2, 48}, {name, data, DTYPE_Q4_1, 2, 64}};
    expect_refused(bad, 1, WEIGHT_LINEAR, "multiple of 32");
    bad[0].cols = 32;
    expect_refused(bad, 2, WEIGHT_LINEAR, "does not fit");
    bad[0].cols = 64;
    bad[0].rows = 3;
    expect_refused(bad, 2, WEIGHT_GATE_UP, "does not fit");
    expect_refused(bad, 1, WEIGHT_VECTOR, "a vector has one");
    bad[0].rows = 0;
    expect_refused(bad, 1, WEIGHT_EMBED, "0 x 64");
    bad[0].rows = 1ull << 40;
    expect_refused(bad, 1, WEIGHT_EMBED, "the CPU takes");

    struct host_tensor good = {name, data, DTYPE_F32, 4, 8};
    struct host_tensor bias = {"test.bias", data, DTYPE_F32, 1, 5};
    expect_bias_refused(&good, 1, WEIGHT_LINEAR, &bias, "test.bias: 1 x 5 does not fit the 4 rows");
    bias.cols = 4;
    expect_bias_refused(&good, 1, WEIGHT_EMBED, &bias, "test.bias: a bias of");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_biases),     cmocka_unit_test(test_gate_up),
        cmocka_unit_test(test_extremes),   cmocka_unit_test(test_odd_inputs),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
