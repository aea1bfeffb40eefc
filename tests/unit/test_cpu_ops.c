/* test_cpu_ops.c - the CPU backend's row-wise operations and its set-up. */
#include "core/backend/cpu_quant_int.h"
#include "core/backend/dequant.h"
#include "core/util/half.h"
#include "tests/ops/cpu_case.h"

enum { MAX_TEST_ROWS = 70, VOCAB = 37 };

static struct host_tensor floats(uint64_t rows, uint64_t cols)
{
    return tensor_random(DTYPE_F32, rows, cols);
}

static void run_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                     const struct weight *w, struct tensor *out, uint32_t rows)
{
    struct batch b;
    begin_rows(be, rows, &b);
    assert_int_equal(be->ops->rms_norm(be, x, residual, w, 1e-5f, out), 0);
    assert_int_equal(be->ops->finish(be), 0);
}

/* x + residual and its norm on every instruction set; the first result is kept in want. */
static void check_norm(uint32_t rows, uint32_t cols, bool with_residual)
{
    const size_t n = (size_t)rows * cols, bytes = n * sizeof(float);
    float *x = malloc(bytes), *r = malloc(bytes), *want = calloc(2 * n, sizeof(float));
    struct host_tensor norm = floats(1, cols);
    bool have = false;
    random_floats(x, n);
    random_floats(r, n);
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            struct backend *be =
                ready_backend(all_isas[i], threads, COMPUTE_AUTO, any_shape(), MAX_TEST_ROWS, 64);
            if (!be)
                continue;
            struct weight *w = new_weight(be, WEIGHT_VECTOR, &norm, 1);
            struct tensor tx = new_tensor(be, rows, cols), tr = new_tensor(be, rows, cols);
            struct tensor out = new_tensor(be, rows, cols);
            memcpy(tx.data, x, bytes);
            memcpy(tr.data, r, bytes);
            run_norm(be, &tx, with_residual ? &tr : NULL, w, &out, rows);
            if (!have) {
                memcpy(want, tx.data, bytes);
                memcpy(want + n, out.data, bytes);
                have = true;
            }
            assert_memory_equal(want, tx.data, bytes);
            assert_memory_equal(want + n, out.data, bytes);
            be->ops->weight_free(w);
            be->ops->free(be);
        }
    for (uint32_t i = 0; i < rows; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < cols; k++) {
            const float v =
                x[(size_t)i * cols + k] + (with_residual ? r[(size_t)i * cols + k] : 0.0f);
            assert_true(want[(size_t)i * cols + k] == v);
            sum += (double)v * v;
        }
        for (uint32_t k = 0; k < cols; k++) {
            const double v = want[(size_t)i * cols + k], y = want[n + (size_t)i * cols + k];
            const double expected = v / sqrt(sum / cols + 1e-5) * tensor_value(&norm, 0, k);
            assert_true(fabs(y - expected) <= 1e-6 * (1 + fabs(expected)));
        }
    }
    free(x);
    free(r);
    free(want);
    tensor_drop(&norm);
}

static void test_rms_norm(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 2, 5, 17, 64}, cols[] = {576, 16, 33, 1, 100};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_norm(rows[i], cols[i], i % 2 == 0);
        check_norm(rows[i], cols[i], i % 2 == 1);
    }
}

