"""What operators see and do: the control socket, /admin/v1/, llmd status and drain."""
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import GGUF, LLMD, PATIENCE, Server, UnixConnection, one_of_some, wait_until

SIM = 'devices = { "sim" }\n sim_step_us = 5000\n max_num_seqs = 256\n max_queue = 512\n'


def llmd(*args, timeout=60, **kw):
    return subprocess.run([LLMD, *map(str, args)], capture_output=True, text=True, timeout=timeout, **kw)


@pytest.fixture(scope="module")
def server(make_server):
    """Two simulated workers, 5 ms a step."""
    return make_server(model=SIM + " sim_workers = 2", name="sim")


class Stream(threading.Thread):
    """One streamed completion; lines keeps its events as they came."""

    def __init__(self, server, n_tokens, request_id=None):
        super().__init__()
        self.server, self.n_tokens, self.request_id = server, n_tokens, request_id
        self.lines = []
        self.began = threading.Event()
        self.start()

    def run(self):
        payload = json.dumps({"model": "sim", "prompt": "hello", "max_tokens": self.n_tokens, "stream": True,
                              "ignore_eos": True})
        extra = f"X-Request-Id: {self.request_id}\r\n" if self.request_id else ""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as s:
            s.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{extra}"
                       f"Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n{payload}").encode())
            for line in s.makefile("r"):
                if line.startswith("data: "):
                    self.lines.append(line)
                    self.began.set()

    def whole(self):
        """Every token came, then [DONE]."""
        self.join(60)
        return len(self.lines) == self.n_tokens + 1 and self.lines[-1].strip() == "data: [DONE]"


def streams(server, n, n_tokens):
    all_of_them = [Stream(server, n_tokens) for _ in range(n)]
    for s in all_of_them:
        assert s.began.wait(PATIENCE)
    return all_of_them


def workers(server):
    return {w["worker"]: w for w in server.admin("GET", "workers")[1]["workers"]}


def wait_worker(server, index, **want):
    wait_until(lambda: all(workers(server)[index][k] == v for k, v in want.items()))


# ---- views ----

