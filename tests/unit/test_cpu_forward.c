/* test_cpu_forward.c - a whole small transformer on the CPU backend: the logits of a position are
 * the same bits however its sequence was cut into chunks, whatever else was in the batch, on any
 * number of threads and any instruction set; and near a forward pass in double. */
#include "tests/ops/cpu_case.h"

enum {
    LAYERS = 3,
    HIDDEN = 64,
    HEADS = 6,
    KV_HEADS = 2,
    DIM = 32,
    FFN = 160,
    VOCAB = 83,
    Q = HEADS * DIM,
    KV = KV_HEADS * DIM,
    SEQS = 3,
    MAX_LEN = 60,
    MAX_TEST_ROWS = 90,
    SEQ_BLOCKS = 4,
};

struct layer_tensors {
    struct host_tensor attn_norm, qkv[3], o, ffn_norm, gate_up[2], down;
};

static struct layer_tensors host_layers[LAYERS];
static struct host_tensor host_norm, host_embed;
static const uint32_t lengths[SEQS] = {50, 21, 7};

static void make_model(enum dtype t)
{
    case_random_state = 4711;
    case_scale_exponent = 4; /* small weights: no layer multiplies the errors of those before */
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct layer_tensors *l = &host_layers[i];
        l->attn_norm = tensor_random(DTYPE_F32, 1, HIDDEN);
        l->qkv[0] = tensor_random(t, Q, HIDDEN);
        l->qkv[1] = tensor_random(t, KV, HIDDEN);
        l->qkv[2] = tensor_random(t, KV, HIDDEN);
        l->o = tensor_random(t, HIDDEN, Q);
        l->ffn_norm = tensor_random(DTYPE_F32, 1, HIDDEN);
        l->gate_up[0] = tensor_random(t, FFN, HIDDEN);
        l->gate_up[1] = tensor_random(t, FFN, HIDDEN);
        l->down = tensor_random(t, HIDDEN, FFN);
    }
    host_norm = tensor_random(DTYPE_F32, 1, HIDDEN);
    host_embed = tensor_random(DTYPE_Q8_0, VOCAB, HIDDEN);
}

static void drop_model(void)
{
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct layer_tensors *l = &host_layers[i];
        tensor_drop(&l->attn_norm);
        for (uint32_t k = 0; k < 3; k++)
            tensor_drop(&l->qkv[k]);
        tensor_drop(&l->o);
        tensor_drop(&l->ffn_norm);
        tensor_drop(&l->gate_up[0]);
        tensor_drop(&l->gate_up[1]);
        tensor_drop(&l->down);
    }
    tensor_drop(&host_norm);
    tensor_drop(&host_embed);
}

struct net {
    struct backend *be;
    struct {
        struct weight *attn_norm, *qkv, *o, *ffn_norm, *gate_up, *down;
    } layers[LAYERS];
    struct weight *norm, *embed;
    struct tensor x, normed, qkv, attn, delta, ffn, head_in, logits;
};

static struct attn_shape net_shape = {.n_layers = LAYERS,
                                      .n_heads = HEADS,
                                      .n_kv_heads = KV_HEADS,
                                      .head_dim = DIM,
                                      .max_context = MAX_LEN,
                                      .rope_scale = 1,
                                      .rope_interleaved = true};

