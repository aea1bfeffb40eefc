/* cpu_kern_attn_int.h - attention of a few queries that share a KV head, over paged keys, values.
 *
 * Two passes with all scores of a query in memory:
 *   scores[i][t] = sum over d of k[t][d] * (q[i][d] * scale)     lanes are tokens
 *   p = exp(scores - max); out[i][d] = (sum over t of p[t] * v[t][d]) / sum of p   lanes are d
 * A query sees the tokens up to its own position, or as many of the last of them as the window
 * says, and touches no other value.
 *
 * With many queries (a prefill) a block of keys or values is converted to F32 once for all of
 * them. With few (a decode) it is used as it lies, several blocks at a time, with the next ones
 * asked for in advance.
 *
 * Order  each sum over d and over t runs ascending, with fma; the sum of p in 16 lanes by position
 *        mod 16, folded in halves: nothing depends on which queries, blocks or columns share a
 *        call. */
#pragma once
#include <string.h>

#include "core/backend/cpu_kern_int.h"
#include "core/backend/cpu_vec_int.h"

enum {
    SCORE_QUERIES = V16_REGISTERS >= 32 ? 12 : 4, /* times SCORE_WIDE_BLOCKS accumulators */
    SCORE_WIDE_BLOCKS = V16_REGISTERS >= 32 ? 2 : 1,
    SCORE_NARROW_BLOCKS = V16_REGISTERS >= 32 ? 4 : 2, /* times 3 queries */
    MIX_QUERIES = V16_REGISTERS >= 32 ? 6 : 2,         /* times MIX_VECTORS accumulators */
    MIX_VECTORS = V16_REGISTERS >= 32 ? 4 : 2,
};

struct attn_work {
    const struct attn_job *job;
    uint32_t n_queries; /* query i: row i / n_heads, head i % n_heads */
    uint32_t context;   /* positions that the last row sees */
    size_t stride;      /* of scores and probabilities */
    size_t block_elems; /* keys, or values, of one block and head */
    float *expanded;    /* SCORE_WIDE_BLOCKS blocks of keys, or one of values, in F32 */
    float *sums;        /* [n_queries] of the probabilities */
    float *mixed;       /* [n_queries][head_dim] sums of values so far */
    float *q;           /* [n_queries][ATTN_QUERY_STRIDE], scaled */
    float *scores, *p;  /* [n_queries][stride]; may be the same */
};

static inline const uint8_t *attn_keys(const struct attn_work *w, uint32_t b)
{
    const struct attn_job *j = w->job;
    const struct attn_layout *l = j->layout;
    return j->kv + j->block_table[b] * l->kv_block_bytes + j->kv_head * l->kv_head_bytes;
}

static inline const uint8_t *attn_values(const struct attn_work *w, uint32_t b)
{
    return attn_keys(w, b) + w->job->layout->kv_head_bytes / 2;
}

static inline uint32_t attn_visible(const struct attn_work *w, uint32_t query)
{
    return w->job->first_pos + query / w->job->n_heads + 1;
}

/* The first position that it sees. */
static inline uint32_t attn_first_visible(const struct attn_work *w, uint32_t query)
{
    const uint32_t end = attn_visible(w, query), window = w->job->window;
    return window && end > window ? end - window : 0;
}

static inline uint32_t attn_blocks(const struct attn_work *w)
{
    return (uint32_t)(w->stride / KV_BLOCK_TOKENS);
}

static ALWAYS_INLINE v16 attn_load(const bool f32, const uint8_t *p, size_t i)
{
    return f32 ? v16_load((const float *)p + i) : v16_load_f16((const uint16_t *)p + i);
}

