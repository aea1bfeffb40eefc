"""Keys as clients and operators meet them: made by `llmd key new`, limited, scoped, expired, changed under
load, never in a log; and whose cached prompts they share. The openai SDK is not modified."""
import hashlib
import re
import subprocess
import threading
import time

import openai
import pytest

from conftest import GGUF, LLMD, PATIENCE, Server, wait_until

SIM = 'devices = { "sim" }\n sim_step_us = 1000\n max_num_seqs = 64\n max_model_len = 2048\n'
PROMPT = "Of all the rivers that I know of, this one is the longest, and nobody has ever swum it. " * 4


def section(name, more="", secret=None):
    digest = hashlib.sha256((secret or "sk-" + name).encode()).hexdigest()
    return f'key "{name}" {{ sha256 = "{digest}"\n {more} }}\n'


def client(server, key, retries=0):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=key, max_retries=retries)


def complete(c, **kw):
    return c.completions.create(**{"model": "m", "prompt": "hello", "max_tokens": 3} | kw)


def use(server, name):
    return next(k for k in server.admin("GET", "keys")[1]["keys"] if k["name"] == name)


def wait_idle(server, name, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while use(server, name)["running"] > 0:
        assert time.monotonic() < until, use(server, name)
        time.sleep(0.01)
    return use(server, name)


# ---- llmd key new ----

def run_key(*args):
    return subprocess.run([LLMD, "key", *args], capture_output=True, text=True, timeout=PATIENCE)


def test_a_new_key_opens_what_its_section_says(make_server):
    r = run_key("new", "team-a", "--scope", "admin", "--requests-per-minute", "600", "--expires", "2099-12-31",
                "--models", "m", "--priority=-2")
    assert r.returncode == 0 and r.stderr == "", r
    key = re.search(r"^llmd_sk_[A-Za-z0-9]{43}$", r.stdout, re.M)[0]
    stanza = r.stdout[r.stdout.index('key "team-a" {'):]
    assert key not in stanza and r.stdout.count(key) == 1
    s = make_server(model=SIM, top=stanza)
    assert complete(client(s, key)).usage.completion_tokens == 3
    assert s.get("/admin/v1/status", {"Authorization": f"Bearer {key}"})[0] == 200
    k = use(s, "team-a")
    assert (k["scope"], k["expires"], k["models"], k["priority"], k["requests_per_minute"]) == (
        "admin", "2099-12-31T00:00:00Z", ["m"], -2, 600)
    s.stop()


def test_keys_are_never_the_same():
    keys = {re.search(r"llmd_sk_\w+", run_key("new", "a").stdout)[0] for _ in range(8)}
    assert len(keys) == 8
    assert len({k[8] for k in keys}) > 1  # from their first letter on


@pytest.mark.parametrize("args, said", [
    ((), "llmd key new NAME"), (("old", "a"), "llmd key new NAME"), (("new",), "which name"), (("new", "a b"), "'a b'"),
    (("new", "a", "--scope", "root"), "inference|admin|read_only"), (("new", "a", "--expires", "soon"), "YYYY-MM-DD"),
    (("new", "a", "--tokens-per-minute", "1e9"), "0 to 100000000"), (("new", "a", "--models", "x y"), "'x y'"),
])
def test_what_is_no_key(args, said):
    r = run_key(*args)
    assert r.returncode == 2 and said in r.stderr and r.stdout == ""


# ---- typed errors ----

@pytest.fixture(scope="module")
def server(make_server):
    keys = (section("plain") + section("eye", 'scope = "read_only"') + section("old", 'expires = "2020-01-01"') +
            section("other", 'models = { "b" }') + section("two", "requests_per_minute = 2") +
            section("small", "tokens_per_minute = 120") + section("one", "max_concurrent = 1") +
            section("again", "requests_per_minute = 30"))
    return make_server(model=SIM, top=keys + f'model "b" {{ path = "{GGUF}"\n aliases = {{ "bee" }}\n {SIM} }}\n')


def test_who_are_you(server):
    for key in ("sk-nobody", "sk-plai", "sk-plainn", "SK-PLAIN"):
        with pytest.raises(openai.AuthenticationError) as e:
            complete(client(server, key))
        assert e.value.code == "invalid_api_key" and e.value.type == "authentication_error"
    with pytest.raises(openai.AuthenticationError) as e:
        complete(client(server, "sk-old"))
    assert e.value.code == "expired_api_key" and "2020-01-01T00:00:00Z" in str(e.value)


def test_what_may_you(server):
    eye = client(server, "sk-eye")
    assert {m.id for m in eye.models.list()} == {"m", "b", "bee"}
    with pytest.raises(openai.PermissionDeniedError):
        complete(eye)
    bearer = {"Authorization": "Bearer sk-eye"}
    assert server.get("/admin/v1/workers", bearer)[0] == 200
    assert server.request("POST", "/admin/v1/reload", {}, bearer)[0] == 403
    other = client(server, "sk-other")
    assert {m.id for m in other.models.list()} == {"b", "bee"}
    assert complete(other, model="bee").model == "b"
    with pytest.raises(openai.NotFoundError) as e:
        complete(other)
    assert "Valid names: b, bee." in str(e.value)
    with pytest.raises(openai.NotFoundError):
        other.models.retrieve("m")


def metrics(server, key=None):
    return server.get("/metrics", {"Authorization": f"Bearer sk-{key}"} if key else None)


def test_who_sees_what_keys_used(server, make_server):
    def names_keys(s, key=None):
        status, text = metrics(s, key)
        assert status == 200 and "vllm:request_success_total" in text
        return 'llmd_key_requests_total{key="plain"}' in text

    assert [names_keys(server, k) for k in (None, "nobody", "plain", "old", "eye")] == [False] * 4 + [True]
    keys = section("plain") + section("ops", 'scope = "admin"')
    s = make_server(model=SIM, top=keys + 'metrics_access = "all"\n')
    assert names_keys(s) and names_keys(s, "plain")
    s.config.write_text(s.config.read_text().replace('"all"', '"operators"'))
    wait_reloaded(s, s.admin("POST", "reload")[1]["number"])
    assert [metrics(s, k)[0] for k in (None, "nobody", "plain", "ops")] == [401, 401, 403, 200]
    assert names_keys(s, "ops")


def test_requests_per_minute(server):
    c = client(server, "sk-two")
    raw = c.completions.with_raw_response.create(model="m", prompt="hello", max_tokens=3)
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"(\d+m)?\d+(\.\d+)?s|\d+ms", raw.headers["x-ratelimit-reset-requests"])
    assert list(complete(c, stream=True))[-1].choices[0].finish_reason == "length"
    with pytest.raises(openai.RateLimitError) as e:
        complete(c)
    assert e.value.code == "rate_limit_exceeded" and e.value.type == "requests"
    h = e.value.response.headers
    assert 1 <= int(h["retry-after"]) <= 30
    assert int(h["retry-after"]) - 1 < int(h["retry-after-ms"]) / 1000 <= int(h["retry-after"])


