/* sampler_math.c - choosing among logits without sorting them.
 *
 * top_k  The k-th largest block maximum is a lower bound of the k-th largest logit: at least k
 *        logits reach it. Only those that do are collected, then cut to k by quickselect.
 * min_p  Blocks whose maximum weighs less are skipped.
 * top_p  With n tokens of total weight W, those below (1 - p) W / n weigh less than (1 - p) W
 *        together, so the nucleus lies above that bound. What is above is collected, then cut by
 *        a quickselect that adds up weights.
 *
 * All sums run in an order that depends on the logits only. */
#include <math.h>
#include <string.h>

#include "core/engine/sampler_int.h"

enum { LANES = 8, N_BINS = 512 };

/* What turns a logit into a weight. */
struct scale {
    float max;
    float inv_temperature;
};

/* --- random numbers --- */

void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double sampler_uniform(uint64_t seed, uint32_t choice, uint32_t n_generated)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {n_generated, choice, 0, 0};
    uint32_t x[4];
    philox4x32(key, counter, x);
    return ((double)(x[0] >> 5) * 0x1p26 + (double)(x[1] >> 6)) * 0x1p-53;
}

/* --- exponentials --- */

/* Four at a time with the compilers' vector types: plain SSE2 on x86, and, as each lane does the
 * same IEEE operations, the same bits everywhere. */
typedef float f32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

/* Range reduction by powers of two (the rounding is an addition that pushes the fraction out of
 * the mantissa), then a polynomial fitted for the least relative error on |r| <= ln(2) / 2. */
static inline f32x4 exp_nonpositive(f32x4 x)
{
    const float shifter = 0x1.8p23f;
    f32x4 t = x * 0x1.715476p0f + shifter;
    f32x4 n = t - shifter;
    f32x4 r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    f32x4 p = r * 0x1.6a23cep-10f + 0x1.123a2p-7f;
    p = p * r + 0x1.5558f2p-5f;
    p = p * r + 0x1.555492p-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    u32x4 scale = ((u32x4)t + 127) << 23;  /* the shifter's own bits fall off the top */
    u32x4 in_range = (u32x4)(x >= -87.0f); /* NaN compares false */
    return (f32x4)((u32x4)(p * (f32x4)scale) & in_range);
}

float sampler_exp(float x)
{
    return exp_nonpositive((f32x4){x, x, x, x})[0];
}

/* --- blocks --- */

/* The block's logits; the last, short one is copied to pad and filled up with -inf. */
static const float *block_at(const struct sampler_scratch *s, const float *logits, uint32_t block,
                             float pad[SAMPLER_BLOCK])
{
    uint32_t first = block * SAMPLER_BLOCK;
    uint32_t n = s->vocab_size - first;
    if (n >= SAMPLER_BLOCK)
        return logits + first;
    for (uint32_t i = 0; i < SAMPLER_BLOCK; i++)
        pad[i] = i < n ? logits[first + i] : -INFINITY;
    return pad;
}

float sampler_block_max(struct sampler_scratch *s, const float *logits)
{
    float pad[SAMPLER_BLOCK];
    float max = -INFINITY;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const float *l = block_at(s, logits, b, pad);
        float m[LANES];
        for (int j = 0; j < LANES; j++)
            m[j] = -INFINITY;
        for (int i = 0; i < SAMPLER_BLOCK; i += LANES)
            for (int j = 0; j < LANES; j++)
                m[j] = l[i + j] > m[j] ? l[i + j] : m[j]; /* NaN compares false */
        for (int j = 1; j < LANES; j++)
            m[0] = m[j] > m[0] ? m[j] : m[0];
        s->block_max[b] = m[0];
        max = m[0] > max ? m[0] : max;
    }
    return max;
}

uint32_t sampler_argmax(const struct sampler_scratch *s, const float *logits, float max)
{
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->block_max[b] != max)
            continue;
        uint32_t end = (uint32_t)u64_min((b + 1) * (uint64_t)SAMPLER_BLOCK, s->vocab_size);
        for (uint32_t i = b * SAMPLER_BLOCK; i < end; i++)
            if (logits[i] == max)
                return i;
    }
    return 0;
}

