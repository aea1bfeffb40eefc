/* perf.c - speed of steps, beside what the same device reads per second and what cuBLASLt's products
 * take, both measured in the same run. Times are the host's, over many steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "tests/gpu/device/rig.h"

/* How much is measured: on the stand-in, that it runs at all. */
struct effort {
    uint32_t batches[3], context, prefill, ttft, n_blocks;
    uint64_t least_us; /* of one measurement */
    uint32_t most_runs;
    size_t read_bytes;
};
static const struct effort FULL = {{1, 32, 256}, 1024, 2048, 128, 17207, 400000, 1000, 4ull << 30};
static const struct effort TINY = {{1, 2, 3}, 20, 32, 16, 1031, 1, 1, 1 << 16};

static struct rig_opts opts_of(const struct effort *f)
{
    return (struct rig_opts){.cuda = {0},
                             .max_rows = f->prefill,
                             .max_seqs = f->batches[2],
                             .max_context = 2 * f->prefill,
                             .n_blocks = f->n_blocks};
}

/* Seconds that fn takes, after two runs that are not counted. */
static double time_of(const struct effort *f, void (*fn)(void *), void *ctx)
{
    uint32_t runs = 0;
    fn(ctx);
    fn(ctx);
    const uint64_t began_us = clock_now_us();
    uint64_t took_us;
    do {
        fn(ctx);
        runs++;
        took_us = clock_now_us() - began_us;
    } while (took_us < f->least_us && runs < f->most_runs);
    return (double)took_us * 1e-6 / runs;
}

/* A number, or null where there is none. */
static void put(const char *name, double v)
{
    if (v > 0)
        printf("\"%s\": %.5g, ", name, v);
    else
        printf("\"%s\": null, ", name);
}

/* --- ceilings --- */

struct reading {
    struct rig *rig;
    void *memory;
    uint32_t *out;
    size_t bytes;
};

static void read_all(void *ctx)
{
    const struct reading *a = ctx;
    must(ref_read(&a->rig->ref, a->memory, a->bytes, a->out), "read", NULL);
    wait_device(a->rig);
}

static double bytes_per_second(struct rig *r, const struct effort *f)
{
    struct reading a = {r, device_new(r, f->read_bytes), device_new(r, 256), f->read_bytes};
    const double seconds = time_of(f, read_all, &a);
    gpu_free(r->cuda->gpu, a.memory);
    gpu_free(r->cuda->gpu, a.out);
    return (double)f->read_bytes / seconds;
}

/* Seconds of all layers' products over m rows in cuBLASLt; negative: it is not there. */
static double peer_products(struct rig *r, uint32_t m)
{
    const struct shape *s = r->shape;
    const uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const struct {
        uint32_t n, k;
    } products[] = {
        {q + 2 * kv, s->hidden}, {s->hidden, q}, {2 * s->ffn, s->hidden}, {s->hidden, s->ffn}};
    double sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(products); i++) {
        const double one = gemm_peer_seconds(r, m, products[i].n, products[i].k);
        if (one < 0)
            return -1;
        sum += one * s->n_layers;
    }
    return sum;
}

/* --- steps --- */

struct stepping {
    struct rig *rig;
    struct step *step;
};

static void run_step(void *ctx)
{
    const struct stepping *a = ctx;
    step_run(a->step, a->rig);
}

/* The step's graph again and again, as fast as the device goes. */
enum { IN_A_ROW = 8 };
static void run_graphs(void *ctx)
{
    const struct stepping *a = ctx;
    for (int i = 0; i < IN_A_ROW; i++)
        must(cuda_graph_run(a->rig->cuda), "graph", NULL);
    wait_device(a->rig);
}

