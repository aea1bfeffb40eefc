/* cpu_kern_attn_int.h - attention of a few queries that share a KV head, over paged keys, values.
 *
 * Two passes with all scores of a query in scratch:
 *   scores[i][t] = sum over d of k[t][d] * (q[i][d] * scale)     lanes are tokens
 *   p = exp(scores - max); out[i][d] = (sum over t of p[t] * v[t][d]) / sum of p   lanes are d
 * A query sees the tokens up to its own position and touches no other value.
 *
 * Order  each sum over d and over t runs ascending, with fma; the sum of p in 16 lanes by position
 *        mod 16, folded in halves: nothing depends on which queries share a job. */
#pragma once
#include <string.h>

#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_vec_int.h"

enum {
    SCORE_QUERIES = V16_REGISTERS >= 32 ? 12 : 4, /* accumulators of a block of scores */
    SCORE_WIDE_BLOCKS = V16_REGISTERS >= 32 ? 2 : 1,
    SCORE_BLOCKS = 4,                          /* KV blocks at once when queries are few */
    MIX_QUERIES = V16_REGISTERS >= 32 ? 6 : 2, /* times MIX_VECTORS accumulators of values */
    MIX_VECTORS = V16_REGISTERS >= 32 ? 4 : 2,
};

struct attn_work {
    const struct attn_job *job;
    uint32_t n_queries; /* query i: row i / n_heads, head i % n_heads */
    uint32_t context;   /* positions that the last row sees */
    size_t score_stride;
    float *q;        /* [head_dim][n_queries], scaled */
    float *expanded; /* SCORE_WIDE_BLOCKS blocks of keys, or one of values, in F32 */
    float *mixed;    /* [n_queries][head_dim] sums of values so far */
    float *scores;   /* [n_queries][score_stride] */
};

static inline const uint8_t *attn_block(const struct attn_job *j, uint32_t b)
{
    const struct attn_layout *l = j->layout;
    return j->kv + j->block_table[b] * l->kv_block_bytes + j->kv_head * l->kv_head_bytes;
}

static inline uint32_t attn_visible(const struct attn_work *w, uint32_t query)
{
    return w->job->first_pos + query / w->job->n_heads + 1;
}

static ALWAYS_INLINE v16 attn_load(const bool f32, const uint8_t *p, size_t i)
{
    return f32 ? v16_load((const float *)p + i) : v16_load_f16((const uint16_t *)p + i);
}

static inline void attn_load_queries(const struct attn_work *w)
{
    const struct attn_job *j = w->job;
    const uint32_t hd = j->layout->head_dim;
    for (uint32_t i = 0; i < w->n_queries; i++) {
        const float *q = j->q + i / j->n_heads * j->q_stride + (size_t)(i % j->n_heads) * hd;
        for (uint32_t d = 0; d < hd; d++)
            w->q[(size_t)d * w->n_queries + i] = q[d] * j->layout->scale;
    }
}

/* Scores of nq queries from i on, against nb blocks of keys. */
static ALWAYS_INLINE void score_tile(const struct attn_work *w, const bool f32, const uint32_t nq,
                                     const uint32_t nb, const uint8_t *const *keys, uint32_t i,
                                     uint32_t first_token)
{
    const uint32_t hd = w->job->layout->head_dim;
    v16 acc[SCORE_QUERIES * SCORE_WIDE_BLOCKS + SCORE_BLOCKS * 3]; /* the larger would do */
    UNROLL for (uint32_t a = 0; a < nq * nb; a++) acc[a] = v16_zero();
    for (uint32_t d = 0; d < hd; d++) {
        const float *q = w->q + (size_t)d * w->n_queries + i;
        UNROLL for (uint32_t b = 0; b < nb; b++)
        {
            v16 k = attn_load(f32, keys[b], (size_t)d * KV_BLOCK_TOKENS);
            UNROLL for (uint32_t a = 0; a < nq; a++) acc[b * nq + a] =
                v16_fma(k, v16_set1(q[a]), acc[b * nq + a]);
        }
    }
    UNROLL for (uint32_t b = 0; b < nb; b++)
    {
        UNROLL for (uint32_t a = 0; a < nq; a++) v16_store(
            w->scores + (i + a) * w->score_stride + first_token + (size_t)b * KV_BLOCK_TOKENS,
            acc[b * nq + a]);
    }
}