static inline struct attn_work attn_begin(const struct attn_job *j)
{
    const uint32_t hd = j->layout->head_dim;
    struct attn_work w = {.job = j, .n_queries = j->n_rows * j->n_heads};
    w.context = j->first_pos + j->n_rows;
    w.stride = round_up_u32(w.context, KV_BLOCK_TOKENS);
    w.block_elems = (size_t)hd * KV_BLOCK_TOKENS;
    w.expanded = j->scratch;
    w.sums = w.expanded + SCORE_WIDE_BLOCKS * w.block_elems;
    w.mixed = w.sums + round_up_u32(w.n_queries, 16);
    w.q = w.mixed + (size_t)w.n_queries * hd;
    w.p = w.q + (size_t)w.n_queries * ATTN_QUERY_STRIDE;
    w.scores = j->scores ? j->scores : w.p;
    return w;
}

static inline void attn_load_queries(const struct attn_work *w)
{
    const struct attn_job *j = w->job;
    const uint32_t hd = j->layout->head_dim;
    const v16 scale = v16_set1(j->layout->scale);
    for (uint32_t i = 0; i < w->n_queries; i++) {
        const float *q = j->q + i / j->n_heads * j->q_stride + (size_t)(i % j->n_heads) * hd;
        for (uint32_t d = 0; d < hd; d += 16)
            v16_store(w->q + (size_t)i * ATTN_QUERY_STRIDE + d, v16_mul(v16_load(q + d), scale));
    }
}

/* Scores of nq queries from i on, against nb blocks of keys. next: keys wanted soon, or NULL. */
static ALWAYS_INLINE void score_tile(const struct attn_work *w, const bool f32, const uint32_t nq,
                                     const uint32_t nb, const uint8_t *const *keys,
                                     const uint8_t *const *next, uint32_t i, uint32_t first_token)
{
    const uint32_t hd = w->job->layout->head_dim;
    const float *q = w->q + (size_t)i * ATTN_QUERY_STRIDE;
    v16 acc[SCORE_QUERIES * SCORE_WIDE_BLOCKS + 3 * SCORE_NARROW_BLOCKS];
    UNROLL for (uint32_t a = 0; a < nq * nb; a++) acc[a] = v16_zero();
    for (uint32_t d = 0; d < hd; d++) {
        v16 k[SCORE_WIDE_BLOCKS + SCORE_NARROW_BLOCKS];
        UNROLL for (uint32_t b = 0; b < nb; b++)
        {
            k[b] = attn_load(f32, keys[b], (size_t)d * KV_BLOCK_TOKENS);
            if (next)
                v16_prefetch(next[b] + (size_t)d * KV_BLOCK_TOKENS * (f32 ? 4 : 2));
        }
        UNROLL for (uint32_t a = 0; a < nq; a++)
        {
            v16 s = v16_set1(q[(size_t)a * ATTN_QUERY_STRIDE + d]);
            UNROLL for (uint32_t b = 0; b < nb; b++) acc[a * nb + b] =
                v16_fma(k[b], s, acc[a * nb + b]);
        }
    }
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        float *out = w->scores + (i + a) * w->stride + first_token;
        UNROLL for (uint32_t b = 0; b < nb; b++)
            v16_store(out + (size_t)b * KV_BLOCK_TOKENS, acc[a * nb + b]);
    }
}

/* n keys or values as F32, in scratch unless they are F32 already. */
static inline const uint8_t *attn_expand(const struct attn_work *w, const uint8_t *p,
                                         float *scratch)
{
    if (w->job->layout->f32)
        return p;
    for (size_t i = 0; i < w->block_elems; i += 16)
        v16_store(scratch + i, v16_load_f16((const uint16_t *)p + i));
    return (const uint8_t *)scratch;
}

