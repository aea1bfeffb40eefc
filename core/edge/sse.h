/* sse.h - the events of a streamed reply, appended to generation.out. One event per token; what
 * is the same in all events of a reply is made once (generation.head). */
#pragma once
#include "core/edge/generation.h"

/* Makes generation.head. */
void sse_init(struct generation *g);
/* The first output came: chat gets each choice's role. */
void sse_begin(struct generation *g);
/* The first output of this prompt came, all of which is scored then: with echo its choices get it. */
void sse_echo(struct generation *g, const struct part *p);
/* What became visible of a choice with its last token, with the finish reason when it ended. */
void sse_choice(struct generation *g, uint32_t index);
/* The end: usage if asked for, then [DONE]. After an error: the error, then [DONE]. */
void sse_end(struct generation *g);
void sse_comment(struct generation *g);
