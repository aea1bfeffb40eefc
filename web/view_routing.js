/* view_routing.js - the router's last decisions, newest first: which worker, why, and what the others
 * would have cost. */
import { get } from "./api.js";
import { candidatesTable, decisionLine } from "./decisions.js";
import { fault } from "./dialog.js";
import { el, put, setText } from "./dom.js";
import { clock, cost, count, DASH, stateName } from "./format.js";
import { idLink } from "./request_parts.js";

export const title = "Routing";

const KEPT = 50;
const COSTS = 8;

const keyOf = (d) => d.model + "/" + d.number;

/* What each worker would have cost, by its number so that columns can be compared; of many the
 * cheapest. */
function costs(d) {
    const all = d.candidates || [];
    const price = (c) => (c.worker === d.worker ? -1 : c.cost === null ? Infinity : c.cost);
    const list = all.length > COSTS
        ? [...all].sort((x, y) => price(x) - price(y)).slice(0, COSTS) : all;
    return el("span", { class: "costs" },
        list.map((c) => el("span", { class: c.worker === d.worker ? "chosen" : null },
            el("span", { class: "of" }, `w${c.worker}`), c.cost === null ? c.bar || DASH : cost(c.cost))),
        all.length > COSTS ? el("span", {}, `${all.length - COSTS} more`) : null);
}

function entry(d, at) {
    const inside = el("div", { class: "inside" });
    const node = el("details", { class: "decision" },
        el("summary", {},
            el("time", { class: "muted" }, clock(at)),
            el("span", { class: "worker" }, d.worker === null ? "Waits" : `Worker ${d.worker}`),
            el("span", { class: "reason" }, stateName(d.reason)),
            costs(d),
            el("span", { class: "more", "aria-hidden": "true" })),
        inside);
    node.addEventListener("toggle", () => {
        if (node.open && !inside.childElementCount)
            put(inside,
                el("p", {}, idLink(d.request),
                    el("span", { class: "muted" }, ` ${d.model}, ${count(d.prompt_tokens)} prompt tok`)),
                decisionLine(d), candidatesTable(d));
    });
    return node;
}

/* How often each reason was the one, among what is shown. */
function reasons(list) {
    const n = new Map();
    for (const d of list)
        n.set(d.reason, (n.get(d.reason) || 0) + 1);
    return [...n].sort((a, b) => b[1] - a[1]).map(([r, k]) => `${stateName(r).toLowerCase()} ${k}`).join(", ");
}

export function mount(node) {
    const list = el("div", { class: "decisions" });
    const none = el("p", { class: "empty" }, "No traffic: the router has decided nothing yet.");
    const about = el("p", {});
    const stop = new AbortController();
    let shown = new Map();
    let process = null;
    let held = false;
    const hold = el("button", {
        class: "button",
        type: "button",
        "aria-pressed": "false",
        click: () => {
            held = !held;
            hold.setAttribute("aria-pressed", String(held));
            setText(hold, held ? "Go on" : "Hold");
        },
    }, "Hold");

    function add(decisions, time, nowUs) {
        let n = 0;
        for (const d of decisions)
            if (!shown.has(keyOf(d))) {
                shown.set(keyOf(d), d);
                list.prepend(entry(d, time - (nowUs - d.at_us) / 1e6));
                n++;
            }
        if (!n)
            return;
        const kept = [...shown].slice(-KEPT);
        shown = new Map(kept);
        while (list.childElementCount > KEPT)
            list.lastElementChild.remove();
        none.hidden = true;
        setText(about, `The last ${shown.size}: ${reasons([...shown.values()])}`);
    }

    async function first(s) {
        try {
            const answer = await get("decisions?n=" + KEPT, stop.signal);
            add(answer.decisions, s.time, s.now_us);
        } catch (e) {
            if (e.name !== "AbortError")
                fault(about, e);
        }
    }

    put(node,
        el("div", { class: "head" }, el("div", {}, el("h1", { tabindex: -1 }, title), about), hold),
        el("p", { class: "muted" }, "The worker, the reason, and what each candidate (w0, w1, …) would "
            + "have cost, in prompt tokens: the lowest wins."),
        none, list);
    return {
        update(s) {
            if (s.process !== process) {
                process = s.process;
                shown = new Map();
                list.replaceChildren();
                none.hidden = false;
                setText(about, "");
                first(s);
            } else if (!held) {
                add(s.decisions, s.time, s.now_us);
            }
        },
        unmount: () => stop.abort(),
    };
}
