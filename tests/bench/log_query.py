#!/usr/bin/env python3
"""log_query.py [--rows N] [--json FILE]: times `llmd logs` on a log of a million rows of one day.

Each kind of query runs as a process of its own, start included, in turn with the others; the last line
is the 99th percentile over all runs."""
import argparse
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUERIES = {
    "latest 20": [],
    "latest 1000": ["-n", "1000"],
    "last 15 minutes, latest 100": ["--last", "15m", "-n", "100"],
    "key with many": ["--key", "team-0"],
    "key with few": ["--key", "team-39"],
    "key that is none": ["--key", "nobody"],
    "model with many": ["--model", "llama-3.1-8b-instruct"],
    "model with few": ["--model", "rare-model"],
    "worker": ["--worker", "5"],
    "worker that is none": ["--worker", "77"],
    "status 503": ["--status", "503", "-n", "100"],
    "status 5xx of a key": ["--status", "5xx", "--key", "team-7"],
    "finish error": ["--finish", "error"],
    "slower than 1 s": ["--slow", "1000"],
    "slower than 30 s": ["--slow", "30000"],
    "slower than an hour": ["--slow", "3600000"],
    "slow ones of a key, yesterday": ["--slow", "20000", "--key", "team-3", "--until", "2h"],
    "rare key and model": ["--key", "team-30", "--model", "rare-model"],
    "percentiles of 15 minutes": ["--stats", "--last", "15m"],
    "percentiles of a key's last hour": ["--stats", "--last", "1h", "--key", "team-0"],
}
WHOLE = {"percentiles of the whole day (not in the p99)": ["--stats"],
         "all rows as JSON (not in the p99)": ["--all", "--json"]}


def timed(args):
    began = time.perf_counter()
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, max(0, -(-len(values) * p // 100) - 1))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json")
    a = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="llmd-log-")
    try:
        fill = subprocess.run([ROOT / "build/bench/log_fill", folder, str(a.rows)], check=True,
                              capture_output=True, text=True).stdout.strip()
        size = sum(f.stat().st_size for f in pathlib.Path(folder).iterdir())
        print(f"{fill}; {size / a.rows:.0f} bytes a row", flush=True)
        ids = [f"chatcmpl-{(random.randrange(a.rows) * 0x9e3779b97f4a7c15) % 2**64:016x}"
               for _ in range(a.runs)]
        base = [ROOT / "build/llmd", "logs", "--directory", folder]
        runs = {name: [] for name in ["id", *QUERIES]}
        for i in range(a.runs):
            runs["id"].append(timed([*base, "--id", ids[i], "--json", "--details"]))
            for name, args in QUERIES.items():
                runs[name].append(timed([*base, *args]))
        whole = {name: timed([*base, *args]) for name, args in WHOLE.items()}
        for name, ms in runs.items():
            print(f"{name:36} p50 {percentile(ms, 50):8.1f} ms   max {max(ms):8.1f} ms")
        for name, ms in whole.items():
            print(f"{name}: {ms:.0f} ms")
        p99 = percentile([x for ms in runs.values() for x in ms], 99)
        if a.json:
            out = {"rows": a.rows, "fill": fill, "bytes_per_row": round(size / a.rows),
                   "p50_ms": {n: round(percentile(ms, 50), 1) for n, ms in runs.items()},
                   "max_ms": {n: round(max(ms), 1) for n, ms in runs.items()},
                   "whole_ms": {n: round(ms) for n, ms in whole.items()}, "p99_ms": round(p99, 1)}
            pathlib.Path(a.json).write_text(json.dumps(out, indent=1) + "\n")
        print(f"p99 of {sum(map(len, runs.values()))} queries: {p99:.1f} ms")
        return 0 if p99 < 200 else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    raise SystemExit(main())