/* Every query against nb <= SCORE_WIDE_BLOCKS blocks of F32 keys. */
static inline void scores_of_blocks(const struct attn_work *w, const uint8_t *const *keys,
                                    uint32_t nb, uint32_t first_token)
{
    uint32_t i = 0;
    for (; i + SCORE_QUERIES <= w->n_queries; i += SCORE_QUERIES) {
        if (nb == SCORE_WIDE_BLOCKS)
            score_tile(w, true, SCORE_QUERIES, SCORE_WIDE_BLOCKS, keys, NULL, i, first_token);
        else
            score_tile(w, true, SCORE_QUERIES, 1, keys, NULL, i, first_token);
    }
    for (uint32_t b = 0; b < nb; b++) {
        const uint32_t t = first_token + b * KV_BLOCK_TOKENS;
        uint32_t rest = i;
        for (; rest + 3 <= w->n_queries; rest += 3)
            score_tile(w, true, 3, 1, keys + b, NULL, rest, t);
        for (; rest < w->n_queries; rest++)
            score_tile(w, true, 1, 1, keys + b, NULL, rest, t);
    }
}

static inline void scores_wide(const struct attn_work *w, uint32_t first, uint32_t end)
{
    for (uint32_t b = first; b < end; b += SCORE_WIDE_BLOCKS) {
        const uint32_t nb = (uint32_t)u64_min(end - b, SCORE_WIDE_BLOCKS);
        const uint8_t *keys[SCORE_WIDE_BLOCKS] = {0};
        for (uint32_t c = 0; c < nb; c++)
            keys[c] = attn_expand(w, attn_keys(w, b + c), w->expanded + c * w->block_elems);
        scores_of_blocks(w, keys, nb, b * KV_BLOCK_TOKENS);
    }
}

/* Every query against nb blocks as they lie. */
static ALWAYS_INLINE void scores_few(const struct attn_work *w, const bool f32, const uint32_t nb,
                                     const uint8_t *const *keys, const uint8_t *const *next,
                                     uint32_t first_token)
{
    uint32_t i = 0;
    for (; i + 3 <= w->n_queries; i += 3)
        score_tile(w, f32, 3, nb, keys, next, i, first_token);
    for (; i < w->n_queries; i++)
        score_tile(w, f32, 1, nb, keys, next, i, first_token);
}

static ALWAYS_INLINE void scores_narrow(const struct attn_work *w, const bool f32, uint32_t first,
                                        uint32_t end)
{
    const uint8_t *keys[2 * SCORE_NARROW_BLOCKS];
    uint32_t b = first;
    for (; b + SCORE_NARROW_BLOCKS <= end; b += SCORE_NARROW_BLOCKS) {
        for (uint32_t c = 0; c < 2 * SCORE_NARROW_BLOCKS; c++)
            keys[c] = attn_keys(w, (uint32_t)u64_min(b + c, end - 1));
        scores_few(w, f32, SCORE_NARROW_BLOCKS, keys, keys + SCORE_NARROW_BLOCKS,
                   b * KV_BLOCK_TOKENS);
    }
    for (; b < end; b++) {
        keys[0] = attn_keys(w, b);
        scores_few(w, f32, 1, keys, NULL, b * KV_BLOCK_TOKENS);
    }
}

static inline void attn_score(const struct attn_work *w, uint32_t first, uint32_t end)
{
    attn_load_queries(w);
    if (w->n_queries >= SCORE_QUERIES)
        scores_wide(w, first, end);
    else if (w->job->layout->f32)
        scores_narrow(w, true, first, end);
    else
        scores_narrow(w, false, first, end);
}

/* Lanes of positions t.. that are not from..end-1 become fill's. */
static ALWAYS_INLINE v16 softmax_keep(v16 a, v16 fill, uint32_t t, uint32_t from, uint32_t end)
{
    if (UNLIKELY(t < from))
        a = v16_keep_n(fill, a, from - t);
    if (UNLIKELY(end - t < 16))
        a = v16_keep_n(a, fill, end - t);
    return a;
}

/* p = exp(s - max) of the scores from..end-1, zero in the rest of their vectors; returns their
 * sum. */
