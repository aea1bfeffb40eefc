/* arrivals.h - when requests come in an open loop: at a rate, whatever the server does.
 *
 * Poisson (gaps exponentially distributed) or constant gaps; `burst` requests at each arrival, so
 * that the mean rate stays. During the first ramp_us the rate grows linearly from 0: arrivals of a
 * process of rate 1 are carried over by the inverse of the integrated rate. */
#pragma once
#include "core/bench/rng.h"
#include "core/util/base.h"

struct arrivals {
    double per_s; /* requests per second; > 0 */
    bool constant;
    uint32_t burst; /* > 0 */
    uint64_t ramp_us;

    struct rng rng;
    double load;   /* requests that were due so far, of the process of rate 1 */
    uint32_t left; /* of the burst under way */
};

/* Microseconds since the start at which the next request is due; never goes back. */
uint64_t arrivals_next(struct arrivals *a);
