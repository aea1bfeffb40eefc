"""Workers that fail under load, as clients see it. For pytest; the server has faults on demand
(core/util/fault.h), see run.sh."""
import concurrent.futures
import json
import time

import pytest

from conftest import PATIENCE, NotAnswered, Server, wait_until

SIM = 'devices = {{ "sim" }} sim_workers = {} sim_step_us = 2000 max_model_len = 2048 kv_cache_mb = 64'


def start(tmp_path, workers, faults, model="", top=""):
    return Server(tmp_path, SIM.format(workers) + model, top, faults=faults).wait_ready()


class Refused(Exception):
    """503: the server drains."""


def stream(server, tokens=100, seed=1, n=1):
    """Tokens of a completion as it streams, the error event if one came, and whether [DONE] did."""
    body = {"model": "m", "prompt": f"Story {seed}", "max_tokens": tokens, "ignore_eos": True, "seed": seed,
            "stream": True, "n": n}
    status, _, data = server.request("POST", "/v1/completions", body)
    if status == 503:
        raise Refused(data)
    assert status == 200, data
    events = [e[6:] for e in data.decode().split("\n\n") if e.startswith("data: ")]
    chunks = [json.loads(e) for e in events if e != "[DONE]"]
    texts = [c["choices"][0] for c in chunks if "choices" in c and c["choices"]]
    errors = [c["error"] for c in chunks if "error" in c]
    return texts, errors, events[-1] == "[DONE]"


def undisturbed(tmp_path, jobs):
    server = start(tmp_path, 1, None)
    texts = [job(server) for job in jobs]
    server.stop()
    return texts


def all_at_once(server, jobs):
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: job(server), jobs))


def joined(texts, n):
    out = [""] * n
    for c in texts:
        out[c["index"]] += c["text"]
    return out


def ends_with(server, code, seconds=PATIENCE):
    assert server.process.wait(seconds) == code, server.log_path.read_text()


def test_a_stalled_worker(tmp_path):
    """Its streams go on elsewhere after about two seconds: no error, the same text."""
    jobs = [lambda s, i=i: stream(s, 300, i, n=1 + i % 2) for i in range(8)]
    expected = undisturbed(tmp_path, jobs)
    server = start(tmp_path, 2, "step-stalls worker=0 at=60 ms=6000 times=1")
    began = time.monotonic()
    got = all_at_once(server, jobs)
    assert time.monotonic() - began > 1.5
    for (texts, errors, done), (wanted, _, _) in zip(got, expected):
        assert not errors and done and joined(texts, 2) == joined(wanted, 2)
    assert server.metric("llmd_router_migrations_total") > 0
    time.sleep(max(0, began + 7 - time.monotonic()))  # until its thread has come back
    server.stop()


def test_what_can_never_fit(tmp_path):
    """413 for a body beyond the limit, 400 for a prompt beyond the context; nobody else notices."""
    jobs = [lambda s, i=i: stream(s, 300, i) for i in range(8)]
    expected = [joined(texts, 1) for texts, _, _ in undisturbed(tmp_path, jobs)]
    server = Server(tmp_path, SIM.format(1), "max_body_kb = 64").wait_ready()
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(job, server) for job in jobs]
        for _ in range(10):
            huge = {"model": "m", "prompt": "x" * 100000, "max_tokens": 1}
            assert server.request("POST", "/v1/completions", huge)[0] == 413
            assert server.post("/v1/completions", {"model": "m", "prompt": [5] * 3000, "max_tokens": 1})[0] == 400
        assert [joined(r.result()[0], 1) for r in running] == expected
    server.stop()


@pytest.mark.parametrize("faults", ["step-poisons worker=0 at=40", "step-stalls worker=0 at=40"],
                         ids=["poisoned", "hanging"])
def test_a_new_process_is_asked_for(tmp_path, faults):
    """A poisoned device, or threads that never end: requests go on elsewhere, then exit 75."""
    jobs = [lambda s, i=i: stream(s, 150, i, n=1 + i % 2) for i in range(8)]
    expected = undisturbed(tmp_path, jobs)
    server = start(tmp_path, 2, faults)
    until, rounds = time.monotonic() + PATIENCE, 0
    while server.process.poll() is None and time.monotonic() < until:
        try:
            got = all_at_once(server, jobs)
        except (Refused, NotAnswered):  # it drains already, or ended before it read the request
            break
        rounds += 1
        for i, ((texts, errors, done), (wanted, _, _)) in enumerate(zip(got, expected)):
            assert not errors and done
            assert joined(texts, 2) == joined(wanted, 2), i
    assert rounds > 0
    ends_with(server, 75)
    assert "a new process is needed" in server.log_path.read_text()


def test_the_last_worker_is_poisoned(tmp_path):
    """Nobody is left: the stream ends with an error event, the process with 75."""
    server = start(tmp_path, 1, "step-poisons at=40")
    texts, errors, done = stream(server)
    assert len(errors) == 1 and errors[0]["code"] == 503 and done and len(texts) > 10
    ends_with(server, 75)


def test_all_dead(tmp_path):
    """Every worker fails: a clear error event, then 503 with Retry-After, and it comes back by itself."""
    server = start(tmp_path, 2, "step-fails at=60 times=2")
    got = all_at_once(server, [lambda s, i=i: stream(s, 400, i) for i in range(8)])
    failed = [errors for _, errors, _ in got if errors]
    assert failed and all(e[0]["code"] == 503 and e[0]["message"] for e in failed)
    assert all(done for _, _, done in got)
    status, headers, data = server.request("POST", "/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 1})
    if status != 200:  # a worker may be back already
        assert status == 503 and int(headers["Retry-After"]) > 0 and json.loads(data)["error"]["message"]
    wait_until(lambda: server.post("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 1})[0] == 200)
    server.stop()
