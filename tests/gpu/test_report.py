"""The arithmetic of run.sh's reports (pytest): by figures made up, and by what --stand-in perf gives."""
import json
import os
import pathlib
import subprocess

import report

GOOD = {report.JUDGED: {"decode_b1_of_bound": 0.9, "decode_b32_of_bound": 0.86, "decode_b256_of_bound": 0.75,
                        "prefill_2k_of_gemm": 1.25, "ttft_128_ms": 5.9, "ttft_2k_half_cached_ms": 15.0,
                        "ttft_2k_half_cached_bound_ms": 10.0, "decode_b1_host_gap_us": 12.0,
                        "decode_b32_host_gap_us": 29.0, "decode_b256_host_gap_us": 30.0},
        "load": {"ready_s": 3.9, "decodes_bytes": 1000, "device_bytes": 64000}}


def failing(figures):
    return {name for name, g in report.perf_gates(figures).items() if not g["ok"]}


def changed(part, name, value):
    figures = json.loads(json.dumps(GOOD))
    figures[part][name] = value
    return figures


def test_gates_hold_at_their_limits():
    assert failing(GOOD) == set()


def test_each_gate_fails_by_itself():
    for name, bad in [("decode_b1_of_bound", 0.89), ("decode_b32_of_bound", 0.84), ("decode_b256_of_bound", 0.7),
                      ("prefill_2k_of_gemm", 1.26), ("ttft_128_ms", 6.1), ("ttft_2k_half_cached_ms", 15.1),
                      ("decode_b256_host_gap_us", 31)]:
        assert failing(changed(report.JUDGED, name, bad)) == {name}
    assert failing(changed("load", "ready_s", 4.1)) == {"ready_s"}
    assert failing(changed("load", "decodes_bytes", 1001)) == {"decodes_bytes"}


def test_what_was_not_measured_is_not_met():
    assert failing(changed(report.JUDGED, "prefill_2k_of_gemm", None)) == {"prefill_2k_of_gemm"}
    assert failing(changed(report.JUDGED, "ttft_2k_half_cached_bound_ms", None)) == {"ttft_2k_half_cached_ms"}
    assert len(failing({})) == len(report.perf_gates(GOOD))


def test_parts_are_joined(tmp_path):
    (tmp_path / "perf.main.json").write_text(json.dumps({report.JUDGED: GOOD[report.JUDGED], "ok": True}))
    (tmp_path / "perf.main.rc").write_text("12 0\n")
    (tmp_path / "perf.load.json").write_text(json.dumps(dict(GOOD["load"], ok=True)))
    (tmp_path / "perf.load.rc").write_text("3 0\n")
    result = {}
    assert report.join("perf", tmp_path, result, judge=True)
    assert result["seconds"] == 12 and result["load"]["seconds"] == 3
    (tmp_path / "perf.load.json").write_text("cut off")
    assert not report.join("perf", tmp_path, result, judge=True)
    assert result["load"]["output"] == "cut off"
    (tmp_path / "perf.load.json").write_text(json.dumps(dict(GOOD["load"], ok=True)))
    (tmp_path / "perf.load.rc").write_text("350 124\n")
    assert not report.join("perf", tmp_path, result, judge=False)


def test_names():
    assert report.name_of("NVIDIA H200") == "h200"
    assert report.name_of("NVIDIA H100 80GB HBM3") == "h100-80gb-hbm3"
    assert report.name_of("NVIDIA A100-SXM4-80GB") == "a100"


def kernels_add_up(table):
    parts = [v for k, v in table.items() if k != "step_us"]
    assert abs(sum(p["share"] for p in parts) - 1) < 0.01
    assert abs(sum(p["us"] for p in parts) - table["step_us"]) < 0.01 * table["step_us"] + 1
    for name, p in table.items():
        if name not in ("rest", "step_us"):
            assert p["us"] > 0 and p["of_roofline"] > 0 and p["bound"] in ("bytes", "operations")


def test_perf_on_the_stand_in(tmp_path):
    """Every figure is there and they agree with each other (a part of `make soak`)."""
    root = pathlib.Path(__file__).resolve().parents[2]
    subprocess.run([root / "tests/gpu/run.sh", "--stand-in", "perf"], check=True,
                   env=dict(os.environ, OUT=str(tmp_path)))
    (path,) = tmp_path.glob("*-stand-in-perf.json")
    r = json.loads(path.read_text())
    assert r["ok"] and r["load"]["ready_s"] > 0 and "peers" in r
    context = r["context"]
    for model in ("tiny-gqa7", "tiny-norms"):
        m = r[model]
        for n in (1, 2, 4):
            moved = m["weight_bytes"] + n * context * m["kv_bytes_per_token"]
            want = moved / (m["read_gb_per_s"] * 1e9) * m[f"decode_b{n}"] / n
            assert abs(m[f"decode_b{n}_of_bound"] / want - 1) < 0.01
            kernels_add_up(m[f"kernels_b{n}"])
        kernels_add_up(m["kernels_prefill"])
        assert abs(m["prefill_2k_of_gemm"] / (m["prefill_2k_ms"] / m["prefill_2k_cublaslt_gemm_ms"]) - 1) < 0.01
        assert m["ttft_128_ms"] > 0 and m["ttft_2k_half_cached_bound_ms"] > 0