def test_status(server):
    code, v = server.admin("GET", "status")
    assert code == 200
    assert v["pid"] == server.process.pid and v["state"] == "ready" and v["uptime_seconds"] > 0
    assert v["listen"] == [{"address": f"127.0.0.1:{server.port}", "port": server.port, "tls": False, "admin": False}]
    assert v["control_socket"] == server.socket
    assert [m["name"] for m in v["models"]] == ["sim"] and v["models"][0]["ready"]
    for worker in 0, 1:  # one of them is enough to serve
        wait_worker(server, worker, state="ready")
    v = server.admin("GET", "status")[1]
    assert v["workers"] == sorted(v["workers"], key=lambda w: w["worker"])
    before = v["requests"]
    server.post("/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 3, "ignore_eos": True})
    after = server.admin("GET", "status")[1]
    assert after["requests"] == before + 1 and after["failed"] == 0
    wait_until(lambda: sum(w["generated_tokens"] for w in workers(server).values()) >= 3)


def test_config_keys_events_log_level(server):
    config = server.admin("GET", "config")[1]
    assert config["control_socket"] == server.socket
    assert config["models"][0]["sim_workers"] == 2 and config["models"][0]["path"] == str(GGUF)
    assert server.admin("GET", "keys")[1] == {"keys": []}
    try:
        assert server.admin("POST", "log_level", {"level": "debug"}) == (200, {"level": "debug", "was": "info"})
        assert server.admin("GET", "status")[1]["log"]["level"] == "debug"
    finally:
        server.admin("POST", "log_level", {"level": "info"})
    events = server.admin("GET", "events")[1]
    texts = [e["text"] for e in events["events"]]
    assert any(t.startswith("ready models=1 workers=2") for t in texts)
    assert f"log level is debug was=info by uid={os.getuid()}" in texts
    assert [e["number"] for e in events["events"]] == list(range(1, events["last"] + 1))
    assert server.admin("GET", f"events?after={events['last']}")[1]["events"] == []


def test_requests_their_records_and_decisions(server):
    s = Stream(server, 800, "story-1")
    assert s.began.wait(PATIENCE)
    live = server.admin("GET", "requests")[1]
    mine = [r for r in live["requests"] if r["id"] == "cmpl-story-1"]
    assert live["total"] >= 1 and len(mine) == 1
    assert mine[0]["model"] == "sim" and mine[0]["worker"] in (0, 1) and mine[0]["age_ms"] > 0
    record = server.admin("GET", "requests/cmpl-story-1")[1]
    assert record["outcome"] == "live" and len(record["decisions"][-1]["candidates"]) == 2
    assert s.whole()
    wait_until(lambda: server.admin("GET", "requests/cmpl-story-1")[1]["outcome"] == "finished")
    assert server.admin("GET", "requests/cmpl-story-1")[1]["output_tokens"] == 800
    decisions = server.admin("GET", "decisions?n=5")[1]["decisions"]
    assert 1 <= len(decisions) <= 5 and decisions[-1]["request"] == "cmpl-story-1"
    assert server.admin("GET", "requests/no-such")[0] == 404


def test_cancel_a_request(server):
    s = Stream(server, 8000, "endless")
    assert s.began.wait(PATIENCE)
    assert server.admin("DELETE", "requests/cmpl-endless") == (200, {"id": "cmpl-endless", "cancelled": 1})
    s.join(PATIENCE)
    assert not s.is_alive() and len(s.lines) < 8000
    assert "an operator of the server cancelled the request" in s.lines[-2]
    assert s.lines[-1].strip() == "data: [DONE]"
    assert server.admin("DELETE", "requests/cmpl-endless")[0] == 404
    wait_until(lambda: server.admin("GET", "requests/cmpl-endless")[1]["outcome"] == "cancelled")


# ---- nobody is in anybody's way ----

def stream_while_status_is_asked(server):
    running = streams(server, 64, 600)
    took = []
    for i in range(200):
        if i == 100:
            assert any(s.is_alive() for s in running), "the streams were too short for the test"
        began = time.monotonic()
        code, v = server.admin("GET", "status")
        took.append(time.monotonic() - began)
        assert code == 200
    assert all(s.whole() for s in running)
    assert sorted(took)[100] < 1, sorted(took)[100]


def test_streams_go_on_while_status_is_asked(server):
    one_of_some(lambda: stream_while_status_is_asked(server))


def test_a_full_server_answers_its_operator(make_server):
    def wait_connections(n):
        wait_until(lambda: s.admin("GET", "status")[1]["connections"] == n)

    s = make_server(model=SIM, top="max_connections = 3", name="sim")
    wait_connections(0)  # those that asked whether it is ready are gone
    held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(3)]
    wait_connections(3)
    assert s.get("/health")[0] == 503
    assert s.admin("GET", "status")[1]["max_connections"] == 3
    assert llmd("status", "--socket", s.socket, "--json").returncode == 0
    for h in held:
        h.close()
    s.stop()


# ---- who may ----

