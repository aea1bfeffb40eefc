#include "core/bench/report.h"

#include <stdio.h>
#include <string.h>

enum { NUMBER = 40 };

static double ms(double us)
{
    return us / 1e3;
}

/* "12,345" */
static const char *grouped(double v, int decimals, char out[NUMBER])
{
    char plain[NUMBER];
    int n = snprintf(plain, sizeof(plain), "%.*f", decimals, v);
    int whole = decimals > 0 ? n - decimals - 1 : n, k = 0;
    for (int i = 0; i < n && k + 2 < NUMBER; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && plain[i - 1] != '-')
            out[k++] = ',';
        out[k++] = plain[i];
    }
    out[k] = '\0';
    return out;
}

/* A duration in a column of nine: more decimals for less. */
static void add_ms(struct buf *b, double us)
{
    char number[NUMBER];
    double v = ms(us);
    buf_addf(b, "%10s", grouped(v, v < 10 ? 2 : v < 1000 ? 1 : 0, number));
}

static void add_latency(struct buf *b, const char *name, const struct histogram *h)
{
    if (h->n == 0)
        return;
    buf_addf(b, "%-8s", name);
    add_ms(b, histogram_mean(h));
    add_ms(b, histogram_quantile(h, 0.5));
    add_ms(b, histogram_quantile(h, 0.9));
    add_ms(b, histogram_quantile(h, 0.95));
    add_ms(b, histogram_quantile(h, 0.99));
    add_ms(b, (double)h->max_us);
    buf_addch(b, '\n');
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static bool has_slo(const struct measure *m)
{
    return m->slo.ttft_us || m->slo.itl_us || m->slo.tpot_us || m->slo.e2e_us;
}

static const char *token_source(const struct measure *m)
{
    return m->n_with_usage == m->n[OUTCOME_OK] ? "usage" : m->n_with_usage ? "mixed" : "pieces";
}

/* Share of one core that this process used. */
static double client_cpu(const struct measure *m)
{
    return share(m->cpu_us, m->wall_us);
}

static void add_failures(struct buf *b, const struct measure *m)
{
    char number[NUMBER];
    for (int o = OUTCOME_OK + 1; o < N_OUTCOMES; o++) {
        if (m->n[o] == 0)
            continue;
        buf_addf(b, "  %-20s%8s", outcome_text((enum outcome)o),
                 grouped((double)m->n[o], 0, number));
        for (uint32_t i = 0; o == OUTCOME_STATUS && i < m->n_statuses; i++)
            buf_addf(b, "%s%llu x %d", i ? ", " : "  (", (unsigned long long)m->statuses[i].n,
                     m->statuses[i].status);
        buf_addstr(b, o == OUTCOME_STATUS ? ")" : "");
        if (m->messages[o][0])
            buf_addf(b, "  %s", m->messages[o]);
        buf_addch(b, '\n');
    }
}

static void add_tokens(struct buf *b, const struct measure *m)
{
    char total[NUMBER], rate[NUMBER];
    if (m->prompt_tokens > 0) {
        buf_addf(b, "in        %s tokens, %s tok/s, cached %.1f %%\n",
                 grouped((double)m->prompt_tokens, 0, total),
                 grouped(measure_per_s(m, m->prompt_tokens), 1, rate),
                 100 * share(m->cached_tokens, m->prompt_tokens));
    }
    buf_addf(b, "out       %s tokens, %s tok/s%s\n", grouped((double)m->output_tokens, 0, total),
             grouped(measure_per_s(m, m->output_tokens), 1, rate),
             strcmp(token_source(m), "usage") == 0
                 ? ""
                 : " (pieces of text: the server reports no usage)");
}

static void add_load(const struct report_head *h, const struct level *l, struct buf *b)
{
    buf_addf(b, "%s, model %s, %s, %s", h->url, h->model, h->endpoint,
             strcmp(h->load, "closed") == 0 ? "closed loop" : h->load);
    if (l->rate > 0)
        buf_addf(b, " at %g requests/s", l->rate);
    buf_addf(b, ", at most %u at once, seed %llu\n\n", l->m->peak, (unsigned long long)h->seed);
}

void report_table(const struct report_head *h, const struct level *l, struct buf *out)
{
    const struct measure *m = l->m;
    char a[NUMBER], c[NUMBER];
    add_load(h, l, out);
    buf_addf(out, "requests  %s whole", grouped((double)m->n[OUTCOME_OK], 0, a));
    buf_addf(out, ", %s failed, %.2f s, %s req/s\n", grouped((double)measure_failed(m), 0, a),
             (double)m->wall_us / 1e6, grouped(measure_per_s(m, m->n[OUTCOME_OK]), 2, c));
    add_failures(out, m);
    add_tokens(out, m);
    if (has_slo(m))
        buf_addf(out, "goodput   %s req/s within the service level (%.1f %%)\n",
                 grouped(measure_per_s(m, m->n_good), 2, a),
                 100 * share(m->n_good, measure_ended(m)));
    if (h->logged_hit_rate >= 0)
        buf_addf(out, "replay    cached in the log %.1f %%, here %.1f %%\n",
                 100 * h->logged_hit_rate, 100 * share(m->cached_tokens, m->prompt_tokens));
    if (m->n[OUTCOME_OK] > 0) {
        buf_addf(out, "\n%-8s%10s%10s%10s%10s%10s%10s\n", "ms", "mean", "p50", "p90", "p95", "p99",
                 "max");
        if (h->stream) {
            add_latency(out, "TTFT", &m->ttft);
            add_latency(out, "ITL", &m->itl);
            add_latency(out, "TPOT", &m->tpot);
        }
        add_latency(out, "E2E", &m->e2e);
    }
    add_latency(out, "late", &m->late);
    buf_addf(out, "\nclient    %.1f %% of a core", 100 * client_cpu(m));
    if (m->n_pieces > 0)
        buf_addf(out, ", %.1f us per piece of text", (double)m->cpu_us / (double)m->n_pieces);
    buf_addstr(out, client_cpu(m) > 0.8 ? "; THE CLIENT WAS THE BOTTLENECK\n" : "\n");
}

void report_sweep(const struct report_head *h, const struct level *levels, uint32_t n,
                  struct buf *out)
{
    uint32_t knee = sweep_knee(levels, n);
    char a[NUMBER], c[NUMBER];
    buf_addf(out, "%s, model %s, %s, seed %llu\n\n", h->url, h->model, h->endpoint,
             (unsigned long long)h->seed);
    buf_addf(out, "%7s%9s%11s%9s%10s%10s%10s%10s%10s%10s%8s\n", "at once", "req/s", "out tok/s",
             "failed", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "E2E p50", "E2E p99",
             has_slo(levels[0].m) ? "good %" : "");
    for (uint32_t i = 0; i < n; i++) {
        const struct measure *m = levels[i].m;
        buf_addf(out, "%7u%9s%11s%9llu", levels[i].concurrency,
                 grouped(measure_per_s(m, m->n[OUTCOME_OK]), 2, a),
                 grouped(measure_per_s(m, m->output_tokens), 1, c),
                 (unsigned long long)measure_failed(m));
        const struct histogram *all[] = {&m->ttft, &m->itl, &m->e2e};
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            add_ms(out, histogram_quantile(all[k], 0.5));
            add_ms(out, histogram_quantile(all[k], 0.99));
        }
        if (has_slo(m))
            buf_addf(out, "%8.1f", 100 * share(m->n_good, measure_ended(m)));
        buf_addstr(out, i == knee ? "  <- knee\n" : "\n");
    }
    if (knee < n)
        buf_addf(
            out,
            "\nThe knee is at %u: the most power, output tok/s by mean E2E (Kleinrock 1979).\n",
            levels[knee].concurrency);
    for (uint32_t i = 0; i < n; i++)
        if (measure_failed(levels[i].m) > 0) {
            buf_addf(out, "\nfailed at %u:\n", levels[i].concurrency);
            add_failures(out, levels[i].m);
        }
}

