"""Signing in and out, roles, what a session may do; connections that break."""
import hashlib
import re
import socket
import threading

import pytest
from playwright.sync_api import expect

from conftest import KEYS, SIM, api, bearer, go, key_sections, sign_in, start


def test_a_wrong_key_is_refused_and_a_right_one_opens(server, open_page):
    page = open_page()
    page.goto(server.base)
    page.get_by_label("Key").fill("llmd-wrong-key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not open this page")
    assert page.get_by_label("Key").evaluate("e => e === document.activeElement")
    page.get_by_label("Key").fill(KEYS["ops"][0])
    page.keyboard.press("Enter")
    expect(page.locator(".verdict strong")).not_to_be_empty()
    expect(page.locator(".who strong")).to_have_text("ops")
    cookie = page.context.cookies()[0]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and KEYS["ops"][0] not in cookie["value"]
    assert page.evaluate("document.cookie") == ""


def test_a_key_that_only_generates_does_not_open_it(server, open_page):
    page = open_page()
    page.watch.allow("403")
    page.goto(server.base)
    page.get_by_label("Key").fill(KEYS["app"][0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not open this page")


def test_signing_out_ends_the_session(server, open_page):
    page = sign_in(open_page(), server)
    cookie = page.context.cookies()[0]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()
    head = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    assert server.request("GET", "/admin/v1/status", headers=head)[0] == 401
    page.reload()
    expect(page.get_by_label("Key")).to_be_visible()


def test_a_session_outlives_a_reload_of_the_page(server, open_page):
    page = sign_in(open_page(), server, at="keys")
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")


def test_read_only_looks_and_changes_nothing(busy, open_page):
    page = sign_in(open_page(), busy, "viewer")
    expect(page.locator(".who")).to_contain_text("May only look")
    expect(page.get_by_role("table", name="Workers").get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("button", name=re.compile("Drain"))).to_have_count(0)
    go(page, "requests")
    expect(page.get_by_role("table", name="Requests being answered").get_by_role("link").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Cancel"))).to_have_count(0)
    go(page, "operate")
    expect(page.locator("main")).to_contain_text("may only look")
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    go(page, "chat")
    expect(page.locator("main")).to_contain_text("may only look")
    page.watch.allow("403")
    status = page.evaluate("""async () => {
        const s = await (await fetch("/admin/v1/session")).json();
        return (await fetch("/admin/v1/reload", {method: "POST", headers: {"X-CSRF-Token": s.csrf}})).status;
    }""")
    assert status == 403


def test_a_change_without_the_token_is_refused(server, open_page):
    page = sign_in(open_page(), server)
    page.watch.allow("403")
    assert page.evaluate("fetch('/admin/v1/reload', {method: 'POST'}).then(r => r.status)") == 403


class Cut:
    """A way to a server that can be cut."""

    def __init__(self, port):
        self.to = port
        self.whole = True
        self.ends = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if not self.whole:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                client.close()
                continue
            self.ends += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    @staticmethod
    def carry(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.whole = False
        for s in self.ends:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.ends = []


def test_a_cut_connection_is_said_and_mended(server, open_page):
    way = Cut(server.port)
    page = open_page()
    for noise in ("ERR_", "Failed to load resource"):
        page.watch.allow(noise)
    page.goto(f"http://127.0.0.1:{way.port}/")
    page.get_by_label("Key").fill(KEYS["ops"][0])
    page.keyboard.press("Enter")
    expect(page.locator(".side .state")).not_to_have_text("Connecting")
    way.cut()
    expect(page.locator(".banner")).to_contain_text("No connection since")
    expect(page.locator(".side .state")).to_have_text("No connection")
    way.whole = True
    expect(page.locator(".banner")).to_be_hidden()
    expect(page.locator(".side .state")).not_to_have_text("No connection")


@pytest.fixture
def mortal():
    """A server without keys that a test may end, and start again at the same address."""
    s = start(model=SIM, top='store { directory = "log" }')
    yield s
    if s.process.poll() is None:
        s.stop()


def restart(s):
    """The same configuration, port and folder; another process."""
    again = api.Server.__new__(api.Server)
    again.__dict__.update(s.__dict__)
    again.log = open(s.log_path, "a")
    again.started = api.time.monotonic()
    again.process = api.subprocess.Popen([api.LLMD, "serve", "--config", str(s.config)], stderr=again.log, stdout=again.log)
    api.atexit.register(again.process.kill)
    return again.wait_ready()


def allow_absence(page):
    for noise in ("ERR_", "Failed to load resource"):
        page.watch.allow(noise)


def test_without_keys_nobody_signs_in_and_a_restart_is_survived(mortal, open_page):
    page = open_page()
    allow_absence(page)
    page.goto(mortal.base)
    expect(page.locator(".who strong")).to_have_text("local")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    expect(page.get_by_role("table", name="Workers").get_by_role("row")).to_have_count(4)
    mortal.process.kill()
    mortal.process.wait()
    expect(page.locator(".banner")).to_contain_text("No connection since")
    again = restart(mortal)
    try:
        expect(page.locator(".banner")).to_contain_text("started anew")
        expect(page.get_by_role("table", name="Workers").get_by_role("row")).to_have_count(4)
    finally:
        again.stop()


def test_a_restart_ends_sessions_and_says_so(open_page):
    s = start(model=SIM, top='store { directory = "log" }\n' + key_sections())
    page = open_page()
    allow_absence(page)
    sign_in(page, s)
    s.process.kill()
    s.process.wait()
    again = restart(s)
    try:
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        page.get_by_label("Key").fill(KEYS["ops"][0])
        page.keyboard.press("Enter")
        expect(page.locator(".verdict strong")).not_to_be_empty()
    finally:
        again.stop()


def test_drain_really_drains(open_page):
    s = start(model=SIM, top=key_sections())
    page = open_page()
    allow_absence(page)
    sign_in(page, s, at="operate")
    page.get_by_role("button", name="Drain the server").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing on this page can take that back")
    dialog.get_by_role("button", name="Back").click()
    assert s.process.poll() is None
    page.get_by_role("button", name="Drain the server").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain the server").click()
    assert s.process.wait(api.PATIENCE) == 0
    expect(page.locator(".banner")).to_contain_text("No connection since")


def test_a_key_that_goes_takes_its_session_along(open_page):
    s = start(model=SIM, top=key_sections())
    try:
        page = sign_in(open_page(), s)
        page.watch.allow("401")
        digest = hashlib.sha256(KEYS["ops"][0].encode()).hexdigest()
        s.config.write_text(s.config.read_text().replace(digest, digest[::-1]))
        status, _, _ = s.request("POST", "/admin/v1/reload", "", headers=bearer("ops"))
        assert status == 202
        expect(page.get_by_text("Your session has ended")).to_be_visible()
    finally:
        s.stop()
