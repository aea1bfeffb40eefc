"""The request log: rows, the access log, what is kept of bodies, faults that serving outlives."""
import hashlib
import json
import os
import sqlite3
import time

import pytest

from conftest import PATIENCE, Server, wait_until

SIM = 'devices = { "sim" }\n sim_workers = 2\n sim_step_us = 2000\n'
BODY = {"model": "m", "messages": [{"role": "user", "content": "one two three " * 30}],
        "max_tokens": 6, "ignore_eos": True}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def rows(folder, sql="SELECT * FROM requests ORDER BY seq"):
    out = []
    for path in sorted(folder.glob("requests-*.db")):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE) as db:
            db.row_factory = sqlite3.Row
            out += [dict(r) for r in db.execute(sql)]
    return out


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    digest = hashlib.sha256
    top = (f'control_socket = ""\naccess_log = "stdout"\nstore {{ directory = "log" }}\n'
           f'key "plain" {{ sha256 = "{digest(b"plain").hexdigest()}" }}\n'
           f'key "kept" {{ sha256 = "{digest(b"kept").hexdigest()}"  log_prompts = true }}\n')
    s = Server(folder, model=SIM, top=top)
    s.folder = folder / "log"
    yield s.wait_ready()
    s.stop()


def ask(server, key="plain", **kw):
    h = {"Authorization": f"Bearer {key}", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
         "X-Session-Id": "s1"}
    return server.request("POST", "/v1/chat/completions", {**BODY, **kw}, h)


def test_a_row_says_what_happened(logged):
    status, headers, data = ask(logged)
    assert status == 200
    assert headers["traceparent"].startswith(f"00-{TRACE}-") and headers["traceparent"].endswith("-01")
    reply = json.loads(data)
    row = wait_until(lambda: [r for r in rows(logged.folder) if r["id"] == reply["id"]])[0]
    usage = reply["usage"]
    assert row["prompt_tokens"] == usage["prompt_tokens"] and row["output_tokens"] == 6
    assert (row["key"], row["model"], row["client"], row["status"], row["finish"]) == \
        ("plain", "m", "127.0.0.1", 200, "length")
    assert row["trace"] == TRACE and len(row["session"]) == 16
    assert row["endpoint"] == "/v1/chat/completions" and row["reply_bytes"] == len(data)
    assert row["worker"] == int(headers["X-Llmd-Worker"])
    stages = row["edge_us"] + row["queue_us"] + row["prefill_us"]
    assert stages == row["first_token_us"] <= row["total_us"]
    assert abs(row["time_us"] / 1e6 - time.time()) < 30


def test_prompts_that_begin_alike_share_names(logged):
    ids = [json.loads(ask(logged, messages=[{"role": "user", "content": "ab " * 100 + end}])[2])["id"]
           for end in ("x " * 60, "y " * 60)]
    found = wait_until(lambda: len(f := [r for r in rows(logged.folder) if r["id"] in ids]) == 2 and f)
    a, b = (r["prefix"].split(".") for r in found)
    assert len(a) == len(b) >= 4 and a[:3] == b[:3] and a[-1] != b[-1]


def test_refusals_are_rows_too(logged):
    before = len(rows(logged.folder))
    assert logged.post("/v1/chat/completions", BODY)[0] == 401
    assert ask(logged, temperature=9)[0] == 400
    assert logged.request("POST", "/v1/nothing", {}, {"Authorization": "Bearer plain"})[0] == 404
    logged.get("/health")
    got = wait_until(lambda: len(r := rows(logged.folder)) >= before + 3 and r)[before:]
    assert [r["status"] for r in got] == [401, 400, 404]
    assert [r["key"] for r in got] == [None, "plain", "plain"]
    assert "temperature" in got[1]["error"] and all(r["error"] and not r["finish"] or r["finish"] == "error"
                                                   for r in got)


def test_the_access_log_has_the_same_fields(logged):
    reply = json.loads(ask(logged)[2])
    line = wait_until(lambda: [x for x in logged.log_path.read_text().splitlines() if reply["id"] in x
                             and x.startswith("{")])[0]
    row = wait_until(lambda: [r for r in rows(logged.folder) if r["id"] == reply["id"]])[0]
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    row.pop("seq")
    assert fields == row


def test_bodies_are_kept_for_the_keys_that_say_so(logged):
    plain = json.loads(ask(logged, "plain")[2])["id"]
    kept = json.loads(ask(logged, "kept")[2])["id"]
    wait_until(lambda: [r for r in rows(logged.folder) if r["id"] == kept])
    sql = "SELECT id, body, expires_us FROM prompts JOIN requests USING(seq)"
    by_id = {r["id"]: r for r in rows(logged.folder, sql)}
    assert plain not in by_id and json.loads(by_id[kept]["body"]) == BODY
    assert 23 < (by_id[kept]["expires_us"] / 1e6 - time.time()) / 3600 <= 24


def test_a_log_that_cannot_be_written_is_said_and_served(tmp_path):
    place = tmp_path / "log"
    place.write_text("a file in its place")
    s = Server(tmp_path, model=SIM, top='control_socket = ""\nstore { directory = "log" }')
    try:
        s.wait_ready()
        assert s.post("/v1/chat/completions", BODY)[0] == 200
        ready = wait_until(lambda: "log" in (r := json.loads(s.get("/ready")[1])) and r)
        assert ready["log"].startswith("degraded: ") and ready["status"] == "ready"
        status, text = s.get("/health")
        assert status == 200 and json.loads(text)["log"] == ready["log"]
        assert s.metric("llmd_log_degraded") == 1 and s.metric("llmd_log_errors_total") >= 1
        place.unlink()
        s.wait_metric("llmd_log_degraded", 0)
        assert s.get("/health") == (200, "")
        assert s.post("/v1/chat/completions", BODY)[0] == 200
        wait_until(lambda: len(rows(place)) >= 1)
        assert s.metric("llmd_log_rows_total") == len(rows(place))
        assert oct(os.stat(next(place.glob("*.db"))).st_mode)[-3:] == "640"
    finally:
        s.stop()
