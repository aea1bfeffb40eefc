#include "core/bench/arrivals.h"

#include <math.h>

/* The time at which `load` requests were due. */
static double due_s(const struct arrivals *a)
{
    double ramp_s = (double)a->ramp_us / 1e6;
    double in_ramp = a->per_s * ramp_s / 2;
    if (a->load < in_ramp)
        return sqrt(2 * ramp_s * a->load / a->per_s);
    return a->load / a->per_s + ramp_s / 2;
}

uint64_t arrivals_next(struct arrivals *a)
{
    if (a->left == 0) {
        a->left = a->burst;
        a->load += a->burst * (a->constant ? 1 : rng_exp(&a->rng));
    }
    a->left--;
    return (uint64_t)(due_s(a) * 1e6);
}
