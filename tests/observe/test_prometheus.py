"""A real Prometheus beside a server under load: what it finds, what its quantiles say."""
import bisect
import json
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from api_server import LLMD, free_port, wait_until
from prometheus_client.openmetrics import parser as openmetrics

import foreign
import promtool

DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
AUTH = {"Authorization": "Bearer secret"}
OPEN = {"Accept": "application/openmetrics-text", **AUTH}
STEP_US = 44000  # long against what a busy machine adds, and between the bounds of buckets


class Prometheus:
    def __init__(self, folder, port):
        folder = pathlib.Path(folder)
        self.base = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yml"
        rules = promtool.ROOT / "conf/prometheus/llmd.rules.yml"
        config.write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: llmd
    authorization: {{credentials: secret}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
        self.log = open(folder / "prometheus.log", "w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             "--enable-feature=exemplar-storage", f"--web.listen-address={self.base[7:]}", "--log.level=warn"],
            stdout=self.log, stderr=self.log)
        wait_until(self.ready)

    def ready(self):
        assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()
        try:
            return urllib.request.urlopen(self.base + "/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, route, **parameters):
        data = urllib.parse.urlencode(parameters).encode() or None
        try:
            with urllib.request.urlopen(f"{self.base}/api/v1/{route}", data, timeout=30) as r:
                return json.load(r)["data"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{parameters}: {e.read().decode()}") from e

    def query(self, expression):
        """[(labels, value)]"""
        return [(r["metric"], float(r["value"][1])) for r in self.ask("query", query=expression)["result"]]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, make_server, minutes):
    """A server that was under load for so many minutes, the Prometheus that watched it, what the client measured."""
    top = (f'store {{ directory = "log" }}\nkey "ops" {{ sha256 = "{DIGEST}" scope = "admin" }}\n'
           'price_per_hour_thousandths = 526\nmetrics_underscore_aliases = true')
    s = make_server(model=f'devices = {{ "sim" }}\n sim_workers = 2\n sim_step_us = {STEP_US}\n', top=top)
    p = Prometheus(tmp_path_factory.mktemp("prometheus"), s.port)
    seconds = max(30, int(minutes * 60))
    parent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", **AUTH}
    s.request("POST", "/v1/chat/completions", {"model": "m", "messages": [], "max_tokens": -1}, AUTH)  # a failure
    s.request("POST", "/v1/completions", {"model": "m", "prompt": "hi", "max_tokens": 3}, parent)
    time.sleep(3)
    began = time.monotonic()
    run = subprocess.run([LLMD, "bench", "-q", "--json", "--key", "secret", "-r", "10", "-d", str(seconds), "-p", "64",
                          "-o", "40", s.base], capture_output=True, text=True, timeout=seconds + 120)
    assert run.returncode == 0, run.stderr
    took = time.monotonic() - began
    report = json.loads(run.stdout)
    assert report["failed"] == 0 and report["completed"] > 5 * seconds
    time.sleep(3)  # the last scrape
    yield s, p, report, int(took) + 4
    p.stop()


def test_the_scrapes(watched):
    s, p, _, took = watched
    (target,) = p.ask("targets")["activeTargets"]
    assert target["health"] == "up", target["lastError"]
    assert p.query(f"min_over_time(up[{took}s])")[0][1] == 1
    assert p.query(f"count_over_time(up[{took}s])")[0][1] > 0.9 * took
    samples = p.query("scrape_samples_scraped")[0][1]
    assert samples > 500
    found = p.ask("query_exemplars", query="vllm:time_to_first_token_seconds_bucket",
                  start=time.time() - took - 60, end=time.time())
    traces = {e["labels"]["trace_id"] for f in found for e in f["exemplars"]}
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in traces
    firing = {labels["alertname"] for labels, _ in p.query('ALERTS{alertstate="firing"}')}
    assert firing <= {"LlmdFirstTokenSlow"}, firing


# The same thing as both see it: the series, and its name in the bench's report.
BOTH = {"vllm:time_to_first_token_seconds": "ttft_ms", "vllm:inter_token_latency_seconds": "itl_ms",
        "vllm:e2e_request_latency_seconds": "e2e_ms"}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("q", [.5, .9, .95, .99])
def test_quantiles(watched, name, q):
    """In the same bucket, or on both sides of a bound that is no further than 8 % from the client's value: the client
    sees tokens a little later than the engine."""
    s, p, report, took = watched
    f = next(f for f in openmetrics.text_string_to_metric_families(s.get("/metrics", OPEN)[1]) if f.name == name)
    bounds = sorted({float(x.labels["le"]) for x in f.samples if x.name.endswith("_bucket")})
    (_, server), = p.query(f"histogram_quantile({q}, sum by (le) (increase({name}_bucket[{took}s])))")
    client = report[BOTH[name]][f"p{q * 100:g}"] / 1000
    print(f"{name} p{q * 100:g}: Prometheus {server * 1e3:.1f} ms, bench {client * 1e3:.1f} ms")
    i, k = bisect.bisect_left(bounds, server), bisect.bisect_left(bounds, client)
    between = bounds[min(i, k)]
    assert i == k or (abs(i - k) == 1 and abs(client - between) <= 0.08 * client), (server, client, bounds)


@pytest.mark.parametrize("name", [n for n in promtool.dashboards() if n != "gpu"])
def test_our_dashboards(watched, name):
    p = watched[1]
    for e in promtool.dashboards()[name]:
        for series in promtool.selectors(e):
            assert p.query(f"count({series})"), f"{name}: no series {series}"
        # Under load each has something to show, but for what compares.
        assert p.query(promtool.with_values(e)), f"{name}: {e} shows nothing"


def test_the_rules_find_their_series(watched):
    p = watched[1]
    for g in p.ask("rules")["groups"]:
        for r in g["rules"]:
            assert r["health"] == "ok", r
            for series in promtool.selectors(r["query"]):
                if re.match("llmd_gpu_|llmd_tls_|llmd_access_log_|up", series):
                    continue  # not of this server
                assert p.query(f"count({series})") or 'status=~"5.."' in series, (r["name"], series)


@pytest.mark.parametrize("name", foreign.ALL)
def test_dashboards_of_others(watched, name):
    p = watched[1]
    for series, labels in foreign.series(foreign.ALL[name]):
        found = p.query(series)
        assert found, f"no series {series}"
        assert all(set(labels) <= set(of) for of, _ in found), f"{series} lacks one of {labels}"


def test_promtool_lints_our_own(watched):
    """promtool knows no colons: vLLM's names are not for it. What DCGM and others named is not ours to choose."""
    text = watched[0].get("/metrics", AUTH)[1]
    own, keep = [], False
    for line in text.splitlines():
        if line.startswith("# HELP"):
            keep = line.split()[2].startswith("llmd_")
        if keep:
            own.append(line)
    code, said = promtool.run("check", "metrics", text="\n".join(own) + "\n")
    assert code == 0, said
