"""`llmd top`: in a terminal (a pty), and where there is none."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest
from conftest import LLMD, PATIENCE, wait_until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True}


@pytest.fixture(scope="module")
def server(make_server):
    s = make_server(model='devices = { "sim" }\n sim_workers = 2\n sim_step_us = 20000', name="sea")
    threads = [threading.Thread(target=s.post, args=("/v1/chat/completions", {**CHAT, "max_tokens": 2500}), daemon=True)
               for _ in range(3)]
    for t in threads:
        t.start()
    s.wait_begun(3)
    wait_until(lambda: s.admin("GET", "snapshot")[1]["requests"]["total"] == 3)
    yield s
    for r in s.admin("GET", "requests")[1]["requests"]:
        s.admin("DELETE", "requests/" + r["id"])
    for t in threads:
        t.join()


def top(server, *args, **env):
    done = subprocess.run([LLMD, "top", "--config", str(server.config), *args], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE, env={**os.environ, **env})
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """`llmd top` at a pty; what it wrote so far is in `seen`."""

    def __init__(self, server, rows=30, columns=140, **env):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("NO_COLOR", None)
            os.environ.update(env)
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(LLMD, [LLMD, "top", "--config", str(server.config)])

    def read(self, seconds=0.05):
        while select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data
            seconds = 0.02

    def page(self):
        """The last page that was painted, without colors."""
        self.read()
        pages = self.seen.split(b"\033[H")
        return re.sub(r"\033\[[0-9;]*[mKJ]", "", pages[-1].decode()) if len(pages) > 1 else ""

    def wait(self, holds):
        until = time.monotonic() + PATIENCE
        while not holds(self.page()):
            assert time.monotonic() < until, self.seen[-4000:]

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        """Its exit status."""
        status = []
        def ended():
            self.read()
            pid, s = os.waitpid(self.pid, os.WNOHANG)
            status.append(s)
            return pid
        wait_until(ended)
        self.read()
        os.close(self.fd)
        return status[-1]


def test_printed_once_without_a_terminal(server):
    for args in ((), ("--once",)):
        code, out, err = top(server, *args)
        assert code == 0 and err == "" and "\033" not in out
        assert out.startswith("llmd ") and "tok/s" in out and "TTFT" in out
        assert len([l for l in out.splitlines() if re.match(r" +[01]  sea", l)]) == 2, out
        assert out.count("chatcmpl-") == 3 and "q quit" not in out


def test_json(server):
    code, out, _ = top(server, "--json")
    assert code == 0
    v = json.loads(out)
    assert len(v["workers"]) == 2 and v["verdict"]["state"] in ("serving", "degraded")


def test_nobody_there(server, tmp_path):
    code, out, err = top(server, "--socket", str(tmp_path / "none.sock"))
    assert code == 1 and out == "" and "no server listens" in err
    assert top(server, "more")[0] == 2


def test_keys(server):
    t = Terminal(server)
    t.wait(lambda p: "REQUEST " in p and "chatcmpl-" in p and "q quit" in p)
    assert b"\033[?1049h" in t.seen and b"\033[32m" in t.seen
    assert t.page().count("\n") < 30
    t.press("d")
    t.wait(lambda p: "DECISION FOR" in p and p.count("chatcmpl-") == 3)
    t.press("r")
    t.wait(lambda p: "REQUEST " in p and p.count("chatcmpl-") == 3)
    t.press("\033[B")
    t.wait(lambda p: p.count("chatcmpl-") == 2)
    t.press("\033[A\033[A")
    t.wait(lambda p: p.count("chatcmpl-") == 3)
    t.press(" ")
    t.wait(lambda p: "PAUSED" in p)
    t.press("q")
    assert t.end() == 0
    assert t.seen.endswith(b"\033[?7h\033[?25h\033[?1049l")


def test_no_color(server):
    t = Terminal(server, NO_COLOR="1")
    t.wait(lambda p: "q quit" in p)
    t.press("q")
    assert t.end() == 0
    assert not re.search(rb"\033\[[1-9][0-9;]*m", t.seen)


def test_another_size(server):
    t = Terminal(server, rows=40)
    t.wait(lambda p: "q quit" in p)
    assert t.page().count("\n") == 39
    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    t.wait(lambda p: p.count("\n") == 11)
    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 3, 20, 0, 0))
    t.wait(lambda p: p.count("\n") == 2)
    t.press("q")
    assert t.end() == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(server, how):
    t = Terminal(server)
    t.wait(lambda p: "q quit" in p)
    os.kill(t.pid, how)
    assert t.end() == 0
    assert t.seen.endswith(b"\033[?1049l")


def test_a_restart(make_server):
    """The server goes and comes back: the last page stays, with a line that says so."""
    s = make_server(model='devices = { "sim" }')
    t = Terminal(s)
    t.wait(lambda p: "q quit" in p and "no server" not in p)
    s.stop()
    t.wait(lambda p: "no server listens" in p and "WORKER" in p)
    s.log = open(s.log_path, "a")
    s.process = subprocess.Popen([LLMD, "serve", "--config", str(s.config)], stderr=s.log, stdout=s.log)
    t.wait(lambda p: "q quit" in p and "no server" not in p and f"pid {s.process.pid}" in p)
    t.press("q")
    assert t.end() == 0
