"""The configuration changes while requests run: not one is lost, and what is refused changes nothing."""
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import GGUF, LLMD, PATIENCE, ROOT, Server, wait_until

TINY = ROOT / "tests/golden/data/tiny"  # contexts of 128 tokens
SIM = 'devices = { "sim" }\n sim_step_us = 1000\n max_num_seqs = 64\n max_model_len = 512\n'
SHORT = SIM.replace("512", "128")


def key_section(name, secret, more=""):
    return f'key "{name}" {{ sha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\n {more} }}\n'


class Reloaded(Server):
    """A server whose configuration is written anew: write(), reload()."""

    def __init__(self, folder, **kw):
        super().__init__(folder, **kw)
        self.head = f'listen = {{ "127.0.0.1:{self.port}" }}\ncontrol_socket = "llmd.sock"\n'

    def write(self, models, top="", head=None):
        text = (head or self.head) + top + "\n"
        for name, (path, options) in models.items():
            text += f'model "{name}" {{\n path = "{path}"\n {options}\n}}\n'
        self.config.write_text(text)

    def state(self):
        return self.admin("GET", "reload")[1]

    def reload(self, seconds=PATIENCE):
        """As `llmd reload`: the state that it ended with."""
        status, state = self.admin("POST", "reload")
        assert status == 202, state
        return self.wait_reloaded(state["number"], seconds)

    def wait_reloaded(self, number, seconds=PATIENCE):
        until = time.monotonic() + seconds
        while True:
            state = self.state()
            if state["number"] >= number and state["state"] != "running":
                return state
            assert time.monotonic() < until, (state, self.log_path.read_text()[-3000:])
            time.sleep(0.01)


@pytest.fixture
def make(tmp_path):
    made = []

    def start(**kw):
        made.append(Reloaded(tmp_path, **kw))
        return made[-1].wait_ready()

    yield start
    for s in made:
        if s.process.returncode is None:
            s.stop()


def complete(server, body, key=None, seconds=PATIENCE):
    """A streamed completion over a raw socket: (status, text, whole)."""
    payload = json.dumps({"model": "m", "stream": True, "ignore_eos": True, **body})
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    status, text, whole, bad = 0, "", False, False
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as s:
        s.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{auth}"
                   f"Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n{payload}").encode())
        for i, line in enumerate(s.makefile("r", encoding="utf-8", errors="replace", newline="\n")):
            if i == 0:
                status = int(line.split()[1])
            if line.startswith("data: [DONE]"):
                whole = True
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                bad |= "error" in event
                for c in event.get("choices", []):
                    text += c["text"]
    return status, text, whole and not bad


class Watch:
    """Asks /ready and /v1/models all the time: a server that takes requests says so throughout."""

    def __init__(self, server):
        self.server, self.stop, self.faults, self.n = server, threading.Event(), [], 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            for path in "/ready", "/v1/models", "/health":
                status, text = self.server.get(path, {"Authorization": "Bearer sk-load"})
                if status != 200:
                    self.faults.append((path, status, text))
            self.n += 1
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *why):
        self.stop.set()
        self.thread.join(PATIENCE)
        assert self.n > 10 and self.faults == [], self.faults[:3]


class Load:
    """Streams without end, n at a time; counts those whose answer is not one of the expected ones."""

    def __init__(self, server, n, expected, key=None):
        self.server, self.expected, self.key = server, expected, key
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.done, self.faults, self.texts = 0, [], set()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *why):
        self.stop.set()
        for t in self.threads:
            t.join(PATIENCE)

    def run(self, number):
        while not self.stop.is_set():
            which = number % len(self.expected)
            number += 1
            try:
                status, text, whole = complete(self.server, BODIES[which], self.key)
            except (OSError, ValueError) as e:
                status, text, whole = 0, repr(e), False
            with self.lock:
                self.done += 1
                if status != 200 or not whole or text not in self.expected[which]:
                    self.faults.append((status, whole, which, text[:200]))
                else:
                    self.texts.add((which, self.expected[which].index(text)))

    def wait_more(self, n):
        """Until so many more are over."""
        before = self.done
        wait_until(lambda: self.done >= before + n)

    def check(self):
        assert self.faults == [], (len(self.faults), self.faults[:5], self.server.log_path.read_text()[-4000:])


BODIES = [{"prompt": f"a story number {i}", "max_tokens": 30 + 7 * i, "seed": i} for i in range(8)]


def texts(server, key=None):
    """What an undisturbed server answers."""
    out = []
    for body in BODIES:
        status, text, whole = complete(server, body, key)
        assert status == 200 and whole
        out.append(text)
    return out


