/* cpu_forward.c - times the CPU backend alone: a forward pass of SmolLM2-135M's shapes.
 *
 *   cpu_forward [THREADS [ISA [TYPE [ROUNDS [prefill | decode | batch]]]]]
 *   e.g. cpu_forward 2 auto Q4_1 30
 *
 * The weights are random blocks of TYPE (embedding: Q8_0 for the 4-bit types), so no model file is
 * needed. Prints the best of ROUNDS short windows for a prefill of 512 and for decoding one and 16
 * sequences behind 128 tokens (so that work of others on the machine disturbs little), and
 * which share of the machine's measured read bandwidth the decode reached. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/util/clock.h"

enum {
    LAYERS = 30,
    HIDDEN = 576,
    HEADS = 9,
    KV_HEADS = 3,
    HEAD_DIM = 64,
    FFN = 1536,
    VOCAB = 49152,
    QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM,
    CONTEXT = 1024,
    MAX_ROWS = 512,
    MAX_SEQS = 16,
    SEQ_BLOCKS = CONTEXT / KV_BLOCK_TOKENS,
};

struct layer {
    struct weight *attn_norm, *qkv, *o, *ffn_norm, *gate_up, *down;
};

struct bench {
    struct backend *be;
    const struct backend_ops *ops;
    enum dtype type;
    uint64_t random;
    size_t bytes; /* of the weights that a token reads */
    struct layer layers[LAYERS];
    struct weight *embed, *norm;
    struct tensor x, normed, qkv, attn, delta, ffn, head_in, logits;
    uint32_t tables[MAX_SEQS][SEQ_BLOCKS];
};

static void check(int rc, const struct err *e)
{
    if (rc == 0)
        return;
    fprintf(stderr, "cpu_forward: %s\n", e->msg);
    exit(1);
}

static uint32_t next_random(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->random >> 32);
}

/* Offset of each F16 or F32 scale in a block, so that random bits stay finite and small. */
static void tame_block(enum dtype t, uint8_t *p)
{
    static const uint8_t small[2] = {0x00, 0x1c}; /* F16 of 2^-8 */
    switch (t) {
    case DTYPE_Q4_1:
    case DTYPE_Q4_K:
        memcpy(p + 2, small, 2); /* and the first, below */
        memcpy(p, small, 2);
        break;
    case DTYPE_Q6_K:
        memcpy(p + 208, small, 2);
        break;
    case DTYPE_F16:
        p[1] = (p[1] & 0x83) | 0x24;
        break;
    case DTYPE_BF16:
        p[1] = (p[1] & 0x80) | 0x3c;
        break;
    case DTYPE_F32:
        p[3] = (p[3] & 0x80) | 0x3c;
        break;
    default:
        memcpy(p, small, 2);
        break;
    }
}

static struct weight *random_weight(struct bench *b, enum weight_role role, enum dtype t,
                                    uint32_t n_parts, const uint32_t rows[], uint32_t cols)
{
    struct host_tensor parts[3];
    struct weight *w;
    struct err e = {0};
    for (uint32_t i = 0; i < n_parts; i++) {
        if (cols % dtype_block_elems(t) != 0) {
            fprintf(stderr, "cpu_forward: %s needs other shapes\n", dtype_name(t));
            exit(1);
        }
        size_t row_bytes = (size_t)cols / dtype_block_elems(t) * dtype_block_bytes(t);
        uint8_t *data = malloc(row_bytes * rows[i]);
        if (!data)
            exit(1);
        for (size_t k = 0; k < row_bytes * rows[i]; k++)
            data[k] = (uint8_t)next_random(b);
        for (size_t k = 0; k < row_bytes * rows[i]; k += dtype_block_bytes(t))
            tame_block(t, data + k);
        parts[i] = (struct host_tensor){"w", data, t, rows[i], cols};
    }
    check(b->ops->weight_new(b->be, role, parts, n_parts, NULL, &w, &e), &e);
    for (uint32_t i = 0; i < n_parts; i++)
        free((void *)(uintptr_t)parts[i].data);
    b->bytes += b->ops->weight_bytes(w);
    return w;
}

