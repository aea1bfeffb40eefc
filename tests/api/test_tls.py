"""HTTPS: real clients, what is no TLS, certificates that change while streams run, `llmd check`."""
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import openai
import pytest

from authority import Authority, openssl
from conftest import GGUF, LLMD, PATIENCE, Server, free_port

SIM = 'devices = { "sim" }\n sim_step_us = 1000\n max_num_seqs = 64\n max_model_len = 512\n'


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):
    s = Server(tmp_path_factory.mktemp("tls"), model=SIM, authority=authority,
               top='access_log = "stdout"\nadmin_listen = { "http://127.0.0.1:%d" }' % free_port())
    yield s.wait_ready()
    s.stop()


def sdk(server):
    return openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=0,
                         http_client=openai.DefaultHttpxClient(verify=server.tls))


def test_the_openai_sdk(server):
    args = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50, "seed": 7,
            "extra_body": {"ignore_eos": True}}
    with sdk(server) as client:
        plain = client.chat.completions.create(**args)
        chunks = list(client.chat.completions.create(stream=True, **args))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == plain.choices[0].message.content and plain.usage.completion_tokens == 50
        assert sum(1 for c in chunks if c.choices and c.choices[0].delta.content) > 20
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**{**args, "model": "none"})
        with pytest.raises(openai.BadRequestError):  # a body of many records
            client.completions.create(model="m", prompt="word " * 60000, max_tokens=1)


def test_protocols_and_trust(server):
    assert server.get("/health")[0] == 200
    with server.connect() as s:
        assert s.version() == "TLSv1.3"
    stranger = ssl.create_default_context()
    before = server.metric('llmd_tls_handshake_failures_total{reason="alert"}')
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection("127.0.0.1", server.port, timeout=PATIENCE, context=stranger).connect()
    server.wait_metric('llmd_tls_handshake_failures_total{reason="alert"}', before + 1)
    assert server.metric("llmd_tls_certificate_expiry_seconds") > time.time() + 29 * 86400


