"""Where the server listens: UNIX sockets, addresses of operators, sockets that a parent passes."""
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from conftest import GGUF, LLMD, PATIENCE, UnixConnection

SIM = f'model "sim" {{ path = "{GGUF}" devices = {{ "sim" }} sim_step_us = 200 }}\n'
KEYS = "".join(f'key "{name}" {{ sha256 = "{hashlib.sha256(b"sk-" + name.encode()).hexdigest()}" {more} }}\n'
               for name, more in (("user", ""), ("ops", 'scope = "admin"')))


def listening(address="127.0.0.1", family=socket.AF_INET, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind)
    s.bind((address, 0) if family != socket.AF_UNIX else address)
    if kind == socket.SOCK_STREAM:
        s.listen(64)
    return s


class Started:
    """llmd serve with passed sockets: descriptors 3 and up, as systemd does it."""

    def __init__(self, folder, config, passed=(), names=None, pid=None):
        self.log_path = pathlib.Path(folder) / "llmd.log"
        self.config = pathlib.Path(folder) / "llmd.conf"
        self.config.write_text('control_socket = "llmd.sock"\n' + config + SIM)
        high = [os.dup2(s.fileno(), 200 + i, inheritable=True) for i, s in enumerate(passed)]
        moves = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(high))
        env = dict(os.environ)
        script = f"exec {moves}; " if high else ""
        if passed:
            script += f"export LISTEN_PID={pid or '$$'} LISTEN_FDS={len(passed)}; "
        if names is not None:
            env["LISTEN_FDNAMES"] = names
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f'{script}exec "{LLMD}" serve --config "{self.config}"'],
                env=env, pass_fds=high, stdout=log, stderr=log)
        for fd in high:
            os.close(fd)

    def log(self):
        return self.log_path.read_text()

    def wait_ready(self):
        until = time.monotonic() + PATIENCE
        while " ready models=" not in self.log():
            assert self.process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.02)
        return self

    def refusal(self):
        assert self.process.wait(PATIENCE) == 1
        return [line for line in self.log().splitlines() if "cannot start" in line][0]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log()


@pytest.fixture
def start(tmp_path):
    made = []

    def begin(*args, **kw):
        made.append(Started(tmp_path, *args, **kw))
        return made[-1]

    yield begin
    for s in made:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()


def get(where, path, key=None):
    c = where if isinstance(where, http.client.HTTPConnection) else http.client.HTTPConnection(*where, timeout=PATIENCE)
    try:
        c.request("GET", path, headers={"Authorization": "Bearer " + key} if key else {})
        r = c.getresponse()
        return r.status, r.read().decode()
    finally:
        c.close()


def test_a_unix_socket_and_operators(start, tmp_path):
    s = start(KEYS + 'access_log = "stdout"\nlisten = { "unix:http.sock" }\nadmin_listen = { "127.0.0.1:0" }\n').wait_ready()
    lines = [line for line in s.log().splitlines() if "listening address=" in line]
    assert f"address=unix:{tmp_path}/http.sock port=0" in lines[0] and lines[1].endswith(" admin=1")
    operators = ("127.0.0.1", int(lines[1].split("port=")[1].split()[0]))
    clients = UnixConnection(str(tmp_path / "http.sock"))
    assert get(clients, "/v1/models", "sk-user")[0] == 200
    c = UnixConnection(str(tmp_path / "http.sock"))
    c.request("POST", "/v1/completions", json.dumps({"model": "sim", "prompt": "x", "max_tokens": 2}),
              {"Content-Type": "application/json", "Authorization": "Bearer sk-user"})
    assert c.getresponse().status == 200
    c.close()
    assert get(clients, "/admin/v1/status", "sk-ops")[0] == 403
    assert get(operators, "/admin/v1/status", "sk-ops")[0] == 200
    assert get(operators, "/admin/v1/status", "sk-user")[0] == 403
    assert get(operators, "/admin/v1/status")[0] == 401
    assert get(operators, "/v1/models", "sk-user")[0] == 403
    assert get(operators, "/metrics")[0] == 200
    status = subprocess.run([LLMD, "status", "--config", str(s.config)], capture_output=True, text=True)
    assert f"unix:{tmp_path}/http.sock, 127.0.0.1:{operators[1]} (operators)" in status.stdout
    s.stop()
    assert not (tmp_path / "http.sock").exists()
    written = [json.loads(line) for line in s.log().splitlines() if line.startswith("{")]
    assert [row["client"] for row in written if row["status"] == 200] == ["unix"]


def test_passed_sockets(start, tmp_path):
    clients, operators = listening(), listening()
    file = listening(str(tmp_path / "passed.sock"), socket.AF_UNIX)
    port = clients.getsockname()[1]
    config = KEYS + f'listen = {{ "127.0.0.1:{port}", "unix:passed.sock" }}\n'
    s = start(config, (clients, operators, file), "http:admin:").wait_ready()
    assert get(clients.getsockname(), "/v1/models", "sk-user")[0] == 200
    assert get(operators.getsockname(), "/admin/v1/status", "sk-ops")[0] == 200
    assert get(clients.getsockname(), "/admin/v1/status", "sk-ops")[0] == 403
    assert get(UnixConnection(str(tmp_path / "passed.sock")), "/v1/models", "sk-user")[0] == 200
    s.stop()
    # The sockets are the parent's: who connects now is served by the next server.
    waiting = http.client.HTTPConnection(*clients.getsockname(), timeout=PATIENCE)
    waiting.request("GET", "/version")
    assert (tmp_path / "passed.sock").exists()
    s = start(config, (clients, operators, file), "http:admin:").wait_ready()
    assert waiting.getresponse().status == 200
    waiting.close()
    s.stop()


def test_sockets_for_another_process_are_left_alone(start):
    other = listening()
    s = start('listen = { "127.0.0.1:0" }\n', (other,), pid=1).wait_ready()
    s.stop()


def test_passed_sockets_that_lead_nowhere(start, tmp_path):
    one = listening()
    port = one.getsockname()[1]
    said = start('listen = { "127.0.0.1:0" }\n', (one,), "web").refusal()
    assert f"a socket of 127.0.0.1:{port} was passed (\"web\"), but neither listen nor admin_listen names" in said
    said = start(f'listen = {{ "127.0.0.1:{port}" }}\n', (one, one.dup())).refusal()
    assert f"two sockets of 127.0.0.1:{port} were passed" in said
    said = start(f'listen = {{ "127.0.0.1:{port}" }}\n', (one,), "admin").refusal()
    assert "which listen names for clients" in said
    datagram = listening(kind=socket.SOCK_DGRAM)
    said = start('listen = { "127.0.0.1:0" }\n', (datagram,), "x").refusal()
    assert "the passed descriptor 3 (\"x\") is no listening stream socket" in said
    anywhere = listening("0.0.0.0")
    said = start('listen = { "127.0.0.1:0" }\n', (anywhere,), "admin").refusal()
    assert "is not of a loopback address, and without keys" in said
