/* page_rates.h - from what is counted to what is shown: rates and percentiles over windows of time.
 *
 * Once a second the counters are read (page_rates_read). A reading less the one of some seconds ago is what
 * happened meanwhile: the last second and the last 15 for the history, 10 and 60 seconds for figures of
 * now. Of a worker: 10 seconds for rates, half a minute to one for the rest.
 *
 * Thread  one at a time. */
#pragma once
#include "core/edge/page_history.h"
#include "core/observe/metrics_read.h"
#include "core/router/router.h"
#include "core/util/base.h"

enum { RATES_READINGS = 61, RATES_WORKERS = 128, RATES_SECONDS = 11, RATES_HALF_S = 30 };

/* What had been counted at a moment. */
struct rates_reading {
    uint64_t at_us;
    struct metric_buckets ttft, itl, queue, e2e;
    double generated, prompt, preempted, prefix_asked, prefix_hit;
    uint64_t n_requests, n_failed;
};

struct rates_worker {
    uint64_t place; /* 0: free */
    uint32_t seen;  /* the tick at which it was there last */
    uint32_t n;     /* ticks it was there */
    struct {
        uint64_t at_us;
        double generated, prompt;
    } seconds[RATES_SECONDS]; /* number n lies at n % RATES_SECONDS */
    struct rates_window {
        struct metric_buckets ttft, queue;
        double prefix_asked, prefix_hit;
    } now, half, whole; /* now, and at the last two half minutes */
    double preempted;
};

struct page_rates {
    uint32_t n; /* readings that ever were; number n lies at n % RATES_READINGS */
    struct rates_reading readings[RATES_READINGS];
    struct rates_worker workers[RATES_WORKERS];
};

/* What stands in no series. */
struct rates_facts {
    uint64_t now_us, n_requests, n_failed;
    uint32_t n_running, n_waiting; /* requests that workers have; that wait, anywhere */
    double kv;                     /* share of the KV blocks in use; NaN: there are none */
    const struct router_worker_view *workers; /* [n_workers] */
    uint32_t n_workers;
};

void page_rates_read(struct page_rates *r, struct metrics *m, const struct rates_facts *f);
/* What happened within the last so many seconds, by the readings that there are. */
void page_rates_sample(const struct page_rates *r, const struct rates_facts *f, uint32_t seconds,
                       struct page_sample *out);

/* Of a worker; NaN: not known. */
struct worker_rates {
    double tok_s, prompt_tok_s, hit_rate, ttft_p95, queue_p95, preemptions;
};
void page_rates_worker(const struct page_rates *r, uint64_t place, struct worker_rates *out);
/* Share of a worker's KV blocks in use; NaN: it has none. */
double worker_kv_share(const struct worker_status *s);
