/* sample.h - what a device that samples by itself is told of a row of logits: the operation `sample` of
 * core/backend/backend.h. The meaning of all of it is core/engine/sampler.h's: the same logits and the
 * same numbers give the same token there and here.
 *
 * Memory  the arrays are borrowed until sample() returns. */
#pragma once
#include "core/util/base.h"

enum { SAMPLE_TOP_MAX = 20 };

struct sample_bias {
    uint32_t token;
    float bias; /* added to the logit; -inf: never chosen */
};

/* A token that the sequence has seen, for the penalties. */
struct sample_seen {
    uint32_t id;
    uint32_t n_output;  /* times generated */
    uint32_t in_prompt; /* 0 or 1 */
};

struct sample_how {
    float temperature, top_p, min_p; /* as in struct sampling_params */
    uint32_t top_k;
    float presence_penalty, frequency_penalty, repetition_penalty;
    uint32_t choice, n_generated; /* the draw's counter */
    uint64_t seed;                /* its key */
    const struct sample_bias *bias;
    uint32_t n_bias;
    uint32_t n_seen;
    const struct sample_seen *seen; /* each token once */
    const uint32_t *mask;           /* a bit per token, set: it may be chosen; NULL: all may */
};

/* Natural logarithms of probabilities under the logits as the model gave them: without bias,
 * penalties, temperature and mask. */
struct sample_logprobs {
    uint32_t n_top; /* set by the caller, at most SAMPLE_TOP_MAX and the vocabulary */
    uint32_t top_ids[SAMPLE_TOP_MAX]; /* the likeliest first; of equals the lower id */
    float top[SAMPLE_TOP_MAX];
    float chosen;  /* the sampled token's */
    uint32_t rank; /* one more than the number of tokens that are likelier than it */
};
