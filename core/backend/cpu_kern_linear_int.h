/* cpu_kern_linear_int.h - the matrix products: packed input times packed weights.
 *
 * Written once over cpu_vec_int.h. A kernel body takes the type and the numbers of tokens and
 * tiles as constants and is inlined for each, so that accumulators and the unpacked group stay in
 * registers. Quantized types: one group of 16 rows is unpacked once and used for up to 16 tokens.
 * Float types: two tiles share the loads of 8 tokens, and give a single token's sums, each a chain
 * of dependent additions, company. (Four would compute faster, but memory is slower with as many
 * streams.)
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

enum {
    Q_TOKENS = V16_REGISTERS >= 32 ? 16 : 4, /* accumulators beside an unpacked group */
    F_TOKENS = V16_REGISTERS >= 32 ? 8 : 2,  /* times two accumulators */
    MAX_TILES = 2,
};

/* A tile and where its product with a block goes. */
struct tile_ref {
    const uint8_t *data;
    const uint8_t *next; /* what will be wanted after it */
    float *out;          /* of the block's first row */
    uint32_t width;      /* columns to write */
};

/* A packed block of input. */
struct block_ref {
    uint32_t cols;
    uint32_t n_rows; /* in use, at most 16 */
    uint8_t *q;      /* quantized, laid out for q_rows */
    uint32_t q_rows;
    const float *x; /* [cols][n_rows] */
    size_t out_stride;
};

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
    UNROLL for (size_t i = 0; i < l->q_bytes; i += 64) v16_prefetch(q + i);
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

/* The group's input from one token on. */
struct act_tokens {
    const int8_t *q; /* [..][GROUP] */
    const float *d;
    const int32_t *bias, *bias1; /* what the sums start with, by the weight's type */
};

static ALWAYS_INLINE struct act_tokens act_tokens(const enum dtype type, const struct block_ref *b,
                                                  uint32_t g, uint32_t t)
{
    const struct act_group a = act_group(b->q, b->q_rows, g);
    const int32_t *bias = type == DTYPE_Q4_0 ? a.n8 : type == DTYPE_Q8_0 ? a.n128 : a.h0;
    return (struct act_tokens){.q = one_pointer(a.q[t]),
                               .d = one_pointer(a.d + t),
                               .bias = one_pointer(bias + t),
                               .bias1 = one_pointer(a.h1 + t)};
}

/* The exact integer product of token t with each row, as floats. */
static ALWAYS_INLINE v16 group_dot(const enum dtype type, const struct group16 *w,
                                   const struct act_tokens *a, uint32_t t)
{
    const int8_t *q = a->q + (size_t)t * GROUP;
    if (type == DTYPE_Q6_K) {
        v16i p0 = v16i_set1(a->bias[t]), p1 = v16i_set1(a->bias1[t]);
        UNROLL for (uint32_t j = 0; j < 4; j++)
        {
            p0 = v16i_dot4(p0, w->q[j], q + 4 * j);
            p1 = v16i_dot4(p1, w->q[j + 4], q + 16 + 4 * j);
        }
        return v16_fma(v16_from_i(p0), w->s0, v16_mul(v16_from_i(p1), w->s1));
    }
    const bool biased = type == DTYPE_Q4_0 || (type == DTYPE_Q8_0 && V16_Q8_BIASED);
    v16i p = v16i_set1(biased ? a->bias[t] : 0);
    if (type != DTYPE_Q8_0)
        return v16_from_i(v16i_dot32_nibbles(p, w->q, q));
    UNROLL for (uint32_t j = 0; j < 8; j++) p = v16i_dot4_q8(p, w->q[j], q + 4 * j);
    return v16_from_i(p);
}

static ALWAYS_INLINE void linear_store(const uint32_t n, const v16 *acc,
                                       const struct tile_ref *tile, uint32_t t0, size_t stride)
{
    float *out = tile->out + t0 * stride;
    if (tile->width == TILE_ROWS) {
        UNROLL for (uint32_t t = 0; t < n; t++) v16_store(out + t * stride, acc[t]);
    } else {
        UNROLL for (uint32_t t = 0; t < n; t++) v16_store_n(out + t * stride, acc[t], tile->width);
    }
}

