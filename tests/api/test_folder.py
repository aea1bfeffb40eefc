"""A model's folder in Hugging Face form, served."""
import json
import shutil

import pytest

from conftest import ROOT, wait_until

TINY = ROOT / "tests/golden/data/tiny"


@pytest.fixture(scope="module")
def served(make_server):
    return make_server(path=TINY / "qwen3", model='devices = { "cpu" }', name="tiny")


def test_completions(served):
    status, r = served.post("/v1/completions", {"model": "tiny", "prompt": "the thing and", "max_tokens": 8,
                                                "temperature": 0, "ignore_eos": True})
    assert status == 200 and r["usage"]["completion_tokens"] == 8
    again = served.post("/v1/completions", {"model": "tiny", "prompt": "the thing and", "max_tokens": 8,
                                            "temperature": 0, "ignore_eos": True})[1]
    assert again["choices"] == r["choices"]


def test_chat_without_template(served):
    status, r = served.post("/v1/chat/completions", {
        "model": "tiny", "messages": [{"role": "user", "content": "hi"}]})
    assert status == 400 and "no chat template; use /v1/completions" in r["error"]["message"]


def test_ready_tells_bytes(served):
    status, text = served.get("/ready")
    w = json.loads(text)["workers"][0]
    assert status == 200 and w["loaded_percent"] == 100
    assert w["loaded_bytes"] == w["total_bytes"] > 100000
    assert w["mib_per_s"] > 0 and w["seconds_left"] == 0
    wait_until(lambda: "load: loaded model=tiny worker=0 mib=" in served.log_path.read_text())


def test_template_that_cannot_be_used(make_server, tmp_path):
    shutil.copytree(TINY / "llama-mha", tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text("a\n{% if %}")
    server = make_server(path=tmp_path / "model", model='devices = { "sim" }', name="tiny")
    status, r = server.post("/v1/chat/completions", {
        "model": "tiny", "messages": [{"role": "user", "content": "hi"}]})
    assert status == 400
    assert "the chat template of model `tiny` cannot be used: " in r["error"]["message"]
    assert "line 2" in r["error"]["message"]
    status, r = server.post("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 2})
    assert status == 200
    assert "(chat_template.jinja) cannot be used: " in server.log_path.read_text()
    server.stop()
