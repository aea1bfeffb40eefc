/* perf.c - speed of steps, beside what the same device reads per second and what cuBLASLt's products
 * take, both measured in the same run. Times are the host's, over many steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "tests/gpu/device/perf.h"

/* On the stand-in: that it runs at all. More than GPU_SKINNY rows, so that cuBLASLt is asked. */
static const struct effort FULL = {{1, 32, 256}, 1024, 2048,       128,  17207,
                                   400000,       1000, 4ull << 30, 8192, 8};
static const struct effort TINY = {{1, 2, 4}, 20, 80, 70, 1031, 1, 1, 1 << 16, 16, 1};

static struct rig_opts opts_of(const struct effort *f)
{
    return (struct rig_opts){.cuda = {.blas = rig_library()},
                             .max_rows = f->prefill,
                             .max_seqs = f->batches[2],
                             .max_context = 2 * f->prefill,
                             .n_blocks = f->n_blocks};
}

double time_of(const struct effort *f, void (*fn)(void *), void *ctx)
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

void put(const char *name, double v)
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

/* Operations per second of cuBLASLt's best product of square matrices; negative: it is not there. */
static double operations_per_second(struct rig *r, const struct effort *f)
{
    const uint32_t n = f->square;
    const double seconds = gemm_peer_seconds(r, n, n, n);
    return seconds > 0 ? 2.0 * n * n * n / seconds : -1;
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
    uint32_t in_a_row;
    uint32_t *order; /* 0, 1, 2...: rows that follow those of the step before */
};

static void run_step(void *ctx)
{
    const struct stepping *a = ctx;
    step_run(a->step, a->rig);
}

/* The step's graph again and again, as fast as the device goes: of as many rows as a graph has. */
static void run_graphs(void *ctx)
{
    const struct stepping *a = ctx;
    for (uint32_t i = 0; i < a->in_a_row; i++)
        must(cuda_graph_run(a->rig->cuda), "graph", NULL);
    wait_device(a->rig);
}

/* Steps as the engine runs decodes: each is enqueued before the one in front of it is read, and takes its
 * tokens from there. */
enum { POSTED = 4 /* times in_a_row */ };
static void run_posted(void *ctx)
{
    const struct stepping *a = ctx;
    struct batch *b = &a->step->batch;
    struct err e = {0};
    for (uint32_t i = 0; i < POSTED * a->in_a_row; i++) {
        b->follows = i > 0;
        b->tokens = i > 0 ? a->order : a->step->tokens;
        must(forward_post(a->rig->forward, b, a->step->samples, a->step->ids, &e), "post", &e);
        if (i > 0)
            must(forward_collect(a->rig->forward, &e), "collect", &e);
    }
    must(forward_collect(a->rig->forward, &e), "collect", &e);
    b->follows = false;
}

static void decodes(struct rig *r, struct step *s, const struct effort *f, double bandwidth,
                    uint32_t n)
{
    const uint32_t token = 1;
    char name[48];
    struct stepping a = {r, s, f->in_a_row, calloc(n, sizeof(uint32_t))};
    if (!a.order)
        exit(2);
    step_clear(s);
    for (uint32_t i = 0; i < n; i++) {
        step_add(s, r, i, &token, 1, f->context - 1, 1);
        a.order[i] = i;
    }
    const double waited = time_of(f, run_step, &a);
    const double seconds = time_of(f, run_posted, &a) / (POSTED * f->in_a_row);
    const double device = time_of(f, run_graphs, &a) / f->in_a_row;
    const double bytes =
        (double)r->weight_bytes + (double)n * f->context * (double)r->kv_token_bytes;
    snprintf(name, sizeof(name), "decode_b%u", n);
    put(name, n / seconds);
    snprintf(name, sizeof(name), "decode_b%u_of_bound", n);
    put(name, bytes / bandwidth / seconds);
    snprintf(name, sizeof(name), "decode_b%u_each_waited_for", n);
    put(name, n / waited);
    snprintf(name, sizeof(name), "decode_b%u_device_ms", n);
    put(name, device * 1e3);
    snprintf(name, sizeof(name), "decode_b%u_host_gap_us", n);
    printf("\"%s\": %.5g, ", name, (seconds - device) * 1e6); /* none or less: it is hidden */
    free(a.order);
}

/* Milliseconds of a prompt's last n rows, to its first token. */
static double prompt_ms(struct rig *r, struct step *s, const struct effort *f, uint32_t first,
                        uint32_t n)
{
    struct stepping a = {.rig = r, .step = s};
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

/* What a prompt of `first` cached and n new tokens takes at least: its products in cuBLASLt, attention at
 * the rate of the ceiling, and one row of lm_head; negative: without the library there is no such bound. */
static double prompt_bound(struct rig *r, uint32_t first, uint32_t n, const struct ceilings *c)
{
    const double products = peer_products(r, n);
    if (products < 0 || c->operations <= 0)
        return -1;
    return products + prefill_attention_operations(r->shape, first, n) / c->operations +
           (double)r->weights.lm_head->bytes / c->bytes;
}

static void prompts(struct rig *r, struct step *s, const struct effort *f, const struct ceilings *c)
{
    const double prefill = prompt_ms(r, s, f, 0, f->prefill);
    const double peer = peer_products(r, f->prefill) * 1e3;
    const uint32_t half = f->prefill / 2;
    put("prefill_2k_ms", prefill);
    put("prefill_2k_cublaslt_gemm_ms", peer);
    put("prefill_2k_of_gemm", peer > 0 ? prefill / peer : -1);
    put("prefill_2k_tok_per_s", f->prefill / prefill * 1e3);
    put("ttft_128_ms", prompt_ms(r, s, f, 0, f->ttft));
    put("ttft_2k_half_cached_ms", prompt_ms(r, s, f, half, half));
    put("ttft_2k_half_cached_bound_ms", prompt_bound(r, half, half, c) * 1e3);
}

static void model(const struct shape *shape, const struct effort *f, struct ceilings *c)
{
    const struct rig_opts o = opts_of(f);
    struct rig r;
    struct step s;
    rig_open(&r, shape, &o);
    step_init(&s, &o);
    c->bytes = bytes_per_second(&r, f);
    c->operations = operations_per_second(&r, f);
    printf("\"%s\": {", shape->name);
    put("read_gb_per_s", c->bytes * 1e-9);
    put("cublaslt_tflop_per_s", c->operations * 1e-12);
    prompts(&r, &s, f, c); /* products are measured here; then steps can be recorded */
    rig_settle(&r);
    for (size_t i = 0; i < ARRAY_LEN(f->batches); i++)
        decodes(&r, &s, f, c->bytes, f->batches[i]);
    for (size_t i = 0; i < ARRAY_LEN(f->batches); i++)
        kernels_of_decodes(&r, &s, f, c, f->batches[i], f->context);
    kernels_of_prompt(&r, &s, f, c, f->prefill);
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
    struct ceilings c = {0};
    printf("{");
    for (uint32_t i = 0; i < n; i++) {
        model(&list[i], f, &c);
        printf(", ");
    }
    printf("\"context\": %u, \"ok\": true}\n", f->context);
    return 0;
}
