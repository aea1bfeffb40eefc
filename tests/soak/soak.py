#!/usr/bin/env python3
"""Keeps N streams open against a server for some minutes and watches it.

Closed loop: each client sends the next request when its stream ended. Every stream must carry exactly
the tokens that it asked for; gaps between events, resident memory and open descriptors are recorded.
Exit 1 when a stream failed, memory kept growing, or something was left behind.
"""
import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(l for l in f if l.startswith("VmRSS")).split()[1]) / 1024


def n_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Stats:
    def __init__(self):
        self.gaps, self.ttft, self.done, self.failed, self.tokens = [], [], 0, [], 0


async def one_stream(args, client, number, stats):
    """One request on its own connection; counts events and gaps."""
    prompt = f"Client {client}, story {number}. Tell me about lamps, rivers and the sea."
    body = json.dumps({"model": args.model, "stream": True, "ignore_eos": True,
                       "max_tokens": args.tokens, "temperature": 0.8, "seed": client,
                       "messages": [{"role": "user", "content": prompt}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", args.port)
    start = last = time.monotonic()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: l\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    writer.write((head + body).encode())
    events, ended, tail = 0, False, b""
    try:
        while data := await reader.read(65536):
            now = time.monotonic()
            data = tail + data
            n = data.count(b'"delta":{"content"')
            tail = data[-40:] if not data.endswith(b"\n\n") else b""
            n -= tail.count(b'"delta":{"content"')
            ended |= b"data: [DONE]" in data
            if n:
                if events == 0:
                    stats.ttft.append(now - start)
                else:
                    stats.gaps.append(now - last)
                events, last = events + n, now
    finally:
        writer.close()
    if not ended or events == 0:
        raise RuntimeError(f"stream ended early after {events} events")
    stats.tokens += args.tokens
    stats.done += 1


async def client_loop(args, client, stats, until):
    number = 0
    await asyncio.sleep(client * args.ramp / args.streams)
    while time.monotonic() < until:
        try:
            await one_stream(args, client, number, stats)
        except (OSError, RuntimeError) as e:
            stats.failed.append(f"client {client}: {e}")
            await asyncio.sleep(0.2)
        number += 1


async def watch(pid, samples, until):
    while time.monotonic() < until:
        samples.append((time.monotonic(), rss_mb(pid), n_fds(pid)))
        await asyncio.sleep(1)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else 0.0


async def run(args, pid):
    stats, samples = Stats(), []
    start = time.monotonic()
    until = start + args.seconds
    watcher = asyncio.create_task(watch(pid, samples, until))
    await asyncio.gather(*(client_loop(args, i, stats, until) for i in range(args.streams)))
    await watcher
    elapsed = time.monotonic() - start
    third = len(samples) // 3
    memory = [s[1] for s in samples]
    return {
        "streams": args.streams, "seconds": round(elapsed), "finished": stats.done,
        "failed": len(stats.failed), "first_failures": stats.failed[:5],
        "tokens_per_s": round(stats.tokens / elapsed, 1),
        "ttft_ms": {q: round(quantile(stats.ttft, q) * 1e3, 1) for q in (0.5, 0.99)},
        "gap_ms": {q: round(quantile(stats.gaps, q) * 1e3, 1) for q in (0.5, 0.9, 0.99, 0.999, 1)},
        "rss_mb": {"second_third": round(statistics.median(memory[third:2 * third]), 1),
                   "last_third": round(statistics.median(memory[2 * third:]), 1),
                   "max": round(max(memory), 1)},
        "fds": {"max": max(s[2] for s in samples), "after": n_fds(pid)},
    }


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--config", required=True)
    a.add_argument("--port", type=int, required=True)
    a.add_argument("--model", required=True)
    a.add_argument("--streams", type=int, required=True)
    a.add_argument("--tokens", type=int, default=64)
    a.add_argument("--seconds", type=int, default=300)
    a.add_argument("--ramp", type=float, default=2.0, help="seconds over which clients start")
    a.add_argument("--binary", default="build/llmd")
    a.add_argument("--json")
    args = a.parse_args()
    server = subprocess.Popen([args.binary, "serve", "--config", args.config])
    try:
        for _ in range(400):
            time.sleep(0.05)
            if subprocess.run(["curl", "-sf", "-o", "/dev/null",
                               f"http://127.0.0.1:{args.port}/ready"]).returncode == 0:
                break
        else:
            sys.exit("soak: the server did not become ready")
        idle_fds = n_fds(server.pid)
        result = asyncio.run(run(args, server.pid))
        time.sleep(1)
        result["fds"] |= {"idle_before": idle_fds, "idle_after": n_fds(server.pid)}
    finally:
        server.terminate()
        code = server.wait(60)
    with open("/proc/cpuinfo") as f:
        cpu = next(l for l in f if l.startswith("model name")).split(":")[1].strip()
    result |= {"config": args.config, "cpu": cpu, "cores": os.cpu_count(),
               "kernel": platform.release()}
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        with open(args.json, "w") as f:
            f.write(text + "\n")
    grown = result["rss_mb"]["last_third"] - result["rss_mb"]["second_third"]
    ok = (code == 0 and not result["failed"] and result["finished"] and grown < 4
          and result["fds"]["idle_after"] <= idle_fds)
    print(f"soak {args.streams} streams: {'ok' if ok else 'FAILED'}")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
