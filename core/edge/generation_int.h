/* generation_int.h - what the two halves of a generation share. */
#pragma once
#include "core/edge/generation.h"

enum { PULL_MAX = 32 }; /* items at a time */

/* From the request's body to the router, in this order. On failure a part of it may be left, for
 * generation_forget().
 *
 *   generation_admit    the body is whole and JSON, its key may ask
 *   generation_plan     the body is parsed, rendered, tokenized: here, or
 *   generation_plan_later   on another thread
 *   generation_submit   requests are made of the plan and go to the router */
MUST_CHECK int generation_admit(struct generation *g, struct err *e);
/* Errors: those of plan_parse. */
MUST_CHECK int generation_plan(struct generation *g, struct err *e);
/* The exchange is to be suspended, and is resumed (later.h). Errors: EFULL, ENOMEM. */
MUST_CHECK int generation_plan_later(struct generation *g, struct err *e);
/* Of its model, when it has one. */
const struct model_series *generation_series(const struct generation *g);
/* False: not yet. Else the plan is there, or g->error says why it is not. */
bool generation_take_plan(struct generation *g);
/* Errors: those of router_submit, and of keys' limits. */
MUST_CHECK int generation_submit(struct generation *g, struct err *e);
/* Whether something else is served by now; then the plan is forgotten, for another by that. */
bool generation_is_outdated(struct generation *g);
/* Of a plain reply: whether the loop's others would wait for its writing; then it is written on another
 * thread, after which the exchange is resumed (later.h). */
bool generation_is_long(const struct generation *g);
MUST_CHECK int generation_write_later(struct generation *g, struct err *e);
/* False: not yet. */
bool generation_take_reply(struct generation *g, struct buf *out);
/* The exchange, or a thread that writes the reply, needs it no more; the last one's frees it. On the loop's
 * thread. */
void generation_unref(struct generation *g);
/* The body is needed no more: dropped, or kept for the request log. */
void generation_drop_body(struct generation *g);

/* Of generation_submit: reserves the tokens of its plan against the limits of its key. Errors: ERATE,
 * ex->limited says when it would fit; ELIMIT: never. */
MUST_CHECK int generation_reserve(struct generation *g, struct err *e);
/* It has ended: what it used counts from now on, not what was reserved. Once. */
void generation_settle(struct generation *g);
/* It is over: settles, and makes room for another. */
void generation_leave(struct generation *g);
/* Whether a time limit is over: *why says which. Counts it. */
bool generation_is_late(struct generation *g, uint64_t now_us, struct err *why);
/* Cancels what the router has of it, and hears no more of that. */
void generation_detach(struct generation *g);
/* Drops the plan and what it led to; what the router has of it is cancelled. */
void generation_forget(struct generation *g);
