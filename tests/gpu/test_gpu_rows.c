/* Row-wise operations on the GPU against double: look-up, norms, gathering, rotary embedding, the
 * write into the KV cache. */
#include "tests/gpu/gpu_case.h"

#define EPS 1e-5f

/* --- norms --- */

struct norm_case {
    enum gpu_flavour flavour;
    uint32_t n_rows, cols;
    bool table, residual, in_place;
};

enum { VOCAB = 11 };

static void check_norm(const struct norm_case *c)
{
    const size_t n = (size_t)c->n_rows * c->cols;
    float *x = random_elems(c->flavour, n), *residual = random_elems(c->flavour, n);
    float *table = random_elems(c->flavour, (size_t)VOCAB * c->cols);
    float *w = random_elems(c->flavour, c->cols);
    uint32_t tokens[16], told[16], sampled[16] = {0};
    for (uint32_t r = 0; r < c->n_rows; r++) {
        tokens[r] = told[r] = (r * 7 + 3) % VOCAB;
        if (r % 3 == 1) { /* the host does not know it yet */
            told[r] = GPU_SAMPLED | (15 - r);
            sampled[15 - r] = tokens[r];
        }
    }
    struct gpu_norm a = {.x = device_copy(x, n * sizeof(*x)),
                         .w = device_copy(w, c->cols * sizeof(*w)),
                         .n_rows = c->n_rows,
                         .cols = c->cols,
                         .padded = gpu_stride(c->cols),
                         .out_stride = c->in_place ? 2 * c->cols : gpu_stride(c->cols) + 32,
                         .eps = EPS};
    void *d_residual = device_copy(residual, n * sizeof(*x));
    void *d_table = device_elems(c->flavour, table, VOCAB, c->cols, VOCAB, gpu_stride(c->cols));
    void *d_tokens = device_copy(told, sizeof(told)),
         *d_sampled = device_copy(sampled, sizeof(sampled));
    a.out = c->in_place ? (void *)a.x : device_new((size_t)c->n_rows * a.out_stride * 2);
    if (c->residual)
        a.residual = d_residual;
    if (c->table) {
        a.table = d_table;
        a.tokens = d_tokens;
        a.sampled = d_sampled;
    }
    wait_well(gpu_rms_norm(stream, c->flavour, &a));

    float *got = malloc((size_t)c->n_rows * a.out_stride * sizeof(*got));
    float *got_x = malloc(n * sizeof(*got_x));
    assert_non_null(got);
    assert_non_null(got_x);
    read_elems(c->flavour, got, a.out, (size_t)c->n_rows * a.out_stride);
    device_read(got_x, a.x, n * sizeof(*got_x));
    for (uint32_t r = 0; r < c->n_rows; r++) {
        double squares = 0;
        for (uint32_t i = 0; i < c->cols; i++) {
            float *v = &x[(size_t)r * c->cols + i];
            if (c->table)
                *v = table[(size_t)tokens[r] * c->cols + i];
            else if (c->residual)
                *v += residual[(size_t)r * c->cols + i];
            squares += (double)*v * *v;
            if (!c->in_place)
                assert_true(got_x[(size_t)r * c->cols + i] == *v);
        }
        for (uint32_t i = 0; i < c->cols; i++) {
            const double want = x[(size_t)r * c->cols + i] / sqrt(squares / c->cols + EPS) * w[i];
            assert_near(got[(size_t)r * a.out_stride + i], want,
                        elem_error(c->flavour) * fabs(want) + 1e-6, "norm", i);
        }
        for (uint32_t i = c->cols; i < a.padded; i++)
            assert_true(got[(size_t)r * a.out_stride + i] == 0);
    }
    gpu_free(gpu, a.x);
    if (!c->in_place)
        gpu_free(gpu, a.out);
    gpu_free(gpu, (void *)(uintptr_t)a.w);
    gpu_free(gpu, d_residual);
    gpu_free(gpu, d_table);
    gpu_free(gpu, d_tokens);
    gpu_free(gpu, d_sampled);
    free(x);
    free(residual);
    free(table);
    free(w);
    free(got);
    free(got_x);
}

static void test_norms(void **state)
{
    (void)state;
    static const uint32_t cols[] = {32, 48, 576, 1040};
    for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++)
        for (size_t i = 0; i < ARRAY_LEN(cols); i++)
            for (uint32_t mode = 0; mode < 4; mode++) {
                const struct norm_case c = {.flavour = (enum gpu_flavour)f,
                                            .n_rows = i == 0 ? 9 : 2,
                                            .cols = cols[i],
                                            .table = mode == 1,
                                            .residual = mode == 2,
                                            .in_place = mode == 3};
                check_norm(&c);
            }
}

