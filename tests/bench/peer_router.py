#!/usr/bin/env python3
"""llmd with two workers beside vllm-router in front of two llmd with one worker each.

    peer_router.py --router PATH [--seconds 8] [--json FILE]

The workers are simulated (5 ms a step and 30 us a token), so that the same work costs the same
everywhere and what is left is routing. Three parts, every system in turn:
  overhead  one client, a short completion of one token on a kept-alive connection: latency beside that of
            a single llmd asked directly
  load      16 clients, closed loop, 24 families of prompts with a common beginning: time to first token
  failure   32 streams run while a worker fails: for llmd by a fault of its own (core/util/fault.h), behind
            the router by SIGKILL of one process; what the clients see
Loopback only. The last line holds llmd's ratios to the better of the router's policies.
"""
import argparse
import asyncio
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import tempfile
import time

from bench_server import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICIES = ["cache_aware", "round_robin"]
CONFIG = """listen = {{ "127.0.0.1:{port}" }}
log_level = "error"
model "sim" {{
    path = "{root}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    devices = {{ "sim" }}
    sim_workers = {workers}
    sim_step_us = 5000
    sim_row_ns = 30000
    kv_cache_mb = 512
    max_model_len = 4096
    max_num_seqs = 64
}}
"""


class Llmd:
    def __init__(self, binary, workers, faults=""):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.folder.name) / "llmd.conf"
        path.write_text(CONFIG.format(port=self.port, root=ROOT, workers=workers))
        self.process = subprocess.Popen([binary, "serve", "--config", str(path)],
                                        env={**os.environ, "LLMD_FAULTS": faults})

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.folder.cleanup()


