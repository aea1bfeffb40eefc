"""Traces by OTLP/HTTP, at a real receiver: complete, linked; and nothing changes when nobody takes them."""
import hashlib
import json
import pathlib
import random
import ssl
import statistics
import threading
import time

import pytest
from api_server import free_port, wait_until
from authority import Authority
from receiver import Receiver

SIM = 'devices = { "sim" }\n sim_step_us = 2000\n'
CHAT = {"model": "m", "messages": [{"role": "user", "content": "tell me of the sea " * 40}], "max_tokens": 20,
        "ignore_eos": True}


def traces_section(url, more=""):
    return f'traces {{\n endpoint = "{url}"\n attributes = {{ "deployment.environment.name=test" }}\n {more}\n}}'


@pytest.fixture
def receiver():
    r = Receiver()
    yield r
    r.close()
    assert not r.bad


def parent(sampled=True):
    """A client's traceparent, its trace and its span."""
    trace, span = f"{random.getrandbits(128) | 1:032x}", f"{random.getrandbits(64) | 1:016x}"
    return {"traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}"}, trace, span


def ask(server, body=None, headers=None, path="/v1/chat/completions"):
    """Status, headers (names in lower case), body; the trace that the server says."""
    status, h, data = server.request("POST", path, {**CHAT, **(body or {})}, headers)
    h = {k.lower(): v for k, v in h.items()}
    return status, h, data, h.get("traceparent", "--").split("-")[1]


def by_name(spans):
    names = {}
    for s in spans:
        names.setdefault(s.name, []).append(s)
    return names


def check_tree(spans, root_name, parent_id=""):
    """One root, every parent there, every child within its parent; returns the spans by name."""
    ids = {s.id: s for s in spans}
    assert len(ids) == len(spans) and "0" * 16 not in ids, spans
    roots = [s for s in spans if s.parent not in ids]
    assert len(roots) == 1, spans
    root = roots[0]
    assert root.name == root_name and root.kind == 2 and root.parent == parent_id and root.flags == 0x301
    for s in spans:
        assert s.start <= s.end and s.start > 1.7e18 and s.flags & 1, s
        assert s.scope[0] == "llmd" and s.resource["service.name"] == "llmd"
        assert s.resource["deployment.environment.name"] == "test" and len(s.resource["service.instance.id"]) == 36
        if s is not root:
            above = ids[s.parent]
            assert s.kind == 1 and above.start <= s.start and s.end <= above.end, (s, above)
    return by_name(spans)


def check_stages(names, root_name):
    """The stages of one prompt follow each other without a hole."""
    root, = names[root_name]
    edge, = names["edge"]
    queue, = names["queue"]
    prefill, = names["prefill"]
    decode, = names["decode"]
    reply, = names["reply"]
    assert edge.start == root.start and edge.end == queue.start and queue.end == prefill.start
    assert prefill.end == decode.start and decode.end == reply.start and reply.end == root.end
    for s in (edge, queue, prefill, decode, reply):
        assert s.parent == root.id
    assert names["prefill chunk"][0].parent == prefill.id
    for chunk in names["prefill chunk"]:
        assert chunk.parent in (prefill.id, decode.id) and chunk.attributes["llmd.rows"] >= 1
    return root, queue, prefill, decode


