/* view_events.js - what happened to the server, in words, newest first. */
import { get } from "./api.js";
import { fault } from "./dialog.js";
import { el, put } from "./dom.js";
import { when } from "./format.js";

export const title = "Events";

const TONES = { error: "bad", warn: "warn" };
const KEPT = 256;

function item(e) {
    return el("li", { "data-tone": TONES[e.level] || null },
        el("time", {}, when(e.time)), el("span", { class: "area" }, e.area),
        el("span", { class: "level" }, e.level), el("span", { class: "text" }, e.text));
}

export function mount(node) {
    const list = el("ol", { class: "events", reversed: true });
    const none = el("p", { class: "empty" }, "Nothing has happened yet.");
    const stop = new AbortController();
    let last = 0;
    let process = null;
    let busy = false;

    async function more() {
        if (busy)
            return;
        busy = true;
        try {
            const answer = await get("events?after=" + last, stop.signal);
            last = answer.last;
            list.prepend(...answer.events.reverse().map(item));
            while (list.childElementCount > KEPT)
                list.lastElementChild.remove();
            none.hidden = list.childElementCount > 0;
        } catch (e) {
            if (e.name !== "AbortError" && e.status)
                fault(none, e);
        } finally {
            busy = false;
        }
    }

    put(node, el("div", { class: "head" }, el("h1", { tabindex: -1 }, title),
        el("p", {}, "Worker states, migrations, reloads and what operators did.")), none, list);
    return {
        update(s) {
            if (s.process !== process) {
                process = s.process;
                last = 0;
                list.replaceChildren();
            }
            more();
        },
        unmount: () => stop.abort(),
    };
}
