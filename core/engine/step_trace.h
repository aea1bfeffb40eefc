/* step_trace.h - tells each request of a step what the step did for it: which rows of its prompt, and
 * why its next token came when it came.
 *
 * A gap is split by what the step before the token is known to cost (step_cost.h): what decoding this
 * sequence alone takes, what the other decodes add, and the rest. The rest belongs to what interrupted
 * the sequence, else to the prompts that were computed in the same step; without either, to a stall
 * when it is as long again as the step should have been.
 *
 * Thread  the worker's. */
#pragma once
#include "core/engine/sched.h"
#include "core/engine/step_cost.h"
#include "core/request/trace.h"

struct step_facts {
    uint64_t number;   /* of the worker's steps, from 1 */
    uint64_t began_us; /* clock_now_us() */
    uint64_t us;
    uint32_t worker;
    uint32_t n_rows, n_decodes, n_prefill_rows;
    const struct seq *longest;  /* with the most prefill rows; NULL: none */
    double alone_us, decode_us; /* what one decode alone costs, what all of them cost; 0: unknown */
};

/* Of the plan that was just computed, before it is committed. */
void step_facts_take(struct step_facts *f, const struct plan *p, const struct step_cost *cost);
/* Tells the requests whose prompts it computed. Takes their streams' locks. */
void step_trace_chunks(const struct step_facts *f, const struct plan *p);
/* The gap that ends with the sequence's next token. False: this is its first. Takes the stream's lock
 * when another worker gave the token before. */
bool step_trace_gap(const struct step_facts *f, const struct seq *q, uint64_t now_us,
                    struct trace_gap *out);
