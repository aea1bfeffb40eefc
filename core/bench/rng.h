/* rng.h - random numbers that are the same on every machine for the same seed.
 *
 * SplitMix64: the n-th number is a hash of seed and n, so that a word deep in a prompt can be drawn
 * without the words in front of it (rng_hash).
 * Source  Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. */
#pragma once
#include "core/util/base.h"

struct rng {
    uint64_t state;
};

/* A generator of its own for each of several uses of one seed. */
struct rng rng_make(uint64_t seed, uint64_t use);
uint64_t rng_u64(struct rng *r);
double rng_unit(struct rng *r);   /* (0, 1] */
double rng_exp(struct rng *r);    /* mean 1 */
double rng_normal(struct rng *r); /* mean 0, standard deviation 1 */
/* Uniform in 0..n-1; n > 0. */
uint32_t rng_below(struct rng *r, uint32_t n);
/* A number that depends on both values alone. */
uint64_t rng_hash(uint64_t a, uint64_t b);