/* Queries from i on, fewer than SCORE_QUERIES, against nb blocks. */
static ALWAYS_INLINE void score_rest(const struct attn_work *w, const bool f32, const uint32_t nb,
                                     const uint8_t *const *keys, uint32_t i, uint32_t first_token)
{
    for (; i + 3 <= w->n_queries; i += 3)
        score_tile(w, f32, 3, nb, keys, i, first_token);
    for (; i < w->n_queries; i++)
        score_tile(w, f32, 1, nb, keys, i, first_token);
}

/* n = head_dim * 16 keys or values of a block as F32, in scratch unless they are F32 already. */
static ALWAYS_INLINE const float *attn_expand(const bool f32, const uint8_t *p, size_t n,
                                              float *scratch)
{
    if (f32)
        return (const float *)p;
    for (size_t i = 0; i < n; i += 16)
        v16_store(scratch + i, v16_load_f16((const uint16_t *)p + i));
    return scratch;
}

/* Many queries: each block of keys is converted once and used by all of them. */
static ALWAYS_INLINE void scores_wide(const struct attn_work *w, const bool f32)
{
    const size_t n = (size_t)w->job->layout->head_dim * KV_BLOCK_TOKENS;
    const uint32_t step = SCORE_WIDE_BLOCKS * KV_BLOCK_TOKENS;
    for (uint32_t t = 0; t < w->context; t += step) {
        const uint32_t left = w->score_stride - t;
        const uint8_t *keys[SCORE_WIDE_BLOCKS] = {0};
        for (uint32_t b = 0; b < SCORE_WIDE_BLOCKS && b * KV_BLOCK_TOKENS < left; b++)
            keys[b] = (const uint8_t *)attn_expand(f32, attn_block(w->job, t / KV_BLOCK_TOKENS + b),
                                                   n, w->expanded + b * n);
        uint32_t i = 0;
        if (left >= step)
            for (; i + SCORE_QUERIES <= w->n_queries; i += SCORE_QUERIES)
                score_tile(w, true, SCORE_QUERIES, SCORE_WIDE_BLOCKS, keys, i, t);
        else
            for (; i + SCORE_QUERIES <= w->n_queries; i += SCORE_QUERIES)
                score_tile(w, true, SCORE_QUERIES, 1, keys, i, t);
        for (uint32_t b = 0; b < SCORE_WIDE_BLOCKS && b * KV_BLOCK_TOKENS < left; b++)
            score_rest(w, true, 1, keys + b, i, t + b * KV_BLOCK_TOKENS);
    }
}

/* Few queries: several blocks at a time keep enough sums in flight. */
static ALWAYS_INLINE void scores_narrow(const struct attn_work *w, const bool f32)
{
    const uint32_t n_blocks = round_up_u32(w->context, KV_BLOCK_TOKENS) / KV_BLOCK_TOKENS;
    const uint8_t *keys[SCORE_BLOCKS];
    uint32_t b = 0;
    for (; b + SCORE_BLOCKS <= n_blocks; b += SCORE_BLOCKS) {
        for (uint32_t c = 0; c < SCORE_BLOCKS; c++)
            keys[c] = attn_block(w->job, b + c);
        score_rest(w, f32, SCORE_BLOCKS, keys, 0, b * KV_BLOCK_TOKENS);
    }
    for (; b < n_blocks; b++) {
        keys[0] = attn_block(w->job, b);
        score_rest(w, f32, 1, keys, 0, b * KV_BLOCK_TOKENS);
    }
}

