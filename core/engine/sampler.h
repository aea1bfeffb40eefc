/* sampler.h - from logits to a token, on the host.
 *
 * Order, as in vLLM: allowed ids, bad words, logit_bias and min_tokens, repetition, frequency and presence penalties,
 * temperature, min_p, top_k, top_p, draw. Where candidates tie, the lower id comes first; top_k
 * keeps exactly k and top_p the fewest that reach its mass, so top_k = 1 is the greedy choice.
 *
 * Random numbers are counter based: the draw is a pure function of (seed, choice, number of
 * tokens generated before), so a sequence gives the same text whatever else runs, after a
 * preemption, and on another worker. All arithmetic is done in a fixed order with an exponential
 * of our own: the same logits give the same token on every machine.
 *
 * NaN logits are never chosen (unless all are), +inf is certain.
 *
 * Thread  a sampler and a scratch each have one user at a time.
 * Memory  sampler_new takes all of it; the parameters are borrowed for the sampler's life.
 * Source  Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11. */
#pragma once
#include "core/backend/sample.h"
#include "core/request/request.h"
#include "core/util/base.h"

struct sampler;

/* Work space for one call; one per worker serves all its sequences. */
struct sampler_candidate {
    float logit;
    float weight; /* exp((logit - max) / temperature) */
    uint32_t id;
};

struct sampler_scratch {
    uint32_t vocab_size;
    uint32_t n_blocks;              /* of SAMPLER_BLOCK logits */
    float *logits;                  /* [vocab_size] with bias and penalties */
    float *weights;                 /* [n_blocks * SAMPLER_BLOCK] */
    float *block_max;               /* [n_blocks] */
    float *block_sum;               /* [n_blocks] weights of each block */
    struct sampler_candidate *cand; /* [vocab_size] by id */
    struct sampler_candidate *work; /* [vocab_size] */
};

MUST_CHECK int sampler_scratch_init(struct sampler_scratch *s, uint32_t vocab_size);
void sampler_scratch_fini(struct sampler_scratch *s); /* a zeroed scratch is fine */

/* EINVAL when a parameter names a token outside the vocabulary, ENOMEM. Tokens that were
 * generated before (a migrated sequence) are told by sampler_accept(), not with the prompt. */
MUST_CHECK int sampler_new(const struct sampling_params *p, const uint32_t *prompt,
                           uint32_t n_prompt, uint32_t vocab_size, uint32_t choice,
                           struct sampler **out);
void sampler_free(struct sampler *s); /* NULL is fine */

/* The token that follows n_generated tokens of this sequence. Changes nothing in s. */
uint32_t sampler_pick(const struct sampler *s, const float *logits, struct sampler_scratch *scratch,
                      uint32_t n_generated);
/* True when a device can be told of the token after the next one before the next one is known: it counts
 * that for the penalties itself. Not with allowed ids (the host has the last word, sampler_allowed) and
 * bad words of more than one token. */
bool sampler_can_follow(const struct sampler *s);
/* The same as a device is told it, which then picks by itself. Valid until s changes. */
void sampler_describe(const struct sampler *s, uint32_t n_generated, struct sample_how *out);
/* What a device picked; where it found every token forbidden (min_tokens may forbid the allowed ones), what
 * sampler_pick() would have. */
uint32_t sampler_allowed(const struct sampler *s, uint32_t token);
/* The sequence took this token: it counts for the penalties. */
void sampler_accept(struct sampler *s, uint32_t token);