/* n tokens from token t0 on. */
static ALWAYS_INLINE void q_tokens(const enum dtype type, const uint32_t n,
                                   const struct tile_ref *tile, const struct block_ref *b,
                                   uint32_t t0)
{
    const struct group_layout l = group_layout(type, b->cols);
    const uint32_t groups = b->cols / GROUP;
    v16 acc[Q_TOKENS];
    UNROLL for (uint32_t t = 0; t < n; t++) acc[t] = v16_zero();
    for (uint32_t g = 0; g < groups && group_has_min(type); g++) {
        const float *ds = one_pointer(act_group(b->q, b->q_rows, g).ds + t0);
        const v16 m = group_min(type, tile->data, &l, g);
        UNROLL for (uint32_t t = 0; t < n; t++) acc[t] = v16_fma(m, v16_set1(ds[t]), acc[t]);
    }
    for (uint32_t g = 0; g < groups; g++) {
        const struct act_tokens a = act_tokens(type, b, g, t0);
        struct group16 w;
        group_prefetch(tile->next, &l, g);
        group_load(type, tile->data, &l, g, &w);
        UNROLL for (uint32_t t = 0; t < n; t++)
        {
            v16 p = group_dot(type, &w, &a, t);
            acc[t] = v16_fma(p, v16_mul(w.d, v16_set1(a.d[t])), acc[t]);
        }
    }
    linear_store(n, acc, tile, t0, b->out_stride);
}

static ALWAYS_INLINE void q_block(const enum dtype type, const struct tile_ref *tile,
                                  const struct block_ref *b)
{
    const uint32_t n = b->n_rows;
    uint32_t t = 0;
    for (; t + Q_TOKENS <= n; t += Q_TOKENS)
        q_tokens(type, Q_TOKENS, tile, b, t);
    if (Q_TOKENS > 8 && t + 8 <= n) {
        q_tokens(type, 8, tile, b, t);
        t += 8;
    }
    if (Q_TOKENS > 4 && t + 4 <= n) {
        q_tokens(type, 4, tile, b, t);
        t += 4;
    }
    if (t + 2 <= n) {
        q_tokens(type, 2, tile, b, t);
        t += 2;
    }
    if (t < n)
        q_tokens(type, 1, tile, b, t);
}

static ALWAYS_INLINE v16 float_load(const enum dtype type, const uint8_t *tile, uint32_t k)
{
    if (type == DTYPE_F32)
        return v16_load((const float *)tile + (size_t)k * TILE_ROWS);
    const uint16_t *h = (const uint16_t *)tile + (size_t)k * TILE_ROWS;
    return type == DTYPE_F16 ? v16_load_f16(h) : v16_load_bf16(h);
}

/* n tokens from token t0 on, times nt tiles. */
static ALWAYS_INLINE void f_tokens(const enum dtype type, const uint32_t nt, const uint32_t n,
                                   const struct tile_ref *tiles, const struct block_ref *b,
                                   uint32_t t0)
{
    const size_t k_bytes = (type == DTYPE_F32 ? 4 : 2) * TILE_ROWS;
    v16 acc[MAX_TILES * F_TOKENS];
    UNROLL for (uint32_t i = 0; i < n * nt; i++) acc[i] = v16_zero();
    for (uint32_t k = 0; k < b->cols; k++) {
        const float *x = one_pointer(b->x + (size_t)k * b->n_rows + t0);
        v16 w[MAX_TILES];
        UNROLL for (uint32_t i = 0; i < nt; i++)
        {
            v16_prefetch(tiles[i].next + k * k_bytes);
            w[i] = float_load(type, tiles[i].data, k);
        }
        UNROLL for (uint32_t t = 0; t < n; t++)
        {
            const v16 s = v16_set1(x[t]);
            UNROLL for (uint32_t i = 0; i < nt; i++) acc[i * n + t] =
                v16_fma(w[i], s, acc[i * n + t]);
        }
    }
    UNROLL for (uint32_t i = 0; i < nt; i++)
        linear_store(n, acc + i * n, &tiles[i], t0, b->out_stride);
}

static ALWAYS_INLINE void f_block(const enum dtype type, const uint32_t nt,
                                  const struct tile_ref *tiles, const struct block_ref *b)
{
    const uint32_t n = b->n_rows;
    uint32_t t = 0;
    for (; t + F_TOKENS <= n; t += F_TOKENS)
        f_tokens(type, nt, F_TOKENS, tiles, b, t);
    if (F_TOKENS > 4 && t + 4 <= n) {
        f_tokens(type, nt, 4, tiles, b, t);
        t += 4;
    }
    for (; t < n; t++)
        f_tokens(type, nt, 1, tiles, b, t);
}

