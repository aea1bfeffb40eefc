#include "core/observe/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics_int.h"

static const char dropped_name[] = "llmd_metrics_dropped_total";
static const char dropped_help[] = "Series that could not be registered and are not exported.";

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
        .per_unit = 1,
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

struct metric_family *metrics_find_family(const struct metrics *m, const char *name)
{
    struct metric_family *f = m->first;
    while (f && strcmp(f->name, name) != 0)
        f = f->next;
    return f;
}

/* The family of that name, appended when it is new. Called with the lock held. */
static struct metric_family *get_family(struct metrics *m, const char *name, const char *help,
                                        enum metric_type type, uint32_t per_unit)
{
    BUG_ON(!valid_name(name));
    struct metric_family *known = metrics_find_family(m, name);
    if (known) {
        /* two modules use one name for different things */
        BUG_ON(known->type != type || known->per_unit != per_unit || known->origin != METRIC_OWN);
        return known;
    }
    size_t n_name = strlen(name) + 1, n_help = strlen(help) + 1;
    struct metric_family *f = malloc(sizeof(*f) + n_name + n_help);
    if (!f)
        return NULL;
    char *tail = (char *)(f + 1);
    *f = (struct metric_family){
        .type = type,
        .per_unit = per_unit,
        .name = memcpy(tail, name, n_name),
        .help = memcpy(tail + n_name, help, n_help),
    };
    m->last->next = f;
    m->last = f;
    return f;
}

struct metric_series *metric_family_find(const struct metric_family *f, const char *labels)
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

/* Finds or makes a series without further parts; NULL when that is impossible. labels NULL: there was
 * no memory for them. */
static struct metric_series *get_series(struct metrics *m, const char *name, const char *help,
                                        const char *labels, enum metric_type type,
                                        uint32_t per_unit, size_t n_head)
{
    lock_take(&m->lock);
    struct metric_family *f = get_family(m, name, help, type, per_unit);
    struct metric_series *s = f && labels ? metric_family_find(f, labels) : NULL;
    if (f && labels && !s && (s = new_series(m, n_head, labels)) != NULL)
        append_series(m, f, s);
    lock_drop(&m->lock);
    if (!s)
        metric_add(&m->dropped, 1);
    return s;
}

static struct metric_counter *get_counter(struct metrics *m, const char *name, const char *help,
                                          const char *labels, uint32_t per_unit)
{
    static const char suffix[] = "_total"; /* without which OpenMetrics knows no counter */
    const size_t n = strlen(name), n_suffix = sizeof(suffix) - 1;
    BUG_ON(n <= n_suffix || strcmp(name + n - n_suffix, suffix) != 0);
    if (!m)
        return NULL;
    struct metric_series *s =
        get_series(m, name, help, labels, METRIC_COUNTER, per_unit, sizeof(struct metric_counter));
    return s ? (struct metric_counter *)s : &m->spare_counter;
}

struct metric_counter *metrics_counter(struct metrics *m, const char *name, const char *help,
                                       const char *labels)
{
    return get_counter(m, name, help, labels, 1);
}

struct metric_counter *metrics_counter_us(struct metrics *m, const char *name, const char *help,
                                          const char *labels)
{
    return get_counter(m, name, help, labels, 1000000);
}

struct metric_gauge *metrics_gauge(struct metrics *m, const char *name, const char *help,
                                   const char *labels)
{
    if (!m)
        return NULL;
    struct metric_series *s =
        get_series(m, name, help, labels, METRIC_GAUGE, 1, sizeof(struct metric_gauge));
    return s ? (struct metric_gauge *)s : &m->spare_gauge;
}

/* One allocation: struct, cells, exemplars, bounds, le texts, labels. */
static struct metric_series *new_histogram(struct metrics *m, const char *labels,
                                           const double *bounds, uint32_t n_bounds)
{
    size_t shard_bytes = round_up((n_bounds + 2) * sizeof(uint64_t), METRIC_LINE);
    size_t at_cells = round_up(sizeof(struct metric_histogram), METRIC_LINE);
    size_t at_exemplars = at_cells + METRIC_SHARDS * shard_bytes;
    size_t at_bounds = at_exemplars + (n_bounds + 1) * sizeof(struct metric_exemplar);
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
    h->exemplars = (struct metric_exemplar *)(base + at_exemplars);
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
    struct metric_family *f = get_family(m, name, help, METRIC_HISTOGRAM, 1);
    struct metric_series *s = f ? metric_family_find(f, labels) : NULL;
    if (f && !s && (s = new_histogram(m, labels, bounds, n_bounds)) != NULL)
        append_series(m, f, s);
    lock_drop(&m->lock);
    if (s)
        return (struct metric_histogram *)s;
    metric_add(&m->dropped, 1);
    return &m->spare_histogram;
}

/* --- one more label --- */

/* NULL: out of memory. */
static const char *more_labels(struct buf *b, const char *labels, const char *label,
                               const char *value)
{
    buf_addstr(b, labels);
    metrics_label(b, label, value);
    return b->failed ? NULL : buf_str(b);
}

struct metric_counter *metrics_counter_with(struct metrics *m, const char *name, const char *help,
                                            const char *labels, const char *label,
                                            const char *value)
{
    struct buf b = {0};
    struct metric_counter *c =
        metrics_counter(m, name, help, more_labels(&b, labels, label, value));
    buf_fini(&b);
    return c;
}

struct metric_counter *metrics_counter_us_with(struct metrics *m, const char *name,
                                               const char *help, const char *labels,
                                               const char *label, const char *value)
{
    struct buf b = {0};
    struct metric_counter *c =
        metrics_counter_us(m, name, help, more_labels(&b, labels, label, value));
    buf_fini(&b);
    return c;
}

struct metric_gauge *metrics_gauge_with(struct metrics *m, const char *name, const char *help,
                                        const char *labels, const char *label, const char *value)
{
    struct buf b = {0};
    struct metric_gauge *g = metrics_gauge(m, name, help, more_labels(&b, labels, label, value));
    buf_fini(&b);
    return g;
}

/* --- derived families --- */

/* Appends a family that is made of others, unless it is there; `by` may be NULL. */
static void derive(struct metrics *m, const char *name, const char *help, enum metric_origin origin,
                   const char *of, double factor, const char *by)
{
    if (!m)
        return;
    lock_take(&m->lock);
    struct metric_family *f = metrics_find_family(m, name);
    BUG_ON(f && f->origin != origin);
    if (!f && (f = get_family(m, name, help, METRIC_GAUGE, 1)) != NULL) {
        f->origin = origin;
        f->of = of;
        f->by = by;
        f->factor = factor;
    }
    lock_drop(&m->lock);
    if (!f)
        metric_add(&m->dropped, 1);
}

void metrics_alias(struct metrics *m, const char *name, const char *help, const char *of)
{
    derive(m, name, help, METRIC_ALIAS, of, 0, NULL);
}

void metrics_rate(struct metrics *m, const char *name, const char *help, const char *of)
{
    derive(m, name, help, METRIC_RATE, of, 0, NULL);
}

void metrics_ratio(struct metrics *m, const char *name, const char *help, const char *of,
                   const char *by)
{
    derive(m, name, help, METRIC_RATIO, of, 0, by);
}

void metrics_weighted(struct metrics *m, const char *name, const char *help, const char *of,
                      double factor, const char *by)
{
    derive(m, name, help, METRIC_WEIGHTED, of, factor, by);
}

void metrics_per_rate(struct metrics *m, const char *name, const char *help, const char *of,
                      double factor, const char *by)
{
    derive(m, name, help, METRIC_PER_RATE, of, factor, by);
}