@pytest.mark.parametrize("body", [{}, {"stream": True}, {"n": 3}, {"n": 3, "stream": True}])
def test_a_request(serve, receiver, body):
    s = serve(model=SIM + "max_num_batched_tokens = 64", top=traces_section(receiver.url))
    status, headers, data, trace = ask(s, body)
    assert status == 200
    spans = receiver.wait_trace(trace)
    names = check_tree(spans, "chat m")
    root, queue, prefill, decode = check_stages(names, "chat m")
    assert headers["traceparent"] == f"00-{trace}-{root.id}-01"
    n = body.get("n", 1)
    a = root.attributes
    assert a["gen_ai.operation.name"] == "chat" and a["gen_ai.provider.name"] == "llmd"
    assert a["gen_ai.request.model"] == a["gen_ai.response.model"] == "m"
    assert a["gen_ai.usage.output_tokens"] == 20 * n and a["gen_ai.request.choice.count"] == n
    assert a["gen_ai.response.finish_reasons"] == ["length"] and a["http.response.status_code"] == 200
    assert a["gen_ai.request.stream"] is bool(body.get("stream")) and a["gen_ai.request.max_tokens"] == 20
    assert a["http.route"] == "/v1/chat/completions" and a["llmd.worker"] == 0
    assert a["llmd.request.id"] == headers["x-request-id"]
    assert a["gen_ai.response.id"] == "chatcmpl-" + headers["x-request-id"]
    assert 0 < a["gen_ai.response.time_to_first_chunk"] <= root.ms / 1e3
    assert root.status.code == 0 and "error.type" not in a
    chunks = names["prefill chunk"]
    assert len(chunks) >= 2 and sum(c.attributes["llmd.rows"] for c in chunks) >= a["gen_ai.usage.input_tokens"]
    assert queue.attributes["llmd.route.reason"] and "worker 0" in queue.attributes["llmd.route.explanation"]
    assert decode.events and all(e[0] == "slow token" and e[2]["llmd.gap.cause"] for e in decode.events)
    parts = sum(v for k, v in decode.attributes.items() if k.startswith("llmd.decode."))
    assert n > 1 or abs(parts - decode.ms / 1e3) < 0.01, (parts, decode)


def test_several_prompts(serve, receiver):
    s = serve(model=SIM, top=traces_section(receiver.url))
    status, _, _, trace = ask(s, {"prompt": ["one two three", "four five six", "seven"]}, path="/v1/completions")
    assert status == 200
    names = check_tree(receiver.wait_trace(trace), "text_completion m")
    for stage in ("queue", "prefill", "decode"):
        assert sorted(x.attributes["llmd.prompt.index"] for x in names[stage]) == [0, 1, 2]


def test_the_clients_trace(serve, receiver):
    s = serve(model=SIM, top=traces_section(receiver.url, "sample_one_in = 0"))
    headers, trace, span = parent()
    status, h, _, named = ask(s, headers=headers)
    assert status == 200 and named == trace
    check_tree(receiver.wait_trace(trace), "chat m", span)
    unsampled, other, _ = parent(sampled=False)
    status, h, _, named = ask(s, headers=unsampled)
    assert named == other and h["traceparent"].endswith("-00")
    assert "traceparent" not in ask(s)[1]
    headers, last, _ = parent()
    ask(s, headers=headers)
    receiver.wait_trace(last)
    assert set(receiver.traces()) == {trace, last}


def test_one_in(serve, receiver):
    s = serve(model=SIM, top=traces_section(receiver.url, "sample_one_in = 4"))
    traced = [ask(s, {"max_tokens": 1})[3] for _ in range(200)]
    traced = [t for t in traced if t]
    assert 15 < len(traced) < 100, len(traced)
    for t in traced:
        receiver.wait_trace(t)
    assert set(receiver.traces()) == set(traced)


def test_queued(serve, receiver):
    s = serve(model=SIM + "max_num_seqs = 1", top=traces_section(receiver.url))
    first = threading.Thread(target=ask, args=(s, {"max_tokens": 300}))
    first.start()
    s.wait_begun()
    _, _, _, trace = ask(s)
    first.join()
    names = check_tree(receiver.wait_trace(trace), "chat m")
    root, queue, _, _ = check_stages(names, "chat m")
    assert queue.ms > 50 and queue.attributes["llmd.route.decisions"] >= 2, queue


