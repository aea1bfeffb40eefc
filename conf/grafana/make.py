#!/usr/bin/env python3
"""Writes the dashboards beside it: make.py [FOLDER]. What a panel shows is said here once; ids, places and what
Grafana wants around it are made."""
import json
import pathlib
import sys

DATA = {"type": "prometheus", "uid": "${datasource}"}
M = 'job=~"$job",model_name=~"$model"'
ENGINE = M + ',engine=~"$engine"'
J = 'job=~"$job"'


def quantile(q, series, by="", labels=M):
    return f"histogram_quantile({q}, sum by ({by + ', ' if by else ''}le) (rate({series}_bucket{{{labels}}}[$__rate_interval])))"


def rate(series, by="", labels=M):
    return f"sum{f' by ({by})' if by else ''} (rate({series}{{{labels}}}[$__rate_interval]))"


def share(part, whole):
    return f"{part} / ({whole} > 0)"


class Panel:
    """kind: timeseries or stat; queries: (legend, expression); steps: (value, colour) from the first on."""

    def __init__(self, title, unit, *queries, width=8, height=8, kind="timeseries", steps=(), stack=False, about="",
                 most=None, exemplar=False):
        self.title, self.unit, self.queries, self.width, self.height = title, unit, queries, width, height
        self.kind, self.steps, self.stack, self.about, self.most, self.exemplar = kind, steps, stack, about, most, exemplar

    def json(self, number, x, y):
        defaults = {"unit": self.unit, "min": 0}
        if self.most is not None:
            defaults["max"] = self.most
        if self.kind == "timeseries":
            defaults["custom"] = {"lineWidth": 1, "fillOpacity": 25 if self.stack else 8, "showPoints": "never",
                                  "stacking": {"mode": "normal" if self.stack else "none", "group": "A"},
                                  "thresholdsStyle": {"mode": "line" if self.steps else "off"}}
        if self.steps:
            defaults["thresholds"] = {"mode": "absolute", "steps": [{"value": None, "color": "green"}] +
                                      [{"value": v, "color": c} for v, c in self.steps]}
        options = {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list", "placement": "bottom"}}
        if self.kind == "stat":
            options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        return {"id": number, "title": self.title, "description": self.about, "type": self.kind, "datasource": DATA,
                "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
                "fieldConfig": {"defaults": {**defaults, "noValue": "no traffic"}, "overrides": []}, "options": options,
                "targets": [{"refId": chr(ord("A") + i), "datasource": DATA, "expr": e, "legendFormat": legend,
                             "exemplar": self.exemplar} for i, (legend, e) in enumerate(self.queries)]}


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": DATA, "query": {"query": query, "refId": name},
            "refresh": 2, "includeAll": True, "allValue": ".*", "multi": True, "sort": 1,
            "current": {"text": "All", "value": "$__all"}}


JOB = variable("job", "job", "label_values(llmd_build_info, job)")
MODEL = variable("model", "model", "label_values(vllm:num_requests_running, model_name)")
WORKER = variable("engine", "worker", 'label_values(vllm:num_requests_running{model_name=~"$model"}, engine)')
GPU = variable("gpu", "GPU", "label_values(DCGM_FI_DEV_GPU_UTIL, gpu)")

TTFT, ITL = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
E2E = "vllm:e2e_request_latency_seconds"
SECONDS, PER_S, RATIO, NUMBER = "s", "reqps", "percentunit", "short"


def quantiles(series, *which):
    return [(f"p{q * 100:g}", quantile(q, series)) for q in which]


