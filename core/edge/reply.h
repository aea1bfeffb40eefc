/* reply.h - JSON of replies: the whole plain reply, and the parts that events share with it. */
#pragma once
#include "core/edge/generation.h"

/* The body of a plain reply. */
void reply_write(const struct generation *g, struct buf *out);
/* "stop", "length", ...; quoted. */
const char *reply_finish_reason(const struct choice *c);
/* The stop string, the stop id or null. */
void reply_stop_reason(const struct generation *g, const struct choice *c, struct buf *out);
/* {"prompt_tokens":...}, with details for the last word on it. */
void reply_usage(const struct generation *g, bool details, struct buf *out);
