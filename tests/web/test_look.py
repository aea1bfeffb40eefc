"""How it looks, for everybody: axe in both schemes and at both widths, nothing wider than the window, keys alone,
the size of it. With SHOTS=1 the pictures of tests/web/shots are made."""
import gzip
import io
import json
import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from conftest import KEYS, ROOT, SHOTS, api, bearer, go, sign_in

VIEWS = {"": "overview", "requests": "requests", "routing": "routing", "cache": "cache", "events": "events",
         "chat": "playground", "config": "configuration", "keys": "keys", "operate": "operations"}
PICTURES = {"overview", "requests", "request", "routing", "cache", "playground", "configuration", "gpus", "sign-in"}
COMBINATIONS = [(scheme, width) for scheme in ("light", "dark") for width in (1440, 390)]


def check(page, name):
    """No violation of axe's rules, nothing wider than the window."""
    found = Axe().run(page).response["violations"]
    assert not found, [(v["id"], [n["target"] for n in v["nodes"]][:3], v["nodes"][0]["failureSummary"]) for v in found]
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} pixels too wide"


def small(image):
    """With 256 of its colours, exactly those: what it has most of, vivid ones first, for the dot of a state is small.
    The edges of letters get the nearest."""
    colours = [c for _, c in sorted(image.getcolors(1 << 20), reverse=True)]
    vivid = [c for c in colours if max(c) - min(c) > 80][:64]
    kept = (vivid + [c for c in colours if c not in vivid])[:256]
    number = {c: i for i, c in enumerate(kept)}
    for c in set(colours) - set(kept):
        number[c] = min(range(256), key=lambda i: sum((a - b) ** 2 for a, b in zip(c, kept[i])))
    out = Image.new("P", image.size)
    out.putpalette([part for c in kept for part in c])
    raw = image.tobytes()
    out.putdata([number[c] for c in zip(raw[0::3], raw[1::3], raw[2::3])])
    return out


def shoot(page, name, scheme, width):
    if not os.environ.get("SHOTS") or name not in PICTURES:
        return
    SHOTS.mkdir(exist_ok=True)
    raw = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": 1400 if width > 500 else 1600}, full_page=True)
    small(Image.open(io.BytesIO(raw)).convert("RGB")).save(SHOTS / f"{name}-{scheme}-{width}.png", optimize=True)


@pytest.mark.parametrize("scheme,width", COMBINATIONS)
def test_every_view_is_for_everybody(busy, open_page, scheme, width):
    page = open_page(width, scheme)
    page.goto(busy.base)
    page.get_by_label("Key").wait_for()
    check(page, "sign-in")
    shoot(page, "sign-in", scheme, width)
    sign_in(page, busy)
    for view, name in VIEWS.items():
        go(page, view)
        if name == "playground":
            page.get_by_label("At most").fill("60")
            page.get_by_label("Your message").fill("What does a prefix cache do?")
            page.get_by_label("Your message").press("Control+Enter")
            expect(page.locator(".figures")).to_have_count(1)
        page.wait_for_timeout(1500)
        check(page, name)
        shoot(page, name, scheme, width)
    slow = json.loads(busy.request("GET", "/admin/v1/log?finish=length&limit=1", headers=bearer("ops"))[2])["rows"][0]
    go(page, "requests/" + slow["id"])
    expect(page.get_by_role("heading", name="Time line")).to_be_visible()
    check(page, "request")
    shoot(page, "request", scheme, width)


@pytest.mark.parametrize("scheme,width", COMBINATIONS)
def test_dialogs_and_the_menu(busy, open_page, scheme, width):
    page = sign_in(open_page(width, scheme), busy, at="operate")
    page.get_by_role("button", name="Drain the server").click()
    check(page, "dialog")
    page.keyboard.press("Escape")
    if width < 500:
        page.get_by_role("button", name="Menu").click()
        check(page, "menu")
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Routing")).to_be_hidden()


GPU = {"name": "NVIDIA H200", "busy_percent": 97, "memory_busy_percent": 58, "memory_used_mib": 128211, "memory_mib": 143771,
       "temperature_c": 66, "power_w": 612, "sm_mhz": 1980, "memory_mhz": 3201, "throttled": [], "ecc_corrected": 0,
       "ecc_damaged": 0, "xid_errors": 0, "last_xid": 0}


