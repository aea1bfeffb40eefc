#include "core/engine/logprobs.h"

#include <math.h>

#include "core/engine/sampler_int.h"

/* What turns a logit into the logarithm of a probability. */
struct norm {
    float max;
    double ln_mass; /* of the sum of exp(logit - max) */
};

static float logprob(const struct norm *n, float logit)
{
    if (!isfinite(n->max)) /* +inf is certain; nothing can be said of NaN and -inf alone */
        return n->max > 0 && logit == n->max ? 0.0f : -INFINITY;
    float lp = (float)((double)logit - (double)n->max - n->ln_mass);
    return lp < 0.0f ? lp : isnan(lp) ? -INFINITY : 0.0f;
}

/* Puts a candidate into the list of the n best, which has room for max. Returns the new n. */
static uint32_t rank_in(struct token_logprob *best, uint32_t n, uint32_t max, uint32_t id,
                        float logit)
{
    uint32_t at = n < max ? n++ : max - 1;
    for (; at > 0 && best[at - 1].logprob < logit; at--)
        best[at] = best[at - 1];
    best[at] = (struct token_logprob){id, logit};
    return n;
}

/* The most likely tokens with their logits, given the block maxima. Returns how many. */
static uint32_t find_top(const struct sampler_scratch *s, const float *logits, uint32_t n_top,
                         struct token_logprob *best)
{
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_blocks && n_top > 0; b++) {
        if (n == n_top && !(s->block_max[b] > best[n - 1].logprob))
            continue;
        uint32_t end = (uint32_t)u64_min((b + 1) * (uint64_t)SAMPLER_BLOCK, s->vocab_size);
        for (uint32_t i = b * SAMPLER_BLOCK; i < end; i++)
            if (!isnan(logits[i]) && (n < n_top || logits[i] > best[n - 1].logprob))
                n = rank_in(best, n, n_top, i, logits[i]);
    }
    return n;
}

void logprobs_of(struct sampler_scratch *s, const float *logits, uint32_t token, uint32_t n_top,
                 const uint32_t *ids, uint32_t n_ids, struct token_logprob *out)
{
    struct norm norm = {.max = sampler_block_max(s, logits)};
    struct token_logprob *top = out + 1, *listed = top + n_top;
    uint32_t n = find_top(s, logits, n_top, top);
    if (isfinite(norm.max))
        norm.ln_mass = log(sampler_mass(s, logits, norm.max));
    *out = (struct token_logprob){token, logprob(&norm, logits[token])};
    for (uint32_t i = 0; i < n; i++)
        top[i].logprob = logprob(&norm, top[i].logprob);
    for (uint32_t i = n; i < n_top; i++)
        top[i] = (struct token_logprob){STREAM_NO_TOKEN, -INFINITY};
    for (uint32_t i = 0; i < n_ids; i++)
        listed[i] = (struct token_logprob){ids[i], logprob(&norm, logits[ids[i]])};
}

uint32_t logprobs_rank(const float *logits, uint32_t vocab_size, uint32_t token)
{
    uint32_t rank = 1;
    for (uint32_t i = 0; i < vocab_size; i++)
        rank += logits[i] > logits[token];
    return rank;
}

void logprobs_certain(uint32_t token, uint32_t n_top, const uint32_t *ids, uint32_t n_ids,
                      struct token_logprob *out)
{
    *out++ = (struct token_logprob){token, 0.0f};
    for (uint32_t i = 0; i < n_top; i++)
        *out++ = i == 0 ? (struct token_logprob){token, 0.0f}
                        : (struct token_logprob){STREAM_NO_TOKEN, -INFINITY};
    for (uint32_t i = 0; i < n_ids; i++)
        *out++ = (struct token_logprob){ids[i], ids[i] == token ? 0.0f : -INFINITY};
}
