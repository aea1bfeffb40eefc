/* Products on the GPU against double: each kernel, shapes that fit no tile, biases, gate and up; and
 * cuBLASLt (a fake one): what is asked of it, when it is taken, what its errors do. */
#include <dlfcn.h>

#include "gpu/blas.h"
#include "tests/gpu/fake_cublaslt.h"
#include "tests/gpu/gpu_case.h"

typedef int linear_fn(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a);

struct product {
    enum gpu_flavour flavour;
    uint32_t n_rows, n_out, k;
    bool gate_up, biased;
    float *x, *w, *bias; /* w: [n_out, or gate then up][k] */
    float *got;          /* [n_rows][n_out] */
};

/* Row of w that goes to row r of the weight on the device. */
static uint32_t source_row(const struct product *p, uint32_t r)
{
    if (!p->gate_up)
        return r;
    return r / 16 * 8 + r % 8 + (r % 16 < 8 ? 0 : p->n_out);
}

static void *device_weight(const struct product *p, uint32_t k)
{
    const uint32_t n = p->gate_up ? 2 * ((p->n_out + 7) / 8 * 8) : p->n_out;
    const uint32_t rows = (n + GPU_ROWS - 1) / GPU_ROWS * GPU_ROWS;
    float *w = calloc((size_t)rows * p->k, sizeof(*w));
    assert_non_null(w);
    for (uint32_t r = 0; r < n; r++)
        if (!p->gate_up || r / 16 * 8 + r % 8 < p->n_out)
            memcpy(w + (size_t)r * p->k, p->w + (size_t)source_row(p, r) * p->k, p->k * sizeof(*w));
    void *d = device_elems(p->flavour, w, rows, p->k, rows, k);
    free(w);
    return d;
}

static struct gpu_linear_split split;

/* n blocks share products from here on; 0: none do. */
static void set_split(uint32_t n)
{
    gpu_free(gpu, split.parts);
    gpu_free(gpu, split.arrived);
    split = (struct gpu_linear_split){.n_blocks = n};
    if (n == 0)
        return;
    split.parts = device_new((size_t)2 * n * GPU_SPLIT_ROWS * GPU_SKINNY * sizeof(float));
    split.arrived = device_new(2 * n * sizeof(uint32_t));
    wait_well(gpu_zero(stream, split.arrived, 2 * n * sizeof(uint32_t)));
}

static int open_all(void **state)
{
    int rc = open_device(state);
    set_split(8);
    return rc;
}

static int close_all(void **state)
{
    set_split(0);
    return close_device(state);
}

/* Rows first.. of the product, n of them. */
static void run(struct product *p, linear_fn *fn, uint32_t first, uint32_t n)
{
    const uint32_t k = gpu_stride(p->k), stride = p->gate_up ? gpu_stride(p->n_out) : p->n_out;
    const size_t out_bytes = (size_t)n * stride * (p->gate_up ? 2 : 4);
    void *x = device_elems(p->flavour, p->x + (size_t)first * p->k, n, p->k, n, k);
    void *w = device_weight(p, k);
    float *bias = p->biased ? device_copy(p->bias, p->n_out * sizeof(float)) : NULL;
    void *out = device_new(out_bytes);
    const struct gpu_linear a = {.in = x,
                                 .in_stride = k,
                                 .w = w,
                                 .bias = bias,
                                 .out = out,
                                 .out_stride = stride,
                                 .n_rows = n,
                                 .n_out = p->n_out,
                                 .k = k,
                                 .gate_up = p->gate_up,
                                 .split = split};
    wait_well(fn(stream, p->flavour, &a));
    if (!p->gate_up) {
        device_read(p->got + (size_t)first * p->n_out, out, out_bytes);
    } else {
        float *all = malloc((size_t)n * stride * sizeof(*all));
        assert_non_null(all);
        read_elems(p->flavour, all, out, (size_t)n * stride);
        for (uint32_t r = 0; r < n; r++) {
            memcpy(p->got + (size_t)(first + r) * p->n_out, all + (size_t)r * stride,
                   p->n_out * sizeof(float));
            for (uint32_t i = p->n_out; i < stride; i++)
                assert_true(all[(size_t)r * stride + i] == 0); /* padding stays */
        }
        free(all);
    }
    gpu_free(gpu, x);
    gpu_free(gpu, w);
    gpu_free(gpu, bias);
    gpu_free(gpu, out);
}

