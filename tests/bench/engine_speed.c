/* engine_speed.c - times the layer loop on the CPU backend, for comparison with peers.
 *
 *   engine_speed MODEL THREADS [ISA]
 *
 * Reads commands from standard input, one per line, answers each with the seconds it took:
 *   prefill N     one sequence of N random tokens, logits of the last
 *   decode N      N steps of one sequence, greedy, from a context of one token
 *   batch S N     N steps of S sequences, each behind a prompt of 128 tokens (not timed)
 * Random tokens come from a fixed seed, so every run computes the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/model/model.h"
#include "core/util/clock.h"

enum { MAX_ROWS = 512, MAX_SEQS = 32, SEQ_TOKENS = 1024, BATCH_PROMPT = 128 };
enum { SEQ_BLOCKS = SEQ_TOKENS / KV_BLOCK_TOKENS };

struct bench {
    struct model *model;
    struct backend *be;
    struct engine_weights *weights;
    struct forward *forward;
    uint32_t vocab;
    uint64_t random;
    uint32_t tables[MAX_SEQS][SEQ_BLOCKS];
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "engine_speed: %s: %s\n", what, e->msg);
    exit(1);
}

static uint32_t random_token(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return 1000 + (uint32_t)(b->random >> 33) % (b->vocab - 2000);
}

static uint32_t argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* One step: n_seqs sequences of n_each rows starting at pos; writes the greedy tokens. */
static void step(struct bench *b, uint32_t n_seqs, uint32_t n_each, uint32_t pos,
                 const uint32_t *tokens, uint32_t *out_ids)
{
    uint32_t positions[MAX_ROWS], slots[MAX_ROWS], out_rows[MAX_SEQS];
    struct batch_seq seqs[MAX_SEQS];
    struct err e = {0};
    for (uint32_t s = 0; s < n_seqs; s++) {
        seqs[s] = (struct batch_seq){.first_row = s * n_each,
                                     .n_rows = n_each,
                                     .first_pos = pos,
                                     .block_table = b->tables[s]};
        out_rows[s] = s * n_each + n_each - 1;
        for (uint32_t i = 0; i < n_each; i++) {
            uint32_t p = pos + i, r = s * n_each + i;
            positions[r] = p;
            slots[r] = b->tables[s][p / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + p % KV_BLOCK_TOKENS;
        }
    }
    struct batch batch = {.n_rows = n_seqs * n_each,
                          .tokens = tokens,
                          .positions = positions,
                          .slots = slots,
                          .n_seqs = n_seqs,
                          .seqs = seqs,
                          .n_out = n_seqs,
                          .out_rows = out_rows};
    if (forward_step(b->forward, &batch, &e) != 0)
        die("step", &e);
    for (uint32_t s = 0; s < n_seqs; s++)
        out_ids[s] = argmax(forward_logits(b->forward, s), b->vocab);
}

static double run_prefill(struct bench *b, uint32_t n)
{
    uint32_t tokens[MAX_ROWS], id;
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = random_token(b);
    uint64_t from = clock_now_us();
    step(b, 1, n, 0, tokens, &id);
    return (double)(clock_now_us() - from) / 1e6;
}

static double run_decode(struct bench *b, uint32_t n)
{
    uint32_t token = random_token(b);
    uint64_t from = clock_now_us();
    for (uint32_t i = 0; i < n; i++)
        step(b, 1, 1, i, &token, &token);
    return (double)(clock_now_us() - from) / 1e6;
}

static double run_batch(struct bench *b, uint32_t n_seqs, uint32_t n)
{
    uint32_t tokens[MAX_ROWS], ids[MAX_SEQS];
    for (uint32_t p = 0; p < BATCH_PROMPT; p++) {
        for (uint32_t s = 0; s < n_seqs; s++)
            tokens[s] = random_token(b);
        step(b, n_seqs, 1, p, tokens, ids);
    }
    uint64_t from = clock_now_us();
    for (uint32_t i = 0; i < n; i++) {
        memcpy(tokens, ids, n_seqs * sizeof(ids[0]));
        step(b, n_seqs, 1, BATCH_PROMPT + i, tokens, ids);
    }
    return (double)(clock_now_us() - from) / 1e6;
}

static void open_all(struct bench *b, const char *path, uint32_t threads, const char *isa)
{
    struct err e = {0};
    struct attn_shape shape;
    struct backend_limits limits = {
        .max_rows = MAX_ROWS, .max_seqs = MAX_SEQS, .max_out = MAX_SEQS};
    struct cpu_opts cpu = {.n_threads = threads, .compute = COMPUTE_AUTO, .isa = isa};
    if (model_open(path, &b->model, &e) != 0)
        die("model", &e);
    if (cpu_backend_new(&cpu, &b->be, &e) != 0)
        die("backend", &e);
    forward_attn_shape(b->model, SEQ_TOKENS, &shape);
    if (engine_weights_new(b->be, b->model, NULL, NULL, &b->weights, &e) != 0)
        die("weights", &e);
    if (b->be->ops->reserve(b->be, &shape, &limits, MAX_SEQS * SEQ_BLOCKS, &e) != 0)
        die("memory", &e);
    if (forward_new(b->be, b->model, b->weights, &shape, &limits, &b->forward, &e) != 0)
        die("forward", &e);
    b->vocab = b->model->hparams.vocab_size;
    for (uint32_t s = 0; s < MAX_SEQS; s++)
        for (uint32_t i = 0; i < SEQ_BLOCKS; i++)
            b->tables[s][i] = s * SEQ_BLOCKS + i;
}

static void close_all(struct bench *b)
{
    forward_free(b->forward);
    engine_weights_unref(b->weights);
    b->be->ops->free(b->be);
    model_free(b->model);
}

int main(int argc, char **argv)
{
    static struct bench b = {.random = 1};
    char line[64];
    uint32_t n, m;
    if (argc < 3) {
        fputs("usage: engine_speed MODEL THREADS [ISA]\n", stderr);
        return 2;
    }
    open_all(&b, argv[1], (uint32_t)strtoul(argv[2], NULL, 10), argc > 3 ? argv[3] : "auto");
    printf("ready %s\n", cpu_backend_isa(b.be));
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        double seconds;
        if (sscanf(line, "prefill %u", &n) == 1 && n >= 1 && n <= MAX_ROWS)
            seconds = run_prefill(&b, n);
        else if (sscanf(line, "decode %u", &n) == 1 && n >= 1 && n <= SEQ_TOKENS)
            seconds = run_decode(&b, n);
        else if (sscanf(line, "batch %u %u", &m, &n) == 2 && m >= 1 && m <= MAX_SEQS &&
                 n <= SEQ_TOKENS - BATCH_PROMPT)
            seconds = run_batch(&b, m, n);
        else {
            fprintf(stderr, "engine_speed: bad command: %s", line);
            return 2;
        }
        printf("%.6f\n", seconds);
        fflush(stdout);
    }
    close_all(&b);
    return 0;
}