def test_tcp_needs_an_administrator_s_key(make_server, server):
    keys = "\n".join(f'key "{name}" {{ sha256 = "{hashlib.sha256(name.encode()).hexdigest()}" {extra} }}'
                     for name, extra in (("plain", ""), ("ops", 'scope = "admin"')))
    s = make_server(model=SIM, top=keys, name="sim")
    for method, path in (("GET", "/admin/v1/status"), ("POST", "/admin/v1/drain"), ("GET", "/admin/v1/nothing"),
                         ("GET", "/admin"), ("DELETE", "/admin/v1/requests/x"), ("GET", "/%61dmin/v1/status")):
        assert s.request(method, path)[0] == 401
        assert s.request(method, path, headers={"Authorization": "Bearer other"})[0] == 401
        assert s.request(method, path, headers={"Authorization": "Bearer plain"})[0] == 403
    ops = {"Authorization": "Bearer ops"}
    assert s.get("/admin/v1/nothing", ops)[0] == 404
    assert [(k["name"], k["scope"]) for k in json.loads(s.get("/admin/v1/keys", ops)[1])["keys"]] == [
        ("plain", "inference"), ("ops", "admin")]
    digest = hashlib.sha256(b"ops").hexdigest()
    config = s.get("/admin/v1/config", ops)[1]
    assert digest[:8] in config and digest[:9] not in config
    assert s.get("/v1/models", {"Authorization": "Bearer plain"})[0] == 200
    assert s.request("POST", "/admin/v1/drain", {}, ops)[0] == 202
    assert s.process.wait(PATIENCE) == 0

    # without keys: who asks at this host, by a name of this host
    code, text = server.get("/admin/v1/status", {"Host": "evil.example"})
    assert code == 403 and "this server's" in json.loads(text)["error"]["message"]
    code, text = server.get("/admin/v1/status", {"X-Forwarded-For": "192.0.2.1"})
    assert code == 403 and "control socket" in json.loads(text)["error"]["message"]
    assert server.get("/admin/v1/status")[0] == 200
    assert server.post("/admin/v1/drain", {})[0] == 403


