/* app.js - the frame of the page: who is signed in, which view is open (by the address behind #), the
 * state of server and connection. Views are in view_*.js. */
import * as api from "./api.js";
import { toast } from "./dialog.js";
import { el, put, setAttr, setText } from "./dom.js";
import { span, stateName, when } from "./format.js";
import { live, onLive, start, stop } from "./live.js";
import { login } from "./login.js";
import * as chat from "./view_chat.js";
import * as config from "./view_config.js";
import * as events from "./view_events.js";
import * as keys from "./view_keys.js";
import * as kv from "./view_kv.js";
import * as operate from "./view_operate.js";
import * as overview from "./view_overview.js";
import * as request from "./view_request.js";
import * as requests from "./view_requests.js";
import * as routing from "./view_routing.js";

/* A view: {title, mount(node, context)}; mount may return {update(snapshot), unmount()}. */
const groups = [
    ["Observe", [["", overview], ["requests", requests], ["routing", routing], ["cache", kv],
        ["events", events]]],
    ["Try", [["chat", chat]]],
    ["Manage", [["config", config], ["keys", keys], ["operate", operate]]],
];
const views = new Map(groups.flatMap(([, list]) => list));
const app = document.getElementById("app");

let frame = null; /* what is on the page while somebody is signed in */
let open = null; /* the view: {mounted, name} */
let me = null;

/* "#/requests/chatcmpl-1?x=2" is requests, its rest and its query. */
function place() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [name, ...rest] = path.split("/").map(decodeURIComponent);
    return { name, rest: rest.join("/"), query: new URLSearchParams(query || "") };
}

function themeSwitch() {
    const names = [["auto", "System"], ["light", "Light"], ["dark", "Dark"]];
    return el("label", {},
        el("span", { class: "hidden-text" }, "Colour scheme"),
        el("select", { class: "select small", change: (e) => window.llmdTheme.set(e.target.value) },
            names.map(([value, text]) =>
                el("option", { value, selected: window.llmdTheme.get() === value }, text))));
}

async function leave() {
    try {
        await api.signOut();
    } catch (e) {
        toast(e.message, "bad");
        return;
    }
    enter(null);
}

function sidebar() {
    const state = el("a", { class: "state", href: "#/" });
    const side = el("header", { class: "side" });
    const toggle = el("button", {
        class: "button menu-button",
        type: "button",
        "aria-expanded": "false",
        "aria-controls": "nav",
        click: () => setMenu(!side.classList.contains("open")),
    }, "Menu");
    const setMenu = (on) => {
        side.classList.toggle("open", on);
        setAttr(toggle, "aria-expanded", String(on));
    };
    side.addEventListener("keydown", (e) => {
        if (e.key === "Escape" && side.classList.contains("open")) {
            setMenu(false);
            toggle.focus();
        }
    });
    const links = new Map();
    const nav = el("nav", { class: "nav", id: "nav", "aria-label": "Views" },
        groups.map(([title, list]) => [
            el("h2", {}, title),
            el("ul", {}, list.map(([name, view]) => {
                const link = el("a", { href: "#/" + name, click: () => setMenu(false) }, view.title);
                links.set(name, link);
                return el("li", {}, link);
            })),
        ]));
    put(side, el("div", { class: "side-in" }, el("a", { class: "brand", href: "#/" }, "llmd"), state,
        toggle, nav, el("div", { class: "who" },
            el("strong", {}, me.name),
            me.role === "admin" ? "May change things" : "May only look",
            el("div", { class: "row" }, themeSwitch(),
                me.expires ? el("button", { class: "button small", type: "button", click: leave },
                    "Sign out") : null))));
    return { node: side, links, state };
}

function makeFrame() {
    const side = sidebar();
    const banner = el("p", { class: "banner", role: "status", hidden: true });
    const main = el("main", { class: "main", id: "main" });
    put(app, el("a", { class: "skip", href: "#main", click: (e) => {
        e.preventDefault();
        main.querySelector("h1").focus();
    } }, "To the content"),
    el("div", { class: "shell" }, side.node, el("div", {}, banner, main)));
    return { side, banner, main };
}

function showState() {
    if (!frame)
        return;
    const s = live.snapshot;
    const lost = live.connection === "lost";
    setText(frame.side.state, lost ? "No connection" : s ? stateName(s.verdict.state) : "Connecting");
    setAttr(frame.side.state, "data-tone", lost ? "bad" : s ? s.verdict.level : null);
    const age = live.at ? ` The numbers are ${span((Date.now() - live.at) / 1000)} old.` : "";
    const fresh = live.restarted && Date.now() - live.restarted < 60000;
    setText(frame.banner, lost
        ? `No connection since ${when(live.lostSince / 1000)}; trying again.${age}`
        : fresh ? `The server was started anew; connected again at ${when(live.restarted / 1000)}.` : "");
    setAttr(frame.banner, "data-tone", lost ? "warn" : "ok");
    frame.banner.hidden = !lost && !fresh;
}

function unmount() {
    if (open && open.mounted && open.mounted.unmount)
        open.mounted.unmount();
    open = null;
}

function route(first) {
    if (!frame)
        return;
    const at = place();
    let view = views.get(at.name);
    if (at.name === "requests" && at.rest)
        view = request;
    unmount();
    const node = el("div", { class: "view" });
    put(frame.main, node);
    for (const [name, link] of frame.side.links)
        setAttr(link, "aria-current", name === at.name ? "page" : null);
    if (!view) {
        put(node, el("h1", { tabindex: -1 }, "There is no such view"),
            el("p", {}, el("a", { href: "#/" }, "Overview")));
        return;
    }
    document.title = `${view.title} · llmd`;
    open = { mounted: view.mount(node, { ...at, me, may: me.role === "admin" }) };
    if (live.snapshot)
        paint();
    if (!first) {
        window.scrollTo(0, 0);
        node.querySelector("h1").focus({ preventScroll: true });
    }
}

function paint() {
    if (open && open.mounted && open.mounted.update && live.snapshot)
        open.mounted.update(live.snapshot);
}

/* session: who came in; null: the door. why: what to say there. */
function enter(session, why) {
    unmount();
    me = session;
    if (!me) {
        stop();
        frame = null;
        document.title = "Sign in · llmd";
        login(app, (who) => {
            enter(who);
            frame.main.querySelector("h1").focus({ preventScroll: true });
        }, why);
        return;
    }
    frame = makeFrame();
    start(() => enter(null, "Your session has ended: sign in again."));
    route(true);
    showState();
}

onLive(() => {
    showState();
    if (live.connection === "open")
        paint();
});
setInterval(showState, 1000);
api.onSignedOut(() => {
    if (me)
        enter(null, "Your session has ended: sign in again.");
});
window.addEventListener("hashchange", () => route(false));

async function begin() {
    try {
        enter(await api.session());
    } catch (e) {
        put(app, el("main", { class: "door" }, el("div", {}, el("h1", {}, "llmd"),
            el("p", { role: "alert" }, `${e.message}; trying again.`))));
        setTimeout(begin, 2000);
    }
}

begin();