/* Turns n scores into exp(s - max), zero up to the vector's end, and returns their sum. */
static inline float softmax_row(float *s, uint32_t n)
{
    const uint32_t full = n / 16 * 16;
    v16 top = v16_set1(s[0]);
    for (uint32_t t = 0; t < full; t += 16)
        top = v16_max(top, v16_load(s + t));
    if (full < n)
        top = v16_max(top, v16_keep_n(v16_load(s + full), v16_set1(s[0]), n - full));
    top = v16_set1(v16_hmax(top));
    v16 sum = v16_zero();
    for (uint32_t t = 0; t < full; t += 16) {
        v16 p = v16_exp(v16_sub(v16_load(s + t), top));
        v16_store(s + t, p);
        sum = v16_add(sum, p);
    }
    if (full < n) {
        v16 p = v16_exp(v16_sub(v16_load(s + full), top));
        p = v16_keep_n(p, v16_zero(), n - full);
        v16_store(s + full, p);
        sum = v16_add(sum, p);
    }
    return v16_sum(sum);
}

/* acc[a][c] += p[a][t] * v[t][c] for n tokens; the rows of v are hd apart. */
static ALWAYS_INLINE void mix_tokens(const bool f32, const uint32_t nq, const uint32_t nv,
                                     const uint8_t *v, uint32_t hd, uint32_t n, const float *p,
                                     size_t p_stride, v16 *acc)
{
    for (uint32_t t = 0; t < n; t++) {
        v16 row[MIX_VECTORS];
        UNROLL for (uint32_t c = 0; c < nv; c++) row[c] =
            attn_load(f32, v, (size_t)t * hd + 16 * c);
        UNROLL for (uint32_t a = 0; a < nq; a++)
        {
            v16 s = v16_set1(p[a * p_stride + t]);
            UNROLL for (uint32_t c = 0; c < nv; c++) acc[a * nv + c] =
                v16_fma(s, row[c], acc[a * nv + c]);
        }
    }
}

/* Adds n tokens of one block, from position t on, to the sums of nq queries from i on. */
static ALWAYS_INLINE void mix_tile(const struct attn_work *w, const bool f32, const uint32_t nq,
                                   const uint32_t nv, uint32_t i, uint32_t d, const uint8_t *v,
                                   uint32_t t, uint32_t n)
{
    const uint32_t hd = w->job->layout->head_dim;
    float *sums = w->mixed + (size_t)i * hd + d;
    v16 acc[MIX_QUERIES * MIX_VECTORS];
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        UNROLL for (uint32_t c = 0; c < nv; c++) acc[a * nv + c] =
            v16_load(sums + (size_t)a * hd + 16 * c);
    }
    mix_tokens(f32, nq, nv, v + d * (f32 ? sizeof(float) : sizeof(uint16_t)), hd, n,
               w->scores + i * w->score_stride + t, w->score_stride, acc);
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        UNROLL for (uint32_t c = 0; c < nv; c++)
            v16_store(sums + (size_t)a * hd + 16 * c, acc[a * nv + c]);
    }
}

/* As mix_tile, for the queries from..end-1 and every column. */
static ALWAYS_INLINE void mix_block(const struct attn_work *w, const bool f32, uint32_t from,
                                    uint32_t end, const uint8_t *v, uint32_t t, uint32_t n)
{
    const uint32_t hd = w->job->layout->head_dim;
    for (uint32_t d = 0; d < hd; d += 16 * MIX_VECTORS) {
        const bool whole = d + 16 * MIX_VECTORS <= hd;
        uint32_t i = from;
        if (!whole) { /* 32 columns are left */
            for (; i < end; i++)
                mix_tile(w, f32, 1, 2, i, d, v, t, n);
            break;
        }
        for (; i + MIX_QUERIES <= end; i += MIX_QUERIES)
            mix_tile(w, f32, MIX_QUERIES, MIX_VECTORS, i, d, v, t, n);
        if (MIX_QUERIES > 3 && i + 3 <= end) {
            mix_tile(w, f32, 3, MIX_VECTORS, i, d, v, t, n);
            i += 3;
        }
        for (; i < end; i++)
            mix_tile(w, f32, 1, MIX_VECTORS, i, d, v, t, n);
    }
}