def test_tokens_per_minute(server):
    c = client(server, "sk-small")
    raw = c.completions.with_raw_response.create(model="m", prompt="hello", max_tokens=100,
                                                 extra_body={"ignore_eos": True})
    used = raw.parse().usage.total_tokens
    assert 120 - used <= int(raw.headers["x-ratelimit-remaining-tokens"]) <= 121 - used + 20
    with pytest.raises(openai.RateLimitError) as e:
        complete(c, max_tokens=100)
    assert e.value.type == "tokens"
    with pytest.raises(openai.BadRequestError) as e:
        complete(c, prompt="hello " * 400)
    assert "may use 120 per minute" in str(e.value) and e.value.param == "prompt"


def test_one_at_a_time(server):
    c = client(server, "sk-one")
    stream = complete(c, max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    with pytest.raises(openai.RateLimitError) as e:
        complete(c)
    assert "concurrent requests: limit 1" in str(e.value)
    stream.close()
    wait_idle(server, "one")
    complete(c)


def test_the_sdk_comes_back_when_it_is_told(server):
    """Retry-After is exact: the first retry gets through."""
    c = client(server, "sk-again", retries=2)
    refused = 'llmd_key_limited_total{key="again",limit="requests"} '
    for _ in range(200):
        complete(c)
        n = re.search(re.escape(refused) + r"(\d+)", metrics(server, "eye")[1])[1]
        if n != "0":
            break
    assert n == "1"


# ---- whose prompts are cached ----

def test_who_shares_what_is_cached(tmp_path):
    keys = section("a") + section("b")
    s = Server(tmp_path, model=SIM + "sim_workers = 2\n", top=keys).wait_ready()
    a, b = client(s, "sk-a"), client(s, "sk-b")

    def cached(c, **kw):
        raw = c.completions.with_raw_response.create(model="m", prompt=PROMPT, max_tokens=2, **kw)
        n = raw.parse().usage.prompt_tokens_details.cached_tokens
        return n, raw.headers["x-llmd-worker"]

    def soon(what):  # the router hears of what a worker has cached a moment later
        wait_until(what)

    n, at = cached(a)
    assert n == 0
    soon(lambda: cached(a)[0] > 0)
    n, at = cached(a)
    assert n > 0
    assert cached(b)[0] == 0  # the same prompt, another key
    soon(lambda: cached(b)[0] == n)
    assert cached(a, extra_body={"cache_salt": "x"})[0] == 0
    assert cached(b, extra_body={"cache_salt": "x"})[0] == 0
    soon(lambda: cached(a) == (n, at))  # routing knows whose is where
    text = s.config.read_text()
    s.config.write_text('prefix_cache_scope = "shared"\n' + text)
    number = s.admin("POST", "reload")[1]["number"]
    wait_reloaded(s, number)
    assert cached(a)[0] == 0  # nobody's so far
    soon(lambda: cached(b)[0] == n)
    assert cached(b, extra_body={"cache_salt": "x"})[0] == 0
    soon(lambda: cached(a, extra_body={"cache_salt": "x"})[0] == n)
    s.config.write_text(text)
    wait_reloaded(s, s.admin("POST", "reload")[1]["number"])
    soon(lambda: cached(a)[0] == n)  # as before
    s.stop()


def test_operators_have_what_is_cached_forgotten(make_server):
    s = make_server(model=SIM, top=section("a") + section("ops", 'scope = "admin"') + section("b", 'scope = "read_only"'))
    a = client(s, "sk-a")

    def cached():
        return complete(a, prompt=PROMPT).usage.prompt_tokens_details.cached_tokens

    def reset(key):
        return s.request("POST", "/reset_prefix_cache", headers={"Authorization": f"Bearer sk-{key}"})

    assert cached() == 0
    wait_until(lambda: cached() > 0)
    assert [reset(key)[0] for key in ("a", "b", "nobody")] == [403, 403, 401]
    assert cached() > 0
    status, _, body = reset("ops")
    assert (status, body) == (200, b"")
    assert cached() == 0
    wait_until(lambda: cached() > 0)


def test_invocations_ask_for_a_key(server):
    def ask(key, body):
        headers = {"Authorization": f"Bearer sk-{key}"} if key else {}
        return server.post("/invocations", body, headers)

    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "model": "m"}
    assert [ask(key, chat)[0] for key in (None, "nobody", "old", "eye")] == [401, 401, 401, 403]
    assert ask("plain", chat)[1]["object"] == "chat.completion"
    assert ask("plain", {"prompt": "hi", "max_tokens": 2, "model": "m"})[1]["object"] == "text_completion"


