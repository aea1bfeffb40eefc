#include "core/observe/metrics_read.h"

#include <math.h>
#include <string.h>

#include "core/observe/metrics_int.h"

static bool has_label(const char *labels, const char *label)
{
    const size_t n = strlen(label);
    for (const char *at = labels; n > 0; at++) {
        at = strstr(at, label);
        if (!at)
            return false;
        if ((at == labels || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return true;
}

double metrics_sum(struct metrics *m, const char *name, const char *label)
{
    double sum = 0;
    lock_take(&m->lock);
    const struct metric_family *f = metrics_find_family(m, name);
    for (const struct metric_series *s = f ? f->first : NULL; s; s = s->next) {
        if (!has_label(s->labels, label))
            continue;
        if (f->type == METRIC_COUNTER)
            sum += (double)metric_counter_value((const struct metric_counter *)s) / f->per_unit;
        else if (f->type == METRIC_GAUGE)
            sum += metric_gauge_value((const struct metric_gauge *)s);
    }
    lock_drop(&m->lock);
    return sum;
}

static void add_histogram(const struct metric_histogram *h, struct metric_buckets *out)
{
    const uint32_t n = h->n_bounds + 1;
    if (out->n == 0) {
        out->n = n;
        out->bounds = h->bounds;
    }
    if (n != out->n || memcmp(h->bounds, out->bounds, h->n_bounds * sizeof(*h->bounds)) != 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        out->counts[i] += metric_histogram_bucket(h, i);
}

void metrics_buckets(struct metrics *m, const char *name, const char *label,
                     struct metric_buckets *out)
{
    memset(out, 0, sizeof(*out));
    lock_take(&m->lock);
    const struct metric_family *f = metrics_find_family(m, name);
    for (const struct metric_series *s = f && f->type == METRIC_HISTOGRAM ? f->first : NULL; s;
         s = s->next) {
        const struct metric_histogram *h = (const struct metric_histogram *)s;
        if (h->n_bounds < METRIC_BUCKETS && has_label(s->labels, label))
            add_histogram(h, out);
    }
    lock_drop(&m->lock);
}

/* Observations of bucket i between the two. */
static double grown(const struct metric_buckets *now, const struct metric_buckets *before,
                    uint32_t i)
{
    const uint64_t was = before->n == now->n ? before->counts[i] : 0;
    return now->counts[i] > was ? (double)(now->counts[i] - was) : 0;
}

double metric_buckets_quantile(const struct metric_buckets *now,
                               const struct metric_buckets *before, double q)
{
    double all = 0, below = 0;
    for (uint32_t i = 0; i < now->n; i++)
        all += grown(now, before, i);
    if (all <= 0)
        return NAN;
    for (uint32_t i = 0; i + 1 < now->n; i++) {
        const double here = grown(now, before, i), low = i > 0 ? now->bounds[i - 1] : 0;
        if (here > 0 && below + here >= q * all)
            return low + (now->bounds[i] - low) * (q * all - below) / here;
        below += here;
    }
    return now->n > 1 ? now->bounds[now->n - 2] : NAN;
}
