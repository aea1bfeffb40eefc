/* sim.c - a backend without arithmetic: steps that take the time they are told to take, and tokens
 * that follow from the request alone.
 *
 * It lets router, scheduler, edge and supervisor run at the rate and width of many devices on two
 * cores. Nothing is read from the model's tensors, no KV cache and no activations exist; the
 * thread sleeps to the step's deadline. */
#include "core/backend/backend.h"

#include <stdlib.h>

#include "core/util/clock.h"

struct sim {
    struct backend base;
    struct sim_opts opts;
    uint64_t step_end_us;
};

struct sim_weight {
    size_t n_bytes; /* of the tensors it stands for */
};

/* Far beyond any sensible cost of a step; keeps the sum of a deadline from overflowing. */
static const uint64_t COST_MAX_US = 3600ull * 1000000u;

static void sim_free(struct backend *be)
{
    free(be);
}

static int sim_weight_new(struct backend *be, enum weight_role role,
                          const struct host_tensor *parts, uint32_t n_parts,
                          const struct host_tensor *biases, struct weight **out, struct err *e)
{
    (void)be;
    (void)role;
    struct sim_weight *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "out of memory for a weight");
    for (uint32_t i = 0; i < n_parts; i++) {
        w->n_bytes += host_tensor_bytes(&parts[i]);
        if (biases)
            w->n_bytes += host_tensor_bytes(&biases[i]);
    }
    *out = (struct weight *)w;
    return 0;
}

static void sim_weight_free(struct weight *w)
{
    free(w);
}

static size_t sim_weight_bytes(const struct weight *w)
{
    return ((const struct sim_weight *)w)->n_bytes;
}

/* What a device with an F16 cache would need, so that pool sizes come out as there. */
static size_t sim_kv_block_bytes(struct backend *be, const struct attn_shape *shape)
{
    (void)be;
    return (size_t)2 * 2 * KV_BLOCK_TOKENS * shape->n_layers * shape->n_kv_heads * shape->head_dim;
}

static int sim_reserve(struct backend *be, const struct attn_shape *shape,
                       const struct backend_limits *limits, uint32_t n_kv_blocks, struct err *e)
{
    (void)be;
    (void)shape;
    (void)limits;
    (void)n_kv_blocks;
    (void)e;
    return 0;
}

static int sim_tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                          struct err *e)
{
    (void)be;
    (void)e;
    *out = (struct tensor){.data = NULL, .max_rows = max_rows, .cols = cols};
    return 0;
}

static int sim_begin(struct backend *be, const struct batch *b)
{
    struct sim *s = (struct sim *)be;
    const uint64_t cost_us = s->opts.step_us + s->opts.row_us_x1000 * b->n_rows / 1000;
    s->step_end_us = clock_now_us() + u64_min(cost_us, COST_MAX_US);
    return 0;
}

static int sim_embed(struct backend *be, const struct weight *embed, struct tensor *x)
{
    (void)be;
    (void)embed;
    (void)x;
    return 0;
}

static int sim_rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                        const struct weight *w, float eps, struct tensor *out)
{
    (void)be;
    (void)x;
    (void)residual;
    (void)w;
    (void)eps;
    (void)out;
    return 0;
}

static int sim_linear(struct backend *be, const struct tensor *in, const struct weight *w,
                      struct tensor *out)
{
    (void)be;
    (void)in;
    (void)w;
    (void)out;
    return 0;
}

static int sim_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
                       const struct weight *q_norm, const struct weight *k_norm, float eps)
{
    (void)be;
    (void)layer;
    (void)qkv;
    (void)q_norm;
    (void)k_norm;
    (void)eps;
    return 0;
}

static int sim_attention(struct backend *be, uint32_t layer, const struct tensor *qkv,
                         struct tensor *out)
{
    (void)be;
    (void)layer;
    (void)qkv;
    (void)out;
    return 0;
}

static int sim_gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    (void)be;
    (void)in;
    (void)out;
    return 0;
}

static int sim_head(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                    const struct weight *lm_head, struct tensor *logits)
{
    (void)be;
    (void)x;
    (void)norm;
    (void)eps;
    (void)lm_head;
    (void)logits;
    return 0;
}

/* SplitMix64's finalizer (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output
 * bit. */
static uint64_t mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int sim_sample(struct backend *be, const struct tensor *logits,
                      const struct sample_row *rows, uint32_t n, uint32_t *out_ids)
{
    const struct sim *s = (const struct sim *)be;
    (void)logits;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t h = mix64(mix64(rows[i].tag + 0x9e3779b97f4a7c15u) + rows[i].position);
        out_ids[i] = s->opts.first_token + (uint32_t)(h % s->opts.n_tokens);
    }
    return 0;
}

static int sim_finish(struct backend *be)
{
    const struct sim *s = (const struct sim *)be;
    clock_sleep_until_us(s->step_end_us);
    return 0;
}

static const struct backend_ops sim_ops = {
    .kind = "sim",
    .free = sim_free,
    .weight_new = sim_weight_new,
    .weight_free = sim_weight_free,
    .weight_bytes = sim_weight_bytes,
    .kv_block_bytes = sim_kv_block_bytes,
    .reserve = sim_reserve,
    .tensor_new = sim_tensor_new,
    .begin = sim_begin,
    .embed = sim_embed,
    .rms_norm = sim_rms_norm,
    .linear = sim_linear,
    .gate_up = sim_linear,
    .rope_kv = sim_rope_kv,
    .attention = sim_attention,
    .gather = sim_gather,
    .head = sim_head,
    .sample = sim_sample,
    .finish = sim_finish,
};

int sim_backend_new(const struct sim_opts *o, struct backend **out, struct err *e)
{
    if (o->n_tokens == 0 || o->n_tokens > UINT32_MAX - o->first_token)
        return err_set(e, LLMD_EINVAL, "sim: token range [%u, %u + %u) is empty or too large",
                       o->first_token, o->first_token, o->n_tokens);
    if (o->step_us > COST_MAX_US || o->row_us_x1000 > COST_MAX_US)
        return err_set(e, LLMD_EINVAL,
                       "sim: a step of %llu us and %llu ns per row costs more than an hour",
                       (unsigned long long)o->step_us, (unsigned long long)o->row_us_x1000);

    struct sim *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for the sim backend");
    s->base.ops = &sim_ops;
    s->opts = *o;
    *out = &s->base;
    return 0;
}
