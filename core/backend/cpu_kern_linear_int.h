/* cpu_kern_linear_int.h - the matrix products: packed input times packed weights.
 *
 * Written once over cpu_vec_int.h. A kernel body takes the type and the number of tokens as
 * constants and is inlined for each, so that accumulators and the unpacked group stay in
 * registers: one group of 16 rows is unpacked once and used for up to 16 tokens.
 *
 * Order  acc = 0; types with a minimum, for each group g, ascending:
 *          acc = fma(m_w, d_a * sum(q), acc)
 *        then for each group g, ascending:
 *          p = sum of w * q                                   (exact, int32)
 *          acc = fma(float(p), d_w * d_a, acc)
 *        Q6_K: p = scale0 * p0 + scale1 * p1, exact in float as |p| < 2^24.
 *        Float types: acc = fma(w, x, acc) for each k, ascending. */
#pragma once
#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_vec_int.h"

/* The most tokens whose accumulators fit the registers beside an unpacked group. */
enum { LINEAR_TOKENS = V16_REGISTERS >= 32 ? 16 : 4 };

struct group16 {
    v64 q[8];
    v16 d;      /* scale of each row */
    v16 s0, s1; /* Q6_K: scales of the group's halves */
};

/* Asks for group g of the next tile: the hardware's own prefetching ends at each 4 KiB page. */
static ALWAYS_INLINE void group_prefetch(const uint8_t *next, const struct group_layout *l,
                                         uint32_t g)
{
    const uint8_t *q = next + g * l->q_bytes;
    for (size_t i = 0; i < l->q_bytes; i += 64)
        v16_prefetch(q + i);
    if (l->s_bytes != l->q_bytes)
        v16_prefetch(next + l->s_offset + g * l->s_bytes);
}

static ALWAYS_INLINE void group_load_nibbles(const uint8_t *p, struct group16 *w)
{
    UNROLL for (uint32_t j = 0; j < 4; j++)
    {
        v64 v = v64_load(p + 64 * j);
        w->q[j] = v64_low4(v);
        w->q[j + 4] = v64_high4(v);
    }
}

static ALWAYS_INLINE void group_load_pairs(const uint8_t *p, struct group16 *w)
{
    UNROLL for (uint32_t j = 0; j < 8; j++)
    {
        v64 v = v64_load(p + 64 * (j / 4));
        w->q[j] = v64_or(w->q[j], v64_pair_to_4(v, j % 4));
    }
}

static ALWAYS_INLINE void group_load(const enum dtype type, const uint8_t *tile,
                                     const struct group_layout *l, uint32_t g, struct group16 *w)
{
    const uint8_t *q = tile + g * l->q_bytes;
    const uint8_t *s = tile + l->s_offset + g * l->s_bytes;
    const uint16_t *d = (const uint16_t *)(tile + l->d_offset + g / SUPER_GROUPS * l->d_bytes);
    if (type == DTYPE_Q8_0) {
        UNROLL for (uint32_t j = 0; j < 8; j++) w->q[j] = v64_load_q8(q + 64 * j);
    } else {
        group_load_nibbles(q, w);
    }
    if (type == DTYPE_Q4_K) {
        w->d = v16_mul(v16_load_f16(d), v16_load_u8(s));
    } else if (type == DTYPE_Q6_K) {
        group_load_pairs(q + 256, w);
        w->d = v16_load_f16(d);
        w->s0 = v16_load_s8((const int8_t *)s);
        w->s1 = v16_load_s8((const int8_t *)s + 16);
    } else {
        w->d = v16_load_f16((const uint16_t *)s);
    }
}

static ALWAYS_INLINE bool group_has_min(const enum dtype type)
{
    return type == DTYPE_Q4_1 || type == DTYPE_Q4_K;
}

/* The minimum of each row in group g. */
static ALWAYS_INLINE v16 group_min(const enum dtype type, const uint8_t *tile,
                                   const struct group_layout *l, uint32_t g)
{
    const uint8_t *s = tile + l->s_offset + g * l->s_bytes;
    if (type == DTYPE_Q4_1)
        return v16_load_f16((const uint16_t *)s + 16);
    const uint16_t *d = (const uint16_t *)(tile + l->d_offset + g / SUPER_GROUPS * l->d_bytes);
    return v16_sub(v16_zero(), v16_mul(v16_load_f16(d + 16), v16_load_u8(s + 16)));
}

