#!/usr/bin/env python3
"""`llmd bench` and guidellm, taking turns at one simulated server; what each says of the same load.

    agree.py --guidellm PROGRAM --tokenizer FOLDER [--rounds 3] [--json FILE]

A step of the simulated worker takes 20 ms; a request has 256 prompt and 64 output tokens. Two loads:
  closed    16 streams, kept open until 320 requests are answered
  constant  320 requests, one every 84 ms whatever the server does: about 16 streams, too. A step takes 128
            tokens, so that a prompt needs three
Compared are the medians over the rounds of
  itl     (closed) median gap between tokens. guidellm's is per request, (last - first token) / (tokens - 1),
          which the bench calls TPOT: that is what it is compared with; the bench's own pooled gaps stand beside it
  tokens  (closed) output tokens per second. guidellm's whole-run figure counts its start and end differently, so
          it is taken from its records: all output tokens by last end less first start, as the bench does
  ttft    (constant) median time to first token. Not of the closed loop: there a step's end makes the next
          request, so how far into the next step that one arrives is the client's own delay, and the faster
          client waits longer for its first token. Both figures are shown, beside what the server's own request
          log says of the same requests: the rest is the tool.
Loopback only. Exit 1 when one differs by more than 3 %.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from bench_server import free_port, start_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAMS, REQUESTS, INTERVAL_S, PROMPT, OUTPUT, LIMIT = 16, 320, 0.0843, 256, 64, 3.0
# Tokens that a step of the server takes, and what each tool is told.
LOADS = {
    "closed": (8192, ["-c", str(STREAMS)], f"kind=concurrent,streams={STREAMS}"),
    "constant": (128, ["-c", "256", "--arrivals", "constant", "-r", f"{1 / INTERVAL_S:.4f}"],
                 f"kind=constant,rate={1 / INTERVAL_S:.4f}"),
}
CONFIG = """listen = {{ "127.0.0.1:{port}" }}
log_level = "error"
store {{ directory = "{folder}/log" }}
model "sim" {{
    path = "{root}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    devices = {{ "sim" }}
    sim_step_us = 20000
    sim_row_ns = 0
    max_num_seqs = 64
    max_num_batched_tokens = {budget}
}}
"""


def by_server(args, folder):
    """What the server's own request log says of the requests of the last run."""
    time.sleep(1)  # its writer's batches
    out = subprocess.run([args.binary, "logs", "-d", f"{folder}/log", "-n", str(REQUESTS), "--json"], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return {"ttft_ms_by_the_server": statistics.median(
        json.loads(line)["first_token_us"] for line in out.splitlines()) / 1000}


def by_bench(args, url, load):
    out = subprocess.run([args.binary, "bench", url, *LOADS[load][1], "-n", str(REQUESTS), "-p", str(PROMPT), "-o",
                          str(OUTPUT), "--json"], check=True, stdout=subprocess.PIPE).stdout
    r = json.loads(out)
    return {"ttft_ms": r["ttft_ms"]["p50"], "itl_ms": r["tpot_ms"]["p50"], "tokens_per_s": r["output_tokens_per_s"],
            "pooled_gap_ms": r["itl_ms"]["p50"], "requests": r["completed"], "output_tokens": r["output_tokens"],
            "prompt_tokens": r["prompt_tokens"], "client_cpu": r["client_cpu"]}


def by_guidellm(args, url, load, folder):
    path = pathlib.Path(folder) / "guidellm.json"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [args.guidellm, "run", "--backend", f"kind=openai_http,target={url},model=sim", "--profile",
         LOADS[load][2], "--constraint", f"kind=max_requests,count={REQUESTS}", "--tokenizer",
         f"kind=hf_auto,model={args.tokenizer}", "--data",
         f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={OUTPUT}", "--output", f"kind=json,path={path}",
         "--disable-console"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # One process is enough for 16 streams; each would load torch first.
        env=os.environ | {"HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1"})
    if done.returncode != 0:
        sys.exit(f"agree: guidellm ended with {done.returncode}:\n{done.stdout[-4000:]}")
    run = json.loads(path.read_text())["benchmarks"][0]
    metrics, done = run["metrics"], run["requests"]["successful"]
    tokens = sum(r["output_tokens"] for r in done)
    seconds = max(r["request_end_time"] for r in done) - min(r["request_start_time"] for r in done)
    return {"ttft_ms": metrics["time_to_first_token_ms"]["successful"]["median"],
            "itl_ms": metrics["inter_token_latency_ms"]["successful"]["median"], "tokens_per_s": tokens / seconds,
            "own_tokens_per_s": metrics["output_tokens_per_second"]["successful"]["mean"],
            "requests": len(done), "output_tokens": tokens, "prompt_tokens": sum(r["prompt_tokens"] for r in done)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--guidellm", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--binary", default="build/llmd")
    a.add_argument("--json")
    args = a.parse_args()
    rounds = {load: {"llmd bench": [], "guidellm": []} for load in LOADS}
    for load, tools in rounds.items():
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            config = CONFIG.format(port=port, root=ROOT, folder=folder, budget=LOADS[load][0])
            process, url = start_server(args.binary, folder, config, port)
            try:
                for _ in range(args.rounds):
                    tools["llmd bench"].append(by_bench(args, url, load) | by_server(args, folder))
                    tools["guidellm"].append(by_guidellm(args, url, load, folder) | by_server(args, folder))
                    for tool, runs in tools.items():
                        print(load, tool, json.dumps({k: round(v, 3) for k, v in runs[-1].items()}), flush=True)
            finally:
                process.terminate()
                process.wait(60)
    medians = {load: {tool: {k: round(statistics.median(r[k] for r in runs), 3) for k in runs[0]}
                      for tool, runs in tools.items()} for load, tools in rounds.items()}
    apart = {k: round(100 * (medians[load]["llmd bench"][k] / medians[load]["guidellm"][k] - 1), 2)
             for load, k in (("constant", "ttft_ms"), ("closed", "itl_ms"), ("closed", "tokens_per_s"))}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(
            {"load": {"streams": STREAMS, "requests": REQUESTS, "interval_s": INTERVAL_S, "prompt_tokens": PROMPT,
                      "output_tokens": OUTPUT, "step_ms": 20, "rounds": args.rounds},
             "medians": medians, "apart_percent": apart}, indent=1) + "\n")
    print("apart: " + ", ".join(f"{k} {v:+.2f} %" for k, v in apart.items()))
    sys.exit(0 if all(abs(v) <= LIMIT for v in apart.values()) else 1)


main()
