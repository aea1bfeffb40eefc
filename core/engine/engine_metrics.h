/* engine_metrics.h - the series that a worker can know, under the names that vLLM gave them.
 *
 * Labels: model_name and engine (the worker's index). Series of whole requests (request_success,
 * e2e latency, lengths) are the edge's. A prompt counts once, however many choices it has.
 *
 * A zeroed struct counts nothing: so a warm-up leaves no trace. */
#pragma once
#include "core/observe/metrics.h"
#include "core/util/base.h"

struct seq_group;

struct engine_metrics {
    struct metric_gauge *running, *waiting, *kv_usage;
    struct metric_counter *prefix_queries, *prefix_hits, *preemptions;
    struct metric_counter *prompt_tokens, *prompt_tokens_cached, *generation_tokens;
    struct metric_histogram *ttft, *itl, *queue_time, *prefill_time, *decode_time, *inference_time;
    struct metric_histogram *iteration_tokens;
};

/* Registers all series at zero; m may be NULL. ENOMEM when the labels cannot be built. */
MUST_CHECK int engine_metrics_init(struct engine_metrics *em, struct metrics *m,
                                   const char *model_name, uint32_t index);
/* Publishes the shape of the KV cache, once it is known. */
MUST_CHECK int engine_metrics_cache_config(struct metrics *m, const char *model_name,
                                           uint32_t index, uint32_t n_kv_blocks,
                                           bool enable_prefix_caching);

/* Moments of a request; the times are those of the group. */
void engine_metrics_scheduled(const struct engine_metrics *em, const struct seq_group *g);
void engine_metrics_first_token(const struct engine_metrics *em, const struct seq_group *g);
void engine_metrics_over(const struct engine_metrics *em, const struct seq_group *g);