/* Sums of values, block by block. In the last blocks the rows see different numbers of tokens:
 * what all of them see is done together, the rest row by row. */
static ALWAYS_INLINE void mix(const struct attn_work *w, const bool f32)
{
    const struct attn_job *j = w->job;
    const size_t n = (size_t)j->layout->head_dim * KV_BLOCK_TOKENS;
    const size_t size = f32 ? sizeof(float) : sizeof(uint16_t);
    const bool wide = w->n_queries > MIX_QUERIES;
    memset(w->mixed, 0, (size_t)w->n_queries * j->layout->head_dim * sizeof(float));
    for (uint32_t t = 0; t < w->context; t += KV_BLOCK_TOKENS) {
        const uint8_t *v = attn_block(j, t / KV_BLOCK_TOKENS) + n * size;
        const uint32_t end = (uint32_t)u64_min(t + KV_BLOCK_TOKENS, w->context);
        if (wide)
            v = (const uint8_t *)attn_expand(f32, v, n, w->expanded);
        if (end <= j->first_pos + 1) {
            if (wide)
                mix_block(w, true, 0, w->n_queries, v, t, end - t);
            else
                mix_block(w, f32, 0, w->n_queries, v, t, end - t);
            continue;
        }
        for (uint32_t r = 0; r < j->n_rows; r++) {
            const uint32_t seen = (uint32_t)u64_min(end, j->first_pos + r + 1);
            if (seen <= t)
                continue;
            if (wide)
                mix_block(w, true, r * j->n_heads, (r + 1) * j->n_heads, v, t, seen - t);
            else
                mix_block(w, f32, r * j->n_heads, (r + 1) * j->n_heads, v, t, seen - t);
        }
    }
}

static ALWAYS_INLINE void attn_run(const struct attn_work *w, const bool f32)
{
    const struct attn_job *j = w->job;
    const uint32_t hd = j->layout->head_dim;
    float *sums = w->q; /* the queries are no longer needed then */
    attn_load_queries(w);
    if (w->n_queries < SCORE_QUERIES)
        scores_narrow(w, f32);
    else
        scores_wide(w, f32);
    for (uint32_t i = 0; i < w->n_queries; i++)
        sums[i] = softmax_row(w->scores + i * w->score_stride, attn_visible(w, i));
    mix(w, f32);
    for (uint32_t i = 0; i < w->n_queries; i++) {
        float *out = j->out + i / j->n_heads * j->out_stride + (size_t)(i % j->n_heads) * hd;
        const v16 inverse = v16_set1(1.0f / sums[i]);
        for (uint32_t d = 0; d < hd; d += 16)
            v16_store(out + d, v16_mul(v16_load(w->mixed + (size_t)i * hd + d), inverse));
    }
}

static inline void kern_attention(const struct attn_job *job)
{
    struct attn_work w = {.job = job, .n_queries = job->n_rows * job->n_heads};
    w.context = job->first_pos + job->n_rows;
    w.score_stride = round_up_u32(w.context, KV_BLOCK_TOKENS);
    w.expanded = job->scratch;
    w.mixed = w.expanded + (size_t)2 * job->layout->head_dim * KV_BLOCK_TOKENS;
    w.q = w.mixed + (size_t)w.n_queries * job->layout->head_dim;
    w.scores = w.q + (size_t)w.n_queries * job->layout->head_dim;
    if (job->layout->f32)
        attn_run(&w, true);
    else
        attn_run(&w, false);
}
