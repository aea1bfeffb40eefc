#!/usr/bin/env python3
"""edge_requests.py [N [DIRECT_ONLY]] - N mutated HTTP requests (default 10,000), the same ones every time: directly,
behind HAProxy and behind nginx, which pass on what they can. The server is the one under AddressSanitizer.

Directly: it answers in HTTP or closes, never with another 5xx than 501, 503 and 505. Each way to smuggle of
tests/api/test_raw_http.py, by name, gets one 400 and nothing more. Behind a proxy: every request that the proxy
sends carries a name that the proxy made; the server's log has no handled request without one, none twice, and all
that the proxy has an answer of; each answer that comes through carries the name of its own request. At the end the
server still answers, and stops without a report. Last line: "N passed, M failed"."""
import asyncio
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("LLMD", str(ROOT / "build/asan/llmd"))
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import PATIENCE, Server, free_port  # noqa: E402
from test_raw_http import BAD, BODY, CHUNKED, HEAD, SMUGGLED  # noqa: E402

AT_ONCE = 32
SILENCE_S = 0.25  # after the last byte of an answer; before the first one, twice
MAY_FAIL = {501, 503, 505}
REFUSED = {400, 413, 431, 505}  # before a handler: those have no name
GOOD = [
    SMUGGLED,
    b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\n\r\n",
    b"GET /v1/models?a=b HTTP/1.1\r\nHost: localhost:80\r\nAccept: */*\r\nX-Request-Id: mine\r\nCookie: a=b\r\n\r\n",
    b"GET /no/such%20path HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"DELETE /v1/models HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    CHUNKED + b"%x;a=b\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY),
    CHUNKED + b"10\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (BODY[:16], len(BODY) - 16, BODY[16:]),
    b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n" + b'{"model":"sim","prompt":"Hello"}',
]
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"\xff", b"\x0b",
          b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length : 3\r\n", b"content-length:+1\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
          b"Transfer-Encoding: gzip, chunked\r\n", b"Host: y\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
          b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Authorization: Bearer x\r\n",
          b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.9", b"GET", b"POST", b"CONNECT x:1", b"*", b"http://x/health",
          b"99999999999999999999", b"-1", b"0x10", b"fffffffffffffff0", b"A" * 5000, b"%00", b"..", SMUGGLED]


