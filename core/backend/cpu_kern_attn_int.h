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
#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_vec_int.h"

enum {
    SCORE_QUERIES = V16_REGISTERS >= 32 ? 12 : 4, /* accumulators of a block of scores */
    SCORE_BLOCKS = 4,                             /* KV blocks at once when queries are few */
    MIX_QUERIES = V16_REGISTERS >= 32 ? 6 : 2,    /* times MIX_VECTORS accumulators of values */
    MIX_VECTORS = V16_REGISTERS >= 32 ? 4 : 2,
};

struct attn_work {
    const struct attn_job *job;
    uint32_t n_queries; /* query i: row i / n_heads, head i % n_heads */
    uint32_t context;   /* positions that the last row sees */
    size_t score_stride;
    float *q;      /* [head_dim][n_queries], scaled */
    float *keys;   /* [head_dim][16] one block in F32 */
    float *scores; /* [n_queries][score_stride] */
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
    v16 acc[SCORE_QUERIES > SCORE_BLOCKS * 3 ? SCORE_QUERIES : SCORE_BLOCKS * 3];
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

/* Many queries: each block of keys is converted once and used by all of them. */
static ALWAYS_INLINE void scores_wide(const struct attn_work *w, const bool f32)
{
    const uint32_t hd = w->job->layout->head_dim;
    for (uint32_t t = 0; t < w->context; t += KV_BLOCK_TOKENS) {
        const uint8_t *keys = attn_block(w->job, t / KV_BLOCK_TOKENS);
        if (!f32) {
            for (uint32_t d = 0; d < hd; d++)
                v16_store(w->keys + (size_t)d * KV_BLOCK_TOKENS,
                          attn_load(f32, keys, (size_t)d * KV_BLOCK_TOKENS));
            keys = (const uint8_t *)w->keys;
        }
        uint32_t i = 0;
        for (; i + SCORE_QUERIES <= w->n_queries; i += SCORE_QUERIES)
            score_tile(w, true, SCORE_QUERIES, 1, &keys, i, t);
        score_rest(w, true, 1, &keys, i, t);
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

/* acc[a][c] += p[t] * v[t][c] for the tokens from..end-1, which lie in one block. */
static ALWAYS_INLINE void mix_tokens(const bool f32, const uint32_t nq, const uint32_t nv,
                                     const uint8_t *values, uint32_t hd, uint32_t from,
                                     uint32_t end, const float *p, size_t p_stride, v16 *acc)
{
    for (uint32_t t = from; t < end; t++) {
        v16 v[MIX_VECTORS];
        UNROLL for (uint32_t c = 0; c < nv; c++) v[c] =
            attn_load(f32, values, (size_t)(t % KV_BLOCK_TOKENS) * hd + 16 * c);
        UNROLL for (uint32_t a = 0; a < nq; a++)
        {
            v16 s = v16_set1(p[a * p_stride + t]);
            UNROLL for (uint32_t c = 0; c < nv; c++) acc[a * nv + c] =
                v16_fma(s, v[c], acc[a * nv + c]);
        }
    }
}

/* All tokens from..end-1, block by block. */
static ALWAYS_INLINE void mix_range(const struct attn_work *w, const bool f32, const uint32_t nq,
                                    const uint32_t nv, uint32_t d0, uint32_t from, uint32_t end,
                                    const float *p, v16 *acc)
{
    const uint32_t hd = w->job->layout->head_dim;
    const size_t size = f32 ? sizeof(float) : sizeof(uint16_t);
    while (from < end) {
        uint32_t b = from / KV_BLOCK_TOKENS;
        uint32_t stop = (uint32_t)u64_min(end, (b + 1) * KV_BLOCK_TOKENS);
        const uint8_t *values = attn_block(w->job, b) + ((size_t)hd * KV_BLOCK_TOKENS + d0) * size;
        mix_tokens(f32, nq, nv, values, hd, from, stop, p, w->score_stride, acc);
        from = stop;
    }
}

/* Values of nq queries from i on, columns d0 to d0 + 16 nv. */
static ALWAYS_INLINE void mix_tile(const struct attn_work *w, const bool f32, const uint32_t nq,
                                   const uint32_t nv, uint32_t i, uint32_t d0, const float *sums)
{
    const struct attn_job *j = w->job;
    const float *p = w->scores + i * w->score_stride;
    const uint32_t common = attn_visible(w, i);
    v16 acc[MIX_QUERIES * MIX_VECTORS];
    UNROLL for (uint32_t a = 0; a < nq * nv; a++) acc[a] = v16_zero();
    mix_range(w, f32, nq, nv, d0, 0, common, p, acc);
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        const uint32_t row = (i + a) / j->n_heads, head = (i + a) % j->n_heads;
        const uint32_t end = attn_visible(w, i + a);
        if (end > common)
            mix_range(w, f32, 1, nv, d0, common, end, p + a * w->score_stride, acc + a * nv);
        float *out = j->out + row * j->out_stride + (size_t)head * j->layout->head_dim + d0;
        const v16 inverse = v16_set1(1.0f / sums[i + a]);
        UNROLL for (uint32_t c = 0; c < nv; c++)
            v16_store(out + 16 * c, v16_mul(acc[a * nv + c], inverse));
    }
}

static ALWAYS_INLINE void mix_columns(const struct attn_work *w, const bool f32, const uint32_t nv,
                                      uint32_t d0, const float *sums)
{
    uint32_t i = 0;
    for (; i + MIX_QUERIES <= w->n_queries; i += MIX_QUERIES)
        mix_tile(w, f32, MIX_QUERIES, nv, i, d0, sums);
    if (MIX_QUERIES > 3 && i + 3 <= w->n_queries) {
        mix_tile(w, f32, 3, nv, i, d0, sums);
        i += 3;
    }
    for (; i < w->n_queries; i++)
        mix_tile(w, f32, 1, nv, i, d0, sums);
}

static ALWAYS_INLINE void attn_run(const struct attn_work *w, const bool f32)
{
    const uint32_t hd = w->job->layout->head_dim;
    float *sums = w->q; /* the queries are no longer needed then */
    attn_load_queries(w);
    if (w->n_queries < SCORE_QUERIES)
        scores_narrow(w, f32);
    else
        scores_wide(w, f32);
    for (uint32_t i = 0; i < w->n_queries; i++)
        sums[i] = softmax_row(w->scores + i * w->score_stride, attn_visible(w, i));
    uint32_t d0 = 0;
    for (; d0 + 16 * MIX_VECTORS <= hd; d0 += 16 * MIX_VECTORS)
        mix_columns(w, f32, MIX_VECTORS, d0, sums);
    for (; d0 < hd; d0 += 32)
        mix_columns(w, f32, 2, d0, sums);
}

static void kern_attention(const struct attn_job *job)
{
    struct attn_work w = {.job = job, .n_queries = job->n_rows * job->n_heads};
    w.context = job->first_pos + job->n_rows;
    w.score_stride = round_up_u32(w.context, KV_BLOCK_TOKENS);
    w.keys = job->scratch;
    w.q = w.keys + (size_t)job->layout->head_dim * KV_BLOCK_TOKENS;
    w.scores = w.q + (size_t)w.n_queries * job->layout->head_dim;
    if (job->layout->f32)
        attn_run(&w, true);
    else
        attn_run(&w, false);
}