def test_migrated(serve, receiver):
    s = serve(model=SIM + "sim_workers = 2", top=traces_section(receiver.url), faults="step-fails worker=0 at=30 times=1")
    found = {}
    for _ in range(200):
        _, _, _, trace = ask(s, {"max_tokens": 30})
        found = by_name(receiver.wait_trace(trace))
        if "migration" in found:
            break
    names = check_tree(receiver.wait_trace(trace), "chat m")
    root, _, _, decode = check_stages(names, "chat m")
    m, = names["migration"]
    assert m.attributes["llmd.migration.from_worker"] == 0 and m.attributes["llmd.migration.to_worker"] == 1
    assert m.attributes["llmd.migration.reason"] and root.attributes["llmd.migrations"] == 1
    assert m.parent in (decode.id, names["prefill"][0].id)


def test_refused(serve, receiver):
    """401, 404, 400, 503: a span with the reason, whatever the request got to."""
    s = serve(model=SIM + "max_num_seqs = 1\n max_queue = 1", top=traces_section(receiver.url))
    for body, status, kind in (({"model": "no"}, 404, "NotFoundError"), ({"temperature": -1}, 400, "BadRequestError")):
        got, _, _, trace = ask(s, body)
        assert got == status
        root, = by_name(receiver.wait_trace(trace))["chat m" if "model" not in body else "chat"]
        assert root.attributes["http.response.status_code"] == status and root.attributes["error.type"] == kind
        assert root.status.code == 0  # the client's fault, not the server's
    running = [threading.Thread(target=ask, args=(s, {"max_tokens": 400})) for _ in range(2)]
    running[0].start()
    s.wait_begun()
    running[1].start()
    wait_until(lambda: s.metric("vllm:num_requests_waiting") >= 1)
    got, h, data, trace = ask(s)
    assert got == 503, data
    names = check_tree(receiver.wait_trace(trace), "chat m")
    root = names["chat m"][0]
    assert root.status.code == 2 and root.attributes["error.type"] == "ServiceUnavailableError", root.attributes
    assert root.status.message and "decode" not in names
    for t in running:
        t.join()


def test_strangers_are_not_traced(serve, receiver):
    """Who has no key puts nothing into the queue, whatever its traceparent says."""
    digest = hashlib.sha256(b"sk-known").hexdigest()
    s = serve(model=SIM, top=traces_section(receiver.url) + f'\nkey "k" {{ sha256 = "{digest}" }}')
    stranger, refused, _ = parent()
    assert ask(s, headers=stranger)[0] == 401
    headers, trace, span = parent()
    assert ask(s, headers={**headers, "Authorization": "Bearer sk-known"})[0] == 200
    check_tree(receiver.wait_trace(trace), "chat m", span)
    assert refused not in receiver.traces()


def stream_gaps(server, n=150):
    """Milliseconds between the events of a stream, and its text."""
    import socket
    body = json.dumps({**CHAT, "stream": True, "max_tokens": n, "seed": 7, "temperature": 0}).encode()
    gaps, text, last, data = [], "", None, b""
    with socket.create_connection(("127.0.0.1", server.port), 60) as c:
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while b"data: [DONE]" not in data:
            more = c.recv(65536)
            assert more, data
            now = time.monotonic()
            if last:
                gaps.append((now - last) * 1e3)
            last, data = now, data + more
    for line in data.decode().splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                text += choice["delta"].get("content") or ""
    return gaps, text