def test_plain_http_on_the_port(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    c.request("GET", "/health")
    r = c.getresponse()
    assert r.status == 400 and r.getheader("Content-Type") == "text/plain"
    assert b"write https://" in r.read()
    c.close()


def test_the_request_log_names_the_client(server):
    status, answer = server.post("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 2})
    assert status == 200
    until = time.monotonic() + PATIENCE
    while True:
        rows = [json.loads(line) for line in server.log_path.read_text().splitlines() if line.startswith("{")]
        rows = [r for r in rows if r["id"] == answer["id"]]
        if rows:
            break
        assert time.monotonic() < until
        time.sleep(0.02)
    assert rows[0]["client"] == "127.0.0.1"


# ---- listeners ----

def test_plain_listeners_beside(tmp_path, authority):
    plain = free_port()
    s = Server(tmp_path, model=SIM, authority=authority, more_listen=(f"http://127.0.0.1:{plain}", "unix:http.sock"))
    try:
        s.wait_ready()
        c = http.client.HTTPConnection("127.0.0.1", plain, timeout=PATIENCE)
        c.request("GET", "/health")
        assert c.getresponse().status == 200
        c.close()
        with socket.socket(socket.AF_UNIX) as u:
            u.connect(str(tmp_path / "http.sock"))
            u.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert u.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        s.stop()


# ---- renewal ----

def stream(server, started, out):
    """A stream of 400 tokens: how many events came, and whether it ended well."""
    body = json.dumps({"model": "m", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}).encode()
    n, done = 0, False
    with server.connect() as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        for line in s.makefile("rb"):
            if line.startswith(b"data: {"):
                n += b'"text"' in line
                started.set()
            done |= line.startswith(b"data: [DONE]")
    out.append((n, done))


def serial(server):
    with server.connect() as s:
        return s.getpeercert()["serialNumber"]


def reload(server):
    """As `llmd reload`: the state that it ended with."""
    status, state = server.admin("POST", "reload")
    assert status == 202, state
    until = time.monotonic() + PATIENCE
    while True:
        now = server.admin("GET", "reload")[1]
        if now["number"] >= state["number"] and now["state"] != "running":
            return now
        assert time.monotonic() < until
        time.sleep(0.01)


def install(authority, pair):
    """In the place of the files that the server's configuration names, as a renewal does."""
    for path, name in zip(pair, ("server.crt", "server.key")):
        shutil.copy2(path, authority.folder / "new")
        os.replace(authority.folder / "new", authority.folder / name)


@pytest.fixture
def renewed(tmp_path):
    """A server, and the authority that issues its certificate."""
    authority = Authority(tmp_path / "ca")
    s = Server(tmp_path, model=SIM, authority=authority)
    yield s.wait_ready(), authority
    s.stop()


def test_certificates_change_while_streams_run(renewed):
    (server, authority), ends = renewed, []
    pairs = [authority.issue("one"), authority.issue("two", days=20)]
    started = [threading.Event() for _ in range(6)]
    threads = [threading.Thread(target=stream, args=(server, e, ends)) for e in started]
    for t in threads:
        t.start()
    for e in started:
        assert e.wait(PATIENCE)
    seen = serial(server)
    for i in range(6):
        install(authority, pairs[i % 2])
        state = reload(server)
        assert state["state"] == "done" and len(state["changes"]) == 1, state
        assert state["changes"][0].startswith("tls certificate CN=")
        assert f" -> CN={('one', 'two')[i % 2]} (sha256 " in state["changes"][0]
        now = serial(server)
        assert now != seen
        seen = now
    for t in threads:
        t.join(PATIENCE)
    assert ends == [(400, True)] * 6
    assert reload(server)["changes"] == []  # the same files: nothing to say
    assert server.metric("llmd_tls_certificate_expiry_seconds") < time.time() + 21 * 86400


def test_a_bad_file_changes_nothing(renewed):
    server, authority = renewed
    before = serial(server)
    folder = authority.folder
    other = authority.issue("other")
    for name, text, word in (("server.crt", "no certificate", "holds no certificate in PEM form"),
                             ("server.key", other[1].read_text(), "is not the key of the certificate in"),
                             ("server.key", None, "No such file")):
        good = (folder / name).read_text()
        (folder / name).write_text(text) if text else (folder / name).unlink()
        state = reload(server)
        assert state["state"] == "failed" and word in state["message"], state
        assert str(folder / name) in state["message"] and "llmd.conf:" in state["message"]
        assert serial(server) == before
        (folder / name).write_text(good)
        (folder / name).chmod(0o600)
    assert reload(server)["state"] == "done"
    install(authority, other)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + PATIENCE
    while serial(server) == before:
        assert time.monotonic() < until
        time.sleep(0.02)
    text = server.config.read_text()
    server.config.write_text(text.replace("tls {", 'tls { min_version = "1.3" '))
    assert 'tls: min_version "1.2" -> "1.3"' in reload(server)["changes"]
    server.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        server.connect()
    server.config.write_text(text[:text.index("tls {")] + text[text.index("}", text.index("tls {")) + 1:])
    state = reload(server)
    assert state["state"] == "failed" and "tls" in state["message"], state


# ---- llmd check, and a start that cannot be ----

def check(folder, certificate, key):
    config = folder / "llmd.conf"
    config.write_text(f'listen = {{ "127.0.0.1:8080" }}\ntls {{ certificate = "{certificate}"\n key = "{key}" }}\n'
                      f'model "m" {{ path = "{GGUF}" devices = {{ "sim" }} }}\n')
    return subprocess.run([LLMD, "check", "--config", str(config)], capture_output=True, text=True, timeout=PATIENCE)


def test_check(tmp_path, authority):
    certificate, key = authority.issue("checked")
    r = check(tmp_path, certificate, key)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    assert "\ntls certificate CN=checked (sha256 " in r.stdout
    short = authority.issue("short", days=3)
    short[1].chmod(0o644)
    r = check(tmp_path, *short)
    assert r.returncode == 0
    lines = r.stderr.splitlines()
    where = f"warning: {tmp_path}/llmd.conf:2: option "
    assert len(lines) == 2 and lines[0].startswith(f"{where}'certificate': {short[0]}: expires on ")
    assert lines[1].startswith(f"{where}'key': {short[1]}: every user of this host can read it")
    r = check(tmp_path, certificate, short[1])
    assert r.returncode == 1 and r.stderr.startswith(f"{tmp_path}/llmd.conf:2: option 'key': {short[1]}: is not the key")
    openssl("pkey", "-in", key, "-aes128", "-passout", "pass:secret", "-out", tmp_path / "sealed.key")
    r = check(tmp_path, certificate, tmp_path / "sealed.key")
    assert r.returncode == 1 and "passphrase" in r.stderr and "openssl pkey" in r.stderr


def test_a_start_without_its_certificate(tmp_path, authority):
    check(tmp_path, tmp_path / "none.crt", authority.issue("unused")[1])
    text = (tmp_path / "llmd.conf").read_text().replace("127.0.0.1:8080", "127.0.0.1:0")
    (tmp_path / "llmd.conf").write_text('control_socket = "llmd.sock"\n' + text)
    r = subprocess.run([LLMD, "serve", "--config", str(tmp_path / "llmd.conf")], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 1
    assert f"cannot start: {tmp_path}/llmd.conf:3: option 'certificate': {tmp_path}/none.crt: No such file" in r.stderr
