/* prom.c - the Prometheus text format 0.0.4 and OpenMetrics 1.0.0. In what llmd writes they differ by
 * the names of families of counters (without _total), quotes in helps, exemplars, and the last line.
 * Source  prometheus.io/docs/instrumenting/exposition_formats, github.com/prometheus/OpenMetrics;
 *         numbers as prometheus_client's floatToGoString, so that `le` values are the same strings
 *         as vLLM's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics_int.h"
#include "core/util/clock.h"
#include "core/util/utf8.h"

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

void metric_format(double v, char out[METRIC_NUMBER_MAX])
{
    enum { MAX_DIGITS = 17, FIXED_MIN_EXP = -4, FIXED_MAX_EXP = 5 };
    char text[METRIC_NUMBER_MAX];
    if (!isfinite(v)) {
        snprintf(out, METRIC_NUMBER_MAX, "%s", isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    int digits = 1; /* the fewest that read back as v */
    for (; digits <= MAX_DIGITS; digits++) {
        snprintf(text, sizeof(text), "%.*e", digits - 1, v);
        if (strtod(text, NULL) == v)
            break;
    }
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < FIXED_MIN_EXP || exponent > FIXED_MAX_EXP) {
        snprintf(out, METRIC_NUMBER_MAX, "%s", text);
        return;
    }
    int decimals = digits - 1 - exponent;
    snprintf(out, METRIC_NUMBER_MAX, "%.*f", decimals > 1 ? decimals : 1, v);
}

/* Text behind HELP or inside a label value: backslash and line feed, in labels '"' too. */
static void add_escaped(struct buf *b, const char *s, bool label)
{
    for (; *s; s++) {
        if (*s == '\n')
            buf_addstr(b, "\\n");
        else {
            if (*s == '\\' || (label && *s == '"'))
                buf_addch(b, '\\');
            buf_addch(b, *s);
        }
    }
}

void metrics_label(struct buf *labels, const char *name, const char *value)
{
    struct buf clean = {0};
    utf8_add_lossy(&clean, value, strlen(value));
    if (labels->len > 0)
        buf_addch(labels, ',');
    buf_addstr(labels, name);
    buf_addstr(labels, "=\"");
    add_escaped(labels, buf_str(&clean), true);
    buf_addch(labels, '"');
    labels->failed |= clean.failed;
    buf_fini(&clean);
}

/* What is written, and how. */
struct writer {
    struct buf *out;
    uint32_t style;
    uint64_t now_us;
    bool underscores; /* the second time, for names with a colon */
};

