#!/usr/bin/env python3
"""What large bodies do to a stream on the same server: gaps between its tokens while 4 MB bodies come.

    python3 tests/bench/edge_large.py [--binary build/llmd] [--seconds 10] [--kb 4096] [--clients 2]

One loop thread, so that the stream shares it with the bodies; a simulated worker makes a token every
20 ms. First the stream alone, then with clients that send one body after the other. The bodies are
tokenized and then refused (400): they are longer than the model's context. Lines of JSON; the last:
p99_ms=ALONE p99_ms_with_bodies=WITH max_ms_with_bodies=MAX bodies=N
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
control_socket = ""
log_level = "warn"
edge_threads = 1
max_body_kb = 65536
store {{ directory = "" }}
model "sim" {{
    path = "{model}"
    devices = {{ "sim" }}
    sim_step_us = 20000
    sim_row_ns = 0
    max_num_batched_tokens = 65536
    kv_cache_mb = 65536
}}
"""
WORDS = "the quick brown fox jumps over a lazy dog and then it sleeps under old trees. "


def post(body):
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)) + body


async def stream(port, gaps, until):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(json.dumps({"model": "sim", "stream": True, "max_tokens": 8000, "ignore_eos": True,
                                  "messages": [{"role": "user", "content": "Hi"}]}).encode()))
    last = None
    while time.monotonic() < until:
        data = await reader.read(65536)
        now = time.monotonic()
        if b'"delta":{"content"' in data:
            if last is not None:
                gaps.append((now - last) * 1e3)
            last = now
    writer.close()


async def send_bodies(port, body, done, until):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        writer.write(post(body))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        answer = await reader.readexactly(int(length.split(b":")[1]))
        done.append(int(head.split(b" ")[1]))
        if done[-1] not in (200, 400):
            raise SystemExit(answer.decode())
    writer.close()


def figures(gaps):
    gaps = sorted(gaps)
    return {"n": len(gaps), "p50_ms": round(gaps[len(gaps) // 2], 1),
            "p99_ms": round(gaps[int(len(gaps) * 0.99)], 1), "max_ms": round(gaps[-1], 1)}


async def measure(port, args):
    result = {}
    for name, n in (("alone", 0), ("with_bodies", args.clients)):
        gaps, done = [], []
        until = time.monotonic() + args.seconds
        content = (WORDS * (args.kb * 1024 // len(WORDS) + 1))[:args.kb * 1024]
        body = json.dumps({"model": "sim", "max_tokens": 1,
                           "messages": [{"role": "user", "content": content}]}).encode()
        await asyncio.gather(stream(port, gaps, until), *(send_bodies(port, body, done, until) for _ in range(n)))
        result[name] = {**figures(gaps), "bodies": len(done), "statuses": sorted(set(done))}
        print(json.dumps({name: result[name]}), flush=True)
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--binary", default=str(ROOT / "build/llmd"))
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--kb", type=int, default=4096)
    p.add_argument("--clients", type=int, default=2)
    p.add_argument("--port", type=int, default=18471)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "llmd.conf"
        config.write_text(CONFIG.format(port=args.port, model=MODEL))
        server = subprocess.Popen([args.binary, "serve", "--config", str(config)])
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{args.port}/ready")
                    break
                except OSError:
                    time.sleep(0.05)
            r = asyncio.run(measure(args.port, args))
        finally:
            server.terminate()
            server.wait()
    print(f"p99_ms={r['alone']['p99_ms']} p99_ms_with_bodies={r['with_bodies']['p99_ms']} "
          f"max_ms_with_bodies={r['with_bodies']['max_ms']} bodies={r['with_bodies']['bodies']}")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
