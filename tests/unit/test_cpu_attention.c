/* test_cpu_attention.c - rotary embedding, the paged KV cache and attention of the CPU backend,
 * against a reference in double; bit-identical over instruction sets, threads and chunks. */
#include "tests/ops/cpu_case.h"

enum { MAX_TEST_ROWS = 80, MAX_TEST_SEQS = 4, BLOCKS = 40 };
#define NORM_EPS 1e-5f

/* Several sequences that grow step by step; qkv holds the inputs of every position. */
struct world {
    struct attn_shape shape;
    uint32_t n_seqs;
    uint32_t len[MAX_TEST_SEQS]; /* final length */
    uint32_t tables[MAX_TEST_SEQS][BLOCKS];
    uint32_t qkv_cols, q_cols;
    struct host_tensor q_norm, k_norm; /* data NULL: none */
    float *qkv[MAX_TEST_SEQS];         /* [len][qkv_cols], not rotated */
    float *out[MAX_TEST_SEQS];         /* [len][q_cols] */
};

static void world_new(struct world *w, const struct attn_shape *s, uint32_t n_seqs,
                      const uint32_t *len)
{
    uint32_t ids[BLOCKS], n = 0;
    *w = (struct world){.shape = *s, .n_seqs = n_seqs};
    w->q_cols = s->n_heads * s->head_dim;
    w->qkv_cols = w->q_cols + 2 * s->n_kv_heads * s->head_dim;
    for (uint32_t i = 0; i < BLOCKS; i++)
        ids[i] = i;
    for (uint32_t i = BLOCKS - 1; i > 0; i--) { /* tables in no order */
        const uint32_t j = random_u32() % (i + 1), t = ids[i];
        ids[i] = ids[j];
        ids[j] = t;
    }
    for (uint32_t q = 0; q < n_seqs; q++) {
        w->len[q] = len[q];
        w->qkv[q] = malloc((size_t)len[q] * w->qkv_cols * sizeof(float));
        w->out[q] = malloc((size_t)len[q] * w->q_cols * sizeof(float));
        assert_non_null(w->qkv[q]);
        assert_non_null(w->out[q]);
        random_floats(w->qkv[q], (size_t)len[q] * w->qkv_cols);
        for (uint32_t b = 0; b < (len[q] + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS; b++) {
            assert_true(n < BLOCKS);
            w->tables[q][b] = ids[n++];
        }
    }
}

static void world_drop(struct world *w)
{
    for (uint32_t q = 0; q < w->n_seqs; q++) {
        free(w->qkv[q]);
        free(w->out[q]);
    }
    tensor_drop(&w->q_norm);
    tensor_drop(&w->k_norm);
}

/* A backend with the norms of the world's heads (NULL: none). */
struct rig {
    struct backend *be;
    struct weight *q_norm, *k_norm;
    struct tensor qkv, out;
};

/* The sequence's table for a step from position `from` on; blocks that lie before its window have
 * ids that nobody can follow. */
static const uint32_t *table_of(const struct world *w, uint32_t q, uint32_t from)
{
    static uint32_t tables[MAX_TEST_SEQS][BLOCKS];
    const uint32_t window = w->shape.windows ? w->shape.windows[w->shape.n_layers - 1] : 0;
    memcpy(tables[q], w->tables[q], sizeof(tables[q]));
    if (window && from >= window)
        memset(tables[q], 0xff, (from + 1 - window) / KV_BLOCK_TOKENS * sizeof(uint32_t));
    return tables[q];
}

/* Runs one step in which each sequence q has rows done[q] .. done[q] + n[q] - 1. */
static void world_step(struct world *w, struct rig *rig, const uint32_t *done, const uint32_t *n)
{
    struct backend *be = rig->be;
    static uint32_t tokens[MAX_TEST_ROWS];
    uint32_t positions[MAX_TEST_ROWS], slots[MAX_TEST_ROWS], rows = 0, n_seqs = 0;
    struct batch_seq seqs[MAX_TEST_SEQS];
    for (uint32_t q = 0; q < w->n_seqs; q++) {
        if (n[q] == 0)
            continue;
        seqs[n_seqs++] = (struct batch_seq){rows, n[q], done[q], table_of(w, q, done[q]), q};
        for (uint32_t i = 0; i < n[q]; i++, rows++) {
            const uint32_t p = done[q] + i;
            assert_true(rows < MAX_TEST_ROWS);
            positions[rows] = p;
            slots[rows] = w->tables[q][p / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + p % KV_BLOCK_TOKENS;
            memcpy(rig->qkv.data + (size_t)rows * w->qkv_cols, w->qkv[q] + (size_t)p * w->qkv_cols,
                   w->qkv_cols * sizeof(float));
        }
    }
    const struct batch b = {.n_rows = rows,
                            .tokens = tokens,
                            .positions = positions,
                            .slots = slots,
                            .n_seqs = n_seqs,
                            .seqs = seqs};
    const uint32_t layer = w->shape.n_layers - 1;
    assert_int_equal(be->ops->begin(be, &b), 0);
    assert_int_equal(be->ops->rope_kv(be, layer, &rig->qkv, rig->q_norm, rig->k_norm, NORM_EPS), 0);
    assert_int_equal(be->ops->attention(be, layer, &rig->qkv, &rig->out), 0);
    assert_int_equal(be->ops->finish(be), 0);
    for (uint32_t i = 0; i < n_seqs; i++)
        memcpy(w->out[seqs[i].tag] + (size_t)seqs[i].first_pos * w->q_cols,
               rig->out.data + (size_t)seqs[i].first_row * w->q_cols,
               (size_t)seqs[i].n_rows * w->q_cols * sizeof(float));
}

/* All sequences to their ends, each step at most `chunk` rows of each. */
static bool world_run(struct world *w, const char *isa, uint32_t threads, enum compute_type c,
                      uint32_t chunk)
{
    struct rig rig = {.be = ready_backend(isa, threads, c, &w->shape, MAX_TEST_ROWS, BLOCKS)};
    if (!rig.be)
        return false;
    rig.qkv = new_tensor(rig.be, MAX_TEST_ROWS, w->qkv_cols);
    rig.out = new_tensor(rig.be, MAX_TEST_ROWS, w->q_cols);
    if (w->q_norm.data) {
        rig.q_norm = new_weight(rig.be, WEIGHT_VECTOR, &w->q_norm, 1);
        rig.k_norm = new_weight(rig.be, WEIGHT_VECTOR, &w->k_norm, 1);
    }
    uint32_t done[MAX_TEST_SEQS] = {0}, n[MAX_TEST_SEQS], total;
    do {
        total = 0;
        for (uint32_t q = 0; q < w->n_seqs; q++) {
            n[q] = (uint32_t)u64_min(chunk, w->len[q] - done[q]);
            n[q] = (uint32_t)u64_min(n[q], MAX_TEST_ROWS - total);
            total += n[q];
        }
        if (total > 0)
            world_step(w, &rig, done, n);
        for (uint32_t q = 0; q < w->n_seqs; q++)
            done[q] += n[q];
    } while (total > 0);
    rig.be->ops->weight_free(rig.q_norm);
    rig.be->ops->weight_free(rig.k_norm);
    rig.be->ops->free(rig.be);
    return true;
}

/* A head of position p, normalized and rotated as the definitions say. */
static void rotate(const struct attn_shape *s, const struct host_tensor *norm, const float *head,
                   uint32_t p, double *out)
{
    const uint32_t half = s->head_dim / 2;
    double x[256], squares = 0;
    for (uint32_t i = 0; i < s->head_dim; i++)
        squares += (double)head[i] * head[i];
    for (uint32_t i = 0; i < s->head_dim; i++) {
        x[i] = head[i];
        if (norm && norm->data)
            x[i] = x[i] / sqrt(squares / s->head_dim + NORM_EPS) * tensor_value(norm, 0, i);
    }
    for (uint32_t i = 0; i < half; i++) {
        const double angle = p * s->inv_freq[i], scale = s->rope_scale;
        const uint32_t a = s->rope_interleaved ? 2 * i : i;
        const uint32_t b = s->rope_interleaved ? 2 * i + 1 : i + half;
        out[a] = scale * (x[a] * cos(angle) - x[b] * sin(angle));
        out[b] = scale * (x[a] * sin(angle) + x[b] * cos(angle));
    }
}

/* Output of head h at position p of sequence q. */
static void reference(const struct world *w, uint32_t q, uint32_t p, uint32_t h, double *out)
{
    const struct attn_shape *s = &w->shape;
    const uint32_t hd = s->head_dim, kv = h / (s->n_heads / s->n_kv_heads);
    const uint32_t window = s->windows ? s->windows[s->n_layers - 1] : 0;
    const uint32_t from = window && p >= window ? p - window + 1 : 0;
    double query[256], key[256], score[BLOCKS * KV_BLOCK_TOKENS], top = -INFINITY, sum = 0;
    rotate(s, &w->q_norm, w->qkv[q] + (size_t)p * w->qkv_cols + (size_t)h * hd, p, query);
    for (uint32_t t = from; t <= p; t++) {
        rotate(s, &w->k_norm, w->qkv[q] + (size_t)t * w->qkv_cols + w->q_cols + (size_t)kv * hd, t,
               key);
        score[t] = 0;
        for (uint32_t d = 0; d < hd; d++)
            score[t] += query[d] * key[d];
        score[t] /= sqrt(hd);
        top = fmax(top, score[t]);
    }
    memset(out, 0, hd * sizeof(*out));
    for (uint32_t t = from; t <= p; t++) {
        const double e = exp(score[t] - top);
        const float *v =
            w->qkv[q] + (size_t)t * w->qkv_cols + w->q_cols + (size_t)(s->n_kv_heads + kv) * hd;
        sum += e;
        for (uint32_t d = 0; d < hd; d++)
            out[d] += e * v[d];
    }
    for (uint32_t d = 0; d < hd; d++)
        out[d] /= sum;
}

static void assert_world(const struct world *w, double bound)
{
    const struct attn_shape *s = &w->shape;
    double want[256];
    for (uint32_t q = 0; q < w->n_seqs; q++)
        for (uint32_t p = 0; p < w->len[q]; p++)
            for (uint32_t h = 0; h < s->n_heads; h++) {
                const float *got = w->out[q] + (size_t)p * w->q_cols + (size_t)h * s->head_dim;
                reference(w, q, p, h, want);
                for (uint32_t d = 0; d < s->head_dim; d++)
                    if (!(fabs(got[d] - want[d]) <= bound))
                        fail_msg("sequence %u, position %u, head %u, element %u: %.8g, not %.8g", q,
                                 p, h, d, got[d], want[d]);
            }
}

static void assert_same_bits(struct world *w, enum compute_type c)
{
    float *want[MAX_TEST_SEQS];
    for (uint32_t q = 0; q < w->n_seqs; q++) {
        want[q] = w->out[q];
        w->out[q] = malloc((size_t)w->len[q] * w->q_cols * sizeof(float));
        assert_non_null(w->out[q]);
    }
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            const uint32_t chunk = threads == 1 ? 1 : threads == 2 ? 64 : 13;
            if (i == 0 && threads != 3) /* the portable kernels are slow: one way will do */
                continue;
            if (!world_run(w, all_isas[i], threads, c, chunk))
                continue;
            for (uint32_t q = 0; q < w->n_seqs; q++)
                if (memcmp(w->out[q], want[q], (size_t)w->len[q] * w->q_cols * sizeof(float)) != 0)
                    fail_msg("%s, %u threads, chunks of %u: sequence %u has other bits",
                             all_isas[i], threads, chunk, q);
        }
    for (uint32_t q = 0; q < w->n_seqs; q++) {
        free(w->out[q]);
        w->out[q] = want[q];
    }
}

static void check_world(struct world *w)
{
    assert_true(world_run(w, "auto", 1, COMPUTE_F32, 16));
    assert_world(w, 3e-6);
    assert_same_bits(w, COMPUTE_F32);
    assert_true(world_run(w, "auto", 1, COMPUTE_AUTO, 16)); /* F16 keys and values */
    assert_world(w, 3e-3);
    assert_same_bits(w, COMPUTE_AUTO);
}

static void check(const struct attn_shape *s, uint32_t n_seqs, const uint32_t *len)
{
    struct world w;
    world_new(&w, s, n_seqs, len);
    check_world(&w);
    world_drop(&w);
}

static struct attn_shape shape(uint32_t heads, uint32_t kv_heads, uint32_t dim, bool interleaved)
{
    return (struct attn_shape){.n_layers = 2,
                               .n_heads = heads,
                               .n_kv_heads = kv_heads,
                               .head_dim = dim,
                               .max_context = 320,
                               .inv_freq = plain_inv_freq(dim),
                               .rope_scale = 1,
                               .rope_interleaved = interleaved};
}

static void test_one_sequence(void **state)
{
    (void)state;
    static const uint32_t groups[] = {1, 3, 4, 7, 2, 1, 2}, dims[] = {64, 32, 128, 96, 80, 16, 48};
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        struct attn_shape s = shape(2 * groups[i], 2, dims[i], i % 2 == 0);
        const uint32_t len = 33 + 5 * (uint32_t)i;
        check(&s, 1, &len);
    }
}