/* Weights of one block into s->weights; returns their sum, added in a fixed order. */
static float block_weights(struct sampler_scratch *s, const float *logits, uint32_t b,
                           const struct scale *sc)
{
    float pad[SAMPLER_BLOCK];
    const float *l = block_at(s, logits, b, pad);
    float *w = s->weights + (size_t)b * SAMPLER_BLOCK;
    f32x4 sum = {0};
    for (int i = 0; i < SAMPLER_BLOCK; i += 4) {
        f32x4 x;
        memcpy(&x, l + i, sizeof(x));
        x = exp_nonpositive((x - sc->max) * sc->inv_temperature);
        memcpy(w + i, &x, sizeof(x));
        sum += x;
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* Weights of all blocks, their sums into s->block_sum; returns the total. */
static double all_weights(struct sampler_scratch *s, const float *logits, const struct scale *sc)
{
    double total = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        s->block_sum[b] = block_weights(s, logits, b, sc);
        total += (double)s->block_sum[b];
    }
    return total;
}

double sampler_mass(struct sampler_scratch *s, const float *logits, float max)
{
    const struct scale sc = {max, 1.0f};
    return all_weights(s, logits, &sc);
}

/* --- cutting at a rank or at a mass --- */

/* Better candidates come first: by logit, then by the lower id. A strict order. */
static bool better(const struct sampler_candidate *a, const struct sampler_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static double measure(const struct sampler_candidate *c, bool by_weight)
{
    return by_weight ? (double)c->weight : 1.0;
}

static void swap(struct sampler_candidate *a, struct sampler_candidate *b)
{
    struct sampler_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Puts the candidates better than a pivot to the left of it; returns the pivot's place. The pivot
 * is drawn from *rng, so that no order of logits is slow. */
static uint32_t partition(struct sampler_candidate *a, uint32_t lo, uint32_t hi, uint32_t *rng)
{
    *rng = *rng * 1664525u + 1013904223u;
    uint32_t pick = lo + (uint32_t)(((uint64_t)*rng * (hi - lo)) >> 32);
    swap(&a[pick], &a[hi - 1]);
    uint32_t m = lo;
    for (uint32_t i = lo; i < hi - 1; i++)
        if (better(&a[i], &a[hi - 1]))
            swap(&a[i], &a[m++]);
    swap(&a[m], &a[hi - 1]);
    return m;
}

/* The worst candidate of the shortest best-first prefix whose measure (count, or weight) reaches
 * the target; the worst of all when none does. Reorders a[0..n-1], n >= 1. */
static struct sampler_candidate find_cut(struct sampler_candidate *a, uint32_t n, double target,
                                         bool by_weight)
{
    uint32_t lo = 0, hi = n, rng = 1;
    struct sampler_candidate cut = a[0];
    double before = 0; /* measure of what is known to be in the prefix */
    while (lo < hi) {
        uint32_t m = partition(a, lo, hi, &rng);
        double left = 0;
        for (uint32_t i = lo; i < m; i++)
            left += measure(&a[i], by_weight);
        if (m > lo && before + left >= target) {
            hi = m;
            continue;
        }
        before += left + measure(&a[m], by_weight);
        cut = a[m];
        if (before >= target)
            break;
        lo = m + 1;
    }
    return cut;
}

/* Bins of logits, best first: 1/16 of a unit of (max - logit) / temperature each, the last one
 * open-ended. Monotonic in the logit, since each operation is. */
static uint32_t bin_of(float logit, const struct scale *sc)
{
    float x = (sc->max - logit) * (sc->inv_temperature * 16.0f);
    return x < (float)(N_BINS - 1) ? (uint32_t)x : N_BINS - 1;
}

/* Keeps, by id, the shortest best-first prefix of cand[0..n-1] that reaches the target: whole bins
 * first, then a quickselect inside the bin where it lies. */
static uint32_t cut_candidates(struct sampler_scratch *s, uint32_t n, const struct scale *sc,
                               double target, bool by_weight)
{
    double bins[N_BINS] = {0};
    for (uint32_t i = 0; i < n; i++)
        bins[bin_of(s->cand[i].logit, sc)] += measure(&s->cand[i], by_weight);
    uint32_t bin = 0;
    double before = 0;
    while (bin < N_BINS && before + bins[bin] < target)
        before += bins[bin++];
    if (bin == N_BINS)
        return n; /* rounding left the sum of all below the target */

    uint32_t n_work = 0;
    for (uint32_t i = 0; i < n; i++)
        if (bin_of(s->cand[i].logit, sc) == bin)
            s->work[n_work++] = s->cand[i];
    struct sampler_candidate cut = find_cut(s->work, n_work, target - before, by_weight);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->cand[kept] = s->cand[i];
        kept += !better(&cut, &s->cand[kept]);
    }
    return kept;
}

/* --- candidates --- */

/* Collects the finite logits >= bound. */
static uint32_t collect_logits(struct sampler_scratch *s, const float *logits, float bound)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (!(s->block_max[b] >= bound))
            continue;
        uint32_t end = (uint32_t)u64_min((b + 1) * (uint64_t)SAMPLER_BLOCK, s->vocab_size);
        for (uint32_t i = b * SAMPLER_BLOCK; i < end; i++)
            if (logits[i] >= bound && logits[i] > -INFINITY)
                s->cand[n++] = (struct sampler_candidate){.logit = logits[i], .id = i};
    }
    return n;
}