static void decodes(struct rig *r, struct step *s, const struct effort *f, double bandwidth,
                    uint32_t n)
{
    const uint32_t token = 1;
    char name[48];
    struct stepping a = {r, s};
    step_clear(s);
    for (uint32_t i = 0; i < n; i++)
        step_add(s, r, i, &token, 1, f->context - 1, 1);
    const double seconds = time_of(f, run_step, &a);
    const double device = time_of(f, run_graphs, &a) / IN_A_ROW;
    const double bytes =
        (double)r->weight_bytes + (double)n * f->context * (double)r->kv_token_bytes;
    snprintf(name, sizeof(name), "decode_b%u", n);
    put(name, n / seconds);
    snprintf(name, sizeof(name), "decode_b%u_of_bound", n);
    put(name, bytes / bandwidth / seconds);
    snprintf(name, sizeof(name), "decode_b%u_device_ms", n);
    put(name, device * 1e3);
    snprintf(name, sizeof(name), "decode_b%u_host_gap_us", n);
    put(name, (seconds - device) * 1e6);
}

/* Milliseconds of a prompt's last n rows, to its first token. */
static double prompt_ms(struct rig *r, struct step *s, const struct effort *f, uint32_t first,
                        uint32_t n)
{
    struct stepping a = {r, s};
    uint32_t *tokens = calloc(n, sizeof(*tokens));
    if (!tokens)
        exit(2);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = i * 7 % r->shape->vocab;
    step_clear(s);
    step_add(s, r, 0, tokens, n, first, 1);
    free(tokens);
    return time_of(f, run_step, &a) * 1e3;
}

/* --- single kernels --- */

enum operation { OP_QKV, OP_O, OP_GATE_UP, OP_DOWN, OP_NORM, OP_ROPE, OP_ATTENTION, OPERATIONS };
static const char *const OPERATION[OPERATIONS] = {"qkv",  "o",    "gate_up",  "down",
                                                  "norm", "rope", "attention"};

/* Buffers of the backend's, in forward's order of tensor_new(). */
struct buffers {
    struct tensor x, normed, qkv, attn, delta, ffn;
};

struct operating {
    struct rig *rig;
    struct buffers b;
    enum operation op;
};

static int operate(struct operating *a, uint32_t layer)
{
    const struct backend_ops *ops = a->rig->be->ops;
    struct backend *be = a->rig->be;
    const struct engine_layer *l = &a->rig->weights.layers[layer];
    const float eps = a->rig->shape->eps;
    struct buffers *b = &a->b;
    switch (a->op) {
    case OP_QKV:
        return ops->linear(be, &b->normed, l->qkv, &b->qkv);
    case OP_O:
        return ops->linear(be, &b->attn, l->o, &b->delta);
    case OP_GATE_UP:
        return ops->gate_up(be, &b->normed, l->gate_up, &b->ffn);
    case OP_DOWN:
        return ops->linear(be, &b->ffn, l->down, &b->delta);
    case OP_NORM:
        return ops->rms_norm(be, &b->x, &b->delta, l->ffn_norm, eps, &b->normed);
    case OP_ROPE:
        return ops->rope_kv(be, layer, &b->qkv, l->q_norm, l->k_norm, eps);
    case OP_ATTENTION:
        return ops->attention(be, layer, &b->qkv, &b->attn);
    case OPERATIONS:
        break;
    }
    return -1;
}

/* All layers: no weight is in a cache when its turn comes. */
static void run_layers(void *ctx)
{
    struct operating *a = ctx;
    for (uint32_t i = 0; i < a->rig->shape->n_layers; i++)
        must(operate(a, i), "operation", NULL);
    wait_device(a->rig);
}

static double bytes_of(const struct rig *r, enum operation op, uint32_t n, uint32_t context)
{
    const struct engine_layer *l = &r->weights.layers[0];
    const struct shape *s = r->shape;
    const double row = (double)n * s->hidden;
    switch (op) {
    case OP_QKV:
        return (double)l->qkv->bytes;
    case OP_O:
        return (double)l->o->bytes;
    case OP_GATE_UP:
        return (double)l->gate_up->bytes;
    case OP_DOWN:
        return (double)l->down->bytes;
    case OP_NORM:
        return row * (4 + 4 + 4 + 2);
    case OP_ROPE:
        return (double)n * (s->n_heads + 2 * s->n_kv_heads) * s->head_dim * (4 + 2);
    case OP_ATTENTION:
        return (double)n * context * (double)r->kv_token_bytes / s->n_layers;
    case OPERATIONS:
        break;
    }
    return 0;
}

