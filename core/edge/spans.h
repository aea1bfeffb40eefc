/* spans.h - a request that is over as spans of its trace (core/observe/otlp.h).
 *
 *   chat MODEL                       arrival to the last byte; the client's span above it
 *     edge                           head, body, template, tokens: until the router has it
 *     queue                          until its first row is computed; which worker, and why
 *     prefill                        until its first token
 *       prefill chunk ...            what of it one step computed; below decode what was computed later
 *     decode                         to its last token; its slowest gaps as events, with their cause
 *       migration ...                its worker was lost: until another one goes on
 *     reply                          from its last token until the last byte has left
 *
 * With several prompts there is a queue, prefill and decode of each (of the first SPANS_PARTS). What did
 * not happen has no span; what did not end, ends with the request. Everything is known from what the
 * request has kept for the log: nothing is noted on a token's way.
 *
 * Thread  that of the exchange's loop. */
#pragma once
#include "core/edge/edge_int.h"

enum { SPANS_PARTS = 16 };

/* Whether it is a request that is traced when its trace is recorded: for generation. */
bool spans_wanted(const struct exchange *ex);
/* The exchange is over; its generation, if any, still lives. Nothing, unless its trace is recorded and its
 * caller was let in. */
void spans_end(struct exchange *ex);