static bool net_new(struct net *n, const char *isa, uint32_t threads, enum compute_type c)
{
    net_shape.inv_freq = plain_inv_freq(DIM);
    n->be = ready_backend(isa, threads, c, &net_shape, MAX_TEST_ROWS, SEQS * SEQ_BLOCKS);
    if (!n->be)
        return false;
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct layer_tensors *l = &host_layers[i];
        n->layers[i].attn_norm = new_weight(n->be, WEIGHT_VECTOR, &l->attn_norm, 1);
        n->layers[i].qkv = new_weight(n->be, WEIGHT_LINEAR, l->qkv, 3);
        n->layers[i].o = new_weight(n->be, WEIGHT_LINEAR, &l->o, 1);
        n->layers[i].ffn_norm = new_weight(n->be, WEIGHT_VECTOR, &l->ffn_norm, 1);
        n->layers[i].gate_up = new_weight(n->be, WEIGHT_GATE_UP, l->gate_up, 2);
        n->layers[i].down = new_weight(n->be, WEIGHT_LINEAR, &l->down, 1);
    }
    n->norm = new_weight(n->be, WEIGHT_VECTOR, &host_norm, 1);
    n->embed = new_weight(n->be, WEIGHT_EMBED, &host_embed, 1);
    n->x = new_tensor(n->be, MAX_TEST_ROWS, HIDDEN);
    n->normed = new_tensor(n->be, MAX_TEST_ROWS, HIDDEN);
    n->qkv = new_tensor(n->be, MAX_TEST_ROWS, Q + 2 * KV);
    n->attn = new_tensor(n->be, MAX_TEST_ROWS, Q);
    n->delta = new_tensor(n->be, MAX_TEST_ROWS, HIDDEN);
    n->ffn = new_tensor(n->be, MAX_TEST_ROWS, FFN);
    n->head_in = new_tensor(n->be, MAX_TEST_ROWS, HIDDEN);
    n->logits = new_tensor(n->be, MAX_TEST_ROWS, VOCAB);
    return true;
}

static void net_drop(struct net *n)
{
    const struct backend_ops *o = n->be->ops;
    for (uint32_t i = 0; i < LAYERS; i++) {
        o->weight_free(n->layers[i].attn_norm);
        o->weight_free(n->layers[i].qkv);
        o->weight_free(n->layers[i].o);
        o->weight_free(n->layers[i].ffn_norm);
        o->weight_free(n->layers[i].gate_up);
        o->weight_free(n->layers[i].down);
    }
    o->weight_free(n->norm);
    o->weight_free(n->embed);
    o->free(n->be);
}

static void net_step(struct net *n, const struct batch *b)
{
    const struct backend_ops *o = n->be->ops;
    int rc = o->begin(n->be, b) | o->embed(n->be, n->embed, &n->x);
    for (uint32_t i = 0; i < LAYERS; i++) {
        rc |= o->rms_norm(n->be, &n->x, i ? &n->delta : NULL, n->layers[i].attn_norm, 1e-5f,
                          &n->normed);
        rc |= o->linear(n->be, &n->normed, n->layers[i].qkv, &n->qkv);
        rc |= o->rope_kv(n->be, i, &n->qkv, NULL, NULL, 0);
        rc |= o->attention(n->be, i, &n->qkv, &n->attn);
        rc |= o->linear(n->be, &n->attn, n->layers[i].o, &n->delta);
        rc |= o->rms_norm(n->be, &n->x, &n->delta, n->layers[i].ffn_norm, 1e-5f, &n->normed);
        rc |= o->gate_up(n->be, &n->normed, n->layers[i].gate_up, &n->ffn);
        rc |= o->linear(n->be, &n->ffn, n->layers[i].down, &n->delta);
    }
    rc |= o->rms_norm(n->be, &n->x, &n->delta, n->norm, 1e-5f, &n->normed);
    rc |= o->gather(n->be, &n->x, &n->head_in);
    rc |= o->head(n->be, &n->head_in, n->norm, 1e-5f, n->embed, &n->logits);
    assert_int_equal(rc | o->finish(n->be), 0);
}

static uint32_t token_at(uint32_t seq, uint32_t pos)
{
    return (seq * 31 + pos * 17 + pos * pos) % VOCAB;
}

/* Every logit of every position: out[seq][pos][VOCAB]. Sequences advance `chunk` rows at a time,
 * all in one batch, or one sequence after the other. */
