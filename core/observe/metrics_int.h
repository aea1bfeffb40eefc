/* metrics_int.h - what metrics.c (registry), metric_values.c (updates, sums) and prom.c (text) share.
 *
 *   struct metrics -> family -> series (counter | gauge | histogram)
 *                       |
 *                       +-> other families, which a derived one is made of
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
    METRIC_TRACE_DIGITS = 32,
    METRIC_MAX_SERIES = 8192, /* of one registry: labels must not be able to eat the memory */
};

/* How a family without series comes to its values; those from METRIC_RATIO on need two others. */
enum metric_origin {
    METRIC_OWN,
    METRIC_ALIAS,
    METRIC_RATE,
    METRIC_RATIO,
    METRIC_WEIGHTED,
    METRIC_PER_RATE
};

struct metric_series {
    struct metric_series *next;
    const char *labels; /* borrowed from the tail of the same allocation */
};

struct metric_cell {
    _Alignas(METRIC_LINE) _Atomic uint64_t n;
};

struct metric_counter {
    struct metric_series series;
    /* For a METRIC_RATE of it, under the registry's lock. */
    uint64_t rate_at_us, rate_at; /* when it was looked at, and what it was then; 0: never */
    double rate;                  /* per second, before */
    struct metric_cell shards[METRIC_SHARDS];
};

struct metric_gauge {
    struct metric_series series;
    _Alignas(METRIC_LINE) _Atomic uint64_t bits; /* of a double */
};

/* An observation of a bucket that has a trace: a sequence lock, odd while it is written. Who finds it
 * odd lets it be: one example is as good as another. */
struct metric_exemplar {
    _Atomic uint64_t version;
    _Atomic uint64_t words[METRIC_TRACE_DIGITS / 8]; /* the digits */
    _Atomic uint64_t value, at;                      /* bits of doubles; at: seconds since 1970 */
};

struct metric_histogram {
    struct metric_series series;
    struct metric_exemplar *exemplars; /* [n_bounds + 1], version 0: none */
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
    uint32_t per_unit; /* of a counter: how many make 1 as printed */
    struct metric_series *first, *last;
    enum metric_origin origin;
    const char *of, *by; /* names of those it is derived from; borrowed, by may be NULL */
    double factor;
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
/* The rate of a counter at that time; the registry's lock is held. */
double metric_counter_rate(struct metric_counter *c, uint64_t now_us);
/* False: bucket i has none, or it is being written. */
bool metric_histogram_exemplar(const struct metric_histogram *h, uint32_t i,
                               char out_trace[METRIC_TRACE_DIGITS + 1], double *out_value,
                               double *out_at_s);
/* NULL: there is none. The registry's lock is held; so also: */
struct metric_family *metrics_find_family(const struct metrics *m, const char *name);
struct metric_series *metric_family_find(const struct metric_family *f, const char *labels);

/* v as Python's prometheus_client prints it: "1.0", "0.025", "1e+06", "+Inf", "NaN". */
void metric_format(double v, char out[METRIC_NUMBER_MAX]);
