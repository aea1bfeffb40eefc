/* step_cost.h - what a step costs by what is in it, learned from the steps that were.
 *
 * Two straight lines, fitted with exponential forgetting (half of the weight is on the last 64
 * steps): the time of steps that prefill over their prefill rows, and that of steps that only
 * decode over their sequences. A slope is the price of one more.
 *
 * Thread  confined to its owner. A zeroed struct has seen nothing. */
#pragma once
#include "core/util/base.h"

struct line_fit {
    double weight, x, y, xx, xy; /* decayed sums */
};

struct step_cost {
    struct line_fit prefill, decode;
    double longest_us;   /* step, and */
    double worst_row_us; /* share of a row in its step; both fade */
    uint32_t n_steps;
};

/* A step of so many prefill rows and decoding sequences took us microseconds. */
void step_cost_add(struct step_cost *c, uint32_t n_prefill_rows, uint32_t n_decodes, uint64_t us);
/* Microseconds; 0: not known yet. */
double step_cost_prefill_token(const struct step_cost *c);
double step_cost_decode_seq(const struct step_cost *c);
/* What a step takes that only decodes so many sequences; 0: not known yet. */
double step_cost_decode(const struct step_cost *c, uint32_t n_decodes);
/* What the last steps that only decoded took in the mean, and how many sequences they had; 0: there was
 * none yet. */
double step_cost_decode_mean(const struct step_cost *c, double *out_n_seqs);
/* What a step of so many rows takes at worst. Rows computed together are never slower each than in
 * the smallest step that was. */
uint64_t step_cost_limit(const struct step_cost *c, uint32_t n_rows);
