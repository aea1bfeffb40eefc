/* perf_kernels.c - the table of a step's kernels. An operation is recorded for all layers, so that no
 * weight is in a cache when its turn comes and no launch waits for the host, and run again and again. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/gpu/device/perf.h"

enum operation {
    OP_QKV,
    OP_O,
    OP_GATE_UP,
    OP_DOWN,
    OP_NORM,
    OP_ROPE,
    OP_ATTENTION,
    OF_LAYERS, /* those before run once in each layer */
    OP_HEAD = OF_LAYERS,
    OP_SAMPLE,
    OPERATIONS
};
static const char *const OPERATION[OPERATIONS] = {"qkv",  "o",         "gate_up", "down",  "norm",
                                                  "rope", "attention", "lm_head", "sample"};

/* A step whose operations are timed. */
struct operating {
    struct rig *rig;
    struct tensor x, normed, qkv, attn, delta, ffn, out_x, logits;
    struct gpu_sample sample;
    uint32_t n_rows, n_out;
    bool prompt;
    uint32_t context; /* of each row; a prompt: unused */
    uint32_t in_a_row;
    enum operation op;
    struct gpu_graph *graph;
};

static int operate(struct operating *a, uint32_t layer)
{
    const struct backend_ops *ops = a->rig->be->ops;
    struct backend *be = a->rig->be;
    const struct engine_weights *w = &a->rig->weights;
    const struct engine_layer *l = &w->layers[layer];
    const float eps = a->rig->shape->eps;
    switch (a->op) {
    case OP_QKV:
        return ops->linear(be, &a->normed, l->qkv, &a->qkv);
    case OP_O:
        return ops->linear(be, &a->attn, l->o, &a->delta);
    case OP_GATE_UP:
        return ops->gate_up(be, &a->normed, l->gate_up, &a->ffn);
    case OP_DOWN:
        return ops->linear(be, &a->ffn, l->down, &a->delta);
    case OP_NORM:
        return ops->rms_norm(be, &a->x, &a->delta, l->ffn_norm, eps, &a->normed);
    case OP_ROPE:
        return ops->rope_kv(be, layer, &a->qkv, l->q_norm, l->k_norm, eps);
    case OP_ATTENTION:
        return ops->attention(be, layer, &a->qkv, &a->attn);
    case OP_HEAD:
        return ops->head(be, &a->out_x, w->final_norm, eps, w->lm_head, &a->logits);
    case OP_SAMPLE:
        return gpu_sample_pick(a->rig->cuda->stream, &a->sample);
    case OPERATIONS:
        break;
    }
    return -1;
}

static void run_recorded(void *ctx)
{
    const struct operating *a = ctx;
    for (uint32_t i = 0; i < a->in_a_row; i++)
        must(gpu_graph_launch(a->graph, a->rig->cuda->stream), "graph", NULL);
    wait_device(a->rig);
}

/* Of all layers. */
static double seconds_of(struct operating *a, const struct effort *f)
{
    struct gpu_stream *stream = a->rig->cuda->stream;
    const uint32_t times = a->op < OF_LAYERS ? a->rig->shape->n_layers : 1;
    struct err e = {0};
    must(gpu_capture_begin(stream), "record", NULL);
    for (uint32_t i = 0; i < times; i++)
        must(operate(a, i), "operation", NULL);
    must(gpu_capture_end(stream, &a->graph, &e), "record", &e);
    const double seconds = time_of(f, run_recorded, a) / f->in_a_row;
    gpu_graph_free(a->graph);
    return seconds;
}

double prefill_attention_operations(const struct shape *s, uint32_t first, uint32_t n)
{
    const double seen = (double)n * first + (double)n * (n + 1) / 2; /* pairs of positions */
    return 4.0 * seen * s->n_heads * s->head_dim * s->n_layers;
}

/* Bytes that an operation of all layers must read or write, and its arithmetic. */
static void needs_of(const struct operating *a, double *out_bytes, double *out_operations)
{
    const struct rig *r = a->rig;
    const struct shape *s = r->shape;
    const struct engine_layer *l = &r->weights.layers[0];
    const struct weight *const products[] = {
        [OP_QKV] = l->qkv,         [OP_O] = l->o,
        [OP_GATE_UP] = l->gate_up, [OP_DOWN] = l->down,
        [OP_NORM] = NULL,          [OP_ROPE] = NULL,
        [OP_ATTENTION] = NULL,     [OP_HEAD] = r->weights.lm_head,
        [OP_SAMPLE] = NULL};
    const double n = a->n_rows, layers = s->n_layers;
    const double all_kv = a->prompt ? n : n * a->context; /* positions whose keys are read */
    const struct weight *w = products[a->op];
    *out_operations = 0;
    if (w) {
        const double times = a->op == OP_HEAD ? 1 : layers, rows = a->op == OP_HEAD ? a->n_out : n;
        *out_bytes = times * (double)w->bytes;
        *out_operations = times * rows * (double)w->bytes; /* two for each element of two bytes */
    } else if (a->op == OP_NORM) {
        *out_bytes = layers * n * s->hidden * (4 + 4 + 4 + 2);
    } else if (a->op == OP_ROPE) {
        *out_bytes = layers * n * (s->n_heads + 2 * s->n_kv_heads) * s->head_dim * (4 + 2);
    } else if (a->op == OP_ATTENTION) {
        *out_bytes = all_kv * (double)r->kv_token_bytes;
        *out_operations = a->prompt ? prefill_attention_operations(s, 0, a->n_rows)
                                    : 4 * all_kv * s->n_heads * s->head_dim * layers;
    } else {
        *out_bytes = (double)a->n_out * s->vocab * sizeof(float);
    }
}

