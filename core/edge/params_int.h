/* params_int.h - the parts of plan_params(): each reads some fields of a body into the plan. */
#pragma once
#include "core/edge/fields.h"
#include "core/edge/plan.h"

/* params_tokens.c: stop_token_ids, logit_bias, allowed_token_ids, bad_words. */
MUST_CHECK int params_tokens(const json_t *body, struct plan *p, struct err *e);
/* A list of token ids of the model, copied to the plan; NULL and 0 when the field is not given. */
MUST_CHECK int params_token_ids(const json_t *body, const char *name, size_t max, struct plan *p,
                                const uint32_t **out_ids, uint32_t *out_n, struct err *e);
/* params_logprobs.c: logprobs, top_logprobs, prompt_logprobs, logprob_token_ids; after stream and
 * echo are known. */
MUST_CHECK int params_logprobs(const json_t *body, struct plan *p, struct err *e);
