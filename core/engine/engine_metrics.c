#include "core/engine/engine_metrics.h"

#include "core/engine/seq.h"
#include "core/util/buf.h"
#include "core/util/err.h"

static const double iteration_bounds[] = {1,   8,    16,   32,   64,   128,  256,
                                          512, 1024, 2048, 4096, 8192, 16384};

static void register_counts(struct engine_metrics *em, struct metrics *m, const char *l)
{
    em->running =
        metrics_gauge(m, "vllm:num_requests_running", "Sequences that are being computed.", l);
    em->waiting =
        metrics_gauge(m, "vllm:num_requests_waiting", "Sequences that wait to be computed.", l);
    em->kv_usage = metrics_gauge(m, "vllm:kv_cache_usage_perc",
                                 "Share of KV cache blocks held by sequences, 0 to 1.", l);
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
    em->iteration_tokens =
        metrics_histogram(m, "vllm:iteration_tokens_total", "Tokens computed per step.", l,
                          iteration_bounds, ARRAY_LEN(iteration_bounds));
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

int engine_metrics_init(struct engine_metrics *em, struct metrics *m, const char *model_name,
                        uint32_t index)
{
    struct buf labels = {0};
    *em = (struct engine_metrics){0};
    if (!m)
        return 0;
    add_base_labels(&labels, model_name, index);
    int rc = labels.failed ? -LLMD_ENOMEM : 0;
    if (!rc) {
        register_counts(em, m, buf_str(&labels));
        register_times(em, m, buf_str(&labels));
    }
    buf_fini(&labels);
    return rc;
}

int engine_metrics_cache_config(struct metrics *m, const char *model_name, uint32_t index,
                                uint32_t n_kv_blocks, bool enable_prefix_caching)
{
    struct buf labels = {0};
    if (!m)
        return 0;
    add_base_labels(&labels, model_name, index);
    add_label_u32(&labels, "block_size", KV_BLOCK_TOKENS);
    add_label_u32(&labels, "num_gpu_blocks", n_kv_blocks); /* the name that dashboards know */
    metrics_label(&labels, "enable_prefix_caching", enable_prefix_caching ? "True" : "False");
    int rc = labels.failed ? -LLMD_ENOMEM : 0;
    if (!rc)
        metric_set(
            metrics_gauge(m, "vllm:cache_config_info", "Shape of the KV cache.", buf_str(&labels)),
            1);
    buf_fini(&labels);
    return rc;
}

/* Seconds between two moments; 0 when the first is not known. */
static double seconds(uint64_t from_us, uint64_t to_us)
{
    return from_us == 0 || to_us < from_us ? 0 : (double)(to_us - from_us) * 1e-6;
}

void engine_metrics_scheduled(const struct engine_metrics *em, const struct seq_group *g)
{
    metric_observe(em->queue_time, seconds(g->queued_us, g->scheduled_us));
}

void engine_metrics_first_token(const struct engine_metrics *em, const struct seq_group *g)
{
    metric_observe(em->ttft, seconds(g->req->arrival_us, g->first_token_us));
    metric_observe(em->prefill_time, seconds(g->scheduled_us, g->first_token_us));
    metric_add(em->prompt_tokens, g->n_prompt);
    metric_add(em->prompt_tokens_cached, g->seqs[0].n_adopted);
}

void engine_metrics_over(const struct engine_metrics *em, const struct seq_group *g)
{
    if (g->first_token_us == 0)
        return;
    metric_observe(em->decode_time, seconds(g->first_token_us, g->last_token_us));
    metric_observe(em->inference_time, seconds(g->scheduled_us, g->last_token_us));
}
