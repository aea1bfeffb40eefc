#!/usr/bin/env python3
"""What the status page costs: 20 tabs on its stream and 10 scrapes of /metrics a second, against nobody looking.

    tests/bench/page_cost.py [--seconds 20] [--rounds 3] [--tabs 20] [--scrapes 10] [--streams 32] [--json FILE]

Two questions, each asked in turns (nobody, all, nobody, ...), so that a machine that changes meanwhile changes both:
  cost   CPU of an idle server, in percent of a core: all less nobody. Bound: 2.
  gaps   between the tokens of streams of 20 ms steps: p50, p99, largest, in ms. Bound: p99 of all is at most
         0.5 ms above that of nobody.
Exit 1: a bound is exceeded."""
import argparse
import http.client
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse

from bench_server import free_port, start_server

CONFIG = """listen = {{ "127.0.0.1:{port}" }}
control_socket = ""
log_level = "warn"
store {{ directory = "" }}
model "sim" {{ path = "{model}" devices = {{ "sim" }} sim_workers = 2 sim_step_us = 20000 max_num_seqs = 256 }}
"""
MODEL = os.path.abspath("models/SmolLM2-135M-Instruct.Q4_1.gguf")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watchers:
    """Tabs that read the stream, and one that scrapes."""

    def __init__(self, port, tabs, scrapes):
        self.over = threading.Event()
        self.events = 0
        self.sockets = []
        self.threads = [threading.Thread(target=self.tab, args=(port,)) for _ in range(tabs)]
        self.threads.append(threading.Thread(target=self.scrape, args=(port, scrapes)))
        for t in self.threads:
            t.start()

    def tab(self, port):
        s = socket.create_connection(("127.0.0.1", port))
        self.sockets.append(s)
        s.sendall(f"GET /admin/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        while data := s.recv(1 << 16):
            self.events += data.count(b"event: snapshot")
        s.close()

    def scrape(self, port, per_second):
        c = http.client.HTTPConnection("127.0.0.1", port)
        at = time.monotonic()
        while not self.over.is_set():
            c.request("GET", "/metrics")
            assert c.getresponse().read()
            at += 1 / per_second
            self.over.wait(max(0, at - time.monotonic()))

    def end(self):
        self.over.set()
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join()


def stream_gaps(port, n_tokens, gaps):
    """The gaps between the tokens of one streamed answer, in ms, appended."""
    body = json.dumps({"model": "sim", "prompt": "x", "max_tokens": n_tokens, "stream": True, "ignore_eos": True})
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
        last = None
        while data := s.recv(1 << 16):
            now = time.monotonic()
            if b"data: {" in data:
                if last is not None:
                    gaps.append((now - last) * 1e3)
                last = now


def measure_gaps(port, seconds, streams):
    per_stream = [[] for _ in range(streams)]
    threads = [threading.Thread(target=stream_gaps, args=(port, int(seconds * 50), g)) for g in per_stream]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    all_gaps = sorted(g for one in per_stream for g in one)
    return {"p50": all_gaps[len(all_gaps) // 2], "p99": all_gaps[len(all_gaps) * 99 // 100], "largest": all_gaps[-1]}


def measure_cost(pid, seconds):
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--llmd", default="build/llmd")
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--tabs", type=int, default=20)
    p.add_argument("--scrapes", type=float, default=10)
    p.add_argument("--streams", type=int, default=32)
    p.add_argument("--json", help="the figures go there, too")
    args = p.parse_args()
    port = free_port()
    measured = {"cost": {"nobody": [], "all": []}, "gaps": {"nobody": [], "all": []}}
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(args.llmd, folder, CONFIG.format(port=port, model=MODEL), port)
        port = urllib.parse.urlparse(url).port
        try:
            for _ in range(args.rounds):
                for who in "nobody", "all":
                    watchers = Watchers(port, args.tabs, args.scrapes) if who == "all" else None
                    time.sleep(1)
                    measured["cost"][who].append(measure_cost(server.pid, args.seconds))
                    measured["gaps"][who].append(measure_gaps(port, args.seconds, args.streams))
                    if watchers:
                        assert watchers.events >= args.tabs * args.seconds, "the tabs did not get their snapshots"
                        watchers.end()
        finally:
            server.terminate()
            server.wait()

    cost = {who: round(statistics.median(v), 3) for who, v in measured["cost"].items()}
    gaps = {who: {k: round(statistics.median(g[k] for g in v), 3) for k in v[0]} for who, v in measured["gaps"].items()}
    result = {"tabs": args.tabs, "scrapes_per_second": args.scrapes, "streams": args.streams,
              "percent_of_a_core": {**cost, "added": round(cost["all"] - cost["nobody"], 3)}, "gap_ms": gaps}
    print(json.dumps(result, indent=1))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
    good = result["percent_of_a_core"]["added"] < 2 and gaps["all"]["p99"] < gaps["nobody"]["p99"] + 0.5
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
