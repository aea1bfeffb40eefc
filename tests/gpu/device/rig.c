#include "tests/gpu/device/rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

static const struct shape SHAPES[] = {
    {"qwen2.5-0.5b-bf16", 896, 24, 14, 2, 64, 4864, 151936, 1e6f, 1e-6f, true, false, true, false},
    {"qwen2.5-7b-bf16", 3584, 28, 28, 4, 128, 18944, 152064, 1e6f, 1e-6f, true, false, false,
     false},
    {"qwen3-8b-bf16", 4096, 36, 32, 8, 128, 12288, 151936, 1e6f, 1e-6f, false, true, false, false},
    {"llama-3.1-8b-bf16", 4096, 32, 32, 8, 128, 14336, 128256, 5e5f, 1e-5f, false, false, false,
     true},
    {"mistral-7b-bf16", 4096, 32, 32, 8, 128, 14336, 32768, 1e6f, 1e-5f, false, false, false,
     false},
};
static const struct shape TINY[] = {
    {"tiny-gqa7", 112, 2, 7, 1, 16, 96, 211, 1e4f, 1e-6f, true, false, true, false},
    {"tiny-norms", 128, 2, 4, 2, 32, 80, 300, 1e4f, 1e-5f, false, true, false, true},
};

uint32_t shapes(bool tiny, const struct shape **out)
{
    *out = tiny ? TINY : SHAPES;
    return tiny ? ARRAY_LEN(TINY) : ARRAY_LEN(SHAPES);
}

void must(int rc, const char *what, const struct err *e)
{
    if (rc == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, e && e->code ? e->msg : "the device failed");
    exit(2);
}

void *device_new(struct rig *r, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    must(gpu_alloc(r->cuda->gpu, bytes, &p, &e), "memory", &e);
    return p;
}

void wait_device(struct rig *r)
{
    struct err e = {0};
    must(gpu_stream_wait(r->cuda->stream, 60000000, &e), "wait", &e);
}

/* --- weights --- */

static uint64_t next_seed;

static struct weight *weight_of(struct rig *r, enum weight_role role, uint32_t rows, uint32_t cols)
{
    struct weight *w = calloc(1, sizeof(*w));
    if (!w)
        exit(2);
    *w = (struct weight){.gpu = r->cuda->gpu, .role = role, .rows = rows, .cols = cols};
    return w;
}

static struct weight *matrix(struct rig *r, enum weight_role role, uint32_t rows, uint32_t cols,
                             float gain, bool bias)
{
    struct weight *w = weight_of(r, role, rows, cols);
    const bool gate_up = role == WEIGHT_GATE_UP;
    const uint32_t half = GPU_ROWS / 2, pairs = (rows + half - 1) / half;
    const uint32_t all = gate_up ? pairs * GPU_ROWS : (rows + GPU_ROWS - 1) / GPU_ROWS * GPU_ROWS;
    const struct generated m = {
        .out = device_new(r, (size_t)all * gpu_stride(cols) * 2),
        .rows = gate_up ? 2 * rows : rows,
        .cols = cols,
        .to_rows = all,
        .stride = gpu_stride(cols),
        .seed = ++next_seed,
        .deviation = role == WEIGHT_EMBED && gain == 1.0f ? 1.0f : gain / sqrtf((float)cols),
        .gate_up = gate_up,
    };
    must(ref_matrix(&r->ref, &m), "weights", NULL);
    w->data = m.out;
    w->bytes = (size_t)all * m.stride * 2;
    if (bias) {
        w->bias = device_new(r, rows * sizeof(float));
        must(ref_vector(&r->ref, w->bias, rows, ++next_seed, 0.0f, 0.3f), "bias", NULL);
    }
    return w;
}

static struct weight *vector(struct rig *r, uint32_t n)
{
    struct weight *w = weight_of(r, WEIGHT_VECTOR, 1, n);
    w->vector = device_new(r, n * sizeof(float));
    must(ref_vector(&r->ref, w->vector, n, ++next_seed, 1.0f, 0.1f), "norm", NULL);
    return w;
}