static void test_ragged_sequences(void **state)
{
    (void)state;
    static const uint32_t len[] = {1, 17, 40, 52};
    struct attn_shape s = shape(9, 3, 64, true);
    check(&s, 4, len);
}

static void test_long_context(void **state)
{
    (void)state;
    static const uint32_t len[] = {300, 3};
    struct attn_shape s = shape(3, 1, 32, false);
    check(&s, 2, len);
}

/* More query heads than a task takes rows of. */
static void test_wide_group(void **state)
{
    (void)state;
    static const uint32_t len[] = {20};
    struct attn_shape s = shape(100, 1, 32, false);
    check(&s, 1, len);
}

/* Windows that are and are not multiples of a block, alone in one, and wider than the context. */
static void test_windows(void **state)
{
    (void)state;
    static const uint32_t window[] = {1, 8, 16, 21, 37, 64, 500}, len[] = {150, 19, 70};
    for (size_t i = 0; i < ARRAY_LEN(window); i++) {
        const uint32_t windows[] = {0, window[i]};
        struct attn_shape s = shape(i % 2 ? 6 : 3, 3, 32, false);
        s.windows = windows;
        check(&s, 3, len);
    }
}

/* What lies outside of the window must not reach a row, whatever its value. */
static void test_past_of_the_window_is_invisible(void **state)
{
    (void)state;
    static const uint32_t len[] = {90}, windows[] = {0, 21};
    struct attn_shape s = shape(3, 1, 64, true);
    s.windows = windows;
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (uint32_t chunk = 1; chunk <= 45; chunk += 44) {
            struct world a, b;
            case_random_state = 78;
            world_new(&a, &s, 1, len);
            case_random_state = 78;
            world_new(&b, &s, 1, len);
            for (uint32_t p = 0; p <= 40; p++)
                for (uint32_t k = 0; k < b.qkv_cols; k++)
                    b.qkv[0][(size_t)p * b.qkv_cols + k] = k % 3 == 0 ? NAN : 1e30f;
            if (world_run(&a, all_isas[i], 1, COMPUTE_AUTO, chunk) &&
                world_run(&b, all_isas[i], 1, COMPUTE_AUTO, chunk))
                assert_memory_equal(a.out[0] + (size_t)61 * a.q_cols,
                                    b.out[0] + (size_t)61 * b.q_cols,
                                    (size_t)29 * a.q_cols * sizeof(float));
            world_drop(&a);
            world_drop(&b);
        }
}