@pytest.mark.parametrize("workers", [1, 3])
def test_rolling_update_under_load(make, workers):
    keys = key_section("load", "sk-load"), key_section("other", "sk-other")
    base = SIM + f" sim_workers = {workers}\n"
    server = make(model=base, top=keys[0])
    plans = [
        ({"m": (GGUF, base + "kv_cache_mb = 64")}, keys[0]),
        ({"m": (GGUF, base + "kv_cache_mb = 64"), "second": (TINY / "qwen2", SHORT)}, keys[0] + keys[1]),
        ({"m": (GGUF, base + "kv_cache_mb = 80\n aliases = { \"alias\" }")}, keys[1] + keys[0]),
        ({"m": (GGUF, base.replace(f"= {workers}", f"= {workers + 1}"))}, keys[0]),
        ({"m": (GGUF, base)}, keys[0]),
    ]
    with Watch(server), Load(server, 16, [[t] for t in texts(server, "sk-load")], "sk-load") as load:
        for models, top in plans:
            server.write(models, top)
            state = server.reload()
            assert state["state"] == "done" and state["changes"], state
            load.wait_more(20)
    load.check()
    assert load.done > 100
    views = server.admin("GET", "workers")[1]["workers"]
    assert len(views) == workers and all(v["state"] == "ready" for v in views)
    assert server.metric("llmd_router_migrations_total") == 0


def test_another_model_under_the_same_name(make):
    """Token ids belong to a tokenizer: no request ever gets to the other one."""
    server = make(model=SHORT + " sim_workers = 2", path=TINY / "qwen2")
    old = texts(server)
    server.write({"m": (GGUF, SHORT + " sim_workers = 2")})
    assert server.reload()["state"] == "done"
    new = texts(server)
    assert old != new
    with Load(server, 16, list(zip(old, new))) as load:
        for path in (TINY / "qwen2", GGUF, TINY / "qwen2"):
            server.write({"m": (path, SHORT + " sim_workers = 2")})
            state = server.reload()
            assert state["state"] == "done" and any("path" in c for c in state["changes"]), state
            load.wait_more(32)
    load.check()
    assert {i for _, i in load.texts} == {0, 1}
    assert texts(server) == old


def test_models_come_and_go(make):
    server = make(model=SIM)
    server.write({"first": (TINY / "qwen2", SHORT), "m": (GGUF, SIM)})
    state = server.reload()
    assert state["state"] == "done" and state["changes"] == ['model "first" added']
    names = [m["id"] for m in json.loads(server.get("/v1/models")[1])["data"]]
    assert names == ["first", "m"]
    assert complete(server, {**BODIES[0], "model": "first"})[2]

    n_begun, running = server.n_begun(), []
    long = threading.Thread(target=lambda: running.append(
        complete(server, {"prompt": "x", "max_tokens": 400, "model": "m"})))
    long.start()
    server.wait_begun(n_begun + 1)
    server.write({"first": (TINY / "qwen2", SHORT)})
    status, state = server.admin("POST", "reload")
    wait_until(lambda: complete(server, BODIES[0])[0] == 404)
    long.join()
    assert running[0][2]  # it ended as it began
    state = server.wait_reloaded(state["number"])
    assert state["state"] == "done" and state["changes"] == ['model "m" removed']
    assert [w["model"] for w in server.admin("GET", "workers")[1]["workers"]] == ["first"]


def test_what_is_refused_changes_nothing(make, tmp_path):
    server = make(model=SIM, top=key_section("k", "sk-k"))
    config = server.admin("GET", "config")[1]
    workers = server.admin("GET", "workers")[1]["workers"]
    good = {"m": (GGUF, SIM)}
    key = key_section("k", "sk-k")
    other = f'listen = {{ "127.0.0.1:{server.port}", "127.0.0.2:0" }}\ncontrol_socket = "llmd.sock"\n'
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    for write, words in [
        (lambda: server.write(good, key + "max_body_kb = no\n"), "max_body_kb"),
        (lambda: server.write(good, key + "max_body_kb = 7\nedge_threads = 5\n"), "edge_threads"),
        (lambda: server.write(good, key_section("new", "sk-new"), head=other), "listen"),
        (lambda: server.write({**good, "n": (broken, SIM)}, key_section("new", "sk-new")), "broken.gguf"),
        (lambda: server.write({"m": (GGUF, SIM.replace("512", "9999"))}, key), "max_model_len 9999"),
    ]:
        write()
        state = server.reload()
        assert state["state"] == "failed" and words in state["message"] and state["changes"] == [], state
    assert server.admin("GET", "config")[1] == config
    assert [w["state"] for w in server.admin("GET", "workers")[1]["workers"]] == ["ready"] * len(workers)
    assert complete(server, BODIES[0], "sk-k")[2]
    assert complete(server, BODIES[0], "sk-new")[0] == 401
    server.write(good, key)
    state = server.reload()
    assert state["state"] == "done" and state["message"] == "nothing has changed" and state["changes"] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_does_not_start(make, workers):
    """Everything goes back; what waited for the new one is answered by the old one."""
    base = SIM + f" sim_workers = {workers}\n"
    server = make(model=base + "kv_cache_mb = 64")
    with Load(server, 8, [[t] for t in texts(server)]) as load:
        server.write({"m": (GGUF, base.replace("512", "8192") + "kv_cache_mb = 5")}, "max_body_kb = 100")
        for _ in range(2):
            state = server.reload()
            assert state["state"] == "failed" and "kv_cache_mb" in state["message"], state
            time.sleep(0.2)
    load.check()
    config = server.admin("GET", "config")[1]
    assert config["max_body_kb"] == 100  # what takes effect at once stays in force
    assert config["models"][0]["kv_cache_mb"] == 64
    assert len(server.admin("GET", "workers")[1]["workers"]) == workers
    server.write({"m": (GGUF, base + "kv_cache_mb = 65")}, "max_body_kb = 100")
    assert server.reload()["state"] == "done"
    assert server.admin("GET", "config")[1]["models"][0]["kv_cache_mb"] == 65


