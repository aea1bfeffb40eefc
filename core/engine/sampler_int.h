/* sampler_int.h - the arithmetic of the sampler: random numbers, exponentials, choosing among
 * logits. Pure functions; core/engine/sampler.c applies bias and penalties before them.
 *
 * Logits are looked at in blocks of SAMPLER_BLOCK; the maximum of each block is found first, so
 * that later passes touch only blocks that can matter, and nothing sorts the vocabulary. */
#pragma once
#include "core/engine/sampler.h"

enum { SAMPLER_BLOCK = 64 };

/* Philox4x32-10: 128 random bits from a key and a counter. */
void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* Uniform in [0, 1), 53 bits, for the n_generated-th draw of a choice. */
double sampler_uniform(uint64_t seed, uint32_t choice, uint32_t n_generated);

/* e^x for x <= 0 within 2 units in the last place, exactly 1 for 0; 0 below -87 and for NaN. The
 * same bits on every machine. */
float sampler_exp(float x);

/* How the candidates are cut down; each field as in struct sampling_params. */
struct sampler_cuts {
    float temperature; /* > 0 */
    float top_p, min_p;
    uint32_t top_k;
};

/* Fills block_max; returns the largest logit, -inf when all are NaN or -inf. */
float sampler_block_max(struct sampler_scratch *s, const float *logits);
/* The lowest id with that logit, given its block maxima; 0 when there is none. */
uint32_t sampler_argmax(const struct sampler_scratch *s, const float *logits, float max);

/* The candidates that the cuts leave, by id, with weights, in s->cand: returns how many, at least
 * one. max is finite and the block maxima are filled; some cut is on. */
uint32_t sampler_candidates(struct sampler_scratch *s, const float *logits, float max,
                            const struct sampler_cuts *cuts);
/* Draws among s->cand[0..n-1], respectively all logits, with u in [0, 1). */
uint32_t sampler_draw(const struct sampler_scratch *s, uint32_t n, double u);
uint32_t sampler_draw_all(struct sampler_scratch *s, const float *logits, float max,
                          float temperature, double u);
/* The sum of exp(logit - max) over all logits; max is finite. */
double sampler_mass(struct sampler_scratch *s, const float *logits, float max);
