/* numerics_sample.c - what the device draws: tokens of the right set only, as often as they should be.
 * Every row of a step has the same logits and a number of its own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/device/rig.h"

enum { ROWS = 64, ROWS_TINY = 8, STEPS = 64, STEPS_TINY = 6, CONTEXT = 16, BLOCKS = 1031 };

static struct rig_opts opts_of(bool tiny, bool host_logits)
{
    const uint32_t rows = tiny ? ROWS_TINY : ROWS;
    return (struct rig_opts){.cuda = {.host_logits = host_logits},
                             .max_rows = rows,
                             .max_seqs = rows,
                             .max_context = CONTEXT,
                             .n_blocks = BLOCKS};
}

/* One step of `rows` sequences that have the same only token. */
static void same_rows(struct step *st, struct rig *r, uint32_t rows)
{
    const uint32_t token = 3;
    step_clear(st);
    for (uint32_t i = 0; i < rows; i++)
        step_add(st, r, i, &token, 1, 0, 1);
}

struct likely {
    uint32_t id;
    double p;
};

static int by_probability(const void *a, const void *b)
{
    const struct likely *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* The tokens by their probability. */
static struct likely *rank(const float *logits, uint32_t vocab)
{
    struct likely *l = calloc(vocab, sizeof(*l));
    double sum = 0, max = -INFINITY;
    if (!l)
        exit(2);
    for (uint32_t i = 0; i < vocab; i++)
        max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - max);
    for (uint32_t i = 0; i < vocab; i++)
        l[i] = (struct likely){i, exp((double)logits[i] - max) / sum};
    qsort(l, vocab, sizeof(*l), by_probability);
    return l;
}

/* How many of the likeliest tokens a way to sample chooses from. */
static uint32_t kept_by(const struct likely *l, uint32_t vocab, const struct sample_how *how)
{
    const uint32_t most = how->top_k > 0 && how->top_k < vocab ? how->top_k : vocab;
    double all = 0, sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < most; i++)
        all += l[i].p;
    while (n < most && (n == 0 || sum < (double)how->top_p * all))
        sum += l[n++].p;
    return n;
}

/* Draws, and compares counts with probabilities: tokens that are expected less than five times share a
 * bin. Chi-square has its degrees of freedom as mean and twice them as variance. */
static bool draw(struct rig *r, struct step *st, bool tiny, const struct likely *l,
                 const char *name, const struct sample_how *how)
{
    const uint32_t rows = tiny ? ROWS_TINY : ROWS, steps = tiny ? STEPS_TINY : STEPS;
    const uint32_t vocab = r->shape->vocab, n_kept = kept_by(l, vocab, how), n = rows * steps;
    uint32_t *counts = calloc(vocab, sizeof(*counts)), n_bins = 0, n_outside = 0, n_rare = 0;
    double kept = 0, chi = 0, rare = 0;
    if (!counts)
        exit(2);
    for (uint32_t k = 0; k < steps; k++) {
        same_rows(st, r, rows);
        for (uint32_t i = 0; i < rows; i++) {
            st->samples[i].how = *how;
            st->samples[i].how.seed = 7777 + i;
            st->samples[i].how.n_generated = k;
        }
        step_run(st, r);
        for (uint32_t i = 0; i < rows; i++)
            counts[st->ids[i]]++;
    }
    for (uint32_t i = 0; i < n_kept; i++)
        kept += l[i].p;
    for (uint32_t i = 0; i < vocab; i++) {
        const double want = i < n_kept ? n * l[i].p / kept : 0;
        const double got = counts[l[i].id];
        n_outside += i >= n_kept ? counts[l[i].id] : 0;
        if (want >= 5) {
            chi += (got - want) * (got - want) / want;
            n_bins++;
        } else if (i < n_kept) {
            rare += want;
            n_rare += counts[l[i].id];
        }
    }
    if (rare >= 5) {
        chi += (n_rare - rare) * (n_rare - rare) / rare;
        n_bins++;
    }
    const double freedom = n_bins > 1 ? n_bins - 1 : 0;
    const bool ok = n_outside == 0 && chi <= freedom + 4 * sqrt(2 * freedom) + 4;
    printf("\"%s\": {\"draws\": %u, \"tokens\": %u, \"outside\": %u, \"bins\": %u, \"chi_square\": "
           "%.4g, \"ok\": %s}, ",
           name, n, n_kept, n_outside, n_bins, chi, ok ? "true" : "false");
    free(counts);
    return ok;
}

bool check_sampling(const struct shape *s, bool tiny)
{
    const struct sample_how all = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    struct sample_how top_k = all, top_p = all, both = all;
    top_k.top_k = 8;
    top_p.top_p = 0.5f;
    both.top_k = 20;
    both.top_p = 0.8f;
    const struct rig_opts with_logits = opts_of(tiny, true), with_sampler = opts_of(tiny, false);
    struct rig r;
    struct step st;
    rig_open(&r, s, &with_logits);
    step_init(&st, &with_logits);
    same_rows(&st, &r, tiny ? ROWS_TINY : ROWS);
    step_run(&st, &r);
    struct likely *l = rank(forward_logits(r.forward, 0), s->vocab);
    step_fini(&st);
    rig_close(&r);

    rig_open(&r, s, &with_sampler);
    step_init(&st, &with_sampler);
    printf("\"sampling\": {");
    bool ok = draw(&r, &st, tiny, l, "all", &all);
    ok &= draw(&r, &st, tiny, l, "top_k", &top_k);
    ok &= draw(&r, &st, tiny, l, "top_p", &top_p);
    ok &= draw(&r, &st, tiny, l, "top_k_and_p", &both);
    printf("\"ok\": %s}, ", ok ? "true" : "false");
    step_fini(&st);
    rig_close(&r);
    free(l);
    return ok;
}