DASHBOARDS = {
    "inference": ("llmd: inference latency", [JOB, MODEL], [
        Panel("Time to first token", SECONDS, *quantiles(TTFT, .5, .95, .99), steps=((.5, "red"),), exemplar=True,
              about="From a request's arrival to its first token."),
        Panel("Time between tokens, p95", SECONDS, *quantiles(ITL, .5, .95)),
        Panel("Whole answer, p95", SECONDS, *quantiles(E2E, .5, .95, .99), steps=((10, "orange"), (30, "red")),
              exemplar=True),
        Panel("Requests per second, by how they ended", PER_S,
              ("{{finished_reason}}", rate("vllm:request_success_total", "finished_reason")), stack=True),
        Panel("Tokens per second", NUMBER, ("generated", rate("vllm:generation_tokens_total")),
              ("prompt", rate("vllm:prompt_tokens_total"))),
        Panel("Failures, by status", PER_S, ("{{status}}", rate("llmd_errors_total", "status", J)), stack=True,
              about="499: the client left. 429: a key's limit."),
        Panel("Where the first token's time goes, p95", SECONDS,
              ("waiting", quantile(.95, "vllm:request_queue_time_seconds")),
              ("prefill", quantile(.95, "vllm:request_prefill_time_seconds"))),
        Panel("Running and waiting", NUMBER, ("running", f"sum(vllm:num_requests_running{{{M}}})"),
              ("waiting", f"sum(vllm:num_requests_waiting{{{M}}})"), steps=((10, "orange"), (50, "red"))),
        Panel("KV cache in use", RATIO, ("worker {{engine}}", f"vllm:kv_cache_usage_perc{{{M}}}"), most=1,
              steps=((.9, "orange"), (.98, "red"))),
        Panel("Prompt tokens per request", NUMBER, *quantiles("vllm:request_prompt_tokens", .5, .95)),
        Panel("Generated tokens per answer", NUMBER, *quantiles("vllm:request_generation_tokens", .5, .95)),
        Panel("Decode time per token after the first", SECONDS,
              *quantiles("vllm:request_time_per_output_token_seconds", .5, .95)),
    ]),
    "workers": ("llmd: workers compared", [JOB, MODEL, WORKER], [
        Panel("Tokens per second", NUMBER, ("worker {{engine}}", rate("vllm:generation_tokens_total", "engine", ENGINE))),
        Panel("First token, p95", SECONDS, ("worker {{engine}}", quantile(.95, TTFT, "engine", ENGINE))),
        Panel("Between tokens, p95", SECONDS, ("worker {{engine}}", quantile(.95, ITL, "engine", ENGINE))),
        Panel("KV cache in use", RATIO, ("worker {{engine}}", f"vllm:kv_cache_usage_perc{{{ENGINE}}}"), most=1,
              steps=((.9, "orange"), (.98, "red"))),
        Panel("Prefix cache: share of prompt tokens found", RATIO,
              ("worker {{engine}}", share(rate("vllm:prefix_cache_hits_total", "engine", ENGINE),
                                          rate("vllm:prefix_cache_queries_total", "engine", ENGINE))), most=1),
        Panel("Waiting", NUMBER, ("worker {{engine}}", f"sum by (engine) (vllm:num_requests_waiting{{{M}}})"),
              about="The engine called router holds what no worker has yet."),
        Panel("Running", NUMBER, ("worker {{engine}}", f"sum by (engine) (vllm:num_requests_running{{{ENGINE}}})")),
        Panel("First tokens per second", PER_S, ("worker {{engine}}", rate(TTFT + "_count", "engine", ENGINE))),
        Panel("Router: decisions by reason", PER_S,
              ("{{reason}}", rate("llmd_router_decisions_total", "reason")), stack=True),
        Panel("Router: what waits, by reason", NUMBER,
              ("{{reason}}", f"sum by (reason) (llmd_router_waiting{{{M}}})"), stack=True),
        Panel("Migrations, restarts, preemptions", PER_S, ("migrations", rate("llmd_router_migrations_total")),
              ("restarts", rate("llmd_worker_restarts_total")), ("preemptions", rate("vllm:num_preemptions_total"))),
        Panel("Step, p95", SECONDS, ("worker {{engine}}", quantile(.95, "llmd_step_duration_seconds", "engine", ENGINE))),
        Panel("What steps are made of", RATIO,
              ("{{part}}", rate("llmd_step_seconds_total", "part", ENGINE)), stack=True,
              about="Seconds of each part per second, over all workers."),
        Panel("Host overhead", RATIO,
              ("worker {{engine}}", share(rate("llmd_host_overhead_seconds_total", "engine", ENGINE),
                                          rate("llmd_step_seconds_total", "engine", ENGINE))), most=1,
              about="Share of the steps' time in which the device waited for the host."),
        Panel("State", NUMBER, ("{{engine}} {{state}}", f"llmd_worker_state{{{ENGINE}}} == 1"),
              about="One line for each worker, by the state that it is in."),
    ]),
    "gpu": ("llmd: GPU health", [JOB, GPU], [
        Panel("Busy", RATIO, ("GPU {{gpu}}", f'llmd_gpu_busy_ratio{{{J},gpu=~"$gpu"}}'), most=1,
              about="Time with a kernel on it: 100 % may still be a GPU that waits for memory."),
        Panel("Tokens per second", NUMBER, ("{{model_name}}", rate("vllm:generation_tokens_total", "model_name", J))),
        Panel("Memory", "mbytes", ("used {{gpu}}", f'DCGM_FI_DEV_FB_USED{{{J},gpu=~"$gpu"}}'),
              ("free {{gpu}}", f'DCGM_FI_DEV_FB_FREE{{{J},gpu=~"$gpu"}}'),
              about="llmd takes what it may at its start: full is what it should be."),
        Panel("Temperature", "celsius", ("GPU {{gpu}}", f'DCGM_FI_DEV_GPU_TEMP{{{J},gpu=~"$gpu"}}'),
              steps=((83, "orange"), (90, "red"))),
        Panel("Power", "watt", ("GPU {{gpu}}", f'DCGM_FI_DEV_POWER_USAGE{{{J},gpu=~"$gpu"}}')),
        Panel("Joules per generated token", "joule",
              ("all", share(f'sum(rate(llmd_gpu_energy_joules{{{J},gpu=~"$gpu"}}[$__rate_interval]))',
                            rate("vllm:generation_tokens_total", "", J)))),
        Panel("Clocks", "hertz", ("SM {{gpu}}", f'llmd_gpu_sm_clock_hertz{{{J},gpu=~"$gpu"}}'),
              ("memory {{gpu}}", f'llmd_gpu_memory_clock_hertz{{{J},gpu=~"$gpu"}}')),
        Panel("Why clocks are lowered", NUMBER, ("{{gpu}} {{reason}}", f'llmd_gpu_throttled{{{J},gpu=~"$gpu"}} == 1')),
        Panel("Memory traffic", RATIO, ("GPU {{gpu}}", f'llmd_gpu_memory_busy_ratio{{{J},gpu=~"$gpu"}}'), most=1),
        Panel("Xid errors", NUMBER, ("GPU {{gpu}}", f'increase(llmd_gpu_xid_errors_total{{{J},gpu=~"$gpu"}}[1h])'),
              steps=((1, "red"),)),
        Panel("ECC errors", NUMBER, ("corrected {{gpu}}", f'DCGM_FI_DEV_ECC_SBE_VOL_TOTAL{{{J},gpu=~"$gpu"}}'),
              ("damage {{gpu}}", f'DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{J},gpu=~"$gpu"}}'), steps=((1, "orange"),)),
        Panel("Steps per second", NUMBER, ("worker {{engine}}", rate("llmd_step_duration_seconds_count", "engine", J)),
              about="Busy, and no steps: stuck."),
    ]),
    "scaling": ("llmd: scaling", [JOB, MODEL], [
        Panel("Queue against replicas", NUMBER, ("waiting", f"sum(vllm:num_requests_waiting{{{M}}})"),
              ("replicas", f"count(llmd_build_info{{{J}}})"), width=12),
        Panel("Load, and what replicas are good for", NUMBER, ("load", f"sum(llmd_scale_load{{{J}}})"),
              ("25 for each replica", f"25 * count(llmd_build_info{{{J}}})"), width=12,
              about="running + 10 waiting, which conf/keda scales by."),
        Panel("Replicas wanted", NUMBER, ("wanted", f"ceil(sum(llmd_scale_load{{{J}}}) / 25)"),
              ("there", f"count(llmd_build_info{{{J}}})")),
        Panel("Workers ready", NUMBER, ("{{model_name}}", f'sum by (model_name) (llmd_worker_state{{{M},state="ready"}})')),
        Panel("What waits, by reason", NUMBER, ("{{reason}}", f"sum by (reason) (llmd_router_waiting{{{M}}})"), stack=True),
        Panel("Turned away", PER_S, ("queue full", rate("vllm:admission_rejections_total")),
              ("status 429", rate("llmd_errors_total", "", J + ',status="429"')),
              ("status 503", rate("llmd_errors_total", "", J + ',status="503"'))),
        Panel("Waiting time, p95", SECONDS, ("p95", quantile(.95, "vllm:request_queue_time_seconds"))),
        Panel("What a start takes", SECONDS, ("{{phase}}", f"max by (phase) (llmd_load_seconds{{{M}}})"), stack=True,
              about="The slowest worker's last one: how long a new replica needs."),
    ]),
    "cost": ("llmd: cost", [JOB, MODEL], [
        Panel("Per 1,000 generated tokens", NUMBER,
              ("now", share(f"sum(llmd_price_per_hour{{{J}}}) / 3.6", rate("vllm:generation_tokens_total", "", J))),
              width=12, about="price_per_hour_thousandths of llmd.conf, by the tokens of all models."),
        Panel("Per 1,000 tokens, as each server says", NUMBER, ("{{instance}}", f"llmd_cost_per_1000_tokens{{{J}}}"),
              width=12),
        Panel("Price per hour", NUMBER, ("all", f"sum(llmd_price_per_hour{{{J}}})"), kind="stat", height=6),
        Panel("Price per day", NUMBER, ("all", f"24 * sum(llmd_price_per_hour{{{J}}})"), kind="stat", height=6),
        Panel("Tokens generated in the time shown", NUMBER,
              ("all", f"sum(increase(vllm:generation_tokens_total{{{M}}}[$__range]))"), kind="stat", height=6),
        Panel("Idle: share of the time without a step", RATIO,
              ("{{instance}} worker {{engine}}",
               f"1 - {rate('llmd_step_seconds_total', 'instance, model_name, engine')}"), most=1),
        Panel("Prompt tokens that cost nothing", RATIO,
              ("from the cache", share(rate("vllm:prompt_tokens_cached_total"), rate("vllm:prompt_tokens_total"))), most=1),
        Panel("Tokens per second, by key", NUMBER,
              ("{{key}} output", rate("llmd_key_output_tokens_total", "key", J)),
              ("{{key}} prompt", rate("llmd_key_prompt_tokens_total", "key", J)), stack=True,
              about="Needs a scrape with an operator's key."),
    ]),
}


def place(panels):
    """Left to right, top to bottom."""
    x = y = tallest = 0
    for number, p in enumerate(panels, 1):
        if x + p.width > 24:
            x, y, tallest = 0, y + tallest, 0
        yield p.json(number, x, y)
        x, tallest = x + p.width, max(tallest, p.height)


def dashboard(name, title, variables, panels):
    source = {"name": "datasource", "label": "data", "type": "datasource", "query": "prometheus", "current": {}}
    return {"uid": f"llmd-{name}", "title": title, "tags": ["llmd"], "schemaVersion": 39, "version": 1,
            "editable": True, "graphTooltip": 1, "timezone": "", "refresh": "10s", "annotations": {"list": []},
            "time": {"from": "now-1h", "to": "now"}, "templating": {"list": [source, *variables]},
            "panels": list(place(panels))}


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for name, (title, variables, panels) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, variables, panels), indent=1)
        (folder / f"{name}.json").write_text(text + "\n")


main()