static void make_weights(struct rig *r)
{
    const struct shape *s = r->shape;
    const uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    struct engine_weights *w = &r->weights;
    next_seed = 7;
    atomic_init(&w->refs, 1); /* the rig's own: never the last to go */
    w->n_layers = s->n_layers;
    w->layers = calloc(s->n_layers, sizeof(*w->layers));
    if (!w->layers)
        exit(2);
    w->embed = matrix(r, WEIGHT_EMBED, s->vocab, s->hidden, s->tied ? 3.0f : 1.0f, false);
    w->final_norm = vector(r, s->hidden);
    w->lm_head = s->tied ? w->embed : matrix(r, WEIGHT_LINEAR, s->vocab, s->hidden, 3.0f, false);
    r->weight_bytes = w->lm_head->bytes;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct engine_layer *l = &w->layers[i];
        l->attn_norm = vector(r, s->hidden);
        l->qkv = matrix(r, WEIGHT_LINEAR, q + 2 * kv, s->hidden, 1.0f, s->qkv_bias);
        l->q_norm = s->qk_norm ? vector(r, s->head_dim) : NULL;
        l->k_norm = s->qk_norm ? vector(r, s->head_dim) : NULL;
        l->o = matrix(r, WEIGHT_LINEAR, s->hidden, q, 1.0f, false);
        l->ffn_norm = vector(r, s->hidden);
        l->gate_up = matrix(r, WEIGHT_GATE_UP, s->ffn, s->hidden, 1.0f, false);
        l->down = matrix(r, WEIGHT_LINEAR, s->hidden, s->ffn, 1.0f, false);
        r->weight_bytes += l->qkv->bytes + l->o->bytes + l->gate_up->bytes + l->down->bytes;
    }
}

static void free_weights(struct rig *r)
{
    struct engine_weights *w = &r->weights;
    for (uint32_t i = 0; i < w->n_layers; i++) {
        struct engine_layer *l = &w->layers[i];
        struct weight *all[] = {l->attn_norm, l->qkv,      l->q_norm,  l->k_norm,
                                l->o,         l->ffn_norm, l->gate_up, l->down};
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            cuda_weight_free(all[k]);
    }
    if (w->lm_head != w->embed)
        cuda_weight_free(w->lm_head);
    cuda_weight_free(w->embed);
    cuda_weight_free(w->final_norm);
    free(w->layers);
}

/* --- the rig --- */

void rig_model(struct model *m, const struct shape *s, uint32_t max_context)
{
    struct err e = {0};
    m->hparams = (struct hparams){.n_layers = s->n_layers,
                                  .hidden_size = s->hidden,
                                  .n_heads = s->n_heads,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .ffn_size = s->ffn,
                                  .vocab_size = s->vocab,
                                  .context_length = max_context,
                                  .rope_theta = s->theta,
                                  .rms_norm_eps = s->eps,
                                  .rope_style = ROPE_NEOX,
                                  .tied_embedding = s->tied};
    if (s->llama3) {
        m->hparams.rope_scaling = ROPE_SCALING_LLAMA3;
        m->hparams.scaling = (struct rope_scaling_params){
            .factor = 8, .original_context = 8192, .low_freq_factor = 1, .high_freq_factor = 4};
    }
    must(model_set_rope(m, NULL, &e), "rope", &e);
}

void rig_open(struct rig *r, const struct shape *s, const struct rig_opts *o)
{
    const struct backend_limits limits = {
        .max_rows = o->max_rows, .max_seqs = o->max_seqs, .max_out = o->max_seqs};
    struct attn_shape shape;
    struct err e = {0};
    *r = (struct rig){.shape = s, .n_blocks = o->n_blocks};
    rig_model(&r->model, s, o->max_context);
    must(cuda_backend_new(&o->cuda, &r->be, &e), "device", &e);
    r->cuda = cuda_backend(r->be);
    r->ref = (struct ref){.stream = r->cuda->stream, .flavour = r->cuda->flavour};
    make_weights(r);
    wait_device(r);
    forward_attn_shape(&r->model, o->max_context, &shape);
    r->kv_token_bytes = r->be->ops->kv_block_bytes(r->be, &shape) / KV_BLOCK_TOKENS;
    must(r->be->ops->reserve(r->be, &shape, &limits, o->n_blocks, &e), "reserve", &e);
    must(forward_new(r->be, &r->model, &r->weights, &shape, &limits, &r->forward, &e), "forward",
         &e);
}

void rig_settle(struct rig *r)
{
    struct err e = {0};
    must(r->be->ops->kv_resize(r->be, r->n_blocks, &e), "KV cache", &e);
}