/* RMS norms of the heads, frequencies that are no powers of one theta, a factor of cos and sin. */
static void test_head_norms_and_scaled_rope(void **state)
{
    (void)state;
    static const uint32_t len[] = {40, 9}, dims[] = {32, 64, 80};
    double freqs[40];
    for (uint32_t i = 0; i < ARRAY_LEN(freqs); i++)
        freqs[i] = 1.0 / (1 + i * i);
    for (size_t i = 0; i < ARRAY_LEN(dims); i++) {
        struct attn_shape s = shape(6, 2, dims[i], i == 1);
        struct world w;
        s.inv_freq = freqs;
        s.rope_scale = 1.25f;
        world_new(&w, &s, 2, len);
        w.q_norm = tensor_random(DTYPE_F32, 1, dims[i]);
        w.k_norm = tensor_random(DTYPE_BF16, 1, dims[i]);
        check_world(&w);
        world_drop(&w);
    }
}

/* A cached position that lies beyond a row's own must not reach it, whatever its value. */
static void test_future_is_invisible(void **state)
{
    (void)state;
    static const uint32_t len[] = {60};
    struct attn_shape s = shape(3, 1, 64, true);
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++) {
        struct world a, b;
        case_random_state = 77;
        world_new(&a, &s, 1, len);
        case_random_state = 77;
        world_new(&b, &s, 1, len);
        for (uint32_t p = 37; p < 60; p++)
            for (uint32_t k = 0; k < b.qkv_cols; k++)
                b.qkv[0][(size_t)p * b.qkv_cols + k] = k % 3 == 0 ? NAN : 1e30f;
        if (world_run(&a, all_isas[i], 1, COMPUTE_AUTO, 60) &&
            world_run(&b, all_isas[i], 1, COMPUTE_AUTO, 60))
            assert_memory_equal(a.out[0], b.out[0], (size_t)37 * a.q_cols * sizeof(float));
        world_drop(&a);
        world_drop(&b);
    }
}