def resident_kb(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def flood(server, n, body=None):
    """n requests by 8 threads."""
    left = list(range(n))

    def some():
        while left:
            try:
                left.pop()
            except IndexError:
                return
            assert ask(server, {"max_tokens": 4, **(body or {})})[0] == 200
    threads = [threading.Thread(target=some) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@pytest.mark.parametrize("how", ["down", "hang", "refuse", "busy"])
def test_nobody_takes_them(serve, how):
    """Gaps, texts and memory are what they are without traces; what is lost is counted; the end is not delayed."""
    r = None if how == "down" else Receiver(how)
    url = r.url if r else f"http://127.0.0.1:{free_port()}"
    plain = serve(model=SIM)
    s = serve(model=SIM, top=traces_section(url, "queue_kb = 64\n timeout_s = 2"))
    flood(plain, 100)
    flood(s, 100)
    before = resident_kb(s)
    flood(s, 1500)
    grown = resident_kb(s) - before
    gaps, gaps_plain = [], []
    for _ in range(3):
        some, text = stream_gaps(s)
        others, text_plain = stream_gaps(plain)
        assert text == text_plain
        gaps, gaps_plain = gaps + some, gaps_plain + others
    assert statistics.median(gaps) < statistics.median(gaps_plain) + 2, (gaps, gaps_plain)
    assert grown < 16 << 10, grown
    wait_until(lambda: s.metric("llmd_trace_spans_dropped_total") > 1000)
    if how != "refuse":
        assert s.metric("llmd_trace_spans_total") == 0
    began = time.monotonic()
    s.stop()
    assert time.monotonic() - began < 30
    log = s.log_path.read_text()
    assert log.count("the collector does not take spans") <= 2, log
    if r:
        r.close()


def test_it_comes_back(serve):
    """Busy at first, then there: what had to wait arrives; Retry-After is heeded."""
    r = Receiver("busy")
    s = serve(model=SIM, top=traces_section(r.url))
    traces = [ask(s)[3] for _ in range(3)]
    wait_until(lambda: r.posts >= 2)
    r.how = "take"
    for t in traces:
        check_tree(r.wait_trace(t), "chat m")
    wait_until(lambda: "the collector takes spans again" in s.log_path.read_text())
    assert s.metric("llmd_trace_spans_dropped_total") == 0
    r.how = "partial"
    ask(s)
    wait_until(lambda: s.metric("llmd_trace_spans_dropped_total") == 1)
    assert "one of them is too old" in s.log_path.read_text()
    r.close()


def test_what_waits_is_sent_at_the_end(serve, receiver):
    s = serve(model=SIM, top=traces_section(receiver.url))
    traces = [ask(s)[3] for _ in range(5)]
    s.stop()
    for t in traces:
        check_tree(receiver.wait_trace(t), "chat m")


def test_reload(serve, receiver):
    """Another collector, another ratio, headers that changed, off: without a new start."""
    s = serve(model=SIM)
    text = s.config.read_text()
    assert "traceparent" not in ask(s)[1]
    headers = s.config.parent / "headers"
    headers.write_text("# of the collector\nX-Scope: first\n\nAuthorization: Bearer secret\n")

    def reload(section):
        s.config.write_text(text + section)
        number = s.admin("GET", "reload")[1]["number"]
        assert s.admin("POST", "reload", {})[0] == 202
        state = wait_until(lambda: (r := s.admin("GET", "reload")[1])["number"] > number and
                           r["state"] in ("done", "failed") and r)
        return state

    on = traces_section(receiver.url, 'headers_file = "headers"')
    assert reload(on)["state"] == "done"
    receiver.wait_trace(ask(s)[3])
    assert receiver.headers[-1]["X-Scope"] == "first" and receiver.headers[-1]["Authorization"] == "Bearer secret"
    headers.write_text("X-Scope: second")
    assert reload(on)["state"] == "done"
    receiver.wait_trace(ask(s)[3])
    assert receiver.headers[-1]["X-Scope"] == "second"
    headers.write_text("no header at all")
    state = reload(on)
    assert state["state"] == "failed" and "headers_file" in state["message"] and "at all" not in state["message"]
    assert reload("")["state"] == "done"
    assert "traceparent" not in ask(s)[1]
    assert "secret" not in json.dumps(s.admin("GET", "config")[1]) + s.log_path.read_text()


def test_tls(serve, tmp_path):
    """A collector's certificate is verified."""
    authority = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue())
    r = Receiver(tls=context)
    s = serve(model=SIM, top=traces_section(r.url, f'ca_file = "{authority.ca}"'))
    check_tree(r.wait_trace(ask(s)[3]), "chat m")
    s.stop()
    posts = r.posts
    s = serve(model=SIM, top=traces_section(r.url))
    ask(s)
    wait_until(lambda: "the collector does not take spans" in s.log_path.read_text())
    assert r.posts == posts and s.metric("llmd_trace_spans_total") == 0
    r.close()
