"""A real server with simulated workers, and Chromium in front of it. A page fails its test when the console
has an error, the content security policy was broken, or a script threw."""
import atexit
import hashlib
import importlib.util
import json
import pathlib
import shutil
import tempfile
import threading
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("api_conftest", ROOT / "tests/api/conftest.py")
api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(api)

PATIENCE_MS = 20000
expect.set_options(timeout=PATIENCE_MS)
SHOTS = ROOT / "tests/web/shots"
GGUF = ROOT / "models" / api.GGUF.name
KEYS = {"ops": ("llmd-admin-key", "admin"), "viewer": ("llmd-read-key", "read_only"), "app": ("llmd-app-key", "inference")}
SIM = """devices = { "sim" }
  sim_workers = 3
  sim_step_us = 8000
  sim_row_ns = 100000
  max_model_len = 2048
  kv_cache_mb = 96"""


def key_sections(**more):
    return "\n".join(f'key "{name}" {{ sha256 = "{hashlib.sha256(key.encode()).hexdigest()}" scope = "{scope}" '
                     f'{more.get(name, "")} }}' for name, (key, scope) in KEYS.items())


class Traffic:
    """Some clients that ask without end."""

    def __init__(self, server, key=None, clients=10, max_tokens=160):
        self.over = threading.Event()
        head = {"Content-Type": "application/json", **({"Authorization": "Bearer " + key} if key else {})}
        words = "cache worker prompt router batch sample device queue stream kernel block".split()

        def run(i):
            n = 0
            while not self.over.is_set():
                n += 1
                text = " ".join(words[(i * 7 + n * k) % len(words)] for k in range((8, 60, 240)[(i + n) % 3]))
                body = {"model": "sim", "max_tokens": max_tokens // (1 + (i + n) % 3),
                        "messages": [{"role": "system", "content": "You are a helpful assistant. " * 12},
                                     {"role": "user", "content": text}]}
                try:
                    urllib.request.urlopen(urllib.request.Request(
                        server.base + "/v1/chat/completions", json.dumps(body).encode(), head), timeout=30).read()
                except OSError:
                    pass
                self.over.wait(0.2 + (i % 4) * 0.3)

        self.threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(clients)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(30)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield b
        b.close()


def start(**kw):
    """Its folder is named on pictures."""
    folder = tempfile.mkdtemp(prefix="llmd-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (pathlib.Path(folder) / GGUF.name).symlink_to(GGUF.resolve())
    return api.Server(folder, name="sim", path=GGUF.name, **kw).wait_ready()


@pytest.fixture(scope="session")
def server():
    """With keys: somebody has to sign in."""
    s = start(model=SIM, top='store { directory = "log" }\n' + key_sections(
        app="requests_per_minute = 100000 tokens_per_minute = 1000000 max_concurrent = 64"))
    yield s
    s.stop()


@pytest.fixture(scope="session")
def busy(server):
    """That server under traffic."""
    t = Traffic(server, KEYS["app"][0])
    api.wait_until(lambda: b'"number"' in server.request("GET", "/admin/v1/decisions", headers=bearer("ops"))[2])
    yield server
    t.stop()


def bearer(name):
    return {"Authorization": "Bearer " + KEYS[name][0]}


class Watch:
    """What a page complains of."""

    def __init__(self, page):
        self.complaints = []
        self.expected = []
        page.on("console", lambda m: m.type in ("error", "warning") and self.note(f"{m.text} ({m.location.get('url')})"))
        page.on("pageerror", lambda e: self.note(f"threw: {e}"))
        page.on("crash", lambda: self.note("crashed"))

    def note(self, text):
        self.complaints.append(text)

    def allow(self, text):
        """Complaints with this in them are part of the test."""
        self.expected.append(text)

    def left(self):
        return [c for c in self.complaints if not any(e in c for e in self.expected)]


# What is not ours to avoid: a browser writes each refused or failed request into its console.
SESSION_401 = "/admin/v1/session"


@pytest.fixture
def open_page(browser):
    """open_page(width=, scheme=, ...) -> page; watched until the test ends."""
    made = []

    def make(width=1440, scheme="light", **kw):
        context = browser.new_context(viewport={"width": width, "height": 900 if width > 500 else 844},
                                      color_scheme=scheme, reduced_motion="reduce", **kw)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.watch = Watch(page)
        page.watch.allow(SESSION_401)
        context.add_init_script("document.addEventListener('securitypolicyviolation',"
                                "e => console.error('CSP: ' + e.violatedDirective + ' ' + e.blockedURI))")
        made.append((context, page))
        return page

    yield make
    left = [c for _, page in made for c in page.watch.left()]
    for context, _ in made:
        context.close()
    assert not left, left


def sign_in(page, server, name="ops", at=""):
    page.goto(f"{server.base}/#/{at}")
    page.get_by_label("Key").fill(KEYS[name][0])
    page.get_by_role("button", name="Sign in").click()
    page.locator("#nav").wait_for(state="attached")
    return page


def go(page, view):
    """Opens a view by its address."""
    page.evaluate("view => { location.hash = '#/' + view; }", view)
    page.locator("h1").first.wait_for(state="attached")


def pytest_terminal_summary(terminalreporter):
    terminalreporter.ensure_newline()


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not config.option.collectonly:
        n = {k: len(reporter.stats.get(k, [])) for k in ("passed", "failed", "error")}
        print(f"{n['passed']} passed, {n['failed'] + n['error']} failed")