def wait_reloaded(server, number, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while True:
        state = server.admin("GET", "reload")[1]
        if state["number"] >= number and state["state"] != "running":
            assert state["state"] == "done", state
            return state
        assert time.monotonic() < until, state
        time.sleep(0.005)


# ---- under load ----

def test_keys_change_while_streams_run(tmp_path):
    """Who is allowed all the time never notices; buckets are neither emptied nor filled."""
    model = SIM.replace("1000", "500")
    stay = section("stay", "tokens_per_minute = 100000000\n max_concurrent = 50") + section("spent", "requests_per_minute = 1")
    s = Server(tmp_path, model=model, top=stay).wait_ready()
    complete(client(s, "sk-spent"))
    text, stop, failed, n = s.config.read_text(), threading.Event(), [], [0]

    def ask():
        c = client(s, "sk-stay")
        while not stop.is_set():
            try:
                chunks = list(complete(c, max_tokens=60, stream=True, extra_body={"ignore_eos": True}))
                if chunks[-1].choices[0].finish_reason != "length":
                    failed.append("cut off")
                n[0] += 1
            except openai.OpenAIError as e:
                failed.append(repr(e))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(10):
        others = "".join(section(f"k{i}-{k}", "requests_per_minute = 5") for k in range(5))
        limit = f"tokens_per_minute = {100000000 - i}"
        s.config.write_text(others + text.replace("tokens_per_minute = 100000000", limit))
        wait_reloaded(s, s.admin("POST", "reload")[1]["number"])
        assert complete(client(s, f"sk-k{i}-4")).usage.completion_tokens == 3
        with pytest.raises(openai.RateLimitError):
            complete(client(s, "sk-spent"))
    stop.set()
    for t in threads:
        t.join()
    assert not failed and n[0] > 0, failed[:5]
    k = wait_idle(s, "stay")
    assert k["requests"] == n[0] and k["output_tokens"] == 60 * n[0]
    assert [k["name"] for k in s.admin("GET", "keys")[1]["keys"]][:5] == [f"k9-{i}" for i in range(5)]
    assert "k8-" not in s.get("/metrics")[1]
    s.stop()


def test_a_request_that_moves_is_counted_once(tmp_path):
    s = Server(tmp_path, model=SIM + "sim_workers = 2\n", top=section("a", "tokens_per_minute = 6000")).wait_ready()
    with s_worker_of(s, 1200) as (stream, worker):
        assert s.admin("POST", "drain", {"worker": worker})[0] == 202
        chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    k = wait_idle(s, "a")
    assert (k["prompt_tokens"], k["output_tokens"]) == (1, 1200)
    assert 6000 - 1201 <= k["tokens_left"]
    s.stop()


class s_worker_of:
    """A stream of n tokens, and the worker that has it."""

    def __init__(self, server, n):
        self.raw = client(server, "sk-a").completions.with_raw_response.create(
            model="m", prompt="hello", max_tokens=n, stream=True, extra_body={"ignore_eos": True})

    def __enter__(self):
        return self.raw.parse(), int(self.raw.headers["x-llmd-worker"])

    def __exit__(self, *_):
        self.raw.parse().close()


# ---- logs ----

def test_keys_are_in_no_log(tmp_path):
    """At the most talkative level, with bodies kept: neither right ones nor wrong ones, however they come."""
    key, wrong = "sk-right-Qzwx", "sk-wrong-Vkjy"  # letters that no random id in hexadecimal digits has
    top = ('log_level = "debug"\naccess_log = "stdout"\nstore { directory = "log" log_prompts = true }\n' +
           section("team", secret=key) + section("old", 'expires = "2020-01-01"', secret=key + "-old"))
    s = Server(tmp_path, model=SIM, top=top).wait_ready()
    complete(client(s, key))
    list(complete(client(s, key), stream=True))
    for k in (wrong, key + "-old"):
        with pytest.raises(openai.AuthenticationError):
            complete(client(s, k))
    for k in (key, wrong):
        auth = {"Authorization": f"Bearer {k}"}
        s.get("/v1/models", auth)
        s.get("/admin/v1/config", auth)
        s.get("/v1/nothing", auth)
        s.request("POST", "/v1/completions", "no JSON", auth)
        s.request("PATCH", "/v1/completions", None, auth)
        s.request("GET", "/v1/models", None, {"Authorization": f"Basic {k}"})
        s.request("GET", "/v1/models", None, {"Authorization": k})
        s.request("GET", "/v1/models", None, {"x-api-key": k})
        s.request("GET", "/v1/models", None, auth | {"Host": "bad host"})
        s.request("POST", "/v1/completions", None, auth | {"Content-Length": "+3"})
        s.request("POST", "/v1/completions", None, auth | {"Transfer-Encoding": "gzip"})
    wait_reloaded(s, s.admin("POST", "reload")[1]["number"])
    views = str([s.admin("GET", v) for v in ("status", "config", "keys", "events", "requests", "decisions", "reload")])
    views += s.get("/metrics")[1]
    s.stop()
    kept = [s.log_path, *(tmp_path / "log").iterdir()]
    assert len(kept) > 1 and b"team" in s.log_path.read_bytes()
    for data in [views.encode(), *(p.read_bytes() for p in kept)]:
        assert b"Qzwx" not in data and b"Vkjy" not in data
