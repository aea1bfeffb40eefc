/* rope.cu - rotary embedding, norms of heads and the write into the KV cache.
 *
 * A warp takes one head of one row: lane i has the pairs i, i + 32, ... The table of the step's
 * rows is made once per step and read by every layer. */
#include "gpu/flavour.cuh"
#include "gpu/kernels.h"

enum {
    ROPE_THREADS = 128,
    ROPE_WARPS = ROPE_THREADS / 32,
    MAX_PAIRS = GPU_MAX_HEAD / 2 / 32, /* of a lane */
};

GPU_KERNEL(ROPE_THREADS) static void rope_table_kernel(struct gpu_rope_rows a)
{
    gpu_await_previous();
    const uint32_t row = gpu_block().x, half = a.head_dim / 2, position = a.positions[row];
    const double *low = a.low + static_cast<size_t>(position % GPU_ROPE_SPAN) * a.head_dim;
    const double *high = a.high + static_cast<size_t>(position / GPU_ROPE_SPAN) * a.head_dim;
    float *out = a.out + static_cast<size_t>(row) * a.head_dim;
    for (uint32_t i = gpu_thread(); i < half; i += ROPE_THREADS) {
        const double cl = low[2 * i], sl = low[2 * i + 1], ch = high[2 * i], sh = high[2 * i + 1];
        out[2 * i] = static_cast<float>(a.scale * (ch * cl - sh * sl));
        out[2 * i + 1] = static_cast<float>(a.scale * (sh * cl + ch * sl));
    }
}

int gpu_rope_table(struct gpu_stream *s, const struct gpu_rope_rows *a)
{
    return gpu_chain(s, "rope_table", {a->n_rows, 1, 1}, ROPE_THREADS, 0, rope_table_kernel, *a);
}

/* The pairs of a head that this lane has. */
struct pairs {
    float first[MAX_PAIRS], second[MAX_PAIRS];
};

static GPU_FN uint32_t first_of(const struct gpu_rope &a, uint32_t pair)
{
    return a.interleaved ? 2 * pair : pair;
}

static GPU_FN uint32_t second_of(const struct gpu_rope &a, uint32_t pair)
{
    return a.interleaved ? 2 * pair + 1 : pair + a.kv.head_dim / 2;
}

/* Divides by the rms of the head, multiplies by w. All lanes come here. */
static GPU_FN void norm_pairs(const struct gpu_rope &a, const float *w, struct pairs *p)
{
    const uint32_t half = a.kv.head_dim / 2;
    float squares = 0;
#pragma unroll
    for (uint32_t j = 0; j < MAX_PAIRS; j++)
        squares += p->first[j] * p->first[j] + p->second[j] * p->second[j];
    const float scale =
        gpu_rsqrt(gpu_warp_sum(squares) / static_cast<float>(a.kv.head_dim) + a.eps);
#pragma unroll
    for (uint32_t j = 0; j < MAX_PAIRS; j++) {
        const uint32_t i = gpu_lane() + 32 * j;
        if (i < half) {
            p->first[j] *= scale * w[first_of(a, i)];
            p->second[j] *= scale * w[second_of(a, i)];
        }
    }
}

static GPU_FN void turn_pairs(const struct gpu_rope &a, uint32_t row, struct pairs *p)
{
    const uint32_t half = a.kv.head_dim / 2;
    const float *table = a.cos_sin + static_cast<size_t>(row) * a.kv.head_dim;
#pragma unroll
    for (uint32_t j = 0; j < MAX_PAIRS; j++) {
        const uint32_t i = gpu_lane() + 32 * j;
        if (i < half) {
            const float c = table[2 * i], s = table[2 * i + 1];
            const float x = p->first[j], y = p->second[j];
            p->first[j] = x * c - y * s;
            p->second[j] = y * c + x * s;
        }
    }
}

/* Where head h of a row goes: heads of q, then of k, then of v. */
template <class E> static GPU_FN E *head_target(const struct gpu_rope &a, uint32_t row, uint32_t h)
{
    const struct gpu_kv &kv = a.kv;
    if (h < kv.n_heads)
        return static_cast<E *>(a.q) + (static_cast<size_t>(row) * kv.n_heads + h) * kv.head_dim;
    const uint32_t block = a.slots[row] / KV_BLOCK_TOKENS, at = a.slots[row] % KV_BLOCK_TOKENS;
    const uint32_t kv_head = h - kv.n_heads; /* values after keys */
    const size_t index =
        (static_cast<size_t>(block) * kv.n_layers + kv.layer) * 2 * kv.n_kv_heads + kv_head;
    return static_cast<E *>(kv.data) + (index * KV_BLOCK_TOKENS + at) * kv.head_dim;
}

template <class F> GPU_KERNEL(ROPE_THREADS) static void rope_kernel(struct gpu_rope a)
{
    gpu_await_previous();
    using E = typename F::elem;
    const struct gpu_kv &kv = a.kv;
    const uint32_t row = gpu_block().x, h = gpu_block().y * ROPE_WARPS + gpu_warp();
    const uint32_t n_heads = kv.n_heads + 2 * kv.n_kv_heads, half = kv.head_dim / 2;
    if (h >= n_heads || (h >= kv.n_heads && a.slots[row] == GPU_NO_SLOT))
        return;
    const float *in = a.qkv + (static_cast<size_t>(row) * n_heads + h) * kv.head_dim;
    struct pairs p;
#pragma unroll
    for (uint32_t j = 0; j < MAX_PAIRS; j++) {
        const uint32_t i = gpu_lane() + 32 * j;
        p.first[j] = i < half ? in[first_of(a, i)] : 0.0f;
        p.second[j] = i < half ? in[second_of(a, i)] : 0.0f;
    }
    const bool is_value = h >= kv.n_heads + kv.n_kv_heads;
    if (!is_value) {
        if (a.q_norm)
            norm_pairs(a, h < kv.n_heads ? a.q_norm : a.k_norm, &p);
        turn_pairs(a, row, &p);
    }
    E *out = head_target<E>(a, row, h);
#pragma unroll
    for (uint32_t j = 0; j < MAX_PAIRS; j++) {
        const uint32_t i = gpu_lane() + 32 * j;
        if (i < half) {
            gpu_from_f32(p.first[j], &out[first_of(a, i)]);
            gpu_from_f32(p.second[j], &out[second_of(a, i)]);
        }
    }
}

template <class F> static int launch_rope(struct gpu_stream *s, const struct gpu_rope *a)
{
    const uint32_t n_heads = a->kv.n_heads + 2 * a->kv.n_kv_heads;
    return gpu_chain(s, "rope_kv", {a->n_rows, (n_heads + ROPE_WARPS - 1) / ROPE_WARPS, 1},
                     ROPE_THREADS, 0, rope_kernel<F>, *a);
}

int gpu_rope_kv(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_rope *a)
{
    return GPU_BY_FLAVOUR(f, launch_rope, s, a);
}
