"""llmd logs: filters, formats, percentiles, what comes in, copies, faults."""
import csv
import io
import json
import shutil
import subprocess
import time

import pytest

from conftest import LLMD, Server

SIM = 'devices = { "sim" }\n sim_workers = 2\n sim_step_us = 1000\n aliases = { "other" }\n'


def logs(*args, code=0):
    r = subprocess.run([LLMD, "logs", *args], capture_output=True, text=True, timeout=60)
    assert r.returncode == code, r.stderr
    return r.stdout if code == 0 else r.stderr


def ask(server, rid, n, status=200, **kw):
    body = {"model": "m", "prompt": "one two three", "max_tokens": n, "ignore_eos": True, **kw}
    got = server.request("POST", "/v1/completions", body, {"X-Request-Id": rid})
    assert got[0] == status
    return got


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    s = Server(folder, model=SIM, top='control_socket = ""\nstore { directory = "log" }').wait_ready()
    for i in range(8):
        ask(s, f"r{i}", 2 + 20 * (i == 5))
    ask(s, "bad", 4, status=400, temperature=9)
    s.wait_metric("llmd_log_rows_total", 9)
    s.folder = str(folder / "log")
    yield s
    s.stop()


def ids(text):
    return [json.loads(line)["id"].removeprefix("cmpl-") for line in text.splitlines()]


def test_filters(log):
    def q(*args):
        return ids(logs("-d", log.folder, "--json", *args))
    assert q() == [f"r{i}" for i in range(8)] + ["bad"]
    assert q("-n", "2") == ["r7", "bad"] and q("--id", "r3") == ["r3"] == q("--id", "cmpl-r3")
    assert q("--status", "4xx") == ["bad"] == q("--status", "400")
    rows = map(json.loads, logs("-d", log.folder, "--json").splitlines())
    slow = [r["id"].removeprefix("cmpl-") for r in rows if r["total_us"] >= 20000]
    assert q("--slow", "20") == slow and "r5" in slow and q("--finish", "length", "-n", "1") == ["r7"]
    assert len(q("--model", "m", "--last", "5m", "-n", "100")) == 9
    assert q("--until", "5m") == [] and q("--since", "now") == [] and q("--model", "none") == []
    by_worker = q("--worker", "0", "-a") + q("--worker", "1", "-a")
    assert sorted(by_worker) == [f"r{i}" for i in range(8)]


def test_formats(log):
    table = logs("-d", log.folder).splitlines()
    assert len(table) == 10 and table[0].startswith("TIME") and "temperature" in table[-1]
    rows = list(csv.DictReader(io.StringIO(logs("-d", log.folder, "--csv"))))
    objects = [json.loads(x) for x in logs("-d", log.folder, "--json").splitlines()]
    assert len(rows) == len(objects) == 9
    for r, o in zip(rows, objects):
        o.pop("time")
        assert r == {k: "" if v is None else str(v) for k, v in o.items()}
    detailed = json.loads(logs("-d", log.folder, "--json", "--details", "-n", "1"))
    assert "route" in detailed and "timeline" in detailed and "route" not in objects[0]


def test_percentiles(log):
    groups = {(g["by"], g["name"]): g for g in
              map(json.loads, logs("-d", log.folder, "--stats", "--json").splitlines())}
    everything = groups["all", None]
    assert everything["requests"] == 9 and everything["failed"] == 1
    assert everything["output_tokens"] == 8 * 2 + 20 and groups["model", "m"]["requests"] == 9
    assert sum(groups["worker", w]["requests"] for w in "01") == 8
    totals = sorted(json.loads(x)["total_us"] for x in logs("-d", log.folder, "--json").splitlines())
    assert everything["total_ms"]["p50"] == pytest.approx(totals[4] / 1000)
    assert everything["total_ms"]["p99"] == pytest.approx(totals[8] / 1000)
    assert "p95" in logs("-d", log.folder, "--stats")


def test_by_configuration(log):
    assert ids(logs("--config", str(log.config), "--json", "-n", "1")) == ["bad"]


def test_a_copy_without_its_wal(log, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(log.folder, copy)
    assert len(ids(logs("-d", str(copy), "--json"))) == 9
    for extra in list(copy.glob("*-wal")) + list(copy.glob("*-shm")):
        extra.unlink()
    logs("-d", str(copy), "--json")  # what was in the WAL is missing, the rest is there


def test_follow_shows_what_comes_in(log):
    p = subprocess.Popen([LLMD, "logs", "-d", log.folder, "--json", "-f", "-n", "1"],
                         stdout=subprocess.PIPE, text=True)
    try:
        assert ids(p.stdout.readline()) == ["bad"]
        ask(log, "later", 3)
        assert ids(p.stdout.readline()) == ["later"]
    finally:
        p.kill()
        p.wait()


def test_faults(log, tmp_path):
    assert str(tmp_path / "none") in logs("-d", str(tmp_path / "none"), code=1)
    assert "moment" in logs("--since", "yesterday", code=2)
    assert "HTTP status" in logs("--status", "9xx", code=2)
    assert "exclude" in logs("--json", "--csv", code=2)
    off = tmp_path / "off.conf"
    off.write_text('store { directory = "" }\nmodel "m" { path = "/dev/null" }\n')
    assert "store.directory is empty" in logs("--config", str(off), code=1)
    (tmp_path / "requests-2026-01-01.db").write_text("nonsense" * 100)
    assert "requests-2026-01-01.db" in logs("-d", str(tmp_path), code=1)
