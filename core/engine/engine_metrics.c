#include "core/engine/engine_metrics.h"

#include "core/engine/seq.h"
#include "core/engine/worker.h"
#include "core/util/buf.h"
#include "core/util/err.h"

static const double iteration_bounds[] = {1,   8,    16,   32,   64,   128,  256,
                                          512, 1024, 2048, 4096, 8192, 16384};

static void register_gauges(struct engine_metrics *em, struct metrics *m, const char *l)
{
    em->running =
        metrics_gauge(m, "vllm:num_requests_running", "Sequences that are being computed.", l);
    em->waiting =
        metrics_gauge(m, "vllm:num_requests_waiting", "Sequences that wait to be computed.", l);
    em->kv_usage = metrics_gauge(m, "vllm:kv_cache_usage_perc",
                                 "Share of KV cache blocks held by sequences, 0 to 1.", l);
    em->waiting_for_room = metrics_gauge_with(m, "vllm:num_requests_waiting_by_reason",
                                              "What they wait for.", l, "reason", "capacity");
    metrics_gauge_with(m, "vllm:num_requests_waiting_by_reason", "", l, "reason", "deferred");
    metric_set(metrics_gauge_with(m, "vllm:engine_sleep_state", "1 for the state that it is in.", l,
                                  "sleep_state", "awake"),
               1); /* llmd never sleeps */
    metrics_gauge_with(m, "vllm:engine_sleep_state", "", l, "sleep_state", "weights_offloaded");
    metrics_gauge_with(m, "vllm:engine_sleep_state", "", l, "sleep_state", "discard_all");
}

