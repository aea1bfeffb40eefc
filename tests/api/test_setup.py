"""`llmd setup`: from nothing to a configuration that serves."""
import http.client
import json
import os
import pty
import re
import subprocess
import time

import pytest

from conftest import GGUF, LLMD, PATIENCE, ROOT, free_port

TINY = ROOT / "tests/golden/data/tiny"


def setup(config, *args, stdin=subprocess.DEVNULL):
    return subprocess.run([LLMD, "setup", "--config", config, *args], stdin=stdin, capture_output=True, text=True,
                          timeout=PATIENCE)


@pytest.fixture
def config(tmp_path):
    return tmp_path / "llmd.conf"


def serves(config, port, key=None, model="smollm2-135m-instruct.q4_1"):
    """Whether that configuration answers."""
    server = subprocess.Popen([LLMD, "serve", "--config", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            assert server.poll() is None, server.stderr.read()
            try:
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                c.request("POST", "/v1/completions", json.dumps({"model": model, "prompt": "x", "max_tokens": 1}),
                          {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})})
                status = c.getresponse().status
                if status != 503:
                    return status
            except OSError:
                pass
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        server.terminate()
        server.wait(PATIENCE)
        server.stderr.close()


def test_all_given(config):
    port = free_port()
    got = setup(config, "--yes", "--model", GGUF, "--listen", f"127.0.0.1:{port}", "--key", "first")
    assert got.returncode == 0, got.stderr
    assert config.stat().st_mode & 0o777 == 0o640
    key = re.search(r"^  (llmd_sk_\w{43})$", got.stdout, re.M)[1]
    assert got.stdout.index(key) < got.stdout.index("Next:")  # it is known even if the service does not start
    assert key not in config.read_text()
    assert subprocess.run([LLMD, "check", "--config", config]).returncode == 0
    assert serves(config, port, key) == 200
    assert serves(config, port, "wrong") == 401


def test_a_file_that_is_in_use(config):
    config.write_text("# a comment\n\n")
    assert setup(config, "--yes", "--model", GGUF).returncode == 0
    assert not (config.parent / "llmd.conf.before-setup").exists()
    mine = config.read_text() + "log_level = \"debug\"\n"
    config.write_text(mine)
    os.chmod(config, 0o600)
    got = setup(config, "--yes", "--model", GGUF)
    assert got.returncode == 1 and "--replace" in got.stderr and config.read_text() == mine
    assert setup(config, "--yes", "--model", GGUF, "--replace").returncode == 0
    assert config.read_text() != mine and config.stat().st_mode & 0o777 == 0o600
    assert (config.parent / "llmd.conf.before-setup").read_text() == mine


def test_what_stands_beside_it_is_not_written_into(config):
    """A second name of another file, where the new text is put."""
    other = config.parent / "other"
    other.write_text("mine")
    os.link(other, f"{config}.new")
    assert setup(config, "--yes", "--model", GGUF).returncode == 0
    assert other.read_text() == "mine" and sorted(p.name for p in config.parent.iterdir()) == ["llmd.conf", "other"]


def test_a_folder_as_shells_complete_it(config):
    got = setup(config, "--yes", "--model", f"{TINY / 'qwen2'}/")
    assert got.returncode == 0 and 'model "qwen2"' in config.read_text(), got


@pytest.mark.parametrize("args, code, why", [
    ([], 2, "--model"),
    (["--model", "/nowhere"], 1, "/nowhere: No such file"),
    (["--model", "/etc/hostname"], 1, "/etc/hostname"),
    (["--model", GGUF, "--listen", "localhost:80"], 1, "localhost"),
    (["--model", GGUF, "--name", "two words"], 2, "two words"),
    (["--model", GGUF, "--key", "two words"], 2, "two words"),
    (["--model", GGUF, "--device", "tpu"], 1, "tpu"),
    (["--model", GGUF, "--device", "cuda:0"], 1, "cuda"),
    (["--model", GGUF, "--tls-certificate", "x"], 2, "--tls-key"),
    (["--model", GGUF, "--tls-certificate", "/nope", "--tls-key", "/nope"], 1, "/nope: No such file"),
], ids=lambda v: " ".join(map(str, v[-2:])) if isinstance(v, list) else None)
def test_what_is_wrong_changes_nothing(config, args, code, why):
    got = setup(config, "--yes", *map(str, args))
    assert got.returncode == code and why in got.stderr, got
    assert list(config.parent.iterdir()) == []


def test_in_a_conversation(config):
    """Questions and answers on a terminal; a wrong answer is asked for again."""
    port = free_port()
    ours, theirs = pty.openpty()
    answers = ["/nowhere", str(GGUF), "two words", "mine", "y", "nonsense", f"127.0.0.1:{port}", "y"]
    os.write(ours, "".join(a + "\n" for a in answers).encode())
    got = setup(config, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert got.returncode == 0, got
    assert "/nowhere: No such file" in got.stdout and "Make a key" in got.stdout
    text = config.read_text()
    assert 'model "mine"' in text and f'"127.0.0.1:{port}"' in text and 'key "admin"' in text
    key = re.search(r"^  (llmd_sk_\w{43})$", got.stdout, re.M)[1]
    assert serves(config, port, key, "mine") == 200


def test_input_that_ends(config):
    ours, theirs = pty.openpty()
    os.write(ours, b"\x04")
    got = setup(config, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert got.returncode == 1 and list(config.parent.iterdir()) == []
