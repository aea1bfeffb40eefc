#!/usr/bin/env python3
"""edge_clients.py [SECONDS [SCALE]] - clients that behave badly, beside 64 streams that do not:

  slow heads     2,000 connections that send a byte of their head now and then
  killed         1,000 streams whose client processes are killed in the middle
  half-closed    1,000 clients that end their side: before a head, behind a request, in the middle of a stream
  slow readers   64 clients that take one byte a second

Each runs for SECONDS (default 10; numbers above times SCALE), and then twice more alone: what the last time leaves
behind counts (who serves others meanwhile fills tables). The others' p99 between two tokens must be that of the
undisturbed run right before, in one of some tries: other programs disturb, too. Descriptors, memory, KV blocks,
sequences and connections must be what they were. Last line: "N passed, M failed"."""
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import LLMD, Server  # noqa: E402

STEP_MS = 20
HEADER_S = 4
# A gap of the others may be longer by so much: the attackers are programs on the same cores.
P99_FACTOR, P99_MORE_MS, TRIES = 1.25, 5, 5
MEMORY_MORE_KIB = 2048
TOP = f"""header_timeout_s = {HEADER_S}
max_connections = 8192
log_level = "warn"
"""
MODEL = f"""devices = {{ "sim" }}
sim_step_us = {STEP_MS * 1000}
sim_row_ns = 0
max_num_seqs = 2048
max_num_batched_tokens = 8192
max_queue = 4096
max_model_len = 8192
"""


