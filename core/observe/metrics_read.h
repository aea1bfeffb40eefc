/* metrics_read.h - what series say, for those of this process that show it (the status page).
 *
 * A label picks the series that have it, written as it is printed: `engine="0"`; "" picks all of a
 * family. What is not registered yet reads as nothing.
 *
 * Thread  any; takes the registry's lock (rank LEAF) for a walk over the families. */
#pragma once
#include "core/observe/metrics.h"
#include "core/util/base.h"

enum { METRIC_BUCKETS = 32 };

/* A histogram at one moment, summed over series. */
struct metric_buckets {
    uint32_t n;           /* buckets, the last above all bounds; 0: there is no such histogram */
    const double *bounds; /* [n - 1]; the registry's */
    uint64_t counts[METRIC_BUCKETS]; /* not cumulative */
};

/* The sum of counters or gauges. */
double metrics_sum(struct metrics *m, const char *name, const char *label);
/* Histograms of more than METRIC_BUCKETS buckets, and series with other bounds than the first, are left
 * out. */
void metrics_buckets(struct metrics *m, const char *name, const char *label,
                     struct metric_buckets *out);
/* The q-quantile (0 to 1) of what was observed from `before` to `now`, evenly spread within a bucket, as
 * Prometheus' histogram_quantile has it; of what is above all bounds the highest bound. NaN: nothing
 * was. */
double metric_buckets_quantile(const struct metric_buckets *now,
                               const struct metric_buckets *before, double q);
