/* histogram.h - durations in microseconds, counted in buckets that grow with the value.
 *
 * Values below 512 us are counted exactly; above, each power of two is cut into 256 buckets, so that
 * a quantile is off by at most 1/512 of itself. Count, sum, least and greatest are exact. Adding
 * allocates nothing. About 70 KiB. */
#pragma once
#include "core/util/base.h"

enum { HISTOGRAM_SUB_BITS = 8, HISTOGRAM_OCTAVES = 33 };

struct histogram {
    uint64_t n, sum_us, min_us, max_us;
    uint64_t counts[(HISTOGRAM_OCTAVES + 1) << HISTOGRAM_SUB_BITS];
};

/* A zeroed struct is an empty histogram. Values beyond the last bucket (25 days) count in it. */
void histogram_add(struct histogram *h, uint64_t us);
/* The value of rank q * (n - 1), 0 <= q <= 1; 0 when empty. */
double histogram_quantile(const struct histogram *h, double q);
double histogram_mean(const struct histogram *h); /* 0 when empty */
/* Least value and width of a bucket. */
void histogram_bucket(uint32_t index, uint64_t *out_from_us, uint64_t *out_width_us);
