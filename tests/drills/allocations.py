#!/usr/bin/env python3
"""Lets one allocation fail, and sees that nothing worse follows than a clean error.

    allocations.py [--every N] [--from N] [--to N] [--times N] [--binary PATH]

A server with two tiny models (CPU and simulated) starts, answers a chat, a stream of two choices and a
completion, and drains; the binary has faults (core/util/fault.h) and, by default, AddressSanitizer. This is
done once for the first allocation, once for the second, ... (--every N: for each N-th only), with that
one failing. Allowed: to refuse to start, with a message; that one request fails with an error, or its
connection is closed. Not allowed: a crash, a leak, a hang, a second request that fails, an exit code or a
message that hides the reason.

The last line: "N passed, N failed".
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/golden/data/tiny"
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}"
CONFIG = """listen = {{ "127.0.0.1:{port}" }}
edge_threads = 1
control_socket = ""
key "a" {{ sha256 = "{sha}" }}
model "folder" {{
    path = "{folder}/model"
    devices = {{ "cpu" }}
    threads = 2
    kv_cache_mb = 1
}}
model "gguf" {{
    path = "{tiny}/qwen3.gguf"
    aliases = {{ "other" }}
    devices = {{ "sim" }}
    sim_step_us = 200
    kv_cache_mb = 1
}}
"""
KEY, SHA = "secret", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
PATIENCE_S = 60


class Failure(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Run:
    def __init__(self, binary, folder, at, times):
        self.port, self.times = free_port(), times
        shutil.copytree(TINY / "qwen3", folder / "model")
        (folder / "model/chat_template.jinja").write_text(TEMPLATE)
        config = folder / "llmd.conf"
        config.write_text(CONFIG.format(port=self.port, folder=folder, tiny=TINY, sha=SHA))
        self.log = folder / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([binary, "serve", "--config", str(config)], stderr=log, stdout=log,
                                            env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1",
                                                 "LLMD_FAULTS": f"allocation at={at} times={times}"})

    def request(self, method, path, body=None):
        """Status and body; None when the connection was closed without an answer."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            c.request(method, path, json.dumps(body) if body else None,
                      {"Content-Type": "application/json", "Authorization": "Bearer " + KEY})
            r = c.getresponse()
            return r.status, r.read().decode()
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            c.close()

    def wait_ready(self):
        """False: it ended. Without any memory it may be unable to say that it is ready."""
        until = time.monotonic() + (PATIENCE_S if self.times == 1 else 3)
        while self.process.poll() is None:
            if (r := self.request("GET", "/ready")) and r[0] == 200:
                return True
            if time.monotonic() > until and self.times > 1:
                return True
            if time.monotonic() > until:
                raise Failure("neither ready nor ended")
            time.sleep(0.01)
        return False

    def ask(self):
        """How many of the requests failed."""
        hi = [{"role": "user", "content": "the thing and"}]
        bodies = [("/v1/chat/completions", {"model": "folder", "messages": hi, "max_tokens": 5, "ignore_eos": True,
                                            "stop": ["zzz"], "logit_bias": {"3": 1}}),
                  ("/v1/chat/completions", {"model": "folder", "messages": hi, "max_tokens": 5, "n": 2, "seed": 1,
                                            "stream": True, "ignore_eos": True, "temperature": 1,
                                            "stream_options": {"include_usage": True}}),
                  ("/v1/completions", {"model": "other", "prompt": ["the thing", "and"], "max_tokens": 3,
                                       "ignore_eos": True, "echo": True})]
        return sum(not self.good(path, body) for path, body in bodies)

    def good(self, path, body):
        answer = self.request("POST", path, body)
        if answer is None:
            return False
        status, text = answer
        if status != 200:
            if status < 500 or "error" not in json.loads(text):
                raise Failure(f"status {status}: {text}")
            return False
        if not body.get("stream"):
            n = json.loads(text)["usage"]["completion_tokens"]
            if n != body["max_tokens"] * (2 if "prompt" in body else 1):
                raise Failure(f"{n} tokens: {text}")
            return True
        if '"error"' in text or not text.endswith("data: [DONE]\n\n"):
            return False
        if text.count('"content":') != 2 + 2 * body["max_tokens"]:
            raise Failure("tokens are missing: " + text)
        return True

    def check(self):
        try:
            ready = self.wait_ready()
            if ready:
                n_failed = sum(self.ask() for _ in range(2))
                for path in ("/metrics", "/v1/models"):
                    n_failed += not (r := self.request("GET", path)) or r[0] != 200
                if n_failed > self.times:
                    raise Failure(f"{n_failed} requests failed")
                self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failure("does not end") from None
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        log = self.log.read_text()
        if code != 0 and (ready or code not in (1, 3) or not re.search("out of memory|no memory|cannot allocate", log)):
            raise Failure(f"exit code {code}")
        if "Sanitizer" in log or "runtime error" in log or "BUG" in log:
            raise Failure("the sanitizer found something")
        return int(log.rsplit("allocations=", 1)[1].split()[0])


def run_one(binary, at, times):
    """What is wrong, None when nothing is; and how many allocations there were."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(binary, pathlib.Path(folder), at, times)
        try:
            return at, None, run.check()
        except (Failure, OSError, ValueError, IndexError) as e:
            if "Address already in use" in run.log.read_text():
                return run_one(binary, at, times)
            return at, f"{type(e).__name__} {e}\n{run.log.read_text()[-6000:]}", 0


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--every", type=int, default=1)
    args.add_argument("--from", dest="first", type=int, default=1)
    args.add_argument("--to", type=int, default=10**9)
    args.add_argument("--times", type=int, default=1, help="so many in a row fail; a million: all the rest")
    args.add_argument("--binary", default=str(ROOT / "build/asan/faults/llmd"))
    args.add_argument("--verbose", action="store_true")
    o = args.parse_args()
    _, wrong, n = run_one(o.binary, 10**9, 1)
    if wrong:
        sys.exit("without any fault: " + wrong)
    numbers = range(o.first, min(n, o.to) + 1, o.every)
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for at, wrong, _ in pool.map(lambda at: run_one(o.binary, at, o.times), numbers):
            passed, failed = passed + (wrong is None), failed + (wrong is not None)
            if wrong:
                print(f"allocation {at}: {wrong if o.verbose else wrong.splitlines()[0]}", flush=True)
    print(f"allocations: {len(numbers)} of {n}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