def as_nobody(path):
    """What GET status over the socket gives a stranger: an HTTP status, or an errno's negative."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            c = UnixConnection(path)
            c.request("GET", "/admin/v1/status")
            said = c.getresponse().status
        except OSError as e:
            said = -e.errno
        os.write(w, str(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(w)
    with os.fdopen(r) as f:
        return int(f.read())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_strangers_are_refused(make_server):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = folder + "/c.sock"
        s = make_server(model=SIM, top=f'control_socket = "{path}"', name="sim")
        s.socket = path
        assert as_nobody(path) == -13  # EACCES: the file's mode
        os.chmod(path, 0o666)
        assert as_nobody(path) == 403  # the peer rule
        assert s.admin("GET", "status")[0] == 200
        s.stop()
        assert os.listdir(folder) == []


# ---- the file ----

def refused(config):
    r = llmd("serve", "--config", config)
    assert r.returncode == 1, r.stderr
    return r.stderr


def test_life_of_the_socket_file(tmp_path):
    s = Server(tmp_path, model=SIM, name="sim").wait_ready()
    mode = os.stat(s.socket).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660
    other = tmp_path / "other.conf"
    other.write_text(s.config.read_text().replace(str(s.port), "0"))
    assert "another server has the socket" in refused(other)
    assert s.admin("GET", "status")[0] == 200

    s.process.kill()
    s.process.wait()
    s.log.close()
    assert os.path.exists(s.socket)
    said = llmd("status", "--config", s.config)
    assert said.returncode == 1 and "no server listens on" in said.stderr and "Connection refused" in said.stderr

    again = Server(tmp_path, model=SIM, name="sim").wait_ready()
    assert again.admin("GET", "status")[1]["pid"] == again.process.pid
    again.stop()
    assert not os.path.exists(again.socket) and not os.path.exists(again.socket + ".lock")


def test_a_socket_that_cannot_be_made(tmp_path):
    f = tmp_path / "llmd.conf"
    for path, words in (("none/x.sock", "create its folder"), ("llmd.conf", "is no socket")):
        f.write_text(f'listen = {{ "127.0.0.1:0" }}\ncontrol_socket = "{path}"\n'
                     f'model "sim" {{ path = "{GGUF}" devices = {{ "sim" }} }}\n')
        said = refused(f)
        assert words in said and "control_socket" in said


def test_no_socket(make_server, tmp_path):
    s = make_server(model=SIM, top='control_socket = ""', name="sim")
    said = llmd("status", "--config", s.config)
    assert said.returncode == 1 and 'control_socket = ""' in said.stderr
    s.stop()


# ---- commands ----

def test_status_for_people(server):
    running = streams(server, 8, 800)
    r = llmd("status", "--config", server.config)
    assert r.returncode == 0 and r.stderr == ""
    first = r.stdout.splitlines()[0]
    assert re.match(rf"llmd \S+  ready  pid {server.process.pid}  up .* on 127\.0\.0\.1:{server.port}$", first)
    rows = [line.split() for line in r.stdout.splitlines() if re.match(r" +[01]  sim", line)]
    assert [row[:3] for row in rows] == [["0", "sim", "ready"], ["1", "sim", "ready"]]
    assert sum(int(row[3]) for row in rows) == 8
    rates = [float(row[8]) for row in rows]
    assert sum(rates) > 20 and all(rate < 8 * 220 for rate in rates), r.stdout  # at most 200 steps a second
    assert all(s.whole() for s in running)


def test_status_json_and_watch(server):
    v = json.loads(llmd("status", "--socket", server.socket, "--json").stdout)
    assert v["pid"] == server.process.pid
    with subprocess.Popen([LLMD, "status", "-w", "-s", server.socket], stdout=subprocess.PIPE, text=True) as p:
        pages = 0
        while pages < 2:
            pages += p.stdout.readline().startswith("llmd ")
        p.send_signal(signal.SIGINT)
        assert p.wait(PATIENCE) != 0
    assert llmd("status", "--json", "--watch").returncode == 2


def test_commands_without_a_server(tmp_path):
    for command in ("status", "drain", "reload"):
        r = llmd(command, "--socket", tmp_path / "none.sock")
        assert r.returncode == 1 and "no server listens on" in r.stderr and "--socket" in r.stderr
        r = llmd(command, "--config", tmp_path / "none.conf")
        assert r.returncode == 1 and "none.conf" in r.stderr


def test_drain_and_return_a_worker(server):
    running = streams(server, 12, 400)
    r = llmd("drain", "--socket", server.socket, "1")
    assert (r.returncode, r.stdout) == (0, "worker 1 is drained\n")
    assert "requests left" in r.stderr
    assert all(s.whole() for s in running)
    w = workers(server)[1]
    assert w["drained"] and w["state"] == "dead" and w["bound"] == 0
    assert [s.whole() for s in streams(server, 4, 20)] == [True] * 4
    assert "drained" in llmd("status", "--socket", server.socket).stdout
    r = llmd("drain", "--socket", server.socket, "--undo", "1")
    assert (r.returncode, r.stdout) == (0, "worker 1 is ready\n")
    assert workers(server)[1]["state"] == "ready" and workers(server)[1]["starts"] == 2
    texts = [e["text"] for e in server.admin("GET", "events")[1]["events"]]
    for said in ("drain worker=1 asked by", "drained worker=1 model=sim", "return worker=1 asked by",
                 "ready worker=1 model=sim starts=2"):
        assert any(t.startswith(said) for t in texts), (said, texts)
    r = llmd("drain", "--socket", server.socket, "--undo", "1")
    assert r.returncode == 1 and "in service" in r.stderr
    r = llmd("drain", "--socket", server.socket, "9")
    assert r.returncode == 1 and "9" in r.stderr


def test_drain_the_server(make_server):
    s = make_server(model=SIM, name="sim")
    running = streams(s, 4, 600)
    r = llmd("drain", "--config", s.config)
    assert (r.returncode, r.stdout) == (0, "drained: the server has ended\n")
    assert "answers left: 4" in r.stderr
    assert s.process.wait(PATIENCE) == 0
    assert all(x.whole() for x in running)
    assert not os.path.exists(s.socket)


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        return False
    except OSError:
        return True


def test_drain_without_waiting(make_server):
    s = make_server(model=SIM, name="sim")
    running = Stream(s, 600)
    assert running.began.wait(PATIENCE)
    r = llmd("drain", "--socket", s.socket, "--no-wait")
    assert r.returncode == 0 and r.stderr == ""
    s.wait_draining()
    wait_until(lambda: refuses(s.port))
    assert running.whole()
    assert s.process.wait(PATIENCE) == 0