static void *array(struct rig *r, size_t n, size_t each)
{
    return device_new(r, n * each);
}

/* Rows that are drawn from all tokens, which is what costs most of the common ones. */
static void open_sample(struct operating *a)
{
    struct rig *r = a->rig;
    const size_t n = a->n_out, blocks = gpu_sample_blocks(r->shape->vocab);
    struct gpu_sample_row *rows = calloc(n, sizeof(*rows));
    struct err e = {0};
    if (!rows)
        exit(2);
    for (uint32_t i = 0; i < n; i++) {
        rows[i].row = rows[i].n_generated = i;
        rows[i].inv_temperature = rows[i].top_p = rows[i].repetition_penalty = 1;
        rows[i].first_mask = GPU_NO_MASK;
    }
    a->sample = (struct gpu_sample){.logits = a->logits.data,
                                    .vocab = r->shape->vocab,
                                    .n_rows = a->n_out,
                                    .block_max = array(r, n * blocks, sizeof(float)),
                                    .block_sum = array(r, n * blocks, sizeof(float)),
                                    .ids = array(r, n, sizeof(uint32_t)),
                                    .sampled = array(r, n, sizeof(uint32_t))};
    void *device = array(r, n, sizeof(*rows));
    must(cuda_upload(r->cuda, device, rows, n * sizeof(*rows), &e), "upload", &e);
    a->sample.rows = device;
    free(rows);
}

static void close_sample(struct operating *a)
{
    struct gpu *g = a->rig->cuda->gpu;
    gpu_free(g, (void *)(uintptr_t)a->sample.rows);
    gpu_free(g, a->sample.block_max);
    gpu_free(g, a->sample.block_sum);
    gpu_free(g, a->sample.ids);
    gpu_free(g, a->sample.sampled);
}

/* Times what s holds, a step whose device arrays are in place. `whole`: seconds of the step. */
static void print_table(struct operating *a, const struct effort *f, const struct ceilings *c,
                        double whole)
{
    double sum = 0;
    for (a->op = 0; a->op < OPERATIONS; a->op++) {
        double bytes, operations;
        const double seconds = seconds_of(a, f);
        needs_of(a, &bytes, &operations);
        const double by_bytes = bytes / c->bytes;
        const double by_operations = c->operations > 0 ? operations / c->operations : 0;
        const double least = by_bytes > by_operations ? by_bytes : by_operations;
        printf("\"%s\": {\"us\": %.4g, \"share\": %.3f, \"of_roofline\": %.3f, \"bound\": "
               "\"%s\"}, ",
               OPERATION[a->op], seconds * 1e6, seconds / whole, least / seconds,
               by_bytes >= by_operations ? "bytes" : "operations");
        sum += seconds;
    }
    printf("\"rest\": {\"us\": %.4g, \"share\": %.3f}, \"step_us\": %.5g}, ", (whole - sum) * 1e6,
           (whole - sum) / whole, whole * 1e6);
}

struct stepping {
    struct rig *rig;
    struct step *step;
};

static void run_step(void *ctx)
{
    const struct stepping *a = ctx;
    step_run(a->step, a->rig);
}

/* Buffers are the backend's, in forward's order of tensor_new(). */
static void table(struct rig *r, struct step *s, const struct effort *f, const struct ceilings *c,
                  bool prompt, uint32_t context)
{
    void *const *t = r->cuda->tensors;
    const struct shape *h = r->shape;
    const uint32_t q = h->n_heads * h->head_dim, kv = h->n_kv_heads * h->head_dim;
    struct stepping stepping = {r, s};
    struct operating a = {.rig = r,
                          .x = {t[0], f->prefill, h->hidden},
                          .normed = {t[1], f->prefill, h->hidden},
                          .qkv = {t[2], f->prefill, q + 2 * kv},
                          .attn = {t[3], f->prefill, q},
                          .delta = {t[4], f->prefill, h->hidden},
                          .ffn = {t[5], f->prefill, h->ffn},
                          .out_x = {t[6], f->batches[2], h->hidden},
                          .logits = {t[7], f->batches[2], h->vocab},
                          .n_rows = s->batch.n_rows,
                          .n_out = s->batch.n_out,
                          .prompt = prompt,
                          .context = context,
                          .in_a_row = f->in_a_row};
    const double whole = time_of(f, run_step, &stepping);
    r->cuda->graphs.on = false;
    step_run(s, r); /* fills the arrays' pointers in */
    open_sample(&a);
    must(r->be->ops->begin(r->be, &s->batch), "begin", NULL);
    print_table(&a, f, c, whole);
    must(r->be->ops->finish(r->be), "finish", NULL);
    close_sample(&a);
    r->cuda->graphs.on = true;
}

void kernels_of_decodes(struct rig *r, struct step *s, const struct effort *f,
                        const struct ceilings *c, uint32_t n, uint32_t context)
{
    const uint32_t token = 1;
    step_clear(s);
    for (uint32_t i = 0; i < n; i++)
        step_add(s, r, i, &token, 1, context - 1, 1);
    printf("\"kernels_b%u\": {", n);
    table(r, s, f, c, false, context);
}

void kernels_of_prompt(struct rig *r, struct step *s, const struct effort *f,
                       const struct ceilings *c, uint32_t n)
{
    uint32_t *tokens = calloc(n, sizeof(*tokens));
    if (!tokens)
        exit(2);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = i * 7 % r->shape->vocab;
    step_clear(s);
    step_add(s, r, 0, tokens, n, 0, 1);
    free(tokens);
    printf("\"kernels_prefill\": {");
    table(r, s, f, c, true, 0);
}
