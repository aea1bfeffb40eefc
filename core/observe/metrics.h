/* metrics.h - counters, gauges and histograms, written out as Prometheus text.
 *
 * Series are registered once (a family by name, a series by its label string) and then updated
 * without locks: counters and histograms are sharded over cache lines by thread, so that a worker
 * and the edge threads never fight for one. Registering the same family and labels again returns
 * the same series. All series exist at zero from registration.
 *
 * Labels are given as they will be printed: `model_name="m",engine="0"` (values escaped by
 * metrics_label), or "" for none. Counter names carry their `_total`.
 *
 * Thread  registration takes a lock (rank LEAF); updates and metrics_write may run any time.
 * Errors  registration never returns NULL: when memory is short it hands out a series that is
 *         not printed and counts the loss in llmd_metrics_dropped_total. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

struct metrics;
struct metric_counter;
struct metric_gauge;
struct metric_histogram;

MUST_CHECK struct metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(struct metrics *m);         /* NULL is fine */

struct metric_counter *metrics_counter(struct metrics *m, const char *name, const char *help,
                                       const char *labels);
struct metric_gauge *metrics_gauge(struct metrics *m, const char *name, const char *help,
                                   const char *labels);
/* bounds: ascending upper bounds, without +Inf; copied. */
struct metric_histogram *metrics_histogram(struct metrics *m, const char *name, const char *help,
                                           const char *labels, const double *bounds,
                                           uint32_t n_bounds);

/* All update functions accept NULL and then do nothing. */
void metric_add(struct metric_counter *c, uint64_t n);
void metric_set(struct metric_gauge *g, double v);
void metric_gauge_add(struct metric_gauge *g, double delta);
void metric_observe(struct metric_histogram *h, double v);
/* The same value n times (several tokens of one step share a gap). */
void metric_observe_n(struct metric_histogram *h, double v, uint64_t n);

/* The whole exposition, text format 0.0.4: families by first registration, `# HELP` and `# TYPE`
 * once per family, le values as "1.0". A counter's value never goes back between two calls. */
void metrics_write(struct metrics *m, struct buf *out);

/* Appends name="escaped value", with a comma in front unless labels is empty. */
void metrics_label(struct buf *labels, const char *name, const char *value);

/* Histogram bounds that vLLM uses (seconds). */
extern const double metric_bounds_ttft[];
extern const uint32_t metric_n_bounds_ttft;
extern const double metric_bounds_itl[];
extern const uint32_t metric_n_bounds_itl;
extern const double metric_bounds_latency[];
extern const uint32_t metric_n_bounds_latency;
/* 1-2-5 series up to max, at most cap values; returns how many. */
uint32_t metric_bounds_125(uint64_t max, double *out, uint32_t cap);