class Router:
    def __init__(self, program, policy, ports):
        self.port = free_port()
        urls = [f"http://127.0.0.1:{p}" for p in ports]
        self.process = subprocess.Popen(
            [program, "--host", "127.0.0.1", "--port", str(self.port), "--policy", policy, "--log-level",
             "error", "--prometheus-port", str(free_port()), "--worker-urls", *urls],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def post(self, body, on_data=None):
        """Status and whole body; on_data is called with each piece."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = json.dumps(body).encode()
        self.writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          b"Content-Length: %d\r\n\r\n" % len(data) + data)
        status, headers = await self.head()
        pieces = []
        async for piece in self.body(headers):
            pieces.append(piece)
            if on_data:
                on_data(piece)
        return status, b"".join(pieces)

    async def head(self):
        line = await self.reader.readline()
        if not line:
            raise ConnectionError("closed before the status")
        headers = {}
        while (h := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = h.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(line.split()[1]), headers

    async def body(self, headers):
        if "content-length" in headers:
            yield await self.reader.readexactly(int(headers["content-length"]))
            return
        while n := int((await self.reader.readline()).split(b";")[0] or b"x", 16):
            yield await self.reader.readexactly(n)
            await self.reader.readline()
        await self.reader.readline()

    def close(self):
        if self.writer:
            self.writer.close()


async def wait_ready(port):
    for _ in range(400):
        c = Connection(port)
        try:
            status, _ = await c.post({"model": "sim", "prompt": "a", "max_tokens": 1})
            if status == 200:
                return
        except (OSError, ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            c.close()
        await asyncio.sleep(0.05)
    raise SystemExit(f"nothing answers at port {port}")


def words(seed, n):
    r = random.Random(seed)
    return " ".join(r.choice(["river", "stone", "lamp", "garden", "winter", "copper"]) for _ in range(n))


async def overhead(port, n=300):
    c = Connection(port)
    times = []
    for i in range(n + 20):
        began = time.perf_counter()
        status, _ = await c.post({"model": "sim", "prompt": f"short {i}", "max_tokens": 1})
        assert status == 200
        if i >= 20:
            times.append((time.perf_counter() - began) * 1e3)
    c.close()
    return times


async def load(port, seconds):
    ttft, failed = [], 0
    until = time.perf_counter() + seconds
    prefixes = [words(f, 900) for f in range(24)]

    async def client(k):
        nonlocal failed
        r, c, i = random.Random(k), Connection(port), 0
        while time.perf_counter() < until:
            i += 1
            body = {"model": "sim", "prompt": prefixes[r.randrange(24)] + words(k * 1000 + i, 40),
                    "max_tokens": 16, "stream": True}
            began, first = time.perf_counter(), []
            try:
                status, _ = await c.post(body, lambda piece: first.append(time.perf_counter()))
                assert status == 200
                ttft.append((first[0] - began) * 1e3)
            except (OSError, ConnectionError, AssertionError, asyncio.IncompleteReadError, ValueError):
                failed += 1
                c.close()
                c = Connection(port)
        c.close()

    await asyncio.gather(*(client(k) for k in range(16)))
    return ttft, failed


async def failure(port, kill):
    """Whole answers, broken ones, refused ones of 32 streams and the 32 requests that follow."""
    seen = {"whole": 0, "broken": 0, "refused": 0}

    async def one(k):
        c = Connection(port)
        try:
            status, data = await c.post({"model": "sim", "prompt": words(k, 60), "max_tokens": 300,
                                         "ignore_eos": True, "stream": True})
            whole = b"data: [DONE]" in data and b'data: {"error"' not in data
            seen["whole" if status == 200 and whole else "broken" if status == 200 else "refused"] += 1
        except (OSError, ConnectionError, asyncio.IncompleteReadError, ValueError):
            seen["broken"] += 1
        finally:
            c.close()

    async def twice(k):
        await one(k)
        await one(k + 100)

    streams = asyncio.gather(*(twice(k) for k in range(32)))
    await asyncio.sleep(1.7)
    if kill:
        kill()
    await streams
    return seen


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def figures(system, direct, times, ttft, failed, seen):
    base50, base99 = quantile(direct, 0.5), quantile(direct, 0.99)
    return {"system": system,
            "added_ms": {"p50": round(quantile(times, 0.5) - base50, 3), "p99": round(quantile(times, 0.99) - base99, 3)},
            "ttft_ms": {"mean": round(statistics.mean(ttft), 2), "p50": round(quantile(ttft, 0.5), 2),
                        "p99": round(quantile(ttft, 0.99), 2)},
            "requests": len(ttft), "failed": failed, "worker_lost": seen}


async def measure_llmd(binary, seconds, direct):
    server = Llmd(binary, 2)
    await wait_ready(server.port)
    times = await overhead(server.port)
    ttft, failed = await load(server.port, seconds)
    server.stop()
    server = Llmd(str(pathlib.Path(binary).parent / "faults/llmd"), 2, "step-fails worker=0 at=350")
    await wait_ready(server.port)
    seen = await failure(server.port, None)
    server.stop()
    return figures("llmd, two workers", direct, times, ttft, failed, seen)


async def measure_router(binary, program, policy, seconds, direct):
    workers = [Llmd(binary, 1), Llmd(binary, 1)]
    for w in workers:
        await wait_ready(w.port)
    router = Router(program, policy, [w.port for w in workers])
    await wait_ready(router.port)
    times = await overhead(router.port)
    ttft, failed = await load(router.port, seconds)
    seen = await failure(router.port, lambda: workers[0].process.kill())
    router.stop()
    workers[0].stop(signal.SIGKILL)
    workers[1].stop()
    return figures(f"vllm-router {policy}", direct, times, ttft, failed, seen)


async def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--router", required=True)
    args.add_argument("--binary", default=str(ROOT / "build/llmd"))
    args.add_argument("--seconds", type=float, default=8)
    args.add_argument("--json")
    o = args.parse_args()
    single = Llmd(o.binary, 1)
    await wait_ready(single.port)
    direct = await overhead(single.port)
    single.stop()
    rows = [await measure_llmd(o.binary, o.seconds, direct)]
    for policy in POLICIES:
        rows.append(await measure_router(o.binary, o.router, policy, o.seconds, direct))
    for r in rows:
        print(f"{r['system']:26s} added p50 {r['added_ms']['p50']:6.3f} p99 {r['added_ms']['p99']:6.3f} ms   ttft mean "
              f"{r['ttft_ms']['mean']:6.1f} p50 {r['ttft_ms']['p50']:6.1f} p99 {r['ttft_ms']['p99']:6.1f} ms   "
              f"failed {r['failed']}   worker lost: {r['worker_lost']}")
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps({"direct_ms": {"p50": quantile(direct, 0.5), "p99": quantile(direct, 0.99)},
                                                    "systems": rows}, indent=1) + "\n")
    best = min(rows[1:], key=lambda r: r["ttft_ms"]["mean"])
    ratio = best["ttft_ms"]["mean"] / rows[0]["ttft_ms"]["mean"]
    broken = [r["worker_lost"]["broken"] + r["worker_lost"]["refused"] for r in rows]
    print(f"ttft={ratio:.2f} broken={broken[0]} broken_behind_router={min(broken[1:])}")


asyncio.run(main())
