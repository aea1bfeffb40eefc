#!/usr/bin/env python3
"""edge.py - see edge.sh, which builds what this needs."""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

from bench_server import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIG = """listen = {{ "http://127.0.0.1:{plain}", "https://127.0.0.1:{tls}" }}
control_socket = "llmd.sock"
log_level = "warn"
edge_threads = {threads}
tls {{ certificate = "cert.pem"
 key = "key.pem" }}
model "sim" {{
    path = "{model}"
    devices = {{ "sim" }}
    sim_workers = {workers}
    sim_step_us = {step_us}
    sim_row_ns = 0
    max_num_seqs = 1024
    max_num_batched_tokens = 8192
    max_queue = 4096
}}
"""
NGINX = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
worker_processes {threads};
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{ default_type application/json; return 200 '{body}'; }}
    }}
}}
"""
# Bounds of what is measured; 1,000 streams over TLS are recorded only.
MODES = {"spread": 64, "burst": 1}  # workers
PARTS = ("tokens", "memory", "writes", "requests")
TO_SENDER, CPU_US, IDLE_KIB, WRITES, TO_NGINX = 1.5, 30, {False: 30, True: 90}, 1.1, 0.8


class Program:
    """A child, ended with the block."""

    def __init__(self, *command, env=None, stdout=None):
        self.process = subprocess.Popen([str(c) for c in command], env={**os.environ, **(env or {})}, stdout=stdout,
                                        text=True)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Llmd(Program):
    def __init__(self, bench, binary, workers, step_us, threads=1):
        self.ports = {False: free_port(), True: free_port()}
        config = bench.folder / "llmd.conf"
        config.write_text(CONFIG.format(plain=self.ports[False], tls=self.ports[True], threads=threads, model=MODEL,
                                        workers=workers, step_us=step_us))
        super().__init__(binary, "serve", "--config", config, env={"LLMD_PUSH_TABLE": str(bench.table)})
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.get("/ready"):
                    return
            except OSError:
                time.sleep(0.02)
        self.__exit__()
        sys.exit("edge.py: llmd does not become ready")

    def get(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.ports[False]}{path}", timeout=5).read().decode()

    def wait_idle(self):
        until = time.monotonic() + 20
        while time.monotonic() < until:
            running = re.findall(r"^vllm:num_requests_running\{.*\} (\S+)", self.get("/metrics"), re.M)
            if sum(map(float, running)) == 0:
                return
            time.sleep(0.05)

    def anon_kib(self):
        return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1])

    def edge_thread(self):
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text() == "edge0\n":
                return task.name
        raise RuntimeError("no thread edge0")


class Streams:
    """n streams of `tokens` tokens, read by this program; for what needs no clock."""

    def __init__(self, port, n, tokens, tls):
        context = ssl._create_unverified_context() if tls else None
        self.sockets = []
        for i in range(n):
            s = socket.create_connection(("127.0.0.1", port), timeout=30)
            if tls:
                s = context.wrap_socket(s)
            body = json.dumps({"model": "sim", "stream": True, "prompt": "Tell a story.", "max_tokens": tokens,
                               "ignore_eos": True, "seed": i + 1})
            s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            self.sockets.append(s)

    def read_until(self, words):
        for s in self.sockets:
            got = b""
            while words not in got:
                data = s.recv(65536)
                if not data:
                    sys.exit("edge.py: a stream ended early")
                got = got[-len(words):] + data

    def close(self):
        for s in self.sockets:
            s.close()


class Bench:
    def __init__(self, args, folder):
        self.args = args
        self.folder = pathlib.Path(folder)
        self.table, self.schedule = self.folder / "pushes", self.folder / "schedule"
        self.sent, self.event = self.folder / "sent", self.folder / "event"
        self.over = []
        self.results = {"cores": os.cpu_count(), "tokens": []}
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem", "-days", "365",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, stderr=subprocess.DEVNULL)

    def bound(self, holds, what):
        if not holds:
            self.over.append(what)

    def read(self, port, n, mode, tls, table, pid, more=()):
        command = [BUILD / "bench/edge_reader", "-p", "1300" if mode == "spread" else "300", *(["-s"] if tls else []),
                   *more, port, n, self.args.seconds, table, pid]
        out = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if out.returncode != 0:
            who = "llmd" if table == self.table else "edge_sender"
            sys.exit(f"edge.py: {n} streams of {who}, {mode}, {'TLS' if tls else 'plain'}: {out.stderr or out.returncode}")
        return {k: float(v) for k, v in (pair.split("=") for pair in out.stdout.split())}

    def read_sender(self, n, mode, tls):
        files = [self.folder / "cert.pem", self.folder / "key.pem"] if tls else []
        with Program(BUILD / "bench/edge_sender", 0, n, self.schedule, self.sent, self.event, *files,
                     stdout=subprocess.PIPE) as sender:
            port = sender.process.stdout.readline().split()[1]
            return self.read(port, n, mode, tls, self.sent, sender.pid)

    def tokens_case(self, server, n, mode, tls):
        ours, least = [], []
        for _ in range(self.args.rounds):
            ours.append(self.read(server.ports[tls], n, mode, tls, self.table, server.pid, ["-e", self.event]))
            shutil.copyfile(self.table, self.schedule)
            server.wait_idle()
            least.append(self.read_sender(n, mode, tls))
        best = {who: {k: min(r[k] for r in rounds) for k in rounds[0]}
                for who, rounds in (("llmd", ours), ("sender", least))}
        name = f"{n} streams, {mode}, {'TLS' if tls else 'plain'}"
        row = {"streams": n, "mode": mode, "tls": tls, **best}
        row.update({f"{q}_ratio": best["llmd"][f"{q}_us"] / best["sender"][f"{q}_us"] for q in ("p50", "p99")})
        print(f"{name:30} p50 {best['llmd']['p50_us']:7.0f} us {row['p50_ratio']:5.2f}x"
              f"   p99 {best['llmd']['p99_us']:7.0f} us {row['p99_ratio']:5.2f}x"
              f"   cpu {best['llmd']['cpu_us']:5.1f} us {best['sender']['cpu_us']:5.1f}"
              f"   together {best['llmd']['together']:.1f} %   threads {best['llmd']['threads']:.0f}", flush=True)
        self.results["tokens"].append(row)
        if tls and n == 1000:
            return
        for q in "p50", "p99":
            self.bound(row[f"{q}_ratio"] <= TO_SENDER, f"{name}: {q} {row[f'{q}_ratio']:.2f} times the sender's")
        self.bound(n < 64 or best["llmd"]["cpu_us"] < CPU_US, f"{name}: {best['llmd']['cpu_us']:.1f} us of CPU a token")

    def tokens(self):
        for mode in self.args.modes:
            with Llmd(self, BUILD / "bench/llmd", MODES[mode], 20000) as server:
                for tls in self.tls():
                    for n in self.args.streams:
                        self.tokens_case(server, n, mode, tls)
            threads = {r["llmd"]["threads"] for r in self.results["tokens"] if r["mode"] == mode}
            self.bound(len(threads) == 1, f"{mode}: {sorted(threads)} threads, by the number of streams")

    def memory(self, tls):
        n = max(self.args.streams)
        with Llmd(self, BUILD / "llmd", 1, 3000000) as server:
            first = Streams(server.ports[tls], 1, 200, tls)
            first.read_until(b'"text":')
            before = server.anon_kib()
            streams = Streams(server.ports[tls], n, 200, tls)
            streams.read_until(b'"text":')
            kib = (server.anon_kib() - before) / n
            first.close()
            streams.close()
        name = "TLS" if tls else "plain"
        print(f"memory of a stream, {name}: {kib:.1f} KiB", flush=True)
        self.results[f"stream_kib_{name.lower()}"] = kib
        self.bound(kib < IDLE_KIB[tls], f"a stream ({name}) takes {kib:.1f} KiB")

    def writes(self, tls):
        n, tokens = 64, 100
        counts = self.folder / "strace"
        with Llmd(self, BUILD / "llmd", 1, 20000) as server:
            calls = "trace=write,writev,sendto,sendmsg,sendmmsg"
            with Program("strace", "-qq", "-c", "-e", calls, "-o", counts, "-p", server.edge_thread()) as tracer:
                time.sleep(0.5)
                streams = Streams(server.ports[tls], n, tokens, tls)
                streams.read_until(b"data: [DONE]")
                streams.close()
                tracer.process.send_signal(signal.SIGINT)
                tracer.process.wait(10)
        total = re.search(r"^\s*100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s.*total$", counts.read_text(), re.M)
        if not total:
            self.bound(False, "writes per token: strace counted nothing")
            return
        each = int(total[1]) / (n * tokens)
        name = "TLS" if tls else "plain"
        print(f"writes per token, {name}: {each:.2f} (with those of the heads and ends of {n} streams)", flush=True)
        self.results[f"writes_per_token_{name.lower()}"] = each
        self.bound(each < WRITES, f"{each:.2f} writes per token ({name})")

    def wrk(self, url, *more):
        out = subprocess.run(["wrk", "-t1", "-c64", f"-d{self.args.seconds}s", *more, url], capture_output=True,
                             text=True).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"edge.py: wrk {url}: {out}")
        return float(re.search(r"Requests/sec:\s+(\S+)", out)[1])

    def requests(self):
        threads = os.cpu_count()
        script = self.folder / "completion.lua"
        script.write_text('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                          'wrk.body = [[{"model": "sim", "prompt": "Hi", "max_tokens": 1}]]\n')
        ports = {False: free_port(), True: free_port()}
        with Llmd(self, BUILD / "llmd", 1, 100, threads) as server:
            config = self.folder / "nginx.conf"
            config.write_text(NGINX.format(folder=self.folder, threads=threads, plain=ports[False], tls=ports[True],
                                           body=server.get("/health")))
            with Program("nginx", "-p", self.folder, "-c", config):
                time.sleep(0.5)
                for tls in self.tls():
                    rates = {"llmd": 0, "nginx": 0}
                    for _ in range(self.args.rounds + 1):
                        for who, port in ("llmd", server.ports[tls]), ("nginx", ports[tls]):
                            rate = self.wrk(f"http{'s' * tls}://127.0.0.1:{port}/health")
                            rates[who] = max(rates[who], rate)
                    name = "TLS" if tls else "plain"
                    ratio = rates["llmd"] / rates["nginx"]
                    print(f"/health, {name}: {rates['llmd']:.0f}/s, nginx {rates['nginx']:.0f}/s, {ratio:.2f}x", flush=True)
                    self.results[f"health_{name.lower()}"] = {**rates, "ratio": ratio}
                    self.bound(tls or ratio >= TO_NGINX, f"/health: {ratio:.2f} of nginx")
            rate = self.wrk(f"http://127.0.0.1:{server.ports[False]}/v1/completions", "-s", script)
            print(f"completions of one token: {rate:.0f}/s", flush=True)
            self.results["completions_per_s"] = rate

    def tls(self):
        return [what == "tls" for what in self.args.over]

    def run(self):
        only = self.args.only
        if "tokens" in only:
            self.tokens()
        for tls in self.tls():
            if "memory" in only:
                self.memory(tls)
            if "writes" in only:
                self.writes(tls)
        if "requests" in only:
            self.requests()

    def last_line(self):
        r = self.results
        words = [f"health/nginx={r['health_plain']['ratio']:.2f}", f"tls={r['health_tls']['ratio']:.2f}"]
        words += [f"p99_us_at_256_{t['mode']}{'_tls' * t['tls']}={t['llmd']['p99_us']:.0f} ({t['p99_ratio']:.2f}x)"
                  for t in r["tokens"] if t["streams"] == 256]
        return " ".join(words)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--quick", action="store_true")
    p.add_argument("--json", help="also write the figures there")
    p.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of it")
    p.add_argument("--streams", nargs="+", type=int, help="how many at a time")
    p.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    p.add_argument("--over", nargs="+", choices=("plain", "tls"), default=("plain", "tls"))
    p.add_argument("--rounds", type=int)
    args = p.parse_args()
    args.rounds, args.seconds = args.rounds or (1 if args.quick else 2), 1 if args.quick else 2
    args.streams = args.streams or ([1, 64, 256] if args.quick else [1, 64, 256, 1000])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        bench.run()
    bench.results["over"] = bench.over
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(bench.results, indent=1) + "\n")
    for what in bench.over:
        print("over its bound:", what)
    if set(PARTS) == set(args.only):
        print(bench.last_line())
    return 1 if bench.over else 0


if __name__ == "__main__":
    sys.exit(main())