def mutated(rng):
    """A request with one to six changes, or two requests in a row."""
    bad = list(BAD.values())
    data = bytearray(rng.choice(GOOD if rng.random() < 0.8 else bad))
    if rng.random() < 0.2:
        data += rng.choice(GOOD + bad)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 6])):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(8)
        if how == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at:at + rng.choice([1, 1, 2, 10])]
        elif how in (2, 3):
            data[at:at] = rng.choice(PIECES)
        elif how == 4:  # a line twice, somewhere
            lines = bytes(data).split(b"\r\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            data = bytearray(b"\r\n".join(lines))
        elif how == 5:  # in front of a line
            start = data.find(b"\r\n", at)
            data[start + 2:start + 2] = rng.choice(PIECES)
        elif how == 6:
            number = re.search(rb"\d+", bytes(data[at:]))
            if number:
                data[at + number.start():at + number.end()] = rng.choice([b"0", b"1", b"65536", b"4294967296", b"007"])
        else:
            end = min(len(data), at + rng.randrange(1, 30))
            data[at:end] = data[at:end][::-1]
    return bytes(data)


async def talk(port, data, rng, silence=SILENCE_S):
    """The answer, until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        cut = rng.randrange(len(data) + 1) if data and rng.random() < 0.3 else len(data)
        writer.write(data[:cut])
        if cut < len(data):
            await asyncio.sleep(0.002)
            writer.write(data[cut:])
        while piece := await asyncio.wait_for(reader.read(65536), silence if answer else 2 * silence):
            answer += piece
    except (OSError, asyncio.TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return answer


async def talk_all(port, requests, seed, silence=SILENCE_S):
    """One answer for each, in their order."""
    answers = [b""] * len(requests)
    order = iter(range(len(requests)))

    async def work(number):
        rng = random.Random(seed * 1000 + number)
        for i in order:
            answers[i] = await talk(port, requests[i], rng, silence)

    await asyncio.gather(*(work(i) for i in range(AT_ONCE)))
    return answers


def statuses(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


class Result:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, holds, what, *details):
        if holds:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= 30:
            print("FAILED ", what, *details)


def still_answers(server, result, name):
    try:
        good = server.get("/health")[0] == 200
    except OSError:
        good = False
    result.check(good and server.process.poll() is None, f"{name}: the server answers")


class Log:
    """What the server's log says of requests that came since the last look."""
    LINE = re.compile(r"edge: (?:request|reply) id=(\S+) .*?status=(\d+)")

    def __init__(self, server):
        self.path, self.at = server.log_path, 0

    def requests(self):
        size, text = -1, b""
        while len(text) != size:  # until it says no more
            size = len(text)
            time.sleep(1)
            text = self.path.read_bytes()
        new, self.at = text[self.at:].decode(errors="replace"), len(text)
        found = filter(None, map(self.LINE.search, new.splitlines()))
        return [(m[1].removeprefix("chatcmpl-"), int(m[2])) for m in found]


def directly(server, requests, result):
    for (name, data), answer in zip(BAD.items(), asyncio.run(talk_all(
            server.port, [d + SMUGGLED for d in BAD.values()], 1, PATIENCE))):  # each ends with a close
        result.check(statuses(answer) == [400], f"directly: {name}", answer[:300])
    for data, answer in zip(requests, asyncio.run(talk_all(server.port, requests, 2))):
        bad = [s for s in statuses(answer) if s >= 500 and s not in MAY_FAIL]
        result.check(not bad and (not answer or answer.startswith(b"HTTP/1.1 ")), "directly:", data, answer[:300])
    still_answers(server, result, "directly")


class HAProxy:
    """As permissive as it can be told to be."""
    name = "HAProxy"
    CONFIG = """global
    log stdout format raw local0
defaults
    mode http
    log global
    retries 0
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-request 2s
frontend in
    bind 127.0.0.1:{port}
    option accept-invalid-http-request
    unique-id-format drill-%[uuid()]
    http-request set-header X-Request-Id %[unique-id]
    http-response set-header X-Sent-Id %[unique-id]
    log-format "sent %ID %ST %ts%tsc"
    default_backend out
backend out
    http-reuse always
    server llmd 127.0.0.1:{to} pool-max-conn 8
"""

    def __init__(self, folder, to):
        self.port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(self.CONFIG.format(port=self.port, to=to))
        self.log_path = folder / "haproxy.log"
        self.process = subprocess.Popen(["haproxy", "-f", config], stdout=open(self.log_path, "w"),
                                        stderr=subprocess.DEVNULL)

    def sent(self):
        """Names of what it got an answer of from the server: its own refusals have another state."""
        return {m[1] for m in re.finditer(r"sent (drill-\S+) (\d+) (--\S*)", self.log_path.read_text()) if m[2] != "-1"}


class Nginx:
    name = "nginx"
    CONFIG = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    log_format drill 'sent drill-$request_id $status $upstream_status';
    access_log {folder}/nginx.log drill;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream llmd {{ server 127.0.0.1:{to}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        ignore_invalid_headers off;
        underscores_in_headers on;
        client_header_timeout 2s;
        client_body_timeout 2s;
        location / {{
            proxy_pass http://llmd;
            proxy_http_version 1.1;
            proxy_next_upstream off;
            proxy_request_buffering off;
            proxy_set_header Connection "";
            proxy_set_header X-Request-Id drill-$request_id;
            add_header X-Sent-Id drill-$request_id always;
        }}
    }}
}}
"""

    def __init__(self, folder, to):
        self.port = free_port()
        config = folder / "nginx.conf"
        config.write_text(self.CONFIG.format(folder=folder, port=self.port, to=to))
        self.log_path = folder / "nginx.log"
        self.process = subprocess.Popen(["nginx", "-p", folder, "-c", config], stderr=subprocess.DEVNULL)

    def sent(self):
        return {m[1] for m in re.finditer(r"sent (drill-\S+) (\d+) (\d+)", self.log_path.read_text())
                if m[3] not in ("502", "504")}


def behind(proxy, server, requests, result, log):
    """See above."""
    try:
        until = time.monotonic() + 10
        while not asyncio.run(answers_health(proxy.port)) and time.monotonic() < until:
            time.sleep(0.1)
        log.requests()
        probes = proxy.sent()
        named = [d + SMUGGLED for d in BAD.values()]
        answers = asyncio.run(talk_all(proxy.port, named + requests, 3))
    finally:
        proxy.process.terminate()
        proxy.process.wait(10)
    for data, answer in zip(named + requests, answers):
        mixed = [pair for pair in ids(answer) if pair[0] != pair[1] and pair[1].startswith("drill-")]
        result.check(not mixed, f"behind {proxy.name}: the answer to another request:", data, answer[:600])
    handled = log.requests()
    ours = [i for i, _ in handled if i.startswith("drill-")]
    alien = [(i, status) for i, status in handled if not i.startswith("drill-") and status not in REFUSED]
    result.check(not alien, f"behind {proxy.name}: handled, but never sent:", alien[:10])
    result.check(len(ours) == len(set(ours)), f"behind {proxy.name}: handled twice")
    bad = [(i, status) for i, status in handled if status >= 500 and status not in MAY_FAIL]
    result.check(not bad, f"behind {proxy.name}: status", bad[:10])
    answered = proxy.sent() - probes
    refused = sum(1 for i, status in handled if not i.startswith("drill-") and status in REFUSED)
    missing = answered - set(ours)
    result.check(len(ours) > len(requests) // 20 and len(missing) <= refused,
                 f"behind {proxy.name}: {len(answered)} answered, {len(ours)} handled, {refused} refused before a handler,"
                 f" {len(missing)} missing, like", sorted(missing)[:3])
    print(f"behind {proxy.name}: {len(ours)} handled, {len(answered)} answered through it, {refused} refused unread")
    still_answers(server, result, f"behind {proxy.name}")


async def answers_health(port):
    try:
        return b"200" in (await talk(port, GOOD[0], random.Random(1)))[:20]
    except OSError:
        return False


def ids(answer):
    """(X-Request-Id, X-Sent-Id) of each answer that has both."""
    for head in re.findall(rb"HTTP/1\.1 \d{3} .*?\r\n\r\n", answer, re.S):
        a, b = (re.search(name + rb": (\S+)", head, re.I) for name in (b"X-Request-Id", b"X-Sent-Id"))
        status = int(head[9:12])
        if a and b and status not in REFUSED:
            yield a[1].decode(errors="replace"), b[1].decode(errors="replace")


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    direct_only = len(sys.argv) > 2
    head_s = 20 if direct_only else 2  # proxies wait for what their clients did not send
    rng = random.Random(7)
    requests = [mutated(rng) for _ in range(n)]
    result = Result()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, model='devices = { "sim" }\n sim_step_us = 100\n', name="sim",
                        top=f'log_level = "debug"\nheader_timeout_s = {head_s}\nbody_timeout_s = 2\n').wait_ready()
        log = Log(server)
        directly(server, requests, result)
        log.requests()
        for proxy in [] if direct_only else [HAProxy, Nginx]:
            behind(proxy(folder, server.port), server, requests, result, log)
        try:
            server.stop(60)
            result.check(True, "")
        except AssertionError as e:
            result.check(False, "the server's end:", str(e)[-3000:])
    print(f"{result.passed} passed, {result.failed} failed")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
