/* Attention on the GPU against double: prompts whole and in chunks, decodes, any group, windows,
 * contexts over several parts. Queries, keys and values are made here: no rotation. */
#include "tests/gpu/gpu_case.h"

enum { MAX_SEQS = 4, LAYERS = 2, LAYER = 1 };

struct world {
    enum gpu_flavour flavour;
    uint32_t n_heads, n_kv_heads, head_dim, window;
    uint32_t n_seqs, len[MAX_SEQS];
    uint32_t *tables[MAX_SEQS], n_blocks;
    float *q[MAX_SEQS];               /* [len][n_heads][head_dim] */
    float *k[MAX_SEQS], *v[MAX_SEQS]; /* [len][n_kv_heads][head_dim] */
    float *out[MAX_SEQS];             /* as q */
    void *cache;
};

static uint32_t blocks_of(uint32_t tokens)
{
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* The cache holds NaN where nothing was written: behind the last token of a sequence, in the other
 * layer, and in blocks that belong to nobody. */
static void fill_cache(struct world *w)
{
    const uint32_t hd = w->head_dim, kvh = w->n_kv_heads;
    const size_t n = (size_t)w->n_blocks * LAYERS * 2 * kvh * KV_BLOCK_TOKENS * hd;
    uint16_t *bits = malloc(n * sizeof(*bits));
    assert_non_null(bits);
    memset(bits, 0xff, n * sizeof(*bits));
    for (uint32_t s = 0; s < w->n_seqs; s++)
        for (uint32_t p = 0; p < w->len[s]; p++)
            for (uint32_t h = 0; h < kvh; h++)
                for (uint32_t d = 0; d < hd; d++) {
                    const size_t block = (size_t)w->tables[s][p / 16] * LAYERS + LAYER;
                    const size_t from = ((size_t)p * kvh + h) * hd + d;
                    const size_t to = ((block * 2 * kvh + h) * 16 + p % 16) * hd + d;
                    bits[to] = elem_bits(w->flavour, w->k[s][from]);
                    bits[to + (size_t)kvh * 16 * hd] = elem_bits(w->flavour, w->v[s][from]);
                }
    w->cache = device_copy(bits, n * sizeof(*bits));
    free(bits);
}

/* len holds n_seqs lengths; the rest of w is set. */
static void world_new(struct world *w, const uint32_t *len, uint32_t n_seqs)
{
    const size_t q_cols = (size_t)w->n_heads * w->head_dim;
    const size_t kv_cols = (size_t)w->n_kv_heads * w->head_dim;
    uint32_t next = 0;
    w->n_seqs = n_seqs;
    for (uint32_t s = 0; s < n_seqs; s++)
        next += blocks_of(len[s]);
    w->n_blocks = 2 * next + 1;
    for (uint32_t s = 0; s < n_seqs; s++) {
        w->len[s] = len[s];
        w->tables[s] = calloc(blocks_of(len[s]), sizeof(uint32_t));
        w->out[s] = calloc(len[s] * q_cols, sizeof(float));
        assert_non_null(w->tables[s]);
        assert_non_null(w->out[s]);
        for (uint32_t b = 0; b < blocks_of(len[s]); b++) /* every other block, backwards */
            w->tables[s][b] = 2 * --next + 1;
        w->q[s] = random_elems(w->flavour, len[s] * q_cols);
        w->k[s] = random_elems(w->flavour, len[s] * kv_cols);
        w->v[s] = random_elems(w->flavour, len[s] * kv_cols);
        for (size_t i = 0; i < len[s] * q_cols; i++) /* scores of some spread */
            w->q[s][i] = elem_round(w->flavour, 3 * w->q[s][i]);
    }
    fill_cache(w);
}

static void world_drop(struct world *w)
{
    gpu_free(gpu, w->cache);
    for (uint32_t s = 0; s < w->n_seqs; s++) {
        free(w->tables[s]);
        free(w->q[s]);
        free(w->k[s]);
        free(w->v[s]);
        free(w->out[s]);
    }
}

/* --- one step --- */

struct step {
    uint32_t n_rows, n_tables, n_items, n_parts;
    struct gpu_seq seqs[MAX_SEQS];
    uint32_t tables[MAX_SEQS * 64];
    struct gpu_attn_item items[1024];
    float *q;
};

/* Rows from..from + n - 1 of sequence s. Blocks that its window does not reach have ids that nobody
 * can follow. */
static void step_add(struct step *st, const struct world *w, uint32_t s, uint32_t from, uint32_t n)
{
    const size_t q_cols = (size_t)w->n_heads * w->head_dim;
    st->seqs[s] = (struct gpu_seq){st->n_rows, n, from, st->n_tables};
    for (uint32_t b = 0; b < blocks_of(from + n); b++) {
        const bool unseen = w->window && b * 16 + 15 + w->window <= from;
        st->tables[st->n_tables++] = unseen ? 0xffffffff : w->tables[s][b];
    }
    memcpy(st->q + st->n_rows * q_cols, w->q[s] + from * q_cols, n * q_cols * sizeof(float));
    st->n_rows += n;
}

static void list_items(struct step *st, const struct world *w, bool decode)
{
    const uint32_t group = w->n_heads / w->n_kv_heads, tile = gpu_attn_tile(w->head_dim);
    for (uint32_t s = 0; s < w->n_seqs; s++) {
        const struct gpu_seq *seq = &st->seqs[s];
        const uint32_t n =
            decode ? seq->first_pos / GPU_SPLIT + 1 : (seq->n_rows * group + tile - 1) / tile;
        for (uint32_t i = 0; i < n && seq->n_rows > 0; i++)
            st->items[st->n_items++] = (struct gpu_attn_item){s, i, n, st->n_parts};
        st->n_parts += n;
    }
}

static void step_run(struct world *w, struct step *st, bool decode)
{
    const size_t q_cols = (size_t)w->n_heads * w->head_dim;
    const uint32_t stride = (uint32_t)q_cols + 32;
    const size_t counters = (size_t)MAX_SEQS * gpu_attn_counters(w->n_heads, w->n_kv_heads);
    list_items(st, w, decode);
    void *q = device_elems(w->flavour, st->q, st->n_rows, q_cols, st->n_rows, q_cols);
    void *seqs = device_copy(st->seqs, sizeof(st->seqs));
    void *tables = device_copy(st->tables, sizeof(st->tables));
    void *items = device_copy(st->items, sizeof(st->items));
    struct gpu_attn a = {
        .kv = {w->cache, LAYERS, LAYER, w->n_heads, w->n_kv_heads, w->head_dim},
        .q = q,
        .out = device_new((size_t)st->n_rows * stride * 2),
        .out_stride = stride,
        .window = w->window,
        .seqs = seqs,
        .tables = tables,
        .items = items,
        .n_items = st->n_items,
        .partial = device_new(st->n_parts * q_cols * sizeof(float)),
        .partial_max = device_new((size_t)st->n_parts * w->n_heads * 2 * sizeof(float)),
        .arrived = device_new(counters * sizeof(uint32_t)),
    };
    wait_well((decode ? gpu_attn_decode : gpu_attn_prefill)(stream, w->flavour, &a));
    float *out = malloc((size_t)st->n_rows * stride * sizeof(*out));
    uint32_t arrived[256];
    assert_non_null(out);
    assert_true(counters <= ARRAY_LEN(arrived));
    read_elems(w->flavour, out, a.out, (size_t)st->n_rows * stride);
    for (uint32_t s = 0; s < w->n_seqs; s++)
        for (uint32_t i = 0; i < st->seqs[s].n_rows; i++)
            memcpy(w->out[s] + (st->seqs[s].first_pos + i) * q_cols,
                   out + (size_t)(st->seqs[s].first_row + i) * stride, q_cols * sizeof(float));
    device_read(arrived, a.arrived, counters * sizeof(uint32_t));
    for (size_t i = 0; i < counters; i++)
        assert_int_equal(arrived[i], 0);
    void *const all[] = {q, seqs, tables, items, a.out, a.partial, a.partial_max, a.arrived};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        gpu_free(gpu, all[i]);
    free(out);
}

/* All sequences together: rows done..done + chunk of each, until the end. */
static void prefill(struct world *w, uint32_t chunk)
{
    static struct step st;
    const size_t q_cols = (size_t)w->n_heads * w->head_dim;
    for (uint32_t done = 0;; done += chunk) {
        memset(&st, 0, sizeof(st));
        st.q = malloc((size_t)MAX_SEQS * chunk * q_cols * sizeof(float));
        assert_non_null(st.q);
        for (uint32_t s = 0; s < w->n_seqs; s++)
            if (done < w->len[s])
                step_add(&st, w, s, done, w->len[s] - done < chunk ? w->len[s] - done : chunk);
        if (st.n_rows > 0)
            step_run(w, &st, false);
        free(st.q);
        if (st.n_rows == 0)
            return;
    }
}

/* The last row of every sequence. */
static void decode(struct world *w)
{
    static struct step st;
    memset(&st, 0, sizeof(st));
    st.q = malloc((size_t)MAX_SEQS * w->n_heads * w->head_dim * sizeof(float));
    assert_non_null(st.q);
    for (uint32_t s = 0; s < w->n_seqs; s++)
        step_add(&st, w, s, w->len[s] - 1, 1);
    step_run(w, &st, true);
    free(st.q);
}

/* --- the reference --- */

static void reference(const struct world *w, uint32_t s, uint32_t p, uint32_t h, double *out)
{
    const uint32_t hd = w->head_dim, kvh = h / (w->n_heads / w->n_kv_heads);
    const uint32_t from = w->window && p >= w->window ? p - w->window + 1 : 0;
    const float *q = w->q[s] + ((size_t)p * w->n_heads + h) * hd;
    double *score = calloc(p + 1, sizeof(*score)), top = -INFINITY, sum = 0;
    assert_non_null(score);
    for (uint32_t t = from; t <= p; t++) {
        const float *k = w->k[s] + ((size_t)t * w->n_kv_heads + kvh) * hd;
        for (uint32_t d = 0; d < hd; d++)
            score[t] += (double)q[d] * k[d];
        score[t] /= sqrt(hd);
        top = fmax(top, score[t]);
    }
    memset(out, 0, hd * sizeof(*out));
    for (uint32_t t = from; t <= p; t++) {
        const double e = exp(score[t] - top);
        const float *v = w->v[s] + ((size_t)t * w->n_kv_heads + kvh) * hd;
        sum += e;
        for (uint32_t d = 0; d < hd; d++)
            out[d] += e * v[d];
    }
    for (uint32_t d = 0; d < hd; d++)
        out[d] /= sum;
    free(score);
}

/* Weights and outputs are rounded to elements once each: values are at most 1. */
static void assert_rows(const struct world *w, bool last_only)
{
    const uint32_t hd = w->head_dim;
    double want[GPU_MAX_HEAD];
    for (uint32_t s = 0; s < w->n_seqs; s++)
        for (uint32_t p = last_only ? w->len[s] - 1 : 0; p < w->len[s]; p++)
            for (uint32_t h = 0; h < w->n_heads; h++) {
                reference(w, s, p, h, want);
                for (uint32_t d = 0; d < hd; d++) {
                    const size_t at = ((size_t)p * w->n_heads + h) * hd + d;
                    assert_near(w->out[s][at], want[d], 1.5 * elem_error(w->flavour), "attention",
                                at);
                }
            }
}

static void check(struct world shape, const uint32_t *len, uint32_t n_seqs, uint32_t chunk)
{
    for (int f = GPU_FLAVOUR_SM80; f <= GPU_FLAVOUR_SM75; f++) {
        struct world w = shape;
        w.flavour = (enum gpu_flavour)f;
        world_new(&w, len, n_seqs);
        prefill(&w, chunk);
        assert_rows(&w, false);
        decode(&w);
        assert_rows(&w, true);
        world_drop(&w);
    }
}

static void test_groups(void **state)
{
    (void)state;
    static const uint32_t len[] = {21, 40};
    static const uint32_t heads[][2] = {{1, 1}, {4, 2}, {7, 1}, {14, 2}, {6, 6}, {20, 1}};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        check((struct world){.n_heads = heads[i][0], .n_kv_heads = heads[i][1], .head_dim = 32},
              len, 2, 40);
}

static void test_head_dims(void **state)
{
    (void)state;
    static const uint32_t len[] = {35}, dims[] = {16, 64, 80, 128, 144, 256};
    for (size_t i = 0; i < ARRAY_LEN(dims); i++)
        check((struct world){.n_heads = 3, .n_kv_heads = 1, .head_dim = dims[i]}, len, 1, 35);
}

static void test_chunks(void **state)
{
    (void)state;
    static const uint32_t len[] = {50, 3, 33}, chunks[] = {2, 13, 50};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++)
        check((struct world){.n_heads = 7, .n_kv_heads = 1, .head_dim = 48}, len, 3, chunks[i]);
}

