#!/usr/bin/env python3
"""Twice the load that a server can take, for a long time: overload.py [--seconds 1800] [--json FILE]

First the capacity is measured: more clients than places, each sends its next request when the last
has ended. Then requests arrive at twice that rate, at random times, whatever becomes of those before
(an open loop), each on its own connection: nine of ten with the key "heavy", the others with "light",
whose share of the offered load is less than half of the capacity: a fair server takes all of it.

Wanted: every request ends as a whole stream or as a 503 with Retry-After; the answers per second are
within 10 % of the capacity; 99 of 100 admitted requests have their first token within max_queue_time_s
and the time of one step in which all prefill; "light" is hardly ever refused; memory, descriptors and
the router's index do not grow from one third of the run to the next. Exit 1 otherwise.
"""
import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import urllib.request

from soak import n_fds, quantile, rss_mb

CONFIG, PORT = "tests/soak/overload.conf", 18083
MAX_QUEUE_TIME_S, PLACES = 3, 32  # as in the configuration
TOKENS, LIGHT_SHARE, SLACK_S = 40, 0.1, 1.0
N_PREFIXES, PREFIX_WORDS = 40, 120


class Stats:
    """Of one kind of requests."""
    def __init__(self):
        self.offered = self.done = self.refused = 0
        self.ttft, self.faults = [], []

    def fault(self, text):
        if len(self.faults) < 5 or text not in self.faults:
            self.faults.append(text)


def body_of(number, rng):
    """One of some shared beginnings and an end of its own, of different lengths."""
    prefix = rng.randrange(N_PREFIXES)
    words = [f"p{prefix}w{i}" for i in range(PREFIX_WORDS)]
    words += [f"n{number}w{i}" for i in range(rng.randrange(10, 60))]
    return json.dumps({"model": "sim", "stream": True, "ignore_eos": True, "max_tokens": TOKENS,
                       "temperature": 0, "messages": [{"role": "user", "content": " ".join(words)}]})