/* Gate and up become elements before SiLU · mul. */
static bool rounded_pairs;

/* sum of products and of their magnitudes */
static double dot(const struct product *p, uint32_t row, uint32_t w_row, double *out_magnitude)
{
    double sum = 0, magnitude = 0;
    for (uint32_t i = 0; i < p->k; i++) {
        const double v = (double)p->x[(size_t)row * p->k + i] * p->w[(size_t)w_row * p->k + i];
        sum += v;
        magnitude += fabs(v);
    }
    *out_magnitude = magnitude;
    return sum;
}

static void assert_right(const struct product *p, const char *what)
{
    for (uint32_t r = 0; r < p->n_rows; r++)
        for (uint32_t o = 0; o < p->n_out; o++) {
            const size_t at = (size_t)r * p->n_out + o;
            double size, size2, want = dot(p, r, o, &size);
            if (!p->gate_up) {
                want += p->biased ? p->bias[o] : 0;
                assert_near(p->got[at], want, 4e-7 * size + 1e-6, what, at);
                continue;
            }
            const double up = dot(p, r, p->n_out + o, &size2);
            want = want / (1 + exp(-want)) * up;
            const double error = elem_error(p->flavour) * (rounded_pairs ? 4 : 1);
            assert_near(p->got[at], want,
                        error * (fabs(want) + (rounded_pairs ? fabs(up) : 0)) +
                            2e-6 * (size + 1) * (size2 + 1),
                        what, at);
        }
}

static void product_new(struct product *p)
{
    p->x = random_elems(p->flavour, (size_t)p->n_rows * p->k);
    p->w = random_elems(p->flavour, (size_t)(p->gate_up ? 2 : 1) * p->n_out * p->k);
    p->bias = random_elems(p->flavour, p->n_out);
    p->got = calloc((size_t)p->n_rows * p->n_out, sizeof(float));
    assert_non_null(p->got);
}

static void product_drop(struct product *p)
{
    free(p->x);
    free(p->w);
    free(p->bias);
    free(p->got);
}

static const struct {
    uint32_t n_out, k;
    bool gate_up, biased;
} shapes[] = {
    {16, 32, false, false},  {48, 96, false, true}, {37, 100, false, true}, {1, 33, false, false},
    {129, 264, false, true}, {24, 64, true, false}, {21, 300, true, false}, {70, 40, true, false},
};

static void check(linear_fn *fn, const char *what, const uint32_t *rows, size_t n_counts)
{
    for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++)
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
            for (size_t i = 0; i < n_counts; i++) {
                struct product p = {.flavour = (enum gpu_flavour)f,
                                    .n_rows = rows[i],
                                    .n_out = shapes[s].n_out,
                                    .k = shapes[s].k,
                                    .gate_up = shapes[s].gate_up,
                                    .biased = shapes[s].biased};
                product_new(&p);
                run(&p, fn, 0, p.n_rows);
                assert_right(&p, what);
                product_drop(&p);
            }
}

static void test_gemv(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 2};
    check(gpu_linear_gemv, "gemv", rows, ARRAY_LEN(rows));
}

static void test_skinny(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 3, 9, 20, 33, 64};
    check(gpu_linear_skinny, "skinny", rows, ARRAY_LEN(rows));
}

static void test_tile(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 130};
    check(gpu_linear_tile, "tile", rows, ARRAY_LEN(rows));
}