static void test_windows(void **state)
{
    (void)state;
    static const uint32_t len[] = {90, 20}, windows[] = {1, 16, 21, 89};
    for (size_t i = 0; i < ARRAY_LEN(windows); i++)
        check((struct world){.n_heads = 2, .n_kv_heads = 1, .head_dim = 64, .window = windows[i]},
              len, 2, 29);
}

/* Contexts over several parts, whose last block to finish merges them; with a window that leaves out
 * whole parts. */
static void test_long_contexts(void **state)
{
    (void)state;
    static const uint32_t len[] = {700, 256, 257}, windows[] = {0, 130};
    for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
        struct world w = {.n_heads = 7, .n_kv_heads = 1, .head_dim = 32, .window = windows[i]};
        world_new(&w, len, 3);
        decode(&w);
        assert_rows(&w, true);
        world_drop(&w);
    }
}

/* The bits of a row do not depend on the chunk it came in, nor do a decode's on its neighbours, nor
 * any on the order in which blocks and threads ran. */
static void test_bits(void **state)
{
    (void)state;
    static const uint32_t len[] = {60, 300}, last[] = {300};
    struct world a = {.n_heads = 6, .n_kv_heads = 2, .head_dim = 64, .window = 45}, b = a;
    world_new(&a, len, 2);
    case_random_state = 1;
    world_new(&b, len, 2);
    prefill(&a, 300);
    stand_in_set_seed(99);
    prefill(&b, 37);
    for (uint32_t s = 0; s < 2; s++)
        assert_memory_equal(a.out[s], b.out[s], (size_t)len[s] * 6 * 64 * sizeof(float));
    decode(&a);
    struct world alone = b; /* its second sequence */
    alone.n_seqs = 1;
    alone.len[0] = last[0];
    alone.tables[0] = b.tables[1];
    alone.q[0] = b.q[1];
    alone.out[0] = b.out[1];
    decode(&alone);
    assert_memory_equal(a.out[1], b.out[1], (size_t)300 * 6 * 64 * sizeof(float));
    world_drop(&a);
    world_drop(&b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_device, close_device)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_groups),  TEST(test_head_dims),     TEST(test_chunks),
        TEST(test_windows), TEST(test_long_contexts), TEST(test_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