/* The exact integer product of token t with each row, as floats. */
static ALWAYS_INLINE v16 group_dot(const enum dtype type, const struct group16 *w,
                                   const struct act_group *a, uint32_t t)
{
    if (type == DTYPE_Q6_K) {
        v16i p0 = v16i_set1(a->h0[t]), p1 = v16i_set1(a->h1[t]);
        UNROLL for (uint32_t j = 0; j < 4; j++)
        {
            p0 = v16i_dot4(p0, w->q[j], a->q[t] + 4 * j);
            p1 = v16i_dot4(p1, w->q[j + 4], a->q[t] + 16 + 4 * j);
        }
        return v16_fma(v16_from_i(p0), w->s0, v16_mul(v16_from_i(p1), w->s1));
    }
    v16i p = v16i_set1(0);
    if (type == DTYPE_Q4_0)
        p = v16i_set1(a->n8[t]);
    if (type == DTYPE_Q8_0 && V16_Q8_BIASED)
        p = v16i_set1(a->n128[t]);
    UNROLL for (uint32_t j = 0; j < 8; j++)
    {
        if (type == DTYPE_Q8_0)
            p = v16i_dot4_q8(p, w->q[j], a->q[t] + 4 * j);
        else
            p = v16i_dot4(p, w->q[j], a->q[t] + 4 * j);
    }
    return v16_from_i(p);
}

static ALWAYS_INLINE void linear_store(const uint32_t n, const v16 *acc, float *out, size_t stride,
                                       uint32_t width)
{
    if (width == TILE_ROWS) {
        UNROLL for (uint32_t t = 0; t < n; t++) v16_store(out + t * stride, acc[t]);
    } else {
        UNROLL for (uint32_t t = 0; t < n; t++) v16_store_n(out + t * stride, acc[t], width);
    }
}

/* One tile and one packed block of input. */
struct q_block {
    const uint8_t *tile;
    size_t tile_stride; /* to the next one, which is prefetched */
    uint32_t cols;
    uint8_t *input;
    uint32_t rows; /* that the block is laid out for */
    float *out;    /* of the block's first row */
    size_t out_stride;
    uint32_t width;
};

/* n tokens from token t0 on. */
static ALWAYS_INLINE void q_tokens(const enum dtype type, const uint32_t n, const struct q_block *b,
                                   uint32_t t0)
{
    const struct group_layout l = group_layout(type, b->cols);
    const uint32_t groups = b->cols / GROUP;
    v16 acc[LINEAR_TOKENS];
    UNROLL for (uint32_t t = 0; t < n; t++) acc[t] = v16_zero();
    for (uint32_t g = 0; g < groups && group_has_min(type); g++) {
        const float *ds = act_group(b->input, b->rows, g).ds + t0;
        const v16 m = group_min(type, b->tile, &l, g);
        UNROLL for (uint32_t t = 0; t < n; t++) acc[t] = v16_fma(m, v16_set1(ds[t]), acc[t]);
    }
    for (uint32_t g = 0; g < groups; g++) {
        const struct act_group a = act_group(b->input, b->rows, g);
        struct group16 w;
        group_prefetch(b->tile + b->tile_stride, &l, g);
        group_load(type, b->tile, &l, g, &w);
        UNROLL for (uint32_t t = 0; t < n; t++)
        {
            v16 p = group_dot(type, &w, &a, t0 + t);
            acc[t] = v16_fma(p, v16_mul(w.d, v16_set1(a.d[t0 + t])), acc[t]);
        }
    }
    linear_store(n, acc, b->out + t0 * b->out_stride, b->out_stride, b->width);
}

static ALWAYS_INLINE v16 float_load(const enum dtype type, const uint8_t *tile, uint32_t k)
{
    if (type == DTYPE_F32)
        return v16_load((const float *)tile + (size_t)k * TILE_ROWS);
    const uint16_t *h = (const uint16_t *)tile + (size_t)k * TILE_ROWS;
    return type == DTYPE_F16 ? v16_load_f16(h) : v16_load_bf16(h);
}