/* Each kernel of a decode of n rows: microseconds of all layers, share, part of the bandwidth. */
static void kernels(struct rig *r, struct step *s, const struct effort *f, double bandwidth,
                    uint32_t n)
{
    const uint32_t token = 1;
    void *const *t = r->cuda->tensors;
    const struct shape *h = r->shape;
    const uint32_t q = h->n_heads * h->head_dim, kv = h->n_kv_heads * h->head_dim;
    double seconds[OPERATIONS], sum = 0;
    struct operating a = {.rig = r,
                          .b = {{t[0], f->prefill, h->hidden},
                                {t[1], f->prefill, h->hidden},
                                {t[2], f->prefill, q + 2 * kv},
                                {t[3], f->prefill, q},
                                {t[4], f->prefill, h->hidden},
                                {t[5], f->prefill, h->ffn}}};
    step_clear(s);
    for (uint32_t i = 0; i < n; i++)
        step_add(s, r, i, &token, 1, f->context - 1, 1);
    r->cuda->graphs.on = false;
    step_run(s, r); /* fills the arrays' pointers in */
    must(r->be->ops->begin(r->be, &s->batch), "begin", NULL);
    for (a.op = OP_QKV; a.op < OPERATIONS; a.op++) {
        seconds[a.op] = time_of(f, run_layers, &a);
        sum += seconds[a.op];
    }
    must(r->be->ops->finish(r->be), "finish", NULL);
    r->cuda->graphs.on = true;
    printf("\"kernels_b%u\": {", n);
    for (uint32_t i = 0; i < OPERATIONS; i++)
        printf("%s\"%s\": {\"us\": %.4g, \"share\": %.3f, \"of_bandwidth\": %.3f}",
               i > 0 ? ", " : "", OPERATION[i], seconds[i] * 1e6, seconds[i] / sum,
               bytes_of(r, (enum operation)i, n, f->context) * h->n_layers / bandwidth /
                   seconds[i]);
    printf("}, ");
}

static void model(const struct shape *shape, const struct effort *f, double *bandwidth)
{
    const struct rig_opts o = opts_of(f);
    struct rig r;
    struct step s;
    rig_open(&r, shape, &o);
    step_init(&s, &o);
    *bandwidth = bytes_per_second(&r, f);
    printf("\"%s\": {", shape->name);
    put("read_gb_per_s", *bandwidth * 1e-9);
    for (size_t i = 0; i < ARRAY_LEN(f->batches); i++)
        decodes(&r, &s, f, *bandwidth, f->batches[i]);
    const double prefill = prompt_ms(&r, &s, f, 0, f->prefill);
    const double peer = peer_products(&r, f->prefill) * 1e3;
    put("prefill_2k_ms", prefill);
    put("prefill_2k_cublaslt_gemm_ms", peer);
    put("prefill_2k_of_gemm", peer > 0 ? prefill / peer : -1);
    put("ttft_128_ms", prompt_ms(&r, &s, f, 0, f->ttft));
    put("ttft_2k_half_cached_ms", prompt_ms(&r, &s, f, f->prefill / 2, f->prefill / 2));
    for (size_t i = 0; i < ARRAY_LEN(f->batches); i++)
        kernels(&r, &s, f, *bandwidth, f->batches[i]);
    printf("\"weight_bytes\": %zu, \"kv_bytes_per_token\": %zu}", r.weight_bytes, r.kv_token_bytes);
    fflush(stdout);
    step_fini(&s);
    rig_close(&r);
}

int perf(bool tiny)
{
    const struct effort *f = tiny ? &TINY : &FULL;
    const struct shape *list;
    const uint32_t n = shapes(tiny, &list);
    double bandwidth = 0;
    printf("{");
    for (uint32_t i = 0; i < n; i++) {
        model(&list[i], f, &bandwidth);
        printf(", ");
    }
    printf("\"context\": %u, \"ok\": true}\n", f->context);
    return 0;
}