/* The widest row there is takes all of the shared memory that needs no asking. */
static void test_widest_norm(void **state)
{
    (void)state;
    const struct norm_case c = {.n_rows = 1, .cols = GPU_MAX_COLS, .residual = true};
    check_norm(&c);
}

static void test_gather(void **state)
{
    (void)state;
    static const uint32_t rows[] = {4, 0, 4, 2};
    float in[5 * 300], out[4 * 300];
    for (size_t i = 0; i < ARRAY_LEN(in); i++)
        in[i] = random_float();
    void *d_in = device_copy(in, sizeof(in)), *d_rows = device_copy(rows, sizeof(rows));
    void *d_out = device_new(sizeof(out));
    const struct gpu_gather a = {.in = d_in, .rows = d_rows, .out = d_out, .n = 4, .cols = 300};
    wait_well(gpu_gather_rows(stream, &a));
    device_read(out, d_out, sizeof(out));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_memory_equal(out + i * 300, in + rows[i] * 300, 300 * sizeof(float));
    gpu_free(gpu, d_in);
    gpu_free(gpu, d_rows);
    gpu_free(gpu, d_out);
}

/* --- rotary embedding --- */

enum { ROPE_ROWS = 5, MAX_POSITION = 8192, BLOCKS = 7, LAYERS = 3, LAYER = 1 };
static const uint32_t positions[ROPE_ROWS] = {0, 1, 255, 256, 8191};

struct rope_case {
    enum gpu_flavour flavour;
    uint32_t n_heads, n_kv_heads, head_dim;
    bool interleaved, normed;
    double scale;
    double freqs[GPU_MAX_HEAD / 2];
};

static void fill_span(const struct rope_case *c, double *row, double position)
{
    for (uint32_t i = 0; i < c->head_dim / 2; i++) {
        row[2 * i] = cos(position * c->freqs[i]);
        row[2 * i + 1] = sin(position * c->freqs[i]);
    }
}

/* The table of the step's rows, on the device. */
static float *rope_table(const struct rope_case *c)
{
    enum { SPANS = MAX_POSITION / GPU_ROPE_SPAN };
    const size_t low_n = (size_t)GPU_ROPE_SPAN * c->head_dim, high_n = (size_t)SPANS * c->head_dim;
    double *low = malloc(low_n * sizeof(*low)), *high = malloc(high_n * sizeof(*high));
    assert_non_null(low);
    assert_non_null(high);
    for (uint32_t p = 0; p < GPU_ROPE_SPAN; p++)
        fill_span(c, low + (size_t)p * c->head_dim, p);
    for (uint32_t h = 0; h < SPANS; h++)
        fill_span(c, high + (size_t)h * c->head_dim, (double)h * GPU_ROPE_SPAN);
    void *d_low = device_copy(low, low_n * sizeof(*low));
    void *d_high = device_copy(high, high_n * sizeof(*high));
    void *d_positions = device_copy(positions, sizeof(positions));
    float *out = device_new((size_t)ROPE_ROWS * c->head_dim * sizeof(float));
    const struct gpu_rope_rows a = {.low = d_low,
                                    .high = d_high,
                                    .positions = d_positions,
                                    .out = out,
                                    .n_rows = ROPE_ROWS,
                                    .head_dim = c->head_dim,
                                    .scale = c->scale};
    wait_well(gpu_rope_table(stream, &a));
    gpu_free(gpu, d_low);
    gpu_free(gpu, d_high);
    gpu_free(gpu, d_positions);
    free(low);
    free(high);
    return out;
}

/* A head as the definitions have it. */
static void reference_head(const struct rope_case *c, const float *head, const float *norm,
                           uint32_t position, double *out)
{
    const uint32_t half = c->head_dim / 2;
    double x[GPU_MAX_HEAD], squares = 0;
    for (uint32_t i = 0; i < c->head_dim; i++)
        squares += (double)head[i] * head[i];
    for (uint32_t i = 0; i < c->head_dim; i++)
        x[i] = norm ? head[i] / sqrt(squares / c->head_dim + EPS) * norm[i] : head[i];
    for (uint32_t i = 0; i < half; i++) {
        const double angle = position * c->freqs[i];
        const uint32_t a = c->interleaved ? 2 * i : i, b = c->interleaved ? 2 * i + 1 : i + half;
        out[a] = c->scale * (x[a] * cos(angle) - x[b] * sin(angle));
        out[b] = c->scale * (x[a] * sin(angle) + x[b] * cos(angle));
    }
}

static void assert_head(const struct rope_case *c, const float *got, const double *want,
                        const char *what)
{
    for (uint32_t i = 0; i < c->head_dim; i++)
        assert_near(got[i], want[i], elem_error(c->flavour) * fabs(want[i]) + 4e-6, what, i);
}

