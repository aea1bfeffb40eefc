/* metrics_int.h - what metrics.c (registry, updates) and prom.c (text) share.
 *
 *   struct metrics -> family -> series (counter | gauge | histogram)
 *
 * Families and series are only ever appended, under the lock, and live until metrics_free.
 *
 * Invariants  I1: a shard of a counter or bucket only grows, and a sum too (observations are
 *                 clamped to be >= 0); the sum over shards is taken in one fixed order. With
 *                 read-read coherence a later scrape therefore never sees a smaller value.
 *             I2: a histogram's `_count` is printed from the same reads as its buckets, so that it
 *                 equals the +Inf bucket in every exposition. */
#pragma once
#include <stdatomic.h>

#include "core/observe/metrics.h"
#include "core/util/lock.h"

enum {
    METRIC_SHARDS = 16, /* threads take shards in turn */
    METRIC_LINE = 64,   /* bytes of a cache line */
    METRIC_NUMBER_MAX = 32,
    METRIC_MAX_SERIES = 8192, /* of one registry: labels must not be able to eat the memory */
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_series {
    struct metric_series *next;
    const char *labels; /* borrowed from the tail of the same allocation */
};

struct metric_cell {
    _Alignas(METRIC_LINE) _Atomic uint64_t n;
};

struct metric_counter {
    struct metric_series series;
    struct metric_cell shards[METRIC_SHARDS];
};

struct metric_gauge {
    struct metric_series series;
    _Alignas(METRIC_LINE) _Atomic uint64_t bits; /* of a double */
};

struct metric_histogram {
    struct metric_series series;
    uint32_t n_bounds;
    const double *bounds;                /* [n_bounds] */
    const char (*le)[METRIC_NUMBER_MAX]; /* [n_bounds], as printed */
    size_t shard_words;                  /* a multiple of a cache line */
    /* [METRIC_SHARDS][shard_words]: the sum (bits of a double), n_bounds + 1 buckets, padding.
     * Buckets are not cumulative here. */
    _Atomic uint64_t *cells;
};

struct metric_family {
    struct metric_family *next;
    enum metric_type type;
    struct metric_series *first, *last;
    const char *name; /* both borrowed from the tail of the same allocation */
    const char *help;
};

struct metrics {
    struct lock lock; /* guards the lists; updates of values take no lock */
    struct metric_family *first, *last;
    uint32_t n_series;

    /* Always there, so that a loss can be counted when memory is short. */
    struct metric_family dropped_family;
    struct metric_counter dropped;

    /* Handed out when memory is short; never printed. */
    struct metric_counter spare_counter;
    struct metric_gauge spare_gauge;
    struct metric_histogram spare_histogram;
    _Alignas(METRIC_LINE) _Atomic uint64_t spare_cells[METRIC_SHARDS * METRIC_LINE / 8];
};

uint64_t metric_counter_value(const struct metric_counter *c);
double metric_gauge_value(const struct metric_gauge *g);
/* Bucket i over all shards, not cumulative; i == n_bounds is what lies above all bounds. */
uint64_t metric_histogram_bucket(const struct metric_histogram *h, uint32_t i);
double metric_histogram_sum(const struct metric_histogram *h);

/* v as Python's prometheus_client prints it: "1.0", "0.025", "1e+06", "+Inf", "NaN". */
void metric_format(double v, char out[METRIC_NUMBER_MAX]);
