"""The one framing rule, seen from a raw socket: each way to smuggle a request by name. Whatever two readers
could read differently gets one 400 with an error object and a close, and nothing behind it is answered. Over TLS
as well, where a byte may come as a record."""
import json
import re
import socket
import threading
import time

import pytest

from authority import Authority
from conftest import PATIENCE, Server

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"model": "sim", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}).encode()

BAD = {
    "content-length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "content-length twice, different": HEAD + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "content-length list": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "content-length with a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "content-length negative": HEAD + b"Content-Length: -1\r\n\r\n",
    "content-length hexadecimal": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "content-length no number": HEAD + b"Content-Length: five\r\n\r\nhello",
    "content-length too large": HEAD + b"Content-Length: 18446744073709551616\r\n\r\n",
    "content-length empty": HEAD + b"Content-Length: \r\n\r\n",
    "content-length and transfer-encoding": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding and content-length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "transfer-encoding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "transfer-encoding gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding behind a control character": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding folded": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF ends the request line": b"GET /health HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF ends a header": b"GET /health HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare LF ends the head": b"GET /health HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR in a header": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 5\r\n\r\n",
    "obs-fold": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "NUL in a value": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET /health HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n",
    "NUL in the target": b"GET /health\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "blank before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "tab before the colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "blank before the first header": b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\nHost: x\r\nX\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "host twice": b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "host bad": b"GET /health HTTP/1.1\r\nHost: x y\r\n\r\n",
    "host with a user": b"GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "two blanks in the request line": b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "chunk size 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size with a blank": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunk size that overflows": CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk ends with bare LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "chunk size ends with bare LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "chunk extension ends with bare LF": CHUNKED + b"5;a\nhello\r\n0\r\n\r\n",
    "chunk longer than it says": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "trailer folded": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n",
}