/* Longer than any pipeline or turn, and more rows of the weight than one tile has. */
static void test_long_and_wide(void **state)
{
    (void)state;
    static const struct {
        linear_fn *fn;
        uint32_t n_rows;
    } kernels[] = {{gpu_linear_gemv, 2}, {gpu_linear_skinny, 17}, {gpu_linear_tile, 40}};
    for (size_t i = 0; i < ARRAY_LEN(kernels); i++) {
        struct product p = {.n_rows = kernels[i].n_rows, .n_out = 150, .k = 2100, .biased = true};
        product_new(&p);
        run(&p, kernels[i].fn, 0, p.n_rows);
        assert_right(&p, "long");
        product_drop(&p);
    }
}

/* However many blocks share the work, parts of tiles are added up, and the counters are zero again. */
static void test_shared_work(void **state)
{
    (void)state;
    static const uint32_t blocks[] = {1, 2, 3, 7, 30};
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++) {
            struct product p = {.flavour = (enum gpu_flavour)f,
                                .n_rows = 20,
                                .n_out = 140 + 8 * (uint32_t)i,
                                .k = 1100,
                                .gate_up = i % 2 == 1};
            uint32_t arrived[2 * 30];
            set_split(blocks[i]);
            stand_in_set_seed(i);
            product_new(&p);
            for (int twice = 0; twice < 2; twice++) {
                run(&p, gpu_linear_skinny, 0, p.n_rows);
                assert_right(&p, "shared");
            }
            device_read(arrived, split.arrived, 2 * blocks[i] * sizeof(arrived[0]));
            for (uint32_t b = 0; b < 2 * blocks[i]; b++)
                assert_int_equal(arrived[b], 0);
            product_drop(&p);
        }
}

/* A row's bits do not depend on how many others there are, within one kernel. */
static void test_rows_do_not_depend_on_each_other(void **state)
{
    (void)state;
    static const struct {
        linear_fn *fn;
        uint32_t n_rows, alone;
    } kernels[] = {
        {gpu_linear_skinny, 50, 1}, {gpu_linear_skinny, 50, 7}, {gpu_linear_tile, 140, 3}};
    for (size_t i = 0; i < ARRAY_LEN(kernels); i++) {
        struct product p = {.n_rows = kernels[i].n_rows, .n_out = 40, .k = 320, .biased = true};
        product_new(&p);
        run(&p, kernels[i].fn, 0, p.n_rows);
        float *all = p.got;
        p.got = calloc((size_t)p.n_rows * p.n_out, sizeof(float));
        assert_non_null(p.got);
        const uint32_t first = p.n_rows - kernels[i].alone;
        run(&p, kernels[i].fn, first, kernels[i].alone);
        assert_memory_equal(p.got + (size_t)first * p.n_out, all + (size_t)first * p.n_out,
                            (size_t)kernels[i].alone * p.n_out * sizeof(float));
        free(all);
        product_drop(&p);
    }
}

static int chosen(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return gpu_linear_rows(s, f, false, a);
}

static int pinned(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return gpu_linear_rows(s, f, true, a);
}

/* Which kernel is taken; pinned, one row has the bits that it has among many. */
static void test_choice(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 2, 3, 64, 65};
    struct product p = {.n_rows = 70, .n_out = 20, .k = 64};
    product_new(&p);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        run(&p, chosen, 0, rows[i]);
    run(&p, pinned, 0, 70);
    assert_right(&p, "pinned");
    float one[20];
    memcpy(one, p.got, sizeof(one));
    memset(p.got, 0, sizeof(one));
    run(&p, pinned, 0, 1);
    assert_memory_equal(p.got, one, sizeof(one));
    product_drop(&p);
}

/* --- cuBLASLt --- */

static char fake_path[512];
static struct blas_library *library;
static struct fake_cublaslt *fake;
static struct blas *blas;
static void *workspace, *pairs;
enum { WORKSPACE = 4096, WIDEST_PAIRS = 256 };

