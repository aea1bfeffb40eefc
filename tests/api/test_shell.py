"""Completions and manual pages: made from the tables that the commands and the configuration are read by."""
import re
import subprocess

import pytest

from conftest import LLMD, ROOT


def llmd(*args):
    return subprocess.run([LLMD, *args], capture_output=True, text=True, check=True).stdout


def commands():
    """What `llmd --help` lists."""
    return re.findall(r"^  (\w+) +\w", llmd("--help"), re.M)


def options(command):
    return re.findall(r"^ +(?:-\w, )?--([\w-]+)", llmd(command, "--help"), re.M)


def complete(*words):
    """What bash offers for the last word."""
    script = ('source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _llmd; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    got = subprocess.run(["bash", "-c", script, "bash", *words], input=llmd("completion", "bash"),
                         capture_output=True, text=True, check=True)
    assert not got.stderr
    return got.stdout.split()


def test_bash():
    assert set(commands()) <= set(complete("llmd", ""))
    assert complete("llmd", "expl") == ["explain"]
    assert complete("llmd", "serve", "--conf") == ["--config"]
    assert set(complete("llmd", "key", "--scope", "")) == {"inference", "admin", "read_only"}
    assert str(ROOT / "conf") in complete("llmd", "serve", "-c", str(ROOT / "con"))
    assert complete("llmd", "help", "expl") == ["explain"]
    for command in set(commands()) - {"help"}:
        assert set(options(command)) == {o[2:] for o in complete("llmd", command, "--")}, command


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_every_option_is_offered(shell):
    text = llmd("completion", shell)
    for command in set(commands()) - {"help"}:
        assert re.search(rf"\b{command}\b", text)
        for option in set(options(command)) - {"help"}:
            assert f"--{option}[" in text if shell == "zsh" else re.search(rf"{command}' -l {option}\b", text)


def test_zsh_takes_no_colon_for_its_own():
    """--listen's ADDRESS:PORT would be a value and what to run for it."""
    assert r":ADDRESS\:PORT:'" in llmd("completion", "zsh")


def test_no_such_shell():
    for args in ([], ["tcsh"]):
        got = subprocess.run([LLMD, "completion", *args], capture_output=True, text=True)
        assert got.returncode == 2 and "llmd completion" in got.stderr


def test_manual_pages():
    page = llmd("man").replace("\\-", "-")
    for command in set(commands()) - {"help"}:
        assert f'.SS "llmd {command}"' in page
        for option in options(command):
            assert f"--{option}" in page
    conf = llmd("man", "llmd.conf")
    for name in re.findall(r"^OPTION\(\w+, \w+, (\w+)", (ROOT / "conf/options.def").read_text(), re.M):
        assert f".TP\n.B {name}\n" in conf
    assert subprocess.run([LLMD, "man", "other"], capture_output=True).returncode == 2
