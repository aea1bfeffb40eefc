/* attn.cuh - attention of 16 rows over a tile of keys and values in shared memory, by one warp.
 *
 * Rows are pairs (row of the batch, head of the group): all heads that share a KV head are packed
 * together, whatever their number. Scores of a row are scaled, masked and exponentiated in F32 with a
 * running maximum (FlashAttention-2, arXiv:2307.08691, section 3.1); what a tile adds to a row does
 * not depend on the other rows, and a tile that a row does not see changes nothing of it.
 *
 * Shared memory rows have HD + 8 elements: matrix loads meet no bank twice. HD is head_dim rounded
 * up to 64, 128 or 256; elements beyond head_dim are zero. */
#pragma once
#include "gpu/flavour.cuh"
#include <math.h>

#include "gpu/kernels.h"

template <int HD> struct attn_size {
    enum {
        PITCH = HD + 8,
        WARPS = HD > 128 ? 2 : 4,
        THREADS = WARPS * 32,
        KEPT = HD > 128 ? 1 : HD / 16, /* query fragments that stay in registers */
    };
};

/* Rows g and g + 8 of a warp's 16, g = lane / 4; `t` is lane % 4. */
template <int HD> struct attn_rows {
    float out[HD / 8][4]; /* columns 8 j + 2 t and the next of row g, then of row g + 8 */
    float max[2];         /* of the scores so far; the same in all four lanes of a row */
    float sum[2];         /* this lane's share */
};

/* Which positions a row sees: from <= position < end. */
struct attn_span {
    uint32_t from[2], end[2];
};

template <int HD> static GPU_FN void attn_clear(struct attn_rows<HD> *r)
{
#pragma unroll
    for (uint32_t j = 0; j < HD / 8; j++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            r->out[j][i] = 0;
    r->max[0] = r->max[1] = -INFINITY;
    r->sum[0] = r->sum[1] = 0;
}

/* Where row `packed` of a sequence and KV head lies: row of the batch, head, and what it sees. */
struct attn_place {
    uint32_t row, head, from, end;
    bool valid;
};

static GPU_FN struct attn_place attn_find(const struct gpu_attn &a, const struct gpu_seq &s,
                                          uint32_t kv_head, uint32_t packed)
{
    const uint32_t group = a.kv.n_heads / a.kv.n_kv_heads, i = packed / group;
    struct attn_place p;
    p.valid = i < s.n_rows;
    p.row = s.first_row + (p.valid ? i : 0);
    p.head = kv_head * group + packed % group;
    p.end = s.first_pos + (p.valid ? i : 0) + 1;
    p.from = a.window && p.end > a.window ? p.end - a.window : 0;
    return p;
}

/* Begins to copy rows first_packed.. of q to shared[n_rows][PITCH]. */
template <class F, int HD>
static GPU_FN void attn_load_q(const struct gpu_attn &a, const struct gpu_seq &s, uint32_t kv_head,
                               uint32_t first_packed, uint32_t end_packed, uint32_t n_rows,
                               typename F::elem *shared)
{
    using E = typename F::elem;
    const uint32_t hd = a.kv.head_dim;
    for (uint32_t i = gpu_thread(); i < n_rows * (HD / 8); i += attn_size<HD>::THREADS) {
        const uint32_t r = i / (HD / 8), d = i % (HD / 8) * 8;
        const struct attn_place p = attn_find(a, s, kv_head, first_packed + r);
        const bool valid = p.valid && first_packed + r < end_packed && d < hd;
        const size_t at = (static_cast<size_t>(p.row) * a.kv.n_heads + p.head) * hd + d;
        F::copy(shared + r * attn_size<HD>::PITCH + d,
                static_cast<const E *>(a.q) + (valid ? at : 0), valid);
    }
}

/* Begins to copy the keys and values of positions first.. to keys and values [n][PITCH]; positions
 * outside of from..end are zero and their blocks are not followed. */
template <class F, int HD>
static GPU_FN void attn_load_kv(const struct gpu_attn &a, const uint32_t *table, uint32_t kv_head,
                                uint32_t first, uint32_t n, uint32_t from, uint32_t end,
                                typename F::elem *keys, typename F::elem *values)
{
    using E = typename F::elem;
    const struct gpu_kv &kv = a.kv;
    const uint32_t hd = kv.head_dim;
    const size_t to_values = static_cast<size_t>(kv.n_kv_heads) * KV_BLOCK_TOKENS * hd;
    for (uint32_t i = gpu_thread(); i < n * (HD / 8); i += attn_size<HD>::THREADS) {
        const uint32_t r = i / (HD / 8), d = i % (HD / 8) * 8, p = first + r;
        const bool valid = p >= from && p < end && d < hd;
        const size_t block = valid ? table[p / KV_BLOCK_TOKENS] : 0;
        const size_t head = (block * kv.n_layers + kv.layer) * 2 * kv.n_kv_heads + kv_head;
        const E *k = static_cast<const E *>(kv.data) +
                     (head * KV_BLOCK_TOKENS + p % KV_BLOCK_TOKENS) * hd + (valid ? d : 0);
        F::copy(keys + r * attn_size<HD>::PITCH + d, k, valid);
        F::copy(values + r * attn_size<HD>::PITCH + d, k + to_values, valid);
    }
}

/* The fragment of 16 rows of q, columns 16 i... */
template <int HD, class E> static GPU_FN void attn_query(const E *q, uint32_t i, uint32_t out[4])
{
    const uint32_t lane = gpu_lane();
    gpu_ldmatrix_x4(out, q + lane % 16 * attn_size<HD>::PITCH + i * 16 + lane / 16 * 8);
}

/* scores[j]: of positions 8 j... of the tile. `kept` are the first fragments of q. */
template <class F, int HD, int N>
static GPU_FN void attn_scores(const typename F::elem *q, const typename F::elem *keys,
                               const uint32_t kept[][4], float scores[N / 8][4])
{
    const uint32_t lane = gpu_lane();
#pragma unroll
    for (uint32_t j = 0; j < N / 8; j++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            scores[j][i] = 0;
#pragma unroll
    for (uint32_t i = 0; i < HD / 16; i++) {
        uint32_t a[4];
        if (HD > 128) {
            attn_query<HD>(q, i, a);
        } else {
#pragma unroll
            for (uint32_t r = 0; r < 4; r++)
                a[r] = kept[i][r];
        }
#pragma unroll
        for (uint32_t j = 0; j < N / 8; j += 2) {
            uint32_t b[4]; /* eight positions: columns 0-7, 8-15; then the next eight */
            gpu_ldmatrix_x4(b, keys + (j * 8 + lane / 16 * 8 + lane % 8) * attn_size<HD>::PITCH +
                                   i * 16 + lane / 8 % 2 * 8);
            F::mma(scores[j], a, b);
            F::mma(scores[j + 1], a, b + 2);
        }
    }
}

/* Scales and masks the scores, moves the running maximum, and leaves 2^(score - maximum). */
template <int HD, int N>
static GPU_FN void attn_softmax(float scale, const struct attn_span &see, uint32_t first,
                                float scores[N / 8][4], struct attn_rows<HD> *r)
{
    const uint32_t t = gpu_lane() % 4;
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        float top = r->max[h];
#pragma unroll
        for (uint32_t j = 0; j < N / 8; j++)
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                const uint32_t p = first + j * 8 + 2 * t + i;
                const bool seen = p >= see.from[h] && p < see.end[h];
                float *s = &scores[j][2 * h + i];
                *s = seen ? *s * scale : -INFINITY;
                top = fmaxf(top, *s);
            }
        top = fmaxf(top, gpu_shfl_xor(top, 1));
        top = fmaxf(top, gpu_shfl_xor(top, 2));
        const float base = top == -INFINITY ? 0.0f : top; /* nothing seen yet */
        const float shrink = gpu_exp2(r->max[h] - base);
        float sum = 0;
#pragma unroll
        for (uint32_t j = 0; j < N / 8; j++)
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                float *s = &scores[j][2 * h + i];
                *s = gpu_exp2(*s - base);
                sum += *s;
            }
        r->max[h] = top;
        r->sum[h] = r->sum[h] * shrink + sum;
#pragma unroll
        for (uint32_t j = 0; j < HD / 8; j++) {
            r->out[j][2 * h] *= shrink;
            r->out[j][2 * h + 1] *= shrink;
        }
    }
}