def request(tokens):
    body = json.dumps({"model": "m", "stream": True, "ignore_eos": True, "max_tokens": tokens, "prompt": "A story."})
    return (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


def connect(server, receive_bytes=None):
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.settimeout(20)
    s.connect(("127.0.0.1", server.port))
    return s


# ---- attacks: each takes the server, how many, and for how long; returns what went wrong, or None ----

def slow_heads(server, n, seconds):
    """Each is closed when its head is due, with or without a word; none holds the server."""
    sockets = [connect(server) for _ in range(n)]
    for s in sockets:
        s.setblocking(False)
    until = time.monotonic() + max(seconds, HEADER_S + 20)
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1000
    at, closed = 0, set()
    while time.monotonic() < until and len(closed) < n:
        for i, s in enumerate(sockets):
            if i in closed:
                continue
            try:
                s.send(head[at:at + 1])
                if s.recv(4096) == b"":
                    closed.add(i)
            except BlockingIOError:
                pass
            except OSError:
                closed.add(i)
        at += 1
        time.sleep(0.5)
    for s in sockets:
        s.close()
    return None if len(closed) == n else f"{n - len(closed)} of {n} connections with an unfinished head stay open"


def child(server, n, pipe):
    sockets = [connect(server) for _ in range(n)]
    for s in sockets:
        s.sendall(request(4000))
    for s in sockets:
        while b'"text":' not in s.recv(65536):
            pass
    os.write(pipe, b"x")
    while True:
        for s in select.select(sockets, [], [])[0]:
            s.recv(65536)


def killed(server, n, seconds):
    """n streams by processes of 20, ten of them at a time."""
    each = 20
    left = n
    while left > 0:
        children = []
        for _ in range(min(10, -(-left // each))):
            ready, pipe = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    child(server, each, pipe)
                finally:
                    os._exit(1)
            os.close(pipe)
            children.append((pid, ready))
        good = True
        for pid, ready in children:
            good &= bool(select.select([ready], [], [], 30)[0]) and os.read(ready, 1) == b"x"
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(ready)
        if not good:
            return "a client process got no token"
        left -= each * len(children)
    return None


def half_closed(server, n, seconds):
    """An end is an end: nobody may hold anything afterwards."""
    for _ in range(-(-n // 300)):
        sockets = [connect(server) for _ in range(300)]
        for i, s in enumerate(sockets):
            if i % 3 == 1:
                s.sendall(b"GET /health HTTP/1.1\r\n")
            elif i % 3 == 2:
                s.sendall(request(4000))
                if i % 2:
                    s.recv(100)
            s.shutdown(socket.SHUT_WR)
        for s in sockets:
            try:
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass
            except OSError as e:
                return f"a connection of which the client ended its half stays open: {e}"
            finally:
                s.close()
    return None


def slow_readers(server, n, seconds):
    sockets = [connect(server, 2048) for _ in range(n)]
    for s in sockets:
        s.sendall(request(7000))
    for _ in range(int(seconds)):
        for s in sockets:
            s.recv(1)
        time.sleep(1)
    for s in sockets:
        s.close()
    return None


# ---- the others ----

class Others:
    """`llmd bench`: 64 clients without end for so long."""

    def __init__(self, server, seconds):
        self.process = subprocess.Popen(
            [LLMD, "bench", server.base, "-m", "m", "--endpoint", "completions", "-c", "64", "-d", str(seconds),
             "-p", "16", "-o", "64", "--seed", "1", "--json", "-q"], stdout=subprocess.PIPE, text=True)

    def p99_ms(self):
        """Of the time between two tokens; None when one of the answers was not whole."""
        out = self.process.communicate(timeout=120)[0]
        return json.loads(out)["itl_ms"]["p99"] if self.process.returncode == 0 else None


class State:
    """What the server holds."""
    METRICS = "vllm:kv_cache_usage_perc", "vllm:num_requests_running", "vllm:num_requests_waiting", "llmd_edge_connections"

    def __init__(self, server):
        proc = pathlib.Path(f"/proc/{server.process.pid}")
        self.fds = len(list((proc / "fd").iterdir()))
        self.memory_kib = int(re.search(r"RssAnon:\s+(\d+)", (proc / "status").read_text())[1])
        self.figures = [server.metric(name) for name in self.METRICS]

    def __repr__(self):
        return f"{self.fds} descriptors, {self.memory_kib} KiB, KV, running, waiting, connections {self.figures}"


def settled(server, wanted=None):
    """The state when the server has nothing to do and closes nothing more, or after 20 s."""
    until = time.monotonic() + 20
    fds = None
    while time.monotonic() < until:
        state = State(server)
        idle = state.figures[1:] == [0, 0, 1] and state.fds == fds  # the one connection asks for the figures
        if idle and (not wanted or (state.fds, state.figures) == (wanted.fds, wanted.figures)):
            break
        fds = state.fds
        time.sleep(0.5)
    return state


class Drill:
    def __init__(self, server, seconds, scale):
        self.server, self.seconds, self.scale = server, seconds, scale
        self.passed = self.failed = 0

    def check(self, holds, what):
        print("ok     " if holds else "FAILED ", what, flush=True)
        self.passed += bool(holds)
        self.failed += not holds

    def beside(self, attack, n):
        """The attack, and p99 of the others meanwhile."""
        wrong = []
        others = Others(self.server, self.seconds)
        time.sleep(1)
        thread = threading.Thread(target=lambda: wrong.append(attack(self.server, n, self.seconds - 2)))
        thread.start()
        p99 = others.p99_ms()
        thread.join(120)
        return wrong[0] if wrong else "the attack did not end", p99

    def attack(self, attack, n):
        name = attack.__name__.replace("_", " ")
        n = max(1, int(n * self.scale))
        for _ in range(TRIES):
            undisturbed = Others(self.server, self.seconds).p99_ms()
            fault, p99 = self.beside(attack, n)
            good = None not in (p99, undisturbed) and p99 <= undisturbed * P99_FACTOR + P99_MORE_MS
            if good or fault or p99 is None:
                break
        fault = fault or attack(self.server, n, self.seconds - 2)
        before = settled(self.server)
        fault = fault or attack(self.server, n, self.seconds - 2)
        after = settled(self.server, before)
        self.check(not fault, f"{name}, {n}: {fault or 'as they should'}")
        self.check(good, f"{name}: p99 between two tokens of the others {p99} ms, undisturbed {undisturbed} ms")
        self.check((after.fds, after.figures) == (before.fds, before.figures) and
                   after.memory_kib <= before.memory_kib + MEMORY_MORE_KIB, f"{name}: before {before}, after {after}")

    def run(self):
        Others(self.server, 3).p99_ms()
        for attack, n in (slow_heads, 2000), (killed, 1000), (half_closed, 1000), (slow_readers, 64):
            self.attack(attack, n)


def main():
    seconds, scale = (float(a) for a in (sys.argv[1:] + ["10", "1"][len(sys.argv) - 1:])[:2])
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder, model=MODEL, top=TOP).wait_ready()
        drill = Drill(server, int(seconds), scale)
        drill.run()
        try:
            server.stop()
        except AssertionError as e:
            drill.check(False, f"the server's end: {e}")
    print(f"{drill.passed} passed, {drill.failed} failed")
    return 1 if drill.failed else 0


if __name__ == "__main__":
    sys.exit(main())