static void net_run(struct net *n, uint32_t chunk, bool together, float *out)
{
    uint32_t done[SEQS] = {0};
    for (;;) {
        static uint32_t tokens[MAX_TEST_ROWS], positions[MAX_TEST_ROWS], slots[MAX_TEST_ROWS];
        static uint32_t out_rows[MAX_TEST_ROWS], tables[SEQS][SEQ_BLOCKS];
        struct batch_seq seqs[SEQS];
        struct batch b = {.tokens = tokens,
                          .positions = positions,
                          .slots = slots,
                          .seqs = seqs,
                          .out_rows = out_rows};
        for (uint32_t s = 0; s < SEQS; s++) {
            const uint32_t left = lengths[s] - done[s];
            uint32_t rows = left < chunk ? left : chunk;
            if (rows == 0 || (!together && b.n_seqs > 0))
                continue;
            seqs[b.n_seqs++] = (struct batch_seq){b.n_rows, rows, done[s], tables[s], s};
            for (uint32_t i = 0; i < SEQ_BLOCKS; i++)
                tables[s][i] = (i * 7 + s * 4 + 3) % (SEQS * SEQ_BLOCKS);
            for (; rows > 0; rows--, done[s]++, b.n_rows++) {
                tokens[b.n_rows] = token_at(s, done[s]);
                positions[b.n_rows] = done[s];
                slots[b.n_rows] = tables[s][done[s] / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                                  done[s] % KV_BLOCK_TOKENS;
                out_rows[b.n_rows] = b.n_rows;
            }
        }
        if (b.n_rows == 0)
            return;
        b.n_out = b.n_rows;
        net_step(n, &b);
        for (uint32_t i = 0; i < b.n_seqs; i++)
            memcpy(out + ((size_t)seqs[i].tag * MAX_LEN + seqs[i].first_pos) * VOCAB,
                   n->logits.data + (size_t)seqs[i].first_row * VOCAB,
                   (size_t)seqs[i].n_rows * VOCAB * sizeof(float));
    }
}

/* y = W x in double. */
static void times(const struct host_tensor *w, const double *x, double *y)
{
    for (uint32_t r = 0; r < w->rows; r++) {
        y[r] = 0;
        for (uint32_t k = 0; k < w->cols; k++)
            y[r] += tensor_value(w, r, k) * x[k];
    }
}

static void norm(const struct host_tensor *w, const double *x, double *y)
{
    double sum = 0;
    for (uint32_t k = 0; k < HIDDEN; k++)
        sum += x[k] * x[k];
    for (uint32_t k = 0; k < HIDDEN; k++)
        y[k] = x[k] / sqrt(sum / HIDDEN + 1e-5) * tensor_value(w, 0, k);
}

static void rotate(double *x, uint32_t pos)
{
    for (uint32_t i = 0; i < DIM / 2; i++) {
        const double angle = pos * pow(10000.0, -2.0 * i / DIM), a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos(angle) - b * sin(angle);
        x[2 * i + 1] = a * sin(angle) + b * cos(angle);
    }
}

static double ref_k[LAYERS][MAX_LEN][KV], ref_v[LAYERS][MAX_LEN][KV];

static void ref_attention(uint32_t layer, const double *q, uint32_t pos, double *out)
{
    for (uint32_t h = 0; h < HEADS; h++) {
        const uint32_t kv = h / (HEADS / KV_HEADS) * DIM;
        double p[MAX_LEN], top = -INFINITY, sum = 0;
        for (uint32_t t = 0; t <= pos; t++) {
            p[t] = 0;
            for (uint32_t d = 0; d < DIM; d++)
                p[t] += q[h * DIM + d] * ref_k[layer][t][kv + d];
            p[t] /= sqrt(DIM);
            top = fmax(top, p[t]);
        }
        memset(out + h * DIM, 0, DIM * sizeof(*out));
        for (uint32_t t = 0; t <= pos; t++) {
            sum += p[t] = exp(p[t] - top);
            for (uint32_t d = 0; d < DIM; d++)
                out[h * DIM + d] += p[t] * ref_v[layer][t][kv + d];
        }
        for (uint32_t d = 0; d < DIM; d++)
            out[h * DIM + d] /= sum;
    }
}

/* Logits at pos of a sequence; the positions before it must have been computed. */
static void ref_step(uint32_t seq, uint32_t pos, double *logits)
{
    double x[HIDDEN], y[HIDDEN], q[Q], attn[Q], gate[FFN], up[FFN];
    for (uint32_t k = 0; k < HIDDEN; k++)
        x[k] = tensor_value(&host_embed, token_at(seq, pos), k);
    for (uint32_t i = 0; i < LAYERS; i++) {
        const struct layer_tensors *l = &host_layers[i];
        norm(&l->attn_norm, x, y);
        times(&l->qkv[0], y, q);
        times(&l->qkv[1], y, ref_k[i][pos]);
        times(&l->qkv[2], y, ref_v[i][pos]);
        for (uint32_t h = 0; h < HEADS; h++)
            rotate(q + (size_t)h * DIM, pos);
        for (uint32_t h = 0; h < KV_HEADS; h++)
            rotate(ref_k[i][pos] + (size_t)h * DIM, pos);
        ref_attention(i, q, pos, attn);
        times(&l->o, attn, y);
        for (uint32_t k = 0; k < HIDDEN; k++)
            x[k] += y[k];
        norm(&l->ffn_norm, x, y);
        times(&l->gate_up[0], y, gate);
        times(&l->gate_up[1], y, up);
        for (uint32_t k = 0; k < FFN; k++)
            gate[k] = gate[k] / (1 + exp(-gate[k])) * up[k];
        times(&l->down, gate, y);
        for (uint32_t k = 0; k < HIDDEN; k++)
            x[k] += y[k];
    }
    norm(&host_norm, x, y);
    times(&host_embed, y, logits);
}

/* |logit - reference| relative to the spread of the logits, at most bound. */
static void assert_near_reference(const float *logits, double bound)
{
    double want[VOCAB];
    for (uint32_t s = 0; s < SEQS; s++)
        for (uint32_t p = 0; p < lengths[s]; p++) {
            double spread = 0;
            ref_step(s, p, want);
            for (uint32_t t = 0; t < VOCAB; t++)
                spread = fmax(spread, fabs(want[t]));
            for (uint32_t t = 0; t < VOCAB; t++) {
                const double got = logits[((size_t)s * MAX_LEN + p) * VOCAB + t];
                if (!(fabs(got - want[t]) <= bound * spread))
                    fail_msg("sequence %u position %u token %u: %.8g, not %.8g", s, p, t, got,
                             want[t]);
            }
        }
}

enum { ALL = SEQS * MAX_LEN * VOCAB };

static void check(enum dtype t, enum compute_type c, double bound)
{
    static float want[ALL], got[ALL];
    static const struct {
        uint32_t threads, chunk;
        bool together;
    } ways[] = {{1, 30, true}, {2, 1, true}, {3, 16, false}, {2, 7, true}};
    struct net n;
    make_model(t);
    memset(want, 0, sizeof(want));
    assert_true(net_new(&n, "auto", 1, c));
    net_run(&n, 30, false, want);
    net_drop(&n);
    assert_near_reference(want, bound);
    for (size_t i = 0; i < ARRAY_LEN(all_isas); i++)
        for (size_t k = i == 0 ? 3 : 0; k < ARRAY_LEN(ways); k++) { /* portable is slow: one way */
            if (!net_new(&n, all_isas[i], ways[k].threads, c))
                break;
            memset(got, 0, sizeof(got));
            net_run(&n, ways[k].chunk, ways[k].together, got);
            net_drop(&n);
            if (memcmp(want, got, sizeof(want)) != 0)
                fail_msg("%s, %s: %u threads, chunks of %u: other bits", dtype_name(t), all_isas[i],
                         ways[k].threads, ways[k].chunk);
        }
    drop_model();
}

static void test_f32(void **state)
{
    (void)state;
    check(DTYPE_F32, COMPUTE_F32, 1e-4);
    check(DTYPE_Q4_1, COMPUTE_F32, 1e-4);
}

static void test_quantized(void **state)
{
    (void)state;
    check(DTYPE_Q4_1, COMPUTE_AUTO, 0.15);
    check(DTYPE_Q8_0, COMPUTE_AUTO, 0.15);
    check(DTYPE_Q4_0, COMPUTE_AUTO, 0.15);
}

static void test_half(void **state)
{
    (void)state;
    check(DTYPE_F16, COMPUTE_AUTO, 0.05); /* the lm_head is Q8_0 */
    check(DTYPE_BF16, COMPUTE_AUTO, 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
