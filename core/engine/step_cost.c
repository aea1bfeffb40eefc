#include "core/engine/step_cost.h"

static const double decay = 0.989; /* 0.5 after 64 steps */

static void fit_add(struct line_fit *f, double x, double y)
{
    f->weight = f->weight * decay + 1;
    f->x = f->x * decay + x;
    f->y = f->y * decay + y;
    f->xx = f->xx * decay + x * x;
    f->xy = f->xy * decay + x * y;
}

/* 0 while all x are about the same, or more costs less. */
static double fit_slope(const struct line_fit *f)
{
    if (f->weight < 4)
        return 0;
    const double mean_x = f->x / f->weight, var = f->xx / f->weight - mean_x * mean_x;
    if (var < 0.01 * mean_x * mean_x || var <= 0)
        return 0;
    const double slope = (f->xy / f->weight - mean_x * f->y / f->weight) / var;
    return slope > 0 ? slope : 0;
}

void step_cost_add(struct step_cost *c, uint32_t n_prefill_rows, uint32_t n_decodes, uint64_t us)
{
    const double fade = 0.999, row_us = (double)us / (n_prefill_rows + n_decodes);
    c->longest_us = (double)us > c->longest_us * fade ? (double)us : c->longest_us * fade;
    c->worst_row_us = row_us > c->worst_row_us * fade ? row_us : c->worst_row_us * fade;
    c->n_steps++;
    if (n_prefill_rows > 0)
        fit_add(&c->prefill, n_prefill_rows, (double)us);
    else if (n_decodes > 0)
        fit_add(&c->decode, n_decodes, (double)us);
}

double step_cost_prefill_token(const struct step_cost *c)
{
    return fit_slope(&c->prefill);
}

double step_cost_decode_seq(const struct step_cost *c)
{
    return fit_slope(&c->decode);
}

double step_cost_decode(const struct step_cost *c, uint32_t n_decodes)
{
    const struct line_fit *f = &c->decode;
    if (f->weight < 2)
        return 0;
    const double us = (f->y + fit_slope(f) * (n_decodes * f->weight - f->x)) / f->weight;
    return us > 0 ? us : 0;
}

double step_cost_decode_mean(const struct step_cost *c, double *out_n_seqs)
{
    const struct line_fit *f = &c->decode;
    *out_n_seqs = f->weight > 0 ? f->x / f->weight : 0;
    return f->weight > 0 ? f->y / f->weight : 0;
}

uint64_t step_cost_limit(const struct step_cost *c, uint32_t n_rows)
{
    enum { STEPS_TO_KNOW = 4, SAFETY = 4 };
    const double slope = step_cost_prefill_token(c);
    double worst = c->worst_row_us * n_rows;
    if (c->n_steps < STEPS_TO_KNOW)
        return 0;
    if (slope > 0 && c->longest_us + slope * n_rows < worst)
        worst = c->longest_us + slope * n_rows;
    return (uint64_t)(SAFETY * worst) + 1;
}
