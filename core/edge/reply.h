/* reply.h - JSON of replies: the whole plain reply, and the parts that events share with it. */
#pragma once
#include "core/edge/generation.h"

/* The body of a plain reply. */
void reply_write(const struct generation *g, struct buf *out);
/* "stop", "length", ...; quoted. */
const char *reply_finish_reason(const struct choice *c);
/* The stop string, the stop id or null. */
void reply_stop_reason(const struct generation *g, const struct choice *c, struct buf *out);
/* Of the tokens of a choice that were not sent yet: their logprobs, with_prompt those of the prompt in
 * front of them; null when none are wanted. */
void reply_logprobs(const struct generation *g, uint32_t index, bool with_prompt, struct buf *out);
/* The same for the prompt alone, whose text is echoed. */
void reply_echo_logprobs(const struct generation *g, uint32_t index, struct buf *out);
/* Their ids; null when they are not wanted. */
void reply_token_ids(const struct generation *g, const struct choice *c, struct buf *out);
/* The ids of a prompt; null when they are not wanted. */
void reply_prompt_ids(const struct generation *g, uint32_t prompt, struct buf *out);
/* {"prompt_tokens":...}, with details for the last word on it. */
void reply_usage(const struct generation *g, bool details, struct buf *out);
