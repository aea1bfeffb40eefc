"""What the status page asks of a server: login, sessions, its files, the stream, history, the request log."""
import gzip
import hashlib
import json
import re
import socket
import time

import pytest

from conftest import PATIENCE, wait_until

SIM = 'devices = { "sim" }\n sim_step_us = 2000\n max_num_seqs = 64\n'


def key(name, value, scope):
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f'key "{name}" {{ sha256 = "{digest}" scope = "{scope}" }}\n'


KEYS = key("ops", "sk-ops", "admin") + key("eye", "sk-eye", "read_only") + key("app", "sk-app", "inference")


@pytest.fixture(scope="module")
def server(make_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("log")
    return make_server(model=SIM + " sim_workers = 2", name="sim",
                       top=KEYS + f'store {{ directory = "{log}" }}\nhost_names = {{ "llmd.example" }}\n')


class Tab:
    """A browser's tab: keeps the cookie, knows the token, sends its Origin."""

    def __init__(self, server, key=None):
        self.server, self.cookie, self.csrf = server, None, None
        if key:
            status, headers, body = self.ask("POST", "/admin/v1/session", {"key": key})
            assert status == 200, body
            self.set_cookie = headers["Set-Cookie"]
            self.cookie = self.set_cookie.split(";")[0]
            self.session = json.loads(body)
            self.csrf = self.session["csrf"]

    def ask(self, method, path, body=None, **more):
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if method != "GET":
            headers["Origin"] = self.server.base
            if self.csrf:
                headers["X-CSRF-Token"] = self.csrf
        headers.update({k.replace("_", "-"): v for k, v in more.items()})
        headers = {k: v for k, v in headers.items() if v is not None}
        return self.server.request(method, path, body, headers)

    def get(self, path):
        status, headers, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture(scope="module")
def ops(server):
    return Tab(server, "sk-ops")


def generate(server, n=4, request_id=None):
    headers = {"Authorization": "Bearer sk-app", **({"X-Request-Id": request_id} if request_id else {})}
    status, answer = server.post("/v1/completions", {"model": "sim", "prompt": "hello there", "max_tokens": n,
                                                     "ignore_eos": True}, headers)
    assert status == 200
    return answer["id"]


# ---- the page's files ----

def test_files(server):
    status, headers, body = server.request("GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    csp = headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                 "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert rule in csp
    assert "unsafe" not in csp
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin" and headers["Cache-Control"] == "no-cache"
    named = set(re.findall(rb'(?:src|href)="/?(ui/[a-z_.]+)"', body))
    for path in [p.decode() for p in named] + [""]:
        plain = server.request("GET", "/" + path)
        packed = server.request("GET", "/" + path, headers={"Accept-Encoding": "gzip"})
        assert plain[0] == packed[0] == 200
        assert gzip.decompress(packed[2]) == plain[2] and packed[1]["Content-Encoding"] == "gzip"
        assert plain[1]["ETag"] != packed[1]["ETag"]
        status, headers, body = server.request("GET", "/" + path, headers={"If-None-Match": plain[1]["ETag"]})
        assert status == 304 and body == b"" and headers["ETag"] == plain[1]["ETag"]
    for path in "/ui/", "/ui/embed.sh", "/ui/../conf", "/ui/%2e%2e/conf", "/index.html":
        assert server.request("GET", path)[0] == 404


# ---- login ----

def test_login_and_logout(server):
    anyone = Tab(server)
    assert anyone.ask("GET", "/admin/v1/session")[0] == 401
    assert anyone.ask("GET", "/admin/v1/snapshot")[0] == 401
    tab = Tab(server, "sk-ops")
    assert tab.set_cookie.startswith("llmd=") and "HttpOnly" in tab.set_cookie and "SameSite=Strict" in tab.set_cookie
    assert "Path=/" in tab.set_cookie and "Domain" not in tab.set_cookie
    assert tab.session["name"] == "ops" and tab.session["role"] == "admin" and tab.session["generates"]
    assert abs(tab.session["expires"] - time.time() - 12 * 3600) < 60
    assert tab.get("/admin/v1/session") == tab.session
    # what changes something
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"})[0] == 200
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, X_CSRF_Token=None)[0] == 403
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, X_CSRF_Token="0" * 64)[0] == 403
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, Origin=None)[0] == 403
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, Origin="http://evil.example")[0] == 403
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, Origin="null")[0] == 403
    other = Tab(server, "sk-ops")
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"}, X_CSRF_Token=other.csrf)[0] == 403
    # where from
    assert tab.ask("GET", "/admin/v1/snapshot", Host="evil.example")[0] == 403
    assert tab.ask("GET", "/admin/v1/snapshot", Host="llmd.example")[0] == 200
    assert tab.ask("GET", "/admin/v1/snapshot", Sec_Fetch_Site="cross-site")[0] == 403
    # the playground
    status, _, body = tab.ask("POST", "/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 1})
    assert status == 200, body
    assert tab.ask("POST", "/v1/completions", {"model": "sim", "prompt": "x"}, X_CSRF_Token=None)[0] == 403
    assert tab.ask("DELETE", "/admin/v1/session")[0] == 204
    assert tab.ask("GET", "/admin/v1/session")[0] == 401 and other.get("/admin/v1/session")["name"] == "ops"


def test_roles(server, ops):
    eye = Tab(server, "sk-eye")
    assert eye.session["role"] == "read-only"
    for path in ("snapshot", "history", "decisions", "requests", "keys", "events", "config", "log"):
        assert eye.ask("GET", "/admin/v1/" + path)[0] == 200, path
    for method, path, body in (("POST", "drain", {}), ("POST", "reload", None), ("DELETE", "requests/x", None),
                               ("POST", "log_level", {"level": "info"}), ("POST", "undrain", {"worker": 0})):
        assert eye.ask(method, "/admin/v1/" + path, body)[0] == 403, path
    assert eye.ask("POST", "/v1/completions", {"model": "sim", "prompt": "x"})[0] == 403
    status, _, body = Tab(server).ask("POST", "/admin/v1/session", {"key": "sk-app"})
    assert status == 403 and b"administrator" in body
    # a key is no session's, and needs no token
    bearer = {"Authorization": "Bearer sk-ops"}
    assert server.request("POST", "/admin/v1/log_level", {"level": "info"}, bearer)[0] == 200
    assert json.loads(server.get("/admin/v1/session", bearer)[1])["csrf"] is None


def test_tries_are_counted(make_server):
    s = make_server(model=SIM, name="sim", top=KEYS)
    seen = [Tab(s).ask("POST", "/admin/v1/session", {"key": f"no-{i}"}) for i in range(30)]
    assert [r[0] for r in seen[:10]] == [401] * 10
    late = [r for r in seen if r[0] == 429]
    assert late and int(late[0][1]["Retry-After"]) >= 1
    s.stop()


def test_a_key_that_goes_takes_its_sessions_along(make_server):
    s = make_server(model=SIM, name="sim", top=KEYS)
    tab, eye = Tab(s, "sk-ops"), Tab(s, "sk-eye")
    watching = Stream(eye)
    watching.event()
    s.config.write_text(s.config.read_text().replace(key("eye", "sk-eye", "read_only"), ""))
    assert tab.ask("POST", "/admin/v1/reload")[0] == 202
    wait_until(lambda: eye.ask("GET", "/admin/v1/session")[0] == 401)
    wait_until(lambda: watching.event() is None)  # its stream ends, too
    assert tab.get("/admin/v1/session")["name"] == "ops"
    s.stop()


def test_options(make_server):
    s = make_server(model=SIM, name="sim", top=KEYS)
    tab = Tab(s, "sk-eye")

    def options(scope, name=None):
        v = tab.get("/admin/v1/config/options")
        section = next(x for x in v["sections"] if (x["scope"], x["name"]) == (scope, name))
        return v, {o["name"]: o for o in section["options"]}

    v, top = options("top")
    assert v["file"] == str(s.config) and v["fault"] is None and v["pending"] == 0
    assert top["listen"]["value"] == f'{{ "127.0.0.1:{s.port}" }}' and not top["listen"]["is_default"]
    assert top["log_level"] == {**top["log_level"], "value": '"info"', "default": '"info"', "is_default": True,
                                "reload": "live", "pending": None}
    assert all(o["help"] for o in top.values())
    assert hashlib.sha256(b"sk-ops").hexdigest()[:9] not in json.dumps(v)
    text = s.config.read_text()
    s.config.write_text(text.replace("max_num_seqs = 64", "max_num_seqs = 32") + "edge_threads = 3\n")
    wait_until(lambda: options("top")[0]["pending"] == 2)
    model = options("model", "sim")[1]["max_num_seqs"]
    assert (model["value"], model["pending"], model["reload"]) == ("64", "32", "roll")
    assert (options("top")[1]["edge_threads"]["pending"], options("top")[1]["edge_threads"]["reload"]) == ("3", "restart")
    s.config.write_text(text + "no_such_option = 1\n")
    wait_until(lambda: "no_such_option" in (options("top")[0]["fault"] or ""))
    assert options("top")[0]["pending"] == 0
    s.config.write_text(text.replace(key("app", "sk-app", "inference"), ""))
    wait_until(lambda: options("top")[0]["pending"] == 1)
    removed = [x for x in tab.get("/admin/v1/config/options")["sections"] if x["pending"]]
    assert [(x["scope"], x["name"], x["pending"]) for x in removed] == [("key", "app", "removed")]
    s.stop()


# ---- what it paints ----

class Stream:
    """Events of /admin/v1/stream, one by one; None at the end."""

    def __init__(self, tab):
        self.socket = socket.create_connection(("127.0.0.1", tab.server.port), timeout=PATIENCE)
        self.socket.sendall((f"GET /admin/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{tab.server.port}\r\n"
                             f"Cookie: {tab.cookie}\r\nAccept: text/event-stream\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self.file.readline()
        self.status = int(self.head.split()[1])
        self.pending = b""

    def event(self):
        while b"\n\n" not in self.pending:
            size = self.file.readline().strip()
            if not size or size == b"0":
                return None
            self.pending += self.file.read(int(size, 16) + 2)[:-2]
        event, self.pending = self.pending.split(b"\n\n", 1)
        return dict(line.split(": ", 1) for line in event.decode().split("\n"))

    def close(self):
        self.file.close()
        self.socket.close()


def test_snapshot(server, ops):
    generate(server)
    # a busy machine may make a worker slow for a moment
    v = wait_until(lambda: (s := ops.get("/admin/v1/snapshot"))["verdict"]["level"] == "ok" and s)
    assert v["pid"] == server.process.pid
    assert v["verdict"]["state"] in ("serving", "idle") and v["verdict"]["reason"]
    assert abs(v["time"] - time.time()) < PATIENCE and v["verdict"]["since"] <= v["time"]
    assert [w["worker"] for w in v["workers"]] == [0, 1] and v["gpus"] == []
    assert v["models"][0]["name"] == "sim" and v["server"]["request_log"] == "ok"
    snapshot = wait_until(lambda: (s := ops.get("/admin/v1/snapshot"))["rates"]["ttft_p95"] and s)
    rates = snapshot["rates"]
    assert rates["ttft_p50"] <= rates["ttft_p95"] <= rates["ttft_p99"] and 0 <= rates["kv"] <= 1
    assert snapshot["decisions"][-1]["candidates"] and snapshot["requests"] == {"total": 0, "requests": []}
    assert any(w["ttft_p95"] for w in snapshot["workers"])
    assert server.admin("GET", "status")[1]["verdict"]["reason"]


def test_stream(server, ops):
    tabs = [Stream(ops) for _ in range(3)]
    for tab in tabs:
        assert tab.status == 200 and b"text/event-stream" in tab.head
    first = [tab.event() for tab in tabs]
    for tab, before in zip(tabs, first):
        after = tab.event()
        assert before["event"] == "snapshot" and before["retry"] == "2000"
        process, number = before["id"].split(":")
        assert after["id"].split(":")[0] == process and int(after["id"].split(":")[1]) > int(number)
        seen = json.loads(after["data"])
        assert f"{seen['process']}:{seen['number']}" == after["id"]
    wait_until(lambda: ops.get("/admin/v1/snapshot")["server"]["tabs"] == 3)
    # no drain waits for a tab; a reply counts until the server has seen it leave
    wait_until(lambda: json.loads(server.get("/load")[1])["server_load"] == 0)
    for tab in tabs:
        tab.close()
    wait_until(lambda: ops.get("/admin/v1/snapshot")["server"]["tabs"] == 0)


def test_tabs_are_bounded_and_end_with_the_server(make_server):
    s = make_server(model=SIM, name="sim", top=KEYS)
    tab = Tab(s, "sk-eye")
    tabs = [Stream(tab) for _ in range(64)]
    assert all(t.status == 200 for t in tabs)
    one_more = Stream(tab)
    assert one_more.status == 503 and b"Retry-After" in one_more.head
    began = time.monotonic()
    s.stop()  # which takes no drain_timeout_s of 30 s
    assert time.monotonic() - began < 25
    for t in tabs:
        while t.event() is not None:
            pass


def test_history(server, ops):
    def full():
        v = ops.get("/admin/v1/history?span=15m")
        return v if len(v["t"]) >= 3 else None

    generate(server)
    v = wait_until(full)
    assert v["step"] == 1 and v["span"] == "15m" and v["process"] == ops.get("/admin/v1/snapshot")["process"]
    columns = {k: c for k, c in v.items() if isinstance(c, list)}
    assert {len(c) for c in columns.values()} == {len(v["t"])}
    assert {"t", "ttft_p50", "ttft_p95", "itl_p50", "itl_p95", "tok_s", "prompt_tok_s", "running", "waiting",
            "kv"} <= set(columns)
    assert v["t"] == sorted(v["t"])
    assert all(x is None or x >= 0 for c in columns.values() for x in c)
    wait_until(lambda: any(ops.get("/admin/v1/history")["ttft_p50"]))
    long = ops.get("/admin/v1/history?span=6h")
    assert long["step"] == 15
    assert ops.ask("GET", "/admin/v1/history?span=1h")[0] == 400


def test_kv_map(server, ops):
    generate(server)
    for w in ops.get("/admin/v1/kv")["workers"]:
        assert w["blocks"] == w["free"] + w["cached"] + w["used"] + w["shared"] > 0
        runs = re.findall(r"([fcus])(\d+)", w["map"])
        assert "".join(a + b for a, b in runs) == w["map"] and sum(int(n) for _, n in runs) == w["cells"] <= 4096
        assert (w["cells"] - 1) * w["blocks_per_cell"] < w["blocks"] <= w["cells"] * w["blocks_per_cell"]


# ---- the request log ----

def test_log(server, ops):
    ids = [generate(server, request_id=f"page-{i}") for i in range(3)]
    rows = wait_until(lambda: (r := ops.get("/admin/v1/log?limit=3")["rows"]) and r[0]["id"] == ids[2] and r)
    assert [r["id"] for r in rows] == ids[::-1] and rows[0]["key"] == "app" and "timeline" not in rows[0]
    assert [r["id"] for r in ops.get("/admin/v1/log?id=page-1")["rows"]] == [ids[1]]
    assert ops.get("/admin/v1/log?key=nobody")["rows"] == []
    assert ops.get("/admin/v1/log?status=5xx")["rows"] == []
    assert len(ops.get("/admin/v1/log?status=200&key=app&finish=length&limit=2")["rows"]) == 2
    assert ops.get("/admin/v1/log?slow_ms=3600000")["rows"] == []
    assert ops.get(f"/admin/v1/log?since={int(time.time()) + 60}")["rows"] == []
    for wrong in "status=abc", "limit=501", "worker=x", "since=-1":
        assert ops.ask("GET", "/admin/v1/log?" + wrong)[0] == 400, wrong
    story = ops.get("/admin/v1/log/page-1")
    assert story["request"]["id"] == ids[1] and story["verdict"] and story["parts_us"][story["dominated"]] > 0
    assert story["request"]["route"][0]["decisions"][0]["candidates"] and story["request"]["timeline"]["gaps"]
    assert ops.get("/admin/v1/log/" + ids[1])["request"]["id"] == ids[1]
    assert ops.ask("GET", "/admin/v1/log/none")[0] == 404
    assert ops.ask("GET", "/admin/v1/log/" + "x" * 1000)[0] == 404


def test_a_live_request_is_told_of_and_cancelled(server, ops):
    s = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    body = json.dumps({"model": "sim", "prompt": "hello", "max_tokens": 8000, "stream": True, "ignore_eos": True})
    s.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               f"Authorization: Bearer sk-app\r\nX-Request-Id: long\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
    wait_until(lambda: any(r["id"] == "cmpl-long" and r["first_token_ms"]
                           for r in ops.get("/admin/v1/snapshot")["requests"]["requests"]))
    story = ops.get("/admin/v1/log/long")
    assert story["request"]["live"] and story["request"]["output_tokens"] > 0
    status, _, answer = ops.ask("DELETE", "/admin/v1/requests/cmpl-long")
    assert status == 200 and json.loads(answer)["cancelled"] == 1
    wait_until(lambda: ops.get("/admin/v1/requests")["total"] == 0)
    s.close()


def test_without_a_log(make_server):
    s = make_server(model=SIM, name="sim", top=KEYS + 'store { directory = "" }\n')
    tab = Tab(s, "sk-eye")
    assert tab.ask("GET", "/admin/v1/log")[0] == 404
    assert tab.get("/admin/v1/snapshot")["server"]["request_log"] == "off"
    s.stop()


# ---- without keys ----

def test_without_keys_this_host_may_look(sim):
    tab = Tab(sim)
    session = tab.get("/admin/v1/session")
    assert session["name"] == "local" and session["role"] == "read-only" and session["csrf"] is None
    assert tab.get("/admin/v1/snapshot")["models"]
    status, _, answer = tab.ask("DELETE", "/admin/v1/requests/none")
    assert status == 403 and b"may look and no more" in answer
    assert tab.ask("GET", "/admin/v1/snapshot", Host="evil.example")[0] == 403
    assert tab.ask("GET", "/admin/v1/session", Host="evil.example")[0] == 403
    assert tab.ask("GET", "/admin/v1/snapshot", X_Forwarded_For="192.0.2.1")[0] == 403


# ---- addresses of their own, and HTTPS ----

def test_over_https_the_cookie_is_secure(make_server, tmp_path_factory):
    from authority import Authority
    s = make_server(model=SIM, name="sim", top=KEYS, authority=Authority(tmp_path_factory.mktemp("ca")))
    tab = Tab(s, "sk-ops")
    assert tab.set_cookie.startswith("__Host-llmd=") and tab.set_cookie.endswith("; Secure")
    assert tab.get("/admin/v1/session")["name"] == "ops"
    plain = tab.cookie.replace("__Host-llmd", "llmd")
    assert tab.ask("GET", "/admin/v1/session", Cookie=plain)[0] == 401  # that could have come over HTTP
    assert tab.ask("POST", "/admin/v1/log_level", {"level": "info"},
                   Origin=s.base.replace("https", "http"))[0] == 403
    assert tab.ask("DELETE", "/admin/v1/session")[0] == 204
    s.stop()