/* ---- CSV ---- */

static const struct {
    const char *name;
    size_t offset;
} latencies[] = {
    {"ttft", offsetof(struct measure, ttft)}, {"itl", offsetof(struct measure, itl)},
    {"tpot", offsetof(struct measure, tpot)}, {"e2e", offsetof(struct measure, e2e)},
    {"late", offsetof(struct measure, late)},
};

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};

static const struct histogram *latency(const struct measure *m, size_t i)
{
    return (const struct histogram *)((const char *)m + latencies[i].offset);
}

void report_csv(const struct level *levels, uint32_t n, struct buf *out)
{
    buf_addstr(out, "concurrency,rate,duration_s,completed,failed,cancelled,requests_per_s,"
                    "goodput_per_s,prompt_tokens,cached_tokens,output_tokens,output_tokens_per_s,"
                    "client_cpu");
    for (size_t k = 0; k < ARRAY_LEN(latencies); k++) {
        buf_addf(out, ",%s_mean_ms", latencies[k].name);
        for (size_t q = 0; q < ARRAY_LEN(quantiles); q++)
            buf_addf(out, ",%s_%s_ms", latencies[k].name, quantiles[q].name);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct measure *m = levels[i].m;
        buf_addf(out, "\n%u,%g,%.6f,%llu,%llu,%llu,%.4f,%.4f,%llu,%llu,%llu,%.3f,%.4f",
                 levels[i].concurrency, levels[i].rate, (double)m->wall_us / 1e6,
                 (unsigned long long)m->n[OUTCOME_OK], (unsigned long long)measure_failed(m),
                 (unsigned long long)m->n[OUTCOME_CANCELLED], measure_per_s(m, m->n[OUTCOME_OK]),
                 measure_per_s(m, m->n_good), (unsigned long long)m->prompt_tokens,
                 (unsigned long long)m->cached_tokens, (unsigned long long)m->output_tokens,
                 measure_per_s(m, m->output_tokens), client_cpu(m));
        for (size_t k = 0; k < ARRAY_LEN(latencies); k++) {
            const struct histogram *h = latency(m, k);
            buf_addf(out, h->n ? ",%.3f" : ",", ms(histogram_mean(h)));
            for (size_t q = 0; q < ARRAY_LEN(quantiles); q++)
                buf_addf(out, h->n ? ",%.3f" : ",", ms(histogram_quantile(h, quantiles[q].q)));
        }
    }
    buf_addch(out, '\n');
}