static uint32_t collect_top_k(struct sampler_scratch *s, const float *logits,
                              const struct scale *sc, uint32_t k)
{
    float bound = -INFINITY;
    if (k <= s->n_blocks) {
        for (uint32_t b = 0; b < s->n_blocks; b++)
            s->work[b] = (struct sampler_candidate){.logit = s->block_max[b], .id = b};
        bound = find_cut(s->work, s->n_blocks, k, false).logit;
    }
    uint32_t n = collect_logits(s, logits, bound);
    if (n > k)
        n = cut_candidates(s, n, sc, k, false);
    for (uint32_t i = 0; i < n; i++)
        s->cand[i].weight = sampler_exp((s->cand[i].logit - sc->max) * sc->inv_temperature);
    return n;
}

/* Collects the weights >= bound of one block whose weights are there. */
static uint32_t collect_block(struct sampler_scratch *s, const float *logits, uint32_t b,
                              float bound, uint32_t n)
{
    uint32_t end = (uint32_t)u64_min((b + 1) * (uint64_t)SAMPLER_BLOCK, s->vocab_size);
    for (uint32_t i = b * SAMPLER_BLOCK; i < end; i++)
        if (s->weights[i] >= bound)
            s->cand[n++] =
                (struct sampler_candidate){.logit = logits[i], .weight = s->weights[i], .id = i};
    return n;
}

static uint32_t collect_min_p(struct sampler_scratch *s, const float *logits,
                              const struct scale *sc, float min_p)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        /* A hair below min_p: neighbouring exponentials may be out of order by their error. */
        if (sampler_exp((s->block_max[b] - sc->max) * sc->inv_temperature) < 0.999f * min_p)
            continue;
        (void)block_weights(s, logits, b, sc);
        n = collect_block(s, logits, b, min_p, n);
    }
    return n;
}

/* Everything that can be in the nucleus; *out_total is the weight of all tokens. */
static uint32_t collect_top_p(struct sampler_scratch *s, const float *logits,
                              const struct scale *sc, float top_p, double *out_total)
{
    double total = all_weights(s, logits, sc);
    float bound = (float)(0.999 * (1.0 - (double)top_p) * total / s->vocab_size);
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++)
        if (s->block_sum[b] >= bound) /* else no weight of the block is */
            n = collect_block(s, logits, b, bound, n);
    *out_total = total;
    return n;
}

static double total_weight(const struct sampler_scratch *s, uint32_t n)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += (double)s->cand[i].weight;
    return total;
}

static uint32_t keep_min_p(struct sampler_scratch *s, uint32_t n, float min_p)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->cand[i].weight >= min_p)
            s->cand[kept++] = s->cand[i];
    return kept;
}

uint32_t sampler_candidates(struct sampler_scratch *s, const float *logits, float max,
                            const struct sampler_cuts *cuts)
{
    const struct scale sc = {max, 1.0f / cuts->temperature};
    uint32_t n;
    double total;

    if (cuts->top_k > 0 && cuts->top_k < s->vocab_size) {
        n = collect_top_k(s, logits, &sc, cuts->top_k);
        n = keep_min_p(s, n, cuts->min_p);
        total = total_weight(s, n);
    } else if (cuts->min_p > 0) {
        n = collect_min_p(s, logits, &sc, cuts->min_p);
        total = total_weight(s, n);
    } else {
        n = collect_top_p(s, logits, &sc, cuts->top_p, &total);
    }
    if (cuts->top_p < 1.0f && n > 1)
        n = cut_candidates(s, n, &sc, (double)cuts->top_p * total, true);
    return n;
}

/* --- drawing --- */

uint32_t sampler_draw(const struct sampler_scratch *s, uint32_t n, double u)
{
    double target = u * total_weight(s, n), sum = 0;
    uint32_t last = 0; /* rounding may leave sum below target at the end */
    for (uint32_t i = 0; i < n; i++) {
        if (s->cand[i].weight == 0.0f)
            continue;
        last = i;
        sum += (double)s->cand[i].weight;
        if (sum > target)
            break;
    }
    return s->cand[last].id;
}

uint32_t sampler_draw_all(struct sampler_scratch *s, const float *logits, float max,
                          float temperature, double u)
{
    const struct scale sc = {max, 1.0f / temperature};
    double target = u * all_weights(s, logits, &sc);
    double sum = 0;
    uint32_t block = 0; /* the one that the target falls into; else the last with any weight */
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->block_sum[b] == 0.0f)
            continue;
        block = b;
        if (sum + (double)s->block_sum[b] > target)
            break;
        sum += (double)s->block_sum[b];
    }
    const float *w = s->weights + (size_t)block * SAMPLER_BLOCK;
    uint32_t last = 0;
    for (uint32_t i = 0; i < SAMPLER_BLOCK; i++) {
        if (w[i] == 0.0f)
            continue;
        last = i;
        sum += (double)w[i];
        if (sum > target)
            break;
    }
    return block * SAMPLER_BLOCK + last;
}