/* n_tiles tiles times n tokens from token t0 of the block x: [cols][block_rows]. */
static ALWAYS_INLINE void f_tiles(const enum dtype type, const uint32_t n_tiles, const uint32_t n,
                                  const uint8_t *tile, size_t tile_stride, uint32_t cols,
                                  const float *x, uint32_t block_rows, float *out, size_t stride,
                                  uint32_t width)
{
    v16 acc[LINEAR_TOKENS];
    UNROLL for (uint32_t i = 0; i < n * n_tiles; i++) acc[i] = v16_zero();
    for (uint32_t k = 0; k < cols; k++) {
        UNROLL for (uint32_t i = 0; i < n_tiles; i++)
        {
            v16 w = float_load(type, tile + i * tile_stride, k);
            UNROLL for (uint32_t t = 0; t < n; t++)
            {
                v16 b = v16_set1(x[(size_t)k * block_rows + t]);
                acc[i * n + t] = v16_fma(w, b, acc[i * n + t]);
            }
        }
    }
    UNROLL for (uint32_t i = 0; i < n_tiles; i++)
    {
        uint32_t w = i + 1 == n_tiles ? width : TILE_ROWS;
        linear_store(n, acc + i * n, out + (size_t)i * TILE_ROWS, stride, w);
    }
}

/* The block's first n <= 16 tokens. */
static ALWAYS_INLINE void q_block(const enum dtype type, const struct q_block *b, uint32_t n)
{
    uint32_t t = 0;
    for (; t + LINEAR_TOKENS <= n; t += LINEAR_TOKENS)
        q_tokens(type, LINEAR_TOKENS, b, t);
    if (LINEAR_TOKENS > 8 && t + 8 <= n) {
        q_tokens(type, 8, b, t);
        t += 8;
    }
    if (LINEAR_TOKENS > 4 && t + 4 <= n) {
        q_tokens(type, 4, b, t);
        t += 4;
    }
    if (t + 2 <= n) {
        q_tokens(type, 2, b, t);
        t += 2;
    }
    if (t < n)
        q_tokens(type, 1, b, t);
}

static ALWAYS_INLINE void f_block(const enum dtype type, const uint8_t *tile, uint32_t cols,
                                  const float *x, uint32_t block_rows, float *out, size_t stride,
                                  uint32_t width)
{
    uint32_t t = 0;
    for (; t + LINEAR_TOKENS <= block_rows; t += LINEAR_TOKENS)
        f_tiles(type, 1, LINEAR_TOKENS, tile, 0, cols, x + t, block_rows, out + t * stride, stride,
                width);
    if (LINEAR_TOKENS > 4 && t + 8 <= block_rows) {
        f_tiles(type, 1, 8, tile, 0, cols, x + t, block_rows, out + t * stride, stride, width);
        t += 8;
    }
    if (LINEAR_TOKENS > 4 && t + 4 <= block_rows) {
        f_tiles(type, 1, 4, tile, 0, cols, x + t, block_rows, out + t * stride, stride, width);
        t += 4;
    }
    for (; t < block_rows; t++)
        f_tiles(type, 1, 1, tile, 0, cols, x + t, block_rows, out + t * stride, stride, width);
}

static ALWAYS_INLINE void linear_block_of(const enum dtype type, const struct linear_job *job,
                                          const struct tiles *w, uint32_t tile, uint32_t block,
                                          float *out, size_t stride, uint32_t width)
{
    const uint8_t *data = w->data + tile * w->stride;
    const uint32_t first = block * ACT_ROWS;
    const uint32_t rows = (uint32_t)u64_min(job->n_rows - first, ACT_ROWS);
    if (!tiles_quantized(type)) {
        f_block(type, data, w->cols, job->x + (size_t)first * w->cols, rows, out, stride, width);
        return;
    }
    const uint32_t capacity = act_rows(job->n_rows);
    const struct q_block b = {
        .tile = data,
        .tile_stride = w->stride,
        .cols = w->cols,
        .input = job->q + (size_t)block * (w->cols / GROUP) * act_group_bytes(capacity),
        .rows = capacity,
        .out = out,
        .out_stride = stride,
        .width = width,
    };
    q_block(type, &b, rows);
}

