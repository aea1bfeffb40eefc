/* gpu_cards.js - a card per GPU: is it busy, full, hot, slowed, at fault? */
import { el, put, setAttr, setText } from "./dom.js";
import { bytes, count, DASH, percent, ratio } from "./format.js";
import { makeMeter, setMeter } from "./meter.js";

const MIB = 1048576;

/* [label, text(gpu), tone(gpu)] */
const FACTS = [
    ["Temperature", (g) => unit(g.temperature_c, "°C"), (g) => (g.temperature_c >= 87 ? "warn" : null)],
    ["Power", (g) => unit(g.power_w, "W")],
    ["SM clock", (g) => unit(g.sm_mhz, "MHz")],
    ["Memory traffic", (g) => percent(g.memory_busy_percent)],
    ["Slowed by", (g) => (!g.throttled ? DASH : g.throttled.join(", ").replaceAll("_", " ") || "nothing"),
        (g) => (g.throttled && g.throttled.length ? "warn" : null)],
    ["ECC errors", (g) => (g.ecc_damaged === null ? DASH : `${count(g.ecc_damaged)} uncorrected`),
        (g) => (g.ecc_damaged > 0 ? "bad" : null)],
    ["Xid errors", (g) => (g.xid_errors ? `${count(g.xid_errors)}, last ${g.last_xid}` : "0"),
        (g) => (g.xid_errors > 0 ? "bad" : null)],
];

function unit(v, name) {
    return typeof v === "number" ? `${count(v)}\u00a0${name}` : DASH;
}

function card() {
    const name = el("h3", {});
    const place = el("span", { class: "muted" });
    const busy = makeMeter();
    const memory = makeMeter();
    const amount = el("span", { class: "muted" });
    const values = FACTS.map(() => el("dd", {}));
    const node = el("article", { class: "card gpu" },
        el("header", {}, name, place),
        el("dl", { class: "pairs" },
            el("div", {}, el("dt", {}, "Busy"), el("dd", {}, busy)),
            el("div", {}, el("dt", {}, "Memory"), el("dd", {}, memory, amount)),
            FACTS.map(([label], i) => el("div", {}, el("dt", {}, label), values[i]))));
    return {
        node,
        update(g) {
            setText(name, g.name || "GPU");
            setText(place, `cuda:${g.gpu}, worker ${(g.workers || []).join(", ")}`);
            setMeter(busy, ratio(g.busy_percent, 100));
            setMeter(memory, ratio(g.memory_used_mib, g.memory_mib));
            setText(amount, typeof g.memory_mib === "number"
                ? ` of ${bytes(g.memory_mib * MIB)}` : "");
            FACTS.forEach(([, text, tone], i) => {
                setText(values[i], text(g));
                setAttr(values[i], "data-tone", tone ? tone(g) : null);
            });
        },
    };
}

export function gpuCards() {
    const list = el("div", { class: "cards" });
    const node = el("section", {}, el("h2", {}, "GPUs"), list);
    let cards = [];
    return {
        node,
        update(gpus) {
            node.hidden = !gpus.length;
            if (cards.length !== gpus.length) {
                cards = gpus.map(card);
                put(list, cards.map((c) => c.node));
            }
            gpus.forEach((g, i) => cards[i].update(g));
        },
    };
}