/* vLLM's, of what llmd does not have: they stay at zero. */
static void register_absent(struct metrics *m, const char *l)
{
    static const char *const names[][2] = {
        {"vllm:external_prefix_cache_queries_total",
         "Prompt tokens looked up in caches elsewhere."},
        {"vllm:external_prefix_cache_hits_total", "Prompt tokens found in caches elsewhere."},
        {"vllm:mm_cache_queries_total", "Images and sounds looked up in their cache."},
        {"vllm:mm_cache_hits_total", "Images and sounds found in their cache."},
    };
    static const char *const places[] = {"host", "p2p", "disk", "external_unspecified"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        metrics_counter(m, names[i][0], names[i][1], l);
    metrics_counter_with(m, "vllm:prompt_tokens_by_source_total", "", l, "source",
                         "external_kv_transfer");
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        metrics_counter_with(m, "vllm:prompt_tokens_cached_by_source_total", "", l, "source",
                             places[i]);
}

static void register_counts(struct engine_metrics *em, struct metrics *m, const char *l)
{
    em->prefix_queries = metrics_counter(m, "vllm:prefix_cache_queries_total",
                                         "Prompt tokens looked up in the prefix cache.", l);
    em->prefix_hits = metrics_counter(m, "vllm:prefix_cache_hits_total",
                                      "Prompt tokens found in the prefix cache.", l);
    em->preemptions = metrics_counter(m, "vllm:num_preemptions_total",
                                      "Times a sequence's KV blocks were taken away.", l);
    em->prompt_tokens = metrics_counter(m, "vllm:prompt_tokens_total",
                                        "Prompt tokens processed, cached ones included.", l);
    em->prompt_tokens_cached = metrics_counter(m, "vllm:prompt_tokens_cached_total",
                                               "Prompt tokens taken from the prefix cache.", l);
    em->generation_tokens =
        metrics_counter(m, "vllm:generation_tokens_total", "Tokens generated.", l);
    em->prompt_computed = metrics_counter_with(
        m, "vllm:prompt_tokens_by_source_total",
        "Prompt tokens by where their keys and values came from.", l, "source", "local_compute");
    em->prompt_found = metrics_counter_with(m, "vllm:prompt_tokens_by_source_total", "", l,
                                            "source", "local_cache_hit");
    em->prompt_on_device = metrics_counter_with(
        m, "vllm:prompt_tokens_cached_by_source_total",
        "Prompt tokens taken from caches, by where those are.", l, "source", "device");
    register_absent(m, l);
}

static void register_sizes(struct engine_metrics *em, const struct worker_opts *o, const char *l)
{
    static const double preemption_bounds[] = {1, 2, 3, 4, 5, 10, 20};
    enum { MAX_BOUNDS = 64 };
    double bounds[MAX_BOUNDS];
    const uint32_t n = metric_bounds_125(o->max_model_len, bounds, MAX_BOUNDS);
    em->iteration_tokens =
        metrics_histogram(o->metrics, "vllm:iteration_tokens_total", "Tokens computed per step.", l,
                          iteration_bounds, ARRAY_LEN(iteration_bounds));
    em->prefill_tokens = metrics_histogram(
        o->metrics, "vllm:request_prefill_kv_computed_tokens",
        "Prompt tokens of a request that were computed, without cached ones.", l, bounds, n);
    em->request_preemptions = metrics_histogram(o->metrics, "vllm:request_num_preemptions",
                                                "Times a request's KV blocks were taken away.", l,
                                                preemption_bounds, ARRAY_LEN(preemption_bounds));
}

static void register_steps(struct engine_metrics *em, struct metrics *m, const char *l)
{
    static const char *const parts[STEP_PARTS] = {[STEP_SCHEDULE] = "schedule",
                                                  [STEP_COMPUTE] = "compute",
                                                  [STEP_SAMPLE] = "sample",
                                                  [STEP_EMIT] = "emit"};
    static const char *const phases[LOAD_PHASES] = {[LOAD_OPEN] = "open",
                                                    [LOAD_WEIGHTS] = "weights",
                                                    [LOAD_MEMORY] = "memory",
                                                    [LOAD_WARM_UP] = "warm_up"};
    static const double bounds[] = {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2,
                                    5e-2, 0.1,  0.2,  0.5,  1,    2,    5,    10};
    for (int i = 0; i < STEP_PARTS; i++)
        em->step_us[i] = metrics_counter_us_with(m, "llmd_step_seconds_total",
                                                 "What the time of the engine's steps went into.",
                                                 l, "part", parts[i]);
    em->host_us = metrics_counter_us(
        m, "llmd_host_overhead_seconds_total",
        "Time of the engine's steps in which the device waited for the host.", l);
    em->step_time = metrics_histogram(m, "llmd_step_duration_seconds", "Time of a step.", l, bounds,
                                      ARRAY_LEN(bounds));
    for (int i = 0; i < LOAD_PHASES; i++)
        em->load_seconds[i] = metrics_gauge_with(
            m, "llmd_load_seconds", "What the last start of the worker took, by phase.", l, "phase",
            phases[i]);
}

static void register_times(struct engine_metrics *em, struct metrics *m, const char *l)
{
    const struct {
        struct metric_histogram **out;
        const char *name, *help;
    } latencies[] = {
        {&em->queue_time, "vllm:request_queue_time_seconds", "From queued to first computed."},
        {&em->prefill_time, "vllm:request_prefill_time_seconds",
         "From first computed to the first token."},
        {&em->decode_time, "vllm:request_decode_time_seconds", "From the first token to the last."},
        {&em->inference_time, "vllm:request_inference_time_seconds",
         "From first computed to the last token."},
    };
    em->ttft =
        metrics_histogram(m, "vllm:time_to_first_token_seconds", "From arrival to the first token.",
                          l, metric_bounds_ttft, metric_n_bounds_ttft);
    em->itl = metrics_histogram(m, "vllm:inter_token_latency_seconds",
                                "Between two tokens of one sequence.", l, metric_bounds_itl,
                                metric_n_bounds_itl);
    for (size_t i = 0; i < ARRAY_LEN(latencies); i++)
        *latencies[i].out = metrics_histogram(m, latencies[i].name, latencies[i].help, l,
                                              metric_bounds_latency, metric_n_bounds_latency);
}

/* Names that vLLM had before, and gauges that are made of others. */
static void register_derived(struct metrics *m)
{
    static const struct {
        const char *name, *of;
    } old[] = {
        {"vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"},
        {"vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"},
        {"vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
        {"vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"},
    };
    struct buf help = {0};
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        buf_clear(&help);
        buf_addf(&help, "The old name of %s.", old[i].of);
        metrics_alias(m, old[i].name, buf_str(&help), old[i].of);
    }
    buf_fini(&help);
    metrics_ratio(m, "vllm:gpu_prefix_cache_hit_rate",
                  "Hits of the prefix cache by queries, 0 to 1.", "vllm:prefix_cache_hits_total",
                  "vllm:prefix_cache_queries_total");
    metrics_rate(m, "vllm:avg_prompt_throughput_toks_per_s",
                 "Prompt tokens per second, over 10 s before the scrape or since the one before.",
                 "vllm:prompt_tokens_total");
    metrics_rate(
        m, "vllm:avg_generation_throughput_toks_per_s",
        "Generated tokens per second, over 10 s before the scrape or since the one before.",
        "vllm:generation_tokens_total");
    metrics_weighted(m, "llmd_scale_load", "Sequences that run, and ten times those that wait.",
                     "vllm:num_requests_running", 10, "vllm:num_requests_waiting");
}

/* What no worker has; old dashboards ask for it. */
static void register_swap(struct metrics *m, const char *l)
{
    metrics_gauge(m, "vllm:num_requests_swapped", "llmd does not swap: 0.", l);
    metrics_gauge(m, "vllm:cpu_cache_usage_perc", "llmd does not swap: 0.", l);
}

static void add_label_u32(struct buf *labels, const char *name, uint32_t v)
{
    struct buf text = {0};
    buf_addf(&text, "%u", v);
    metrics_label(labels, name, buf_str(&text));
    labels->failed |= text.failed;
    buf_fini(&text);
}

static void add_base_labels(struct buf *labels, const char *model_name, uint32_t index)
{
    metrics_label(labels, "model_name", model_name);
    add_label_u32(labels, "engine", index);
}

int engine_metrics_init(struct engine_metrics *em, const struct worker_opts *o)
{
    struct buf labels = {0};
    struct metrics *m = o->metrics;
    *em = (struct engine_metrics){0};
    if (!m)
        return 0;
    add_base_labels(&labels, o->model_name, o->index);
    int rc = labels.failed ? -LLMD_ENOMEM : 0;
    if (!rc) {
        register_gauges(em, m, buf_str(&labels));
        register_counts(em, m, buf_str(&labels));
        register_sizes(em, o, buf_str(&labels));
        register_times(em, m, buf_str(&labels));
        register_steps(em, m, buf_str(&labels));
        register_swap(m, buf_str(&labels));
        register_derived(m);
    }
    buf_fini(&labels);
    return rc;
}

int engine_metrics_cache_config(const struct worker_opts *o, uint32_t n_kv_blocks)
{
    struct buf labels = {0}, share = {0};
    const bool gpu = o->device == DEVICE_CUDA;
    if (!o->metrics)
        return 0;
    add_base_labels(&labels, o->model_name, o->index);
    add_label_u32(&labels, "block_size", KV_BLOCK_TOKENS);
    add_label_u32(&labels, "num_gpu_blocks", n_kv_blocks); /* the name that dashboards know */
    metrics_label(&labels, "cache_dtype", "auto");
    metrics_label(&labels, "enable_prefix_caching", o->enable_prefix_caching ? "True" : "False");
    buf_addf(&share, "%.2f",
             gpu ? (o->gpu_memory_percent ? o->gpu_memory_percent : 90) / 100.0 : 0);
    metrics_label(&labels, "gpu_memory_utilization", buf_str(&share));
    int rc = labels.failed || share.failed ? -LLMD_ENOMEM : 0;
    if (!rc)
        metric_set(metrics_gauge(o->metrics, "vllm:cache_config_info", "Shape of the KV cache.",
                                 buf_str(&labels)),
                   1);
    buf_fini(&labels);
    buf_fini(&share);
    return rc;
}

void engine_metrics_loaded(const struct engine_metrics *em, enum load_phase phase, uint64_t us)
{
    metric_set(em->load_seconds[phase], (double)us / 1e6);
}

void engine_metrics_step(const struct engine_metrics *em, const uint64_t part_us[STEP_PARTS],
                         uint64_t host_us)
{
    uint64_t us = 0;
    for (int i = 0; i < STEP_PARTS; i++) {
        metric_add(em->step_us[i], part_us[i]);
        us += part_us[i];
    }
    metric_add(em->host_us, host_us);
    metric_observe(em->step_time, (double)us * 1e-6);
}

/* Seconds between two moments; 0 when the first is not known. */
static double seconds(uint64_t from_us, uint64_t to_us)
{
    return from_us == 0 || to_us < from_us ? 0 : (double)(to_us - from_us) * 1e-6;
}

void engine_metrics_scheduled(const struct engine_metrics *em, const struct seq_group *g)
{
    metric_observe_traced(em->queue_time, seconds(g->queued_us, g->scheduled_us), g->req->trace_id);
}

void engine_metrics_first_token(const struct engine_metrics *em, const struct seq_group *g)
{
    /* After a move, what a choice had put out is found in the cache as well. */
    const uint32_t n_cached = (uint32_t)u64_min(g->seqs[0].n_adopted, g->n_prompt);
    metric_observe_traced(em->ttft, seconds(g->req->arrival_us, g->first_token_us),
                          g->req->trace_id);
    metric_observe(em->prefill_time, seconds(g->scheduled_us, g->first_token_us));
    metric_add(em->prompt_tokens, g->n_prompt);
    metric_add(em->prompt_tokens_cached, n_cached);
    metric_add(em->prompt_computed, g->n_prompt - n_cached);
    metric_add(em->prompt_found, n_cached);
    metric_add(em->prompt_on_device, n_cached);
    metric_observe(em->prefill_tokens, g->n_prompt - n_cached);
}

void engine_metrics_over(const struct engine_metrics *em, const struct seq_group *g)
{
    if (g->first_token_us == 0)
        return;
    struct request *r = g->req;
    lock_take(&r->stream.mu);
    const uint32_t n_preemptions = r->trace.n_preemptions;
    lock_drop(&r->stream.mu);
    metric_observe(em->request_preemptions, n_preemptions);
    metric_observe(em->decode_time, seconds(g->first_token_us, g->last_token_us));
    metric_observe(em->inference_time, seconds(g->scheduled_us, g->last_token_us));
}
