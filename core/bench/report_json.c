#include <stdio.h>
#include <string.h>

#include "core/bench/report.h"
#include "core/util/json.h"

/* A writer of members: knows whether a comma is due. */
struct object {
    struct buf *out;
    bool more;
};

static struct object open_object(struct buf *out)
{
    buf_addch(out, '{');
    return (struct object){out, false};
}

static void close_object(struct object *o)
{
    buf_addch(o->out, '}');
}

static void key(struct object *o, const char *name)
{
    buf_addf(o->out, o->more ? ", \"%s\": " : "\"%s\": ", name);
    o->more = true;
}

static void add_text(struct object *o, const char *name, const char *text)
{
    key(o, name);
    json_add_cstr(o->out, text);
}

static void add_count(struct object *o, const char *name, uint64_t n)
{
    key(o, name);
    buf_addf(o->out, "%llu", (unsigned long long)n);
}

/* Rounded, so that a report is no longer than what was measured. */
static void add_real(struct object *o, const char *name, double v)
{
    key(o, name);
    buf_addf(o->out, "%.4f", v);
}

static void add_bool(struct object *o, const char *name, bool v)
{
    key(o, name);
    buf_addstr(o->out, v ? "true" : "false");
}

static void add_latency(struct object *parent, const char *name, const struct histogram *h)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}};
    key(parent, name);
    struct object o = open_object(parent->out);
    add_count(&o, "n", h->n);
    if (h->n > 0) {
        add_real(&o, "mean", histogram_mean(h) / 1e3);
        add_real(&o, "min", (double)h->min_us / 1e3);
        for (size_t i = 0; i < ARRAY_LEN(quantiles); i++)
            add_real(&o, quantiles[i].name, histogram_quantile(h, quantiles[i].q) / 1e3);
        add_real(&o, "max", (double)h->max_us / 1e3);
    }
    close_object(&o);
}

static void add_errors(struct object *parent, const struct measure *m)
{
    key(parent, "errors");
    struct object o = open_object(parent->out);
    for (int k = OUTCOME_OK + 1; k < OUTCOME_CANCELLED; k++)
        if (m->n[k] > 0)
            add_count(&o, outcome_name((enum outcome)k), m->n[k]);
    close_object(&o);
    key(parent, "statuses");
    o = open_object(parent->out);
    for (uint32_t i = 0; i < m->n_statuses; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", m->statuses[i].status);
        add_count(&o, m->statuses[i].status ? name : "other", m->statuses[i].n);
    }
    close_object(&o);
    key(parent, "messages");
    o = open_object(parent->out);
    for (int k = OUTCOME_OK + 1; k < OUTCOME_CANCELLED; k++)
        if (m->messages[k][0])
            add_text(&o, outcome_name((enum outcome)k), m->messages[k]);
    close_object(&o);
}

static void add_slo(struct object *parent, const struct measure *m)
{
    const struct slo *s = &m->slo;
    if (!s->ttft_us && !s->itl_us && !s->tpot_us && !s->e2e_us)
        return;
    key(parent, "goodput");
    struct object o = open_object(parent->out);
    add_count(&o, "good", m->n_good);
    add_real(&o, "per_s", measure_per_s(m, m->n_good));
    if (s->ttft_us)
        add_real(&o, "ttft_ms", (double)s->ttft_us / 1e3);
    if (s->itl_us)
        add_real(&o, "itl_ms", (double)s->itl_us / 1e3);
    if (s->tpot_us)
        add_real(&o, "tpot_ms", (double)s->tpot_us / 1e3);
    if (s->e2e_us)
        add_real(&o, "e2e_ms", (double)s->e2e_us / 1e3);
    close_object(&o);
}

/* The members of one run. */
static void add_level(struct object *o, const struct report_head *h, const struct level *l)
{
    const struct measure *m = l->m;
    add_count(o, "concurrency", l->concurrency);
    if (l->rate > 0)
        add_real(o, "rate", l->rate);
    add_count(o, "peak", m->peak);
    add_real(o, "duration_s", (double)m->wall_us / 1e6);
    add_count(o, "completed", m->n[OUTCOME_OK]);
    add_count(o, "failed", measure_failed(m));
    add_count(o, "cancelled", m->n[OUTCOME_CANCELLED]);
    add_errors(o, m);
    add_real(o, "requests_per_s", measure_per_s(m, m->n[OUTCOME_OK]));
    add_count(o, "prompt_tokens", m->prompt_tokens);
    add_count(o, "cached_tokens", m->cached_tokens);
    add_count(o, "output_tokens", m->output_tokens);
    add_real(o, "prompt_tokens_per_s", measure_per_s(m, m->prompt_tokens));
    add_real(o, "output_tokens_per_s", measure_per_s(m, m->output_tokens));
    add_count(o, "pieces", m->n_pieces);
    add_bool(o, "tokens_from_usage", m->n_with_usage == m->n[OUTCOME_OK]);
    add_slo(o, m);
    if (h->stream) {
        add_latency(o, "ttft_ms", &m->ttft);
        add_latency(o, "itl_ms", &m->itl);
        add_latency(o, "tpot_ms", &m->tpot);
    }
    add_latency(o, "e2e_ms", &m->e2e);
    if (m->late.n > 0)
        add_latency(o, "late_ms", &m->late);
    add_real(o, "client_cpu", m->wall_us ? (double)m->cpu_us / (double)m->wall_us : 0);
}

void report_json(const struct report_head *h, const struct level *levels, uint32_t n,
                 struct buf *out)
{
    struct object o = open_object(out);
    add_text(&o, "url", h->url);
    add_text(&o, "model", h->model);
    add_text(&o, "endpoint", h->endpoint);
    add_text(&o, "load", h->load);
    add_bool(&o, "stream", h->stream);
    add_count(&o, "seed", h->seed);
    add_bool(&o, "prompt_length_measured", h->measured_scale);
    if (h->logged_hit_rate >= 0)
        add_real(&o, "logged_hit_rate", h->logged_hit_rate);
    if (n == 1) {
        add_level(&o, h, &levels[0]);
    } else {
        uint32_t knee = sweep_knee(levels, n);
        key(&o, "levels");
        for (uint32_t i = 0; i < n; i++) {
            buf_addstr(out, i ? ",\n  " : "[\n  ");
            struct object level = open_object(out);
            add_level(&level, h, &levels[i]);
            close_object(&level);
        }
        buf_addch(out, ']');
        if (knee < n)
            add_count(&o, "knee", levels[knee].concurrency);
    }
    close_object(&o);
    buf_addch(out, '\n');
}