@pytest.fixture(scope="module", params=["http", "https"])
def server(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("raw")
    authority = Authority(folder / "ca") if request.param == "https" else None
    s = Server(folder, model='devices = { "sim" }', name="sim", authority=authority)
    yield s.wait_ready()
    s.stop()


def talk(server, *pieces):
    """Sends the pieces, reads to the server's close."""
    with server.connect() as s:
        try:
            for piece in pieces:
                s.sendall(piece)
        except OSError:
            pass
        answer = b""
        while data := s.recv(65536):
            answer += data
        return answer


def statuses(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def check_refused(answer, status=400):
    assert statuses(answer) == [status], answer[:400]
    assert b"\r\nConnection: close\r\n" in answer
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert body["error"]["code"] == status and body["error"]["message"]


@pytest.mark.parametrize("name", BAD)
def test_is_refused(server, name):
    check_refused(talk(server, BAD[name] + SMUGGLED))
    check_refused(talk(server, *(bytes([b]) for b in BAD[name]), SMUGGLED))  # byte by byte


@pytest.mark.parametrize("name", ["obs-fold", "content-length twice", "chunk size 0x", "NUL in a value"])
def test_is_refused_behind_good_requests(server, name):
    """In order: the good ones get their answers first."""
    post = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    answer = talk(server, SMUGGLED + post + BAD[name] + SMUGGLED)
    assert statuses(answer) == [200, 200, 400], answer
    assert answer.index(b"chat.completion") < answer.index(b"HTTP/1.1 400")


def test_limits_of_the_head(server):
    start = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert statuses(talk(server, start + b"X: " + b"y" * 15000 + b"\r\n\r\n")) == [200]
    check_refused(talk(server, start + b"X: " + b"y" * 17000 + b"\r\n\r\n"), 431)
    check_refused(talk(server, start + b"X: y\r\n" * 101 + b"\r\n"), 431)
    check_refused(talk(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505)


HEAD_BYTES, ENTRY_BYTES = 16 * 1024, 64  # as core/edge/head_scan.h has them
LARGEST = {  # heads up to a field that fills them: arguments and cookies, fields
    "one field": (0, 0, []),
    "fields": (0, 0, [b"X-%d: y\r\n" % i for i in range(94)]),
    "long fields": (0, 0, [b"X-%d: %s\r\n" % (i, b"y" * 90) for i in range(60)]),
    "a long cookie": (0, 1, [b"Cookie: a=%s\r\n" % (b"c" * 5900)]),
    "cookies": (0, 80, [b"Cookie: %s\r\n" % b";".join([b"a=b"] * 80)]),
    "arguments": (90, 0, []),
    "some of all": (20, 20, [b"Cookie: %s\r\n" % b",".join([b"a=b"] * 20)] + [b"X-%d: y\r\n" % i for i in range(40)]),
}


def largest_head(name, more=0):
    """A head of the largest size that passes, of a POST with a body of 30,000 bytes."""
    n_arguments, n_cookies, fields = LARGEST[name]
    target = b"/v1/chat/completions" + b"?a=b" * (n_arguments > 0) + b"&a=b" * (n_arguments - 1)
    fields = [b"Host: x\r\n", b"Content-Type: application/json\r\n", b"Content-Length: 30000\r\n",
              b"X-Request-Id: %s\r\n" % (b"i" * 128),
              b"traceparent: 00-%s-%s-01\r\n" % (b"a" * 32, b"b" * 16), *fields]
    head = b"POST " + target + b" HTTP/1.1\r\n" + b"".join(fields)
    entries = n_arguments + max(n_cookies - 1, 0) + len(fields) + 1
    copied = sum(len(f) - len(b"Cookie:\r\n") for f in fields if f.startswith(b"Cookie"))
    room = HEAD_BYTES + more - len(head) - ENTRY_BYTES * entries - copied - len(b"X: \r\n\r\n")
    return head + b"X: " + b"y" * room + b"\r\n\r\n"


@pytest.mark.parametrize("name", LARGEST)
def test_what_passes_fits(server, name):
    """The limits are ours alone: no head that passes is too large for libmicrohttpd, whatever is behind it."""
    body = BODY[:-1] + b', "x": "%s"}' % (b"y" * (30000 - len(BODY) - 9))
    assert len(body) == 30000
    whole = largest_head(name) + body
    close = SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert statuses(talk(server, whole * 3 + close)) == [200] * 4
    assert statuses(talk(server, largest_head(name)[:9000], largest_head(name)[9000:] + body[:100], body[100:] + close)) == [200] * 2
    assert statuses(talk(server, largest_head(name).replace(b"/chat/", b"/none/") + body + close)) == [404, 200]
    check_refused(talk(server, largest_head(name).replace(b"30000", b"9" * 14, 1)[:-13] + b"\r\n\r\n" + body), 413)
    check_refused(talk(server, largest_head(name, more=1) + body), 431)


def test_chunks_however_they_come(server):
    half = len(BODY) // 2
    chunks = b"%x;ext=1\r\n%s\r\n%X\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (
        half, BODY[:half], len(BODY) - half, BODY[half:])
    whole = CHUNKED + chunks + b"\r\n" + SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert statuses(talk(server, whole)) == [200, 200]
    assert statuses(talk(server, *(bytes([b]) for b in whole))) == [200, 200]


def test_a_large_upload_that_is_refused_is_answered(server):
    """413 is read by a client that was still sending."""
    answer = talk(server, HEAD + b"Content-Length: 200000000\r\n\r\n", b"x" * 800000)
    assert statuses(answer) == [413]


PROXY = b"\r\n\r\n\0\r\nQUIT\n"


def by_ip4(client):
    return PROXY + b"\x21\x11\0\x0c" + socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + b"\x12\x34\0\x50"


def by_ip6(client):
    return (PROXY + b"\x21\x21\0\x24" + socket.inet_pton(socket.AF_INET6, client) + bytes(16) + b"\x12\x34\0\x50")


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """127.0.0.2 is a load balancer; 127.0.0.3 is nobody."""
    s = Server(tmp_path_factory.mktemp("gated"), model='devices = { "sim" }', name="sim",
               top='allow = { "127.0.0.1", "10.0.0.0/8", "2001:db8::/32" }\n'
                   'proxy_protocol_from = { "127.0.0.2" }\nheader_timeout_s = 4')
    yield s.wait_ready()
    s.stop()


def ask_from(server, source, *pieces):
    """What the server answers a connection from that address; b"" when it closes without a word."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE, (source, 0)) as s:
        answer = b""
        try:
            for piece in pieces:
                s.sendall(piece)
            while data := s.recv(65536):
                answer += data
        except ConnectionError:
            pass
        return answer


GET = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_only_allowed_addresses_are_served(gated):
    assert statuses(ask_from(gated, "127.0.0.1", GET)) == [200]
    assert ask_from(gated, "127.0.0.3", GET) == b""
    gated.wait_metric('llmd_edge_connections_refused_total{reason="allow"}', 1)


def test_a_load_balancer_names_its_client(gated):
    for header in by_ip4("10.1.2.3"), by_ip6("2001:db8::7"), by_ip6("::ffff:10.1.2.3"):
        assert statuses(ask_from(gated, "127.0.0.2", header + GET)) == [200]
        assert statuses(ask_from(gated, "127.0.0.2", *(bytes([b]) for b in header + GET))) == [200]
    before = gated.metric('llmd_edge_connections_refused_total{reason="allow"}')
    for header in by_ip4("11.1.2.3"), by_ip6("2001:db9::7"), PROXY + b"\x20\0\0\0":  # the last: 127.0.0.2 itself
        assert ask_from(gated, "127.0.0.2", header + GET) == b""
    gated.wait_metric('llmd_edge_connections_refused_total{reason="allow"}', before + 3)


def test_proxy_headers_are_required_of_load_balancers_and_of_nobody_else(gated):
    before = gated.metric('llmd_edge_connections_refused_total{reason="proxy_header"}')
    assert ask_from(gated, "127.0.0.2", GET) == b""
    assert ask_from(gated, "127.0.0.2", b"PROXY TCP4 10.1.2.3 127.0.0.1 1 2\r\n" + GET) == b""
    assert ask_from(gated, "127.0.0.2", by_ip4("10.1.2.3")[:20]) == b""  # never the rest: the deadline
    gated.wait_metric('llmd_edge_connections_refused_total{reason="proxy_header"}', before + 2)
    check_refused(ask_from(gated, "127.0.0.1", by_ip4("10.1.2.3") + GET))


def test_unfinished_heads_end_and_nobody_else_notices(make_server):
    """200 connections that never finish their head, at whatever pace."""
    server = make_server(model='devices = { "sim" }', name="sim", top="header_timeout_s = 2")
    idle = [server.connect() for _ in range(200)]
    stop = threading.Event()

    def trickle():
        while not stop.is_set():
            for s in idle[100:]:
                try:
                    s.send(b"X")
                except OSError:
                    pass
            stop.wait(0.2)

    for s in idle[::2]:
        s.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX: ")
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        start, took = time.monotonic(), []
        while time.monotonic() - start < 1.5:
            before = time.monotonic()
            assert server.get("/health")[0] == 200
            took.append(time.monotonic() - before)
        assert min(took) < 1  # a busy machine delays some, those who wait for others all
        for s in idle:
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    finally:
        stop.set()
        thread.join()
        for s in idle:
            s.close()
    server.wait_metric("llmd_edge_connections", 1)