def test_keys_limits_and_log_level(make):
    server = make(model=SIM, top=key_section("old", "sk-old"))
    done = []
    stream = threading.Thread(target=lambda: done.append(
        complete(server, {"prompt": "x", "max_tokens": 300}, "sk-old")))
    stream.start()
    server.wait_begun()
    server.write({"m": (GGUF, SIM)}, key_section("new", "sk-new") + 'max_body_kb = 1\nlog_level = "debug"\n')
    state = server.reload()
    assert state["state"] == "done" and len(state["changes"]) == 4, state
    assert complete(server, BODIES[0], "sk-old")[0] == 401
    assert complete(server, BODIES[0], "sk-new")[2]
    assert complete(server, {"prompt": "x" * 2000, "max_tokens": 1}, "sk-new")[0] == 413
    assert server.admin("GET", "status")[1]["log"]["level"] == "debug"
    stream.join()
    assert done[0][2]
    assert [k["name"] for k in server.admin("GET", "keys")[1]["keys"]] == ["new"]


def test_files_that_changed(make, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY / "qwen2", folder)
    server = make(model=SHORT, path=folder)
    assert server.reload()["changes"] == []
    for f in folder.iterdir():
        if f.suffix == ".safetensors":
            os.utime(f, ns=(1, 1))
    state = server.reload()
    assert state["state"] == "done" and state["changes"] == ['model "m": its files have changed'], state
    assert server.reload()["changes"] == []


def test_hangup_signal_and_command(make):
    server = make(model=SIM)
    server.write({"m": (GGUF, SIM + 'policy = "session"\n')})
    server.process.send_signal(signal.SIGHUP)
    server.wait_reloaded(1)
    assert server.admin("GET", "config")[1]["models"][0]["policy"] == "session"
    server.write({"m": (GGUF, SIM + "max_queue = 5\n")})
    r = subprocess.run([LLMD, "reload", "--socket", server.socket], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 0 and 'model "m": max_queue 256 -> 5' in r.stdout, r
    server.config.write_text("nonsense")
    r = subprocess.run([LLMD, "reload", "--socket", server.socket], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 1 and "llmd.conf:1" in r.stderr, r


def test_the_end_in_the_middle_of_an_update(make):
    """SIGTERM while the sole worker still has its requests and others wait for its successor."""
    server = make(model=SIM.replace("1000", "16000"))
    answers = []

    def ask():
        answers.append(complete(server, {"prompt": "x", "max_tokens": 400}))

    first = [threading.Thread(target=ask) for _ in range(4)]
    for t in first:
        t.start()
    server.wait_begun(4)  # they take six seconds
    server.write({"m": (GGUF, SIM + "kv_cache_mb = 64")})
    assert server.admin("POST", "reload")[0] == 202
    second = [threading.Thread(target=ask) for _ in range(4)]
    for t in second:
        t.start()
    wait_until(lambda: server.admin("GET", "requests")[1]["total"] == 8)
    assert server.state()["state"] == "running"
    server.stop()
    for t in first + second:
        t.join(PATIENCE)
    assert len(answers) == 8 and all(status == 200 and whole for status, _, whole in answers), answers


def test_time_limits_of_answers(make):
    """New requests go by the new limit; what runs goes by the one that it began with."""
    options = 'devices = { "sim" } sim_step_us = 300000'
    server = make(model=options)
    body = {"prompt": "x", "max_tokens": 12}
    results = []
    runs = threading.Thread(target=lambda: results.append(complete(server, body)))
    runs.start()
    server.wait_metric("vllm:num_requests_running", 1)
    server.write({"m": (GGUF, options)}, top="request_timeout_s = 1")
    assert server.reload()["state"] == "done"
    status, data = server.post("/v1/completions", {"model": "m", "ignore_eos": True, **body})
    assert status == 504 and "request_timeout_s" in data["error"]["message"]
    assert server.metric('llmd_edge_timeouts_total{reason="request_timeout"}') == 1
    runs.join()
    assert results[0][0] == 200 and results[0][2]
