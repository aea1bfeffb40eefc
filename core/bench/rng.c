#include "core/bench/rng.h"

#include <math.h>

static const uint64_t GOLDEN = 0x9e3779b97f4a7c15u;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_hash(uint64_t a, uint64_t b)
{
    return mix(mix(a + GOLDEN) ^ (b * GOLDEN + GOLDEN));
}

struct rng rng_make(uint64_t seed, uint64_t use)
{
    return (struct rng){.state = rng_hash(seed, use)};
}

uint64_t rng_u64(struct rng *r)
{
    r->state += GOLDEN;
    return mix(r->state);
}

double rng_unit(struct rng *r)
{
    return (double)((rng_u64(r) >> 11) + 1) * 0x1p-53;
}

double rng_exp(struct rng *r)
{
    return -log(rng_unit(r));
}

double rng_normal(struct rng *r)
{
    double radius = sqrt(2 * rng_exp(r)); /* Box and Muller */
    return radius * cos(2 * M_PI * rng_unit(r));
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((rng_u64(r) >> 32) * n) >> 32);
}
