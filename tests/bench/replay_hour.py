#!/usr/bin/env python3
"""An hour of load recorded by the request log, then replayed in four minutes: is it the same load?

    replay_hour.py [--seconds 3600] [--speed 15] [--keep FILE] [--log FILE] [--json FILE]

Recorded: two simulated workers under an hour whose rate changes (a day's curve in small, with two bursts) of
conversations and single questions that share system prompts: `llmd bench` makes it in pieces. Replayed: the
log, with an empty server, by `llmd bench --replay LOG --speed 15`, once. Compared, of the rows that both
request logs hold:
  arrivals  the largest distance between the two arrival curves (shares of all requests by share of the time)
  hit rate  cached tokens / prompt tokens
  tokens    output tokens
The last line: how far apart in %. Exit 1 beyond 5 %. --keep keeps the recording, --log replays a kept one.
Loopback only.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from bench_server import free_port, start_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 5.0
# Pieces of the recorded time: share of it, requests per second, what they are.
CHAT = ["--prefix-groups", "12", "--prefix-tokens", "1200", "--turns", "4", "-p", "60-200", "-o", "20-120"]
QUESTIONS = ["--prefix-groups", "40", "--prefix-tokens", "700", "-p", "lognormal:150,120", "-o", "5-60"]
UNIQUE = ["-p", "100-1500", "-o", "10-80"]
PIECES = [(0.15, 1.0, CHAT), (0.20, 2.5, QUESTIONS), (0.05, 8.0, QUESTIONS), (0.20, 3.0, CHAT), (0.10, 1.5, UNIQUE),
          (0.05, 7.0, CHAT), (0.15, 2.0, QUESTIONS), (0.10, 0.7, CHAT)]
CONFIG = """listen = {{ "127.0.0.1:{port}" }}
log_level = "error"
store {{ directory = "{folder}" }}
model "sim" {{
    path = "{root}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    devices = {{ "sim" }}
    sim_workers = 2
    sim_step_us = 5000
    sim_row_ns = 20000
    kv_cache_mb = 4096
    max_num_seqs = 256
    max_queue = 100000
    max_queue_time_s = 0
}}
"""


def bench(binary, url, *options):
    out = subprocess.run([binary, "bench", url, "--quiet", "--json", *options], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)


def served(binary, folder, load):
    """Runs load(url) against a fresh server; what its request log has afterwards, as JSON lines."""
    folder.mkdir()
    port = free_port()
    process, url = start_server(binary, folder, CONFIG.format(port=port, root=ROOT, folder=folder / "log"), port)
    try:
        load(url)
    finally:
        process.terminate()
        process.wait(60)
    return subprocess.run([binary, "logs", "-d", str(folder / "log"), "--all", "--json"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def rows_of(text):
    """Without the requests by which the bench learns what its words cost: they ask for one token."""
    return [r for r in map(json.loads, text.splitlines()) if r["output_tokens"] > 1]


def arrivals(rows):
    """The share of the requests that has come when each hundredth of the time is over."""
    times = sorted(r["time_us"] for r in rows)
    span = times[-1] - times[0]
    return [sum((t - times[0]) * 100 <= span * i for t in times) / len(times) for i in range(101)]


def summary(rows):
    return {"requests": len(rows), "seconds": round((max(r["time_us"] for r in rows) - min(r["time_us"] for r in rows)) / 1e6, 1),
            "hit_rate": sum(r["cached_tokens"] for r in rows) / sum(r["prompt_tokens"] for r in rows),
            "prompt_tokens": sum(r["prompt_tokens"] for r in rows), "output_tokens": sum(r["output_tokens"] for r in rows)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--seconds", type=float, default=3600)
    a.add_argument("--speed", type=float, default=15)
    a.add_argument("--keep")
    a.add_argument("--log")
    a.add_argument("--binary", default="build/llmd")
    a.add_argument("--json")
    args = a.parse_args()

    def record(url):
        for i, (share, rate, what) in enumerate(PIECES):
            bench(args.binary, url, "-r", str(rate), "-d", str(share * args.seconds), "-n", "1000000", "-c", "512",
                  "--seed", str(i + 1), *what)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        log = folder / "recorded.jsonl"
        if args.log:
            shutil.copy(args.log, log)
        else:
            log.write_text(served(args.binary, folder / "recorded", record))
        if args.keep:
            shutil.copy(log, args.keep)
        again = served(args.binary, folder / "replayed", lambda url: bench(
            args.binary, url, "--replay", str(log), "--speed", str(args.speed), "-c", "4096"))
        recorded, replayed = rows_of(log.read_text()), rows_of(again)
    was, now = summary(recorded), summary(replayed)
    apart = {"arrivals": 100 * max(abs(x - y) for x, y in zip(arrivals(recorded), arrivals(replayed))),
             "hit_rate": 100 * (now["hit_rate"] / was["hit_rate"] - 1),
             "tokens": 100 * (now["output_tokens"] / was["output_tokens"] - 1)}
    apart = {k: round(v, 2) for k, v in apart.items()}
    print("recorded", json.dumps(was))
    print("replayed", json.dumps(now))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"recorded": was, "replayed": now, "speed": args.speed,
                                                       "apart_percent": apart}, indent=1) + "\n")
    print("apart: " + ", ".join(f"{k} {v:+.2f} %" for k, v in apart.items()))
    sys.exit(0 if len(replayed) == len(recorded) and all(abs(v) <= LIMIT for v in apart.values()) else 1)


main()
