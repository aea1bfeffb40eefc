"""llmd explain: three requests that are slow for three reasons, one that runs, what it says of others."""
import itertools
import json
import socket
import subprocess
import threading
import time

import pytest

from conftest import LLMD, PATIENCE, Server, one_of_some, wait_until

# One worker of four places, 1 ms a step and 20 us a row: a chunk of 2,048 tokens takes 42 ms.
SIM = ('devices = { "sim" }\n sim_step_us = 1000\n sim_row_ns = 20000\n max_num_seqs = 4\n'
       'max_num_batched_tokens = 2048\n max_model_len = 8192\n enable_prefix_caching = false\n'
       'policy = "prefix"\n')


def explain(server, rid, *args, code=0):
    r = subprocess.run([LLMD, "explain", "--config", str(server.config), *args, rid],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == code, r.stderr
    return r.stdout if code == 0 else r.stderr


def told(server, rid, seconds=PATIENCE):
    """What explain --json says once the request is in the log."""
    until = time.monotonic() + seconds
    while True:
        r = subprocess.run([LLMD, "explain", "--config", str(server.config), "--json", rid],
                           capture_output=True, text=True, timeout=60)
        if r.returncode == 0 and not json.loads(r.stdout)["request"].get("live"):
            return json.loads(r.stdout)
        assert time.monotonic() < until, r.stderr + r.stdout
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    s = Server(folder, model=SIM, top='store { directory = "log" }')
    yield s.wait_ready()
    s.stop()


def ask(server, rid, n_prompt, n_output):
    body = {"model": "m", "prompt": [i % 1000 + 5 for i in range(n_prompt)],
            "max_tokens": n_output, "ignore_eos": True}
    status, _, data = server.request("POST", "/v1/completions", body, {"X-Request-Id": rid})
    assert status == 200, data


def together(*calls):
    threads = [threading.Thread(target=c) for c in calls]
    for t in threads:
        t.start()
    return threads


def n_live(server):
    return server.admin("GET", "requests")[1]["total"]


def test_queued_behind_a_burst(server):
    burst = together(*[lambda i=i: ask(server, f"burst{i}", 100, 1000) for i in range(8)])
    wait_until(lambda: n_live(server) == 8)
    ask(server, "behind", 100, 5)
    for t in burst:
        t.join()
    story = told(server, "behind")
    assert story["dominated"] == "queue", story
    assert story["dominated_us"] > 0.7 * story["request"]["total_us"]
    assert "waited for its turn" in story["verdict"] and "when it came, " in story["verdict"]
    text = explain(server, "behind")
    assert "Route" in text and "candidates" not in text and "queue" in text
    assert story["verdict"] in text.replace("\n", "")


def check_slowed(server, nth):
    slowed = together(lambda: ask(server, f"slowed{nth}", 20, 300))
    wait_until(lambda: n_live(server) == 1)
    for i in range(7):  # 120 ms of prefill each, in steps of up to 42 ms instead of 1
        ask(server, f"long{nth}-{i}", 6000, 1)
    slowed[0].join()
    story = told(server, f"slowed{nth}")
    assert story["dominated"] == "prefill of others", story
    gap = story["request"]["timeline"]["gaps"][0]
    assert gap["cause"] == "prefill" and gap["other"].startswith("cmpl-long")
    assert gap["prefill_rows"] > 1000 and gap["us"] > 20000
    assert gap["other"] in story["verdict"]
    chunks = told(server, f"long{nth}-0")["request"]["timeline"]["chunks"]
    assert sum(c["rows"] for c in chunks) == 6000 and len(chunks) >= 3


def test_slowed_by_the_long_prompts_of_others(server):
    for i in range(3):
        ask(server, f"warm{i}", 10, 10)  # so that the worker knows what a step costs
    number = itertools.count()
    one_of_some(lambda: check_slowed(server, next(number)))


def test_a_slow_client(server):
    body = json.dumps({"model": "m", "prompt": "hello", "max_tokens": 1500, "ignore_eos": True,
                       "stream": True}).encode()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"X-Request-Id: lazy\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                  % (len(body), body))
        s.recv(100)
        time.sleep(5)  # the worker alone would need 1.5 s
        while s.recv(65536):
            pass
    story = told(server, "lazy")
    assert story["dominated"] == "slow client", story
    assert story["verdict"].startswith("Its client read slowly: ")
    parts = story["request"]["timeline"]["part_us"]
    assert parts["client"] > 1_000_000, parts
    assert any(g["cause"] == "client" for g in story["request"]["timeline"]["gaps"])


def test_one_that_runs(server):
    n_begun = server.n_begun()
    running = together(lambda: server.request("POST", "/v1/completions", {
        "model": "m", "prompt": list(range(5, 55)), "max_tokens": 8000, "ignore_eos": True}, {"X-Request-Id": "running"}))
    server.wait_begun(n_begun + 1)
    story = json.loads(explain(server, "running", "--json"))
    assert story["request"]["live"] and story["request"]["worker"] == 0
    assert story["request"]["timeline"]["chunks"][0]["rows"] == 50
    assert 0 < story["request"]["output_tokens"] < 8000
    assert "it is with the server: live" in explain(server, "cmpl-running")
    assert server.admin("DELETE", "requests/cmpl-running")[0] == 200
    running[0].join()
    assert told(server, "running")["request"]["output_tokens"] > 0


def test_refused_and_unknown(server):
    bad = {"model": "m", "prompt": "x", "max_tokens": 1, "temperature": 9}
    assert server.request("POST", "/v1/completions", bad, {"X-Request-Id": "refused"})[0] == 400
    assert "Nothing was computed for it: " in told(server, "refused")["verdict"]
    assert "temperature" in explain(server, "refused")
    assert "holds no request 'nobody'" in explain(server, "nobody", code=1)
    assert subprocess.run([LLMD, "explain"], capture_output=True).returncode == 2
