"""Each view does what it says, on a server under traffic."""
import json
import re
import subprocess
import threading
import urllib.request

import pytest
from playwright.sync_api import expect

from conftest import GGUF, KEYS, SIM, Traffic, api, bearer, go, key_sections, sign_in, start


def number(text):
    """The first number in a text; of a dash, none that equals any."""
    found = re.search(r"-?[\d,]+(\.\d+)?", text)
    return float(found.group().replace(",", "")) if found else float("nan")


def admin(server, route):
    return json.loads(server.request("GET", "/admin/v1/" + route, headers=bearer("ops"))[2])


def rows(page, label):
    return page.get_by_role("table", name=label, exact=True).locator("tbody tr")


def yes(page, action):
    page.get_by_role("dialog").get_by_role("button", name=action).click()


# --- overview ---

def test_the_first_look(busy, open_page):
    page = sign_in(open_page(), busy)
    expect(page.locator(".verdict strong")).to_have_text("Serving")
    expect(page.locator(".verdict .since")).to_contain_text("since")
    expect(page.locator(".chart")).to_have_count(6)
    expect(rows(page, "Workers")).to_have_count(3)
    for title in ("Time to first token", "Time between tokens", "Tokens", "KV cache"):
        card = page.locator(".chart", has=page.get_by_role("heading", name=title, exact=True))
        expect(card.locator("dd").first).to_contain_text(re.compile(r"\d"))
        expect(card.locator("path.first")).to_have_attribute("d", re.compile("L"))
        expect(card.locator("svg")).to_have_attribute("aria-label", re.compile("at most"))
    api.wait_until(lambda: number(page.locator(".chart dd").nth(4).inner_text()) > 10)
    expect(page.locator(".facts")).to_contain_text("Requests since start")


def test_a_figure_is_read_by_keys_and_as_a_table(busy, open_page):
    page = sign_in(open_page(), busy)
    card = page.locator(".chart").first
    api.wait_until(lambda: card.locator("path.first").get_attribute("d"))
    card.locator(".frame").focus()
    page.keyboard.press("ArrowLeft")
    expect(card.locator(".moment")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    expect(card.locator(".cursor")).to_have_class(re.compile("on"))
    page.keyboard.press("Escape")
    expect(card.locator(".moment")).to_be_empty()
    card.locator("summary").click()
    expect(card.locator(".numbers tbody tr").first).to_contain_text(re.compile("ms|–"))
    expect(card.locator(".metric")).to_contain_text("vllm:time_to_first_token_seconds")


def test_six_hours(busy, open_page):
    page = sign_in(open_page(), busy)
    with page.expect_response(lambda r: "history?span=6h" in r.url) as answer:
        page.get_by_role("radio", name="6 h").check()
    assert answer.value.json()["span"] == "6h"
    expect(page.locator(".chart")).to_have_count(6)


def test_figures_ask_for_what_is_new_alone(busy, open_page):
    page = sign_in(open_page(), busy)
    with page.expect_response(lambda r: "&after=" in r.url) as answer:
        pass
    after = int(answer.value.url.split("after=")[1])
    new = answer.value.json()["t"]
    assert len(new) < 120 and all(t > after for t in new)


def test_a_worker_is_drained_and_returned(busy, open_page):
    page = sign_in(open_page(), busy)
    page.get_by_role("button", name="Drain worker 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    assert not admin(busy, "workers")["workers"][2]["drained"]
    page.get_by_role("button", name="Drain worker 2").click()
    yes(page, "Drain worker")
    expect(rows(page, "Workers").nth(2)).to_contain_text("Drained")
    assert admin(busy, "workers")["workers"][2]["drained"]
    back = page.get_by_role("button", name="Return worker 2")
    expect(back).not_to_have_attribute("aria-disabled", "true")
    back.click()
    api.wait_until(lambda: admin(busy, "workers")["workers"][2]["state"] == "ready")
    expect(rows(page, "Workers").nth(2)).to_contain_text("Ready")


# --- requests ---

class Long(threading.Thread):
    """A client of a long answer."""

    def __init__(self, server):
        super().__init__(daemon=True)
        body = {"model": "sim", "max_tokens": 1900, "stream": True, "ignore_eos": True,
                "messages": [{"role": "user", "content": "on and on"}]}
        self.response = urllib.request.urlopen(urllib.request.Request(
            server.base + "/v1/chat/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json", **bearer("app")}), timeout=api.PATIENCE)
        self.id = json.loads(self.response.readline()[6:])["id"]
        self.start()

    def run(self):
        self.text = self.response.read()


def test_cancel_really_cancels(busy, open_page):
    page = sign_in(open_page(), busy, at="requests")
    client = Long(busy)
    row = rows(page, "Requests being answered").filter(has_text=client.id)
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Cancel " + client.id).click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    assert client.is_alive()
    row.get_by_role("button", name="Cancel " + client.id).click()
    yes(page, "Cancel request")
    client.join(api.PATIENCE)
    assert not client.is_alive() and client.text.count(b"data: ") < 1900
    expect(row).to_have_count(0)
    expect(page.get_by_role("status").filter(has_text=client.id)).to_be_visible()


def test_search_and_the_story_of_a_request(busy, open_page):
    page = sign_in(open_page(), busy, at="requests")
    found = rows(page, "Requests found")
    api.wait_until(lambda: admin(busy, "log?finish=length")["rows"])
    page.get_by_label("End").select_option("length")
    page.get_by_role("button", name="Search").click()
    expect(found.first).to_contain_text("length")
    assert "finish=length" in page.url
    one = admin(busy, "log?finish=length&limit=1")["rows"][0]["id"]
    page.get_by_label("Request id").fill(one)
    page.get_by_label("Request id").press("Enter")
    expect(found).to_have_count(1)
    found.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(one)
    for title in ("Where the time went", "Time line", "Route"):
        expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.locator(".candidates tbody tr")).to_have_count(3)
    said = subprocess.run([api.LLMD, "explain", "--config", str(busy.config), one], capture_output=True, text=True, check=True)
    assert page.locator(".sentence").inner_text().strip() in said.stdout


