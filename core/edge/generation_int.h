/* generation_int.h - what the two halves of a generation share. */
#pragma once
#include "core/edge/generation.h"

enum { PULL_MAX = 32 }; /* items at a time */

/* The request's body to a plan, to requests, to the router. On failure a part of it may be left, for
 * generation_forget(). Errors: those of plan_parse and of router_submit. */
MUST_CHECK int generation_prepare(struct generation *g, enum plan_kind kind, struct err *e);
/* Of generation_prepare: counts the request, and reserves the tokens of its plan, against the limits of
 * its key. Errors: ERATE, ex->limited says when it would fit; ELIMIT: never. */
MUST_CHECK int generation_enter(struct generation *g, struct err *e);
MUST_CHECK int generation_reserve(struct generation *g, struct err *e);
/* It has ended: what it used counts from now on, not what was reserved. Once. */
void generation_settle(struct generation *g);
/* It is over: settles, and makes room for another. */
void generation_leave(struct generation *g);
/* Drops the plan and what it led to; what the router has of it is cancelled. */
void generation_forget(struct generation *g);
