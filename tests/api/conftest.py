"""Starts real llmd servers for the tests: one with the demo model on the CPU, one simulated."""
import atexit
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LLMD = os.environ.get("LLMD", str(ROOT / "build/llmd"))
LLMD_WITH_FAULTS = str(pathlib.Path(LLMD).parent / "faults/llmd")
GGUF = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"


# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start inherits that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 60  # seconds: what has not come by then never will, however busy the machine is


def free_port():
    """Below those that the kernel gives to clients, one of which could have it before the server does."""
    while True:
        port = random.randrange(16384, 32768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def wait_until(holds, seconds=PATIENCE):
    """Waits for a condition, and returns its value."""
    until = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
    return value


def one_of_some(check, tries=8):
    """For what a busy machine may spoil: one of some tries must be good."""
    for _ in range(tries - 1):
        try:
            return check()
        except AssertionError:
            time.sleep(0.3)
    return check()


def waited_for_cpu(pid):
    """Seconds that the threads that a process has were ready to run while others ran."""
    ns = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            ns += int((thread / "schedstat").read_text().split()[1])
        except OSError:
            pass  # it has ended meanwhile
    return ns / 1e9


class NotAnswered(ConnectionError):
    """The connection ended before the status line: a server that stops closes those it was asked nothing on."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("llmd", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """`llmd serve` with a configuration of its own, stopped by SIGTERM. faults: see core/util/fault.h; authority:
    it speaks HTTPS by a certificate of that; name None: it has no model."""

    def __init__(self, folder, model="", top="", name="m", path=GGUF, faults=None, authority=None, more_listen=(),
                 env=None):
        self.port = free_port()
        self.name = name
        self.tls = authority and authority.trusting()
        self.base = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        if authority:
            top += '\ntls {{ certificate = "{}" key = "{}" }}'.format(*authority.issue())
        self.config = pathlib.Path(folder) / "llmd.conf"
        self.log_path = pathlib.Path(folder) / "llmd.log"
        self.socket = str(pathlib.Path(folder) / "llmd.sock")
        if "control_socket" not in top:
            top += '\ncontrol_socket = "llmd.sock"'
        self.config.write_text(
            f'listen = {{ {", ".join(json.dumps(a) for a in (f"127.0.0.1:{self.port}", *more_listen))} }}\n{top}\n'
            + (f'model "{name}" {{\n  path = "{path}"\n  {model}\n}}\n' if name else ""))
        self.log = open(self.log_path, "w")
        self.started = time.monotonic()
        self.process = subprocess.Popen([LLMD_WITH_FAULTS if faults else LLMD, "serve", "--config", str(self.config)],
                                        env={**os.environ, **(env or {}), **({"LLMD_FAULTS": faults} if faults else {})},
                                        stderr=self.log, stdout=self.log)
        atexit.register(self.process.kill)  # of a test that failed; nothing when it has ended

    def wait_ready(self, seconds=PATIENCE):
        while time.monotonic() - self.started < seconds:
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                if self.get("/ready")[0] == 200:
                    self.ready_after = time.monotonic() - self.started
                    return self
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError("not ready: " + self.log_path.read_text())

    def connect(self, source=("127.0.0.1", 0), timeout=PATIENCE):
        """A socket, its TLS handshake made."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout, source)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(s, server_hostname="127.0.0.1") if self.tls else s

    def request(self, method, path, body=None, headers=None):
        if self.tls:
            c = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        else:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            h = {"Content-Type": "application/json"} if body is not None else {}
            h.update(headers or {})
            try:
                c.request(method, path, body, h)
                r = c.getresponse()
            except ConnectionError as e:
                raise NotAnswered(f"{method} {path}: {e!r}") from e
            return r.status, dict(r.getheaders()), r.read()
        finally:
            c.close()

    def get(self, path, headers=None):
        status, _, data = self.request("GET", path, headers=headers)
        return status, data.decode()

    def post(self, path, body, headers=None):
        status, h, data = self.request("POST", path, body, headers)
        return status, json.loads(data)

    def admin(self, method, route, body=None):
        """Over the control socket: status and the JSON of the answer."""
        c = UnixConnection(self.socket)
        try:
            payload = None if body is None else json.dumps(body)
            c.request(method, "/admin/v1/" + route, payload, {"Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        finally:
            c.close()

    def metric(self, name):
        """Sum over all series of a metric."""
        total = None
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(name + "{") or line.startswith(name + " "):
                total = (total or 0) + float(line.rsplit(" ", 1)[1])
        assert total is not None, f"no series {name}"
        return total

    def n_begun(self):
        """Requests that have had their first token."""
        return self.metric("vllm:time_to_first_token_seconds_count")

    def wait_begun(self, n=1):
        wait_until(lambda: self.n_begun() >= n)

    def wait_draining(self):
        wait_until(lambda: self.admin("GET", "status")[1]["state"] == "draining")

    def wait_metric(self, name, value, seconds=PATIENCE):
        until = time.monotonic() + seconds
        while self.metric(name) != value:
            assert time.monotonic() < until, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.01)

    def stop(self, seconds=PATIENCE):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("did not stop: " + self.log_path.read_text())
        finally:
            self.log.close()
        assert code == 0, self.log_path.read_text()


@pytest.fixture(scope="session")
def make_server(tmp_path_factory):
    made = []

    def make(**kw):
        s = Server(tmp_path_factory.mktemp("server"), **kw)
        made.append(s)
        return s.wait_ready()

    yield make
    for s in made:
        if s.process.returncode is None:
            s.stop()


@pytest.fixture(scope="session")
def cpu(make_server):
    """SmolLM2 on the CPU."""
    return make_server(model='devices = { "cpu" }', name="smollm2-135m-instruct")


@pytest.fixture(scope="session")
def sim(make_server):
    """A simulated worker: 2 ms a step, many sequences."""
    return make_server(
        model='devices = { "sim" }\n sim_step_us = 2000\n max_num_seqs = 256\n max_queue = 512\n'
              'aliases = { "alias" }', name="sim")
