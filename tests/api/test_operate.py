"""llmd status, drain and reload against a server that is a script: what they say of each answer, and
that nothing of a server's text drives the terminal."""
import http.server
import json
import socketserver
import subprocess
import threading

import pytest

from conftest import LLMD, PATIENCE

STATUS = {
    "version": "1\x1b[2J", "pid": 1, "uptime_seconds": 90061.5, "state": "ready\u009b31m", "answering": 2,
    "listen": [{"address": "[::1]:0", "port": 8080}], "connections": 3, "max_connections": 4, "requests": 5,
    "failed": 6, "reload": {"state": "failed", "message": "line 1\n\x1b]0;title\x07"},
    "models": [{"name": "a\u202eb", "ready": True, "waiting": 7}, {"name": "m2", "ready": False}],
    "workers": [{"worker": 0, "model": "m2", "state": "dead", "error": "no\x1b[1mluck", "starts": 1},
                {"worker": 1, "model": "m2", "state": "loading", "loaded_percent": 40, "seconds_left": 3},
                {"worker": 2, "model": "m2", "state": "draining", "drained": True, "bound": 9, "starts": 1},
                {"worker": 3, "model": "m2", "state": "ready", "kv_blocks": 8, "free_kv_blocks": 6, "step_ms": 2500}],
}


class Script:
    """Answers (status, JSON) from lists by "METHOD route"; the last one stays."""

    def __init__(self, path, answers):
        self.answers, self.asked = answers, []
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self):
                route = self.command + " " + self.path.removeprefix("/admin/v1/")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append((route, body.decode()))
                queue = script.answers[route]
                status, answer = queue.pop(0) if len(queue) > 1 else queue[0]
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = reply

            def log_message(self, *args):
                pass

            def address_string(self):
                return "peer"

        class UnixServer(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self.path = str(path / "s.sock")
        self.server = UnixServer(self.path, Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def run(self, *args):
        return subprocess.run([LLMD, args[0], "--socket", self.path, *args[1:]], capture_output=True, timeout=PATIENCE)


@pytest.fixture
def script(tmp_path):
    made = []

    def make(answers):
        made.append(Script(tmp_path, answers))
        return made[-1]

    yield make
    for s in made:
        s.close()


def clean(data):
    """No control character but the line feed, in valid UTF-8."""
    text = data.decode()
    assert not any(c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or 0x202a <= ord(c) <= 0x202e) for c in text)
    return text


def test_status_of_an_odd_server(script):
    text = clean(script({"GET status": [(200, STATUS)]}).run("status").stdout)
    lines = text.splitlines()
    assert lines[0].startswith("llmd 1\\x1b[2J  ready\\u009b31m  pid 1  up 1 d 1 h  on [::1]:8080")
    assert lines[1] == "requests     2 being answered, 7 waiting, 5 ended, 6 failed"
    assert "reload       failed: line 1\\n\\x1b]0;title\\x07" in lines
    assert any(line.startswith("a\\u202eb  ready") for line in lines)
    notes = {line.split()[0]: line for line in lines if line[:6].strip().isdigit()}
    assert notes["0"].endswith("no\\x1b[1mluck") and notes["1"].endswith("40 %, 3 s left")
    assert notes["2"].endswith("requests left: 9") and "25.0 %" in notes["3"]
    assert notes["3"].endswith("in a step for 2.5 s")


@pytest.mark.parametrize("answer, words", [
    ((200, b"{"), "cannot be read"), ((500, b"oops"), "answered 500"), ((200, []), ""),
    ((403, {"error": {"message": "not \x1b[1myou"}}), "not \\x1b[1myou"), ((404, {"error": 5}), "answered 404")])
def test_answers_that_are_no_status(script, answer, words):
    r = script({"GET status": [answer]}).run("status")
    assert r.returncode == (1 if words else 0) and words in clean(r.stderr)
    clean(r.stdout)


def test_reload_shows_the_changes(script):
    running = (200, {"state": "running", "number": 4})
    s = script({"POST reload": [(202, {"state": "running", "number": 4})],
                "GET reload": [running, running,
                               (200, {"state": "done", "number": 4, "message": "2 changes",
                                      "changes": ["key \"a\" added", "log_level: \x1b[7minfo"]})]})
    r = s.run("reload")
    assert r.returncode == 0
    assert clean(r.stdout).splitlines() == ['key "a" added', "log_level: \\x1b[7minfo", "2 changes"]
    assert [route for route, _ in s.asked] == ["POST reload"] + ["GET reload"] * 3


def test_reload_refused(script):
    s = script({"POST reload": [(202, {"state": "running", "number": 1})],
                "GET reload": [(200, {"state": "failed", "number": 1, "message": "llmd.conf:3: no\x07"})]})
    r = s.run("reload")
    assert r.returncode == 1 and r.stdout == b"" and "llmd.conf:3: no\\x07" in clean(r.stderr)
    s.answers["POST reload"] = [(503, {"error": {"message": "a reload is under way"}})]
    r = s.run("reload")
    assert r.returncode == 1 and b"a reload is under way" in r.stderr
    s.answers["POST reload"] = [(202, {"state": "running", "number": 2})]
    r = s.run("reload", "--no-wait")
    assert r.returncode == 0 and s.asked[-1][0] == "POST reload"


def test_drain_worker_that_is_brought_back_meanwhile(script):
    def look(state, drained, bound):
        return 200, {"workers": [{"worker": 2, "state": state, "drained": drained, "bound": bound}]}
    s = script({"POST drain": [(202, {})],
                "GET workers": [look("draining", True, 3), look("draining", True, 3), look("ready", False, 0)]})
    r = s.run("drain", "2")
    assert r.returncode == 1 and b"brought back" in r.stderr
    assert r.stderr.count(b"requests left: 3") == 1  # said once while nothing changes
    assert s.asked[0] == ("POST drain", '{"worker":2}')
    s.answers["GET workers"] = [(200, {"workers": []})]
    assert b"no worker 2 any more" in s.run("drain", "2").stderr


def test_undo_of_a_worker_that_fails(script):
    s = script({"POST undrain": [(202, {})],
                "GET workers": [(200, {"workers": [{"worker": 0, "state": "loading", "loaded_percent": 10}]}),
                                (200, {"workers": [{"worker": 0, "state": "dead", "error": "no \x1bmemory"}]})]})
    r = s.run("drain", "--undo", "0")
    assert r.returncode == 1 and "did not come back: no \\x1bmemory" in clean(r.stderr)


@pytest.mark.parametrize("status, said", [(403, b"not you"), (400, b"what?")])
def test_drain_takes_no_refusal_for_the_end(script, status, said):
    refusal = status, {"error": {"message": said.decode()}}
    s = script({"POST drain": [(202, {})], "GET status": [(200, STATUS), (200, STATUS), refusal]})
    r = s.run("drain")
    assert (r.returncode, r.stdout) == (1, b"")
    assert r.stderr == b"draining, answers left: 2\nllmd drain: " + said + b"\n"


def test_drain_sees_that_another_server_took_over(script):
    s = script({"POST drain": [(202, {})],
                "GET status": [(200, {"pid": 7, "answering": 1}), (200, {"pid": 7, "answering": 1}), (200, {"pid": 8})]})
    r = s.run("drain")
    assert (r.returncode, r.stdout) == (0, b"drained: the server has ended\n")
    assert r.stderr == b"draining, answers left: 1\n"
    assert s.asked[1] == ("POST drain", "")