async def read_answer(reader, stats, start):
    """The answer, until its end; True: a whole stream."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, headers = int(head.split(b" ", 2)[1]), head.lower()
    if status != 200:
        text = (await reader.read(65536)).decode(errors="replace")
        if status == 503 and b"\r\nretry-after: " in headers and '"error"' in text:
            stats.refused += 1
        else:
            stats.fault(f"status {status}: {head.decode(errors='replace')} {text[:200]}")
        return False
    events, tail, ended = 0, b"", False
    while data := await reader.read(65536):
        data = tail + data
        n = data.count(b'"delta":{"content"')
        if n and not events:
            stats.ttft.append(time.monotonic() - start)
        events += n
        ended |= b"data: [DONE]" in data
        if b'data: {"error"' in data:
            stats.fault(f"an error in the stream: {data[-300:].decode(errors='replace')}")
        cut = data.rfind(b"\n\n")
        tail = data[cut + 2:] if cut >= 0 else data
        events -= tail.count(b'"delta":{"content"')
    if not ended or events == 0:
        stats.fault(f"a stream ended early, after {events} events")
    return ended and events > 0


async def one_request(key, number, rng, stats):
    """False: it was not answered."""
    body = body_of(number, rng)
    start = time.monotonic()
    stats.offered += 1
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: l\r\nConnection: close\r\n"
                      f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        whole = await read_answer(reader, stats, start)
        stats.done += whole
        return whole
    except (OSError, asyncio.IncompleteReadError) as e:
        stats.fault(f"{type(e).__name__}: {e}")
        return False
    finally:
        if writer:
            writer.close()


async def measure_capacity(seconds):
    """Answers per second with all places taken."""
    stats, rng = Stats(), random.Random(1)
    until = time.monotonic() + seconds
    number = 0

    async def client():
        nonlocal number
        while time.monotonic() < until:
            number += 1
            if not await one_request("heavy", number, rng, stats):
                await asyncio.sleep(0.1)
    clients = [asyncio.create_task(client()) for _ in range(PLACES * 2)]
    await asyncio.sleep(seconds * 0.2)
    before, began = stats.done, time.monotonic()
    await asyncio.sleep(seconds * 0.8)
    rate = (stats.done - before) / (time.monotonic() - began)
    await asyncio.gather(*clients)
    if stats.faults or stats.refused:
        sys.exit(f"overload: in the closed loop {stats.refused} were refused; {stats.faults}")
    return rate


def metric(name):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/metrics",
                                     headers={"Authorization": "Bearer heavy"})
    with urllib.request.urlopen(request, timeout=10) as f:
        return sum(float(line.rsplit(" ", 1)[1]) for line in f.read().decode().splitlines()
                   if line.startswith(name + "{"))


async def watch(pid, samples):
    while True:
        index, waiting = await asyncio.to_thread(
            lambda: (metric("llmd_router_index_blocks"), metric("vllm:num_requests_waiting")))
        samples.append({"rss": rss_mb(pid), "fds": n_fds(pid), "index": index, "waiting": waiting})
        await asyncio.sleep(1)


async def overload(pid, rate, seconds):
    stats = {"heavy": Stats(), "light": Stats()}
    rng, tasks, samples = random.Random(2), set(), []
    watcher = asyncio.create_task(watch(pid, samples))
    began = due = time.monotonic()
    number = 0
    while due < began + seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        key = "light" if rng.random() < LIGHT_SHARE else "heavy"
        number += 1
        task = asyncio.create_task(one_request(key, 100000 + number, rng, stats[key]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    late_s = time.monotonic() - due
    done = sum(s.done for s in stats.values())
    elapsed = time.monotonic() - began
    watcher.cancel()
    await asyncio.gather(*tasks)
    return stats, samples, done / elapsed, late_s


def of_key(s):
    return {"offered": s.offered, "answered": s.done, "refused": s.refused,
            "refused_share": round(s.refused / max(1, s.offered), 4),
            "ttft_ms": {q: round(quantile(s.ttft, q) * 1e3, 1) for q in (0.5, 0.99, 1)},
            "faults": len(s.faults), "first_faults": s.faults[:5]}


def growth(samples, what):
    """Medians of the last two thirds."""
    third = len(samples) // 3
    values = [s[what] for s in samples]
    return {"second_third": round(statistics.median(values[third:2 * third]), 1),
            "last_third": round(statistics.median(values[2 * third:]), 1),
            "max": round(max(values), 1)}


async def run(pid, args):
    capacity = await measure_capacity(args.capacity_seconds)
    print(f"capacity: {capacity:.1f} answers per second; now {2 * capacity:.1f} requests per second "
          f"for {args.seconds} s", flush=True)
    stats, samples, goodput, late_s = await overload(pid, 2 * capacity, args.seconds)
    return {
        "seconds": args.seconds, "capacity_per_s": round(capacity, 2),
        "offered_per_s": round(sum(s.offered for s in stats.values()) / args.seconds, 2),
        "goodput_per_s": round(goodput, 2), "goodput_of_capacity": round(goodput / capacity, 3),
        "generator_late_s": round(late_s, 3),
        "keys": {k: of_key(s) for k, s in stats.items()},
        "rss_mb": growth(samples, "rss"), "fds": growth(samples, "fds"),
        "index_blocks": growth(samples, "index"), "waiting": growth(samples, "waiting"),
    }


def verdict(r, code):
    """What is wrong, in words."""
    wrong = []
    heavy, light = r["keys"]["heavy"], r["keys"]["light"]
    limit_ms = (MAX_QUEUE_TIME_S + SLACK_S) * 1e3
    if code != 0:
        wrong.append(f"the server ended with {code}")
    if heavy["faults"] or light["faults"]:
        wrong.append("answers that are neither whole nor a 503 with Retry-After")
    if not 0.9 <= r["goodput_of_capacity"] <= 1.1:
        wrong.append("goodput is not within 10 % of the capacity")
    if max(heavy["ttft_ms"][0.99], light["ttft_ms"][0.99]) > limit_ms:
        wrong.append(f"p99 of the time to first token is above {limit_ms:.0f} ms")
    if light["refused_share"] > 0.01:
        wrong.append("the light key was refused, though it asked for less than its share")
    for what, most in (("rss_mb", 4), ("fds", 30), ("index_blocks", 500)):
        if r[what]["last_third"] - r[what]["second_third"] > most:
            wrong.append(f"{what} grew")
    if r["idle_fds"]["after"] > r["idle_fds"]["before"]:
        wrong.append("descriptors were left open")
    return wrong


def serve_and_run(args):
    server = subprocess.Popen([args.binary, "serve", "--config", CONFIG])
    try:
        for _ in range(400):
            time.sleep(0.05)
            if subprocess.run(["curl", "-sf", "-o", "/dev/null",
                               f"http://127.0.0.1:{PORT}/ready"], check=False).returncode == 0:
                break
        else:
            sys.exit("overload: the server did not become ready")
        idle = n_fds(server.pid)
        result = asyncio.run(run(server.pid, args))
        time.sleep(1)
        result["idle_fds"] = {"before": idle, "after": n_fds(server.pid)}
    finally:
        server.terminate()
        code = server.wait(60)
    return result, code


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--seconds", type=int, default=1800)
    a.add_argument("--capacity-seconds", type=int, default=30)
    a.add_argument("--binary", default="build/llmd")
    a.add_argument("--json")
    args = a.parse_args()
    result, code = serve_and_run(args)
    wrong = verdict(result, code)
    with open("/proc/cpuinfo", encoding="ascii") as f:
        cpu = next(l for l in f if l.startswith("model name")).split(":")[1].strip()
    result |= {"config": CONFIG, "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release()}
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            f.write(text + "\n")
    print("overload: " + ("; ".join(wrong) if wrong else "ok"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
