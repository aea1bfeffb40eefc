#include "core/edge/page_rates.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char ttft[] = "vllm:time_to_first_token_seconds",
                  itl[] = "vllm:inter_token_latency_seconds",
                  queue[] = "vllm:request_queue_time_seconds",
                  e2e[] = "vllm:e2e_request_latency_seconds",
                  generated[] = "vllm:generation_tokens_total",
                  prompt[] = "vllm:prompt_tokens_total", preempted[] = "vllm:num_preemptions_total",
                  prefix_asked[] = "vllm:prefix_cache_queries_total",
                  prefix_hit[] = "vllm:prefix_cache_hits_total";

double worker_kv_share(const struct worker_status *s)
{
    if (s->n_kv_blocks == 0)
        return NAN;
    return (double)(s->n_kv_blocks - s->n_free_kv_blocks) / s->n_kv_blocks;
}

/* ---- reading ---- */

static void read_all(struct rates_reading *at, struct metrics *m, const struct rates_facts *f)
{
    *at = (struct rates_reading){
        .at_us = f->now_us, .n_requests = f->n_requests, .n_failed = f->n_failed};
    if (!m)
        return;
    metrics_buckets(m, ttft, "", &at->ttft);
    metrics_buckets(m, itl, "", &at->itl);
    metrics_buckets(m, queue, "", &at->queue);
    metrics_buckets(m, e2e, "", &at->e2e);
    at->generated = metrics_sum(m, generated, "");
    at->prompt = metrics_sum(m, prompt, "");
    at->preempted = metrics_sum(m, preempted, "");
    at->prefix_asked = metrics_sum(m, prefix_asked, "");
    at->prefix_hit = metrics_sum(m, prefix_hit, "");
}

/* Its record, or one that is free or of a worker that is gone; NULL: there are too many. */
static struct rates_worker *worker_record(struct page_rates *r, uint64_t place)
{
    struct rates_worker *free_one = NULL;
    for (struct rates_worker *w = r->workers; w < r->workers + RATES_WORKERS; w++) {
        if (w->place == place)
            return w;
        if (w->place == 0 || w->seen + 1 < r->n)
            free_one = w;
    }
    if (free_one) {
        memset(free_one, 0, sizeof(*free_one));
        free_one->place = place;
    }
    return free_one;
}

static void read_worker(struct page_rates *r, struct metrics *m, const struct router_worker_view *v,
                        uint64_t now_us)
{
    struct rates_worker *w = worker_record(r, v->place);
    char label[40];
    if (!w || !m)
        return;
    snprintf(label, sizeof(label), "engine=\"%u\"", v->index);
    w->seconds[w->n % RATES_SECONDS].at_us = now_us;
    w->seconds[w->n % RATES_SECONDS].generated = metrics_sum(m, generated, label);
    w->seconds[w->n % RATES_SECONDS].prompt = metrics_sum(m, prompt, label);
    w->preempted = metrics_sum(m, preempted, label);
    metrics_buckets(m, ttft, label, &w->now.ttft);
    metrics_buckets(m, queue, label, &w->now.queue);
    w->now.prefix_asked = metrics_sum(m, prefix_asked, label);
    w->now.prefix_hit = metrics_sum(m, prefix_hit, label);
    if (w->n % RATES_HALF_S == 0) {
        w->whole = w->n == 0 ? w->now : w->half;
        w->half = w->now;
    }
    w->n++;
    w->seen = r->n;
}

void page_rates_read(struct page_rates *r, struct metrics *m, const struct rates_facts *f)
{
    read_all(&r->readings[r->n % RATES_READINGS], m, f);
    for (uint32_t i = 0; i < f->n_workers; i++)
        read_worker(r, m, &f->workers[i], f->now_us);
    r->n++;
}

/* ---- rates ---- */

/* How much more per second; NaN: no time passed. */
static float per_second(double now, double before, double seconds)
{
    return seconds > 0 ? (float)(fmax(0, now - before) / seconds) : NAN;
}

