/* generation_int.h - what the two halves of a generation share. */
#pragma once
#include "core/edge/generation.h"

/* The request's body to a plan, to requests, to the router. On failure a part of it may be left, for
 * generation_forget(). Errors: those of plan_parse and of router_submit. */
MUST_CHECK int generation_prepare(struct generation *g, enum plan_kind kind, struct err *e);
/* Drops the plan and what it led to; what the router has of it is cancelled. */
void generation_forget(struct generation *g);
