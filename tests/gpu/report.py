"""Joins what the runs of one suite of run.sh printed, judges perf's figures, and writes the report.

  report.py SUITE OUT_FOLDER WORK_FOLDER STAND_IN(0|1)

WORK_FOLDER holds describe.json and, of each run, SUITE.PART.json (what it printed) and SUITE.PART.rc
("seconds status"). Part "main" gives the report's own members; others are objects in it.
"""
import datetime
import json
import pathlib
import re
import subprocess
import sys

# Of one model: member, the least or the most it may be. The model that the goals are stated for.
JUDGED = "qwen2.5-7b-bf16"
LEAST = {"decode_b1_of_bound": 0.90, "decode_b32_of_bound": 0.85, "decode_b256_of_bound": 0.75}
MOST = {"prefill_2k_of_gemm": 1.25, "ttft_128_ms": 6.0, "decode_b1_host_gap_us": 30.0,
        "decode_b32_host_gap_us": 30.0, "decode_b256_host_gap_us": 30.0}
HALF_CACHED_OF_BOUND, HALF_CACHED_MS_MORE = 1.3, 2.0
READY_SECONDS = 4.0
GRAPHS_OF_MEMORY = 1 / 64  # what kv_budget.c leaves free for graphs that are recorded later


def gate(value, limit, holds):
    """Not measured is not met."""
    return {"value": value, "limit": limit, "ok": value is not None and holds(value, limit)}


def at_least(value, limit):
    return value >= limit


def at_most(value, limit):
    return value <= limit


def perf_gates(report):
    """What run.sh perf must show, by name."""
    model, load = report.get(JUDGED) or {}, report.get("load") or {}
    gates = {name: gate(model.get(name), limit, at_least) for name, limit in LEAST.items()}
    gates.update({name: gate(model.get(name), limit, at_most) for name, limit in MOST.items()})
    bound = model.get("ttft_2k_half_cached_bound_ms")
    most = None if bound is None else HALF_CACHED_OF_BOUND * bound + HALF_CACHED_MS_MORE
    value = None if bound is None else model.get("ttft_2k_half_cached_ms")
    gates["ttft_2k_half_cached_ms"] = gate(value, most, at_most)
    gates["ready_s"] = gate(load.get("ready_s"), READY_SECONDS, at_most)
    memory = load.get("device_bytes")
    gates["decodes_bytes"] = gate(load.get("decodes_bytes"), memory and memory * GRAPHS_OF_MEMORY, at_most)
    return gates


def part_of(path):
    """What a run printed, with its seconds and whether it ended well."""
    text = path.read_text()
    seconds, status = path.with_suffix(".rc").read_text().split()
    try:
        body = json.loads(text)
    except ValueError:
        body = {"ok": False, "output": text[-2000:]}
    body["seconds"] = int(seconds)
    body["ok"] = bool(body.get("ok")) and status == "0"
    return body


def join(suite, work, result, judge):
    """Adds the suite's parts to result; perf is judged where that means something."""
    ok = True
    for path in sorted(work.glob(suite + ".*.json")):
        body = part_of(path)
        ok &= body["ok"]
        name = path.name.split(".")[1]
        if name == "main":
            result.update(body)
        else:
            result[name] = body
    if suite == "perf":
        result["gates"] = perf_gates(result)
        ok &= not judge or all(g["ok"] for g in result["gates"].values())
    result["ok"] = ok
    return ok


def words(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def name_of(gpu):
    """"NVIDIA H200" is h200."""
    return re.sub(r"^nvidia-(geforce-)?|-(sxm|pcie|nvl).*$", "", re.sub(r"[^a-z0-9]+", "-", gpu.lower()))


def main():
    suite, out, work, stand_in = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4] == "1"
    device = json.loads((work / "describe.json").read_text())
    smi = "nvidia-smi --query-gpu=driver_version,power.limit,clocks.max.sm --format=csv,noheader -i 0"
    nvcc = words("nvcc", "--version") or ""
    result = {"suite": suite, "date": datetime.date.today().isoformat(), "device": device,
              "commit": words("git", "rev-parse", "--short", "HEAD"),
              "driver": None if stand_in else words(*smi.split()),
              "nvcc": nvcc.splitlines()[-2].strip() if not stand_in and nvcc.count("\n") else None}
    ok = join(suite, work, result, judge=not stand_in)
    gpu = "stand-in" if stand_in else name_of(device["gpu"])
    path = out / f"{result['date']}-{gpu}-{suite}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(("ok      " if ok else "FAILED  ") + str(path))
    for name, g in result.get("gates", {}).items():
        if not stand_in and not g["ok"]:
            print(f"        {name}: {g['value']}, the limit is {g['limit']}")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