template <class F, int HD, int N>
static GPU_FN void attn_mix(const typename F::elem *values, const float weights[N / 8][4],
                            struct attn_rows<HD> *r)
{
    using E = typename F::elem;
    const uint32_t lane = gpu_lane();
#pragma unroll
    for (uint32_t k = 0; k < N / 16; k++) {
        uint32_t a[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            a[i] = gpu_pack<E>(weights[2 * k + i / 2][i % 2 * 2],
                               weights[2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (uint32_t j = 0; j < HD / 8; j += 2) {
            uint32_t b[4]; /* columns 0-7: positions 0-7, 8-15; then columns 8-15 */
            gpu_ldmatrix_x4_trans(b, values + (k * 16 + lane % 16) * attn_size<HD>::PITCH + j * 8 +
                                         lane / 16 * 8);
            F::mma(r->out[j], a, b);
            F::mma(r->out[j + 1], a, b + 2);
        }
    }
}

/* One tile of N positions from `first` on. */
template <class F, int HD, int N>
static GPU_FN void attn_tile(float scale, const struct attn_span &see, uint32_t first,
                             const typename F::elem *q, const uint32_t kept[][4],
                             const typename F::elem *keys, const typename F::elem *values,
                             struct attn_rows<HD> *r)
{
    float scores[N / 8][4];
    attn_scores<F, HD, N>(q, keys, kept, scores);
    attn_softmax<HD, N>(scale, see, first, scores, r);
    attn_mix<F, HD, N>(values, scores, r);
}

/* The rows' sums, over the four lanes that share a row. */
template <int HD> static GPU_FN void attn_total(struct attn_rows<HD> *r)
{
#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        r->sum[h] += gpu_shfl_xor(r->sum[h], 1);
        r->sum[h] += gpu_shfl_xor(r->sum[h], 2);
    }
}

/* 1 / sqrt(head_dim) in the exponent of two. */
static GPU_FN float attn_scale(const struct gpu_attn &a)
{
    const float log2_e = 1.44269504f;
    return log2_e * gpu_rsqrt(static_cast<float>(a.kv.head_dim));
}