def test_a_search_without_a_match_and_an_unknown_request(busy, open_page):
    page = sign_in(open_page(), busy, at="requests?key=nobody&last=1h")
    expect(page.get_by_text("Nothing in the log matches.")).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_have_value("nobody")
    page.watch.allow("404")
    go(page, "requests/chatcmpl-none")
    expect(page.get_by_role("alert")).to_be_visible()


# --- routing, cache, events ---

def test_decisions_with_all_candidates(busy, open_page):
    page = sign_in(open_page(), busy, at="routing")
    first = page.locator(".decision").first
    expect(first.locator(".costs > span")).to_have_count(3)
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    held = first.locator("time").inner_text(), first.locator(".costs").inner_text()
    first.locator("summary").click()
    expect(first.locator(".candidates tbody tr")).to_have_count(3)
    expect(first.locator(".candidates .chosen")).to_have_count(1)
    page.wait_for_timeout(2500)
    assert held == (first.locator("time").inner_text(), first.locator(".costs").inner_text())
    page.get_by_role("button", name="Go on").click()
    api.wait_until(lambda: held != (first.locator("time").inner_text(), first.locator(".costs").inner_text()))


def test_the_map_of_kv_blocks(busy, open_page):
    page = sign_in(open_page(), busy, at="cache")
    expect(page.locator("canvas")).to_have_count(3)
    colours = """() => {
        const c = document.querySelector("canvas");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const seen = new Set();
        for (let i = 0; i < d.length; i += 4)
            if (d[i + 3] === 255)
                seen.add(d.slice(i, i + 3).join());
        return seen.size;
    }"""
    api.wait_until(lambda: page.evaluate(colours) >= 2)
    expect(page.locator("canvas").first).to_have_attribute("aria-label", re.compile(r"Free: \d"))


def test_events(busy, open_page):
    page = sign_in(open_page(), busy, at="events")
    expect(page.locator(".events li").filter(has_text="ready worker=0")).not_to_have_count(0)
    n = page.locator(".events li").count()
    busy.request("POST", "/admin/v1/log_level", {"level": "info"}, headers=bearer("ops"))
    expect(page.locator(".events li")).not_to_have_count(n)
    expect(page.locator(".events li").first).to_contain_text("log level")


# --- configuration, keys, operations ---

def test_what_the_file_says_is_pending_until_a_reload(open_page):
    s = start(model=SIM, top='log_level = "error"\n' + key_sections())
    try:
        page = sign_in(open_page(), s, at="config")
        expect(page.locator(".config").first).to_contain_text("log_level")
        s.config.write_text(s.config.read_text().replace('log_level = "error"', 'log_level = "warn"'))
        page.get_by_role("radio", name="Pending").check()
        expect(page.locator(".pending")).to_contain_text("log_level")
        expect(page.locator(".pending")).to_contain_text("at a reload")
        page.get_by_role("link", name="Reload").click()
        page.get_by_role("button", name="Reload").click()
        yes(page, "Reload")
        expect(page.locator("main .card").first).to_contain_text("Done")
        expect(page.locator("main")).to_contain_text("Level warn")
        assert s.admin("GET", "status")[1]["log"]["level"] == "warn"
        go(page, "config?show=pending")
        expect(page.get_by_text("The file says what is in force.")).to_be_visible()
        s.config.write_text(s.config.read_text().replace("sim_workers = 3", "sim_workers = -3"))
        expect(page.get_by_role("alert")).to_contain_text("would be refused")
        page.get_by_role("radio", name="All").check()
        page.get_by_role("searchbox").fill("max_body")
        expect(page.locator(".config code").filter(has_text="max_body_kb")).to_be_visible()
    finally:
        s.stop()


