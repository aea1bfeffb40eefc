"""conf/METRICS.md is what servers export, no more and no less: `tests/observe/run.sh --write -k docs` writes it anew."""
import pathlib

import api_server
import pytest
from authority import Authority
from prometheus_client.openmetrics import parser as openmetrics

import promtool

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "conf/METRICS.md"
STAND_IN = ROOT / "build/stand-in/llmd"
DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
HEAD = """# Metrics

Every series of `/metrics`, made from what servers export (`tests/observe/test_docs.py`). All are there from the start, at zero;
those of the request log, TLS, traces, keys and GPUs where there are such. `/metrics` answers with and without a slash at its end, in the
text format 0.0.4, or in OpenMetrics with exemplars (trace ids) to who asks for that. With `metrics_underscore_aliases` each
`vllm:x` is there as `vllm_x` as well. Histograms have `_bucket`, `_sum` and `_count`.
"""
GROUPS = (
    ("vllm:", "vLLM's names", "Names, labels and bounds are vLLM's, so that its dashboards and scalers work as they are. "
     "`engine` is the worker's number; what no worker has yet counts as that of an engine `router`."),
    ("llmd_gpu_", "GPUs", "In base units, where NVML is."),
    ("DCGM_", "GPUs, under the names of DCGM's exporter", "In its units, for its dashboards."),
    ("llmd_", "llmd's own", "What vLLM has no name for. `llmd_key_*` is for operators: see `metrics_access`."),
    ("http_", "HTTP", "As vLLM's middleware counts; health checks, scrapes and operators' requests are left out."),
    ("", "The process and the machine", ""),
)


def families(text):
    """name: (type, labels, help)"""
    found = {}
    for f in openmetrics.text_string_to_metric_families(text):
        labels = []
        for s in f.samples:
            labels += [k for k in s.labels if k not in labels and k != "le"]
        found[f.name + ("_total" if f.type == "counter" else "")] = (f.type, labels, f.documentation)
    return found


def table(found):
    out, left = HEAD, dict(found)
    for prefix, title, about in GROUPS:
        names = sorted(n for n in left if n.startswith(prefix))
        out += f"\n## {title}\n" + (f"\n{about}\n" if about else "")
        out += "\n| name | type | labels | is |\n| --- | --- | --- | --- |\n"
        for name in names:
            kind, labels, text = left.pop(name)
            out += f"| `{name}` | {kind} | {', '.join(labels)} | {text} |\n"
    return out


def scrape(server):
    headers = {"Accept": "application/openmetrics-text", "Authorization": "Bearer secret"}
    status, _, data = server.request("GET", "/metrics", headers=headers)
    assert status == 200
    return families(data.decode())


@pytest.fixture
def everything(serve, tmp_path):
    """Of a server that has all that can be had without a GPU."""
    top = (f'store {{ directory = "log" }}\nkey "ops" {{ sha256 = "{DIGEST}" scope = "admin" }}\n'
           'traces { endpoint = "http://127.0.0.1:9" }\naccess_log = "stdout"')
    return scrape(serve(model='devices = { "sim" }\n', top=top, authority=Authority(tmp_path / "ca")))


@pytest.fixture
def gpus(serve, monkeypatch):
    """Of a server whose GPU and NVML are made up."""
    monkeypatch.setattr(api_server, "LLMD", str(STAND_IN))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(ROOT / "build/gpu-test"))
    model = ('devices = { "cuda:0" }\ncublaslt = false\nmax_num_seqs = 4\nmax_num_batched_tokens = 16\n'
             'max_model_len = 64\nkv_cache_mb = 4\n')
    return scrape(serve(model=model, path=ROOT / "tests/golden/data/tiny/qwen3"))


def test_the_document(everything, gpus, request):
    made = table({**gpus, **everything})
    if request.config.getoption("--write"):
        DOCUMENT.write_text(made)
    assert DOCUMENT.read_text() == made, "conf/METRICS.md is old: tests/observe/run.sh --write -k docs"
    for name, (_, _, text) in {**gpus, **everything}.items():
        assert text.endswith(".") and "|" not in text, name


def test_the_dashboard_of_gpus(gpus):
    """Each series that it asks for is there, with the labels that it selects by."""
    for e in promtool.dashboards()["gpu"]:
        for series in promtool.selectors(e):
            name = series.split("{")[0]
            kind, labels, _ = gpus[name.removesuffix("_count")]
            assert "gpu=~" not in series or "gpu" in labels, series