def altered(page, server, change):
    """Has the page's stream say something else than the server does: what no machine of the tests has."""
    snapshot = json.loads(server.request("GET", "/admin/v1/snapshot", headers=bearer("ops"))[2])
    change(snapshot)
    page.add_init_script("""window.EventSource = class extends EventTarget {
        constructor() {
            super();
            const say = () => this.dispatchEvent(new MessageEvent("snapshot", {data: SNAPSHOT}));
            setTimeout(say);
            this.timer = setInterval(say, 1000);
        }
        close() { clearInterval(this.timer); }
    };""".replace("SNAPSHOT", json.dumps(json.dumps(snapshot))))


@pytest.mark.parametrize("scheme,width", COMBINATIONS)
def test_gpus_and_problems(busy, open_page, scheme, width):
    def change(s):
        s["gpus"] = [{"gpu": 0, "workers": [0], **GPU},
                     {"gpu": 1, "workers": [1], **GPU, "temperature_c": 88, "throttled": ["sw_thermal"], "xid_errors": 1, "last_xid": 63}]
        s["workers"][1].update(state="dead", error="the device is lost: Xid 79", starts=3)
        s["verdict"] = {"state": "degraded", "level": "warn", "reason": "1 of 3 workers is dead", "since": s["time"] - 300,
                        "advice": "Look at the events of worker 1; llmd drain --worker 1 takes it out."}
        s["problems"] = [{"what": "worker_dead", "level": "bad", "text": "worker 1 of sim is dead", "since": s["time"] - 300,
                          "advice": "It is started again by itself."}]

    page = open_page(width, scheme)
    altered(page, busy, change)
    sign_in(page, busy)
    expect(page.locator(".gpu")).to_have_count(2)
    expect(page.locator(".verdict strong").first).to_have_text("Degraded")
    expect(page.locator(".verdict .advice")).to_contain_text("llmd drain")
    expect(page.get_by_role("table", name="Workers")).to_contain_text("the device is lost")
    expect(page.locator(".gpu").nth(1)).to_contain_text("1, last 63")
    page.wait_for_timeout(1200)
    check(page, "gpus")
    shoot(page, "gpus", scheme, width)


def test_by_keys_alone(busy, open_page):
    page = open_page()
    page.goto(busy.base)
    page.get_by_label("Key").wait_for()
    page.keyboard.type(KEYS["ops"][0])
    page.keyboard.press("Enter")
    page.locator(".verdict strong").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.reload()
    page.locator(".verdict strong").wait_for()

    focused = "document.activeElement.textContent.trim()"

    def tab_to(text, most=40):
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == text:
                return
        raise AssertionError(f"no way to {text!r} by the tab key")

    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "To the content"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    tab_to("Operations")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Operations")
    assert page.evaluate("document.activeElement.tagName") == "H1"
    tab_to("Drain the server")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate(focused) == "Drain the server"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") != "Drain the server"


def test_the_scheme_is_chosen_and_kept(busy, open_page):
    page = sign_in(open_page(scheme="light"), busy)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_label("Colour scheme").select_option("dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    page.locator(".verdict strong").wait_for()
    assert page.evaluate(ground) == dark
    page.get_by_label("Colour scheme").select_option("auto")
    assert page.evaluate(ground) == light


def test_focus_outlives_updates(busy, open_page):
    page = sign_in(open_page(), busy)
    button = page.get_by_role("button", name="Drain worker 1")
    button.focus()
    api.wait_until(lambda: page.locator(".chart path.first").first.get_attribute("d"))
    page.wait_for_timeout(2500)
    assert button.evaluate("e => e === document.activeElement")


def test_it_is_small_and_asks_nobody_else(busy, open_page):
    page = open_page()
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    sign_in(page, busy)
    page.locator(".verdict strong").wait_for()
    assert all(u.startswith((busy.base, "data:")) for u in asked), asked
    files = [p for p in (ROOT / "web").iterdir() if p.suffix in (".html", ".css", ".js")]
    total = sum(len(gzip.compress(p.read_bytes(), 9)) for p in files)
    assert total < 80 * 1024, total
    assert not [p.name for p in files if len(p.read_text().splitlines()) >= 600]
    inline = re.compile(r"<style|style=|<script>|\son\w+=|innerHTML|insertAdjacentHTML|document\.write|eval\(")
    assert not [p.name for p in files if inline.search(p.read_text())]


def test_the_policy_holds(server):
    status, head, _ = server.request("GET", "/")
    assert status == 200
    policy = head["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
