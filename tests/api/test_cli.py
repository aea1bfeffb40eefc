"""The command line: check, chat, help, exit codes."""
import pathlib
import subprocess

import pytest

from conftest import LLMD, LLMD_WITH_FAULTS, ROOT


def llmd(*args, **kw):
    return subprocess.run([LLMD, *args], capture_output=True, text=True, timeout=60, **kw)


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["chat"], ["bench"], ["template"],
                                     ["tokenize"], ["version"], ["logs"], ["explain"], ["status"], ["drain"], ["reload"]])
def test_help_everywhere(command):
    r = llmd(*command, "--help")
    assert r.returncode == 0 and "Usage: llmd" in r.stdout and r.stderr == ""


def test_version():
    version = (ROOT / "VERSION").read_text().strip()
    assert version in llmd("version").stdout
    assert version in llmd("--version").stdout


@pytest.mark.parametrize("args", [["nonsense"], ["serve", "--nonsense"], ["drain", "x"],
                                  ["drain", "--undo"], ["check", "extra", "x"]])
def test_usage_errors(args):
    r = llmd(*args)
    assert r.returncode == 2 and "--help" in r.stderr


def test_check_demo_config():
    r = llmd("check", "--config", str(ROOT / "conf/demo.conf"))
    assert r.returncode == 0, r.stderr
    assert "valid" in r.stdout and "smollm2-135m-instruct" in r.stdout


def test_check_names_file_line_and_option(tmp_path):
    f = tmp_path / "bad.conf"
    f.write_text('listen = { "127.0.0.1:8080" }\nmax_conections = 5\n')
    r = llmd("check", "--config", str(f))
    assert r.returncode != 0
    assert f"{f}:2:" in r.stdout + r.stderr and "max_connections" in r.stdout + r.stderr
    s = llmd("serve", "--config", str(f))
    assert s.returncode == 3 and f"{f}:2:" in s.stderr


def test_missing_config():
    r = llmd("serve", "--config", "/nonexistent.conf")
    assert r.returncode == 3 and "/nonexistent.conf" in r.stderr


def test_without_keys_only_loopback(tmp_path):
    f = tmp_path / "open.conf"
    f.write_text('listen = { "0.0.0.0:8080" }\nmodel "m" { path = "x" }\n')
    r = llmd("check", "--config", str(f))
    assert r.returncode != 0 and "loopback" in r.stdout + r.stderr


def test_broken_model_file_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    f = tmp_path / "llmd.conf"
    f.write_text('model "m" { path = "m.gguf" }\n')
    r = llmd("serve", "--config", str(f))
    assert r.returncode in (1, 3) and "m.gguf" in r.stderr


def test_chat_one_shot(cpu):
    r = llmd("chat", "--url", cpu.base, "--temperature", "0", "--max-tokens", "24",
             "What is the capital of France? Answer in one sentence.")
    assert r.returncode == 0, r.stderr
    assert "Paris" in r.stdout


def test_chat_says_when_no_server_answers():
    r = llmd("chat", "--url", "http://127.0.0.1:9", "hi")
    assert r.returncode != 0 and "llmd serve" in r.stderr


def test_a_release_has_no_fault_injection():
    """What FAULTS=1 adds: neither its functions nor its words are in the program."""
    release, with_faults = pathlib.Path(LLMD).read_bytes(), pathlib.Path(LLMD_WITH_FAULTS).read_bytes()
    for word in (b"LLMD_FAULTS", b"step-stalls", b"fault_parse", b"fault_add", b"__wrap_malloc"):
        assert word in with_faults, word
        assert word not in release, word