def test_the_level_of_the_log(busy, open_page):
    page = sign_in(open_page(), busy, at="operate")
    page.get_by_label("Least severe lines").select_option("debug")
    page.get_by_role("button", name="Set level").click()
    yes(page, "Set level")
    expect(page.locator("main")).to_contain_text("Level debug")
    assert admin(busy, "status")["log"]["level"] == "debug"
    page.get_by_label("Least severe lines").select_option("info")
    page.get_by_role("button", name="Set level").click()
    yes(page, "Set level")
    expect(page.locator("main")).to_contain_text("Level info")


def test_keys_and_what_they_used(busy, open_page):
    page = sign_in(open_page(), busy, at="keys")
    expect(rows(page, "Keys")).to_have_count(3)
    app = rows(page, "Keys").filter(has_text="app")
    expect(app).to_contain_text("of 100,000")
    api.wait_until(lambda: number(app.locator("td").nth(6).inner_text()) > 0)
    assert KEYS["app"][0] not in page.content()


# --- playground ---

@pytest.fixture(scope="module")
def real():
    """The small model on the CPU where it is there, else a simulated one."""
    if GGUF.exists():
        s = start(model='devices = { "cpu" }\n max_model_len = 2048')
    else:
        s = start(model=SIM)
    yield s
    s.stop()


def ask(page, text):
    n = page.locator(".figures").count()
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Control+Enter")
    expect(page.locator(".figures")).to_have_count(n + 1)
    return {d.locator("dt").inner_text(): d.locator("dd").inner_text() for d in page.locator(".figures").nth(n).locator("div").all()}


def test_the_playground_streams_and_measures(real, open_page):
    page = open_page()
    page.goto(real.base + "/#/chat")
    page.get_by_label("At most").fill("24")
    first = ask(page, "What is the capital of France?")
    assert number(first["First token"]) > 0 and number(first["Speed"]) > 0 and number(first["Output"]) > 1
    assert first["Worker"] == "0"
    second = ask(page, "And of Italy?")
    assert number(second["Cached"]) > 0
    assert len(page.locator(".said.assistant .words").nth(1).inner_text()) > 0
    page.get_by_role("link", name="Where its time went").last.click()
    expect(page.get_by_role("heading", name="Time line")).to_be_visible()
    page.go_back()
    expect(page.locator(".said")).to_have_count(4)


def test_an_answer_is_stopped_and_begun_anew(real, open_page):
    page = open_page()
    page.goto(real.base + "/#/chat")
    page.get_by_label("At most").fill("1500")
    page.get_by_label("Your message").fill("Tell me a very long story.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".said.assistant .words")).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".figures")).to_contain_text("stopped")
    api.wait_until(lambda: not real.admin("GET", "requests")[1]["requests"])
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".said")).to_have_count(0)


def test_text_of_others_is_text(real, open_page):
    page = open_page()
    page.goto(real.base + "/#/chat")
    page.get_by_label("At most").fill("8")
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    ask(page, evil)
    expect(page.locator(".said.user .words")).to_have_text(evil)
    assert page.locator("main img, main script").count() == 0


def test_what_the_server_refuses_is_said(real, open_page):
    page = open_page()
    page.watch.allow("400")
    page.goto(real.base + "/#/chat")
    page.get_by_label("Temperature").fill("9")
    page.get_by_label("Your message").fill("hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".said .fault")).to_contain_text("temperature")


# --- nothing to see ---

def test_no_traffic(open_page):
    s = start(model=SIM, top='store { directory = "log" }')
    try:
        page = open_page()
        page.goto(s.base)
        expect(page.locator(".chart .quiet").first).to_have_text("No traffic")
        for view, text in (("requests", "No traffic: nothing is being answered"), ("routing", "No traffic: the router"),
                           ("keys", "No keys")):
            go(page, view)
            expect(page.locator("main")).to_contain_text(text)
        go(page, "nowhere")
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no such view")
    finally:
        s.stop()


def test_traffic_ends_in_figures_of_zero(open_page):
    s = start(model=SIM)
    try:
        page = open_page()
        page.goto(s.base)
        t = Traffic(s, clients=3, max_tokens=30)
        tokens = page.locator(".chart", has=page.get_by_role("heading", name="Tokens", exact=True)).locator("dd").first
        api.wait_until(lambda: number(tokens.inner_text()) > 0)
        t.stop()
        api.wait_until(lambda: number(tokens.inner_text()) == 0)
    finally:
        s.stop()
