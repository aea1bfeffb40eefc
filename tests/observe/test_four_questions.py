"""Four things that go wrong, each provoked, and each answered twice: by what the status page shows (GET
/admin/v1/snapshot) and by `llmd explain` of a request that suffered, alone."""
import json
import socket
import subprocess
import threading
import time

import pytest
from api_server import LLMD, wait_until

PATIENCE = 60
CHAT = {"model": "m", "ignore_eos": True}


@pytest.fixture
def load(serve):
    """Clients that ask one thing after the other, until the test ends."""
    stop, threads = threading.Event(), []

    def run(n, ask):
        def one(k):
            i = 0
            while not stop.is_set():
                ask(k, i)
                i += 1
        threads.extend(threading.Thread(target=one, args=(k,), daemon=True) for k in range(n))
        for t in threads:
            t.start()

    yield run
    stop.set()
    for t in threads:
        t.join(PATIENCE)


def with_log(serve, model, faults=None):
    return serve(model='devices = { "sim" }\n' + model, top='store { directory = "log" }', faults=faults)


class Asked:
    """What was asked, and which worker had it."""

    def __init__(self, server):
        self.server, self.workers, self.lock = server, {}, threading.Lock()

    def __call__(self, name, content, **more):
        body = {**CHAT, "messages": [{"role": "user", "content": content}], **more}
        status, headers, _ = self.server.request("POST", "/v1/chat/completions", body, {"X-Request-Id": name})
        worker = {k.lower(): v for k, v in headers.items()}.get("x-llmd-worker")
        with self.lock:
            if status == 200:
                self.workers[name] = int(worker)

    def last_on(self, worker):
        with self.lock:
            return [n for n, w in self.workers.items() if w == worker][-1]


def snapshot(server):
    status, v = server.admin("GET", "snapshot")
    assert status == 200, v
    return v


def wait_problem(server, what):
    """The snapshot that names it."""
    def look():
        v = snapshot(server)
        return v if what in [p["what"] for p in v["problems"]] else None
    try:
        v = wait_until(look)
    except AssertionError:
        raise AssertionError(json.dumps(snapshot(server), indent=1)[:6000])
    return v, next(p for p in v["problems"] if p["what"] == what)


