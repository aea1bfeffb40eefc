"""llmd chat against a server that answers what a test wants: output, errors, Ctrl-C, terminal."""
import http.server
import json
import os
import pty
import select
import signal
import subprocess
import threading
import time

import pytest

from conftest import LLMD, PATIENCE

DONE = "data: [DONE]\n\n"


def chunk(text=None, **more):
    choice = {"index": 0, "delta": {} if text is None else {"content": text},
              "finish_reason": more.pop("finish", None)}
    return "data: " + json.dumps({"choices": [choice], **more}) + "\n\n"


class Fake:
    """One HTTP server; `answer` is a status and a list of pieces, or a function of the request."""

    def __init__(self):
        fake = self
        self.answer = (200, [chunk("Hello"), chunk(" world"), chunk(finish="stop"), DONE])
        self.models = ["first", "second"]
        self.seen = []
        self.closed = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def send(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                cards = [{"id": m, "object": "model"} for m in fake.models]
                self.send(200, json.dumps({"object": "list", "data": cards}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.seen.append((self.path, dict(self.headers), body))
                status, pieces = fake.answer(body) if callable(fake.answer) else fake.answer
                if isinstance(pieces, dict):
                    return self.send(status, json.dumps(pieces).encode())
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                try:
                    for p in pieces:
                        self.wfile.write(p.encode() if isinstance(p, str) else p)
                        self.wfile.flush()
                except OSError:
                    fake.closed.set()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forever(self, body):
        """Text until the client goes away."""
        def pieces():
            while True:
                yield chunk("word ")
                time.sleep(0.02)
        return 200, pieces()


@pytest.fixture
def fake():
    f = Fake()
    yield f
    f.server.shutdown()
    f.server.server_close()


def chat(fake, *args, stdin="", env=None):
    return subprocess.run([LLMD, "chat", "--url", fake.url, *args], input=stdin, text=True,
                          capture_output=True, timeout=PATIENCE,
                          env={**os.environ, "LLMD_API_KEY": "", **(env or {})})


def test_streams_an_answer(fake):
    r = chat(fake, "Say", "hello")
    assert (r.returncode, r.stdout, r.stderr) == (0, "Hello world\n", "")
    path, headers, body = fake.seen[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert body == {"model": "first", "stream": True, "stream_options": {"include_usage": True},
                    "messages": [{"role": "user", "content": "Say hello"}]}


def test_options_reach_the_server(fake, tmp_path):
    key = tmp_path / "key"
    key.write_text("  sk-1 \n")
    r = chat(fake, "--model", "second", "--system", "Be short.", "-t", "0.5", "-n", "7",
             "--key-file", str(key), "hi", env={"LLMD_API_KEY": "sk-2"})
    assert r.returncode == 0, r.stderr
    _, headers, body = fake.seen[0]
    assert headers["Authorization"] == "Bearer sk-1"
    assert body["model"] == "second" and body["temperature"] == 0.5 and body["max_tokens"] == 7
    assert [m["role"] for m in body["messages"]] == ["system", "user"]


def test_key_from_the_environment(fake):
    assert chat(fake, "hi", env={"LLMD_API_KEY": "sk-2"}).returncode == 0
    assert fake.seen[0][1]["Authorization"] == "Bearer sk-2"
    assert "Bearer" not in str(fake.seen[0][2])


@pytest.mark.parametrize("key", ["a b", "a\x01", "é", ""])
def test_a_key_that_is_none(fake, tmp_path, key):
    f = tmp_path / "key"
    f.write_text(key + "\n")
    r = chat(fake, "--key-file", str(f), "hi")
    assert r.returncode == 1 and "holds no key" in r.stderr and not fake.seen


def test_key_file_with_more_than_a_key(fake, tmp_path):
    """What is too long is refused, not cut."""
    (tmp_path / "key").write_text("k" * 1023)
    assert chat(fake, "--key-file", str(tmp_path / "key"), "hi").returncode == 0
    assert fake.seen[0][1]["Authorization"] == "Bearer " + "k" * 1023
    (tmp_path / "key").write_text("k" * 1024 + "\n")
    r = chat(fake, "--key-file", str(tmp_path / "key"), "hi")
    assert r.returncode == 1 and "its first line is longer than 1023 bytes" in r.stderr


def test_missing_key_file(fake):
    r = chat(fake, "--key-file", "/nonexistent", "hi")
    assert r.returncode == 1 and "/nonexistent: No such file" in r.stderr


def test_url_with_v1(fake):
    r = subprocess.run([LLMD, "chat", "--url", fake.url + "/v1/", "hi"], capture_output=True,
                       text=True, timeout=PATIENCE)
    assert r.returncode == 0 and fake.seen[0][0] == "/v1/chat/completions"


def test_whole_answer(fake):
    fake.answer = (200, {"choices": [{"message": {"content": "All\nat once\n"},
                                      "finish_reason": "stop"}],
                         "usage": {"completion_tokens": 4}})
    r = chat(fake, "--no-stream", "--stats", "hi")
    assert r.returncode == 0 and r.stdout == "All\nat once\n"
    assert r.stderr.startswith("[4 tokens, ")
    assert fake.seen[0][2]["stream"] is False and "stream_options" not in fake.seen[0][2]


def test_stats(fake):
    def answer(body):
        def pieces():
            for _ in range(5):
                yield chunk("x")
                time.sleep(0.05)
            yield chunk(finish="length")
            yield chunk(choices=[], usage={"completion_tokens": 5, "prompt_tokens": 1})
            yield DONE
        return 200, pieces()
    fake.answer = answer
    r = chat(fake, "--stats", "hi")
    assert r.returncode == 0 and r.stdout == "xxxxx\n"
    assert "[5 tokens, " in r.stderr and " tok/s, first after " in r.stderr
    assert "length]" in r.stderr


def test_standard_input(fake):
    r = chat(fake, stdin="from a pipe\nsecond line\n\n")
    assert r.returncode == 0
    assert fake.seen[0][2]["messages"][0]["content"] == "from a pipe\nsecond line"


def test_invalid_utf8_in_prompt(fake):
    r = subprocess.run([LLMD, "chat", "--url", fake.url], input=b"a\xffb\x00c", capture_output=True,
                       timeout=PATIENCE)
    assert r.returncode == 0
    assert fake.seen[0][2]["messages"][0]["content"] == "a\ufffdb\0c"


def test_empty_prompt(fake):
    r = chat(fake, stdin="\n")
    assert r.returncode == 1 and "the prompt is empty" in r.stderr and not fake.seen


def test_no_terminal_control_gets_through(fake):
    evil = "a\x1b]0;title\x07b\x1b[2Jc\rd\x08e\x9bf\u202eg\u0085h\ti\nj\x00k\x7f"
    fake.answer = (200, [chunk(evil[:2]), chunk(evil[2:]), chunk("\x1b"), chunk("[31mred"), DONE])
    r = subprocess.run([LLMD, "chat", "--url", fake.url, "hi"], capture_output=True, timeout=PATIENCE)
    assert r.returncode == 0
    assert r.stdout.decode() == "a]0;titleb[2Jcdefgh\ti\njk[31mred\n"


def test_nor_in_errors(fake):
    fake.answer = (400, {"error": {"message": "bad \x1b[31m\nthing"}})
    r = chat(fake, "hi")
    assert r.returncode == 1 and r.stdout == ""
    assert r.stderr == "llmd chat: the server answered 400: bad \\x1b[31m\\nthing\n"


def test_401(fake):
    fake.answer = (401, {"error": {"message": "no key"}})
    r = chat(fake, "hi")
    assert r.returncode == 1 and "--key-file" in r.stderr and "no key" in r.stderr
    r = chat(fake, "hi", env={"LLMD_API_KEY": "wrong"})
    assert r.returncode == 1 and "does not know this key" in r.stderr


def test_404_names_the_models(fake):
    fake.answer = (404, {"error": {"message": "The model `x` does not exist."}})
    r = chat(fake, "--model", "x", "hi")
    assert r.returncode == 1
    assert "The model `x` does not exist.; the server has: first, second" in r.stderr


@pytest.mark.parametrize("pieces, what", [
    ([chunk("Hel"), 'data: {"error": {"message": "worker died"}}\n\n', DONE], "worker died"),
    ([chunk("Hel")], "ended early"),
    ([chunk("Hel"), "data: {oops\n\n"], "cannot be read"),
    ([chunk("Hel"), b"data: \xff\n\n"], "cannot be read"),
])
def test_answers_that_break_off(fake, pieces, what):
    fake.answer = (200, pieces)
    r = chat(fake, "hi")
    assert r.returncode == 1 and r.stdout == "Hel\n" and what in r.stderr


@pytest.mark.parametrize("body", [{"error": "plain"}, {"message": "top"}, {"x": 1}])
def test_error_bodies(fake, body):
    fake.answer = (500, body)
    r = chat(fake, "hi")
    assert r.returncode == 1 and "the server answered 500: " in r.stderr


@pytest.mark.parametrize("data", [{"choices": []}, {"choices": [{}]}, {}, {"choices": 5},
                                  {"choices": [{"delta": {"content": 5}}]},
                                  {"choices": [{"delta": {"content": None}}], "usage": None}])
def test_odd_chunks_are_no_text(fake, data):
    fake.answer = (200, ["data: " + json.dumps(data) + "\n\n", ": comment\n\n", chunk("ok"), DONE])
    r = chat(fake, "hi")
    assert r.returncode == 0 and r.stdout == "ok\n"


def test_no_server():
    r = subprocess.run([LLMD, "chat", "--url", "http://127.0.0.1:9", "hi"], capture_output=True,
                       text=True, timeout=PATIENCE)
    assert r.returncode == 1
    assert "Connection refused" in r.stderr and "llmd serve --config" in r.stderr


@pytest.mark.parametrize("args", [["--url", "127.0.0.1:8080"], ["--url", "ftp://x"],
                                  ["--temperature", "3"], ["--max-tokens", "0"], ["--bogus"]])
def test_usage(args):
    r = subprocess.run([LLMD, "chat", *args, "hi"], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 2 and "--help" in r.stderr


def test_closed_standard_output(fake):
    fake.answer = fake.forever
    p = subprocess.Popen([LLMD, "chat", "--url", fake.url, "hi"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    p.stdout.read(5)
    p.stdout.close()
    assert p.wait(PATIENCE) == 1 and fake.closed.wait(PATIENCE)
    p.stderr.close()


def test_ctrl_c_closes_the_connection(fake):
    fake.answer = fake.forever
    p = subprocess.Popen([LLMD, "chat", "--url", fake.url, "hi"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    assert p.stdout.read(5) == b"word "
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=PATIENCE)
    assert p.returncode == 130 and b"[stopped]" in err and out.endswith(b"\n")
    assert fake.closed.wait(PATIENCE)


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["LLMD_API_KEY"] = ""
            os.execv(LLMD, [LLMD, "chat", *args])
        self.text = ""

    def expect(self, what, seconds=PATIENCE):
        """Reads up to `what`; returns what stood in front."""
        until = time.monotonic() + seconds
        while what not in self.text:
            assert time.monotonic() < until, f"no {what!r} in {self.text!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 4096).decode()
        before, _, self.text = self.text.partition(what)
        return before

    def send(self, text):
        os.write(self.fd, text.encode())

    def exit_code(self):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("did not end")


def test_conversation(fake):
    def roles():
        return [(m["role"], m["content"]) for m in fake.seen[-1][2]["messages"]]

    t = Terminal("--url", fake.url, "--system", "S")
    t.expect("first at " + fake.url)
    t.expect("> ")
    t.send("one\n")
    t.expect("Hello world")
    t.expect("> ")
    assert roles() == [("system", "S"), ("user", "one")]
    t.send("two \\\nlines\n")
    t.expect("Hello world")
    t.expect("> ")
    assert roles() == [("system", "S"), ("user", "one"), ("assistant", "Hello world"),
                       ("user", "two \nlines")]
    t.send("/reset\n")
    t.expect("[a new conversation]")
    t.send("three\n")
    t.expect("Hello world")
    assert roles() == [("system", "S"), ("user", "three")]
    t.expect("> ")
    t.send("/system   T\n")
    t.expect("[a new conversation]")
    t.send("four\n")
    t.expect("Hello world")
    assert roles() == [("system", "T"), ("user", "four")]
    t.expect("> ")
    t.send("/help\n")
    t.expect("forget the conversation")
    t.expect("> ")
    t.send("/exit\n")
    assert t.exit_code() == 0


def test_ctrl_c_in_a_conversation(fake):
    t = Terminal("--url", fake.url)
    t.expect("> ")
    fake.answer = fake.forever
    t.send("go\n")
    t.expect("word word")
    t.send("\x03")
    t.expect("[stopped]")
    t.expect("> ")
    fake.answer = (500, {"error": {"message": "broken"}})
    t.send("again\n")
    t.expect("broken")
    t.expect("> ")
    fake.answer = (200, [chunk("fine"), DONE])
    t.send("half a line\x03")
    t.expect("> ")
    t.send("last\n")
    t.expect("fine")
    roles = [m["role"] for m in fake.seen[-1][2]["messages"]]
    assert roles == ["user", "assistant", "user"]  # the failed question is not kept
    assert fake.seen[-1][2]["messages"][1]["content"].startswith("word word")
    t.expect("> ")
    t.send("\x04")
    assert t.exit_code() == 0
