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

/* What the time of a step goes into. */
enum step_part {
    STEP_SCHEDULE, /* who is in it, and its arrays */
    STEP_COMPUTE,  /* the model's layers */
    STEP_SAMPLE,   /* from logits to tokens */
    STEP_EMIT,     /* tokens to their streams, and what ended */
    STEP_PARTS
};
/* What the time from nothing to ready goes into. */
enum load_phase { LOAD_OPEN, LOAD_WEIGHTS, LOAD_MEMORY, LOAD_WARM_UP, LOAD_PHASES };

struct engine_metrics {
    struct metric_gauge *running, *waiting, *waiting_for_room, *kv_usage;
    struct metric_gauge *load_seconds[LOAD_PHASES];
    struct metric_counter *prefix_queries, *prefix_hits, *preemptions;
    struct metric_counter *prompt_tokens, *prompt_tokens_cached, *generation_tokens;
    struct metric_counter *prompt_computed, *prompt_found, *prompt_on_device;
    struct metric_counter *step_us[STEP_PARTS], *host_us;
    struct metric_histogram *ttft, *itl, *queue_time, *prefill_time, *decode_time, *inference_time;
    struct metric_histogram *iteration_tokens, *prefill_tokens, *request_preemptions, *step_time;
};

struct worker_opts;

/* Registers all series at zero; without o->metrics none. ENOMEM when the labels cannot be built. */
MUST_CHECK int engine_metrics_init(struct engine_metrics *em, const struct worker_opts *o);
/* Publishes the shape of the KV cache, once it is known. */
MUST_CHECK int engine_metrics_cache_config(const struct worker_opts *o, uint32_t n_kv_blocks);
/* So long the phase took. */
void engine_metrics_loaded(const struct engine_metrics *em, enum load_phase phase, uint64_t us);
/* A step ended. host_us: of it, the time in which the device waited for the host. */
void engine_metrics_step(const struct engine_metrics *em, const uint64_t part_us[STEP_PARTS],
                         uint64_t host_us);

/* Moments of a request; the times are those of the group. */
void engine_metrics_scheduled(const struct engine_metrics *em, const struct seq_group *g);
void engine_metrics_first_token(const struct engine_metrics *em, const struct seq_group *g);
void engine_metrics_over(const struct engine_metrics *em, const struct seq_group *g);
