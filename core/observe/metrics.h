/* metrics.h - counters, gauges and histograms, written out as Prometheus text or OpenMetrics.
 *
 * Series are registered once (a family by name, a series by its label string) and then updated
 * without locks: counters and histograms are sharded over cache lines by thread, so that a worker
 * and the edge threads never fight for one. Registering the same family and labels again returns
 * the same series. All series exist at zero from registration.
 *
 * Labels are given as they will be printed: `model_name="m",engine="0"` (values escaped by
 * metrics_label), or "" for none. Counter names carry their `_total`.
 *
 * A derived family has no values of its own: when it is written, they are made of those of others
 * (an old name of the same thing, a rate, a ratio, a sum). It costs nothing in between.
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
/* A counter of microseconds, which is printed in seconds. */
struct metric_counter *metrics_counter_us(struct metrics *m, const char *name, const char *help,
                                          const char *labels);

/* The same with one more label, which is escaped. */
struct metric_counter *metrics_counter_with(struct metrics *m, const char *name, const char *help,
                                            const char *labels, const char *label,
                                            const char *value);
struct metric_counter *metrics_counter_us_with(struct metrics *m, const char *name,
                                               const char *help, const char *labels,
                                               const char *label, const char *value);
struct metric_gauge *metrics_gauge_with(struct metrics *m, const char *name, const char *help,
                                        const char *labels, const char *label, const char *value);

/* Derived families. Those they are made of may be registered later: until then there are no series. m
 * may be NULL. `of` and `by` are borrowed for the registry's life. */
/* The series of another family under another name. */
void metrics_alias(struct metrics *m, const char *name, const char *help, const char *of);
/* Gauges: by how much each counter grew per second, over METRICS_RATE_US before a scrape, or since the
 * one before where that is longer ago; 0 at first. One rate per counter family. */
enum { METRICS_RATE_US = 10 * 1000 * 1000 };
void metrics_rate(struct metrics *m, const char *name, const char *help, const char *of);
/* Gauges: each counter by the one of `by` with the same labels; 0 while that is 0. */
void metrics_ratio(struct metrics *m, const char *name, const char *help, const char *of,
                   const char *by);
/* One gauge: all series of one family of gauges, plus factor times all of another. */
void metrics_weighted(struct metrics *m, const char *name, const char *help, const char *of,
                      double factor, const char *by);
/* One gauge: factor times all series of one family of gauges, by what all counters of another grew per
 * second (see metrics_rate); 0 while that is 0. */
void metrics_per_rate(struct metrics *m, const char *name, const char *help, const char *of,
                      double factor, const char *by);

/* All update functions accept NULL and then do nothing. */
void metric_add(struct metric_counter *c, uint64_t n);
void metric_set(struct metric_gauge *g, double v);
void metric_gauge_add(struct metric_gauge *g, double delta);
void metric_observe(struct metric_histogram *h, double v);
/* The same value n times (several tokens of one step share a gap). */
void metric_observe_n(struct metric_histogram *h, double v, uint64_t n);
/* The same, and remembers the trace (32 hexadecimal digits; NULL, "": none) as the bucket's example,
 * which OpenMetrics shows. */
void metric_observe_traced(struct metric_histogram *h, double v, const char *trace_id);

enum metrics_style {
    METRICS_TEXT = 0,        /* Prometheus text 0.0.4 */
    METRICS_OPEN = 1,        /* OpenMetrics 1.0.0, with exemplars */
    METRICS_UNDERSCORES = 2, /* names with a colon a second time, with an underscore instead */
};
/* All series: families by first registration, `# HELP` and `# TYPE` once per family, le values as
 * "1.0". A counter's value never goes back between two calls. style: bits of metrics_style. More
 * families may follow, then metrics_write_end. */
void metrics_write(struct metrics *m, uint32_t style, struct buf *out);

/* Series that are kept elsewhere: the head of a family, its values, and so on. */
enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
void metrics_write_head(uint32_t style, const char *name, const char *help, enum metric_type type,
                        struct buf *out);
void metrics_write_value(const char *name, const char *labels, double v, struct buf *out);
/* What has to stand at the end. */
void metrics_write_end(uint32_t style, struct buf *out);

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