static inline float softmax_row(const float *s, uint32_t from, uint32_t end, float *p)
{
    const uint32_t start = from / 16 * 16;
    const v16 one = v16_set1(s[from]);
    v16 top = one;
    for (uint32_t t = start; t < end; t += 16)
        top = v16_max(top, softmax_keep(v16_load(s + t), one, t, from, end));
    top = v16_set1(v16_hmax(top));
    v16 sum = v16_zero();
    for (uint32_t t = start; t < end; t += 16) {
        v16 e = v16_exp(v16_sub(v16_load(s + t), top));
        e = softmax_keep(e, v16_zero(), t, from, end);
        v16_store(p + t, e);
        sum = v16_add(sum, e);
    }
    return v16_sum(sum);
}

/* Adds n tokens of one block, from position t on, to columns d .. d + 16 nv of nq queries. */
static ALWAYS_INLINE void mix_tile(const struct attn_work *w, const bool f32, const uint32_t nq,
                                   const uint32_t nv, uint32_t i, uint32_t d, const uint8_t *v,
                                   uint32_t t, uint32_t n)
{
    const uint32_t hd = w->job->layout->head_dim;
    const float *p = w->p + i * w->stride + t;
    float *sums = w->mixed + (size_t)i * hd + d;
    v16 acc[MIX_QUERIES * MIX_VECTORS], row[MIX_VECTORS];
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        UNROLL for (uint32_t c = 0; c < nv; c++) acc[a * nv + c] =
            v16_load(sums + (size_t)a * hd + 16 * c);
    }
    for (uint32_t u = 0; u < n; u++) {
        UNROLL for (uint32_t c = 0; c < nv; c++) row[c] =
            attn_load(f32, v, (size_t)u * hd + d + 16 * c);
        UNROLL for (uint32_t a = 0; a < nq; a++)
        {
            v16 s = v16_set1(p[a * w->stride + u]);
            UNROLL for (uint32_t c = 0; c < nv; c++) acc[a * nv + c] =
                v16_fma(s, row[c], acc[a * nv + c]);
        }
    }
    UNROLL for (uint32_t a = 0; a < nq; a++)
    {
        UNROLL for (uint32_t c = 0; c < nv; c++)
            v16_store(sums + (size_t)a * hd + 16 * c, acc[a * nv + c]);
    }
}

/* As mix_tile, for the queries from..end-1. */
static ALWAYS_INLINE void mix_queries(const struct attn_work *w, const bool f32, const uint32_t nv,
                                      uint32_t from, uint32_t end, uint32_t d, const uint8_t *v,
                                      uint32_t t, uint32_t n)
{
    uint32_t i = from;
    for (; i + MIX_QUERIES <= end; i += MIX_QUERIES)
        mix_tile(w, f32, MIX_QUERIES, nv, i, d, v, t, n);
    if (MIX_QUERIES > 3 && i + 3 <= end) {
        mix_tile(w, f32, 3, nv, i, d, v, t, n);
        i += 3;
    }
    for (; i < end; i++)
        mix_tile(w, f32, 1, nv, i, d, v, t, n);
}

/* n tokens of one block for the queries from..end-1, columns d..d_end-1. */
static ALWAYS_INLINE void mix_block(const struct attn_work *w, const bool f32, uint32_t from,
                                    uint32_t end, uint32_t d, uint32_t d_end, const uint8_t *v,
                                    uint32_t t, uint32_t n)
{
    for (; d + 16 * MIX_VECTORS <= d_end; d += 16 * MIX_VECTORS)
        mix_queries(w, f32, MIX_VECTORS, from, end, d, v, t, n);
    for (; d + 32 <= d_end; d += 32)
        mix_queries(w, f32, 2, from, end, d, v, t, n);
    if (d < d_end)
        mix_queries(w, f32, 1, from, end, d, v, t, n);
}