static struct weight *random_norm(struct bench *b)
{
    static const uint32_t one[] = {1};
    return random_weight(b, WEIGHT_VECTOR, DTYPE_F32, 1, one, HIDDEN);
}

static void make_weights(struct bench *b)
{
    static const uint32_t qkv[] = {HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM};
    static const uint32_t hidden[] = {HIDDEN}, ffn[] = {FFN, FFN}, vocab[] = {VOCAB};
    const bool four_bit = b->type == DTYPE_Q4_0 || b->type == DTYPE_Q4_1;
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct layer *l = &b->layers[i];
        l->attn_norm = random_norm(b);
        l->qkv = random_weight(b, WEIGHT_LINEAR, b->type, 3, qkv, HIDDEN);
        l->o = random_weight(b, WEIGHT_LINEAR, b->type, 1, hidden, HEADS * HEAD_DIM);
        l->ffn_norm = random_norm(b);
        l->gate_up = random_weight(b, WEIGHT_GATE_UP, b->type, 2, ffn, HIDDEN);
        l->down = random_weight(b, WEIGHT_LINEAR, b->type, 1, hidden, FFN);
    }
    b->norm = random_norm(b);
    b->embed = random_weight(b, WEIGHT_EMBED, four_bit ? DTYPE_Q8_0 : b->type, 1, vocab, HIDDEN);
}

