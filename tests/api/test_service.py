"""What a service manager is told (sd_notify), and a server that has no model yet."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import GGUF, LLMD, PATIENCE, Server, wait_until

SIM = 'devices = { "sim" }\n sim_step_us = 1000\n max_model_len = 512\n'


class Manager:
    """The other end of NOTIFY_SOCKET: a path, or a name of the abstract namespace."""

    def __init__(self, address):
        self.name = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.settimeout(PATIENCE)

    def wait(self, line):
        """Until a datagram has such a line; all its lines."""
        while True:
            lines = self.socket.recv(9999).decode().split("\n")
            if any(re.fullmatch(line, other) for other in lines):
                return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    m = Manager(str(tmp_path / "notify") if request.param == "path" else f"@llmd-test-{os.getpid()}")
    yield m
    m.socket.close()


def started(tmp_path, manager, **kw):
    return Server(tmp_path, SIM, env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000000"}, **kw)


def test_from_start_to_end(tmp_path, manager):
    server = started(tmp_path, manager)
    ready = manager.wait("READY=1")
    assert "STATUS=Serving 1 model, 1 of 1 workers ready, 0 requests running" in ready
    assert server.get("/ready")[0] == 200  # READY is not said before
    for _ in range(3):
        manager.wait("WATCHDOG=1")
    os.kill(server.process.pid, signal.SIGHUP)
    lines = manager.wait("RELOADING=1")
    assert any(re.fullmatch(r"MONOTONIC_USEC=[0-9]+", line) for line in lines)
    manager.wait("READY=1")
    server.process.send_signal(signal.SIGTERM)
    assert "STATUS=Draining: 0 answers left" in manager.wait("STOPPING=1")
    server.stop()


def test_a_manager_that_is_busy_hears_it_later(tmp_path, manager):
    """Its queue is full while the server becomes ready: READY is said when there is room."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"X=1", manager.socket.getsockname())
        server = started(tmp_path, manager)  # waits until it is ready
        time.sleep(0.3)  # it may have tried to say so
        manager.wait("READY=1")
        server.stop()


def test_it_asks_for_time_while_it_loads(tmp_path, manager):
    server = Server(tmp_path, 'devices = { "cpu" }', env={"NOTIFY_SOCKET": manager.name})
    manager.wait("STATUS=(Starting|Loading m: .*)")
    manager.wait("EXTEND_TIMEOUT_USEC=60000000")
    manager.wait("READY=1")
    server.stop()


def test_while_answers_end(tmp_path, manager):
    server = started(tmp_path, manager, top="drain_timeout_s = 60")
    manager.wait("READY=1")
    body = {"model": "m", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}
    s = server.connect()
    text = json.dumps(body)
    s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
              f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
    server.wait_begun()
    server.process.send_signal(signal.SIGTERM)
    manager.wait("STOPPING=1")
    assert server.process.wait(PATIENCE) == 0
    s.close()


def test_nobody_listens(tmp_path):
    """A socket that is gone, or no name of one: the server serves."""
    for i, name in enumerate((str(tmp_path / "gone"), "relative", "@", "/" + "x" * 200)):
        folder = tmp_path / str(i)
        folder.mkdir()
        server = Server(folder, SIM, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "x"}).wait_ready()
        server.stop()


def test_without_a_model(tmp_path, manager):
    """It runs, says what to do next, and serves a model as soon as there is one."""
    server = started(tmp_path, manager, name=None)
    assert any(line.startswith("STATUS=No model is configured: run llmd setup") for line in manager.wait("READY=1"))
    status, text = server.get("/ready")
    assert status == 503 and "llmd setup" in json.loads(text)["status"]
    assert server.get("/health")[0] == 200
    assert json.loads(server.get("/v1/models")[1])["data"] == []
    status, answer = server.post("/v1/completions", {"model": "m", "prompt": "x"})
    assert status == 404 and answer["error"]["message"]
    assert server.log_path.read_text().count("no model is configured") == 1
    server.config.write_text(server.config.read_text() + f'model "m" {{ path = "{GGUF}"\n{SIM} }}\n')
    assert server.admin("POST", "reload")[0] == 202
    wait_until(lambda: server.get("/ready")[0] == 200)
    status, answer = server.post("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 2, "ignore_eos": True})
    assert status == 200 and answer["usage"]["completion_tokens"] == 2
    manager.wait("STATUS=Serving 1 model, 1 of 1 workers ready, .*")
    server.stop()


def test_check_says_so(tmp_path):
    """`llmd check` warns; it is no fault."""
    config = tmp_path / "llmd.conf"
    config.write_text("# nothing yet\n")
    got = subprocess.run([LLMD, "check", "--config", config], capture_output=True, text=True)
    assert got.returncode == 0 and "there is no model" in got.stderr and "llmd setup" in got.stderr