/* What each row sees of the values v of positions t..end-1. */
static ALWAYS_INLINE void mix_rows(const struct attn_work *w, const bool f32, uint32_t d,
                                   uint32_t d_end, const uint8_t *v, uint32_t t, uint32_t end)
{
    const struct attn_job *j = w->job;
    const size_t token_bytes = (size_t)j->layout->head_dim * (f32 ? 4 : 2);
    for (uint32_t r = 0; r < j->n_rows; r++) {
        const uint32_t query = r * j->n_heads;
        const uint32_t from = (uint32_t)u64_max(t, attn_first_visible(w, query));
        const uint32_t seen = (uint32_t)u64_min(end, attn_visible(w, query));
        if (from < seen)
            mix_block(w, f32, query, query + j->n_heads, d, d_end, v + (from - t) * token_bytes,
                      from, seen - from);
    }
}

/* Block by block. In the last blocks, and in the first ones of a window, the rows see different
 * tokens: what all of them see is done together, the rest row by row. */
static ALWAYS_INLINE void mix(const struct attn_work *w, const bool wide, const bool f32,
                              uint32_t d, uint32_t d_end)
{
    const struct attn_job *j = w->job;
    const uint32_t all_see = attn_first_visible(w, w->n_queries - 1); /* from there on */
    for (uint32_t b = 0; b < attn_blocks(w); b++) {
        const uint32_t t = b * KV_BLOCK_TOKENS;
        const uint32_t end = (uint32_t)u64_min(t + KV_BLOCK_TOKENS, w->context);
        const uint8_t *v = attn_values(w, b);
        if (wide)
            v = attn_expand(w, v, w->expanded);
        else if (b + 1 < attn_blocks(w))
            for (size_t i = 0; i < j->layout->kv_head_bytes / 2; i += 64)
                v16_prefetch(attn_values(w, b + 1) + i);
        if (t >= all_see && end <= j->first_pos + 1)
            mix_block(w, f32, 0, w->n_queries, d, d_end, v, t, end - t);
        else
            mix_rows(w, f32, d, d_end, v, t, end);
    }
}

static inline void mix_wide(const struct attn_work *w, uint32_t d, uint32_t d_end)
{
    mix(w, true, true, d, d_end);
}

static inline void mix_narrow(const struct attn_work *w, uint32_t d, uint32_t d_end)
{
    if (w->job->layout->f32)
        mix(w, false, true, d, d_end);
    else
        mix(w, false, false, d, d_end);
}

/* Probabilities of all queries, then columns d..d_end-1 of their outputs. */
static inline void attn_mix(const struct attn_work *w, uint32_t d, uint32_t d_end)
{
    const struct attn_job *j = w->job;
    const uint32_t hd = j->layout->head_dim;
    for (uint32_t i = 0; i < w->n_queries; i++)
        w->sums[i] = softmax_row(w->scores + i * w->stride, attn_first_visible(w, i),
                                 attn_visible(w, i), w->p + i * w->stride);
    memset(w->mixed, 0, (size_t)w->n_queries * hd * sizeof(float));
    if (w->n_queries > MIX_QUERIES)
        mix_wide(w, d, d_end);
    else
        mix_narrow(w, d, d_end);
    for (uint32_t i = 0; i < w->n_queries; i++) {
        float *out = j->out + i / j->n_heads * j->out_stride + (size_t)(i % j->n_heads) * hd;
        const v16 inverse = v16_set1(1.0f / w->sums[i]);
        for (uint32_t c = d; c < d_end; c += 16)
            v16_store(out + c, v16_mul(v16_load(w->mixed + (size_t)i * hd + c), inverse));
    }
}

static inline void kern_attention(const struct attn_job *job)
{
    const struct attn_work w = attn_begin(job);
    attn_score(&w, 0, attn_blocks(&w));
    attn_mix(&w, 0, job->layout->head_dim);
}

static inline void kern_attn_scores(const struct attn_job *job, uint32_t first, uint32_t end)
{
    const struct attn_work w = attn_begin(job);
    attn_score(&w, first, end);
}

static inline void kern_attn_mix(const struct attn_job *job, uint32_t d, uint32_t d_end)
{
    const struct attn_work w = attn_begin(job);
    attn_mix(&w, d, d_end);
}