static ALWAYS_INLINE void linear_block_of(const enum dtype type, const struct tile_ref *tiles,
                                          uint32_t n_tiles, const struct block_ref *b)
{
    if (tiles_quantized(type)) {
        for (uint32_t i = 0; i < n_tiles; i++)
            q_block(type, &tiles[i], b);
    } else if (n_tiles == MAX_TILES) {
        f_block(type, MAX_TILES, tiles, b);
    } else {
        f_block(type, 1, tiles, b);
    }
}

/* Up to MAX_TILES tiles of one type times one block. */
static inline void linear_block(enum dtype type, const struct tile_ref *tiles, uint32_t n_tiles,
                                const struct block_ref *b)
{
    switch (type) {
#define X(id, name, elems, bytes)                                                                  \
    case DTYPE_##id:                                                                               \
        linear_block_of(DTYPE_##id, tiles, n_tiles, b);                                            \
        break;
        LLMD_DTYPES(X)
#undef X
    case DTYPE_COUNT:
        break;
    }
}

static inline struct tile_ref tile_ref(const struct tiles *w, uint32_t tile, uint32_t ahead,
                                       float *out)
{
    const uint8_t *data = w->data + tile * w->stride;
    const uint32_t left = w->rows - tile * TILE_ROWS;
    return (struct tile_ref){.data = data,
                             .next = data + ahead * w->stride,
                             .out = out,
                             .width = left < TILE_ROWS ? left : TILE_ROWS};
}

static inline struct block_ref block_ref(const struct linear_job *job, uint32_t block)
{
    const uint32_t first = block * ACT_ROWS, cols = job->w->cols;
    struct block_ref b = {.cols = cols, .q_rows = act_rows(job->n_rows)};
    b.n_rows = (uint32_t)u64_min(job->n_rows - first, ACT_ROWS);
    b.q = job->q + (size_t)block * (cols / GROUP) * act_group_bytes(b.q_rows);
    b.x = job->x + (size_t)first * cols;
    b.out_stride = job->out_stride;
    return b;
}

/* A gate tile and its up tile times one block; out[rows][width] = silu(gate) * up. */
static inline void gate_up_block(const struct linear_job *job, uint32_t tile, struct block_ref b,
                                 float *out)
{
    float y[2][ACT_ROWS][TILE_ROWS];
    struct tile_ref pair[2] = {tile_ref(job->w, tile, 1, y[0][0]),
                               tile_ref(job->up, tile, 1, y[1][0])};
    const uint32_t width = pair[0].width;
    const size_t stride = b.out_stride;
    pair[0].width = pair[1].width = b.out_stride = TILE_ROWS;
    if (job->w->dtype == job->up->dtype) {
        linear_block(job->w->dtype, pair, 2, &b);
    } else {
        linear_block(job->w->dtype, &pair[0], 1, &b);
        linear_block(job->up->dtype, &pair[1], 1, &b);
    }
    for (uint32_t r = 0; r < b.n_rows; r++) {
        v16 v = v16_mul(v16_silu(v16_load(y[0][r])), v16_load(y[1][r]));
        if (width == TILE_ROWS)
            v16_store(out + r * stride, v);
        else
            v16_store_n(out + r * stride, v, width);
    }
}

static inline void kern_linear(const struct linear_job *job, uint32_t first_tile, uint32_t end_tile)
{
    const uint32_t n_blocks = round_up_u32(job->n_rows, ACT_ROWS) / ACT_ROWS;
    const uint32_t step = job->up || tiles_quantized(job->w->dtype) ? 1 : MAX_TILES;
    for (uint32_t tile = first_tile; tile < end_tile; tile += step) {
        const uint32_t n = (uint32_t)u64_min(end_tile - tile, step);
        for (uint32_t block = 0; block < n_blocks; block++) {
            const struct block_ref b = block_ref(job, block);
            float *out =
                job->out + (size_t)block * ACT_ROWS * job->out_stride + (size_t)tile * TILE_ROWS;
            struct tile_ref tiles[MAX_TILES];
            if (job->up) {
                gate_up_block(job, tile, b, out);
                continue;
            }
            for (uint32_t i = 0; i < n; i++)
                tiles[i] = tile_ref(job->w, tile + i, n, out + (size_t)i * TILE_ROWS);
            linear_block(job->w->dtype, tiles, n, &b);
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
    for (uint32_t r = 0; r < n_rows; r++)
        for (uint32_t g = 0; g < cols / GROUP; g++) {
            const struct act_group a = act_group(out, rows, g);
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