static void add_family_name(const struct writer *w, const char *name, size_t n)
{
    if (!w->underscores) {
        buf_add(w->out, name, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        buf_addch(w->out, name[i] == ':' ? '_' : name[i]);
}

/* `name_suffix{labels,le="x"} `; le NULL: none. */
static void add_name(const struct writer *w, const char *name, const char *suffix,
                     const char *labels, const char *le)
{
    struct buf *b = w->out;
    add_family_name(w, name, strlen(name));
    buf_addstr(b, suffix);
    if (labels[0] || le) {
        buf_addch(b, '{');
        buf_addstr(b, labels);
        if (le) {
            buf_addstr(b, labels[0] ? ",le=\"" : "le=\"");
            buf_addstr(b, le);
            buf_addch(b, '"');
        }
        buf_addch(b, '}');
    }
    buf_addch(b, ' ');
}

/* Counts are exact integers, also where a double would not be. Most of what is written are counts. */
static void add_count(struct buf *b, uint64_t n)
{
    char text[METRIC_NUMBER_MAX], *p = text + sizeof(text);
    *--p = '0';
    *--p = '.';
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

static void add_number(struct buf *b, double v)
{
    char text[METRIC_NUMBER_MAX];
    metric_format(v, text);
    buf_addstr(b, text);
}

static void add_exemplar(const struct writer *w, const struct metric_histogram *h, uint32_t i)
{
    char trace[METRIC_TRACE_DIGITS + 1];
    double value, at_s;
    if (!(w->style & METRICS_OPEN) || !metric_histogram_exemplar(h, i, trace, &value, &at_s))
        return;
    buf_addf(w->out, " # {trace_id=\"%s\"} ", trace);
    add_number(w->out, value);
    buf_addf(w->out, " %.3f", at_s);
}

static void add_histogram(const struct writer *w, const char *name,
                          const struct metric_histogram *h)
{
    const char *labels = h->series.labels;
    uint64_t n = 0;
    for (uint32_t i = 0; i <= h->n_bounds; i++) {
        n += metric_histogram_bucket(h, i);
        add_name(w, name, "_bucket", labels, i < h->n_bounds ? h->le[i] : "+Inf");
        add_count(w->out, n);
        add_exemplar(w, h, i);
        buf_addch(w->out, '\n');
    }
    add_name(w, name, "_count", labels, NULL);
    add_count(w->out, n); /* I2 */
    buf_addch(w->out, '\n');
    add_name(w, name, "_sum", labels, NULL);
    add_number(w->out, metric_histogram_sum(h));
    buf_addch(w->out, '\n');
}

static void add_gauge(const struct writer *w, const char *name, const char *labels, double v)
{
    add_name(w, name, "", labels, NULL);
    add_number(w->out, v);
    buf_addch(w->out, '\n');
}

static void add_counter(const struct writer *w, const struct metric_family *f, const char *name,
                        const struct metric_counter *c)
{
    const uint64_t n = metric_counter_value(c);
    add_name(w, name, "", c->series.labels, NULL);
    if (f->per_unit == 1)
        add_count(w->out, n);
    else
        add_number(w->out, (double)n / f->per_unit);
    buf_addch(w->out, '\n');
}

static void add_head(const struct writer *w, const char *name, const char *help,
                     enum metric_type type)
{
    static const char *const lines[] = {"# HELP ", "# TYPE "};
    const bool open = w->style & METRICS_OPEN;
    const size_t n_suffix = open && type == METRIC_COUNTER ? strlen("_total") : 0;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        buf_addstr(w->out, lines[i]);
        add_family_name(w, name, strlen(name) - n_suffix);
        buf_addch(w->out, ' ');
        if (i == 0)
            add_escaped(w->out, help, open);
        else
            buf_addstr(w->out, type_names[type]);
        buf_addch(w->out, '\n');
    }
}

/* The series of f, under the name of another family where that is an alias of it. */
static void add_series(const struct writer *w, const struct metric_family *f, const char *name)
{
    for (const struct metric_series *s = f->first; s; s = s->next) {
        if (f->type == METRIC_HISTOGRAM)
            add_histogram(w, name, (const struct metric_histogram *)s);
        else if (f->type == METRIC_COUNTER)
            add_counter(w, f, name, (const struct metric_counter *)s);
        else
            add_gauge(w, name, s->labels, metric_gauge_value((const struct metric_gauge *)s));
    }
}

static double sum_of_gauges(const struct metric_family *f)
{
    double sum = 0;
    for (const struct metric_series *s = f->first; s; s = s->next)
        sum += metric_gauge_value((const struct metric_gauge *)s);
    return sum;
}

static double sum_of_rates(const struct metric_family *f, uint64_t now_us)
{
    double sum = 0;
    for (struct metric_series *s = f->first; s; s = s->next)
        sum += metric_counter_rate((struct metric_counter *)s, now_us);
    return sum;
}

static double ratio(const struct metric_series *s, const struct metric_family *by)
{
    const struct metric_series *d = metric_family_find(by, s->labels);
    const uint64_t n = d ? metric_counter_value((const struct metric_counter *)d) : 0;
    return n > 0 ? (double)metric_counter_value((const struct metric_counter *)s) / (double)n : 0;
}

/* f is made of `of`, and of `by` where it needs two. */
static void add_derived(const struct writer *w, const struct metric_family *f,
                        const struct metric_family *of, const struct metric_family *by)
{
    double rate;
    BUG_ON(f->origin >= METRIC_RATIO && !by);
    switch (f->origin) {
    case METRIC_OWN:
    case METRIC_ALIAS:
        add_series(w, of, f->name);
        break;
    case METRIC_RATE:
        for (struct metric_series *s = of->first; s; s = s->next)
            add_gauge(w, f->name, s->labels,
                      metric_counter_rate((struct metric_counter *)s, w->now_us));
        break;
    case METRIC_RATIO:
        for (const struct metric_series *s = of->first; s; s = s->next)
            add_gauge(w, f->name, s->labels, ratio(s, by));
        break;
    case METRIC_WEIGHTED:
        add_gauge(w, f->name, "", sum_of_gauges(of) + f->factor * sum_of_gauges(by));
        break;
    case METRIC_PER_RATE:
        rate = sum_of_rates(by, w->now_us);
        add_gauge(w, f->name, "", rate > 0 ? f->factor * sum_of_gauges(of) / rate : 0);
        break;
    }
}

static void add_family(const struct writer *w, const struct metrics *m,
                       const struct metric_family *f)
{
    const struct metric_family *of = f->origin == METRIC_OWN ? f : metrics_find_family(m, f->of);
    const struct metric_family *by = f->by ? metrics_find_family(m, f->by) : NULL;
    if (!of || !of->first || (f->by && !by))
        return;
    add_head(w, f->name, f->help, f->origin == METRIC_ALIAS ? of->type : f->type);
    add_derived(w, f, of, by);
}

void metrics_write(struct metrics *m, uint32_t style, struct buf *out)
{
    struct writer w = {.out = out, .style = style, .now_us = clock_now_us()};
    lock_take(&m->lock);
    for (const struct metric_family *f = m->first; f; f = f->next) {
        w.underscores = false;
        add_family(&w, m, f);
        w.underscores = style & METRICS_UNDERSCORES && strchr(f->name, ':');
        if (w.underscores)
            add_family(&w, m, f);
    }
    lock_drop(&m->lock);
}

void metrics_write_head(uint32_t style, const char *name, const char *help, enum metric_type type,
                        struct buf *out)
{
    const struct writer w = {.out = out, .style = style};
    add_head(&w, name, help, type);
}

void metrics_write_value(const char *name, const char *labels, double v, struct buf *out)
{
    const struct writer w = {.out = out};
    add_gauge(&w, name, labels, v);
}

void metrics_write_end(uint32_t style, struct buf *out)
{
    if (style & METRICS_OPEN)
        buf_addstr(out, "# EOF\n");
}
