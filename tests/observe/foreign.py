"""What dashboards and scalers of others ask for: the names in their expressions (not their files). A name is followed
by the labels that they select or group by."""

GRAFANA = """  vllm-project/vllm, examples/observability/prometheus_grafana/grafana.json
vllm:e2e_request_latency_seconds_bucket model_name le
vllm:e2e_request_latency_seconds_sum model_name
vllm:e2e_request_latency_seconds_count model_name
vllm:prompt_tokens_total model_name
vllm:generation_tokens_total model_name
vllm:inter_token_latency_seconds_bucket model_name le
vllm:inter_token_latency_seconds_sum model_name
vllm:inter_token_latency_seconds_count model_name
vllm:num_requests_running model_name
vllm:num_requests_waiting model_name
vllm:time_to_first_token_seconds_bucket model_name le
vllm:time_to_first_token_seconds_sum model_name
vllm:time_to_first_token_seconds_count model_name
vllm:kv_cache_usage_perc model_name
vllm:request_prompt_tokens_bucket model_name le
vllm:request_generation_tokens_bucket model_name le
vllm:request_success_total model_name finished_reason
vllm:request_queue_time_seconds_sum model_name
vllm:request_prefill_time_seconds_sum model_name
vllm:request_decode_time_seconds_sum model_name
vllm:request_max_num_generation_tokens_sum model_name
"""
QUERIES = """  vllm-project/vllm, examples/observability/dashboards/grafana/query_statistics.json
vllm:request_success_total model_name
vllm:e2e_request_latency_seconds_count model_name
vllm:e2e_request_latency_seconds_bucket model_name le
vllm:request_prompt_tokens_sum model_name
vllm:request_generation_tokens_sum model_name
vllm:request_prompt_tokens_count model_name
"""
PERFORMANCE = """  the same, performance_statistics.json: names as OpenTelemetry writes them
vllm_e2e_request_latency_seconds_bucket model_name le
vllm_time_to_first_token_seconds_bucket model_name le
vllm_inter_token_latency_seconds_bucket model_name le
vllm_generation_tokens_total model_name
vllm_prompt_tokens_total model_name
vllm_num_requests_running model_name
vllm_num_requests_waiting model_name
vllm_kv_cache_usage_perc model_name
"""
STACK = """  vllm-project/production-stack, helm/dashboards/vllm-dashboard.json
vllm:healthy_pods_total
vllm:current_qps
vllm:e2e_request_latency_seconds_bucket le
vllm:e2e_request_latency_seconds_sum
vllm:e2e_request_latency_seconds_count
vllm:time_to_first_token_seconds_bucket le
vllm:request_time_per_output_token_seconds_sum
vllm:request_time_per_output_token_seconds_count
vllm:num_requests_running
vllm:num_requests_waiting
vllm:kv_cache_usage_perc
vllm:gpu_prefix_cache_hits_total
vllm:gpu_prefix_cache_queries_total
router_cpu_usage_percent
router_memory_usage_percent
router_disk_usage_percent
"""
STACK_MODELS = """  the same, vllm-model-metrics-dashboard.json
vllm:e2e_request_latency_seconds_bucket model_name le
vllm:e2e_request_latency_seconds_sum model_name
vllm:e2e_request_latency_seconds_count model_name
vllm:generation_tokens_total model_name
vllm:prompt_tokens_total model_name
vllm:kv_cache_usage_perc model_name
vllm:num_requests_running model_name
vllm:num_requests_waiting model_name
vllm:request_decode_time_seconds_sum model_name
vllm:request_prefill_time_seconds_sum model_name
vllm:request_queue_time_seconds_sum model_name
vllm:request_generation_tokens_bucket model_name le
vllm:request_prompt_tokens_bucket model_name le
vllm:request_max_num_generation_tokens_sum model_name
vllm:request_success_total model_name finished_reason
vllm:request_time_per_output_token_seconds_bucket model_name le
vllm:request_time_per_output_token_seconds_sum model_name
vllm:request_time_per_output_token_seconds_count model_name
vllm:time_to_first_token_seconds_bucket model_name le
vllm:time_to_first_token_seconds_sum model_name
vllm:time_to_first_token_seconds_count model_name
"""
STACK_OLD = """  the same, tutorials/terraform (older names), and what its router scrapes
vllm:gpu_cache_usage_perc model_name
vllm:cpu_cache_usage_perc model_name
vllm:num_requests_swapped model_name
vllm:time_per_output_token_seconds_bucket model_name le
vllm:time_per_output_token_seconds_sum model_name
vllm:time_per_output_token_seconds_count model_name
vllm:gpu_prefix_cache_hit_rate model_name
vllm:num_requests_running model_name
vllm:num_requests_waiting model_name
"""
SCALERS = """  production-stack's KEDA triggers, llm-d's endpoint picker
vllm:num_requests_waiting model_name
vllm:num_incoming_requests_total model
vllm:num_requests_running model_name
vllm:kv_cache_usage_perc model_name
vllm:cache_config_info block_size num_gpu_blocks
vllm_num_requests_running model_name
vllm_num_requests_waiting model_name
"""

ALL = {"vllm": GRAFANA, "vllm-queries": QUERIES, "vllm-performance": PERFORMANCE, "stack": STACK,
       "stack-models": STACK_MODELS, "stack-old": STACK_OLD, "scalers": SCALERS}


def series(table):
    """(name, labels) of each line but the title."""
    for line in table.splitlines()[1:]:
        name, *labels = line.split()
        yield name, labels