static void check_rope(const struct rope_case *c)
{
    static const uint32_t slots[ROPE_ROWS] = {17, 0, 111, 50, 33};
    const uint32_t hd = c->head_dim, q_heads = c->n_heads, kv_heads = c->n_kv_heads;
    const uint32_t cols = (q_heads + 2 * kv_heads) * hd;
    const size_t kv_elems = (size_t)BLOCKS * LAYERS * 2 * kv_heads * KV_BLOCK_TOKENS * hd;
    const size_t q_elems = (size_t)ROPE_ROWS * q_heads * hd;
    float *qkv = random_elems(c->flavour, (size_t)ROPE_ROWS * cols);
    float *norms = random_elems(c->flavour, 2 * (size_t)hd);
    float *table = rope_table(c);
    struct gpu_rope a = {.kv = {.data = device_new(kv_elems * 2),
                                .n_layers = LAYERS,
                                .layer = LAYER,
                                .n_heads = q_heads,
                                .n_kv_heads = kv_heads,
                                .head_dim = hd},
                         .cos_sin = table,
                         .q = device_new(q_elems * 2),
                         .n_rows = ROPE_ROWS,
                         .eps = EPS,
                         .interleaved = c->interleaved};
    void *d_qkv = device_copy(qkv, (size_t)ROPE_ROWS * cols * sizeof(*qkv));
    void *d_slots = device_copy(slots, sizeof(slots));
    float *d_norms = device_copy(norms, 2 * (size_t)hd * sizeof(*norms));
    a.qkv = d_qkv;
    a.slots = d_slots;
    a.q_norm = c->normed ? d_norms : NULL;
    a.k_norm = c->normed ? d_norms + hd : NULL;
    wait_well(gpu_rope_kv(stream, c->flavour, &a));

    float *q = malloc(q_elems * sizeof(*q)), *kv = malloc(kv_elems * sizeof(*kv));
    double want[GPU_MAX_HEAD];
    size_t n_written = 0;
    assert_non_null(q);
    assert_non_null(kv);
    read_elems(c->flavour, q, a.q, q_elems);
    read_elems(c->flavour, kv, a.kv.data, kv_elems);
    for (uint32_t r = 0; r < ROPE_ROWS; r++)
        for (uint32_t h = 0; h < q_heads + 2 * kv_heads; h++) {
            const float *in = qkv + (size_t)r * cols + (size_t)h * hd;
            if (h < q_heads) {
                reference_head(c, in, c->normed ? norms : NULL, positions[r], want);
                assert_head(c, q + ((size_t)r * q_heads + h) * hd, want, "q");
                continue;
            }
            const uint32_t is_v = h >= q_heads + kv_heads, kv_head = (h - q_heads) % kv_heads;
            const size_t head = (((size_t)slots[r] / 16 * LAYERS + LAYER) * 2 + is_v) * kv_heads;
            const float *got = kv + ((head + kv_head) * 16 + slots[r] % 16) * hd;
            if (is_v) {
                assert_memory_equal(got, in, hd * sizeof(*got));
            } else {
                reference_head(c, in, c->normed ? norms + hd : NULL, positions[r], want);
                assert_head(c, got, want, "k");
            }
        }
    for (size_t i = 0; i < kv_elems; i++)
        n_written += kv[i] != 0;
    assert_true(n_written <= (size_t)ROPE_ROWS * 2 * kv_heads * hd); /* nothing else */
    gpu_free(gpu, a.kv.data);
    gpu_free(gpu, a.q);
    gpu_free(gpu, table);
    gpu_free(gpu, d_qkv);
    gpu_free(gpu, d_slots);
    gpu_free(gpu, d_norms);
    free(qkv);
    free(norms);
    free(q);
    free(kv);
}

/* Both styles, with and without norms of heads, plain frequencies and ones that are no powers of one
 * theta, as llama3 and YaRN make them, with a factor of cos and sin. */
static void test_rope(void **state)
{
    (void)state;
    static const uint32_t dims[] = {16, 64, 80, 128, 256};
    for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++)
        for (size_t i = 0; i < ARRAY_LEN(dims); i++)
            for (uint32_t mode = 0; mode < 4; mode++) {
                struct rope_case c = {.flavour = (enum gpu_flavour)f,
                                      .n_heads = i % 2 ? 7 : 3,
                                      .n_kv_heads = i % 2 ? 1 : 3,
                                      .head_dim = dims[i],
                                      .interleaved = mode % 2,
                                      .normed = mode / 2,
                                      .scale = mode == 3 ? 1.25 : 1};
                for (uint32_t k = 0; k < dims[i] / 2; k++)
                    c.freqs[k] = mode == 3 ? 1.0 / (1 + k * k) : pow(10000, -2.0 * k / dims[i]);
                check_rope(&c);
            }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_device, close_device)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_norms),
        TEST(test_widest_norm),
        TEST(test_gather),
        TEST(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