static void make_buffers(struct bench *b)
{
    double inv_freq[HEAD_DIM / 2];
    for (uint32_t i = 0; i < HEAD_DIM / 2; i++)
        inv_freq[i] = pow(10000.0, -2.0 * i / HEAD_DIM);
    const struct attn_shape shape = {.n_layers = LAYERS,
                                     .n_heads = HEADS,
                                     .n_kv_heads = KV_HEADS,
                                     .head_dim = HEAD_DIM,
                                     .max_context = CONTEXT,
                                     .inv_freq = inv_freq,
                                     .rope_scale = 1,
                                     .rope_interleaved = true};
    const struct backend_limits limits = {
        .max_rows = MAX_ROWS, .max_seqs = MAX_SEQS, .max_out = MAX_SEQS};
    const struct {
        struct tensor *t;
        uint32_t rows, cols;
    } all[] = {{&b->x, MAX_ROWS, HIDDEN},       {&b->normed, MAX_ROWS, HIDDEN},
               {&b->qkv, MAX_ROWS, QKV},        {&b->attn, MAX_ROWS, HEADS * HEAD_DIM},
               {&b->delta, MAX_ROWS, HIDDEN},   {&b->ffn, MAX_ROWS, FFN},
               {&b->head_in, MAX_SEQS, HIDDEN}, {&b->logits, MAX_SEQS, VOCAB}};
    struct err e = {0};
    check(b->ops->reserve(b->be, &shape, &limits, MAX_SEQS * SEQ_BLOCKS, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        check(b->ops->tensor_new(b->be, all[i].rows, all[i].cols, all[i].t, &e), &e);
    for (uint32_t s = 0; s < MAX_SEQS; s++)
        for (uint32_t i = 0; i < SEQ_BLOCKS; i++)
            b->tables[s][i] = i * MAX_SEQS + s;
}

static int run_layers(struct bench *b)
{
    const struct backend_ops *o = b->ops;
    int rc = o->embed(b->be, b->embed, &b->x);
    for (uint32_t i = 0; i < LAYERS; i++) {
        const struct layer *l = &b->layers[i];
        rc |= o->rms_norm(b->be, &b->x, i ? &b->delta : NULL, l->attn_norm, 1e-5f, &b->normed);
        rc |= o->linear(b->be, &b->normed, l->qkv, &b->qkv);
        rc |= o->rope_kv(b->be, i, &b->qkv, NULL, NULL, 0);
        rc |= o->attention(b->be, i, &b->qkv, &b->attn);
        rc |= o->linear(b->be, &b->attn, l->o, &b->delta);
        rc |= o->rms_norm(b->be, &b->x, &b->delta, l->ffn_norm, 1e-5f, &b->normed);
        rc |= o->gate_up(b->be, &b->normed, l->gate_up, &b->ffn);
        rc |= o->linear(b->be, &b->ffn, l->down, &b->delta);
    }
    rc |= o->gather(b->be, &b->x, &b->head_in);
    return rc | o->head(b->be, &b->head_in, b->norm, 1e-5f, b->embed, &b->logits);
}

/* One step: n_seqs sequences of n_each rows at pos; logits of each one's last row. */
static void step(struct bench *b, uint32_t n_seqs, uint32_t n_each, uint32_t pos)
{
    static uint32_t tokens[MAX_ROWS], positions[MAX_ROWS], slots[MAX_ROWS], out_rows[MAX_SEQS];
    struct batch_seq seqs[MAX_SEQS];
    struct batch batch = {.n_rows = n_seqs * n_each,
                          .tokens = tokens,
                          .positions = positions,
                          .slots = slots,
                          .n_seqs = n_seqs,
                          .seqs = seqs,
                          .n_out = n_seqs,
                          .out_rows = out_rows};
    for (uint32_t s = 0; s < n_seqs; s++) {
        seqs[s] = (struct batch_seq){s * n_each, n_each, pos, b->tables[s], s};
        for (uint32_t i = 0; i < n_each; i++) {
            const uint32_t r = s * n_each + i, p = pos + i;
            tokens[r] = next_random(b) % VOCAB;
            positions[r] = p;
            slots[r] = b->tables[s][p / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + p % KV_BLOCK_TOKENS;
        }
        out_rows[s] = (s + 1) * n_each - 1;
    }
    if (b->ops->begin(b->be, &batch) || run_layers(b) || b->ops->finish(b->be)) {
        fprintf(stderr, "cpu_forward: a step failed\n");
        exit(1);
    }
}

/* Tokens per second of n steps. */
static double rate(struct bench *b, uint32_t n_steps, uint32_t n_seqs, uint32_t n_each,
                   uint32_t pos)
{
    const uint64_t start = clock_now_us();
    for (uint32_t i = 0; i < n_steps; i++)
        step(b, n_seqs, n_each, pos + i * n_each);
    return 1e6 * n_steps * n_seqs * n_each / (double)(clock_now_us() - start);
}

/* Tokens per second of one window. */
static double window(struct bench *b, uint32_t kind)
{
    switch (kind) {
    case 0:
        return rate(b, 1, 1, 512, 0);
    case 1:
        return rate(b, 16, 1, 1, 128);
    default:
        return rate(b, 4, 16, 1, 128);
    }
}

int main(int argc, char **argv)
{
    static struct bench b = {.type = DTYPE_Q4_1, .random = 1};
    struct cpu_opts opts = {.n_threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0,
                            .isa = argc > 2 ? argv[2] : "auto"};
    const uint32_t rounds = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 5;
    static const char *const names[] = {"prefill", "decode", "batch"};
    double best[3] = {0};
    struct err e = {0};
    for (uint32_t t = 0; argc > 3 && t < DTYPE_COUNT; t++)
        if (strcmp(argv[3], dtype_name(t)) == 0)
            b.type = t;
    check(cpu_backend_new(&opts, &b.be, &e), &e);
    b.ops = b.be->ops;
    make_weights(&b);
    make_buffers(&b);
    for (uint32_t r = 0; r < rounds; r++)
        for (uint32_t i = 0; i < 3; i++) {
            const double now = argc > 5 && strcmp(argv[5], names[i]) != 0 ? 0 : window(&b, i);
            best[i] = now > best[i] ? now : best[i];
        }
    printf("%s, %s, %u threads: prefill 512 %.0f, decode %.0f (weights at %.1f GB/s), "
           "16 sequences %.0f tok/s\n",
           cpu_backend_isa(b.be), dtype_name(b.type), opts.n_threads, best[0], best[1],
           best[1] * (double)b.bytes / 1e9, best[2]);
    return 0;
}
