/* cpu_kern_ops_int.h - row-wise operations: norm, bias, rotary embedding, KV writes.
 *
 * Order  rms_norm sums squares in 16 lanes by column mod 16, then folds the lanes in halves.
 * Errors none; a key or value beyond F16's range becomes its largest finite value. */
#pragma once
#include <math.h>

#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_vec_int.h"

static ALWAYS_INLINE v16 norm_add(float *x, const float *residual, uint32_t n)
{
    v16 v = v16_load_n(x, n);
    if (residual) {
        v = v16_add(v, v16_load_n(residual, n));
        v16_store_n(x, v, n);
    }
    return v;
}

static inline void kern_rms_norm(float *x, const float *residual, const float *w, uint32_t cols,
                                 float eps, float *out)
{
    v16 sum = v16_zero();
    uint32_t k = 0;
    for (; k + 16 <= cols; k += 16) {
        v16 v = v16_load(x + k);
        if (residual) {
            v = v16_add(v, v16_load(residual + k));
            v16_store(x + k, v);
        }
        sum = v16_fma(v, v, sum);
    }
    if (k < cols) {
        v16 v = norm_add(x + k, residual ? residual + k : NULL, cols - k);
        sum = v16_fma(v, v, sum);
    }
    const v16 scale = v16_set1(1.0f / sqrtf(v16_sum(sum) / (float)cols + eps));
    for (k = 0; k + 16 <= cols; k += 16)
        v16_store(out + k, v16_mul(v16_mul(v16_load(x + k), scale), v16_load(w + k)));
    if (k < cols) {
        v16 v = v16_mul(v16_load_n(x + k, cols - k), scale);
        v16_store_n(out + k, v16_mul(v, v16_load_n(w + k, cols - k)), cols - k);
    }
}

static inline void kern_add_bias(float *out, size_t stride, uint32_t n_rows, const float *bias,
                                 uint32_t cols)
{
    for (uint32_t r = 0; r < n_rows; r++, out += stride) {
        uint32_t i = 0;
        for (; i + 16 <= cols; i += 16)
            v16_store(out + i, v16_add(v16_load(out + i), v16_load(bias + i)));
        if (i < cols)
            v16_store_n(out + i,
                        v16_add(v16_load_n(out + i, cols - i), v16_load_n(bias + i, cols - i)),
                        cols - i);
    }
}

/* out[i] = x[i] * cos[i] + x[partner of i] * sin[i], where sin carries the sign. */
static ALWAYS_INLINE v16 rope_turn(v16 x, v16 partner, const float *cos, const float *sin)
{
    return v16_fma(partner, v16_load(sin), v16_mul(x, v16_load(cos)));
}

static inline void kern_rope(float *x, const float *cos_sin, uint32_t n_heads, uint32_t head_dim,
                             bool interleaved)
{
    const float *cos = cos_sin, *sin = cos_sin + head_dim;
    const uint32_t half = head_dim / 2;
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
        if (interleaved) {
            for (uint32_t i = 0; i < head_dim; i += 16) {
                v16 v = v16_load(x + i);
                v16_store(x + i, rope_turn(v, v16_swap_pairs(v), cos + i, sin + i));
            }
            continue;
        }
        uint32_t i = 0;
        for (; i + 16 <= half; i += 16) {
            v16 a = v16_load(x + i), b = v16_load(x + half + i);
            v16_store(x + i, rope_turn(a, b, cos + i, sin + i));
            v16_store(x + half + i, rope_turn(b, a, cos + half + i, sin + half + i));
        }
        if (i < half) { /* eight are left: the heads have a multiple of 16 */
            v16 a = v16_load_n(x + i, 8), b = v16_load_n(x + half + i, 8);
            v16_store_n(x + i, rope_turn(a, b, cos + i, sin + i), 8);
            v16_store_n(x + half + i, rope_turn(b, a, cos + half + i, sin + half + i), 8);
        }
    }
}

static ALWAYS_INLINE v16 kv_finite(v16 v)
{
    return v16_min(v16_set1(65504.0f), v16_max(v16_set1(-65504.0f), v));
}

static inline void kern_kv_write(const struct attn_layout *l, const float *k, const float *v,
                                 uint8_t *block, uint32_t slot)
{
    const uint32_t hd = l->head_dim;
    for (uint32_t h = 0; h < l->n_kv_heads; h++, k += hd, v += hd, block += l->kv_head_bytes) {
        if (l->f32) {
            float *kb = (float *)block, *vb = kb + (size_t)hd * KV_BLOCK_TOKENS;
            for (uint32_t i = 0; i < hd; i++)
                kb[(size_t)i * KV_BLOCK_TOKENS + slot] = k[i];
            for (uint32_t i = 0; i < hd; i += 16)
                v16_store(vb + (size_t)slot * hd + i, v16_load(v + i));
            continue;
        }
        uint16_t *kb = (uint16_t *)block, *vb = kb + (size_t)hd * KV_BLOCK_TOKENS;
        for (uint32_t i = 0; i < hd; i += 16) {
            uint16_t half[16];
            v16_store_f16(half, kv_finite(v16_load(k + i)));
            for (uint32_t j = 0; j < 16; j++)
                kb[(size_t)(i + j) * KV_BLOCK_TOKENS + slot] = half[j];
            v16_store_f16(vb + (size_t)slot * hd + i, kv_finite(v16_load(v + i)));
        }
    }
}