/* A tile of w times one packed block; out is the block's first row. */
static inline void linear_block(const struct linear_job *job, const struct tiles *w, uint32_t tile,
                                uint32_t block, float *out, size_t stride, uint32_t width)
{
    switch (w->dtype) {
#define X(id, name, elems, bytes)                                                                  \
    case DTYPE_##id:                                                                               \
        linear_block_of(DTYPE_##id, job, w, tile, block, out, stride, width);                      \
        break;
        LLMD_DTYPES(X)
#undef X
    case DTYPE_COUNT:
        break;
    }
}

/* out[rows][width] = silu(gate) * up */
static ALWAYS_INLINE void gate_up_block(const struct linear_job *job, uint32_t tile, uint32_t block,
                                        float *out, uint32_t width)
{
    float gate[ACT_ROWS][TILE_ROWS], up[ACT_ROWS][TILE_ROWS];
    const uint32_t rows = (uint32_t)u64_min(job->n_rows - block * ACT_ROWS, ACT_ROWS);
    linear_block(job, job->w, tile, block, gate[0], TILE_ROWS, TILE_ROWS);
    linear_block(job, job->up, tile, block, up[0], TILE_ROWS, TILE_ROWS);
    for (uint32_t r = 0; r < rows; r++) {
        v16 v = v16_mul(v16_silu(v16_load(gate[r])), v16_load(up[r]));
        if (width == TILE_ROWS)
            v16_store(out + r * job->out_stride, v);
        else
            v16_store_n(out + r * job->out_stride, v, width);
    }
}

static inline void kern_linear(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile)
{
    const uint32_t blocks = round_up_u32(job->n_rows, ACT_ROWS) / ACT_ROWS;
    for (uint32_t tile = first_tile; tile < end_tile; tile++) {
        const uint32_t col = tile * TILE_ROWS;
        const uint32_t width = (uint32_t)u64_min(job->w->rows - col, TILE_ROWS);
        for (uint32_t b = 0; b < blocks; b++) {
            float *out = job->out + (size_t)b * ACT_ROWS * job->out_stride + col;
            if (job->up)
                gate_up_block(job, tile, b, out, width);
            else
                linear_block(job, job->w, tile, b, out, job->out_stride, width);
        }
    }
}

/* Quantizes 32 values to one group of one token. */
static ALWAYS_INLINE void pack_group(const float *x, const struct act_group *g, uint32_t t)
{
    const v16 magic = v16_set1(V16_ROUND_MAGIC);
    v16 a = v16_load(x), b = v16_load(x + 16);
    float amax = v16_hmax(v16_max(v16_abs(a), v16_abs(b)));
    float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
    v16 qa = v16_add(v16_mul(a, v16_set1(inverse)), magic);
    v16 qb = v16_add(v16_mul(b, v16_set1(inverse)), magic);
    v16_store_low_bytes(g->q[t], qa);
    v16_store_low_bytes(g->q[t] + 16, qb);
    const int32_t s0 = bytes16_sum(g->q[t]), s1 = bytes16_sum(g->q[t] + 16);
    g->d[t] = amax / 127.0f;
    g->ds[t] = g->d[t] * (float)(s0 + s1);
    g->n8[t] = -8 * (s0 + s1);
    g->n128[t] = -128 * (s0 + s1);
    g->h0[t] = -32 * s0;
    g->h1[t] = -32 * s1;
}

static inline void kern_pack_q8(const float *x, size_t stride, uint32_t n_rows, uint32_t cols,
                                uint32_t rows, uint8_t *out)
{
    for (uint32_t g = 0; g < cols / GROUP; g++) {
        const struct act_group a = act_group(out, rows, g);
        for (uint32_t r = 0; r < n_rows; r++)
            pack_group(x + r * stride + (size_t)g * GROUP, &a, r);
    }
}

static inline void kern_pack_f32(const float *x, size_t stride, uint32_t n_rows, uint32_t cols,
                                 float *out)
{
    for (uint32_t r = 0; r < n_rows; r++)
        for (uint32_t k = 0; k < cols; k++)
            out[(size_t)k * n_rows + r] = x[r * stride + k];
}