/* Keys and values beyond F16's range count as its largest value, not as infinity. */
static void test_values_out_of_range(void **state)
{
    (void)state;
    static const uint32_t len[] = {5};
    struct attn_shape s = shape(1, 1, 32, true);
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++) {
        struct world w;
        world_new(&w, &s, 1, len);
        w.qkv[0][(size_t)2 * w.qkv_cols + 64] = 1e6f; /* a value of position 2 */
        for (uint32_t p = 0; p < 5; p++)
            memset(w.qkv[0] + (size_t)p * w.qkv_cols, 0, 32 * sizeof(float)); /* equal weights */
        if (world_run(&w, all_isas[i], 1, COMPUTE_AUTO, 5))
            for (uint32_t p = 2; p < 5; p++) {
                const float got = w.out[0][(size_t)p * w.q_cols];
                assert_true(fabsf(got * (float)(p + 1) - 65504.0f) < 64.0f);
            }
        world_drop(&w);
    }
}

/* Rotation alone, at positions beyond the first table span. */
static void test_rope_positions(void **state)
{
    (void)state;
    static const uint32_t at[] = {0, 1, 255, 256, 257, 4095, 8191};
    for (uint32_t style = 0; style < 2; style++) {
        struct attn_shape s = shape(2, 1, 64, style == 1);
        s.max_context = 8192;
        struct backend *be = ready_backend("auto", 1, COMPUTE_AUTO, &s, 8, 1);
        struct tensor qkv = new_tensor(be, 8, 4 * 64);
        float x[4 * 64];
        double want[64];
        for (size_t i = 0; i < ARRAY_LEN(at); i++) {
            struct batch b;
            uint32_t position = at[i];
            begin_rows(be, 1, &b);
            assert_int_equal(be->ops->finish(be), 0);
            b.positions = &position;
            assert_int_equal(be->ops->begin(be, &b), 0);
            random_floats(x, 4 * 64);
            memcpy(qkv.data, x, sizeof(x));
            assert_int_equal(be->ops->rope_kv(be, 0, &qkv, NULL, NULL, 0), 0);
            for (uint32_t h = 0; h < 3; h++) {
                rotate(&s, NULL, x + 64 * h, position, want);
                for (uint32_t d = 0; d < 64; d++)
                    assert_true(fabs(qkv.data[64 * h + d] - want[d]) < 3e-7);
            }
            assert_memory_equal(qkv.data + 192, x + 192, 64 * sizeof(float)); /* v stays */
            assert_int_equal(be->ops->finish(be), 0);
        }
        be->ops->free(be);
    }
}