/* Rows of an embedding are its exact dequantized values, whatever its type and place in a tile. */
static void check_embed(enum dtype t, enum compute_type c)
{
    const uint32_t cols = dtype_block_elems(t) == 1 ? 50 : dtype_block_elems(t) * 2;
    static const uint32_t tokens[] = {0, VOCAB - 1, 15, 16, 17, 31, 32, 5, 5};
    const uint32_t n = ARRAY_LEN(tokens);
    struct host_tensor table = tensor_random(t, VOCAB, cols);
    struct backend *be = ready_backend("auto", 2, c, any_shape(), MAX_TEST_ROWS, 64);
    struct weight *w = new_weight(be, WEIGHT_EMBED, &table, 1);
    struct tensor x = new_tensor(be, n, cols);
    struct batch b;
    begin_rows(be, n, &b);
    b.tokens = tokens;
    assert_int_equal(be->ops->embed(be, w, &x), 0);
    assert_int_equal(be->ops->finish(be), 0);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < cols; k++) {
            const double want = tensor_value(&table, tokens[i], k);
            if (!(fabs(x.data[(size_t)i * cols + k] - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("%s token %u column %u: %.9g, not %.9g", dtype_name(t), tokens[i], k,
                         x.data[(size_t)i * cols + k], want);
        }
    be->ops->weight_free(w);
    be->ops->free(be);
    tensor_drop(&table);
}

static void test_embed(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        check_embed((enum dtype)t, COMPUTE_AUTO);
        check_embed((enum dtype)t, COMPUTE_F32);
    }
}

/* gather and head: chosen rows, normed, times a tied Q8_0 embedding. */
static void test_gather_and_head(void **state)
{
    (void)state;
    enum { COLS = 64, ROWS = 20 };
    static const uint32_t out_rows[] = {0, 3, 4, 19};
    struct host_tensor table = tensor_random(DTYPE_Q8_0, VOCAB, COLS), norm = floats(1, COLS);
    struct backend *be = ready_backend("auto", 2, COMPUTE_F32, any_shape(), ROWS, 64);
    struct weight *w = new_weight(be, WEIGHT_EMBED, &table, 1);
    struct weight *nw = new_weight(be, WEIGHT_VECTOR, &norm, 1);
    struct tensor x = new_tensor(be, ROWS, COLS), picked = new_tensor(be, 4, COLS);
    struct tensor logits = new_tensor(be, 4, VOCAB);
    struct batch b;
    random_floats(x.data, (size_t)ROWS * COLS);
    begin_rows(be, ROWS, &b);
    b.n_out = 4;
    b.out_rows = out_rows;
    assert_int_equal(be->ops->gather(be, &x, &picked), 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_memory_equal(picked.data + (size_t)i * COLS, x.data + (size_t)out_rows[i] * COLS,
                            COLS * sizeof(float));
    assert_int_equal(be->ops->head(be, &picked, nw, 1e-5f, w, &logits), 0);
    assert_int_equal(be->ops->finish(be), 0);
    for (uint32_t i = 0; i < 4; i++) {
        const float *v = x.data + (size_t)out_rows[i] * COLS;
        double sum = 0;
        for (uint32_t k = 0; k < COLS; k++)
            sum += (double)v[k] * v[k];
        for (uint32_t t = 0; t < VOCAB; t++) {
            double want = 0;
            for (uint32_t k = 0; k < COLS; k++)
                want += v[k] / sqrt(sum / COLS + 1e-5) * tensor_value(&norm, 0, k) *
                        tensor_value(&table, t, k);
            assert_true(fabs(logits.data[(size_t)i * VOCAB + t] - want) < 1e-4);
        }
    }
    begin_rows(be, ROWS, &b); /* no rows out: a step that only fills the cache */
    assert_int_equal(be->ops->head(be, &picked, nw, 1e-5f, w, &logits), 0);
    assert_int_equal(be->ops->finish(be), 0);
    be->ops->weight_free(w);
    be->ops->weight_free(nw);
    be->ops->free(be);
    tensor_drop(&table);
    tensor_drop(&norm);
}

/* silu over its whole range, through gate_up with identity weights. */
static void test_silu(void **state)
{
    (void)state;
    enum { COLS = 1 };
    const float one = 1.0f;
    struct host_tensor parts[2] = {{"gate", &one, DTYPE_F32, 1, COLS},
                                   {"up", &one, DTYPE_F32, 1, COLS}};
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++) {
        struct backend *be =
            ready_backend(all_isas[i], 1, COMPUTE_AUTO, any_shape(), MAX_TEST_ROWS, 64);
        if (!be)
            continue;
        struct weight *w = new_weight(be, WEIGHT_GATE_UP, parts, 2);
        struct tensor x = new_tensor(be, 1, COLS), y = new_tensor(be, 1, COLS);
        for (double v = -120; v <= 120; v += 0.37) {
            struct batch b;
            x.data[0] = (float)v;
            begin_rows(be, 1, &b);
            assert_int_equal(be->ops->gate_up(be, &x, w, &y), 0);
            assert_int_equal(be->ops->finish(be), 0);
            const double in = x.data[0], want = in / (1 + exp(-in)) * in;
            if (!(fabs(y.data[0] - want) <= 1e-6 * fabs(want) + 1e-30))
                fail_msg("%s: silu(%g) * %g = %.9g, not %.9g", all_isas[i], in, in, y.data[0],
                         want);
        }
        x.data[0] = NAN;
        struct batch b;
        begin_rows(be, 1, &b);
        assert_int_equal(be->ops->gate_up(be, &x, w, &y), 0);
        assert_true(isnan(y.data[0]));
        be->ops->weight_free(w);
        be->ops->free(be);
    }
}

/* Every F16, and roundings to it: nearest, ties to even. */
static void test_half_conversions(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = f32_from_f16((uint16_t)h);
        if ((h & 0x7c00) == 0x7c00) {
            assert_true((h & 0x3ff) ? isnan(f) : isinf(f));
            assert_int_equal(f16_from_f32(f), (h & 0x3ff) ? h | 0x200 : h);
            continue;
        }
        const uint8_t bytes[2] = {(uint8_t)h, (uint8_t)(h >> 8)};
        assert_true(f == half_value(bytes));
        assert_int_equal(signbit(f) != 0, h >> 15);
        assert_int_equal(f16_from_f32(f), h);
        if ((h & 0x7fff) == 0x7bff)
            continue;
        const double next = f32_from_f16((uint16_t)(h + 1)), middle = (f + next) / 2;
        assert_int_equal(f16_from_f32((float)middle), h + (h & 1));
        assert_int_equal(f16_from_f32(nextafterf((float)middle, f)), h);
        assert_int_equal(f16_from_f32(nextafterf((float)middle, (float)next)), h + 1);
    }
    assert_int_equal(f16_from_f32(65519.99f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
}

static void test_dequantize(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        struct host_tensor h = tensor_random((enum dtype)t, 3, 512);
        float row[512];
        size_t row_bytes;
        assert_true(dtype_row_bytes((enum dtype)t, 512, &row_bytes));
        for (uint32_t r = 0; r < 3; r++) {
            dequantize_row((enum dtype)t, (const uint8_t *)h.data + r * row_bytes, 512, row);
            for (uint32_t k = 0; k < 512; k++) {
                const double want = tensor_value(&h, r, k);
                assert_true(fabs(row[k] - want) <= 1e-6 * (1 + fabs(want)));
            }
        }
        tensor_drop(&h);
    }
}

static void test_options(void **state)
{
    (void)state;
    struct backend *be = NULL;
    struct err e = {0};
    struct cpu_opts o = {.n_threads = 1000};
    assert_int_equal(cpu_backend_new(&o, &be, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "1000 CPU threads"));
    err_clear(&e);
    o = (struct cpu_opts){.n_threads = 1, .isa = "mmx"};
    assert_int_equal(cpu_backend_new(&o, &be, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "mmx"));
    assert_null(be);
    o = (struct cpu_opts){.n_threads = 0}; /* one per core */
    assert_int_equal(cpu_backend_new(&o, &be, NULL), 0);
    assert_string_equal(be->ops->kind, "cpu");
    assert_true(strlen(cpu_backend_isa(be)) > 3);
    be->ops->free(be);
}

/* Weights outlive the backend that made them, and serve others of its kind. */
static void test_shared_weights(void **state)
{
    (void)state;
    struct host_tensor h = tensor_random(DTYPE_Q4_1, 48, 64);
    struct backend *maker = ready_backend("auto", 2, COMPUTE_AUTO, any_shape(), 4, 64);
    struct backend *user = ready_backend("auto", 1, COMPUTE_AUTO, any_shape(), 4, 64);
    struct weight *w = new_weight(maker, WEIGHT_LINEAR, &h, 1);
    struct tensor a = new_tensor(maker, 4, 64), ay = new_tensor(maker, 4, 48);
    struct tensor b = new_tensor(user, 4, 64), by = new_tensor(user, 4, 48);
    struct batch batch;
    assert_true(maker->ops->weight_bytes(w) >= 48 * 40);
    assert_true(maker->ops->weight_bytes(w) <= 48 * 40 * 11 / 10);
    random_floats(a.data, 4 * 64);
    memcpy(b.data, a.data, 4 * 64 * sizeof(float));
    begin_rows(maker, 4, &batch);
    assert_int_equal(maker->ops->linear(maker, &a, w, &ay), 0);
    float kept[4 * 48];
    memcpy(kept, ay.data, sizeof(kept));
    const struct backend_ops *ops = maker->ops;
    maker->ops->free(maker);
    begin_rows(user, 4, &batch);
    assert_int_equal(user->ops->linear(user, &b, w, &by), 0);
    assert_memory_equal(kept, by.data, sizeof(kept));
    ops->weight_free(w);
    ops->weight_free(NULL);
    user->ops->free(user);
    tensor_drop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm),         cmocka_unit_test(test_embed),
        cmocka_unit_test(test_gather_and_head),  cmocka_unit_test(test_silu),
        cmocka_unit_test(test_half_conversions), cmocka_unit_test(test_dequantize),
        cmocka_unit_test(test_options),          cmocka_unit_test(test_shared_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