static void fake_open(uint32_t pairs_rows, enum gpu_flavour f)
{
    struct err e = {0};
    if (blas_library_open(fake_path, &library, &e))
        fail_msg("%s", e.msg);
    void *so = dlopen(fake_path, RTLD_NOW), *at = dlsym(so, "fake_cublaslt_control");
    fake_cublaslt_fn *control;
    memcpy(&control, &at, sizeof(at));
    fake = control();
    *fake = (struct fake_cublaslt){.call = stand_in_call};
    dlclose(so); /* the library has it open */
    workspace = device_new(WORKSPACE);
    pairs = device_new((size_t)pairs_rows * WIDEST_PAIRS * sizeof(uint16_t));
    const struct blas_opts o = {.library = library,
                                .stream = stream,
                                .flavour = f,
                                .timeout_us = 20000000,
                                .workspace = workspace,
                                .workspace_bytes = WORKSPACE,
                                .pairs = pairs,
                                .pairs_rows = pairs_rows};
    if (blas_new(&o, &blas, &e))
        fail_msg("%s", e.msg);
}

static void fake_close(void)
{
    blas_free(blas);
    assert_int_equal(fake->n_objects, 0);
    blas_library_close(library);
    gpu_free(gpu, workspace);
    gpu_free(gpu, pairs);
}

static int measured(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    (void)s, (void)f;
    return blas_measure(blas, a) ? -LLMD_EPOISONED : blas_linear_rows(blas, a);
}

static int by_choice(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    (void)s, (void)f;
    return blas_linear_rows(blas, a);
}

/* Every shape of `shapes`; gate and up in pieces of 70 rows, the last of which is ours. */
static void test_library(void **state)
{
    (void)state;
    static const uint32_t rows[] = {65, 131};
    rounded_pairs = true;
    for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++) {
        fake_open(70, (enum gpu_flavour)f);
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
            for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct product p = {.flavour = (enum gpu_flavour)f,
                                    .n_rows = rows[i],
                                    .n_out = shapes[s].n_out,
                                    .k = shapes[s].k,
                                    .gate_up = shapes[s].gate_up,
                                    .biased = shapes[s].biased};
                product_new(&p);
                run(&p, measured, 0, p.n_rows);
                assert_right(&p, "cuBLASLt");
                product_drop(&p);
            }
        assert_true(fake->n_matmul >= 2 * 4 * ARRAY_LEN(shapes)); /* each was measured */
        fake_close();
    }
    rounded_pairs = false;
}

/* How many products of the library it took, of p's first n rows. */
static uint32_t taken(struct product *p, linear_fn *fn, uint32_t n)
{
    const unsigned before = fake->n_matmul;
    run(p, fn, 0, n);
    p->n_rows = n;
    assert_right(p, "cuBLASLt");
    return fake->n_matmul - before;
}

/* Ours: what was not measured, few rows, what the library does not offer or its algorithm is not for. */
static void test_library_is_optional(void **state)
{
    (void)state;
    struct product p = {.n_rows = 140, .n_out = 20, .k = 64, .biased = true};
    product_new(&p);
    fake_open(70, GPU_FLAVOUR_SM80);
    assert_int_equal(taken(&p, by_choice, 100), 0);
    fake->refuse_candidates = 15;
    assert_int_equal(taken(&p, measured, 66), 0);
    assert_int_equal(taken(&p, measured, 100), 0); /* it is not asked twice */
    fake->refuse_candidates = 0;
    assert_true(taken(&p, measured, 140) > 0); /* another step of sizes */
    assert_int_equal(taken(&p, measured, 64), 0);
    fake_close();

    fake_open(70, GPU_FLAVOUR_SM80);
    fake->refuse_matmul = 15; /* whatever is tried */
    assert_int_equal(taken(&p, measured, 100), 0);
    fake->refuse_matmul = 0;
    assert_int_equal(taken(&p, measured, 100), 0);
    fake_close();
    product_drop(&p);
}