const char *cublaslt_file;

const struct blas_library *rig_library(void)
{
    static struct blas_library *library;
    static bool tried;
    struct gpu *g = NULL;
    struct err e = {0};
    if (tried)
        return library;
    tried = true;
    must(gpu_open(0, &g, &e), "device", &e);
    const bool stands_in = strcmp(gpu_describe(g)->name, "host stand-in") == 0;
    gpu_close(g);
    if (!(stands_in && !cublaslt_file) && blas_library_open(cublaslt_file, &library, &e))
        fprintf(stderr, "%s\n", e.msg);
    return library;
}

void rig_close(struct rig *r)
{
    forward_free(r->forward);
    free_weights(r);
    r->be->ops->free(r->be);
    free(r->model.inv_freq);
}

/* --- steps --- */

static void *array(size_t n, size_t each)
{
    void *p = calloc(n, each);
    if (!p)
        exit(2);
    return p;
}

void step_init(struct step *s, const struct rig_opts *o)
{
    s->max_blocks = (o->max_context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    s->batch = (struct batch){0};
    s->tokens = array(o->max_rows, sizeof(*s->tokens));
    s->positions = array(o->max_rows, sizeof(*s->positions));
    s->slots = array(o->max_rows, sizeof(*s->slots));
    s->out_rows = array(o->max_seqs, sizeof(*s->out_rows));
    s->tables = array((size_t)o->max_seqs * s->max_blocks, sizeof(*s->tables));
    s->seqs = array(o->max_seqs, sizeof(*s->seqs));
    s->samples = array(o->max_seqs, sizeof(*s->samples));
    s->ids = array(o->max_seqs, sizeof(*s->ids));
}

void step_fini(struct step *s)
{
    void *all[] = {s->tokens, s->positions, s->slots,   s->out_rows,
                   s->tables, s->seqs,      s->samples, s->ids};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
}

void step_clear(struct step *s)
{
    s->batch = (struct batch){0};
}

void step_add(struct step *s, const struct rig *r, uint32_t which, const uint32_t *tokens,
              uint32_t n, uint32_t first_pos, uint32_t want)
{
    struct batch *b = &s->batch;
    uint32_t *table = s->tables + (size_t)b->n_seqs * s->max_blocks;
    const uint32_t n_blocks = (first_pos + n + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    for (uint32_t i = 0; i < n_blocks; i++) /* scattered, and no sequence has another's */
        table[i] = (uint32_t)(((uint64_t)which + (uint64_t)i * 257) % r->n_blocks);
    s->seqs[b->n_seqs++] = (struct batch_seq){
        .first_row = b->n_rows, .n_rows = n, .first_pos = first_pos, .block_table = table};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = b->n_rows++, pos = first_pos + i;
        s->tokens[row] = tokens[i];
        s->positions[row] = pos;
        s->slots[row] = table[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS;
        if (i + want < n)
            continue;
        s->samples[b->n_out] = (struct sample_row){
            .row = b->n_out,
            .position = pos + 1,
            .how = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1 + which}};
        s->samples[b->n_out].how.n_generated = pos;
        s->out_rows[b->n_out++] = row;
    }
}

static void settle_batch(struct step *s, bool follows)
{
    s->batch.tokens = s->tokens;
    s->batch.positions = s->positions;
    s->batch.slots = s->slots;
    s->batch.seqs = s->seqs;
    s->batch.out_rows = s->out_rows;
    s->batch.follows = follows;
}

void step_run(struct step *s, struct rig *r)
{
    struct err e = {0};
    settle_batch(s, false);
    must(forward_step(r->forward, &s->batch, &e), "step", &e);
    if (forward_has_sampler(r->forward) && s->batch.n_out > 0)
        must(forward_sample(r->forward, s->samples, s->batch.n_out, s->ids, &e), "sample", &e);
}

void step_post(struct step *s, struct rig *r, bool follows)
{
    struct err e = {0};
    settle_batch(s, follows);
    for (uint32_t i = 0; i < s->batch.n_rows && follows; i++)
        s->tokens[i] = i;
    must(forward_post(r->forward, &s->batch, s->samples, s->ids, &e), "post", &e);
}

void step_collect(struct rig *r)
{
    struct err e = {0};
    must(forward_collect(r->forward, &e), "collect", &e);
}