def explain(server, name, *args):
    done = subprocess.run([LLMD, "explain", "--config", str(server.config), *args, name], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def explain_logged(server, name):
    """Of a request that is over: its row is in the log a moment later."""
    return wait_until(lambda: "last byte" in (text := explain(server, name)) and text)


def last_line(text):
    return text.strip().splitlines()[-1]


def test_a_slowed_worker(serve, load):
    s = with_log(serve, "sim_workers = 2\n sim_step_us = 2000", faults="step-slow worker=1 at=300 ms=30")
    ask = Asked(s)
    load(6, lambda k, i: ask(f"s{k}-{i}", f"question {k} {i}", max_tokens=60))
    v, problem = wait_problem(s, "worker_slow")
    # The page: a verdict, and two rows to compare.
    assert "worker 1 of m is slow" in problem["text"] and "worker 0" in problem["text"]
    assert v["verdict"]["state"] == "degraded" and "worker 1 of m is slow" in v["verdict"]["reason"]
    assert v["verdict"]["advice"] and problem["level"] == "warn"
    fast, slow = v["workers"]
    assert slow["decode_step_ms"] > 5 * fast["decode_step_ms"] and slow["tok_s"] < fast["tok_s"]
    # explain: one that worker 1 had once it was slow.
    seen = set(ask.workers)
    wait_until(lambda: any(w == 1 and n not in seen for n, w in list(ask.workers.items())))
    text = explain_logged(s, ask.last_on(1))
    assert "Worker 1 is slow: when it came, a step took" in last_line(text), text
    assert "on worker 0" in last_line(text)
    assert "is slow" not in last_line(explain_logged(s, ask.last_on(0)))


def test_a_hot_prefix(serve, load):
    s = with_log(serve, "sim_workers = 2\n sim_step_us = 10000\n sim_row_ns = 100000")
    ask = Asked(s)
    prefix = "the same long words stand at the beginning of them all " * 650
    ask("first", prefix, max_tokens=1)
    load(6, lambda k, i: ask(f"h{k}-{i}", prefix + f" question {k} {i}", max_tokens=60))
    v, problem = wait_problem(s, "hot_prefix")
    # The page: who has them and why; a row that is full beside one that is idle; the decisions.
    hot = ask.workers["first"]
    assert f"worker {hot} of m has" in problem["text"] and "cached" in problem["text"]
    assert problem["level"] == "ok" and v["verdict"]["state"] == "serving"
    assert problem["text"] in v["verdict"]["reason"]
    rows = {w["worker"]: w for w in v["workers"]}
    assert rows[hot]["bound"] >= 3 * rows[1 - hot]["bound"] and rows[hot]["hit_rate"] > 0.8
    assert [d for d in v["decisions"] if d["reason"] == "cached" and d["worker"] == hot], v["decisions"]
    # explain: one that came while others were there.
    def crowded():
        with ask.lock:
            names = [n for n, w in ask.workers.items() if w == hot][1:]
        return any(f"It went to worker {hot}, where" in (line := last_line(explain_logged(s, n))) and
                   "prompt tokens are cached" in line for n in names)
    wait_until(crowded)


def test_a_full_kv_pool(serve, load):
    s = with_log(serve, "sim_step_us = 2000\n kv_cache_mb = 24\n max_num_seqs = 32\n max_model_len = 1000")
    ask = Asked(s)
    load(16, lambda k, i: ask(f"k{k}-{i}", f"{k} {i} " + "words and words " * 60, max_tokens=400))
    v, problem = wait_problem(s, "kv_full")
    # The page: the verdict or, behind a long queue, the list of problems; the worker's row; why others wait.
    assert "of the KV cache is in use" in problem["text"] and problem["advice"]
    assert v["verdict"]["state"] == "degraded" and v["workers"][0]["kv"] > 0.5
    assert any(r["waits_for"] == "worker" for r in v["requests"]["requests"])
    bars = wait_until(lambda: [c["bar"] for d in snapshot(s)["decisions"] if d["worker"] is None
                               for c in d["candidates"]])
    assert "its KV cache is full" in bars
    # explain: of one that waited for it.
    def waited():
        with ask.lock:
            names = list(ask.workers)[4:]
        for name in names:
            text = explain_logged(s, name)
            if "It mostly waited" in last_line(text) and "its KV cache is full" in last_line(text):
                return text
        return None
    wait_until(waited)


def test_a_slow_client(serve):
    s = with_log(serve, "sim_step_us = 1000")
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "long"}], "max_tokens": 3000, "stream": True,
                       "n": 8}).encode()
    with socket.socket() as c:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.settimeout(PATIENCE)
        c.connect(("127.0.0.1", s.port))
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Request-Id: slow\r\n"
                  b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        v, problem = wait_problem(s, "slow_clients")
        # The page: no fault of the server; the request, and that it waits for its client.
        assert "1 answers wait for clients" in problem["text"] and problem["level"] == "ok"
        assert v["verdict"]["state"] == "serving" and problem["text"] in v["verdict"]["reason"]
        request, = v["requests"]["requests"]
        assert request["id"] == "chatcmpl-slow" and request["waits_for"] == "client"
        # explain: while it lasts, and afterwards.
        assert last_line(explain(s, "slow")).startswith("Its client read slowly:"), explain(s, "slow")
        time.sleep(1)
        tail = b""
        while b"data: [DONE]" not in tail:
            data = c.recv(1 << 20)
            assert data, tail
            tail = (tail + data)[-4096:]
    text = explain_logged(s, "chatcmpl-slow")
    assert last_line(text).startswith("Its client read slowly:"), text