/* For each number of rows the chosen algorithm is asked once. */
static void test_library_is_asked(void **state)
{
    (void)state;
    struct product p = {.n_rows = 90, .n_out = 20, .k = 64};
    product_new(&p);
    fake_open(70, GPU_FLAVOUR_SM80);
    (void)taken(&p, measured, 90);
    const unsigned before = fake->n_check;
    const uint32_t theirs = taken(&p, by_choice, 90);
    assert_int_equal(fake->n_check, before); /* measured with 90 */
    assert_int_equal(taken(&p, by_choice, 80), theirs);
    assert_int_equal(taken(&p, by_choice, 80), theirs);
    assert_int_equal(fake->n_check, before + theirs);
    fake_close();
    product_drop(&p);
}

/* What fails that was fine before is a fault of the device. */
static void test_library_fails(void **state)
{
    (void)state;
    struct product p = {.n_rows = 70, .n_out = 24, .k = 64};
    product_new(&p);
    fake_open(70, GPU_FLAVOUR_SM80);
    for (int i = 0; i < 20 && taken(&p, by_choice, 70) == 0; i++) {
        blas_free(blas); /* a busy machine may find ours faster */
        blas = NULL;
        gpu_free(gpu, workspace);
        gpu_free(gpu, pairs);
        blas_library_close(library);
        fake_open(70, GPU_FLAVOUR_SM80);
        (void)taken(&p, measured, 70);
    }
    void *out = device_new((size_t)70 * 24 * 4), *in = device_new((size_t)70 * 64 * 2);
    void *w = device_new((size_t)32 * 64 * 2);
    const struct gpu_linear a = {.in = in,
                                 .in_stride = 64,
                                 .w = w,
                                 .out = out,
                                 .out_stride = 24,
                                 .n_rows = 70,
                                 .n_out = 24,
                                 .k = 64};
    fake->refuse_matmul = 7;
    assert_int_equal(blas_linear_rows(blas, &a), -LLMD_EPOISONED);
    assert_non_null(
        strstr(gpu_fault(gpu), "cuBLASLt: CUBLAS_STATUS_INVALID_VALUE; cublaslt = false"));
    gpu_free(gpu, out);
    gpu_free(gpu, in);
    gpu_free(gpu, w);
    fake_close();
    product_drop(&p);
}

static void test_library_that_cannot_be(void **state)
{
    (void)state;
    struct blas_library *l = NULL;
    struct blas *b = NULL;
    struct err e = {0};
    assert_int_equal(blas_library_open("/nowhere/libcublasLt.so", &l, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "/nowhere/libcublasLt.so"));
    e = (struct err){0};
    assert_int_equal(blas_library_open("libm.so.6", &l, &e), -LLMD_EUNSUPPORTED);
    assert_string_equal(e.msg, "cuBLASLt has no cublasLtCreate");
    assert_null(l);
    fake_open(1, GPU_FLAVOUR_SM80);
    fake->refuse_create = 15;
    e = (struct err){0};
    const struct blas_opts o = {.library = library, .stream = stream};
    assert_int_equal(blas_new(&o, &b, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "CUBLAS_STATUS_NOT_SUPPORTED"));
    assert_int_equal(blas_library_version(library), 130100);
    fake_close();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_gemv),
        TEST(test_skinny),
        TEST(test_tile),
        TEST(test_long_and_wide),
        TEST(test_shared_work),
        TEST(test_choice),
        TEST(test_rows_do_not_depend_on_each_other),
        TEST(test_library),
        TEST(test_library_is_optional),
        TEST(test_library_is_asked),
        TEST(test_library_fails),
        TEST(test_library_that_cannot_be),
    };
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    snprintf(fake_path, sizeof(fake_path), "%.*s/libfake_cublaslt.so",
             slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
