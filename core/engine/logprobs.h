/* logprobs.h - the model's own opinion of tokens: natural logarithms of their probabilities, by the
 * logits as they come from the model (no temperature, bias or penalty).
 *
 *   logprob(t) = logit[t] - max - ln(sum exp(logit - max))
 *
 * Thread  whoever owns the scratch. */
#pragma once
#include "core/engine/sampler.h"
#include "core/request/request.h"

/* Writes to out [1 + n_top + n_ids]: the token itself; the n_top most likely ones, the likeliest
 * first, of equals the lower id (STREAM_NO_TOKEN where the vocabulary has no more); ids. */
void logprobs_of(struct sampler_scratch *s, const float *logits, uint32_t token, uint32_t n_top,
                 const uint32_t *ids, uint32_t n_ids, struct token_logprob *out);
/* One more than the number of tokens that are likelier than this one. */
uint32_t logprobs_rank(const float *logits, uint32_t vocab_size, uint32_t token);
/* What a device without logits says: it is certain of the token. The same shape as above. */
void logprobs_certain(uint32_t token, uint32_t n_top, const uint32_t *ids, uint32_t n_ids,
                      struct token_logprob *out);
