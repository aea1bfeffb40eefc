/* decisions.js - a decision of the router: the sentence that says why, and what each worker would
 * have cost. */
import { el, scrollBox } from "./dom.js";
import { cost, count, DASH, digits } from "./format.js";

const COLUMNS = [
    ["Cost", (c) => cost(c.cost)],
    ["Owed", (c) => count(c.owed_tokens)],
    ["Cached", (c) => count(c.cached_tokens)],
    ["Held", (c) => count(c.held_tokens)],
    ["Prefilling", (c) => count(c.prefilling)],
    ["Decoding", (c) => count(c.decoding)],
];

export function decisionLine(d) {
    return el("p", { class: "why" }, d.why,
        el("span", { class: "muted" }, ` · ${d.policy}, alpha ${digits(d.alpha)}, delta ${digits(d.delta)}`));
}

/* All candidates with what the policy weighed; the lowest cost wins. */
export function candidatesTable(d) {
    if (!d.candidates || !d.candidates.length)
        return null;
    return scrollBox("Candidates",
        el("table", { class: "plain candidates", "aria-label": "Candidates, costs in prompt tokens" },
            el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Worker"),
                COLUMNS.map(([label]) => el("th", { scope: "col", class: "num" }, label)),
                el("th", { scope: "col" }, "Barred by"))),
            el("tbody", {}, d.candidates.map((c) =>
                el("tr", { class: c.worker === d.worker ? "chosen" : null },
                    el("th", { scope: "row" }, String(c.worker),
                        c.worker === d.worker ? el("span", { class: "tag" }, "chosen") : null),
                    COLUMNS.map(([, text]) => el("td", { class: "num" }, text(c))),
                    el("td", {}, c.bar || DASH))))));
}
