/* view_kv.js - the blocks of each worker's KV cache: which are free, idle but kept for prompts that
 * begin alike, in use, shared. */
import { get } from "./api.js";
import { fault } from "./dialog.js";
import { el, put, setAttr, setText } from "./dom.js";
import { count, share } from "./format.js";

export const title = "KV cache";

const KINDS = [
    ["u", "used", "Used"],
    ["s", "shared", "Shared"],
    ["c", "cached", "Cached, idle"],
    ["f", "free", "Free"],
];
const EVERY_MS = 2000;
const GAP = 1;

/* "u40s6" to [["u", 40], ["s", 6]] */
function runs(map) {
    return [...map.matchAll(/([a-z])(\d+)/g)].map(([, kind, n]) => [kind, Number(n)]);
}

/* The colour of each kind, as the legend beside the canvas has it in the scheme of now. */
function coloursOf(canvas) {
    const legend = canvas.closest(".card");
    return Object.fromEntries(KINDS.map(([kind, name]) =>
        [kind, getComputedStyle(legend.querySelector(".swatch." + name)).backgroundColor]));
}

/* Paints the cells as squares, row by row. */
function paint(canvas, worker) {
    const width = canvas.parentNode.clientWidth;
    if (!width || !worker.cells)
        return;
    const scale = window.devicePixelRatio || 1;
    const side = worker.cells > 2048 ? 6 : worker.cells > 512 ? 9 : 14;
    const columns = Math.max(1, Math.floor((width + GAP) / (side + GAP)));
    const height = Math.ceil(worker.cells / columns) * (side + GAP) - GAP;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    const pen = canvas.getContext("2d");
    const colours = coloursOf(canvas);
    pen.scale(scale, scale);
    let i = 0;
    for (const [kind, n] of runs(worker.map)) {
        pen.fillStyle = colours[kind] || colours.f;
        for (let end = i + n; i < end; i++)
            pen.fillRect((i % columns) * (side + GAP), Math.floor(i / columns) * (side + GAP), side, side);
    }
}

function card() {
    const name = el("h2", {});
    const about = el("span", { class: "muted" });
    const values = KINDS.map(() => el("dd", {}));
    const canvas = el("canvas", { class: "kv", role: "img" });
    const frame = el("div", { class: "kv-frame" }, canvas);
    let last = null;
    new ResizeObserver(() => last && paint(canvas, last)).observe(frame);
    return {
        node: el("section", { class: "card" },
            el("header", { class: "head" }, name, about),
            el("dl", { class: "facts" }, KINDS.map(([, kind, text], i) => el("div", {},
                el("dt", {}, el("span", { class: "swatch " + kind, "aria-hidden": "true" }), text),
                values[i]))),
            frame),
        update(w) {
            last = w;
            setText(name, `Worker ${w.worker}`);
            setText(about, `${w.model}, ${count(w.blocks)} blocks of ${count(w.block_tokens)} tokens`
                + (w.blocks_per_cell > 1 ? `, ${count(w.blocks_per_cell)} to a square` : ""));
            KINDS.forEach(([, kind], i) =>
                setText(values[i], `${count(w[kind])} (${share(w[kind] / w.blocks)})`));
            setAttr(canvas, "aria-label", `KV blocks of worker ${w.worker}: `
                + KINDS.map(([, kind, text]) => `${text}: ${count(w[kind])}`).join(", "));
            paint(canvas, w);
        },
    };
}

export function mount(node) {
    const list = el("div", { class: "view" });
    const stop = new AbortController();
    let cards = [];
    let asked = 0;

    async function refresh() {
        asked = Date.now();
        try {
            const { workers } = await get("kv", stop.signal);
            if (cards.length !== workers.length || !cards.length) {
                cards = workers.map(card);
                put(list, cards.length ? cards.map((c) => c.node)
                    : el("p", { class: "empty" }, "No worker has a KV cache."));
            }
            workers.forEach((w, i) => cards[i].update(w));
        } catch (e) {
            if (e.name !== "AbortError" && e.status)
                fault(list, e);
        }
    }

    put(node, el("div", { class: "head" }, el("h1", { tabindex: -1 }, title),
        el("p", {}, "Cached blocks are kept for prompts that begin alike until their room is needed.")), list);
    refresh();
    return {
        update: () => Date.now() - asked >= EVERY_MS && refresh(),
        unmount: () => stop.abort(),
    };
}
