"""/metrics: vLLM's series under vLLM's names, at zero from the start; two formats; what clients' answers count."""
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from conftest import wait_until

OPEN = "application/openmetrics-text"
# What Prometheus 2.42 sends.
PROMETHEUS = (f"{OPEN};version=1.0.0,{OPEN};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

T = (".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560")
I = ".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80"
E = ".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"
LENGTHS = "1 2 5 10 20 50 100 200 500 1000 2000"
# vLLM's, with its bounds and what labels it has beside model_name and engine.
HISTOGRAMS = {
    "time_to_first_token_seconds": T, "inter_token_latency_seconds": I, "request_time_per_output_token_seconds": I,
    "e2e_request_latency_seconds": E, "request_queue_time_seconds": E, "request_prefill_time_seconds": E,
    "request_decode_time_seconds": E, "request_inference_time_seconds": E, "request_prompt_tokens": LENGTHS,
    "request_generation_tokens": LENGTHS, "request_max_num_generation_tokens": LENGTHS,
    "request_params_max_tokens": LENGTHS, "request_prefill_kv_computed_tokens": LENGTHS,
    "iteration_tokens_total": "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384",
    "request_params_n": "1 2 5 10 20", "request_num_preemptions": "1 2 3 4 5 10 20",
    "time_per_output_token_seconds": I,
}
COUNTERS = {
    "prefix_cache_queries": {}, "prefix_cache_hits": {}, "external_prefix_cache_queries": {},
    "external_prefix_cache_hits": {}, "mm_cache_queries": {}, "mm_cache_hits": {}, "num_preemptions": {},
    "prompt_tokens": {}, "generation_tokens": {}, "prompt_tokens_cached": {},
    "prompt_tokens_by_source": {"source": "local_compute local_cache_hit external_kv_transfer"},
    "prompt_tokens_cached_by_source": {"source": "device host p2p disk external_unspecified"},
    "request_success": {"finished_reason": "stop length abort error repetition"},
    "gpu_prefix_cache_queries": {}, "gpu_prefix_cache_hits": {},
}
GAUGES = {
    "num_requests_running": {}, "num_requests_waiting": {}, "kv_cache_usage_perc": {},
    "num_requests_waiting_by_reason": {"reason": "capacity deferred"},
    "engine_sleep_state": {"sleep_state": "awake weights_offloaded discard_all"},
    "gpu_cache_usage_perc": {}, "avg_generation_throughput_toks_per_s": {}, "avg_prompt_throughput_toks_per_s": {},
    "gpu_prefix_cache_hit_rate": {}, "num_requests_swapped": {}, "cpu_cache_usage_perc": {},
}
# Ours: labels, and one of the values each must have.
OWN = {
    "llmd_worker_state": ("model_name engine state", {"state": "ready"}),
    "llmd_worker_restarts": ("model_name engine", {}), "llmd_worker_loaded_ratio": ("model_name engine", {}),
    "llmd_router_decisions": ("model_name reason", {"reason": "cached"}),
    "llmd_router_migrations": ("model_name", {}), "llmd_router_waiting": ("model_name reason", {"reason": "kv_cache"}),
    "llmd_errors": ("status", {"status": "503"}),
    "llmd_request_failures": ("reason", {"reason": "out of memory"}),
    "llmd_key_requests": ("key", {"key": "ops"}), "llmd_key_output_tokens": ("key", {"key": "ops"}),
    "llmd_log_dropped": ("", {}), "llmd_log_lines_dropped": ("", {}), "llmd_build_info": ("version compiler", {}),
    "llmd_load_seconds": ("model_name engine phase", {"phase": "weights"}),
    "llmd_step_seconds": ("model_name engine part", {"part": "compute"}),
    "llmd_step_duration_seconds": ("model_name engine", {}), "llmd_host_overhead_seconds": ("model_name engine", {}),
    "llmd_price_per_hour": ("", {}), "llmd_cost_per_1000_tokens": ("", {}), "llmd_scale_load": ("", {}),
    "process_cpu_seconds": ("", {}), "process_resident_memory_bytes": ("", {}),
    "process_start_time_seconds": ("", {}),
}


def scrape(server, accept=None, key=None, path="/metrics"):
    headers = {"Accept": accept} if accept else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    status, headers, data = server.request("GET", path, headers=headers)
    assert status == 200
    return headers["Content-Type"], data.decode()


def families(text):
    """By name. Parsed strictly; no family and no series comes twice."""
    found = {}
    for f in openmetrics.text_string_to_metric_families(text):
        assert f.name not in found, f.name
        found[f.name] = f
    return found


def labels_of(family, drop=()):
    return {tuple(sorted((k, v) for k, v in s.labels.items() if k not in drop)) for s in family.samples}


@pytest.fixture(scope="module")
def fresh(make_server):
    """A server that nobody has asked anything."""
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    return make_server(model='devices = { "sim" }\n sim_step_us = 1000\n max_model_len = 2000\n',
                       top=f'store {{ directory = "log" }}\nkey "ops" {{ sha256 = "{digest}" scope = "admin" }}\n'
                           'price_per_hour_thousandths = 3600')


def test_everything_is_there_at_zero(fresh):
    found = families(scrape(fresh, OPEN, "secret")[1])
    engine = {("engine", "0"), ("model_name", "m")}
    for kind, table in (("counter", COUNTERS), ("gauge", GAUGES)):
        for name, more in table.items():
            f = found["vllm:" + name]
            assert f.type == kind, name
            wanted = [engine]
            for label, values in more.items():
                wanted = [engine | {(label, v)} for v in values.split()]
            assert {tuple(sorted(w)) for w in wanted} <= labels_of(f), name
            assert all(s.value == (s.labels.get("sleep_state") == "awake") for s in f.samples), name
    for name, bounds in HISTOGRAMS.items():
        f = found["vllm:" + name]
        assert f.type == "histogram" and tuple(sorted(engine)) in labels_of(f, {"le"}), name
        les = [s.labels["le"] for s in f.samples if s.name.endswith("_bucket")]
        assert [float(le) for le in les] == [float(b) for b in bounds.split()] + [float("inf")], name
        assert all(s.value == 0 for s in f.samples), name
    reasons = labels_of(found["vllm:admission_rejections"])
    assert reasons == {(("model_name", "m"), ("reason", r)) for r in ("max_num_queued_reqs", "max_num_queued_tokens")}
    info = found["vllm:cache_config_info"].samples[0]
    assert info.value == 1 and info.labels["block_size"] == "16" and info.labels["enable_prefix_caching"] == "True"
    for name in ("vllm:num_incoming_requests", "vllm:current_qps", "vllm:healthy_pods_total"):
        assert name in found


def test_our_own(fresh):
    found = families(scrape(fresh, OPEN, "secret")[1])
    for name, (labels, one) in OWN.items():
        f = found[name]
        assert f.documentation.endswith("."), name
        for s in f.samples:
            assert set(s.labels) - {"le"} == set(labels.split()), name
        assert any(one.items() <= s.labels.items() for s in f.samples), name
    assert found["llmd_price_per_hour"].samples[0].value == 3.6
    bounds = [s.labels["le"] for s in found["vllm:time_to_first_token_seconds"].samples if s.name.endswith("_bucket")]
    assert bounds[0] == "0.001" and bounds[11] == "1.0" and bounds[-1] == "+Inf"  # as vLLM prints them


def test_two_formats(fresh):
    kind, text = scrape(fresh)
    assert kind.startswith("text/plain; version=0.0.4") and "# EOF" not in text
    plain = {f.name: f for f in text_string_to_metric_families(text)}
    kind, text = scrape(fresh, PROMETHEUS)
    assert kind == OPEN + "; version=1.0.0; charset=utf-8" and text.endswith("\n# EOF\n")
    strict = families(text)
    assert set(plain) == set(strict)
    for name, f in strict.items():
        assert [(s.name, s.labels) for s in f.samples] == [(s.name, s.labels) for s in plain[name].samples], name
    for accept, is_open in (("*/*", False), ("text/plain", False), (OPEN, True), (f"{OPEN};q=0", False),
                            (f"{OPEN};q=0.4, text/plain; q=0.5", False), (f"{OPEN}; q=0.5,text/plain;q=0.5", True),
                            ("text/html", False), (OPEN.upper() + ";version=1.0.0", True), (OPEN + "2", False),
                            (",,;q=1", False)):
        assert scrape(fresh, accept)[0].startswith(OPEN) == is_open, accept
    for path in ("/metrics", "/metrics/"):  # no redirect: http.client follows none
        assert scrape(fresh, path=path)[0].startswith("text/plain")


def chat(server, **more):
    return server.request("POST", "/v1/chat/completions",
                          {"model": server.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4,
                           "ignore_eos": True} | more.pop("body", {}), more.pop("headers", {}))


def test_what_answers_count(make_server):
    s = make_server(model='devices = { "sim" }\n sim_step_us = 1000\n max_model_len = 2000\n')
    parent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    not_recorded = {"traceparent": f"00-{'1' * 32}-00f067aa0ba902b7-00"}
    assert chat(s, headers=not_recorded)[0] == 200
    assert chat(s, headers=parent)[0] == 200
    assert chat(s, body={"max_tokens": -1})[0] == 400
    assert chat(s, body={"model": "nobody"})[0] == 404
    assert s.request("POST", "/v1/chat/completions", "{")[0] == 400
    assert s.get("/v1/chat/completions")[0] == 405
    wait_until(lambda: s.metric("vllm:e2e_request_latency_seconds_count") == 2)
    found = families(scrape(s, OPEN)[1])

    def value(name, **labels):
        return sum(x.value for f in found.values() for x in f.samples
                   if x.name == name and labels.items() <= x.labels.items())

    assert value("vllm:num_incoming_requests_total", model="m") == 2
    assert value("vllm:prompt_tokens_by_source_total") == value("vllm:prompt_tokens_total") > 0
    assert value("llmd_step_duration_seconds_count") > 0
    assert value("llmd_step_seconds_total", part="compute") > 0
    for name in ("vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds",
                 "vllm:request_queue_time_seconds"):
        traces = [x.exemplar for x in found[name].samples if x.exemplar]
        assert [e.labels for e in traces] == [{"trace_id": TRACE}], name
        assert 0 <= traces[0].value < 60
    wait_until(lambda: all(f'llmd_errors_total{{status="{code}"}} {n}.0' in s.get("/metrics")[1]
                           for code, n in ((400, 2), (404, 1), (405, 1))))
    assert 'reason="invalid value"} 1' in s.get("/metrics")[1]


def test_names_with_underscores(make_server):
    s = make_server(model='devices = { "sim" }\n sim_step_us = 1000\n', top="metrics_underscore_aliases = true")
    for accept in (OPEN, "text/plain"):
        text = scrape(s, accept)[1]
        found = families(text) if accept == OPEN else {f.name: f for f in text_string_to_metric_families(text)}
        names = [n for n in found if ":" in n]
        assert len(names) > 40
        for n in names:
            twin = found[n.replace(":", "_")]
            assert twin.type == found[n].type and labels_of(twin) == labels_of(found[n])
