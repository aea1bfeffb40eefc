#include "core/observe/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics_int.h"

_Static_assert(sizeof(double) == sizeof(uint64_t), "sums and gauges are doubles in 64-bit words");

static const char dropped_name[] = "llmd_metrics_dropped_total";
static const char dropped_help[] = "Series that could not be registered and are not exported.";

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

/* Prometheus' [a-zA-Z_:][a-zA-Z0-9_:]*. Names are written by us: anything else is a bug. */
static bool valid_name(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:";
    size_t n = strspn(s, letters);
    while (n > 0 && s[n] >= '0' && s[n] <= '9')
        n += 1 + strspn(s + n + 1, letters);
    return n > 0 && s[n] == '\0';
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Zeroed memory on a cache line. Sizes here are small: n_bounds is checked, labels are strings. */
static void *alloc_lines(size_t n_bytes)
{
    size_t n = round_up(n_bytes, METRIC_LINE);
    void *p = aligned_alloc(METRIC_LINE, n);
    if (p)
        memset(p, 0, n);
    return p;
}

struct metrics *metrics_new(void)
{
    struct metrics *m = alloc_lines(sizeof(*m));
    if (!m)
        return NULL;
    lock_init(&m->lock, LOCK_RANK_LEAF);
    m->dropped.series.labels = "";
    m->dropped_family = (struct metric_family){
        .type = METRIC_COUNTER,
        .first = &m->dropped.series,
        .last = &m->dropped.series,
        .name = dropped_name,
        .help = dropped_help,
    };
    m->first = m->last = &m->dropped_family;
    m->spare_histogram.shard_words = METRIC_LINE / sizeof(uint64_t);
    m->spare_histogram.cells = m->spare_cells;
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (struct metric_family *f = m->first, *next_family; f; f = next_family) {
        next_family = f->next;
        if (f == &m->dropped_family)
            continue;
        for (struct metric_series *s = f->first, *next_series; s; s = next_series) {
            next_series = s->next;
            free(s);
        }
        free(f);
    }
    lock_fini(&m->lock);
    free(m);
}

/* The family of that name, appended when it is new. Called with the lock held. */
static struct metric_family *get_family(struct metrics *m, const char *name, const char *help,
                                        enum metric_type type)
{
    BUG_ON(!valid_name(name));
    for (struct metric_family *f = m->first; f; f = f->next)
        if (strcmp(f->name, name) == 0) {
            BUG_ON(f->type != type); /* two modules use one name for different things */
            return f;
        }
    size_t n_name = strlen(name) + 1, n_help = strlen(help) + 1;
    struct metric_family *f = malloc(sizeof(*f) + n_name + n_help);
    if (!f)
        return NULL;
    char *tail = (char *)(f + 1);
    *f = (struct metric_family){
        .type = type,
        .name = memcpy(tail, name, n_name),
        .help = memcpy(tail + n_name, help, n_help),
    };
    m->last->next = f;
    m->last = f;
    return f;
}

static struct metric_series *find_series(const struct metric_family *f, const char *labels)
{
    for (struct metric_series *s = f->first; s; s = s->next)
        if (strcmp(s->labels, labels) == 0)
            return s;
    return NULL;
}

static void append_series(struct metrics *m, struct metric_family *f, struct metric_series *s)
{
    if (f->last)
        f->last->next = s;
    else
        f->first = s;
    f->last = s;
    m->n_series++;
}

/* A zeroed struct of n_head bytes that begins with a series, its labels at the end of the same
 * allocation. */
static struct metric_series *new_series(struct metrics *m, size_t n_head, const char *labels)
{
    size_t n_labels = strlen(labels) + 1;
    if (m->n_series >= METRIC_MAX_SERIES)
        return NULL;
    struct metric_series *s = alloc_lines(n_head + n_labels);
    if (s)
        s->labels = memcpy((char *)s + n_head, labels, n_labels);
    return s;
}

/* Finds or makes a series without further parts; NULL when that is impossible. */
static struct metric_series *get_series(struct metrics *m, const char *name, const char *help,
                                        const char *labels, enum metric_type type, size_t n_head)
{
    lock_take(&m->lock);
    struct metric_family *f = get_family(m, name, help, type);
    struct metric_series *s = f ? find_series(f, labels) : NULL;
    if (f && !s && (s = new_series(m, n_head, labels)) != NULL)
        append_series(m, f, s);
    lock_drop(&m->lock);
    if (!s)
        metric_add(&m->dropped, 1);
    return s;
}

struct metric_counter *metrics_counter(struct metrics *m, const char *name, const char *help,
                                       const char *labels)
{
    if (!m)
        return NULL;
    struct metric_series *s =
        get_series(m, name, help, labels, METRIC_COUNTER, sizeof(struct metric_counter));
    return s ? (struct metric_counter *)s : &m->spare_counter;
}

struct metric_gauge *metrics_gauge(struct metrics *m, const char *name, const char *help,
                                   const char *labels)
{
    if (!m)
        return NULL;
    struct metric_series *s =
        get_series(m, name, help, labels, METRIC_GAUGE, sizeof(struct metric_gauge));
    return s ? (struct metric_gauge *)s : &m->spare_gauge;
}

/* One allocation: struct, cells, bounds, le texts, labels. */
static struct metric_series *new_histogram(struct metrics *m, const char *labels,
                                           const double *bounds, uint32_t n_bounds)
{
    size_t shard_bytes = round_up((n_bounds + 2) * sizeof(uint64_t), METRIC_LINE);
    size_t at_cells = round_up(sizeof(struct metric_histogram), METRIC_LINE);
    size_t at_bounds = at_cells + METRIC_SHARDS * shard_bytes;
    size_t at_le = at_bounds + n_bounds * sizeof(double);
    struct metric_series *s = new_series(m, at_le + (size_t)n_bounds * METRIC_NUMBER_MAX, labels);
    if (!s)
        return NULL;
    struct metric_histogram *h = (struct metric_histogram *)s;
    char *base = (char *)s;
    char(*le)[METRIC_NUMBER_MAX] = (char(*)[METRIC_NUMBER_MAX])(base + at_le);
    for (uint32_t i = 0; i < n_bounds; i++)
        metric_format(bounds[i], le[i]);
    h->n_bounds = n_bounds;
    if (n_bounds > 0)
        memcpy(base + at_bounds, bounds, n_bounds * sizeof(double));
    h->bounds = (const double *)(base + at_bounds);
    h->le = (const char(*)[METRIC_NUMBER_MAX])le;
    h->shard_words = shard_bytes / sizeof(uint64_t);
    h->cells = (_Atomic uint64_t *)(base + at_cells);
    return s;
}

struct metric_histogram *metrics_histogram(struct metrics *m, const char *name, const char *help,
                                           const char *labels, const double *bounds,
                                           uint32_t n_bounds)
{
    enum { MAX_BOUNDS = 1024 };
    if (!m)
        return NULL;
    BUG_ON(n_bounds > MAX_BOUNDS);
    for (uint32_t i = 0; i < n_bounds; i++)
        BUG_ON(!isfinite(bounds[i]) || (i > 0 && bounds[i] <= bounds[i - 1]));
    lock_take(&m->lock);
    struct metric_family *f = get_family(m, name, help, METRIC_HISTOGRAM);
    struct metric_series *s = f ? find_series(f, labels) : NULL;
    if (f && !s && (s = new_histogram(m, labels, bounds, n_bounds)) != NULL)
        append_series(m, f, s);
    lock_drop(&m->lock);
    if (s)
        return (struct metric_histogram *)s;
    metric_add(&m->dropped, 1);
    return &m->spare_histogram;
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

void metric_observe_n(struct metric_histogram *h, double v, uint64_t n)
{
    if (!h || n == 0 || !isfinite(v))
        return;
    v = v > 0 ? v : 0; /* I1 */
    uint32_t lo = 0, hi = h->n_bounds;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (v <= h->bounds[mid])
            hi = mid;
        else
            lo = mid + 1;
    }
    _Atomic uint64_t *shard = h->cells + my_shard() * h->shard_words;
    add_double(&shard[0], v * (double)n);
    atomic_fetch_add_explicit(&shard[1 + lo], n, memory_order_relaxed);
}

uint64_t metric_counter_value(const struct metric_counter *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < METRIC_SHARDS; i++)
        n += atomic_load_explicit(&c->shards[i].n, memory_order_relaxed);
    return n;
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
