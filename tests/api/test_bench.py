"""`llmd bench` against a real server (simulated device), and against one that misbehaves on demand."""
import collections
import csv
import http.server
import io
import json
import signal
import ssl
import subprocess
import threading
import time
import xml.etree.ElementTree

import pytest

from conftest import LLMD, PATIENCE, Server, one_of_some, wait_until


def bench(*args, code=0, timeout=60):
    r = subprocess.run([LLMD, "bench", *map(str, args)], capture_output=True, text=True, timeout=timeout)
    assert r.returncode == code, r.stdout + r.stderr
    return r


def bench_json(*args, **kw):
    return json.loads(bench(*args, "--json", **kw).stdout)


def event(v):
    return b"data: " + (v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n\n"


def piece(text):
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


class Fake(http.server.BaseHTTPRequestHandler):
    """Answers each completion as the server's list of behaviours says, the last one for ever."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send_whole(self, status, v):
        body = json.dumps(v).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_whole(200, {"data": [{"id": "fake"}]})

    def send_chunk(self, data):
        self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = self.server.seen
        seen.append((self.path, dict(self.headers), body, self.client_address, time.monotonic()))
        if not body.get("stream"):
            n = sum(len(m["content"].split()) for m in body.get("messages", []))
            return self.send_whole(200, {"choices": [{"message": {"content": "x"}}],
                                         "usage": {"prompt_tokens": n + 9, "completion_tokens": 1}})
        with self.server.lock:
            plan = self.server.plan
            what = plan.popleft() if len(plan) > 1 else plan[0]
        if isinstance(what, int):
            return self.send_whole(what, {"error": {"message": f"no: {what}"}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send_chunk(piece("a"))
        if what == "hang":
            self.server.over.wait(PATIENCE)
        if what in ("break", "hang"):
            self.close_connection = True
            return
        if what == "error":
            self.send_chunk(event({"error": {"message": "worker lost", "code": 503}}))
        elif what == "garbage":
            self.send_chunk(event(b"{nonsense"))
        else:
            self.send_chunk(piece(" b") + piece(" c"))
            if what != "no usage":
                n = sum(len(m["content"].split()) for m in body["messages"]) + 9
                self.send_chunk(event({"choices": [], "usage": {
                    "prompt_tokens": n, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}}))
        self.send_chunk(event(b"[DONE]"))
        self.send_chunk(b"")
        if what == "close":
            self.close_connection = True


@pytest.fixture
def fake():
    made = []

    def make(*plan, tls=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
        server.daemon_threads = True
        server.plan, server.seen, server.lock = collections.deque(plan or ["ok"]), [], threading.Lock()
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.over = threading.Event()
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        server.streams = lambda: [s for s in server.seen if s[2].get("stream")]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return server

    yield make
    for server in made:
        server.over.set()
        server.shutdown()
        server.server_close()


def test_closed_loop_counts_what_the_server_counts(sim):
    before = {k: sim.metric(f"vllm:{k}_total") for k in ("prompt_tokens", "generation_tokens")}
    r = bench_json(sim.base, "-c", 4, "-n", 24, "-p", "40-80", "-o", "8-24", "--seed", 11)
    assert (r["completed"], r["failed"], r["peak"]) == (24, 0, 4)
    assert r["model"] == "sim" and r["tokens_from_usage"] and r["prompt_length_measured"]
    assert r["output_tokens"] == r["pieces"]
    calibration = r["prompt_tokens"] + 8 + 256 + 2 * 31  # the two requests that measure the words
    assert sim.metric("vllm:prompt_tokens_total") - before["prompt_tokens"] == pytest.approx(calibration, abs=8)
    sim.wait_metric("vllm:generation_tokens_total", before["generation_tokens"] + r["output_tokens"] + 2)
    assert r["ttft_ms"]["n"] == 24 and r["itl_ms"]["n"] == r["output_tokens"] - 24
    assert 1.9 < r["itl_ms"]["p50"] and r["itl_ms"]["p50"] <= r["itl_ms"]["p99"] <= r["itl_ms"]["max"]
    assert 24 * 40 <= r["prompt_tokens"] <= 24 * 80
    again = bench_json(sim.base, "-c", 2, "-n", 24, "-p", "40-80", "-o", "8-24", "--seed", 11)
    assert (again["prompt_tokens"], again["output_tokens"]) == (r["prompt_tokens"], r["output_tokens"])
    assert again["cached_tokens"] > 10 * r["cached_tokens"] / 11 + 500  # the same prompts: they are cached now


@pytest.mark.parametrize("args, words", [
    (["-p", 100], 100), (["-p", 300, "--endpoint", "completions"], 300),
    (["-p", 77, "--endpoint", "completions", "--token-ids", "100-9999"], 77)])
def test_prompts_have_the_wanted_length(sim, args, words):
    r = bench_json(sim.base, "-n", 8, "-c", 4, "-o", 2, *args)
    assert r["prompt_tokens"] == pytest.approx(8 * words, rel=0.02)


def test_shared_prefixes_and_conversations_hit_the_cache(sim):
    apart = bench_json(sim.base, "-n", 16, "-c", 1, "-o", 2, "-p", 64)
    shared = bench_json(sim.base, "-n", 16, "-c", 1, "-o", 2, "-p", 64, "--prefix-groups", 2, "--prefix-tokens", 192)
    assert apart["cached_tokens"] / apart["prompt_tokens"] < 0.3
    assert shared["cached_tokens"] / shared["prompt_tokens"] > 0.6
    assert shared["prompt_tokens"] == pytest.approx(16 * 256, rel=0.02)
    turns = bench_json(sim.base, "-n", 12, "-c", 2, "-o", 20, "-p", 64, "--turns", 3)
    assert turns["completed"] == 12
    assert turns["prompt_tokens"] > 1.6 * 12 * 64  # later turns hold the earlier ones
    assert turns["cached_tokens"] / turns["prompt_tokens"] > 0.4


def check_open_loop(sim):
    r = bench_json(sim.base, "--rate", 50, "--arrivals", "constant", "-n", 50, "-p", 20, "-o", 2)
    assert r["completed"] == 50 and r["load"] == "constant"
    assert 0.95 < r["duration_s"] < 1.3
    assert r["late_ms"]["n"] == 50 and r["late_ms"]["p50"] < 20
    r = bench_json(sim.base, "--rate", 100, "--burst", 10, "-d", 1, "-p", 20, "-o", 2, "--ramp", 0.5)
    assert r["completed"] % 10 == 0 and r["peak"] >= 5
    # One at a time, far too slow for the rate: the waiting counts.
    r = bench_json(sim.base, "--rate", 200, "-c", 1, "--arrivals", "constant", "-n", 40, "-p", 20, "-o", 10)
    assert r["peak"] == 1 and r["ttft_ms"]["max"] > 300 and r["late_ms"]["max"] > 300


def test_open_loop_keeps_its_rate(sim):
    one_of_some(lambda: check_open_loop(sim))


def test_sweep_table_csv_and_chart(sim, tmp_path):
    svg = tmp_path / "sweep.svg"
    args = [sim.base, "--sweep", "1,2,8", "-n", 16, "-o", 8, "-p", 20, "--slo", "ttft:1s,itl:500ms"]
    out = bench(*args, "--svg", svg).stdout
    assert "<- knee" in out and "good %" in out and "Kleinrock" in out
    xml.etree.ElementTree.parse(svg)
    rows = list(csv.DictReader(io.StringIO(bench(*args, "--csv").stdout)))
    assert [r["concurrency"] for r in rows] == ["1", "2", "8"]
    assert float(rows[2]["output_tokens_per_s"]) > 3 * float(rows[0]["output_tokens_per_s"])
    v = bench_json(*args)
    assert v["knee"] == 8 and [l["completed"] for l in v["levels"]] == [16, 16, 16]
    assert v["levels"][0]["goodput"]["good"] == 16


def test_dataset(sim, tmp_path):
    f = tmp_path / "data.jsonl"
    f.write_text('{"prompt": "Say \\"hi\\"", "max_tokens": 3}\n'
                 '{"messages": [{"role": "user", "content": "And now?"}], "max_tokens": 5}\n')
    r = bench_json(sim.base, "--dataset", f, "-n", 6, "-c", 2)
    assert r["completed"] == 6 and r["output_tokens"] == 3 * (3 + 5)
    f.write_text('{"prompt": "a"}\n{"promt": "b"}\n')
    assert f"{f}: line 2: " in bench(sim.base, "--dataset", f, code=1).stderr


def test_replay_keeps_times_lengths_and_hits(sim, tmp_path):
    f = tmp_path / "log.jsonl"
    rows = []
    for i in range(40):  # pairs of requests share 128 tokens; four a second
        rows.append({"time_us": 1795255200000000 + i * 250000, "prompt_tokens": 160 + i % 7, "output_tokens": 3 + i % 5,
                     "cached_tokens": 128 if i % 2 else 0, "prefix": ".".join(f"p{i // 2}-{n}" for n in (16, 32, 64, 128))})
    f.write_text("".join(json.dumps(r) + "\n" for r in rows))
    r = bench_json(sim.base, "--replay", f, "--speed", 5, "--seed", 77)
    assert r["completed"] == 40 and r["load"] == "replay"
    assert r["output_tokens"] == sum(x["output_tokens"] for x in rows)
    assert r["prompt_tokens"] == pytest.approx(sum(x["prompt_tokens"] for x in rows), rel=0.02)
    assert 39 * 0.05 <= r["duration_s"] < 39 * 0.05 + 0.5
    logged = 20 * 128 / sum(x["prompt_tokens"] for x in rows)
    assert r["logged_hit_rate"] == pytest.approx(logged, abs=1e-3)
    assert r["cached_tokens"] / r["prompt_tokens"] == pytest.approx(logged, abs=0.06)


def arrival_shares(times, parts=5):
    """How many of the arrivals came in each part of their time, as shares of all."""
    first, last = min(times), max(times)
    counts = collections.Counter(min(parts - 1, int(parts * (t - first) / (last - first))) for t in times)
    return [counts[i] / len(times) for i in range(parts)]


def test_a_recorded_load_replayed_is_the_same_load(tmp_path):
    """What the server logged of one load, four times as fast at a fresh server: arrivals, lengths, hits."""
    def serve(name):
        (tmp_path / name).mkdir()
        return Server(tmp_path / name, model='devices = { "sim" }\n sim_step_us = 2000\n max_num_seqs = 256', name="sim",
                      top='control_socket = ""\nstore { directory = "log" }').wait_ready()

    def logged(name):
        out = subprocess.run([LLMD, "logs", "-d", tmp_path / name / "log", "--all", "--json"], capture_output=True, check=True)
        rows = [json.loads(line) for line in out.stdout.splitlines()]
        return out.stdout, [r for r in rows if r["output_tokens"] > 1]  # without those that measured the words

    server = serve("recorded")
    bench(server.base, "--rate", 40, "-d", 6, "--ramp", 4, "-p", "40-120", "-o", "4-20", "--prefix-groups", 12,
          "--prefix-tokens", 200)
    server.stop()
    text, recorded = logged("recorded")
    (tmp_path / "log.jsonl").write_bytes(text)
    server = serve("replayed")
    r = bench_json(server.base, "--replay", tmp_path / "log.jsonl", "--speed", 4)
    server.stop()
    replayed = logged("replayed")[1]
    assert len(replayed) == len(recorded) > 100
    assert sum(x["output_tokens"] for x in replayed) == sum(x["output_tokens"] for x in recorded)
    hits = [sum(x["cached_tokens"] for x in rows) / sum(x["prompt_tokens"] for x in rows) for rows in (recorded, replayed)]
    assert hits[0] > 0.4 and hits[1] == pytest.approx(hits[0], rel=0.15)
    assert r["logged_hit_rate"] == pytest.approx(hits[0], rel=0.02)
    curves = [arrival_shares([x["time_us"] for x in rows]) for rows in (recorded, replayed)]
    assert curves[1] == pytest.approx(curves[0], abs=0.1)


def test_headers_keys_and_bodies(fake, monkeypatch):
    server = fake()
    monkeypatch.setenv("LLMD_API_KEY", "secret-1")
    bench(server.url + "/v1/", "-n", 2, "-c", 1, "-H", "X-One: 1", "-H", "X-Two: 2", "--extra", '{"top_p": 0.5}',
          "-t", 0, "-m", "other")
    path, headers, body, _, _ = server.streams()[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret-1"
    assert (headers["X-One"], headers["X-Two"]) == ("1", "2")
    assert body["top_p"] == 0.5 and body["temperature"] == 0 and body["model"] == "other"
    assert body["ignore_eos"] and body["stream_options"] == {"include_usage": True} and body["max_tokens"] == 128
    bench(server.url, "-n", 1, "--stop-at-eos", "--key", "secret-2")
    _, headers, body, _, _ = server.streams()[-1]
    assert "ignore_eos" not in body and headers["Authorization"] == "Bearer secret-2" and body["model"] == "fake"


def test_connections_are_kept(fake):
    server = fake()
    bench(server.url, "-n", 20, "-c", 2)
    assert len({s[3] for s in server.streams()}) == 2
    server = fake("close")
    r = bench_json(server.url, "-n", 10, "-c", 2)
    assert r["completed"] == 10 and len({s[3] for s in server.streams()}) == 10


@pytest.mark.parametrize("what, kind, said", [
    (429, "status", "no: 429"), (503, "status", "no: 503"), ("break", "broken", "in the middle"),
    ("error", "error_event", "worker lost"), ("garbage", "malformed", "cannot be read")])
def test_failures_are_counted_by_kind(fake, what, kind, said):
    server = fake("ok", what, "ok")
    r = bench_json(server.url, "-n", 6, "-c", 1, code=1)
    assert (r["completed"], r["failed"]) == (5, 1)
    assert r["errors"] == {kind: 1} and said in r["messages"][kind]
    assert r["statuses"] == ({str(what): 1} if isinstance(what, int) else {})
    assert r["ttft_ms"]["n"] == 5  # what failed is in no latency


def test_timeouts(fake):
    server = fake("ok", "hang", "ok")
    r = bench_json(server.url, "-n", 4, "-c", 1, "--timeout", 2, code=1)
    assert r["completed"] == 3 and r["errors"] == {"timeout": 1}


def test_pieces_count_without_usage(fake):
    r = bench_json(fake("no usage").url, "-n", 3, "-c", 1)
    assert not r["tokens_from_usage"] and r["output_tokens"] == 9
    assert "pieces of text" in bench(fake("no usage").url, "-n", 3, "-c", 1).stdout
    r = bench_json(fake().url, "-n", 3, "-c", 1)
    assert r["output_tokens"] == 12 and r["pieces"] == 9 and r["cached_tokens"] == 6


def test_failing_clients_rest(fake):
    server = fake(503)
    began = time.monotonic()
    r = bench_json(server.url, "-c", 2, "-n", 10, code=1)
    assert r["completed"] == 0 and r["statuses"] == {"503": 10}
    assert 0.35 < time.monotonic() - began < 15  # five rounds, four rests


def test_server_killed_midway(make_server):
    server = make_server(model='devices = { "sim" }\n sim_step_us = 20000', name="sim")
    p = subprocess.Popen([LLMD, "bench", server.base, "-c", "8", "-d", "4", "-o", "400", "--json"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    server.wait_metric("vllm:num_requests_running", 8)  # for eight seconds
    server.process.kill()
    out, err = p.communicate(timeout=PATIENCE)
    server.process.wait()
    r = json.loads(out)
    assert p.returncode == 1 and r["errors"]["broken"] == 8, err
    assert r["errors"]["connect"] >= 8 and "refused" in r["messages"]["connect"]


def test_interrupt_prints_what_there_is(sim):
    before = sim.n_begun()
    p = subprocess.Popen([LLMD, "bench", sim.base, "-c", "4", "-d", "60", "-o", "50", "--json"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sim.wait_begun(before + 20)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=PATIENCE)
    assert p.returncode == 130, err
    r = json.loads(out)
    assert r["completed"] > 4 and r["cancelled"] == 4 and r["failed"] == 0
    sim.wait_metric("vllm:num_requests_running", 0)  # the connections were closed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """key.pem, cert.pem for 127.0.0.1; key-2.pem, cert-2.pem for another address."""
    folder = tmp_path_factory.mktemp("tls")
    for suffix, address in (("", "127.0.0.1"), ("-2", "127.0.0.2")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", folder / f"key{suffix}.pem", "-out", folder / f"cert{suffix}.pem", "-days", "2", "-subj",
                        "/CN=llmd-test", "-addext", f"subjectAltName=IP:{address}"], check=True, capture_output=True)
    return folder


def test_tls(fake, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = fake("ok", tls=context)
    r = bench_json(server.url, "-n", 12, "-c", 3, "--cacert", certificate / "cert.pem")
    assert r["completed"] == 12 and len({s[3] for s in server.streams()}) == 3
    assert bench_json(server.url, "-n", 4, "--insecure")["completed"] == 4
    assert "certificate is refused" in bench(server.url, "-n", 4, code=1).stderr
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(certificate / "cert-2.pem", certificate / "key-2.pem")
    wrong = fake("ok", tls=other).url
    assert "certificate is refused" in bench(wrong, "-n", 4, "--cacert", certificate / "cert-2.pem", code=1).stderr
    assert "no certificates" in bench(server.url, "--cacert", certificate / "key.pem", code=1).stderr


@pytest.mark.parametrize("args, said", [
    (["--rate", "5", "--sweep", "1,2"], "--sweep"), (["--sweep", "1,x"], "no list"), (["--slo", "ttft:5"], "no bound"),
    (["-p", "0"], "no length"), (["--token-ids", "1-5"], "completions"), (["--prefix-groups", "2"], "--prefix-tokens"),
    (["--extra", "[1]"], "JSON object"), (["ftp://x"], "http://"), (["--endpoint", "embeddings"], "neither"),
    (["--burst", "4"], "--rate"), (["--json", "--csv"], "exclude"), (["-c", "0"], "whole number")])
def test_usage_errors(args, said):
    r = bench(*args, code=2)
    assert said in r.stderr and "--help" in r.stderr and r.stdout == ""


def test_no_server():
    assert "cannot connect" in bench("http://127.0.0.1:9", code=1).stderr
    assert "not known" in bench("http://no.such.host.invalid", code=1).stderr
    assert "no URL" in bench("http://127.0.0.1:99999", code=1).stderr
    assert "no header" in bench("-H", "nonsense", code=1).stderr


def test_server_that_refuses_the_key(make_server):
    import hashlib
    digest = hashlib.sha256(b"right").hexdigest()
    server = make_server(model='devices = { "sim" }\n sim_step_us = 2000', name="sim",
                         top=f'key "team" {{ sha256 = "{digest}" }}')
    said = bench(server.base, code=1).stderr
    assert "401" in said and "LLMD_API_KEY" in said
    assert bench_json(server.base, "-n", 4, "-o", 4, "--key", "right")["completed"] == 4