static void expect_refused(const struct attn_shape *s, const char *words)
{
    const struct backend_limits limits = {.max_rows = 4, .max_seqs = 4, .max_out = 4};
    struct backend *be = isa_backend("auto", 1, COMPUTE_AUTO);
    struct err e = {0};
    assert_int_equal(be->ops->reserve(be, s, &limits, 4, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, words));
    be->ops->free(be);
}

static void test_refusals(void **state)
{
    (void)state;
    struct attn_shape s = shape(4, 2, 64, true);
    s.head_dim = 100;
    expect_refused(&s, "head_dim 100");
    s = shape(4, 3, 64, true);
    expect_refused(&s, "4 heads over 3");
    s = shape(4, 2, 64, true);
    s.max_context = 0;
    expect_refused(&s, "context of 0");
}

static void test_block_bytes(void **state)
{
    (void)state;
    struct attn_shape s = shape(9, 3, 64, true);
    struct backend *be = isa_backend("auto", 1, COMPUTE_AUTO);
    assert_int_equal(be->ops->kv_block_bytes(be, &s), 2 * 3 * 2 * 64 * 16 * 2);
    be->ops->free(be);
    be = isa_backend("auto", 1, COMPUTE_F32);
    assert_int_equal(be->ops->kv_block_bytes(be, &s), 2 * 3 * 2 * 64 * 16 * 4);
    be->ops->free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_sequence),
        cmocka_unit_test(test_ragged_sequences),
        cmocka_unit_test(test_long_context),
        cmocka_unit_test(test_wide_group),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_past_of_the_window_is_invisible),
        cmocka_unit_test(test_head_norms_and_scaled_rope),
        cmocka_unit_test(test_future_is_invisible),
        cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_rope_positions),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_block_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
