/* meter.js - a share of 0 to 1 as a number with a short bar, for tables and cards. */
import { el, setAttr, setText, svg } from "./dom.js";
import { share } from "./format.js";

function toneOf(v, [warn, bad]) {
    return v >= bad ? "bad" : v >= warn ? "warn" : null;
}

export function makeMeter() {
    const bar = svg("rect", { class: "fill", width: 0, height: 4, rx: 2 });
    return el("span", { class: "meter" }, el("span", {}),
        svg("svg", { width: 48, height: 4, "aria-hidden": "true" },
            svg("rect", { class: "rail", width: 48, height: 4, rx: 2 }), bar));
}

export function setMeter(node, v, limits = [2, 2]) {
    setText(node.firstChild, share(v));
    setAttr(node.querySelector(".fill"), "width", 48 * Math.max(0, Math.min(1, v || 0)));
    setAttr(node, "data-tone", toneOf(v, limits));
}

/* node and patch of a column of table.js; of(row): the share; limits: where warn and bad begin. */
export function meter(of, limits) {
    return { node: makeMeter, patch: (node, row) => setMeter(node, of(row), limits) };
}