static double share(double part, double all)
{
    return all > 0 ? fmin(1, fmax(0, part / all)) : NAN;
}

static float quantile(const struct metric_buckets *now, const struct metric_buckets *before,
                      double q)
{
    return (float)metric_buckets_quantile(now, before, q);
}

void page_rates_sample(const struct page_rates *r, const struct rates_facts *f, uint32_t seconds,
                       struct page_sample *out)
{
    BUG_ON(r->n == 0 || seconds >= RATES_READINGS);
    const uint32_t back = (uint32_t)u64_min(seconds, r->n - 1);
    const struct rates_reading *a = &r->readings[(r->n - 1 - back) % RATES_READINGS];
    const struct rates_reading *b = &r->readings[(r->n - 1) % RATES_READINGS];
    const double passed = (double)(b->at_us - a->at_us) / 1e6;
    float *v = out->v;
    v[COLUMN_ttft_p50] = quantile(&b->ttft, &a->ttft, 0.5);
    v[COLUMN_ttft_p95] = quantile(&b->ttft, &a->ttft, 0.95);
    v[COLUMN_ttft_p99] = quantile(&b->ttft, &a->ttft, 0.99);
    v[COLUMN_itl_p50] = quantile(&b->itl, &a->itl, 0.5);
    v[COLUMN_itl_p95] = quantile(&b->itl, &a->itl, 0.95);
    v[COLUMN_itl_p99] = quantile(&b->itl, &a->itl, 0.99);
    v[COLUMN_queue_p95] = quantile(&b->queue, &a->queue, 0.95);
    v[COLUMN_e2e_p95] = quantile(&b->e2e, &a->e2e, 0.95);
    v[COLUMN_tok_s] = per_second(b->generated, a->generated, passed);
    v[COLUMN_prompt_tok_s] = per_second(b->prompt, a->prompt, passed);
    v[COLUMN_req_s] = per_second((double)b->n_requests, (double)a->n_requests, passed);
    v[COLUMN_failed_s] = per_second((double)b->n_failed, (double)a->n_failed, passed);
    v[COLUMN_preempt_s] = per_second(b->preempted, a->preempted, passed);
    v[COLUMN_hit_rate] =
        (float)share(b->prefix_hit - a->prefix_hit, b->prefix_asked - a->prefix_asked);
    v[COLUMN_running] = (float)f->n_running;
    v[COLUMN_waiting] = (float)f->n_waiting;
    v[COLUMN_kv] = (float)f->kv;
}

void page_rates_worker(const struct page_rates *r, uint64_t place, struct worker_rates *out)
{
    *out = (struct worker_rates){NAN, NAN, NAN, NAN, NAN, NAN};
    for (const struct rates_worker *w = r->workers; w < r->workers + RATES_WORKERS; w++) {
        if (w->place != place || w->n == 0)
            continue;
        const uint32_t last = w->n - 1;
        const uint32_t first = last - (uint32_t)u64_min(last, RATES_SECONDS - 1);
        const uint32_t i = last % RATES_SECONDS, k = first % RATES_SECONDS;
        const double passed = (double)(w->seconds[i].at_us - w->seconds[k].at_us) / 1e6;
        out->tok_s = (double)per_second(w->seconds[i].generated, w->seconds[k].generated, passed);
        out->prompt_tok_s = (double)per_second(w->seconds[i].prompt, w->seconds[k].prompt, passed);
        out->hit_rate = share(w->now.prefix_hit - w->whole.prefix_hit,
                              w->now.prefix_asked - w->whole.prefix_asked);
        out->ttft_p95 = metric_buckets_quantile(&w->now.ttft, &w->whole.ttft, 0.95);
        out->queue_p95 = metric_buckets_quantile(&w->now.queue, &w->whole.queue, 0.95);
        out->preemptions = w->preempted;
    }
}
