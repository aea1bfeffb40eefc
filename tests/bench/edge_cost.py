#!/usr/bin/env python3
"""CPU time of the edge threads per token and per request, over a simulated worker.

    python3 tests/bench/edge_cost.py [--binary build/llmd] [--streams 64] [--seconds 5]

Streams: each of the clients reads one long stream, 50 tokens a second; the CPU time that the threads named
edge* took (/proc/PID/task/*/schedstat) over the tokens that arrived. Requests: the same clients send one
request of one token after the other on kept-alive connections. Last line: us_per_token=R us_per_request=R
"""
import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIG = """listen = {{ "127.0.0.1:{port}" }}
log_level = "warn"
edge_threads = {threads}
model "sim" {{
    path = "{model}"
    devices = {{ "sim" }}
    sim_step_us = {step_us}
    sim_row_ns = 0
    max_num_seqs = 1024
    max_num_batched_tokens = 8192
    max_queue = 4096
}}
"""


def edge_cpu_s(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("edge"):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def request(stream, tokens):
    body = json.dumps({"model": "sim", "stream": stream, "max_tokens": tokens, "ignore_eos": True,
                       "messages": [{"role": "user", "content": "What is the capital of France?"}]})
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


async def read_stream(port, counts):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(True, 8000))
    try:
        while data := await reader.read(65536):
            counts[0] += data.count(b'"delta":{"content"')
    finally:
        writer.close()


async def send_requests(port, counts):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(request(False, 1))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            counts[0] += 1
    finally:
        writer.close()


async def measure(work, args, pid):
    """CPU microseconds of the edge per thing that `work` counts."""
    counts = [0]
    tasks = [asyncio.create_task(work(args.port, counts)) for _ in range(args.streams)]
    await asyncio.sleep(1)
    cpu, n = edge_cpu_s(pid), counts[0]
    await asyncio.sleep(args.seconds)
    cost = (edge_cpu_s(pid) - cpu) / max(counts[0] - n, 1) * 1e6
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return cost, (counts[0] - n) / args.seconds


def run(args, step_us, work):
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "llmd.conf"
        config.write_text(CONFIG.format(port=args.port, model=MODEL, step_us=step_us,
                                        threads=args.threads))
        server = subprocess.Popen([args.binary, "serve", "--config", str(config)])
        try:
            for _ in range(500):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{args.port}/ready", timeout=1)
                    break
                except OSError:
                    time.sleep(0.02)
            return asyncio.run(measure(work, args, server.pid))
        finally:
            server.terminate()
            server.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--binary", default=str(ROOT / "build/llmd"))
    p.add_argument("--port", type=int, default=18090)
    p.add_argument("--streams", type=int, default=64)
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--threads", type=int, default=1, help="edge threads")
    args = p.parse_args()
    token, tokens_s = run(args, 20000, read_stream)
    request_cost, requests_s = run(args, 100, send_requests)
    print(f"streams={args.streams} tokens/s={tokens_s:.0f} requests/s={requests_s:.0f} cores={os.cpu_count()}")
    print(f"us_per_token={token:.1f} us_per_request={request_cost:.1f}")


if __name__ == "__main__":
    main()
