/* metric_values.c - updates of values, which take no lock, and sums over their shards. */
#include <math.h>
#include <string.h>

#include "core/observe/metrics_int.h"
#include "core/util/clock.h"

_Static_assert(sizeof(double) == sizeof(uint64_t), "sums and gauges are doubles in 64-bit words");

static uint64_t to_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static double from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* The shard of the calling thread: threads take them in turn when they first update anything. */
static uint32_t my_shard(void)
{
    static _Atomic uint32_t n_threads;
    static _Thread_local uint32_t shard_plus_1;
    if (UNLIKELY(shard_plus_1 == 0))
        shard_plus_1 = 1 + atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed) %
                               (uint32_t)METRIC_SHARDS;
    return shard_plus_1 - 1;
}

static void add_double(_Atomic uint64_t *cell, double delta)
{
    uint64_t old = atomic_load_explicit(cell, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(cell, &old, to_bits(from_bits(old) + delta),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void metric_add(struct metric_counter *c, uint64_t n)
{
    if (c)
        atomic_fetch_add_explicit(&c->shards[my_shard()].n, n, memory_order_relaxed);
}

void metric_set(struct metric_gauge *g, double v)
{
    if (g)
        atomic_store_explicit(&g->bits, to_bits(v), memory_order_relaxed);
}

void metric_gauge_add(struct metric_gauge *g, double delta)
{
    if (g)
        add_double(&g->bits, delta);
}

void metric_observe(struct metric_histogram *h, double v)
{
    metric_observe_n(h, v, 1);
}

static uint32_t bucket_of(const struct metric_histogram *h, double v)
{
    uint32_t lo = 0, hi = h->n_bounds;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (v <= h->bounds[mid])
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

void metric_observe_n(struct metric_histogram *h, double v, uint64_t n)
{
    if (!h || n == 0 || !isfinite(v))
        return;
    v = v > 0 ? v : 0; /* I1 */
    _Atomic uint64_t *shard = h->cells + my_shard() * h->shard_words;
    add_double(&shard[0], v * (double)n);
    atomic_fetch_add_explicit(&shard[1 + bucket_of(h, v)], n, memory_order_relaxed);
}

/* --- exemplars --- */

void metric_observe_traced(struct metric_histogram *h, double v, const char *trace_id)
{
    metric_observe_n(h, v, 1);
    if (!h || !h->exemplars || !isfinite(v) || !trace_id || strlen(trace_id) != METRIC_TRACE_DIGITS)
        return;
    v = v > 0 ? v : 0;
    struct metric_exemplar *x = &h->exemplars[bucket_of(h, v)];
    uint64_t version = atomic_load_explicit(&x->version, memory_order_relaxed), word;
    if (version % 2 != 0 ||
        !atomic_compare_exchange_strong_explicit(&x->version, &version, version + 1,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    /* Who acquires one of these has seen the odd version. */
    for (uint32_t i = 0; i < ARRAY_LEN(x->words); i++) {
        memcpy(&word, trace_id + i * sizeof(word), sizeof(word));
        atomic_store_explicit(&x->words[i], word, memory_order_release);
    }
    atomic_store_explicit(&x->value, to_bits(v), memory_order_release);
    atomic_store_explicit(&x->at, to_bits((double)clock_wall_us() * 1e-6), memory_order_release);
    atomic_store_explicit(&x->version, version + 2, memory_order_release);
}

bool metric_histogram_exemplar(const struct metric_histogram *h, uint32_t i,
                               char out_trace[METRIC_TRACE_DIGITS + 1], double *out_value,
                               double *out_at_s)
{
    const struct metric_exemplar *x = &h->exemplars[i];
    const uint64_t version = atomic_load_explicit(&x->version, memory_order_acquire);
    char trace[METRIC_TRACE_DIGITS + 1] = "";
    if (version == 0 || version % 2 != 0)
        return false;
    for (uint32_t k = 0; k < ARRAY_LEN(x->words); k++) {
        const uint64_t word = atomic_load_explicit(&x->words[k], memory_order_acquire);
        memcpy(trace + k * sizeof(word), &word, sizeof(word));
    }
    const double value = from_bits(atomic_load_explicit(&x->value, memory_order_acquire));
    const double at = from_bits(atomic_load_explicit(&x->at, memory_order_acquire));
    if (atomic_load_explicit(&x->version, memory_order_relaxed) != version)
        return false;
    memcpy(out_trace, trace, sizeof(trace));
    *out_value = value;
    *out_at_s = at;
    return true;
}

/* --- sums --- */

uint64_t metric_counter_value(const struct metric_counter *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < METRIC_SHARDS; i++)
        n += atomic_load_explicit(&c->shards[i].n, memory_order_relaxed);
    return n;
}

double metric_counter_rate(struct metric_counter *c, uint64_t now_us)
{
    const uint64_t n = metric_counter_value(c);
    if (c->rate_at_us != 0 && now_us - c->rate_at_us < METRICS_RATE_US)
        return c->rate;
    if (c->rate_at_us != 0)
        c->rate = (double)(n - c->rate_at) * 1e6 / (double)(now_us - c->rate_at_us);
    c->rate_at_us = now_us;
    c->rate_at = n;
    return c->rate;
}

double metric_gauge_value(const struct metric_gauge *g)
{
    return from_bits(atomic_load_explicit(&g->bits, memory_order_relaxed));
}

uint64_t metric_histogram_bucket(const struct metric_histogram *h, uint32_t i)
{
    uint64_t n = 0;
    for (uint32_t s = 0; s < METRIC_SHARDS; s++)
        n += atomic_load_explicit(&h->cells[s * h->shard_words + 1 + i], memory_order_relaxed);
    return n;
}

double metric_histogram_sum(const struct metric_histogram *h)
{
    double sum = 0;
    for (uint32_t s = 0; s < METRIC_SHARDS; s++)
        sum += from_bits(atomic_load_explicit(&h->cells[s * h->shard_words], memory_order_relaxed));
    return sum;
}

const double metric_bounds_ttft[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                     1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const uint32_t metric_n_bounds_ttft = ARRAY_LEN(metric_bounds_ttft);
const double metric_bounds_itl[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                    .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const uint32_t metric_n_bounds_itl = ARRAY_LEN(metric_bounds_itl);
const double metric_bounds_latency[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                        30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const uint32_t metric_n_bounds_latency = ARRAY_LEN(metric_bounds_latency);

uint32_t metric_bounds_125(uint64_t max, double *out, uint32_t cap)
{
    static const uint64_t steps[] = {1, 2, 5};
    uint32_t n = 0;
    for (uint64_t ten = 1;; ten *= 10) {
        for (uint32_t i = 0; i < ARRAY_LEN(steps); i++) {
            uint64_t v;
            if (n == cap || __builtin_mul_overflow(ten, steps[i], &v) || v > max)
                return n;
            out[n++] = (double)v;
        }
        if (ten > UINT64_MAX / 10)
            return n;
    }
}
