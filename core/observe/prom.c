/* prom.c - the Prometheus text format 0.0.4.
 * Source  prometheus.io/docs/instrumenting/exposition_formats; numbers as prometheus_client's
 *         floatToGoString, so that `le` values are the same strings as vLLM's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics_int.h"
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

/* `name_suffix{labels,le="x"} `; le NULL: none. */
static void add_name(struct buf *b, const char *name, const char *suffix, const char *labels,
                     const char *le)
{
    buf_addstr(b, name);
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

/* Counts are exact integers, also where a double would not be. */
static void add_count(struct buf *b, uint64_t n)
{
    char text[METRIC_NUMBER_MAX];
    snprintf(text, sizeof(text), "%llu.0\n", (unsigned long long)n);
    buf_addstr(b, text);
}

static void add_number(struct buf *b, double v)
{
    char text[METRIC_NUMBER_MAX];
    metric_format(v, text);
    buf_addstr(b, text);
    buf_addch(b, '\n');
}

static void add_histogram(struct buf *b, const char *name, const struct metric_histogram *h)
{
    const char *labels = h->series.labels;
    uint64_t n = 0;
    for (uint32_t i = 0; i <= h->n_bounds; i++) {
        n += metric_histogram_bucket(h, i);
        add_name(b, name, "_bucket", labels, i < h->n_bounds ? h->le[i] : "+Inf");
        add_count(b, n);
    }
    add_name(b, name, "_count", labels, NULL);
    add_count(b, n); /* I2 */
    add_name(b, name, "_sum", labels, NULL);
    add_number(b, metric_histogram_sum(h));
}

static void add_family(struct buf *b, const struct metric_family *f)
{
    buf_addstr(b, "# HELP ");
    buf_addstr(b, f->name);
    buf_addch(b, ' ');
    add_escaped(b, f->help, false);
    buf_addstr(b, "\n# TYPE ");
    buf_addstr(b, f->name);
    buf_addch(b, ' ');
    buf_addstr(b, type_names[f->type]);
    buf_addch(b, '\n');
    for (const struct metric_series *s = f->first; s; s = s->next) {
        if (f->type == METRIC_HISTOGRAM) {
            add_histogram(b, f->name, (const struct metric_histogram *)s);
            continue;
        }
        add_name(b, f->name, "", s->labels, NULL);
        if (f->type == METRIC_COUNTER)
            add_count(b, metric_counter_value((const struct metric_counter *)s));
        else
            add_number(b, metric_gauge_value((const struct metric_gauge *)s));
    }
}

void metrics_write(struct metrics *m, struct buf *out)
{
    lock_take(&m->lock);
    for (const struct metric_family *f = m->first; f; f = f->next)
        if (f->first)
            add_family(out, f);
    lock_drop(&m->lock);
}
